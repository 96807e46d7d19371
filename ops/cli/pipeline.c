/* pipeline.c - see pipeline.h. One batch of the source at a time: graph events are applied and
 * impressions enriched in their order; requests are scored in chunks small enough to stop between. */
#include "ops/cli/pipeline.h"

#include "base/clock.h"
#include "base/log.h"
#include "ops/cli/held.h"
#include "ops/cli/outbox.h"
#include "ops/cli/pacing.h"
#include "ops/cli/trouble.h"
#include "schemas/codec.h"
#include "schemas/event_size.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	POLL_MS = 100,
	LIVE_FLUSH_MS = 2,
	RATE_LOG_MS = 10000,
	PREPARE_USERS_MAX = 256,
};
#define BATCH_ARENA_BYTES_MAX ((size_t)1 << 30)
#define WORK_ARENA_BYTES_MAX ((size_t)4 << 30)
/* A chunk is scored when its requests have taken this much, however few they are. */
#define CHUNK_BYTES ((size_t)64 << 20)

struct pending {
	struct position position;
	struct text_view traceparent;
	const struct record *record;
};

struct pipeline {
	struct pipeline_options options;
	struct pipeline_totals totals;
	struct updater *updater;
	struct outbox *outbox;
	struct arena *batch_arena;      /* records; dies with the batch */
	struct arena *work_arena;       /* requests and predictions; dies with the chunk */
	struct scoring_request *requests;               /* [batch_requests_max] */
	const struct scoring_request **request_pointers;
	struct pending *pending;
	struct prediction *predictions;
	size_t chunk_count;
	size_t chunk_candidates;
	struct pacing pacing;
	struct saver saver;
	bool at_cut;
	bool unanswered;                /* told to stop, it left records of the last batch without an answer */
	int64_t started_ns, polled_ns;          /* the first poll, the newest */
	struct trouble trouble;
	int64_t rate_logged_ns;
	uint64_t rate_records, rate_predictions;
};

enum status pipeline_create(const struct pipeline_options *options, struct pipeline **out,
			    struct error *error)
{
	struct pipeline *pipeline = mem_alloc_zero(1, sizeof *pipeline);
	size_t chunk = options->batch_requests_max;

	if (!pipeline)
		return error_set(error, STATUS_NO_MEMORY, "out of memory");
	pipeline->options = *options;
	pipeline->saver = (struct saver){
		.folder = options->state_folder,
		.lock_fd = options->state_lock_fd,
		.every_events = options->snapshot_events,
		.source = options->source,
		.totals = &pipeline->totals.snapshots,
	};
	pipeline->totals.first_prediction_seconds = -1;
	pipeline->batch_arena = arena_create(BATCH_ARENA_BYTES_MAX);
	pipeline->work_arena = arena_create(WORK_ARENA_BYTES_MAX);
	pipeline->requests = mem_alloc_zero(chunk, sizeof *pipeline->requests);
	pipeline->request_pointers = mem_alloc_zero(chunk, sizeof *pipeline->request_pointers);
	pipeline->pending = mem_alloc_zero(chunk, sizeof *pipeline->pending);
	pipeline->predictions = mem_alloc_zero(chunk, sizeof *pipeline->predictions);
	pipeline->outbox = outbox_create(options->source, options->sink, options->commit_ms,
					 options->at_least_once);
	if (!pipeline->batch_arena || !pipeline->work_arena || !pipeline->requests ||
	    !pipeline->request_pointers || !pipeline->pending || !pipeline->predictions || !pipeline->outbox) {
		pipeline_destroy(pipeline);
		return error_set(error, STATUS_NO_MEMORY, "out of memory");
	}
	*out = pipeline;
	return STATUS_OK;
}

