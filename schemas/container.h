/* container.h - Avro object container files of our records (codecs null, deflate, zstandard).
 *
 * A writer writes to "<path>.part" and renames at close, so that a reader never sees half a file; a
 * reader checks magic, header, sync markers and block sizes, and reports a truncated tail with what
 * was still read. One thread per object. */
#ifndef EXITPOLL_SCHEMAS_CONTAINER_H
#define EXITPOLL_SCHEMAS_CONTAINER_H

#include "base/status.h"
#include "schemas/codec.h"

enum container_codec { CONTAINER_NULL, CONTAINER_DEFLATE, CONTAINER_ZSTANDARD };

struct container_metadata {
	const char *key;        /* "exitpoll.*"; avro.* is ours */
	const char *value;
};

struct container_writer;
/* STATUS_CANNOT_CREATE when `path` exists and !replace. The sync marker is a hash of path-independent
 * header bytes, so that equal records give equal files. */
enum status container_writer_create(const char *path, enum record_type type, enum container_codec codec,
				    const struct container_metadata *metadata, size_t metadata_count,
				    bool replace, struct container_writer **out, struct error *error);
enum status container_write(struct container_writer *writer, const struct event *event,
			    struct error *error);
uint64_t container_writer_records(const struct container_writer *writer);
/* Flushes, fsyncs, renames; the writer is gone afterwards, whatever the result. */
enum status container_writer_close(struct container_writer **writer, struct error *error);
void container_writer_abort(struct container_writer **writer);  /* removes the .part file; NULL ok */

struct container_reader;
/* Any writer schema that resolves to `type`; blocks of up to 64 MiB are held in memory.
 * STATUS_NO_INPUT, STATUS_CORRUPT (file, byte, reason),
 * STATUS_INCOMPATIBLE, STATUS_UNSUPPORTED (another block codec). */
enum status container_reader_open(const char *path, enum record_type type,
				  struct container_reader **out, struct error *error);
/* Opens without knowing the type: found from the schema's record name. */
enum status container_reader_open_any(const char *path, struct container_reader **out,
				      struct error *error);
enum record_type container_reader_type(const struct container_reader *reader);
void container_reader_close(struct container_reader *reader);   /* NULL ok */
const char *container_reader_metadata(const struct container_reader *reader, const char *key); /* or NULL */
const char *container_reader_schema(const struct container_reader *reader);

/* The next record, copied into the arena (valid until it is reset). *end = true at the end of the file
 * (then *out is untouched). STATUS_BAD_RECORD: this one record is bad, its block is skipped to the
 * next record that can be found (the text says how many were lost); STATUS_CORRUPT: cannot go on (bad
 * sync marker, truncated tail: the text says how many records were read), and every later call says the
 * same. STATUS_LIMIT: this one record does not fit into what the arena has left; it is skipped as a bad
 * one is, so give the arena room for a whole record before each call. */
enum status container_read(struct container_reader *reader, struct arena *arena, struct event *out,
			   bool *end, struct error *error);
/* Passed so far, lost ones too: the number of the next record, from 0. */
uint64_t container_reader_records(const struct container_reader *reader);
uint64_t container_reader_size(const struct container_reader *reader);          /* of the file */

#endif
