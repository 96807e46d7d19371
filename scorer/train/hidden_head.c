/* hidden_head.c - Newton's method for two numbers, then accelerated descent for C, early stopping throughout.
 *
 * Idea: on few samples the whole path of a descent from 0 is a path of growing models (early stopping is a
 * ridge), so one run tries them all and the stopping part picks; L2 adds paths of another shape. Invariant:
 * sums run in row order, in blocks of a fixed size. Caller: fit.c, one exit a thread.
 * Momentum: Nesterov 1983, in the form of Beck, Teboulle, "FISTA", SIAM J. Imaging Sciences 2009. */
#include "scorer/train/hidden_head.h"

#include "base/mem.h"
#include "scorer/train/vector.h"

#include <string.h>

enum { BLOCK = 32, POWER_STEPS = 16, NEWTON_STEPS = 25 };

/* ---- standardising ---- */

static enum status standardise(struct hidden_rows *rows, size_t training, size_t all, double *mean,
			       double *deviation, struct error *error)
{
	size_t C = rows->width;
	if (!training)
		return error_set(error, STATUS_BAD_RECORD, "no training rows with hidden states");
	memset(mean, 0, C * sizeof *mean);
	memset(deviation, 0, C * sizeof *deviation);
	for (size_t r = 0; r < training; r++)
		for (size_t c = 0; c < C; c++)
			mean[c] += (double)rows->values[r * C + c];
	for (size_t c = 0; c < C; c++)
		mean[c] /= (double)training;
	for (size_t r = 0; r < training; r++)
		for (size_t c = 0; c < C; c++) {
			double d = (double)rows->values[r * C + c] - mean[c];
			deviation[c] += d * d;
		}
	for (size_t c = 0; c < C; c++) {
		deviation[c] = sqrt(deviation[c] / (double)training);
		if (!(deviation[c] > 1e-9))
			deviation[c] = 1;
	}
	for (size_t r = 0; r < all; r++)
		for (size_t c = 0; c < C; c++)
			rows->values[r * C + c] =
				(float)(((double)rows->values[r * C + c] - mean[c]) / deviation[c]);
	return STATUS_OK;
}

/* ---- loss and gradient ---- */

/* Room for one impression's candidates; impressions larger than this are cut off for training. */
enum { CANDIDATES_MAX = 10000 };

struct scratch {
	double z[CANDIDATES_MAX], slope[CANDIDATES_MAX];
};

static double loss_of(const struct hidden_rows *rows, size_t begin, size_t end, enum objective objective,
		      const float *v, double scale, double level, struct scratch *scratch, float *block,
		      double *gradient, double *weights)
{
	size_t C = rows->width;
	double loss = 0, weight;
	*weights = 0;
	for (size_t i = begin; i < end; i++) {
		size_t first = rows->first[i], size = rows->first[i + 1] - first;
		if (size > CANDIDATES_MAX)
			size = CANDIDATES_MAX;
		for (size_t k = 0; k < size; k++)
			scratch->z[k] = rows->offset[first + k] + scale * rows->reading[first + k] + level +
					(v ? (double)vector_dot(v, rows->values + (first + k) * C, C) : 0);
		loss += objective_loss(objective, scratch->z, rows->labels + first, size,
				       gradient ? scratch->slope : NULL, NULL, &weight);
		*weights += weight;
		for (size_t k = 0; gradient && k < size; k++) {
			if (scratch->slope[k] == 0)
				continue;
			vector_add((float)scratch->slope[k], rows->values + (first + k) * C, block, C);
			gradient[C] += scratch->slope[k] * rows->reading[first + k];
			gradient[C + 1] += scratch->slope[k];
		}
		if (gradient && ((i - begin) % BLOCK == BLOCK - 1 || i + 1 == end))
			for (size_t c = 0; c < C; c++) {
				gradient[c] += (double)block[c];
				block[c] = 0;
			}
	}
	return loss;
}

static double mean_loss(const struct hidden_rows *rows, size_t begin, size_t end, enum objective objective,
			const float *v, double scale, double level, double decay, struct scratch *scratch,
			float *block, double *gradient)
{
	size_t C = rows->width;
	double weights, squares = 0;
	if (gradient)
		memset(gradient, 0, (C + 2) * sizeof *gradient);
	double loss = loss_of(rows, begin, end, objective, v, scale, level, scratch, block, gradient, &weights);
	if (!(weights > 0))
		return NAN;
	for (size_t c = 0; gradient && c < C + 2; c++)
		gradient[c] = gradient[c] / weights + (c < C && v ? decay * (double)v[c] : 0);
	for (size_t c = 0; decay > 0 && v && c < C; c++)
		squares += (double)v[c] * (double)v[c];
	return loss / weights + decay / 2 * squares;
}

