/* cmd_import.c - `exitpoll import`: tables of interactions and items become a folder of container files. */
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/progress.h"
#include "producer/import.h"

#include <argp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIST_MAX = 64 };

struct arguments {
	struct import_options import;
	const char *interactions[LIST_MAX];
	const char *attributes[LIST_MAX];
	bool json, quiet;
};

enum option_key {
	KEY_INTERACTIONS = 0x100, KEY_ITEMS, KEY_OUT, KEY_FORCE, KEY_USER, KEY_ITEM, KEY_RATING, KEY_TIME, KEY_TITLE,
	KEY_SEQUENCE, KEY_TIME_UNIT, KEY_UNTIMED, KEY_IMPRESSIONS, KEY_CANDIDATES, KEY_POWER, KEY_SKIP_NEW, KEY_SEED,
	KEY_LABEL, KEY_ATTRIBUTE, KEY_BAD_ROWS, KEY_JSON, KEY_QUIET,
};

static const struct argp_option options[] = {
	{NULL, 0, NULL, 0, "Tables (TSV or CSV with a header; plain, gz, xz or zstd):", 1},
	{"interactions", KEY_INTERACTIONS, "FILE", 0, "a row an interaction; may be repeated", 1},
	{"items", KEY_ITEMS, "FILE", 0, "a row an item: titles and attributes", 1},
	{"out", KEY_OUT, "DIR", 0, "where items.avro, interactions.avro and impressions.avro go", 1},
	{"force", KEY_FORCE, NULL, 0, "replace existing output", 1},
	{NULL, 0, NULL, 0, "Columns:", 2},
	{"user-column", KEY_USER, "NAME", 0, "user_id", 2},
	{"item-column", KEY_ITEM, "NAME", 0, "item_id, in both tables", 2},
	{"rating-column", KEY_RATING, "NAME", 0, "rating; a table without it gives clicks", 2},
	{"time-column", KEY_TIME, "NAME", 0, "unix_time; a table without it is in row order", 2},
	{"title-column", KEY_TITLE, "NAME", 0, "title", 2},
	{"sequence-column", KEY_SEQUENCE, "NAME", 0, "orders rows without times", 2},
	{"time-unit", KEY_TIME_UNIT, "s|ms|day", 0, "unit of the time column (s)", 2},
	{"untimed", KEY_UNTIMED, "skip|first", 0,
	 "rows without a time in a table with times (an error otherwise)", 2},
	{"attribute", KEY_ATTRIBUTE, "NAME=FROM", 0,
	 "an attribute from a column, or derived: brand=first-word(title)", 2},
	{NULL, 0, NULL, 0, "Impressions:", 3},
	{"impressions", KEY_IMPRESSIONS, "RULE", 0,
	 "last:SHARE (last:0.2), leave-last, column:NAME=VALUE, all or none", 3},
	{"candidates", KEY_CANDIDATES, "N", 0,
	 "candidates of an impression: the taken item and N-1 sampled by popularity (1)", 3},
	{"popularity-power", KEY_POWER, "P", 0,
	 "sample them by how often they were taken so far to the power P: 1 as it is, 0 all alike (1)", 3},
	{"skip-new", KEY_SKIP_NEW, NULL, 0, "no impression where the taken item was never taken before", 3},
	{"seed", KEY_SEED, "N", 0, "of the sampling (0)", 3},
	{"label", KEY_LABEL, "RULE", 0, "which ratings are positive: 'rating>=4'; kept in the folder's metadata", 3},
	{NULL, 0, NULL, 0, "Else:", 4},
	{"bad-rows", KEY_BAD_ROWS, "N", 0, "stop after this many rows that cannot be read (100)", 4},
	{"json", KEY_JSON, NULL, 0, "summary as JSON", 4},
	{"quiet", KEY_QUIET, NULL, 0, "no progress bar and no summary", 4},
	{0},
};

static const char description[] =
	"Tables of interactions and items become items, interactions and impressions.\v"
	"Examples:\n"
	"  exitpoll import --interactions ratings.tsv.xz --items items.tsv.xz --out events \\\n"
	"      --impressions last:0.2 --candidates 8 --label 'rating>=4'\n"
	"  exitpoll import --interactions ratings.csv --user-column userId --item-column movieId \\\n"
	"      --time-column timestamp --impressions leave-last --out events\n"
	"  exitpoll import --interactions clicks.tsv.gz --untimed first --out events\n";

static void add(struct argp_state *state, const char *name, const char **list, size_t *count, const char *value)
{
	if (*count == LIST_MAX)
		argp_error(state, "--%s more than %d times", name, (int)LIST_MAX);
	list[(*count)++] = value;
}

