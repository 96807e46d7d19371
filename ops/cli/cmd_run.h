/* cmd_run.h - the options of `exitpoll run` as parsed, shared by the run itself and its dry run. */
#ifndef EXITPOLL_OPS_CLI_CMD_RUN_H
#define EXITPOLL_OPS_CLI_CMD_RUN_H

#include "base/config.h"
#include "ops/cli/endpoint.h"
#include "ops/cli/pipeline.h"
#include "ops/cli/settings.h"
#include "ops/cli/state.h"

struct run_options {
	struct endpoint from, to;
	enum stage stage;
	const char *state;              /* NULL: none (files) or the setting's (Kafka) */
	const char *model;
	bool until_end;
	bool force;
	bool dry_run;
	bool json;
	bool quiet;
	size_t show;
};

/* Everything a run needs, made in the order of the struct and destroyed in reverse. */
struct run_parts {
	struct config *config;
	struct settings_lists lists;
	struct updater_options updater_options;
	struct scorer_options scorer_options;
	struct topic_names topics;
	struct event_limits limits;
	struct state state;
	char state_folder[4096];        /* empty: no state */
	char transactional_id[256];
	char group_instance_id[256];
	struct registry *registry;
	struct scorer *scorer;
	struct source *source;
	struct sink *sink;
};

/* Fills parts from options; whatever was made before a failure is destroyed by run_parts_destroy(). */
enum status run_parts_create(const struct run_options *options, struct run_parts *parts,
			     struct error *error);
void run_parts_destroy(struct run_parts *parts);

/* --dry-run: checks what can be checked without starting, prints what was found and the effective
 * settings with their origin; returns the exit code. */
int run_dry(const struct run_options *options, struct run_parts *parts);

#endif
