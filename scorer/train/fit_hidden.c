/* fit_hidden.c - a head per exit: the model's own reading, what hidden states add, and the weights that serve.
 *
 * Idea: training sees offsets and rows computed by the very formulas of serving (exit_heads_statistics,
 * readout_row), and afterwards z of every row is computed again from the rounded weights, so that
 * calibration and thresholds see what will be served. One exit a thread. Caller: fit.c. */
#include "scorer/train/fit.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "scorer/backend.h"
#include "scorer/prompt.h"

#include <math.h>
#include <stdio.h>

static const double l2_strengths[] = {0, .01, .1, 1};

/* ---- weights ---- */

/* Takes the model's final norm and yes - no of the answer words. */
static enum status read_own(struct fit *fit, struct error *error)
{
	const struct bundle *bundle = fit->input->bundle;
	uint32_t width = model_get_config(bundle->model)->hidden_size;
	struct prompt *prompt = NULL;
	int32_t yes, no;
	fit->own = mem_alloc_array(3, width * sizeof *fit->own);
	if (!fit->own)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the model's own answer words");
	enum status status = prompt_create(bundle->tokenizer, bundle->wording, bundle->yes, bundle->no,
					   bundle->context, &prompt, error);
	if (status)
		return status;
	prompt_answers(prompt, &yes, &no);
	prompt_destroy(prompt);
	float *difference = fit->own + width, *row = difference + width;
	if ((status = model_read(bundle->model, MODEL_FINAL_NORM, 0, 0, width, fit->own, error)) ||
	    (status = model_read(bundle->model, MODEL_HEAD, 0, (uint32_t)yes, 1, difference, error)) ||
	    (status = model_read(bundle->model, MODEL_HEAD, 0, (uint32_t)no, 1, row, error)))
		return status;
	for (uint32_t i = 0; i < width; i++)
		difference[i] -= row[i];
	return STATUS_OK;
}

/* Copies `count` floats, moves on. */
static const float *put(float **at, const float *from, size_t count)
{
	float *to = *at;
	memcpy(to, from, count * sizeof *to);
	*at += count;
	return to;
}

/* out [rows, columns] from the transposed */
static void turn(const float *from, size_t rows, size_t columns, float *out)
{
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < columns; c++)
			out[r * columns + c] = from[c * rows + r];
}

/* Members beside each other, their readings divided by their number; parameters as statistics_model.h says. */
static void put_members(const struct fit *fit, struct exit_heads *heads, float **at)
{
	size_t I = heads->inputs_count, U = heads->units, all = heads->members * U;
	float *linear = *at, *bias = linear + I, *output = bias + all, *inner_bias = output + all;
	float *weight = inner_bias + all, *inner = weight + all * I;
	*at = inner + all * U;
	heads->linear = linear;
	heads->bias = bias;
	heads->output = output;
	heads->weight = weight;
	if (fit->models[0]->units) {
		heads->inner = inner;
		heads->inner_bias = inner_bias;
	}
	for (uint32_t k = 0; k < fit->members; k++) {
		const struct statistics_model *model = fit->models[k];
		const float *from = model->parameters + 1;
		for (size_t i = 0; i < I; i++)
			linear[i] += from[i] / (float)fit->members;
		if (!model->units)
			continue;
		from += I;
		memcpy(bias + k * U, from, U * sizeof *bias);
		for (size_t u = 0; u < U; u++)
			output[k * U + u] = from[U + u] / (float)fit->members;
		memcpy(inner_bias + k * U, from + 2 * U, U * sizeof *inner_bias);
		turn(from + 3 * U, U, I, weight + k * U * I);
		turn(from + 3 * U + I * U, U, U, inner + k * U * U);
	}
}

