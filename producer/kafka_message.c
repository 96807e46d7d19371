/* kafka_message.c - what each kind of event looks like on the wire of Kafka.
 *
 * Idea: all knowledge of keys, nulls, framing and headers of output is in this file; the transactions
 * around it know bytes only. Called by sink_kafka.c, one thread. */
#include "producer/kafka_message.h"

#include <inttypes.h>
#include <stdio.h>

enum { HEADERS_MAX = 8 };

static bool add_header(rd_kafka_headers_t *headers, const char *name, struct text_view value)
{
	return rd_kafka_header_add(headers, name, -1, value.bytes ? value.bytes : "", (ssize_t)value.size) ==
	       RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool add_number(rd_kafka_headers_t *headers, const char *name, int64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, value);
	return add_header(headers, name, text_of(text));
}

static enum status dead_letter(struct message_encoder *encoder, const struct dead_letter *letter,
			       struct outgoing *out, struct error *error)
{
	rd_kafka_headers_t *headers = out->headers;
	size_t limit = encoder->record_bytes_max;
	bool cut = letter->value.size > limit, good;

	good = add_header(headers, "exitpoll.topic", letter->topic) &&
	       add_number(headers, "exitpoll.partition", letter->partition) &&
	       add_number(headers, "exitpoll.offset", letter->offset) &&
	       add_header(headers, "exitpoll.stage", letter->stage) &&
	       add_header(headers, "exitpoll.reason", letter->reason) &&
	       add_header(headers, "exitpoll.error", text_cut(letter->error, ERROR_TEXT_BYTES)) &&
	       (!cut || add_number(headers, "exitpoll.size", (int64_t)letter->value.size));
	if (!good)
		return error_set(error, STATUS_NO_MEMORY, "out of memory for the headers of a dead letter");
	out->value = letter->value.bytes;
	out->value_size = cut ? limit : letter->value.size;
	out->key = letter->key.bytes;
	/* A key that alone is over the limit cannot have come through this limit; it is cut as well. */
	out->key_size = letter->key.size < KAFKA_MESSAGE_OVERHEAD_BYTES / 2 ? letter->key.size :
			KAFKA_MESSAGE_OVERHEAD_BYTES / 2;
	return STATUS_OK;
}

static enum status framed_body(struct message_encoder *encoder, const struct event *event,
			       struct outgoing *out, struct error *error)
{
	struct byte_buffer *buffer = &encoder->buffer;
	char framing[FRAMING_BYTES];
	enum status status;

	if (!encoder->known[event->type]) {
		status = registry_writer_id(encoder->registry, event->type, out->topic,
					    &encoder->writer_id[event->type], error);
		if (status != STATUS_OK)
			return status;
		encoder->known[event->type] = true;
	}
	framing_write(encoder->writer_id[event->type], framing);
	buffer->size = 0;
	buffer->bytes_max = encoder->record_bytes_max + FRAMING_BYTES;
	if (!byte_buffer_append(buffer, framing, sizeof(framing)))
		return error_set(error, STATUS_NO_MEMORY, "out of memory for a message to %s", out->topic);
	status = codec_encode(event, buffer, error);
	if (status != STATUS_OK)
		return status;
	out->value = buffer->bytes;
	out->value_size = buffer->size;
	return STATUS_OK;
}

enum status message_encode(struct message_encoder *encoder, const struct event *event,
			   struct text_view traceparent, struct outgoing *out, struct error *error)
{
	struct text_view key = event_key(event);
	struct outgoing message = {
		.topic = encoder->topics.name[topic_of_record_type(event->type)],
		.key = key.bytes,
		.key_size = key.size,
	};
	enum status status = STATUS_OK;

	if (traceparent.size || event->type == RECORD_DEAD_LETTER) {
		message.headers = rd_kafka_headers_new(HEADERS_MAX);
		if (traceparent.size && !add_header(message.headers, "traceparent", text_cut(traceparent, 256)))
			status = error_set(error, STATUS_NO_MEMORY, "out of memory for a header");
	}
	if (status == STATUS_OK && event->type == RECORD_DEAD_LETTER)
		status = dead_letter(encoder, &event->dead_letter, &message, error);
	else if (status == STATUS_OK && event->type == RECORD_ITEM && event->item.deleted)
		message.timestamp_ms = event->item.event_time_ms > 0 ? event->item.event_time_ms : 0;
	else if (status == STATUS_OK)
		status = framed_body(encoder, event, &message, error);
	if (status != STATUS_OK) {
		if (message.headers)
			rd_kafka_headers_destroy(message.headers);
		return status;
	}
	*out = message;
	return STATUS_OK;
}
