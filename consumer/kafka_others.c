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

enum { ASK_MS = 5000, ASK_EVERY_MS = 500, PATIENCE_MS = 15000 };

/* The sum of committed offsets (progress), and whether all watermarks are reached, of what is not ours. */
static enum status look_at_others(struct source_kafka *source, enum topic topic, int64_t *sum, bool *done,
				  struct error *error)
{
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	rd_kafka_topic_t *handle = rd_kafka_topic_new(source->watch, source->names[topic], NULL);
	rd_kafka_resp_err_t code = handle ? rd_kafka_metadata(source->watch, 0, handle, &metadata, ASK_MS)
					  : rd_kafka_last_error();
	int64_t low, high;

	*sum = 0;
	*done = true;
	for (int i = 0; !code && metadata->topic_cnt == 1 && i < metadata->topics[0].partition_cnt; i++) {
		int32_t partition = metadata->topics[0].partitions[i].id;
		if (!kafka_partition_find(&source->partitions, topic, partition))
			rd_kafka_topic_partition_list_add(list, source->names[topic], partition);
	}
	if (!code && list->cnt)
		code = rd_kafka_committed(source->group, list, ASK_MS);
	for (int i = 0; !code && i < list->cnt; i++) {
		int64_t committed = list->elems[i].offset;
		code = rd_kafka_query_watermark_offsets(source->watch, source->names[topic], list->elems[i].partition,
							&low, &high, ASK_MS);
		if (code)
			break;
		if (committed < low)
			committed = low;
		*sum += committed;
		*done = *done && committed >= high;
	}
	if (metadata)
		rd_kafka_metadata_destroy(metadata);
	if (handle)
		rd_kafka_topic_destroy(handle);
	rd_kafka_topic_partition_list_destroy(list);
	return code ? kafka_error(source, code, "asking for other members' partitions", NULL, error) : STATUS_OK;
}

enum status kafka_others_done(struct source_kafka *source, enum topic topic, bool *done, struct error *error)
{
	int64_t now_ns = clock_steady_ns(), sum;
	enum status status;

	*done = false;
	if (now_ns < source->others_ask_ns)
		return STATUS_OK;
	source->others_ask_ns = now_ns + (int64_t)ASK_EVERY_MS * 1000000;
	status = look_at_others(source, topic, &sum, done, error);
	if (status != STATUS_OK || *done)
		return status;
	if (!source->others_since_ns || sum != source->others_sum) {
		source->others_since_ns = now_ns;
		source->others_sum = sum;
	}
	*done = (now_ns - source->others_since_ns) / 1000000 > PATIENCE_MS;
	return STATUS_OK;
}
