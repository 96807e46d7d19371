/* sentencepiece_face.h - SentencePiece behind a C face; no exception leaves it.
 *
 * The library is thread-safe for encoding once loaded. Statuses and errors as everywhere. */
#ifndef EXITPOLL_SCORER_SENTENCEPIECE_FACE_H
#define EXITPOLL_SCORER_SENTENCEPIECE_FACE_H

#ifdef __cplusplus
extern "C" {
#else
#include <stdbool.h>
#endif

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct sentencepiece_face;

/* `bytes` is a serialised model (tokenizer.model), copied. `path` is for messages. STATUS_CORRUPT. */
enum status sentencepiece_load(const void *bytes, size_t size, const char *path, struct sentencepiece_face **out,
			       struct error *error);
void sentencepiece_close(struct sentencepiece_face *sentencepiece);  /* NULL ok */

/* Appends ids; `prefix` false: without the dummy prefix that the model asks for. STATUS_LIMIT. */
enum status sentencepiece_encode(const struct sentencepiece_face *sentencepiece, const char *text, size_t size,
				 bool prefix, int32_t *ids, size_t ids_max, size_t *count,
				 struct error *error);

int32_t sentencepiece_count(const struct sentencepiece_face *sentencepiece);
int32_t sentencepiece_bos(const struct sentencepiece_face *sentencepiece);   /* -1: none */
int32_t sentencepiece_eos(const struct sentencepiece_face *sentencepiece);
bool sentencepiece_is_special(const struct sentencepiece_face *sentencepiece, int32_t id);  /* control, unknown */
/* Borrowed; id within [0, count). */
const char *sentencepiece_piece(const struct sentencepiece_face *sentencepiece, int32_t id, size_t *size);
int32_t sentencepiece_find(const struct sentencepiece_face *sentencepiece, const char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
