/* emulator.cc - threads of a block as fibres.
 *
 * Invariant: a fibre runs until it parks at a barrier or ends; the scheduler below visits the threads in
 * order until all have ended. A visit of everybody that moves nobody is a barrier that somebody missed.
 * Caller: emulator_device.cc; kernels call what emulator.cuh names. One thread at a time. */
#include "scorer/cuda/kernels.cuh"

#include "scorer/cuda/emulator_machine.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

static constexpr uint32_t THREADS_MAX = 256, SHARED_MAX = 8;
static const size_t stack_bytes = 256 << 10, shared_bytes = 48 << 10;

#if defined(__x86_64__)
struct context { void *stack; };
/* Saves what a call must keep, changes stacks, restores. */
asm(".text\n"
	".type fibre_switch, @function\n"
	"fibre_switch:\n"
	"\tpushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n"
	"\tmovq %rsp, (%rdi)\n\tmovq (%rsi), %rsp\n"
	"\tpopq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n"
	"\tret\n"
	".size fibre_switch, . - fibre_switch\n");
extern "C" void fibre_switch(struct context *from, struct context *to) __asm__("fibre_switch");

static void context_make(struct context *out, char *stack, void (*entry)(void))
{
	/* As if entry's caller had called fibre_switch: the address to return to, six saved registers. */
	void **top = (void **)(stack + stack_bytes) - 2;
	top[0] = (void *)entry;
	for (int i = 1; i <= 6; i++)
		top[-i] = NULL;
	out->stack = top - 6;
}
#else
struct context { ucontext_t state; };
static void fibre_switch(struct context *from, struct context *to) { swapcontext(&from->state, &to->state); }
static void context_make(struct context *out, char *stack, void (*entry)(void))
{
	getcontext(&out->state);
	out->state.uc_stack.ss_sp = stack;
	out->state.uc_stack.ss_size = stack_bytes;
	out->state.uc_link = NULL;
	makecontext(&out->state, entry, 0);
}
#endif

/* A meeting of `count` threads; the generation tells the woken from those who wait. */
struct meeting {
	uint32_t count, come, generation;
};

struct lane_numbers {
	float value;
	float a[8], b[4];               /* of a product: pairs, the low half first */
};

struct warp_state {
	struct meeting meeting;
	struct lane_numbers numbers[2][WARP];   /* by the parity of the generation: nobody overwrites the last */
};

struct thread_state {
	struct context context;
	const struct meeting *waits;    /* NULL: runs */
	uint32_t generation;
	bool ended;
};

struct emulator {
	char *stacks, *shared;
	struct context scheduler;
	struct thread_state threads[THREADS_MAX];
	struct warp_state warps[THREADS_MAX / WARP];
	struct meeting block;
	uint32_t threads_count, thread, block_x, block_y;
	struct { int line; struct emulated_range range; } shared_arrays[SHARED_MAX];
	uint32_t shared_count;
	size_t shared_used;
	const char *kernel;
	void (*body)(const void *work);
	const void *work;
	bool stopped;                   /* this launch must not go on */
	struct emulated_memory memory;
};

/* The emulated machine: one, as the processor that it stands for is one. */
static struct emulator *machine(void)
{
	static struct emulator *const only = (struct emulator *)mmap(
	    NULL, sizeof *only, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return only;
}

struct emulated_memory *emulator_memory(void)
{
	return &machine()->memory;
}

void emulator_fail_with(const char *format, ...)
{
	struct emulated_memory *memory = emulator_memory();
	if (memory->failed)
		return;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(memory->failure, sizeof memory->failure, format, arguments);
	va_end(arguments);
	memory->failed = true;
}

[[noreturn]] void emulator_fail(const char *what, const void *address, size_t bytes)
{
	struct emulator *m = machine();
	emulator_fail_with("kernel %s, block (%u, %u), thread %u: access to %zu bytes at %p is %s", m->kernel, m->block_x,
		  m->block_y, m->thread, bytes, address, what);
	m->stopped = true;
	for (;;)
		fibre_switch(&m->threads[m->thread].context, &m->scheduler);
}

struct emulated_range emulator_find(const void *address)
{
	const struct emulated_memory *memory = emulator_memory();
	uint32_t low = 0, high = memory->count;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if ((const char *)address < memory->ranges[middle].end)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == memory->count || (const char *)address < memory->ranges[low].begin)
		emulator_fail("in no memory of the device", address, 0);
	return memory->ranges[low];
}

struct emulated_range emulator_shared_range(int line, size_t bytes)
{
	struct emulator *m = machine();
	for (uint32_t i = 0; i < m->shared_count; i++)
		if (m->shared_arrays[i].line == line)
			return m->shared_arrays[i].range;
	size_t begin = (m->shared_used + 15) & ~(size_t)15;
	if (m->shared_count == SHARED_MAX || begin + bytes > shared_bytes)
		emulator_fail("more shared memory than there is", NULL, bytes);
	m->shared_used = begin + bytes;
	struct emulated_range range = {m->shared + begin, m->shared + begin + bytes};
	m->shared_arrays[m->shared_count].line = line;
	m->shared_arrays[m->shared_count++].range = range;
	return range;
}

