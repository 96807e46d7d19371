/* risk.c - betting against the bound, resampling users. Caller: thresholds.c. */
#include "scorer/train/risk.h"

#include "scorer/train/vector.h"

#include <math.h>

/* At most this part of the wealth that one outcome could take is ever bet. */
static const double stake_max = .9;

double risk_p_value(const struct risk_user *users, size_t count, double clip, double bound, double delta)
{
	double centre = (bound + clip) / (2 * clip);    /* the bound where x lies in [0, 1] */
	if (!count || !(clip > 0) || !(centre > 0))
		return 1;
	if (centre >= 1)
		return 0;       /* nothing on [-clip, clip] exceeds the bound */
	/* Wealth in logs. Users are expected to lie at the bound with a deviation of a tenth of the range until they
	 * show otherwise; any start is valid, this one finds out soon where early and late exits agree. */
	double wealth = 0, most = 0, sum = centre, squares = .01;
	for (size_t i = 0; i < count; i++) {
		double x = (fmax(-clip, fmin(clip, users[i].difference)) + clip) / (2 * clip);
		double variance = squares / ((double)i + 1);
		double stake = fmin(sqrt(2 * log(1 / delta) / ((double)count * variance)),
				    stake_max / (1 - centre));
		wealth += log1p(stake * (centre - x));
		most = fmax(most, wealth);
		sum += x;
		double mean = sum / ((double)i + 2);    /* x and the start */
		squares += (x - mean) * (x - mean);
	}
	return exp(-most);
}

static double entropy_difference(double early, double full, double rows, double positives)
{
	double share = positives / rows;
	double entropy = -share * log(share) - (1 - share) * log(1 - share);
	return share > 0 && share < 1 ? (early - full) / rows / entropy : NAN;
}

double risk_entropy_difference(const struct risk_user *users, size_t count)
{
	struct risk_user sum = {0};
	for (size_t i = 0; i < count; i++) {
		sum.early += users[i].early;
		sum.full += users[i].full;
		sum.rows += users[i].rows;
		sum.positives += users[i].positives;
	}
	return entropy_difference(sum.early, sum.full, sum.rows, sum.positives);
}

double risk_entropy_p_value(const struct risk_user *users, size_t count, double bound, size_t draws,
			    uint64_t seed)
{
	size_t above = 0;
	if (!count || isnan(risk_entropy_difference(users, count)))
		return 1;
	for (size_t d = 0; d < draws; d++) {
		struct risk_user sum = {0};
		for (size_t i = 0; i < count; i++) {
			const struct risk_user *user = &users[vector_random(&seed) % count];
			sum.early += user->early;
			sum.full += user->full;
			sum.rows += user->rows;
			sum.positives += user->positives;
		}
		double difference = entropy_difference(sum.early, sum.full, sum.rows, sum.positives);
		above += !(difference <= bound);
	}
	return ((double)above + 1) / ((double)draws + 1);
}

size_t risk_fixed_sequence(const double *p_values, size_t count, double delta)
{
	size_t passed = 0;
	while (passed < count && p_values[passed] <= delta)
		passed++;
	return passed;
}
