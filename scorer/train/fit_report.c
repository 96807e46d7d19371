/* fit_report.c - the result in words and tables. Everything that a reader may take for a promise says on how
 * many users it rests. Caller: the fit-heads command. */
#include "scorer/train/fit_report.h"

struct page {
	const struct fit_options *options;
	const struct dataset *data;
	const struct fit_result *result;
	bool markdown;
	FILE *out;
};

static void heading(const struct page *page, const char *text)
{
	fprintf(page->out, page->markdown ? "\n## %s\n\n" : "\n%s\n", text);
}

/* A row of a table: the first cell to the left, the others to the right. */
static void row(const struct page *page, const char *first, const char *const *cells, size_t count)
{
	if (page->markdown) {
		fprintf(page->out, "| %s |", first);
		for (size_t i = 0; i < count; i++)
			fprintf(page->out, " %s |", cells[i]);
	} else {
		fprintf(page->out, "  %-26s", first);
		for (size_t i = 0; i < count; i++)
			fprintf(page->out, " %10s", cells[i]);
	}
	fputc('\n', page->out);
}

static void rule(const struct page *page, size_t count)
{
	for (size_t i = 0; page->markdown && i <= count; i++)
		fputs(i ? " ---: |" : "| --- |", page->out);
	if (page->markdown)
		fputc('\n', page->out);
}

enum { CELL_BYTES = 24, CELLS = 8 };
struct cells {
	char text[CELLS][CELL_BYTES];
	const char *pointer[CELLS];
	size_t count;
};

static void cell(struct cells *cells, const char *format, double value)
{
	char *text = cells->text[cells->count];
	if (isfinite(value))
		snprintf(text, CELL_BYTES, format, value);
	else
		snprintf(text, CELL_BYTES, "-");
	cells->pointer[cells->count++] = text;
}

/* ---- scores ---- */

static void score_row(const struct page *page, const char *name, const struct measures *stopping,
		      const struct measures *test, bool is_probability)
{
	struct cells cells = {0};
	double nothing = NAN;
	cell(&cells, "%.4f", stopping ? stopping->auc : nothing);
	cell(&cells, "%.4f", stopping ? stopping->impression_auc : nothing);
	cell(&cells, "%.4f", test->auc);
	cell(&cells, "%.4f", test->impression_auc);
	cell(&cells, "%.3f", test->first);
	cell(&cells, "%.4f", is_probability ? test->log_loss : nothing);
	cell(&cells, "%.4f", is_probability ? test->normalised_entropy : nothing);
	cell(&cells, "%.4f", is_probability ? test->calibration_error : nothing);
	row(page, name, cells.pointer, cells.count);
}

static void score_head(const struct page *page)
{
	static const char *const names[] = {"val AUC", "val in imp", "test AUC", "in imp", "first", "log loss",
					    "NE", "ECE"};
	row(page, "", names, sizeof names / sizeof names[0]);
	rule(page, sizeof names / sizeof names[0]);
}

static void scores(const struct page *page)
{
	const struct fit_result *result = page->result;
	char name[64];
	snprintf(name, sizeof name, "Scores on impressions with hidden states (%zu val, %zu test)",
		 result->with_hidden[PART_STOPPING], result->with_hidden[PART_TEST]);
	heading(page, name);
	score_head(page);
	if (result->has_statistics) {
		score_row(page, "popularity", &result->popularity.stopping, &result->popularity.test, false);
		score_row(page, "logistic regression", &result->regression.stopping, &result->regression.test, true);
		score_row(page, "statistics' own model", &result->statistics.stopping, &result->statistics.test,
			  true);
	}
	for (uint32_t e = 0; e < result->heads.count; e++) {
		const struct fit_head *head = &result->exits[e];
		snprintf(name, sizeof name, "exit %u%s%s", head->layer, head->hidden ? "" : " (no hidden)",
			 head->hidden && head->useless ? " (useless)" : "");
		score_row(page, name, &head->calibrated.stopping, &head->calibrated.test, true);
	}
	score_row(page, "as served", NULL, &result->policy_test, true);
	if (!result->has_statistics || result->with_hidden[PART_TEST] == result->impressions[PART_TEST])
		return;
	snprintf(name, sizeof name, "Statistics on all impressions (%zu val, %zu test)",
		 result->impressions[PART_STOPPING], result->impressions[PART_TEST]);
	heading(page, name);
	score_head(page);
	score_row(page, "popularity", &result->popularity_all.stopping, &result->popularity_all.test, false);
	score_row(page, "logistic regression", &result->regression_all.stopping, &result->regression_all.test, true);
	score_row(page, "statistics' own model", &result->statistics_all.stopping, &result->statistics_all.test,
		  true);
}

