/* nearest_avx.c - the codes' loops in AVX2 and AVX-512 VNNI; see nearest_codes.h for what they compute.
 *
 * Half bytes are unsigned 0..15 and query values within +-127, so a pair of products is at most 3,810 and
 * eight of them (64 dimensions) fit 16 bits. Float operations are those of the plain version, one by one,
 * hence the same bits. Pure functions. */
#include "graph-updater/nearest_codes.h"

#include <stddef.h>

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2")))

enum { LINE_WORDS = 8, QUERIES_AT_ONCE = 4, SEGMENT_LINES = 4 };

/* ---- encode ---- */

AVX2 static float largest(const int16_t *row, uint32_t dimensions)
{
	__m256i most = _mm256_setzero_si256();
	__m128i half;

	for (uint32_t i = 0; i < dimensions; i += 16)
		most = _mm256_max_epi16(most, _mm256_abs_epi16(_mm256_loadu_si256((const __m256i *)(row + i))));
	half = _mm_max_epi16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
	/* minpos finds the least unsigned value: of 65535 - x that is the largest x. */
	half = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1)));
	return (float)(65535 - _mm_extract_epi16(half, 0));
}

/* Eight values: their bytes as 32-bit lanes; the rest of the upper plane is squared and added. */
AVX2_INLINE __m256i quantise(const int16_t *row, __m256 inverse, __m256 *squares)
{
	__m256 steps = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(
					     _mm_loadu_si128((const __m128i *)row))), inverse);
	__m256i value = _mm256_cvtps_epi32(_mm256_add_ps(_mm256_mul_ps(steps, _mm256_set1_ps(.5f)),
							 _mm256_set1_ps(127.5f)));
	__m256i level;
	__m256 rest;

	value = _mm256_max_epi32(_mm256_setzero_si256(), _mm256_min_epi32(value, _mm256_set1_epi32(255)));
	level = _mm256_sub_epi32(_mm256_slli_epi32(_mm256_srli_epi32(value, 4), 5), _mm256_set1_epi32(240));
	rest = _mm256_sub_ps(steps, _mm256_cvtepi32_ps(level));
	*squares = _mm256_add_ps(*squares, _mm256_mul_ps(rest, rest));
	return value;
}

/* The least bfloat16 that is not below the (positive) value, in the upper half. */
static uint32_t round_up(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof bits);
	return (bits + 0xffff) & 0xffff0000;
}

AVX2 static void avx2_encode(const int16_t *row, uint32_t dimensions, int64_t norm, uint32_t *head,
			     uint64_t *upper, uint64_t *lower)
{
	const uint64_t low_halves = 0x0f0f0f0f0f0f0f0f;
	float length, gain, four[4];
	__m256 squares = _mm256_setzero_ps(), inverse;
	uint32_t gain_bits;

	if (!norm) {
		memset(upper, 0, dimensions / 16 * sizeof *upper);
		memset(lower, 0, dimensions / 16 * sizeof *lower);
		*head = NEAREST_HEAD_NONE;
		return;
	}
	length = (float)sqrt((double)norm);
	gain_bits = round_up(largest(row, dimensions) / (255 * length) * 1.000001f);
	memcpy(&gain, &gain_bits, sizeof gain);
	inverse = _mm256_set1_ps(1 / (gain * length));
	for (uint32_t k = 0; k < dimensions / 16; k++) {
		__m256i a = quantise(row + 16 * k, inverse, &squares);
		__m256i b = quantise(row + 16 * k + 8, inverse, &squares);
		__m256i pairs = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
		__m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(pairs),
						 _mm256_extracti128_si256(pairs, 1));
		uint64_t first = (uint64_t)_mm_extract_epi64(bytes, 0);
		uint64_t second = (uint64_t)_mm_extract_epi64(bytes, 1);
		upper[k] = (first >> 4 & low_halves) | (second & ~low_halves);
		lower[k] = (first & low_halves) | (second & low_halves) << 4;
	}
	_mm_storeu_ps(four, _mm_add_ps(_mm256_castps256_ps128(squares), _mm256_extractf128_ps(squares, 1)));
	*head = gain_bits |
		round_up(gain * sqrtf((four[0] + four[2]) + (four[1] + four[3])) * 1.0001f + 1e-6f) >> 16;
}

/* ---- AVX2 ---- */

/* What of a query is the same for all rows, spread over the lanes. */
struct lanes {
	__m256i start;          /* -15 sum c, in one of the two lanes of every row */
	__m256 scale, factor, limit;
};

AVX2_INLINE struct lanes lanes_of(const struct nearest_code *query, float limit)
{
	return (struct lanes){
		_mm256_set1_epi64x((int64_t)(uint32_t)(-15 * query->sum)),
		_mm256_set1_ps(16 * query->scale),
		_mm256_set1_ps(1 + query->error),
		_mm256_set1_ps(limit),
	};
}

