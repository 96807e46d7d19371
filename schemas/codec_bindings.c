/* codec_bindings.c - our six schemas on one side, the structs of event.h on the other: one line per
 * field. codec_plan.c refuses to start when a line and its .avsc disagree. Constant. */
#include "schemas/codec_plan.h"

static const char *kind_symbol(int value)
{
	return interaction_kind_name((enum interaction_kind)value);
}

static const char *status_symbol(int value)
{
	return prediction_status_name((enum prediction_status)value);
}

#define AT(type, member) (uint16_t)offsetof(struct type, member)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define VALUE(type, name, kind, member) \
	{name, SCHEMA_##kind, SCHEMA_NULL, AT(type, member), BINDING_NONE, false, NULL, NULL, 0}
#define OPTIONAL_TEXT(type, name, kind, member) \
	{name, SCHEMA_##kind, SCHEMA_NULL, AT(type, member), BINDING_NONE, true, NULL, NULL, 0}
#define OPTIONAL(type, name, kind, member, has) \
	{name, SCHEMA_##kind, SCHEMA_NULL, AT(type, member), AT(type, has), true, NULL, NULL, 0}
#define ENUM(type, name, member, symbol, symbols) \
	{name, SCHEMA_ENUM, SCHEMA_NULL, AT(type, member), BINDING_NONE, false, NULL, symbol, symbols}
#define ARRAY(type, name, items_kind, member, record) \
	{name, SCHEMA_ARRAY, SCHEMA_##items_kind, AT(type, member), AT(type, member##_count), false, record, NULL, 0}
#define MAP(type, name, member, record) \
	{name, SCHEMA_MAP, SCHEMA_STRING, AT(type, member), AT(type, member##_count), false, record, NULL, 0}
#define RECORD(type, fields) {sizeof(struct type), fields, COUNT(fields)}

/* The one value of a map entry; its name is written by the map itself. */
static const struct binding attribute_fields[] = {
	VALUE(attribute, "value", STRING, value),
};
static const struct binding_record attribute_record = RECORD(attribute, attribute_fields);

static const struct binding item_fields[] = {
	VALUE(item_event, "item_id", STRING, item_id),
	VALUE(item_event, "title", STRING, title),
	MAP(item_event, "attributes", attributes, &attribute_record),
	VALUE(item_event, "event_time", LONG, event_time_ms),
	VALUE(item_event, "deleted", BOOLEAN, deleted),
};

static const struct binding interaction_fields[] = {
	VALUE(interaction_event, "user_id", STRING, user_id),
	OPTIONAL_TEXT(interaction_event, "item_id", STRING, item_id),
	ENUM(interaction_event, "kind", kind, kind_symbol, INTERACTION_KINDS),
	OPTIONAL(interaction_event, "rating", DOUBLE, rating, has_rating),
	OPTIONAL_TEXT(interaction_event, "impression_id", STRING, impression_id),
	VALUE(interaction_event, "event_time", LONG, event_time_ms),
};

static const struct binding impression_fields[] = {
	VALUE(impression_event, "impression_id", STRING, impression_id),
	VALUE(impression_event, "user_id", STRING, user_id),
	ARRAY(impression_event, "candidates", STRING, candidates, NULL),
	VALUE(impression_event, "event_time", LONG, event_time_ms),
	OPTIONAL(impression_event, "deadline_ms", LONG, deadline_ms, has_deadline),
};

static const struct binding history_fields[] = {
	VALUE(history_entry, "item_id", STRING, item_id),
	VALUE(history_entry, "text", STRING, text),
	ENUM(history_entry, "kind", kind, kind_symbol, INTERACTION_KINDS),
	OPTIONAL(history_entry, "rating", FLOAT, rating, has_rating),
	VALUE(history_entry, "event_time", LONG, event_time_ms),
};
static const struct binding_record history_record = RECORD(history_entry, history_fields);

static const struct binding example_fields[] = {
	VALUE(example, "similarity", FLOAT, similarity),
	ARRAY(example, "entries", RECORD, entries, &history_record),
};
static const struct binding_record example_record = RECORD(example, example_fields);

static const struct binding candidate_fields[] = {
	VALUE(request_candidate, "item_id", STRING, item_id),
	VALUE(request_candidate, "text", STRING, text),
	ARRAY(request_candidate, "statistics", FLOAT, statistics, NULL),
};
static const struct binding_record candidate_record = RECORD(request_candidate, candidate_fields);

static const struct binding scoring_request_fields[] = {
	VALUE(scoring_request, "impression_id", STRING, impression_id),
	VALUE(scoring_request, "user_id", STRING, user_id),
	ENUM(scoring_request, "status", status, status_symbol, PREDICTION_STATUSES),
	ARRAY(scoring_request, "history", RECORD, history, &history_record),
	ARRAY(scoring_request, "examples", RECORD, examples, &example_record),
	ARRAY(scoring_request, "user_statistics", FLOAT, user_statistics, NULL),
	ARRAY(scoring_request, "candidates", RECORD, candidates, &candidate_record),
	VALUE(scoring_request, "graph_version", LONG, graph_version),
	VALUE(scoring_request, "event_time", LONG, event_time_ms),
	OPTIONAL(scoring_request, "deadline_ms", LONG, deadline_ms, has_deadline),
};

static const struct binding score_fields[] = {
	VALUE(candidate_score, "item_id", STRING, item_id),
	VALUE(candidate_score, "p_click", FLOAT, p_click),
	VALUE(candidate_score, "exit_layer", INT, exit_layer),
	OPTIONAL(candidate_score, "margin", FLOAT, margin, has_margin),
};
static const struct binding_record score_record = RECORD(candidate_score, score_fields);

static const struct binding prediction_fields[] = {
	VALUE(prediction, "impression_id", STRING, impression_id),
	VALUE(prediction, "user_id", STRING, user_id),
	ARRAY(prediction, "scores", RECORD, scores, &score_record),
	VALUE(prediction, "model_id", STRING, model_id),
	VALUE(prediction, "graph_version", LONG, graph_version),
	VALUE(prediction, "event_time", LONG, event_time_ms),
	VALUE(prediction, "scored_time", LONG, scored_time_ms),
	ENUM(prediction, "status", status, status_symbol, PREDICTION_STATUSES),
};

static const struct binding dead_letter_fields[] = {
	VALUE(dead_letter, "topic", STRING, topic),
	VALUE(dead_letter, "partition", INT, partition),
	VALUE(dead_letter, "offset", LONG, offset),
	VALUE(dead_letter, "stage", STRING, stage),
	VALUE(dead_letter, "reason", STRING, reason),
	VALUE(dead_letter, "error", STRING, error),
	OPTIONAL_TEXT(dead_letter, "key", BYTES, key),
	OPTIONAL_TEXT(dead_letter, "value", BYTES, value),
};

const struct binding_record codec_bindings[RECORD_TYPES] = {
	[RECORD_ITEM] = RECORD(item_event, item_fields),
	[RECORD_IMPRESSION] = RECORD(impression_event, impression_fields),
	[RECORD_INTERACTION] = RECORD(interaction_event, interaction_fields),
	[RECORD_SCORING_REQUEST] = RECORD(scoring_request, scoring_request_fields),
	[RECORD_PREDICTION] = RECORD(prediction, prediction_fields),
	[RECORD_DEAD_LETTER] = RECORD(dead_letter, dead_letter_fields),
};
