/* samples_split_file.h - a table that says which impression belongs to which part: see samples_split.h.
 * Immutable after reading; any thread. */
#ifndef EXITPOLL_OPS_CLI_SAMPLES_SPLIT_FILE_H
#define EXITPOLL_OPS_CLI_SAMPLES_SPLIT_FILE_H

#include "base/status.h"
#include "base/text.h"

#include <stdint.h>

struct split_file;

enum { SPLIT_FILE_ROWS_MAX = 1 << 28 };

/* STATUS_NO_INPUT, CORRUPT: a column is missing, a part is none, one thing is in two parts. */
enum status split_file_read(const char *path, struct split_file **out, struct error *error);
void split_file_destroy(struct split_file *file);       /* NULL ok */
bool split_file_has_pairs(const struct split_file *file);       /* of user and item */
/* first: the impression's id with an empty second, or the user's with the item's. The part, or
 * SAMPLES_NO_PART. */
uint8_t split_file_of(const struct split_file *file, struct text_view first, struct text_view second);

#endif
