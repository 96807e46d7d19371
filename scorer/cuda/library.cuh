/* library.cuh - what both device libraries, the GPU's (runtime.cu) and the emulated one (emulator_device.cc), have
 * alike: how they say what went wrong, and the table that the host finds in them. Included by these two alone. */
#ifndef EXITPOLL_SCORER_CUDA_LIBRARY_CUH
#define EXITPOLL_SCORER_CUDA_LIBRARY_CUH

#include "scorer/cuda/kernels.cuh"

#include <stdarg.h>
#include <stdio.h>

/* base/status.c is not linked into them. error may be NULL. */
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

/* Of the functions of these names in the file that says it. */
#define DEFINE_DEVICE_TABLE \
	extern "C" __attribute__((visibility("default"))) const struct device_table exitpoll_device_table; \
	const struct device_table exitpoll_device_table = { \
		.version = DEVICE_TABLE_VERSION, \
		.find = find, \
		.open = open_device, \
		.close = close_device, \
		.allocate = allocate, \
		.prepare_product = prepare_product, \
		.upload = upload, \
		.download = download, \
		.copy = copy, \
		.copy_rows = copy_rows, \
		.allocate_host = allocate_host, \
		.fetch = fetch, \
		.send_ahead = send_ahead, \
		.join_ahead = join_ahead, \
		.mark = mark, \
		.reached = reached, \
		.state = state, \
		.wait = wait_device, \
		.embed = launch_embed, \
		.norm = launch_norm, \
		.rope = launch_rope, \
		.attention = launch_attention, \
		.swiglu = launch_swiglu, \
		.gather = launch_gather, \
		.head = launch_head, \
		.decide = launch_decide, \
		.arrange = launch_arrange, \
		.product = product, \
	}

#endif
