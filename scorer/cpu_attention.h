/* cpu_attention.h - attention of packed rows over instruction, shared prefix and own suffix.
 *
 * Keys lie transposed in blocks of 16 positions, [kv_head][slot / 16][H][16], values by row,
 * [row][kv_head * Hp] with Hp = H up to a multiple of 16: both are the right operand of the product
 * kernel. Scores of a query row are a row by position, so neither softmax nor the sums over values know
 * where the segments are cut: shared and independent prompts give the same bits. Pure; any thread. */
#ifndef EXITPOLL_SCORER_CPU_ATTENTION_H
#define EXITPOLL_SCORER_CPU_ATTENTION_H

#include "scorer/backend.h"
#include "scorer/kernels/kernels.h"

struct key_store {
	float *keys;                    /* [kv_heads][slots_max / 16][H][16] */
	float *values;                  /* [rows_max][kv_heads * Hp] */
	uint32_t slots_max, rows_max;
};

struct attention_shape {
	uint32_t heads, kv_heads, head_size, head_padded;
};

/* Floats of scratch that one thread needs. */
size_t attention_scratch_floats(const struct attention_shape *shape, uint32_t positions_max);

/* Stores one row's key (already rotated) and value, [kv_heads * H] each, at a slot and a row. */
void attention_store(const struct attention_shape *shape, struct key_store *store, uint32_t slot,
		     uint32_t row, const float *key, const float *value);

/* Copies the first `count` slots and rows of one store to another (from slot and row 0). */
void attention_copy(const struct attention_shape *shape, const struct key_store *from, struct key_store *to,
		    uint32_t count);

/* For rows[count] of the batch, ascending: mixed[i, heads * H] from query[i, heads * H] (rotated). */
void attention_rows(const struct attention_shape *shape, const struct kernels *kernels,
		    const struct key_store *instruction, const struct key_store *store,
		    const struct batch *batch, const uint32_t *rows, uint32_t count, const float *query,
		    size_t query_stride, float *mixed, size_t mixed_stride, uint32_t positions_max,
		    float *scratch);

#endif
