/* kafka_fetch.c - from librdkafka's queue into the merge, within bounded memory.
 *
 * Idea: one queue gets the messages of both clients, and one thread empties it. What a lane holds is
 * known, so partitions that hold more than their share are paused; a lane for which the merge waits is
 * never paused, so that the bound cannot become a deadlock.
 * Invariant: a partition's `next` goes up only, and messages below it are dropped; a message that could
 * not be pushed stays in `messages` and is tried again.
 * Called by source_kafka.c, one thread. */
#include "consumer/kafka_state.h"

#include <stdio.h>
#include <string.h>

enum { REACHABLE_MS = 500 };

/* Whether the error passes by itself: brokers, leaders and coordinators that come and go. */
static bool passes(rd_kafka_resp_err_t code)
{
	switch (code) {
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
	case RD_KAFKA_RESP_ERR__INVALID_ARG:
	case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
	case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
	case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
	case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL:
	case RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED:
		return false;
	default:
		return true;
	}
}

enum status kafka_error(struct source_kafka *source, rd_kafka_resp_err_t code, const char *what,
			const char *text, struct error *error)
{
	char fatal[256];

	if (code == RD_KAFKA_RESP_ERR__FATAL) {
		code = rd_kafka_fatal_error(source->group, fatal, sizeof(fatal));
		text = fatal;
	}
	if (!text)
		text = rd_kafka_err2str(code);
	switch (code) {
	case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
		if (kafka_may_heal(source))
			return error_set(error, STATUS_RETRY, "%s: group %s has forgotten this member during an outage",
					 what, source->group_id);
		return error_set(error, STATUS_FENCED, "%s: another process has joined group %s as %s", what,
				 source->group_id, source->instance_id ? source->instance_id : "this member");
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		return error_set(error, STATUS_NO_PERMISSION, "%s: %s (see kafka.sasl.* and kafka.ssl.*)", what, text);
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		return error_set(error, STATUS_NO_PERMISSION, "%s: %s (ask for the ACL)", what, text);
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		return error_set(error, STATUS_RETRY, "%s: %s (was the topic deleted?)", what, text);
	default:
		return error_set(error, passes(code) ? STATUS_RETRY : STATUS_CONFIG, "%s: %s", what, text);
	}
}

void kafka_client_failed(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
	struct source_kafka *source = opaque;
	struct error error = {0};
	enum status status = kafka_error(source, code, "Kafka", reason, &error);

	(void)client;
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		kafka_outage(source);
	if (status_class(status) == STATUS_CLASS_FATAL && source->failure == STATUS_OK) {
		source->failure = status;
		source->failure_error = error;
	}
}

/* librdkafka says when the last broker is gone, but not when one is back; and a silent stream looks like
 * a dead one. So a broker is asked. */
enum status kafka_check_reachable(struct source_kafka *source, struct error *error)
{
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_resp_err_t code;

	if (!source->unreachable)
		return STATUS_OK;
	code = rd_kafka_metadata(source->watch, 0, NULL, &metadata, REACHABLE_MS);
	if (metadata)
		rd_kafka_metadata_destroy(metadata);
	if (code) {
		kafka_outage(source);
		return error_set(error, STATUS_RETRY, "no broker answers at %s: %s", source->brokers,
				 rd_kafka_err2str(code));
	}
	source->unreachable = false;
	return STATUS_OK;
}

static bool topic_of(const struct source_kafka *source, const rd_kafka_message_t *message, enum topic *topic)
{
	const char *name = message->rkt ? rd_kafka_topic_name(message->rkt) : NULL;

	for (unsigned i = 0; name && i < TOPICS; i++) {
		if (source->names[i] && strcmp(source->names[i], name) == 0) {
			*topic = (enum topic)i;
			return true;
		}
	}
	return false;
}

/* Everything below `next` is known. */
static void advance(struct source_kafka *source, struct kafka_partition *partition, int64_t next)
{
	if (source->until_end && next > partition->end)
		next = partition->end;
	if (next > partition->next)
		partition->next = next;
	partition->probed = true;
}

static enum status take_error(struct source_kafka *source, struct kafka_partition *partition,
			      const rd_kafka_message_t *message, struct error *error)
{
	char what[160];

	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
		if (message->offset < partition->next)
			return STATUS_OK;       /* of a read before this one */
		advance(source, partition, message->offset);
		partition->at_end = true;
		if (partition->group)
			offsets_passed(source->offsets, partition->topic, partition->partition, partition->next);
		return STATUS_OK;
	}
	if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
	    message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE)
		return kafka_out_of_range(source, partition, error);
	snprintf(what, sizeof(what), "%s [%d]", source->names[partition->topic], partition->partition);
	return kafka_error(source, message->err, what, rd_kafka_message_errstr(message), error);
}

/* STATUS_LIMIT: not now, too much waits already; the message is to be kept. */
static enum status take(struct source_kafka *source, const rd_kafka_message_t *message, struct error *error)
{
	struct kafka_partition *partition = NULL;
	struct merge_entry entry;
	struct position position;
	enum topic topic;
	enum status status;

