/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only program in the guest. The kernel runs it as init and hands it what
 * stands behind "--" on its command line: what to map, how, and which cells to
 * measure. Each cell is one child (or several) in a fresh cgroup that maps and
 * touches memory and sleeps, and one timed write to memory.reclaim. Lines that
 * start with "@lab " are for the host; lab/console.py reads them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define STEP (1UL << 20)
#define MAX_MAPPERS 64
#define CELL "/cgroup/cell"
#define SWITCHES "/sys/module/reclaim_lab/parameters/"
#define MGLRU "/sys/kernel/mm/lru_gen/enabled"
#define TRACING "/debug/tracing/"

static unsigned long map_bytes, reclaim_bytes;
static int reps = 1, mapped_by = 1, cpus = 1, profile, modified = 1;
static const char *orders = "4", *kernels = "unmap", *lrus = "classic";
static const char *workload = "file", *way = "pread", *worker = "off";
static const char *request = "memory.reclaim";
static char *buffer; /* of pread(), one step */

/* What the processes of a cell tell each other. */
static struct {
	volatile int ready, go, done;
	volatile unsigned long wrong, seen;
	volatile uint64_t ns;
} *shared;

static void end(void)
{
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT); /* the emulator is told not to: it exits */
	for (;;)
		pause();
}

static void die(const char *format, ...)
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

static int try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return n < 0 ? -1 : 0;
}

static void must_write(const char *path, const char *text)
{
	if (try_write(path, text))
		die("writing %s to %s", text, path);
}

static void set_switch(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), SWITCHES "%s", name);
	must_write(path, value);
}

static void must_mount(const char *what, const char *where, const char *type)
{
	mkdir(where, 0755);
	if (mount(what, where, type, 0, NULL) && errno != EBUSY)
		die("mounting %s", type);
}

/* One value of a file of "key value" lines, 0 if it has no such key. */
static unsigned long keyed(const char *path, const char *key)
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

static uint64_t now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000ULL + at.tv_nsec;
}

static void pin(int cpu)
{
	cpu_set_t one;

	if (cpus < 2)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		die("moving to CPU %d", cpu);
}

static int option(const char *argument, const char *name, const char **value)
{
	size_t length = strlen(name);

	if (strncmp(argument, name, length) || argument[length] != '=')
		return 0;
	*value = argument + length + 1;
	return 1;
}

static void read_options(int argc, char **argv)
{
	const char *value;

	for (int i = 1; i < argc; i++) {
		if (option(argv[i], "map", &value))
			map_bytes = strtoul(value, NULL, 10);
		else if (option(argv[i], "reclaim", &value))
			reclaim_bytes = strtoul(value, NULL, 10);
		else if (option(argv[i], "reps", &value))
			reps = atoi(value);
		else if (option(argv[i], "mapped_by", &value))
			mapped_by = atoi(value);
		else if (option(argv[i], "cpus", &value))
			cpus = atoi(value);
		else if (option(argv[i], "profile", &value))
			profile = atoi(value);
		else if (option(argv[i], "modified", &value))
			modified = atoi(value);
		else if (!option(argv[i], "orders", &orders) &&
			 !option(argv[i], "kernels", &kernels) &&
			 !option(argv[i], "lrus", &lrus) &&
			 !option(argv[i], "workload", &workload) &&
			 !option(argv[i], "access", &way) &&
			 !option(argv[i], "request", &request) &&
			 !option(argv[i], "worker", &worker))
			die("option %s", argv[i]);
	}
	if (!map_bytes || !reclaim_bytes || mapped_by < 1 || mapped_by > MAX_MAPPERS)
		die("options: map, reclaim or mapped_by");
}

/* The file system whose files have folios of this order: of a switched kernel
 * any will do, of another the one whose blocks are as large (disk vda + order). */
static void mount_files(int order)
{
	char disk[] = "/dev/vda";

	if (!modified && order <= 4)
		disk[7] += order;
	umount2("/files", MNT_DETACH);
	must_mount(disk, "/files", "ext4");
}

static int file_of_order(int order)
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
static void anonymous_order(int order)
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

static void await(volatile int *what, int value)
{
	struct timespec nap = { .tv_nsec = 1000000 };

	while (*what < value)
		nanosleep(&nap, NULL);
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
	if (file && first)
		read_file(fd, order);
	touch(at, !file);
	if (!strcmp(workload, "lazyfree") && madvise((void *)at, map_bytes, MADV_FREE))
		die("MADV_FREE");
	__sync_fetch_and_add(&shared->ready, 1);
	await(&shared->go, 1);
	if (first && !strcmp(request, "pageout"))
		page_out(at);
	shared->done += first;
	await(&shared->go, 2);
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

/* Wait until a mapper says that it is ready; its death is the end of the run. */
static void await_ready(int number)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	int status;

	while (shared->ready < number) {
		if (waitpid(-1, &status, WNOHANG) > 0) {
			errno = WIFSIGNALED(status) ? ENOMEM : 0;
			die("a process that maps the memory ended early");
		}
		nanosleep(&nap, NULL);
	}
}

static void profiler(int on)
{
	if (profile)
		must_write(TRACING "function_profile_enabled", on ? "1" : "0");
}

