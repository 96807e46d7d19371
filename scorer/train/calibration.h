/* calibration.h - Platt's scaling: the a > 0 and b for which sigmoid(a z + b) is the likeliest on given rows.
 *
 * Platt, "Probabilistic outputs for support vector machines", 1999, with his smoothed targets
 * (n+ + 1)/(n+ + 2) and 1/(n- + 2), by Newton's method with halving (Lin, Lin, Weng, Machine Learning 2007).
 * Where the rows would turn the order around (a <= 0) or say nothing, a stays CALIBRATION_SLOPE_MIN and only b
 * is fitted, and *turned says so. Pure function; any thread. */
#ifndef EXITPOLL_SCORER_TRAIN_CALIBRATION_H
#define EXITPOLL_SCORER_TRAIN_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>

#define CALIBRATION_SLOPE_MIN 1e-3

/* labels NaN: the row does not count. Without rows of both classes a = 1 and b = 0. */
void calibration_fit(const double *z, const float *labels, size_t count, double *a, double *b, bool *turned);

#endif