void pipeline_destroy(struct pipeline *pipeline)
{
	if (!pipeline)
		return;
	saver_abandon(&pipeline->saver);
	outbox_destroy(pipeline->outbox);
	updater_destroy(pipeline->updater);
	arena_destroy(pipeline->batch_arena);
	arena_destroy(pipeline->work_arena);
	mem_free(pipeline->requests);
	mem_free(pipeline->request_pointers);
	mem_free(pipeline->pending);
	mem_free(pipeline->predictions);
	mem_free(pipeline);
}

const struct pipeline_totals *pipeline_get_totals(const struct pipeline *pipeline)
{
	return &pipeline->totals;
}

const struct updater *pipeline_updater(const struct pipeline *pipeline)
{
	return pipeline->updater;
}

bool pipeline_ready(const struct pipeline *pipeline)
{
	return trouble_ready(&pipeline->trouble);
}

static const char *stage_name(enum topic topic)
{
	return topic == TOPIC_SCORING_REQUESTS ? "scorer" : "graph-updater";
}

/* ---- dead letters ---- */

static enum status dead_letter(struct pipeline *pipeline, const struct record *record, const char *reason,
			       struct text_view text, struct error *error)
{
	struct byte_buffer encoded = {.bytes_max = (size_t)1 << 30};
	struct text_view value = record->value;
	enum status status;

	/* A record that was decoded well but refused later: files keep no bytes, so it is encoded again. */
	if (!value.bytes && record->status == STATUS_OK &&
	    codec_encode(&record->event, &encoded, NULL) == STATUS_OK)
		value = (struct text_view){encoded.bytes, encoded.size};
	struct event event = {
		.type = RECORD_DEAD_LETTER,
		.dead_letter = {
			.topic = text_of(pipeline->options.topics.name[record->position.topic]),
			.partition = record->position.partition,
			.offset = record->position.offset,
			.stage = text_of(stage_name(record->position.topic)),
			.reason = text_of(reason),
			.error = text,
			.key = record->key,
			.value = value,
		},
	};
	pipeline->totals.dead_letters++;
	status = outbox_answer(pipeline->outbox, record->position, &event, record->traceparent, error);
	byte_buffer_free(&encoded);
	return status;
}

/* ---- scoring ---- */

static void count_prediction(struct pipeline *pipeline, const struct prediction *prediction)
{
	struct pipeline_totals *totals = &pipeline->totals;

	if (totals->predictions == 0)
		totals->first_prediction_seconds = (double)(clock_steady_ns() - pipeline->started_ns) / 1e9;
	totals->predictions++;
	totals->candidates += prediction->scores_count;
	totals->by_status[prediction->status]++;
}

/* Scores what has been gathered and hands the predictions to the outbox. */
static enum status score_chunk(struct pipeline *pipeline, struct error *error)
{
	size_t count = pipeline->chunk_count, candidates = pipeline->chunk_candidates;
	enum status status = STATUS_OK;

	if (count == 0)
		return STATUS_OK;
	pipeline->chunk_count = pipeline->chunk_candidates = 0;
	/* A transaction left open while the model thinks would time out, again and again. */
	if (pacing_expected_ms(&pipeline->pacing, candidates) >= pipeline->options.commit_ms)
		status = outbox_commit_if_due(pipeline->outbox, true, error);
	if (status != STATUS_OK)
		return status;
	int64_t began_ns = clock_steady_ns();
	pipeline->totals.queue_ns += (uint64_t)(began_ns - pipeline->polled_ns) * count;
	status = scorer_score(pipeline->options.scorer, pipeline->request_pointers, count,
			      pipeline->work_arena, pipeline->predictions, error);
	if (status == STATUS_INTERRUPTED) {
		/* Not answered, so not committed: read again next time. */
		pipeline->unanswered = true;
		arena_reset(pipeline->work_arena);
		return STATUS_OK;
	}
	pacing_measured(&pipeline->pacing, count, candidates, clock_steady_ns() - began_ns);
	for (size_t i = 0; i < count && status == STATUS_OK; i++) {
		struct event event = {.type = RECORD_PREDICTION, .prediction = pipeline->predictions[i]};
		const struct pending *pending = &pipeline->pending[i];

		status = outbox_answer(pipeline->outbox, pending->position, &event, pending->traceparent,
				       error);
		if (status == STATUS_LIMIT) {
			status = dead_letter(pipeline, pending->record, "prediction-too-large",
					     text_of(error->text), error);
			continue;
		}
		count_prediction(pipeline, &pipeline->predictions[i]);
		if (pipeline->options.observe)
			pipeline->options.observe(pipeline->options.context, &pipeline->requests[i],
						  &pipeline->predictions[i]);
	}
	arena_reset(pipeline->work_arena);
	return status == STATUS_OK ? outbox_release(pipeline->outbox, error) : status;
}

