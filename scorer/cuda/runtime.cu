/* runtime.cu - the device itself: memory, the queue, pinned staging, products by cuBLASLt.
 *
 * Products: one algorithm for each (columns, depth), chosen once at creation for the largest number of rows and
 * without any split over the depth, so that a row's bits are the same for every number of rows; rows are padded
 * to DEVICE_PRODUCT_ROWS. cuBLASLt does not promise that, so it is tried out before an algorithm is taken.
 * Invariant: after the first failure nothing more is queued, wait() tells it.
 * Caller: scorer/cuda_backend.c through the table, one thread. */
#include "scorer/cuda/library.cuh"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <stdlib.h>
#include <string.h>

static constexpr uint32_t ALLOCATIONS_MAX = 4096, PRODUCTS_MAX = 16, STAGES = 2, HOST_MAX = 64;
static const size_t stage_bytes = 16 << 20, workspace_bytes = 64 << 20;

/* The least that this build runs on: its machine code starts at 8.0, its runtime needs this driver. */
enum { CAPABILITY_MAJOR_MIN = 8 };

struct product_plan {
	uint32_t columns, depth;
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t weights;
	cublasLtMatmulAlgo_t algorithm;
};

struct device {
	cudaStream_t queue, ahead;
	cudaEvent_t joined, marks[DEVICE_MARKS];
	void *host[HOST_MAX];           /* pinned */
	uint32_t host_count;
	cublasLtHandle_t blas;
	void *workspace;
	void *allocations[ALLOCATIONS_MAX];
	uint32_t allocations_count;
	struct product_plan products[PRODUCTS_MAX];
	uint32_t products_count, rows_max;
	char *stages[STAGES];           /* pinned */
	cudaEvent_t emptied[STAGES];
	uint32_t stage;
	size_t stage_used;              /* of the current one */
	bool failed;
	char failure[256];
};

static void failed(struct device *device, const char *what, cudaError_t code)
{
	if (code == cudaSuccess || device->failed)
		return;
	device->failed = true;
	snprintf(device->failure, sizeof device->failure, "%s: %s (%s)", what, cudaGetErrorString(code),
		 cudaGetErrorName(code));
}

static void failed_product(struct device *device, const char *what, cublasStatus_t code)
{
	if (code == CUBLAS_STATUS_SUCCESS || device->failed)
		return;
	device->failed = true;
	snprintf(device->failure, sizeof device->failure, "%s: %s", what, cublasLtGetStatusString(code));
}

cudaStream_t device_queue(struct device *device)
{
	return device->queue;
}

void device_launched(struct device *device, const char *kernel)
{
	failed(device, kernel, cudaGetLastError());
}

