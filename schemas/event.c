/* event.c - names of records and enums, and what makes a decoded record malformed.
 * Pure functions over borrowed structs; any thread. */
#include "schemas/event.h"

#include "base/clock.h"

#include <math.h>

const struct event_limits event_limits_default = {
	.record_bytes_max = 1024 * 1024 - 1024,
	.id_bytes_max = 256,
	.candidates_max = 10000,
	.attributes_max = 256,
};

const char *record_type_name(enum record_type type)
{
	switch (type) {
	case RECORD_ITEM: return "item";
	case RECORD_IMPRESSION: return "impression";
	case RECORD_INTERACTION: return "interaction";
	case RECORD_SCORING_REQUEST: return "scoring_request";
	case RECORD_PREDICTION: return "prediction";
	case RECORD_DEAD_LETTER: return "dead_letter";
	}
	return "unknown";
}

const char *interaction_kind_name(enum interaction_kind kind)
{
	switch (kind) {
	case KIND_VIEW: return "VIEW";
	case KIND_CLICK: return "CLICK";
	case KIND_RATE: return "RATE";
	case KIND_PURCHASE: return "PURCHASE";
	case KIND_REMOVE: return "REMOVE";
	}
	return "UNKNOWN";
}

const char *prediction_status_name(enum prediction_status status)
{
	switch (status) {
	case PREDICTION_OK: return "OK";
	case PREDICTION_UNKNOWN_USER: return "UNKNOWN_USER";
	case PREDICTION_TRUNCATED: return "TRUNCATED";
	case PREDICTION_DEADLINE: return "DEADLINE";
	case PREDICTION_LATE: return "LATE";
	case PREDICTION_NO_CANDIDATES: return "NO_CANDIDATES";
	}
	return "UNKNOWN";
}

int64_t event_time_ms(const struct event *event)
{
	switch (event->type) {
	case RECORD_ITEM: return event->item.event_time_ms;
	case RECORD_IMPRESSION: return event->impression.event_time_ms;
	case RECORD_INTERACTION: return event->interaction.event_time_ms;
	case RECORD_SCORING_REQUEST: return event->scoring_request.event_time_ms;
	case RECORD_PREDICTION: return event->prediction.event_time_ms;
	case RECORD_DEAD_LETTER: break;
	}
	return INT64_MIN;
}

struct text_view event_key(const struct event *event)
{
	switch (event->type) {
	case RECORD_ITEM: return event->item.item_id;
	case RECORD_IMPRESSION: return event->impression.user_id;
	case RECORD_INTERACTION: return event->interaction.user_id;
	case RECORD_SCORING_REQUEST: return event->scoring_request.user_id;
	case RECORD_PREDICTION: return event->prediction.user_id;
	case RECORD_DEAD_LETTER: return event->dead_letter.key;
	}
	return (struct text_view){NULL, 0};
}

/* An id that must be there. Ids are written out again as Avro strings, so they have to be UTF-8. */
static const char *bad_id(struct text_view id, const struct event_limits *limits, const char *missing)
{
	if (id.size == 0)
		return missing;
	if (id.size > limits->id_bytes_max)
		return "id-too-long";
	return text_is_utf8(id) ? NULL : "invalid-utf-8";
}

static const char *bad_item(const struct item_event *item, const struct event_limits *limits)
{
	const char *reason = bad_id(item->item_id, limits, "missing-item-id");
	if (!reason && item->attributes_count > limits->attributes_max)
		reason = "too-many-attributes";
	if (!reason && item->event_time_ms < 0)
		reason = "negative-time";
	return reason;
}

static const char *bad_interaction(const struct interaction_event *interaction,
				   const struct event_limits *limits)
{
	const char *reason = bad_id(interaction->user_id, limits, "missing-user-id");

	if ((unsigned)interaction->kind >= INTERACTION_KINDS)
		return "unknown-kind";
	if (!reason && (interaction->kind != KIND_REMOVE || interaction->item_id.size))
		reason = bad_id(interaction->item_id, limits, "missing-item-id");
	if (!reason && interaction->impression_id.size)
		reason = bad_id(interaction->impression_id, limits, NULL);
	if (!reason && interaction->has_rating && !isfinite(interaction->rating))
		reason = "bad-rating";
	if (!reason && interaction->event_time_ms < 0)
		reason = "negative-time";
	return reason;
}