static enum status add_request(struct pipeline *pipeline, const struct record *record, struct error *error)
{
	size_t at = pipeline->chunk_count++;

	pipeline->request_pointers[at] = &pipeline->requests[at];
	pipeline->pending[at] = (struct pending){record->position, record->traceparent, record};
	pipeline->totals.requests++;
	pipeline->chunk_candidates += pipeline->requests[at].candidates_count;
	if (pipeline->chunk_count >= pacing_requests(&pipeline->pacing, pipeline->options.batch_requests_max) ||
	    arena_used(pipeline->work_arena) > CHUNK_BYTES)
		return score_chunk(pipeline, error);
	return STATUS_OK;
}

/* ---- graph-updater ---- */

static enum status apply_graph_event(struct pipeline *pipeline, const struct record *record,
				     struct error *error)
{
	enum status status = updater_apply(pipeline->updater, &record->event, error);

	if (record->position.topic == TOPIC_ITEMS)
		pipeline->totals.items++;
	else
		pipeline->totals.interactions++;
	pipeline->saver.events++;
	if (status != STATUS_OK && status_class(status) == STATUS_CLASS_BAD)
		return dead_letter(pipeline, record, "refused", text_of(error->text), error);
	return status;
}

/* What two processes refuse, one process refuses too. */
static bool request_fits(const struct pipeline *pipeline, const struct scoring_request *request)
{
	struct event event = {.type = RECORD_SCORING_REQUEST, .scoring_request = *request};
	return event_encoded_bytes(&event) <= pipeline->options.limits.record_bytes_max;
}

static enum status enrich_impression(struct pipeline *pipeline, const struct record *record,
				     struct error *error)
{
	const struct impression_event *impression = &record->event.impression;
	struct scoring_request *request = &pipeline->requests[pipeline->chunk_count];
	bool late = record->late || impression->event_time_ms < updater_clock_ms(pipeline->updater);
	enum status status;

	pipeline->totals.impressions++;
	status = updater_enrich(pipeline->updater, impression, late, pipeline->work_arena, request, error);
	if (status != STATUS_OK)
		return status;
	if (!request_fits(pipeline, request)) {
		char text[160];
		snprintf(text, sizeof text, "the scoring request of %zu candidates is larger than record.bytes_max "
			 "(%zu)", request->candidates_count, pipeline->options.limits.record_bytes_max);
		return dead_letter(pipeline, record, "request-too-large", text_of(text), error);
	}
	if (pipeline->options.stage == STAGE_ALL)
		return add_request(pipeline, record, error);
	struct event event = {.type = RECORD_SCORING_REQUEST, .scoring_request = *request};
	pipeline->totals.requests++;
	status = outbox_answer(pipeline->outbox, record->position, &event, record->traceparent, error);
	if (status == STATUS_LIMIT)
		status = dead_letter(pipeline, record, "request-too-large", text_of(error->text), error);
	arena_reset(pipeline->work_arena);
	return status;
}

/* Tells the graph which users are asked for until the next flush, so that they share one scan. Returns the
 * index of the first record that was not looked at. */
