/* gcn_kernels.c - see gcn_kernels.h. */
#include "graph-updater/gcn_kernels.h"

#include <math.h>
#include <stddef.h>

int16_t gcn_round_quotient(int64_t sum, uint32_t degree)
{
	return (int16_t)rint((double)sum / (double)degree);
}

enum { UNIT_SHIFT = 13 };

static bool scalar_add_whole(void *sums, const int16_t *row, uint32_t dimensions)
{
	int32_t *whole = sums;

	for (uint32_t i = 0; i < dimensions; i++)
		whole[i] += row[i];
	return true;
}

static bool scalar_subtract_whole(void *sums, const int16_t *row, uint32_t dimensions)
{
	int32_t *whole = sums;

	for (uint32_t i = 0; i < dimensions; i++)
		whole[i] -= row[i];
	return true;
}

static bool scalar_add_units(void *sums, const int16_t *row, uint32_t dimensions)
{
	int16_t *units = sums;

	for (uint32_t i = 0; i < dimensions; i++)
		units[i] = (int16_t)(units[i] + (row[i] >> UNIT_SHIFT));
	return true;
}

static bool scalar_subtract_units(void *sums, const int16_t *row, uint32_t dimensions)
{
	int16_t *units = sums;

	for (uint32_t i = 0; i < dimensions; i++)
		units[i] = (int16_t)(units[i] - (row[i] >> UNIT_SHIFT));
	return true;
}

static bool scalar_change_rest(int16_t *rest, const int16_t *row, int sign, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i++)
		if (rest[i] + sign * row[i] > INT16_MAX || rest[i] + sign * row[i] < INT16_MIN)
			return false;
	for (uint32_t i = 0; i < dimensions; i++)
		rest[i] = (int16_t)(rest[i] + sign * row[i]);
	return true;
}

static bool scalar_add_rest(void *sums, const int16_t *row, uint32_t dimensions)
{
	return scalar_change_rest(sums, row, 1, dimensions);
}

static bool scalar_subtract_rest(void *sums, const int16_t *row, uint32_t dimensions)
{
	return scalar_change_rest(sums, row, -1, dimensions);
}

static inline void scalar_refresh(enum gcn_form form, const void *sums, uint32_t degree, const int16_t *stored,
				  uint32_t dimensions, int16_t *fresh, int16_t *residual,
				  int64_t *fresh_square, int64_t *residual_square)
{
	const int32_t *whole = sums;
	const int16_t *half = sums;
	int64_t ff = 0, rr = 0;

	for (uint32_t i = 0; i < dimensions; i++) {
		int64_t sum = form == GCN_WHOLE ? whole[i] : form == GCN_UNITS ? half[i] * (1 << UNIT_SHIFT)
			      : half[i] + (int64_t)degree * stored[i];
		fresh[i] = gcn_round_quotient(sum, degree);
		residual[i] = (int16_t)(fresh[i] - stored[i]);
		ff += (int64_t)fresh[i] * fresh[i];
		rr += (int64_t)residual[i] * residual[i];
	}
	*fresh_square = ff;
	*residual_square = rr;
}

/* One function a form, for both paths. */
#define REFRESH(target, path, name, form) \
	target static void path##_refresh_##name(const void *sums, uint32_t degree, const int16_t *stored, \
						 uint32_t dimensions, int16_t *fresh, int16_t *residual, \
						 int64_t *fresh_square, int64_t *residual_square) \
	{ \
		path##_refresh(form, sums, degree, stored, dimensions, fresh, residual, fresh_square, \
			       residual_square); \
	}

REFRESH(, scalar, whole, GCN_WHOLE)
REFRESH(, scalar, units, GCN_UNITS)
REFRESH(, scalar, rest, GCN_REST)

static void scalar_settle(int16_t *rest, uint32_t degree, const int16_t *residual, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i++)
		rest[i] = (int16_t)(rest[i] - (int64_t)degree * residual[i]);
}

static int64_t scalar_dot(const int16_t *a, const int16_t *b, uint32_t dimensions)
{
	int64_t dot = 0;

	for (uint32_t i = 0; i < dimensions; i++)
		dot += (int64_t)a[i] * b[i];
	return dot;
}

const struct gcn_kernels gcn_kernels_scalar = {
	{scalar_add_whole, scalar_add_units, scalar_add_rest},
	{scalar_subtract_whole, scalar_subtract_units, scalar_subtract_rest},
	{scalar_refresh_whole, scalar_refresh_units, scalar_refresh_rest},
	scalar_settle, scalar_dot,
};

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

AVX2 static bool avx2_add_whole(void *sums, const int16_t *row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i += 8) {
		__m256i wide = _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)(row + i)));
		__m256i *sum = (__m256i *)((int32_t *)sums + i);
		_mm256_store_si256(sum, _mm256_add_epi32(_mm256_load_si256(sum), wide));
	}
	return true;
}

