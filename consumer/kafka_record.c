/* kafka_record.c - from a Kafka message to a merge entry and on to a record of a batch.
 *
 * Idea: what waits in the merge is one block of memory (header, then key, value, trace, sort key and
 * error text), so that the bytes a lane holds are known and one free drops it.
 * Invariant: whether an entry is bad is decided once, at read; write never finds a new fault.
 * Called by kafka_fetch.c and source_kafka.c, one thread. */
#include "consumer/kafka_record.h"

#include <stdio.h>

enum { TRACEPARENT_BYTES_MAX = 256 };

struct payload {
	enum status status;             /* OK, or of class BAD */
	const char *reason;
	int64_t timestamp_ms;
	bool has_key, has_value;
	size_t key_size, value_size, trace_size, sort_size, error_size;
	char bytes[];                   /* in this order */
};

struct found {                          /* what the first decode says */
	enum status status;
	const char *reason;
	char error[ERROR_TEXT_BYTES];
	int64_t event_time_ms;
	struct text_view sort_key;      /* dead with the scratch arena and the message */
};

static void found_bad(struct found *found, enum status status, const char *reason, const char *text)
{
	found->status = status;
	found->reason = reason;
	snprintf(found->error, sizeof(found->error), "%s", text);
}

static int64_t timestamp_of(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	int64_t timestamp = rd_kafka_message_timestamp(message, &type);

	return type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp;
}

static void deletion(struct text_view key, int64_t timestamp_ms, struct event *out)
{
	*out = (struct event){.type = RECORD_ITEM,
			      .item = {.item_id = key, .event_time_ms = timestamp_ms, .deleted = true}};
}

static enum status examine(const struct record_reader *reader, enum topic topic,
			   const rd_kafka_message_t *message, struct found *found, struct error *error)
{
	struct text_view key = {message->key, message->key_len};
	struct text_view value = {message->payload, message->len};
	struct error local = {0};
	struct event event;
	const char *malformed;
	enum status status;
	char text[128];

	arena_reset(reader->scratch);
	found->status = STATUS_OK;
	if (!value.bytes && topic == TOPIC_ITEMS) {
		deletion(key, timestamp_of(message), &event);
	} else if (!value.bytes) {
		found_bad(found, STATUS_BAD_RECORD, "null-value", "a null value means something for items only");
		return STATUS_OK;
	} else if (value.size > reader->limits.record_bytes_max + FRAMING_BYTES) {
		snprintf(text, sizeof(text), "%zu bytes, the limit of a record is %zu", value.size,
			 reader->limits.record_bytes_max);
		found_bad(found, STATUS_LIMIT, "too-large", text);
		return STATUS_OK;
	} else {
		status = registry_decode(reader->registry, topic_record_type(topic), value, reader->scratch, &event,
					 &local);
		if (status_class(status) == STATUS_CLASS_BAD) {
			found_bad(found, status, status == STATUS_UNKNOWN_SCHEMA ? "unknown-schema" :
				  status == STATUS_LIMIT ? "over-limit" : "undecodable", local.text);
			return STATUS_OK;
		}
		if (status != STATUS_OK)
			return error_set(error, status, "%s [%d] at offset %lld: %s",
					 rd_kafka_topic_name(message->rkt), message->partition,
					 (long long)message->offset, local.text);
	}
	malformed = event_malformed(&event, &reader->limits);
	if (malformed) {
		found_bad(found, STATUS_BAD_RECORD, malformed, malformed);
		return STATUS_OK;
	}
	found->event_time_ms = event_time_ms(&event);
	found->sort_key = event_key(&event);
	return STATUS_OK;
}

static struct text_view trace_of(const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *headers;
	const void *value;
	size_t size;

	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
	    rd_kafka_header_get_last(headers, "traceparent", &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR ||
	    !value || size > TRACEPARENT_BYTES_MAX)
		return (struct text_view){NULL, 0};
	return (struct text_view){value, size};
}

static char *put(char *at, struct text_view text)
{
	if (text.size)
		memcpy(at, text.bytes, text.size);
	return at + text.size;
}

enum status kafka_record_read(const struct record_reader *reader, const rd_kafka_message_t *message,
			      struct position position, struct merge_entry *entry, struct error *error)
{
	struct text_view key = {message->key, message->key_len}, trace = trace_of(message), reason;
	struct text_view value = {message->payload, message->len};
	struct found found = {0};
	struct payload *payload;
	size_t bytes;
	char *at;
	enum status status = examine(reader, position.topic, message, &found, error);

	if (status != STATUS_OK)
		return status;
	reason = text_of(found.error);
	/* Each size is bounded by a Kafka message, so the sum cannot overflow. */
	bytes = sizeof(*payload) + key.size + value.size + trace.size + found.sort_key.size + reason.size;
	payload = mem_alloc(bytes);
	if (!payload)
		return error_set(error, STATUS_NO_MEMORY, "out of memory for a record of %zu bytes", bytes);
	*payload = (struct payload){
		.status = found.status,
		.reason = found.reason,
		.timestamp_ms = timestamp_of(message),
		.has_key = key.bytes,
		.has_value = value.bytes,
		.key_size = key.size,
		.value_size = value.size,
		.trace_size = trace.size,
		.sort_size = found.sort_key.size,
		.error_size = reason.size,
	};
	at = put(put(put(payload->bytes, key), value), trace);
	*entry = (struct merge_entry){
		.event_time_ms = found.event_time_ms,
		.position = position,
		.key = {at, found.sort_key.size},
		.bytes = bytes,
		.bad = found.status != STATUS_OK,
		.payload = payload,
	};
	put(put(at, found.sort_key), reason);
	return STATUS_OK;
}

enum status kafka_record_write(const struct record_reader *reader, const struct merge_entry *entry,
			       struct arena *arena, struct record *out, struct error *error)
{
	const struct payload *payload = entry->payload;
	struct record record = {
		.position = entry->position,
		.status = payload->status,
		.reason = payload->reason,
		.late = entry->late,
	};
	size_t raw = payload->key_size + payload->value_size + payload->trace_size;
	char *copy = arena_alloc(arena, raw + payload->error_size + 1);
	enum status status;

	if (!copy)
		return error_set(error, STATUS_LIMIT, "the batch's memory is full");
	memcpy(copy, payload->bytes, raw);
	memcpy(copy + raw, payload->bytes + raw + payload->sort_size, payload->error_size);
	if (payload->has_key)
		record.key = (struct text_view){copy, payload->key_size};
	if (payload->has_value)
		record.value = (struct text_view){copy + payload->key_size, payload->value_size};
	if (payload->trace_size)
		record.traceparent = (struct text_view){copy + payload->key_size + payload->value_size,
							payload->trace_size};
	if (payload->error_size)
		record.error = (struct text_view){copy + raw, payload->error_size};
	if (payload->status == STATUS_OK && !payload->has_value) {
		deletion(record.key, payload->timestamp_ms, &record.event);
	} else if (payload->status == STATUS_OK) {
		/* The plan is cached since the read: this neither waits nor finds anything new. */
		status = registry_decode(reader->registry, topic_record_type(entry->position.topic), record.value,
					 arena, &record.event, error);
		if (status != STATUS_OK)
			return status;
	}
	*out = record;
	return STATUS_OK;
}

void kafka_record_free(void *payload)
{
	mem_free(payload);
}
