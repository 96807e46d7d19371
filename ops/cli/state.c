/* state.c - see state.h. Small files appear by rename. */
#include "ops/cli/state.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, ORIGIN_BYTES = 4096 };

static enum status make_folders(const char *folder, struct error *error)
{
	char path[PATH_BYTES];

	if (snprintf(path, sizeof path, "%s", folder) >= (int)sizeof path)
		return error_set(error, STATUS_CANNOT_CREATE, "the path of the state folder is too long");
	for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		if (mkdir(path, 0777) != 0 && errno != EEXIST)
			return error_set(error, STATUS_CANNOT_CREATE, "cannot create the state folder %s: %s", path,
					 strerror(errno));
		if (!slash)
			return STATUS_OK;
		*slash = '/';
	}
}

static enum status path_in(const char *folder, const char *name, char *out, struct error *error)
{
	if (snprintf(out, PATH_BYTES, "%s/%s", folder, name) >= PATH_BYTES)
		return error_set(error, STATUS_CANNOT_CREATE, "the path of the state folder is too long");
	return STATUS_OK;
}

/* Reads a small text file; *found = false if it is not there. */
static enum status read_text(const char *path, char *out, size_t size, bool *found, struct error *error)
{
	FILE *file = fopen(path, "re");
	size_t used;

	*found = file != NULL;
	if (!file)
		return errno == ENOENT ? STATUS_OK
				       : error_set(error, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
	used = fread(out, 1, size - 1, file);
	fclose(file);
	while (used > 0 && out[used - 1] == '\n')
		used--;
	out[used] = '\0';
	return STATUS_OK;
}

static enum status write_text(const char *path, const char *text, struct error *error)
{
	const struct file_part parts[] = {{text, strlen(text)}, {"\n", 1}};
	struct error why = {0};

	if (file_replace(path, parts, 2, true, &why) != STATUS_OK)
		return error_set(error, STATUS_IO, "cannot write %s", why.text);
	return STATUS_OK;
}

static enum status instance_id(const char *folder, char *out, struct error *error)
{
	char path[PATH_BYTES];
	uint64_t random;
	bool found;
	enum status status = path_in(folder, "instance.id", path, error);

	if (status == STATUS_OK)
		status = read_text(path, out, STATE_INSTANCE_ID_BYTES, &found, error);
	if (status != STATUS_OK || (found && out[0]))
		return status;
	if (getrandom(&random, sizeof random, 0) != sizeof random)
		return error_set(error, STATUS_INTERNAL, "no random bytes: %s", strerror(errno));
	snprintf(out, STATE_INSTANCE_ID_BYTES, "exitpoll-%016llx", (unsigned long long)random);
	return write_text(path, out, error);
}

static enum status check_origin(const char *folder, const char *origin, struct error *error)
{
	char path[PATH_BYTES], found_origin[ORIGIN_BYTES];
	bool found;
	enum status status = path_in(folder, "origin", path, error);

	if (status == STATUS_OK)
		status = read_text(path, found_origin, sizeof found_origin, &found, error);
	if (status != STATUS_OK)
		return status;
	if (!found)
		return write_text(path, origin, error);
	if (strcmp(found_origin, origin) != 0)
		return error_set(error, STATUS_CONFIG, "the state in %s was built from %s, not from %s: positions "
				 "mean nothing there; give another --state, or remove that folder", folder,
				 found_origin, origin);
	return STATUS_OK;
}

enum status state_open(const char *folder, const char *origin, struct state *out, struct error *error)
{
	struct state state = {.lock_fd = -1};
	char path[PATH_BYTES];
	enum status status = make_folders(folder, error);

	if (status == STATUS_OK)
		status = path_in(folder, "lock", path, error);
	if (status != STATUS_OK)
		return status;
	state.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (state.lock_fd < 0)
		return error_set(error, STATUS_CANNOT_CREATE, "cannot create %s: %s", path, strerror(errno));
	if (flock(state.lock_fd, LOCK_EX | LOCK_NB) != 0) {
		close(state.lock_fd);
		return error_set(error, STATUS_RETRY, "another exitpoll runs on the state folder %s", folder);
	}
	status = instance_id(folder, state.instance_id, error);
	if (status == STATUS_OK && origin)
		status = check_origin(folder, origin, error);
	if (status != STATUS_OK) {
		state_close(&state);
		return status;
	}
	*out = state;
	return STATUS_OK;
}

enum status state_open_waiting(const char *folder, const char *origin, long wait_ms, struct state *out,
			       struct error *error)
{
	enum { PAUSE_MS = 50 };
	enum status status = state_open(folder, origin, out, error);

	for (long waited_ms = 0; status == STATUS_RETRY && waited_ms < wait_ms; waited_ms += PAUSE_MS) {
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
		status = state_open(folder, origin, out, error);
	}
	return status;
}

void state_close(struct state *state)
{
	if (state->lock_fd >= 0)
		close(state->lock_fd);
	state->lock_fd = -1;
}
