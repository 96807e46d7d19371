/* main.c - finds the command; the only place that turns a status into an exit code of the process. */
#include "ops/cli/cli.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static const struct cli_command commands[] = {
#if EXITPOLL_KAFKA
	{"import", "tables of interactions and items become items, interactions and impressions", cmd_import},
	{"run", "the processor: events in, predictions out", cmd_run},
	{"replay", "container files to Kafka topics, in event-time order", cmd_replay},
	{"export", "state to files for others: embeddings, neighbours, seeds, graph", cmd_export},
	{"samples", "a folder of events becomes training samples", cmd_samples},
	{"topics", "create or check the topics with the right settings", cmd_topics},
#endif
	{"inspect", "look into a model, snapshot, container file, user or item; --check verifies", cmd_inspect},
	{"score", "one impression or prompt from standard input, without a stream", cmd_score},
	{"tokenize", "text to token ids", cmd_tokenize},
	{"fit-heads", "samples and a model become a bundle with trained exit heads", cmd_fit_heads},
#if EXITPOLL_KAFKA
	{"evaluate", "predictions and what happened afterwards: AUC, calibration, depth, by layer", cmd_evaluate},
#endif
	{"bench", "the benchmarks, one table", cmd_bench},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *out)
{
	fprintf(out, "Usage: exitpoll COMMAND [OPTION...]\n\n"
		     "Predicts click-through rates for a stream of impressions with a language model.\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(out, "\n`exitpoll COMMAND --help` explains a command, with examples.\n"
		     "Exit codes are those of sysexits.h (64 usage, 65 malformed input, 66 no input, 73 cannot\n"
		     "create output, 74 input/output, 75 try again, 78 configuration); 80: fenced by another\n"
		     "instance with the same instance.id.\n");
}

static int unknown_command(const char *name)
{
	size_t best = 0;

	for (size_t i = 1; i < COMMANDS; i++)
		if (text_distance(name, commands[i].name) < text_distance(name, commands[best].name))
			best = i;
	fprintf(stderr, "exitpoll: unknown command '%s'", name);
	if (text_distance(name, commands[best].name) <= 3)
		fprintf(stderr, "; did you mean '%s'?", commands[best].name);
	fprintf(stderr, "\nTry `exitpoll --help`.\n");
	return status_exit_code(STATUS_USAGE);
}

int main(int argc, char **argv)
{
	char name[64];

	if (argc < 2) {
		print_help(stderr);
		return status_exit_code(STATUS_USAGE);
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("exitpoll %s\n", EXITPOLL_VERSION);
		return 0;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[1], commands[i].name) == 0) {
			snprintf(name, sizeof name, "exitpoll %s", commands[i].name);
			argv[1] = name;
			return commands[i].run(argc - 1, argv + 1);
		}
	}
	return unknown_command(argv[1]);
}