double hidden_head_loss(const struct hidden_rows *rows, size_t begin, size_t end, enum objective objective,
			const float *v, double scale, double level, double decay, double *gradient)
{
	struct scratch *scratch = mem_alloc(sizeof *scratch);
	float *block = mem_alloc_zero(rows->width, sizeof *block);
	double loss = scratch && block ? mean_loss(rows, begin, end, objective, v, scale, level, decay, scratch,
						   block, gradient) : NAN;
	mem_free(scratch);
	mem_free(block);
	return loss;
}

/* ---- the start: scale and level ---- */

struct curvature {
	double scale, level;            /* gradient */
	double scale_scale, scale_level, level_level;
};

/* For softmax the curvature is that of the diagonal, an upper bound: the steps are short, never wild. */
static double two_numbers(const struct hidden_rows *rows, size_t end, enum objective objective, double scale,
			  double level, struct scratch *scratch, struct curvature *out)
{
	double loss = 0, weights = 0, weight;
	double *curve = mem_alloc_array(CANDIDATES_MAX, sizeof *curve);
	*out = (struct curvature){0};
	for (size_t i = 0; curve && i < end; i++) {
		size_t first = rows->first[i], size = rows->first[i + 1] - first;
		if (size > CANDIDATES_MAX)
			size = CANDIDATES_MAX;
		for (size_t k = 0; k < size; k++)
			scratch->z[k] = rows->offset[first + k] + scale * rows->reading[first + k] + level;
		loss += objective_loss(objective, scratch->z, rows->labels + first, size, scratch->slope, curve,
				       &weight);
		weights += weight;
		for (size_t k = 0; k < size; k++) {
			double r = rows->reading[first + k];
			out->scale += scratch->slope[k] * r;
			out->level += scratch->slope[k];
			out->scale_scale += curve[k] * r * r;
			out->scale_level += curve[k] * r;
			out->level_level += curve[k];
		}
	}
	mem_free(curve);
	return weights > 0 ? loss / weights : NAN;
}

static void fit_two_numbers(const struct hidden_rows *rows, size_t train, enum objective objective,
			    struct scratch *scratch, double *scale, double *level)
{
	struct curvature c, next;
	double loss = two_numbers(rows, train, objective, *scale, *level, scratch, &c);
	for (int step = 0; step < NEWTON_STEPS; step++) {
		double a = c.scale_scale + 1e-9, b = c.scale_level, d = c.level_level + 1e-9;
		double determinant = a * d - b * b;
		if (!(determinant > 0))
			break;
		double to_scale = (d * c.scale - b * c.level) / determinant;
		double to_level = (a * c.level - b * c.scale) / determinant, after = INFINITY;
		if (objective == OBJECTIVE_SOFTMAX) {
			to_scale = c.scale / a;
			to_level = 0;
		}
		for (int halving = 0; halving < 20; halving++, to_scale /= 2, to_level /= 2) {
			after = two_numbers(rows, train, objective, *scale - to_scale, *level - to_level, scratch,
					    &next);
			if (after <= loss)
				break;
		}
		if (!(after < loss - 1e-12))
			break;
		*scale -= to_scale;
		*level -= to_level;
		loss = after;
		c = next;
	}
}

/* ---- the descent ---- */

struct descent {
	const struct hidden_rows *rows;
	const struct hidden_options *options;
	size_t train, all;
	struct scratch *scratch;
	float *block;                   /* [C] zeros between uses */
	float *v, *ahead, *best;        /* [C] */
	double *gradient;               /* [C + 2] */
	double largest;                 /* L */
};

/* The largest curvature of the mean loss, by power iteration: the loss curves at most .25 along a row's z
 * (logistic), or .5 along an impression's (softmax). */
static double largest_curvature(struct descent *d)
{
	const struct hidden_rows *rows = d->rows;
	size_t C = rows->width, training = rows->first[d->train];
	double bound = d->options->objective == OBJECTIVE_SOFTMAX ? .5 : .25, norm = 0, weights;
	loss_of(rows, 0, d->train, d->options->objective, NULL, 0, 0, d->scratch, NULL, NULL, &weights);
	for (size_t c = 0; c < C; c++)
		d->v[c] = (float)(1 / sqrt((double)C) * (c % 2 ? 1 : .5));
	for (int step = 0; step < POWER_STEPS; step++) {
		memset(d->gradient, 0, C * sizeof *d->gradient);
		for (size_t r = 0; r < training; r++) {
			const float *row = rows->values + r * C;
			vector_add(vector_dot(d->v, row, C), row, d->block, C);
			if (r % 256 == 255 || r + 1 == training)
				for (size_t c = 0; c < C; c++) {
					d->gradient[c] += (double)d->block[c];
					d->block[c] = 0;
				}
		}
		norm = 0;
		for (size_t c = 0; c < C; c++)
			norm += d->gradient[c] * d->gradient[c];
		norm = sqrt(norm);
		for (size_t c = 0; c < C; c++)
			d->v[c] = norm > 0 ? (float)(d->gradient[c] / norm) : 0;
	}
	/* Power iteration comes from below. */
	return 1.05 * bound * norm / weights;
}

