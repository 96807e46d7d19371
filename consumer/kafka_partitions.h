/* kafka_partitions.h - the partitions that a Kafka source reads, and how far it is in each.
 * One thread. */
#ifndef EXITPOLL_CONSUMER_KAFKA_PARTITIONS_H
#define EXITPOLL_CONSUMER_KAFKA_PARTITIONS_H

#include "base/status.h"
#include "schemas/topic.h"

enum { KAFKA_PARTITIONS_MAX = 16384 };

struct kafka_partition {
	enum topic topic;
	int32_t partition;
	uint32_t lane;                  /* of the merge */
	bool group;                     /* ours by the consumer group; else by our own assignment */
	int64_t next;                   /* all below has been heard of (read, or known not to be there) */
	int64_t delivered;              /* next after what poll has given out; right at a cut */
	int64_t end;                    /* high watermark when it was started */
	bool at_end;                    /* the last that was heard is that nothing follows `next` for now */
	bool ended;                     /* until_end: its lane has ended */
	bool paused;
	bool probed;                    /* its next record, or that there is none, is known */
};

struct kafka_partitions {
	struct kafka_partition *list;   /* [count], in no order */
	size_t count, capacity;
	uint32_t *index[TOPICS];        /* [index_size]: place in list + 1 by partition number; 0: none */
	size_t index_size[TOPICS];
};

/* NULL: not read. The pointer is good until the next add or remove. */
struct kafka_partition *kafka_partition_find(const struct kafka_partitions *partitions, enum topic topic,
					     int32_t partition);
/* STATUS_LIMIT above KAFKA_PARTITIONS_MAX; STATUS_USAGE: there already. */
enum status kafka_partition_add(struct kafka_partitions *partitions, const struct kafka_partition *partition,
				struct error *error);
/* The last of the list takes the place of the removed one. */
void kafka_partition_remove(struct kafka_partitions *partitions, struct kafka_partition *partition);
void kafka_partitions_free(struct kafka_partitions *partitions);

/* Everything below its end at the start has been heard of. */
static inline bool kafka_partition_reached(const struct kafka_partition *partition)
{
	return partition->next >= partition->end;
}

#endif
