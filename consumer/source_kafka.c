/* source_kafka.c - the Kafka source: two consumers, one queue, one merge, seen through struct source.
 *
 * Idea: what a caller sees is the merge's total order; this file decides when the merge may stop waiting
 * for a lane. Before the end offsets seen at the start are reached (backfill), it waits for every
 * partition that has not got there; later (live), an entry waits at most idle_ms for silent partitions.
 * The scorer's requests carry all that matters, so nobody waits for another partition there.
 * Invariant: between calls, `dirty` says whether anything of the group was given out since its
 * partitions were (re)read; while it is, partitions are let go only in resume_from_committed.
 * Called by ops/cli, one thread. */
#include "consumer/kafka_state.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

enum {
	LAGGING_FACTOR = 20,            /* a partition that is known to have more is waited for longer */
	SLICE_MS = 20,                  /* longest wait before conditions are looked at again */
};

static struct source_kafka *self(struct source *source)
{
	return (struct source_kafka *)source;
}

static int64_t milliseconds_left(int64_t deadline_ns)
{
	int64_t left = deadline_ns - clock_steady_ns();

	return left > 0 ? (left + 999999) / 1000000 : 0;
}

/* ---- join and start ---- */

static bool all_probed(const struct source_kafka *source)
{
	for (size_t i = 0; i < source->partitions.count; i++)
		if (source->partitions.list[i].group && !source->partitions.list[i].probed)
			return false;
	return true;
}

enum status kafka_subscribe(struct source_kafka *source, struct error *error)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;

	/* To subscribe once more, even to the same topic, would be a rebalance. */
	if (source->subscribed)
		return STATUS_OK;
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, source->names[source->read_requests ? TOPIC_SCORING_REQUESTS :
							      TOPIC_IMPRESSIONS], RD_KAFKA_PARTITION_UA);
	code = rd_kafka_subscribe(source->group, list);
	rd_kafka_topic_partition_list_destroy(list);
	source->subscribed = code == RD_KAFKA_RESP_ERR_NO_ERROR;
	return code ? kafka_error(source, code, "joining the group", NULL, error) : STATUS_OK;
}

static bool interrupted(const struct source_kafka *source)
{
	return source->stopping && source->stopping();
}

static enum status kafka_join(struct source *base, int64_t *oldest_unanswered_ms, struct error *error)
{
	struct source_kafka *source = self(base);
	int64_t deadline = clock_steady_ns() + source->join_timeout_ms * 1000000;
	struct error local = {0};
	enum status status;

	for (;;) {
		status = kafka_check_topics(source, &local);
		if (status_class(status) != STATUS_CLASS_RETRY || milliseconds_left(deadline) == 0 ||
		    interrupted(source))
			break;
		kafka_fetch(source, SLICE_MS, &local);          /* serves callbacks: a refused log-in shows here */
		if (source->failure != STATUS_OK)
			break;
	}
	if (source->failure != STATUS_OK)
		return error_set(error, source->failure, "%s", source->failure_error.text);
	if (status_class(status) == STATUS_CLASS_RETRY && interrupted(source))
		return error_set(error, STATUS_INTERRUPTED, "interrupted before %s answered", source->brokers);
	if (status_class(status) == STATUS_CLASS_RETRY)
		return error_set(error, STATUS_UNAVAILABLE, "no answer from %s: %s", source->brokers, local.text);
	if (status != STATUS_OK || (status = kafka_subscribe(source, &local)) != STATUS_OK)
		return error_set(error, status, "%s", local.text);
	while (!source->assigned || !all_probed(source)) {
		if (source->forgotten)
			status = kafka_heal(source, &local);
		if (status == STATUS_OK && source->revoke_pending)
			status = kafka_let_go(source, &local);
		if (status == STATUS_OK && source->assign_pending)
			status = kafka_take_assignment(source, &local);
		if (status == STATUS_OK)
			status = kafka_fetch(source, SLICE_MS, &local);
		if (status == STATUS_OK)
			status = kafka_balance(source, &local);
		if (status != STATUS_OK && status_class(status) != STATUS_CLASS_RETRY)
			return error_set(error, status, "%s", local.text);
		if (interrupted(source))
			return error_set(error, STATUS_INTERRUPTED, "interrupted while joining group %s",
					 source->group_id);
		if (milliseconds_left(deadline) == 0)
			return error_set(error, STATUS_UNAVAILABLE, "group %s: %s after %lld s%s%s", source->group_id,
					 source->assigned ? "the first records have not come" :
					 "no partitions were assigned", (long long)source->join_timeout_ms / 1000,
					 status == STATUS_OK ? "" : ": ", status == STATUS_OK ? "" : local.text);
		status = STATUS_OK;
	}
	*oldest_unanswered_ms = offsets_oldest_ms(source->offsets);
	return STATUS_OK;
}