static size_t prepare_run(struct pipeline *pipeline, const struct source_batch *batch, size_t first)
{
	struct text_view users[PREPARE_USERS_MAX];
	uint64_t events_left = updater_events_to_flush(pipeline->updater);
	size_t count = 0, i;

	for (i = first; i < batch->count && count < PREPARE_USERS_MAX && events_left > 0; i++) {
		const struct record *record = &batch->records[i];
		if (record->position.topic != TOPIC_IMPRESSIONS)
			events_left--;
		else if (record->status == STATUS_OK)
			users[count++] = record->event.impression.user_id;
	}
	if (count > 1)
		updater_prepare(pipeline->updater, users, count);
	return i > first ? i : first + 1;
}

static enum status process_record(struct pipeline *pipeline, const struct record *record,
				  struct error *error)
{
	switch (record->position.topic) {
	case TOPIC_ITEMS:
	case TOPIC_INTERACTIONS:
		return apply_graph_event(pipeline, record, error);
	case TOPIC_IMPRESSIONS:
		return enrich_impression(pipeline, record, error);
	case TOPIC_SCORING_REQUESTS:
		pipeline->requests[pipeline->chunk_count] = record->event.scoring_request;
		return add_request(pipeline, record, error);
	case TOPIC_PREDICTIONS:
	case TOPIC_DEAD_LETTERS:
		break;
	}
	return error_set(error, STATUS_INTERNAL, "a record of topic %s was delivered to the pipeline",
			 pipeline->options.topics.name[record->position.topic]);
}

static enum status process_batch(struct pipeline *pipeline, const struct source_batch *batch,
				 struct error *error)
{
	enum status status = STATUS_OK;
	size_t prepared_to = 0;

	for (size_t i = 0; i < batch->count && status == STATUS_OK; i++) {
		const struct record *record = &batch->records[i];
		bool answers = record->position.topic == TOPIC_IMPRESSIONS ||
			       record->position.topic == TOPIC_SCORING_REQUESTS;

		/* When stopping, graph events are still applied, so that the state is at a cut, but what is not
		 * answered by now stays uncommitted and is read again. */
		if (answers && pipeline->options.stopping()) {
			pipeline->unanswered = true;
			continue;
		}
		pipeline->totals.records++;
		pipeline->totals.late += record->late;
		if (record->position.topic == TOPIC_IMPRESSIONS && i >= prepared_to)
			prepared_to = prepare_run(pipeline, batch, i);
		if (record->status != STATUS_OK)
			status = dead_letter(pipeline, record, record->reason, record->error, error);
		else
			status = process_record(pipeline, record, error);
	}
	if (status == STATUS_OK)
		status = score_chunk(pipeline, error);
	if (status == STATUS_OK)
		status = outbox_release(pipeline->outbox, error);
	pipeline->chunk_count = pipeline->chunk_candidates = 0;
	arena_reset(pipeline->work_arena);
	return status;
}

/* ---- state ---- */

/* A fresh graph from the newest snapshot that is not past the oldest unanswered impression, and the
 * source placed where it left off. */
static enum status start_from_state(struct pipeline *pipeline, int64_t oldest_unanswered_ms,
				    struct error *error)
{
	struct source *source = pipeline->options.source;
	const struct position *positions = NULL;
	size_t count = 0;
	enum status status;

	if (!pipeline->options.updater)
		return source->class->start(source, NULL, 0, INT64_MIN, error);
	saver_abandon(&pipeline->saver);
	updater_destroy(pipeline->updater);
	pipeline->updater = NULL;
	status = updater_create(pipeline->options.updater, &pipeline->updater, error);
	if (status == STATUS_OK && pipeline->options.state_folder) {
		status = updater_restore(pipeline->updater, pipeline->options.state_folder, oldest_unanswered_ms,
					 &positions, &count, error);
		if (status == STATUS_OK)
			log_info("state.restored", "folder=%s graph_version=%" PRId64 " clock_ms=%" PRId64,
				 pipeline->options.state_folder, updater_graph_version(pipeline->updater),
				 updater_clock_ms(pipeline->updater));
		else if (status == STATUS_NOT_FOUND)
			status = STATUS_OK;
	}
	if (status != STATUS_OK)
		return status;
	pipeline->saver.events = 0;
	return source->class->start(source, positions, count, updater_clock_ms(pipeline->updater), error);
}

