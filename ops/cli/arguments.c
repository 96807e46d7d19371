/* arguments.c - see arguments.h. Called by the option parsers of the commands. */
#include "ops/cli/arguments.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

void arguments_add_pair(struct argp_state *state, struct settings_arguments *settings, char *pair)
{
	if (settings->pairs_count == ARGUMENTS_PAIRS_MAX)
		argp_error(state, "--set more than %d times", (int)ARGUMENTS_PAIRS_MAX);
	settings->pairs[settings->pairs_count++] = pair;
}

uint64_t arguments_whole(struct argp_state *state, const char *name, const char *text, uint64_t min,
			 uint64_t max)
{
	char *end;

	errno = 0;
	uint64_t number = strtoull(text, &end, 10);
	/* strtoull would take a sign, and wrap what it stands before. */
	if (!isdigit((unsigned char)*text) || *end || errno || number < min || number > max)
		argp_error(state, "--%s %s: a number from %" PRIu64 " to %" PRIu64 " is needed", name, text, min, max);
	return number;
}