/* Heads that are the statistics' own model (or nothing at all), with room for vectors. */
static enum status start_heads(struct fit *fit, struct error *error)
{
	const struct fit_options *options = fit->options;
	const struct standardised *s = fit->standardised;
	struct exit_heads *heads = &fit->result->heads;
	bool statistics = options->statistics && fit->members;
	size_t F = statistics ? s->features : 0, I = statistics ? s->inputs : 0;
	heads->width = model_get_config(fit->input->bundle->model)->hidden_size;
	heads->count = options->exits;
	heads->features_count = (uint32_t)F;
	heads->inputs_count = (uint32_t)I;
	heads->members = statistics ? fit->members : 0;
	heads->units = !statistics ? 0 : fit->models[0]->units ? (uint32_t)fit->models[0]->units : 1;
	size_t each = 2 * (size_t)heads->width, all = (size_t)heads->members * heads->units;
	fit->weights = mem_alloc_zero(4 * I + all * (3 + I + heads->units) + options->exits * each,
				      sizeof *fit->weights);
	heads->values = fit->weights;
	heads->heads = mem_alloc_zero(options->exits, sizeof *heads->heads);
	heads->names = mem_alloc_zero(F, sizeof *heads->names);
	heads->inputs = mem_alloc_zero(I, sizeof *heads->inputs);
	if (!fit->weights || !heads->heads || !heads->names || !heads->inputs)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %u heads", options->exits);
	float *at = fit->weights;
	double intercept = 0;
	if (statistics) {
		memcpy(heads->names, fit->input->names, F * sizeof *heads->names);
		memcpy(heads->inputs, s->input, I * sizeof *heads->inputs);
		heads->mean = put(&at, s->mean, I);
		heads->scale = put(&at, s->scale, I);
		heads->bend = put(&at, s->bend, I);
		put_members(fit, heads, &at);
		intercept = fit->level;
		for (uint32_t k = 0; k < fit->members; k++)
			intercept += (double)fit->models[k]->parameters[0] / fit->members;
	}
	for (uint32_t e = 0; e < options->exits; e++) {
		heads->heads[e] = (struct exit_head_weights){
			.layer = options->layers[e], .norm = at, .vector = at + heads->width,
			.intercept = (double)(float)intercept, .platt_a = 1,
		};
		at += each;
	}
	return STATUS_OK;
}

enum { CHUNK_ROWS = 4096 };

static void add_statistics(void *context, uint32_t index, uint32_t thread)
{
	struct fit *fit = context;
	const struct dataset *data = &fit->input->data;
	double standardised[EXIT_HEADS_INPUTS_MAX];
	size_t begin = (size_t)index * CHUNK_ROWS;
	(void)thread;
	for (size_t r = begin; r < begin + CHUNK_ROWS && r < data->rows; r++) {
		exit_heads_standardise(&fit->result->heads, data->values + r * data->features, standardised);
		fit->statistics_z[r] = exit_heads_statistics(&fit->result->heads, standardised);
	}
}

/* statistics_z by the formula of serving. */
static enum status apply_statistics(struct fit *fit, struct error *error)
{
	size_t rows = fit->input->data.rows;
	struct pool *pool = NULL;
	if (!fit->result->heads.features_count)
		return STATUS_OK;
	fit->statistics_z = mem_alloc_array(rows, sizeof *fit->statistics_z);
	if (!fit->statistics_z)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %zu scores", rows);
	enum status status = pool_create(fit->options->threads, &pool, error);
	if (status)
		return status;
	pool_run(pool, (uint32_t)((rows + CHUNK_ROWS - 1) / CHUNK_ROWS), add_statistics, fit);
	pool_destroy(pool);
	return STATUS_OK;
}

/* ---- one exit ---- */

struct job {
	struct fit *fit;
	uint32_t exit;
	enum status status;
	struct error error;
};

struct packed {
	struct hidden_rows rows;
	uint32_t *impressions;
	size_t *first;
	double *reading, *offset;
	float *labels;
};

static void packed_destroy(struct packed *packed)
{
	mem_free(packed->impressions);
	mem_free(packed->first);
	mem_free(packed->reading);
	mem_free(packed->offset);
	mem_free(packed->labels);
	mem_free(packed->rows.values);
}

/* What the head of row r knows before it reads the hidden state. */
static double before(const struct fit *fit, uint32_t exit, size_t r)
{
	return fit->result->heads.heads[exit].intercept + (fit->statistics_z ? fit->statistics_z[r] : 0);
}