/* After a transaction that did not commit, or partitions gained with older impressions: what is
 * uncommitted is read again, and the graph goes back with it. */
static enum status go_back(struct pipeline *pipeline, bool aborted, struct error *error)
{
	struct source *source = pipeline->options.source;
	struct sink *sink = pipeline->options.sink;
	int64_t oldest_ms;
	enum status status = STATUS_OK;

	pipeline->at_cut = false;
	if (aborted) {
		pipeline->totals.retries++;
		status = sink->class->abort(sink, error);
		outbox_clear(pipeline->outbox);
		if (status == STATUS_OK)
			status = source->class->resume_from_committed(source, error);
	} else {
		pipeline->totals.rewinds++;
		status = outbox_settle(pipeline->outbox, error);
		outbox_clear(pipeline->outbox);
	}
	if (status == STATUS_OK)
		status = source->class->join(source, &oldest_ms, error);
	if (status == STATUS_OK)
		status = start_from_state(pipeline, oldest_ms, error);
	log_info("pipeline.went_back", "why=%s status=%s", aborted ? "uncommitted" : "rebalance",
		 status_name(status));
	return status;
}

/* Partitions are about to be taken away: what is answered is committed while they are still ours. What
 * is held or unanswered is read again, by whoever owns them then; the graph stays as it is, and the
 * source says `rewind` if what we own next is older. */
static enum status let_go(struct pipeline *pipeline, struct error *error)
{
	enum status status = outbox_settle(pipeline->outbox, error);

	if (status != STATUS_OK)
		return status;
	outbox_clear(pipeline->outbox);
	return pipeline->options.source->class->resume_from_committed(pipeline->options.source, error);
}

/* ---- the loop ---- */

static void log_rates(struct pipeline *pipeline, bool backfill)
{
	int64_t now = clock_steady_ns();
	double seconds = (double)(now - pipeline->rate_logged_ns) / 1e9;

	if (seconds * 1000 < RATE_LOG_MS)
		return;
	log_info("pipeline.rates", "records_per_s=%.0f predictions_per_s=%.0f dead_letters=%" PRIu64
		 " late=%" PRIu64 " mode=%s",
		 (double)(pipeline->totals.records - pipeline->rate_records) / seconds,
		 (double)(pipeline->totals.predictions - pipeline->rate_predictions) / seconds,
		 pipeline->totals.dead_letters, pipeline->totals.late, backfill ? "backfill" : "live");
	pipeline->rate_logged_ns = now;
	pipeline->rate_records = pipeline->totals.records;
	pipeline->rate_predictions = pipeline->totals.predictions;
}

static bool may_retry(struct pipeline *pipeline, const struct error *error)
{
	if (pipeline->options.tick)
		pipeline->options.tick(pipeline->options.context, &pipeline->totals);
	return trouble_may_retry(&pipeline->trouble, pipeline->options.retry_max_ms, error) &&
	       !pipeline->options.stopping();
}

static bool waits_for_flush(const struct pipeline *pipeline)
{
	return pipeline->options.live && pipeline->updater &&
	       updater_events_to_flush(pipeline->updater) < pipeline->options.updater->flush_events;
}

/* One poll and all that follows from it. *end: the source has ended. */
static enum status step(struct pipeline *pipeline, bool *end, struct error *error)
{
	struct source *source = pipeline->options.source;
	struct source_batch batch = {0};
	enum status status;

