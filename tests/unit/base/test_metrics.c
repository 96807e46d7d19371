/* test_metrics.c - metrics: bounded, exact under threads, the text format byte for byte, quantiles. */
#include "base/metrics.h"

#include "base/mem.h"
#include "tests/check_run.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void ck_text(struct metrics *metrics, const char *part)
{
	char *text = metrics_render(metrics);

	ck_assert_ptr_nonnull(text);
	ck_assert_msg(strstr(text, part) != NULL, "lacks:\n%s\nin:\n%s", part, text);
	mem_free(text);
}

START_TEST(text_format)
{
	static const double bounds[] = {.5, 2};
	struct metrics *metrics = metrics_create(10);
	static const char help[] = "Events.\nBy \"reason\" \\.";
	struct counter *late = metrics_counter(metrics, "a_total", help, "reason", "late");
	struct counter *odd = metrics_counter(metrics, "a_total", "", "reason", "a\"b\\c\nd");
	struct gauge *gauge = metrics_gauge(metrics, "b_bytes", "Bytes.", NULL, NULL);
	struct histogram *histogram = metrics_histogram(metrics, "c_seconds", "Time.", "stage", "x", bounds, 2);

	counter_add(late, 3);
	counter_add(odd, UINT64_MAX);
	gauge_set(gauge, .1);
	histogram_observe(histogram, .5);       /* a bound belongs to its own bucket */
	histogram_observe(histogram, 1);
	histogram_observe(histogram, 1e9);
	histogram_observe(histogram, NAN);
	ck_text(metrics,
		"# HELP exitpoll_metrics_refused_total Series that did not fit or were malformed.\n"
		"# TYPE exitpoll_metrics_refused_total counter\n"
		"exitpoll_metrics_refused_total 0\n"
		"# HELP a_total Events.\\nBy \"reason\" \\\\.\n"
		"# TYPE a_total counter\n"
		"a_total{reason=\"late\"} 3\n"
		"a_total{reason=\"a\\\"b\\\\c\\nd\"} 18446744073709551615\n"
		"# HELP b_bytes Bytes.\n"
		"# TYPE b_bytes gauge\n"
		"b_bytes 0.1\n"
		"# HELP c_seconds Time.\n"
		"# TYPE c_seconds histogram\n"
		"c_seconds_bucket{stage=\"x\",le=\"0.5\"} 1\n"
		"c_seconds_bucket{stage=\"x\",le=\"2\"} 2\n"
		"c_seconds_bucket{stage=\"x\",le=\"+Inf\"} 3\n"
		"c_seconds_sum{stage=\"x\"} 1000000001.5\n"
		"c_seconds_count{stage=\"x\"} 3\n");
	gauge_set(gauge, -INFINITY);
	ck_text(metrics, "b_bytes -Inf\n");
	gauge_set(gauge, NAN);
	ck_text(metrics, "b_bytes NaN\n");
	gauge_set(gauge, 2);
	gauge_add(gauge, -2.5);
	ck_text(metrics, "b_bytes -0.5\n");
	metrics_destroy(metrics);
}
END_TEST

START_TEST(the_same_pair_is_the_same_series)
{
	struct metrics *metrics = metrics_create(10);
	struct counter *counter = metrics_counter(metrics, "a_total", "h", "k", "v");

	ck_assert_ptr_eq(metrics_counter(metrics, "a_total", "h", "k", "v"), counter);
	ck_assert_ptr_ne(metrics_counter(metrics, "a_total", "h", "k", "w"), counter);
	ck_assert_ptr_ne(metrics_counter(metrics, "a_total", "h", NULL, NULL), counter);
	metrics_destroy(metrics);
}
END_TEST

START_TEST(what_does_not_fit_is_refused_and_counted)
{
	static const double falling[] = {2, 1}, infinite[] = {INFINITY};
	struct metrics *metrics = metrics_create(2);
	double many[METRIC_BUCKETS_MAX + 1];

	for (int i = 0; i <= METRIC_BUCKETS_MAX; i++)
		many[i] = i;
	ck_assert_ptr_nonnull(metrics_counter(metrics, "a_total", "h", NULL, NULL));
	ck_assert_ptr_null(metrics_gauge(metrics, "a_total", "h", NULL, NULL));         /* another type */
	ck_assert_ptr_null(metrics_gauge(metrics, "9a", "h", NULL, NULL));
	ck_assert_ptr_null(metrics_gauge(metrics, "", "h", NULL, NULL));
	ck_assert_ptr_null(metrics_gauge(metrics, "a b", "h", NULL, NULL));
	ck_assert_ptr_null(metrics_gauge(metrics, "a", "h", "l-n", "v"));
	ck_assert_ptr_null(metrics_gauge(metrics, "a", "h", "l", NULL));
	ck_assert_ptr_null(metrics_histogram(metrics, "h", "h", NULL, NULL, falling, 2));
	ck_assert_ptr_null(metrics_histogram(metrics, "h", "h", NULL, NULL, infinite, 1));
	ck_assert_ptr_null(metrics_histogram(metrics, "h", "h", NULL, NULL, many, METRIC_BUCKETS_MAX + 1));
	ck_assert_ptr_nonnull(metrics_gauge(metrics, "b", "h", NULL, NULL));
	ck_assert_ptr_null(metrics_gauge(metrics, "c", "h", NULL, NULL));               /* full */
	ck_text(metrics, "exitpoll_metrics_refused_total 10\n");
	metrics_destroy(metrics);
}
END_TEST

