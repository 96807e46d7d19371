/* kafka_assign.c - which partitions are read, and from where.
 *
 * Idea: librdkafka's rebalance callback only notes what the group wants. The answer is given between
 * polls, when the caller has committed or dropped what it had, so that partitions taken away never
 * commit and partitions gained start at their committed offsets.
 * Invariant: a partition is in `partitions`, has a lane, and (the group's) is tracked in `offsets`, all
 * or nothing.
 * Called by source_kafka.c, one thread. */
#include "consumer/kafka_state.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <time.h>

enum { ASK_MS = 5000, SEEK_MS = 10000 };

void kafka_group_rebalanced(rd_kafka_t *client, rd_kafka_resp_err_t code,
			    rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
	struct source_kafka *source = opaque;

	if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !source->closing) {
		if (source->assign_pending)
			rd_kafka_topic_partition_list_destroy(source->assign_pending);
		source->assign_pending = rd_kafka_topic_partition_list_copy(partitions);
	} else if (code == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS && !source->closing) {
		source->revoke_pending = true;
	} else {
		rd_kafka_assign(client, NULL);
	}
	/* No rd_kafka_yield() in any callback here: a batch call that yields loses the message that it has just
	 * taken from the queue (and the client can then never be destroyed). */
}

static enum status watermarks(struct source_kafka *source, const char *topic, int32_t partition, int64_t *low,
			      int64_t *high, struct error *error)
{
	rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(source->watch, topic, partition, low, high,
								    ASK_MS);
	return code ? kafka_error(source, code, topic, NULL, error) : STATUS_OK;
}

/* Where to begin when `wanted` (-1: nothing is known) is not in [low, high]. */
static enum status begin_at(const struct source_kafka *source, const char *topic, int32_t partition,
			    int64_t wanted, int64_t low, int64_t high, int64_t *begin, struct error *error)
{
	if (wanted < 0) {
		*begin = low;
		return STATUS_OK;
	}
	if (wanted >= low && wanted <= high) {
		*begin = wanted;
		return STATUS_OK;
	}
	if (source->policy == OFFSET_ERROR)
		return error_set(error, STATUS_CONFIG, "%s [%d]: the next offset to read is %lld, but the log holds "
				 "%lld to %lld: records are lost or the topic was made anew; state.offset.policy = "
				 "earliest or latest goes on regardless", topic, partition, (long long)wanted,
				 (long long)low, (long long)high);
	*begin = source->policy == OFFSET_EARLIEST ? low : high;
	log_warning("kafka.offset.reset", "topic=%s partition=%d from=%lld to=%lld", topic, partition,
		    (long long)wanted, (long long)*begin);
	return STATUS_OK;
}

static enum status add_partition(struct source_kafka *source, enum topic topic, int32_t number, bool group,
				 int64_t begin, int64_t end, struct error *error)
{
	struct kafka_partition partition = {.topic = topic, .partition = number, .group = group, .next = begin,
					    .delivered = begin, .end = end};
	enum status status = merge_lane_add(source->merge, topic, number, &partition.lane, error);

	if (status != STATUS_OK)
		return status;
	if (group) {
		status = offsets_assign(source->offsets, topic, number, begin, error);
		if (status != STATUS_OK)
			goto cleanup;
	}
	status = kafka_partition_add(&source->partitions, &partition, error);
	if (status == STATUS_OK)
		return STATUS_OK;

cleanup:
	merge_lane_remove(source->merge, partition.lane);
	offsets_revoke(source->offsets, topic, number);
	return status;
}

/* What was taken from the queue or the merge but not given out. */
static void forget(struct source_kafka *source, bool group)
{
	bool held_of_group = source->has_held && source->held.position.topic != TOPIC_ITEMS &&
			     source->held.position.topic != TOPIC_INTERACTIONS;

	kafka_forget(source, group);
	if (source->has_held && held_of_group == group) {
		kafka_record_free(source->held.payload);
		source->has_held = false;
	}
}

/* Lets paused partitions go on: librdkafka keeps a pause over a new assignment, and a paused partition would
 * forget a seek when it goes on. */
static enum status unpause(struct source_kafka *source, bool group, struct error *error)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

	for (size_t i = 0; i < source->partitions.count; i++) {
		struct kafka_partition *partition = &source->partitions.list[i];

		if (partition->group == group && partition->paused)
			rd_kafka_topic_partition_list_add(list, source->names[partition->topic], partition->partition);
		partition->paused &= partition->group != group;
	}
	if (list->cnt)
		code = rd_kafka_resume_partitions(group ? source->group : source->graph, list);
	rd_kafka_topic_partition_list_destroy(list);
	return code ? kafka_error(source, code, "resuming partitions", NULL, error) : STATUS_OK;
}

