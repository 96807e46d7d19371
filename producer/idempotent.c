/* idempotent.c - at-least-once output: produce, count what failed, flush.
 *
 * Invariant: `failed` counts messages that were reported lost since the last flush or drop.
 * Called by sink_kafka.c, one thread; the delivery callback runs inside its calls. */
#include "producer/idempotent.h"

#include "base/clock.h"
#include "base/mem.h"
#include "producer/producer_conf.h"
#include "producer/producer_topics.h"

#include <stdio.h>

enum {
	QUEUE_FULL_MS = 30000,
	FLUSH_CALL_MS = 1000,
	FLUSH_MS = 330000,              /* past librdkafka's message.timeout.ms: every message is decided */
	POLL_EVERY = 64,
};

struct idempotent {
	struct producer_conf conf;
	rd_kafka_t *client;
	struct producer_topics topics;
	uint64_t produced, failed;
	bool dropping;
	char reason[256];               /* of the first failure */
	bool too_large, denied;
};

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
	struct idempotent *producer = opaque;

	(void)client;
	if (!message->err || producer->dropping)
		return;
	if (producer->failed++ == 0)
		snprintf(producer->reason, sizeof(producer->reason), "%s: %s", rd_kafka_topic_name(message->rkt),
			 rd_kafka_err2str(message->err));
	producer->too_large |= message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
	producer->denied |= message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
}

enum status idempotent_create(const struct transactional_options *options, struct idempotent **out,
			      struct error *error)
{
	struct idempotent *producer = mem_alloc_zero(1, sizeof(*producer));
	enum status status;

	if (!producer)
		return error_set(error, STATUS_NO_MEMORY, "out of memory for a Kafka producer");
	producer->conf = (struct producer_conf){
		.brokers = options->brokers,
		.settings = options->settings,
		.settings_count = options->settings_count,
		.message_bytes_max = options->message_bytes_max,
		.delivered = delivered,
		.opaque = producer,
	};
	status = producer_conf_client(&producer->conf, &producer->client, error);
	if (status != STATUS_OK) {
		mem_free(producer);
		return status;
	}
	*out = producer;
	return STATUS_OK;
}

void idempotent_destroy(struct idempotent *producer)
{
	if (!producer)
		return;
	producer->dropping = true;
	rd_kafka_purge(producer->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	producer_topics_release(&producer->topics);
	rd_kafka_destroy(producer->client);
	mem_free(producer);
}

enum status idempotent_produce(struct idempotent *producer, struct outgoing *message, struct error *error)
{
	rd_kafka_topic_t *topic = producer_topic(&producer->topics, producer->client, message->topic);
	int64_t deadline = 0;
	enum status status = STATUS_OK;

	if (!topic)
		status = error_set(error, STATUS_INTERNAL, "topic %s cannot be produced to", message->topic);
	while (status == STATUS_OK) {
		rd_kafka_resp_err_t code = rd_kafka_producev(
			producer->client, RD_KAFKA_V_RKT(topic),
			RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
			RD_KAFKA_V_VALUE((void *)message->value, message->value_size),
			RD_KAFKA_V_KEY(message->key, message->key_size),
			RD_KAFKA_V_TIMESTAMP(message->timestamp_ms),
			RD_KAFKA_V_HEADERS(message->headers), RD_KAFKA_V_END);

		if (!code) {
			message->headers = NULL;
			if (++producer->produced % POLL_EVERY == 0)
				rd_kafka_poll(producer->client, 0);
			return STATUS_OK;
		}
		if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL && (!deadline || clock_steady_ns() < deadline)) {
			deadline = deadline ? deadline : clock_steady_ns() + QUEUE_FULL_MS * INT64_C(1000000);
			rd_kafka_poll(producer->client, 10);
			continue;
		}
		status = code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ? STATUS_LIMIT : STATUS_RETRY;
		error_set(error, status, "cannot produce %zu bytes to %s: %s", message->value_size, message->topic,
			  rd_kafka_err2str(code));
	}
	if (message->headers)
		rd_kafka_headers_destroy(message->headers);
	message->headers = NULL;
	return status;
}

enum status idempotent_flush(struct idempotent *producer, struct error *error)
{
	int64_t deadline = clock_steady_ns() + FLUSH_MS * INT64_C(1000000);
	enum status status = STATUS_OK;

	while (rd_kafka_flush(producer->client, FLUSH_CALL_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		if (clock_steady_ns() > deadline)
			return error_set(error, STATUS_RETRY, "messages were not delivered in %d s", FLUSH_MS / 1000);
	if (producer->too_large)
		status = error_set(error, STATUS_CONFIG, "%s (the topic's max.message.bytes is below the record "
				   "limit: see topics check)", producer->reason);
	else if (producer->denied)
		status = error_set(error, STATUS_NO_PERMISSION, "%s (ask for the ACL)", producer->reason);
	else if (producer->failed)
		status = error_set(error, STATUS_RETRY, "%llu messages were not delivered, the first to %s",
				   (unsigned long long)producer->failed, producer->reason);
	producer->failed = 0;
	return status;
}

enum status idempotent_drop(struct idempotent *producer, struct error *error)
{
	enum status status = STATUS_OK;

	producer->dropping = true;
	rd_kafka_purge(producer->client, RD_KAFKA_PURGE_F_QUEUE);
	if (rd_kafka_flush(producer->client, FLUSH_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		status = error_set(error, STATUS_RETRY, "messages in flight were not decided in %d s",
				   FLUSH_MS / 1000);
	producer->dropping = false;
	producer->failed = 0;
	return status;
}
