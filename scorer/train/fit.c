/* fit.c - the order of things: what is learned on which part, and the one look at the test part.
 *
 * Invariant: nothing that is chosen depends on the test part, and thresholds depend on users' data that
 * neither heads nor calibration saw. Caller: the fit-heads command. */
#include "scorer/train/fit.h"

#include "base/mem.h"
#include "scorer/train/calibration.h"

#include <math.h>

void fit_options_defaults(struct fit_options *options)
{
	*options = (struct fit_options){
		.statistics = true,
		.newest = true,
		.seed = 1,
		.threads = 1,
		.eta_base = 1,
		.gamma = .02,
		.iterations = 150,
		.epochs = 20,
		.thresholds = {.rule = EXIT_DISCREPANCY, .window = 3, .bound = .002, .clip = .1, .delta = .1,
			       .candidates = 24, .draws = 1000},
	};
}

void fit_say(const struct fit *fit, const char *what, uint64_t done, uint64_t total)
{
	if (fit->options->progress)
		fit->options->progress(fit->options->progress_context, what, done, total);
}

/* ---- judging ---- */

static enum status judge(const struct fit *fit, const struct dataset_list lists[PARTS], const double *z,
			 struct fit_judged *out, struct error *error)
{
	const struct dataset *data = &fit->input->data;
	enum status status;
	if ((status = measures_take(data, lists[PART_STOPPING], z, &out->stopping, error)) ||
	    (status = measures_take(data, lists[PART_CALIBRATION], z, &out->calibration, error)) ||
	    (status = measures_take(data, lists[PART_TEST], z, &out->test, error)))
		return status;
	return STATUS_OK;
}

static enum status judge_baselines(struct fit *fit, struct error *error)
{
	struct fit_result *result = fit->result;
	enum status status;
	if ((status = judge(fit, fit->hidden, fit->popularity_z, &result->popularity, error)) ||
	    (status = judge(fit, fit->hidden, fit->regression_z, &result->regression, error)) ||
	    (status = judge(fit, fit->hidden, fit->model_z, &result->statistics, error)) ||
	    (status = judge(fit, fit->part, fit->popularity_z, &result->popularity_all, error)) ||
	    (status = judge(fit, fit->part, fit->regression_z, &result->regression_all, error)) ||
	    (status = judge(fit, fit->part, fit->model_z, &result->statistics_all, error)))
		return status;
	return STATUS_OK;
}

/* ---- calibration ---- */

struct column {
	double *z;                      /* [rows of the data] one exit's */
	double *packed;                 /* the calibration part's rows */
	float *labels;
};

static void take_column(const struct fit *fit, uint32_t exit, double a, double b, double *out)
{
	const struct dataset *data = &fit->input->data;
	uint32_t exits = fit->options->exits;
	for (size_t r = 0; r < data->rows; r++)
		out[r] = a * fit->z[r * exits + exit] + b;
}

static enum status calibrate_exit(struct fit *fit, uint32_t exit, struct column *column, struct error *error)
{
	const struct dataset *data = &fit->input->data;
	struct exit_head_weights *head = &fit->result->heads.heads[exit];
	struct fit_head *report = &fit->result->exits[exit];
	size_t count = 0;
	take_column(fit, exit, 1, 0, column->z);
	enum status status = judge(fit, fit->hidden, column->z, &report->raw, error);
	if (status)
		return status;
	/* A head that reads statistics alone is calibrated on all impressions of the part. */
	struct dataset_list list = head->hidden ? fit->hidden[PART_CALIBRATION] : fit->part[PART_CALIBRATION];
	for (size_t k = 0; k < list.count; k++) {
		uint32_t i = list.impressions[k];
		for (int64_t r = data->first[i]; r < data->first[i + 1]; r++) {
			column->packed[count] = column->z[r];
			column->labels[count++] = data->labels[r];
		}
	}
	calibration_fit(column->packed, column->labels, count, &head->platt_a, &head->platt_b, &report->turned);
	take_column(fit, exit, head->platt_a, head->platt_b, column->z);
	status = judge(fit, fit->hidden, column->z, &report->calibrated, error);
	if (status)
		return status;
	/* Judged where neither the head nor its early stopping looked. Not a number is not above. */
	double with = fit_auc(data, &report->raw.calibration);
	double without = fit->members ? fit_auc(data, &fit->result->statistics.calibration) : .5;
	report->useless = !head->hidden || !(with > without);
	return STATUS_OK;
}

