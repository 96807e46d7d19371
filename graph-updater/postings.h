/* postings.h - an inverted index over the user's last edges: term -> which of them have it.
 *
 * Built once a user, asked once a term of every candidate, so that comparing 50 lists with each of many
 * candidates costs the candidates' terms alone. Scratch that is used again; owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_POSTINGS_H
#define EXITPOLL_GRAPH_UPDATER_POSTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct posting {
	uint32_t edge;                  /* which of the user's last edges */
	uint32_t next;                  /* index + 1 into entries; 0: the end */
};

struct postings {
	uint32_t *keys;                 /* [slots], term */
	uint32_t *heads;                /* [slots], index + 1 into entries; 0: empty slot */
	struct posting *entries;        /* [entries_max] */
	uint32_t slots_max;             /* power of two */
	uint32_t mask;                  /* of the slots in use for this user */
	uint32_t entries_max;
	uint32_t count;
};

/* entries_max: all terms of all edges. False: no memory. A zeroed struct may be destroyed. */
bool postings_create(struct postings *postings, uint32_t entries_max);
void postings_destroy(struct postings *postings);

/* Empties it, for `entries` (up to entries_max) additions. */
void postings_begin(struct postings *postings, uint32_t entries);
void postings_add(struct postings *postings, uint32_t term, uint32_t edge);
/* The first posting of a term (0: none); go on with entries[index - 1].next. No order is promised. */
uint32_t postings_first(const struct postings *postings, uint32_t term);

#endif
