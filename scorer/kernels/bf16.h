/* bf16.h - products of rows and weights that are both bf16, accumulated in fp32.
 *
 * Two instruction families multiply pairs of bf16, each in an order of its own that its manual states
 * (Intel Software Developer's Manual, VDPBF16PS and TDPBF16PS); both take subnormal numbers as zero:
 *
 *     dot    sum = fma(a[2k+1], b[2k+1], sum), then sum = fma(a[2k], b[2k], sum), pair after pair
 *     tile   even and odd chains of their own over 32 inputs, from zero; sum = sum + (even + odd)
 *
 * Both exist in plain C as well, the truth for tests and for the check at start. A row's bits depend on
 * the row alone. Pure functions but for begin() and end(); any thread. */
#ifndef EXITPOLL_SCORER_KERNELS_BF16_H
#define EXITPOLL_SCORER_KERNELS_BF16_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Depths are multiples of this many inputs, filled up with zeros. */
enum { BF16_STEP = 32, BF16_COLUMNS = 16 };

/* To the nearest bf16, ties to even; what is not finite stays so. */
static inline uint16_t bf16_round(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float bf16_widen(uint16_t half)
{
	uint32_t bits = (uint32_t)half << 16;
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

struct bf16_product {
	const char *name;               /* "AMX" */
	uint32_t rows_max, panels_max;  /* of one call */

	/* Around any number of tile() calls, on the thread that makes them. */
	void (*begin)(void);
	void (*end)(void);

	/* c[rows, 16 panels] = a[rows, depth] x b, or += when accumulate; depth a multiple of BF16_STEP, a
	 * readable up to the next multiple of 16 rows. b[panels][depth / 2][16][2]: pairs of inputs. */
	void (*tile)(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
		     const uint16_t *b, float *c, size_t c_stride, bool accumulate);

	const struct bf16_product *truth;       /* the plain C version; of itself: itself */
};

extern const struct bf16_product bf16_dot_plain, bf16_tile_plain;
#if defined(__x86_64__)
extern const struct bf16_product bf16_dot_avx512, bf16_tile_amx;
bool bf16_amx_permitted(void);  /* asks the system for the tile registers; the whole process keeps them */
#endif

/* All that this CPU and system can run, best first, none in plain C; [count] <= 2. */
size_t bf16_available(const struct bf16_product *out[2]);

/* Does it keep the rule: a row's bits are the same at every height and place, and each sum is within
 * depth * 2^-23 * sum |a b| of the plain C version? *same_bits: are they even equal? */
bool bf16_check(const struct bf16_product *product, bool *same_bits);

/* The best that passes the check, or NULL; *reason (static) says why, or why not a better one. */
const struct bf16_product *bf16_best(const char **reason);

#endif
