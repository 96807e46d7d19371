/* random_model.h - Llama-shaped models from a seed, for tests that need no files. */
#ifndef EXITPOLL_TESTS_UNIT_SCORER_RANDOM_MODEL_H
#define EXITPOLL_TESTS_UNIT_SCORER_RANDOM_MODEL_H

#include "scorer/backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct random_shape {
	uint32_t hidden, intermediate, layers, heads, kv_heads, head_size, vocabulary;
	bool qkv_bias;
	enum rope_scaling scaling;
};

struct random_model {
	struct model_view view;
	unsigned seed;
	bool poison;                    /* embeddings are not finite */
};

static inline void random_fill(unsigned seed, size_t count, float scale, float *out)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525u + 1013904223u;
		out[i] = ((float)(int)(seed >> 8) / 8388608.0f - 1.0f) * scale;
	}
}

/* Every row from its own seed, so that any cut reads the same. */
static inline enum status random_model_read(const void *context, enum model_tensor tensor, uint32_t layer,
					    uint32_t first_row, uint32_t count, float *out,
					    struct error *error)
{
	(void)error;
	const struct random_model *model = context;
	const struct model_config *c = &model->view.config;
	size_t columns = 1;
	float scale = .3f, offset = 0;
	switch (tensor) {
	case MODEL_FINAL_NORM: case MODEL_ATTENTION_NORM: case MODEL_MLP_NORM:
		offset = 1;
		break;
	case MODEL_Q_BIAS: case MODEL_K_BIAS: case MODEL_V_BIAS:
		break;
	case MODEL_O:
		columns = (size_t)c->heads * c->head_size;
		break;
	case MODEL_DOWN:
		columns = c->intermediate_size;
		break;
	default:
		columns = c->hidden_size;
	}
	if (columns > 1)
		scale = tensor == MODEL_EMBEDDING ? 1 : 2 / sqrtf((float)columns);
	for (uint32_t i = 0; i < count; i++) {
		unsigned seed = model->seed * 7919u + (unsigned)tensor * 104729u + layer * 1299709u +
				(first_row + i) * 15485863u;
		seed ^= seed >> 13;
		seed *= 0x5bd1e995u;
		random_fill(seed, columns, scale, out + i * columns);
		for (size_t j = 0; j < columns; j++)
			out[i * columns + j] += offset;
		if (model->poison && tensor == MODEL_EMBEDDING)
			out[i * columns] = INFINITY;
	}
	return STATUS_OK;
}

static inline struct random_model *random_model_create(const struct random_shape *shape, unsigned seed)
{
	struct random_model *model = calloc(1, sizeof *model);
	model->seed = seed;
	model->view = (struct model_view){
		.config = {
			.architecture = "llama", .name = "random", .hidden_size = shape->hidden,
			.intermediate_size = shape->intermediate, .layers = shape->layers,
			.heads = shape->heads, .kv_heads = shape->kv_heads, .head_size = shape->head_size,
			.vocabulary = shape->vocabulary, .positions_max = 512, .rms_norm_eps = 1e-5f,
			.rope_theta = 10000, .rope_scaling = shape->scaling, .rope_factor = 4,
			.rope_low_freq_factor = 1, .rope_high_freq_factor = 4,
			.rope_original_positions = 128, .qkv_bias = shape->qkv_bias,
		},
		.read = random_model_read,
		.context = model,
	};
	return model;
}

static inline void random_model_destroy(struct random_model *model)
{
	free(model);
}

#endif