AVX2 static bool avx2_subtract_whole(void *sums, const int16_t *row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i += 8) {
		__m256i wide = _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)(row + i)));
		__m256i *sum = (__m256i *)((int32_t *)sums + i);
		_mm256_store_si256(sum, _mm256_sub_epi32(_mm256_load_si256(sum), wide));
	}
	return true;
}

AVX2 static inline __m256i load_row(const int16_t *row)
{
	return _mm256_load_si256((const __m256i *)row);
}

AVX2 static bool avx2_add_units(void *sums, const int16_t *row, uint32_t dimensions)
{
	for (int16_t *at = sums; dimensions; dimensions -= 16, at += 16, row += 16)
		_mm256_store_si256((__m256i *)at, _mm256_add_epi16(load_row(at), _mm256_srai_epi16(
						   load_row(row), UNIT_SHIFT)));
	return true;
}

AVX2 static bool avx2_subtract_units(void *sums, const int16_t *row, uint32_t dimensions)
{
	for (int16_t *at = sums; dimensions; dimensions -= 16, at += 16, row += 16)
		_mm256_store_si256((__m256i *)at, _mm256_sub_epi16(load_row(at), _mm256_srai_epi16(
						   load_row(row), UNIT_SHIFT)));
	return true;
}

/* A sum that saturates differs from the one that wraps; what has wrapped is undone exactly. */
AVX2 static bool avx2_add_rest(void *sums, const int16_t *row, uint32_t dimensions)
{
	int16_t *rest = sums;
	__m256i differ = _mm256_setzero_si256();

	for (uint32_t i = 0; i < dimensions; i += 16) {
		__m256i old = load_row(rest + i), more = load_row(row + i), sum = _mm256_add_epi16(old, more);
		differ = _mm256_or_si256(differ, _mm256_xor_si256(sum, _mm256_adds_epi16(old, more)));
		_mm256_store_si256((__m256i *)(rest + i), sum);
	}
	if (__builtin_expect(_mm256_testz_si256(differ, differ), 1))
		return true;
	for (uint32_t i = 0; i < dimensions; i += 16)
		_mm256_store_si256((__m256i *)(rest + i),
				   _mm256_sub_epi16(load_row(rest + i), load_row(row + i)));
	return false;
}

AVX2 static bool avx2_subtract_rest(void *sums, const int16_t *row, uint32_t dimensions)
{
	int16_t *rest = sums;
	__m256i differ = _mm256_setzero_si256();

	for (uint32_t i = 0; i < dimensions; i += 16) {
		__m256i old = load_row(rest + i), less = load_row(row + i), sum = _mm256_sub_epi16(old, less);
		differ = _mm256_or_si256(differ, _mm256_xor_si256(sum, _mm256_subs_epi16(old, less)));
		_mm256_store_si256((__m256i *)(rest + i), sum);
	}
	if (__builtin_expect(_mm256_testz_si256(differ, differ), 1))
		return true;
	for (uint32_t i = 0; i < dimensions; i += 16)
		_mm256_store_si256((__m256i *)(rest + i),
				   _mm256_add_epi16(load_row(rest + i), load_row(row + i)));
	return false;
}

AVX2 static void avx2_settle(int16_t *rest, uint32_t degree, const int16_t *residual, uint32_t dimensions)
{
	/* Modulo 2^16, which is enough: the result fits. */
	__m256i factor = _mm256_set1_epi16((int16_t)(uint16_t)degree);

	for (uint32_t i = 0; i < dimensions; i += 16)
		_mm256_store_si256((__m256i *)(rest + i),
				   _mm256_sub_epi16(load_row(rest + i),
						    _mm256_mullo_epi16(load_row(residual + i), factor)));
}

/* Eight lanes below 2^32, widened to four lanes of 64 bits. */
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

/* s - d h of eight values. */
AVX2 static inline __m256i eight_rests(enum gcn_form form, const void *sums, uint32_t i, __m256i degree,
				       __m256i stored)
{
	__m256i sum;

	if (form == GCN_WHOLE)
		sum = _mm256_load_si256((const __m256i *)((const int32_t *)sums + i));
	else
		sum = _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)((const int16_t *)sums + i)));
	if (form == GCN_REST)
		return sum;
	if (form == GCN_UNITS)
		sum = _mm256_slli_epi32(sum, UNIT_SHIFT);
	return _mm256_sub_epi32(sum, _mm256_mullo_epi32(degree, stored));
}

/* fresh - h = round((rest + p d) / d) - p, where p is 1 for an odd h and 0 for an even one: h - p is even, so
 * halves go where round(s / d) takes them. Floats are exact here as long as |rest| < FLOAT_REST_MAX: the
 * dividend is an integer below 2^23, so the rounding of its quotient is below 2^23 / d / 2^24 = 1 / 2d, and
 * a quotient that is not a half is at least that far from one. */
enum { FLOAT_REST_MAX = 1 << 22 };

