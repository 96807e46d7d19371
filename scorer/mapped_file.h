/* mapped_file.h - a whole file mapped read-only: the one way weights and tokenizers come in.
 *
 * Nobody may read past `size`; a parser checks every length against it. Immutable after open, any
 * thread. A file of zero bytes is legal here (bytes is not NULL) and malformed for every parser. */
#ifndef EXITPOLL_SCORER_MAPPED_FILE_H
#define EXITPOLL_SCORER_MAPPED_FILE_H

#include "base/status.h"
#include "base/text.h"

#include <stdint.h>

struct mapped_file {
	char *path;             /* owned */
	const uint8_t *bytes;
	size_t size;
	bool mapped;            /* false: empty, or memory of a test */
};

/* STATUS_NO_INPUT with the path and the system's reason. A folder is refused. */
enum status mapped_file_open(const char *path, struct mapped_file *out, struct error *error);
void mapped_file_close(struct mapped_file *file);       /* zeroed file ok; leaves it zeroed */

/* folder/name, allocated; NULL: no memory. */
char *mapped_file_join(const char *folder, const char *name);
bool mapped_file_is_folder(const char *path);
bool mapped_file_exists(const char *path);

/* STATUS_CORRUPT "path: byte N: reason", the form of every complaint about a malformed file. */
enum status mapped_file_corrupt(const struct mapped_file *file, size_t byte, struct error *error,
				const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