/* ---- heads ---- */

static void heads(const struct page *page)
{
	static const char *const names[] = {"loss w/o", "loss own", "loss", "L2", "iteration", "ECE raw", "ECE cal",
					    "left"};
	const struct fit_result *result = page->result;
	heading(page, "Heads (losses on the early-stopping part; ECE and who left on the test part)");
	row(page, "", names, sizeof names / sizeof names[0]);
	rule(page, sizeof names / sizeof names[0]);
	for (uint32_t e = 0; e < result->heads.count; e++) {
		const struct fit_head *head = &result->exits[e];
		struct cells cells = {0};
		char name[32];
		snprintf(name, sizeof name, "exit %u", head->layer);
		cell(&cells, "%.4f", head->training.without_loss);
		cell(&cells, "%.4f", head->training.own_loss);
		cell(&cells, "%.4f", head->training.loss);
		cell(&cells, "%g", head->training.decay);
		cell(&cells, "%.0f", (double)head->training.iteration);
		cell(&cells, "%.4f", head->raw.test.calibration_error);
		cell(&cells, "%.4f", head->calibrated.test.calibration_error);
		cell(&cells, "%.0f", result->policy_totals.left_at[e]);
		row(page, name, cells.pointer, cells.count);
	}
	fputc('\n', page->out);
	for (uint32_t e = 0; e < result->heads.count; e++) {
		const struct fit_head *head = &result->exits[e];
		const char *bullet = page->markdown ? "- " : "  ";
		double with = fit_auc(page->data, &head->raw.calibration);
		double without = result->has_statistics ? fit_auc(page->data, &result->statistics.calibration) : .5;
		if (!head->hidden)
			fprintf(page->out, "%sexit %u: the hidden state made the early-stopping part worse and was "
				"dropped; the head is the statistics' own model\n", bullet, head->layer);
		else if (head->useless)
			fprintf(page->out, "%sexit %u is useless: AUC %.4f on the calibration part, not above %.4f of "
				"%s\n", bullet, head->layer, with, without,
				result->has_statistics ? "the statistics alone" : "a coin");
		if (head->turned)
			fprintf(page->out, "%sexit %u: calibration found its order upside down; its scores are nearly "
				"constant\n", bullet, head->layer);
	}
	fprintf(page->out, "%sSuggested exits: ", page->markdown ? "\n" : "  ");
	for (uint32_t i = 0; i < result->suggested_count; i++)
		fprintf(page->out, "%s%u", i ? "," : "", result->suggested[i]);
	fputs("\n", page->out);
}

static void reliability(const struct page *page)
{
	static const char *const names[] = {"raw p", "taken", "served p", "taken", "rows"};
	const struct fit_result *result = page->result;
	const struct fit_head *last = &result->exits[result->heads.count - 1];
	heading(page, "Reliability of the last exit on the test part, before and after calibration");
	row(page, "bin", names, sizeof names / sizeof names[0]);
	rule(page, sizeof names / sizeof names[0]);
	for (size_t b = 0; b < MEASURES_BINS; b++) {
		struct cells cells = {0};
		char name[16];
		snprintf(name, sizeof name, "%zu", b + 1);
		cell(&cells, "%.4f", last->raw.test.bins[b].predicted);
		cell(&cells, "%.4f", last->raw.test.bins[b].observed);
		cell(&cells, "%.4f", last->calibrated.test.bins[b].predicted);
		cell(&cells, "%.4f", last->calibrated.test.bins[b].observed);
		cell(&cells, "%.0f", (double)last->calibrated.test.bins[b].rows);
		row(page, name, cells.pointer, cells.count);
	}
}

/* ---- the policy ---- */

