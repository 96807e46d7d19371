/* codec_encode.c - event structs to Avro bodies in our own schemas, field by field in their order.
 *
 * Every put makes room first and turns the writer dead when there is none; the verdict is taken once,
 * at the end, where size against bytes_max is checked too. Nothing of a record that fails stays in the
 * buffer. The order of the puts is the order of the .avsc files; tests compare with another codec.
 * Any thread, one buffer per thread. */
#include "schemas/codec.h"
#include "schemas/codec_buffer.h"

enum verdict { VERDICT_OK, VERDICT_LIMIT, VERDICT_NO_MEMORY, VERDICT_BAD };

struct encoder {
	struct byte_buffer *buffer;
	char *at;
	char *end;              /* of the capacity */
	size_t start;           /* buffer->size before this record */
	enum verdict verdict;
	const char *what;       /* of VERDICT_BAD */
	long long value;        /* of VERDICT_BAD */
};

static bool grow(struct encoder *encoder, size_t bytes)
{
	struct byte_buffer *buffer = encoder->buffer;
	size_t used = encoder->at ? (size_t)(encoder->at - buffer->bytes) : buffer->size;

	if (encoder->verdict != VERDICT_OK)
		return false;
	/* Puts ask for the longest form; only what they wrote counts against bytes_max. */
	if (used > buffer->bytes_max || bytes > buffer->bytes_max - used + 2 * CODEC_LONG_BYTES_MAX) {
		encoder->verdict = VERDICT_LIMIT;
		return false;
	}
	if (!codec_buffer_reserve(buffer, used + bytes)) {
		encoder->verdict = VERDICT_NO_MEMORY;
		return false;
	}
	encoder->at = buffer->bytes + used;
	encoder->end = buffer->bytes + buffer->capacity;
	return true;
}

static inline bool room(struct encoder *encoder, size_t bytes)
{
	return (size_t)(encoder->end - encoder->at) >= bytes || grow(encoder, bytes);
}

static inline void put_long(struct encoder *encoder, int64_t value)
{
	if (room(encoder, CODEC_LONG_BYTES_MAX))
		encoder->at = codec_put_long(encoder->at, value);
}

static inline void put_byte(struct encoder *encoder, char byte)
{
	if (room(encoder, 1))
		*encoder->at++ = byte;
}

static inline void put_float(struct encoder *encoder, float value)
{
	if (!room(encoder, sizeof value))
		return;
	memcpy(encoder->at, &value, sizeof value);
	encoder->at += sizeof value;
}

static inline void put_double(struct encoder *encoder, double value)
{
	if (!room(encoder, sizeof value))
		return;
	memcpy(encoder->at, &value, sizeof value);
	encoder->at += sizeof value;
}

static inline void put_text(struct encoder *encoder, struct text_view text)
{
	size_t bytes;
	if (__builtin_add_overflow(text.size, CODEC_LONG_BYTES_MAX, &bytes)) {
		encoder->verdict = encoder->verdict ? encoder->verdict : VERDICT_LIMIT;
		return;
	}
	if (!room(encoder, bytes))
		return;
	encoder->at = codec_put_long(encoder->at, (int64_t)text.size);
	if (text.size) {
		memcpy(encoder->at, text.bytes, text.size);
		encoder->at += text.size;
	}
}

/* The branches of every optional field are [null, value]. */
enum { BRANCH_NULL = 0, BRANCH_VALUE = 2 };     /* 0 and 1, zigzag */

static inline void put_optional_text(struct encoder *encoder, struct text_view text)
{
	put_byte(encoder, text.bytes ? BRANCH_VALUE : BRANCH_NULL);
	if (text.bytes)
		put_text(encoder, text);
}

static inline void put_optional_float(struct encoder *encoder, bool has, float value)
{
	put_byte(encoder, has ? BRANCH_VALUE : BRANCH_NULL);
	if (has)
		put_float(encoder, value);
}

static inline void put_optional_long(struct encoder *encoder, bool has, int64_t value)
{
	put_byte(encoder, has ? BRANCH_VALUE : BRANCH_NULL);
	if (has)
		put_long(encoder, value);
}

