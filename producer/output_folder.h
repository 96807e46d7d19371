/* output_folder.h - the folder that output is written to: made with its parents, and taken away again
 * if nothing came of it. One thread. */
#ifndef EXITPOLL_PRODUCER_OUTPUT_FOLDER_H
#define EXITPOLL_PRODUCER_OUTPUT_FOLDER_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct output_folder {
	char *path;             /* owned, without a slash at its end */
	size_t first_made;      /* bytes of the path of the first folder that was made; 0: none was */
};

/* *folder must be zero-initialised. STATUS_CANNOT_CREATE: it, or a part of its path, is a file or may
 * not be made. Nothing is left behind on failure. */
enum status output_folder_open(struct output_folder *folder, const char *path, struct error *error);
/* Makes the names in it durable. */
enum status output_folder_sync(const struct output_folder *folder, struct error *error);
/* Removes what open made, where it is empty, unless kept. */
void output_folder_close(struct output_folder *folder, bool keep);

#endif