static void drop_partitions(struct source_kafka *source, bool group)
{
	for (size_t i = source->partitions.count; i-- > 0;) {
		struct kafka_partition *partition = &source->partitions.list[i];

		if (partition->group != group)
			continue;
		merge_lane_remove(source->merge, partition->lane);
		if (group)
			offsets_revoke(source->offsets, partition->topic, partition->partition);
		kafka_partition_remove(&source->partitions, partition);
	}
	forget(source, group);
}

void kafka_drop_group(struct source_kafka *source)
{
	drop_partitions(source, true);
}

enum topic kafka_group_topic(const struct source_kafka *source)
{
	return source->read_requests ? TOPIC_SCORING_REQUESTS : TOPIC_IMPRESSIONS;
}

enum status kafka_ask_committed(struct source_kafka *source, rd_kafka_topic_partition_list_t *list,
				struct error *error)
{
	rd_kafka_resp_err_t code;

	if (list->cnt == 0)
		return STATUS_OK;
	code = rd_kafka_committed(source->group, list, ASK_MS);
	for (int i = 0; !code && i < list->cnt; i++) {
		code = list->elems[i].err;
		if (list->elems[i].offset < 0)
			list->elems[i].offset = -1;
	}
	return code ? kafka_error(source, code, "asking for committed offsets", NULL, error) : STATUS_OK;
}

enum status kafka_take_assignment(struct source_kafka *source, struct error *error)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_copy(source->assign_pending);
	enum topic topic = kafka_group_topic(source);
	int64_t *ends = mem_alloc_array((size_t)list->cnt, sizeof(*ends));
	rd_kafka_resp_err_t code;
	enum status status;

	if (!ends) {
		status = error_set(error, STATUS_NO_MEMORY, "out of memory for partitions");
		goto cleanup;
	}
	status = STATUS_OK;
	/* The broker gives a static member that comes back what it had, whatever it subscribes to now. */
	for (int i = 0; status == STATUS_OK && i < list->cnt; i++)
		if (strcmp(list->elems[i].topic, source->names[topic]) != 0)
			status = error_set(error, STATUS_CONFIG, "group %s still gives this instance partitions of %s, "
					   "though it reads %s now: wait ten seconds and start again, or use another "
					   "group id", source->group_id, list->elems[i].topic, source->names[topic]);
	if (status == STATUS_OK)
		status = kafka_ask_committed(source, list, error);
	for (int i = 0; status == STATUS_OK && i < list->cnt; i++) {
		rd_kafka_topic_partition_t *element = &list->elems[i];
		int64_t low, high;

		status = watermarks(source, element->topic, element->partition, &low, &high, error);
		if (status == STATUS_OK)
			status = begin_at(source, element->topic, element->partition, element->offset, low, high,
					  &element->offset, error);
		ends[i] = status == STATUS_OK ? high : 0;
	}
	if (status != STATUS_OK)
		goto cleanup;
	drop_partitions(source, true);
	for (int i = 0; status == STATUS_OK && i < list->cnt; i++)
		status = add_partition(source, topic, list->elems[i].partition, true, list->elems[i].offset, ends[i],
				       error);
	if (status != STATUS_OK)
		goto cleanup;
	code = rd_kafka_assign(source->group, list);
	if (code) {
		status = kafka_error(source, code, "taking partitions", NULL, error);
		goto cleanup;
	}
	rd_kafka_topic_partition_list_destroy(source->assign_pending);
	source->assign_pending = NULL;
	source->assigned = true;
	source->dirty = false;
	source->probing = source->read_graph && source->started && list->cnt > 0;
	source->probe_until_ns = clock_steady_ns() + source->join_timeout_ms * 1000000;
	log_info("kafka.assigned", "topic=%s partitions=%d", source->names[topic], list->cnt);

cleanup:
	mem_free(ends);
	rd_kafka_topic_partition_list_destroy(list);
	return status;
}

enum status kafka_let_go(struct source_kafka *source, struct error *error)
{
	enum status status = unpause(source, true, error);
	rd_kafka_resp_err_t code;

