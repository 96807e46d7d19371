/* kafka_state.h - what the files of the Kafka source share: its state and the ideas it is cut into.
 *   kafka_assign.c  which partitions are read and from where (group, own assignment, rewinds)
 *   kafka_fetch.c   messages from librdkafka's queue into the merge, within bounded memory
 *   kafka_others.c  partitions of other members at the end of a backfill
 *   source_kafka.c  the class: what a caller sees
 *   kafka_create.c  makes and unmakes it
 *   kafka_grow.c    partitions that are added to items or interactions
 *   kafka_heal.c    a group that has forgotten us during an outage is joined anew
 * One thread: librdkafka's callbacks run inside calls of this source. */
#ifndef EXITPOLL_CONSUMER_KAFKA_STATE_H
#define EXITPOLL_CONSUMER_KAFKA_STATE_H

#include "consumer/consumer_conf.h"
#include "consumer/kafka_partitions.h"
#include "consumer/kafka_record.h"
#include "consumer/merge.h"
#include "consumer/offsets.h"
#include "consumer/source.h"

enum { KAFKA_FETCH_MESSAGES = 512 };

enum offset_policy { OFFSET_ERROR, OFFSET_EARLIEST, OFFSET_LATEST };

struct source_kafka {
	struct source source;

	/* options, copied */
	char *brokers, *group_id, *graph_group_id, *instance_id;
	char *names[TOPICS];
	bool read_graph, read_requests, until_end;
	int64_t idle_ms, join_timeout_ms, partitions_ms;
	bool (*stopping)(void);
	size_t buffer_bytes_max;
	enum offset_policy policy;

	/* clients; `queue` gets what both consumers fetch, callbacks included */
	struct consumer_conf group_conf, graph_conf, watch_conf;
	rd_kafka_t *group;              /* impressions or scoring requests, by the consumer group */
	rd_kafka_t *graph;              /* items and interactions, all partitions; NULL: not read */
	rd_kafka_t *watch;              /* asks for watermarks, read uncommitted */
	rd_kafka_queue_t *queue;

	struct kafka_partitions partitions;
	struct merge *merge;
	struct offsets *offsets;        /* of the group's partitions */
	struct record_reader reader;

	/* messages taken from the queue but not yet pushed */
	rd_kafka_message_t *messages[KAFKA_FETCH_MESSAGES];
	size_t messages_next, messages_count;
	/* an entry popped from the merge that did not fit into the batch */
	struct merge_entry held;
	bool has_held;

	/* group */
	rd_kafka_topic_partition_list_t *assign_pending;        /* assigned by the group, not yet taken; or NULL */
	bool revoke_pending;            /* the group wants its partitions back; assignment not yet given up */
	bool subscribed;
	bool assigned;                  /* an assignment was taken at least once */
	bool dirty;                     /* something of the group was delivered since it was (re)read */
	bool started;
	bool probing;                   /* partitions were gained: their next record must be known first */
	int64_t probe_until_ns;
	bool closing;
	int64_t others_ask_ns, others_since_ns, others_sum;     /* see kafka_others.c */
	int64_t grow_ask_ns;            /* when partitions are counted next */

	/* live */
	int64_t blocked_ns;             /* since when the merge waits for silent lanes; 0: it does not */
	size_t release_left;            /* entries that have waited long enough */

	bool unreachable;               /* a client has lost all brokers, and none has answered since */

	/* healing, see kafka_heal.c */
	int64_t outage_ns;              /* when brokers were last known to be unreachable; 0: never */
	_Atomic int64_t session_lost_ns;        /* when the group was silent for a whole session; the client's thread
						   writes it */
	unsigned heals;                 /* since the last outage began */
	bool forgotten;                 /* fenced by our own older membership: the clients must be made anew */
	bool restart;                   /* they were: what is read begins anew with `start` */

	enum status failure;            /* fatal, found in a callback; OK: none */
	struct error failure_error;

	rd_kafka_consumer_group_metadata_t *group_metadata;    /* of the last offsets call */
	struct position *positions;     /* [positions_capacity] of the last positions call */
	size_t positions_capacity;
};

