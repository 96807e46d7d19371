/* transactional.h - one transactional producer: begin, produce, commit or abort, and come back.
 *
 * What can happen to a transaction ends in one of four answers: STATUS_OK (committed), STATUS_RETRY (it
 * is aborted, or its outcome was resolved by starting the producer anew: the caller re-reads the
 * committed offsets and goes on from there), STATUS_FENCED (another instance has taken the
 * transactional.id), or a fatal status with the setting to look at.
 * One thread at a time. */
#ifndef EXITPOLL_PRODUCER_TRANSACTIONAL_H
#define EXITPOLL_PRODUCER_TRANSACTIONAL_H

#include "base/status.h"
#include "schemas/kafka_settings.h"

#include <librdkafka/rdkafka.h>

struct transactional_options {
	const char *brokers;                    /* all borrowed until transactional_destroy() */
	const struct kafka_setting *settings;   /* [settings_count] */
	size_t settings_count;
	const char *id;                         /* transactional.id, copied */
	int64_t transaction_timeout_ms;
	size_t message_bytes_max;
	bool (*stopping)(void);                 /* asked while the first connection is waited for; NULL: never */
};

/* A message to produce; key NULL and value NULL are Kafka's nulls; all copied. */
struct outgoing {
	const char *topic;
	const void *key;
	size_t key_size;
	const void *value;
	size_t value_size;
	int64_t timestamp_ms;                   /* 0: now */
	rd_kafka_headers_t *headers;            /* taken over, whatever the result; NULL: none */
};

struct transactional;

/* Connects and fences: when it returns, no transaction of an earlier producer of this id is open.
 * Blocks up to a minute. STATUS_UNAVAILABLE: no broker answers; INTERRUPTED: stopping(). */
enum status transactional_create(const struct transactional_options *options, struct transactional **out,
				 struct error *error);
/* Leaves an open transaction to be aborted by the broker or by the next producer of this id. NULL ok. */
void transactional_destroy(struct transactional *producer);

bool transactional_open(const struct transactional *producer);
/* Begins when none is open. STATUS_RETRY: the queue stayed full (broker trouble). */
enum status transactional_produce(struct transactional *producer, struct outgoing *message,
				  struct error *error);
/* Sends the offsets (NULL or empty: none) and commits; tries again while that can help, at most until
 * well past the transaction time-out, then resolves by starting anew. */
enum status transactional_commit(struct transactional *producer,
				 const rd_kafka_topic_partition_list_t *offsets,
				 const rd_kafka_consumer_group_metadata_t *group, struct error *error);
/* Drops what was produced since begin. OK when nothing of it will ever be visible. */
enum status transactional_abort(struct transactional *producer, struct error *error);

#endif