static void sequence(const struct page *page)
{
	static const char *const names[] = {"p-value", "loss", "NE", "saved", "of exits"};
	const struct threshold_choice *choice = &page->result->choice;
	row(page, "threshold", names, sizeof names / sizeof names[0]);
	rule(page, sizeof names / sizeof names[0]);
	for (size_t i = 0; i < choice->trials_count; i++) {
		const struct threshold_trial *trial = &choice->trials[i];
		struct cells cells = {0};
		char name[32];
		snprintf(name, sizeof name, "%.6g%s", trial->threshold,
			 choice->passed && i == choice->chosen ? " (chosen)" : "");
		cell(&cells, "%.3g", trial->p_value);
		cell(&cells, "%+.5f", trial->mean_difference);
		cell(&cells, "%+.5f", trial->entropy_difference);
		cell(&cells, "%.3f", trial->saved);
		cell(&cells, "%.3f", trial->saved_last);
		row(page, name, cells.pointer, cells.count);
	}
}

static void policy(const struct page *page)
{
	const struct fit_result *result = page->result;
	const struct threshold_choice *choice = &result->choice;
	const struct threshold_options *options = &page->options->thresholds;
	const struct departure_totals *totals = &result->policy_totals;
	heading(page, "Leaving early");
	fprintf(page->out, "Rule %s, tested on %zu users (%zu candidates)%s, from the most careful threshold on:\n\n",
		exit_rule_name(options->rule), choice->users, choice->rows,
		page->options->any_user ? ", some of them seen by heads or calibration" :
					  " that neither heads nor calibration saw");
	sequence(page);
	if (!choice->passed)
		fprintf(page->out, "\nNo threshold passes: with %zu users it cannot be said with certainty %g that the "
			"%s rises by at most %g. Everybody is served at the last exit.\n", choice->users,
			1 - options->delta, options->entropy ? "normalised entropy" : "loss", options->bound);
	else if (options->entropy)
		fprintf(page->out, "\nPromise (approximate: a bootstrap over users): with probability %g, normalised "
			"entropy exceeds that at full depth by at most %g.\n", 1 - options->delta, options->bound);
	else
		fprintf(page->out, "\nPromise: with probability %g, the log loss of a user (each candidate's clipped to "
			"+-%g) exceeds that at full depth by at most %g in expectation. Normalised entropy: %+.5f "
			"(p %.3g at the same bound, approximate).\n", 1 - options->delta, options->clip,
			options->bound, choice->entropy_difference, choice->p_value_entropy);
	if (totals->layer_tokens_full > 0)
		fprintf(page->out, "On the test part %.1f %% of the model's layer-tokens are saved (%.1f %% of those "
			"up to the last exit); AUC %+.4f, in the impression %+.4f, NE %+.5f against the last exit.\n",
			100 * (1 - totals->layer_tokens_run / totals->layer_tokens_full),
			100 * (1 - totals->layer_tokens_run / totals->layer_tokens_last),
			result->policy_test.auc - result->full_test.auc,
			result->policy_test.impression_auc - result->full_test.impression_auc,
			result->policy_test.normalised_entropy - result->full_test.normalised_entropy);
	for (uint32_t e = 0; e < result->heads.count; e++)
		if (result->exit_rows[e])
			fprintf(page->out, "%sleft at layer %u: %zu candidates, predicted minus taken %+.4f\n",
				page->markdown ? "- " : "  ", result->exits[e].layer, result->exit_rows[e],
				result->exit_error[e]);
}

void fit_report_print(const struct fit_options *options, const struct dataset *data,
		      const struct fit_result *result, bool markdown, FILE *out)
{
	struct page page = {options, data, result, markdown, out};
	static const char *const parts[PARTS] = {"train", "early stopping", "calibration", "thresholds", "test"};
	if (markdown)
		fputs("# Exit heads\n\n", out);
	fprintf(out, "Task %s, features %s, objective %s, seed %llu. Impressions (with hidden states):",
		data->clicked ? "clicked" : "liked", options->statistics ? "statistics" : "none",
		objective_name(result->objective), (unsigned long long)options->seed);
	for (int part = 0; part < PARTS; part++)
		fprintf(out, "%s %s %zu (%zu)", part ? "," : "", parts[part], result->impressions[part],
			result->with_hidden[part]);
	fprintf(out, "; %zu of the threshold part's are of users that no earlier part has.\n", result->unseen);
	scores(&page);
	heads(&page);
	reliability(&page);
	policy(&page);
}
