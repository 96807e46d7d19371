/* nearest.c - exact top-k by cosine in one pass over the rows; see nearest.h.
 *
 * For each block of rows (in the first-level cache) and each query: an integer upper bound of the dot
 * product, times 1/|row|, is compared with the query's worst neighbour so far; only what could win is
 * computed exactly and compared exactly. Invariant: `neighbours` is sorted, best first, by (cosine,
 * id bytes), and holds the best of all rows seen. The order of rows decides nothing. */
#include "graph-updater/nearest.h"

#include "graph-updater/gcn_kernels.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK_ROWS = 128 };

/* dot |dot| / norm orders as the cosine does; dot and norm are at most 2^34, so the products fit. */
static bool is_before(struct user_ids users, const struct neighbour *a, const struct neighbour *b)
{
	int64_t size_a = a->dot < 0 ? -a->dot : a->dot, size_b = b->dot < 0 ? -b->dot : b->dot;
	__int128 left, right;

	/* Each double is within 2 units of its last place of the exact value: far apart, they decide. */
	if (fabs(a->cosine - b->cosine) > 1e-15 * (fabs(a->cosine) + fabs(b->cosine)))
		return a->cosine > b->cosine;
	left = (__int128)a->dot * size_a * b->norm;
	right = (__int128)b->dot * size_b * a->norm;
	if (left != right)
		return left > right;
	return text_compare(user_bytes(users, a->user), user_bytes(users, b->user)) < 0;
}

/* The cosine but for the query's own length, which is left out until the end. */
static double score_of(int64_t dot, int64_t norm)
{
	return (double)dot / sqrt((double)norm);
}

/* Below this score nobody gets in. Its margin covers the float arithmetic of the bound. */
static float limit_of(const struct nearest_query *query)
{
	double worst;

	if (query->count < query->most)
		return -INFINITY;
	worst = query->neighbours[query->count - 1].cosine;
	return (float)(worst - fabs(worst) * 1e-5 - 1e-5);
}

static void offer(struct user_ids users, struct nearest_query *query, uint32_t row, int64_t dot, int64_t norm)
{
	struct neighbour candidate = {{row}, dot, norm, score_of(dot, norm)};
	uint32_t at;

	if (row == query->user.v)
		return;
	if (query->count == query->most) {
		if (!is_before(users, &candidate, &query->neighbours[query->count - 1]))
			return;
		query->count--;
	}
	for (at = query->count++; at && is_before(users, &candidate, &query->neighbours[at - 1]); at--)
		query->neighbours[at] = query->neighbours[at - 1];
	query->neighbours[at] = candidate;
}

/* A block of rows for one query. `inverse` is about 1/|row|. */
typedef void scan_function(struct user_ids users, struct nearest_query *query, const int16_t *own,
			   const int16_t *rows, const int64_t *norms, const float *inverse, uint32_t first,
			   uint32_t count, uint32_t dimensions);

