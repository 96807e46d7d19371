/* run_parts.c - builds what a run is made of: settings, state folder, registry, scorer, source, sink. */
#include "ops/cli/cmd_run.h"

#include "ops/cli/cli.h"
#include "ops/cli/progress.h"
#include "ops/cli/seeds_until.h"
#include "schemas/container.h"
#include "scorer/features.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCORER_SLOTS = 64, STATE_WAIT_MS = 12000 };

static bool uses_kafka(const struct run_options *options)
{
	return options->from.kafka || options->to.kafka;
}

/* "file:/absolute/folder" or the topics; what positions in the snapshots refer to. */
static void describe_origin(const struct run_options *options, const struct run_parts *parts, char *out,
			    size_t size)
{
	char absolute[PATH_MAX];

	if (options->from.kafka)
		snprintf(out, size, "kafka topics %s and %s", parts->topics.name[TOPIC_ITEMS],
			 parts->topics.name[TOPIC_INTERACTIONS]);
	else
		snprintf(out, size, "folder %s",
			 realpath(options->from.where, absolute) ? absolute : options->from.where);
}

/* A scorer has no state but its name: it takes the first slot that no other process holds, so that a
 * killed one comes back under its old name and several can share a folder. */
static enum status open_scorer_slot(const char *base, struct run_parts *parts, struct error *error)
{
	enum status status = STATUS_RETRY;

	for (int slot = 1; slot <= SCORER_SLOTS && status == STATUS_RETRY; slot++) {
		char folder[4096];
		if (snprintf(folder, sizeof folder, "%s/scorer-%d", base, slot) >= (int)sizeof folder)
			return error_set(error, STATUS_CANNOT_CREATE, "the path of the state folder is too long");
		status = state_open(folder, NULL, &parts->state, error);
	}
	return status;
}

static enum status open_state(const struct run_options *options, struct run_parts *parts,
			      struct error *error)
{
	const char *folder = options->state;
	char origin[PATH_MAX + 64];
	enum status status;

	if (!folder && uses_kafka(options))
		folder = config_text(parts->config, "state.folder");
	if (!folder)
		return STATUS_OK;
	if (options->stage == STAGE_SCORER)
		status = open_scorer_slot(folder, parts, error);
	else {
		describe_origin(options, parts, origin, sizeof origin);
		status = state_open_waiting(folder, origin, options->dry_run ? 0 : STATE_WAIT_MS, &parts->state,
					    error);
		snprintf(parts->state_folder, sizeof parts->state_folder, "%s", folder);
	}
	if (status != STATUS_OK)
		return status;
	if (config_text(parts->config, "instance.id"))
		snprintf(parts->state.instance_id, sizeof parts->state.instance_id, "%s",
			 config_text(parts->config, "instance.id"));
	snprintf(parts->group_instance_id, sizeof parts->group_instance_id, "%s", parts->state.instance_id);
	snprintf(parts->transactional_id, sizeof parts->transactional_id, "%s-%s", parts->state.instance_id,
		 options->stage == STAGE_SCORER ? "scorer" : "graph-updater");
	return STATUS_OK;
}

static enum status create_registry(struct run_parts *parts, struct error *error)
{
	struct registry_options options;

	settings_registry(parts->config, &options);
	return registry_create(&options, &parts->registry, error);
}

/* Heads that learned what a brand is worth would read another attribute's numbers as if they were that. */
static enum status check_features(const struct run_parts *parts, struct error *error)
{
	const struct updater_options *updater = &parts->updater_options;
	char wanted[FEATURES_NAME_BYTES], trained[256] = "";
	bool same = true;
	size_t count = 0;

	if (!scorer_feature_name(parts->scorer, 0))
		return STATUS_OK;
	for (const char *name; (name = scorer_feature_name(parts->scorer, features_count(count))); count++) {
		size_t used = strlen(trained), size = strlen(name), ending = strlen("_mean");
		snprintf(trained + used, sizeof trained - used, "%s%.*s", count ? "," : "",
			 (int)(size > ending ? size - ending : size), name);
		if (count < updater->attributes_count)
			features_name(features_count(count), updater->attributes, wanted);
		same = same && count < updater->attributes_count && strcmp(name, wanted) == 0;
	}
	if (same && count == updater->attributes_count)
		return STATUS_OK;
	return error_set(error, STATUS_CONFIG,
			 "the model's heads read other statistics than this run has: they were trained with "
			 "--set statistics.attributes=%s", trained);
}

static enum status create_scorer(const struct run_options *options, struct run_parts *parts,
				 struct error *error)
{
	bool live = options->from.kafka && !options->until_end;

	if (options->stage == STAGE_GRAPH_UPDATER)
		return STATUS_OK;
	settings_scorer(parts->config, &parts->scorer_options);
	parts->scorer_options.model = options->model;
	parts->scorer_options.stopping = cli_stopping;
	parts->scorer_options.deadlines = live || config_boolean(parts->config, "deadline.replay");
	struct progress_parts bar = {.wanted = !options->quiet && !options->json};
	struct advance loading = {progress_part, &bar};
	parts->scorer_options.loading = &loading;
	enum status status = scorer_create(&parts->scorer_options, &parts->scorer, error);
	parts->scorer_options.loading = NULL;
	progress_end(&bar.progress);
	return status || options->stage == STAGE_SCORER ? status : check_features(parts, error);
}