static enum status find(struct device_facts *out, struct error *error)
{
	int driver = 0, runtime = 0, count = 0;
	*out = {};
	cudaError_t code = cudaDriverGetVersion(&driver);
	cudaRuntimeGetVersion(&runtime);
	out->driver = (uint32_t)driver;
	out->runtime = (uint32_t)runtime;
	if (code != cudaSuccess || !driver)
		return say(error, STATUS_UNAVAILABLE, "no NVIDIA driver answers (libcuda.so.1 is not there)");
	code = cudaGetDeviceCount(&count);
	if (code == cudaErrorInsufficientDriver)
		return say(error, STATUS_UNSUPPORTED,
			   "the driver supports CUDA %d.%d, this build needs %d.%d: update the driver",
			   driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
	if (code != cudaSuccess || !count)
		return say(error, STATUS_UNAVAILABLE, "no NVIDIA GPU: %s",
			   code == cudaSuccess ? "none is visible" : cudaGetErrorString(code));
	cudaDeviceProp properties;
	size_t free_bytes = 0, memory_bytes = 0;
	if ((code = cudaGetDeviceProperties(&properties, 0)) != cudaSuccess)
		return say(error, STATUS_UNAVAILABLE, "GPU 0 does not answer: %s", cudaGetErrorString(code));
	snprintf(out->name, sizeof out->name, "%.90s", properties.name);
	out->major = (uint32_t)properties.major;
	out->minor = (uint32_t)properties.minor;
	out->multiprocessors = (uint32_t)properties.multiProcessorCount;
	out->memory_bytes = properties.totalGlobalMem;
	if (properties.major < CAPABILITY_MAJOR_MIN)
		return say(error, STATUS_UNSUPPORTED,
			   "%s has compute capability %d.%d: 8.0 (A100) or later is needed", properties.name,
			   properties.major, properties.minor);
	if ((code = cudaMemGetInfo(&free_bytes, &memory_bytes)) != cudaSuccess)
		return say(error, code == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE,
			   "%s does not answer: %s", properties.name, cudaGetErrorString(code));
	out->free_bytes = free_bytes;
	return STATUS_OK;
}

static void close_device(struct device *device)
{
	if (!device)
		return;
	if (device->queue)
		cudaStreamSynchronize(device->queue);
	if (device->ahead) {
		cudaStreamSynchronize(device->ahead);
		cudaStreamDestroy(device->ahead);
	}
	if (device->joined)
		cudaEventDestroy(device->joined);
	for (uint32_t i = 0; i < DEVICE_MARKS; i++)
		if (device->marks[i])
			cudaEventDestroy(device->marks[i]);
	for (uint32_t i = 0; i < device->host_count; i++)
		cudaFreeHost(device->host[i]);
	for (uint32_t i = 0; i < device->products_count; i++) {
		cublasLtMatmulDescDestroy(device->products[i].operation);
		cublasLtMatrixLayoutDestroy(device->products[i].weights);
	}
	for (uint32_t i = 0; i < device->allocations_count; i++)
		cudaFree(device->allocations[i]);
	for (uint32_t i = 0; i < STAGES; i++) {
		if (device->stages[i])
			cudaFreeHost(device->stages[i]);
		if (device->emptied[i])
			cudaEventDestroy(device->emptied[i]);
	}
	if (device->blas)
		cublasLtDestroy(device->blas);
	if (device->queue)
		cudaStreamDestroy(device->queue);
	cudaFreeHost(device);
}

static enum status allocate(struct device *device, size_t bytes, void **device_out, struct error *error)
{
	if (device->allocations_count == ALLOCATIONS_MAX)
		return say(error, STATUS_LIMIT, "more than %d pieces of GPU memory", (int)ALLOCATIONS_MAX);
	void *memory = NULL;
	cudaError_t code = cudaMalloc(&memory, bytes ? bytes : 1);
	if (code != cudaSuccess) {
		size_t free_bytes = 0, memory_bytes = 0;
		cudaMemGetInfo(&free_bytes, &memory_bytes);
		cudaGetLastError();
		return say(error, code == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE,
			   "the GPU has no memory for %zu bytes, %zu of %zu are free: %s", bytes, free_bytes,
			   memory_bytes, cudaGetErrorString(code));
	}
	device->allocations[device->allocations_count++] = memory;
	*device_out = memory;
	return STATUS_OK;
}

static enum status open_device(uint32_t rows_max, struct device **out, struct error *error)
{
	struct device_facts facts;
	enum status status = find(&facts, error);
	if (status)
		return status;
	struct device *device = NULL;
	cudaError_t code = cudaHostAlloc((void **)&device, sizeof *device, cudaHostAllocDefault);
	if (code != cudaSuccess)
		return say(error, STATUS_NO_MEMORY, "no pinned memory: %s", cudaGetErrorString(code));
	memset(device, 0, sizeof *device);
	device->rows_max = (rows_max + DEVICE_PRODUCT_ROWS - 1) / DEVICE_PRODUCT_ROWS * DEVICE_PRODUCT_ROWS;
	failed(device, "a queue", cudaStreamCreateWithFlags(&device->queue, cudaStreamNonBlocking));
	failed(device, "a queue", cudaStreamCreateWithFlags(&device->ahead, cudaStreamNonBlocking));
	failed(device, "an event", cudaEventCreateWithFlags(&device->joined, cudaEventDisableTiming));
	for (uint32_t i = 0; i < DEVICE_MARKS; i++)
		failed(device, "an event", cudaEventCreateWithFlags(&device->marks[i], cudaEventDisableTiming));
	for (uint32_t i = 0; i < STAGES; i++) {
		failed(device, "pinned memory",
		       cudaHostAlloc((void **)&device->stages[i], stage_bytes, cudaHostAllocDefault));
		failed(device, "an event",
		       cudaEventCreateWithFlags(&device->emptied[i], cudaEventDisableTiming));
	}
	failed_product(device, "cuBLASLt", cublasLtCreate(&device->blas));
	if (device->failed)
		status = say(error, STATUS_UNAVAILABLE, "%s: %s", facts.name, device->failure);
	else
		status = allocate(device, workspace_bytes, &device->workspace, error);
	if (status) {
		close_device(device);
		return status;
	}
	*out = device;
	return STATUS_OK;
}

static enum status state(struct device *device, struct error *error)
{
	return device->failed ? say(error, STATUS_UNAVAILABLE, "%s", device->failure) : STATUS_OK;
}

static enum status wait_device(struct device *device, struct error *error)
{
	failed(device, "the GPU", cudaStreamSynchronize(device->queue));
	return state(device, error);
}

/* Full stages go off while the next one is filled. */
static enum status upload(struct device *device, void *device_to, const void *from, size_t bytes,
			  struct error *error)
{
	for (size_t done = 0; done < bytes && !device->failed;) {
		if (device->stage_used == stage_bytes) {
			failed(device, "an event", cudaEventRecord(device->emptied[device->stage], device->queue));
			device->stage = (device->stage + 1) % STAGES;
			device->stage_used = 0;
			failed(device, "an upload", cudaEventSynchronize(device->emptied[device->stage]));
		}
		size_t room = stage_bytes - device->stage_used, part = bytes - done < room ? bytes - done : room;
		char *stage = device->stages[device->stage] + device->stage_used;
		memcpy(stage, (const char *)from + done, part);
		failed(device, "an upload", cudaMemcpyAsync((char *)device_to + done, stage, part,
							    cudaMemcpyHostToDevice, device->queue));
		device->stage_used += (part + 255) / 256 * 256;
		if (device->stage_used > stage_bytes)
			device->stage_used = stage_bytes;
		done += part;
	}
	return device->failed ? say(error, STATUS_UNAVAILABLE, "%s", device->failure) : STATUS_OK;
}

static enum status download(struct device *device, void *to, const void *device_from, size_t bytes,
			    struct error *error)
{
	failed(device, "a download",
	       cudaMemcpyAsync(to, device_from, bytes, cudaMemcpyDeviceToHost, device->queue));
	return wait_device(device, error);
}

static void copy(struct device *device, void *device_to, const void *device_from, size_t bytes)
{
	failed(device, "a copy",
	       cudaMemcpyAsync(device_to, device_from, bytes, cudaMemcpyDeviceToDevice, device->queue));
}

static void copy_rows(struct device *device, void *device_to, size_t to_pitch, const void *device_from,
		      size_t from_pitch, size_t bytes, size_t rows)
{
	failed(device, "a copy", cudaMemcpy2DAsync(device_to, to_pitch, device_from, from_pitch, bytes, rows,
						   cudaMemcpyDeviceToDevice, device->queue));
}

/* ---- beside the queue ---- */

static enum status allocate_host(struct device *device, size_t bytes, void **out, struct error *error)
{
	if (device->host_count == HOST_MAX)
		return say(error, STATUS_LIMIT, "more than %d pieces of pinned memory", (int)HOST_MAX);
	void *memory = NULL;
	cudaError_t code = cudaHostAlloc(&memory, bytes ? bytes : 1, cudaHostAllocDefault);
	if (code != cudaSuccess)
		return say(error, STATUS_NO_MEMORY, "no pinned memory for %zu bytes: %s", bytes,
			   cudaGetErrorString(code));
	device->host[device->host_count++] = memory;
	*out = memory;
	return STATUS_OK;
}

static void fetch(struct device *device, void *to, const void *device_from, size_t bytes)
{
	failed(device, "a fetch",
	       cudaMemcpyAsync(to, device_from, bytes, cudaMemcpyDeviceToHost, device->queue));
}

static void send_ahead(struct device *device, void *device_to, const void *from, size_t bytes)
{
	failed(device, "an upload",
	       cudaMemcpyAsync(device_to, from, bytes, cudaMemcpyHostToDevice, device->ahead));
}

static void join_ahead(struct device *device)
{
	failed(device, "an event", cudaEventRecord(device->joined, device->ahead));
	failed(device, "an event", cudaStreamWaitEvent(device->queue, device->joined, 0));
}

static void mark(struct device *device, uint32_t number)
{
	failed(device, "an event", cudaEventRecord(device->marks[number], device->queue));
}

static bool reached(struct device *device, uint32_t number, bool wait)
{
	cudaError_t code = wait ? cudaEventSynchronize(device->marks[number]) :
				  cudaEventQuery(device->marks[number]);
	if (code == cudaErrorNotReady) {
		cudaGetLastError();     /* no error, but it would be taken for one of the next launch */
		return device->failed;
	}
	failed(device, "the GPU", code);
	return true;
}

/* ---- products ---- */

/* To cuBLASLt, which counts columns first: out^T[columns, rows] = weights[depth, columns]^T x^T[depth, rows]. */
static cublasStatus_t rows_layout(cublasLtMatrixLayout_t *out, uint32_t width, uint32_t rows)
{
	return cublasLtMatrixLayoutCreate(out, CUDA_R_16F, width, rows, width);
}

/* No partial sums: a split over the depth adds in an order that the number of rows decides. */
static bool is_whole(const cublasLtMatmulAlgo_t *algorithm)
{
	int32_t splits = 0;
	uint32_t reduction = 0;
	size_t written;
	cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits,
					     &written);
	cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction,
					     sizeof reduction, &written);
	return splits <= 1 && reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

