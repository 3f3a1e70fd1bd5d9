/* SPDX-License-Identifier: GPL-2.0-only */
/* What every part of the guest needs of the system; what fails ends the guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

void end(void)
{
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT); /* the emulator is told not to: it exits */
	for (;;)
		pause();
}

void die(const char *format, ...)
{
	int error = errno;
	va_list rest;

	printf("@lab error ");
	va_start(rest, format);
	vprintf(format, rest);
	va_end(rest);
	printf(": %s\n", error ? strerror(error) : "refused");
	if (getpid() != 1)
		_exit(1);
	end();
}

int try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return n < 0 ? -1 : 0;
}

void must_write(const char *path, const char *text)
{
	if (try_write(path, text))
		die("writing %s to %s", text, path);
}

void set_switch(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), SWITCHES "%s", name);
	must_write(path, value);
}

void must_mount(const char *what, const char *where, const char *type)
{
	mkdir(where, 0755);
	if (mount(what, where, type, 0, NULL) && errno != EBUSY)
		die("mounting %s", type);
}

/* One value of a file of "key value" lines, 0 if it has no such key. */
unsigned long keyed(const char *path, const char *key)
{
	char name[64];
	unsigned long value, found = 0;
	FILE *file = fopen(path, "r");

	if (!file)
		die("reading %s", path);
	while (fscanf(file, "%63s %lu", name, &value) == 2)
		if (!strcmp(name, key))
			found = value;
	fclose(file);
	return found;
}

uint64_t now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000ULL + at.tv_nsec;
}

/* Where lab/plugin/stacks.c starts and stops counting. */
__attribute__((noinline)) void request_begins(void)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) void request_ends(void)
{
	__asm__ volatile("" ::: "memory");
}

void pin(int cpu)
{
	cpu_set_t one;

	if (cpus < 2)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		die("moving to CPU %d", cpu);
}

/* Wait for a byte, without waking up before: nothing else may run meanwhile.
 * No byte but the end of the pipe: who would have sent it is gone. */
int await(int *pipe_ends)
{
	char byte;

	return read(pipe_ends[0], &byte, 1) == 1;
}

void tell(int *pipe_ends)
{
	if (write(pipe_ends[1], "", 1) != 1)
		die("writing to a pipe");
}
