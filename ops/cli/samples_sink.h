/* samples_sink.h - a sink (producer/sink.h) that turns scoring requests into training samples.
 *
 * The pipeline's graph-updater stage writes into it, so enrichment is that of serving; prompts come from the
 * scorer's own prompt.h and features from features.h. Whole shards appear as soon as they are full, the last
 * one at finish. A run that goes on where another stopped is given the shards that are there: what is in
 * them is compared with what would have been written (time and user of every impression) and not tokenised
 * again. One thread. */
#ifndef EXITPOLL_OPS_CLI_SAMPLES_SINK_H
#define EXITPOLL_OPS_CLI_SAMPLES_SINK_H

#include "ops/cli/samples_split.h"
#include "producer/sink.h"
#include "scorer/features.h"
#include "scorer/prompt.h"

struct samples_part {
	uint64_t impressions, candidates, labelled, positives;
	int64_t first_ms, last_ms;      /* where there are impressions */
};

struct samples_counts {
	struct samples_part parts[PARTS];
	uint64_t requests;
	uint64_t by_answer[SAMPLES_ANSWERS];    /* all but LABELLED: left out */
	uint64_t late, no_candidates, short_history, not_in_split, not_in_few, dead_letters;   /* left out */
	uint64_t unknown_users, leaking;        /* kept */
	uint64_t shards, shards_kept;           /* kept: of the run before */
	/* Of what this run tokenised. */
	uint64_t tokens, cut, longest;
};

struct samples_sink_options {
	const char *folder;             /* exists */
	const struct samples_labels *labels;
	const struct samples_split *split;
	struct prompt *prompt;
	size_t features;
	size_t candidates_max;
	uint64_t history_min;           /* interactions in the request */
	/* What taught the model: an impression at or before it that is for calibration, thresholds or test is
	 * an error (STATUS_CONFIG), or counted where leaks are allowed. INT64_MIN: nothing did. */
	int64_t trained_until_ms;
	bool allow_leak;
};

/* Looks at the shards that are in the folder. */
enum status samples_sink_create(const struct samples_sink_options *options, struct sink **out,
				struct error *error);
const struct samples_counts *samples_sink_counts(const struct sink *sink);

/* Removes all shards of the folder. */
enum status samples_sink_remove(const char *folder, struct error *error);

#endif