/* start + 2 (query values times half bytes of one plane): eight rows' sums in order, for `count` queries.
 * `count` and `lines` are constants wherever this is inlined, but for the general number of lines. */
AVX2_INLINE void dots_avx2(const int8_t *const *values, const struct lanes *lanes, unsigned count,
			   const uint64_t *plane, uint32_t lines, __m256i *out)
{
	const __m256i low = _mm256_set1_epi8(15), twos = _mm256_set1_epi16(2);
	__m256i sums[2][QUERIES_AT_ONCE];

	for (unsigned half = 0; half < 2; half++) {
		for (unsigned q = 0; q < count; q++)
			sums[half][q] = lanes[q].start;
		for (uint32_t segment = 0; segment < lines; segment += SEGMENT_LINES) {
			uint32_t end = lines - segment < SEGMENT_LINES ? lines - segment : SEGMENT_LINES;
			__m256i narrow[QUERIES_AT_ONCE];
			for (unsigned q = 0; q < count; q++)
				narrow[q] = _mm256_setzero_si256();
			for (uint32_t k = segment; k < segment + end; k++) {
				__m256i words = _mm256_load_si256(
					(const __m256i *)(plane + k * LINE_WORDS + half * 4));
				__m256i first = _mm256_and_si256(words, low);
				__m256i second = _mm256_and_si256(_mm256_srli_epi16(words, 4), low);
				for (unsigned q = 0; q < count; q++) {
					const double *at = (const double *)(const void *)(values[q] + 16 * k);
					__m256i a = _mm256_castpd_si256(_mm256_broadcast_sd(at));
					__m256i b = _mm256_castpd_si256(_mm256_broadcast_sd(at + 1));
					narrow[q] = _mm256_add_epi16(narrow[q], _mm256_add_epi16(
						_mm256_maddubs_epi16(first, a), _mm256_maddubs_epi16(second, b)));
				}
			}
			for (unsigned q = 0; q < count; q++)
				sums[half][q] = _mm256_add_epi32(sums[half][q],
								 _mm256_madd_epi16(narrow[q], twos));
		}
	}
	for (unsigned q = 0; q < count; q++)
		out[q] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[0][q], sums[1][q]), 0xd8);
}

AVX2_INLINE unsigned passes_avx2(const struct lanes *lanes, __m256i whole, __m256i heads)
{
	__m256 gain = _mm256_castsi256_ps(_mm256_and_si256(heads, _mm256_set1_epi32((int)0xffff0000)));
	__m256 slack = _mm256_castsi256_ps(_mm256_slli_epi32(heads, 16));
	__m256 bound = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), lanes->scale);

	bound = _mm256_mul_ps(bound, gain);
	bound = _mm256_add_ps(bound, _mm256_mul_ps(slack, lanes->factor));
	return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(bound, lanes->limit, _CMP_GE_OQ));
}

/* A block for a few queries, by one way of taking dot products: the rest is the same for both. */
#define SCAN_SOME(NAME, INLINE, DOTS)								\
INLINE void NAME(const struct nearest_code *const *queries, unsigned count, const uint32_t *heads,	\
		 const uint64_t *upper, uint32_t lines, const float *limits, uint64_t *masks)		\
{												\
	const int8_t *values[QUERIES_AT_ONCE];							\
	struct lanes lanes[QUERIES_AT_ONCE];							\
	uint64_t passed[QUERIES_AT_ONCE] = {0};							\
												\
	for (unsigned q = 0; q < count; q++) {							\
		values[q] = queries[q]->values;							\
		lanes[q] = lanes_of(queries[q], limits[q]);					\
	}											\
	for (unsigned g = 0; g < NEAREST_BLOCK_ROWS / NEAREST_GROUP_ROWS; g++) {		\
		__m256i head = _mm256_load_si256((const __m256i *)(heads + g * NEAREST_GROUP_ROWS));	\
		__m256i whole[QUERIES_AT_ONCE];							\
		DOTS(values, lanes, count, upper + (size_t)g * lines * LINE_WORDS, lines, whole);	\
		for (unsigned q = 0; q < count; q++)						\
			passed[q] |= (uint64_t)passes_avx2(&lanes[q], whole[q], head) << g * 8;	\
	}											\
	for (unsigned q = 0; q < count; q++)							\
		masks[q] = passed[q];								\
}

SCAN_SOME(scan_some_avx2, AVX2_INLINE, dots_avx2)

AVX2 static void avx2_scan(const struct nearest_code *const *queries, uint32_t count, const uint32_t *heads,
			   const uint64_t *upper, uint32_t dimensions, const float *limits, uint64_t *masks)
{
	uint32_t lines = dimensions / 16, q = 0;

	for (; q + QUERIES_AT_ONCE <= count; q += QUERIES_AT_ONCE) {
		if (lines == 4)
			scan_some_avx2(queries + q, QUERIES_AT_ONCE, heads, upper, 4, limits + q, masks + q);
		else
			scan_some_avx2(queries + q, QUERIES_AT_ONCE, heads, upper, lines, limits + q, masks + q);
	}
	for (; q < count; q++) {
		if (lines == 4)
			scan_some_avx2(queries + q, 1, heads, upper, 4, limits + q, masks + q);
		else
			scan_some_avx2(queries + q, 1, heads, upper, lines, limits + q, masks + q);
	}
}

