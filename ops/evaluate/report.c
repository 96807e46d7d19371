/* report.c - computes a report: the figures of all answers, of each exit layer, of slices, of popularity
 * and of others that answered the same, with intervals over users.
 *
 * Invariant: one set of draws serves all lines, so whatever is compared is paired.
 * Called by `exitpoll evaluate`, one thread. */
#include "ops/evaluate/report.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

static const uint32_t slice_begin[REPORT_SLICES] = {0, 1, 5, 20, 100};
const char *const report_slice_names[REPORT_SLICES] = {"0", "1-4", "5-19", "20-99", "100 and more"};

static size_t slice_of(uint32_t events)
{
	size_t slice = 0;

	while (slice + 1 < REPORT_SLICES && events >= slice_begin[slice + 1])
		slice++;
	return slice;
}

double report_saved(const struct report *report, const struct figures *figures)
{
	return report->deepest ? 1 - figures->value[FIGURE_DEPTH] / report->deepest : NAN;
}

/* ---- intervals ---- */

/* Draws for one judge, or for the difference of two. values: [FIGURES][draws]. */
static void draw_all(const struct report_input *input, struct judge *judge, struct judge *other, uint8_t *weights,
		     double *values)
{
	struct figures figures, others;

	for (uint32_t draw = 0; draw < input->draws; draw++) {
		bootstrap_weights(input->seed, draw, input->user_keys, input->answers->users, weights);
		judge_take(judge, weights, &figures, NULL);
		if (other)
			judge_take(other, weights, &others, NULL);
		for (size_t f = 0; f < FIGURES; f++)
			values[f * input->draws + draw] = figures.value[f] - (other ? others.value[f] : 0);
	}
}

static enum status fill_intervals(const struct report_input *input, struct judge *judge, struct judge *other,
				  struct report_line *line, struct error *error)
{
	uint8_t *weights = mem_alloc_array(input->answers->users, 1);
	double *values = mem_alloc_zero((size_t)FIGURES * (input->draws ? input->draws : 1), sizeof *values);
	enum status status = STATUS_OK;

	if (!weights || !values) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for %u draws", input->draws);
		goto cleanup;
	}
	draw_all(input, judge, other, weights, values);
	for (size_t f = 0; f < FIGURES; f++)
		line->interval[f] = bootstrap_interval(values + f * input->draws, input->draws);
	/* Draws of few users are less calibrated than all are: the middle of the draws lies above the figure. */
	line->interval[FIGURE_CALIBRATION] = (struct interval){NAN, NAN};
cleanup:
	mem_free(weights);
	mem_free(values);
	return status;
}

/* ---- the parts ---- */

static enum status take_all(struct report *report, struct error *error)
{
	const struct report_input *input = report->input;
	struct judge *model = NULL, *popularity = NULL;
	enum status status = judge_create(input->answers, SCORED_BY_MODEL, NULL, &model, error);

	if (status == STATUS_OK)
		status = judge_create(input->answers, SCORED_BY_POPULARITY, NULL, &popularity, error);
	if (status != STATUS_OK)
		goto cleanup;
	judge_take(model, NULL, &report->model.figures, report->bins);
	judge_take(popularity, NULL, &report->popularity.figures, NULL);
	judge_roc(model, REPORT_ROC_POINTS, report->false_rate, report->true_rate);
	report->both = (size_t)report->model.figures.pairs_impressions;
	status = fill_intervals(input, model, NULL, &report->model, error);
	if (status == STATUS_OK)
		status = fill_intervals(input, popularity, NULL, &report->popularity, error);
cleanup:
	judge_destroy(model);
	judge_destroy(popularity);
	return status;
}

static enum status take_chosen(const struct report_input *input, const bool *chosen, struct figures *out,
			       struct error *error)
{
	struct judge *judge = NULL;
	enum status status = judge_create(input->answers, SCORED_BY_MODEL, chosen, &judge, error);

	if (status == STATUS_OK)
		judge_take(judge, NULL, out, NULL);
	judge_destroy(judge);
	return status;
}

static enum status take_layers(struct report *report, bool *chosen, struct error *error)
{
	const struct answers *answers = report->input->answers;
	bool seen[UINT16_MAX + 1] = {false};
	enum status status = STATUS_OK;

	for (size_t row = 0; row < answers->rows_count; row++)
		seen[answers->rows[row].layer] = true;
	for (unsigned layer = 0; layer <= UINT16_MAX && status == STATUS_OK; layer++) {
		if (!seen[layer])
			continue;
		if (report->layers_count == REPORT_LAYERS_MAX)
			return error_set(error, STATUS_LIMIT, "more than %d exit layers", REPORT_LAYERS_MAX);
		for (size_t row = 0; row < answers->rows_count; row++)
			chosen[row] = answers->rows[row].layer == layer;
		report->deepest = layer > report->deepest ? layer : report->deepest;
		report->layers[report->layers_count].layer = layer;
		status = take_chosen(report->input, chosen, &report->layers[report->layers_count++].figures, error);
	}
	if (report->input->model_layers)
		report->deepest = report->input->model_layers;
	return status;
}

