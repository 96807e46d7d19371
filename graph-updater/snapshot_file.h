/* snapshot_file.h - the container of a snapshot: checksummed blocks, written whole or not at all.
 *
 *   "exitpoll-snap-2\n"       1: older, still read
 *   block   u32 section, u32 number, u32 size, u32 0 | size bytes | XXH3-128 of all of it (16 bytes)
 *   ...
 *   block of section SNAPSHOT_END: u64 number of blocks, u64 bytes before it
 *
 * Little-endian. Blocks are numbered from 0 and at most SNAPSHOT_BLOCK_BYTES; a section is a run of
 * blocks. Every byte of the file is under a checksum or compared with what it must be. A writer writes
 * to "<path>.tmp", and snapshot_writer_finish() makes it durable and renames it; a reader never
 * allocates for what a file claims. One thread per object. */
#ifndef EXITPOLL_GRAPH_UPDATER_SNAPSHOT_FILE_H
#define EXITPOLL_GRAPH_UPDATER_SNAPSHOT_FILE_H

#include "base/advance.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SNAPSHOT_BLOCK_BYTES = 1 << 20, SNAPSHOT_END = 0xffff };

/* Tests: asked before every operation. Returns 0, or the errno to fail with; for a write it may lower
 * *bytes (a torn page), and is asked again for the rest. */
struct snapshot_faults {
	int (*before)(void *context, const char *operation, size_t *bytes);
	void *context;
};

struct snapshot_writer;
enum status snapshot_writer_create(const char *path, const struct snapshot_faults *faults,
				   struct snapshot_writer **out, struct error *error);
/* Errors are kept and reported by finish. */
void snapshot_section(struct snapshot_writer *writer, uint32_t section);
void snapshot_put(struct snapshot_writer *writer, const void *bytes, size_t count);
void snapshot_put_u32(struct snapshot_writer *writer, uint32_t value);
void snapshot_put_u64(struct snapshot_writer *writer, uint64_t value);
/* u32 size and bytes */
void snapshot_put_text(struct snapshot_writer *writer, const void *bytes, size_t count);
/* fsync, rename, fsync of the folder. The writer is gone afterwards; on failure so is the .tmp file. */
enum status snapshot_writer_finish(struct snapshot_writer **writer, struct error *error);
void snapshot_writer_abort(struct snapshot_writer **writer);    /* NULL ok */

struct snapshot_reader;
/* STATUS_NO_INPUT, STATUS_CORRUPT (file, byte, reason), STATUS_INCOMPATIBLE (another version). */
enum status snapshot_reader_open(const char *path, const struct advance *advance, struct snapshot_reader **out,
				 struct error *error);
void snapshot_reader_close(struct snapshot_reader *reader);     /* NULL ok */
/* Of the file's format, 1 .. 2. */
uint32_t snapshot_reader_version(const struct snapshot_reader *reader);
/* Bytes of the file that have not been given out. */
uint64_t snapshot_reader_left(const struct snapshot_reader *reader);
/* The section before is used up and this one begins. */
enum status snapshot_expect(struct snapshot_reader *reader, uint32_t section, struct error *error);
enum status snapshot_get(struct snapshot_reader *reader, void *bytes, size_t count, struct error *error);
enum status snapshot_get_u32(struct snapshot_reader *reader, uint32_t *value, struct error *error);
enum status snapshot_get_u64(struct snapshot_reader *reader, uint64_t *value, struct error *error);
/* A text of at most bytes_max; *bytes lives until the next call. */
enum status snapshot_get_text(struct snapshot_reader *reader, size_t bytes_max, const char **bytes,
			      size_t *count, struct error *error);
/* The last section is used up, the end block is right and nothing follows. */
enum status snapshot_reader_finish(struct snapshot_reader *reader, struct error *error);
/* STATUS_CORRUPT with file, byte and this reason. */
enum status snapshot_corrupt(const struct snapshot_reader *reader, struct error *error, const char *reason);

#endif
