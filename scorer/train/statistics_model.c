/* statistics_model.c - standardising, one row forth and back, Adam.
 *
 * Idea: weights lie input by input ([I, U]), so that a row forth and back is adding vectors of U floats,
 * which any compiler vectorises without touching the order of a sum. Invariant: nothing here depends on
 * threads or time. Caller: fit.c, one job a thread. */
#include "scorer/train/statistics_model.h"

#include "base/mem.h"
#include "scorer/exit_heads.h"
#include "scorer/train/vector.h"

#include <string.h>

/* ---- standardised inputs ---- */

/* Spread: root mean square over geometric mean of what is not 0; about 1.9 for a normal distribution. */
static const double spread_min = 3, zeros_min = .02;

struct column {
	const struct dataset *data;
	struct dataset_list train;
	size_t feature;
};

/* Calls see() with each training value that is not missing, in order. */
static void each_value(const struct column *column, void (*see)(void *context, double value), void *context)
{
	const struct dataset *data = column->data;
	for (size_t k = 0; k < column->train.count; k++)
		for (int64_t r = data->first[column->train.impressions[k]];
		     r < data->first[column->train.impressions[k] + 1]; r++) {
			double value = (double)data->values[(size_t)r * data->features + column->feature];
			if (!isnan(value))
				see(context, value);
		}
}

struct shape {
	double rows, zeros, squares, logarithms;
};

static void see_shape(void *context, double value)
{
	struct shape *shape = context;
	shape->rows += 1;
	if (value == 0) {
		shape->zeros += 1;
		return;
	}
	shape->squares += value * value;
	shape->logarithms += log(fabs(value));
}

struct moments {
	enum exit_input_kind kind;
	double bend, rows, sum, centre, squares;
};

static void see_moments(void *context, double value)
{
	struct moments *m = context;
	value = exit_input_value(m->kind, m->bend, value);
	m->rows += 1;
	m->sum += value;
	m->squares += (value - m->centre) * (value - m->centre);
}

static void add_input(const struct column *column, enum exit_input_kind kind, double bend,
		      struct standardised *s)
{
	struct moments m = {.kind = kind, .bend = bend};
	each_value(column, see_moments, &m);
	double mean = m.rows > 0 ? m.sum / m.rows : 0;
	m = (struct moments){.kind = kind, .bend = bend, .centre = mean};
	each_value(column, see_moments, &m);
	double deviation = m.rows > 1 ? sqrt(m.squares / m.rows) : 0;
	s->input[s->inputs] = (struct exit_input){(uint32_t)column->feature, kind};
	s->mean[s->inputs] = (float)mean;
	s->bend[s->inputs] = (float)bend;
	s->scale[s->inputs++] = deviation > 1e-6 ? (float)deviation : 1;
}

static void choose_inputs(const struct dataset *data, struct dataset_list train, struct standardised *s)
{
	for (size_t f = 0; f < data->features; f++)
		add_input(&(struct column){data, train, f}, EXIT_INPUT_PLAIN, 1, s);
	for (size_t f = 0; f < data->features; f++) {
		struct column column = {data, train, f};
		struct shape shape = {0};
		each_value(&column, see_shape, &shape);
		double some = shape.rows - shape.zeros;
		double bend = some > 0 ? (double)(float)exp(shape.logarithms / some) : 0;
		if (bend > 1e-12 && sqrt(shape.squares / some) > spread_min * bend)
			add_input(&column, EXIT_INPUT_LOG, bend, s);
		if (some > zeros_min * shape.rows && shape.zeros > zeros_min * shape.rows)
			add_input(&column, EXIT_INPUT_ZERO, 1, s);
	}
}

