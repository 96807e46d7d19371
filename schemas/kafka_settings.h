/* kafka_settings.h - librdkafka settings that pass through from the configuration to sources and
 * sinks. Plain names and values: no Kafka header is needed to hold them. Values may be secrets and are
 * never printed. Pure functions, any thread. */
#ifndef EXITPOLL_SCHEMAS_KAFKA_SETTINGS_H
#define EXITPOLL_SCHEMAS_KAFKA_SETTINGS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct kafka_setting {
	const char *name;               /* librdkafka's own name, without "kafka." */
	const char *value;
};

/* Why this name is not free to be set (a guarantee depends on it, or another key sets it); NULL: free. */
const char *kafka_setting_reserved(const char *name);

/* Whether a value of this name must never be seen (passwords, private keys, tokens). */
bool kafka_setting_is_secret(const char *name);

/* Overwrites every occurrence of a secret value (and of a user's name) in `text` with '*', in place. */
void kafka_settings_scrub(const struct kafka_setting *settings, size_t count, char *text);

/* One log line of a client ("consumer", "producer"): secrets removed, what is told elsewhere left to the
 * debug level. level is syslog's. The settings are those that the client was made with. */
void kafka_settings_log(const struct kafka_setting *settings, size_t count, const char *client, int level,
			const char *facility, const char *message);

enum kafka_setting_result { KAFKA_SETTING_OK, KAFKA_SETTING_UNKNOWN, KAFKA_SETTING_INVALID };

/* Gives every setting to `set`. `known` holds the client's [known_count] property names at every second
 * place (name, value, name, value, ...), for a suggestion. STATUS_CONFIG names the property that is
 * reserved, unknown or has an invalid value; no value is ever part of the text. */
enum status kafka_settings_apply(const struct kafka_setting *settings, size_t count,
				 enum kafka_setting_result (*set)(void *context, const char *name,
								  const char *value),
				 void *context, const char *const *known, size_t known_count,
				 struct error *error);

#endif
