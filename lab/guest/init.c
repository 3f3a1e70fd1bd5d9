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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "guest.h"

#define MGLRU "/sys/kernel/mm/lru_gen/enabled"
#define TRACING "/trace/"

unsigned long map_bytes, reclaim_bytes;
int mapped_by = 1, cpus = 1, modified = 1;
const char *workload = "file", *way = "pread", *request = "memory.reclaim";
char *buffer;
static int reps = 1, profile, warming;
static const char *orders = "4", *kernels = "unmap", *lrus = "classic", *worker = "off";

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
		/* the kernel also hands over words that it does not know itself */
		if (strncmp(argv[i], "lab.", 4))
			continue;
		argv[i] += 4;
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
	if (!warming)
		request_begins();
	n = write(fd, text, strlen(text));
	if (!warming)
		request_ends();
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
		tell(go);
		await(ready);
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

static void print_run(const char *cell, unsigned long scanned, unsigned long stolen,
		      unsigned long before, unsigned long after, int error)
{
	if (warming)
		return;
	print_functions();
	printf("@lab run %s ns=%lu pgscan=%lu pgsteal=%lu before=%lu after=%lu error=%d "
	       "wrong=%lu seen=%lu\n",
	       cell, (unsigned long)shared->ns, scanned, stolen, before, after, error,
	       shared->wrong, shared->seen);
}

static void measure(const char *lru, const char *kernel, int order, int rep)
{
	char cell[96];
	int file = !strcmp(workload, "file"), error;
	pid_t pids[MAX_MAPPERS];
	unsigned long before, after, scanned, stolen;
	const char *stat = CELL "/memory.stat";

	snprintf(cell, sizeof(cell), "lru=%s kernel=%s order=%d rep=%d", lru, kernel, order, rep);
	printf("@lab cell %s\n", cell);
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
	end_mappers(pids);
	print_run(cell, scanned, stolen, before, after, error);
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

/* The first requests of order 9 in a boot find the per-CPU lists of free huge
 * pages short, and cost up to a third more than all later ones: not told. */
static void warm_up(const char *lru, int order)
{
	char kernel[16];

	next(kernels, kernel, sizeof(kernel));
	set_kernel(kernel);
	warming = 1;
	for (int n = 0; order == 9 && n < 6; n++)
		measure(lru, kernel, order, n);
	warming = 0;
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
			warm_up(lru, atoi(order));
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
		must_mount("tracefs", "/trace", "tracefs");
	if (modified && !strcmp(workload, "file"))
		mount_files(0);
	if (!strcmp(workload, "anon") && swapon("/dev/vda", 0))
		die("swapping to /dev/vda");
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
