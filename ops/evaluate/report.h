/* report.h - everything that `exitpoll evaluate` says about answers, computed once and shown in three ways.
 *
 * Made by report_make(); the printers are in report_text.c, report_json.c and report_plots.c. One thread. */
#ifndef EXITPOLL_OPS_EVALUATE_REPORT_H
#define EXITPOLL_OPS_EVALUATE_REPORT_H

#include "ops/evaluate/bootstrap.h"
#include "ops/evaluate/figures.h"

#include <stdio.h>

enum { REPORT_SLICES = 5, REPORT_LAYERS_MAX = 128, REPORT_OTHERS_MAX = 8, REPORT_ROC_POINTS = 200 };

/* What a reader of predictions and events has found. */
struct report_counts {
	uint64_t predictions, unlabelled, without_impression, repeated, late, no_candidates, leaked;
};

/* The same impressions answered by something else: rows beside those of the answers. */
struct report_other {
	const char *name;
	const float *p;                 /* [rows_count]; NaN: not answered there */
	const uint16_t *layer;          /* [rows_count] */
};

struct report_input {
	const char *name;
	const struct answers *answers;
	const uint64_t *user_keys;      /* [users] hashes of the ids */
	struct report_counts counts;
	const char *task;               /* "liked" or "clicked" */
	const char *model_id;           /* "" where unknown */
	unsigned model_layers;          /* 0: unknown; the deepest exit seen serves then */
	const struct report_other *others;      /* [others_count] */
	size_t others_count;
	uint64_t seed;
	uint32_t draws;                 /* of the bootstrap; 0: no intervals */
};

struct report_line {
	struct figures figures;
	struct interval interval[FIGURES];
};

struct report_layer {
	unsigned layer;
	struct figures figures;
};

struct report_comparison {
	size_t impressions;             /* answered by both */
	struct report_line own, other, difference;      /* on these; difference = own - other */
};

struct report {
	const struct report_input *input;
	size_t impressions, both;       /* labelled; with both classes */
	unsigned deepest;               /* what counts as full depth */
	struct report_line model, popularity;
	struct figures_bin bins[FIGURES_BINS];
	double false_rate[REPORT_ROC_POINTS + 1], true_rate[REPORT_ROC_POINTS + 1];
	struct report_layer layers[REPORT_LAYERS_MAX];
	size_t layers_count;
	struct figures item_slices[REPORT_SLICES], user_slices[REPORT_SLICES];
	struct report_comparison others[REPORT_OTHERS_MAX];
};
extern const char *const report_slice_names[REPORT_SLICES];     /* "0", "1-4", ... earlier events */

/* input is borrowed until the report is gone. STATUS_NO_INPUT: no labelled answer; NO_MEMORY; LIMIT. */
enum status report_make(const struct report_input *input, struct report **out, struct error *error);
void report_destroy(struct report *report);     /* NULL ok */

/* Share of the layers that candidates did not run. */
double report_saved(const struct report *report, const struct figures *figures);

/* brief: the figures of all answers alone. */
void report_print(const struct report *report, bool brief, FILE *out);
void report_print_json(const struct report *report, FILE *out);
/* Four SVG files: reliability, roc, layers, tradeoff. The folder exists. STATUS_CANNOT_CREATE. */
enum status report_plot(const struct report *report, const char *folder, struct error *error);

#endif
