/* score_request.c - see score_request.h. jansson parses; every field is checked and copied. */
#include "ops/cli/score_request.h"

#include <jansson.h>
#include <math.h>

enum { ENTRIES_MAX = 100000 };

struct reader {
	struct arena *arena;
	struct error *error;
};

static enum status wrong(struct reader *reader, const char *field, const char *wanted)
{
	return error_set(reader->error, STATUS_CORRUPT, "field \"%s\": %s is needed", field, wanted);
}

static enum status no_room(struct reader *reader)
{
	return error_set(reader->error, STATUS_LIMIT, "the request is too large");
}

static enum status read_text(struct reader *reader, const json_t *object, const char *field, struct text_view *out)
{
	const json_t *value = json_object_get(object, field);

	*out = (struct text_view){"", 0};
	if (!value || json_is_null(value))
		return STATUS_OK;
	if (!json_is_string(value))
		return wrong(reader, field, "a string");
	struct text_view text = {json_string_value(value), json_string_length(value)};
	return text_copy(reader->arena, text, out) ? STATUS_OK : no_room(reader);
}

static enum status read_integer(struct reader *reader, const json_t *object, const char *field, int64_t *out)
{
	const json_t *value = json_object_get(object, field);

	if (!value || json_is_null(value))
		return STATUS_OK;
	if (!json_is_integer(value))
		return wrong(reader, field, "a whole number");
	*out = json_integer_value(value);
	return STATUS_OK;
}

static enum status read_floats(struct reader *reader, const json_t *object, const char *field, const float **out,
			       size_t *count)
{
	const json_t *array = json_object_get(object, field), *value;
	size_t index;
	float *copy;

	*out = NULL;
	*count = 0;
	if (!array || json_is_null(array))
		return STATUS_OK;
	if (!json_is_array(array) || json_array_size(array) > ENTRIES_MAX)
		return wrong(reader, field, "an array of numbers");
	copy = arena_array(reader->arena, json_array_size(array), sizeof *copy);
	if (!copy)
		return no_room(reader);
	json_array_foreach(array, index, value) {
		if (!json_is_number(value))
			return wrong(reader, field, "an array of numbers");
		copy[index] = (float)json_number_value(value);
	}
	*out = copy;
	*count = json_array_size(array);
	return STATUS_OK;
}

static enum status read_entry(struct reader *reader, const json_t *object, struct history_entry *out)
{
	const json_t *rating = json_object_get(object, "rating");
	struct text_view kind;
	enum status status;

	*out = (struct history_entry){.kind = KIND_CLICK};
	if (!json_is_object(object))
		return wrong(reader, "history", "an array of objects");
	status = read_text(reader, object, "item_id", &out->item_id);
	if (status == STATUS_OK)
		status = read_text(reader, object, "text", &out->text);
	if (status == STATUS_OK)
		status = read_text(reader, object, "kind", &kind);
	if (status == STATUS_OK)
		status = read_integer(reader, object, "event_time", &out->event_time_ms);
	if (status != STATUS_OK)
		return status;
	if (rating && !json_is_null(rating)) {
		if (!json_is_number(rating) || !isfinite(json_number_value(rating)))
			return wrong(reader, "rating", "a number");
		out->has_rating = true;
		out->rating = (float)json_number_value(rating);
		out->kind = KIND_RATE;
	}
	for (int i = 0; kind.size && i < INTERACTION_KINDS; i++)
		if (text_equal(kind, text_of(interaction_kind_name((enum interaction_kind)i))))
			out->kind = (enum interaction_kind)i;
	return STATUS_OK;
}

static enum status read_entries(struct reader *reader, const json_t *object, const char *field,
				const struct history_entry **out, size_t *count)
{
	const json_t *array = json_object_get(object, field), *value;
	struct history_entry *entries;
	size_t index;

	*out = NULL;
	*count = 0;
	if (!array || json_is_null(array))
		return STATUS_OK;
	if (!json_is_array(array) || json_array_size(array) > ENTRIES_MAX)
		return wrong(reader, field, "an array of objects");
	entries = arena_array(reader->arena, json_array_size(array), sizeof *entries);
	if (!entries)
		return no_room(reader);
	json_array_foreach(array, index, value) {
		enum status status = read_entry(reader, value, &entries[index]);
		if (status != STATUS_OK)
			return status;
	}
	*out = entries;
	*count = json_array_size(array);
	return STATUS_OK;
}

