/* bf16.c - bf16 products in plain C, and which of the CPU's own is used.
 *
 * Idea: the plain versions follow the manual's order of operations, subnormals as zero. A CPU's product is
 * used only after it has kept the rule of bf16.h on a small product in this very process, so a kernel
 * that was never run on such a CPU, or a CPU that computes otherwise, costs speed and never a score.
 * Caller: cpu.c at creation. */
#include "scorer/kernels/bf16.h"

#include <float.h>

static float flush(float x)
{
	return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

static float fused(uint16_t a, uint16_t b, float sum)
{
	return flush(fmaf(flush(bf16_widen(a)), flush(bf16_widen(b)), flush(sum)));
}

static void nothing(void)
{
}

static float dot_sum(size_t depth, const uint16_t *a, const uint16_t *column, float sum)
{
	for (size_t k = 0; k < depth; k += 2) {
		const uint16_t *pair = column + k * BF16_COLUMNS;
		sum = fused(a[k + 1], pair[1], sum);
		sum = fused(a[k], pair[0], sum);
	}
	return sum;
}

static float tile_sum(size_t depth, const uint16_t *a, const uint16_t *column, float sum)
{
	for (size_t begin = 0; begin < depth; begin += BF16_STEP) {
		float even = 0, odd = 0;
		for (size_t k = begin; k < begin + BF16_STEP; k += 2) {
			const uint16_t *pair = column + k * BF16_COLUMNS;
			even = fused(a[k], pair[0], even);
			odd = fused(a[k + 1], pair[1], odd);
		}
		sum = flush(flush(sum) + flush(even + odd));
	}
	return sum;
}

#define EACH_SUM(function)                                                                                 \
	for (size_t row = 0; row < rows; row++)                                                            \
		for (size_t i = 0; i < panels * BF16_COLUMNS; i++) {                                       \
			const uint16_t *column = b + i / BF16_COLUMNS * BF16_COLUMNS * depth +             \
						 i % BF16_COLUMNS * 2;                                     \
			float *sum = c + row * c_stride + i;                                               \
			*sum = function(depth, a + row * a_stride, column, accumulate ? *sum : 0);         \
		}

static void dot_plain(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
		      const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	EACH_SUM(dot_sum)
}

static void tile_plain(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
		       const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	EACH_SUM(tile_sum)
}

const struct bf16_product bf16_dot_plain = {
	"plain C in the order of VDPBF16PS", 12, 1, nothing, nothing, dot_plain, &bf16_dot_plain,
};
const struct bf16_product bf16_tile_plain = {
	"plain C in the order of TDPBF16PS", 32, 2, nothing, nothing, tile_plain, &bf16_tile_plain,
};

size_t bf16_available(const struct bf16_product *out[2])
{
	size_t count = 0;
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (bf16_amx_permitted())
		out[count++] = &bf16_tile_amx;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16"))
		out[count++] = &bf16_dot_avx512;
#endif
	(void)out;
	return count;
}

enum { CHECK_DEPTH = 96, CHECK_ROWS = 32, CHECK_PANELS = 2, CHECK_COLUMNS = CHECK_PANELS * BF16_COLUMNS };

/* Odd numbers of no special form, of many magnitudes; the same everywhere. */
static void fill(uint16_t *values, size_t count, unsigned seed)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525u + 1013904223u;
		float x = (float)(int)(seed >> 8) / 8388608.0f - 1.0f;
		values[i] = bf16_round(ldexpf(x, (int)(seed % 13) - 6));
	}
}

