/* seeds_file.h - a file read once from its beginning, in blocks, with a fingerprint of all of its bytes:
 * for seeds.c. One thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_SEEDS_FILE_H
#define EXITPOLL_GRAPH_UPDATER_SEEDS_FILE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { SEEDS_BLOCK_BYTES = 1 << 20 };

struct seeds_file {
	char *path;             /* owned */
	int file;
	uint64_t file_bytes, read;      /* read: into blocks so far */
	unsigned char *block;
	size_t size, at;        /* of the block */
	uint64_t fingerprint;   /* of the blocks before, then of this one too */
};

/* name + ending. STATUS_NO_INPUT. A zeroed struct, and one that failed to open, may be closed. */
enum status seeds_file_open(struct seeds_file *file, const char *name, const char *ending, struct error *error);
void seeds_file_close(struct seeds_file *file);

/* Exactly `count` bytes. STATUS_CORRUPT: the file ends before; STATUS_IO. */
enum status seeds_file_take(struct seeds_file *file, void *bytes, size_t count, struct error *error);
/* The next byte, or -1 at the end. */
enum status seeds_file_byte(struct seeds_file *file, int *byte, struct error *error);
uint64_t seeds_file_position(const struct seeds_file *file);
/* STATUS_CORRUPT "seeds FILE, byte N: reason". */
enum status seeds_file_corrupt(const struct seeds_file *file, uint64_t byte, const char *reason,
			       struct error *error);

#endif
