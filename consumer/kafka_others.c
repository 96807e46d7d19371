/* kafka_others.c - partitions of the group's topic that are not ours, at the end of a backfill.
 *
 * Idea: "until the end" means every partition, and some may belong to a member that was killed: the
 * group gives them to us only when its session has timed out. So at our own end we wait while a
 * partition of another member has committed less than its high watermark, for as long as that makes
 * progress, and then for longer than a session lives. A member that is alive answers its own partitions;
 * one that is dead loses them to us in that time. Trailing control records are never committed by some
 * clients, which is why waiting ends by time and not by equality alone.
 * Called by source_kafka.c, from its thread. */
#include "consumer/kafka_state.h"

#include "base/clock.h"
#include "base/log.h"

enum { ASK_MS = 5000, ASK_EVERY_MS = 500, PATIENCE_MS = 30000 };

/* The partitions of the group's topic that are not ours. */
static enum status list_others(struct source_kafka *source, rd_kafka_topic_partition_list_t *list,
			       struct error *error)
{
	enum topic topic = kafka_group_topic(source);
	int32_t count = 0;
	enum status status = kafka_partition_count(source, source->watch, topic, &count, error);

	for (int32_t partition = 0; partition < count; partition++)
		if (!kafka_partition_find(&source->partitions, topic, partition))
			rd_kafka_topic_partition_list_add(list, source->names[topic], partition);
	return status;
}

/* The sum of committed offsets (progress), and whether all watermarks are reached, of what is not ours. */
static enum status look_at_others(struct source_kafka *source, int64_t *sum, bool *done, struct error *error)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	enum status status = list_others(source, list, error);
	int64_t low, high;

	*sum = 0;
	*done = true;
	if (status == STATUS_OK)
		status = kafka_ask_committed(source, list, error);
	for (int i = 0; status == STATUS_OK && i < list->cnt; i++) {
		const rd_kafka_topic_partition_t *other = &list->elems[i];
		rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(source->watch, other->topic, other->partition,
									    &low, &high, ASK_MS);
		if (code) {
			status = kafka_error(source, code, "asking for watermarks", NULL, error);
			break;
		}
		int64_t committed = other->offset < low ? low : other->offset;
		*sum += committed;
		*done = *done && committed >= high;
	}
	rd_kafka_topic_partition_list_destroy(list);
	return status;
}

enum status kafka_others_done(struct source_kafka *source, bool *done, struct error *error)
{
	int64_t now_ns = clock_steady_ns(), sum;
	enum status status;

	*done = false;
	if (now_ns < source->others_ask_ns)
		return STATUS_OK;
	source->others_ask_ns = now_ns + (int64_t)ASK_EVERY_MS * 1000000;
	status = look_at_others(source, &sum, done, error);
	if (status != STATUS_OK || *done)
		return status;
	if (!source->others_since_ns || sum != source->others_sum) {
		source->others_since_ns = now_ns;
		source->others_sum = sum;
	}
	*done = (now_ns - source->others_since_ns) / 1000000 > PATIENCE_MS;
	if (*done)
		log_warning("kafka.others", "group=%s partitions of other members have not reached their end, and nothing "
			    "has happened there for %d s; run again to be sure", source->group_id, PATIENCE_MS / 1000);
	return STATUS_OK;
}