static const char *bad_impression(const struct impression_event *impression,
				  const struct event_limits *limits)
{
	const char *reason = bad_id(impression->impression_id, limits, "missing-impression-id");

	if (!reason)
		reason = bad_id(impression->user_id, limits, "missing-user-id");
	if (!reason && impression->candidates_count > limits->candidates_max)
		reason = "too-many-candidates";
	for (size_t i = 0; !reason && i < impression->candidates_count; i++)
		reason = bad_id(impression->candidates[i], limits, "missing-item-id");
	if (!reason && impression->event_time_ms < 0)
		reason = "negative-time";
	if (!reason && impression->has_deadline && impression->deadline_ms < 0)
		reason = "negative-deadline";
	return reason;
}

static const char *bad_history(const struct history_entry *entries, size_t count,
			       const struct event_limits *limits)
{
	const char *reason = NULL;
	for (size_t i = 0; !reason && i < count; i++) {
		reason = bad_id(entries[i].item_id, limits, "missing-item-id");
		if (!reason && (unsigned)entries[i].kind >= INTERACTION_KINDS)
			reason = "unknown-kind";
		if (!reason && entries[i].has_rating && !isfinite(entries[i].rating))
			reason = "bad-rating";
		if (!reason && entries[i].event_time_ms < 0)
			reason = "negative-time";
	}
	return reason;
}

static const char *bad_scoring_request(const struct scoring_request *request,
				       const struct event_limits *limits)
{
	const char *reason = bad_id(request->impression_id, limits, "missing-impression-id");

	if (!reason)
		reason = bad_id(request->user_id, limits, "missing-user-id");
	if (!reason && (unsigned)request->status >= PREDICTION_STATUSES)
		reason = "unknown-status";
	if (!reason && request->candidates_count > limits->candidates_max)
		reason = "too-many-candidates";
	if (!reason)
		reason = bad_history(request->history, request->history_count, limits);
	for (size_t i = 0; !reason && i < request->examples_count; i++) {
		reason = bad_history(request->examples[i].entries, request->examples[i].entries_count, limits);
		if (!reason && !isfinite(request->examples[i].similarity))
			reason = "bad-similarity";
	}
	for (size_t i = 0; !reason && i < request->candidates_count; i++)
		reason = bad_id(request->candidates[i].item_id, limits, "missing-item-id");
	if (!reason && request->event_time_ms < 0)
		reason = "negative-time";
	if (!reason && request->has_deadline && request->deadline_ms < 0)
		reason = "negative-deadline";
	return reason;
}

static const char *bad_prediction(const struct prediction *prediction, const struct event_limits *limits)
{
	const char *reason = bad_id(prediction->impression_id, limits, "missing-impression-id");

	if (!reason)
		reason = bad_id(prediction->user_id, limits, "missing-user-id");
	if (!reason && (unsigned)prediction->status >= PREDICTION_STATUSES)
		reason = "unknown-status";
	if (!reason && prediction->scores_count > limits->candidates_max)
		reason = "too-many-candidates";
	for (size_t i = 0; !reason && i < prediction->scores_count; i++) {
		reason = bad_id(prediction->scores[i].item_id, limits, "missing-item-id");
		if (!reason && !(prediction->scores[i].p_click > 0 && prediction->scores[i].p_click < 1))
			reason = "bad-p-click";
	}
	if (!reason && (prediction->event_time_ms < 0 || prediction->scored_time_ms < 0))
		reason = "negative-time";
	return reason;
}

/* A single clock gone wild must not make every later record late. */
static bool too_far_ahead(const struct event *event, const struct event_limits *limits)
{
	return limits->future_ms_max > 0 && event->type != RECORD_DEAD_LETTER &&
	       event_time_ms(event) > clock_wall_ms() + limits->future_ms_max;
}

const char *event_malformed(const struct event *event, const struct event_limits *limits)
{
	if (too_far_ahead(event, limits))
		return "event-time-in-the-future";
	switch (event->type) {
	case RECORD_ITEM: return bad_item(&event->item, limits);
	case RECORD_IMPRESSION: return bad_impression(&event->impression, limits);
	case RECORD_INTERACTION: return bad_interaction(&event->interaction, limits);
	case RECORD_SCORING_REQUEST: return bad_scoring_request(&event->scoring_request, limits);
	case RECORD_PREDICTION: return bad_prediction(&event->prediction, limits);
	case RECORD_DEAD_LETTER: return NULL;   /* made by us, holds whatever came */
	}
	return "unknown-record";
}
