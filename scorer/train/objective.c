/* objective.c - the two losses. Caller: statistics_model.c, hidden_head.c, fit.c. */
#include "scorer/train/objective.h"

#include <math.h>

const char *objective_name(enum objective objective)
{
	return objective == OBJECTIVE_SOFTMAX ? "softmax" : "logistic";
}

double objective_log_loss(double z, double label)
{
	return (z > 0 ? z : 0) - label * z + log1p(exp(-fabs(z)));
}

double objective_sigmoid(double z)
{
	return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

static double logistic(const double *z, const float *labels, size_t count, double *slope, double *curvature,
		       double *weight)
{
	double loss = 0;
	*weight = 0;
	for (size_t i = 0; i < count; i++) {
		bool labelled = !isnan(labels[i]);
		double p = labelled ? objective_sigmoid(z[i]) : 0;
		if (slope)
			slope[i] = labelled ? p - (double)labels[i] : 0;
		if (curvature)
			curvature[i] = p * (1 - p);
		if (!labelled)
			continue;
		loss += objective_log_loss(z[i], (double)labels[i]);
		*weight += 1;
	}
	return loss;
}

static double softmax(const double *z, const float *labels, size_t count, double *slope, double *curvature,
		      double *weight)
{
	double most = -INFINITY, sum = 0, taken = 0, labelled = 0;
	for (size_t i = 0; i < count; i++) {
		if (isnan(labels[i]))
			continue;
		most = fmax(most, z[i]);
		labelled += 1;
		taken += labels[i] > .5f;
	}
	bool counts = taken > 0 && taken < labelled;
	*weight = counts;
	for (size_t i = 0; counts && i < count; i++)
		sum += isnan(labels[i]) ? 0 : exp(z[i] - most);
	double loss = 0;
	for (size_t i = 0; i < count; i++) {
		bool in = counts && !isnan(labels[i]);
		double p = in ? exp(z[i] - most) / sum : 0, share = in && labels[i] > .5f ? 1 / taken : 0;
		if (slope)
			slope[i] = p - share;
		if (curvature)
			curvature[i] = p * (1 - p);
		if (share > 0)
			loss += share * (most + log(sum) - z[i]);
	}
	return loss;
}

double objective_loss(enum objective objective, const double *z, const float *labels, size_t count,
		      double *slope, double *curvature, double *weight)
{
	return objective == OBJECTIVE_SOFTMAX ? softmax(z, labels, count, slope, curvature, weight) :
						logistic(z, labels, count, slope, curvature, weight);
}

double objective_level(const double *z, const float *labels, size_t count)
{
	double labelled = 0, positives = 0, low = -60, high = 60;
	for (size_t i = 0; i < count; i++)
		if (!isnan(labels[i])) {
			labelled += 1;
			positives += labels[i] > .5f;
		}
	if (!(positives > 0 && positives < labelled))
		return 0;
	/* Bisection: the mean grows with b, so this cannot go astray as Newton's method can. */
	for (int step = 0; step < 60; step++) {
		double b = (low + high) / 2, sum = 0;
		for (size_t i = 0; i < count; i++)
			sum += isnan(labels[i]) ? 0 : objective_sigmoid(z[i] + b);
		*(sum < positives ? &low : &high) = b;
	}
	return (low + high) / 2;
}
