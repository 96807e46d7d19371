/* updater_state.c - the state folder: which snapshots are kept, which one a start takes.
 *
 * Invariant: a file named snapshot-<graph_version>.snap was complete and durable when it got its name.
 * Kept are the newest three and the newest whose clock is before the oldest unanswered impression, so
 * that a restart can always go back to before it. Owner thread. */
#include "graph-updater/snapshot.h"

#include "base/log.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEPT = 3, FILES_MAX = 4096, PATH_BYTES = 4096 };

/* The graph_version in a file name; -1: not one of ours. *temporary: left behind by a crash. */
static int64_t version_of(const char *name, bool *temporary)
{
	static const char head[] = "snapshot-", tail[] = ".snap";
	const char *digits = name + sizeof head - 1;
	char *end;
	int64_t version;

	if (strncmp(name, head, sizeof head - 1) != 0 || !isdigit((unsigned char)*digits))
		return -1;
	errno = 0;
	version = strtoll(digits, &end, 10);
	if (errno || strncmp(end, tail, sizeof tail - 1) != 0)
		return -1;
	end += sizeof tail - 1;
	*temporary = !strcmp(end, ".tmp");
	return *temporary || !*end ? version : -1;
}

static int compare_descending(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return (a < b) - (a > b);
}

static bool path_of(const char *folder, int64_t version, const char *suffix, char path[PATH_BYTES])
{
	return snprintf(path, PATH_BYTES, "%s/snapshot-%" PRId64 ".snap%s", folder, version,
			suffix) < PATH_BYTES;
}

/* Versions in the folder, newest first; [*count], the caller's. A folder that is not there is empty. */
static enum status list_versions(const char *folder, int64_t **out, size_t *count, struct error *error)
{
	DIR *directory = opendir(folder);
	int64_t *versions = NULL;
	size_t capacity = 0;
	struct dirent *entry;

	*out = NULL;
	*count = 0;
	if (!directory)
		return errno == ENOENT ? STATUS_OK
				       : error_set(error, STATUS_IO, "state folder %s: %s", folder,
						   strerror(errno));
	while ((entry = readdir(directory))) {
		bool temporary;
		int64_t version = version_of(entry->d_name, &temporary);
		if (version < 0 || temporary)
			continue;
		if (!mem_reserve((void **)&versions, &capacity, *count, FILES_MAX, sizeof *versions)) {
			closedir(directory);
			mem_free(versions);
			*count = 0;
			return error_set(error, STATUS_NO_MEMORY, "state folder %s: too many snapshots",
					 folder);
		}
		versions[(*count)++] = version;
	}
	closedir(directory);
	if (*count)
		qsort(versions, *count, sizeof *versions, compare_descending);
	*out = versions;
	return STATUS_OK;
}

/* ---- save ---- */

static int ask(const struct snapshot_faults *faults, const char *operation)
{
	return faults ? faults->before(faults->context, operation, &(size_t){0}) : 0;
}

/* Failing to delete costs space only: said in the log. */
static void delete_file(const char *path, const struct snapshot_faults *faults)
{
	int code = ask(faults, "unlink");

	if (code || (unlink(path) && errno != ENOENT))
		log_warning("snapshot.unlink", "file=%s error=\"%s\"", path, strerror(code ? code : errno));
}

static void delete_old(const char *folder, int64_t oldest_unanswered_ms, const struct snapshot_faults *faults)
{
	char path[PATH_BYTES];
	struct error error = {0};
	int64_t *versions;
	size_t count;
	bool have_old_enough = false;

	if (list_versions(folder, &versions, &count, &error)) {
		log_warning("snapshot.list", "error=\"%s\"", error.text);
		return;
	}
	for (size_t v = 0; v < count; v++) {
		struct snapshot_info info;
		bool old_enough = !have_old_enough && path_of(folder, versions[v], "", path) &&
				  !snapshot_get_info(path, &info, NULL) &&
				  (info.clock_ms < oldest_unanswered_ms || oldest_unanswered_ms == INT64_MAX);
		have_old_enough |= old_enough;
		if (v >= KEPT && !old_enough && path_of(folder, versions[v], "", path))
			delete_file(path, faults);
	}
	mem_free(versions);
}

/* What a crash has left behind. Only one process owns a state folder, and it is not writing now. */
static void delete_temporaries(const char *folder, const struct snapshot_faults *faults)
{
	DIR *directory = opendir(folder);
	struct dirent *entry;
	char path[PATH_BYTES];

	while (directory && (entry = readdir(directory))) {
		bool temporary;
		int64_t version = version_of(entry->d_name, &temporary);
		if (version >= 0 && temporary && path_of(folder, version, ".tmp", path))
			delete_file(path, faults);
	}
	if (directory)
		closedir(directory);
}

enum status snapshot_save_folder(const struct updater *updater, const char *folder,
				 const struct position *positions, size_t positions_count,
				 int64_t oldest_unanswered_ms, const struct snapshot_faults *faults,
				 struct error *error)
{
	char path[PATH_BYTES];
	enum status status;

