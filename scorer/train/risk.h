/* risk.h - how far may a threshold go: tests that leaving early costs little against full depth.
 *
 * An observation is a user: x = the mean over the user's candidates of the loss when leaving early minus the
 * loss at full depth, each difference clipped to [-clip, clip]. Users are taken as independent.
 *
 * risk_p_value()  is valid for every n and every distribution on [-clip, clip]: the probability of a value
 *     <= delta is at most delta where E[x] > bound. It is the test by betting of Waudby-Smith and Ramdas
 *     ("Estimating means of bounded random variables by betting", JRSS B 2024): wealth grows while x stays
 *     below the bound, and 1 / (the most wealth ever had) is a p-value by Ville's inequality.
 * risk_entropy_p_value()  is approximate: the share of bootstrap draws over users whose normalised entropy
 *     exceeds that at full depth by more than the bound.
 * Fixed-sequence testing goes through thresholds from the most careful on and stops at the first whose
 * p-value is above delta; the last before that is chosen. The probability that any chosen one exceeds the
 * bound is then at most delta (Angelopoulos, Bates, Candes, Jordan, Lei, "Learn then Test", 2021), as long
 * as the sequence was fixed without these users. Pure functions; any thread. */
#ifndef EXITPOLL_SCORER_TRAIN_RISK_H
#define EXITPOLL_SCORER_TRAIN_RISK_H

#include <stddef.h>
#include <stdint.h>

/* Sums over one user's labelled candidates. */
struct risk_user {
	double difference;              /* x */
	double early, full;             /* log losses, sums, not clipped */
	double rows, positives;
};

/* Users in an order that does not depend on their outcomes; delta tunes the bets, not the validity.
 * 0 users: 1. */
double risk_p_value(const struct risk_user *users, size_t count, double clip, double bound, double delta);

/* `draws` resamples of the users; 1 where there are no users or only one class. */
double risk_entropy_p_value(const struct risk_user *users, size_t count, double bound, size_t draws,
			    uint64_t seed);
/* Normalised entropy when leaving early minus that at full depth; NaN with one class only. */
double risk_entropy_difference(const struct risk_user *users, size_t count);

/* How many p-values of the sequence are <= delta before the first that is not. */
size_t risk_fixed_sequence(const double *p_values, size_t count, double delta);

#endif
