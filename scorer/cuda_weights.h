/* cuda_weights.h - a checkpoint's weights on a device, in fp16, joined where one product reads them.
 * All memory belongs to the device and goes with it. One thread. */
#ifndef EXITPOLL_SCORER_CUDA_WEIGHTS_H
#define EXITPOLL_SCORER_CUDA_WEIGHTS_H

#include "scorer/backend.h"
#include "scorer/cuda/device.h"

enum { CUDA_LAYERS_MAX = 128 };

struct cuda_layer {
	device_half *qkv;               /* [(heads + 2 kv_heads) H, C]: queries, keys, values */
	device_half *o, *gate_up, *down;/* gate_up [2F, C]: gate, then up */
	float *attention_norm, *mlp_norm;
	float *qkv_bias;                /* NULL: none */
};

struct cuda_weights {
	device_half *embedding;         /* [V, C] */
	struct cuda_layer layers[CUDA_LAYERS_MAX];
};

uint64_t cuda_weights_bytes(const struct model_config *config, uint32_t layers);

/* Reads a piece, rounds it, and sends it off while the next one is read. */
enum status cuda_weights_load(const struct model_view *model, uint32_t layers, const struct device_table *table,
			      struct device *device, const struct advance *loading, struct cuda_weights *out,
			      struct error *error);

#endif
