/* cmd_run.c - `exitpoll run`: the processor. Parses the command line, builds the parts, runs the loop
 * and says what happened. */
#include "ops/cli/cmd_run.h"

#include "base/log.h"
#include "consumer/source.h"
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/interrupt.h"
#include "ops/cli/progress.h"
#include "ops/cli/service.h"
#include "ops/cli/showcase.h"
#include "schemas/container.h"

#include <argp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct arguments {
	struct run_options run;
	const char *from, *to, *stage, *until;
	struct settings_arguments settings;
	bool help_settings;
};

enum option_key { KEY_STAGE = 0x100, KEY_UNTIL, KEY_SET, KEY_FORCE, KEY_DRY_RUN, KEY_JSON, KEY_SHOW,
		  KEY_FROM, KEY_TO, KEY_STATE, KEY_MODEL, KEY_CONFIG, KEY_HELP_SETTINGS, KEY_QUIET };

static const struct argp_option options[] = {
	{"from", KEY_FROM, "WHERE", 0, "where events come from: a folder of container files, or kafka://host:port", 0},
	{"to", KEY_TO, "WHERE", 0, "where predictions go: a folder, or kafka://host:port", 0},
	{"stage", KEY_STAGE, "STAGE", 0, "all (default), graph-updater or scorer", 0},
	{"model", KEY_MODEL, "PATH", 0, "model bundle, Hugging Face folder or GGUF file", 0},
	{"state", KEY_STATE, "DIR", 0, "where snapshots are kept (Kafka default: the setting state.folder)", 0},
	{"until", KEY_UNTIL, "end", 0, "stop when everything that was there at the start is answered (files always do)", 0},
	{"config", KEY_CONFIG, "FILE", 0, "settings as key=value lines", 0},
	{"set", KEY_SET, "KEY=VALUE", 0, "one setting; may be repeated", 0},
	{"force", KEY_FORCE, NULL, 0, "replace existing output files", 0},
	{"dry-run", KEY_DRY_RUN, NULL, 0, "check everything that can be checked, print the settings, start nothing", 0},
	{"show", KEY_SHOW, "N", 0, "after the run, show N impressions as a table", 0},
	{"json", KEY_JSON, NULL, 0, "totals as JSON", 0},
	{"quiet", KEY_QUIET, NULL, 0, "no progress bar and no totals", 0},
	{"help-settings", KEY_HELP_SETTINGS, NULL, 0, "list all settings", 0},
	{0},
};

