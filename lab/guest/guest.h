/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef RECLAIM_LAB_GUEST_H
#define RECLAIM_LAB_GUEST_H

#include <stdint.h>
#include <sys/types.h>

#define PAGE 4096UL
#define STEP (1UL << 20) /* bytes of one pread() */
#define MAX_MAPPERS 64
#define CELL "/cgroup/cell"
#define SWITCHES "/sys/module/reclaim_lab/parameters/"

/* What the host asked for: init.c. */
extern unsigned long map_bytes, reclaim_bytes;
extern int mapped_by, cpus, modified;
extern const char *workload, *way, *request;
extern char *buffer; /* of pread(), one step */

extern int ready[2], go[2]; /* pipes: from the mappers, to them */

/* What the first mapper, or who reclaims, tells; one page, shared. */
extern struct told {
	volatile unsigned long wrong, seen; /* pages of another folio order, and all */
	volatile uint64_t ns; /* of the request */
} *shared;

/* system.c */
void end(void);
__attribute__((format(printf, 1, 2))) void die(const char *format, ...);
int try_write(const char *path, const char *text);
void must_write(const char *path, const char *text);
void set_switch(const char *name, const char *value);
void must_mount(const char *what, const char *where, const char *type);
unsigned long keyed(const char *path, const char *key);
uint64_t now_ns(void);
void pin(int cpu);
void request_begins(void);
void request_ends(void);
int await(int *pipe_ends);
void tell(int *pipe_ends);

/* mapper.c */
void mount_files(int order);
int file_of_order(int order);
void anonymous_order(int order);
void start_mappers(int order, pid_t *pids);
void end_mappers(pid_t *pids);

#endif