static enum status kafka_start(struct source *base, const struct position *positions, size_t count,
			       int64_t clock_ms, struct error *error)
{
	struct source_kafka *source = self(base);
	bool fresh = !source->started && clock_ms == INT64_MIN;
	enum status status = STATUS_OK;

	if (source->read_graph && !fresh) {
		/* The clock is set for all lanes at once, so the group's records are read again as well. */
		if (source->has_held)
			kafka_record_free(source->held.payload);
		source->has_held = false;
		merge_clear(source->merge, clock_ms);
		status = kafka_reread_group(source, false, error);
	}
	if (status == STATUS_OK && source->read_graph)
		status = kafka_assign_graph(source, positions, count, error);
	if (status != STATUS_OK)
		return status;
	source->started = true;
	source->grow_ask_ns = clock_steady_ns() + source->partitions_ms * 1000000;
	source->probing = source->restart = false;
	source->blocked_ns = 0;
	source->release_left = 0;
	return STATUS_OK;
}

/* ---- when to wait ---- */

static bool backfilling(const struct source_kafka *source)
{
	for (size_t i = 0; i < source->partitions.count; i++)
		if (!kafka_partition_reached(&source->partitions.list[i]))
			return true;
	return false;
}

/* Lanes that have got where they must, and lanes nobody waits for. True: one of them blocked the merge. */
static bool update_lanes(struct source_kafka *source, bool backfill)
{
	bool freed = false;

	for (size_t i = 0; i < source->partitions.count; i++) {
		struct kafka_partition *partition = &source->partitions.list[i];
		bool reached = kafka_partition_reached(partition);
		bool blocks = merge_lane_blocks(source->merge, partition->lane);

		if (partition->ended)
			continue;
		if (source->until_end && reached) {
			merge_lane_set_state(source->merge, partition->lane, MERGE_LANE_ENDED);
			partition->ended = true;
			freed |= blocks;
		} else if ((!source->read_graph || (backfill && reached)) &&
			   merge_lane_records(source->merge, partition->lane) == 0) {
			merge_lane_set_state(source->merge, partition->lane, MERGE_LANE_SILENT);
			freed |= blocks;
		}
	}
	return freed;
}

static void reopen_lanes(struct source_kafka *source)
{
	for (size_t i = 0; i < source->partitions.count; i++) {
		uint32_t lane = source->partitions.list[i].lane;

		if (merge_lane_state(source->merge, lane) == MERGE_LANE_SILENT)
			merge_lane_set_state(source->merge, lane, MERGE_LANE_OPEN);
	}
	source->release_left = 0;
	source->blocked_ns = 0;
}

/* Whether a blocking lane is known to have more than has come. */
static bool lagging(const struct source_kafka *source)
{
	for (size_t i = 0; i < source->partitions.count; i++) {
		const struct kafka_partition *partition = &source->partitions.list[i];
		int64_t low, high;

		if (partition->at_end || !merge_lane_blocks(source->merge, partition->lane))
			continue;
		if (rd_kafka_get_watermark_offsets(partition->group ? source->group : source->graph,
						   source->names[partition->topic], partition->partition, &low,
						   &high) == RD_KAFKA_RESP_ERR_NO_ERROR && high > partition->next)
			return true;
	}
	return false;
}

