/* The exit rules on sequences made by hand: 1, 2, 3, w and w + 1 exits. */
#include "scorer/exit_policy.h"
#include "tests/check_run.h"

#include <math.h>
#include <string.h>

static struct exit_policy policy_of(enum exit_rule rule)
{
	struct exit_policy policy = {.layers = {1, 2, 3, 4, 5, 6, 7, 8}, .layers_count = 8};
	exit_policy_defaults(rule, &policy);
	return policy;
}

START_TEST(discrepancy_needs_three_exits)
{
	struct exit_policy policy = policy_of(EXIT_DISCREPANCY);
	policy.threshold = .1;
	const float flat[] = {.5f, .5f, .5f};
	struct exit_decision first = exit_decide(&policy, flat, 1, 1, false);
	ck_assert(!first.leave && !first.has_discrepancy && !first.has_mean && !first.has_margin);
	struct exit_decision second = exit_decide(&policy, flat, 2, 2, false);
	ck_assert(!second.leave && second.has_discrepancy && !second.has_mean && !second.has_margin);
	struct exit_decision third = exit_decide(&policy, flat, 3, 3, false);
	ck_assert(third.leave && third.has_mean && third.has_margin);
	ck_assert_float_eq(third.margin, .1f);
	/* A list of one or two exits still decides. */
	ck_assert(exit_decide(&policy, flat, 1, 1, true).leave);
	ck_assert(exit_decide(&policy, flat, 2, 2, true).leave);
}
END_TEST

START_TEST(discrepancy_mean_is_over_the_window_before)
{
	struct exit_policy policy = policy_of(EXIT_DISCREPANCY);
	policy.window = 2;
	policy.threshold = .0625;
	/* D: 1/2, 1/4, 1/4, 1/8 (exact in binary) */
	const float p[] = {0, .5f, .25f, .5f, .375f};
	struct exit_decision third = exit_decide(&policy, p, 3, 3, false);
	ck_assert_float_eq(third.discrepancy, .25f);
	ck_assert_float_eq(third.mean_discrepancy, .5f);
	ck_assert(!third.leave);
	ck_assert_float_eq(third.margin, .0625f - .25f);
	struct exit_decision fourth = exit_decide(&policy, p, 4, 4, false);     /* both of the window */
	ck_assert_float_eq(fourth.mean_discrepancy, .375f);
	ck_assert(!fourth.leave);
	struct exit_decision fifth = exit_decide(&policy, p, 5, 5, false);      /* the oldest D falls out */
	ck_assert_float_eq(fifth.mean_discrepancy, .25f);
	ck_assert_float_eq(fifth.discrepancy, .125f);
	ck_assert(!fifth.leave);
	policy.threshold = .125;                                                /* below, not at */
	ck_assert(!exit_decide(&policy, p, 5, 5, false).leave);
	policy.threshold = .1251;
	ck_assert(exit_decide(&policy, p, 5, 5, false).leave);
	policy.window = 3;
	ck_assert_float_eq(exit_decide(&policy, p, 5, 5, false).mean_discrepancy, (float)(1.0 / 3));
	policy.window = 100;
	ck_assert_float_eq(exit_decide(&policy, p, 5, 5, false).mean_discrepancy, (float)(1.0 / 3));
}
END_TEST

START_TEST(threshold_zero_never_leaves_early)
{
	struct exit_policy policy = policy_of(EXIT_DISCREPANCY);
	policy.threshold = 0;
	const float flat[] = {.5f, .5f, .5f, .5f};
	ck_assert(!exit_decide(&policy, flat, 4, 4, false).leave);
	struct exit_decision last = exit_decide(&policy, flat, 4, 8, true);
	ck_assert(last.leave);
	ck_assert_str_eq(last.why, "leaves: the last exit");
	ck_assert(last.has_margin);
	ck_assert_float_eq(last.margin, 0);
}
END_TEST

START_TEST(confidence_takes_either_side)
{
	struct exit_policy policy = policy_of(EXIT_CONFIDENCE);
	policy.threshold = .75;
	const float p[] = {.74f, .75f, .25f, .26f};
	ck_assert(!exit_decide(&policy, p, 1, 1, false).leave);
	ck_assert(exit_decide(&policy, p, 2, 2, false).leave);
	ck_assert(exit_decide(&policy, p, 3, 3, false).leave);
	ck_assert(!exit_decide(&policy, p, 4, 4, false).leave);
	ck_assert(!exit_decide(&policy, p, 3, 3, false).has_margin);
	ck_assert(exit_decide(&policy, p, 4, 4, true).leave);
}
END_TEST