	if (mkdir(folder, 0700) && errno != EEXIST)
		return error_set(error, STATUS_CANNOT_CREATE, "state folder %s: %s", folder, strerror(errno));
	if (!path_of(folder, updater->graph_version, "", path))
		return error_set(error, STATUS_CANNOT_CREATE, "state folder %s: the name is too long",
				 folder);
	delete_temporaries(folder, faults);
	status = snapshot_write(updater, path, positions, positions_count, faults, error);
	if (!status)
		delete_old(folder, oldest_unanswered_ms, faults);
	return status;
}

enum status updater_save(const struct updater *updater, const char *folder,
			 const struct position *positions, size_t positions_count,
			 int64_t oldest_unanswered_ms, struct error *error)
{
	return snapshot_save_folder(updater, folder, positions, positions_count, oldest_unanswered_ms, NULL,
				    error);
}

/* ---- restore ---- */

/* Usable means: begins well and its clock is before not_after_ms. */
static bool is_usable(const char *path, int64_t not_after_ms, bool *damaged, struct error *error)
{
	struct snapshot_info info;

	*damaged = snapshot_get_info(path, &info, error) != STATUS_OK;
	return !*damaged && (info.clock_ms < not_after_ms || not_after_ms == INT64_MAX);
}

enum status updater_restore(struct updater *updater, const char *folder, int64_t not_after_ms,
			    const struct position **positions, size_t *positions_count,
			    struct error *error)
{
	char path[PATH_BYTES];
	int64_t *versions;
	size_t count;
	enum status status = list_versions(folder, &versions, &count, error);

	if (status)
		return status;
	status = STATUS_NOT_FOUND;
	for (size_t v = 0; v < count && status == STATUS_NOT_FOUND; v++) {
		struct error why = {0}, again = {0};
		bool damaged;
		if (!path_of(folder, versions[v], "", path))
			continue;
		if (is_usable(path, not_after_ms, &damaged, &why)) {
			status = snapshot_read(updater, path, NULL, &why);
			damaged = status != STATUS_OK;
		}
		if (!damaged)
			continue;       /* restored, or too new */
		if (why.status == STATUS_CORRUPT) {
			log_warning("snapshot.damaged",
				    "file=%s error=\"%s\" action=\"trying the one before\"", path,
				    why.text);
			status = STATUS_NOT_FOUND;
		} else {
			status = error_set(error, why.status, "%s", why.text);
		}
		updater_parts_destroy(updater);
		if (updater_parts_create(updater, &again))
			status = error_set(error, again.status, "%s", again.text);
	}
	mem_free(versions);
	if (status == STATUS_NOT_FOUND)
		return error_set(error, STATUS_NOT_FOUND, "no usable snapshot in %s", folder);
	if (!status)
		status = updater_check_memory(updater, error);
	if (status)
		return status;
	*positions = updater->positions;
	*positions_count = updater->positions_count;
	return STATUS_OK;
}

/* ---- looking at files ---- */

enum status snapshot_newest(const char *folder, char **out, struct error *error)
{
	char path[PATH_BYTES];
	int64_t *versions;
	size_t count;
	enum status status = list_versions(folder, &versions, &count, error);

	if (status)
		return status;
	status = error_set(error, STATUS_NOT_FOUND, "no usable snapshot in %s", folder);
	for (size_t v = 0; v < count && status; v++) {
		struct snapshot_info info;
		if (!path_of(folder, versions[v], "", path) || snapshot_get_info(path, &info, NULL))
			continue;
		*out = mem_copy_string(path);
		status = *out ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	}
	mem_free(versions);
	return status;
}

enum status snapshot_open(const char *path, const struct advance *advance, struct updater **out,
			  struct error *error)
{
	struct updater_options options;
	struct updater *updater = NULL;
	void *names;
	enum status status = snapshot_get_options(path, &options, &names, error);

	if (status)
		return status;
	status = updater_create(&options, &updater, error);
	if (status == STATUS_CONFIG)
		status = error_set(error, STATUS_CORRUPT, "snapshot %s: its options are not valid", path);
	if (!status)
		status = snapshot_read(updater, path, advance, error);
	mem_free(names);
	if (status)
		updater_destroy(updater);
	else
		*out = updater;
	return status;
}

enum status snapshot_check(const char *path, const struct advance *advance, struct snapshot_info *out,
			   bool *exact, struct error *error)
{
	struct snapshot_info info;
	struct updater *updater;
	enum status status = snapshot_get_info(path, &info, error);

	if (status)
		return status;
	status = snapshot_open(path, advance, &updater, error);
	if (status)
		return status;
	status = updater_check(updater, error);
	if (status == STATUS_INTERNAL) {
		error_prefix(error, "snapshot %s", path);
		if (error)
			error->status = STATUS_CORRUPT;
		status = STATUS_CORRUPT;
	}
	if (!status)
		status = gcn_measure(updater->gcn, &info.accuracy, error);
	if (!status && exact)
		*exact = updater->options.threshold == 0 && updater->events_since_flush == 0;
	if (!status)
		*out = info;
	updater_destroy(updater);
	return status;
}
