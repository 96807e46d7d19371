/* test_nearest_codes.c - the bound that lets the scan throw rows out: it always holds, it is nearly reached,
 * and every vector width computes the same bits. The exact numbers come from integers and doubles. */
#include "graph-updater/nearest_codes.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = NEAREST_BLOCK_ROWS, D_MAX = NEAREST_CODE_MAX, WORDS = D_MAX / 16, ONE = 1 << 13 };

static uint64_t state;

static uint32_t below(uint32_t bound)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 32) * bound >> 32);
}

/* A block of rows, exact and as codes. */
static struct {
	_Alignas(64) int16_t row[ROWS][D_MAX];
	int64_t norm[ROWS];
	_Alignas(64) uint32_t heads[ROWS];
	_Alignas(64) uint64_t upper[ROWS * WORDS], lower[ROWS * WORDS];
	uint32_t dimensions;
} block;

static int64_t dot_of(const int16_t *a, const int16_t *b, uint32_t dimensions)
{
	int64_t dot = 0;

	for (uint32_t i = 0; i < dimensions; i++)
		dot += (int64_t)a[i] * b[i];
	return dot;
}

static void encode(const struct nearest_kernels *kernels, uint32_t r)
{
	uint64_t upper[WORDS], lower[WORDS];
	uint32_t lines = block.dimensions / 16;

	block.norm[r] = dot_of(block.row[r], block.row[r], block.dimensions);
	kernels->encode(block.row[r], block.dimensions, block.norm[r], &block.heads[r], upper, lower);
	for (uint32_t k = 0; k < lines; k++) {
		block.upper[(r / 8 * lines + k) * 8 + r % 8] = upper[k];
		block.lower[(r / 8 * lines + k) * 8 + r % 8] = lower[k];
	}
}

/* Short, long, spread, spiky, of seeds only, in one direction, zero. */
static void make_row(int16_t *row, uint32_t dimensions)
{
	uint32_t kind = below(8), spike = below(dimensions);
	int scale = 1 + (int)below(ONE), base = (int)below(2 * ONE + 1) - ONE;

	for (uint32_t i = 0; i < dimensions; i++) {
		int noise = (int)below(2 * (uint32_t)scale + 1) - scale;
		int value = kind < 3 ? noise
			: kind == 3 ? (int)below(5) - 2
			: kind == 4 ? (i == spike ? base : (int)below(3) - 1)
			: kind == 5 ? (below(2) ? ONE : -ONE)
			: kind == 6 ? base + noise / 16
			: 0;
		row[i] = (int16_t)(value > ONE ? ONE : value < -ONE ? -ONE : value);
	}
}

static void make_block(const struct nearest_kernels *kernels, uint32_t dimensions)
{
	block.dimensions = dimensions;
	for (uint32_t r = 0; r < ROWS; r++) {
		make_row(block.row[r], dimensions);
		encode(kernels, r);
	}
}

static bool scan_passes(const struct nearest_kernels *kernels, const struct nearest_code *query, uint32_t r,
			float limit)
{
	uint64_t mask;

	kernels->scan(&query, 1, block.heads, block.upper, block.dimensions, &limit, &mask);
	return mask >> r & 1;
}

static bool refine_passes(const struct nearest_kernels *kernels, const struct nearest_code *query, uint32_t r,
			  float limit)
{
	size_t words = block.dimensions / 16 * 8;
	uint32_t g = r / 8;

	return kernels->refine(query, block.heads + g * 8, block.upper + g * words, block.lower + g * words,
			       block.dimensions, limit) >> r % 8 & 1;
}