	arena_reset(pipeline->batch_arena);
	status = source->class->poll(source, pipeline->options.batch_records_max,
				     outbox_poll_ms(pipeline->outbox,
						    waits_for_flush(pipeline) ? LIVE_FLUSH_MS : POLL_MS),
				     pipeline->batch_arena, &batch, error);
	if (status != STATUS_OK)
		return status;
	if (batch.rewind)
		return go_back(pipeline, false, error);
	if (batch.revoked)
		return let_go(pipeline, error);
	if (batch.count) {
		pipeline->at_cut = false;
		pipeline->polled_ns = clock_steady_ns();
		status = process_batch(pipeline, &batch, error);
	} else if (batch.idle && waits_for_flush(pipeline))
		status = updater_flush(pipeline->updater, error);
	pipeline->at_cut = batch.cut;
	if (status == STATUS_OK)
		status = outbox_commit_if_due(pipeline->outbox,
					      batch.count < pipeline->options.batch_records_max, error);
	if (status == STATUS_OK)
		status = saver_step(&pipeline->saver, pipeline->updater, batch.cut, error);
	log_rates(pipeline, batch.backfill);
	*end = batch.end && !pipeline->unanswered;
	return status;
}

static enum status finish(struct pipeline *pipeline, struct error *error)
{
	enum status status = outbox_settle(pipeline->outbox, error);

	pipeline->totals.commits = pipeline->options.sink->class->commits(pipeline->options.sink);
	if (status == STATUS_OK)
		status = saver_finish(&pipeline->saver, pipeline->updater, pipeline->at_cut,
				      pipeline->options.stopping, error);
	if (status == STATUS_OK)
		status = pipeline->options.sink->class->finish(pipeline->options.sink, error);
	pipeline->totals.seconds = (double)(clock_steady_ns() - pipeline->started_ns) / 1e9;
	return status;
}

/* Told to stop. */
static enum status stop(struct pipeline *pipeline, struct error *error)
{
	bool whole = !pipeline->options.sink->class->commits_parts;
	enum status status = STATUS_OK;

	if (pipeline->options.live || !whole)
		status = finish(pipeline, error);
	if (status != STATUS_OK || pipeline->options.live)
		return status;
	return error_set(error, STATUS_INTERRUPTED, "stopped before the end: %s", whole ?
			 "nothing was written" : "what was answered is committed, start again to go on");
}

enum status pipeline_run(struct pipeline *pipeline, struct error *error)
{
	struct source *source = pipeline->options.source;
	int64_t oldest_ms = INT64_MAX;
	bool end = false, troubled;
	enum status status;

	pipeline->started_ns = pipeline->rate_logged_ns = clock_steady_ns();
	do {
		status = source->class->join(source, &oldest_ms, error);
	} while (status_class(status) == STATUS_CLASS_RETRY && may_retry(pipeline, error));
	if (status == STATUS_INTERRUPTED)
		return pipeline->options.live ? STATUS_OK : status;
	if (status == STATUS_OK)
		status = start_from_state(pipeline, oldest_ms, error);
	if (status != STATUS_OK)
		return status;
	trouble_is_over(&pipeline->trouble);

	while (!end && !pipeline->options.stopping()) {
		status = step(pipeline, &end, error);
		troubled = status != STATUS_OK;
		while (status_class(status) == STATUS_CLASS_RETRY && may_retry(pipeline, error)) {
			end = false;
			/* Trouble while reading loses nothing; trouble while writing took the transaction. */
			status = outbox_aborted(pipeline->outbox) ? go_back(pipeline, true, error) : STATUS_OK;
		}
		/* Told to stop while the world is silent: what is answered may be committed already. */
		if (status_class(status) == STATUS_CLASS_RETRY && pipeline->options.stopping() &&
		    !outbox_aborted(pipeline->outbox))
			break;
		if (status != STATUS_OK)
			return status;
		if (!troubled)
			trouble_is_over(&pipeline->trouble);
		if (pipeline->options.tick)
			pipeline->options.tick(pipeline->options.context, &pipeline->totals);
		if (end) {
			status = finish(pipeline, error);
			if (status_class(status) != STATUS_CLASS_RETRY || !may_retry(pipeline, error))
				return status;
			end = false;
			status = go_back(pipeline, true, error);
			if (status != STATUS_OK)
				return status;
		}
	}
	return stop(pipeline, error);
}
