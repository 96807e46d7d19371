/* cuda_pass.h - whole passes on the GPU, exits included: the slots pass_* of the cuda backend (backend.h).
 *
 * Who leaves is decided, and the batch compacted, on the device. The host queues layer after layer for as many rows as
 * there may be; how many there are reaches it late, and where a layer is long it waits for that number rather than
 * queue rows that are gone. One thread. */
#ifndef EXITPOLL_SCORER_CUDA_PASS_H
#define EXITPOLL_SCORER_CUDA_PASS_H

#include "scorer/cuda_layer.h"

enum status cuda_pass_prepare(struct backend *backend, const struct pass_exits *exits, struct error *error);
enum status cuda_pass_start(struct backend *backend, const struct batch *batch, struct error *error);
void cuda_pass_drive(struct backend *backend);
enum status cuda_pass_collect(struct backend *backend, struct pass_result *out, struct error *error);
void cuda_pass_destroy(struct cuda_pass *pass);         /* NULL ok; what it has on the device goes with that */

/* On the device, for each row of a batch and at most so many exits. */
uint64_t cuda_pass_bytes_of_row(uint32_t exits_max);

#endif
