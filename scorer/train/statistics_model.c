/* statistics_model.c - standardising, one row forth and back, Adam.
 *
 * Idea: weights lie feature by feature ([F, U]), so that a row forth and back is adding vectors of U floats,
 * which any compiler vectorises without touching the order of a sum. Invariant: nothing here depends on
 * threads or time. Caller: fit.c, one job a thread. */
#include "scorer/train/statistics_model.h"

#include "base/mem.h"
#include "scorer/exit_heads.h"
#include "scorer/train/vector.h"

#include <string.h>

/* ---- standardised features ---- */

static void measure(const struct dataset *data, struct dataset_list train, size_t feature, float *mean,
		    float *scale)
{
	double sum = 0, squares = 0, count = 0;
	for (int pass = 0; pass < 2; pass++) {
		double centre = pass ? sum / count : 0;
		for (size_t k = 0; k < train.count; k++)
			for (int64_t r = data->first[train.impressions[k]];
			     r < data->first[train.impressions[k] + 1]; r++) {
				double value = (double)data->values[(size_t)r * data->features + feature];
				if (isnan(value))
					continue;
				if (pass) {
					squares += (value - centre) * (value - centre);
				} else {
					sum += value;
					count += 1;
				}
			}
		if (count < 1)
			break;
	}
	*mean = count > 0 ? (float)(sum / count) : 0;
	double deviation = count > 1 ? sqrt(squares / count) : 0;
	*scale = deviation > 1e-6 ? (float)deviation : 1;
}

enum status standardised_create(const struct dataset *data, struct dataset_list train,
				struct standardised **out, struct error *error)
{
	struct standardised *s = mem_alloc_zero(1, sizeof *s);
	if (!s)
		goto no_memory;
	s->features = data->features;
	s->mean = mem_alloc_array(data->features, sizeof *s->mean);
	s->scale = mem_alloc_array(data->features, sizeof *s->scale);
	s->values = mem_alloc_array(data->rows, data->features * sizeof *s->values);
	if (!s->mean || !s->scale || !s->values)
		goto no_memory;
	for (size_t f = 0; f < data->features; f++)
		measure(data, train, f, &s->mean[f], &s->scale[f]);
	for (size_t r = 0; r < data->rows; r++)
		for (size_t f = 0; f < data->features; f++) {
			double raw = (double)data->values[r * data->features + f];
			double value = (raw - (double)s->mean[f]) / (double)s->scale[f];
			value = fmax(-EXIT_HEADS_CLIP, fmin(EXIT_HEADS_CLIP, value));
			s->values[r * data->features + f] = isnan(raw) ? 0 : (float)value;
		}
	*out = s;
	return STATUS_OK;
no_memory:
	standardised_destroy(s);
	return error_set(error, STATUS_NO_MEMORY, "no memory for %zu x %zu standardised features", data->rows,
			 data->features);
}

void standardised_destroy(struct standardised *s)
{
	if (!s)
		return;
	mem_free(s->mean);
	mem_free(s->scale);
	mem_free(s->values);
	mem_free(s);
}

/* ---- the model ---- */

enum status statistics_model_create(size_t features, size_t units, struct statistics_model **out,
				    struct error *error)
{
	struct statistics_model *model = mem_alloc_zero(1, sizeof *model);
	if (model) {
		*model = (struct statistics_model){.features = features, .units = units,
						   .count = 1 + features + units * (2 + features)};
		model->parameters = mem_alloc_zero(model->count, sizeof *model->parameters);
	}
	if (!model || !model->parameters || units > STATISTICS_UNITS_MAX) {
		statistics_model_destroy(model);
		return error_set(error, STATUS_NO_MEMORY, "no memory for the statistics' own model");
	}
	*out = model;
	return STATUS_OK;
}

void statistics_model_destroy(struct statistics_model *model)
{
	if (!model)
		return;
	mem_free(model->parameters);
	mem_free(model);
}

double statistics_model_z(const struct statistics_model *model, const float *s, float *hidden)
{
	size_t F = model->features, U = model->units;
	const float *linear = model->parameters + 1, *bias = linear + F, *output = bias + U, *weight = output + U;
	double z = model->parameters[0];
	for (size_t f = 0; f < F; f++)
		z += (double)(linear[f] * s[f]);
	if (!U)
		return z;
	float a[STATISTICS_UNITS_MAX];
	memcpy(a, bias, U * sizeof *a);
	for (size_t f = 0; f < F; f++)
		vector_add(s[f], weight + f * U, a, U);
	for (size_t u = 0; u < U; u++) {
		float gate = 1 / (1 + expf(-a[u]));
		z += (double)(output[u] * a[u] * gate);
		if (hidden) {
			hidden[u] = a[u];
			hidden[U + u] = gate;
		}
	}
	return z;
}

