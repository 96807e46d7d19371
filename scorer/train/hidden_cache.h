/* hidden_cache.h - hidden rows on disk: one file a block of impressions, known by its content.
 *
 * FOLDER/<key>.hidden holds the rows of one block: [exits, rows, width] float32 behind a header with the key,
 * the shape and a checksum. The key is the hash of everything the rows depend on (model, precision, exits,
 * token ids), so a run that was stopped goes on where it was, other labels or features use the same rows, and
 * another model never does. Written by rename; a torn or foreign file counts as absent. The folder is kept
 * below a number of bytes: files that this run has not used go first, oldest first. One thread. */
#ifndef EXITPOLL_SCORER_TRAIN_HIDDEN_CACHE_H
#define EXITPOLL_SCORER_TRAIN_HIDDEN_CACHE_H

#include "scorer/mapped_file.h"

struct hidden_key { uint64_t high, low; };
struct hidden_shape { uint32_t exits, width; uint64_t rows; };

struct hidden_block {
	struct mapped_file file;
	const float *values;            /* [exits, rows, width], borrowed from the file */
	struct hidden_shape shape;
};

/* Bytes of a block's file. False: too large to count. */
bool hidden_cache_bytes(struct hidden_shape shape, uint64_t *bytes);

/* False: absent, torn, or of another shape. */
bool hidden_cache_load(const char *folder, struct hidden_key key, struct hidden_shape shape,
		       struct hidden_block *out);
void hidden_block_close(struct hidden_block *block);    /* zeroed ok */

/* values [exits, rows, width]. STATUS_CANNOT_CREATE, IO. */
enum status hidden_cache_store(const char *folder, struct hidden_key key, struct hidden_shape shape,
			       const float *values, struct error *error);

/* Removes files last used before since_ms (wall clock), oldest first, until those that are left and
 * `coming` bytes fit into bytes_max. A file is used when it is loaded or stored. */
enum status hidden_cache_trim(const char *folder, uint64_t coming, uint64_t bytes_max, int64_t since_ms,
			      struct error *error);

#endif
