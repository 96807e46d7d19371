/* emulator_device.cc - the emulated device around its kernels: memory, the queue, products, the table.
 *
 * Work is queued and runs when somebody waits, as late as a real device could make it, or at the pace that
 * EXITPOLL_EMULATED_PACE gives: so many orders each time somebody asks how far the queue is. Host code that reads too
 * early or reuses too early is caught so. Invariant: orders run in order; after the first failure none does.
 * Caller: scorer/cuda_backend.c through the table. */
#include "scorer/cuda/emulator_machine.cuh"
#include "scorer/cuda/library.cuh"

#include <stdlib.h>
#include <sys/mman.h>

static constexpr uint32_t ORDERS_MAX = 1024, WORK_BYTES = 256;

enum order_kind { ORDER_KERNEL, ORDER_PRODUCT, ORDER_COPY, ORDER_JOIN };

struct order {
	enum order_kind kind;
	const char *kernel;
	uint32_t blocks, blocks_y, threads;
	void (*body)(const void *work);
	alignas(16) char work[WORK_BYTES];      /* of the kernel, the product or the copy */
};

struct copy_order {
	char *to;
	const char *from;
	size_t bytes;
	bool to_device, from_device;
};

struct queue {
	struct order orders[ORDERS_MAX];
	uint32_t count, done;           /* [done, count) wait */
	uint64_t passed;                /* orders that were ever done or dropped */
};

struct device {
	struct queue main, ahead;
	uint64_t marks[DEVICE_MARKS];   /* orders before each */
	uint64_t orders_run, lost_after;
	float *scratch;
	struct emulated_range host[64];
	uint32_t host_count;
};

/* What a test wants the machine to lack: EXITPOLL_EMULATED_FAULT=no-driver|old-driver|old-card|small|
 * no-more-memory|lost (a while after it was opened: EXITPOLL_EMULATED_LOST_AFTER orders). */
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

/* ---- orders ---- */

