/* evaluate_events.c - see evaluate_events.h. Called by cmd_evaluate.c.
 *
 * Idea: labels are those of training (samples_labels.h). One pass over the events in their order counts what
 * each item and user has had so far, and each impression notes the counts and its labels. Answers are then
 * laid out in the order of the predictions file.
 * Invariant: what an impression notes was counted strictly before it. */
#include "ops/cli/evaluate_events.h"

#include "consumer/source.h"
#include "ops/cli/samples_labels.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { RECORDS = 4096 };
#define BATCH_ARENA_BYTES_MAX ((size_t)1 << 30)

/* An impression, beside its prediction. */
struct noted {
	uint32_t user, user_events;
	bool seen;
	enum samples_answer answer;
};

struct counter {
	struct ids *ids;
	uint32_t *events;               /* [capacity] by id */
	size_t capacity;
};

struct join {
	const struct evaluate_events_options *options;
	const struct predictions *predictions;
	struct noted *noted;            /* [predictions->count] */
	uint32_t *item_events;          /* [rows_count] */
	float *labels;                  /* [rows_count] NaN: none */
	struct samples_labels *answers;
	struct counter items, users;
	struct report_counts counts;
};

/* ---- counts ---- */

static uint32_t events_of(const struct counter *counter, struct text_view id)
{
	uint32_t at;

	return ids_find(counter->ids, id, &at) ? counter->events[at] : 0;
}

static enum status index_of(struct counter *counter, struct text_view id, uint32_t *out, struct error *error)
{
	enum status status;
	uint32_t at;

	if (ids_find(counter->ids, id, out))
		return STATUS_OK;
	status = ids_hold(counter->ids, id, IDS_GRAPH, &at, error);
	if (status != STATUS_OK)
		return status;
	if (!mem_reserve((void **)&counter->events, &counter->capacity, at, UINT32_MAX, sizeof *counter->events))
		return error_set(error, STATUS_NO_MEMORY, "no memory for the counts of %u ids", at + 1);
	counter->events[at] = 0;
	*out = at;
	return STATUS_OK;
}

/* ---- the pass ---- */

static bool is_shown_in_vain(const struct join *join)
{
	return join->options->unanswered_negative && samples_labels_clicked(join->answers);
}

static enum status take_impression(struct join *join, const struct impression_event *impression, struct error *error)
{
	const struct predictions *predictions = join->predictions;
	const struct predicted *predicted = predictions_find(predictions, impression->impression_id);
	struct noted *noted;

	if (!predicted)
		return STATUS_OK;
	noted = &join->noted[predicted - predictions->list];
	if (noted->seen) {
		join->counts.repeated++;
		return STATUS_OK;
	}
	if (predicted->count != impression->candidates_count)
		return error_set(error, STATUS_CORRUPT, "impression %.*s has %zu candidates, its prediction %u: these are not "
				 "the events that were scored", TEXT_ARGS(impression->impression_id),
				 impression->candidates_count, predicted->count);
	for (size_t i = 0; i < predicted->count; i++) {
		if (predictions->rows[predicted->first + i].item != predictions_item_key(impression->candidates[i]))
			return error_set(error, STATUS_CORRUPT, "impression %.*s, candidate %zu: the prediction is of another "
					 "item", TEXT_ARGS(impression->impression_id), i);
		join->item_events[predicted->first + i] = events_of(&join->items, impression->candidates[i]);
	}
	noted->answer = samples_labels_of(join->answers, impression->impression_id, impression->event_time_ms,
					  impression->candidates, impression->candidates_count,
					  join->labels + predicted->first);
	if (noted->answer == SAMPLES_UNANSWERED && is_shown_in_vain(join)) {
		noted->answer = SAMPLES_LABELLED;
		memset(join->labels + predicted->first, 0, predicted->count * sizeof *join->labels);
	}
	noted->seen = true;
	noted->user_events = events_of(&join->users, impression->user_id);
	return index_of(&join->users, impression->user_id, &noted->user, error);
}

static enum status take_interaction(struct join *join, const struct interaction_event *interaction,
				    struct error *error)
{
	uint32_t user, item;
	enum status status;

	if (interaction->kind == KIND_REMOVE || interaction->kind == KIND_VIEW)
		return STATUS_OK;
	status = index_of(&join->users, interaction->user_id, &user, error);
	if (status == STATUS_OK)
		status = index_of(&join->items, interaction->item_id, &item, error);
	if (status == STATUS_OK) {
		join->users.events[user]++;
		join->items.events[item]++;
	}
	return status;
}

