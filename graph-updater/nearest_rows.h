/* nearest_rows.h - the users' embeddings as readers on any thread find them: never torn, never waiting on
 * a lock of the writer's.
 *
 * The exact int16 rows lie where the GCN has them (`exact`, rows that never move); their codes
 * (nearest_codes.h) lie here, 1 + D/2 + 4 bytes a row for the scan and D/2 for the second look. 64 rows
 * share a sequence number, odd while one of them is being written.
 *
 * Memory order (a sequence lock without fences, so that every compiler and the thread sanitizer can follow
 * it): the writer sets the number odd (relaxed), writes every word by a release store, and sets the number
 * even (release). A reader loads the number (acquire), every word by an acquire load, and the number again
 * (relaxed). If a word came from a later write, the release-acquire pair makes the odd number, which was
 * written before it, visible to the second load; if the number is even and the same, all words are of that
 * state. New rows become visible by a release store of their count. On x86 all of these are plain moves.
 *
 * One writer thread, which may use pointers into the rows without copying; any number of readers. */
#ifndef EXITPOLL_GRAPH_UPDATER_NEAREST_ROWS_H
#define EXITPOLL_GRAPH_UPDATER_NEAREST_ROWS_H

#include "base/status.h"
#include "graph-updater/chunks.h"
#include "graph-updater/nearest_codes.h"

struct nearest_rows;

/* exact: rows of int16 [dimensions], dimensions a multiple of 16 up to 256; borrowed. */
enum status nearest_rows_create(uint32_t dimensions, uint32_t rows_max, const struct chunks *exact,
				struct nearest_rows **out, struct error *error);
void nearest_rows_destroy(struct nearest_rows *rows);   /* NULL ok */

/* Makes rows 0 .. count - 1 exist, zero; those of `exact` exist already. False: no memory. Writer. */
bool nearest_rows_reserve(struct nearest_rows *rows, uint32_t count);

/* The row takes the values fresh [dimensions], |values| <= 2^13, of squared length norm: the exact row and
 * its codes, as one change to readers. Writer. */
void nearest_rows_put(struct nearest_rows *rows, uint32_t row, const int16_t *fresh, int64_t norm);

/* Hint: nearest_rows_put() comes to this row soon. */
void nearest_rows_prefetch_put(const struct nearest_rows *rows, uint32_t row);

/* A multiple of NEAREST_BLOCK_ROWS; every reader may read rows below it. Any thread. */
uint32_t nearest_rows_count(const struct nearest_rows *rows);
uint32_t nearest_rows_dimensions(const struct nearest_rows *rows);
const struct nearest_kernels *nearest_rows_kernels(const struct nearest_rows *rows);
size_t nearest_rows_bytes(const struct nearest_rows *rows);

/* The exact row, in one piece. Any thread; row < nearest_rows_count(). */
void nearest_rows_copy(const struct nearest_rows *rows, uint32_t row, int16_t *out);
/* While the writer rests. */
const int16_t *nearest_rows_exact(const struct nearest_rows *rows, uint32_t row);

/* Proves: the codes are those of the exact row, and no write is left half done. Writer's thread. */
bool nearest_rows_right(const struct nearest_rows *rows, uint32_t row);

/* What a scan reads of the block of 64 rows that begins at `row`. */
struct nearest_block {
	const uint32_t *heads;          /* [64] */
	const uint64_t *upper;          /* [8 groups][D / 16][8] */
	const uint64_t *lower;          /* alike */
	uint32_t sequence;
};
/* While the writer rests: in place. */
struct nearest_block nearest_rows_block(const struct nearest_rows *rows, uint32_t row);
/* Hint: a scan comes to this block soon. */
void nearest_rows_prefetch(const struct nearest_rows *rows, uint32_t row);
/* Beside the writer: heads and upper plane of one state, copied to room [NEAREST_BLOCK_BYTES_MAX, 64-byte
 * aligned]; lower is NULL. */
enum { NEAREST_BLOCK_BYTES_MAX = NEAREST_BLOCK_ROWS * (4 + NEAREST_CODE_MAX / 2) };
struct nearest_block nearest_rows_block_copy(const struct nearest_rows *rows, uint32_t row, void *room);
/* The lower plane of one group of eight rows, [D / 16][8] into room, if it is still of the state that the
 * block was copied in. */
bool nearest_rows_lower_copy(const struct nearest_rows *rows, uint32_t row, uint32_t sequence, uint64_t *room);

#endif