static void bad_enum(struct encoder *encoder, const char *what, long long value)
{
	if (encoder->verdict != VERDICT_OK)
		return;
	encoder->verdict = VERDICT_BAD;
	encoder->what = what;
	encoder->value = value;
	encoder->end = encoder->at;     /* later puts must ask, and hear no */
}

static inline void put_enum(struct encoder *encoder, const char *what, unsigned value, unsigned count)
{
	if (value >= count)
		bad_enum(encoder, what, (int)value);
	else
		put_byte(encoder, (char)(value << 1));
}

/* An array is one block of all its items (its count comes first), then the empty block. */
static inline void put_count(struct encoder *encoder, size_t count)
{
	if (count)
		put_long(encoder, (int64_t)count);
}

static void put_floats(struct encoder *encoder, const float *values, size_t count)
{
	size_t bytes;
	if (!mem_multiply(count, sizeof *values, &bytes) || bytes > SIZE_MAX - 2 * CODEC_LONG_BYTES_MAX) {
		encoder->verdict = encoder->verdict ? encoder->verdict : VERDICT_LIMIT;
		return;
	}
	if (!room(encoder, bytes + CODEC_LONG_BYTES_MAX + 1))
		return;
	if (count) {
		encoder->at = codec_put_long(encoder->at, (int64_t)count);
		memcpy(encoder->at, values, bytes);
		encoder->at += bytes;
	}
	*encoder->at++ = 0;
}

static void put_history(struct encoder *encoder, const struct history_entry *entries, size_t count)
{
	put_count(encoder, count);
	for (size_t i = 0; i < count && encoder->verdict == VERDICT_OK; i++) {
		put_text(encoder, entries[i].item_id);
		put_text(encoder, entries[i].text);
		put_enum(encoder, "interaction kind", entries[i].kind, INTERACTION_KINDS);
		put_optional_float(encoder, entries[i].has_rating, entries[i].rating);
		put_long(encoder, entries[i].event_time_ms);
	}
	put_byte(encoder, 0);
}

static void put_item(struct encoder *encoder, const struct item_event *item)
{
	put_text(encoder, item->item_id);
	put_text(encoder, item->title);
	put_count(encoder, item->attributes_count);
	for (size_t i = 0; i < item->attributes_count && encoder->verdict == VERDICT_OK; i++) {
		put_text(encoder, item->attributes[i].name);
		put_text(encoder, item->attributes[i].value);
	}
	put_byte(encoder, 0);
	put_long(encoder, item->event_time_ms);
	put_byte(encoder, item->deleted);
}

static void put_interaction(struct encoder *encoder, const struct interaction_event *interaction)
{
	put_text(encoder, interaction->user_id);
	put_optional_text(encoder, interaction->item_id);
	put_enum(encoder, "interaction kind", interaction->kind, INTERACTION_KINDS);
	put_byte(encoder, interaction->has_rating ? BRANCH_VALUE : BRANCH_NULL);
	if (interaction->has_rating)
		put_double(encoder, interaction->rating);
	put_optional_text(encoder, interaction->impression_id);
	put_long(encoder, interaction->event_time_ms);
}

static void put_impression(struct encoder *encoder, const struct impression_event *impression)
{
	put_text(encoder, impression->impression_id);
	put_text(encoder, impression->user_id);
	put_count(encoder, impression->candidates_count);
	for (size_t i = 0; i < impression->candidates_count && encoder->verdict == VERDICT_OK; i++)
		put_text(encoder, impression->candidates[i]);
	put_byte(encoder, 0);
	put_long(encoder, impression->event_time_ms);
	put_optional_long(encoder, impression->has_deadline, impression->deadline_ms);
}

