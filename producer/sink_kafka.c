/* sink_kafka.c - output and input offsets in Kafka transactions, committed behind the next batch.
 *
 * Idea: two transactional producers take turns. While the commit thread commits A, the caller writes to
 * B; B's own commit starts only once A's outcome is known, so that commits happen in the order of the
 * input, and if A fails, B is aborted too: what has been committed is always a prefix.
 * Invariant: a producer is used by the commit thread while the job is RUNNING, by the caller otherwise;
 * the caller never touches `job` fields of a running job but under the lock.
 * With delivery = at_least_once there is one idempotent producer and commit waits for delivery; the
 * caller then commits the offsets through source.commit.
 * Called by ops/cli; one caller thread plus one commit thread. */
#include "producer/sink.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "producer/idempotent.h"
#include "producer/kafka_message.h"
#include "producer/transactional.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum job_state { JOB_NONE, JOB_RUNNING, JOB_DONE, JOB_STOP };

struct job {
	enum job_state state;
	struct transactional *producer;
	rd_kafka_topic_partition_list_t *offsets;       /* owned; may be NULL */
	rd_kafka_consumer_group_metadata_t *group;      /* owned; may be NULL */
	enum status status;
	struct error error;
};

struct sink_kafka {
	struct sink sink;
	struct message_encoder encoder;
	struct transactional *producers[2];     /* exactly once */
	unsigned current;
	struct idempotent *idempotent;          /* at least once */
	pthread_t thread;
	bool thread_runs;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct job job;
	atomic_uint_fast64_t commits;
	atomic_int_fast64_t commit_ns;          /* of the last one */
};

/* ---- commit thread ---- */

static void *commit_loop(void *argument)
{
	struct sink_kafka *sink = argument;
	struct job *job = &sink->job;

	pthread_mutex_lock(&sink->lock);
	for (;;) {
		struct error error = {0};
		enum status status;
		int64_t begun;

		while (job->state != JOB_RUNNING && job->state != JOB_STOP)
			pthread_cond_wait(&sink->changed, &sink->lock);
		if (job->state == JOB_STOP)
			break;
		pthread_mutex_unlock(&sink->lock);
		begun = clock_steady_ns();
		status = transactional_commit(job->producer, job->offsets, job->group, &error);
		if (status == STATUS_OK) {
			atomic_store(&sink->commit_ns, clock_steady_ns() - begun);
			atomic_fetch_add(&sink->commits, 1);
		}
		pthread_mutex_lock(&sink->lock);
		job->status = status;
		job->error = error;
		job->state = JOB_DONE;
		pthread_cond_broadcast(&sink->changed);
	}
	pthread_mutex_unlock(&sink->lock);
	return NULL;
}

static void job_free(struct job *job)
{
	if (job->offsets)
		rd_kafka_topic_partition_list_destroy(job->offsets);
	if (job->group)
		rd_kafka_consumer_group_metadata_destroy(job->group);
	job->offsets = NULL;
	job->group = NULL;
}

/* Waits for the commit under way, if any, and takes its result. */
static enum status reap(struct sink_kafka *sink, struct error *error)
{
	struct job *job = &sink->job;
	enum status status = STATUS_OK;

	pthread_mutex_lock(&sink->lock);
	while (job->state == JOB_RUNNING)
		pthread_cond_wait(&sink->changed, &sink->lock);
	if (job->state == JOB_DONE) {
		job->state = JOB_NONE;
		status = job->status;
		job_free(job);
		if (status != STATUS_OK)
			error_set(error, status, "%s", job->error.text);
	}
	pthread_mutex_unlock(&sink->lock);
	return status;
}

/* ---- the class ---- */

static struct sink_kafka *self(struct sink *sink)
{
	return (struct sink_kafka *)sink;
}

/* After a commit that was not: the transaction written since then falls with it. */
static enum status fall(struct sink_kafka *sink, enum status status, struct error *error)
{
	struct error local = {0};

