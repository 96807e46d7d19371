/* samples_json.h - samples.json: what a folder of samples is made of. One thread.
 *
 * While a run is under way samples.part.json holds what decides its bytes, so that only the same run goes on;
 * at its end samples.json holds that, the paths, and the counts. */
#ifndef EXITPOLL_OPS_CLI_SAMPLES_JSON_H
#define EXITPOLL_OPS_CLI_SAMPLES_JSON_H

#include "base/config.h"
#include "ops/cli/samples_sink.h"
#include "scorer/bundle.h"

#include <jansson.h>

#define SAMPLES_FILE "samples.json"
#define SAMPLES_PART_FILE "samples.part.json"

struct samples_description {
	const char *events, *model;     /* paths */
	const char *split_rule;
	const double *shares;
	uint64_t seed, few_shot, history_min;
	int64_t trained_until_ms;       /* of the model and of the graph's seeds; INT64_MIN: nothing is known */
	bool allow_leak;
	const struct config *config;
	const struct bundle *bundle;
	const struct prompt *prompt;
	const struct samples_labels *labels;
	const struct samples_split *split;
	const char *const *attributes;
	size_t features;
};

/* Without counts and paths. Reads all events once, for their hash. The caller decrefs *out. */
enum status samples_json_describe(const struct samples_description *description, json_t **out,
				  struct error *error);
/* Adds paths and counts. False: no memory. */
bool samples_json_finish(const struct samples_description *description, const struct samples_counts *counts,
			 json_t *root);

/* Does folder/name hold exactly this? *there: it is there at all. */
enum status samples_json_compare(const char *folder, const char *name, const json_t *root, bool *there,
				 bool *equal, struct error *error);

#endif