/* Nobody is thrown out at a limit that is its own cosine, or the next below. */
START_TEST(bound_holds)
{
	const struct nearest_kernels *kernels = nearest_kernels_get(NEAREST_BEST);

	for (uint64_t seed = 1; seed <= 160; seed++) {
		uint32_t dimensions = 16 * (uint32_t)(1 + seed % 16);
		state = seed;
		make_block(kernels, dimensions);
		for (int n = 0; n < 12; n++) {
			_Alignas(64) int16_t query[D_MAX];
			struct nearest_code code;
			int64_t norm;
			if (n < 6)
				memcpy(query, block.row[below(ROWS)], sizeof query);
			else
				make_row(query, dimensions);
			norm = dot_of(query, query, dimensions);
			if (!norm)
				continue;
			nearest_code_query(query, dimensions, norm, &code);
			for (uint32_t r = 0; r < ROWS; r++) {
				double cosine;
				float limit;
				if (!block.norm[r]) {
					ck_assert(!scan_passes(kernels, &code, r, nearest_code_limit(-2, &code)));
					continue;
				}
				cosine = (double)dot_of(query, block.row[r], dimensions) /
					 (sqrt((double)norm) * sqrt((double)block.norm[r]));
				limit = nearest_code_limit(cosine, &code);
				ck_assert_msg(scan_passes(kernels, &code, r, limit),
					      "seed %llu: scan throws row %u out at its own cosine %.9f",
					      (unsigned long long)seed, r, cosine);
				ck_assert_msg(refine_passes(kernels, &code, r, limit),
					      "seed %llu: the second look throws row %u out at %.9f",
					      (unsigned long long)seed, r, cosine);
				ck_assert(scan_passes(kernels, &code, r, nearest_code_limit(-2, &code)));
			}
		}
	}
}
END_TEST

static float float_of(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof value);
	return value;
}

/* A query along what the upper half bytes leave out of a row: the true cosine then exceeds that of the
 * codes by the whole error. A bound a twentieth smaller would throw the row out. */
START_TEST(bound_is_nearly_reached)
{
	const struct nearest_kernels *kernels = nearest_kernels_get(NEAREST_BEST);
	double worst = 1, best = 0;

	for (uint64_t seed = 1; seed <= 64; seed++) {
		uint32_t dimensions = 16 * (uint32_t)(1 + seed % 16), r = below(ROWS);
		_Alignas(64) int16_t query[D_MAX];
		double rest[D_MAX], most = 0, length, gain, slack, code_cosine = 0, cosine, reached;
		struct nearest_code code;
		int64_t norm;
		state = seed;
		block.dimensions = dimensions;
		for (uint32_t row = 0; row < ROWS; row++) {
			for (uint32_t i = 0; i < dimensions; i++)
				block.row[row][i] = (int16_t)((int)below(2 * ONE + 1) - ONE);
			encode(kernels, row);
		}
		length = sqrt((double)block.norm[r]);
		gain = float_of(block.heads[r] & 0xffff0000);
		slack = float_of(block.heads[r] << 16);
		for (uint32_t i = 0; i < dimensions; i++) {
			uint64_t word = block.upper[(r / 8 * (dimensions / 16) + i / 16) * 8 + r % 8];
			int half = (int)(word >> (i % 8 * 8 + i % 16 / 8 * 4) & 15);
			rest[i] = block.row[r][i] - 16 * gain * length * (2 * half - 15);
			most = fabs(rest[i]) > most ? fabs(rest[i]) : most;
		}
		for (uint32_t i = 0; i < dimensions; i++)
			query[i] = (int16_t)rint(rest[i] / most * ONE);
		norm = dot_of(query, query, dimensions);
		nearest_code_query(query, dimensions, norm, &code);
		for (uint32_t i = 0; i < dimensions; i++)
			code_cosine += query[i] / sqrt((double)norm) * (block.row[r][i] - rest[i]) / length;
		cosine = (double)dot_of(query, block.row[r], dimensions) / (sqrt((double)norm) * length);
		reached = (cosine - code_cosine) / slack;
		worst = reached < worst ? reached : worst;
		best = reached > best ? reached : best;
		ck_assert_msg(reached <= 1, "seed %llu: the error is %.4f of its bound",
			      (unsigned long long)seed, reached);
		ck_assert(scan_passes(kernels, &code, r, nearest_code_limit(cosine, &code)));
		/* And it is no wider than that: at its own cosine and a twentieth of the error it is out. */
		ck_assert_msg(!scan_passes(kernels, &code, r,
					   nearest_code_limit(cosine + slack / 20 + 3 * code.error, &code)),
			      "seed %llu: the bound is too wide", (unsigned long long)seed);
	}
	printf("the error reaches %.4f to %.4f of its bound\n", worst, best);
	ck_assert_double_gt(worst, .95);
}
END_TEST