static cublasStatus_t multiply(struct device *device, const struct product_plan *plan, float scale, const void *x,
			       const void *weights, uint32_t rows, void *to)
{
	float zero = 0;
	cublasLtMatrixLayout_t in = NULL, out = NULL;
	cublasStatus_t code = rows_layout(&in, plan->depth, rows);
	if (!code)
		code = rows_layout(&out, plan->columns, rows);
	if (!code)
		code = cublasLtMatmul(device->blas, plan->operation, &scale, weights, plan->weights, x, in, &zero, to,
				      out, to, out, &plan->algorithm, device->workspace, workspace_bytes,
				      device->queue);
	cublasLtMatrixLayoutDestroy(in);
	cublasLtMatrixLayoutDestroy(out);
	return code;
}

/* Memory for one try of an algorithm: numbers between -1 and 1, and what products give. */
struct trial {
	device_half *numbers, *out;     /* on the device; numbers serve as rows and as weights */
	device_half *want, *got;        /* [DEVICE_PRODUCT_ROWS, columns] pinned */
	uint32_t rows_max;
};

static void end_trial(struct trial *t)
{
	cudaFree(t->numbers);
	cudaFree(t->out);
	cudaFreeHost(t->want);
	cudaFreeHost(t->got);
}

static cudaError_t begin_trial(const struct product_plan *plan, uint32_t rows_max, struct trial *t)
{
	enum { BLOCK = 1 << 16 };
	size_t rows = rows_max > plan->columns ? rows_max : plan->columns, values = rows * plan->depth;
	size_t few = (size_t)DEVICE_PRODUCT_ROWS * plan->columns * sizeof(device_half);
	*t = {NULL, NULL, NULL, NULL, rows_max};
	cudaError_t code = cudaMalloc((void **)&t->numbers, (values + BLOCK) * sizeof(device_half));
	if (!code)
		code = cudaMalloc((void **)&t->out, (size_t)rows_max * plan->columns * sizeof(device_half));
	if (!code)
		code = cudaHostAlloc((void **)&t->want, few > BLOCK * sizeof(device_half) ?
				     few : BLOCK * sizeof(device_half), cudaHostAllocDefault);
	if (!code)
		code = cudaHostAlloc((void **)&t->got, few, cudaHostAllocDefault);
	uint32_t seed = plan->columns * 31 + plan->depth;
	for (uint32_t i = 0; !code && i < BLOCK; i++) {
		seed = seed * 1664525u + 1013904223u;
		t->want[i] = (device_half)((seed >> 16 & 0x83ff) | (seed >> 28 & 3) << 10 | 0x3000);
	}
	for (size_t done = 0; !code && done < values; done += BLOCK)
		code = cudaMemcpy(t->numbers + done, t->want, BLOCK * sizeof(device_half), cudaMemcpyHostToDevice);
	return code;
}