	if (status != STATUS_OK)
		return status;
	code = rd_kafka_assign(source->group, NULL);
	if (code)
		return kafka_error(source, code, "giving partitions up", NULL, error);
	drop_partitions(source, true);
	if (source->assign_pending)
		rd_kafka_topic_partition_list_destroy(source->assign_pending);
	source->assign_pending = NULL;
	source->revoke_pending = false;
	source->assigned = false;
	source->dirty = false;
	source->probing = false;
	log_info("kafka.revoked", "topic=%s", source->names[kafka_group_topic(source)]);
	return STATUS_OK;
}

enum status kafka_partition_count(struct source_kafka *source, rd_kafka_t *client, enum topic topic,
				  int32_t *count, struct error *error)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(client, source->names[topic], NULL);
	const struct rd_kafka_metadata *metadata = NULL;
	enum status status = STATUS_OK;
	rd_kafka_resp_err_t code = rd_kafka_metadata(client, 0, handle, &metadata, ASK_MS);

	if (code) {
		status = kafka_error(source, code, source->names[topic], NULL, error);
	} else if (metadata->topic_cnt != 1 || metadata->topics[0].err || metadata->topics[0].partition_cnt < 1) {
		code = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
		status = code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ?
			 error_set(error, STATUS_CONFIG, "there is no topic %s at %s: see topics create",
				   source->names[topic], source->brokers) :
			 kafka_error(source, code ? code : RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
				     source->names[topic], NULL, error);
	} else {
		*count = metadata->topics[0].partition_cnt;
	}
	if (metadata)
		rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(handle);
	return status;
}

enum status kafka_check_topics(struct source_kafka *source, struct error *error)
{
	int32_t count;
	enum status status = kafka_partition_count(source, source->watch, kafka_group_topic(source), &count, error);

	if (status == STATUS_OK && source->read_graph)
		status = kafka_partition_count(source, source->watch, TOPIC_ITEMS, &count, error);
	if (status == STATUS_OK && source->read_graph)
		status = kafka_partition_count(source, source->watch, TOPIC_INTERACTIONS, &count, error);
	return status;
}

static int64_t position_in(const struct position *positions, size_t count, enum topic topic, int32_t partition)
{
	for (size_t i = 0; i < count; i++)
		if (positions[i].topic == topic && positions[i].partition == partition)
			return positions[i].offset;
	return -1;
}

static enum status assign_topic(struct source_kafka *source, enum topic topic, const struct position *positions,
				size_t count, rd_kafka_topic_partition_list_t *list, struct error *error)
{
	const char *name = source->names[topic];
	int32_t partitions = 0;
	enum status status = kafka_partition_count(source, source->watch, topic, &partitions, error);

	for (size_t i = 0; status == STATUS_OK && i < count; i++)
		if (positions[i].topic == topic && positions[i].partition >= partitions &&
		    source->policy == OFFSET_ERROR)
			status = error_set(error, STATUS_CONFIG, "%s has %d partitions, but the snapshot knows "
					   "partition %d: the topic was made anew; state.offset.policy = earliest goes on "
					   "regardless", name, partitions, positions[i].partition);
	for (int32_t i = 0; status == STATUS_OK && i < partitions; i++) {
		int64_t low, high, begin = 0;

		status = watermarks(source, name, i, &low, &high, error);
		if (status == STATUS_OK)
			status = begin_at(source, name, i, position_in(positions, count, topic, i), low, high, &begin,
					  error);
		if (status == STATUS_OK)
			status = add_partition(source, topic, i, false, begin, high, error);
		if (status == STATUS_OK)
			rd_kafka_topic_partition_list_add(list, name, i)->offset = begin;
	}
	return status;
}

enum status kafka_assign_graph(struct source_kafka *source, const struct position *positions, size_t count,
			       struct error *error)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	rd_kafka_resp_err_t code;
	int32_t partitions;
	enum status status = unpause(source, false, error);

	if (status != STATUS_OK)
		goto cleanup;
	rd_kafka_assign(source->graph, NULL);
	drop_partitions(source, false);
	status = assign_topic(source, TOPIC_ITEMS, positions, count, list, error);
	if (status == STATUS_OK)
		status = assign_topic(source, TOPIC_INTERACTIONS, positions, count, list, error);
	if (status == STATUS_OK) {
		code = rd_kafka_assign(source->graph, list);
		if (code)
			status = kafka_error(source, code, "reading items and interactions", NULL, error);
	}
	/* Asking through the same client tells it the leaders now; by itself it asks up to a second later. */
	if (status == STATUS_OK)
		status = kafka_partition_count(source, source->graph, TOPIC_ITEMS, &partitions, error);
	if (status == STATUS_OK)
		status = kafka_partition_count(source, source->graph, TOPIC_INTERACTIONS, &partitions, error);

