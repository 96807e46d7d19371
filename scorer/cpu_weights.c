/* cpu_weights.c - packing, and the product over a packed matrix.
 *
 * Loop order: a chunk of inputs, a panel of outputs (16 KiB, stays in L1), rows in register tiles. The sum
 * is carried through c from chunk to chunk, so the order of additions is that of one long chain.
 * Caller: cpu.c. */
#include "scorer/cpu_weights.h"

#include "base/mem.h"

static uint32_t chunk_depth(const struct packed *packed, uint32_t begin)
{
	return packed->inputs - begin < PACK_DEPTH ? packed->inputs - begin : PACK_DEPTH;
}

enum status packed_create(uint32_t inputs, uint32_t outputs, struct packed *out, struct error *error)
{
	uint32_t padded = pad_columns(outputs);
	size_t count, bytes;
	float *values = NULL;
	if (mem_multiply(inputs, padded, &count) && mem_multiply(count, sizeof(float), &bytes))
		values = mem_alloc_aligned(64, bytes);
	if (!values)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a matrix of %u x %u", outputs,
				 inputs);
	if (padded > outputs)           /* only the last panel has outputs that nobody puts there */
		for (uint32_t begin = 0; begin < inputs; begin += PACK_DEPTH) {
			uint32_t depth = inputs - begin < PACK_DEPTH ? inputs - begin : PACK_DEPTH;
			size_t at = (size_t)begin * padded + (size_t)(padded - TILE_COLUMNS) * depth;
			memset(values + at, 0, (size_t)depth * TILE_COLUMNS * sizeof(float));
		}
	*out = (struct packed){inputs, outputs, padded, values};
	return STATUS_OK;
}

void packed_destroy(struct packed *packed)
{
	mem_free(packed->values);
	*packed = (struct packed){0};
}

void packed_put(struct packed *packed, uint32_t first, uint32_t count, const float *rows)
{
	for (uint32_t begin = 0; begin < packed->inputs; begin += PACK_DEPTH) {
		uint32_t depth = chunk_depth(packed, begin);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t output = first + i;
			const float *row = rows + (size_t)i * packed->inputs + begin;
			float *column = packed->values + (size_t)begin * packed->padded +
					(size_t)(output / TILE_COLUMNS * TILE_COLUMNS) * depth +
					output % TILE_COLUMNS;
			for (uint32_t k = 0; k < depth; k++)
				column[(size_t)k * TILE_COLUMNS] = row[k];
		}
	}
}

void packed_multiply(const struct packed *packed, const struct kernels *kernels, uint32_t rows,
		     const float *a, size_t a_stride, float *c, size_t c_stride)
{
	for (uint32_t begin = 0; begin < packed->inputs; begin += PACK_DEPTH) {
		uint32_t depth = chunk_depth(packed, begin);
		const float *chunk = packed->values + (size_t)begin * packed->padded;
		for (uint32_t column = 0; column < packed->padded; column += TILE_COLUMNS) {
			const float *panel = chunk + (size_t)column * depth;
			for (uint32_t row = 0; row < rows; row += TILE_ROWS)
				kernels->tile(rows - row < TILE_ROWS ? rows - row : TILE_ROWS, depth,
					      a + row * a_stride + begin, a_stride, panel, TILE_COLUMNS,
					      c + row * c_stride + column, c_stride, begin > 0);
		}
	}
}