static enum status descend(struct descent *d, double decay, struct hidden_result *out, struct error *error)
{
	const struct hidden_options *options = d->options;
	size_t C = d->rows->width, since = 0;
	double step = options->eta_base * exp(-options->gamma * options->layer) / (d->largest + decay);
	double best_here = out->own_loss;
	memset(d->v, 0, C * sizeof *d->v);
	memset(d->ahead, 0, C * sizeof *d->ahead);
	for (size_t t = 1; t <= options->iterations && since < options->patience; t++) {
		if (options->stopping && options->stopping())
			return error_set(error, STATUS_INTERRUPTED, "training was interrupted");
		mean_loss(d->rows, 0, d->train, options->objective, d->ahead, out->scale, out->level, decay,
			  d->scratch, d->block, d->gradient);
		double momentum = (double)(t - 1) / (double)(t + 2);
		for (size_t c = 0; c < C; c++) {
			double next = (double)d->ahead[c] - step * d->gradient[c];
			d->ahead[c] = (float)(next + momentum * (next - (double)d->v[c]));
			d->v[c] = (float)next;
		}
		double loss = mean_loss(d->rows, d->train, d->all, options->objective, d->v, out->scale, out->level,
					0, d->scratch, NULL, NULL);
		if (!isfinite(loss))
			break;
		since = loss < best_here ? 0 : since + 1;
		best_here = fmin(best_here, loss);
		if (loss < out->loss) {
			out->loss = loss;
			out->iteration = t;
			out->decay = decay;
			out->step = step;
			memcpy(d->best, d->v, C * sizeof *d->best);
		}
	}
	return STATUS_OK;
}

/* sigmoid(z) with the labels' mean on the stopping rows. */
static enum status set_level(struct descent *d, struct hidden_result *out, struct error *error)
{
	size_t begin = d->rows->first[d->train], count = d->rows->first[d->all] - begin, C = d->rows->width;
	double *z = mem_alloc_array(count, sizeof *z);
	if (!z)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the level of a head");
	for (size_t r = 0; r < count; r++)
		z[r] = d->rows->offset[begin + r] + out->scale * d->rows->reading[begin + r] + out->level +
		       (double)vector_dot(d->best, d->rows->values + (begin + r) * C, C);
	out->level += objective_level(z, d->rows->labels + begin, count);
	mem_free(z);
	return STATUS_OK;
}

enum status hidden_head_train(struct hidden_rows *rows, size_t train, size_t stopping,
			      const struct hidden_options *options, double *vector,
			      struct hidden_result *out, struct error *error)
{
	size_t C = rows->width;
	struct descent d = {.rows = rows, .options = options, .train = train, .all = train + stopping};
	struct hidden_result result = {0};
	double *mean = mem_alloc_array(C, sizeof *mean), *deviation = mem_alloc_array(C, sizeof *deviation);
	d.scratch = mem_alloc(sizeof *d.scratch);
	d.block = mem_alloc_zero(C, sizeof *d.block);
	d.v = mem_alloc_array(C, sizeof *d.v);
	d.ahead = mem_alloc_array(C, sizeof *d.ahead);
	d.best = mem_alloc_zero(C, sizeof *d.best);
	d.gradient = mem_alloc_array(C + 2, sizeof *d.gradient);
	enum status status = STATUS_OK;
	if (!mean || !deviation || !d.scratch || !d.block || !d.v || !d.ahead || !d.best || !d.gradient) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory to train a head of width %zu", C);
		goto cleanup;
	}
	if ((status = standardise(rows, rows->first[train], rows->first[d.all], mean, deviation, error)))
		goto cleanup;
	double level = objective_level(rows->offset, rows->labels, rows->first[train]);
	result.without_loss = mean_loss(rows, train, d.all, options->objective, NULL, 0, level, 0, d.scratch,
					NULL, NULL);
	if (isnan(result.without_loss)) {
		status = error_set(error, STATUS_BAD_RECORD,
				   "layer %u: no labels to stop by among the %zu impressions of the stopping part",
				   options->layer, stopping);
		goto cleanup;
	}
	result.level = level;
	fit_two_numbers(rows, train, options->objective, d.scratch, &result.scale, &result.level);
	result.own_loss = mean_loss(rows, train, d.all, options->objective, NULL, result.scale, result.level, 0,
				    d.scratch, NULL, NULL);
	result.loss = result.own_loss;
	d.largest = largest_curvature(&d);
	for (size_t i = 0; i < options->decays_count; i++)
		if ((status = descend(&d, options->decays[i], &result, error)))
			goto cleanup;
	if ((status = set_level(&d, &result, error)))
		goto cleanup;
	for (size_t c = 0; c < C; c++) {
		vector[c] = (double)d.best[c] / deviation[c];
		result.level -= vector[c] * mean[c];
	}
	*out = result;
cleanup:
	mem_free(mean);
	mem_free(deviation);
	mem_free(d.scratch);
	mem_free(d.block);
	mem_free(d.v);
	mem_free(d.ahead);
	mem_free(d.best);
	mem_free(d.gradient);
	return status;
}
