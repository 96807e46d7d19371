/* cuda_backend.h - the scorer's arithmetic on a GPU: fp16 weights and activations, fp32 sums, norms, softmax,
 * heads and residual rows. For inspect: what a GPU could do. */
#ifndef EXITPOLL_SCORER_CUDA_BACKEND_H
#define EXITPOLL_SCORER_CUDA_BACKEND_H

#include "scorer/backend.h"
#include "scorer/cuda/device.h"

extern const struct backend_table backend_cuda;

/* Bytes on the device of a model's first options->layers layers, and of everything else for
 * options->rows_max rows. */
struct cuda_needs {
	uint64_t weights, fixed;        /* fixed: tables, kept keys and values, cuBLASLt's workspace */
	uint64_t each_row;
};
void cuda_needs_of(const struct model_config *config, const struct backend_options *options,
		   struct cuda_needs *out);

/* What is there, and, as the status, whether scorer.backend cuda can use it. Facts known until a
 * failure are filled in. */
enum status cuda_find(struct device_facts *out, struct error *error);

/* True when scorer.backend auto takes the GPU for this model: there, real, and with room. *error says why not. */
bool cuda_is_better(const struct model_config *config, const struct backend_options *options,
		    struct error *error);

#endif
