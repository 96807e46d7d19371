/* fuzz_framing.c - any bytes as a framed message: either refused, or header and body put together are
 * the message again. */
#include "schemas/codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct text_view message = {(const char *)data, size}, body = {NULL, 0};
	char header[FRAMING_BYTES];
	struct error error = {0};
	uint32_t id = 0;

	if (framing_read(message, &id, &body, &error)) {
		if (size >= FRAMING_BYTES && data[0] == 0)
			abort();
		return 0;
	}
	framing_write(id, header);
	if (body.size + FRAMING_BYTES != size || memcmp(header, data, FRAMING_BYTES) != 0 ||
	    (body.size && memcmp(body.bytes, data + FRAMING_BYTES, body.size) != 0))
		abort();
	return 0;
}
