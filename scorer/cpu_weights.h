/* cpu_weights.h - a weight matrix in the order in which the product kernel reads it.
 *
 * W[N, K] (rows are outputs) becomes chunks of at most PACK_DEPTH inputs, in each chunk panels of 16
 * outputs, in each panel one line of 16 weights per input (or of 16 pairs per two inputs): a panel of a
 * chunk fits the first-level cache and everything is read forwards. Outputs past N and inputs past K are
 * zero. Immutable once packed; any thread.
 *
 * Why not a library: without AVX-512, oneDNN 2.6.3 gives a row other bits for every height of the batch
 * (all 52 heights tried differed from 512 rows), which fixed tiles would pay for with padding; this is as
 * fast (tests/bench/scorer/bench_engine.c) and knows no tiles. */
#ifndef EXITPOLL_SCORER_CPU_WEIGHTS_H
#define EXITPOLL_SCORER_CPU_WEIGHTS_H

#include "scorer/backend.h"
#include "scorer/kernels/bf16.h"
#include "scorer/kernels/kernels.h"

enum { PACK_DEPTH = 256 };

/* How a row meets the weights. Rounding a weight or an activation to bf16 keeps 8 significant bits
 * (relative error at most 2^-9); sums are fp32 in all three. */
enum arithmetic {
	ARITHMETIC_FP32,                /* nothing is rounded */
	ARITHMETIC_BF16_WEIGHTS,        /* weights are; products and sums are those of fp32 */
	ARITHMETIC_BF16,                /* weights and the rows that meet them are, by `pairs` */
};

struct product {
	enum arithmetic arithmetic;
	const struct kernels *kernels;
	const struct bf16_product *pairs;       /* ARITHMETIC_BF16 */
};

struct packed {
	enum arithmetic arithmetic;
	uint32_t inputs, outputs;       /* K, N */
	uint32_t depth;                 /* K as stored: for pairs up to a multiple of BF16_STEP */
	uint32_t padded;                /* N up to a multiple of TILE_COLUMNS: the width of a result row */
	void *values;                   /* [chunks][padded / 16][depth][16] fp32 or bf16, 64-byte aligned */
};

static inline uint32_t pad_columns(uint32_t count)
{
	return (count + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
}

enum status packed_create(enum arithmetic arithmetic, uint32_t inputs, uint32_t outputs, struct packed *out,
			  struct error *error);
void packed_destroy(struct packed *packed);             /* zeroed ok */

/* Puts outputs [first, first + count) there: rows[count, inputs]; first is a multiple of TILE_COLUMNS
 * unless the rows before it in the panel are already there. Different panels from different threads. */
void packed_put(struct packed *packed, uint32_t first, uint32_t count, const float *rows);

/* Halves of scratch for products of up to `rows` rows of up to `inputs` inputs in bf16. */
size_t packed_scratch_halves(uint32_t rows, uint32_t inputs);

/* c[rows, padded] = a[rows, inputs] x W^T; a_stride in floats, c_stride >= padded. The arithmetic is that
 * of the packing; scratch may be NULL unless it is ARITHMETIC_BF16. */
void packed_multiply(const struct packed *packed, const struct product *product, uint32_t rows,
		     const float *a, size_t a_stride, float *c, size_t c_stride, uint16_t *scratch);

#endif
