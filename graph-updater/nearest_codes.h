/* nearest_codes.h - rows of embeddings as bytes, and what a scan over them can prove.
 *
 * A row x (int16 [D], length X) is kept as bytes v in 0..255 with x = a (2v - 255) + e, in two planes of
 * half bytes, v = 16 h + l: the scan reads h alone (half the memory), and l only of rows that h lets pass.
 * A head of 32 bits a row holds G = a / X (upper half) and R >= |e4| / X (lower half) as bfloat16, where
 * x = 16 a (2h - 15) + e4. A query q (length Q) is q = s c + f with int8 c; E >= |f| / Q.
 *
 * The bound. For any approximation y of x with x = y + e and |e| <= r X:
 *         q.x = (s c + f).y + q.e  <=  s c.y + |f| (X + |e|) + Q |e|
 *     q.x / QX <=  (s / Q) c.(y / X) + E (1 + r) + r
 *   upper plane: y / X = 16 G (2h - 15), r = R, so
 *     cosine <= 16 (s / Q) G (2 c.h - 15 sum c) + (1 + E) R + E                              (1)
 *   both planes: y / X = G (2v - 255); v is the nearest of its levels, so every |e_i| <= 1.001 a, hence
 *     |e| <= 1.001 a sqrt(D), r = 1.001 G sqrt(D), and
 *     cosine <= (s / Q) G (2 c.v - 255 sum c) + (1 + E) 1.001 sqrt(D) G + E                  (2)
 * (|2v - 255| reaches |x_i| / a since G is rounded up from max|x_i| / (255 X); 1.001 covers the float
 * arithmetic of x / a, whose relative error is below 2^-22, times 255.) R is computed from the codes and
 * rounded up by 1e-4: the largest |x_i| is at least 13 a from its upper level 240 a, so |e4| >= 13 a, and
 * the arithmetic is off by less than 6e-5 a sqrt(D) <= 1e-3 a. Both brackets are integers below 2^24, exact
 * in a float; what follows is four roundings of numbers below 4, so the computed bound is within 2e-6 of (1)
 * or (2): NEAREST_MARGIN covers that and the rounding of the limit. A row whose bound is below the limit
 * cannot win: recall is 1 by construction.
 *
 * Layout of a block of 64 rows: heads u32 [64]; each plane u64 [8 groups][D / 16 lines][8 rows]: a word is
 * 16 values of a row, the first eight in the lower halves of its bytes. So a line of 64 bytes serves eight
 * rows, and sums run down the lanes without shuffles.
 *
 * Scalar, AVX2 and AVX-512 VNNI give the same bits. Pure functions. */
#ifndef EXITPOLL_GRAPH_UPDATER_NEAREST_CODES_H
#define EXITPOLL_GRAPH_UPDATER_NEAREST_CODES_H

#include <stdbool.h>
#include <stdint.h>

enum { NEAREST_BLOCK_ROWS = 64, NEAREST_GROUP_ROWS = 8, NEAREST_CODE_MAX = 256 };

/* Of cosines; see above. */
#define NEAREST_MARGIN 4e-6

/* A row without length: its bound is -3, below every limit. */
enum { NEAREST_HEAD_NONE = 0xc040 };

struct nearest_code {
	_Alignas(64) int8_t values[NEAREST_CODE_MAX];   /* c [D] */
	int32_t sum;            /* sum c */
	float scale;            /* s / Q */
	float error;            /* E */
	float root;             /* 1.001 sqrt(D) */
};

/* query [dimensions], |values| <= 2^13, norm its squared length, not 0. */
void nearest_code_query(const int16_t *query, uint32_t dimensions, int64_t norm, struct nearest_code *out);

struct nearest_kernels {
	const char *name;
	/* row -> head, planes [D / 16] each; norm its squared length, 0: a row that never passes. */
	void (*encode)(const int16_t *row, uint32_t dimensions, int64_t norm, uint32_t *head,
		       uint64_t *upper, uint64_t *lower);
	/* masks[q] bit r: by (1) row r of the block may have a cosine >= limits[q]. */
	void (*scan)(const struct nearest_code *const *queries, uint32_t count, const uint32_t *heads,
		     const uint64_t *upper, uint32_t dimensions, const float *limits, uint64_t *masks);
	/* The same by (2), for the eight rows of one group: heads, upper and lower are the group's. */
	uint8_t (*refine)(const struct nearest_code *query, const uint32_t *heads, const uint64_t *upper,
			  const uint64_t *lower, uint32_t dimensions, float limit);
};

/* -2 lets every row with a length pass. */
float nearest_code_limit(double worst_cosine, const struct nearest_code *query);

enum nearest_path { NEAREST_BEST, NEAREST_SCALAR, NEAREST_AVX2, NEAREST_AVX512 };
/* NULL: this CPU has not got it, or it failed its comparison with the scalar one (never seen; then BEST is
 * the next). BEST always succeeds. */
const struct nearest_kernels *nearest_kernels_get(enum nearest_path path);

/* For nearest_codes.c: the vector ones, NULL where the compiler has no such target. */
extern const struct nearest_kernels *const nearest_kernels_avx2;
extern const struct nearest_kernels *const nearest_kernels_avx512;
bool nearest_have_avx2(void);
bool nearest_have_avx512(void);

#endif
