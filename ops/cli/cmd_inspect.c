/* cmd_inspect.c - `exitpoll inspect`: finds out what a path or address is and looks into it. */
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/inspect.h"

#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PAIRS_MAX = 64 };

struct arguments {
	struct inspect_options inspect;
	char *pairs[PAIRS_MAX];
	size_t pairs_count;
};

enum option_key { KEY_CHECK = 0x100, KEY_JSON, KEY_RECORDS, KEY_USER, KEY_ITEM, KEY_SET, KEY_DEVICE };

static const struct argp_option options[] = {
	{"check", KEY_CHECK, NULL, 0, "verify everything; exit code 65 and file, byte, reason if it is malformed", 0},
	{"device", KEY_DEVICE, NULL, 0, "the GPU: what is there, why it is not used, what of a model fits", 0},
	{"json", KEY_JSON, NULL, 0, "as JSON", 0},
	{"records", KEY_RECORDS, "N", 0, "print the first N records of a container file or topic as JSON", 0},
	{"user", KEY_USER, "ID", 0, "a user of a snapshot", 0},
	{"item", KEY_ITEM, "ID", 0, "an item of a snapshot", 0},
	{"set", KEY_SET, "KEY=VALUE", 0, "a setting, for topics (kafka.*, schema.registry)", 0},
	{0},
};

static const char description[] =
	"Looks into a model (folder, GGUF or safetensors file), a container file, a snapshot or state folder,\n"
	"a topic or a record.\v"
	"Examples:\n"
	"  exitpoll inspect SmolLM2-135M-Instruct.Q4_1.gguf\n"
	"  exitpoll inspect out/predictions.avro --records 3\n"
	"  exitpoll inspect exitpoll-state --user A281NPSIMI1C2R\n"
	"  exitpoll inspect --check exitpoll-state/snapshot-120000.snap\n"
	"  exitpoll inspect kafka://localhost:9092/predictions/0/17\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_CHECK: arguments->inspect.check = true; break;
	case KEY_DEVICE: arguments->inspect.device = true; break;
	case KEY_JSON: arguments->inspect.json = true; break;
	case KEY_RECORDS:
		arguments->inspect.records_max = arguments_whole(state, "records", argument, 0, SIZE_MAX);
		break;
	case KEY_USER: arguments->inspect.user = argument; break;
	case KEY_ITEM: arguments->inspect.item = argument; break;
	case KEY_SET:
		if (arguments->pairs_count == PAIRS_MAX)
			argp_error(state, "--set more than %d times", (int)PAIRS_MAX);
		arguments->pairs[arguments->pairs_count++] = argument;
		break;
	case ARGP_KEY_ARG:
		if (arguments->inspect.target)
			argp_error(state, "one thing at a time: '%s' is too much", argument);
		arguments->inspect.target = argument;
		break;
	case ARGP_KEY_END:
		if (!arguments->inspect.target && !arguments->inspect.device)
			argp_error(state, "a path or kafka:// address is needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static bool has_ending(const char *name, const char *ending)
{
	size_t size = strlen(name), ending_size = strlen(ending);
	return size >= ending_size && strcmp(name + size - ending_size, ending) == 0;
}

#if EXITPOLL_KAFKA
static bool folder_holds_snapshots(const char *path)
{
	DIR *folder = opendir(path);
	bool found = false;

	for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;)
		found = found || has_ending(entry->d_name, ".snap");
	if (folder)
		closedir(folder);
	return found;
}

static size_t first_bytes(const char *path, char *out, size_t size)
{
	FILE *file = fopen(path, "re");
	size_t used = file ? fread(out, 1, size, file) : 0;

	if (file)
		fclose(file);
	return used;
}
#endif

static enum status inspect(struct arguments *arguments, struct error *error)
{
	const struct inspect_options *options_given = &arguments->inspect;
	const char *target = options_given->target;
	struct stat info;

#if EXITPOLL_KAFKA
	if (strncmp(target, "kafka://", 8) == 0)
		return inspect_topic(options_given, arguments->pairs, arguments->pairs_count, error);
#endif
	if (stat(target, &info) != 0)
		return error_set(error, STATUS_NO_INPUT, "cannot open %s: %s", target, strerror(errno));
#if EXITPOLL_KAFKA
	if (S_ISDIR(info.st_mode) && folder_holds_snapshots(target))
		return inspect_snapshot(options_given, error);
	if (S_ISREG(info.st_mode)) {
		char magic[4] = "";
		size_t size = first_bytes(target, magic, sizeof magic);
		if ((size >= 3 && memcmp(magic, "Obj", 3) == 0) || has_ending(target, ".avro"))
			return inspect_container(options_given, error);
		if (has_ending(target, ".snap"))
			return inspect_snapshot(options_given, error);
	}
#endif
	if (S_ISREG(info.st_mode) && has_ending(target, ".safetensors"))
		return inspect_safetensors(options_given, error);
	return inspect_model(options_given, error);
}

int cmd_inspect(int argc, char **argv)
{
	static const struct argp parser = {options, parse_option, "PATH|kafka://HOST:PORT/TOPIC[/PARTITION[/OFFSET]]",
					   description, NULL, NULL, NULL};
	struct arguments arguments = {0};
	struct error error = {0};
	enum status status;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	status = arguments.inspect.device ? inspect_device(&arguments.inspect, &error) : inspect(&arguments, &error);
	return status == STATUS_OK ? 0 : cli_fail(&error);
}