	if (status_class(status) == STATUS_CLASS_RETRY &&
	    transactional_abort(sink->producers[sink->current], &local) != STATUS_OK)
		return error_set(error, local.status, "%s", local.text);
	return status;
}

static enum status kafka_write(struct sink *base, const struct event *event, struct text_view traceparent,
			       struct error *error)
{
	struct sink_kafka *sink = self(base);
	struct outgoing message;
	enum status status = message_encode(&sink->encoder, event, traceparent, &message, error);

	if (status != STATUS_OK)
		return status;
	return sink->idempotent ? idempotent_produce(sink->idempotent, &message, error) :
	       transactional_produce(sink->producers[sink->current], &message, error);
}

static rd_kafka_consumer_group_metadata_t *copy_group(const void *group, struct error *error)
{
	rd_kafka_consumer_group_metadata_t *copy = NULL;
	rd_kafka_error_t *failure;
	void *bytes = NULL;
	size_t size = 0;

	/* The public way to copy: write and read. */
	failure = rd_kafka_consumer_group_metadata_write(group, &bytes, &size);
	if (!failure)
		failure = rd_kafka_consumer_group_metadata_read(&copy, bytes, size);
	if (failure) {
		error_set(error, STATUS_INTERNAL, "cannot copy the consumer group's metadata: %s",
			  rd_kafka_error_string(failure));
		rd_kafka_error_destroy(failure);
	}
	if (bytes)
		rd_kafka_mem_free(NULL, bytes);
	return copy;
}

static enum status kafka_commit(struct sink *base, const struct commit_offsets *offsets,
				struct error *error)
{
	struct sink_kafka *sink = self(base);
	struct transactional *producer = sink->producers[sink->current];
	rd_kafka_topic_partition_list_t *list = NULL;
	rd_kafka_consumer_group_metadata_t *group = NULL;
	enum status status;

	if (sink->idempotent) {
		int64_t begun = clock_steady_ns();

		status = idempotent_flush(sink->idempotent, error);
		if (status == STATUS_OK) {
			atomic_store(&sink->commit_ns, clock_steady_ns() - begun);
			atomic_fetch_add(&sink->commits, 1);
		}
		return status;
	}
	status = reap(sink, error);
	if (status != STATUS_OK)
		return fall(sink, status, error);
	if (!transactional_open(producer) && (!offsets || offsets->count == 0))
		return STATUS_OK;
	if (offsets && offsets->count && offsets->group_metadata) {
		group = copy_group(offsets->group_metadata, error);
		if (!group)
			return STATUS_INTERNAL;
		list = rd_kafka_topic_partition_list_new((int)offsets->count);
		for (size_t i = 0; i < offsets->count; i++) {
			const struct position *position = &offsets->positions[i];
			rd_kafka_topic_partition_list_add(list, sink->encoder.topics.name[position->topic],
							  position->partition)->offset = position->offset;
		}
	}
	pthread_mutex_lock(&sink->lock);
	sink->job = (struct job){.state = JOB_RUNNING, .producer = producer, .offsets = list, .group = group};
	pthread_cond_broadcast(&sink->changed);
	pthread_mutex_unlock(&sink->lock);
	sink->current ^= 1;
	return STATUS_OK;
}

static enum status kafka_settle(struct sink *base, struct error *error)
{
	struct sink_kafka *sink = self(base);
	enum status status;

	if (sink->idempotent)
		return idempotent_flush(sink->idempotent, error);
	status = reap(sink, error);
	return status == STATUS_OK ? STATUS_OK : fall(sink, status, error);
}

static enum status kafka_abort(struct sink *base, struct error *error)
{
	struct sink_kafka *sink = self(base);
	struct error local = {0};
	enum status status;

	if (sink->idempotent)
		return idempotent_drop(sink->idempotent, error);
	/* A commit before this one that failed has dropped its own output: the caller re-reads anyway. */
	status = reap(sink, &local);
	if (status != STATUS_OK && status_class(status) != STATUS_CLASS_RETRY)
		return error_set(error, status, "%s", local.text);
	return transactional_abort(sink->producers[sink->current], error);
}