void statistics_model_gradient(const struct statistics_model *model, const float *s, const float *hidden,
			       double slope, float *gradient)
{
	size_t F = model->features, U = model->units;
	const float *output = model->parameters + 1 + F + U;
	float *linear = gradient + 1, *bias = linear + F, *out = bias + U, *weight = out + U;
	float narrow = (float)slope, back[STATISTICS_UNITS_MAX];
	gradient[0] += narrow;
	vector_add(narrow, s, linear, F);
	for (size_t u = 0; u < U; u++) {
		float a = hidden[u], gate = hidden[U + u];
		out[u] += narrow * a * gate;
		back[u] = narrow * output[u] * gate * (1 + a * (1 - gate));
		bias[u] += back[u];
	}
	for (size_t f = 0; U && f < F; f++)
		vector_add(s[f], back, weight + f * U, U);
}

void statistics_model_apply(const struct statistics_model *model, const struct standardised *standardised,
			    size_t rows, double *z)
{
	for (size_t r = 0; r < rows; r++)
		z[r] = statistics_model_z(model, standardised->values + r * standardised->features, NULL);
}

double statistics_model_loss(const struct dataset *data, struct dataset_list list, enum objective objective,
			     const double *z)
{
	double loss = 0, weights = 0, weight;
	for (size_t k = 0; k < list.count; k++) {
		size_t begin = (size_t)data->first[list.impressions[k]];
		size_t size = (size_t)data->first[list.impressions[k] + 1] - begin;
		loss += objective_loss(objective, z + begin, data->labels + begin, size, NULL, NULL, &weight);
		weights += weight;
	}
	return weights > 0 ? loss / weights : NAN;
}

/* ---- training ---- */

struct training {
	const struct dataset *data;
	const struct standardised *standardised;
	const struct statistics_options *options;
	struct statistics_model *model;
	float *gradient, *first, *second, *best;        /* [count] */
	float *hidden;                  /* [rows of the largest impression, 2 units] */
	double *slope;                  /* [the same] */
	double *z;                      /* [rows] */
	uint32_t *order;
	double steps_done, steps;
};

/* Kingma, Ba, "Adam", ICLR 2015, with the usual constants. */
static void adam_step(struct training *t, double weight)
{
	static const double beta1 = .9, beta2 = .999, epsilon = 1e-8;
	double rate = t->options->rate * .5 * (1 + cos(acos(-1) * t->steps_done / t->steps));
	t->steps_done += 1;
	double correction1 = 1 - pow(beta1, t->steps_done), correction2 = 1 - pow(beta2, t->steps_done);
	for (size_t i = 0; i < t->model->count; i++) {
		double decay = i ? t->options->decay * (double)t->model->parameters[i] : 0;
		double g = (double)t->gradient[i] / weight + decay;
		t->first[i] = (float)(beta1 * (double)t->first[i] + (1 - beta1) * g);
		t->second[i] = (float)(beta2 * (double)t->second[i] + (1 - beta2) * g * g);
		t->model->parameters[i] -= (float)(rate * ((double)t->first[i] / correction1) /
						   (sqrt((double)t->second[i] / correction2) + epsilon));
	}
}

static double add_impression(struct training *t, uint32_t impression, double *weight)
{
	const struct dataset *data = t->data;
	size_t begin = (size_t)data->first[impression], F = data->features, U = t->model->units;
	size_t size = (size_t)data->first[impression + 1] - begin;
	const float *values = t->standardised->values;
	for (size_t k = 0; k < size; k++)
		t->z[begin + k] = statistics_model_z(t->model, values + (begin + k) * F, t->hidden + 2 * U * k);
	double loss = objective_loss(t->options->objective, t->z + begin, data->labels + begin, size, t->slope,
				     NULL, weight);
	for (size_t k = 0; k < size; k++)
		if (t->slope[k] != 0)
			statistics_model_gradient(t->model, values + (begin + k) * F, t->hidden + 2 * U * k,
						  t->slope[k], t->gradient);
	return loss;
}

static double run_epoch(struct training *t, struct dataset_list train)
{
	double loss = 0, weights = 0;
	for (size_t begin = 0; begin < train.count; begin += t->options->batch) {
		size_t end = begin + t->options->batch < train.count ? begin + t->options->batch : train.count;
		double batch_weight = 0, weight;
		memset(t->gradient, 0, t->model->count * sizeof *t->gradient);
		for (size_t k = begin; k < end; k++) {
			loss += add_impression(t, train.impressions[t->order[k]], &weight);
			batch_weight += weight;
		}
		weights += batch_weight;
		if (batch_weight > 0)
			adam_step(t, batch_weight);
		else
			t->steps_done += 1;
	}
	return weights > 0 ? loss / weights : NAN;
}

static void apply_to(struct training *t, struct dataset_list list)
{
	for (size_t k = 0; k < list.count; k++)
		for (int64_t r = t->data->first[list.impressions[k]]; r < t->data->first[list.impressions[k] + 1];
		     r++)
			t->z[r] = statistics_model_z(t->model,
						     t->standardised->values + (size_t)r * t->data->features,
						     NULL);
}

