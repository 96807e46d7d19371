/* tombstones.h - what was removed and when, so that older events that come late stay void.
 *
 * A tombstone is the XXH3-128 hash of what it buries (a pair, a user, a catalog entry) and a time; no
 * id bytes are kept, so an erased user is really gone. It holds for tombstone_days of the state's clock
 * after its own time; then it is as if it had never been. One writer thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_TOMBSTONES_H
#define EXITPOLL_GRAPH_UPDATER_TOMBSTONES_H

#include "base/status.h"
#include "base/text.h"

struct tombstone {
	uint64_t hash[2];       /* XXH3-128 of the tag and the hashes of both */
	int64_t time_ms;        /* events at or before it are void */
};

enum tombstone_tag { TOMBSTONE_PAIR = 1, TOMBSTONE_USER = 2, TOMBSTONE_ITEM = 3 };

struct tombstones;
enum status tombstones_create(int64_t keep_ms, uint64_t count_max, struct tombstones **out,
			      struct error *error);
void tombstones_destroy(struct tombstones *tombstones); /* NULL ok */

struct tombstone tombstone_of(enum tombstone_tag tag, struct text_view a, struct text_view b,
			      int64_t time_ms);
/* The later of two of one hash stays. *later is true when this one is news: there was none, or an
 * older one, and it has not run out yet. STATUS_NO_MEMORY when count_max living ones are there. */
enum status tombstones_put(struct tombstones *tombstones, const struct tombstone *tombstone,
			   int64_t clock_ms, bool *later, struct error *error);
/* True: one that has not run out at clock_ms, *time_ms written. */
bool tombstones_find(const struct tombstones *tombstones, const struct tombstone *tombstone,
		     int64_t clock_ms, int64_t *time_ms);
/* Living ones at clock_ms, sorted by hash; the array is the caller's (mem_free). */
enum status tombstones_sorted(const struct tombstones *tombstones, int64_t clock_ms,
			      struct tombstone **out, size_t *count, struct error *error);
size_t tombstones_count(const struct tombstones *tombstones);   /* run-out ones not yet swept included */
size_t tombstones_memory(const struct tombstones *tombstones);

#endif
