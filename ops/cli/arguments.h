/* arguments.h - what the command lines of several commands have in common: numbers, --config and --set.
 * Only while argp parses; mistakes end the process with exit code 64, as argp's own do. */
#ifndef EXITPOLL_OPS_CLI_ARGUMENTS_H
#define EXITPOLL_OPS_CLI_ARGUMENTS_H

#include <argp.h>
#include <stddef.h>
#include <stdint.h>

enum { ARGUMENTS_PAIRS_MAX = 256 };

/* For settings_load(). */
struct settings_arguments {
	const char *config_file;        /* NULL: none */
	char *pairs[ARGUMENTS_PAIRS_MAX];
	size_t pairs_count;
};

/* One more --set KEY=VALUE; borrowed. */
void arguments_add_pair(struct argp_state *state, struct settings_arguments *settings, char *pair);

/* The whole number that --name was given, from min to max. */
uint64_t arguments_whole(struct argp_state *state, const char *name, const char *text, uint64_t min,
			 uint64_t max);

#endif
