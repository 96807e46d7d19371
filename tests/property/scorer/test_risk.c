/* The stated risk holds: over many draws of users whose true loss exceeds the bound, no more than delta of the
 * choices do; and where leaving early is free, it is found out. The seed is printed. */
#include "scorer/train/objective.h"
#include "scorer/train/thresholds.h"
#include "scorer/train/vector.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEED = 20241124 };

static double normal(uint64_t *random)
{
	double u = 1 - vector_uniform(random), v = vector_uniform(random);
	return sqrt(-2 * log(u)) * cos(2 * acos(-1) * v);
}

/* x of a user: a rare large loss or a small gain, or a bell cut at the clip; both with this mean. */
static double draw(int shape, double mean, double clip, uint64_t *random)
{
	if (shape == 0)
		return vector_uniform(random) < .5 ? clip : 2 * mean - clip;
	if (shape == 1) {       /* rare: q clip - (1 - q) g = mean */
		double q = .05;
		return vector_uniform(random) < q ? clip : (mean - q * clip) / (1 - q);
	}
	double a = normal(random) * clip / 8;
	a = a > clip / 2 ? clip / 2 : a < -clip / 2 ? -clip / 2 : a;
	return mean + a;
}

START_TEST(a_true_excess_passes_no_oftener_than_delta)
{
	enum { DRAWS = 4000, USERS = 200 };
	static const double clip = .2, bound = .01, delta = .1;
	uint64_t random = SEED + (uint64_t)_i;
	size_t passed = 0;
	struct risk_user users[USERS] = {{0}};
	for (int d = 0; d < DRAWS; d++) {
		for (int i = 0; i < USERS; i++)
			users[i].difference = draw(_i, bound, clip, &random);
		passed += risk_p_value(users, USERS, clip, bound, delta) <= delta;
	}
	/* Four standard deviations of a share of .1. */
	double most = delta + 4 * sqrt(delta * (1 - delta) / DRAWS);
	ck_assert_msg((double)passed / DRAWS <= most, "seed %d, shape %d: %zu of %d", SEED, _i, passed, DRAWS);
}
END_TEST

START_TEST(what_is_free_is_found_out)
{
	enum { DRAWS = 400, USERS = 400 };
	static const double clip = .2, bound = .01, delta = .1;
	uint64_t random = SEED;
	size_t passed = 0;
	struct risk_user users[USERS] = {{0}};
	for (int d = 0; d < DRAWS; d++) {
		for (int i = 0; i < USERS; i++)
			users[i].difference = draw(2, 0, clip, &random);
		passed += risk_p_value(users, USERS, clip, bound, delta) <= delta;
	}
	ck_assert_msg(passed > DRAWS * 9 / 10, "seed %d: %zu of %d", SEED, passed, DRAWS);
	ck_assert_double_eq(risk_p_value(users, 0, clip, bound, delta), 1);
	ck_assert_double_eq(risk_p_value(users, USERS, clip, clip, delta), 0);
	ck_assert_double_eq(risk_p_value(users, USERS, clip, -clip, delta), 1);
}
END_TEST

START_TEST(a_sequence_ends_at_its_first_failure)
{
	double p[] = {.01, .02, .2, .001};
	ck_assert_uint_eq(risk_fixed_sequence(p, 4, .05), 2);
	ck_assert_uint_eq(risk_fixed_sequence(p, 4, .005), 0);
	ck_assert_uint_eq(risk_fixed_sequence(p, 2, .05), 2);
	ck_assert_uint_eq(risk_fixed_sequence(p, 0, .05), 0);
}
END_TEST

/* ---- the whole choice ---- */

enum { IMPRESSIONS = 160, EACH = 4, ROWS = IMPRESSIONS * EACH, EXITS = 4, WORLD = 40000 };

struct world {
	int64_t first[WORLD + 1];
	float labels[WORLD * EACH];
	uint8_t part[WORLD];
	uint64_t user[WORLD];
	int64_t time[WORLD];
	double z[WORLD * EACH * EXITS];
	uint32_t list[WORLD], prefix[WORLD], suffix[WORLD * EACH];
	struct dataset data;
	struct departures departures;
};

static const uint32_t layers[EXITS] = {5, 10, 15, 20};
static const double platt[2 * EXITS] = {1, 0, 1, 0, 1, 0, 1, 0};