static const char description[] =
	"The processor: keeps the graph fresh, enriches impressions, scores their candidates.\v"
	"Examples:\n"
	"  exitpoll run --from events --to out --model SmolLM2-135M-Instruct.Q4_1.gguf\n"
	"  exitpoll run --from kafka://localhost:9092 --to kafka://localhost:9092 --model bundle\n"
	"  exitpoll run --stage graph-updater --from kafka://localhost:9092 --to kafka://localhost:9092\n"
	"  exitpoll run --stage scorer --from kafka://localhost:9092 --to kafka://localhost:9092 --model bundle\n"
	"  exitpoll run --from events --to out --set scorer.backend=stub --show 3\n"
	"  exitpoll run --dry-run --config production.properties --from kafka://localhost:9092 --to out\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_FROM: arguments->from = argument; break;
	case KEY_TO: arguments->to = argument; break;
	case KEY_STAGE: arguments->stage = argument; break;
	case KEY_MODEL: arguments->run.model = argument; break;
	case KEY_STATE: arguments->run.state = argument; break;
	case KEY_UNTIL: arguments->until = argument; break;
	case KEY_CONFIG: arguments->settings.config_file = argument; break;
	case KEY_SET: arguments_add_pair(state, &arguments->settings, argument); break;
	case KEY_FORCE: arguments->run.force = true; break;
	case KEY_DRY_RUN: arguments->run.dry_run = true; break;
	case KEY_JSON: arguments->run.json = true; break;
	case KEY_QUIET: arguments->run.quiet = true; break;
	case KEY_HELP_SETTINGS: arguments->help_settings = true; break;
	case KEY_SHOW:
		arguments->run.show = arguments_whole(state, "show", argument, 0, SHOWCASE_MAX);
		break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static enum status complete(struct arguments *arguments, struct error *error)
{
	struct run_options *run = &arguments->run;
	enum status status;

	if (!arguments->from || !arguments->to)
		return error_set(error, STATUS_USAGE, "--from and --to are needed");
	status = endpoint_parse(arguments->from, &run->from, error);
	if (status == STATUS_OK)
		status = endpoint_parse(arguments->to, &run->to, error);
	if (status != STATUS_OK)
		return status;
	if (!arguments->stage || !strcmp(arguments->stage, "all"))
		run->stage = STAGE_ALL;
	else if (!strcmp(arguments->stage, "graph-updater"))
		run->stage = STAGE_GRAPH_UPDATER;
	else if (!strcmp(arguments->stage, "scorer"))
		run->stage = STAGE_SCORER;
	else
		return error_set(error, STATUS_USAGE, "--stage '%s': all, graph-updater or scorer is needed",
				 arguments->stage);
	if (arguments->until && strcmp(arguments->until, "end") != 0)
		return error_set(error, STATUS_USAGE, "--until '%s': only 'end' is known", arguments->until);
	run->until_end = arguments->until != NULL;
	if (run->from.kafka != run->to.kafka && run->from.kafka && !run->until_end)
		return error_set(error, STATUS_USAGE, "from Kafka to files needs --until end: files appear when the "
				 "run ends");
	return STATUS_OK;
}

/* ---- while it runs ---- */

struct watcher {
	struct progress progress;
	struct showcase *showcase;
	struct service *service;
};

static void observe(void *context, const struct scoring_request *request, const struct prediction *prediction)
{
	struct watcher *watcher = context;
	if (watcher->showcase)
		showcase_observe(watcher->showcase, request, prediction);
}

static void tick(void *context, const struct pipeline_totals *totals)
{
	struct watcher *watcher = context;
	progress_update(&watcher->progress, totals->predictions ? totals->predictions : totals->requests);
	service_tick(watcher->service, totals);
}

/* How many impressions a folder holds, for the bar; 0 if that cannot be told cheaply. */
static uint64_t count_inputs(const struct run_options *run)
{
	char path[4096];
	struct container_reader *reader;
	struct event event;
	struct arena *arena;
	bool end = false;
	uint64_t count = 0;
	enum record_type type = run->stage == STAGE_SCORER ? RECORD_SCORING_REQUEST : RECORD_IMPRESSION;

	if (run->from.kafka ||
	    snprintf(path, sizeof path, "%s/%s.avro", run->from.where,
		     topic_names_default.name[topic_of_record_type(type)]) >= (int)sizeof path ||
	    container_reader_open(path, type, &reader, NULL) != STATUS_OK)
		return 0;
	arena = arena_create((size_t)1 << 28);
	while (arena && !end && container_read(reader, arena, &event, &end, NULL) == STATUS_OK) {
		count += !end;
		arena_reset(arena);
	}
	arena_destroy(arena);
	container_reader_close(reader);
	return count;
}

/* ---- totals ---- */

static void print_exits(FILE *out, const struct scorer_stats *stats)
{
	bool any = false;

	for (int layer = 1; layer <= SCORER_LAYERS_MAX; layer++)
		if (stats->exits_at[layer]) {
			fprintf(out, "%s layer %d: %" PRIu64, any ? "," : "Left at", layer, stats->exits_at[layer]);
			any = true;
		}
	if (any && stats->layer_tokens_full)
		fprintf(out, "; %.1f %% of the layer-tokens saved\n",
			100.0 - 100.0 * (double)stats->layer_tokens_run / (double)stats->layer_tokens_full);
}