/* u = x / rms(x) * norm, in double before rounding, and r = u . (yes - no). */
static double norm_row(const struct fit *fit, const float *x, float *u)
{
	uint32_t width = fit->result->heads.width;
	double squares = 0, reading = 0;
	for (uint32_t c = 0; c < width; c++)
		squares += (double)x[c] * (double)x[c];
	double scale = 1 / sqrt(squares / width +
				(double)model_get_config(fit->input->bundle->model)->rms_norm_eps);
	for (uint32_t c = 0; c < width; c++) {
		double value = (double)x[c] * scale * (double)fit->own[c];
		u[c] = (float)value;
		reading += value * (double)fit->own[width + c];
	}
	return reading;
}

/* Rows of the training and the stopping part. */
static enum status pack(const struct fit *fit, uint32_t exit, struct packed *out, struct error *error)
{
	const struct dataset *data = &fit->input->data;
	size_t width = fit->result->heads.width, rows = 0, count = 0;
	size_t impressions = fit->hidden[PART_TRAIN].count + fit->hidden[PART_STOPPING].count;
	out->impressions = mem_alloc_array(impressions, sizeof *out->impressions);
	out->first = mem_alloc_array(impressions + 1, sizeof *out->first);
	if (!out->impressions || !out->first)
		goto no_memory;
	out->first[0] = 0;
	for (int part = PART_TRAIN; part <= PART_STOPPING; part++)
		for (size_t k = 0; k < fit->hidden[part].count; k++) {
			uint32_t i = fit->hidden[part].impressions[k];
			rows += (size_t)(data->first[i + 1] - data->first[i]);
			out->impressions[count++] = i;
			out->first[count] = rows;
		}
	out->reading = mem_alloc_array(rows, sizeof *out->reading);
	out->offset = mem_alloc_array(rows, sizeof *out->offset);
	out->labels = mem_alloc_array(rows, sizeof *out->labels);
	out->rows.values = mem_alloc_array(rows, width * sizeof(float));
	if (!out->reading || !out->offset || !out->labels || !out->rows.values)
		goto no_memory;
	for (size_t j = 0; j < impressions; j++)
		for (size_t k = 0; k < out->first[j + 1] - out->first[j]; k++) {
			uint32_t i = out->impressions[j];
			size_t row = out->first[j] + k, r = (size_t)data->first[i] + k;
			out->labels[row] = data->labels[r];
			out->offset[row] = before(fit, exit, r);
			out->reading[row] = norm_row(fit, hidden_states_row(fit->states, exit,
									    fit->hidden_place[i], k),
						     out->rows.values + row * width);
		}
	out->rows.width = width;
	out->rows.list = (struct dataset_list){out->impressions, impressions};
	out->rows.first = out->first;
	out->rows.reading = out->reading;
	out->rows.offset = out->offset;
	out->rows.labels = out->labels;
	return STATUS_OK;
no_memory:
	return error_set(error, STATUS_NO_MEMORY,
			 "no memory for %zu rows of %zu hidden values; take fewer with --hidden-samples", rows,
			 width);
}

static enum status train_exit(struct fit *fit, uint32_t exit, struct error *error)
{
	const struct fit_options *options = fit->options;
	struct exit_heads *heads = &fit->result->heads;
	struct exit_head_weights *head = &heads->heads[exit];
	struct fit_head *report = &fit->result->exits[exit];
	struct packed packed = {0};
	struct hidden_options hidden = {
		.objective = fit->result->objective, .eta_base = options->eta_base, .gamma = options->gamma,
		.layer = head->layer, .iterations = options->iterations, .patience = 40,
		.decays_count = sizeof l2_strengths / sizeof l2_strengths[0], .stopping = options->stopping,
	};
	memcpy(hidden.decays, l2_strengths, sizeof l2_strengths);
	double *vector = mem_alloc_array(heads->width, sizeof *vector);
	enum status status = vector ? pack(fit, exit, &packed, error) :
				      error_set(error, STATUS_NO_MEMORY, "no memory for a head");
	if (!status)
		status = hidden_head_train(&packed.rows, fit->hidden[PART_TRAIN].count,
					   fit->hidden[PART_STOPPING].count, &hidden, vector, &report->training,
					   error);
	if (!status) {
		const struct hidden_result *training = &report->training;
		report->layer = head->layer;
		head->hidden = !heads->features_count || training->loss < training->without_loss;
		report->hidden = head->hidden;
		float *norm = fit->weights + (head->norm - fit->weights), *served = norm + heads->width;
		for (uint32_t c = 0; head->hidden && c < heads->width; c++) {
			norm[c] = fit->own[c];
			/* u has the norm in it already, and so does the readout's. */
			served[c] = (float)(training->scale * (double)fit->own[heads->width + c] + vector[c]);
		}
		if (head->hidden)
			head->intercept = (double)(float)(head->intercept + training->level);
	}
	mem_free(vector);
	packed_destroy(&packed);
	return status;
}

