/* merge.h - the one total order of the stream, merged from lanes: one lane per partition or file.
 *
 * The order: event_time, then topic (items, impressions, interactions), then key bytes, then position
 * (partition or file number, then offset). Entries of one time are gathered as a group, sorted and
 * given out together; a group ends at group_records_max (or past MERGE_GROUP_BYTES_MAX), and what is
 * beyond is given out in further groups (counted). Even then the topics of one time keep their order,
 * and so do the keys if the lanes have theirs in order.
 *
 * If every lane is in time order, the result is a function of what the lanes hold: neither the number
 * of lanes nor the timing of pushes shows. What is out of order within a lane (or comes from a lane
 * that was silent) is put in its place while nothing behind it was given out; else it is late: given
 * out at once, flagged and counted. A bad entry has no time: it is given out as soon as it is at the
 * head of its lane and no group is being gathered; else at the front of that group, before the late
 * ones.
 *
 * The merge owns entries from push to pop: `payload` is the source's own and is handed back by pop, or
 * to `release` when lanes are dropped. Keys point into the payload. One thread. */
#ifndef EXITPOLL_CONSUMER_MERGE_H
#define EXITPOLL_CONSUMER_MERGE_H

#include "base/status.h"
#include "schemas/topic.h"

enum {
	MERGE_GROUP_RECORDS_MAX = 65536,
	MERGE_GROUP_BYTES_MAX = 256 << 20,
	MERGE_LANES_MAX = 16384,
	MERGE_LANE_RECORDS_MAX = 1 << 22,
};

struct merge_entry {
	int64_t event_time_ms;          /* not read if bad */
	struct position position;       /* topic, partition: those of the lane */
	struct text_view key;           /* borrowed from the payload */
	size_t bytes;                   /* what it counts for in merge_bytes() */
	bool bad;                       /* no time; only raw fields */
	bool late;                      /* written by pop */
	void *payload;
};

/* An OPEN lane that is empty blocks the merge: something earlier may still come. SILENT (live, idle for
 * too long): empty, but blocks nobody; its next push opens it. ENDED: nothing will come; blocks nobody. */
enum merge_lane_state { MERGE_LANE_OPEN, MERGE_LANE_SILENT, MERGE_LANE_ENDED };

enum merge_result {
	MERGE_RECORD,   /* *out was written; its payload is yours */
	MERGE_BLOCKED,  /* open lanes are empty: see merge_lane_blocks() */
	MERGE_IDLE,     /* all lanes are empty, none blocks, but not all have ended */
	MERGE_END,      /* all lanes are empty and ended (or there is none) */
};

struct merge;

/* group_records_max 0: MERGE_GROUP_RECORDS_MAX. release(context, payload) may be NULL. */
enum status merge_create(size_t group_records_max, void (*release)(void *context, void *payload),
			 void *context, struct merge **out, struct error *error);
void merge_destroy(struct merge *merge);        /* NULL ok; releases what is held */

/* Adds an OPEN lane; its number is valid until it is removed (numbers of removed lanes are used again).
 * STATUS_LIMIT above MERGE_LANES_MAX; STATUS_USAGE: there is a lane of this topic and partition. */
enum status merge_lane_add(struct merge *merge, enum topic topic, int32_t partition, uint32_t *lane,
			   struct error *error);
/* Drops the lane and all it holds, gathered or not (a revoked partition). */
void merge_lane_remove(struct merge *merge, uint32_t lane);
/* Releases everything in all lanes and opens them; the clock becomes clock_ms (INT64_MIN: none), with
 * nothing given out at that time yet. For start(), rewinds and resumes. */
void merge_clear(struct merge *merge, int64_t clock_ms);

/* Appends to the lane. The merge owns the payload only on STATUS_OK. STATUS_LIMIT: the lane holds
 * MERGE_LANE_RECORDS_MAX; STATUS_USAGE: the lane has ended or does not exist. */
enum status merge_push(struct merge *merge, uint32_t lane, const struct merge_entry *entry,
		       struct error *error);
/* ENDED is final until merge_clear(). SILENT has an effect only while the lane is empty. */
void merge_lane_set_state(struct merge *merge, uint32_t lane, enum merge_lane_state state);

/* The next entry of the total order. STATUS_NO_MEMORY: nothing is lost, may be called again. */
enum status merge_pop(struct merge *merge, struct merge_entry *out, enum merge_result *result,
		      struct error *error);

/* True while everything given out is a prefix of every lane: no group is given out in part. */
bool merge_cut(const struct merge *merge);

/* Whether the merge cannot go on before this lane is pushed to, silent or ended. A source with bounded
 * memory must never pause such a lane, whatever merge_bytes() says: that is how the bound cannot
 * become a deadlock. */
bool merge_lane_blocks(const struct merge *merge, uint32_t lane);
size_t merge_lanes_blocking(const struct merge *merge);
enum merge_lane_state merge_lane_state(const struct merge *merge, uint32_t lane);
size_t merge_lane_records(const struct merge *merge, uint32_t lane);    /* waiting, not yet gathered */
size_t merge_lane_bytes(const struct merge *merge, uint32_t lane);      /* waiting, not yet gathered */
size_t merge_bytes(const struct merge *merge);          /* all that is held, gathered included */
size_t merge_records(const struct merge *merge);
int64_t merge_clock_ms(const struct merge *merge);      /* greatest time given out; INT64_MIN: none yet */
uint64_t merge_late(const struct merge *merge);         /* entries given out late */
uint64_t merge_overfull(const struct merge *merge);     /* entries beyond group_records_max of one time */

#endif
