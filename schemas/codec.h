/* codec.h - Avro bodies to and from event structs, bounded and without allocation but from an arena.
 *
 * A plan resolves one writer's schema against ours, once per schema id (Avro specification 1.11,
 * "Schema Resolution"): reordered, added (by default value) and removed fields, promotions, aliases,
 * unions. Plans are immutable; any thread may decode with one. No input of any kind makes a decode
 * allocate beyond the arena's limit, read out of bounds, recurse without bound or loop. */
#ifndef EXITPOLL_SCHEMAS_CODEC_H
#define EXITPOLL_SCHEMAS_CODEC_H

#include "base/status.h"
#include "schemas/event.h"

struct codec_plan;

/* Our schema of this type as shipped in schemas/<type>.avsc (embedded at build), NUL-terminated. */
const char *codec_schema_json(enum record_type type);

/* STATUS_CORRUPT: not a valid Avro schema; STATUS_INCOMPATIBLE: valid, but not resolvable to ours
 * (the text names field and reason). */
enum status codec_plan_create(enum record_type reader, struct text_view writer_json,
			      struct codec_plan **out, struct error *error);
void codec_plan_destroy(struct codec_plan *plan);       /* NULL ok */
enum record_type codec_plan_type(const struct codec_plan *plan);

/* Decodes one body; texts of *out point into `body` (or the plan's defaults), arrays into the arena.
 * *used (may be NULL) receives the bytes consumed; without it trailing bytes are an error.
 * STATUS_BAD_RECORD with byte and field in the text; STATUS_LIMIT when the arena is full. */
enum status codec_decode(const struct codec_plan *plan, struct text_view body, struct arena *arena,
			 struct event *out, size_t *used, struct error *error);

/* A growing output with a named maximum; zero-initialise with bytes_max set; free with
 * byte_buffer_free(). */
struct byte_buffer {
	char *bytes;
	size_t size;
	size_t capacity;
	size_t bytes_max;
};
void byte_buffer_free(struct byte_buffer *buffer);
bool byte_buffer_append(struct byte_buffer *buffer, const void *bytes, size_t count);

/* Appends the body in our own schema. STATUS_LIMIT at bytes_max (buffer->size is then unchanged). */
enum status codec_encode(const struct event *event, struct byte_buffer *buffer, struct error *error);

/* Confluent framing: 0x00, schema id big-endian, body. */
enum { FRAMING_BYTES = 5 };
enum status framing_read(struct text_view message, uint32_t *schema_id, struct text_view *body,
			 struct error *error);
void framing_write(uint32_t schema_id, char header[FRAMING_BYTES]);

#endif
