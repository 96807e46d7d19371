/* samples_labels.h - what became of impressions: the interactions that name them, as labels of candidates.
 *
 * Of several interactions of one impression with one item the last by (event time, kind, rating) counts, as in
 * the graph; a VIEW says something only where nothing else does, a REMOVE nothing. Ids are kept as hashes:
 * 128 bits of the impression's, 64 of the item's. Immutable after reading; any thread. */
#ifndef EXITPOLL_OPS_CLI_SAMPLES_LABELS_H
#define EXITPOLL_OPS_CLI_SAMPLES_LABELS_H

#include "producer/label.h"
#include "schemas/event.h"

struct samples_labels;

enum { SAMPLES_ANSWERS_MAX = 1 << 30, SAMPLES_TEXT_BYTES = 128 };

struct samples_labels_options {
	const char *folder;             /* with interactions.avro or interactions-0001.avro, ... */
	const char *task;               /* liked | clicked; NULL: as the folder's metadata say */
	const char *rule;               /* 'rating>=4'; NULL: as the folder's metadata say */
	struct event_limits limits;
	bool (*stopping)(void);
};

/* What an impression is worth for training. */
enum samples_answer {
	SAMPLES_LABELLED,
	SAMPLES_UNANSWERED,             /* no interaction names it */
	SAMPLES_ANSWERED_ELSEWHERE,     /* only items that are no candidates */
	SAMPLES_ANSWERED_BEFORE,        /* an answer is older than the impression: its history shows it */
	SAMPLES_ANSWERS,
};
const char *samples_answer_name(enum samples_answer answer);

/* STATUS_NO_INPUT, CORRUPT; CONFIG: no task is known, or ratings and no rule. */
enum status samples_labels_read(const struct samples_labels_options *options, struct samples_labels **out,
				struct error *error);
void samples_labels_destroy(struct samples_labels *labels);     /* NULL ok */

/* liked: 1 or 0 for answered candidates (by the rule; without a rating 1, VIEW 0), NaN for the others.
 * clicked: 1 for what was taken, 0 for the others, all 0 where there are only VIEWs. items [count] are the
 * candidates' ids, out [count] is written in any case. */
enum samples_answer samples_labels_of(const struct samples_labels *labels, struct text_view impression_id,
				      int64_t time_ms, const struct text_view *items, size_t count, float *out);

bool samples_labels_clicked(const struct samples_labels *labels);
const char *samples_labels_rule(const struct samples_labels *labels);   /* empty: none */
size_t samples_labels_count(const struct samples_labels *labels);       /* answers */

#endif
