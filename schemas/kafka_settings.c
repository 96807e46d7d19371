/* kafka_settings.c - what may be passed through to the Kafka client, and how secrets stay secret.
 *
 * Idea: one list of names on which a guarantee rests, one rule for what is a secret; the client's own
 * library is reached through a callback, so that this file needs no Kafka header.
 * Called by consumer and producer when they make a client, and by their log callbacks. Any thread. */
#include "schemas/kafka_settings.h"

#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	const char *reason;
} reserved[] = {
	{"bootstrap.servers", "the address is given by --from and --to kafka://host:port"},
	{"metadata.broker.list", "the address is given by --from and --to kafka://host:port"},
	{"group.id", "it is a setting of exitpoll itself, without the prefix kafka."},
	{"group.instance.id", "it follows from instance.id"},
	{"transactional.id", "it follows from instance.id"},
	{"enable.auto.commit", "offsets are committed with the output"},
	{"auto.commit.enable", "offsets are committed with the output"},
	{"auto.commit.interval.ms", "offsets are committed with the output"},
	{"enable.auto.offset.store", "offsets are committed with the output"},
	{"auto.offset.reset", "state.offset.policy decides what happens below the start of the log"},
	{"isolation.level", "inputs are read committed"},
	{"enable.partition.eof", "ends of partitions are needed for the total order"},
	{"partition.assignment.strategy", "this client's other assignors lose partitions"},
	{"enable.idempotence", "delivery = exactly_once | at_least_once decides"},
	{"enable.gapless.guarantee", "delivery = exactly_once | at_least_once decides"},
	{"transaction.timeout.ms", "the time-out of transactions is a setting of its own"},
	{"acks", "idempotent delivery needs all replicas"},
	{"request.required.acks", "idempotent delivery needs all replicas"},
	{"partitioner", "keys go to the partitions that Java clients choose"},
	{"message.max.bytes", "it follows from the record limit"},
};

const char *kafka_setting_reserved(const char *name)
{
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strcmp(name, reserved[i].name) == 0)
			return reserved[i].reason;
	return NULL;
}

bool kafka_setting_is_secret(const char *name)
{
	static const char *const parts[] = {"password", "secret", "key.pem", "token", "jaas",
					    "oauthbearer.config"};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strstr(name, parts[i]))
			return true;
	return false;
}

void kafka_settings_scrub(const struct kafka_setting *settings, size_t count, char *text)
{
	for (size_t i = 0; i < count; i++) {
		size_t size = settings[i].value ? strlen(settings[i].value) : 0;
		bool hidden = kafka_setting_is_secret(settings[i].name) || strstr(settings[i].name, "sasl.username");
		if (size == 0 || !hidden)
			continue;
		for (char *at = strstr(text, settings[i].value); at; at = strstr(at + size, settings[i].value))
			memset(at, '*', size);
	}
}

/* Connections that fail and are tried again: told once, by the error callback, when no broker is left. */
static bool is_noise(const char *facility)
{
	static const char *const noise[] = {"CONFWARN", "FAIL", "ERROR", "REQTMOUT", "GETPID", "TERMINATE"};

	for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++)
		if (strcmp(facility, noise[i]) == 0)
			return true;
	return false;
}

void kafka_settings_log(const struct kafka_setting *settings, size_t count, const char *client, int level,
			const char *facility, const char *message)
{
	enum { SYSLOG_WARNING = 4 };
	enum log_level ours = level <= SYSLOG_WARNING && !is_noise(facility) ? LOG_WARNING : LOG_DEBUG;
	enum { SHOWN = 512 };
	char text[16 * SHOWN];

	/* Scrubbed first and cut afterwards: half a secret could not be found any more. */
	snprintf(text, sizeof(text), "%s", message);
	kafka_settings_scrub(settings, count, text);
	text[SHOWN] = '\0';
	for (char *at = text; *at; at++)
		if (*at == '"')
			*at = '\'';
	log_event(ours, "kafka.client", "client=%s facility=%s message=\"%s\"", client, facility, text);
}

static const char *nearest(const char *name, const char *const *known, size_t known_count)
{
	const char *best = NULL;
	size_t best_distance = strlen(name) / 3 + 1;

	for (size_t i = 0; i + 1 < known_count; i += 2) {
		size_t distance = text_distance(name, known[i]);
		if (distance < best_distance && !kafka_setting_reserved(known[i])) {
			best_distance = distance;
			best = known[i];
		}
	}
	return best;
}

enum status kafka_settings_apply(const struct kafka_setting *settings, size_t count,
				 enum kafka_setting_result (*set)(void *context, const char *name,
								  const char *value),
				 void *context, const char *const *known, size_t known_count,
				 struct error *error)
{
	for (size_t i = 0; i < count; i++) {
		const char *name = settings[i].name;
		const char *reason = kafka_setting_reserved(name), *suggestion;

		if (reason)
			return error_set(error, STATUS_CONFIG, "kafka.%s cannot be set: %s", name, reason);
		switch (set(context, name, settings[i].value ? settings[i].value : "")) {
		case KAFKA_SETTING_OK:
			break;
		case KAFKA_SETTING_UNKNOWN:
			suggestion = nearest(name, known, known_count);
			return error_set(error, STATUS_CONFIG, "kafka.%s: librdkafka knows no such property%s%s%s",
					 name, suggestion ? "; did you mean kafka." : "",
					 suggestion ? suggestion : "", suggestion ? "?" : "");
		case KAFKA_SETTING_INVALID:
			return error_set(error, STATUS_CONFIG, "kafka.%s: librdkafka refuses the value "
					 "(not shown); see its CONFIGURATION.md", name);
		}
	}
	return STATUS_OK;
}
