/* neighbours.h - the most similar users of recent askers, kept for as long as they are what a search
 * would find.
 *
 * Embeddings change at a flush only, except that a user who loses the last edge is zero at once. So a
 * list found since the last flush is still right if none of its users has become zero meanwhile, and
 * that is checked when it is used: keeping changes no result. Bounded: when KEPT_MAX users have a list,
 * further ones are searched for and not kept until the next flush. Owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_NEIGHBOURS_H
#define EXITPOLL_GRAPH_UPDATER_NEIGHBOURS_H

#include "graph-updater/nearest.h"

enum { NEIGHBOURS_KEPT_MAX = 4096 };

struct neighbours;
/* most: how many similar users, 0..NEAREST_MAX. threads: how many share a large scan, the caller's included;
 * they change no result. */
enum status neighbours_create(const struct gcn *gcn, struct user_ids users, uint32_t most, unsigned threads,
			      struct neighbours **out, struct error *error);
void neighbours_destroy(struct neighbours *neighbours); /* NULL ok */

/* What is kept is void unless it was kept at this flush epoch. */
void neighbours_epoch(struct neighbours *neighbours, uint64_t epoch);

/* The user's nearest, most similar first; borrowed until the next call. */
const struct neighbour *neighbours_of(struct neighbours *neighbours, struct user_id user, uint32_t *count);

/* Searches for these users, as far as they are not kept yet, in shared scans. Repeats are fine. */
void neighbours_prepare(struct neighbours *neighbours, const struct user_id *users, size_t count);

struct neighbours_stats {
	uint64_t scans;                 /* searches begun; one may serve many users */
	uint64_t scan_ns;
	size_t memory_bytes;
};
struct neighbours_stats neighbours_get_stats(const struct neighbours *neighbours);

#endif
