/* transactional.c - one transactional producer, and every way in which its transactions end.
 *
 * Idea: librdkafka says of an error whether to try again, to abort, or that the producer is dead; all
 * three are handled here, so that callers see four answers only (transactional.h).
 * Invariant: when a call returns STATUS_RETRY, no transaction of this producer is open; if the producer
 * could not be started anew, `client` is NULL and the next begin tries again.
 * Called by sink_kafka.c from the caller's or the commit thread, never both at once. */
#include "producer/transactional.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "producer/producer_conf.h"
#include "producer/producer_topics.h"

#include <string.h>
#include <time.h>

enum {
	CALL_MS = 5000,                 /* one blocking call of librdkafka */
	INIT_MS = 60000,                /* until a broker must have answered at the start */
	QUEUE_FULL_MS = 30000,          /* until a full queue is broker trouble */
	POLL_EVERY = 64,                /* messages between two servings of delivery reports */
};

struct transactional {
	struct producer_conf conf;
	char *id;
	rd_kafka_t *client;             /* NULL: has to be started anew */
	struct producer_topics topics;  /* of `client` */
	bool open;
	int64_t begun_ns;
	unsigned produced;
};

/* What an error means. The error object is consumed. */
enum outcome { OUTCOME_AGAIN, OUTCOME_ABORT, OUTCOME_DEAD, OUTCOME_FENCED, OUTCOME_FATAL };

static enum outcome judge(struct transactional *producer, rd_kafka_error_t *failure, const char *what,
			  struct error *error)
{
	rd_kafka_resp_err_t code = rd_kafka_error_code(failure);
	enum outcome outcome;
	char text[384];

	snprintf(text, sizeof(text), "%s", rd_kafka_error_string(failure));
	kafka_settings_scrub(producer->conf.settings, producer->conf.settings_count, text);
	error_set(error, STATUS_RETRY, "%s of transactional.id %s: %s", what, producer->id, text);
	switch (code) {
	case RD_KAFKA_RESP_ERR__FENCED:
	case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
	case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
		/* The coordinator fences a transaction that took too long in the same way as it fences for another
		 * instance; only the clock tells them apart. */
		outcome = clock_steady_ns() - producer->begun_ns >=
			  producer->conf.transaction_timeout_ms * 1000000 && producer->open ?
			  OUTCOME_DEAD : OUTCOME_FENCED;
		break;
	case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		error_set(error, STATUS_NO_PERMISSION, "%s of transactional.id %s: %s (ask for the ACL)", what,
			  producer->id, text);
		outcome = OUTCOME_FATAL;
		break;
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		error_set(error, STATUS_CONFIG, "%s of transactional.id %s: %s (the topic's max.message.bytes is "
			  "below the record limit: see topics check)", what, producer->id, text);
		outcome = OUTCOME_FATAL;
		break;
	case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
		error_set(error, STATUS_UNSUPPORTED, "%s of transactional.id %s: %s", what, producer->id, text);
		outcome = OUTCOME_FATAL;
		break;
	default:
		/* Also FENCED_INSTANCE_ID: after an outage it may be our own older membership of the consumer group,
		 * and it is for the consumer to say; another instance fences this producer as well. */
		outcome = rd_kafka_error_is_fatal(failure) ? OUTCOME_DEAD :
			  rd_kafka_error_txn_requires_abort(failure) ? OUTCOME_ABORT :
			  rd_kafka_error_is_retriable(failure) ? OUTCOME_AGAIN : OUTCOME_DEAD;
	}
	if (outcome == OUTCOME_FENCED)
		error_set(error, STATUS_FENCED, "%s of transactional.id %s: another instance with the same "
			  "instance.id has taken over (%s)", what, producer->id, text);
	rd_kafka_error_destroy(failure);
	return outcome;
}

static void pause_ms(long ms)
{
	struct timespec span = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&span, NULL);
}

static void stop_client(struct transactional *producer)
{
	if (!producer->client)
		return;
	/* What is still queued must not be sent by the destroy: its transaction is not ours any more. */
	rd_kafka_purge(producer->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
		       RD_KAFKA_PURGE_F_NON_BLOCKING);
	producer_topics_release(&producer->topics);
	rd_kafka_destroy(producer->client);
	producer->client = NULL;
	producer->open = false;
}

/* A new client under the same id; initialising it commits or aborts what the last one left. */
static enum status start_client(struct transactional *producer, int64_t limit_ms, bool (*stopping)(void),
				struct error *error)
{
	int64_t deadline = clock_steady_ns() + limit_ms * 1000000;
	enum status status = producer_conf_client(&producer->conf, &producer->client, error);