static enum status read_examples(struct reader *reader, const json_t *object, struct scoring_request *out)
{
	const json_t *array = json_object_get(object, "examples"), *value;
	struct example *examples;
	size_t index;

	if (!array || json_is_null(array))
		return STATUS_OK;
	if (!json_is_array(array) || json_array_size(array) > ENTRIES_MAX)
		return wrong(reader, "examples", "an array of objects");
	examples = arena_array(reader->arena, json_array_size(array), sizeof *examples);
	if (!examples)
		return no_room(reader);
	json_array_foreach(array, index, value) {
		const json_t *similarity = json_object_get(value, "similarity");
		if (!json_is_object(value) || (similarity && !json_is_number(similarity)))
			return wrong(reader, "examples", "an array of objects with \"similarity\" and \"entries\"");
		examples[index].similarity = similarity ? (float)json_number_value(similarity) : 0;
		enum status status = read_entries(reader, value, "entries", &examples[index].entries,
						  &examples[index].entries_count);
		if (status != STATUS_OK)
			return status;
	}
	out->examples = examples;
	out->examples_count = json_array_size(array);
	return STATUS_OK;
}

static enum status read_candidates(struct reader *reader, const json_t *object, struct scoring_request *out)
{
	const json_t *array = json_object_get(object, "candidates"), *value;
	struct request_candidate *candidates;
	size_t index;

	if (!json_is_array(array) || json_array_size(array) > ENTRIES_MAX)
		return wrong(reader, "candidates", "an array");
	candidates = arena_array(reader->arena, json_array_size(array), sizeof *candidates);
	if (!candidates)
		return no_room(reader);
	json_array_foreach(array, index, value) {
		struct request_candidate *candidate = &candidates[index];
		enum status status = STATUS_OK;
		*candidate = (struct request_candidate){.item_id = {"", 0}};
		if (json_is_string(value)) {
			struct text_view text = {json_string_value(value), json_string_length(value)};
			if (!text_copy(reader->arena, text, &candidate->text))
				return no_room(reader);
		} else if (json_is_object(value)) {
			status = read_text(reader, value, "item_id", &candidate->item_id);
			if (status == STATUS_OK)
				status = read_text(reader, value, "text", &candidate->text);
			if (status == STATUS_OK)
				status = read_floats(reader, value, "statistics", &candidate->statistics,
						     &candidate->statistics_count);
		} else {
			status = wrong(reader, "candidates", "an array of objects or strings");
		}
		if (status != STATUS_OK)
			return status;
	}
	out->candidates = candidates;
	out->candidates_count = json_array_size(array);
	return STATUS_OK;
}

static enum status read_request(struct reader *reader, const json_t *object, struct scoring_request *out)
{
	enum status status = read_text(reader, object, "impression_id", &out->impression_id);

	if (status == STATUS_OK)
		status = read_text(reader, object, "user_id", &out->user_id);
	if (status == STATUS_OK)
		status = read_entries(reader, object, "history", &out->history, &out->history_count);
	if (status == STATUS_OK)
		status = read_examples(reader, object, out);
	if (status == STATUS_OK)
		status = read_floats(reader, object, "user_statistics", &out->user_statistics,
				     &out->user_statistics_count);
	if (status == STATUS_OK)
		status = read_candidates(reader, object, out);
	if (status == STATUS_OK)
		status = read_integer(reader, object, "graph_version", &out->graph_version);
	if (status == STATUS_OK)
		status = read_integer(reader, object, "event_time", &out->event_time_ms);
	if (status == STATUS_OK && out->candidates_count == 0)
		out->status = PREDICTION_NO_CANDIDATES;
	return status;
}

enum status score_request_parse(struct text_view json, struct arena *arena, struct scoring_request *out,
				struct error *error)
{
	struct reader reader = {arena, error};
	struct scoring_request request = {0};
	json_error_t json_error;
	json_t *root = json_loadb(json.bytes, json.size, JSON_REJECT_DUPLICATES, &json_error);
	enum status status;

	if (!root)
		return error_set(error, STATUS_CORRUPT, "line %d, column %d: %s", json_error.line, json_error.column,
				 json_error.text);
	status = json_is_object(root) ? read_request(&reader, root, &request)
				      : error_set(error, STATUS_CORRUPT, "a JSON object is needed");
	json_decref(root);
	if (status == STATUS_OK)
		*out = request;
	return status;
}
