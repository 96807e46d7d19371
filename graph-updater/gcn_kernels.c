/* gcn_kernels.c - see gcn_kernels.h. */
#include "graph-updater/gcn_kernels.h"

#include <math.h>
#include <stddef.h>

int16_t gcn_round_quotient(int64_t sum, uint32_t degree)
{
	return (int16_t)rint((double)sum / (double)degree);
}

static void scalar_add(int32_t *sums, const int16_t *row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i++)
		sums[i] += row[i];
}

static void scalar_subtract(int32_t *sums, const int16_t *row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i++)
		sums[i] -= row[i];
}

static void scalar_refresh(const int32_t *sums, uint32_t degree, const int16_t *stored, uint32_t dimensions,
			   int16_t *fresh, int16_t *residual, int64_t *fresh_square, int64_t *residual_square)
{
	int64_t ff = 0, rr = 0;

	for (uint32_t i = 0; i < dimensions; i++) {
		fresh[i] = gcn_round_quotient(sums[i], degree);
		residual[i] = (int16_t)(fresh[i] - stored[i]);
		ff += (int64_t)fresh[i] * fresh[i];
		rr += (int64_t)residual[i] * residual[i];
	}
	*fresh_square = ff;
	*residual_square = rr;
}

static int64_t scalar_dot(const int16_t *a, const int16_t *b, uint32_t dimensions)
{
	int64_t dot = 0;

	for (uint32_t i = 0; i < dimensions; i++)
		dot += (int64_t)a[i] * b[i];
	return dot;
}

const struct gcn_kernels gcn_kernels_scalar = {scalar_add, scalar_subtract, scalar_refresh, scalar_dot};

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

AVX2 static void avx2_add(int32_t *sums, const int16_t *row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i += 8) {
		__m256i wide = _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)(row + i)));
		__m256i *sum = (__m256i *)(sums + i);
		_mm256_store_si256(sum, _mm256_add_epi32(_mm256_load_si256(sum), wide));
	}
}

AVX2 static void avx2_subtract(int32_t *sums, const int16_t *row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i += 8) {
		__m256i wide = _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)(row + i)));
		__m256i *sum = (__m256i *)(sums + i);
		_mm256_store_si256(sum, _mm256_sub_epi32(_mm256_load_si256(sum), wide));
	}
}

/* Eight non-negative int32 lanes, widened and added to four int64 lanes. */
AVX2 static inline __m256i add_wide(__m256i sum, __m256i lanes)
{
	sum = _mm256_add_epi64(sum, _mm256_cvtepu32_epi64(_mm256_castsi256_si128(lanes)));
	return _mm256_add_epi64(sum, _mm256_cvtepu32_epi64(_mm256_extracti128_si256(lanes, 1)));
}

AVX2 static inline int64_t sum_of_lanes(__m256i lanes)
{
	__m128i half = _mm_add_epi64(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));

	return _mm_extract_epi64(half, 0) + _mm_extract_epi64(half, 1);
}

/* cvtpd_epi32 rounds as rint() does: half to even in the default mode. */
AVX2 static inline __m128i quotients(const int32_t *sums, __m256d degree)
{
	return _mm256_cvtpd_epi32(_mm256_div_pd(_mm256_cvtepi32_pd(_mm_load_si128((const __m128i *)sums)),
						degree));
}

AVX2 static void avx2_refresh(const int32_t *sums, uint32_t degree, const int16_t *stored,
			      uint32_t dimensions,
			      int16_t *fresh, int16_t *residual, int64_t *fresh_square,
				      int64_t *residual_square)
{
	__m256d divisor = _mm256_set1_pd((double)degree);
	__m256i ff = _mm256_setzero_si256(), rr = ff;

	for (uint32_t i = 0; i < dimensions; i += 16) {
		__m128i low = _mm_packs_epi32(quotients(sums + i, divisor), quotients(sums + i + 4, divisor));
		__m128i high = _mm_packs_epi32(quotients(sums + i + 8, divisor),
					       quotients(sums + i + 12, divisor));
		__m256i now = _mm256_set_m128i(high, low);
		__m256i change = _mm256_sub_epi16(now, _mm256_load_si256((const __m256i *)(stored + i)));
		_mm256_store_si256((__m256i *)(fresh + i), now);
		_mm256_store_si256((__m256i *)(residual + i), change);
		ff = add_wide(ff, _mm256_madd_epi16(now, now));
		rr = add_wide(rr, _mm256_madd_epi16(change, change));
	}
	*fresh_square = sum_of_lanes(ff);
	*residual_square = sum_of_lanes(rr);
}

AVX2 static int64_t avx2_dot(const int16_t *a, const int16_t *b, uint32_t dimensions)
{
	__m256i total = _mm256_setzero_si256();

	/* A lane of madd is at most 2^27: 128 dimensions (8 steps) stay below 2^31. */
	for (uint32_t i = 0; i < dimensions;) {
		__m256i lanes = _mm256_setzero_si256();
		uint32_t end = dimensions - i > 128 ? i + 128 : dimensions;
		for (; i < end; i += 16)
			lanes = _mm256_add_epi32(lanes,
						 _mm256_madd_epi16(_mm256_load_si256((const __m256i *)(a + i)),
									  _mm256_load_si256((const __m256i *)(b + i))));
		total = _mm256_add_epi64(total, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(lanes)));
		total = _mm256_add_epi64(total, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(lanes, 1)));
	}
	return sum_of_lanes(total);
}

const struct gcn_kernels gcn_kernels_avx2 = {avx2_add, avx2_subtract, avx2_refresh, avx2_dot};

bool gcn_have_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
const struct gcn_kernels gcn_kernels_avx2 = {scalar_add, scalar_subtract, scalar_refresh, scalar_dot};

bool gcn_have_avx2(void)
{
	return false;
}
#endif

const struct gcn_kernels *gcn_kernels_best(void)
{
	return gcn_have_avx2() ? &gcn_kernels_avx2 : &gcn_kernels_scalar;
}
