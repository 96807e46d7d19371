/* settings.h - the one table of settings, and the option structs of the stages filled from it. */
#ifndef EXITPOLL_OPS_CLI_SETTINGS_H
#define EXITPOLL_OPS_CLI_SETTINGS_H

#include "base/config.h"
#include "schemas/kafka_settings.h"
#include "scorer/scorer.h"
#if EXITPOLL_KAFKA
#include "graph-updater/updater.h"
#include "schemas/registry.h"
#include "schemas/topic.h"
#endif

#include <stdio.h>

/* A config with the project's table; NULL: no memory. */
struct config *settings_create(void);

/* File (may be NULL), then the environment, then --set pairs [count]. */
enum status settings_load(struct config *config, const char *file, char *const *pairs, size_t count,
			  struct error *error);

/* Effective settings with their origin, secrets hidden; as a table or as JSON. */
void settings_print(const struct config *config, bool json, FILE *out);
/* Every key with default, range and help. */
void settings_help(FILE *out);

void settings_logging(const struct config *config);
void settings_scorer(const struct config *config, struct scorer_options *options);

#if EXITPOLL_KAFKA
enum { SETTINGS_LIST_MAX = 16, SETTINGS_KAFKA_MAX = 256 };

/* Storage for lists that option structs point to. */
struct settings_lists {
	char attribute_text[1024];
	const char *attributes[SETTINGS_LIST_MAX];
	struct kafka_setting kafka[SETTINGS_KAFKA_MAX];
	size_t kafka_count;
};
enum status settings_updater(const struct config *config, struct settings_lists *lists,
			     struct updater_options *options, struct error *error);
void settings_registry(const struct config *config, struct registry_options *options);
void settings_topics(const struct config *config, struct topic_names *names);
void settings_kafka(const struct config *config, struct settings_lists *lists);
void settings_limits(const struct config *config, struct event_limits *limits);
#endif

#endif
