/* cli.h - what the commands share: the table of commands, how failures are said, the stop flag. */
#ifndef EXITPOLL_OPS_CLI_CLI_H
#define EXITPOLL_OPS_CLI_CLI_H

#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>

struct cli_command {
	const char *name;
	const char *summary;                    /* one line */
	int (*run)(int argc, char **argv);      /* argv[0] is "exitpoll NAME"; returns the exit code */
};

int cmd_run(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_topics(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_score(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_samples(int argc, char **argv);
int cmd_fit_heads(int argc, char **argv);
int cmd_evaluate(int argc, char **argv);
int cmd_bench(int argc, char **argv);

/* Prints "exitpoll: <text>" to standard error and returns the exit code of the status. */
int cli_fail(const struct error *error);
/* The same for a mistake on the command line (exit code 64), with a pointer to --help. */
int cli_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* SIGTERM and SIGINT set the flag that cli_stopping() reads; a second signal leaves the process at once
 * (exit code 130/143), which no guarantee depends on. */
void cli_catch_signals(void);
bool cli_stopping(void);

/* Writes text as a JSON string, quotes included; invalid UTF-8 is replaced. */
void cli_json_string(FILE *out, const char *bytes, size_t size);

#endif
