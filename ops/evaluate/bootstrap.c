/* bootstrap.c - see bootstrap.h. Called by report.c. */
#include "ops/evaluate/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <xxhash.h>

/* Poisson(1) by inversion: the distribution function at 0, 1, 2, ... */
static uint8_t poisson_one(double uniform)
{
	double term = exp(-1), sum = term;
	uint8_t value = 0;

	while (uniform >= sum && value < 20) {
		value++;
		term /= value;
		sum += term;
	}
	return value;
}

void bootstrap_weights(uint64_t seed, uint32_t draw, const uint64_t *user_keys, uint32_t users, uint8_t *weights)
{
	for (uint32_t user = 0; user < users; user++) {
		uint64_t words[2] = {user_keys[user], draw};
		uint64_t hash = XXH3_64bits_withSeed(words, sizeof words, seed);

		weights[user] = poisson_one((double)(hash >> 11) * 0x1p-53);
	}
}

static int ascending(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return (a > b) - (a < b);
}

static double quantile(const double *sorted, size_t count, double share)
{
	double place = share * (double)(count - 1);
	size_t below = (size_t)place;
	double part = place - (double)below;

	return below + 1 < count ? sorted[below] * (1 - part) + sorted[below + 1] * part : sorted[count - 1];
}

struct interval bootstrap_interval(double *values, size_t count)
{
	enum { LEAST = 10 };
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (!isnan(values[i]))
			values[kept++] = values[i];
	if (kept < LEAST)
		return (struct interval){NAN, NAN};
	qsort(values, kept, sizeof *values, ascending);
	return (struct interval){quantile(values, kept, .025), quantile(values, kept, .975)};
}