static enum status calibrate(struct fit *fit, struct error *error)
{
	size_t rows = fit->input->data.rows;
	struct column column = {
		.z = mem_alloc_array(rows, sizeof(double)),
		.packed = mem_alloc_array(rows, sizeof(double)),
		.labels = mem_alloc_array(rows, sizeof(float)),
	};
	enum status status = column.z && column.packed && column.labels ? STATUS_OK :
		error_set(error, STATUS_NO_MEMORY, "no memory to calibrate %zu rows", rows);
	for (uint32_t e = 0; !status && e < fit->options->exits; e++)
		status = calibrate_exit(fit, e, &column, error);
	mem_free(column.z);
	mem_free(column.packed);
	mem_free(column.labels);
	return status;
}

/* The exits that say more than statistics; where none does, the shallowest is as good as any. */
static void suggest(struct fit_result *result)
{
	for (uint32_t e = 0; e < result->heads.count; e++)
		if (!result->exits[e].useless)
			result->suggested[result->suggested_count++] = result->exits[e].layer;
	if (!result->suggested_count)
		result->suggested[result->suggested_count++] = result->exits[0].layer;
}

/* ---- thresholds ---- */

static enum status look_at_test(struct fit *fit, const struct departures *departures, struct error *error)
{
	const struct dataset *data = &fit->input->data;
	struct fit_result *result = fit->result;
	uint8_t *exit_of = mem_alloc_zero(data->rows, sizeof *exit_of);
	double *z = mem_alloc_array(data->rows, sizeof *z);
	double predicted[EXIT_LAYERS_MAX] = {0}, observed[EXIT_LAYERS_MAX] = {0};
	const struct dataset_list test = fit->hidden[PART_TEST];
	enum status status = exit_of && z ? STATUS_OK :
		error_set(error, STATUS_NO_MEMORY, "no memory to judge %zu rows", data->rows);
	if (status)
		goto cleanup;
	departures_take(departures, &result->choice.policy, test, exit_of, &result->policy_totals);
	for (size_t k = 0; k < test.count; k++)
		for (size_t r = (size_t)data->first[test.impressions[k]];
		     r < (size_t)data->first[test.impressions[k] + 1]; r++) {
			z[r] = departures_calibrated(departures, r, exit_of[r]);
			if (isnan(data->labels[r]))
				continue;
			predicted[exit_of[r]] += objective_sigmoid(z[r]);
			observed[exit_of[r]] += (double)data->labels[r];
			result->exit_rows[exit_of[r]]++;
		}
	for (uint32_t e = 0; e < departures->exits; e++)
		result->exit_error[e] = result->exit_rows[e] ? (predicted[e] - observed[e]) /
							       (double)result->exit_rows[e] : NAN;
	if ((status = measures_take(data, test, z, &result->policy_test, error)))
		goto cleanup;
	take_column(fit, departures->exits - 1, departures->platt[2 * departures->exits - 2],
		    departures->platt[2 * departures->exits - 1], z);
	status = measures_take(data, test, z, &result->full_test, error);
cleanup:
	mem_free(exit_of);
	mem_free(z);
	return status;
}

static enum status choose_threshold(struct fit *fit, struct error *error)
{
	const struct fit_input *input = fit->input;
	const struct dataset *data = &input->data;
	struct fit_result *result = fit->result;
	uint32_t instruction = hidden_states_instruction(fit->states);
	double platt[2 * EXIT_LAYERS_MAX];
	uint32_t *prefix = mem_alloc_array(data->impressions, sizeof *prefix);
	enum status status = prefix ? STATUS_OK :
		error_set(error, STATUS_NO_MEMORY, "no memory for %zu impressions", data->impressions);
	if (status)
		goto cleanup;
	for (size_t i = 0; i < data->impressions; i++)
		prefix[i] = input->prefix_tokens[i] > instruction ? input->prefix_tokens[i] - instruction : 0;
	for (uint32_t e = 0; e < result->heads.count; e++) {
		platt[2 * e] = result->heads.heads[e].platt_a;
		platt[2 * e + 1] = result->heads.heads[e].platt_b;
	}
	const struct departures departures = {
		.data = data, .exits = result->heads.count, .layers = fit->options->layers,
		.model_layers = model_get_config(input->bundle->model)->layers, .z = fit->z, .platt = platt,
		.prefix_tokens = prefix, .suffix_tokens = input->suffix_tokens,
	};
	fit_say(fit, "testing thresholds", 0, 0);
	struct threshold_options options = fit->options->thresholds;
	options.seed = fit->options->seed;
	if ((status = thresholds_choose(&departures, fit->hidden[PART_CALIBRATION],
					fit->hidden[PART_THRESHOLDS], &options,
					&result->choice, error)))
		goto cleanup;
	memcpy(result->choice.policy.layers, fit->options->layers,
	       result->heads.count * sizeof *result->choice.policy.layers);
	result->choice.policy.layers_count = result->heads.count;
	result->heads.policy = result->choice.policy;
	status = look_at_test(fit, &departures, error);
cleanup:
	mem_free(prefix);
	return status;
}

