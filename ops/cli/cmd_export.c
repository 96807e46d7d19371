/* cmd_export.c - `exitpoll export`: the state as numpy arrays and tables. */
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/progress.h"
#include "base/pool.h"
#include "graph-updater/export.h"
#include "graph-updater/snapshot.h"

#include <argp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct arguments {
	const char *state, *what, *side;
	struct export_options export;
	bool json, quiet;
};

enum { THREADS_MAX = 64 };
enum option_key { KEY_STATE = 0x100, KEY_WHAT, KEY_OUT, KEY_SIDE, KEY_MOST, KEY_JSON, KEY_QUIET };

static const struct argp_option options[] = {
	{"state", KEY_STATE, "DIR", 0, "a state folder (its newest snapshot) or a snapshot file", 0},
	{"what", KEY_WHAT, "WHAT", 0, "embeddings, seeds, neighbors or graph", 0},
	{"out", KEY_OUT, "NAME", 0, "NAME.npy and NAME.ids, or NAME.tsv", 0},
	{"side", KEY_SIDE, "users|items", 0, "of embeddings (users) and seeds (items)", 0},
	{"most", KEY_MOST, "N", 0, "neighbours of each user (10)", 0},
	{"json", KEY_JSON, NULL, 0, "summary as JSON", 0},
	{"quiet", KEY_QUIET, NULL, 0, "no progress and no summary", 0},
	{0},
};

static const char description[] =
	"The state for other programs. Embeddings and seeds: a float32 numpy array, a row a node, with an id a\n"
	"line beside it. Neighbours: user, neighbour, cosine. Graph: user, item, kind, rating, time.\v"
	"Examples:\n"
	"  exitpoll export --state exitpoll-state --what embeddings --out users\n"
	"  exitpoll export --state exitpoll-state --what embeddings --side items --out items\n"
	"  exitpoll export --state exitpoll-state --what neighbors --most 20 --out neighbours\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	static const char *const kinds[] = {"embeddings", "seeds", "neighbors", "graph"};
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_STATE: arguments->state = argument; break;
	case KEY_WHAT:
		for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
			if (strcmp(argument, kinds[i]) == 0) {
				arguments->what = kinds[i];
				arguments->export.what = (enum export_what)i;
			}
		if (!arguments->what)
			argp_error(state, "--what '%s': embeddings, seeds, neighbors or graph is needed", argument);
		break;
	case KEY_OUT: arguments->export.name = argument; break;
	case KEY_SIDE:
		if (strcmp(argument, "users") && strcmp(argument, "items"))
			argp_error(state, "--side '%s': users or items is needed", argument);
		arguments->side = argument;
		break;
	case KEY_MOST:
		arguments->export.most = (uint32_t)arguments_whole(state, "most", argument, 1, 256);
		break;
	case KEY_JSON: arguments->json = true; break;
	case KEY_QUIET: arguments->quiet = true; break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (!arguments->state || !arguments->what || !arguments->export.name)
			argp_error(state, "--state, --what and --out are needed");
		arguments->export.items = arguments->side ? strcmp(arguments->side, "items") == 0
							  : arguments->export.what == EXPORT_SEEDS;
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static enum status open_state(const char *path, const struct advance *advance, struct updater **out,
			      struct error *error)
{
	struct stat info;
	char *newest = NULL;
	enum status status = STATUS_OK;

	if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
		status = snapshot_newest(path, &newest, error);
		if (status == STATUS_NOT_FOUND)
			return error_set(error, STATUS_NO_INPUT, "%s holds no snapshot", path);
	}
	if (status == STATUS_OK)
		status = snapshot_open(newest ? newest : path, advance, out, error);
	mem_free(newest);
	return status;
}

int cmd_export(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {0};
	struct progress_parts progress = {0};
	struct advance advance = {progress_part, &progress};
	struct updater *updater = NULL;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct error error = {0};
	uint64_t rows = 0;
	enum status status;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	progress.wanted = !arguments.json && !arguments.quiet;
	arguments.export.advance = &advance;
	status = open_state(arguments.state, &advance, &updater, &error);
	if (status == STATUS_OK)
		status = pool_create(processors < 1 ? 1 : processors > THREADS_MAX ? THREADS_MAX : (uint32_t)processors,
				     &arguments.export.threads, &error);
	if (status == STATUS_OK)
		status = export_state(updater, &arguments.export, &rows, &error);
	progress_end(&progress.progress);
	pool_destroy(arguments.export.threads);
	updater_destroy(updater);
	if (status != STATUS_OK)
		return cli_fail(&error);
	const char *ending = arguments.export.what == EXPORT_NEIGHBORS || arguments.export.what == EXPORT_GRAPH
				     ? "tsv" : "npy";
	if (arguments.json)
		printf("{\"what\":\"%s\",\"rows\":%" PRIu64 ",\"file\":\"%s.%s\"}\n", arguments.what, rows,
		       arguments.export.name, ending);
	else if (!arguments.quiet)
		printf("%" PRIu64 " rows of %s in %s.%s\n", rows, arguments.what, arguments.export.name, ending);
	return 0;
}
