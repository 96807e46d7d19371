/* emulator.cc - threads of a block as fibres, and the device around them: memory, products, the table.
 *
 * Invariant: a fibre runs until it parks at a barrier or ends; the scheduler below visits the threads in
 * order until all have ended. A visit of everybody that moves nobody is a barrier that somebody missed.
 * Caller: the launches of kernels.cu and attention.cu, and the table. One thread at a time. */
#include "scorer/cuda/kernels.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

static constexpr uint32_t THREADS_MAX = 256, SHARED_MAX = 8, MEMORIES_MAX = 8192;
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
	uint32_t a[4], b[2];
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
	bool failed, stopped;           /* stopped: this launch must not go on */
	char failure[256];
	struct emulated_range memories[MEMORIES_MAX];   /* ascending by address */
	uint32_t memories_count;
	uint64_t free_bytes;
};

/* The emulated machine: one, as the processor that it stands for is one. */
static struct emulator *machine(void)
{
	static struct emulator *const only = (struct emulator *)mmap(
	    NULL, sizeof *only, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return only;
}

static void fail_with(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail_with(const char *format, ...)
{
	struct emulator *m = machine();
	if (m->failed)
		return;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(m->failure, sizeof m->failure, format, arguments);
	va_end(arguments);
	m->failed = true;
}

[[noreturn]] void emulator_fail(const char *what, const void *address, size_t bytes)
{
	struct emulator *m = machine();
	fail_with("kernel %s, block (%u, %u), thread %u: access to %zu bytes at %p is %s", m->kernel, m->block_x,
		  m->block_y, m->thread, bytes, address, what);
	m->stopped = true;
	for (;;)
		fibre_switch(&m->threads[m->thread].context, &m->scheduler);
}

struct emulated_range emulator_find(const void *address)
{
	struct emulator *m = machine();
	uint32_t low = 0, high = m->memories_count;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if ((const char *)address < m->memories[middle].end)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == m->memories_count || (const char *)address < m->memories[low].begin)
		emulator_fail("in no memory of the device", address, 0);
	return m->memories[low];
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
	struct lane_numbers mine = {value, {0}, {0}};
	uint32_t lane = machine()->thread % WARP;
	return show(mine)[lane ^ mask].value;
}

static float low_half(uint32_t pair) { return half_to_float((device_half)pair); }
static float high_half(uint32_t pair) { return half_to_float((device_half)(pair >> 16)); }

void warp_product(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	struct lane_numbers mine = {0, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
	uint32_t lane = machine()->thread % WARP, g = lane / 4, t = lane % 4;
	const struct lane_numbers *all = show(mine);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t row = g, column = t * 2 + i % 2;       /* rows 8 on: registers 1 and 3 */
		float sum = d[i];
		for (uint32_t half = 0; half < 2; half++)
			for (uint32_t k = 0; k < 4; k++) {
				uint32_t left = all[row * 4 + k].a[half * 2 + i / 2];
				uint32_t right = all[column * 4 + k].b[half];
				sum += low_half(left) * low_half(right);
				sum += high_half(left) * high_half(right);
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
			fail_with("kernel %s, block (%u, %u): %u threads wait at a barrier or warp operation that "
				  "the others do not reach", m->kernel, m->block_x, m->block_y, left);
			m->stopped = true;
		}
	}
}

void emulator_launch(const char *kernel, uint32_t blocks, uint32_t blocks_y, uint32_t threads,
		     void (*body)(const void *work), const void *work)
{
	struct emulator *m = machine();
	m->kernel = kernel;
	m->threads_count = threads;
	m->body = body;
	m->work = work;
	for (m->block_y = 0; m->block_y < blocks_y && !m->failed; m->block_y++)
		for (m->block_x = 0; m->block_x < blocks && !m->failed; m->block_x++) {
			m->stopped = false;
			run_block(m);
		}
}

/* ---- the device ---- */

static enum status say(struct error *error, enum status status, const char *format, ...)
{
	if (error) {
		va_list arguments;
		va_start(arguments, format);
		vsnprintf(error->text, sizeof error->text, format, arguments);
		va_end(arguments);
		error->status = status;
	}
	return status;
}

/* What a test wants the machine to lack: EXITPOLL_EMULATED_FAULT=no-driver|old-driver|old-card|small. */
static bool has_fault(const char *fault)
{
	const char *wanted = getenv("EXITPOLL_EMULATED_FAULT");
	return wanted && strcmp(wanted, fault) == 0;
}

static enum status find(struct device_facts *out, struct error *error)
{
	*out = {"emulated on the CPU", 8, 0, 13000, 13000, 1, 8ull << 30, 8ull << 30, true};
	if (has_fault("no-driver"))
		return say(error, STATUS_UNAVAILABLE, "no NVIDIA driver answers");
	if (has_fault("old-driver")) {
		out->driver = 12040;
		return say(error, STATUS_UNSUPPORTED, "the driver supports CUDA 12.4, this build needs 13.0: "
			   "update the driver");
	}
	if (has_fault("old-card")) {
		out->major = 7;
		return say(error, STATUS_UNSUPPORTED, "compute capability 7.0: 8.0 (A100) or later is needed");
	}
	if (has_fault("small"))
		out->free_bytes = out->memory_bytes = 1 << 20;
	return STATUS_OK;
}

static char *pages(size_t bytes)
{
	void *out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return out == MAP_FAILED ? NULL : (char *)out;
}

static enum status open_device(uint32_t rows_max, struct device **out, struct error *error)
{
	struct device_facts facts;
	struct emulator *m = machine();
	(void)rows_max;
	enum status status = find(&facts, error);
	if (status)
		return status;
	if (m->stacks)
		return say(error, STATUS_UNAVAILABLE, "the emulated device is taken");
	m->stacks = pages(THREADS_MAX * stack_bytes);
	m->shared = pages(shared_bytes);
	if (!m->stacks || !m->shared)
		return say(error, STATUS_NO_MEMORY, "no memory for %d fibres", (int)THREADS_MAX);
	m->free_bytes = facts.free_bytes;
	m->failed = false;
	m->memories_count = 0;
	*out = (struct device *)m;
	return STATUS_OK;
}

static void close_device(struct device *device)
{
	struct emulator *m = (struct emulator *)device;
	if (!m)
		return;
	for (uint32_t i = 0; i < m->memories_count; i++)
		munmap((void *)m->memories[i].begin, (size_t)(m->memories[i].end - m->memories[i].begin));
	munmap(m->stacks, THREADS_MAX * stack_bytes);
	munmap(m->shared, shared_bytes);
	m->stacks = NULL;
	m->memories_count = 0;
}

static enum status allocate(struct device *device, size_t bytes, void **device_out, struct error *error)
{
	struct emulator *m = (struct emulator *)device;
	bytes = bytes ? bytes : 1;
	char *memory = bytes <= m->free_bytes && m->memories_count < MEMORIES_MAX ? pages(bytes) : NULL;
	if (!memory)
		return say(error, STATUS_NO_MEMORY, "the device has no memory for %zu bytes, %llu are free", bytes,
			   (unsigned long long)m->free_bytes);
	memset(memory, 0xff, bytes);
	m->free_bytes -= bytes;
	uint32_t at = m->memories_count++;
	for (; at && m->memories[at - 1].begin > memory; at--)
		m->memories[at] = m->memories[at - 1];
	m->memories[at] = {memory, memory + bytes};
	*device_out = memory;
	return STATUS_OK;
}

/* Outside a kernel a wrong address only marks the device as failed. */
static bool is_inside(const void *address, size_t bytes, const char *what)
{
	struct emulator *m = machine();
	for (uint32_t i = 0; i < m->memories_count; i++)
		if ((const char *)address >= m->memories[i].begin && (const char *)address < m->memories[i].end &&
		    bytes <= (size_t)(m->memories[i].end - (const char *)address))
			return true;
	if (bytes)
		fail_with("%s of %zu bytes at %p is beyond its memory", what, bytes, address);
	return false;
}

static enum status wait_device(struct device *device, struct error *error)
{
	struct emulator *m = (struct emulator *)device;
	return m->failed ? say(error, STATUS_UNAVAILABLE, "%s", m->failure) : STATUS_OK;
}

static enum status upload(struct device *device, void *device_to, const void *from, size_t bytes,
			  struct error *error)
{
	if (is_inside(device_to, bytes, "an upload"))
		memcpy(device_to, from, bytes);
	return wait_device(device, error);
}

static enum status download(struct device *device, void *to, const void *device_from, size_t bytes,
			    struct error *error)
{
	if (is_inside(device_from, bytes, "a download"))
		memcpy(to, device_from, bytes);
	return wait_device(device, error);
}

static void copy(struct device *device, void *device_to, const void *device_from, size_t bytes)
{
	(void)device;
	if (is_inside(device_to, bytes, "a copy") && is_inside(device_from, bytes, "a copy"))
		memcpy(device_to, device_from, bytes);
}

static void copy_rows(struct device *device, void *device_to, size_t to_pitch, const void *device_from,
		      size_t from_pitch, size_t bytes, size_t rows)
{
	for (size_t row = 0; row < rows; row++)
		copy(device, (char *)device_to + row * to_pitch, (const char *)device_from + row * from_pitch,
		     bytes);
}

static enum status prepare_product(struct device *device, uint32_t columns, uint32_t depth, struct error *error)
{
	(void)device;
	if (columns % 8 || depth % 8)
		return say(error, STATUS_UNSUPPORTED, "a product of %u columns, %u deep: want multiples of 8",
			   columns, depth);
	return STATUS_OK;
}

enum { DEPTH_MAX = 1 << 17, LANES = 8 };

/* Every sum in LANES parts, always in the same order: the same bits for any number of rows. */
static float dot(const float *x, const float *w, uint32_t depth)
{
	float parts[LANES] = {0};
	for (uint32_t k = 0; k < depth; k += LANES)
		for (uint32_t i = 0; i < LANES; i++)
			parts[i] += x[k + i] * w[k + i];
	return ((parts[0] + parts[4]) + (parts[1] + parts[5])) + ((parts[2] + parts[6]) + (parts[3] + parts[7]));
}

static void product(struct device *device, const struct product_work *work)
{
	(void)device;
	static float *const scratch = (float *)pages(2 * DEPTH_MAX * sizeof(float) * 32);
	uint32_t padded = (work->rows + DEVICE_PRODUCT_ROWS - 1) / DEVICE_PRODUCT_ROWS * DEVICE_PRODUCT_ROWS;
	size_t depth = work->depth, columns = work->columns;
	if (!work->rows)
		return;
	if (!is_inside(work->x, padded * depth * 2, "a product's input") ||
	    !is_inside(work->weights, columns * depth * 2, "a product's weights") ||
	    !is_inside(work->out, padded * columns * 2, "a product's output") || depth > DEPTH_MAX)
		return;
	for (uint32_t first = 0; first < work->rows; first += 32) {
		uint32_t count = work->rows - first < 32 ? work->rows - first : 32;
		float *x = scratch, *w = scratch + 32 * (size_t)DEPTH_MAX;
		for (size_t i = 0; i < count * depth; i++)
			x[i] = half_to_float(work->x[first * depth + i]);
		for (size_t n = 0; n < columns; n++) {
			for (size_t k = 0; k < depth; k++)
				w[k] = half_to_float(work->weights[n * depth + k]);
			for (uint32_t row = 0; row < count; row++)
				work->out[(first + row) * columns + n] =
				    half_from_float(dot(x + row * depth, w, work->depth) * work->scale);
		}
	}
	/* The real product writes its padding; whoever reads it shall see. */
	memset(work->out + work->rows * columns, 0xff, (padded - work->rows) * columns * 2);
}

extern "C" __attribute__((visibility("default"))) const struct device_table exitpoll_device_table;
const struct device_table exitpoll_device_table = {
	.version = DEVICE_TABLE_VERSION,
	.find = find,
	.open = open_device,
	.close = close_device,
	.allocate = allocate,
	.prepare_product = prepare_product,
	.upload = upload,
	.download = download,
	.copy = copy,
	.copy_rows = copy_rows,
	.wait = wait_device,
	.embed = launch_embed,
	.norm = launch_norm,
	.rope = launch_rope,
	.attention = launch_attention,
	.swiglu = launch_swiglu,
	.gather = launch_gather,
	.head = launch_head,
	.decide = launch_decide,
	.product = product,
};
