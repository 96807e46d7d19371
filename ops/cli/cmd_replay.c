/* cmd_replay.c - `exitpoll replay`: a folder of container files into Kafka topics, at the speed of its
 * event times or as fast as possible. */
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/endpoint.h"
#include "ops/cli/progress.h"
#include "ops/cli/settings.h"
#include "consumer/source.h"
#include "producer/replay.h"

#include <argp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_RECORDS = 4096, PAUSE_MS_MAX = 10000 };

struct arguments {
	const char *from, *to, *speed;
	struct settings_arguments settings;
	struct replay_options replay;
	bool json, quiet;
};

enum option_key { KEY_FROM = 0x100, KEY_TO, KEY_SPEED, KEY_START, KEY_SKIP, KEY_MAX, KEY_PAUSE, KEY_CONFIG, KEY_SET,
		  KEY_JSON, KEY_QUIET };

static const struct argp_option options[] = {
	{"from", KEY_FROM, "DIR", 0, "a folder of container files", 0},
	{"to", KEY_TO, "kafka://HOST:PORT", 0, "the brokers", 0},
	{"speed", KEY_SPEED, "60x|max", 0, "event time over wall time (1x)", 0},
	{"start", KEY_START, "MS", 0, "pass over events before this time", 0},
	{"skip", KEY_SKIP, "N", 0, "pass over the first N events: to go on where a replay was stopped", 0},
	{"events", KEY_MAX, "N", 0, "stop after N events", 0},
	{"pause-max", KEY_PAUSE, "MS", 0, "no gap is waited for longer than this (10000)", 0},
	{"config", KEY_CONFIG, "FILE", 0, "settings as key=value lines", 0},
	{"set", KEY_SET, "KEY=VALUE", 0, "one setting; may be repeated", 0},
	{"json", KEY_JSON, NULL, 0, "summary as JSON", 0},
	{"quiet", KEY_QUIET, NULL, 0, "no progress and no summary", 0},
	{0},
};