/* The merge is blocked in live operation: true when what has waited long enough may pass the silent lanes;
 * else *wait_ms is cut to the time that is left. */
static bool release(struct source_kafka *source, int64_t *wait_ms)
{
	int64_t now = clock_steady_ns(), limit_ms, waited_ms;

	if (merge_records(source->merge) == 0)
		return false;
	if (source->blocked_ns == 0)
		source->blocked_ns = now;
	waited_ms = (now - source->blocked_ns) / 1000000;
	limit_ms = waited_ms >= source->idle_ms && lagging(source) ? source->idle_ms * LAGGING_FACTOR :
		   source->idle_ms;
	if (waited_ms < limit_ms && merge_bytes(source->merge) <= source->buffer_bytes_max) {
		*wait_ms = *wait_ms < limit_ms - waited_ms ? *wait_ms : limit_ms - waited_ms;
		return false;
	}
	for (size_t i = 0; i < source->partitions.count; i++)
		if (merge_lane_blocks(source->merge, source->partitions.list[i].lane))
			merge_lane_set_state(source->merge, source->partitions.list[i].lane, MERGE_LANE_SILENT);
	source->release_left = merge_records(source->merge);
	source->blocked_ns = 0;
	return true;
}

/* ---- poll ---- */

static enum status give_out(struct source_kafka *source, struct arena *arena, struct record *record,
			    struct error *error)
{
	struct kafka_partition *partition = kafka_partition_find(&source->partitions, source->held.position.topic,
								 source->held.position.partition);
	enum status status = kafka_record_write(&source->reader, &source->held, arena, record, error);

	if (status != STATUS_OK)
		return status;
	kafka_record_free(source->held.payload);
	source->has_held = false;
	if (partition && partition->delivered <= record->position.offset)
		partition->delivered = record->position.offset + 1;
	if (partition && partition->group)
		source->dirty = true;
	if (source->release_left && --source->release_left == 0 && !backfilling(source))
		reopen_lanes(source);
	return STATUS_OK;
}

static enum status fill(struct source_kafka *source, size_t records_max, struct arena *arena,
			struct record *records, struct source_batch *batch, int64_t *wait_ms, struct error *error)
{
	while (batch->count < records_max) {
		enum merge_result result = MERGE_RECORD;
		enum status status = STATUS_OK;

		if (!source->has_held)
			status = merge_pop(source->merge, &source->held, &result, error);
		if (status != STATUS_OK)
			return status;
		if (result == MERGE_RECORD) {
			source->has_held = true;
			source->blocked_ns = 0;
			status = give_out(source, arena, &records[batch->count], error);
			if (status == STATUS_LIMIT && batch->count > 0)
				return STATUS_OK;
			if (status == STATUS_LIMIT)
				return error_set(error, STATUS_NO_MEMORY, "one record does not fit into the batch's memory");
			if (status != STATUS_OK)
				return status;
			batch->count++;
			continue;
		}
		if (result == MERGE_END && batch->count == 0 && source->until_end && source->assigned &&
		    !source->revoke_pending && !source->assign_pending)
			return kafka_others_done(source, &batch->end, error);
		if (result == MERGE_IDLE && source->read_graph && !batch->backfill)
			reopen_lanes(source);
		if (result != MERGE_BLOCKED)
			return STATUS_OK;
		if (!update_lanes(source, batch->backfill) &&
		    (batch->backfill || source->until_end || !release(source, wait_ms)))
			return STATUS_OK;
	}
	return STATUS_OK;
}

/* Partitions were gained: whether their next impressions are known, and not behind the clock. */
static bool probe(struct source_kafka *source, bool *rewind)
{
	if (!all_probed(source) && clock_steady_ns() < source->probe_until_ns)
		return false;
	source->probing = false;
	*rewind = offsets_oldest_ms(source->offsets) <= merge_clock_ms(source->merge);
	return !*rewind;
}

