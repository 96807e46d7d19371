/* import.h - tables of users, items and ratings to a folder of container files.
 *
 * Every row of the interactions becomes an interaction (RATE, or CLICK without a rating); the rows that
 * a rule picks also become an impression of the same time, whose id the interaction carries. Candidates
 * beside the taken item are drawn by how often items were taken strictly before the impression, without
 * those that its user had by then: nothing at or after an impression can show in it. Everything is in
 * the total order and a function of the tables and the options. One thread. */
#ifndef EXITPOLL_PRODUCER_IMPORT_H
#define EXITPOLL_PRODUCER_IMPORT_H

#include "base/status.h"
#include "schemas/container.h"
#include "schemas/event.h"

#include <stdbool.h>

enum { IMPORT_USER_BYTES_MAX = 240 };   /* leaves room for the number in an impression's id */

enum import_untimed { IMPORT_UNTIMED_ERROR, IMPORT_UNTIMED_SKIP, IMPORT_UNTIMED_FIRST };

/* Start from import_options_default. Strings are borrowed for the call. A column that is NULL has its
 * default name and may be missing (but for user and item); one that is named must be there. */
struct import_options {
	const char *const *interactions;        /* [interactions_count] files, their rows one after another */
	size_t interactions_count;
	const char *items;              /* NULL: titles, if any, are a column of the interactions */
	const char *out;
	bool force;
	const char *user_column;        /* user_id */
	const char *item_column;        /* item_id, in both tables */
	const char *rating_column;      /* rating; empty fields: no rating */
	const char *time_column;        /* unix_time */
	const char *title_column;       /* title */
	const char *sequence_column;    /* none: orders rows without time, one row after another otherwise */
	int64_t time_unit_ms;           /* 1,000: times are seconds (fractions allowed) */
	enum import_untimed untimed;    /* rows without a time in a table with times */
	const char *impressions;        /* last:SHARE | leave-last | column:NAME=VALUE | all | none */
	size_t candidates;              /* of an impression, the taken one included; 1 */
	double popularity_power;        /* the others are drawn by count to this power, 0 to 1; 1 */
	bool skip_new;                  /* no impression where the taken item was never taken before */
	uint64_t seed;
	const char *label;              /* 'rating>=4'; NULL: none in the metadata */
	const char *const *attributes;  /* [attributes_count] 'brand=first-word(title)' or 'NAME=COLUMN' */
	size_t attributes_count;
	size_t bad_rows_max;            /* more than this many bad rows: stop; 100 */
	struct event_limits limits;
	const struct container_metadata *metadata;      /* [metadata_count] added to the output's own */
	size_t metadata_count;
	/* May be NULL. Called now and then; false interrupts. fraction is 0..1 of this phase. */
	bool (*progress)(void *context, const char *phase, double fraction);
	void *context;
};
extern const struct import_options import_options_default;

enum import_order { IMPORT_ORDER_TIME, IMPORT_ORDER_ROWS, IMPORT_ORDER_SEQUENCE };

struct import_summary {
	size_t users;
	size_t items;                   /* distinct in interactions and catalog */
	size_t catalog;                 /* item records written */
	size_t interactions;
	size_t ratings;                 /* interactions with a rating */
	size_t impressions;
	size_t candidates;              /* of all impressions */
	size_t short_impressions;       /* fewer candidates than asked: no more items were known by then */
	size_t new_taken;               /* the taken item was never taken before (skipped or not); counted
					   with several candidates or skip_new */
	size_t untimed;                 /* rows without a time (skipped or put first) */
	size_t duplicate_items;         /* item rows replaced by a later one */
	size_t bad_rows;
	enum import_order order;
	bool clicked;                   /* task: clicked (several candidates), else liked */
	int64_t first_ms;
	int64_t last_ms;
};

/* STATUS_USAGE: options; NO_INPUT, CORRUPT: tables (file and line in the text); CANNOT_CREATE: output.
 * On failure no output is left. */
enum status import_run(const struct import_options *options, struct import_summary *summary,
		       struct error *error);

#endif
