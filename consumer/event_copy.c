/* event_copy.c - deep copies, one function per record. Absent texts stay absent (bytes NULL), empty
 * ones stay present. Called by the sources; any thread. */
#include "consumer/event_copy.h"

static bool copy_text(struct arena *arena, struct text_view *text)
{
	char *bytes;

	if (!text->bytes)
		return true;
	if (text->size == 0) {
		text->bytes = "";
		return true;
	}
	bytes = arena_alloc(arena, text->size);
	if (!bytes)
		return false;
	memcpy(bytes, text->bytes, text->size);
	text->bytes = bytes;
	return true;
}

/* The array's own bytes; NULL and empty stay so. True with *copy NULL only for count 0. */
static bool copy_array(struct arena *arena, const void *from, size_t count, size_t size, void *copy)
{
	void *to = NULL;

	if (count > 0) {
		to = arena_array(arena, count, size);
		if (!to)
			return false;
		memcpy(to, from, count * size);
	}
	memcpy(copy, &to, sizeof to);
	return true;
}

static bool copy_item(struct arena *arena, struct item_event *item)
{
	struct attribute *attributes;

	if (!copy_text(arena, &item->item_id) || !copy_text(arena, &item->title) ||
	    !copy_array(arena, item->attributes, item->attributes_count, sizeof *attributes, &attributes))
		return false;
	for (size_t i = 0; i < item->attributes_count; i++)
		if (!copy_text(arena, &attributes[i].name) || !copy_text(arena, &attributes[i].value))
			return false;
	item->attributes = attributes;
	return true;
}

static bool copy_impression(struct arena *arena, struct impression_event *impression)
{
	struct text_view *candidates;

	if (!copy_text(arena, &impression->impression_id) || !copy_text(arena, &impression->user_id) ||
	    !copy_array(arena, impression->candidates, impression->candidates_count, sizeof *candidates,
			&candidates))
		return false;
	for (size_t i = 0; i < impression->candidates_count; i++)
		if (!copy_text(arena, &candidates[i]))
			return false;
	impression->candidates = candidates;
	return true;
}

static bool copy_interaction(struct arena *arena, struct interaction_event *interaction)
{
	return copy_text(arena, &interaction->user_id) && copy_text(arena, &interaction->item_id) &&
	       copy_text(arena, &interaction->impression_id);
}

static bool copy_history(struct arena *arena, const struct history_entry **history, size_t count)
{
	struct history_entry *entries;

	if (!copy_array(arena, *history, count, sizeof *entries, &entries))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!copy_text(arena, &entries[i].item_id) || !copy_text(arena, &entries[i].text))
			return false;
	*history = entries;
	return true;
}

static bool copy_scoring_request(struct arena *arena, struct scoring_request *request)
{
	struct example *examples;
	struct request_candidate *candidates;
	float *statistics;

	if (!copy_text(arena, &request->impression_id) || !copy_text(arena, &request->user_id) ||
	    !copy_history(arena, &request->history, request->history_count) ||
	    !copy_array(arena, request->examples, request->examples_count, sizeof *examples, &examples) ||
	    !copy_array(arena, request->user_statistics, request->user_statistics_count,
			sizeof *statistics, &statistics) ||
	    !copy_array(arena, request->candidates, request->candidates_count, sizeof *candidates,
			&candidates))
		return false;
	request->examples = examples;
	request->user_statistics = statistics;
	request->candidates = candidates;
	for (size_t i = 0; i < request->examples_count; i++)
		if (!copy_history(arena, &examples[i].entries, examples[i].entries_count))
			return false;
	for (size_t i = 0; i < request->candidates_count; i++) {
		struct request_candidate *candidate = &candidates[i];
		if (!copy_text(arena, &candidate->item_id) || !copy_text(arena, &candidate->text) ||
		    !copy_array(arena, candidate->statistics, candidate->statistics_count,
				sizeof *statistics, &statistics))
			return false;
		candidate->statistics = statistics;
	}
	return true;
}

static bool copy_prediction(struct arena *arena, struct prediction *prediction)
{
	struct candidate_score *scores;

	if (!copy_text(arena, &prediction->impression_id) || !copy_text(arena, &prediction->user_id) ||
	    !copy_text(arena, &prediction->model_id) ||
	    !copy_array(arena, prediction->scores, prediction->scores_count, sizeof *scores, &scores))
		return false;
	for (size_t i = 0; i < prediction->scores_count; i++)
		if (!copy_text(arena, &scores[i].item_id))
			return false;
	prediction->scores = scores;
	return true;
}

static bool copy_dead_letter(struct arena *arena, struct dead_letter *letter)
{
	return copy_text(arena, &letter->topic) && copy_text(arena, &letter->stage) &&
	       copy_text(arena, &letter->reason) && copy_text(arena, &letter->error) &&
	       copy_text(arena, &letter->key) && copy_text(arena, &letter->value);
}

bool event_copy(struct arena *arena, const struct event *event, struct event *out)
{
	struct event copy = *event;
	bool copied = false;

	switch (event->type) {
	case RECORD_ITEM: copied = copy_item(arena, &copy.item); break;
	case RECORD_IMPRESSION: copied = copy_impression(arena, &copy.impression); break;
	case RECORD_INTERACTION: copied = copy_interaction(arena, &copy.interaction); break;
	case RECORD_SCORING_REQUEST: copied = copy_scoring_request(arena, &copy.scoring_request); break;
	case RECORD_PREDICTION: copied = copy_prediction(arena, &copy.prediction); break;
	case RECORD_DEAD_LETTER: copied = copy_dead_letter(arena, &copy.dead_letter); break;
	}
	if (copied)
		*out = copy;
	return copied;
}