static const char description[] =
	"Container files to Kafka topics, in the total order of their events.\v"
	"Examples:\n"
	"  exitpoll replay --from events --to kafka://localhost:9092 --speed max\n"
	"  exitpoll replay --from events --to kafka://localhost:9092 --speed 3600x --start 1388534400000\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_FROM: arguments->from = argument; break;
	case KEY_TO: arguments->to = argument; break;
	case KEY_SPEED: arguments->speed = argument; break;
	case KEY_START:
		arguments->replay.start_ms = (int64_t)arguments_whole(state, "start", argument, 0, INT64_MAX);
		break;
	case KEY_SKIP: arguments->replay.skip = arguments_whole(state, "skip", argument, 0, UINT64_MAX); break;
	case KEY_MAX: arguments->replay.events_max = arguments_whole(state, "events", argument, 0, UINT64_MAX); break;
	case KEY_PAUSE:
		arguments->replay.pause_ms_max = (int64_t)arguments_whole(state, "pause-max", argument, 0, INT64_MAX);
		break;
	case KEY_CONFIG: arguments->settings.config_file = argument; break;
	case KEY_SET: arguments_add_pair(state, &arguments->settings, argument); break;
	case KEY_JSON: arguments->json = true; break;
	case KEY_QUIET: arguments->quiet = true; break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (!arguments->from || !arguments->to)
			argp_error(state, "--from and --to are needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* Hands the source's batches to the replay one by one. */
struct feed {
	struct source *source;
	struct arena *arena;
	struct source_batch batch;
	size_t at;
	struct progress progress;
};

static enum status next_event(void *context, struct replay_event *out, bool *end, struct error *error)
{
	struct feed *feed = context;

	while (feed->at == feed->batch.count) {
		if (feed->batch.end) {
			*end = true;
			return STATUS_OK;
		}
		arena_reset(feed->arena);
		feed->at = 0;
		enum status status = feed->source->class->poll(feed->source, BATCH_RECORDS, 1000, feed->arena, &feed->batch,
							       error);
		if (status != STATUS_OK)
			return status;
	}
	const struct record *record = &feed->batch.records[feed->at++];
	out->event = record->status == STATUS_OK ? &record->event : NULL;
	out->traceparent = record->traceparent;
	*end = false;
	return STATUS_OK;
}

static bool on_progress(void *context, uint64_t events, int64_t event_time_ms)
{
	struct feed *feed = context;
	(void)event_time_ms;
	progress_update(&feed->progress, events);
	return !cli_stopping();
}

static enum status open_feed(const struct endpoint *from, const struct config *config, struct feed *feed,
			     struct error *error)
{
	struct source_file_options file = {
		.folder = from->where,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
	};
	int64_t oldest_ms;
	enum status status;

	settings_limits(config, &file.limits);
	feed->arena = arena_create((size_t)1 << 30);
	if (!feed->arena)
		return error_set(error, STATUS_NO_MEMORY, "out of memory");
	status = source_file_create(&file, &feed->source, error);
	if (status == STATUS_OK)
		status = feed->source->class->join(feed->source, &oldest_ms, error);
	if (status == STATUS_OK)
		status = feed->source->class->start(feed->source, NULL, 0, INT64_MIN, error);
	return status;
}

static void print_summary(const struct arguments *arguments, const struct replay_summary *summary)
{
	if (arguments->json)
		printf("{\"events\":%" PRIu64 ",\"next\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"too_large\":%" PRIu64
		       ",\"first_ms\":%" PRId64 ",\"last_ms\":%" PRId64 ",\"seconds\":%.3f,\"behind_ms\":%" PRId64
		       ",\"stopped\":%s}\n",
		       summary->events, summary->next, summary->skipped, summary->too_large, summary->first_ms,
		       summary->last_ms, summary->seconds, summary->behind_ms, summary->stopped ? "true" : "false");
	else if (!arguments->quiet)
		printf("%" PRIu64 " events in %.1f s (%.0f/s), %" PRIu64 " passed over, %" PRIu64 " too large%s\n",
		       summary->events, summary->seconds,
		       summary->seconds > 0 ? (double)summary->events / summary->seconds : 0, summary->skipped,
		       summary->too_large, summary->stopped ? "; stopped" : "");
	if (summary->stopped && !arguments->json && !arguments->quiet)
		printf("Go on with --skip %" PRIu64 "\n", summary->next);
}

static enum status work(struct arguments *arguments, struct config *config, struct replay_summary *summary,
			struct error *error)
{
	struct settings_lists lists = {0};
	struct sink_kafka_options kafka = {.settings = lists.kafka};
	struct registry_options registry_options;
	struct registry *registry = NULL;
	struct endpoint from, to;
	struct feed feed = {0};
	enum status status = settings_load(config, arguments->settings.config_file, arguments->settings.pairs,
					   arguments->settings.pairs_count, error);

	if (status == STATUS_OK)
		status = endpoint_parse(arguments->from, &from, error);
	if (status == STATUS_OK)
		status = endpoint_parse(arguments->to, &to, error);
	if (status == STATUS_OK)
		status = replay_speed_parse(arguments->speed ? arguments->speed : "1x", &arguments->replay.speed, error);
	if (status == STATUS_OK && (from.kafka || !to.kafka))
		status = error_set(error, STATUS_USAGE, "from a folder to kafka://host:port");
	if (status != STATUS_OK)
		return status;
	settings_logging(config);
	settings_registry(config, &registry_options);
	settings_topics(config, &kafka.topics);
	settings_kafka(config, &lists);
	kafka.brokers = to.where;
	kafka.settings_count = lists.kafka_count;
	kafka.record_bytes_max = (size_t)config_integer(config, "record.bytes_max");
	status = registry_create(&registry_options, &registry, error);
	kafka.registry = registry;
	if (status == STATUS_OK)
		status = open_feed(&from, config, &feed, error);
	if (status == STATUS_OK)
		status = sink_kafka_create(&kafka, &arguments->replay.sink, error);
	if (status == STATUS_OK) {
		feed.progress = progress_start("replaying", "events", 0, !arguments->quiet && !arguments->json);
		arguments->replay.next = next_event;
		arguments->replay.context = arguments->replay.progress_context = &feed;
		arguments->replay.progress = on_progress;
		status = replay_run(&arguments->replay, summary, error);
		progress_end(&feed.progress);
	}
	if (status == STATUS_OK)
		status = arguments->replay.sink->class->finish(arguments->replay.sink, error);
	if (arguments->replay.sink)
		arguments->replay.sink->class->destroy(arguments->replay.sink);
	if (feed.source)
		feed.source->class->destroy(feed.source);
	arena_destroy(feed.arena);
	registry_destroy(registry);
	return status;
}

int cmd_replay(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {.replay = {.pause_ms_max = PAUSE_MS_MAX}};
	struct replay_summary summary = {0};
	struct error error = {0};
	struct config *config;
	enum status status;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	config = settings_create();
	if (!config)
		return cli_usage("replay", "out of memory");
	cli_catch_signals();
	status = work(&arguments, config, &summary, &error);
	config_destroy(config);
	if (status != STATUS_OK) {
		if (summary.next && status != STATUS_USAGE)
			fprintf(stderr, "exitpoll: %" PRIu64 " events were written; go on with --skip %" PRIu64 "\n",
				summary.events, summary.next);
		return status == STATUS_USAGE ? cli_usage("replay", "%s", error.text) : cli_fail(&error);
	}
	print_summary(&arguments, &summary);
	return 0;
}