static enum status take_slices(struct report *report, bool *chosen, struct error *error)
{
	const struct answers *answers = report->input->answers;
	enum status status = STATUS_OK;

	for (size_t slice = 0; slice < REPORT_SLICES && status == STATUS_OK; slice++) {
		for (size_t row = 0; row < answers->rows_count; row++)
			chosen[row] = slice_of(answers->rows[row].item_events) == slice;
		status = take_chosen(report->input, chosen, &report->item_slices[slice], error);
		for (size_t i = 0; i < answers->impressions_count; i++) {
			const struct answered_impression *impression = &answers->impressions[i];
			memset(chosen + impression->first, slice_of(impression->user_events) == slice, impression->count);
		}
		if (status == STATUS_OK)
			status = take_chosen(report->input, chosen, &report->user_slices[slice], error);
	}
	return status;
}

/* Impressions that both have answered in full. */
static size_t choose_common(const struct answers *answers, const float *p, bool *chosen)
{
	size_t common = 0;

	for (size_t i = 0; i < answers->impressions_count; i++) {
		const struct answered_impression *impression = &answers->impressions[i];
		bool all = true;

		for (uint32_t row = impression->first; row < impression->first + impression->count; row++)
			all &= !isnan(p[row]);
		memset(chosen + impression->first, all, impression->count);
		common += all;
	}
	return common;
}

static enum status compare(struct report *report, const struct report_other *other,
			   struct report_comparison *comparison, bool *chosen, struct error *error)
{
	const struct report_input *input = report->input;
	struct answers theirs = *input->answers;
	struct judge *own_judge = NULL, *their_judge = NULL;
	enum status status;

	theirs.rows = mem_alloc_array(theirs.rows_count, sizeof *theirs.rows);
	if (!theirs.rows)
		return error_set(error, STATUS_NO_MEMORY, "no memory to compare %zu answers", theirs.rows_count);
	for (size_t row = 0; row < theirs.rows_count; row++) {
		theirs.rows[row] = input->answers->rows[row];
		theirs.rows[row].p = other->p[row];
		theirs.rows[row].layer = other->layer[row];
	}
	comparison->impressions = choose_common(input->answers, other->p, chosen);
	status = judge_create(input->answers, SCORED_BY_MODEL, chosen, &own_judge, error);
	if (status == STATUS_OK)
		status = judge_create(&theirs, SCORED_BY_MODEL, chosen, &their_judge, error);
	if (status != STATUS_OK)
		goto cleanup;
	judge_take(own_judge, NULL, &comparison->own.figures, NULL);
	judge_take(their_judge, NULL, &comparison->other.figures, NULL);
	for (size_t f = 0; f < FIGURES; f++)
		comparison->difference.figures.value[f] = comparison->own.figures.value[f] -
							  comparison->other.figures.value[f];
	status = fill_intervals(input, own_judge, their_judge, &comparison->difference, error);
cleanup:
	judge_destroy(own_judge);
	judge_destroy(their_judge);
	mem_free(theirs.rows);
	return status;
}

enum status report_make(const struct report_input *input, struct report **out, struct error *error)
{
	const struct answers *answers = input->answers;
	struct report *report = mem_alloc_zero(1, sizeof *report);
	bool *chosen = mem_alloc_zero(answers->rows_count ? answers->rows_count : 1, sizeof *chosen);
	enum status status;

	if (!report || !chosen) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for a report");
		goto cleanup;
	}
	report->input = input;
	report->impressions = answers->impressions_count;
	status = answers->rows_count ? STATUS_OK :
		 error_set(error, STATUS_NO_INPUT, "no prediction of %s has a label: %llu predictions, %llu without an "
			   "impression in the events, %llu without an answer", input->name,
			   (unsigned long long)input->counts.predictions,
			   (unsigned long long)input->counts.without_impression,
			   (unsigned long long)input->counts.unlabelled);
	if (status == STATUS_OK)
		status = take_all(report, error);
	if (status == STATUS_OK)
		status = take_layers(report, chosen, error);
	if (status == STATUS_OK)
		status = take_slices(report, chosen, error);
	for (size_t i = 0; i < input->others_count && status == STATUS_OK; i++)
		status = compare(report, &input->others[i], &report->others[i], chosen, error);
	if (status != STATUS_OK)
		goto cleanup;
	*out = report;
	report = NULL;
cleanup:
	mem_free(chosen);
	report_destroy(report);
	return status;
}

void report_destroy(struct report *report)
{
	mem_free(report);
}
