/* report_plots.c - the report as four charts. */
#include "ops/evaluate/report.h"
#include "ops/evaluate/svg.h"

#include <math.h>
#include <string.h>

static enum status open_chart(const char *folder, const char *name, const struct svg_axes *axes, struct svg **svg,
			      struct error *error)
{
	char path[4096];

	if (snprintf(path, sizeof path, "%s/%s.svg", folder, name) >= (int)sizeof path)
		return error_set(error, STATUS_USAGE, "the path of the folder of charts is too long");
	return svg_create(path, axes, svg, error);
}

static enum status plot_reliability(const struct report *report, const char *folder, struct error *error)
{
	double x[FIGURES_BINS], y[FIGURES_BINS], most = 0;
	size_t count = 0;
	struct svg *svg;

	for (size_t i = 0; i < FIGURES_BINS; i++) {
		if (!(report->bins[i].rows > 0))
			continue;
		x[count] = report->bins[i].predicted;
		y[count++] = report->bins[i].observed;
		most = fmax(most, fmax(report->bins[i].predicted, report->bins[i].observed));
	}
	most = fmin(1, ceil(most * 10 + .2) / 10);
	struct svg_axes axes = {"Reliability", "mean prediction of the bin", "share that was taken", 0, most, 0, most};
	enum status status = open_chart(folder, "reliability", &axes, &svg, error);
	if (status != STATUS_OK)
		return status;
	svg_line(svg, (const double[]){0, 1}, (const double[]){0, 1}, 2, -1);
	svg_line(svg, x, y, count, 0);
	for (size_t i = 0; i < count; i++)
		svg_point(svg, x[i], y[i], 4, 0);
	svg_legend(svg, "bins of equal numbers of answers", 0);
	return svg_close(&svg, error);
}

static enum status plot_roc(const struct report *report, const char *folder, struct error *error)
{
	struct svg_axes axes = {"Receiver operating characteristic", "share of the others above the threshold",
				"share of the taken above the threshold", 0, 1, 0, 1};
	char legend[64];
	struct svg *svg;
	enum status status = open_chart(folder, "roc", &axes, &svg, error);

	if (status != STATUS_OK)
		return status;
	svg_line(svg, (const double[]){0, 1}, (const double[]){0, 1}, 2, -1);
	svg_line(svg, report->false_rate, report->true_rate, REPORT_ROC_POINTS + 1, 0);
	if (isnan(report->model.figures.value[FIGURE_AUC]))
		snprintf(legend, sizeof legend, "one class only: no curve");
	else
		snprintf(legend, sizeof legend, "AUC %.4f", report->model.figures.value[FIGURE_AUC]);
	svg_legend(svg, legend, 0);
	return svg_close(&svg, error);
}

/* AUC of what left at each layer, over the share of answers that did. */
static enum status plot_layers(const struct report *report, const char *folder, struct error *error)
{
	struct svg_axes axes = {"Answers by the layer at which they left", "layer", "AUC; share of the answers (bars)",
				0, report->deepest ? report->deepest + 1 : 1, 0, 1};
	struct svg *svg;
	enum status status = open_chart(folder, "layers", &axes, &svg, error);

	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < report->layers_count; i++) {
		const struct report_layer *layer = &report->layers[i];

		svg_bar(svg, layer->layer - .4, layer->layer + .4, layer->figures.rows / report->model.figures.rows, 0);
		if (!isnan(layer->figures.value[FIGURE_AUC]))
			svg_point(svg, layer->layer, layer->figures.value[FIGURE_AUC], 5, 1);
	}
	svg_legend(svg, "share of the answers", 0);
	svg_legend(svg, "AUC of these", 1);
	return svg_close(&svg, error);
}

/* Loss over layers saved: this file and every other, on the impressions that they share with it. */
static enum status plot_tradeoff(const struct report *report, const char *folder, struct error *error)
{
	const struct report_input *input = report->input;
	double low = report->model.figures.value[FIGURE_LOG_LOSS], high = low, margin;
	struct svg *svg;
	enum status status;

	for (size_t i = 0; i < input->others_count; i++) {
		double loss = report->others[i].other.figures.value[FIGURE_LOG_LOSS];
		low = fmin(low, loss);
		high = fmax(high, loss);
	}
	margin = fmax((high - low) * .3, fmax(low * .02, 1e-6));
	struct svg_axes axes = {"Risk over layers saved", "share of the layers that candidates did not run", "log loss",
				-.05, 1, low - margin, high + margin};
	status = open_chart(folder, "tradeoff", &axes, &svg, error);
	if (status != STATUS_OK)
		return status;
	svg_point(svg, report_saved(report, &report->model.figures), report->model.figures.value[FIGURE_LOG_LOSS], 6, 0);
	svg_text(svg, report_saved(report, &report->model.figures), report->model.figures.value[FIGURE_LOG_LOSS],
		 input->name);
	for (size_t i = 0; i < input->others_count; i++) {
		const struct figures *other = &report->others[i].other.figures;

		if (isnan(other->value[FIGURE_LOG_LOSS]))
			continue;
		svg_point(svg, report_saved(report, other), other->value[FIGURE_LOG_LOSS], 5, 1);
		svg_text(svg, report_saved(report, other), other->value[FIGURE_LOG_LOSS], input->others[i].name);
	}
	return svg_close(&svg, error);
}

enum status report_plot(const struct report *report, const char *folder, struct error *error)
{
	enum status status = plot_reliability(report, folder, error);

	if (status == STATUS_OK)
		status = plot_roc(report, folder, error);
	if (status == STATUS_OK)
		status = plot_layers(report, folder, error);
	if (status == STATUS_OK)
		status = plot_tradeoff(report, folder, error);
	return status;
}
