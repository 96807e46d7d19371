/* seeds_until.c - reads "trained_until" of NAME.json for the seeds that the settings name. One thread, at the start. */
#include "ops/cli/seeds_until.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum status read_until(const char *path, int64_t *until_ms, bool *said, struct error *error)
{
	json_error_t trouble;
	json_t *root, *until;
	enum status status = STATUS_OK;

	*said = false;
	if (access(path, F_OK) != 0)
		return STATUS_OK;
	root = json_load_file(path, JSON_REJECT_DUPLICATES, &trouble);
	until = json_object_get(root, "trained_until");
	if (!root)
		status = error_set(error, STATUS_CORRUPT, "%s: byte %d: %s", path, trouble.position, trouble.text);
	else if (until && !json_is_null(until) && !json_is_integer(until))
		status = error_set(error, STATUS_CORRUPT, "%s: \"trained_until\" must be a time in milliseconds", path);
	else if (json_is_integer(until)) {
		*until_ms = json_integer_value(until);
		*said = true;
	}
	json_decref(root);
	return status;
}

enum status seeds_until(const struct updater_options *options, int64_t *until_ms, const char **unsaid,
			struct error *error)
{
	const char *names[] = {options->item_seeds, options->user_seeds};
	enum status status = STATUS_OK;

	*unsaid = NULL;
	for (size_t i = 0; i < sizeof names / sizeof names[0] && !status; i++) {
		char path[PATH_MAX];
		int64_t until;
		bool said;
		if (!names[i])
			continue;
		if ((size_t)snprintf(path, sizeof path, "%s.json", names[i]) >= sizeof path)
			return error_set(error, STATUS_CONFIG, "seeds: a name of %zu bytes", strlen(names[i]));
		status = read_until(path, &until, &said, error);
		if (status)
			break;
		if (!said)
			*unsaid = names[i];
		else if (until > *until_ms)
			*until_ms = until;
	}
	return status;
}
