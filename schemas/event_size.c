/* event_size.c - sizes of Avro bodies: zig-zag varints, length-prefixed texts, arrays in one block.
 * Invariant: equal to what codec_encode() appends for every event (tested). Called by sources and
 * sinks; pure. */
#include "schemas/event_size.h"

enum { BRANCH = 1, ENUM = 1, FLOAT = 4, DOUBLE = 8, BOOLEAN = 1, END = 1 };

static size_t long_bytes(int64_t value)
{
	uint64_t zigzag = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
	size_t bytes = 1;

	while (zigzag >>= 7)
		bytes++;
	return bytes;
}

static size_t text_bytes(struct text_view text)
{
	return long_bytes((int64_t)text.size) + text.size;
}

static size_t optional_text_bytes(struct text_view text)
{
	return BRANCH + (text.bytes ? text_bytes(text) : 0);
}

/* Header and end of an array of `count` items. */
static size_t block_bytes(size_t count)
{
	return (count ? long_bytes((int64_t)count) : 0) + END;
}

static size_t item_bytes(const struct item_event *item)
{
	size_t bytes = text_bytes(item->item_id) + text_bytes(item->title) +
		       block_bytes(item->attributes_count) + long_bytes(item->event_time_ms) + BOOLEAN;

	for (size_t i = 0; i < item->attributes_count; i++)
		bytes += text_bytes(item->attributes[i].name) + text_bytes(item->attributes[i].value);
	return bytes;
}

static size_t interaction_bytes(const struct interaction_event *interaction)
{
	return text_bytes(interaction->user_id) + optional_text_bytes(interaction->item_id) + ENUM + BRANCH +
	       (interaction->has_rating ? DOUBLE : 0) + optional_text_bytes(interaction->impression_id) +
	       long_bytes(interaction->event_time_ms);
}

static size_t deadline_bytes(bool has_deadline, int64_t deadline_ms)
{
	return BRANCH + (has_deadline ? long_bytes(deadline_ms) : 0);
}

static size_t impression_bytes(const struct impression_event *impression)
{
	size_t bytes = text_bytes(impression->impression_id) + text_bytes(impression->user_id) +
		       block_bytes(impression->candidates_count) + long_bytes(impression->event_time_ms) +
		       deadline_bytes(impression->has_deadline, impression->deadline_ms);

	for (size_t i = 0; i < impression->candidates_count; i++)
		bytes += text_bytes(impression->candidates[i]);
	return bytes;
}

static size_t history_bytes(const struct history_entry *entries, size_t count)
{
	size_t bytes = block_bytes(count);

	for (size_t i = 0; i < count; i++)
		bytes += text_bytes(entries[i].item_id) + text_bytes(entries[i].text) + ENUM + BRANCH +
			 (entries[i].has_rating ? FLOAT : 0) + long_bytes(entries[i].event_time_ms);
	return bytes;
}

static size_t scoring_request_bytes(const struct scoring_request *request)
{
	size_t bytes = text_bytes(request->impression_id) + text_bytes(request->user_id) + ENUM +
		       history_bytes(request->history, request->history_count) +
		       block_bytes(request->examples_count) + block_bytes(request->user_statistics_count) +
		       request->user_statistics_count * FLOAT + block_bytes(request->candidates_count) +
		       long_bytes(request->graph_version) + long_bytes(request->event_time_ms) +
		       deadline_bytes(request->has_deadline, request->deadline_ms);

	for (size_t i = 0; i < request->examples_count; i++)
		bytes += FLOAT + history_bytes(request->examples[i].entries,
					       request->examples[i].entries_count);
	for (size_t i = 0; i < request->candidates_count; i++) {
		const struct request_candidate *candidate = &request->candidates[i];
		bytes += text_bytes(candidate->item_id) + text_bytes(candidate->text) +
			 block_bytes(candidate->statistics_count) + candidate->statistics_count * FLOAT;
	}
	return bytes;
}

static size_t prediction_bytes(const struct prediction *prediction)
{
	size_t bytes = text_bytes(prediction->impression_id) + text_bytes(prediction->user_id) +
		       block_bytes(prediction->scores_count) + text_bytes(prediction->model_id) +
		       long_bytes(prediction->graph_version) + long_bytes(prediction->event_time_ms) +
		       long_bytes(prediction->scored_time_ms) + ENUM;

	for (size_t i = 0; i < prediction->scores_count; i++) {
		const struct candidate_score *score = &prediction->scores[i];
		bytes += text_bytes(score->item_id) + FLOAT + long_bytes(score->exit_layer) + BRANCH +
			 (score->has_margin ? FLOAT : 0);
	}
	return bytes;
}

static size_t dead_letter_bytes(const struct dead_letter *letter)
{
	return text_bytes(letter->topic) + long_bytes(letter->partition) + long_bytes(letter->offset) +
	       text_bytes(letter->stage) + text_bytes(letter->reason) + text_bytes(letter->error) +
	       optional_text_bytes(letter->key) + optional_text_bytes(letter->value);
}

size_t event_encoded_bytes(const struct event *event)
{
	switch (event->type) {
	case RECORD_ITEM: return item_bytes(&event->item);
	case RECORD_IMPRESSION: return impression_bytes(&event->impression);
	case RECORD_INTERACTION: return interaction_bytes(&event->interaction);
	case RECORD_SCORING_REQUEST: return scoring_request_bytes(&event->scoring_request);
	case RECORD_PREDICTION: return prediction_bytes(&event->prediction);
	case RECORD_DEAD_LETTER: return dead_letter_bytes(&event->dead_letter);
	}
	return 0;
}
