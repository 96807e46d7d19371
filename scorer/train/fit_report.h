/* fit_report.h - what was fitted, told to people and machines. Pure functions of the result; one thread. */
#ifndef EXITPOLL_SCORER_TRAIN_FIT_REPORT_H
#define EXITPOLL_SCORER_TRAIN_FIT_REPORT_H

#include "scorer/train/fit.h"

#include <jansson.h>
#include <stdio.h>

/* The whole result; the caller's (json_decref). NULL: no memory. Figures that do not exist are null. */
json_t *fit_report_json(const struct fit_options *options, const struct dataset *data,
			const struct fit_result *result);

/* The part that exit_policy.json keeps: what was promised, with which certainty, on how much. */
json_t *fit_report_risk(const struct fit_options *options, const struct fit_result *result);

/* A table on a terminal (markdown false), or a page with headings and explanations. */
void fit_report_print(const struct fit_options *options, const struct dataset *data,
		      const struct fit_result *result, bool markdown, FILE *out);

#endif
