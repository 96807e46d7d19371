/* seeds.h - trained layer 0 of one side: the rows H^(0) of section 3, by id, loaded as an epoch.
 *
 *   NAME.npy   numpy array, float32, (rows, graph.dimensions), a row after the other, every value within
 *              -1..1; taken as round-half-even(value * 2^13)
 *   NAME.ids   the id of each row, a line each; \\, \t, \n, \r for backslash, tab, newline, carriage return
 *
 * That is what `export --what seeds` writes. Rows stand in any order, an id once. Read once and then
 * immutable: any thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_SEEDS_H
#define EXITPOLL_GRAPH_UPDATER_SEEDS_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEEDS_ROWS_MAX = 1 << 29 };

struct seeds;

/* STATUS_NO_INPUT; STATUS_CORRUPT with file, byte and reason; STATUS_CONFIG: a row has not `dimensions`. */
enum status seeds_open(const char *name, uint32_t dimensions, struct seeds **out, struct error *error);
/* Nothing but the epoch, where rows come with a snapshot: seeds_find() finds nothing. */
enum status seeds_create_absent(uint64_t epoch, struct seeds **out, struct error *error);
void seeds_destroy(struct seeds *seeds);        /* NULL ok */

bool seeds_are_absent(const struct seeds *seeds);
/* Fingerprint of the two files' bytes, never 0. NULL: 0, hash seeds. */
uint64_t seeds_epoch(const struct seeds *seeds);
uint32_t seeds_count(const struct seeds *seeds);
/* [dimensions], Q13; NULL: the file does not have this id. */
const int16_t *seeds_find(const struct seeds *seeds, struct text_view id);
/* What an id without a row gets: +-this by the bits of its hash, so that it is about as long as a
 *: the root of the mean square of all values, 1 .. 2^13. */
int16_t seeds_magnitude(const struct seeds *seeds);
size_t seeds_memory(const struct seeds *seeds);

#endif