/* The first rows of a product, into `to`. */
static bool try_rows(struct device *device, const struct product_plan *plan, const struct trial *t, uint32_t first,
		     uint32_t rows, device_half *to)
{
	size_t bytes = (size_t)DEVICE_PRODUCT_ROWS * plan->columns * sizeof(device_half);
	return !multiply(device, plan, 1, t->numbers + (size_t)first * plan->depth, t->numbers, rows, t->out) &&
	       !cudaMemcpyAsync(to, t->out, bytes, cudaMemcpyDeviceToHost, device->queue) &&
	       !cudaStreamSynchronize(device->queue);
}

/* Do rows have the same bits among few and among many others, at the front and further back? */
static bool is_invariant(struct device *device, const struct product_plan *plan, const struct trial *t)
{
	size_t bytes = (size_t)DEVICE_PRODUCT_ROWS * plan->columns * sizeof(device_half);
	for (uint32_t first = 0; first + DEVICE_PRODUCT_ROWS <= t->rows_max;
	     first += t->rows_max / 2 + DEVICE_PRODUCT_ROWS) {
		if (!try_rows(device, plan, t, first, DEVICE_PRODUCT_ROWS, t->want))
			return false;
		/* Among more and more rows that come after. */
		for (uint32_t rows = 2 * DEVICE_PRODUCT_ROWS; first + rows <= t->rows_max; rows *= 2)
			if (!try_rows(device, plan, t, first, rows, t->got) || memcmp(t->want, t->got, bytes))
				return false;
		/* At the end of the largest product. */
		size_t place = (size_t)first * plan->columns;
		if (multiply(device, plan, 1, t->numbers, t->numbers, t->rows_max, t->out) ||
		    cudaMemcpyAsync(t->got, t->out + place, bytes, cudaMemcpyDeviceToHost, device->queue) ||
		    cudaStreamSynchronize(device->queue) || memcmp(t->want, t->got, bytes))
			return false;
	}
	return true;
}