/* ---- source_kafka.c and kafka_create.c ---- */
extern const struct source_class kafka_source_class;
/* Asks for the group's topic, once per client. */
enum status kafka_subscribe(struct source_kafka *source, struct error *error);
void kafka_source_destroy(struct source *source);       /* NULL ok */
/* The clients and their queue, from the confs; and away with them. Half of them is legal. */
enum status kafka_make_clients(struct source_kafka *source, struct error *error);
void kafka_close_clients(struct source_kafka *source);

/* ---- kafka_assign.c ---- */
void kafka_group_rebalanced(rd_kafka_t *client, rd_kafka_resp_err_t code,
			    rd_kafka_topic_partition_list_t *partitions, void *opaque);
/* Takes what the group has assigned, if anything. RETRY: asks again at the next call. */
enum status kafka_take_assignment(struct source_kafka *source, struct error *error);
/* Impressions or scoring requests. */
enum topic kafka_group_topic(const struct source_kafka *source);
/* Partitions are numbered from 0. CONFIG: there is no such topic. */
enum status kafka_partition_count(struct source_kafka *source, rd_kafka_t *client, enum topic topic,
				  int32_t *count, struct error *error);
/* Fills in what is committed; -1 where nothing is. Waits for transactions that hold offsets back. */
enum status kafka_ask_committed(struct source_kafka *source, rd_kafka_topic_partition_list_t *list,
				struct error *error);
/* Gives the group's partitions up. */
enum status kafka_let_go(struct source_kafka *source, struct error *error);
/* Forgets the group's partitions and what waits of them, without a word to the client. */
void kafka_drop_group(struct source_kafka *source);
/* Assigns all partitions of items and interactions, from these positions or the beginning. */
enum status kafka_assign_graph(struct source_kafka *source, const struct position *positions, size_t count,
			       struct error *error);
/* Reads the group's partitions again: from what is committed, or from the first unanswered record. */
enum status kafka_reread_group(struct source_kafka *source, bool committed, struct error *error);
/* A position that the log does not have (any more): by policy. */
enum status kafka_out_of_range(struct source_kafka *source, struct kafka_partition *partition,
			       struct error *error);
/* All topics exist; the text says which does not. */
enum status kafka_check_topics(struct source_kafka *source, struct error *error);

/* ---- kafka_heal.c ---- */
/* No broker was reachable just now. */
void kafka_outage(struct source_kafka *source);
/* Fenced: whether that may be our own membership from before an outage; then `forgotten` is set. */
bool kafka_may_heal(struct source_kafka *source);
/* While `forgotten`: new clients, subscribed; then `restart` is set. RETRY: call again. */
enum status kafka_heal(struct source_kafka *source, struct error *error);

/* ---- kafka_others.c ---- */
/* At our own end of a backfill: whether the partitions of other members are at theirs, or have made no
 * progress for longer than a dead member keeps them. Asks at most twice a second. */
enum status kafka_others_done(struct source_kafka *source, bool *done, struct error *error);

/* ---- kafka_grow.c ---- */
/* Live: whether items or interactions have more partitions than are read. Asks every partitions_ms. */
bool kafka_grew(struct source_kafka *source);

/* ---- kafka_fetch.c ---- */
/* Takes messages from the queue, waiting at most timeout_ms for the first, and pushes them. RETRY: what
 * was taken is kept and pushed at the next call. */
enum status kafka_fetch(struct source_kafka *source, int64_t timeout_ms, struct error *error);
/* Forgets messages that were taken but not pushed, of the group's partitions or of the others. */
void kafka_forget(struct source_kafka *source, bool group);
/* Pauses what holds too much and lets the rest fetch. */
enum status kafka_balance(struct source_kafka *source, struct error *error);
/* An error of a client as a status: RETRY, FENCED, NO_PERMISSION, CONFIG, ... */
enum status kafka_error(struct source_kafka *source, rd_kafka_resp_err_t code, const char *what,
			const char *text, struct error *error);
void kafka_client_failed(rd_kafka_t *client, int code, const char *reason, void *opaque);
/* After a client has lost all brokers: asks until one answers; RETRY until then, OK at once otherwise. */
enum status kafka_check_reachable(struct source_kafka *source, struct error *error);

#endif
