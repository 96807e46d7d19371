/* cpu_weights.c - packing, and the product over a packed matrix.
 *
 * Loop order: a chunk of inputs, a panel of outputs (16 KiB, stays in L1), rows in register tiles. The sum
 * is carried through c from chunk to chunk, so the order of additions is that of one long chain.
 * Caller: cpu.c. */
#include "scorer/cpu_weights.h"

#include "base/mem.h"

static size_t weight_bytes(enum arithmetic arithmetic)
{
	return arithmetic == ARITHMETIC_FP32 ? sizeof(float) : sizeof(uint16_t);
}

static uint32_t chunk_depth(const struct packed *packed, uint32_t begin)
{
	return packed->depth - begin < PACK_DEPTH ? packed->depth - begin : PACK_DEPTH;
}

static uint32_t pad_depth(uint32_t inputs)
{
	return (inputs + BF16_STEP - 1) / BF16_STEP * BF16_STEP;
}

/* Where the panel of an output begins in a chunk, in weights. */
static size_t panel_at(const struct packed *packed, uint32_t begin, uint32_t output)
{
	return (size_t)begin * packed->padded +
	       (size_t)(output / TILE_COLUMNS * TILE_COLUMNS) * chunk_depth(packed, begin);
}

/* What nobody will put there: inputs past K in all panels, outputs past N in the last. */
static void clear_rest(struct packed *packed)
{
	size_t bytes = weight_bytes(packed->arithmetic);
	for (uint32_t begin = 0; begin < packed->depth; begin += PACK_DEPTH) {
		uint32_t depth = chunk_depth(packed, begin);
		uint32_t first = begin + depth > packed->inputs     ? 0
				 : packed->padded > packed->outputs ? packed->padded - TILE_COLUMNS
								    : packed->padded;
		memset((char *)packed->values + panel_at(packed, begin, first) * bytes, 0,
		       (size_t)(packed->padded - first) * depth * bytes);
	}
}

enum status packed_create(enum arithmetic arithmetic, uint32_t inputs, uint32_t outputs, struct packed *out,
			  struct error *error)
{
	struct packed packed = {arithmetic, inputs, outputs, inputs, pad_columns(outputs), NULL};
	if (arithmetic == ARITHMETIC_BF16)
		packed.depth = pad_depth(inputs);
	size_t count, bytes;
	if (mem_multiply(packed.depth, packed.padded, &count) &&
	    mem_multiply(count, weight_bytes(arithmetic), &bytes))
		packed.values = mem_alloc_aligned(64, bytes);
	if (!packed.values)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a matrix of %u x %u", outputs,
				 inputs);
	clear_rest(&packed);
	*out = packed;
	return STATUS_OK;
}

void packed_destroy(struct packed *packed)
{
	mem_free(packed->values);
	*packed = (struct packed){0};
}

/* One output's weights of a chunk, to where its kernel looks for them in the panel (see kernels.h, bf16.h). */
static void put_column(enum arithmetic arithmetic, void *panel, uint32_t column, uint32_t count,
		       const float *row)
{
	float *wide = panel;
	uint16_t *half = panel;
	switch (arithmetic) {
	case ARITHMETIC_FP32:
		for (uint32_t k = 0; k < count; k++)
			wide[(size_t)k * TILE_COLUMNS + column] = row[k];
		break;
	case ARITHMETIC_BF16_WEIGHTS:
		for (uint32_t k = 0; k < count; k++)
			half[(size_t)k * TILE_COLUMNS + column % 8 * 2 + column / 8] = bf16_round(row[k]);
		break;
	case ARITHMETIC_BF16:
		for (uint32_t k = 0; k < count; k++)
			half[(size_t)(k / 2) * 2 * TILE_COLUMNS + column * 2 + k % 2] = bf16_round(row[k]);
		break;
	}
}