/* Exits read a truth of standard deviation 2 through noise that shrinks with depth; two impressions a user. */
static void make_world(struct world *w, int impressions, double noise, uint64_t *random)
{
	for (int i = 0; i < impressions; i++) {
		w->first[i] = i * EACH;
		w->user[i] = vector_random(random) >> 20 | (uint64_t)(i / 2) << 44;
		if (i % 2)
			w->user[i] = w->user[i - 1];
		w->list[i] = (uint32_t)i;
		w->prefix[i] = 100 + (uint32_t)(i % 7);
		for (int k = 0; k < EACH; k++) {
			int r = i * EACH + k;
			double truth = 2 * normal(random);
			w->suffix[r] = 10 + (uint32_t)(r % 5);
			w->labels[r] = vector_uniform(random) < objective_sigmoid(truth);
			for (int e = 0; e < EXITS; e++)
				w->z[r * EXITS + e] = truth + noise * (EXITS - 1 - e) * normal(random);
		}
	}
	w->first[impressions] = impressions * EACH;
	w->data = (struct dataset){(size_t)impressions, (size_t)impressions * EACH, 0, w->first, w->labels, NULL,
				   w->part, w->user, w->time, false};
	w->departures = (struct departures){&w->data, EXITS, layers, 30, w->z, platt, w->prefix, w->suffix};
}

/* The risk of a policy in a world so large that it is the truth. */
static double true_risk(struct world *w, const struct exit_policy *policy, double clip, uint8_t *exit_of)
{
	struct departure_totals totals;
	departures_take(&w->departures, policy, (struct dataset_list){w->list, w->data.impressions}, exit_of,
			&totals);
	double sum = 0;
	for (size_t r = 0; r < w->data.rows; r++) {
		double label = (double)w->labels[r];
		double early = objective_log_loss(departures_calibrated(&w->departures, r, exit_of[r]), label);
		double full = objective_log_loss(departures_calibrated(&w->departures, r, EXITS - 1), label);
		sum += fmax(-clip, fmin(clip, early - full));
	}
	return sum / (double)w->data.rows;
}

START_TEST(the_chosen_threshold_keeps_its_bound)
{
	enum { DRAWS = 60, TEST = 6 };
	struct world *large = calloc(1, sizeof *large), *small = calloc(1, sizeof *small);
	uint8_t *exit_of = calloc(WORLD * EACH, 1);
	uint64_t random = SEED;
	size_t broken = 0, passed = 0;
	double saved = 0;
	make_world(large, WORLD, .5, &random);
	/* The bound is in reach of some thresholds, not of the boldest. */
	struct exit_policy boldest = {EXIT_DISCREPANCY, 1, 3, {5, 10, 15, 20}, EXITS};
	ck_assert_double_gt(true_risk(large, &boldest, .3, exit_of), .01);
	struct threshold_options options = {EXIT_DISCREPANCY, 3, false, .01, .3, .1, 12, 100, 1};
	for (int d = 0; d < DRAWS; d++) {
		struct threshold_choice choice;
		struct error error = {0};
		make_world(small, (1 + TEST) * IMPRESSIONS, .5, &random);
		struct dataset_list grid = {small->list, IMPRESSIONS};
		struct dataset_list test = {small->list + IMPRESSIONS, TEST * IMPRESSIONS};
		options.seed = (uint64_t)d;
		ck_assert_int_eq(thresholds_choose(&small->departures, grid, test, &options, &choice, &error),
				 STATUS_OK);
		ck_assert_uint_eq(choice.users, TEST * IMPRESSIONS / 2);
		ck_assert_uint_ge(choice.trials_count, 1);
		if (!choice.passed) {
			ck_assert_int_eq(choice.policy.rule, EXIT_FIXED);
			ck_assert(isnan(choice.policy.threshold));
			continue;
		}
		passed++;
		ck_assert_double_le(choice.trials[choice.chosen].p_value, .1);
		saved += choice.trials[choice.chosen].saved_last;
		broken += true_risk(large, &choice.policy, options.clip, exit_of) > options.bound;
	}
	ck_assert_msg((double)broken / DRAWS <= .1 + 4 * sqrt(.1 * .9 / DRAWS), "seed %d: %zu of %d broken", SEED,
		      broken, DRAWS);
	/* A test that never passes anything would keep every bound. */
	ck_assert_msg(passed > DRAWS / 4, "seed %d: only %zu of %d passed", SEED, passed, DRAWS);
	ck_assert_double_gt(saved, 0);
	printf("seed %d: %zu of %d draws passed, %zu over the bound\n", SEED, passed, DRAWS, broken);
	free(large), free(small), free(exit_of);
}
END_TEST