	if (status != STATUS_OK)
		return status;
	for (;;) {
		rd_kafka_error_t *failure = rd_kafka_init_transactions(producer->client, CALL_MS);
		enum outcome outcome;

		if (!failure)
			return STATUS_OK;
		outcome = judge(producer, failure, "start", error);
		if (outcome == OUTCOME_AGAIN && stopping && stopping()) {
			stop_client(producer);
			return error_set(error, STATUS_INTERRUPTED, "interrupted before a broker of %s answered",
					 producer->conf.brokers);
		}
		if (outcome == OUTCOME_AGAIN && clock_steady_ns() < deadline) {
			pause_ms(20);
			continue;
		}
		stop_client(producer);
		if (outcome == OUTCOME_AGAIN)
			error_prefix(error, "no broker of %s answers", producer->conf.brokers);
		return error->status;
	}
}

enum status transactional_create(const struct transactional_options *options, struct transactional **out,
				 struct error *error)
{
	struct error local = {0};
	struct transactional *producer = mem_alloc_zero(1, sizeof(*producer));
	enum status status;

	if (!producer || !(producer->id = mem_copy_string(options->id))) {
		status = error_set(error, STATUS_NO_MEMORY, "out of memory for a Kafka producer");
		goto cleanup;
	}
	producer->conf = (struct producer_conf){
		.brokers = options->brokers,
		.settings = options->settings,
		.settings_count = options->settings_count,
		.transactional_id = producer->id,
		.transaction_timeout_ms = options->transaction_timeout_ms,
		.message_bytes_max = options->message_bytes_max,
	};
	status = start_client(producer, INIT_MS, options->stopping, &local);
	if (status != STATUS_OK) {
		error_set(error, status == STATUS_RETRY ? STATUS_UNAVAILABLE : status, "%s", local.text);
		status = status == STATUS_RETRY ? STATUS_UNAVAILABLE : status;
		goto cleanup;
	}
	*out = producer;
	return STATUS_OK;

cleanup:
	transactional_destroy(producer);
	return status;
}

void transactional_destroy(struct transactional *producer)
{
	if (!producer)
		return;
	stop_client(producer);
	mem_free(producer->id);
	mem_free(producer);
}

bool transactional_open(const struct transactional *producer)
{
	return producer->open;
}

/* Starts anew after a death; RETRY whether that worked or not, unless we are not allowed back. */
static enum status revive(struct transactional *producer, struct error *error)
{
	struct error start = {0};
	enum status status;

	log_warning("transaction.restart", "id=%s reason=\"%s\"", producer->id, error->text);
	stop_client(producer);
	status = start_client(producer, 2 * producer->conf.transaction_timeout_ms, NULL, &start);
	if (status != STATUS_OK && status_class(status) != STATUS_CLASS_RETRY)
		return error_set(error, status, "%s", start.text);
	return error->status = STATUS_RETRY;
}

static enum status begin_transaction(struct transactional *producer, struct error *error)
{
	struct error local = {0};
	rd_kafka_error_t *failure;
	enum status status;

	if (!producer->client) {
		status = start_client(producer, 2 * producer->conf.transaction_timeout_ms, NULL, &local);
		if (status != STATUS_OK)
			return error_set(error, status, "%s", local.text);
	}
	failure = rd_kafka_begin_transaction(producer->client);
	if (!failure) {
		producer->open = true;
		producer->begun_ns = clock_steady_ns();
		producer->produced = 0;
		return STATUS_OK;
	}
	switch (judge(producer, failure, "begin", &local)) {
	case OUTCOME_FENCED:
	case OUTCOME_FATAL:
		return error_set(error, local.status, "%s", local.text);
	default:
		status = revive(producer, &local);
		return error_set(error, status, "%s", local.text);
	}
}

enum status transactional_produce(struct transactional *producer, struct outgoing *message,
				  struct error *error)
{
	rd_kafka_topic_t *topic = NULL;
	int64_t deadline = 0;
	enum status status = STATUS_OK;

