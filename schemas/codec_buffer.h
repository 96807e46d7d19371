/* codec_buffer.h - inside schemas/: room in a byte_buffer, and Avro's basic encodings. */
#ifndef EXITPOLL_SCHEMAS_CODEC_BUFFER_H
#define EXITPOLL_SCHEMAS_CODEC_BUFFER_H

#include "schemas/codec.h"

/* Makes capacity at least `size` bytes, whatever bytes_max is. False: no memory, nothing changed. */
bool codec_buffer_reserve(struct byte_buffer *buffer, size_t size);

enum { CODEC_LONG_BYTES_MAX = 10 };     /* a zigzag varint of 64 bits */

/* Writes value at `at` (room for CODEC_LONG_BYTES_MAX) and returns the byte after it. */
static inline char *codec_put_long(char *at, int64_t value)
{
	uint64_t left = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);

	while (left > 0x7f) {
		*at++ = (char)(left | 0x80);
		left >>= 7;
	}
	*at++ = (char)left;
	return at;
}

/* Reads one varint from [at, end); NULL: it runs past the end or over 64 bits. */
static inline const unsigned char *codec_get_long(const unsigned char *at, const unsigned char *end,
						  int64_t *value)
{
	uint64_t bits = 0;

	for (unsigned shift = 0; at < end; shift += 7) {
		uint64_t byte = *at++;
		if (shift == 63 && byte > 1)
			return NULL;
		bits |= (byte & 0x7f) << shift;
		if (byte < 0x80) {
			*value = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
			return at;
		}
		if (shift == 63)
			return NULL;
	}
	return NULL;
}

#endif