AVX2 static uint8_t avx2_refine(const struct nearest_code *query, const uint32_t *heads, const uint64_t *upper,
				const uint64_t *lower, uint32_t dimensions, float limit)
{
	const int8_t *values = query->values;
	struct lanes lanes = lanes_of(query, limit);
	__m256i high, low, whole;
	__m256 gain, bound;

	/* 16 (2 c.h - 15 sum c) + (2 c.l - 15 sum c) = 2 c.v - 255 sum c */
	dots_avx2(&values, &lanes, 1, upper, dimensions / 16, &high);
	dots_avx2(&values, &lanes, 1, lower, dimensions / 16, &low);
	whole = _mm256_add_epi32(_mm256_slli_epi32(high, 4), low);
	gain = _mm256_castsi256_ps(_mm256_and_si256(_mm256_load_si256((const __m256i *)heads),
						    _mm256_set1_epi32((int)0xffff0000)));
	bound = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_set1_ps(query->scale));
	bound = _mm256_add_ps(_mm256_mul_ps(bound, gain),
			      _mm256_mul_ps(gain, _mm256_set1_ps(query->root * (1 + query->error))));
	return (uint8_t)_mm256_movemask_ps(_mm256_cmp_ps(bound, lanes.limit, _CMP_GE_OQ));
}

static const struct nearest_kernels avx2_kernels = {"AVX2", avx2_encode, avx2_scan, avx2_refine};
const struct nearest_kernels *const nearest_kernels_avx2 = &avx2_kernels;

bool nearest_have_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

/* ---- AVX-512 VNNI: a line of eight rows is one register, products go straight into 32 bits ---- */

#define VNNI_TARGET "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#define VNNI __attribute__((target(VNNI_TARGET)))
#define VNNI_INLINE static inline __attribute__((always_inline, target(VNNI_TARGET)))

VNNI_INLINE void dots_vnni(const int8_t *const *values, const struct lanes *lanes, unsigned count,
			   const uint64_t *plane, uint32_t lines, __m256i *out)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i sums[QUERIES_AT_ONCE];

	for (unsigned q = 0; q < count; q++)
		sums[q] = _mm512_setzero_si512();
	for (uint32_t k = 0; k < lines; k++) {
		__m512i words = _mm512_load_si512(plane + k * LINE_WORDS);
		__m512i first = _mm512_and_si512(words, low);
		__m512i second = _mm512_and_si512(_mm512_srli_epi16(words, 4), low);
		for (unsigned q = 0; q < count; q++) {
			long long pair[2];
			memcpy(pair, values[q] + 16 * k, sizeof pair);
			sums[q] = _mm512_dpbusd_epi32(sums[q], first, _mm512_set1_epi64(pair[0]));
			sums[q] = _mm512_dpbusd_epi32(sums[q], second, _mm512_set1_epi64(pair[1]));
		}
	}
	/* A row's sum is that of its two lanes, and has to be doubled. */
	for (unsigned q = 0; q < count; q++) {
		__m256i dots = _mm512_cvtepi64_epi32(_mm512_add_epi32(sums[q], _mm512_srli_epi64(sums[q], 32)));
		__m256i start = _mm256_shuffle_epi32(lanes[q].start, 0xa0);
		out[q] = _mm256_add_epi32(_mm256_slli_epi32(dots, 1), start);
	}
}

SCAN_SOME(scan_some_vnni, VNNI_INLINE, dots_vnni)

VNNI static void vnni_scan(const struct nearest_code *const *queries, uint32_t count, const uint32_t *heads,
			   const uint64_t *upper, uint32_t dimensions, const float *limits, uint64_t *masks)
{
	uint32_t lines = dimensions / 16, q = 0;

	for (; q + QUERIES_AT_ONCE <= count; q += QUERIES_AT_ONCE)
		scan_some_vnni(queries + q, QUERIES_AT_ONCE, heads, upper, lines, limits + q, masks + q);
	for (; q < count; q++)
		scan_some_vnni(queries + q, 1, heads, upper, lines, limits + q, masks + q);
}

static const struct nearest_kernels vnni_kernels = {"AVX-512 VNNI", avx2_encode, vnni_scan, avx2_refine};
const struct nearest_kernels *const nearest_kernels_avx512 = &vnni_kernels;

bool nearest_have_avx512(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}

#else

const struct nearest_kernels *const nearest_kernels_avx2 = NULL;
const struct nearest_kernels *const nearest_kernels_avx512 = NULL;

bool nearest_have_avx2(void)
{
	return false;
}

bool nearest_have_avx512(void)
{
	return false;
}
#endif
