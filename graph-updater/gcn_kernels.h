/* gcn_kernels.h - the four inner loops of the embeddings, each in scalar and AVX2, chosen by the caller.
 *
 * All results are exact integers, or an IEEE division rounded half to even, so both paths give the same
 * bits. Rows are 32-byte aligned, dimensions a multiple of 16. Pure functions. */
#ifndef EXITPOLL_GRAPH_UPDATER_GCN_KERNELS_H
#define EXITPOLL_GRAPH_UPDATER_GCN_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

struct gcn_kernels {
	/* sums[i] += row[i], and -= */
	void (*add)(int32_t *sums, const int16_t *row, uint32_t dimensions);
	void (*subtract)(int32_t *sums, const int16_t *row, uint32_t dimensions);
	/* fresh = round(sums / degree), residual = fresh - stored; squared lengths of both. degree > 0,
	 * |sums| <= 2^13 * degree. */
	void (*refresh)(const int32_t *sums, uint32_t degree, const int16_t *stored, uint32_t dimensions,
			int16_t *fresh, int16_t *residual, int64_t *fresh_square, int64_t *residual_square);
	/* Exact for |values| <= 2^13 and up to 256 dimensions. */
	int64_t (*dot)(const int16_t *a, const int16_t *b, uint32_t dimensions);
};

extern const struct gcn_kernels gcn_kernels_scalar;
extern const struct gcn_kernels gcn_kernels_avx2;       /* only where gcn_have_avx2() */
bool gcn_have_avx2(void);
const struct gcn_kernels *gcn_kernels_best(void);

/* round-half-even(sum / degree): exact, since a quotient that is not a half is at least 1/(2 degree)
 * away from one, which is far above the rounding of a double (|sum| < 2^53, degree < 2^32). */
int16_t gcn_round_quotient(int64_t sum, uint32_t degree);

#endif