static enum status read_events(struct join *join, struct error *error)
{
	struct source_file_options options = {
		.folder = join->options->folder,
		.topics = {[TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
		.limits = event_limits_default,
	};
	struct source *source = NULL;
	struct arena *arena = arena_create(BATCH_ARENA_BYTES_MAX);
	struct source_batch batch = {0};
	int64_t oldest_ms;
	enum status status = arena ? source_file_create(&options, &source, error) :
			     error_set(error, STATUS_NO_MEMORY, "out of memory");

	if (status == STATUS_OK)
		status = source->class->join(source, &oldest_ms, error);
	if (status == STATUS_OK)
		status = source->class->start(source, NULL, 0, INT64_MIN, error);
	while (status == STATUS_OK && !batch.end) {
		if (join->options->stopping && join->options->stopping()) {
			status = error_set(error, STATUS_INTERRUPTED, "interrupted");
			break;
		}
		arena_reset(arena);
		status = source->class->poll(source, RECORDS, 0, arena, &batch, error);
		for (size_t i = 0; status == STATUS_OK && i < batch.count; i++) {
			const struct record *record = &batch.records[i];

			if (record->status != STATUS_OK)
				continue;       /* a bad record is nobody's event: run makes it a dead letter */
			status = record->position.topic == TOPIC_IMPRESSIONS ?
				 take_impression(join, &record->event.impression, error) :
				 take_interaction(join, &record->event.interaction, error);
		}
	}
	if (source)
		source->class->destroy(source);
	arena_destroy(arena);
	return status;
}

/* ---- what counts ---- */

static bool is_judged(struct join *join, const struct predicted *predicted, const struct noted *noted)
{
	if (predicted->status == PREDICTION_LATE)
		join->counts.late++;
	else if (predicted->status == PREDICTION_NO_CANDIDATES || predicted->count == 0)
		join->counts.no_candidates++;
	else if (!noted->seen)
		join->counts.without_impression++;
	else if (noted->answer != SAMPLES_LABELLED)
		join->counts.unlabelled++;
	else
		return true;
	return false;
}

static enum status lay_out(struct join *join, struct evaluated *out, struct error *error)
{
	const struct predictions *predictions = join->predictions;
	uint32_t users = ids_end(join->users.ids), *place = mem_alloc_array(users ? users : 1, sizeof *place);
	size_t keys_capacity = 0;
	enum status status = STATUS_OK;

	out->prediction_row = mem_alloc_array(predictions->rows_count ? predictions->rows_count : 1,
					      sizeof *out->prediction_row);
	if (!place || !out->prediction_row) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu answers", predictions->rows_count);
		goto cleanup;
	}
	memset(place, 0xff, users * sizeof *place);
	for (size_t i = 0; i < predictions->count && status == STATUS_OK; i++) {
		const struct predicted *predicted = &predictions->list[i];
		const struct noted *noted = &join->noted[i];
		bool begun = false;

		if (!is_judged(join, predicted, noted))
			continue;
		join->counts.leaked += predicted->event_time_ms <= predictions->trained_until_ms;
		for (uint32_t row = predicted->first; row < predicted->first + predicted->count; row++) {
			struct answer answer = {predictions->rows[row].p, join->item_events[row],
						predictions->rows[row].layer, join->labels[row] > .5f};

			if (isnan(join->labels[row]))
				continue;
			if (!begun && place[noted->user] == UINT32_MAX) {
				struct text_view id = ids_bytes(join->users.ids, noted->user);

				if (!mem_reserve((void **)&out->user_keys, &keys_capacity, out->answers.users, UINT32_MAX,
						 sizeof *out->user_keys)) {
					status = error_set(error, STATUS_NO_MEMORY, "no memory for users");
					goto cleanup;
				}
				out->user_keys[out->answers.users] = XXH3_64bits(id.size ? id.bytes : "", id.size);
				place[noted->user] = out->answers.users;
			}
			if (!begun)
				status = answers_begin(&out->answers, place[noted->user], noted->user_events, error);
			begun = true;
			if (status == STATUS_OK) {
				out->prediction_row[out->answers.rows_count] = row;
				status = answers_add(&out->answers, &answer, error);
			}
			if (status != STATUS_OK)
				goto cleanup;
		}
		join->counts.unlabelled += !begun;
	}
cleanup:
	mem_free(place);
	return status;
}

enum status evaluate_events(const struct evaluate_events_options *options, const struct predictions *predictions,
			    struct evaluated *out, struct error *error)
{
	struct join join = {.options = options, .predictions = predictions};
	struct samples_labels_options labels = {
		.folder = options->folder,
		.task = options->task,
		.rule = options->label,
		.limits = event_limits_default,
		.stopping = options->stopping,
	};
	size_t rows = predictions->rows_count ? predictions->rows_count : 1;
	struct evaluated evaluated = {0};
	enum status status = samples_labels_read(&labels, &join.answers, error);

	if (status != STATUS_OK)
		return status;
	join.noted = mem_alloc_zero(predictions->count ? predictions->count : 1, sizeof *join.noted);
	join.item_events = mem_alloc_zero(rows, sizeof *join.item_events);
	join.labels = mem_alloc_zero(rows, sizeof *join.labels);
	if (!join.noted || !join.item_events || !join.labels)
		status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu scores", predictions->rows_count);
	if (status == STATUS_OK)
		status = ids_create("items", EVALUATE_ROWS_MAX, 0, &join.items.ids, error);
	if (status == STATUS_OK)
		status = ids_create("users", EVALUATE_ROWS_MAX, 0, &join.users.ids, error);
	if (status == STATUS_OK)
		status = read_events(&join, error);
	join.counts.predictions = predictions->count + predictions->repeated;
	join.counts.repeated += predictions->repeated;
	if (status == STATUS_OK)
		status = lay_out(&join, &evaluated, error);
	evaluated.counts = join.counts;
	evaluated.task = samples_labels_clicked(join.answers) ? "clicked" : "liked";
	if (status == STATUS_OK)
		*out = evaluated;
	else
		evaluated_free(&evaluated);
	samples_labels_destroy(join.answers);
	mem_free(join.noted);
	mem_free(join.item_events);
	mem_free(join.labels);
	ids_destroy(join.items.ids);
	ids_destroy(join.users.ids);
	mem_free(join.items.events);
	mem_free(join.users.events);
	return status;
}

void evaluated_free(struct evaluated *evaluated)
{
	answers_free(&evaluated->answers);
	mem_free(evaluated->user_keys);
	mem_free(evaluated->prediction_row);
	*evaluated = (struct evaluated){0};
}
