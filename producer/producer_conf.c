/* producer_conf.c - one place that knows the properties of our producers.
 *
 * Idea: fixed properties first, then the passed-through ones, which may override defaults of speed but
 * none on which a guarantee rests (kafka_setting_reserved()).
 * Called by transactional.c, sink_kafka.c and topics.c. Any thread. */
#include "producer/producer_conf.h"

#include "base/log.h"

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
	const struct producer_conf *conf = rd_kafka_opaque(client);

	kafka_settings_log(conf ? conf->settings : NULL, conf ? conf->settings_count : 0, "producer", level, facility,
			   message);
}

static void error_happened(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
	(void)client, (void)opaque, (void)reason;
	/* Errors come back from the calls that meet them; this one concerns all of them. */
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		log_warning("kafka.down", "client=producer");
}

static void message_delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
	const struct producer_conf *conf = opaque;

	if (conf->delivered)
		conf->delivered(client, message, conf->opaque);
}

static enum status fixed_properties(const struct producer_conf *conf, rd_kafka_conf_t *properties,
				    struct error *error)
{
	char timeout[24], bytes[24];
	struct kafka_setting fixed[] = {
		{"bootstrap.servers", conf->brokers},
		{"client.id", "exitpoll"},
		{"enable.idempotence", "true"},
		{"partitioner", "murmur2_random"},
		{"socket.nagle.disable", "true"},
		{"retry.backoff.ms", "5"},
		{"linger.ms", "2"},
		{"compression.codec", "lz4"},
		{"queue.buffering.max.kbytes", "262144"},
		{"log.connection.close", "false"},
		{"message.max.bytes", bytes},
		{"transactional.id", conf->transactional_id},
		{"transaction.timeout.ms", timeout},
	};
	size_t count = sizeof(fixed) / sizeof(fixed[0]) - (conf->transactional_id ? 0 : 2);

	snprintf(timeout, sizeof(timeout), "%lld", (long long)conf->transaction_timeout_ms);
	snprintf(bytes, sizeof(bytes), "%zu", conf->message_bytes_max);
	for (size_t i = 0; i < count; i++)
		if (set_property(properties, fixed[i].name, fixed[i].value) != KAFKA_SETTING_OK)
			return error_set(error, STATUS_CONFIG, "librdkafka refuses %s = %s for the producer",
					 fixed[i].name, fixed[i].value ? fixed[i].value : "(nothing)");
	return STATUS_OK;
}

enum status producer_conf_client(const struct producer_conf *conf, rd_kafka_t **out, struct error *error)
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
	rd_kafka_conf_set_error_cb(properties, error_happened);
	rd_kafka_conf_set_dr_msg_cb(properties, message_delivered);
	client = rd_kafka_new(RD_KAFKA_PRODUCER, properties, text, sizeof(text));
	if (!client) {
		kafka_settings_scrub(conf->settings, conf->settings_count, text);
		status = error_set(error, STATUS_CONFIG, "cannot make a Kafka producer: %s", text);
		goto cleanup;
	}
	*out = client;
	return STATUS_OK;

cleanup:
	rd_kafka_conf_destroy(properties);
	return status;
}
