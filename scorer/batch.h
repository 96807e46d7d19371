/* batch.h - a packed micro-batch: prefixes and the suffixes that share them, without padding.
 *
 *     rows   | prefix A | suffix A1 | suffix A2 | ... | prefix B | suffix B1 | ...
 *     position  i..        i+|A|..     i+|A|..           i..        i+|B|..
 *
 * i is the number of instruction tokens, whose keys and values every row sees and no row computes. A
 * suffix sees instruction, its prefix and itself; so does its independent prompt. The whole batch is one
 * allocation at creation; nothing grows. One thread. */
#ifndef EXITPOLL_SCORER_BATCH_H
#define EXITPOLL_SCORER_BATCH_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keys are stored in blocks of this many positions; a segment begins at a block. */
enum { KEY_BLOCK = 16 };
#define BATCH_NO_PREFIX UINT32_MAX

struct batch_segment {
	uint32_t first_row, count;      /* rows [first_row, first_row + count); a prefix may be empty */
	uint32_t first_position;
	uint32_t first_slot;            /* of its keys, a multiple of KEY_BLOCK */
	uint32_t prefix;                /* segment index; BATCH_NO_PREFIX for a prefix itself */
	uint32_t live_suffixes;         /* of a prefix */
	uint32_t ordinal;               /* of a suffix: how many came in before it */
	uint64_t tag;                   /* the caller's name for a suffix */
	int64_t deadline_ms;            /* wall clock; INT64_MAX: none */
};

struct batch {
	uint32_t rows_max, slots_max, segments_max;
	uint32_t instruction;           /* tokens before every prefix */
	uint32_t rows, slots, segments_count, suffixes;
	int32_t *ids;                   /* [rows] token ids */
	uint32_t *positions;            /* [rows] */
	uint32_t *row_segment;          /* [rows] */
	struct batch_segment *segments; /* [segments_count], in row order; a prefix before its suffixes */
	/* What exits know of a suffix before the model has thought: [ordinal, exits]. The caller's, NULL: nothing. */
	const double *before;
};

/* rows_max >= the longest prompt. STATUS_NO_MEMORY. */
enum status batch_create(uint32_t rows_max, struct batch **out, struct error *error);
void batch_destroy(struct batch *batch);                /* NULL ok */

/* Empties it; `instruction` tokens come before every prefix from here on. */
void batch_clear(struct batch *batch, uint32_t instruction);

/* Can a segment of so many rows, together with a second one, still come in? */
bool batch_has_room(const struct batch *batch, uint32_t first_rows, uint32_t second_rows);

/* The prefix that the next suffixes share; count 0 is legal. Room has been asked for. */
void batch_add_prefix(struct batch *batch, const int32_t *ids, uint32_t count);

/* A suffix of count >= 1 rows of the newest prefix. */
void batch_add_suffix(struct batch *batch, const int32_t *ids, uint32_t count, uint64_t tag,
		      int64_t deadline_ms);

/* The row of a suffix's last token. */
static inline uint32_t batch_last_row(const struct batch_segment *segment)
{
	return segment->first_row + segment->count - 1;
}

/* Takes the suffixes marked in leaving[segments_count] out, and prefixes with their last suffix.
 * kept[] (room for rows) receives the old row of every new row, ascending; *kept_count their number. */
void batch_compact(struct batch *batch, const bool *leaving, uint32_t *kept, uint32_t *kept_count);

#endif
