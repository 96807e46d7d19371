/* bench_figures.c - how fast answers are judged: one million predictions of one candidate, and as many of
 * eight. Verifies first that AUC is that of all pairs on a small part. One JSON object. */
#include "ops/evaluate/figures.h"

#include "base/clock.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PREDICTIONS = 1000000, USERS = 50000, SMALL = 300, RUNS = 5 };

static uint64_t state = 1;

static uint64_t next(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return state >> 40;
}

static bool make(struct answers *answers, unsigned predictions, unsigned candidates)
{
	struct error error;

	for (unsigned i = 0; i < predictions; i++) {
		if (answers_begin(answers, (uint32_t)(next() % USERS), 0, &error) != STATUS_OK)
			return false;
		for (unsigned c = 0; c < candidates; c++) {
			struct answer row = {.p = (float)(1 + next() % 9998) / 10000.0f, .layer = 15};

			row.positive = (double)next() / 16777216.0 < .3 * (double)row.p;
			if (answers_add(answers, &row, &error) != STATUS_OK)
				return false;
		}
	}
	return true;
}

static double by_pairs(const struct answers *answers)
{
	double won = 0, pairs = 0;

	for (size_t a = 0; a < answers->rows_count; a++)
		for (size_t b = 0; b < answers->rows_count; b++)
			if (answers->rows[a].positive && !answers->rows[b].positive) {
				float one = answers->rows[a].p, two = answers->rows[b].p;
				won += one > two ? 1 : one < two ? 0 : .5;
				pairs += 1;
			}
	return won / pairs;
}

static int ascending(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* Predictions a second, everything but reading included; negative: a wrong figure. */
static double rate(unsigned candidates)
{
	struct answers answers = {0}, small = {0};
	struct judge *judge;
	struct figures figures = {0};
	struct error error;
	double seconds[RUNS];
	bool right;

	if (!make(&small, SMALL, candidates) || judge_create(&small, SCORED_BY_MODEL, NULL, &judge, &error) != STATUS_OK)
		return -1;
	judge_take(judge, NULL, &figures, NULL);
	right = fabs(figures.value[FIGURE_AUC] - by_pairs(&small)) < 1e-9;
	judge_destroy(judge);
	if (!right || !make(&answers, PREDICTIONS, candidates))
		return -1;
	for (int run = 0; run < RUNS; run++) {
		int64_t began_ns = clock_steady_ns();

		if (judge_create(&answers, SCORED_BY_MODEL, NULL, &judge, &error) != STATUS_OK)
			return -1;
		judge_take(judge, NULL, &figures, NULL);
		judge_destroy(judge);
		seconds[run] = (double)(clock_steady_ns() - began_ns) / 1e9;
	}
	qsort(seconds, RUNS, sizeof *seconds, ascending);
	answers_free(&answers);
	answers_free(&small);
	return PREDICTIONS / seconds[RUNS / 2];
}

int main(void)
{
	double single = rate(1), eight = rate(8);

	printf("{\"predictions_per_s\": {\"one_candidate\": %.0f, \"eight_candidates\": %.0f}}\n", single, eight);
	return single > 0 && eight > 0 ? 0 : 1;
}