	if (topic_of(source, message, &topic))
		partition = kafka_partition_find(&source->partitions, topic, message->partition);
	if (!partition)
		return message->err && message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF ?
		       kafka_error(source, message->err, "Kafka", rd_kafka_message_errstr(message), error) : STATUS_OK;
	if (message->err)
		return take_error(source, partition, message, error);
	if (message->offset < partition->next || partition->ended)
		return STATUS_OK;
	if (source->until_end && message->offset >= partition->end) {
		advance(source, partition, partition->end);
		return STATUS_OK;
	}
	if (merge_lane_records(source->merge, partition->lane) >= MERGE_LANE_RECORDS_MAX)
		return STATUS_LIMIT;
	position = (struct position){topic, message->partition, message->offset};
	status = kafka_record_read(&source->reader, message, position, &entry, error);
	if (status != STATUS_OK)
		return status;
	if (partition->group) {
		status = offsets_read(source->offsets, position, entry.bad ? INT64_MAX : entry.event_time_ms, error);
		if (status != STATUS_OK) {
			kafka_record_free(entry.payload);
			return status;
		}
	}
	status = merge_push(source->merge, partition->lane, &entry, error);
	if (status != STATUS_OK) {
		kafka_record_free(entry.payload);
		return status == STATUS_LIMIT ? error_set(error, STATUS_INTERNAL, "a lane is full unexpectedly") : status;
	}
	partition->at_end = false;
	advance(source, partition, message->offset + 1);
	return STATUS_OK;
}

enum status kafka_fetch(struct source_kafka *source, int64_t timeout_ms, struct error *error)
{
	ssize_t count;

	if (source->messages_next == source->messages_count) {
		source->messages_next = source->messages_count = 0;
		count = rd_kafka_consume_batch_queue(source->queue, 0, source->messages, KAFKA_FETCH_MESSAGES);
		/* A batch call waits until the batch is full; a call for one message waits for the first. */
		if (count == 0 && timeout_ms > 0)
			count = rd_kafka_consume_batch_queue(source->queue, (int)timeout_ms, source->messages, 1);
		source->messages_count = count > 0 ? (size_t)count : 0;
	}
	while (source->messages_next < source->messages_count) {
		rd_kafka_message_t *message = source->messages[source->messages_next];
		enum status status = take(source, message, error);

		if (status == STATUS_LIMIT)
			return STATUS_OK;       /* kept until something was committed */
		if (status != STATUS_OK && !message->err)
			return status;          /* kept until the trouble is over */
		rd_kafka_message_destroy(message);
		source->messages_next++;
		if (status != STATUS_OK)
			return status;
	}
	return source->failure == STATUS_OK ? STATUS_OK :
	       error_set(error, source->failure, "%s", source->failure_error.text);
}

void kafka_forget(struct source_kafka *source, bool group)
{
	size_t kept = 0;

	for (size_t i = source->messages_next; i < source->messages_count; i++) {
		rd_kafka_message_t *message = source->messages[i];
		enum topic topic;
		bool of_group = topic_of(source, message, &topic) &&
				topic != TOPIC_ITEMS && topic != TOPIC_INTERACTIONS;

		if (of_group == group)
			rd_kafka_message_destroy(message);
		else
			source->messages[kept++] = message;
	}
	source->messages_next = 0;
	source->messages_count = kept;
}

static bool should_pause(const struct source_kafka *source, const struct kafka_partition *partition,
			 size_t share, bool full)
{
	size_t bytes = merge_lane_bytes(source->merge, partition->lane);

	if (partition->ended)
		return true;
	if (merge_lane_blocks(source->merge, partition->lane))
		return false;
	if (full)
		return bytes > 0;
	return partition->paused ? bytes > share / 2 : bytes > share;
}

static enum status apply(struct source_kafka *source, rd_kafka_t *client, bool pause,
			 rd_kafka_topic_partition_list_t *list, struct error *error)
{
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

	if (client && list->cnt)
		code = pause ? rd_kafka_pause_partitions(client, list) : rd_kafka_resume_partitions(client, list);
	rd_kafka_topic_partition_list_destroy(list);
	return code ? kafka_error(source, code, "pausing partitions", NULL, error) : STATUS_OK;
}

enum status kafka_balance(struct source_kafka *source, struct error *error)
{
	size_t count = source->partitions.count, changes = 0;
	size_t share = source->buffer_bytes_max / (count ? count : 1);
	bool full = merge_bytes(source->merge) > source->buffer_bytes_max;
	rd_kafka_topic_partition_list_t *lists[2][2] = {{NULL}};       /* [group][pause] */
	enum status status = STATUS_OK;

	for (size_t i = 0; i < count; i++) {
		struct kafka_partition *partition = &source->partitions.list[i];
		bool pause = should_pause(source, partition, share, full);

		if (pause == partition->paused)
			continue;
		if (changes++ == 0)
			for (size_t k = 0; k < 4; k++)
				lists[k / 2][k % 2] = rd_kafka_topic_partition_list_new(8);
		rd_kafka_topic_partition_list_add(lists[partition->group][pause], source->names[partition->topic],
						  partition->partition);
		partition->paused = pause;
	}
	for (size_t k = 0; changes && k < 4; k++) {
		enum status one = apply(source, k / 2 ? source->group : source->graph, k % 2, lists[k / 2][k % 2],
					error);
		status = status == STATUS_OK ? one : status;
	}
	return status;
}
