/* check_run.h - how every test program of the Check framework ends: main() makes one suite and gives it here. */
#ifndef EXITPOLL_TESTS_CHECK_RUN_H
#define EXITPOLL_TESTS_CHECK_RUN_H

#include <check.h>

/* main()'s result: 0, or 1 when a test failed. The suite is freed. CK_FORK and CK_VERBOSITY are obeyed. */
static inline int check_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

#endif