	if (!producer->open)
		status = begin_transaction(producer, error);
	if (status == STATUS_OK && !(topic = producer_topic(&producer->topics, producer->client, message->topic)))
		status = error_set(error, STATUS_INTERNAL, "topic %s cannot be produced to", message->topic);
	while (status == STATUS_OK) {
		rd_kafka_vu_t fields[] = {
			{.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic},
			{.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
			{.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)message->value, message->value_size}},
			{.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)message->key, message->key_size}},
			{.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = message->timestamp_ms},
			{.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = message->headers},
		};
		rd_kafka_error_t *failure = rd_kafka_produceva(producer->client, fields,
							       sizeof(fields) / sizeof(fields[0]) -
							       (message->headers ? 0 : 1));
		if (!failure) {
			message->headers = NULL;        /* the client's now */
			if (++producer->produced % POLL_EVERY == 0)
				rd_kafka_poll(producer->client, 0);
			return STATUS_OK;
		}
		if (rd_kafka_error_code(failure) == RD_KAFKA_RESP_ERR__QUEUE_FULL &&
		    (!deadline || clock_steady_ns() < deadline)) {
			rd_kafka_error_destroy(failure);
			deadline = deadline ? deadline : clock_steady_ns() + QUEUE_FULL_MS * INT64_C(1000000);
			rd_kafka_poll(producer->client, 10);
			continue;
		}
		if (rd_kafka_error_code(failure) == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
			status = error_set(error, STATUS_LIMIT, "a message of %zu bytes for %s is over the limit of "
					   "%zu", message->value_size, message->topic,
					   producer->conf.message_bytes_max);
			rd_kafka_error_destroy(failure);
		} else {
			struct error local = {0};
			enum outcome outcome = judge(producer, failure, "produce", &local);

			status = outcome == OUTCOME_FENCED || outcome == OUTCOME_FATAL ? local.status : STATUS_RETRY;
			error_set(error, status, "%s", local.text);
		}
	}
	if (message->headers)
		rd_kafka_headers_destroy(message->headers);
	message->headers = NULL;
	return status;
}

enum status transactional_abort(struct transactional *producer, struct error *error)
{
	int64_t deadline = clock_steady_ns() + 2 * producer->conf.transaction_timeout_ms * 1000000;
	struct error local = {0};
	enum status status;

	if (!producer->open || !producer->client)
		return STATUS_OK;
	for (;;) {
		rd_kafka_error_t *failure = rd_kafka_abort_transaction(producer->client, CALL_MS);
		enum outcome outcome;

		if (!failure) {
			producer->open = false;
			return STATUS_OK;
		}
		outcome = judge(producer, failure, "abort", &local);
		if (outcome == OUTCOME_FENCED || outcome == OUTCOME_FATAL) {
			producer->open = false;
			return error_set(error, local.status, "%s", local.text);
		}
		if (outcome == OUTCOME_AGAIN && clock_steady_ns() < deadline) {
			pause_ms(10);
			continue;
		}
		/* Starting anew aborts it too; if even that fails, it can only time out, never commit. */
		status = revive(producer, &local);
		return status == STATUS_RETRY ? STATUS_OK : error_set(error, status, "%s", local.text);
	}
}

/* Ends a transaction that cannot be committed and reports why. */
static enum status give_up(struct transactional *producer, struct error *why, struct error *error)
{
	struct error abort_error = {0};
	enum status status = transactional_abort(producer, &abort_error);

	if (status != STATUS_OK)
		return error_set(error, status, "%s", abort_error.text);
	return error_set(error, STATUS_RETRY, "%s", why->text);
}

/* Tries a step until it is done (true) or must not be tried again (false, *status and error set). */
static bool step(struct transactional *producer, rd_kafka_error_t *failure, const char *what,
		 int64_t deadline, bool *again, enum status *status, struct error *error)
{
	struct error local = {0};

	*again = false;
	if (!failure)
		return true;
	switch (judge(producer, failure, what, &local)) {
	case OUTCOME_AGAIN:
		if (clock_steady_ns() < deadline) {
			pause_ms(2);
			*again = true;
			return false;
		}
		*status = revive(producer, &local);
		error_set(error, *status, "%s", local.text);
		return false;
	case OUTCOME_ABORT:
		*status = give_up(producer, &local, error);
		return false;
	case OUTCOME_FENCED:
	case OUTCOME_FATAL:
		producer->open = false;
		*status = error_set(error, local.status, "%s", local.text);
		return false;
	case OUTCOME_DEAD:
		break;
	}
	*status = revive(producer, &local);
	error_set(error, *status, "%s", local.text);
	return false;
}

enum status transactional_commit(struct transactional *producer,
				 const rd_kafka_topic_partition_list_t *offsets,
				 const rd_kafka_consumer_group_metadata_t *group, struct error *error)
{
	int64_t deadline = clock_steady_ns() + 3 * producer->conf.transaction_timeout_ms * 1000000;
	enum status status = STATUS_OK;
	bool again;

	if (!producer->open && (status = begin_transaction(producer, error)) != STATUS_OK)
		return status;
	if (offsets && offsets->cnt > 0 && group) {
		do {
			if (step(producer, rd_kafka_send_offsets_to_transaction(producer->client, offsets, group,
										CALL_MS),
				 "sending offsets", deadline, &again, &status, error))
				break;
		} while (again);
		if (status != STATUS_OK)
			return status;
	}
	do {
		if (step(producer, rd_kafka_commit_transaction(producer->client, CALL_MS), "commit", deadline,
			 &again, &status, error)) {
			producer->open = false;
			return STATUS_OK;
		}
	} while (again);
	return status;
}
