/* test_figures.c - figures of answers against scikit-learn, against their definitions pair by pair, and where
 * they do not exist. */
#include "ops/evaluate/bootstrap.h"
#include "ops/evaluate/report.h"

#include "base/mem.h"
#include "tests/golden/evaluate/figures.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static uint64_t next(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return state >> 40;
}

/* As in tests/golden/evaluate/figures.py. */
static void make_answers(struct answers *answers, unsigned impressions, unsigned users)
{
	struct error error;

	for (unsigned impression = 0; impression < impressions; impression++) {
		uint32_t user = (uint32_t)(next() % users);
		unsigned candidates = 1 + (unsigned)(next() % 12);

		ck_assert_int_eq(answers_begin(answers, user, impression, &error), STATUS_OK);
		for (unsigned c = 0; c < candidates; c++) {
			struct answer row = {.p = (float)(1 + next() % 199) / 200.0f, .item_events = c};

			row.positive = (double)next() / 16777216.0 < .3 * (double)row.p + .1;
			row.layer = (uint16_t)(5 * (1 + next() % 6));
			ck_assert_int_eq(answers_add(answers, &row, &error), STATUS_OK);
		}
	}
}

static struct figures take(const struct answers *answers, const bool *chosen, const uint8_t *weights)
{
	struct judge *judge;
	struct figures figures;
	struct error error;

	ck_assert_int_eq(judge_create(answers, SCORED_BY_MODEL, chosen, &judge, &error), STATUS_OK);
	judge_take(judge, weights, &figures, NULL);
	judge_destroy(judge);
	return figures;
}

START_TEST(test_equal_to_scikit_learn)
{
	struct answers answers = {0};
	struct figures figures;

	state = 12345;
	make_answers(&answers, 400, 60);
	ck_assert_uint_eq(answers.rows_count, GOLDEN_ROWS);
	figures = take(&answers, NULL, NULL);
	ck_assert_double_eq(figures.pairs_impressions, GOLDEN_IMPRESSIONS_BOTH);
	for (size_t f = 0; f < FIGURES; f++)
		ck_assert_msg(fabs(figures.value[f] - golden[f]) < 1e-9, "%s: %.12f, scikit-learn %.12f",
			      figure_name((enum figure)f), figures.value[f], golden[f]);
	answers_free(&answers);
}
END_TEST

/* A user of weight w counts like w users with the same answers. */
START_TEST(test_weights_are_copies)
{
	for (unsigned seed = 1; seed <= 20; seed++) {
		struct answers answers = {0}, copies = {0};
		uint8_t weights[16];
		struct figures weighted, copied;
		uint32_t copy_users = 0;
		struct error error;

		state = seed;
		make_answers(&answers, 40, 16);
		for (uint32_t user = 0; user < answers.users; user++)
			weights[user] = (uint8_t)(next() % 4);
		for (uint32_t user = 0; user < answers.users; user++)
			for (unsigned w = 0; w < weights[user]; w++, copy_users++)
				for (size_t i = 0; i < answers.impressions_count; i++) {
					const struct answered_impression *one = &answers.impressions[i];

					if (one->user != user)
						continue;
					ck_assert_int_eq(answers_begin(&copies, copy_users, 0, &error), STATUS_OK);
					for (uint32_t row = one->first; row < one->first + one->count; row++)
						ck_assert_int_eq(answers_add(&copies, &answers.rows[row], &error), STATUS_OK);
				}
		weighted = take(&answers, NULL, weights);
		copied = take(&copies, NULL, NULL);
		ck_assert_double_eq(weighted.rows, copied.rows);
		for (size_t f = 0; f < FIGURES; f++)
			/* Bins of equal numbers are of rows, not of weights. */
			ck_assert_msg(f == FIGURE_CALIBRATION || fabs(weighted.value[f] - copied.value[f]) < 1e-12 ||
				      (isnan(weighted.value[f]) && isnan(copied.value[f])), "seed %u, %s: %.15f, copies %.15f",
				      seed, figure_name((enum figure)f), weighted.value[f], copied.value[f]);
		answers_free(&answers);
		answers_free(&copies);
	}
}
END_TEST

START_TEST(test_chosen_rows_are_all_that_counts)
{
	struct answers answers = {0};
	bool chosen[8192] = {false};
	double won = 0, pairs = 0;

	state = 7;
	make_answers(&answers, 300, 40);
	ck_assert_uint_le(answers.rows_count, sizeof chosen);
	for (size_t row = 0; row < answers.rows_count; row++)
		chosen[row] = next() % 3 != 0;
	for (size_t a = 0; a < answers.rows_count; a++)
		for (size_t b = 0; b < answers.rows_count; b++)
			if (chosen[a] && chosen[b] && answers.rows[a].positive && !answers.rows[b].positive) {
				float one = answers.rows[a].p, two = answers.rows[b].p;
				won += one > two ? 1 : one < two ? 0 : .5;
				pairs += 1;
			}
	ck_assert_double_eq_tol(take(&answers, chosen, NULL).value[FIGURE_AUC], won / pairs, 1e-12);
	answers_free(&answers);
}
END_TEST

