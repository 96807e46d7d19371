/* cpu_attention.c - two products and a softmax per tile of query rows.
 *
 * The query heads that share a KV head are rows of one tile (grouped-query attention for free). A tile
 * covers rows of one segment; its scores reach as far as its last row sees, and what an earlier row does
 * not see counts with weight zero. Caller: cpu.c, one tile of the batch per task. */
#include "scorer/cpu_attention.h"

#include <math.h>
#include <string.h>

/* Positions up to a block, and one block more: the last score tile may write past the end. */
static size_t score_stride(uint32_t positions_max)
{
	return ((size_t)positions_max + KEY_BLOCK - 1) / KEY_BLOCK * KEY_BLOCK + KEY_BLOCK;
}

size_t attention_scratch_floats(const struct attention_shape *shape, uint32_t positions_max)
{
	return TILE_ROWS * (2 * (size_t)shape->head_padded + score_stride(positions_max));
}

static size_t block_floats(const struct attention_shape *shape)
{
	return (size_t)shape->head_size * KEY_BLOCK;
}

static float *block_of(const struct attention_shape *shape, const struct key_store *store, uint32_t kv_head,
		       uint32_t slot)
{
	size_t blocks = store->slots_max / KEY_BLOCK;
	return store->keys + (kv_head * blocks + slot / KEY_BLOCK) * block_floats(shape);
}

void attention_store(const struct attention_shape *shape, struct key_store *store, uint32_t slot,
		     uint32_t row, const float *key, const float *value)
{
	float *out = store->values + (size_t)row * shape->kv_heads * shape->head_padded;
	for (uint32_t head = 0; head < shape->kv_heads; head++) {
		float *column = block_of(shape, store, head, slot) + slot % KEY_BLOCK;
		for (uint32_t i = 0; i < shape->head_size; i++)
			column[(size_t)i * KEY_BLOCK] = key[head * shape->head_size + i];
		memcpy(out + (size_t)head * shape->head_padded, value + (size_t)head * shape->head_size,
		       shape->head_size * sizeof(float));
	}
}

void attention_copy(const struct attention_shape *shape, const struct key_store *from, struct key_store *to,
		    uint32_t count)
{
	size_t blocks = (count + KEY_BLOCK - 1) / KEY_BLOCK;
	for (uint32_t head = 0; head < shape->kv_heads; head++)
		memcpy(block_of(shape, to, head, 0), block_of(shape, from, head, 0),
		       blocks * block_floats(shape) * sizeof(float));
	memcpy(to->values, from->values,
	       (size_t)count * shape->kv_heads * shape->head_padded * sizeof(float));
}

/* A run of positions whose keys and values lie together. */
struct stretch {
	const struct key_store *store;
	uint32_t first_position, count, first_slot, first_row;
};

/* Up to three stretches that the rows of a segment see, the last one cut at `positions`. */
static uint32_t stretches_of(const struct batch *batch, const struct key_store *instruction,
			     const struct key_store *store, const struct batch_segment *segment,
			     uint32_t positions, struct stretch out[3])
{
	uint32_t count = 0;
	if (batch->instruction)
		out[count++] = (struct stretch){instruction, 0, batch->instruction, 0, 0};
	if (segment->prefix != BATCH_NO_PREFIX) {
		const struct batch_segment *prefix = &batch->segments[segment->prefix];
		if (prefix->count)
			out[count++] = (struct stretch){store, prefix->first_position, prefix->count,
							prefix->first_slot, prefix->first_row};
	}
	out[count++] = (struct stretch){store, segment->first_position, positions - segment->first_position,
					segment->first_slot, segment->first_row};
	return count;
}

