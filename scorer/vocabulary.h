/* vocabulary.h - pieces by id and ids by piece.
 *
 * Built once by a loader, then immutable and safe from any thread. Ids may have holes (a piece of no
 * bytes); a text has one id. */
#ifndef EXITPOLL_SCORER_VOCABULARY_H
#define EXITPOLL_SCORER_VOCABULARY_H

#include "base/status.h"
#include "base/text.h"

#include <stdint.h>

enum { VOCABULARY_IDS_MAX = 1 << 21, VOCABULARY_PIECE_MAX = 4096 };

struct vocabulary {
	struct text_view *pieces;       /* [count] */
	uint32_t count;
	uint32_t *slots;                /* id + 1, 0: empty; open addressing */
	uint32_t mask;
	struct arena *arena;
};

/* Room for ids [0, count). */
enum status vocabulary_init(struct vocabulary *vocabulary, uint32_t count, struct error *error);
void vocabulary_destroy(struct vocabulary *vocabulary); /* zeroed ok */

/* Copies the text. STATUS_CORRUPT: the id or the text is taken, the text is empty or too long. */
enum status vocabulary_set(struct vocabulary *vocabulary, uint32_t id, struct text_view text,
			   struct error *error);
int32_t vocabulary_find(const struct vocabulary *vocabulary, struct text_view text);    /* -1: absent */

#endif
