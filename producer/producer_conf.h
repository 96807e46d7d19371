/* producer_conf.h - makes the Kafka producers of a sink: what every one of them has in common, the
 * settings passed through, and its log lines (secrets removed). Any thread. */
#ifndef EXITPOLL_PRODUCER_PRODUCER_CONF_H
#define EXITPOLL_PRODUCER_PRODUCER_CONF_H

#include "base/status.h"
#include "schemas/kafka_settings.h"

#include <librdkafka/rdkafka.h>

struct producer_conf {
	const char *brokers;
	const struct kafka_setting *settings;   /* [settings_count], borrowed as long as the client lives */
	size_t settings_count;
	const char *transactional_id;           /* NULL: idempotent only */
	int64_t transaction_timeout_ms;
	size_t message_bytes_max;
	void (*delivered)(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque);
	void *opaque;                           /* of `delivered` */
};

/* A client (threads started, not necessarily connected). conf is borrowed while the client lives: its
 * settings are what log lines are scrubbed of. STATUS_CONFIG names the property at fault. */
enum status producer_conf_client(const struct producer_conf *conf, rd_kafka_t **out, struct error *error);

#endif
