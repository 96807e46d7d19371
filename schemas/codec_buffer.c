/* codec_buffer.c - the growing output that encoders append to. Invariant: size <= bytes_max, and
 * size <= capacity; capacity may exceed bytes_max by the slack that encoders ask for. */
#include "schemas/codec.h"
#include "schemas/codec_buffer.h"

void byte_buffer_free(struct byte_buffer *buffer)
{
	if (!buffer)
		return;
	mem_free(buffer->bytes);
	buffer->bytes = NULL;
	buffer->size = buffer->capacity = 0;
}

bool codec_buffer_reserve(struct byte_buffer *buffer, size_t size)
{
	size_t wanted = buffer->capacity < 128 ? 256 : buffer->capacity;
	char *grown;

	if (size <= buffer->capacity)
		return true;
	while (wanted < size)
		if (__builtin_mul_overflow(wanted, 2, &wanted))
			return false;
	grown = mem_resize_array(buffer->bytes, wanted, 1);
	if (!grown)
		return false;
	buffer->bytes = grown;
	buffer->capacity = wanted;
	return true;
}

bool byte_buffer_append(struct byte_buffer *buffer, const void *bytes, size_t count)
{
	if (count > buffer->bytes_max || buffer->size > buffer->bytes_max - count)
		return false;
	if (count == 0)
		return true;
	if (!codec_buffer_reserve(buffer, buffer->size + count))
		return false;
	memcpy(buffer->bytes + buffer->size, bytes, count);
	buffer->size += count;
	return true;
}