enum status standardised_create(const struct dataset *data, struct dataset_list train,
				struct standardised **out, struct error *error)
{
	size_t inputs_max = EXIT_INPUT_KINDS * data->features;
	struct standardised *s = mem_alloc_zero(1, sizeof *s);
	if (!s)
		goto no_memory;
	s->features = data->features;
	s->input = mem_alloc_array(inputs_max, sizeof *s->input);
	s->mean = mem_alloc_array(inputs_max, sizeof *s->mean);
	s->scale = mem_alloc_array(inputs_max, sizeof *s->scale);
	s->bend = mem_alloc_array(inputs_max, sizeof *s->bend);
	if (!s->input || !s->mean || !s->scale || !s->bend)
		goto no_memory;
	choose_inputs(data, train, s);
	s->values = mem_alloc_array(data->rows, s->inputs * sizeof *s->values);
	if (!s->values)
		goto no_memory;
	for (size_t r = 0; r < data->rows; r++)
		for (size_t i = 0; i < s->inputs; i++) {
			double raw = (double)data->values[r * data->features + s->input[i].feature];
			double value = exit_input_value(s->input[i].kind, (double)s->bend[i], raw);
			value = (value - (double)s->mean[i]) / (double)s->scale[i];
			value = fmax(-EXIT_HEADS_CLIP, fmin(EXIT_HEADS_CLIP, value));
			s->values[r * s->inputs + i] = isnan(raw) ? 0 : (float)value;
		}
	*out = s;
	return STATUS_OK;
no_memory:
	standardised_destroy(s);
	return error_set(error, STATUS_NO_MEMORY, "no memory for %zu x %zu standardised inputs", data->rows,
			 inputs_max);
}

void standardised_destroy(struct standardised *s)
{
	if (!s)
		return;
	mem_free(s->input);
	mem_free(s->mean);
	mem_free(s->bend);
	mem_free(s->scale);
	mem_free(s->values);
	mem_free(s);
}

/* ---- the model ---- */

/* Where the parts of a model's parameters, or of its gradient, begin. */
struct parts {
	float *linear, *bias, *output, *inner_bias, *weight, *inner;
};

static struct parts parts_of(const struct statistics_model *model, float *values)
{
	struct parts p = {.linear = values + 1};
	p.bias = p.linear + model->inputs;
	p.output = p.bias + model->units;
	p.inner_bias = p.output + model->units;
	p.weight = p.inner_bias + model->units;
	p.inner = p.weight + model->inputs * model->units;
	return p;
}