static void put_scoring_request(struct encoder *encoder, const struct scoring_request *request)
{
	put_text(encoder, request->impression_id);
	put_text(encoder, request->user_id);
	put_enum(encoder, "prediction status", request->status, PREDICTION_STATUSES);
	put_history(encoder, request->history, request->history_count);
	put_count(encoder, request->examples_count);
	for (size_t i = 0; i < request->examples_count && encoder->verdict == VERDICT_OK; i++) {
		put_float(encoder, request->examples[i].similarity);
		put_history(encoder, request->examples[i].entries, request->examples[i].entries_count);
	}
	put_byte(encoder, 0);
	put_floats(encoder, request->user_statistics, request->user_statistics_count);
	put_count(encoder, request->candidates_count);
	for (size_t i = 0; i < request->candidates_count && encoder->verdict == VERDICT_OK; i++) {
		put_text(encoder, request->candidates[i].item_id);
		put_text(encoder, request->candidates[i].text);
		put_floats(encoder, request->candidates[i].statistics, request->candidates[i].statistics_count);
	}
	put_byte(encoder, 0);
	put_long(encoder, request->graph_version);
	put_long(encoder, request->event_time_ms);
	put_optional_long(encoder, request->has_deadline, request->deadline_ms);
}

static void put_prediction(struct encoder *encoder, const struct prediction *prediction)
{
	put_text(encoder, prediction->impression_id);
	put_text(encoder, prediction->user_id);
	put_count(encoder, prediction->scores_count);
	for (size_t i = 0; i < prediction->scores_count && encoder->verdict == VERDICT_OK; i++) {
		put_text(encoder, prediction->scores[i].item_id);
		put_float(encoder, prediction->scores[i].p_click);
		put_long(encoder, prediction->scores[i].exit_layer);
		put_optional_float(encoder, prediction->scores[i].has_margin, prediction->scores[i].margin);
	}
	put_byte(encoder, 0);
	put_text(encoder, prediction->model_id);
	put_long(encoder, prediction->graph_version);
	put_long(encoder, prediction->event_time_ms);
	put_long(encoder, prediction->scored_time_ms);
	put_enum(encoder, "prediction status", prediction->status, PREDICTION_STATUSES);
}

static void put_dead_letter(struct encoder *encoder, const struct dead_letter *letter)
{
	put_text(encoder, letter->topic);
	put_long(encoder, letter->partition);
	put_long(encoder, letter->offset);
	put_text(encoder, letter->stage);
	put_text(encoder, letter->reason);
	put_text(encoder, letter->error);
	put_optional_text(encoder, letter->key);
	put_optional_text(encoder, letter->value);
}

enum status codec_encode(const struct event *event, struct byte_buffer *buffer, struct error *error)
{
	struct encoder encoder = {.buffer = buffer, .start = buffer->size};
	size_t size;

	if (buffer->bytes) {
		encoder.at = buffer->bytes + buffer->size;
		encoder.end = buffer->bytes + buffer->capacity;
	}
	switch (event->type) {
	case RECORD_ITEM: put_item(&encoder, &event->item); break;
	case RECORD_IMPRESSION: put_impression(&encoder, &event->impression); break;
	case RECORD_INTERACTION: put_interaction(&encoder, &event->interaction); break;
	case RECORD_SCORING_REQUEST: put_scoring_request(&encoder, &event->scoring_request); break;
	case RECORD_PREDICTION: put_prediction(&encoder, &event->prediction); break;
	case RECORD_DEAD_LETTER: put_dead_letter(&encoder, &event->dead_letter); break;
	default: bad_enum(&encoder, "record type", (int)event->type); break;
	}
	size = encoder.at ? (size_t)(encoder.at - buffer->bytes) : buffer->size;
	if (encoder.verdict == VERDICT_OK && size > buffer->bytes_max)
		encoder.verdict = VERDICT_LIMIT;
	switch (encoder.verdict) {
	case VERDICT_OK:
		buffer->size = size;
		return STATUS_OK;
	case VERDICT_LIMIT:
		return error_set(error, STATUS_LIMIT, "%s needs more than the %zu bytes left of %zu",
				 record_type_name(event->type),
				 buffer->bytes_max > encoder.start ? buffer->bytes_max - encoder.start : 0,
				 buffer->bytes_max);
	case VERDICT_NO_MEMORY:
		return error_set(error, STATUS_NO_MEMORY, "no memory to encode a %s",
				 record_type_name(event->type));
	case VERDICT_BAD:
		break;
	}
	return error_set(error, STATUS_BAD_RECORD, "%s cannot be encoded: %lld is no %s",
			 record_type_name(event->type), encoder.value, encoder.what);
}
