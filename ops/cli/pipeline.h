/* pipeline.h - the loop that joins the stages: poll, apply, enrich, score, write, commit.
 *
 * The same loop serves every composition: both stages in one process, one stage alone, files or Kafka.
 * What is promised (exactly once, nothing after a crash is enriched with the future) is kept here, by
 * three rules: outputs enter a transaction only when their input's partition is answered up to there
 * (held.h); offsets and outputs are committed together; and after anything but a clean commit the graph
 * goes back to a snapshot that is not past the oldest unanswered impression. One thread. */
#ifndef EXITPOLL_OPS_CLI_PIPELINE_H
#define EXITPOLL_OPS_CLI_PIPELINE_H

#include "base/status.h"
#include "consumer/source.h"
#include "graph-updater/updater.h"
#include "ops/cli/saver.h"
#include "producer/sink.h"
#include "scorer/scorer.h"

enum stage { STAGE_ALL, STAGE_GRAPH_UPDATER, STAGE_SCORER };

struct pipeline_totals {
	uint64_t records, items, interactions, impressions, requests, predictions, candidates;
	uint64_t dead_letters, late, unknown_users, truncated;
	uint64_t commits, retries, rewinds;
	struct saver_totals snapshots;
	uint64_t by_status[PREDICTION_STATUSES];
	uint64_t queue_ns;                      /* summed over requests: from the poll to the scorer */
	double seconds;                         /* from the first poll to the end */
	double first_prediction_seconds;        /* from the first poll; < 0: none */
};

struct pipeline_options {
	enum stage stage;
	struct source *source;                  /* borrowed */
	struct sink *sink;                      /* borrowed */
	struct scorer *scorer;                  /* borrowed; NULL for STAGE_GRAPH_UPDATER */
	const struct updater_options *updater;  /* NULL for STAGE_SCORER */
	const char *state_folder;               /* NULL: no snapshots */
	int state_lock_fd;                      /* of that folder; -1: none */
	struct topic_names topics;
	struct event_limits limits;
	bool at_least_once;
	bool live;                              /* without an end: embeddings are also refreshed when idle, and
						   to be stopped is a good end */
	size_t batch_records_max;
	size_t batch_requests_max;
	int64_t commit_ms;
	int64_t retry_max_ms;
	uint64_t snapshot_events;
	bool (*stopping)(void);
	/* After every answer; may be NULL. */
	void (*observe)(void *context, const struct scoring_request *request,
			const struct prediction *prediction);
	/* After every batch; may be NULL. */
	void (*tick)(void *context, const struct pipeline_totals *totals);
	void *context;
};

struct pipeline;
enum status pipeline_create(const struct pipeline_options *options, struct pipeline **out,
			    struct error *error);
void pipeline_destroy(struct pipeline *pipeline);       /* NULL ok */

/* Until the source ends or stopping() says so; then commits, leaves a snapshot and finishes the sink.
 * STATUS_INTERRUPTED: stopped, though not live; what was answered is committed (Kafka), or nothing is
 * written (files). */
enum status pipeline_run(struct pipeline *pipeline, struct error *error);

const struct pipeline_totals *pipeline_get_totals(const struct pipeline *pipeline);
/* NULL for STAGE_SCORER; changes after a rewind. */
const struct updater *pipeline_updater(const struct pipeline *pipeline);
/* False while the broker cannot be reached: readiness. Any thread. */
bool pipeline_ready(const struct pipeline *pipeline);

#endif