void packed_put(struct packed *packed, uint32_t first, uint32_t count, const float *rows)
{
	for (uint32_t begin = 0; begin < packed->inputs; begin += PACK_DEPTH) {
		uint32_t depth = chunk_depth(packed, begin);
		uint32_t there = packed->inputs - begin < depth ? packed->inputs - begin : depth;
		for (uint32_t i = 0; i < count; i++)
			put_column(packed->arithmetic,
				   (char *)packed->values +
				       panel_at(packed, begin, first + i) * weight_bytes(packed->arithmetic),
				   (first + i) % TILE_COLUMNS, there,
				   rows + (size_t)i * packed->inputs + begin);
	}
}

static void multiply_fp32(const struct packed *packed, const struct kernels *kernels, uint32_t rows,
			  const float *a, size_t a_stride, float *c, size_t c_stride)
{
	for (uint32_t begin = 0; begin < packed->inputs; begin += PACK_DEPTH) {
		uint32_t depth = chunk_depth(packed, begin);
		for (uint32_t column = 0; column < packed->padded; column += TILE_COLUMNS) {
			size_t at = panel_at(packed, begin, column);
			for (uint32_t row = 0; row < rows; row += TILE_ROWS) {
				uint32_t height = rows - row < TILE_ROWS ? rows - row : TILE_ROWS;
				const float *from = a + row * a_stride + begin;
				float *to = c + row * c_stride + column;
				if (packed->arithmetic == ARITHMETIC_FP32)
					kernels->tile(height, depth, from, a_stride,
						      (const float *)packed->values + at, TILE_COLUMNS, to,
						      c_stride, begin > 0);
				else
					kernels->tile_bf16(
					    height, depth, from, a_stride,
					    (const uint32_t *)((const uint16_t *)packed->values + at), to,
					    c_stride, begin > 0);
			}
		}
	}
}

/* Tiles of 16 rows read on to the next multiple of 16. */
size_t packed_scratch_halves(uint32_t rows, uint32_t inputs)
{
	return (((size_t)rows + 15) / 16 * 16) * pad_depth(inputs);
}

static void multiply_pairs(const struct packed *packed, const struct bf16_product *pairs, uint32_t rows,
			   const float *a, size_t a_stride, float *c, size_t c_stride, uint16_t *rounded)
{
	size_t stride = packed->depth;
	for (uint32_t row = 0; row < rows; row++) {
		for (uint32_t k = 0; k < packed->inputs; k++)
			rounded[row * stride + k] = bf16_round(a[row * a_stride + k]);
		for (uint32_t k = packed->inputs; k < packed->depth; k++)
			rounded[row * stride + k] = 0;
	}
	pairs->begin();
	for (uint32_t begin = 0; begin < packed->depth; begin += PACK_DEPTH) {
		uint32_t depth = chunk_depth(packed, begin), panels;
		for (uint32_t column = 0; column < packed->padded; column += panels * TILE_COLUMNS) {
			const uint16_t *panel =
			    (const uint16_t *)packed->values + panel_at(packed, begin, column);
			panels = (packed->padded - column) / TILE_COLUMNS;
			panels = panels < pairs->panels_max ? panels : pairs->panels_max;
			for (uint32_t row = 0; row < rows; row += pairs->rows_max)
				pairs->tile(rows - row < pairs->rows_max ? rows - row : pairs->rows_max,
					    panels, depth, rounded + row * stride + begin, stride, panel,
					    c + row * c_stride + column, c_stride, begin > 0);
		}
	}
	pairs->end();
}

void packed_multiply(const struct packed *packed, const struct product *product, uint32_t rows,
		     const float *a, size_t a_stride, float *c, size_t c_stride, uint16_t *scratch)
{
	if (packed->arithmetic == ARITHMETIC_BF16)
		multiply_pairs(packed, product->pairs, rows, a, a_stride, c, c_stride, scratch);
	else
		multiply_fp32(packed, product->kernels, rows, a, a_stride, c, c_stride);
}