static void run_job(void *context, uint32_t index, uint32_t thread)
{
	struct job *job = (struct job *)context + index;
	(void)thread;
	job->status = train_exit(job->fit, job->exit, &job->error);
}

/* ---- what will be served ---- */

static void apply_heads(struct fit *fit)
{
	const struct dataset *data = &fit->input->data;
	const struct exit_heads *heads = &fit->result->heads;
	float epsilon = model_get_config(fit->input->bundle->model)->rms_norm_eps;
	for (uint32_t i = 0; i < data->impressions; i++)
		for (size_t r = (size_t)data->first[i]; r < (size_t)data->first[i + 1]; r++)
			for (uint32_t e = 0; e < heads->count; e++) {
				const struct exit_head_weights *head = &heads->heads[e];
				struct readout readout = {head->norm, head->vector, 1};
				uint32_t place = fit->hidden_place[i];
				float read = head->hidden && place == UINT32_MAX ? NAN : 0;
				if (head->hidden && place != UINT32_MAX)
					readout_row(&readout, heads->width, epsilon,
						    hidden_states_row(fit->states, e, place,
								      r - (size_t)data->first[i]), &read);
				fit->z[r * heads->count + e] = (double)read + before(fit, e, r);
			}
}

static void pass_progress(void *context, uint64_t done, uint64_t total)
{
	fit_say(context, "hidden states", done, total);
}

static enum status train_all(struct fit *fit, struct error *error)
{
	struct job jobs[EXIT_LAYERS_MAX] = {{0}};
	uint32_t exits = fit->options->exits;
	struct pool *pool = NULL;
	enum status status = pool_create(fit->options->threads, &pool, error);
	if (status)
		return status;
	for (uint32_t e = 0; e < exits; e++)
		jobs[e] = (struct job){.fit = fit, .exit = e};
	fit_say(fit, "training heads", 0, 0);
	pool_run(pool, exits, run_job, jobs);
	pool_destroy(pool);
	for (uint32_t e = 0; !status && e < exits; e++)
		if (jobs[e].status) {
			status = jobs[e].status;
			*error = jobs[e].error;
		}
	return status;
}

enum status fit_heads(struct fit *fit, struct error *error)
{
	const struct fit_input *input = fit->input;
	const struct fit_options *options = fit->options;
	struct hidden_states_options states = {
		.scorer = input->scorer, .bundle = input->bundle, .layers = options->layers,
		.exits = options->exits, .cache = input->cache, .cache_bytes_max = input->cache_bytes_max,
		.stopping = options->stopping, .progress = pass_progress, .progress_context = fit,
	};
	fit->z = mem_alloc_array(input->data.rows, options->exits * sizeof *fit->z);
	fit->result->exits = mem_alloc_zero(options->exits, sizeof *fit->result->exits);
	if (!fit->z || !fit->result->exits)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %u exits of %zu rows", options->exits,
				 input->data.rows);
	enum status status;
	if ((status = read_own(fit, error)) || (status = start_heads(fit, error)) ||
	    (status = apply_statistics(fit, error)) ||
	    (status = hidden_states_create(&states, &input->data, fit->hidden_all, input->tokens, &fit->states,
					   error)))
		return status;
	fit->result->figures = *hidden_states_get_figures(fit->states);
	snprintf(fit->result->description, sizeof fit->result->description, "%s",
		 hidden_states_describe(fit->states));
	int64_t begin_ns = clock_steady_ns();
	if ((status = train_all(fit, error)))
		return status;
	apply_heads(fit);
	fit->result->seconds_heads = (double)(clock_steady_ns() - begin_ns) / 1e9;
	return STATUS_OK;
}