START_TEST(test_one_class_has_no_auc)
{
	struct answers answers = {0};
	struct figures figures;
	struct error error;

	ck_assert_int_eq(answers_begin(&answers, 0, 0, &error), STATUS_OK);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(answers_add(&answers, &(struct answer){.p = .25f, .positive = true}, &error), STATUS_OK);
	figures = take(&answers, NULL, NULL);
	ck_assert_double_nan(figures.value[FIGURE_AUC]);
	ck_assert_double_nan(figures.value[FIGURE_USER_AUC]);
	ck_assert_double_nan(figures.value[FIGURE_IMPRESSION_AUC]);
	ck_assert_double_nan(figures.value[FIGURE_FIRST]);
	ck_assert_double_nan(figures.value[FIGURE_ENTROPY]);
	ck_assert_double_eq_tol(figures.value[FIGURE_LOG_LOSS], -log(.25), 1e-12);
	ck_assert_double_eq_tol(figures.value[FIGURE_CALIBRATION], .75, 1e-12);
	answers_free(&answers);
}
END_TEST

START_TEST(test_bootstrap)
{
	enum { USERS = 20000 };
	static uint64_t keys[USERS];
	static uint8_t weights[USERS], again[USERS];
	double values[101], sum = 0, square = 0;
	struct interval interval;

	for (uint32_t user = 0; user < USERS; user++)
		keys[user] = user * 0x9e3779b97f4a7c15u;
	bootstrap_weights(1, 3, keys, USERS, weights);
	bootstrap_weights(1, 3, keys, USERS, again);
	ck_assert_mem_eq(weights, again, USERS);
	for (uint32_t user = 0; user < USERS; user++) {
		sum += weights[user];
		square += weights[user] * weights[user];
	}
	/* Poisson(1): mean 1, mean square 2; four standard errors. */
	ck_assert_double_eq_tol(sum / USERS, 1, 4 * sqrt(1.0 / USERS));
	ck_assert_double_eq_tol(square / USERS, 2, 4 * sqrt(11.0 / USERS));
	bootstrap_weights(1, 4, keys, USERS, again);
	ck_assert_mem_ne(weights, again, USERS);

	for (int i = 0; i <= 100; i++)
		values[i] = 100 - i;
	interval = bootstrap_interval(values, 101);
	ck_assert_double_eq_tol(interval.low, 2.5, 1e-12);
	ck_assert_double_eq_tol(interval.high, 97.5, 1e-12);
	for (int i = 0; i < 5; i++)
		values[i] = NAN;
	ck_assert_double_nan(bootstrap_interval(values, 8).low);
}
END_TEST

START_TEST(test_report_pairs_what_it_compares)
{
	struct answers answers = {0};
	struct report *report;
	struct error error = {0};
	uint64_t keys[60];
	static float same[8192];
	static uint16_t layers[8192];

	state = 3;
	make_answers(&answers, 400, 60);
	for (uint32_t user = 0; user < answers.users; user++)
		keys[user] = user;
	for (size_t row = 0; row < answers.rows_count; row++) {
		same[row] = answers.rows[row].p;
		layers[row] = 30;
	}
	same[answers.impressions[5].first] = NAN;       /* one impression was not answered there */
	struct report_other other = {"other", same, layers};
	struct report_input input = {.name = "a", .answers = &answers, .user_keys = keys, .task = "clicked", .model_id = "",
				     .others = &other, .others_count = 1, .seed = 1, .draws = 50};
	ck_assert_int_eq(report_make(&input, &report, &error), STATUS_OK);
	ck_assert_uint_eq(report->others[0].impressions, answers.impressions_count - 1);
	ck_assert_double_eq(report->others[0].difference.figures.value[FIGURE_AUC], 0);
	ck_assert_double_eq(report->others[0].difference.interval[FIGURE_AUC].low, 0);
	ck_assert_double_eq(report->others[0].difference.interval[FIGURE_AUC].high, 0);
	ck_assert_double_eq(report->others[0].other.figures.value[FIGURE_DEPTH], 30);
	ck_assert_double_lt(report->others[0].difference.figures.value[FIGURE_DEPTH], 0);
	ck_assert_uint_eq(report->deepest, 30);
	ck_assert_uint_eq(report->layers_count, 6);
	ck_assert_double_lt(report->model.interval[FIGURE_AUC].low, report->model.figures.value[FIGURE_AUC]);
	ck_assert_double_gt(report->model.interval[FIGURE_AUC].high, report->model.figures.value[FIGURE_AUC]);
	report_destroy(report);
	answers_free(&answers);
	ck_assert_int_eq(report_make(&input, &report, &error), STATUS_NO_INPUT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("figures");
	TCase *tests = tcase_create("all");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_equal_to_scikit_learn);
	tcase_add_test(tests, test_weights_are_copies);
	tcase_add_test(tests, test_chosen_rows_are_all_that_counts);
	tcase_add_test(tests, test_one_class_has_no_auc);
	tcase_add_test(tests, test_bootstrap);
	tcase_add_test(tests, test_report_pairs_what_it_compares);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