static void print_totals(const struct run_options *run, const struct run_parts *parts,
			 const struct pipeline_totals *totals)
{
	printf("\n%" PRIu64 " items, %" PRIu64 " interactions and %" PRIu64 " impressions in %.1f s",
	       totals->items, totals->interactions,
	       run->stage == STAGE_SCORER ? totals->requests : totals->impressions, totals->seconds);
	if (totals->predictions)
		printf(": %" PRIu64 " predictions of %" PRIu64 " candidates (%.1f impressions/s)",
		       totals->predictions, totals->candidates,
		       totals->seconds > 0 ? (double)totals->predictions / totals->seconds : 0);
	putchar('\n');
	for (int status = 1; status < PREDICTION_STATUSES; status++)
		if (totals->by_status[status])
			printf("Status %s: %" PRIu64 "\n",
			       prediction_status_name((enum prediction_status)status), totals->by_status[status]);
	if (totals->dead_letters)
		printf("Dead letters: %" PRIu64 "\n", totals->dead_letters);
	if (parts->scorer) {
		struct scorer_stats stats;
		scorer_get_stats(parts->scorer, &stats);
		print_exits(stdout, &stats);
		printf("Model %s, %s%s\n", scorer_model_id(parts->scorer), scorer_describe(parts->scorer),
		       scorer_is_trained(parts->scorer) ? ""
							: "; its exits are untrained (they read the answer words)");
	}
	if (!run->to.kafka)
		printf("%s: %s/%s.avro\n", run->stage == STAGE_GRAPH_UPDATER ? "Scoring requests" : "Predictions",
		       run->to.where,
		       topic_names_default.name[run->stage == STAGE_GRAPH_UPDATER ? TOPIC_SCORING_REQUESTS
									       : TOPIC_PREDICTIONS]);
}

static void print_totals_json(const struct pipeline_totals *totals)
{
	printf("{\"records\":%" PRIu64 ",\"items\":%" PRIu64 ",\"interactions\":%" PRIu64
	       ",\"impressions\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"predictions\":%" PRIu64
	       ",\"candidates\":%" PRIu64 ",\"dead_letters\":%" PRIu64 ",\"late\":%" PRIu64
	       ",\"commits\":%" PRIu64 ",\"retries\":%" PRIu64 ",\"rewinds\":%" PRIu64 ",\"snapshots\":%" PRIu64
	       ",\"seconds\":%.3f,\"first_prediction_seconds\":%.3f,\"status\":{",
	       totals->records, totals->items, totals->interactions, totals->impressions, totals->requests,
	       totals->predictions, totals->candidates, totals->dead_letters, totals->late, totals->commits,
	       totals->retries, totals->rewinds, totals->snapshots.written, totals->seconds,
	       totals->first_prediction_seconds);
	for (int status = 0; status < PREDICTION_STATUSES; status++)
		printf("%s\"%s\":%" PRIu64, status ? "," : "",
		       prediction_status_name((enum prediction_status)status), totals->by_status[status]);
	puts("}}");
}

static enum status start_service(const struct run_options *run, const struct run_parts *parts,
				 const struct pipeline *pipeline, struct service **out, struct error *error)
{
	struct service_options service = {
		.host = config_text(parts->config, "http.host"),
		.port = (int)config_integer(parts->config, "http.port"),
		.stage = run->stage,
		.from = run->from.where,
		.to = run->to.where,
		.state_folder = parts->state_folder[0] ? parts->state_folder : NULL,
		.pipeline = pipeline,
		.source = parts->source,
		.sink = parts->sink,
		.scorer = parts->scorer,
		.batch_tokens_max = parts->scorer_options.batch_tokens_max,
		.registry = parts->registry,
	};
	return service_start(&service, out, error);
}