/* Rows [first, first + count) of the product, two calls that split the depth. */
static void multiply(const struct bf16_product *product, const uint16_t *a, const uint16_t *b, size_t first,
		     size_t count, float *c)
{
	enum { CUT = BF16_STEP };
	uint16_t head[CHECK_PANELS * CUT * BF16_COLUMNS];
	uint16_t tail[CHECK_PANELS * (CHECK_DEPTH - CUT) * BF16_COLUMNS];
	for (size_t p = 0; p < CHECK_PANELS; p++) {
		const uint16_t *panel = b + p * CHECK_DEPTH * BF16_COLUMNS;
		memcpy(head + p * CUT * BF16_COLUMNS, panel, CUT * BF16_COLUMNS * sizeof *b);
		memcpy(tail + p * (CHECK_DEPTH - CUT) * BF16_COLUMNS, panel + CUT * BF16_COLUMNS,
		       (CHECK_DEPTH - CUT) * BF16_COLUMNS * sizeof *b);
	}
	product->begin();
	for (size_t p = 0; p < CHECK_PANELS; p += product->panels_max) {
		size_t at = p * BF16_COLUMNS;
		product->tile(count, product->panels_max, CUT, a + first * CHECK_DEPTH, CHECK_DEPTH,
			      head + p * CUT * BF16_COLUMNS, c + at, CHECK_COLUMNS, false);
		product->tile(count, product->panels_max, CHECK_DEPTH - CUT, a + first * CHECK_DEPTH + CUT,
			      CHECK_DEPTH, tail + p * (CHECK_DEPTH - CUT) * BF16_COLUMNS, c + at,
			      CHECK_COLUMNS, true);
	}
	product->end();
}

bool bf16_check(const struct bf16_product *product, bool *same_bits)
{
	/* 16 rows more, since tiles read on to the next multiple. */
	uint16_t a[(CHECK_ROWS + 16) * CHECK_DEPTH], b[CHECK_PANELS * CHECK_DEPTH * BF16_COLUMNS];
	float truth[CHECK_ROWS * CHECK_COLUMNS], alone[CHECK_ROWS * CHECK_COLUMNS];
	float c[CHECK_ROWS * CHECK_COLUMNS];
	fill(a, CHECK_ROWS * CHECK_DEPTH, 1);
	memset(a + CHECK_ROWS * CHECK_DEPTH, 0, 16 * CHECK_DEPTH * sizeof a[0]);
	fill(b, sizeof b / sizeof b[0], 2);
	for (size_t row = 0; row < CHECK_ROWS; row++) {
		multiply(product->truth, a, b, row, 1, truth + row * CHECK_COLUMNS);
		multiply(product, a, b, row, 1, alone + row * CHECK_COLUMNS);
	}
	*same_bits = memcmp(truth, alone, sizeof truth) == 0;
	for (size_t i = 0; i < CHECK_ROWS * CHECK_COLUMNS; i++) {
		const uint16_t *row = a + i / CHECK_COLUMNS * CHECK_DEPTH;
		size_t column = i % CHECK_COLUMNS;
		double size = 0;
		for (size_t k = 0; k < CHECK_DEPTH; k++) {
			size_t at = (column / BF16_COLUMNS * CHECK_DEPTH + k / 2 * 2) * BF16_COLUMNS +
				    column % BF16_COLUMNS * 2 + k % 2;
			size += fabs((double)bf16_widen(row[k]) * bf16_widen(b[at]));
		}
		if (!(fabs((double)truth[i] - alone[i]) <= CHECK_DEPTH * 0x1p-23 * size))
			return false;
	}
	for (size_t height = 1; height <= product->rows_max; height++)
		for (size_t first = 0; first + height <= CHECK_ROWS; first += height) {
			multiply(product, a, b, first, height, c);
			if (memcmp(c, alone + first * CHECK_COLUMNS, height * CHECK_COLUMNS * sizeof c[0]))
				return false;
		}
	return true;
}

const struct bf16_product *bf16_best(const char **reason)
{
	const struct bf16_product *available[2];
	size_t count = bf16_available(available);
	*reason = "neither AMX nor AVX512_BF16";
	for (size_t i = 0; i < count; i++) {
		bool same_bits;
		if (!bf16_check(available[i], &same_bits)) {
			*reason = "the CPU's bf16 products failed the check at start";
			continue;
		}
		if (i)
			return available[i];            /* the reason stands: a better one failed */
		*reason = same_bits ? "checked at start: the manual's bits"
				    : "checked at start: its own rounding, within the rule";
		return available[i];
	}
	return NULL;
}
