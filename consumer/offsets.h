/* offsets.h - what a commit may claim: the contiguous answered prefix of every partition.
 *
 * Records are read in offset order (with gaps: control and aborted records), delivered in another
 * order (groups of one time are sorted by key) and answered in any order. The tracker holds every
 * record from the committed offset on; a partition's commit offset is that of its first unanswered
 * record, or one past the last read. One thread; a bounded number of records in all. */
#ifndef EXITPOLL_CONSUMER_OFFSETS_H
#define EXITPOLL_CONSUMER_OFFSETS_H

#include "base/status.h"
#include "schemas/topic.h"

enum { OFFSETS_PARTITIONS_MAX = 65536 };

struct offsets;

/* records_max: read but not yet committed, over all partitions (0: 4,194,304). */
enum status offsets_create(size_t records_max, struct offsets **out, struct error *error);
void offsets_destroy(struct offsets *offsets);          /* NULL ok */

/* Starts (or restarts, forgetting all about it) a partition at its next offset. */
enum status offsets_assign(struct offsets *offsets, enum topic topic, int32_t partition,
			   int64_t next_offset, struct error *error);
void offsets_revoke(struct offsets *offsets, enum topic topic, int32_t partition);
bool offsets_assigned(const struct offsets *offsets, enum topic topic, int32_t partition);

/* A record was read; offsets of one partition must ascend. event_time_ms INT64_MAX: has none (bad).
 * STATUS_LIMIT: records_max are waiting (commit first; the source pauses); STATUS_USAGE: not assigned,
 * or at or below an offset that was read before. */
enum status offsets_read(struct offsets *offsets, struct position position, int64_t event_time_ms,
			 struct error *error);
/* Nothing is to come below next_offset (control records at the end of a partition). */
void offsets_passed(struct offsets *offsets, enum topic topic, int32_t partition, int64_t next_offset);
/* Its output is in the sink. False: unknown (revoked, committed before) or answered before. */
bool offsets_answered(struct offsets *offsets, struct position position);

/* The commit offset of every assigned partition whose answered prefix goes beyond what was committed,
 * by topic and partition; borrowed until the next call that is not const. */
enum status offsets_prefix(struct offsets *offsets, const struct position **out, size_t *count,
			   struct error *error);
/* These are committed: forgets the records below. Unknown partitions are ignored. */
void offsets_committed(struct offsets *offsets, const struct position *positions, size_t count);

/* Least event time of the records that are not committed; INT64_MAX: none. */
int64_t offsets_oldest_ms(const struct offsets *offsets);
size_t offsets_pending(const struct offsets *offsets);          /* records held */
size_t offsets_unanswered(const struct offsets *offsets);
/* The next offset of a partition to commit; -1: not assigned. */
int64_t offsets_next(const struct offsets *offsets, enum topic topic, int32_t partition);

#endif