START_TEST(nothing_is_a_fine_registry)
{
	struct counter *counter = metrics_counter(NULL, "a", "h", NULL, NULL);

	ck_assert_ptr_null(counter);
	counter_add(counter, 1);
	ck_assert_uint_eq(counter_value(counter), 0);
	gauge_set(metrics_gauge(NULL, "a", "h", NULL, NULL), 1);
	gauge_add(NULL, 1);
	histogram_observe(metrics_histogram(NULL, "a", "h", NULL, NULL, NULL, 0), 1);
	ck_assert(isnan(histogram_quantile(NULL, .5)));
	metrics_add_process(NULL);
	metrics_destroy(NULL);
}
END_TEST

START_TEST(quantiles)
{
	static const double bounds[] = {1, 2, 4, 8};
	struct metrics *metrics = metrics_create(4);
	struct histogram *histogram = metrics_histogram(metrics, "h", "h", NULL, NULL, bounds, 4);

	ck_assert(isnan(histogram_quantile(histogram, .5)));
	for (int i = 0; i < 50; i++) {
		histogram_observe(histogram, 1.5);
		histogram_observe(histogram, 3);
	}
	ck_assert_double_eq_tol(histogram_quantile(histogram, .25), 1.5, 1e-9);
	ck_assert_double_eq_tol(histogram_quantile(histogram, .5), 2, 1e-9);
	ck_assert_double_eq_tol(histogram_quantile(histogram, 1), 4, 1e-9);
	ck_assert_double_eq_tol(histogram_quantile(histogram, 0), 1, 1e-9);
	for (int i = 0; i < 900; i++)
		histogram_observe(histogram, 100);
	ck_assert_double_eq(histogram_quantile(histogram, .99), 8);
	metrics_destroy(metrics);
}
END_TEST

struct load {
	struct metrics *metrics;
	int number;
};

static void *add_much(void *context)
{
	struct load *load = context;
	char name[32];

	for (int round = 0; round < 20000; round++) {
		if (round % 1000 == 0) {
			snprintf(name, sizeof name, "own_%d_total", load->number * 20 + round / 1000);
			counter_add(metrics_counter(load->metrics, name, "h", NULL, NULL), 1);
			mem_free(metrics_render(load->metrics));
		}
		counter_add(metrics_counter(load->metrics, "shared_total", "h", NULL, NULL), 2);
		gauge_add(metrics_gauge(load->metrics, "shared", "h", NULL, NULL), .5);
		histogram_observe(metrics_histogram(load->metrics, "shared_seconds", "h", NULL, NULL, NULL, 0), 1);
	}
	return NULL;
}

START_TEST(threads_lose_nothing)
{
	struct metrics *metrics = metrics_create(200);
	struct load loads[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		loads[i] = (struct load){metrics, i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, add_much, &loads[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_text(metrics, "\nshared_total 160000\n");
	ck_text(metrics, "\nshared 40000\n");
	ck_text(metrics, "\nshared_seconds_count 80000\n");
	ck_text(metrics, "\nshared_seconds_sum 80000\n");
	ck_text(metrics, "\nown_79_total 1\n");
	ck_text(metrics, "\nexitpoll_metrics_refused_total 0\n");
	metrics_destroy(metrics);
}
END_TEST

START_TEST(process_metrics)
{
	struct metrics *metrics = metrics_create(16);

	metrics_add_process(metrics);
	ck_text(metrics, "\nprocess_resident_memory_bytes ");
	ck_text(metrics, "# TYPE process_cpu_seconds_total counter\n");
	mem_free(metrics_render(metrics));
	ck_assert_double_gt(gauge_value(metrics_gauge(metrics, "process_resident_memory_bytes", "", NULL, NULL)),
			    100000);
	ck_assert_double_ge(gauge_value(metrics_gauge(metrics, "process_open_fds", "", NULL, NULL)), 3);
	metrics_destroy(metrics);
}
END_TEST

START_TEST(no_memory)
{
	for (long successes = 0; successes < 100; successes++) {
		struct metrics *metrics;
		char *text = NULL;

		mem_fail_after(successes);
		metrics = metrics_create(8);
		counter_add(metrics_counter(metrics, "a_total", "h", "k", "v"), 1);
		metrics_histogram(metrics, "b", "h", NULL, NULL, NULL, 0);
		if (metrics)
			text = metrics_render(metrics);
		mem_fail_after(-1);
		mem_free(text);
		metrics_destroy(metrics);
		if (text && successes > 12)
			return;
	}
	ck_abort_msg("100 allocations are not enough");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("metrics");
	TCase *tests = tcase_create("metrics");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, text_format);
	tcase_add_test(tests, the_same_pair_is_the_same_series);
	tcase_add_test(tests, what_does_not_fit_is_refused_and_counted);
	tcase_add_test(tests, nothing_is_a_fine_registry);
	tcase_add_test(tests, quantiles);
	tcase_add_test(tests, threads_lose_nothing);
	tcase_add_test(tests, process_metrics);
	tcase_add_test(tests, no_memory);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
