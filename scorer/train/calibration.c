/* calibration.c - two numbers by Newton's method. Caller: fit.c. */
#include "scorer/train/calibration.h"

#include "scorer/train/objective.h"

#include <math.h>

enum { STEPS_MAX = 100 };

struct point {
	double loss, by_a, by_b, aa, ab, bb;
};

static struct point at(const double *z, const float *labels, size_t count, const double targets[2], double a,
		       double b)
{
	struct point point = {0};
	for (size_t i = 0; i < count; i++) {
		if (isnan(labels[i]))
			continue;
		double target = targets[labels[i] > .5f], score = a * z[i] + b;
		double p = objective_sigmoid(score), slope = p - target, curve = p * (1 - p);
		point.loss += objective_log_loss(score, target);
		point.by_a += slope * z[i];
		point.by_b += slope;
		point.aa += curve * z[i] * z[i];
		point.ab += curve * z[i];
		point.bb += curve;
	}
	return point;
}

/* Newton's step with halving; with_a false: a is held. */
static void descend(const double *z, const float *labels, size_t count, const double targets[2], bool with_a,
		    double *a, double *b)
{
	struct point here = at(z, labels, count, targets, *a, *b);
	for (int step = 0; step < STEPS_MAX; step++) {
		double aa = here.aa + 1e-12, bb = here.bb + 1e-12, determinant = aa * bb - here.ab * here.ab;
		double to_a = with_a && determinant > 0 ? (bb * here.by_a - here.ab * here.by_b) / determinant : 0;
		double to_b = with_a && determinant > 0 ? (aa * here.by_b - here.ab * here.by_a) / determinant :
							 here.by_b / bb;
		struct point next = here;
		int halvings = 0;
		for (; halvings < 30; halvings++, to_a /= 2, to_b /= 2) {
			next = at(z, labels, count, targets, *a - to_a, *b - to_b);
			if (next.loss <= here.loss)
				break;
		}
		if (halvings == 30)
			return;
		*a -= to_a;
		*b -= to_b;
		bool done = here.loss - next.loss < 1e-12 * (1 + here.loss);
		here = next;
		if (done)
			return;
	}
}

void calibration_fit(const double *z, const float *labels, size_t count, double *a, double *b, bool *turned)
{
	double positives = 0, negatives = 0;
	for (size_t i = 0; i < count; i++)
		if (!isnan(labels[i]))
			*(labels[i] > .5f ? &positives : &negatives) += 1;
	*a = 1;
	*b = 0;
	*turned = false;
	if (!(positives > 0 && negatives > 0))
		return;
	double targets[2] = {1 / (negatives + 2), (positives + 1) / (positives + 2)};
	descend(z, labels, count, targets, true, a, b);
	if (*a >= CALIBRATION_SLOPE_MIN)
		return;
	*turned = true;
	*a = CALIBRATION_SLOPE_MIN;
	*b = log(positives / negatives);
	descend(z, labels, count, targets, false, a, b);
}
