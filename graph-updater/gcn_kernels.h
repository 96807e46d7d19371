/* gcn_kernels.h - the inner loops of the embeddings, each in scalar and AVX2, chosen by the caller.
 *
 * A sum s over d neighbours, stored h, comes in three forms of the same exact number (gcn_sums.c says when
 * each one serves):
 *   GCN_WHOLE   int32   s
 *   GCN_UNITS   int16   s / 2^13, where all rows added are +-2^13
 *   GCN_REST    int16   s - d h: what the stored row does not yet say
 * All results are exact integers, or an IEEE division rounded half to even, so both paths give the same
 * bits. Rows are 32-byte aligned, dimensions a multiple of 16. Pure functions. */
#ifndef EXITPOLL_GRAPH_UPDATER_GCN_KERNELS_H
#define EXITPOLL_GRAPH_UPDATER_GCN_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

enum gcn_form { GCN_WHOLE, GCN_UNITS, GCN_REST, GCN_FORMS };

struct gcn_kernels {
	/* sums[i] += row[i], and -=. False: a GCN_REST would not fit int16, and nothing has changed. */
	bool (*add[GCN_FORMS])(void *sums, const int16_t *row, uint32_t dimensions);
	bool (*subtract[GCN_FORMS])(void *sums, const int16_t *row, uint32_t dimensions);
	/* fresh = round(s / degree), residual = fresh - stored; squared lengths of both. degree > 0,
	 * |s| <= 2^13 * degree, degree < 2^17. */
	void (*refresh[GCN_FORMS])(const void *sums, uint32_t degree, const int16_t *stored,
				   uint32_t dimensions, int16_t *fresh, int16_t *residual,
				   int64_t *fresh_square, int64_t *residual_square);
	/* GCN_REST: the stored row has taken the residual; what is left is at most degree / 2. */
	void (*settle)(int16_t *rest, uint32_t degree, const int16_t *residual, uint32_t dimensions);
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