static enum status run_pipeline(const struct run_options *run, struct run_parts *parts, struct error *error)
{
	struct watcher watcher = {0};
	struct pipeline *pipeline = NULL;
	struct interrupt *interrupt = NULL;
	struct pipeline_options pipeline_options = {
		.stage = run->stage,
		.source = parts->source,
		.sink = parts->sink,
		.scorer = parts->scorer,
		.updater = run->stage == STAGE_SCORER ? NULL : &parts->updater_options,
		.state_folder = parts->state_folder[0] ? parts->state_folder : NULL,
		.state_lock_fd = parts->state.lock_fd,
		.topics = parts->topics,
		.limits = parts->limits,
		.live = run->from.kafka && !run->until_end,
		.at_least_once = strcmp(config_text(parts->config, "delivery"), "at_least_once") == 0,
		.batch_records_max = (size_t)config_integer(parts->config, "source.batch_records"),
		.batch_requests_max = (size_t)config_integer(parts->config, "scorer.batch_requests_max"),
		.commit_ms = config_integer(parts->config, "commit.ms"),
		.retry_max_ms = config_integer(parts->config, "retry.max_ms"),
		.snapshot_events = (uint64_t)config_integer(parts->config, "state.snapshot_events"),
		.stopping = cli_stopping,
		.observe = observe,
		.tick = tick,
		.context = &watcher,
	};
	enum status status;

	if (run->show)
		watcher.showcase = showcase_create(run->show);
	bool bar = !run->quiet && !run->json && !run->from.kafka;
	watcher.progress = progress_start(run->stage == STAGE_GRAPH_UPDATER ? "enriching" : "scoring",
					  "impressions", 0, bar);
	if (watcher.progress.visible)
		watcher.progress.total = count_inputs(run);
	status = pipeline_create(&pipeline_options, &pipeline, error);
	if (status == STATUS_OK)
		status = start_service(run, parts, pipeline, &watcher.service, error);
	if (status == STATUS_OK)
		status = interrupt_start(parts->registry, cli_stopping, &interrupt, error);
	if (status == STATUS_OK)
		status = pipeline_run(pipeline, error);
	interrupt_stop(interrupt);
	service_stop(watcher.service);
	progress_end(&watcher.progress);
	if (status == STATUS_OK && watcher.showcase)
		showcase_print(watcher.showcase, stdout);
	if (status == STATUS_OK && run->json)
		print_totals_json(pipeline_get_totals(pipeline));
	else if (status == STATUS_OK && !run->quiet)
		print_totals(run, parts, pipeline_get_totals(pipeline));
	showcase_destroy(watcher.showcase);
	pipeline_destroy(pipeline);
	return status;
}

int cmd_run(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {0};
	struct run_parts parts = {.state = {.lock_fd = -1}};
	struct error error = {0};
	enum status status;
	int code = 0;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	if (arguments.help_settings) {
		settings_help(stdout);
		return 0;
	}
	parts.config = settings_create();
	if (!parts.config)
		return cli_usage("run", "out of memory");
	status = settings_load(parts.config, arguments.settings.config_file, arguments.settings.pairs,
			       arguments.settings.pairs_count, &error);
	if (status == STATUS_OK)
		status = complete(&arguments, &error);
	if (status == STATUS_OK) {
		settings_logging(parts.config);
		cli_catch_signals();
		if (arguments.run.dry_run) {
			code = run_dry(&arguments.run, &parts);
		} else {
			status = run_parts_create(&arguments.run, &parts, &error);
			/* Stopped before a live stream began: a good end as well. */
			if (status == STATUS_INTERRUPTED && arguments.run.from.kafka && !arguments.run.until_end)
				goto cleanup;
			if (status == STATUS_OK)
				status = run_pipeline(&arguments.run, &parts, &error);
		}
	}
	if (status != STATUS_OK)
		code = status == STATUS_USAGE ? cli_usage("run", "%s", error.text) : cli_fail(&error);
cleanup:
	run_parts_destroy(&parts);
	return code;
}
