/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A plugin of QEMU's: counts every instruction that the guest executes between
 * two marks, by the chain of kernel functions that led to it. Exact, for a
 * block of translated code is counted each time it runs, by its length.
 *
 * No instruction is decoded. A block that starts where a function does was
 * called (or jumped to, or entered by an interrupt): the function is put on the
 * stack, with the address behind the block before it. A block that starts at
 * such an address is a return to it, and takes off what was above. Where an
 * interrupt returns to, its entry remembers. A switch of tasks first saves a
 * register of the old task, and loads those of the new: while another task runs,
 * the stack waits until what its own switch saved is loaded again.
 *
 * Options: functions=FILE (pairs of 64 bits: an address where a function starts,
 * rising, and its kind below; the last is the end of the kernel's text),
 * begin=ADDRESS, end=ADDRESS (of functions of init's), out=FILE (gets, for each
 * pair of marks, a line "run", then lines of indices into that file, the
 * outermost first, and a count; index -1 is code of processes, -2 code that is
 * no function of the kernel's, -3 another task).
 *
 * The declarations are those of QEMU's plugin interface that are used here;
 * they are the same in its versions 1 to 4 (docs/devel/tcg-plugins.rst).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned int, void *);
typedef void (*accessed_t)(unsigned int, uint32_t, uint64_t, void *);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_t, int, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, accessed_t, int, int, void *);
bool qemu_plugin_mem_is_store(uint32_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = PLUGIN_VERSION;

#define LOADS_AND_STORES 3
#define MAX_CPUS 2
#define MAX_DEPTH 256
#define USER (-1)
#define OTHER (-2)
#define AWAY (-3)

enum kind { PLAIN, IRQ_ENTRY, IRQ_RETURN, TASK_SWITCH };

struct function {
	uint64_t start, kind;
};

struct block {
	uint64_t start, end;
	uint32_t nr_insns;
	int function;
	enum kind kind;
	bool entry;
};

struct node {
	int function;
	uint32_t parent, child, sibling;
	uint64_t count;
};

struct cpu {
	int depth;
	uint64_t back_to[MAX_DEPTH]; /* where a return from this frame goes */
	uint32_t nodes[MAX_DEPTH];
	uint64_t last_end;
	enum kind last_kind;
	bool away; /* another task runs */
	uint64_t saved; /* where the switch away saved its first register; 0: not yet */
};

static struct function *functions;
static uint64_t begin, end;
static size_t nr_functions;
static struct node *nodes;
static uint32_t nr_nodes, max_nodes;
static struct cpu cpus[MAX_CPUS];
static bool counting;
static FILE *out;

static void fail(const char *what)
{
	fprintf(stderr, "stacks plugin: %s\n", what);
	exit(1);
}

/* The function that an address lies in. */
static int function_of(uint64_t address)
{
	size_t low = 0, high = nr_functions;

	if (!(address >> 63))
		return USER;
	if (address < functions[0].start || address >= functions[nr_functions - 1].start)
		return OTHER;
	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (functions[middle].start <= address)
			low = middle;
		else
			high = middle;
	}
	return (int)low;
}

static uint32_t new_node(int function, uint32_t parent)
{
	if (nr_nodes == max_nodes) {
		max_nodes = max_nodes ? 2 * max_nodes : 4096;
		nodes = realloc(nodes, max_nodes * sizeof(*nodes));
		if (!nodes)
			fail("no memory for call chains");
	}
	nodes[nr_nodes] = (struct node){ .function = function, .parent = parent };
	return nr_nodes++;
}

static uint32_t child_of(uint32_t parent, int function)
{
	uint32_t child;

	for (child = nodes[parent].child; child; child = nodes[child].sibling)
		if (nodes[child].function == function)
			return child;
	child = new_node(function, parent);
	nodes[child].sibling = nodes[parent].child;
	nodes[parent].child = child;
	return child;
}

static void start_counting(void)
{
	nr_nodes = 0;
	new_node(USER, 0); /* the root, that everything is called from */
	memset(cpus, 0, sizeof(cpus));
	counting = true;
}

static void write_chain(uint32_t at)
{
	if (at) {
		write_chain(nodes[at].parent);
		fprintf(out, "%d;", nodes[at].function);
	}
}

static void stop_counting(void)
{
	if (!counting)
		return;
	fprintf(out, "run\n");
	for (uint32_t n = 0; n < nr_nodes; n++) {
		if (!nodes[n].count)
			continue;
		write_chain(n);
		fprintf(out, " %" PRIu64 "\n", nodes[n].count);
	}
	fflush(out);
	counting = false;
}

