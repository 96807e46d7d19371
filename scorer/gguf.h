/* gguf.h - the GGUF container (versions 2 and 3, little-endian): key-value metadata and tensors.
 *
 * Parsed once against the mapping with every length checked; what is returned points into the file and
 * lives as long as the mapping. Immutable after gguf_parse(), any thread. */
#ifndef EXITPOLL_SCORER_GGUF_H
#define EXITPOLL_SCORER_GGUF_H

#include "scorer/tensor_table.h"

struct gguf;

enum gguf_type {
	GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING,
	GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_COUNT
};

enum { GGUF_KEYS_MAX = 4096, GGUF_ARRAY_MAX = 16 << 20 };

/* Adds the tensors to `table` (NULL: metadata only). STATUS_CORRUPT with the byte, or UNSUPPORTED for a
 * tensor type that we do not read. `file` must outlive *out. */
enum status gguf_parse(const struct mapped_file *file, struct tensor_table *table, struct gguf **out,
		       struct error *error);
void gguf_destroy(struct gguf *gguf);                   /* NULL ok */
bool gguf_is(const struct mapped_file *file);           /* starts with the magic */
uint64_t gguf_data_start(const struct gguf *gguf);      /* bytes of header and metadata */

/* False: absent, or of another type. Integers of any width convert when they fit. */
bool gguf_get_u32(const struct gguf *gguf, const char *key, uint32_t *out);
bool gguf_get_f32(const struct gguf *gguf, const char *key, float *out);
bool gguf_get_bool(const struct gguf *gguf, const char *key, bool *out);
bool gguf_get_text(const struct gguf *gguf, const char *key, struct text_view *out);
bool gguf_has(const struct gguf *gguf, const char *key);

/* An array's elements in order. */
struct gguf_array {
	enum gguf_type type;
	uint64_t count;
	const uint8_t *at;
};
bool gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type type, struct gguf_array *out);
/* The next element; the caller asks at most `count` times. */
struct text_view gguf_next_text(struct gguf_array *array);
int32_t gguf_next_i32(struct gguf_array *array);        /* of a GGUF_I32 or GGUF_U32 array */
float gguf_next_f32(struct gguf_array *array);          /* of a GGUF_F32 array */

#endif
