/* emulated_instructions.h - the instructions of bf16_avx512.c and bf16_amx.c spelled out in C, so that their
 * very sources run on any CPU: what a test then shows is everything but the silicon.
 *
 * After the operation sections of the Intel Software Developer's Manual: VDPBF16PS, TDPBF16PS, TILELOADD,
 * TILESTORED, LDTILECFG. Subnormals are not flushed here; the tests use none. */
#ifndef EXITPOLL_TESTS_UNIT_SCORER_EMULATED_INSTRUCTIONS_H
#define EXITPOLL_TESTS_UNIT_SCORER_EMULATED_INSTRUCTIONS_H
#define EMULATED_INSTRUCTIONS

#include "scorer/kernels/bf16.h"
#include "tests/check_run.h"

#define TARGET
#define TARGET_INLINE static inline
#if !defined(__clang__)
/* Vectors of 64 bytes are passed inside this file only; and what is "maybe unset" is a loop over rows. */
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/* Vector types, since the sources cast between them. */
typedef float __m512 __attribute__((vector_size(64)));
typedef int32_t emulated_words __attribute__((vector_size(64)));
typedef short __m512bh __attribute__((vector_size(64)));

static inline __m512 emulated_loadu_ps(const float *from)
{
	__m512 out;
	memcpy(&out, from, sizeof out);
	return out;
}

static inline __m512 emulated_setzero_ps(void)
{
	return (__m512){0};
}

static inline emulated_words emulated_loadu_si512(const void *from)
{
	emulated_words out;
	memcpy(&out, from, sizeof out);
	return out;
}

static inline emulated_words emulated_set1_epi32(int32_t value)
{
	emulated_words out;
	for (int i = 0; i < 16; i++)
		out[i] = value;
	return out;
}

static inline void emulated_storeu_ps(float *to, __m512 value)
{
	memcpy(to, &value, sizeof value);
}

static inline __m512 emulated_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b)
{
	for (int i = 0; i < 16; i++)
		for (int half = 1; half >= 0; half--)
			sum[i] = fmaf(bf16_widen((uint16_t)a[2 * i + half]),
				      bf16_widen((uint16_t)b[2 * i + half]), sum[i]);
	return sum;
}

#define _mm512_loadu_ps emulated_loadu_ps
#define _mm512_setzero_ps emulated_setzero_ps
#define _mm512_loadu_si512 emulated_loadu_si512
#define _mm512_set1_epi32 emulated_set1_epi32
#define _mm512_storeu_ps emulated_storeu_ps
#define _mm512_dpbf16_ps emulated_dpbf16_ps

/* ---- tile registers, of the one thread of a test ---- */

static uint8_t tile_data[8][16][64];
static bool tiles_configured;

static inline void _tile_loadconfig(const void *settings)
{
	const uint8_t *bytes = settings;
	ck_assert_int_eq(bytes[0], 1);
	ck_assert_int_eq(bytes[1], 0);
	for (int i = 0; i < 8; i++) {
		uint16_t row_bytes;
		memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
		ck_assert_int_eq(row_bytes, 64);
		ck_assert_int_eq(bytes[48 + i], 16);
	}
	tiles_configured = true;
}

static inline void _tile_release(void)
{
	ck_assert(tiles_configured);
	tiles_configured = false;
}

static inline void _tile_zero(int tile)
{
	ck_assert(tiles_configured);
	memset(tile_data[tile], 0, sizeof tile_data[tile]);
}

static inline void _tile_loadd(int tile, const void *from, size_t stride_bytes)
{
	ck_assert(tiles_configured);
	for (size_t row = 0; row < 16; row++)
		memcpy(tile_data[tile][row], (const char *)from + row * stride_bytes, 64);
}

static inline void _tile_stored(int tile, void *to, size_t stride_bytes)
{
	ck_assert(tiles_configured);
	for (size_t row = 0; row < 16; row++)
		memcpy((char *)to + row * stride_bytes, tile_data[tile][row], 64);
}

static inline void _tile_dpbf16ps(int c, int a, int b)
{
	ck_assert(tiles_configured);
	for (size_t m = 0; m < 16; m++)
		for (size_t n = 0; n < 16; n++) {
			float sums[2] = {0}, result;
			for (size_t k = 0; k < 16; k++)
				for (size_t half = 0; half < 2; half++) {
					uint16_t left, right;
					memcpy(&left, &tile_data[a][m][4 * k + 2 * half], 2);
					memcpy(&right, &tile_data[b][k][4 * n + 2 * half], 2);
					sums[half] =
					    fmaf(bf16_widen(left), bf16_widen(right), sums[half]);
				}
			memcpy(&result, &tile_data[c][m][4 * n], 4);
			result += sums[0] + sums[1];
			memcpy(&tile_data[c][m][4 * n], &result, 4);
		}
}

#endif