START_TEST(noisy_exits_serve_full_depth)
{
	struct world *w = calloc(1, sizeof *w);
	uint64_t random = SEED;
	make_world(w, 2 * IMPRESSIONS, 3, &random);
	for (int rule = _i ? EXIT_FIXED : EXIT_CONFIDENCE; rule <= EXIT_FIXED; rule++) {
		struct threshold_options options = {(enum exit_rule)rule, 0, _i, .0005, .3, .05, 12, 200, 1};
		struct threshold_choice choice;
		struct error error = {0};
		struct dataset_list grid = {w->list, IMPRESSIONS}, test = {w->list + IMPRESSIONS, IMPRESSIONS};
		ck_assert_int_eq(thresholds_choose(&w->departures, grid, test, &options, &choice, &error),
				 STATUS_OK);
		ck_assert(!choice.passed && choice.policy.rule == EXIT_FIXED);
		ck_assert_uint_eq(departures_exit(&w->departures, &choice.policy, 5), EXITS - 1);
		ck_assert_uint_eq(choice.trials_count, 1);
	}
	free(w);
}
END_TEST

START_TEST(layer_tokens_are_counted)
{
	struct world *w = calloc(1, sizeof *w);
	uint64_t random = SEED;
	uint8_t exit_of[ROWS];
	struct departure_totals totals;
	make_world(w, 2, .5, &random);
	struct exit_policy policy = {EXIT_FIXED, 10, 1, {5, 10, 15, 20}, EXITS};
	departures_take(&w->departures, &policy, (struct dataset_list){w->list, 2}, exit_of, &totals);
	double suffixes = 0, prefixes = w->prefix[0] + w->prefix[1];
	for (int r = 0; r < 2 * EACH; r++) {
		suffixes += w->suffix[r];
		ck_assert_uint_eq(exit_of[r], 1);
	}
	ck_assert_double_eq(totals.layer_tokens_run, (prefixes + suffixes) * 9 + 2 * EACH);
	ck_assert_double_eq(totals.layer_tokens_last, (prefixes + suffixes) * 19 + 2 * EACH);
	ck_assert_double_eq(totals.layer_tokens_full, (prefixes + suffixes) * 30);
	ck_assert_double_eq(totals.left_at[1], 2 * EACH);
	free(w);
}
END_TEST

START_TEST(the_bootstrap_knows_free_from_dear)
{
	enum { USERS = 300 };
	struct risk_user users[USERS];
	for (int i = 0; i < USERS; i++)
		users[i] = (struct risk_user){0, 3 + (i % 5) * .1, 3 + (i % 5) * .1, 8, 1};
	ck_assert_double_eq_tol(risk_entropy_difference(users, USERS), 0, 1e-12);
	ck_assert_double_lt(risk_entropy_p_value(users, USERS, .001, 500, 3), .01);
	for (int i = 0; i < USERS; i++)
		users[i].early += .1;
	double entropy = -.125 * log(.125) - .875 * log(.875);
	ck_assert_double_eq_tol(risk_entropy_difference(users, USERS), .1 / 8 / entropy, 1e-9);
	ck_assert_double_eq(risk_entropy_p_value(users, USERS, .001, 500, 3), 1);
	ck_assert_double_eq(risk_entropy_p_value(users, 0, .001, 500, 3), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("risk");
	TCase *tests = tcase_create("risk");
	tcase_set_timeout(tests, 240);
	tcase_add_loop_test(tests, a_true_excess_passes_no_oftener_than_delta, 0, 3);
	tcase_add_test(tests, what_is_free_is_found_out);
	tcase_add_test(tests, a_sequence_ends_at_its_first_failure);
	tcase_add_test(tests, the_chosen_threshold_keeps_its_bound);
	tcase_add_loop_test(tests, noisy_exits_serve_full_depth, 0, 2);
	tcase_add_test(tests, layer_tokens_are_counted);
	tcase_add_test(tests, the_bootstrap_knows_free_from_dear);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