enum status statistics_model_create(size_t inputs, size_t units, struct statistics_model **out,
				    struct error *error)
{
	struct statistics_model *model = mem_alloc_zero(1, sizeof *model);
	if (model) {
		*model = (struct statistics_model){.inputs = inputs, .units = units,
						   .count = 1 + inputs + units * (3 + inputs + units)};
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

/* out = bias + weight in; what is exactly 0 adds nothing. */
static void weigh(const float *weight, const float *bias, const float *in, size_t inputs, size_t units, float *out)
{
	memcpy(out, bias, units * sizeof *out);
	for (size_t i = 0; i < inputs; i++)
		if (in[i] != 0)
			vector_add(in[i], weight + i * units, out, units);
}

/* silu of a into out, sigmoids into gate */
static void activate(const float *a, size_t units, float *gate, float *out)
{
	for (size_t u = 0; u < units; u++) {
		gate[u] = 1 / (1 + expf(-a[u]));
		out[u] = a[u] * gate[u];
	}
}

double statistics_model_z(const struct statistics_model *model, const float *s, float *hidden)
{
	size_t U = model->units;
	struct parts p = parts_of(model, model->parameters);
	double z = (double)model->parameters[0];
	for (size_t i = 0; i < model->inputs; i++)
		z += (double)(p.linear[i] * s[i]);
	if (!U)
		return z;
	float own[4 * STATISTICS_UNITS_MAX], first[STATISTICS_UNITS_MAX], second[STATISTICS_UNITS_MAX];
	float *a = hidden ? hidden : own, *b = a + 2 * U;
	weigh(p.weight, p.bias, s, model->inputs, U, a);
	activate(a, U, a + U, first);
	weigh(p.inner, p.inner_bias, first, U, U, b);
	activate(b, U, b + U, second);
	for (size_t u = 0; u < U; u++)
		z += (double)(p.output[u] * second[u]);
	return z;
}

/* back *= the derivative of silu at a */
static void through_silu(const float *a, const float *gate, size_t units, float *back)
{
	for (size_t u = 0; u < units; u++)
		back[u] *= gate[u] * (1 + a[u] * (1 - gate[u]));
}

void statistics_model_gradient(const struct statistics_model *model, const float *s, const float *hidden,
			       double slope, float *gradient)
{
	size_t U = model->units;
	struct parts p = parts_of(model, model->parameters), g = parts_of(model, gradient);
	float narrow = (float)slope, back[STATISTICS_UNITS_MAX], front[STATISTICS_UNITS_MAX];
	gradient[0] += narrow;
	vector_add(narrow, s, g.linear, model->inputs);
	if (!U)
		return;
	const float *a = hidden, *b = hidden + 2 * U;
	for (size_t u = 0; u < U; u++) {
		g.output[u] += narrow * b[u] * b[U + u];
		back[u] = narrow * p.output[u];
	}
	through_silu(b, b + U, U, back);
	vector_add(1, back, g.inner_bias, U);
	for (size_t u = 0; u < U; u++) {
		vector_add(a[u] * a[U + u], back, g.inner + u * U, U);
		front[u] = vector_dot(p.inner + u * U, back, U);
	}
	through_silu(a, a + U, U, front);
	vector_add(1, front, g.bias, U);
	for (size_t i = 0; i < model->inputs; i++)
		if (s[i] != 0)
			vector_add(s[i], front, g.weight + i * U, U);
}

void statistics_model_apply(const struct statistics_model *model, const struct standardised *standardised,
			    size_t rows, double *z)
{
	for (size_t r = 0; r < rows; r++)
		z[r] = statistics_model_z(model, standardised->values + r * standardised->inputs, NULL);
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
	float *hidden;                  /* [rows of the largest impression, 4 units] */
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
	size_t begin = (size_t)data->first[impression], I = t->model->inputs, U = t->model->units;
	size_t size = (size_t)data->first[impression + 1] - begin;
	const float *values = t->standardised->values;
	for (size_t k = 0; k < size; k++)
		t->z[begin + k] = statistics_model_z(t->model, values + (begin + k) * I, t->hidden + 4 * U * k);
	double loss = objective_loss(t->options->objective, t->z + begin, data->labels + begin, size, t->slope,
				     NULL, weight);
	for (size_t k = 0; k < size; k++)
		if (t->slope[k] != 0)
			statistics_model_gradient(t->model, values + (begin + k) * I, t->hidden + 4 * U * k,
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
						     t->standardised->values + (size_t)r * t->model->inputs,
						     NULL);
}

static enum status train_epochs(struct training *t, struct dataset_list train, struct dataset_list stopping,
				struct statistics_result *out, struct error *error)
{
	const struct statistics_options *options = t->options;
	struct statistics_model *model = t->model;
	uint64_t random = options->seed;
	memset(model->parameters, 0, model->count * sizeof *model->parameters);
	struct parts p = parts_of(model, model->parameters);
	for (size_t i = 0; i < model->inputs * model->units; i++)
		p.weight[i] = (float)((vector_uniform(&random) * 2 - 1) * sqrt(1.0 / (double)model->inputs));
	for (size_t i = 0; i < model->units * model->units; i++)
		p.inner[i] = (float)((vector_uniform(&random) * 2 - 1) * sqrt(1.0 / (double)model->units));
	for (size_t u = 0; u < model->units; u++)
		p.output[u] = (float)((vector_uniform(&random) * 2 - 1) * .05);
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
	size_t hidden = largest * 4 * (model->units + 1);
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
