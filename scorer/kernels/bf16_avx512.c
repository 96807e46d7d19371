/* bf16_avx512.c - bf16 products with AVX512_BF16: 12 x 16 register tiles, two inputs an instruction.
 *
 * The same design as avx512.c; a pair of inputs of a row is one 32-bit broadcast. bf16.c checks it before
 * it is used, and tests run this very source with the instruction spelled out in C.
 * Caller: cpu.c through the table, on CPUs that have it. */
#include "scorer/kernels/bf16.h"

#if defined(__x86_64__)
#ifndef EMULATED_INSTRUCTIONS           /* a test's own header comes first */
#include <immintrin.h>
#define TARGET __attribute__((target("avx512f,avx512bf16")))
#define TARGET_INLINE static inline __attribute__((target("avx512f,avx512bf16"), always_inline))
#endif

TARGET_INLINE void tile_rows(const size_t rows, size_t depth, const uint16_t *a, size_t a_stride,
			     const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	__m512 sum[12];
#pragma GCC unroll 12
	for (size_t row = 0; row < rows; row++)
		sum[row] = accumulate ? _mm512_loadu_ps(c + row * c_stride) : _mm512_setzero_ps();
	for (size_t k = 0; k < depth; k += 2, b += 2 * BF16_COLUMNS) {
		__m512bh weights = (__m512bh)_mm512_loadu_si512(b);
#pragma GCC unroll 12
		for (size_t row = 0; row < rows; row++) {
			int32_t pair;
			memcpy(&pair, a + row * a_stride + k, sizeof pair);
			sum[row] = _mm512_dpbf16_ps(sum[row], (__m512bh)_mm512_set1_epi32(pair), weights);
		}
	}
#pragma GCC unroll 12
	for (size_t row = 0; row < rows; row++)
		_mm512_storeu_ps(c + row * c_stride, sum[row]);
}

TARGET static void tile(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
			const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	(void)panels;                   /* always 1 */
	switch (rows) {
#define ROWS(n) case n: tile_rows(n, depth, a, a_stride, b, c, c_stride, accumulate); break;
	ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12)
#undef ROWS
	default: break;
	}
}

static void nothing(void)
{
}

const struct bf16_product bf16_dot_avx512 = {
	"AVX512_BF16", 12, 1, nothing, nothing, tile, &bf16_dot_plain,
};
#endif
