/* file.h - files that appear as a whole or not at all: written as "<path>.part", then renamed.
 *
 * What was at the path stays until then; after a failure no part is left. Any thread, one a path. */
#ifndef EXITPOLL_BASE_FILE_H
#define EXITPOLL_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct file_part {
	const void *bytes;
	size_t size;                    /* 0: bytes may be NULL */
};

/* The parts one after another. durable: on the disk before it appears; a cache can do without.
 * STATUS_CANNOT_CREATE, IO. */
enum status file_replace(const char *path, const struct file_part *parts, size_t count, bool durable,
			 struct error *error);

/* folder/name from one part, durable. */
enum status file_put(const char *folder, const char *name, const void *bytes, size_t size,
		     struct error *error);

#endif
