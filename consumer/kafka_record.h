/* kafka_record.h - a Kafka message on its way through the merge: decoded once to learn its time, kept as
 * bytes while it waits, decoded again into the caller's batch. One thread. */
#ifndef EXITPOLL_CONSUMER_KAFKA_RECORD_H
#define EXITPOLL_CONSUMER_KAFKA_RECORD_H

#include "consumer/merge.h"
#include "consumer/source.h"
#include "schemas/registry.h"

#include <librdkafka/rdkafka.h>

struct record_reader {
	struct registry *registry;      /* borrowed */
	struct event_limits limits;
	struct arena *scratch;          /* borrowed; reset by every read */
};

/* Copies the message into a payload of its own and fills the merge entry (position given by the caller).
 * A message that can never be processed becomes a bad entry, which is STATUS_OK here; RETRY (registry
 * down), NO_MEMORY and INCOMPATIBLE leave *entry alone, and the message can be read again.
 * A null value of `items` is a deletion of the item that the key names, at the message's timestamp. */
enum status kafka_record_read(const struct record_reader *reader, const rd_kafka_message_t *message,
			      struct position position, struct merge_entry *entry, struct error *error);

/* Writes what the entry holds into *out, copied into the arena. The payload stays the caller's.
 * STATUS_LIMIT: the arena is full; *out is untouched. */
enum status kafka_record_write(const struct record_reader *reader, const struct merge_entry *entry,
			       struct arena *arena, struct record *out, struct error *error);

void kafka_record_free(void *payload);                  /* NULL ok */

#endif
