/* SPDX-License-Identifier: GPL-2.0-only */
/* The processes of a cell: they map memory, touch it, sleep, and at the end look at it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

int ready[2], go[2];
struct told *shared;

/* The file system whose files have folios of this order: of a switched kernel
 * any will do, of another the one whose blocks are as large. Which disk that is
 * depends on how the machine numbers them. */
void mount_files(int order)
{
	unsigned long block = !modified && order <= 4 ? PAGE << order : PAGE;
	char disk[] = "/dev/vda";
	struct statfs found;

	for (; disk[7] <= 'e'; disk[7]++) {
		umount2("/files", MNT_DETACH);
		must_mount(disk, "/files", "ext4");
		if (!statfs("/files", &found) && (unsigned long)found.f_bsize == block)
			return;
	}
	die("a file system with blocks of %lu bytes", block);
}

int file_of_order(int order)
{
	char text[16];
	int fd;

	if (!modified)
		mount_files(order);
	snprintf(text, sizeof(text), "%d", order);
	if (modified)
		set_switch("folio_order", text);
	unlink("/files/file");
	fd = open("/files/file", O_CREAT | O_RDWR, 0600);
	if (fd < 0 || ftruncate(fd, map_bytes))
		die("making a file of %lu bytes", map_bytes);
	return fd;
}

/* Folio size of anonymous memory: that size always, no other. */
void anonymous_order(int order)
{
	char path[128];

	for (int o = 2; o <= 9; o++) {
		snprintf(path, sizeof(path), "/sys/kernel/mm/transparent_hugepage/hugepages-%ukB/enabled",
			 4U << o);
		if (try_write(path, o == order ? "always" : "never") && o == order && o < 9)
			die("folios of order %d: %s", order, path);
	}
	must_write("/sys/kernel/mm/transparent_hugepage/enabled", order == 9 ? "always" : "never");
}

static void read_file(int fd, int order)
{
	if (!modified && order < 9)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* no folio beyond the least */
	if (strcmp(way, "pread"))
		return;
	for (unsigned long at = 0; at < map_bytes; at += STEP)
		if (pread(fd, buffer, STEP, at) < 0)
			die("reading the file");
}

static volatile char *mapping(int fd, int order)
{
	int file = fd >= 0;
	char *at = mmap(NULL, map_bytes, file ? PROT_READ : PROT_READ | PROT_WRITE,
			file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);

	if (at == MAP_FAILED)
		die("mapping %lu bytes", map_bytes);
	if (!modified && order == 9)
		madvise(at, map_bytes, MADV_HUGEPAGE);
	return at;
}

static void touch(volatile char *at, int written)
{
	for (unsigned long offset = 0; offset < map_bytes; offset += PAGE) {
		if (written)
			at[offset] = 1;
		else
			(void)at[offset];
	}
}

static uint64_t word_of(int fd, uint64_t place)
{
	uint64_t word = 0;

	if (pread(fd, &word, sizeof(word), place * sizeof(word)) != sizeof(word))
		return 0;
	return word;
}

/* Pages still mapped that are not of a folio of this order, and all of them. */
static void check_orders(volatile char *at, int order)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int flags = open("/proc/kpageflags", O_RDONLY);
	uint64_t mask = (1UL << order) - 1;

	for (unsigned long n = 0; pagemap >= 0 && flags >= 0 && n < map_bytes / PAGE; n++) {
		uint64_t entry = word_of(pagemap, (uintptr_t)at / PAGE + n);
		uint64_t pfn = entry & ((1ULL << 55) - 1), head, tail;

		if (!(entry >> 63) || !pfn)
			continue;
		head = word_of(flags, pfn & ~mask) >> 15 & 1;
		tail = word_of(flags, pfn | mask) >> 16 & 1;
		shared->wrong += order ? !(head && tail) || (word_of(flags, (pfn | mask) + 1) >> 16 & 1)
				: (word_of(flags, pfn) >> 15 & 3) != 0;
		shared->seen += 1;
	}
	close(pagemap);
	close(flags);
}

/* The child's part of MADV_PAGEOUT: its own memory, timed where it is done. */
static void page_out(volatile char *at)
{
	uint64_t start = now_ns();

	if (madvise((void *)at, reclaim_bytes, MADV_PAGEOUT))
		die("MADV_PAGEOUT");
	shared->ns = now_ns() - start;
}

static void map_and_sleep(int order, int first)
{
	int file = !strcmp(workload, "file");
	int fd = file ? open("/files/file", O_RDONLY) : -1;
	volatile char *at;

	if (file && fd < 0)
		die("opening the file");
	at = mapping(fd, order);
	if (file && first && !modified && order == 9)
		touch(at, 0); /* it is the fault that heeds MADV_HUGEPAGE, not pread() */
	if (file && first)
		read_file(fd, order);
	touch(at, !file);
	if (!strcmp(workload, "lazyfree") && madvise((void *)at, map_bytes, MADV_FREE))
		die("MADV_FREE");
	tell(ready);
	if (await(go) && first && !strcmp(request, "pageout")) {
		page_out(at);
		tell(ready);
		await(go);
	}
	if (first)
		check_orders(at, order);
	_exit(0);
}

static pid_t start_mapper(int order, int first)
{
	pid_t pid = fork();

	if (pid < 0)
		die("starting a process");
	if (pid)
		return pid;
	pin(1);
	must_write(CELL "/cgroup.procs", "0");
	map_and_sleep(order, first);
	return 0;
}

/* Wait until a mapper is ready; its death is the end of the run. */
static void await_mapper(void)
{
	struct pollfd readable = { .fd = ready[0], .events = POLLIN };
	int status;

	while (poll(&readable, 1, 100) == 0) {
		if (waitpid(-1, &status, WNOHANG) > 0) {
			errno = WIFSIGNALED(status) ? ENOMEM : 0;
			die("a process that maps the memory ended early");
		}
	}
	await(ready);
}

void start_mappers(int order, pid_t *pids)
{
	memset(shared, 0, sizeof(*shared));
	if (pipe(ready) || pipe(go))
		die("making a pipe");
	for (int n = 0; n < mapped_by; n++) {
		pids[n] = start_mapper(order, n == 0);
		await_mapper();
	}
}

void end_mappers(pid_t *pids)
{
	for (int n = 0; n < mapped_by; n++)
		tell(go);
	for (int n = 0; n < mapped_by; n++)
		waitpid(pids[n], NULL, 0);
	for (int n = 0; n < 2; n++) {
		close(ready[n]);
		close(go[n]);
	}
}
