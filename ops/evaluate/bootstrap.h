/* bootstrap.h - how sure a figure is: intervals from draws over users.
 *
 * Answers of one user depend on one another, so users are drawn, each with a Poisson(1) weight (the
 * Poisson bootstrap: Hanley and MacGibbon, 2006). The weight is a function of seed, draw and user alone:
 * two files are judged by the same draws, and their difference is paired. Any thread. */
#ifndef EXITPOLL_OPS_EVALUATE_BOOTSTRAP_H
#define EXITPOLL_OPS_EVALUATE_BOOTSTRAP_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { BOOTSTRAP_DRAWS_MAX = 10000 };

struct interval {
	double low, high;               /* NaN: fewer than 10 draws had the figure */
};

/* weights [users] of one draw; user_keys [users] name them (a hash of the id, so that order decides nothing). */
void bootstrap_weights(uint64_t seed, uint32_t draw, const uint64_t *user_keys, uint32_t users, uint8_t *weights);

/* The middle 95 % of the values that are not NaN, by linear interpolation between order statistics; sorts
 * values in place. */
struct interval bootstrap_interval(double *values, size_t count);

#endif
