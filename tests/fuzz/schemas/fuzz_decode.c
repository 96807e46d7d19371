/* fuzz_decode.c - any bytes as a body: against our own schemas (first byte 0 to 5) and against writers
 * that differ (6 and up). Checks: no memory beyond the arena, what decodes under our schema encodes
 * and decodes again to the same, measuring agrees with decoding, and the same bytes always say the
 * same. */
#include "schemas/codec_plan.h"
#include "tests/unit/schemas/codec_samples.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define F(name, type) "{\"name\":\"" name "\",\"type\":" type "}"
#define RECORD(name, fields) "{\"type\":\"record\",\"name\":\"" name "\",\"fields\":[" fields "]}"

static const struct { enum record_type type; const char *json; } writers[] = {
	{RECORD_ITEM, RECORD("item",
		F("tree", "{\"type\":\"record\",\"name\":\"t\",\"fields\":[" F("c",
		"{\"type\":\"array\",\"items\":\"t\"}") ","
		  F("m", "{\"type\":\"map\",\"values\":[\"null\",\"t\",\"string\"]}") "]}") ","
		F("event_time", "[\"int\",\"long\",\"string\"]") "," F("nulls",
		"{\"type\":\"array\",\"items\":\"null\"}") ","
		F("attributes", "{\"type\":\"map\",\"values\":[\"bytes\",\"null\"]}") "," F("item_id",
		"[\"null\",\"string\"]"))},
	{RECORD_PREDICTION, RECORD("prediction",
		F("scores", "{\"type\":\"array\",\"items\":{\"type\":\"record\","
		"\"name\":\"candidate_score\",\"fields\":["
		  F("p_click", "[\"int\",\"long\",\"float\"]") "," F("x",
		  "{\"type\":\"fixed\",\"name\":\"f\",\"size\":3}") ","
		  F("item_id", "\"bytes\"") "," F("margin", "[\"long\",\"null\"]") "]}}") ","
		F("impression_id", "\"string\"") "," F("user_id", "\"string\"") "," F("model_id",
		"\"string\"") ","
		F("event_time", "\"int\"") "," F("scored_time", "\"long\"") ","
		F("status", "{\"type\":\"enum\",\"name\":\"prediction_status\",\"symbols\":[\"LATE\","
		"\"X\",\"OK\"]}"))},
	{RECORD_SCORING_REQUEST, RECORD("scoring_request",
		F("impression_id", "\"string\"") "," F("user_id", "\"string\"") "," F("event_time",
		"\"long\"") ","
		F("candidates", "{\"type\":\"array\",\"items\":{\"type\":\"record\","
		"\"name\":\"candidate\",\"fields\":["
		  F("item_id", "\"string\"") "," F("statistics",
		  "{\"type\":\"array\",\"items\":[\"int\",\"float\"]}") "]}}") ","
		F("user_statistics", "{\"type\":\"array\",\"items\":\"long\"}"))},
};
enum { WRITERS = sizeof writers / sizeof writers[0], PLANS = RECORD_TYPES + WRITERS, ARENA_BYTES = 1 << 20 };

static struct codec_plan *make_plan(unsigned index)
{
	struct codec_plan *plan = NULL;
	enum status status =
		index < RECORD_TYPES
			? codec_plan_create((enum record_type)index, text_of(codec_schema_json((enum
			record_type)index)),
					    &plan, NULL)
			: codec_plan_create(writers[index - RECORD_TYPES].type,
					    text_of(writers[index - RECORD_TYPES].json), &plan, NULL);
	if (status)
		abort();
	return plan;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct codec_plan *plans[PLANS];
	static struct arena *arena, *other;
	struct text_view body = {(const char *)data + 1, size - 1};
	struct byte_buffer buffer = {.bytes_max = 1 << 22};
	struct event event, again;
	struct error error = {0}, same = {0};
	enum status status;
	unsigned index;
	size_t bytes;

	if (size == 0)
		return 0;
	index = data[0] % PLANS;
	if (!arena)
		arena = arena_create(ARENA_BYTES), other = arena_create(8 * ARENA_BYTES);
	if (!plans[index])
		plans[index] = make_plan(index);
	arena_reset(arena);
	arena_reset(other);
	status = codec_decode(plans[index], body, arena, &event, NULL, &error);
	if (arena_used(arena) > ARENA_BYTES)
		abort();
	if (codec_decode(plans[index], body, other, &again, NULL, &same) != status && status != STATUS_LIMIT)
		abort();
	if (status) {
		if (status_class(status) != STATUS_CLASS_BAD || !error.text[0])
			abort();
		return 0;
	}
	if (codec_measure(plans[index], body, &bytes, NULL) || bytes != body.size)
		abort();
	if (!same_event(&event, &again))
		abort();
	(void)event_malformed(&event, &event_limits_default);
	if (codec_encode(&event, &buffer, &error))
		abort();
	index = (unsigned)event.type;
	if (!plans[index])
		plans[index] = make_plan(index);
	arena_reset(other);
	if (codec_decode(plans[index], (struct text_view){buffer.bytes, buffer.size}, other, &again, NULL,
		&error) ||
	    !same_event(&event, &again))
		abort();
	byte_buffer_free(&buffer);
	return 0;
}
