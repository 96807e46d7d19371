/* framing.c - the Confluent wire header: 0x00, schema id big-endian, body. Pure, any thread. */
#include "schemas/codec.h"

enum status framing_read(struct text_view message, uint32_t *schema_id, struct text_view *body,
			 struct error *error)
{
	const unsigned char *bytes = (const unsigned char *)message.bytes;

	if (message.size < FRAMING_BYTES)
		return error_set(error, STATUS_BAD_RECORD,
				 "message of %zu bytes is too short for the %d-byte schema header", message.size,
				 FRAMING_BYTES);
	if (bytes[0] != 0)
		return error_set(error, STATUS_BAD_RECORD,
				 "message starts with 0x%02x, not with the 0x00 of a schema header; "
				 "was it written without a schema registry serializer?",
				 bytes[0]);
	*schema_id = (uint32_t)bytes[1] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 8 | bytes[4];
	*body = (struct text_view){message.bytes + FRAMING_BYTES, message.size - FRAMING_BYTES};
	return STATUS_OK;
}

void framing_write(uint32_t schema_id, char header[FRAMING_BYTES])
{
	header[0] = 0;
	for (int i = 0; i < 4; i++)
		header[1 + i] = (char)(schema_id >> (24 - 8 * i));
}
