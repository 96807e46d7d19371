/* consumer_conf.h - makes the Kafka clients of a source: common properties, the settings passed through,
 * log lines without secrets. Any thread. */
#ifndef EXITPOLL_CONSUMER_CONSUMER_CONF_H
#define EXITPOLL_CONSUMER_CONSUMER_CONF_H

#include "base/status.h"
#include "schemas/kafka_settings.h"

#include <librdkafka/rdkafka.h>

struct consumer_conf {
	const char *brokers;
	const struct kafka_setting *settings;   /* [settings_count], borrowed as long as a client lives */
	size_t settings_count;
	const char *group_id;
	const char *instance_id;                /* group.instance.id; NULL: dynamic member */
	_Atomic int64_t *session_lost_ns;       /* when the group was last silent for a whole session; NULL: nobody asks */
	bool uncommitted;                       /* true: sees high watermarks, for questions only */
	void (*rebalanced)(rd_kafka_t *client, rd_kafka_resp_err_t code,
			   rd_kafka_topic_partition_list_t *partitions, void *opaque);
	void (*failed)(rd_kafka_t *client, int code, const char *reason, void *opaque);
	void *opaque;                           /* of the callbacks */
};

/* A client whose opaque is `conf` (borrowed while the client lives; so are the callbacks' opaque).
 * STATUS_CONFIG names the property at fault. */
enum status consumer_conf_client(const struct consumer_conf *conf, rd_kafka_t **out, struct error *error);

#endif
