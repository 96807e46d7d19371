/* test_features.c - the vector of statistics: order, logits, what is missing. */
#include "scorer/features.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdlib.h>

static const float user_statistics[] = {.75f, 2, -.25f, .5f};
static const float candidate_statistics[] = {.9f, 3, .1f, 11, 12, 13, 14, 15, 16, 17, .25f, .3f, 4};

static struct request_candidate candidates[] = {
	{{"a", 1}, {"A", 1}, candidate_statistics, 13},
	{{"b", 1}, {"B", 1}, candidate_statistics, 10},
	{{"c", 1}, {"C", 1}, NULL, 0},
};

static struct scoring_request request_of(void)
{
	return (struct scoring_request){
		.user_statistics = user_statistics, .user_statistics_count = 4,
		.candidates = candidates, .candidates_count = 3,
	};
}

START_TEST(test_order_and_logits)
{
	struct scoring_request request = request_of();
	float out[FEATURES_COUNT_MAX];
	ck_assert_uint_eq(features_attributes_of(&request), 1);
	ck_assert_uint_eq(features_count(1), 17);
	features_fill(&request, 0, out, 17);
	double want[17] = {log(3), 2, -.25f, 0, log(.9f / (1 - (double).9f)), 3, .1f, 11, 12, 13, 14, 15, 16, 17,
			   -log(3), .3f, 4};
	for (int i = 0; i < 17; i++)
		ck_assert_float_eq_tol(out[i], (float)want[i], 1e-6f);
}
END_TEST

START_TEST(test_missing_is_nan)
{
	struct scoring_request request = request_of();
	float out[17];
	features_fill(&request, 1, out, 17);
	ck_assert_float_eq(out[13], 17);
	for (int i = 14; i < 17; i++)
		ck_assert(isnan(out[i]));
	features_fill(&request, 2, out, 17);
	ck_assert_float_eq(out[1], 2);
	for (int i = 4; i < 17; i++)
		ck_assert(isnan(out[i]));
	float odd[] = {NAN, INFINITY, 0, 1};
	request.user_statistics = odd;
	features_fill(&request, 0, out, 17);
	ck_assert(isnan(out[0]) && isnan(out[1]));
	ck_assert_float_eq(out[2], 0);
	ck_assert_float_eq_tol(out[3], (float)log(.98 / .02), 1e-6f);
	request.candidates_count = 0;
	ck_assert_uint_eq(features_attributes_of(&request), 0);
}
END_TEST

START_TEST(test_logits_are_clipped)
{
	ck_assert_float_eq(features_logit(0), features_logit(.02f));
	ck_assert_float_eq(features_logit(-3), features_logit(0));
	ck_assert_float_eq(features_logit(1), features_logit(.99f));
	ck_assert_float_eq(features_logit(.5f), 0);
	ck_assert(isnan(features_logit(NAN)));
}
END_TEST

START_TEST(test_names)
{
	const char *const attributes[] = {"brand", "genre"};
	char name[FEATURES_NAME_BYTES];
	features_name(0, NULL, name);
	ck_assert_str_eq(name, "user_mean");
	features_name(13, NULL, name);
	ck_assert_str_eq(name, "similar_texts_max");
	features_name(14, attributes, name);
	ck_assert_str_eq(name, "brand_mean");
	features_name(19, attributes, name);
	ck_assert_str_eq(name, "genre_log_match");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("features");
	TCase *tests = tcase_create("features");
	tcase_add_test(tests, test_order_and_logits);
	tcase_add_test(tests, test_missing_is_nan);
	tcase_add_test(tests, test_logits_are_clipped);
	tcase_add_test(tests, test_names);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
