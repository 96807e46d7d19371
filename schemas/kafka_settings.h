/* kafka_settings.h - librdkafka settings that pass through from the configuration to sources and
 * sinks. Plain names and values: no Kafka header is needed to hold them. Values may be secrets and are
 * never printed. */
#ifndef EXITPOLL_SCHEMAS_KAFKA_SETTINGS_H
#define EXITPOLL_SCHEMAS_KAFKA_SETTINGS_H

struct kafka_setting {
	const char *name;               /* librdkafka's own name, without "kafka." */
	const char *value;
};

#endif
