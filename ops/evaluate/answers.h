/* answers.h - what is judged: one row for every labelled candidate of an answered impression.
 *
 * Rows of one impression lie side by side. Grows by doubling up to ANSWERS_ROWS_MAX (about 2.5 GB). One
 * thread writes; afterwards it is read only. */
#ifndef EXITPOLL_OPS_EVALUATE_ANSWERS_H
#define EXITPOLL_OPS_EVALUATE_ANSWERS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ANSWERS_ROWS_MAX = 100000000 };

struct answer {
	float p;                        /* predicted probability, in (0, 1) */
	uint32_t item_events;           /* earlier events of the item: popularity at that time */
	uint16_t layer;                 /* at which it left; 0: no model ran */
	bool positive;
};

struct answered_impression {
	uint32_t first, count;          /* rows */
	uint32_t user;                  /* 0 .. users - 1 */
	uint32_t user_events;           /* earlier events of the user */
};

struct answers {
	struct answer *rows;            /* [rows_count] */
	size_t rows_count, rows_capacity;
	struct answered_impression *impressions;        /* [impressions_count], ascending by first row */
	size_t impressions_count, impressions_capacity;
	uint32_t users;
};

/* Begins an impression; the rows that follow are its. STATUS_LIMIT, NO_MEMORY. */
enum status answers_begin(struct answers *answers, uint32_t user, uint32_t user_events, struct error *error);
enum status answers_add(struct answers *answers, const struct answer *row, struct error *error);
void answers_free(struct answers *answers);     /* leaves it empty */

#endif