static void scan_scalar(struct user_ids users, struct nearest_query *query, const int16_t *own,
			const int16_t *rows, const int64_t *norms, const float *inverse, uint32_t first,
			uint32_t count, uint32_t dimensions)
{
	(void)inverse;
	for (uint32_t r = 0; r < count; r++)
		if (norms[r])
			offer(users, query, first + r,
			      gcn_kernels_scalar.dot(own, rows + (size_t)r * dimensions, dimensions),
				      norms[r]);
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* The first look needs the sum over all dimensions in 32 bits. A value of a row is at most 2^13, so that
 * holds when dimensions * max|own| < 2^18; else lanes (at most 2^31 for 128 dimensions) are shifted
 * right by 5 first: floor loses less than 1 unit a lane, so with 8 lanes and up to two parts
 * dot < (sum + 16) << 5. */
struct first_look { int shift, slack; };

static struct first_look first_look_of(const int16_t *own, uint32_t dimensions)
{
	int32_t most = 0;

	for (uint32_t i = 0; i < dimensions; i++)
		most = abs(own[i]) > most ? abs(own[i]) : most;
	return (uint32_t)most * dimensions < 1u << 18 ? (struct first_look){0, 0}
		: (struct first_look){5, 16};
}

AVX2 static inline __m256i lanes_of(const int16_t *own, const int16_t *row, uint32_t dimensions,
				    __m128i shift)
{
	__m256i total = _mm256_setzero_si256();

	for (uint32_t i = 0; i < dimensions;) {
		__m256i lanes = _mm256_setzero_si256();
		uint32_t end = dimensions - i > 128 ? i + 128 : dimensions;
		for (; i < end; i += 16)
			lanes = _mm256_add_epi32(lanes,
						 _mm256_madd_epi16(_mm256_load_si256((const __m256i *)(own + i)),
									  _mm256_load_si256((const __m256i *)(row + i))));
		total = _mm256_add_epi32(total, _mm256_sra_epi32(lanes, shift));
	}
	return total;
}

AVX2 static void scan_avx2(struct user_ids users, struct nearest_query *query, const int16_t *own,
			   const int16_t *rows, const int64_t *norms, const float *inverse, uint32_t first,
			   uint32_t count, uint32_t dimensions)
{
	struct first_look look = first_look_of(own, dimensions);
	__m128i shift = _mm_cvtsi32_si128(look.shift), slack = _mm_set1_epi32(look.slack);
	__m128 unit = _mm_set1_ps((float)(1 << look.shift));
	float limit = limit_of(query);

	for (uint32_t r = 0; r < count; r += 4) {
		const int16_t *row = rows + (size_t)r * dimensions;
		__m256i a = lanes_of(own, row, dimensions, shift);
		__m256i b = lanes_of(own, row + dimensions, dimensions, shift);
		__m256i c = lanes_of(own, row + 2 * dimensions, dimensions, shift);
		__m256i d = lanes_of(own, row + 3 * dimensions, dimensions, shift);
		__m256i four = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
		__m128i sums = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
		__m128 bound = _mm_cvtepi32_ps(_mm_add_epi32(sums, slack));
		__m128 lengths = _mm_loadu_ps(inverse + r);
		__m128 scores = _mm_mul_ps(_mm_mul_ps(bound, unit), lengths);
		int open = _mm_movemask_ps(_mm_cmpge_ps(scores, _mm_set1_ps(limit)));
		while (open) {
			uint32_t at = r + (uint32_t)__builtin_ctz((unsigned)open);
			open &= open - 1;
			if (!norms[at])
				continue;
			offer(users, query, first + at,
			      gcn_kernels_avx2.dot(own, rows + (size_t)at * dimensions, dimensions),
				      norms[at]);
			limit = limit_of(query);
		}
	}
}
#endif

static void scan(scan_function *scan_block, const struct gcn *gcn, struct user_ids users,
		 struct nearest_query *const *queries, size_t count)
{
	uint32_t dimensions = gcn_dimensions(gcn), run;
	const int64_t *norms;
	const float *inverses;
	const int16_t *rows;

	for (uint32_t first = 0; (run = gcn_user_rows(gcn, first, &rows, &norms,
						      &inverses)) > 0; first += run) {
		for (uint32_t block = 0; block < run; block += BLOCK_ROWS) {
			uint32_t size = run - block < BLOCK_ROWS ? run - block : BLOCK_ROWS;
			for (size_t q = 0; q < count; q++)
				scan_block(users, queries[q], gcn_user_embedding(gcn, queries[q]->user),
					   rows + (size_t)block * dimensions, norms + block,
					   inverses + block, first + block, size, dimensions);
		}
	}
}

static void search(scan_function *scan_block, const struct gcn *gcn, struct user_ids users,
		   struct nearest_query *queries, size_t count)
{
	struct nearest_query *batch[NEAREST_BATCH_MAX];
	size_t batched = 0;

	for (size_t q = 0; q < count; q++) {
		queries[q].count = 0;
		if (queries[q].most > NEAREST_MAX)
			queries[q].most = NEAREST_MAX;
		if (queries[q].most && gcn_user_embedding(gcn, queries[q].user))
			batch[batched++] = &queries[q];
		if (batched == NEAREST_BATCH_MAX || (batched && q + 1 == count)) {
			scan(scan_block, gcn, users, batch, batched);
			batched = 0;
		}
	}
	for (size_t q = 0; q < count; q++)
		for (uint32_t n = 0; n < queries[q].count; n++) {
			struct neighbour *neighbour = &queries[q].neighbours[n];
			neighbour->cosine = gcn_cosine(neighbour->dot, gcn_user_norm(gcn, queries[q].user),
						       neighbour->norm);
		}
}

bool nearest_search_path(enum nearest_path path, const struct gcn *gcn, struct user_ids users,
			 struct nearest_query *queries, size_t count)
{
#if defined(__x86_64__)
	if (path == NEAREST_AVX2 && !gcn_have_avx2())
		return false;
	search(path != NEAREST_SCALAR && gcn_have_avx2() ? scan_avx2 : scan_scalar, gcn, users, queries,
	       count);
#else
	if (path == NEAREST_AVX2)
		return false;
	search(scan_scalar, gcn, users, queries, count);
#endif
	return true;
}

void nearest_search(const struct gcn *gcn, struct user_ids users, struct nearest_query *queries,
		    size_t count)
{
	nearest_search_path(NEAREST_BEST, gcn, users, queries, count);
}
