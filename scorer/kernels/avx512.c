/* avx512.c - the product kernel with AVX-512: 12 x 16 register tiles, a broadcast folded into each fused
 * multiply-add. The rest is memory-bound and stays with eight lanes. kernels.c checks its bits against
 * plain C before it is used. Caller: cpu.c through the table, on CPUs that have it. */
#include "scorer/kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define TARGET_INLINE static inline __attribute__((target("avx512f,avx2,fma"), always_inline))

TARGET_INLINE void tile_rows(const size_t rows, size_t depth, const float *a, size_t a_stride,
			     const float *b, size_t b_stride, float *c, size_t c_stride, bool accumulate)
{
	__m512 sum[TILE_ROWS];
#pragma GCC unroll 12
	for (size_t row = 0; row < rows; row++)
		sum[row] = accumulate ? _mm512_loadu_ps(c + row * c_stride) : _mm512_setzero_ps();
	for (size_t k = 0; k < depth; k++) {
		__m512 value = _mm512_loadu_ps(b);
		b += b_stride;
#pragma GCC unroll 12
		for (size_t row = 0; row < rows; row++)
			sum[row] = _mm512_fmadd_ps(_mm512_set1_ps(a[row * a_stride + k]), value, sum[row]);
	}
#pragma GCC unroll 12
	for (size_t row = 0; row < rows; row++)
		_mm512_storeu_ps(c + row * c_stride, sum[row]);
}

TARGET static void tile(size_t rows, size_t depth, const float *a, size_t a_stride, const float *b,
			size_t b_stride, float *c, size_t c_stride, bool accumulate)
{
	switch (rows) {
#define ROWS(n) case n: tile_rows(n, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;
	ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12)
#undef ROWS
	default: break;
	}
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
	.rms_norm = rms_norm,
	.softmax = softmax,
	.swiglu = swiglu,
};
#endif
