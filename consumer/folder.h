/* folder.h - which container files of a folder hold a topic: <topic>.avro, or <topic>-0001.avro and so
 * on. Any thread. */
#ifndef EXITPOLL_CONSUMER_FOLDER_H
#define EXITPOLL_CONSUMER_FOLDER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { FOLDER_FILES_MAX = 16384 };

struct folder_file {
	char *path;             /* owned */
	int32_t number;         /* 0 for <topic>.avro, else the number in its name */
};

struct folder_files {
	struct folder_file *files;      /* [count], by number */
	size_t count;
	size_t capacity;
};

/* Appends nothing and succeeds when the topic has no file. STATUS_NO_INPUT: no such folder, or not
 * readable; STATUS_CORRUPT: two files claim one number, or <topic>.avro stands beside numbered ones;
 * STATUS_LIMIT: more than FOLDER_FILES_MAX. *out must be zero-initialised; on failure it is. */
enum status folder_list(const char *folder, const char *topic, struct folder_files *out,
			struct error *error);
void folder_files_free(struct folder_files *files);

#endif