cleanup:
	rd_kafka_topic_partition_list_destroy(list);
	return status;
}

/* Everything of the partition that waits is dropped and read again from `begin`. */
static enum status restart_lane(struct source_kafka *source, struct kafka_partition *partition, int64_t begin,
				struct error *error)
{
	enum status status;

	merge_lane_remove(source->merge, partition->lane);
	status = merge_lane_add(source->merge, partition->topic, partition->partition, &partition->lane, error);
	if (status == STATUS_OK && partition->group)
		status = offsets_assign(source->offsets, partition->topic, partition->partition, begin, error);
	partition->next = partition->delivered = begin;
	partition->at_end = partition->probed = partition->ended = false;
	return status;
}

/* Seeks; a partition that has only just been assigned is not ready for it, which passes. */
static enum status seek_all(struct source_kafka *source, rd_kafka_t *client,
			    rd_kafka_topic_partition_list_t *list, struct error *error)
{
	int64_t deadline = clock_steady_ns() + SEEK_MS * INT64_C(1000000);
	struct timespec pause = {0, 5000000};

	for (;;) {
		rd_kafka_error_t *failure = rd_kafka_seek_partitions(client, list, ASK_MS);
		rd_kafka_resp_err_t code = failure ? rd_kafka_error_code(failure) : RD_KAFKA_RESP_ERR_NO_ERROR;

		if (failure)
			rd_kafka_error_destroy(failure);
		for (int i = 0; !code && i < list->cnt; i++)
			code = list->elems[i].err;
		if (!code)
			return STATUS_OK;
		if (clock_steady_ns() > deadline)
			return kafka_error(source, code, "going back in partitions", NULL, error);
		nanosleep(&pause, NULL);
	}
}

enum status kafka_reread_group(struct source_kafka *source, bool committed, struct error *error)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	enum status status = STATUS_OK;

	for (size_t i = 0; i < source->partitions.count; i++) {
		const struct kafka_partition *partition = &source->partitions.list[i];

		if (partition->group)
			rd_kafka_topic_partition_list_add(list, source->names[partition->topic], partition->partition)
				->offset = offsets_next(source->offsets, partition->topic, partition->partition);
	}
	if (list->cnt == 0)
		goto cleanup;
	if (committed)
		status = kafka_ask_committed(source, list, error);
	for (int i = 0; status == STATUS_OK && committed && i < list->cnt; i++) {
		int64_t low, high;

		status = watermarks(source, list->elems[i].topic, list->elems[i].partition, &low, &high, error);
		if (status == STATUS_OK)
			status = begin_at(source, list->elems[i].topic, list->elems[i].partition,
					  list->elems[i].offset, low, high, &list->elems[i].offset, error);
	}
	if (status == STATUS_OK)
		status = unpause(source, true, error);
	if (status == STATUS_OK)
		status = seek_all(source, source->group, list, error);
	if (status != STATUS_OK)
		goto cleanup;
	forget(source, true);
	for (int i = 0; status == STATUS_OK && i < list->cnt; i++)
		status = restart_lane(source, kafka_partition_find(&source->partitions, kafka_group_topic(source),
								   list->elems[i].partition),
				      list->elems[i].offset, error);
	source->dirty = false;
	source->probing = committed && source->read_graph && source->started;
	source->probe_until_ns = clock_steady_ns() + source->join_timeout_ms * 1000000;

cleanup:
	rd_kafka_topic_partition_list_destroy(list);
	return status;
}

enum status kafka_out_of_range(struct source_kafka *source, struct kafka_partition *partition,
			       struct error *error)
{
	rd_kafka_topic_partition_list_t *list;
	int64_t low, high, begin = 0;
	enum status status = watermarks(source, source->names[partition->topic], partition->partition, &low, &high,
					error);

	if (status == STATUS_OK)
		status = begin_at(source, source->names[partition->topic], partition->partition, partition->next, low,
				  high, &begin, error);
	if (status != STATUS_OK)
		return status;
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, source->names[partition->topic], partition->partition)->offset =
		begin;
	status = seek_all(source, partition->group ? source->group : source->graph, list, error);
	rd_kafka_topic_partition_list_destroy(list);
	if (status != STATUS_OK)
		return status;
	if (begin < partition->next)
		return restart_lane(source, partition, begin, error);
	partition->next = begin;
	if (partition->group)
		offsets_passed(source->offsets, partition->topic, partition->partition, begin);
	return STATUS_OK;
}
