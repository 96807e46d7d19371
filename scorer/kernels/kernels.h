/* kernels.h - the inner loops of the CPU backend, one table per instruction set.
 *
 * All tables give the same bits: a product's sum over depth is one chain of fused multiply-adds in
 * ascending order, sums over a row use eight lanes by index, and the exponential is one polynomial. So a
 * row's result depends neither on its neighbours, nor on tiles, threads or the width of the vectors.
 * Pure functions; any thread. */
#ifndef EXITPOLL_SCORER_KERNELS_KERNELS_H
#define EXITPOLL_SCORER_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TILE_ROWS = 12, TILE_COLUMNS = 16 };

struct kernels {
	const char *name;               /* "AVX2" */
	const char *need;               /* "avx2,fma": for the description */

	/* c[rows, 16] = a[rows, depth] x b[depth, 16], or += when accumulate; rows <= TILE_ROWS, strides
	 * in floats. c may not overlap a or b. */
	void (*tile)(size_t rows, size_t depth, const float *a, size_t a_stride, const float *b,
		     size_t b_stride, float *c, size_t c_stride, bool accumulate);

	/* The same with weights in bf16, widened exactly: b[depth][8], each word a weight of column j below
	 * and one of column j + 8 above. The bits are tile()'s with the widened weights. */
	void (*tile_bf16)(size_t rows, size_t depth, const float *a, size_t a_stride, const uint32_t *b,
			  float *c, size_t c_stride, bool accumulate);

	/* out[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i] */
	void (*rms_norm)(size_t count, const float *x, const float *weight, float epsilon, float *out);

	/* s[i] = exp(scale * s[i] - max), returns their sum; count >= 1, scale > 0 */
	float (*softmax)(size_t count, float scale, float *s);

	/* gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i] */
	void (*swiglu)(size_t count, float *gate, const float *up);
};

extern const struct kernels kernels_scalar;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

/* All tables that this CPU can run, best first; [count] <= 3. */
size_t kernels_available(const struct kernels *out[3]);

/* The best one that gives the scalar table's bits on a small self-test. *reason (static) says why not
 * a better one. */
const struct kernels *kernels_best(const char **reason);

#endif