/* ---- the whole ---- */

static void name_origin(struct fit *fit)
{
	const struct dataset *data = &fit->input->data;
	struct exit_heads *heads = &fit->result->heads;
	bundle_wording_hash(fit->input->bundle, heads->wording);
	memcpy(heads->model, fit->input->bundle->content, sizeof heads->model);
	heads->trained_until_ms = fit->input->bundle->trained_until_ms;
	for (size_t i = 0; i < data->impressions; i++)
		if (data->part[i] < PART_TEST && data->time_ms[i] > heads->trained_until_ms)
			heads->trained_until_ms = data->time_ms[i];
}

static enum status check(const struct fit_options *options, const struct fit_input *input, struct error *error)
{
	uint32_t layers = model_get_config(input->bundle->model)->layers;
	if (!options->exits || options->exits > EXIT_LAYERS_MAX)
		return error_set(error, STATUS_CONFIG, "exits: want 1 to %d layers", EXIT_LAYERS_MAX);
	for (uint32_t e = 0; e < options->exits; e++)
		if (!options->layers[e] || options->layers[e] > layers ||
		    (e && options->layers[e] <= options->layers[e - 1]))
			return error_set(error, STATUS_CONFIG, "exit layer %u: want ascending layers from 1 to %u",
					 options->layers[e], layers);
	if (options->statistics && !input->data.features)
		return error_set(error, STATUS_CONFIG,
				 "the samples have no statistics: fit with --features none");
	if (input->data.features > FEATURES_COUNT_MAX ||
	    (input->data.features && input->data.features < FEATURES_FIXED))
		return error_set(error, STATUS_CONFIG, "%zu features: want %d to %d", input->data.features,
				 FEATURES_FIXED, FEATURES_COUNT_MAX);
	if (options->objective == FIT_SOFTMAX && !input->data.clicked)
		return error_set(error, STATUS_CONFIG,
				 "softmax compares candidates of one impression; these samples' labels do not "
				 "(task liked)");
	return STATUS_OK;
}

enum status fit_run(const struct fit_options *options, const struct fit_input *input, struct fit_result **out,
		    struct error *error)
{
	struct fit fit = {.options = options, .input = input};
	enum status status = check(options, input, error);
	if (status)
		return status;
	fit.result = mem_alloc_zero(1, sizeof *fit.result);
	if (!fit.result)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the result");
	fit.result->has_statistics = input->data.features > 0;
	fit.result->objective = options->objective == FIT_SOFTMAX ? OBJECTIVE_SOFTMAX : OBJECTIVE_LOGISTIC;
	if ((status = fit_choose(&fit, error)) ||
	    (input->data.features && (status = fit_statistics(&fit, error))) ||
	    (input->data.features && (status = judge_baselines(&fit, error))) ||
	    (status = fit_heads(&fit, error)) || (status = calibrate(&fit, error)))
		goto cleanup;
	suggest(fit.result);
	name_origin(&fit);
	if ((status = choose_threshold(&fit, error)))
		goto cleanup;
	*out = fit.result;
	fit.result = NULL;
cleanup:
	hidden_states_destroy(fit.states);
	standardised_destroy(fit.standardised);
	for (uint32_t k = 0; k < fit.members; k++)
		statistics_model_destroy(fit.models[k]);
	void *buffers[] = {fit.order, fit.hidden_place, fit.statistics_z, fit.model_z, fit.regression_z, fit.popularity_z,
			   fit.z, fit.own};
	for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
		mem_free(buffers[i]);
	fit_result_destroy(fit.result);
	return status;
}

void fit_result_destroy(struct fit_result *result)
{
	if (!result)
		return;
	mem_free(result->heads.heads);
	mem_free(result->heads.names);
	mem_free(result->heads.inputs);
	mem_free(result->heads.values);
	mem_free(result->exits);
	mem_free(result);
}