static enum status kafka_finish(struct sink *base, struct error *error)
{
	return kafka_settle(base, error);
}

static uint64_t kafka_commits(const struct sink *base)
{
	return atomic_load(&((const struct sink_kafka *)base)->commits);
}

int64_t sink_kafka_commit_ns(const struct sink *base)
{
	return atomic_load(&((const struct sink_kafka *)base)->commit_ns);
}

static void kafka_destroy(struct sink *base)
{
	struct sink_kafka *sink = self(base);

	if (!sink)
		return;
	if (sink->thread_runs) {
		struct error error = {0};

		reap(sink, &error);
		pthread_mutex_lock(&sink->lock);
		sink->job.state = JOB_STOP;
		pthread_cond_broadcast(&sink->changed);
		pthread_mutex_unlock(&sink->lock);
		pthread_join(sink->thread, NULL);
		/* Aborting at once spares readers the wait for the transaction time-out. */
		transactional_abort(sink->producers[sink->current], &error);
	}
	transactional_destroy(sink->producers[0]);
	transactional_destroy(sink->producers[1]);
	idempotent_destroy(sink->idempotent);
	byte_buffer_free(&sink->encoder.buffer);
	pthread_cond_destroy(&sink->changed);
	pthread_mutex_destroy(&sink->lock);
	mem_free(sink);
}

static const struct sink_class kafka_class = {
	.name = "kafka",
	.commits_parts = true,
	.write = kafka_write,
	.commit = kafka_commit,
	.settle = kafka_settle,
	.abort = kafka_abort,
	.finish = kafka_finish,
	.commits = kafka_commits,
	.destroy = kafka_destroy,
};

static enum status make_producers(struct sink_kafka *sink, const struct sink_kafka_options *options,
				  struct error *error)
{
	struct transactional_options producer = {
		.brokers = options->brokers,
		.settings = options->settings,
		.settings_count = options->settings_count,
		.transaction_timeout_ms = options->transaction_timeout_ms ? options->transaction_timeout_ms : 10000,
		.message_bytes_max = options->record_bytes_max + KAFKA_MESSAGE_OVERHEAD_BYTES,
		.stopping = options->stopping,
	};
	char id[300];

	if (!options->transactional_id)
		return idempotent_create(&producer, &sink->idempotent, error);
	producer.id = id;
	for (unsigned i = 0; i < 2; i++) {
		enum status status;

		if ((size_t)snprintf(id, sizeof(id), "%s-%u", options->transactional_id, i) >= sizeof(id))
			return error_set(error, STATUS_CONFIG, "instance.id is too long for a transactional.id");
		status = transactional_create(&producer, &sink->producers[i], error);
		if (status != STATUS_OK)
			return status;
	}
	if (pthread_create(&sink->thread, NULL, commit_loop, sink))
		return error_set(error, STATUS_NO_MEMORY, "cannot start the commit thread");
	sink->thread_runs = true;
	return STATUS_OK;
}

enum status sink_kafka_create(const struct sink_kafka_options *options, struct sink **out,
			      struct error *error)
{
	struct sink_kafka *sink = mem_alloc_zero(1, sizeof(*sink));
	enum status status;

	if (!sink)
		return error_set(error, STATUS_NO_MEMORY, "out of memory for the Kafka sink");
	sink->sink.class = &kafka_class;
	sink->encoder.topics = options->topics;
	sink->encoder.registry = options->registry;
	sink->encoder.record_bytes_max = options->record_bytes_max;
	pthread_mutex_init(&sink->lock, NULL);
	pthread_cond_init(&sink->changed, NULL);
	status = make_producers(sink, options, error);
	if (status != STATUS_OK) {
		kafka_destroy(&sink->sink);
		return status;
	}
	*out = &sink->sink;
	return STATUS_OK;
}
