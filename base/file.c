/* file.c - see file.h. Called by whoever leaves small files: bundles, samples, the state folder, a cache. */
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static bool write_all(FILE *file, const struct file_part *parts, size_t count, bool durable)
{
	for (size_t i = 0; i < count; i++)
		if (parts[i].size && fwrite(parts[i].bytes, 1, parts[i].size, file) != parts[i].size)
			return false;
	return fflush(file) == 0 && (!durable || fsync(fileno(file)) == 0);
}

enum status file_replace(const char *path, const struct file_part *parts, size_t count, bool durable,
			 struct error *error)
{
	char temporary[PATH_BYTES + 16];
	FILE *file;
	bool written;
	int reason;

	if (strlen(path) >= PATH_BYTES)
		return error_set(error, STATUS_CANNOT_CREATE, "%.64s...: the path is longer than %d bytes", path,
				 PATH_BYTES);
	snprintf(temporary, sizeof temporary, "%s.part", path);
	file = fopen(temporary, "wbe");
	if (!file)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: %s", temporary, strerror(errno));
	written = write_all(file, parts, count, durable);
	reason = errno;
	if (fclose(file) != 0 && written) {
		reason = errno;
		written = false;
	}
	if (written && rename(temporary, path) != 0) {
		reason = errno;
		written = false;
	}
	if (written)
		return STATUS_OK;
	unlink(temporary);
	return error_set(error, STATUS_IO, "%s: %s", path, strerror(reason));
}

enum status file_put(const char *folder, const char *name, const void *bytes, size_t size, struct error *error)
{
	char path[PATH_BYTES];
	struct file_part part = {bytes, size};

	if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: the path is longer than %d bytes", name, PATH_BYTES);
	return file_replace(path, &part, 1, true, error);
}