/* Outside a kernel a wrong address only marks the device as failed. */
static bool is_inside(const void *address, size_t bytes, const char *what)
{
	const struct emulated_memory *m = emulator_memory();
	for (uint32_t i = 0; i < m->count; i++)
		if ((const char *)address >= m->ranges[i].begin && (const char *)address < m->ranges[i].end &&
		    bytes <= (size_t)(m->ranges[i].end - (const char *)address))
			return true;
	if (bytes)
		emulator_fail_with("%s of %zu bytes at %p is beyond its memory", what, bytes, address);
	return false;
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

static void run_product(struct device *device, const struct product_work *work)
{
	enum { HEIGHT = 64 };
	uint32_t padded = (work->rows + DEVICE_PRODUCT_ROWS - 1) / DEVICE_PRODUCT_ROWS * DEVICE_PRODUCT_ROWS;
	size_t depth = work->depth, columns = work->columns;
	if (!is_inside(work->x, padded * depth * 2, "a product's input") ||
	    !is_inside(work->weights, columns * depth * 2, "a product's weights") ||
	    !is_inside(work->out, padded * columns * 2, "a product's output"))
		return;
	for (uint32_t first = 0; first < work->rows; first += HEIGHT) {
		uint32_t left = work->rows - first, count = left < HEIGHT ? left : (uint32_t)HEIGHT;
		float *x = device->scratch, *w = device->scratch + HEIGHT * (size_t)DEPTH_MAX;
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

static void run_order(struct device *device, const struct order *order);

static void run_queue(struct device *device, struct queue *queue, uint32_t orders)
{
	for (; orders && queue->done < queue->count; orders--, queue->passed++) {
		const struct order *order = &queue->orders[queue->done++];
		if (++device->orders_run > device->lost_after)
			emulator_fail_with("the GPU: device lost (emulated)");
		if (!emulator_memory()->failed)
			run_order(device, order);
	}
	if (queue->done == queue->count)
		queue->done = queue->count = 0;
}

static void run_order(struct device *device, const struct order *order)
{
	const struct copy_order *copy = (const struct copy_order *)order->work;
	switch (order->kind) {
	case ORDER_KERNEL:
		emulator_run(order->kernel, order->blocks, order->blocks_y, order->threads, order->body,
			     order->work);
		break;
	case ORDER_PRODUCT:
		run_product(device, (const struct product_work *)order->work);
		break;
	case ORDER_COPY:
		if ((!copy->to_device || is_inside(copy->to, copy->bytes, "a copy")) &&
		    (!copy->from_device || is_inside(copy->from, copy->bytes, "a copy")) &&
		    (copy->to_device || copy->bytes))
			memcpy(copy->to, copy->from, copy->bytes);
		break;
	case ORDER_JOIN:
		run_queue(device, &device->ahead, UINT32_MAX);
		break;
	}
}

static struct order *new_order(struct device *device, struct queue *queue, enum order_kind kind)
{
	if (queue->count == ORDERS_MAX)
		run_queue(device, queue, UINT32_MAX);
	struct order *order = &queue->orders[queue->count++];
	order->kind = kind;
	return order;
}

static void queue_copy(struct device *device, struct queue *queue, const struct copy_order *copy)
{
	if (copy->bytes)
		memcpy(new_order(device, queue, ORDER_COPY)->work, copy, sizeof *copy);
}

void emulator_launch(const char *kernel, uint32_t blocks, uint32_t blocks_y, uint32_t threads,
		     void (*body)(const void *work), const void *work, size_t work_bytes)
{
	struct device *device = emulator_memory()->device;
	if (!blocks || !blocks_y)
		return;
	struct order *order = new_order(device, &device->main, ORDER_KERNEL);
	order->kernel = kernel;
	order->blocks = blocks;
	order->blocks_y = blocks_y;
	order->threads = threads;
	order->body = body;
	if (work_bytes > WORK_BYTES)
		emulator_fail_with("kernel %s: %zu bytes of arguments", kernel, work_bytes);
	else
		memcpy(order->work, work, work_bytes);
}

/* ---- the device ---- */

static enum status open_device(uint32_t rows_max, struct device **out, struct error *error)
{
	struct device_facts facts;
	struct emulated_memory *m = emulator_memory();
	const char *lost = getenv("EXITPOLL_EMULATED_LOST_AFTER");
	(void)rows_max;
	enum status status = find(&facts, error);
	if (status)
		return status;
	if (m->device || !emulator_take())
		return say(error, STATUS_UNAVAILABLE, "the emulated device is taken");
	struct device *device = (struct device *)emulator_pages(sizeof *device);
	device->scratch = (float *)emulator_pages(65 * (size_t)DEPTH_MAX * sizeof(float));
	device->lost_after = has_fault("lost") && lost ? strtoull(lost, NULL, 10) : UINT64_MAX;
	m->free_bytes = facts.free_bytes;
	m->failed = false;
	m->count = 0;
	m->device = device;
	*out = device;
	return STATUS_OK;
}

static void close_device(struct device *device)
{
	struct emulated_memory *m = emulator_memory();
	if (!device)
		return;
	run_queue(device, &device->main, UINT32_MAX);
	for (uint32_t i = 0; i < m->count; i++)
		munmap((void *)m->ranges[i].begin, (size_t)(m->ranges[i].end - m->ranges[i].begin));
	for (uint32_t i = 0; i < device->host_count; i++)
		munmap((void *)device->host[i].begin, (size_t)(device->host[i].end - device->host[i].begin));
	munmap(device->scratch, 65 * (size_t)DEPTH_MAX * sizeof(float));
	munmap(device, sizeof *device);
	m->count = 0;
	m->device = NULL;
	emulator_give();
}

static enum status allocate(struct device *device, size_t bytes, void **device_out, struct error *error)
{
	struct emulated_memory *m = emulator_memory();
	(void)device;
	bytes = bytes ? bytes : 1;
	bool room = bytes <= m->free_bytes && m->count < EMULATED_MEMORIES_MAX && !has_fault("no-more-memory");
	char *memory = room ? emulator_pages(bytes) : NULL;
	if (!memory)
		return say(error, STATUS_NO_MEMORY, "the device has no memory for %zu bytes, %llu are free", bytes,
			   (unsigned long long)m->free_bytes);
	memset(memory, 0xff, bytes);
	m->free_bytes -= bytes;
	uint32_t at = m->count++;
	for (; at && m->ranges[at - 1].begin > memory; at--)
		m->ranges[at] = m->ranges[at - 1];
	m->ranges[at] = {memory, memory + bytes};
	*device_out = memory;
	return STATUS_OK;
}

static enum status allocate_host(struct device *device, size_t bytes, void **out, struct error *error)
{
	uint32_t most = sizeof device->host / sizeof device->host[0];
	bool room = device->host_count < most && !has_fault("no-more-memory");
	char *memory = room ? emulator_pages(bytes ? bytes : 1) : NULL;
	if (!memory)
		return say(error, STATUS_NO_MEMORY, "no pinned memory for %zu bytes", bytes);
	memset(memory, 0xff, bytes);
	device->host[device->host_count++] = {memory, memory + (bytes ? bytes : 1)};
	*out = memory;
	return STATUS_OK;
}

static enum status state(struct device *device, struct error *error)
{
	const struct emulated_memory *m = emulator_memory();
	(void)device;
	return m->failed ? say(error, STATUS_UNAVAILABLE, "%s", m->failure) : STATUS_OK;
}

static enum status wait_device(struct device *device, struct error *error)
{
	run_queue(device, &device->main, UINT32_MAX);
	return state(device, error);
}

static enum status upload(struct device *device, void *device_to, const void *from, size_t bytes,
			  struct error *error)
{
	enum status status = wait_device(device, error);
	if (!status && is_inside(device_to, bytes, "an upload"))
		memcpy(device_to, from, bytes);
	return wait_device(device, error);
}

static enum status download(struct device *device, void *to, const void *device_from, size_t bytes,
			    struct error *error)
{
	enum status status = wait_device(device, error);
	if (!status && is_inside(device_from, bytes, "a download"))
		memcpy(to, device_from, bytes);
	return wait_device(device, error);
}

static void copy(struct device *device, void *device_to, const void *device_from, size_t bytes)
{
	struct copy_order order = {(char *)device_to, (const char *)device_from, bytes, true, true};
	queue_copy(device, &device->main, &order);
}

static void copy_rows(struct device *device, void *device_to, size_t to_pitch, const void *device_from,
		      size_t from_pitch, size_t bytes, size_t rows)
{
	for (size_t row = 0; row < rows; row++)
		copy(device, (char *)device_to + row * to_pitch, (const char *)device_from + row * from_pitch,
		     bytes);
}

static void fetch(struct device *device, void *to, const void *device_from, size_t bytes)
{
	struct copy_order order = {(char *)to, (const char *)device_from, bytes, false, true};
	queue_copy(device, &device->main, &order);
}

static void send_ahead(struct device *device, void *device_to, const void *from, size_t bytes)
{
	struct copy_order order = {(char *)device_to, (const char *)from, bytes, true, false};
	queue_copy(device, &device->ahead, &order);
}

static void join_ahead(struct device *device)
{
	new_order(device, &device->main, ORDER_JOIN);
}

static void mark(struct device *device, uint32_t number)
{
	device->marks[number] = device->main.passed + device->main.count - device->main.done;
}

static bool reached(struct device *device, uint32_t number, bool wait)
{
	const char *pace = getenv("EXITPOLL_EMULATED_PACE");
	uint64_t left = device->marks[number] > device->main.passed ? device->marks[number] - device->main.passed : 0;
	uint64_t orders = wait ? left : pace ? strtoull(pace, NULL, 10) : 0;
	run_queue(device, &device->main, (uint32_t)(orders < UINT32_MAX ? orders : UINT32_MAX));
	return device->main.passed >= device->marks[number];
}

static enum status prepare_product(struct device *device, uint32_t columns, uint32_t depth, struct error *error)
{
	(void)device;
	if (columns % 8 || depth % 8 || depth > DEPTH_MAX)
		return say(error, STATUS_UNSUPPORTED, "a product of %u columns, %u deep: want multiples of 8, depth "
			   "at most %d", columns, depth, (int)DEPTH_MAX);
	return STATUS_OK;
}

static void product(struct device *device, const struct product_work *work)
{
	if (work->rows)
		memcpy(new_order(device, &device->main, ORDER_PRODUCT)->work, work, sizeof *work);
}

DEFINE_DEVICE_TABLE;
