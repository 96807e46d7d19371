/* Chunks follow the clock. */
#include "ops/cli/pacing.h"
#include "tests/check_run.h"

START_TEST(one_request_before_anything_is_known)
{
	struct pacing pacing = {0};
	ck_assert_uint_eq(pacing_requests(&pacing, 16), 1);
	ck_assert_int_eq(pacing_expected_ms(&pacing, 10000), 0);
}
END_TEST

START_TEST(about_two_seconds)
{
	struct pacing pacing = {0};
	pacing_measured(&pacing, 1, 8, 400 * 1000000L);
	ck_assert_uint_eq(pacing_requests(&pacing, 16), 4);      /* a little more than 400 ms each */
	ck_assert_uint_eq(pacing_requests(&pacing, 3), 3);
	ck_assert_int_eq(pacing_expected_ms(&pacing, 80), 4000);
	pacing_measured(&pacing, 1, 8, 5000 * 1000000L);
	ck_assert_uint_eq(pacing_requests(&pacing, 16), 1);
	pacing_measured(&pacing, 16, 128, 1000);
	ck_assert_uint_eq(pacing_requests(&pacing, 16), 16);
	ck_assert_int_eq(pacing_expected_ms(&pacing, 8), 0);
}
END_TEST

START_TEST(extremes)
{
	struct pacing pacing = {0};
	pacing_measured(&pacing, 1, 0, 3000 * 1000000L);         /* no candidates */
	ck_assert_int_ge(pacing_expected_ms(&pacing, 1), 3000);
	pacing_measured(&pacing, 1, 1, INT64_MAX - 1);
	ck_assert_uint_eq(pacing_requests(&pacing, 16), 1);
	ck_assert_int_gt(pacing_expected_ms(&pacing, 1000), 1000000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pacing");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, one_request_before_anything_is_known);
	tcase_add_test(tests, about_two_seconds);
	tcase_add_test(tests, extremes);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