static enum status train_epochs(struct training *t, struct dataset_list train, struct dataset_list stopping,
				struct statistics_result *out, struct error *error)
{
	const struct statistics_options *options = t->options;
	struct statistics_model *model = t->model;
	uint64_t random = options->seed;
	memset(model->parameters, 0, model->count * sizeof *model->parameters);
	float *output = model->parameters + 1 + model->features + model->units, *weight = output + model->units;
	for (size_t i = 0; i < model->features * model->units; i++)
		weight[i] = (float)((vector_uniform(&random) * 2 - 1) * sqrt(3.0 / (double)model->features));
	for (size_t u = 0; u < model->units; u++)
		output[u] = (float)((vector_uniform(&random) * 2 - 1) * .05);
	size_t batches = (train.count + options->batch - 1) / options->batch;
	t->steps = (double)(batches * options->epochs);
	struct statistics_result best = {.stopping_loss = INFINITY};
	for (size_t k = 0; k < train.count; k++)
		t->order[k] = (uint32_t)k;
	for (size_t epoch = 1; epoch <= options->epochs; epoch++) {
		vector_shuffle(t->order, train.count, &random);
		double train_loss = run_epoch(t, train);
		apply_to(t, stopping);
		double loss = statistics_model_loss(t->data, stopping, options->objective, t->z);
		if (loss < best.stopping_loss) {
			best = (struct statistics_result){train_loss, loss, epoch};
			memcpy(t->best, model->parameters, model->count * sizeof *t->best);
		}
		if (options->stopping && options->stopping())
			return error_set(error, STATUS_INTERRUPTED, "training was interrupted");
	}
	if (!best.epoch)
		return error_set(error, STATUS_BAD_RECORD,
				 "the early-stopping part has nothing to learn from (no labels, or no "
				 "impression with both kinds)");
	memcpy(model->parameters, t->best, model->count * sizeof *t->best);
	*out = best;
	return STATUS_OK;
}

static void set_level(struct training *t, struct dataset_list stopping)
{
	size_t count = 0;
	float *labels = t->hidden;      /* room for the labels is asked for in train() */
	double *z = t->slope;
	apply_to(t, stopping);
	for (size_t k = 0; k < stopping.count; k++)
		for (int64_t r = t->data->first[stopping.impressions[k]];
		     r < t->data->first[stopping.impressions[k] + 1]; r++) {
			labels[count] = t->data->labels[r];
			z[count++] = t->z[r];
		}
	t->model->parameters[0] += (float)objective_level(z, labels, count);
}

enum status statistics_model_train(struct statistics_model *model, const struct dataset *data,
				   const struct standardised *standardised, struct dataset_list train,
				   struct dataset_list stopping, const struct statistics_options *options,
				   struct statistics_result *out, struct error *error)
{
	size_t largest = 1, stopping_rows = 0;
	for (size_t i = 0; i < data->impressions; i++)
		if ((size_t)(data->first[i + 1] - data->first[i]) > largest)
			largest = (size_t)(data->first[i + 1] - data->first[i]);
	for (size_t k = 0; k < stopping.count; k++)
		stopping_rows += (size_t)(data->first[stopping.impressions[k] + 1] -
					  data->first[stopping.impressions[k]]);
	size_t hidden = largest * 2 * (model->units + 1);
	struct training t = {.data = data, .standardised = standardised, .options = options, .model = model};
	t.gradient = mem_alloc_array(model->count, sizeof *t.gradient);
	t.first = mem_alloc_zero(model->count, sizeof *t.first);
	t.second = mem_alloc_zero(model->count, sizeof *t.second);
	t.best = mem_alloc_array(model->count, sizeof *t.best);
	t.hidden = mem_alloc_array(hidden > stopping_rows ? hidden : stopping_rows, sizeof *t.hidden);
	t.slope = mem_alloc_array(largest > stopping_rows ? largest : stopping_rows, sizeof *t.slope);
	t.z = mem_alloc_array(data->rows, sizeof *t.z);
	t.order = mem_alloc_array(train.count, sizeof *t.order);
	enum status status = STATUS_OK;
	if (!t.gradient || !t.first || !t.second || !t.best || !t.hidden || !t.slope || !t.z || !t.order)
		status = error_set(error, STATUS_NO_MEMORY, "no memory to train the statistics' own model");
	else if (!train.count)
		status = error_set(error, STATUS_BAD_RECORD, "the training part is empty");
	if (!status)
		status = train_epochs(&t, train, stopping, out, error);
	if (!status)
		set_level(&t, stopping);
	void *buffers[] = {t.gradient, t.first, t.second, t.best, t.hidden, t.slope, t.z, t.order};
	for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
		mem_free(buffers[i]);
	return status;
}
