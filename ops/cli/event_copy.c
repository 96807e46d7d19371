/* event_copy.c - copies every text and array that an output event borrows. Pure; any thread. */
#include "ops/cli/event_copy.h"

static bool copy_array(struct arena *arena, const void *from, size_t count, size_t size, const void **out)
{
	void *copy = arena_array(arena, count, size);
	if (!copy)
		return false;
	if (count)
		memcpy(copy, from, count * size);
	*out = copy;
	return true;
}

static bool copy_optional(struct arena *arena, struct text_view text, struct text_view *out)
{
	if (!text.bytes) {
		*out = text;
		return true;
	}
	return text_copy(arena, text, out);
}

static bool copy_history(struct arena *arena, const struct history_entry *from, size_t count,
			 const struct history_entry **out)
{
	struct history_entry *copy = arena_array(arena, count, sizeof *copy);
	if (!copy)
		return false;
	for (size_t i = 0; i < count; i++) {
		copy[i] = from[i];
		if (!copy_optional(arena, from[i].item_id, &copy[i].item_id) ||
		    !copy_optional(arena, from[i].text, &copy[i].text))
			return false;
	}
	*out = copy;
	return true;
}

static bool copy_floats(struct arena *arena, const float *from, size_t count, const float **out)
{
	const void *copy;
	if (!copy_array(arena, from, count, sizeof *from, &copy))
		return false;
	*out = copy;
	return true;
}

bool event_copy_request(struct arena *arena, const struct scoring_request *request,
			struct scoring_request *out)
{
	struct example *examples = arena_array(arena, request->examples_count, sizeof *examples);
	struct request_candidate *candidates =
		arena_array(arena, request->candidates_count, sizeof *candidates);

	*out = *request;
	if (!examples || !candidates || !copy_optional(arena, request->impression_id, &out->impression_id) ||
	    !copy_optional(arena, request->user_id, &out->user_id) ||
	    !copy_history(arena, request->history, request->history_count, &out->history) ||
	    !copy_floats(arena, request->user_statistics, request->user_statistics_count,
			 &out->user_statistics))
		return false;
	for (size_t i = 0; i < request->examples_count; i++) {
		examples[i] = request->examples[i];
		if (!copy_history(arena, request->examples[i].entries, request->examples[i].entries_count,
				  &examples[i].entries))
			return false;
	}
	for (size_t i = 0; i < request->candidates_count; i++) {
		const struct request_candidate *from = &request->candidates[i];
		candidates[i] = *from;
		if (!copy_optional(arena, from->item_id, &candidates[i].item_id) ||
		    !copy_optional(arena, from->text, &candidates[i].text) ||
		    !copy_floats(arena, from->statistics, from->statistics_count, &candidates[i].statistics))
			return false;
	}
	out->examples = examples;
	out->candidates = candidates;
	return true;
}

bool event_copy_prediction(struct arena *arena, const struct prediction *prediction,
			   struct prediction *out)
{
	struct candidate_score *scores = arena_array(arena, prediction->scores_count, sizeof *scores);

	*out = *prediction;
	if (!scores || !copy_optional(arena, prediction->impression_id, &out->impression_id) ||
	    !copy_optional(arena, prediction->user_id, &out->user_id) ||
	    !copy_optional(arena, prediction->model_id, &out->model_id))
		return false;
	for (size_t i = 0; i < prediction->scores_count; i++) {
		scores[i] = prediction->scores[i];
		if (!copy_optional(arena, prediction->scores[i].item_id, &scores[i].item_id))
			return false;
	}
	out->scores = scores;
	return true;
}

static bool copy_dead_letter(struct arena *arena, const struct dead_letter *letter, struct dead_letter *out)
{
	*out = *letter;
	return copy_optional(arena, letter->topic, &out->topic) &&
	       copy_optional(arena, letter->stage, &out->stage) &&
	       copy_optional(arena, letter->reason, &out->reason) &&
	       copy_optional(arena, letter->error, &out->error) &&
	       copy_optional(arena, letter->key, &out->key) &&
	       copy_optional(arena, letter->value, &out->value);
}

bool event_copy(struct arena *arena, const struct event *event, struct event *out)
{
	out->type = event->type;
	switch (event->type) {
	case RECORD_SCORING_REQUEST:
		return event_copy_request(arena, &event->scoring_request, &out->scoring_request);
	case RECORD_PREDICTION:
		return event_copy_prediction(arena, &event->prediction, &out->prediction);
	case RECORD_DEAD_LETTER:
		return copy_dead_letter(arena, &event->dead_letter, &out->dead_letter);
	case RECORD_ITEM:
	case RECORD_IMPRESSION:
	case RECORD_INTERACTION:
		break;
	}
	return false;
}
