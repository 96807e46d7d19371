/* registry_folder.c - schemas from a local directory, for those who have no registry service.
 *
 * <id>.avsc holds the schema of an id and never changes; <subject>.ids names the ids of a subject, one a
 * line, newest last. Invariant: a file appears whole or not at all (written aside, then linked), and an
 * id is given out once, also with several processes: additions happen under flock of ".lock". Called by
 * registry.c, any thread. */
#include "base/mem.h"
#include "schemas/registry_backend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	IDS_MAX = 65536,                /* schemas in one folder */
	IDS_FILE_BYTES_MAX = 1 << 20,
	NAME_BYTES = 320,
};

struct folder {
	struct registry_backend backend;        /* first: the backend is the object */
	char *path;
	char *description;
};

/* ---- files ---- */

/* Reads a whole file of the folder, NUL-terminated. *out NULL and OK: it does not exist. */
static enum status read_whole(const struct folder *folder, int directory, const char *name,
			      size_t bytes_max, char **out, struct error *error)
{
	int file = openat(directory, name, O_RDONLY | O_CLOEXEC);
	struct stat facts;
	char *bytes = NULL;
	size_t used = 0;
	ssize_t got = 0;
	enum status status = STATUS_OK;

	*out = NULL;
	if (file < 0 && errno == ENOENT)
		return STATUS_OK;
	if (file < 0 || fstat(file, &facts)) {
		status = error_set(error, errno == EACCES ? STATUS_NO_PERMISSION : STATUS_IO,
				   "cannot open %s/%s: %m", folder->path, name);
		goto cleanup;
	}
	if (!S_ISREG(facts.st_mode) || (uint64_t)facts.st_size > bytes_max) {
		status = error_set(error, STATUS_LIMIT, "%s/%s is no file of at most %zu bytes", folder->path,
				   name, bytes_max);
		goto cleanup;
	}
	bytes = mem_alloc((size_t)facts.st_size + 1);
	if (!bytes) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for %s/%s", folder->path, name);
		goto cleanup;
	}
	while (used < (size_t)facts.st_size &&
	       (got = read(file, bytes + used, (size_t)facts.st_size - used)) > 0)
		used += (size_t)got;
	if (got < 0) {
		status = error_set(error, STATUS_IO, "cannot read %s/%s: %m", folder->path, name);
		goto cleanup;
	}
	bytes[used] = '\0';
	*out = bytes;
	bytes = NULL;
cleanup:
	mem_free(bytes);
	if (file >= 0)
		close(file);
	return status;
}

static bool write_all(int file, const char *bytes, size_t count)
{
	while (count > 0) {
		ssize_t done = write(file, bytes, count);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return false;
		bytes += done;
		count -= (size_t)done;
	}
	return true;
}

/* Writes name whole: aside, synced, renamed over what is there. The caller holds the lock. */
static enum status write_whole(const struct folder *folder, int directory, const char *name,
			       const char *bytes, struct error *error)
{
	static const char aside[] = ".new";
	int file = openat(directory, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	bool done = file >= 0 && write_all(file, bytes, strlen(bytes)) && fsync(file) == 0;

	if (done)
		done = renameat(directory, aside, directory, name) == 0 && fsync(directory) == 0;
	if (!done)
		error_set(error, STATUS_CANNOT_CREATE, "cannot write %s/%s: %m", folder->path, name);
	if (file >= 0)
		close(file);
	return done ? STATUS_OK : STATUS_CANNOT_CREATE;
}

static enum status open_folder(const struct folder *folder, int *out, struct error *error)
{
	int directory = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return error_set(error, STATUS_RETRY, "schema.registry: cannot open the folder %s: %m",
				 folder->path);
	*out = directory;
	return STATUS_OK;
}

/* ---- reading ---- */

static enum status folder_fetch(struct registry_backend *self, uint32_t schema_id, char **json,
				struct error *error)
{
	struct folder *folder = (struct folder *)self;
	char name[NAME_BYTES], *bytes = NULL;
	int directory = -1;
	enum status status = open_folder(folder, &directory, error);

	if (status)
		return status;
	snprintf(name, sizeof name, "%u.avsc", schema_id);
	status = read_whole(folder, directory, name, SCHEMA_BYTES_MAX, &bytes, error);
	if (!status && !bytes)
		status = error_set(error, STATUS_UNKNOWN_SCHEMA, "schema id %u is unknown: there is no %s/%s; "
				   "does schema.registry name the folder that the writer uses?", schema_id,
				   folder->path, name);
	if (!status)
		*json = bytes;
	close(directory);
	return status;
}

/* ---- adding ---- */

static bool parse_id(const char *text, const char **end, uint32_t *schema_id)
{
	uint64_t value = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9' && value <= UINT32_MAX; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	*end = at;
	*schema_id = (uint32_t)value;
	return at > text && value <= UINT32_MAX;
}

/* Where our schema is already, under whatever subject; and the first id above all others. */
static enum status find_schema(const struct folder *folder, int directory, const json_t *ours, bool *found,
			       uint32_t *schema_id, uint32_t *next_id, struct error *error)
{
	int again = dup(directory);
	DIR *listing = again < 0 ? NULL : fdopendir(again);
	size_t seen = 0;
	enum status status = STATUS_OK;
	struct dirent *entry;

	*found = false;
	*next_id = 1;
	if (!listing) {
		if (again >= 0)
			close(again);
		return error_set(error, STATUS_IO, "cannot list %s: %m", folder->path);
	}
	rewinddir(listing);
	while (!status && (entry = readdir(listing))) {
		const char *end;
		char *bytes = NULL;
		json_t *theirs;
		uint32_t id;

		if (!parse_id(entry->d_name, &end, &id) || strcmp(end, ".avsc") != 0)
			continue;
		if (++seen > IDS_MAX || id == UINT32_MAX) {
			status = error_set(error, STATUS_CANNOT_CREATE, "%s has no room for another schema id",
					   folder->path);
			break;
		}
		if (id >= *next_id)
			*next_id = id + 1;
		status = read_whole(folder, directory, entry->d_name, SCHEMA_BYTES_MAX, &bytes, error);
		theirs = bytes ? json_loads(bytes, 0, NULL) : NULL;
		/* Of several the lowest id, so that the answer does not depend on the listing's order. */
		if (theirs && json_equal(theirs, ours) && (!*found || id < *schema_id)) {
			*found = true;
			*schema_id = id;
		}
		json_decref(theirs);
		mem_free(bytes);
	}
	closedir(listing);
	return status;
}

/* Ids are shared by all subjects, so only membership counts, not the place in the list. */
static bool lists_id(const char *ids, uint32_t schema_id)
{
	while (*ids) {
		const char *end;
		uint32_t id;

		if (parse_id(ids, &end, &id) && id == schema_id && (*end == '\n' || *end == '\0'))
			return true;
		ids = strchr(ids, '\n');
		if (!ids)
			return false;
		ids++;
	}
	return false;
}

static enum status add_to_subject(const struct folder *folder, int directory, const char *subject,
				  uint32_t schema_id, struct error *error)
{
	char name[NAME_BYTES], *ids = NULL, *longer = NULL;
	size_t bytes;
	enum status status;

	snprintf(name, sizeof name, "%s.ids", subject);
	status = read_whole(folder, directory, name, IDS_FILE_BYTES_MAX, &ids, error);
	if (status || (ids && lists_id(ids, schema_id)))
		goto cleanup;
	bytes = (ids ? strlen(ids) : 0) + 16;
	longer = mem_alloc(bytes);
	if (!longer) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for %s/%s", folder->path, name);
		goto cleanup;
	}
	snprintf(longer, bytes, "%s%s%u\n", ids ? ids : "",
		 ids && *ids && ids[strlen(ids) - 1] != '\n' ? "\n" : "", schema_id);
	status = write_whole(folder, directory, name, longer, error);
cleanup:
	mem_free(ids);
	mem_free(longer);
	return status;
}

