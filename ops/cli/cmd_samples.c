/* cmd_samples.c - `exitpoll samples`: a folder of events, replayed as in serving, becomes training samples. */
#include "base/clock.h"
#include "base/log.h"
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/pipeline.h"
#include "ops/cli/progress.h"
#include "ops/cli/samples_json.h"
#include "ops/cli/samples_sink.h"
#include "ops/cli/seeds_until.h"
#include "ops/cli/settings.h"
#include "scorer/bundle_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct arguments {
	const char *from, *out, *model, *task, *label, *split;
	double shares[PARTS];
	uint64_t few_shot, seed, history_min;
	bool allow_leak, force, dry_run, json, quiet;
	struct settings_arguments settings;
};

enum option_key {
	KEY_FROM = 0x100, KEY_OUT, KEY_MODEL, KEY_TASK, KEY_LABEL, KEY_SPLIT, KEY_SHARES, KEY_FEW_SHOT, KEY_SEED,
	KEY_HISTORY, KEY_LEAK, KEY_CONFIG, KEY_SET, KEY_FORCE, KEY_DRY_RUN, KEY_JSON, KEY_QUIET,
};

static const struct argp_option options[] = {
	{"from", KEY_FROM, "DIR", 0, "a folder of events, as `exitpoll import` writes it", 0},
	{"out", KEY_OUT, "DIR", 0, "where samples.json and the shards go; an unfinished run there goes on", 0},
	{"model", KEY_MODEL, "PATH", 0, "bundle, model folder or GGUF file: its tokenizer, template and context", 0},
	{0, 0, NULL, 0, "Labels:", 1},
	{"task", KEY_TASK, "TASK", 0,
	 "liked: only the answered candidate has a label; clicked: the others are 0 (default: the folder's)", 1},
	{"label", KEY_LABEL, "RULE", 0, "which ratings are positive: 'rating>=4' (default: the folder's)", 1},
	{0, 0, NULL, 0, "Which impressions, and for what:", 2},
	{"split", KEY_SPLIT, "RULE", 0,
	 "time (default), times:A,B,C,D (where parts begin), users, or file:TABLE (a column split)", 2},
	{"shares", KEY_SHARES, "A,B,C,D,E", 0,
	 "of train, stopping, calibration, thresholds and test (default 60,10,10,10,10)", 2},
	{"few-shot", KEY_FEW_SHOT, "N", 0, "only N impressions of the training part, drawn by --seed", 2},
	{"seed", KEY_SEED, "N", 0, "of --few-shot and of users (default 0)", 2},
	{"min-history", KEY_HISTORY, "N", 0, "leave out requests with fewer earlier interactions (default 0)", 2},
	{"allow-leak", KEY_LEAK, NULL, 0,
	 "go on where the model was trained on data later than the calibration part begins", 2},
	{0, 0, NULL, 0, "Running:", 3},
	{"config", KEY_CONFIG, "FILE", 0, "settings as key=value lines, those of `exitpoll run`", 3},
	{"set", KEY_SET, "KEY=VALUE", 0, "one setting; may be repeated", 3},
	{"force", KEY_FORCE, NULL, 0, "begin anew: remove the samples that are there", 3},
	{"dry-run", KEY_DRY_RUN, NULL, 0, "read answers, impressions and model, say what would be; write nothing", 3},
	{"json", KEY_JSON, NULL, 0, "print samples.json", 3},
	{"quiet", KEY_QUIET, NULL, 0, "no progress bar and no summary", 3},
	{0},
};

static const char description[] =
	"Replays events through the enrichment, prompt and tokenizer of serving and writes what a model would have "
	"read for every impression, with what became of it.\v"
	"Give the settings that will serve (--config, --set): they decide history, statistics and prompt. An "
	"impression sees nothing at or after its own time. The last two parts in time are for thresholds and for "
	"the one look at the end.\n\n"
	"Examples:\n"
	"  exitpoll samples --from events --out samples --model SmolLM2-135M-Instruct.Q4_1.gguf\n"
	"  exitpoll samples --from events --out s --model model.gguf --split times:2014-01-01,2014-03-01,"
	"2014-04-01,2014-05-01\n"
	"  exitpoll samples --from events --out s --model model.gguf --split users --shares 80,10,0,0,10 "
	"--few-shot 256 --seed 1 --min-history 3\n";