static double power_of(struct argp_state *state, const char *text)
{
	char *end;
	double power = strtod(text, &end);
	if (end == text || *end || !(power >= 0 && power <= 1))
		argp_error(state, "--popularity-power '%s': a number from 0 to 1 is needed", text);
	return power;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;
	struct import_options *import = &arguments->import;

	switch (key) {
	case KEY_INTERACTIONS:
		add(state, "interactions", arguments->interactions, &import->interactions_count, argument);
		break;
	case KEY_ITEMS: import->items = argument; break;
	case KEY_OUT: import->out = argument; break;
	case KEY_FORCE: import->force = true; break;
	case KEY_USER: import->user_column = argument; break;
	case KEY_ITEM: import->item_column = argument; break;
	case KEY_RATING: import->rating_column = argument; break;
	case KEY_TIME: import->time_column = argument; break;
	case KEY_TITLE: import->title_column = argument; break;
	case KEY_SEQUENCE: import->sequence_column = argument; break;
	case KEY_TIME_UNIT:
		import->time_unit_ms = !strcmp(argument, "s") ? 1000 : !strcmp(argument, "ms") ? 1
							  : !strcmp(argument, "day") ? 86400000 : 0;
		if (!import->time_unit_ms)
			argp_error(state, "--time-unit '%s': s, ms or day is needed", argument);
		break;
	case KEY_UNTIMED:
		if (strcmp(argument, "skip") && strcmp(argument, "first"))
			argp_error(state, "--untimed '%s': skip or first is needed", argument);
		import->untimed = !strcmp(argument, "skip") ? IMPORT_UNTIMED_SKIP : IMPORT_UNTIMED_FIRST;
		break;
	case KEY_IMPRESSIONS: import->impressions = argument; break;
	case KEY_CANDIDATES: import->candidates = arguments_whole(state, "candidates", argument, 0, 1000000); break;
	case KEY_POWER: import->popularity_power = power_of(state, argument); break;
	case KEY_SKIP_NEW: import->skip_new = true; break;
	case KEY_SEED: import->seed = arguments_whole(state, "seed", argument, 0, UINT64_MAX); break;
	case KEY_LABEL: import->label = argument; break;
	case KEY_ATTRIBUTE:
		add(state, "attribute", arguments->attributes, &import->attributes_count, argument);
		break;
	case KEY_BAD_ROWS: import->bad_rows_max = arguments_whole(state, "bad-rows", argument, 0, SIZE_MAX); break;
	case KEY_JSON: arguments->json = true; break;
	case KEY_QUIET: arguments->quiet = true; break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (!import->interactions_count || !import->out)
			argp_error(state, "--interactions and --out are needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

struct watcher {
	struct progress progress;
	const char *phase;
	bool wanted;
};

static bool on_progress(void *context, const char *phase, double fraction)
{
	struct watcher *watcher = context;

	if (phase != watcher->phase) {
		progress_end(&watcher->progress);
		watcher->phase = phase;
		watcher->progress = progress_start(phase, "%", 100, watcher->wanted);
	}
	progress_update(&watcher->progress, (uint64_t)(fraction * 100));
	return !cli_stopping();
}

static const char *order_name(enum import_order order)
{
	return order == IMPORT_ORDER_TIME ? "time" : order == IMPORT_ORDER_ROWS ? "rows" : "sequence";
}

static void print_json(const struct import_summary *summary)
{
	printf("{\"users\":%zu,\"items\":%zu,\"catalog\":%zu,\"interactions\":%zu,\"ratings\":%zu,\"impressions\":%zu,"
	       "\"candidates\":%zu,\"short_impressions\":%zu,\"new_taken\":%zu,\"untimed\":%zu,"
	       "\"duplicate_items\":%zu,\"bad_rows\":%zu,\"order\":\"%s\",\"task\":\"%s\",\"first_ms\":%" PRId64
	       ",\"last_ms\":%" PRId64 "}\n",
	       summary->users, summary->items, summary->catalog, summary->interactions, summary->ratings,
	       summary->impressions, summary->candidates, summary->short_impressions, summary->new_taken,
	       summary->untimed, summary->duplicate_items, summary->bad_rows, order_name(summary->order),
	       summary->clicked ? "clicked" : "liked", summary->first_ms, summary->last_ms);
}

static void print_text(const struct arguments *arguments, const struct import_summary *summary)
{
	printf("%zu interactions (%zu with a rating) of %zu users and %zu items, %zu of them in the catalog\n",
	       summary->interactions, summary->ratings, summary->users, summary->items, summary->catalog);
	if (summary->order == IMPORT_ORDER_TIME && summary->interactions) {
		char first[32], last[32];
		time_t begin = summary->first_ms / 1000, end = summary->last_ms / 1000;
		struct tm utc;
		strftime(first, sizeof first, "%Y-%m-%d", gmtime_r(&begin, &utc));
		strftime(last, sizeof last, "%Y-%m-%d", gmtime_r(&end, &utc));
		printf("from %s to %s\n", first, last);
	} else {
		printf("in the order of %s: the table has no times\n",
		       summary->order == IMPORT_ORDER_ROWS ? "its rows" : "the sequence column");
	}
	printf("%zu impressions of %.1f candidates, task %s\n", summary->impressions,
	       summary->impressions ? (double)summary->candidates / (double)summary->impressions : 0,
	       summary->clicked ? "clicked (which of them is taken)" : "liked (is it liked)");
	if (summary->short_impressions)
		printf("%zu impressions have fewer candidates: no more items were known by then\n",
		       summary->short_impressions);
	if (summary->untimed)
		printf("%zu rows without a time were %s\n", summary->untimed,
		       arguments->import.untimed == IMPORT_UNTIMED_SKIP ? "skipped" : "put first");
	if (summary->duplicate_items)
		printf("%zu rows of the items table were replaced by later ones\n", summary->duplicate_items);
	if (summary->bad_rows)
		printf("%zu rows could not be read and were left out\n", summary->bad_rows);
	printf("Written to %s\n", arguments->import.out);
}

int cmd_import(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {.import = import_options_default};
	struct import_summary summary = {0};
	struct watcher watcher = {0};
	struct error error = {0};
	enum status status;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	arguments.import.interactions = arguments.interactions;
	arguments.import.attributes = arguments.attributes;
	watcher.wanted = !arguments.quiet && !arguments.json;
	arguments.import.progress = on_progress;
	arguments.import.context = &watcher;
	cli_catch_signals();
	status = import_run(&arguments.import, &summary, &error);
	progress_end(&watcher.progress);
	if (status != STATUS_OK)
		return status == STATUS_USAGE ? cli_usage("import", "%s", error.text) : cli_fail(&error);
	if (arguments.json)
		print_json(&summary);
	else if (!arguments.quiet)
		print_text(&arguments, &summary);
	return 0;
}
