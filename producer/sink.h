/* sink.h - where records go: container files or Kafka, with commits that are atomic for both.
 *
 * A transaction is everything written since the last commit, with the input offsets given to commit.
 * One thread calls write and commit; the Kafka sink commits behind the caller's back (two producers
 * taking turns), so commit returns at once and `settle` waits. */
#ifndef EXITPOLL_PRODUCER_SINK_H
#define EXITPOLL_PRODUCER_SINK_H

#include "base/status.h"
#include "schemas/kafka_settings.h"
#include "schemas/topic.h"

struct sink;
struct sink_class {
	const char *name;               /* "file", "kafka" */
	/* The event is encoded before the call returns. Topic and key follow from the event. STATUS_LIMIT: the
	 * encoded record is over the record limit (caller writes a dead letter instead); RETRY: abort and
	 * resume; else fatal. */
	enum status (*write)(struct sink *sink, const struct event *event, struct text_view traceparent,
			     struct error *error);
	/* Begins to commit what was written, with these offsets (may have count 0). Returns when the commit is
	 * under way; at most one is. A failure of the one before is returned here: STATUS_RETRY after an abort
	 * (nothing of it is visible; the source must resume_from_committed), FENCED, ... */
	enum status (*commit)(struct sink *sink, const struct commit_offsets *offsets, struct error *error);
	/* Waits until every commit is known. Same results as commit. */
	enum status (*settle)(struct sink *sink, struct error *error);
	/* Drops what was written since the last commit. */
	enum status (*abort)(struct sink *sink, struct error *error);
	/* Files: the output appears (rename). Kafka: settle and close. The sink stays to be destroyed. */
	enum status (*finish)(struct sink *sink, struct error *error);
	bool commits_parts;             /* false: what was written appears at finish, as a whole or not at all */
	/* Commits that are known to have happened, and the last one's latency. */
	uint64_t (*commits)(const struct sink *sink);
	void (*destroy)(struct sink *sink);     /* without finish: files leave nothing behind */
};
struct sink {
	const struct sink_class *class;
};

struct container_metadata;
struct registry;

struct sink_file_options {
	const char *folder;             /* created; writes <topic>.avro for each topic of `topics` */
	bool topics[TOPICS];            /* files that appear even when empty (dead-letters: only if used) */
	bool force;                     /* replace existing output */
	size_t record_bytes_max;
	const struct container_metadata *metadata;      /* model, binary, libraries, CPU [metadata_count] */
	size_t metadata_count;
};
enum status sink_file_create(const struct sink_file_options *options, struct sink **out,
			     struct error *error);

struct sink_kafka_options {
	const char *brokers;
	const struct kafka_setting *settings;
	size_t settings_count;
	struct topic_names topics;
	const char *transactional_id;   /* NULL: delivery = at_least_once */
	size_t record_bytes_max;
	int64_t transaction_timeout_ms; /* 0: 10,000 */
	bool (*stopping)(void);         /* asked while create waits: true ends it with STATUS_INTERRUPTED; NULL: never */
	struct registry *registry;      /* borrowed */
};
/* Create it before source.join: when it returns, no transaction of a predecessor with this
 * transactional_id is open (two ids are used, "<transactional_id>-0" and "-1"), so that the committed
 * offsets are final. With transactional_id NULL commit waits for delivery, and the caller then calls
 * source.commit. A topic's dead letters keep original key, value and `traceparent`. */
enum status sink_kafka_create(const struct sink_kafka_options *options, struct sink **out,
			      struct error *error);
/* How long the last commit took, from sending the offsets on, in nanoseconds; 0: none yet. */
int64_t sink_kafka_commit_ns(const struct sink *sink);

#endif
