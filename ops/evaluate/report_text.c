/* report_text.c - the report as tables for a person. */
#include "ops/evaluate/report.h"

#include <inttypes.h>
#include <math.h>

static void number(FILE *out, int width, const char *format, double value)
{
	char text[32];

	if (isnan(value))
		snprintf(text, sizeof text, "-");
	else
		snprintf(text, sizeof text, format, value);
	fprintf(out, " %*s", width, text);
}

static void print_line(FILE *out, enum figure figure, const struct report_line *line, bool with_sign)
{
	const struct interval *interval = &line->interval[figure];

	number(out, 9, with_sign ? "%+.4f" : "%.4f", line->figures.value[figure]);
	if (isnan(line->figures.value[figure]) || isnan(interval->low))
		fprintf(out, " %20s", "");
	else
		fprintf(out, with_sign ? " [%+.4f, %+.4f]  " : " [%.4f, %.4f]    ", interval->low, interval->high);
}

static void print_overall(const struct report *report, FILE *out)
{
	fprintf(out, "\n%-24s %-30s %s\n", "", report->input->draws ? "model [95 % over users]" : "model", "popularity");
	for (size_t f = 0; f < FIGURES; f++) {
		fprintf(out, "%-24s", figure_title((enum figure)f));
		print_line(out, (enum figure)f, &report->model, false);
		print_line(out, (enum figure)f, &report->popularity, false);
		fputc('\n', out);
	}
	fprintf(out, "%-24s", "layers saved");
	number(out, 9, "%.1f %%", 100 * report_saved(report, &report->model.figures));
	fprintf(out, "  of %u, by candidates\n", report->deepest);
}

static void print_layers(const struct report *report, FILE *out)
{
	fprintf(out, "\nLeft at layer  %10s %8s %8s %8s %9s %12s\n", "answers", "share", "taken", "AUC", "log loss",
		"calibration");
	for (size_t i = 0; i < report->layers_count; i++) {
		const struct report_layer *layer = &report->layers[i];

		fprintf(out, "%13u  %10.0f", layer->layer, layer->figures.rows);
		number(out, 8, "%.1f %%", 100 * layer->figures.rows / report->model.figures.rows);
		number(out, 8, "%.1f %%", 100 * layer->figures.positives / layer->figures.rows);
		number(out, 8, "%.4f", layer->figures.value[FIGURE_AUC]);
		number(out, 9, "%.4f", layer->figures.value[FIGURE_LOG_LOSS]);
		number(out, 12, "%.4f", layer->figures.value[FIGURE_CALIBRATION]);
		fputc('\n', out);
	}
}

static void print_slices(const char *what, const struct figures *slices, FILE *out)
{
	fprintf(out, "\n%-22s %10s %8s %8s %9s\n", what, "answers", "taken", "AUC", "log loss");
	for (size_t i = 0; i < REPORT_SLICES; i++) {
		if (!(slices[i].rows > 0))
			continue;
		fprintf(out, "%-22s %10.0f", report_slice_names[i], slices[i].rows);
		number(out, 8, "%.1f %%", 100 * slices[i].positives / slices[i].rows);
		number(out, 8, "%.4f", slices[i].value[FIGURE_AUC]);
		number(out, 9, "%.4f", slices[i].value[FIGURE_LOG_LOSS]);
		fputc('\n', out);
	}
}

static void print_comparison(const struct report *report, size_t i, FILE *out)
{
	const struct report_comparison *comparison = &report->others[i];

	fprintf(out, "\nAgainst %s, on the %zu impressions that both have answered:\n%-24s %9s %9s %s\n",
		report->input->others[i].name, comparison->impressions, "", "this", "other",
		report->input->draws ? "difference [95 % over users, paired]" : "difference");
	for (size_t f = 0; f < FIGURES; f++) {
		fprintf(out, "%-24s", figure_title((enum figure)f));
		number(out, 9, "%.4f", comparison->own.figures.value[f]);
		number(out, 9, "%.4f", comparison->other.figures.value[f]);
		print_line(out, (enum figure)f, &comparison->difference, true);
		fputc('\n', out);
	}
}

static void print_left_out(const struct report_counts *counts, FILE *out)
{
	const struct {
		uint64_t count;
		const char *why;
	} rows[] = {
		{counts->unlabelled, "without an answer in the events"},
		{counts->without_impression, "of impressions that the events do not have"},
		{counts->late, "with status LATE"},
		{counts->no_candidates, "without candidates"},
		{counts->repeated, "of an impression id that was answered before"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].count)
			fprintf(out, "Left out: %" PRIu64 " predictions %s\n", rows[i].count, rows[i].why);
	if (counts->leaked)
		fprintf(out, "LEAK: %" PRIu64 " predictions are of times that the model was trained on\n", counts->leaked);
}

void report_print(const struct report *report, bool brief, FILE *out)
{
	const struct report_input *input = report->input;

	fprintf(out, "%s%s%s: task %s, %zu impressions of %u users, %.0f answers, %.1f %% taken\n", input->name,
		input->model_id[0] ? ", model " : "", input->model_id, input->task, report->impressions,
		input->answers->users, report->model.figures.rows,
		100 * report->model.figures.positives / report->model.figures.rows);
	print_left_out(&input->counts, out);
	print_overall(report, out);
	if (brief)
		return;
	print_layers(report, out);
	print_slices("Earlier events of item", report->item_slices, out);
	print_slices("Earlier events of user", report->user_slices, out);
	for (size_t i = 0; i < input->others_count; i++)
		print_comparison(report, i, out);
}