static enum status create_source(const struct run_options *options, struct run_parts *parts,
				 struct error *error)
{
	bool graph = options->stage != STAGE_SCORER;

	if (!options->from.kafka) {
		struct source_file_options file = {
			.folder = options->from.where,
			.topics = {[TOPIC_ITEMS] = graph, [TOPIC_INTERACTIONS] = graph,
				   [TOPIC_IMPRESSIONS] = graph, [TOPIC_SCORING_REQUESTS] = !graph},
			.limits = parts->limits,
			.group_records_max = (size_t)config_integer(parts->config, "source.group_records_max"),
		};
		return source_file_create(&file, &parts->source, error);
	}
	struct source_kafka_options kafka = {
		.brokers = options->from.where,
		.settings = parts->lists.kafka,
		.settings_count = parts->lists.kafka_count,
		.topics = parts->topics,
		.read_graph_topics = graph,
		.read_scoring_requests = !graph,
		.group_id = config_text(parts->config, graph ? "group.graph-updater" : "group.scorer"),
		.instance_id = parts->group_instance_id,
		.until_end = options->until_end,
		.stopping = cli_stopping,
		.idle_ms = config_integer(parts->config, "source.idle_ms"),
		.partitions_ms = config_integer(parts->config, "source.partitions_ms"),
		.buffer_bytes_max = (size_t)config_integer(parts->config, "source.buffer_bytes_max"),
		.group_records_max = (size_t)config_integer(parts->config, "source.group_records_max"),
		.offset_policy = config_text(parts->config, "state.offset.policy"),
		.limits = parts->limits,
		.registry = parts->registry,
	};
	return source_kafka_create(&kafka, &parts->source, error);
}

static enum status create_sink(const struct run_options *options, struct run_parts *parts,
			       struct error *error)
{
	bool predicts = options->stage != STAGE_GRAPH_UPDATER;

	if (!options->to.kafka) {
		int64_t until_ms = INT64_MIN;
		char until[24] = "", layers[16] = "";
		const char *unsaid;
		enum status status = STATUS_OK;

		if (predicts)
			scorer_trained_until(parts->scorer, &until_ms);
		if (predicts && options->stage != STAGE_SCORER)
			status = seeds_until(&parts->updater_options, &until_ms, &unsaid, error);
		if (status)
			return status;
		if (until_ms != INT64_MIN)
			snprintf(until, sizeof until, "%" PRId64, until_ms);
		if (predicts)
			snprintf(layers, sizeof layers, "%u", scorer_layers(parts->scorer));
		struct container_metadata metadata[] = {
			{"exitpoll.version", EXITPOLL_VERSION},
			{"exitpoll.model_id", predicts ? scorer_model_id(parts->scorer) : ""},
			{"exitpoll.backend", predicts ? scorer_describe(parts->scorer) : ""},
			{"exitpoll.exits", !predicts ? "" : scorer_is_trained(parts->scorer) ? "trained" : "untrained"},
			{"exitpoll.model_layers", layers},
			{"exitpoll.trained_until", until},
		};
		struct sink_file_options file = {
			.folder = options->to.where,
			.topics = {[TOPIC_PREDICTIONS] = predicts, [TOPIC_SCORING_REQUESTS] = !predicts},
			.force = options->force,
			.record_bytes_max = parts->limits.record_bytes_max,
			.metadata = metadata,
			.metadata_count = predicts ? sizeof metadata / sizeof metadata[0] - !until[0] : 1,
		};
		return sink_file_create(&file, &parts->sink, error);
	}
	bool exactly_once = strcmp(config_text(parts->config, "delivery"), "exactly_once") == 0;
	struct sink_kafka_options kafka = {
		.brokers = options->to.where,
		.settings = parts->lists.kafka,
		.settings_count = parts->lists.kafka_count,
		.topics = parts->topics,
		.transactional_id = exactly_once ? parts->transactional_id : NULL,
		.record_bytes_max = parts->limits.record_bytes_max,
		.registry = parts->registry,
		.stopping = cli_stopping,
	};
	return sink_kafka_create(&kafka, &parts->sink, error);
}

enum status run_parts_create(const struct run_options *options, struct run_parts *parts,
			     struct error *error)
{
	enum status status;

	parts->state.lock_fd = -1;
	settings_topics(parts->config, &parts->topics);
	settings_limits(parts->config, &parts->limits);
	settings_kafka(parts->config, &parts->lists);
	status = settings_updater(parts->config, &parts->lists, &parts->updater_options, error);
	if (status == STATUS_OK)
		status = open_state(options, parts, error);
	if (status == STATUS_OK)
		status = create_registry(parts, error);
	if (status == STATUS_OK)
		status = create_scorer(options, parts, error);
	if (status == STATUS_OK && !options->dry_run)
		status = create_source(options, parts, error);
	if (status == STATUS_OK && !options->dry_run)
		status = create_sink(options, parts, error);
	return status;
}

void run_parts_destroy(struct run_parts *parts)
{
	if (parts->sink)
		parts->sink->class->destroy(parts->sink);
	if (parts->source)
		parts->source->class->destroy(parts->source);
	scorer_destroy(parts->scorer);
	registry_destroy(parts->registry);
	state_close(&parts->state);
	config_destroy(parts->config);
}
