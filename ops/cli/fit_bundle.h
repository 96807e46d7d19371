/* fit_bundle.h - the folder that fit-heads leaves: exitpoll.json, heads, policy, report. One thread. */
#ifndef EXITPOLL_OPS_CLI_FIT_BUNDLE_H
#define EXITPOLL_OPS_CLI_FIT_BUNDLE_H

#include "scorer/bundle.h"
#include "scorer/train/fit.h"

#include <jansson.h>

struct fit_bundle {
	const char *out, *name, *model; /* name NULL: the bundle's */
	bool portable;                  /* the model by its file name alone */
	const struct bundle *bundle;
	const struct fit_options *options;
	const struct dataset *data;
	const struct fit_result *result;
	json_t *report, *risk, *samples;        /* borrowed; samples.json */
};

/* Makes the folder. STATUS_CANNOT_CREATE: a bundle is there already and `force` is false. */
enum status fit_bundle_check(const char *out, bool force, struct error *error);

/* Writes all files, exitpoll.json last: a bundle that opens is complete. */
enum status fit_bundle_write(const struct fit_bundle *parts, struct error *error);

#endif
