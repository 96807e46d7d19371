/* objective.h - what training minimises: log loss of every labelled candidate, or of the taken one among
 * its impression's.
 *
 * logistic  sum over labelled rows of log(1 + exp(z)) - y z; weight: labelled rows
 * softmax   -1/k sum over the k taken of log softmax(z); weight 1 where some are taken and some are not,
 *           else 0. It says nothing about the level of z: objective_level() sets that afterwards.
 * Pure functions; any thread. */
#ifndef EXITPOLL_SCORER_TRAIN_OBJECTIVE_H
#define EXITPOLL_SCORER_TRAIN_OBJECTIVE_H

#include <stdbool.h>
#include <stddef.h>

enum objective { OBJECTIVE_LOGISTIC, OBJECTIVE_SOFTMAX, OBJECTIVES };
const char *objective_name(enum objective objective);

/* log(1 + exp(z)) - y z without overflow: the log loss of sigmoid(z) where y is the label. */
double objective_log_loss(double z, double label);
double objective_sigmoid(double z);

/* The loss of one impression's `count` candidates; slope [count] (may be NULL) receives its derivative by
 * z, and curvature [count] (may be NULL) the diagonal of the second. *weight: see above. */
double objective_loss(enum objective objective, const double *z, const float *labels, size_t count,
		      double *slope, double *curvature, double *weight);

/* The b for which sigmoid(z + b) has the labels' mean over the labelled rows; 0 where there is no such b. */
double objective_level(const double *z, const float *labels, size_t count);

#endif