uint32_t thread_index(void) { return machine()->thread; }
uint32_t block_index(void) { return machine()->block_x; }
uint32_t block_index_y(void) { return machine()->block_y; }

static void meet(struct meeting *meeting)
{
	struct emulator *m = machine();
	struct thread_state *self = &m->threads[m->thread];
	if (++meeting->come == meeting->count) {
		meeting->come = 0;
		meeting->generation++;
		return;
	}
	self->waits = meeting;
	self->generation = meeting->generation;
	fibre_switch(&self->context, &m->scheduler);
}

void block_barrier(void)
{
	meet(&machine()->block);
}

/* Shows this lane's numbers to the warp and returns everybody's. */
static const struct lane_numbers *show(const struct lane_numbers &mine)
{
	struct emulator *m = machine();
	struct warp_state *warp = &m->warps[m->thread / WARP];
	struct lane_numbers *all = warp->numbers[warp->meeting.generation % 2];
	all[m->thread % WARP] = mine;
	meet(&warp->meeting);
	return all;
}

float warp_xor(float value, uint32_t mask)
{
	struct lane_numbers mine;
	mine.value = value;
	uint32_t lane = machine()->thread % WARP;
	return show(mine)[lane ^ mask].value;
}

static void widen_pairs(const uint32_t *pairs, uint32_t count, float *out)
{
	for (uint32_t i = 0; i < count; i++) {
		out[2 * i] = half_to_float((device_half)pairs[i]);
		out[2 * i + 1] = half_to_float((device_half)(pairs[i] >> 16));
	}
}

void warp_product(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	struct lane_numbers mine;
	widen_pairs(a, 4, mine.a);
	widen_pairs(b, 2, mine.b);
	uint32_t lane = machine()->thread % WARP, g = lane / 4, t = lane % 4;
	const struct lane_numbers *all = show(mine);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t row = g, column = t * 2 + i % 2;       /* rows 8 on: registers 1 and 3 */
		float sum = d[i];
		for (uint32_t half = 0; half < 2; half++)
			for (uint32_t k = 0; k < 4; k++) {
				const float *left = &all[row * 4 + k].a[2 * (half * 2 + i / 2)];
				const float *right = &all[column * 4 + k].b[2 * half];
				sum += left[0] * right[0];
				sum += left[1] * right[1];
			}
		d[i] = sum;
	}
}

/* ---- launches ---- */

static void thread_main(void)
{
	struct emulator *m = machine();
	m->body(m->work);
	m->threads[m->thread].ended = true;
	for (;;)
		fibre_switch(&m->threads[m->thread].context, &m->scheduler);
}

static void run_block(struct emulator *m)
{
	m->block = {m->threads_count, 0, 0};
	for (uint32_t w = 0; w < m->threads_count / WARP; w++)
		m->warps[w].meeting = {WARP, 0, 0};
	m->shared_count = 0;
	m->shared_used = 0;
	memset(m->shared, 0xff, shared_bytes);
	for (uint32_t t = 0; t < m->threads_count; t++) {
		m->threads[t].waits = NULL;
		m->threads[t].ended = false;
		context_make(&m->threads[t].context, m->stacks + t * stack_bytes, thread_main);
	}
	for (uint32_t left = m->threads_count; left && !m->stopped;) {
		bool moved = false;
		for (uint32_t t = 0; t < m->threads_count && !m->stopped; t++) {
			struct thread_state *thread = &m->threads[t];
			if (thread->ended || (thread->waits && thread->waits->generation == thread->generation))
				continue;
			thread->waits = NULL;
			m->thread = t;
			moved = true;
			fibre_switch(&m->scheduler, &thread->context);
			left -= thread->ended;
		}
		if (!moved) {
			emulator_fail_with("kernel %s, block (%u, %u): %u threads wait at a barrier or warp operation that "
				  "the others do not reach", m->kernel, m->block_x, m->block_y, left);
			m->stopped = true;
		}
	}
}

void emulator_run(const char *kernel, uint32_t blocks, uint32_t blocks_y, uint32_t threads,
		  void (*body)(const void *work), const void *work)
{
	struct emulator *m = machine();
	m->kernel = kernel;
	m->threads_count = threads;
	m->body = body;
	m->work = work;
	for (m->block_y = 0; m->block_y < blocks_y && !m->memory.failed; m->block_y++)
		for (m->block_x = 0; m->block_x < blocks && !m->memory.failed; m->block_x++) {
			m->stopped = false;
			run_block(m);
		}
}

char *emulator_pages(size_t bytes)
{
	void *out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return out == MAP_FAILED ? NULL : (char *)out;
}

bool emulator_take(void)
{
	struct emulator *m = machine();
	if (m->stacks)
		return false;
	m->stacks = emulator_pages(THREADS_MAX * stack_bytes);
	m->shared = emulator_pages(shared_bytes);
	return m->stacks && m->shared;
}

void emulator_give(void)
{
	struct emulator *m = machine();
	munmap(m->stacks, THREADS_MAX * stack_bytes);
	munmap(m->shared, shared_bytes);
	m->stacks = NULL;
}
