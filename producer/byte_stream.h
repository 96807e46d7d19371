/* byte_stream.h - a file read from front to end, decompressed on the way: gzip, xz, zstandard or plain,
 * told apart by the first bytes. Memory is bounded whatever the file says. One thread. */
#ifndef EXITPOLL_PRODUCER_BYTE_STREAM_H
#define EXITPOLL_PRODUCER_BYTE_STREAM_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct byte_stream;

/* STATUS_NO_INPUT, STATUS_NO_MEMORY. */
enum status byte_stream_open(const char *path, struct byte_stream **out, struct error *error);
/* The same on an open file, which is closed with the stream; `name` is for messages. */
enum status byte_stream_open_fd(int fd, const char *name, struct byte_stream **out, struct error *error);
void byte_stream_close(struct byte_stream *stream);     /* NULL ok */

/* Reads up to capacity bytes; *size 0 only at the end. STATUS_CORRUPT: damaged or cut compressed data
 * (file and byte in the text); STATUS_IO. */
enum status byte_stream_read(struct byte_stream *stream, char *bytes, size_t capacity, size_t *size,
			     struct error *error);

/* Bytes of the file read so far, and of all of it (0: unknown, a pipe): for progress. */
uint64_t byte_stream_consumed(const struct byte_stream *stream);
uint64_t byte_stream_size(const struct byte_stream *stream);

#endif