START_TEST(patience_counts_equal_answers)
{
	struct exit_policy policy = policy_of(EXIT_PATIENCE);
	policy.window = 2;
	const float same[] = {.6f, .9f, .51f};
	ck_assert(!exit_decide(&policy, same, 1, 1, false).leave);
	ck_assert(!exit_decide(&policy, same, 2, 2, false).leave);
	ck_assert(exit_decide(&policy, same, 3, 3, false).leave);
	const float turned[] = {.6f, .9f, .4f, .3f, .2f};
	ck_assert(!exit_decide(&policy, turned, 3, 3, false).leave);
	ck_assert(!exit_decide(&policy, turned, 4, 4, false).leave);
	ck_assert(exit_decide(&policy, turned, 5, 5, false).leave);
}
END_TEST

START_TEST(fixed_and_none)
{
	struct exit_policy policy = policy_of(EXIT_FIXED);
	const float p[] = {.5f, .5f, .5f, .5f};
	ck_assert(!exit_decide(&policy, p, 4, 4, false).leave);
	ck_assert(exit_decide(&policy, p, 4, 8, true).leave);
	policy.threshold = 3;
	ck_assert(!exit_decide(&policy, p, 2, 2, false).leave);
	ck_assert(exit_decide(&policy, p, 3, 3, false).leave);
	policy = policy_of(EXIT_NONE);
	ck_assert(!exit_decide(&policy, p, 4, 4, false).leave);
	ck_assert(exit_decide(&policy, p, 4, 30, true).leave);
	ck_assert_uint_eq(exit_policy_depth(&policy, 30), 30);
}
END_TEST

START_TEST(lists)
{
	struct exit_policy policy = policy_of(EXIT_DISCREPANCY);
	struct error error = {0};
	ck_assert_int_eq(exit_layers_parse(NULL, 30, &policy, &error), STATUS_OK);
	ck_assert_uint_eq(policy.layers_count, 6);
	ck_assert_uint_eq(policy.layers[5], 30);
	ck_assert_int_eq(exit_layers_parse("", 32, &policy, &error), STATUS_OK);
	ck_assert_uint_eq(policy.layers_count, 7);
	ck_assert_uint_eq(policy.layers[6], 32);
	ck_assert_int_eq(exit_layers_parse(NULL, 1, &policy, &error), STATUS_OK);
	ck_assert_uint_eq(policy.layers_count, 1);
	ck_assert_uint_eq(policy.layers[0], 1);
	ck_assert_int_eq(exit_layers_parse("5,10,15,20", 32, &policy, &error), STATUS_OK);
	ck_assert_uint_eq(exit_policy_depth(&policy, 32), 20);
	static const char *const wrong[] = {"0", "5,5", "10,5", "33", "5,", ",5", "a", "5;6", "-1", "5, 6",
					    "99999999999999999999"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct exit_policy before = policy;
		ck_assert_msg(exit_layers_parse(wrong[i], 32, &policy, &error) == STATUS_CONFIG, "%s",
			      wrong[i]);
		ck_assert(memcmp(&before, &policy, sizeof policy) == 0);
	}
	enum exit_rule rule;
	ck_assert_int_eq(exit_rule_parse("patience", &rule, &error), STATUS_OK);
	ck_assert_int_eq(rule, EXIT_PATIENCE);
	ck_assert_int_eq(exit_rule_parse("discrepency", &rule, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "\"discrepancy\""));
}
END_TEST

START_TEST(senseless_policies_are_refused)
{
	struct error error = {0};
	struct exit_policy policy = policy_of(EXIT_DISCREPANCY);
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_OK);
	ck_assert_int_eq(exit_policy_check(&policy, 7, &error), STATUS_CONFIG);
	policy.threshold = NAN;
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_CONFIG);
	policy.threshold = -.1;
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_CONFIG);
	policy = policy_of(EXIT_CONFIDENCE);
	policy.threshold = .4;
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_CONFIG);
	policy = policy_of(EXIT_PATIENCE);
	policy.window = 0;
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_CONFIG);
	policy = policy_of(EXIT_FIXED);
	policy.threshold = 2.5;
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_CONFIG);
	policy = policy_of(EXIT_NONE);
	policy.layers_count = 0;
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_OK);
	policy = policy_of(EXIT_DISCREPANCY);
	policy.layers_count = 0;
	ck_assert_int_eq(exit_policy_check(&policy, 8, &error), STATUS_CONFIG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exit_policy");
	TCase *cases = tcase_create("rules");
	tcase_add_test(cases, discrepancy_needs_three_exits);
	tcase_add_test(cases, discrepancy_mean_is_over_the_window_before);
	tcase_add_test(cases, threshold_zero_never_leaves_early);
	tcase_add_test(cases, confidence_takes_either_side);
	tcase_add_test(cases, patience_counts_equal_answers);
	tcase_add_test(cases, fixed_and_none);
	tcase_add_test(cases, lists);
	tcase_add_test(cases, senseless_policies_are_refused);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
