/* runtime.cu - the device itself: memory, the queue, pinned staging, products by cuBLASLt.
 *
 * Products: one algorithm for each (columns, depth), chosen once at creation for the largest number of rows and
 * without any split over the depth, so that a row's bits are the same for every number of rows; rows are padded
 * to DEVICE_PRODUCT_ROWS. Invariant: after the first failure nothing more is queued, wait() tells it.
 * Caller: scorer/cuda_backend.c through the table, one thread. */
#include "scorer/cuda/kernels.cuh"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static constexpr uint32_t ALLOCATIONS_MAX = 4096, PRODUCTS_MAX = 16, STAGES = 2;
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
	cudaStream_t queue;
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

static enum status wait_device(struct device *device, struct error *error)
{
	failed(device, "the GPU", cudaStreamSynchronize(device->queue));
	return device->failed ? say(error, STATUS_UNAVAILABLE, "%s", device->failure) : STATUS_OK;
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

static cublasStatus_t choose(struct device *device, struct product_plan *plan, bool *found)
{
	enum { CHOICES = 16 };
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
	for (int i = 0; i < count && !code && !*found; i++)
		if (choices[i].state == CUBLAS_STATUS_SUCCESS && is_whole(&choices[i].algo)) {
			plan->algorithm = choices[i].algo;
			*found = true;
		}
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
	float zero = 0;
	cublasLtMatrixLayout_t x = NULL, out = NULL;
	cublasStatus_t code = rows_layout(&x, plan->depth, rows);
	if (!code)
		code = rows_layout(&out, plan->columns, rows);
	if (!code)
		code = cublasLtMatmul(device->blas, plan->operation, &work->scale, work->weights, plan->weights, work->x, x,
				      &zero, work->out, out, work->out, out, &plan->algorithm,
				      device->workspace, workspace_bytes, device->queue);
	failed_product(device, "a product", code);
	cublasLtMatrixLayoutDestroy(x);
	cublasLtMatrixLayoutDestroy(out);
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