static void push(struct cpu *cpu, int function)
{
	uint32_t above = cpu->depth ? cpu->nodes[cpu->depth - 1] : 0;

	if (cpu->depth == MAX_DEPTH) { /* another task's frames, never returned from */
		cpu->depth = 0;
		above = 0;
	}
	cpu->back_to[cpu->depth] = cpu->last_end;
	cpu->nodes[cpu->depth++] = child_of(above, function);
}

/* Take off the frames above the one that a block continues, if there is one. */
static void unwind(struct cpu *cpu, const struct block *block)
{
	int depth;

	for (depth = cpu->depth; depth > 0; depth--)
		if (cpu->back_to[depth - 1] == block->start)
			break;
	if (depth) {
		cpu->depth = depth - 1;
		return;
	}
	for (depth = cpu->depth; depth > 0; depth--) {
		if (nodes[cpu->nodes[depth - 1]].function == block->function) {
			cpu->depth = depth;
			return;
		}
	}
}

static int top(const struct cpu *cpu)
{
	return cpu->depth ? nodes[cpu->nodes[cpu->depth - 1]].function : USER;
}

/* After an interrupt: as if it had not been. */
static void leave_interrupt(struct cpu *cpu)
{
	int depth;

	for (depth = cpu->depth; depth > 0; depth--) {
		int function = nodes[cpu->nodes[depth - 1]].function;

		if (function >= 0 && functions[function].kind == IRQ_ENTRY) {
			cpu->depth = depth - 1;
			cpu->last_end = cpu->back_to[depth - 1];
			return;
		}
	}
}

/* A load or store of the function that switches tasks. */
static void accessed(unsigned int number, uint32_t how, uint64_t address, void *unused)
{
	struct cpu *cpu = &cpus[number % MAX_CPUS];

	(void)unused;
	if (!counting || !cpu->away)
		return;
	if (qemu_plugin_mem_is_store(how))
		cpu->saved = cpu->saved ? cpu->saved : address;
	else if (address == cpu->saved)
		cpu->away = false;
}

static void follow(struct cpu *cpu, const struct block *block)
{
	if (cpu->last_kind == IRQ_RETURN && block->kind != IRQ_RETURN)
		leave_interrupt(cpu);
	if (block->entry || (block->kind == IRQ_ENTRY && top(cpu) != block->function)) {
		push(cpu, block->function);
		return;
	}
	if (block->start != cpu->last_end || top(cpu) != block->function)
		unwind(cpu, block);
	if (top(cpu) != block->function)
		push(cpu, block->function);
}

static void executed(unsigned int number, void *argument)
{
	const struct block *block = argument;
	struct cpu *cpu = &cpus[number % MAX_CPUS];

	if (block->start == begin)
		start_counting();
	else if (block->start == end)
		stop_counting();
	if (!counting)
		return;
	if (cpu->away) {
		nodes[child_of(child_of(0, AWAY), block->function)].count += block->nr_insns;
		return;
	}
	follow(cpu, block);
	nodes[cpu->depth ? cpu->nodes[cpu->depth - 1] : 0].count += block->nr_insns;
	cpu->last_end = block->end;
	cpu->last_kind = block->kind;
	if (block->kind == TASK_SWITCH && block->entry) {
		cpu->away = true;
		cpu->saved = 0;
	}
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t nr = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, nr - 1);
	struct block *block = malloc(sizeof(*block));

	(void)id;
	if (!block)
		fail("no memory for blocks");
	block->start = qemu_plugin_tb_vaddr(tb);
	block->end = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
	block->nr_insns = (uint32_t)nr;
	block->function = function_of(block->start);
	block->kind = PLAIN;
	block->entry = false;
	if (block->function >= 0) {
		block->kind = (enum kind)functions[block->function].kind;
		block->entry = functions[block->function].start == block->start;
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, block);
	for (size_t i = 0; block->kind == TASK_SWITCH && i < nr; i++)
		qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), accessed, 0,
						 LOADS_AND_STORES, NULL);
}

static void read_functions(const char *path)
{
	FILE *file = fopen(path, "rb");
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 32)
		fail("the list of functions cannot be read");
	rewind(file);
	nr_functions = (size_t)size / sizeof(*functions);
	functions = malloc((size_t)size);
	if (!functions || fread(functions, sizeof(*functions), nr_functions, file) != nr_functions)
		fail("the list of functions cannot be read");
	fclose(file);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
			       char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (!value)
			fail("an option without a value");
		value++;
		if (!strncmp(argv[i], "functions=", 10))
			read_functions(value);
		else if (!strncmp(argv[i], "begin=", 6))
			begin = strtoull(value, NULL, 0);
		else if (!strncmp(argv[i], "end=", 4))
			end = strtoull(value, NULL, 0);
		else if (!strncmp(argv[i], "out=", 4))
			out = fopen(value, "w");
	}
	if (!functions || !begin || !end || !out)
		fail("expected functions=, begin=, end= and out=");
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
