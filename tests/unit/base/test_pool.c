/* The pool: every task once, on a thread of the pool, results visible to the caller; also under TSan. */
#include "base/pool.h"

#include "base/mem.h"
#include "tests/check_run.h"

#include <string.h>

enum { TASKS = 37 };

struct job {
	uint32_t seen[TASKS], sum[TASKS], threads, round;
};

static void task(void *context, uint32_t index, uint32_t thread)
{
	struct job *job = context;
	ck_assert_uint_lt(thread, job->threads);
	job->seen[index]++;
	for (uint32_t i = 0; i <= index; i++)
		job->sum[index] += i + job->round;
}

START_TEST(every_task_once)
{
	struct error error = {0};
	for (uint32_t threads = 1; threads <= 5; threads++) {
		struct pool *pool;
		ck_assert_int_eq(pool_create(threads, &pool, &error), STATUS_OK);
		ck_assert_uint_eq(pool_threads(pool), threads);
		for (uint32_t round = 0; round < 500; round++) {
			struct job job = {.threads = threads, .round = round};
			uint32_t count = round % (TASKS + 1);
			pool_run(pool, count, task, &job);
			for (uint32_t i = 0; i < TASKS; i++) {
				ck_assert_uint_eq(job.seen[i], i < count);
				ck_assert_uint_eq(job.sum[i],
						  i < count ? i * (i + 1) / 2 + (i + 1) * round : 0);
			}
		}
		pool_destroy(pool);
	}
	pool_destroy(NULL);
}
END_TEST

START_TEST(ends_without_work_and_refuses_nonsense)
{
	struct error error = {0};
	struct pool *pool = NULL;
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(pool_create(4, &pool, &error), STATUS_OK);
		pool_destroy(pool);
	}
	pool = NULL;
	ck_assert_int_eq(pool_create(0, &pool, &error), STATUS_CONFIG);
	ck_assert_int_eq(pool_create(POOL_THREADS_MAX + 1, &pool, &error), STATUS_CONFIG);
	mem_fail_after(0);
	ck_assert_int_eq(pool_create(2, &pool, &error), STATUS_NO_MEMORY);
	mem_fail_after(-1);
	ck_assert_ptr_null(pool);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pool");
	TCase *cases = tcase_create("pool");
	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, every_task_once);
	tcase_add_test(cases, ends_without_work_and_refuses_nonsense);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