/* What must be settled before anything is read. True: the batch says it all. */
static enum status attend_group(struct source_kafka *source, struct source_batch *batch, struct error *error)
{
	/* Forgotten by the group, its partitions are as good as gone. */
	if ((source->revoke_pending || source->forgotten) && source->dirty)
		batch->revoked = true;
	else if (source->forgotten)
		return kafka_heal(source, error);
	else if (source->revoke_pending)
		return kafka_let_go(source, error);
	else if (source->assign_pending)
		return kafka_take_assignment(source, error);
	return STATUS_OK;
}

/* After healing: once the group has given partitions again, everything begins with `start`. */
static enum status rejoined(const struct source_kafka *source, bool *rewind, struct error *error)
{
	if (!source->assigned || !all_probed(source))
		return error_set(error, STATUS_RETRY, "joining group %s again", source->group_id);
	*rewind = true;
	return STATUS_OK;
}

static enum status kafka_poll(struct source *base, size_t records_max, int64_t timeout_ms, struct arena *arena,
			      struct source_batch *out, struct error *error)
{
	struct source_kafka *source = self(base);
	int64_t deadline = clock_steady_ns() + timeout_ms * 1000000, wait_ms = 0;
	struct source_batch batch = {0};
	struct record *records = arena_array(arena, records_max, sizeof(*records));
	struct error local = {0};
	enum status status = STATUS_OK, trouble;

	if (!records)
		return error_set(error, STATUS_NO_MEMORY, "no room for a batch of %zu records", records_max);
	for (;;) {
		size_t taken = 0;

		trouble = attend_group(source, &batch, &local);
		while (trouble == STATUS_OK && !batch.revoked) {
			trouble = kafka_fetch(source, wait_ms, &local);
			taken += source->messages_count;
			wait_ms = 0;
			if (source->messages_count < KAFKA_FETCH_MESSAGES || taken >= records_max ||
			    source->messages_next < source->messages_count)
				break;
		}
		if (trouble == STATUS_OK && !batch.revoked)
			trouble = kafka_balance(source, &local);
		if (trouble == STATUS_OK)
			trouble = kafka_check_reachable(source, &local);
		if (trouble != STATUS_OK && status_class(trouble) != STATUS_CLASS_RETRY)
			return error_set(error, trouble, "%s", local.text);
		/* A revocation that came just now is told before anything else is given out. */
		if ((source->revoke_pending || source->forgotten) && source->dirty)
			batch.revoked = true;
		if (trouble == STATUS_OK && source->restart && !batch.revoked)
			trouble = rejoined(source, &batch.rewind, &local);
		else if (trouble == STATUS_OK && !batch.revoked && source->started && !source->probing)
			batch.rewind = kafka_grew(source);
		batch.backfill = backfilling(source);
		wait_ms = milliseconds_left(deadline);
		wait_ms = wait_ms < SLICE_MS ? wait_ms : SLICE_MS;
		if (!batch.revoked && !source->forgotten && !source->restart &&
		    !batch.rewind && (!source->probing || probe(source, &batch.rewind))) {
			update_lanes(source, batch.backfill);
			status = fill(source, records_max, arena, records, &batch, &wait_ms, error);
			if (status != STATUS_OK)
				return status;
		}
		if (batch.count || batch.end || batch.rewind || batch.revoked)
			break;
		if (trouble != STATUS_OK)
			return error_set(error, trouble, "%s", local.text);
		if (milliseconds_left(deadline) == 0)
			break;
	}
	batch.records = records;
	batch.cut = merge_cut(source->merge) && !source->has_held;
	batch.idle = !batch.backfill && source->assigned && !source->probing && !source->has_held &&
		     merge_records(source->merge) == 0 && source->messages_next == source->messages_count;
	*out = batch;
	return STATUS_OK;
}