static cublasStatus_t choose(struct device *device, struct product_plan *plan, bool *found)
{
	enum { CHOICES = 16, TRIAL_ROWS = 2048 };
	cublasLtMatmulHeuristicResult_t choices[CHOICES];
	cublasLtMatmulPreference_t wanted = NULL;
	cublasLtMatrixLayout_t x = NULL, out = NULL;
	uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
	int count = 0;
	cublasStatus_t code = cublasLtMatmulPreferenceCreate(&wanted);
	if (!code)
		code = cublasLtMatmulPreferenceSetAttribute(wanted, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
							    &workspace_bytes, sizeof workspace_bytes);
	if (!code)
		code = cublasLtMatmulPreferenceSetAttribute(
		    wanted, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes);
	if (!code)
		code = rows_layout(&x, plan->depth, device->rows_max);
	if (!code)
		code = rows_layout(&out, plan->columns, device->rows_max);
	if (!code)
		code = cublasLtMatmulAlgoGetHeuristic(device->blas, plan->operation, plan->weights, x, out, out,
						      wanted, CHOICES, choices, &count);
	uint32_t rows_max = device->rows_max < TRIAL_ROWS ? device->rows_max : (uint32_t)TRIAL_ROWS;
	struct trial trial;
	cudaError_t trouble = begin_trial(plan, rows_max, &trial);
	failed(device, "trying out products", trouble);
	/* Partial sums that are added up later (stream-K has no attribute of its own) need a workspace: who needs none
	 * goes first. */
	for (int i = 0; i < 2 * count && !code && !trouble && !*found; i++) {
		const cublasLtMatmulHeuristicResult_t *choice = &choices[i % count];
		if (choice->state != CUBLAS_STATUS_SUCCESS || !is_whole(&choice->algo) ||
		    (choice->workspaceSize > 0) != (i >= count))
			continue;
		plan->algorithm = choice->algo;
		*found = is_invariant(device, plan, &trial);
	}
	end_trial(&trial);
	cublasLtMatrixLayoutDestroy(x);
	cublasLtMatrixLayoutDestroy(out);
	cublasLtMatmulPreferenceDestroy(wanted);
	return code;
}

