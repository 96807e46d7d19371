/* evaluate_events.h - joins predictions with what happened: labels, and what was known before.
 *
 * Labels are those of training (samples_labels.h). Events are read in the total order, so "earlier" means
 * earlier for the impression. One thread. */
#ifndef EXITPOLL_OPS_CLI_EVALUATE_EVENTS_H
#define EXITPOLL_OPS_CLI_EVALUATE_EVENTS_H

#include "ops/cli/evaluate_predictions.h"
#include "ops/evaluate/report.h"

struct evaluate_events_options {
	const char *folder;             /* holds impressions.avro and interactions.avro */
	const char *task;               /* liked, clicked; NULL: as the folder's metadata says */
	const char *label;              /* 'rating>=4'; NULL: as the folder's metadata says */
	bool unanswered_negative;       /* clicked: an impression that nothing answers was shown in vain */
	bool (*stopping)(void);
};

struct evaluated {
	struct answers answers;
	uint64_t *user_keys;            /* [answers.users] */
	uint32_t *prediction_row;       /* [answers.rows_count] row of the predictions */
	struct report_counts counts;
	const char *task;               /* static */
};

/* STATUS_CONFIG: no task or label is known; STATUS_CORRUPT: a prediction has other candidates than its
 * impression. */
enum status evaluate_events(const struct evaluate_events_options *options, const struct predictions *predictions,
			    struct evaluated *out, struct error *error);
void evaluated_free(struct evaluated *evaluated);

#endif