static enum status folder_publish(struct registry_backend *self, enum record_type type,
				  const char *subject, const char *json, uint32_t *schema_id,
				  struct error *error)
{
	struct folder *folder = (struct folder *)self;
	json_t *ours = json_loads(json, 0, NULL);
	int directory = -1, lock = -1;
	uint32_t id = 0, next_id;
	char name[NAME_BYTES];
	bool found;
	enum status status;

	(void)type;
	if (!ours)
		return error_set(error, STATUS_INTERNAL, "our own schema is no JSON");
	if (strchr(subject, '/')) {
		status = error_set(error, STATUS_CONFIG, "%s is no name of a Kafka topic", subject);
		goto cleanup;
	}
	status = open_folder(folder, &directory, error);
	if (status)
		goto cleanup;
	/* First without the lock: a folder that may only be read is enough once the schema is there. */
	status = find_schema(folder, directory, ours, &found, &id, &next_id, error);
	if (status)
		goto cleanup;
	lock = openat(directory, ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (lock < 0 || flock(lock, LOCK_EX)) {
		if (found)
			*schema_id = id;
		else
			status = error_set(error, STATUS_CANNOT_CREATE, "cannot add our schema to %s: %m",
					   folder->path);
		goto cleanup;
	}
	status = find_schema(folder, directory, ours, &found, &id, &next_id, error);
	if (status)
		goto cleanup;
	if (!found) {
		id = next_id;
		snprintf(name, sizeof name, "%u.avsc", id);
		status = write_whole(folder, directory, name, json, error);
		if (status)
			goto cleanup;
	}
	status = add_to_subject(folder, directory, subject, id, error);
	if (!status)
		*schema_id = id;
cleanup:
	if (lock >= 0)
		close(lock);
	if (directory >= 0)
		close(directory);
	json_decref(ours);
	return status;
}

/* ---- life ---- */

static void folder_destroy(struct registry_backend *self)
{
	struct folder *folder = (struct folder *)self;
	mem_free(folder->path);
	mem_free(folder->description);
	mem_free(folder);
}

enum status registry_folder_create(const char *path, struct registry_backend **out, struct error *error)
{
	static const char prefix[] = "directory ";
	struct folder *folder;
	struct stat facts;
	size_t bytes;

	if (stat(path, &facts) || !S_ISDIR(facts.st_mode))
		return error_set(error, STATUS_CONFIG, "schema.registry: %s is neither a URL nor a folder", path);
	folder = mem_alloc_zero(1, sizeof *folder);
	bytes = strlen(path) + sizeof prefix;
	if (folder) {
		folder->path = mem_copy_string(path);
		folder->description = mem_alloc(bytes);
	}
	if (!folder || !folder->path || !folder->description) {
		if (folder)
			folder_destroy(&folder->backend);
		return error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
	}
	snprintf(folder->description, bytes, "%s%s", prefix, path);
	folder->backend = (struct registry_backend){folder_fetch, folder_publish, folder_destroy,
						    folder->description};
	*out = &folder->backend;
	return STATUS_OK;
}
