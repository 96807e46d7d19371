/* bench.h - one row of `exitpoll bench`, and the groups of benchmarks. Every benchmark verifies its
 * result before it times it, takes the median of several runs, and says how much one run did. */
#ifndef EXITPOLL_OPS_CLI_BENCH_H
#define EXITPOLL_OPS_CLI_BENCH_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct bench_report;

/* A measured figure. target 0: none. */
void bench_row(struct bench_report *report, const char *group, const char *what, double value,
	       const char *unit, double target);
/* Median of the seconds of `runs` calls of work(context). */
double bench_median_seconds(int runs, void (*work)(void *context), void *context);

#if EXITPOLL_KAFKA
enum status bench_codec(struct bench_report *report, struct error *error);
enum status bench_stream(struct bench_report *report, struct error *error);
#endif
/* model NULL: only what needs none. */
enum status bench_scorer(struct bench_report *report, const char *model, struct error *error);

#endif
