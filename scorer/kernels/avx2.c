/* avx2.c - the kernels with AVX2 and FMA: 6 x 16 register tiles, eight lanes elsewhere.
 *
 * Twelve accumulators hide the latency of two fused multiply-adds a cycle; two loads of b and one
 * broadcast of a per row fit the two load ports. Caller: cpu.c through the table, on CPUs that have it. */
#include "scorer/kernels/kernels.h"

#if defined(__x86_64__)
#include "scorer/kernels/lanes.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define TARGET_INLINE static inline __attribute__((target("avx2,fma"), always_inline))

/* rows and bf16 are constants at every call, so the arrays live in registers. A line of bf16 weights is
 * one load, a shift and a mask: nothing crosses lanes. */
TARGET_INLINE void tile_rows(const size_t rows, const bool bf16, size_t depth, const float *a,
			     size_t a_stride, const float *b, size_t b_stride, float *c, size_t c_stride,
			     bool accumulate)
{
	__m256 low[6], high[6];
#pragma GCC unroll 6
	for (size_t row = 0; row < rows; row++) {
		low[row] = accumulate ? _mm256_loadu_ps(c + row * c_stride) : _mm256_setzero_ps();
		high[row] = accumulate ? _mm256_loadu_ps(c + row * c_stride + 8) : _mm256_setzero_ps();
	}
	for (size_t k = 0; k < depth; k++) {
		__m256 b_low = _mm256_loadu_ps(b), b_high;
		if (bf16) {
			__m256i words = _mm256_castps_si256(b_low);
			b_low = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
			b_high = _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(-65536)));
		} else {
			b_high = _mm256_loadu_ps(b + 8);
		}
		b += b_stride;
#pragma GCC unroll 6
		for (size_t row = 0; row < rows; row++) {
			__m256 value = _mm256_broadcast_ss(a + row * a_stride + k);
			low[row] = _mm256_fmadd_ps(value, b_low, low[row]);
			high[row] = _mm256_fmadd_ps(value, b_high, high[row]);
		}
	}
#pragma GCC unroll 6
	for (size_t row = 0; row < rows; row++) {
		_mm256_storeu_ps(c + row * c_stride, low[row]);
		_mm256_storeu_ps(c + row * c_stride + 8, high[row]);
	}
}

#define TILE(bf16, b_stride)                                                                               \
	for (; rows > 6; rows -= 6, a += 6 * a_stride, c += 6 * c_stride)                                  \
		tile_rows(6, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate);              \
	switch (rows) {                                                                                    \
	case 6: tile_rows(6, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;       \
	case 5: tile_rows(5, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;       \
	case 4: tile_rows(4, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;       \
	case 3: tile_rows(3, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;       \
	case 2: tile_rows(2, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;       \
	case 1: tile_rows(1, bf16, depth, a, a_stride, b, b_stride, c, c_stride, accumulate); break;       \
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

TARGET static void rms_norm(size_t count, const float *x, const float *weight, float epsilon, float *out)
{
	size_t whole = count - count % LANES;
	__m256 sums = _mm256_setzero_ps();
	for (size_t i = 0; i < whole; i += LANES) {
		__m256 value = _mm256_loadu_ps(x + i);
		sums = _mm256_fmadd_ps(value, value, sums);
	}
	float lane[LANES];
	_mm256_storeu_ps(lane, sums);
	for (size_t i = whole; i < count; i++)
		lane[i - whole] = fmaf(x[i], x[i], lane[i - whole]);
	float scale = rms_scale(lanes_sum(lane), count, epsilon);
	for (size_t i = 0; i < count; i++)
		out[i] = x[i] * scale * weight[i];
}

TARGET_INLINE __m256 exp_vector(__m256 x)
{
	x = _mm256_max_ps(x, _mm256_set1_ps(-EXP_LIMIT));
	x = _mm256_min_ps(x, _mm256_set1_ps(EXP_LIMIT));
	__m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(EXP_LOG2E)),
				   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_HIGH), x);
	r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_LOW), r);
	__m256 p = _mm256_fmadd_ps(_mm256_set1_ps(EXP_P0), r, _mm256_set1_ps(EXP_P1));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P2));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P3));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P4));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P5));
	p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1));
	__m256i bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
	return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23)));
}

TARGET static float softmax(size_t count, float scale, float *s)
{
	size_t whole = count - count % LANES;
	float max = s[0];
	if (whole) {
		__m256 maxima = _mm256_loadu_ps(s);
		for (size_t i = LANES; i < whole; i += LANES)
			maxima = _mm256_max_ps(maxima, _mm256_loadu_ps(s + i));
		float lane[LANES];
		_mm256_storeu_ps(lane, maxima);
		for (size_t i = 0; i < LANES; i++)
			max = lane[i] > max ? lane[i] : max;
	}
	for (size_t i = whole; i < count; i++)
		max = s[i] > max ? s[i] : max;

	float shift = -(max * scale);
	__m256 sums = _mm256_setzero_ps();
	for (size_t i = 0; i < whole; i += LANES) {
		__m256 value = exp_vector(_mm256_fmadd_ps(_mm256_loadu_ps(s + i), _mm256_set1_ps(scale),
							  _mm256_set1_ps(shift)));
		_mm256_storeu_ps(s + i, value);
		sums = _mm256_add_ps(sums, value);
	}
	float lane[LANES];
	_mm256_storeu_ps(lane, sums);
	for (size_t i = whole; i < count; i++) {
		s[i] = lane_exp(fmaf(s[i], scale, shift));
		lane[i - whole] += s[i];
	}
	return lanes_sum(lane);
}

TARGET static void swiglu(size_t count, float *gate, const float *up)
{
	size_t whole = count - count % LANES;
	for (size_t i = 0; i < whole; i += LANES) {
		__m256 g = _mm256_loadu_ps(gate + i);
		__m256 negative = _mm256_xor_ps(g, _mm256_set1_ps(-0.0f));
		__m256 sigmoid = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1), exp_vector(negative)));
		_mm256_storeu_ps(gate + i, _mm256_mul_ps(sigmoid, _mm256_loadu_ps(up + i)));
	}
	for (size_t i = whole; i < count; i++)
		gate[i] = lane_swiglu(gate[i], up[i]);
}

const struct kernels kernels_avx2 = {
	.name = "AVX2",
	.need = "avx2, fma",
	.tile = tile,
	.tile_bf16 = tile_bf16,
	.rms_norm = rms_norm,
	.softmax = softmax,
	.swiglu = swiglu,
};
#endif
