/* kafka_grow.c - partitions that are added to items or interactions while they are read.
 *
 * Idea: the group's partitions are shared out anew by the group itself; those of the graph are our own
 * assignment, so now and then a broker is asked how many there are. More than are read means that events
 * are missing from the graph: the caller goes back to a snapshot and begins anew with all of them.
 * Invariant: what a broker does not answer is asked again later, and nothing else happens.
 * Called by source_kafka.c, one thread. */
#include "consumer/kafka_state.h"

#include "base/clock.h"
#include "base/log.h"

static int32_t partitions_read(const struct source_kafka *source, enum topic topic)
{
	int32_t count = 0;

	for (size_t i = 0; i < source->partitions.count; i++)
		count += source->partitions.list[i].topic == topic;
	return count;
}

static bool topic_grew(struct source_kafka *source, enum topic topic)
{
	int32_t now = 0, before = partitions_read(source, topic);

	if (kafka_partition_count(source, source->watch, topic, &now, NULL) != STATUS_OK || now <= before)
		return false;
	log_info("kafka.grown", "topic=%s partitions=%d before=%d", source->names[topic], now, before);
	return true;
}

bool kafka_grew(struct source_kafka *source)
{
	int64_t now_ns = clock_steady_ns();

	if (!source->read_graph || source->until_end || source->unreachable || now_ns < source->grow_ask_ns)
		return false;
	source->grow_ask_ns = now_ns + source->partitions_ms * 1000000;
	return topic_grew(source, TOPIC_ITEMS) || topic_grew(source, TOPIC_INTERACTIONS);
}