AVX2 static inline __m256i eight_residuals(__m256i rest, __m256i stored, __m256i degree, __m256 divisor)
{
	__m256i odd = _mm256_and_si256(stored, _mm256_set1_epi32(1));
	__m256i share = _mm256_and_si256(degree, _mm256_sub_epi32(_mm256_setzero_si256(), odd));
	__m256 quotient = _mm256_div_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(rest, share)), divisor);

	return _mm256_sub_epi32(_mm256_cvtps_epi32(quotient), odd);     /* half to even */
}

/* False: a rest was too large for floats, and the results mean nothing. */
AVX2 static inline bool refresh_in_floats(enum gcn_form form, const void *sums, uint32_t degree,
					  const int16_t *stored, uint32_t dimensions, int16_t *fresh,
					  int16_t *residual, int64_t *fresh_square, int64_t *residual_square)
{
	__m256i degrees = _mm256_set1_epi32((int)degree), largest = _mm256_setzero_si256();
	__m256 divisor = _mm256_set1_ps((float)degree);
	__m256i ff = _mm256_setzero_si256(), rr = ff;

	/* A lane of madd is at most 2^29 (residuals reach 2^14): 64 dimensions stay below 2^32. */
	for (uint32_t i = 0; i < dimensions;) {
		uint32_t end = dimensions - i > 64 ? i + 64 : dimensions;
		__m256i ff_lanes = _mm256_setzero_si256(), rr_lanes = ff_lanes;
		for (; i < end; i += 16) {
			__m256i h = load_row(stored + i), change, now;
			__m256i low_h = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(h));
			__m256i high_h = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(h, 1));
			__m256i low = eight_rests(form, sums, i, degrees, low_h);
			__m256i high = eight_rests(form, sums, i + 8, degrees, high_h);
			if (form != GCN_REST)
				largest = _mm256_max_epi32(largest, _mm256_max_epi32(_mm256_abs_epi32(low),
										     _mm256_abs_epi32(high)));
			change = _mm256_packs_epi32(eight_residuals(low, low_h, degrees, divisor),
						    eight_residuals(high, high_h, degrees, divisor));
			change = _mm256_permute4x64_epi64(change, 0xd8);
			now = _mm256_add_epi16(h, change);
			_mm256_store_si256((__m256i *)(fresh + i), now);
			_mm256_store_si256((__m256i *)(residual + i), change);
			ff_lanes = _mm256_add_epi32(ff_lanes, _mm256_madd_epi16(now, now));
			rr_lanes = _mm256_add_epi32(rr_lanes, _mm256_madd_epi16(change, change));
		}
		ff = add_wide(ff, ff_lanes);
		rr = add_wide(rr, rr_lanes);
	}
	*fresh_square = sum_of_lanes(ff);
	*residual_square = sum_of_lanes(rr);
	largest = _mm256_cmpgt_epi32(largest, _mm256_set1_epi32(FLOAT_REST_MAX - 1));
	return _mm256_testz_si256(largest, largest);
}

AVX2 static inline void avx2_refresh(enum gcn_form form, const void *sums, uint32_t degree,
				     const int16_t *stored, uint32_t dimensions, int16_t *fresh,
				     int16_t *residual, int64_t *fresh_square, int64_t *residual_square)
{
	bool done = dimensions == 64    /* the default, with a loop that the compiler unrolls */
		? refresh_in_floats(form, sums, degree, stored, 64, fresh, residual, fresh_square, residual_square)
		: refresh_in_floats(form, sums, degree, stored, dimensions, fresh, residual, fresh_square,
				    residual_square);

	if (__builtin_expect(!done, 0))
		scalar_refresh(form, sums, degree, stored, dimensions, fresh, residual, fresh_square,
			       residual_square);
}

REFRESH(AVX2, avx2, whole, GCN_WHOLE)
REFRESH(AVX2, avx2, units, GCN_UNITS)
REFRESH(AVX2, avx2, rest, GCN_REST)

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

const struct gcn_kernels gcn_kernels_avx2 = {
	{avx2_add_whole, avx2_add_units, avx2_add_rest},
	{avx2_subtract_whole, avx2_subtract_units, avx2_subtract_rest},
	{avx2_refresh_whole, avx2_refresh_units, avx2_refresh_rest},
	avx2_settle, avx2_dot,
};

bool gcn_have_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
const struct gcn_kernels gcn_kernels_avx2 = {
	{scalar_add_whole, scalar_add_units, scalar_add_rest},
	{scalar_subtract_whole, scalar_subtract_units, scalar_subtract_rest},
	{scalar_refresh_whole, scalar_refresh_units, scalar_refresh_rest},
	scalar_settle, scalar_dot,
};

bool gcn_have_avx2(void)
{
	return false;
}
#endif

const struct gcn_kernels *gcn_kernels_best(void)
{
	return gcn_have_avx2() ? &gcn_kernels_avx2 : &gcn_kernels_scalar;
}