static enum status prepare_product(struct device *device, uint32_t columns, uint32_t depth, struct error *error)
{
	if (columns % 8 || depth % 8)
		return say(error, STATUS_UNSUPPORTED, "a product of %u columns, %u deep: want multiples of 8",
			   columns, depth);
	for (uint32_t i = 0; i < device->products_count; i++)
		if (device->products[i].columns == columns && device->products[i].depth == depth)
			return STATUS_OK;
	if (device->products_count == PRODUCTS_MAX)
		return say(error, STATUS_LIMIT, "more than %d shapes of products", (int)PRODUCTS_MAX);
	struct product_plan plan = {columns, depth, NULL, NULL, {}};
	cublasOperation_t transposed = CUBLAS_OP_T;
	bool found = false;
	cublasStatus_t code = cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
	if (!code)
		code = cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
						      sizeof transposed);
	if (!code)
		code = rows_layout(&plan.weights, depth, columns);
	if (!code)
		code = choose(device, &plan, &found);
	if (code || !found) {
		cublasLtMatmulDescDestroy(plan.operation);
		cublasLtMatrixLayoutDestroy(plan.weights);
		return say(error, STATUS_UNSUPPORTED, "cuBLASLt has no undivided product of %u columns, %u deep: %s",
			   columns, depth, cublasLtGetStatusString(code));
	}
	device->products[device->products_count++] = plan;
	return STATUS_OK;
}

static void product(struct device *device, const struct product_work *work)
{
	const struct product_plan *plan = NULL;
	uint32_t rows = (work->rows + DEVICE_PRODUCT_ROWS - 1) / DEVICE_PRODUCT_ROWS * DEVICE_PRODUCT_ROWS;
	for (uint32_t i = 0; i < device->products_count; i++)
		if (device->products[i].columns == work->columns && device->products[i].depth == work->depth)
			plan = &device->products[i];
	if (!rows || device->failed)
		return;
	if (!plan) {
		failed_product(device, "a product that was not prepared", CUBLAS_STATUS_INVALID_VALUE);
		return;
	}
	failed_product(device, "a product",
		       multiply(device, plan, work->scale, work->x, work->weights, rows, work->out));
}

DEFINE_DEVICE_TABLE;