static void compare_kernels(const struct nearest_kernels *plain, const struct nearest_kernels *other,
			    uint64_t seed)
{
	uint32_t dimensions = 16 * (uint32_t)(1 + seed % 16), count = 1 + below(11);
	struct nearest_code codes[11];
	const struct nearest_code *queries[11];
	float limits[11];
	uint64_t masks[2][11];

	make_block(plain, dimensions);
	for (uint32_t r = 0; r < ROWS; r++) {
		uint64_t upper[2][WORDS], lower[2][WORDS];
		uint32_t heads[2];
		plain->encode(block.row[r], dimensions, block.norm[r], &heads[0], upper[0], lower[0]);
		other->encode(block.row[r], dimensions, block.norm[r], &heads[1], upper[1], lower[1]);
		ck_assert_msg(heads[0] == heads[1] && !memcmp(upper[0], upper[1], dimensions / 2) &&
			      !memcmp(lower[0], lower[1], dimensions / 2),
			      "seed %llu: %s encodes row %u in another way", (unsigned long long)seed,
			      other->name, r);
	}
	for (uint32_t q = 0; q < count; q++) {
		uint32_t r = below(ROWS);
		for (; !block.norm[r]; r = below(ROWS))
			;
		nearest_code_query(block.row[r], dimensions, block.norm[r], &codes[q]);
		queries[q] = &codes[q];
		limits[q] = (float)((double)below(2000) / 1000 - 1);
	}
	plain->scan(queries, count, block.heads, block.upper, dimensions, limits, masks[0]);
	other->scan(queries, count, block.heads, block.upper, dimensions, limits, masks[1]);
	ck_assert_msg(!memcmp(masks[0], masks[1], count * sizeof masks[0][0]),
		      "seed %llu: %s lets other rows pass", (unsigned long long)seed, other->name);
	for (uint32_t g = 0; g < 8; g++) {
		size_t words = dimensions / 16 * 8;
		ck_assert_msg(plain->refine(queries[0], block.heads + g * 8, block.upper + g * words,
					    block.lower + g * words, dimensions, limits[0]) ==
			      other->refine(queries[0], block.heads + g * 8, block.upper + g * words,
					    block.lower + g * words, dimensions, limits[0]),
			      "seed %llu: %s looks in another way", (unsigned long long)seed, other->name);
	}
}

START_TEST(vector_widths_agree)
{
	static const enum nearest_path paths[] = {NEAREST_AVX2, NEAREST_AVX512};
	const struct nearest_kernels *plain = nearest_kernels_get(NEAREST_SCALAR);

	/* Where the CPU has it, it must have passed its own comparison, too. */
	ck_assert(!nearest_have_avx2() || nearest_kernels_get(NEAREST_AVX2));
	ck_assert(!nearest_have_avx512() || nearest_kernels_get(NEAREST_AVX512));
	for (size_t p = 0; p < sizeof paths / sizeof *paths; p++) {
		const struct nearest_kernels *other = nearest_kernels_get(paths[p]);
		if (!other) {
			printf("not on this CPU: path %d\n", paths[p]);
			continue;
		}
		for (uint64_t seed = 1; seed <= 200; seed++) {
			state = seed;
			compare_kernels(plain, other, seed);
		}
		printf("%s equals %s\n", other->name, plain->name);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nearest_codes");
	TCase *tcase = tcase_create("properties");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, bound_holds);
	tcase_add_test(tcase, bound_is_nearly_reached);
	tcase_add_test(tcase, vector_widths_agree);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
