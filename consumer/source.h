/* source.h - where records come from: container files or Kafka, one total order either way.
 *
 * The order: event_time, then topic (items, impressions, interactions), then key bytes, then position
 * within the key's partition or file; records of one time are sorted as a group of at most 65,536
 * (beyond that in arrival order, counted). So it depends neither on the number of partitions nor on
 * the storage. consumer/merge.c implements it once for both.
 *
 * Life: create -> join -> start -> poll ... poll -> destroy. All calls from one thread. */
#ifndef EXITPOLL_CONSUMER_SOURCE_H
#define EXITPOLL_CONSUMER_SOURCE_H

#include "base/status.h"
#include "schemas/kafka_settings.h"
#include "schemas/topic.h"

/* One record in its place. Everything is borrowed from the arena given to poll. */
struct record {
	struct position position;
	enum status status;             /* OK, or of class BAD: then only raw fields are set */
	const char *reason;             /* BAD: short and countable, static */
	struct text_view error;         /* BAD: for a person */
	struct event event;             /* OK */
	bool late;                      /* older than the source's clock when it came */
	struct text_view key;           /* original bytes; files: as the encoder would key it */
	struct text_view value;         /* original bytes (BAD records only, may be absent for files) */
	struct text_view traceparent;   /* W3C trace header, or empty */
};

struct source_batch {
	const struct record *records;   /* [count], in the total order */
	size_t count;
	bool cut;       /* after this batch, what was delivered is a prefix of every partition */
	bool end;       /* nothing will follow (files; Kafka with until_end) */
	bool rewind;    /* partitions were gained whose next impression is older than the clock, or whose graph
			   events were not read: the caller may restore an older snapshot and call start again
			   (no records in this batch) */
	bool backfill;  /* still before the end offsets seen at the start */
	bool idle;      /* live, caught up, and nothing that was read waits to be given out: only now may a
			   caller do what depends on time and not on the order of records */
	bool revoked;   /* partitions are about to be taken away (no records in this batch, and none in any
			   until resume_from_committed is called, which lets them go): commit what is
			   answered, if the last records came with `cut`, and settle; else abort */
};

/* What waits to be put in order, and what could not be. */
struct source_stats {
	uint64_t waiting_records, waiting_bytes;
	uint64_t overfull;              /* records of one time beyond group_records_max: in arrival order */
};

struct source;
struct source_class {
	const char *name;               /* "file", "kafka" */
	bool commits;                   /* has offsets; else they are always none, and what is about them is never
					   called (may be NULL): the output appears as a whole or not at all */
	/* Blocks up to a bound of its own until partitions are assigned and the first unanswered
	 * impression of each is known: *oldest_unanswered_ms (INT64_MAX: none waits). */
	enum status (*join)(struct source *source, int64_t *oldest_unanswered_ms, struct error *error);
	/* Positions of items and interactions from the snapshot [count]; count 0: from the beginning. Can be
	 * called again after `rewind`; buffered records are dropped and read again. */
	enum status (*start)(struct source *source, const struct position *positions, size_t count,
			     int64_t clock_ms, struct error *error);
	/* Up to records_max records, waiting at most timeout_ms for the first. STATUS_RETRY: broker trouble,
	 * call again; FENCED, CONFIG, ...: fatal. An empty batch is not an error. */
	enum status (*poll)(struct source *source, size_t records_max, int64_t timeout_ms,
			    struct arena *arena, struct source_batch *batch, struct error *error);
	/* Says that the output of this record (prediction or dead letter) is in the sink. Only for topics
	 * whose offsets the stage commits; others are ignored. */
	void (*answered)(struct source *source, struct position position);
	/* What a commit now may claim; borrowed until the next call. Exactly once needs a commit at a cut with
	 * everything answered: elsewhere output beyond the prefix would come again after a crash. Files: count
	 * is 0. Changes nothing: may be called any number of times, also while a commit is under way. */
	enum status (*offsets)(struct source *source, struct commit_offsets *out, struct error *error);
	/* These offsets are known to be committed: what is below them is forgotten. */
	void (*committed)(struct source *source, const struct commit_offsets *offsets);
	/* After a commit whose outcome was not "committed": drop what is buffered, re-read the committed
	 * offsets and go on from them. */
	enum status (*resume_from_committed)(struct source *source, struct error *error);
	/* Next offset of every items and interactions partition; only right after a batch with cut = true.
	 * Borrowed until the next call. */
	enum status (*positions)(struct source *source, const struct position **out, size_t *count,
				 struct error *error);
	/* Event time of the oldest impression delivered or waiting but not yet committed (INT64_MAX: none). */
	int64_t (*oldest_unanswered_ms)(const struct source *source);
	void (*get_stats)(const struct source *source, struct source_stats *out);
	void (*destroy)(struct source *source);
	/* delivery = at_least_once: commits what offsets says by itself, after the sink has settled. NULL:
	 * nothing to commit (files). */
	enum status (*commit)(struct source *source, struct error *error);
};

/* Implementations embed this as their first member. */
struct source {
	const struct source_class *class;
};

struct source_file_options {
	const char *folder;             /* holds <topic>.avro or <topic>-0001.avro ... */
	bool topics[TOPICS];            /* which to read; a missing items file is an empty topic */
	struct event_limits limits;
	size_t group_records_max;       /* 0: 65,536 */
};
enum status source_file_create(const struct source_file_options *options, struct source **out,
			       struct error *error);

struct registry;
struct source_kafka_options {
	const char *brokers;            /* host:port[,host:port] */
	const struct kafka_setting *settings;   /* [settings_count] passed through, never printed */
	size_t settings_count;
	struct topic_names topics;
	bool read_graph_topics;         /* items, interactions (own assignment) and impressions (group) */
	bool read_scoring_requests;     /* scoring-requests (group) */
	const char *group_id;
	const char *instance_id;        /* group.instance.id */
	bool until_end;                 /* stop at the high watermarks seen at the start */
	int64_t idle_ms;                /* source.idle_ms; 0: 50 */
	int64_t partitions_ms;          /* source.partitions_ms; 0: 60,000 */
	size_t buffer_bytes_max;        /* source.buffer_bytes_max over all partitions; 0: 64 MiB */
	size_t group_records_max;       /* 0: 65,536 */
	const char *offset_policy;      /* state.offset.policy: error | earliest | latest */
	int64_t join_timeout_ms;        /* 0: 60,000 */
	bool (*stopping)(void);         /* asked while join waits: true ends it with STATUS_INTERRUPTED; NULL: never */
	struct event_limits limits;
	struct registry *registry;      /* borrowed */
};
enum status source_kafka_create(const struct source_kafka_options *options, struct source **out,
				struct error *error);

#endif
