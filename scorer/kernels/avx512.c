/* avx512.c - the product kernel with AVX-512: 12 x 16 register tiles, a broadcast folded into each fused
 * multiply-add. The rest is memory-bound and stays with eight lanes. kernels.c checks its bits against
 * plain C before it is used. Caller: cpu.c through the table, on CPUs that have it. */
#include "scorer/kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define TARGET_INLINE static inline __attribute__((target("avx512f,avx2,fma"), always_inline))

/* A line of bf16 weights: its eight words in both halves, shifted up in the lower, masked in the upper. */
TARGET_INLINE __m512 line(const bool bf16, const float *b)
{
	if (!bf16)
		return _mm512_loadu_ps(b);
	__m512i words = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)b));
	__m512i counts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(16), 0);
	words = _mm512_sllv_epi32(words, counts);
	return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(-65536)));
}

TARGET_INLINE void tile_rows(const size_t rows, const bool bf16, size_t depth, const float *a,
			     size_t a_stride, const float *b, size_t b_stride, float *c, size_t c_stride,
			     bool accumulate)
{
	__m512 sum[TILE_ROWS];
#pragma GCC unroll 12
	for (size_t row = 0; row < rows; row++)
		sum[row] = accumulate ? _mm512_loadu_ps(c + row * c_stride) : _mm512_setzero_ps();
	for (size_t k = 0; k < depth; k++) {
		__m512 value = line(bf16, b);
		b += b_stride;
#pragma GCC unroll 12
		for (size_t row = 0; row < rows; row++)
			sum[row] = _mm512_fmadd_ps(_mm512_set1_ps(a[row * a_stride + k]), value, sum[row]);
	}
#pragma GCC unroll 12
	for (size_t row = 0; row < rows; row++)
		_mm512_storeu_ps(c + row * c_stride, sum[row]);
}

#define ROWS(n, bf16, b_stride)                                                                            \
	case n: tile_rows(n, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;
#define TILE(bf16, b_stride)                                                                               \
	switch (rows) {                                                                                    \
	ROWS(1, bf16, b_stride) ROWS(2, bf16, b_stride) ROWS(3, bf16, b_stride) ROWS(4, bf16, b_stride)    \
	ROWS(5, bf16, b_stride) ROWS(6, bf16, b_stride) ROWS(7, bf16, b_stride) ROWS(8, bf16, b_stride)    \
	ROWS(9, bf16, b_stride) ROWS(10, bf16, b_stride) ROWS(11, bf16, b_stride) ROWS(12, bf16, b_stride) \
	default: break;                                                                                    \
	}

TARGET static void tile(size_t rows, size_t depth, const float *a, size_t a_stride, const float *b,
			size_t b_stride, float *c, size_t c_stride, bool accumulate)
{
	TILE(false, b_stride)
}

TARGET static void tile_bf16(size_t rows, size_t depth, const float *a, size_t a_stride,
			     const uint32_t *words, float *c, size_t c_stride, bool accumulate)
{
	const float *b = (const float *)words;  /* loaded as vectors only */
	TILE(true, TILE_COLUMNS / 2)
}

static void rms_norm(size_t count, const float *x, const float *weight, float epsilon, float *out)
{
	kernels_avx2.rms_norm(count, x, weight, epsilon, out);
}

static float softmax(size_t count, float scale, float *s)
{
	return kernels_avx2.softmax(count, scale, s);
}

static void swiglu(size_t count, float *gate, const float *up)
{
	kernels_avx2.swiglu(count, gate, up);
}

const struct kernels kernels_avx512 = {
	.name = "AVX-512",
	.need = "avx512f, avx2, fma",
	.tile = tile,
	.tile_bf16 = tile_bf16,
	.rms_norm = rms_norm,
	.softmax = softmax,
	.swiglu = swiglu,
};
#endif