/* ---- offsets and positions ---- */

static void kafka_answered(struct source *base, struct position position)
{
	offsets_answered(self(base)->offsets, position);
}

static enum status kafka_offsets(struct source *base, struct commit_offsets *out, struct error *error)
{
	struct source_kafka *source = self(base);
	const struct position *positions;
	size_t count;
	enum status status = offsets_prefix(source->offsets, &positions, &count, error);

	if (status != STATUS_OK)
		return status;
	if (source->group_metadata)
		rd_kafka_consumer_group_metadata_destroy(source->group_metadata);
	source->group_metadata = rd_kafka_consumer_group_metadata(source->group);
	if (!source->group_metadata)
		return error_set(error, STATUS_INTERNAL, "the consumer has no group");
	*out = (struct commit_offsets){.positions = positions, .count = count,
				       .group_metadata = source->group_metadata};
	return STATUS_OK;
}

static void kafka_committed(struct source *base, const struct commit_offsets *offsets)
{
	offsets_committed(self(base)->offsets, offsets->positions, offsets->count);
}

static enum status kafka_commit(struct source *base, struct error *error)
{
	struct source_kafka *source = self(base);
	const struct position *positions;
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;
	size_t count;
	enum status status = offsets_prefix(source->offsets, &positions, &count, error);

	if (status != STATUS_OK || count == 0)
		return status;
	list = rd_kafka_topic_partition_list_new((int)count);
	for (size_t i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(list, source->names[positions[i].topic], positions[i].partition)
			->offset = positions[i].offset;
	code = rd_kafka_commit(source->group, list, 0);
	for (int i = 0; !code && i < list->cnt; i++)
		code = list->elems[i].err;
	rd_kafka_topic_partition_list_destroy(list);
	if (code)
		return kafka_error(source, code, "committing offsets", NULL, error);
	offsets_committed(source->offsets, positions, count);
	return STATUS_OK;
}

static enum status kafka_resume(struct source *base, struct error *error)
{
	struct source_kafka *source = self(base);

	if (source->forgotten)
		return kafka_heal(source, error);
	return source->revoke_pending ? kafka_let_go(source, error) : kafka_reread_group(source, true, error);
}

static enum status kafka_positions(struct source *base, const struct position **out, size_t *count,
				   struct error *error)
{
	struct source_kafka *source = self(base);
	size_t used = 0;

	if (source->positions_capacity < source->partitions.count) {
		void *grown = mem_resize_array(source->positions, source->partitions.count, sizeof(**out));
		if (!grown)
			return error_set(error, STATUS_NO_MEMORY, "out of memory for positions");
		source->positions = grown;
		source->positions_capacity = source->partitions.count;
	}
	for (size_t i = 0; i < source->partitions.count; i++) {
		const struct kafka_partition *partition = &source->partitions.list[i];

		if (!partition->group)
			source->positions[used++] = (struct position){partition->topic, partition->partition,
								      partition->delivered};
	}
	*out = source->positions;
	*count = used;
	return STATUS_OK;
}

static int64_t kafka_oldest(const struct source *base)
{
	return offsets_oldest_ms(((const struct source_kafka *)base)->offsets);
}

static void kafka_get_stats(const struct source *base, struct source_stats *out)
{
	const struct merge *merge = ((const struct source_kafka *)base)->merge;

	*out = (struct source_stats){merge_records(merge), merge_bytes(merge), merge_overfull(merge)};
}

const struct source_class kafka_source_class = {
	.name = "kafka",
	.join = kafka_join,
	.start = kafka_start,
	.poll = kafka_poll,
	.answered = kafka_answered,
	.offsets = kafka_offsets,
	.committed = kafka_committed,
	.commits = true,
	.resume_from_committed = kafka_resume,
	.positions = kafka_positions,
	.oldest_unanswered_ms = kafka_oldest,
	.get_stats = kafka_get_stats,
	.destroy = kafka_source_destroy,
	.commit = kafka_commit,
};
