/* The inner loops: near the truth in double, and the same bits in every table, for every cut. */
#include "scorer/kernels/kernels.h"
#include "base/mem.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static unsigned state = 12345;
static float random_float(float scale)
{
	state = state * 1664525u + 1013904223u;
	return ((float)(int)(state >> 8) / 8388608.0f - 1.0f) * scale;
}

enum { DEPTH = 301, COUNT = 77 };
static float a[TILE_ROWS * DEPTH], b[DEPTH * 20], c[TILE_ROWS * 20], d[TILE_ROWS * 20];

START_TEST(products)
{
	const struct kernels *available[3];
	size_t count = kernels_available(available);
	for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
		a[i] = random_float(1);
	for (size_t i = 0; i < sizeof b / sizeof b[0]; i++)
		b[i] = random_float(1);
	for (size_t rows = 1; rows <= TILE_ROWS; rows++)
		for (size_t depth = 1; depth <= DEPTH; depth += depth < 5 ? 1 : 37) {
			memset(c, 0x55, sizeof c);
			kernels_scalar.tile(rows, depth, a, DEPTH, b, 20, c, 20, false);
			for (size_t row = 0; row < rows; row++)
				for (size_t column = 0; column < TILE_COLUMNS; column++) {
					double truth = 0, size = 0;
					for (size_t k = 0; k < depth; k++) {
						double term = (double)a[row * DEPTH + k] * b[k * 20 + column];
						truth += term;
						size += fabs(term);
					}
					ck_assert_double_le(fabs(c[row * 20 + column] - truth), size * 1e-6);
				}
			for (size_t table = 0; table < count; table++) {
				memset(d, 0x55, sizeof d);
				/* In two cuts over depth, and row by row. */
				size_t first = depth / 3;
				available[table]->tile(rows, first, a, DEPTH, b, 20, d, 20, false);
				available[table]->tile(rows, depth - first, a + first, DEPTH, b + first * 20,
						       20, d, 20, true);
				ck_assert_msg(memcmp(c, d, sizeof c) == 0, "%s rows %zu depth %zu",
					      available[table]->name, rows, depth);
				for (size_t row = 0; row < rows; row++)
					available[table]->tile(1, depth, a + row * DEPTH, DEPTH, b, 20,
							       d + row * 20, 20, false);
				ck_assert(memcmp(c, d, sizeof c) == 0);
			}
		}
}
END_TEST

START_TEST(rows)
{
	const struct kernels *available[3];
	size_t tables = kernels_available(available);
	float x[COUNT], weight[COUNT], truth[COUNT], got[COUNT];
	for (size_t count = 1; count <= COUNT; count++) {
		for (size_t i = 0; i < count; i++) {
			x[i] = random_float(count % 3 ? 8 : 100);
			weight[i] = random_float(2);
		}
		double squares = 0, sum = 0, max = x[0];
		for (size_t i = 0; i < count; i++) {
			squares += (double)x[i] * x[i];
			max = x[i] > max ? x[i] : max;
		}
		for (size_t i = 0; i < count; i++)
			sum += exp((x[i] - max) * .125);
		for (size_t table = 0; table < tables; table++) {
			const struct kernels *kernels = available[table];
			kernels->rms_norm(count, x, weight, 1e-5f, got);
			for (size_t i = 0; i < count; i++) {
				double want = x[i] / sqrt(squares / (double)count + 1e-5) * weight[i];
				ck_assert_double_le(fabs(got[i] - want), 1e-5 * fabs(want) + 1e-12);
			}
			if (!table)
				memcpy(truth, got, sizeof got);
			ck_assert(memcmp(truth, got, count * sizeof got[0]) == 0);
		}
		float first_sum = 0;
		for (size_t table = 0; table < tables; table++) {
			memcpy(got, x, sizeof x);
			float got_sum = available[table]->softmax(count, .125f, got);
			ck_assert_double_le(fabs(got_sum - sum), 1e-5 * sum);
			for (size_t i = 0; i < count; i++)
				ck_assert_double_le(fabs(got[i] - exp((x[i] - max) * .125)), 2e-6);
			if (!table) {
				memcpy(truth, got, sizeof got);
				first_sum = got_sum;
			}
			ck_assert(first_sum == got_sum && memcmp(truth, got, count * sizeof got[0]) == 0);
		}
		for (size_t table = 0; table < tables; table++) {
			memcpy(got, x, sizeof x);
			available[table]->swiglu(count, got, weight);
			for (size_t i = 0; i < count; i++) {
				double want = x[i] / (1 + exp(-(double)x[i])) * weight[i];
				ck_assert_double_le(fabs(got[i] - want), 1e-6 * fabs(want) + 1e-30);
			}
			if (!table)
				memcpy(truth, got, sizeof got);
			ck_assert(memcmp(truth, got, count * sizeof got[0]) == 0);
		}
	}
}
END_TEST

START_TEST(the_best_is_available)
{
	const char *reason = NULL;
	const struct kernels *best = kernels_best(&reason), *available[3];
	kernels_available(available);
	ck_assert_ptr_eq(best, available[0]);
	ck_assert_ptr_nonnull(reason);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kernels");
	TCase *cases = tcase_create("kernels");
	tcase_add_test(cases, products);
	tcase_add_test(cases, rows);
	tcase_add_test(cases, the_best_is_available);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