static int reclaim_cgroup(void)
{
	char text[32];
	int fd = open(CELL "/memory.reclaim", O_WRONLY);
	uint64_t start;
	ssize_t n;
	int error;

	if (fd < 0)
		die("opening memory.reclaim");
	snprintf(text, sizeof(text), "%lu", reclaim_bytes);
	start = now_ns();
	n = write(fd, text, strlen(text));
	error = errno;
	shared->ns = now_ns() - start;
	close(fd);
	return n < 0 ? error : 0;
}

static int reclaim(void)
{
	int error = 0;

	profiler(1);
	if (!strcmp(request, "pageout")) {
		shared->go = 1;
		await(&shared->done, 1);
	} else {
		error = reclaim_cgroup();
	}
	profiler(0);
	return error;
}

static void print_functions(void)
{
	char line[256], name[64];
	unsigned long hits;

	for (int cpu = 0; cpu < (profile ? cpus : 0); cpu++) {
		char path[64];
		FILE *file;

		snprintf(path, sizeof(path), TRACING "trace_stat/function%d", cpu);
		file = fopen(path, "r");
		if (!file)
			die("reading %s", path);
		while (fgets(line, sizeof(line), file))
			if (sscanf(line, " %63s %lu ", name, &hits) == 2)
				printf("@lab fn %d %s %lu\n", cpu, name, hits);
		fclose(file);
	}
}

static void set_kernel(const char *kernel)
{
	int references = !strcmp(kernel, "references") || !strcmp(kernel, "unmap");
	int unmap = !strcmp(kernel, "unmap") || !strcmp(kernel, "unmap-only");

	if (!modified)
		return;
	if (!references || !access(SWITCHES "no_reference_batch", F_OK))
		set_switch("no_reference_batch", references ? "N" : "Y");
	if (!unmap || !access(SWITCHES "no_unmap_batch", F_OK))
		set_switch("no_unmap_batch", unmap ? "N" : "Y");
}

static void start_mappers(int order, pid_t *pids)
{
	memset(shared, 0, sizeof(*shared));
	for (int n = 0; n < mapped_by; n++) {
		pids[n] = start_mapper(order, n == 0);
		await_ready(n + 1);
	}
}

static void measure(const char *lru, const char *kernel, int order, int rep)
{
	int file = !strcmp(workload, "file"), error;
	pid_t pids[MAX_MAPPERS];
	unsigned long before, after, scanned, stolen;
	const char *stat = CELL "/memory.stat";

	printf("@lab cell lru=%s kernel=%s order=%d rep=%d\n", lru, kernel, order, rep);
	fflush(stdout);
	if (mkdir(CELL, 0755))
		die("making a cgroup");
	if (file)
		close(file_of_order(order));
	else
		anonymous_order(order);
	start_mappers(order, pids);
	before = keyed(stat, file ? "file" : "anon");
	scanned = keyed(stat, "pgscan");
	stolen = keyed(stat, "pgsteal");
	error = reclaim();
	after = keyed(stat, file ? "file" : "anon");
	scanned = keyed(stat, "pgscan") - scanned;
	stolen = keyed(stat, "pgsteal") - stolen;
	shared->go = 2;
	for (int n = 0; n < mapped_by; n++)
		waitpid(pids[n], NULL, 0);
	print_functions();
	printf("@lab run lru=%s kernel=%s order=%d rep=%d ns=%lu pgscan=%lu pgsteal=%lu "
	       "before=%lu after=%lu error=%d wrong=%lu seen=%lu\n",
	       lru, kernel, order, rep, (unsigned long)shared->ns, scanned, stolen, before, after,
	       error, shared->wrong, shared->seen);
	unlink("/files/file");
	for (int n = 0; rmdir(CELL) && n < 1000; n++)
		usleep(1000);
}

/* The next of "a,b,c", "" behind the last. */
static const char *next(const char *list, char *item, size_t size)
{
	size_t length = strcspn(list, ",");

	snprintf(item, size, "%.*s", (int)(length < size ? length : size - 1), list);
	return list + length + (list[length] == ',');
}

static void measure_all(void)
{
	char lru[16], kernel[16], order[16];

	for (const char *l = lrus; *l;) {
		l = next(l, lru, sizeof(lru));
		if (try_write(MGLRU, strcmp(lru, "mglru") ? "n" : "y") && !strcmp(lru, "mglru"))
			die("this kernel has no multi-generational LRU");
		for (const char *o = orders; *o;) {
			o = next(o, order, sizeof(order));
			for (int rep = 0; rep < reps; rep++) {
				for (const char *k = kernels; *k;) {
					k = next(k, kernel, sizeof(kernel));
					set_kernel(kernel);
					measure(lru, kernel, atoi(order), rep);
				}
			}
		}
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	must_mount("proc", "/proc", "proc");
	must_mount("sysfs", "/sys", "sysfs");
	must_mount("devtmpfs", "/dev", "devtmpfs");
	must_mount("cgroup2", "/cgroup", "cgroup2");
	read_options(argc, argv);
	must_write("/cgroup/cgroup.subtree_control", "+memory");
	if (profile)
		must_mount("debugfs", "/debug", "debugfs");
	if (modified && !strcmp(workload, "file"))
		mount_files(0);
	if (modified && !strcmp(worker, "off"))
		set_switch("no_stats_worker", "Y");
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	buffer = mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || buffer == MAP_FAILED)
		die("memory for the guest's own program");
	pin(0);
	printf("@lab start\n");
	measure_all();
	printf("@lab end\n");
	end();
	return 0;
}
