/* consumer_conf.c - one place that knows the properties of our consumers.
 *
 * Idea: fixed properties first, then the passed-through ones, which may change speed and security but
 * nothing on which a guarantee rests (kafka_setting_reserved()).
 * Called by source_kafka.c. The log callback runs on any of the client's threads. */
#include "consumer/consumer_conf.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdatomic.h>
#include <string.h>

static enum kafka_setting_result set_property(void *context, const char *name, const char *value)
{
	char text[256];

	switch (rd_kafka_conf_set(context, name, value, text, sizeof(text))) {
	case RD_KAFKA_CONF_OK:
		return KAFKA_SETTING_OK;
	case RD_KAFKA_CONF_UNKNOWN:
		return KAFKA_SETTING_UNKNOWN;
	default:
		return KAFKA_SETTING_INVALID;
	}
}

static void log_line(const rd_kafka_t *client, int level, const char *facility, const char *message)
{
	const struct consumer_conf *conf = rd_kafka_opaque(client);

	/* Told by the client's own thread: a caller that waits for a producer does not serve callbacks. */
	if (conf && conf->session_lost_ns && strcmp(facility, "SESSTMOUT") == 0)
		atomic_store(conf->session_lost_ns, clock_steady_ns());
	kafka_settings_log(conf ? conf->settings : NULL, conf ? conf->settings_count : 0, "consumer", level, facility,
			   message);
}

static void error_happened(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
	const struct consumer_conf *conf = opaque;

	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		log_warning("kafka.down", "client=consumer");
	if (conf->failed)
		conf->failed(client, code, reason, conf->opaque);
}

static void rebalance_happened(rd_kafka_t *client, rd_kafka_resp_err_t code,
			       rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
	const struct consumer_conf *conf = opaque;

	conf->rebalanced(client, code, partitions, conf->opaque);
}

static enum status fixed_properties(const struct consumer_conf *conf, rd_kafka_conf_t *properties,
				    struct error *error)
{
	const struct kafka_setting fixed[] = {
		{"bootstrap.servers", conf->brokers},
		{"client.id", "exitpoll"},
		{"group.id", conf->group_id},
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"enable.partition.eof", "true"},
		{"auto.offset.reset", "error"},
		{"isolation.level", conf->uncommitted ? "read_uncommitted" : "read_committed"},
		{"partition.assignment.strategy", "range"},
		{"session.timeout.ms", "10000"},
		{"heartbeat.interval.ms", "2000"},
		/* A dead process is known by its session. One that scores ten thousand candidates is alive, and would
		 * begin again and again if the group gave its partitions away meanwhile. */
		{"max.poll.interval.ms", "86400000"},
		{"socket.nagle.disable", "true"},
		/* How late the end of a partition is seen when nothing comes: part of every start. */
		{"fetch.wait.max.ms", "50"},
		{"fetch.error.backoff.ms", "50"},
		{"retry.backoff.ms", "20"},
		{"reconnect.backoff.max.ms", "2000"},
		/* Bytes alone bound what waits inside the client: its other bound stops fetching for a second. */
		{"queued.min.messages", "1000000"},
		{"queued.max.messages.kbytes", "32768"},
		{"log.connection.close", "false"},
		{"group.instance.id", conf->instance_id},
	};
	size_t count = sizeof(fixed) / sizeof(fixed[0]) - (conf->instance_id ? 0 : 1);

	for (size_t i = 0; i < count; i++)
		if (set_property(properties, fixed[i].name, fixed[i].value) != KAFKA_SETTING_OK)
			return error_set(error, STATUS_CONFIG, "librdkafka refuses %s = %s for the consumer",
					 fixed[i].name, fixed[i].value ? fixed[i].value : "(nothing)");
	return STATUS_OK;
}

enum status consumer_conf_client(const struct consumer_conf *conf, rd_kafka_t **out, struct error *error)
{
	rd_kafka_conf_t *properties = rd_kafka_conf_new();
	rd_kafka_t *client;
	size_t known_count = 0;
	const char **known = rd_kafka_conf_dump(properties, &known_count);
	char text[512];
	enum status status = fixed_properties(conf, properties, error);

	if (status == STATUS_OK)
		status = kafka_settings_apply(conf->settings, conf->settings_count, set_property, properties,
					      known, known_count, error);
	rd_kafka_conf_dump_free(known, known_count);
	if (status != STATUS_OK)
		goto cleanup;
	rd_kafka_conf_set_opaque(properties, (void *)conf);
	rd_kafka_conf_set_log_cb(properties, log_line);
	if (conf->failed)
		rd_kafka_conf_set_error_cb(properties, error_happened);
	if (conf->rebalanced)
		rd_kafka_conf_set_rebalance_cb(properties, rebalance_happened);
	client = rd_kafka_new(RD_KAFKA_CONSUMER, properties, text, sizeof(text));
	if (!client) {
		kafka_settings_scrub(conf->settings, conf->settings_count, text);
		status = error_set(error, STATUS_CONFIG, "cannot make a Kafka consumer: %s", text);
		goto cleanup;
	}
	*out = client;
	return STATUS_OK;

cleanup:
	rd_kafka_conf_destroy(properties);
	return status;
}
