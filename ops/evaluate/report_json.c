/* report_json.c - the report for machines: figures that do not exist are null. */
#include "ops/evaluate/report.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *figures_object(const struct figures *figures)
{
	json_t *object = json_object();

	json_object_set_new(object, "rows", number(figures->rows));
	json_object_set_new(object, "positives", number(figures->positives));
	for (size_t f = 0; f < FIGURES; f++)
		json_object_set_new(object, figure_name((enum figure)f), number(figures->value[f]));
	return object;
}

static json_t *line_object(const struct report_line *line)
{
	json_t *object = figures_object(&line->figures), *intervals = json_object();

	for (size_t f = 0; f < FIGURES; f++)
		json_object_set_new(intervals, figure_name((enum figure)f),
				    json_pack("[oo]", number(line->interval[f].low), number(line->interval[f].high)));
	json_object_set_new(object, "intervals", intervals);
	return object;
}

static json_t *slices_array(const struct figures *slices)
{
	json_t *array = json_array();

	for (size_t i = 0; i < REPORT_SLICES; i++) {
		json_t *slice = figures_object(&slices[i]);
		json_object_set_new(slice, "earlier_events", json_string(report_slice_names[i]));
		json_array_append_new(array, slice);
	}
	return array;
}

static json_t *layers_array(const struct report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->layers_count; i++) {
		json_t *layer = figures_object(&report->layers[i].figures);
		json_object_set_new(layer, "layer", json_integer(report->layers[i].layer));
		json_array_append_new(array, layer);
	}
	return array;
}

static json_t *bins_array(const struct report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < FIGURES_BINS; i++)
		if (report->bins[i].rows > 0)
			json_array_append_new(array, json_pack("{s:f,s:f,s:f}", "predicted", report->bins[i].predicted,
							       "observed", report->bins[i].observed, "rows",
							       report->bins[i].rows));
	return array;
}

static json_t *comparisons_array(const struct report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->input->others_count; i++) {
		const struct report_comparison *one = &report->others[i];
		json_array_append_new(array, json_pack("{s:s,s:I,s:o,s:o,s:o}", "other", report->input->others[i].name,
						       "impressions", (json_int_t)one->impressions, "this",
						       figures_object(&one->own.figures), "that",
						       figures_object(&one->other.figures), "difference",
						       line_object(&one->difference)));
	}
	return array;
}

static json_t *counts_object(const struct report_counts *counts)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "predictions", (json_int_t)counts->predictions, "unlabelled",
			 (json_int_t)counts->unlabelled, "without_impression", (json_int_t)counts->without_impression,
			 "late", (json_int_t)counts->late, "no_candidates", (json_int_t)counts->no_candidates, "repeated",
			 (json_int_t)counts->repeated, "leaked", (json_int_t)counts->leaked);
}

void report_print_json(const struct report *report, FILE *out)
{
	const struct report_input *input = report->input;
	json_t *root = json_pack("{s:s,s:s,s:s,s:I,s:I,s:o,s:o}", "predictions", input->name, "model_id", input->model_id,
				 "task", input->task, "impressions", (json_int_t)report->impressions, "users",
				 (json_int_t)input->answers->users, "counts", counts_object(&input->counts), "model",
				 line_object(&report->model));

	json_object_set_new(root, "layers_saved", number(report_saved(report, &report->model.figures)));
	json_object_set_new(root, "full_depth", json_integer(report->deepest));
	json_object_set_new(root, "popularity", line_object(&report->popularity));
	json_object_set_new(root, "reliability", bins_array(report));
	json_object_set_new(root, "layers", layers_array(report));
	json_object_set_new(root, "item_slices", slices_array(report->item_slices));
	json_object_set_new(root, "user_slices", slices_array(report->user_slices));
	json_object_set_new(root, "comparisons", comparisons_array(report));
	json_object_set_new(root, "draws", json_integer(input->draws));
	json_object_set_new(root, "seed", json_integer((json_int_t)input->seed));
	json_dumpf(root, out, JSON_REAL_PRECISION(17) | JSON_INDENT(1));
	fputc('\n', out);
	json_decref(root);
}
