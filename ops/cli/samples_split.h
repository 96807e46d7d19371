/* samples_split.h - which of the five parts an impression belongs to: train, stopping, calibration,
 * thresholds, test.
 *
 *     time           shares of the labelled impressions in time order; those of one time stay together
 *     times:A,B,C,D  the other parts begin at these times (2014-07-01 or Unix milliseconds)
 *     users          shares of the users, by a hash of their id and the seed
 *     file:TABLE     columns `split` (the parts' names, or 0 to 4) and `impression_id`, or `user_id` with
 *                    `item_id` (of what was answered); rows that are missing leave an impression out
 * A few-shot set is the N labelled impressions of the training part whose hash (id, seed) is least. All is
 * known before the stream is replayed: from impressions and answers alone. Immutable; any thread. */
#ifndef EXITPOLL_OPS_CLI_SAMPLES_SPLIT_H
#define EXITPOLL_OPS_CLI_SAMPLES_SPLIT_H

#include "ops/cli/samples_labels.h"
#include "scorer/train/dataset.h"

enum { SAMPLES_IMPRESSIONS_MAX = 1 << 28, SAMPLES_NO_PART = PARTS };

struct samples_split_options {
	const char *folder;
	const char *rule;               /* as above */
	double shares[PARTS];           /* >= 0, sum > 0 */
	uint64_t seed;
	uint64_t few_shot;              /* 0: all */
	const struct samples_labels *labels;
	struct event_limits limits;
	bool (*stopping)(void);
};

struct samples_split;
enum status samples_split_create(const struct samples_split_options *options, struct samples_split **out,
				 struct error *error);
void samples_split_destroy(struct samples_split *split);        /* NULL ok */

/* The part of a labelled impression; SAMPLES_NO_PART: left out. items and labels [count] as of
 * samples_labels_of(). *few: the few-shot set left it out. */
uint8_t samples_split_of(const struct samples_split *split, struct text_view impression_id,
			 struct text_view user_id, int64_t time_ms, const struct text_view *items,
			 const float *labels, size_t count, bool *few);

/* Impressions of the folder, and those that have labels. */
size_t samples_split_impressions(const struct samples_split *split);
size_t samples_split_labelled(const struct samples_split *split);
/* Where parts 1 to 4 begin (ms), INT64_MAX: nowhere; NULL under a rule without times. */
const int64_t *samples_split_begins(const struct samples_split *split);

const char *samples_part_name(int part);

#endif