static void parse_shares(struct argp_state *state, const char *text, double shares[PARTS])
{
	const char *at = text;
	double sum = 0;
	for (int i = 0; i < PARTS; i++) {
		char *end;
		shares[i] = strtod(at, &end);
		if (end == at || *end != (i == PARTS - 1 ? '\0' : ',') || !(shares[i] >= 0 && shares[i] <= 1e9))
			argp_error(state, "--shares '%s': five numbers are needed, as in 60,10,10,10,10", text);
		sum += shares[i];
		at = end + 1;
	}
	if (!(sum > 0))
		argp_error(state, "--shares '%s': all are 0", text);
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *a = state->input;
	switch (key) {
	case KEY_FROM: a->from = argument; break;
	case KEY_OUT: a->out = argument; break;
	case KEY_MODEL: a->model = argument; break;
	case KEY_TASK: a->task = argument; break;
	case KEY_LABEL: a->label = argument; break;
	case KEY_SPLIT: a->split = argument; break;
	case KEY_SHARES: parse_shares(state, argument, a->shares); break;
	case KEY_FEW_SHOT: a->few_shot = arguments_whole(state, "few-shot", argument, 1, UINT32_MAX); break;
	case KEY_SEED: a->seed = arguments_whole(state, "seed", argument, 0, INT64_MAX); break;
	case KEY_HISTORY: a->history_min = arguments_whole(state, "min-history", argument, 0, 50); break;
	case KEY_LEAK: a->allow_leak = true; break;
	case KEY_CONFIG: a->settings.config_file = argument; break;
	case KEY_SET: arguments_add_pair(state, &a->settings, argument); break;
	case KEY_FORCE: a->force = true; break;
	case KEY_DRY_RUN: a->dry_run = true; break;
	case KEY_JSON: a->json = true; break;
	case KEY_QUIET: a->quiet = true; break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (!a->from || !a->out || !a->model)
			argp_error(state, "--from, --out and --model are needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* Everything that is needed, made in this order. */
struct parts {
	struct config *config;
	struct settings_lists lists;
	struct updater_options updater;
	struct event_limits limits;
	struct bundle *bundle;
	struct prompt *prompt;
	struct samples_labels *labels;
	struct samples_split *split;
	json_t *root;
	struct source *source;
	struct sink *sink;
	struct samples_description description;
	int64_t trained_until_ms;       /* the latest event that taught the model or the graph's seeds anything */
};

static void destroy_parts(struct parts *parts)
{
	if (parts->source)
		parts->source->class->destroy(parts->source);
	if (parts->sink)
		parts->sink->class->destroy(parts->sink);
	json_decref(parts->root);
	samples_split_destroy(parts->split);
	samples_labels_destroy(parts->labels);
	prompt_destroy(parts->prompt);
	bundle_close(parts->bundle);
	config_destroy(parts->config);
}

static enum status open_model(const struct arguments *arguments, struct parts *parts, struct error *error)
{
	struct scorer_options scorer;
	settings_scorer(parts->config, &scorer);
	scorer.model = arguments->model;
	scorer.exit_rule = "none";
	enum status status = bundle_open(&scorer, &parts->bundle, error);
	return status ? status : prompt_create(parts->bundle->tokenizer, parts->bundle->wording, parts->bundle->yes,
					       parts->bundle->no, parts->bundle->context, &parts->prompt, error);
}

/* Where parts begin is known before the replay: no need to find out late. */
static enum status check_leak(const struct arguments *arguments, const struct parts *parts, struct error *error)
{
	const int64_t *begins = samples_split_begins(parts->split);
	int64_t until = parts->trained_until_ms;
	if (arguments->allow_leak || !begins || begins[PART_CALIBRATION - 1] > until)
		return STATUS_OK;
	return error_set(error, STATUS_CONFIG,
			 "%s trained on data up to %" PRId64 " ms, and calibration begins at %" PRId64 " ms: split "
			 "later, or say --allow-leak and trust no figure",
			 until > parts->bundle->trained_until_ms ? "the graph's seeds were" : "the model was", until,
			 begins[PART_CALIBRATION - 1]);
}

static enum status find_trained_until(const struct arguments *arguments, struct parts *parts, struct error *error)
{
	const char *unsaid;
	parts->trained_until_ms = parts->bundle->trained_until_ms;
	enum status status = seeds_until(&parts->updater, &parts->trained_until_ms, &unsaid, error);
	if (status || !unsaid || arguments->allow_leak)
		return status;
	return error_set(error, STATUS_CONFIG,
			 "%s.json does not say up to when these seeds were trained (\"trained_until\", ms), so they may have "
			 "seen what is to be predicted: add it, or say --allow-leak and trust no figure", unsaid);
}

static enum status read_answers(const struct arguments *arguments, struct parts *parts, struct error *error)
{
	struct samples_labels_options labels = {
		.folder = arguments->from, .task = arguments->task, .rule = arguments->label,
		.limits = parts->limits, .stopping = cli_stopping,
	};
	enum status status = samples_labels_read(&labels, &parts->labels, error);
	struct samples_split_options split = {
		.folder = arguments->from, .rule = arguments->split, .seed = arguments->seed,
		.few_shot = arguments->few_shot, .labels = parts->labels, .limits = parts->limits,
		.stopping = cli_stopping,
	};
	memcpy(split.shares, arguments->shares, sizeof split.shares);
	if (!status)
		status = samples_split_create(&split, &parts->split, error);
	if (!status && samples_split_labelled(parts->split) == 0)
		status = error_set(error, STATUS_CONFIG,
				   "%s: none of %zu impressions has an answer: interactions must carry its "
				   "impression_id", arguments->from, samples_split_impressions(parts->split));
	return status ? status : check_leak(arguments, parts, error);
}

static enum status prepare(const struct arguments *arguments, struct parts *parts, struct error *error)
{
	enum status status;
	settings_limits(parts->config, &parts->limits);
	if ((status = settings_updater(parts->config, &parts->lists, &parts->updater, error)) ||
	    (status = open_model(arguments, parts, error)) ||
	    (status = find_trained_until(arguments, parts, error)) ||
	    (status = read_answers(arguments, parts, error)))
		return status;
	if (parts->updater.attributes_count > FEATURES_ATTRIBUTES_MAX)
		return error_set(error, STATUS_CONFIG, "statistics.attributes: %zu names, at most %d",
				 parts->updater.attributes_count, FEATURES_ATTRIBUTES_MAX);
	if (arguments->history_min > parts->updater.history_max)
		return error_set(error, STATUS_CONFIG,
				 "--min-history %" PRIu64 " is more than enrichment.history_max (%u)",
				 arguments->history_min, parts->updater.history_max);
	parts->description = (struct samples_description){
		.events = arguments->from, .model = arguments->model, .split_rule = arguments->split,
		.shares = arguments->shares, .seed = arguments->seed, .few_shot = arguments->few_shot,
		.history_min = arguments->history_min, .trained_until_ms = parts->trained_until_ms,
		.allow_leak = arguments->allow_leak, .config = parts->config, .bundle = parts->bundle,
		.prompt = parts->prompt, .labels = parts->labels, .split = parts->split,
		.attributes = parts->updater.attributes,
		.features = features_count(parts->updater.attributes_count),
	};
	return samples_json_describe(&parts->description, &parts->root, error);
}

/* ---- the folder ---- */

static enum status remove_file(const char *folder, const char *name, struct error *error)
{
	char *path = mapped_file_join(folder, name);
	enum status status = STATUS_OK;
	if (!path)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a path");
	if (unlink(path) != 0 && errno != ENOENT)
		status = error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
	mem_free(path);
	return status;
}

/* A finished folder is refused, an unfinished one of the same run goes on, one of another is refused. */
static enum status open_folder(const struct arguments *arguments, const json_t *root, struct error *error)
{
	bool finished, begun, equal;
	enum status status;
	if (mkdir(arguments->out, 0777) != 0 && errno != EEXIST)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: %s", arguments->out, strerror(errno));
	if (arguments->force && ((status = remove_file(arguments->out, SAMPLES_FILE, error)) ||
				 (status = remove_file(arguments->out, SAMPLES_PART_FILE, error)) ||
				 (status = samples_sink_remove(arguments->out, error))))
		return status;
	if ((status = samples_json_compare(arguments->out, SAMPLES_FILE, root, &finished, &equal, error)))
		return status;
	if (finished)
		return error_set(error, STATUS_CANNOT_CREATE,
				 "%s holds samples already: choose another folder, or --force replaces them",
				 arguments->out);
	if ((status = samples_json_compare(arguments->out, SAMPLES_PART_FILE, root, &begun, &equal, error)))
		return status;
	if (begun && !equal)
		return error_set(error, STATUS_CANNOT_CREATE,
				 "%s holds an unfinished run of other events, model or options: --force replaces it",
				 arguments->out);
	if (begun)
		return STATUS_OK;
	status = samples_sink_remove(arguments->out, error);
	return status ? status : bundle_json_put(arguments->out, SAMPLES_PART_FILE, root, BUNDLE_JSON_DIGITS, error);
}

/* ---- the replay ---- */

static void tick(void *context, const struct pipeline_totals *totals)
{
	progress_update(context, totals->impressions);
}

static enum status replay(const struct arguments *arguments, struct parts *parts, struct error *error)
{
	struct pipeline *pipeline = NULL;
	struct progress progress = progress_start("samples", "impressions", samples_split_impressions(parts->split),
						  !arguments->quiet);
	struct source_file_options source = {
		.folder = arguments->from,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_INTERACTIONS] = true, [TOPIC_IMPRESSIONS] = true},
		.limits = parts->limits,
		.group_records_max = (size_t)config_integer(parts->config, "source.group_records_max"),
	};
	struct samples_sink_options sink = {
		.folder = arguments->out, .labels = parts->labels, .split = parts->split, .prompt = parts->prompt,
		.features = parts->description.features, .candidates_max = parts->limits.candidates_max,
		.history_min = arguments->history_min, .trained_until_ms = parts->trained_until_ms,
		.allow_leak = arguments->allow_leak,
	};
	struct pipeline_options pipeline_options = {
		.stage = STAGE_GRAPH_UPDATER, .updater = &parts->updater, .limits = parts->limits,
		.batch_records_max = (size_t)config_integer(parts->config, "source.batch_records"),
		.batch_requests_max = (size_t)config_integer(parts->config, "scorer.batch_requests_max"),
		.commit_ms = config_integer(parts->config, "commit.ms"),
		.snapshot_events = UINT64_MAX,
		.stopping = cli_stopping, .tick = tick, .context = &progress,
	};
	enum status status;
	settings_topics(parts->config, &pipeline_options.topics);
	if ((status = source_file_create(&source, &parts->source, error)) ||
	    (status = samples_sink_create(&sink, &parts->sink, error)))
		return status;
	pipeline_options.source = parts->source;
	pipeline_options.sink = parts->sink;
	status = pipeline_create(&pipeline_options, &pipeline, error);
	if (!status)
		status = pipeline_run(pipeline, error);
	progress_end(&progress);
	pipeline_destroy(pipeline);
	if (status == STATUS_INTERRUPTED)
		error_set(error, status, "stopped before the end; %" PRIu64 " whole shards are in %s: the same command "
			  "goes on", samples_sink_counts(parts->sink)->shards, arguments->out);
	return status;
}

/* ---- what is said ---- */

static void print_time(int64_t time_ms)
{
	char text[32] = "";
	time_t seconds = time_ms / 1000;
	struct tm utc;
	if (gmtime_r(&seconds, &utc))
		strftime(text, sizeof text, "%Y-%m-%d", &utc);
	printf("%12s", text);
}

static void print_left_out(const struct samples_counts *counts)
{
	const struct {
		uint64_t count;
		const char *why;
	} reasons[] = {
		{counts->late, "late: older than the graph by then"},
		{counts->no_candidates, "without candidates"},
		{counts->by_answer[SAMPLES_UNANSWERED], "without an answer: their label is unknown"},
		{counts->by_answer[SAMPLES_ANSWERED_ELSEWHERE], "answered by an item that is no candidate"},
		{counts->by_answer[SAMPLES_ANSWERED_BEFORE], "answered before they were shown"},
		{counts->short_history, "with too short a history"},
		{counts->not_in_split, "in no part of the split"},
		{counts->not_in_few, "of the training part, beyond the few"},
		{counts->dead_letters, "records that would be dead letters"},
	};
	for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
		if (reasons[i].count)
			printf("Left out: %" PRIu64 " %s\n", reasons[i].count, reasons[i].why);
}

static void print_summary(const struct arguments *arguments, const struct samples_counts *counts, double seconds)
{
	uint64_t rows = 0, impressions = 0;
	printf("%-12s %12s %12s %12s %10s %12s %12s\n", "part", "impressions", "candidates", "labelled", "positive",
	       "from", "to");
	for (int i = 0; i < PARTS; i++) {
		const struct samples_part *part = &counts->parts[i];
		printf("%-12s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %9.1f%% ", samples_part_name(i),
		       part->impressions, part->candidates, part->labelled,
		       part->labelled ? 100.0 * (double)part->positives / (double)part->labelled : 0);
		if (part->impressions) {
			print_time(part->first_ms);
			putchar(' ');
			print_time(part->last_ms);
		}
		putchar('\n');
		rows += part->candidates;
		impressions += part->impressions;
	}
	print_left_out(counts);
	if (counts->leaking)
		printf("LEAK: %" PRIu64 " impressions of calibration, thresholds and test are not later than what the "
		       "model was trained on: no figure on them means anything\n", counts->leaking);
	if (counts->cut)
		printf("%" PRIu64 " impressions were cut to the model's context\n", counts->cut);
	printf("%" PRIu64 " impressions, %" PRIu64 " candidates in %.1f s (%.0f candidates/min); longest prompt %" PRIu64
	       " tokens\n", impressions, rows, seconds, seconds > 0 ? (double)rows / seconds * 60 : 0,
	       counts->longest);
	if (counts->shards_kept)
		printf("%" PRIu64 " of %" PRIu64 " shards were there already\n", counts->shards_kept, counts->shards);
	printf("Samples: %s (try `exitpoll fit-heads --samples %s --model %s --out bundle`)\n", arguments->out,
	       arguments->out, arguments->model);
}

static void print_dry_run(const struct arguments *arguments, const struct parts *parts)
{
	const int64_t *begins = samples_split_begins(parts->split);
	if (arguments->json) {
		json_dumpf(parts->root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
		putchar('\n');
		return;
	}
	printf("%zu impressions, %zu of them with an answer (%zu answers); task %s%s%s\n",
	       samples_split_impressions(parts->split), samples_split_labelled(parts->split),
	       samples_labels_count(parts->labels), samples_labels_clicked(parts->labels) ? "clicked" : "liked",
	       samples_labels_rule(parts->labels)[0] ? ", label " : "", samples_labels_rule(parts->labels));
	for (int i = 1; begins && i < PARTS; i++) {
		if (begins[i - 1] == INT64_MAX)
			printf("%-12s is empty\n", samples_part_name(i));
		else
			printf("%-12s begins at %" PRId64 " ms\n", samples_part_name(i), begins[i - 1]);
	}
	printf("Nothing was written.\n");
}

static enum status run(const struct arguments *arguments, struct parts *parts, struct error *error)
{
	int64_t began_ns = clock_steady_ns();
	enum status status = prepare(arguments, parts, error);
	if (status)
		return status;
	if (arguments->dry_run) {
		print_dry_run(arguments, parts);
		return STATUS_OK;
	}
	if ((status = open_folder(arguments, parts->root, error)) || (status = replay(arguments, parts, error)))
		return status;
	const struct samples_counts *counts = samples_sink_counts(parts->sink);
	if (!samples_json_finish(&parts->description, counts, parts->root))
		return error_set(error, STATUS_NO_MEMORY, "no memory to describe the samples");
	if ((status = bundle_json_put(arguments->out, SAMPLES_FILE, parts->root, BUNDLE_JSON_DIGITS, error)) ||
	    (status = remove_file(arguments->out, SAMPLES_PART_FILE, error)))
		return status;
	if (arguments->json) {
		json_dumpf(parts->root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
		putchar('\n');
	} else if (!arguments->quiet) {
		print_summary(arguments, counts, (double)(clock_steady_ns() - began_ns) / 1e9);
	}
	return STATUS_OK;
}

int cmd_samples(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {.split = "time", .shares = {60, 10, 10, 10, 10}};
	struct parts parts = {0};
	struct error error = {0};
	enum status status;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	parts.config = settings_create();
	if (!parts.config)
		return cli_usage("samples", "out of memory");
	status = settings_load(parts.config, arguments.settings.config_file, arguments.settings.pairs,
			       arguments.settings.pairs_count, &error);
	if (status == STATUS_OK) {
		settings_logging(parts.config);
		cli_catch_signals();
		status = run(&arguments, &parts, &error);
	}
	destroy_parts(&parts);
	if (status == STATUS_OK)
		return 0;
	return status == STATUS_USAGE ? cli_usage("samples", "%s", error.text) : cli_fail(&error);
}