/* One tile: `tokens` rows of one segment from the given position on, `group` heads each. */
static void attend_tile(const struct attention_shape *shape, const struct kernels *kernels,
			const struct stretch *stretches, uint32_t stretches_count, uint32_t kv_head,
			uint32_t rows, const uint32_t *positions, const float *query, float *scores,
			size_t stride, float *mixed)
{
	uint32_t head_size = shape->head_size, padded = shape->head_padded;
	size_t value_stride = (size_t)shape->kv_heads * padded;
	uint32_t seen = 0;
	for (uint32_t s = 0; s < stretches_count; s++) {
		const struct stretch *stretch = &stretches[s];
		for (uint32_t i = 0; i < stretch->count; i += KEY_BLOCK)
			kernels->tile(rows, head_size, query, padded,
				      block_of(shape, stretch->store, kv_head, stretch->first_slot + i),
				      KEY_BLOCK, scores + stretch->first_position + i, stride, false);
		seen = stretch->first_position + stretch->count;
	}
	float sums[TILE_ROWS];
	for (uint32_t row = 0; row < rows; row++) {
		float *score = scores + row * stride;
		uint32_t count = positions[row] + 1;
		sums[row] = kernels->softmax(count, (float)(1 / sqrt((double)head_size)), score);
		memset(score + count, 0, (seen - count) * sizeof(float));
	}
	for (uint32_t column = 0; column < padded; column += TILE_COLUMNS)
		for (uint32_t s = 0; s < stretches_count; s++) {
			const struct stretch *stretch = &stretches[s];
			kernels->tile(rows, stretch->count, scores + stretch->first_position, stride,
				      stretch->store->values + stretch->first_row * value_stride +
				      (size_t)kv_head * padded + column, value_stride, mixed + column, padded,
				      s > 0);
		}
	for (uint32_t row = 0; row < rows; row++)
		for (uint32_t i = 0; i < head_size; i++)
			mixed[(size_t)row * padded + i] /= sums[row];
}

void attention_rows(const struct attention_shape *shape, const struct kernels *kernels,
		    const struct key_store *instruction, const struct key_store *store,
		    const struct batch *batch, const uint32_t *rows, uint32_t count, const float *query,
		    size_t query_stride, float *mixed, size_t mixed_stride, uint32_t positions_max,
		    float *scratch)
{
	uint32_t group = shape->heads / shape->kv_heads, head_size = shape->head_size;
	uint32_t heads_at_once = group < TILE_ROWS ? group : TILE_ROWS;
	uint32_t tokens_max = TILE_ROWS / heads_at_once;
	size_t padded = shape->head_padded, stride = score_stride(positions_max);
	float *tile_query = scratch, *tile_mixed = tile_query + TILE_ROWS * padded;
	float *scores = tile_mixed + TILE_ROWS * padded;

	for (uint32_t begin = 0, tokens; begin < count; begin += tokens) {
		uint32_t index = batch->row_segment[rows[begin]];
		for (tokens = 1; tokens < tokens_max && begin + tokens < count &&
				 batch->row_segment[rows[begin + tokens]] == index;)
			tokens++;
		struct stretch stretches[3];
		uint32_t seen = batch->positions[rows[begin + tokens - 1]] + 1;
		uint32_t stretches_count =
		    stretches_of(batch, instruction, store, &batch->segments[index], seen, stretches);
		for (uint32_t head = 0, heads; head < shape->heads; head += heads) {
			uint32_t left = group - head % group;
			heads = left < heads_at_once ? left : heads_at_once;
			uint32_t positions[TILE_ROWS], tile_rows = 0;
			for (uint32_t t = 0; t < tokens; t++)
				for (uint32_t h = 0; h < heads; h++, tile_rows++) {
					positions[tile_rows] = batch->positions[rows[begin + t]];
					memcpy(tile_query + tile_rows * padded,
					       query + (begin + t) * query_stride +
						   (size_t)(head + h) * head_size,
					       head_size * sizeof(float));
				}
			attend_tile(shape, kernels, stretches, stretches_count, head / group, tile_rows,
				    positions, tile_query, scores, stride, tile_mixed);
			tile_rows = 0;
			for (uint32_t t = 0; t < tokens; t++)
				for (uint32_t h = 0; h < heads; h++, tile_rows++)
					memcpy(mixed + (begin + t) * mixed_stride +
						   (size_t)(head + h) * head_size,
					       tile_mixed + tile_rows * padded, head_size * sizeof(float));
		}
	}
}
