/* popularity.h - how often each item was taken so far, and by whom, and draws from it.
 *
 * A draw is without repetition and exact: each item comes with a probability proportional to its count to a
 * power among those that are left (1: by popularity; .75: as word2vec draws; 0: every item alike; the weight
 * is rounded to a 65,536th where the power is not 1). It depends on the seed and on what was counted, in its
 * order, alone. One thread. */
#ifndef EXITPOLL_PRODUCER_POPULARITY_H
#define EXITPOLL_PRODUCER_POPULARITY_H

#include "base/mem.h"

struct popularity;

/* items_max distinct items, rows_max counted rows, power in [0, 1]. NULL: no memory. */
struct popularity *popularity_create(uint32_t items_max, size_t rows_max, double power);
void popularity_destroy(struct popularity *popularity); /* NULL ok */

/* Counts one row. Items are numbered by the order in which they are first counted, so that the numbers
 * given here (dense, below items_max) do not decide what is drawn. */
void popularity_count(struct popularity *popularity, uint32_t user, uint32_t item);
uint32_t popularity_of(const struct popularity *popularity, uint32_t item);

/* Draws up to `count` items (fewer when no more are left) that are neither `taken` nor counted with this
 * user, into items[count]; returns how many. */
size_t popularity_draw(struct popularity *popularity, uint64_t seed, uint32_t user, uint32_t taken,
		       uint32_t *items, size_t count);

/* Puts items[count] into a random order. */
void popularity_shuffle(uint64_t seed, uint32_t *items, size_t count);

#endif
