/* topic.h - the topics, positions in them, and what is handed from a source to a sink to commit.
 * The order of enum topic is the order of the stream within one event time. */
#ifndef EXITPOLL_SCHEMAS_TOPIC_H
#define EXITPOLL_SCHEMAS_TOPIC_H

#include "schemas/event.h"

enum topic {
	TOPIC_ITEMS,
	TOPIC_IMPRESSIONS,
	TOPIC_INTERACTIONS,
	TOPIC_SCORING_REQUESTS,
	TOPIC_PREDICTIONS,
	TOPIC_DEAD_LETTERS,
};
enum { TOPICS = 6 };

/* Topic names as configured (topic.items = ... ); defaults are the names of section 2. */
struct topic_names {
	const char *name[TOPICS];
};
extern const struct topic_names topic_names_default;

enum record_type topic_record_type(enum topic topic);
enum topic topic_of_record_type(enum record_type type);

/* A record's place: Kafka partition and offset, or file number and record number. */
struct position {
	enum topic topic;
	int32_t partition;
	int64_t offset;
};

/* The end of the contiguous answered prefix of every partition whose offsets this stage commits
 * (offset = next to read), and the consumer group that owns them. Borrowed from the source, dead at
 * its next call. */
struct commit_offsets {
	const struct position *positions;       /* [count] */
	size_t count;
	const void *group_metadata;             /* rd_kafka_consumer_group_metadata_t; NULL for files */
};

#endif
