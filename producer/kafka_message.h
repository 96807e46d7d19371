/* kafka_message.h - an event as a Kafka message: topic, key, framed body, headers.
 * One thread per encoder. */
#ifndef EXITPOLL_PRODUCER_KAFKA_MESSAGE_H
#define EXITPOLL_PRODUCER_KAFKA_MESSAGE_H

#include "base/status.h"
#include "producer/transactional.h"
#include "schemas/codec.h"
#include "schemas/registry.h"
#include "schemas/topic.h"

/* Room of a message beyond the encoded record: framing, key, headers, what Kafka adds to a batch. */
enum { KAFKA_MESSAGE_OVERHEAD_BYTES = 65536 };

struct message_encoder {
	struct topic_names topics;
	struct registry *registry;              /* borrowed */
	size_t record_bytes_max;
	struct byte_buffer buffer;              /* free with byte_buffer_free() */
	bool known[RECORD_TYPES];               /* whether writer_id is known */
	uint32_t writer_id[RECORD_TYPES];
};

/* Fills *out, whose value lies in the encoder until the next call; its key is borrowed from the event;
 * its headers belong to the caller (transactional_produce() takes them).
 * - A deleted item is a null value with the event time as timestamp, as compaction wants it.
 * - A dead letter keeps its original key and value; the rest goes into headers exitpoll.*. A value over
 *   the record limit is cut to it, and exitpoll.size holds the original size.
 * STATUS_LIMIT: over record_bytes_max; RETRY: the registry is down. */
enum status message_encode(struct message_encoder *encoder, const struct event *event,
			   struct text_view traceparent, struct outgoing *out, struct error *error);

#endif
