/* kafka_heal.c - a group that has forgotten us during an outage is joined anew.
 *
 * Idea: when the brokers are away for longer than the session lasts, librdkafka rejoins, and its own older
 * membership under the same group.instance.id may fence it for good. The broker says the same when another
 * process takes the name; only an outage just before tells them apart. So after an outage a fenced source
 * makes its clients anew, a few times; two processes that both do so fence each other until one gives up.
 * Invariant: from `forgotten` until the caller has called start, no record is given out; what was given
 * out before can only be committed with a membership that the broker refuses.
 * Called by the other files of the source, one thread. */
#include "consumer/kafka_state.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdatomic.h>

enum {
	OUTAGE_REMEMBERED_MS = 60000,
	HEALS_MAX = 2,                  /* per outage */
};

void kafka_outage(struct source_kafka *source)
{
	if (!source->unreachable)
		source->heals = 0;
	source->unreachable = true;
	source->outage_ns = clock_steady_ns();
}

bool kafka_may_heal(struct source_kafka *source)
{
	int64_t lost_ns = atomic_load(&source->session_lost_ns);

	if (lost_ns - source->outage_ns > OUTAGE_REMEMBERED_MS * INT64_C(1000000))
		source->heals = 0;
	if (lost_ns > source->outage_ns)
		source->outage_ns = lost_ns;
	if (source->forgotten)
		return true;
	if (source->closing || source->outage_ns == 0 || source->heals >= HEALS_MAX ||
	    clock_steady_ns() - source->outage_ns > OUTAGE_REMEMBERED_MS * INT64_C(1000000))
		return false;
	source->forgotten = true;
	return true;
}

/* What hangs on the old clients. Partitions of the graph keep what they know: a snapshot may still be saved. */
static void drop_clients(struct source_kafka *source)
{
	source->closing = true;
	kafka_drop_group(source);
	kafka_forget(source, false);
	if (source->assign_pending)
		rd_kafka_topic_partition_list_destroy(source->assign_pending);
	source->assign_pending = NULL;
	if (source->group_metadata)
		rd_kafka_consumer_group_metadata_destroy(source->group_metadata);
	source->group_metadata = NULL;
	kafka_close_clients(source);
	for (size_t i = 0; i < source->partitions.count; i++)
		source->partitions.list[i].paused = false;
	source->revoke_pending = source->assigned = source->subscribed = false;
	source->dirty = source->probing = false;
	source->failure = STATUS_OK;
	source->closing = false;
}

enum status kafka_heal(struct source_kafka *source, struct error *error)
{
	enum status status = STATUS_OK;

	if (source->forgotten) {
		source->heals++;
		log_warning("kafka.rejoin", "group=%s attempt=%u", source->group_id, source->heals);
		drop_clients(source);
		status = kafka_make_clients(source, error);
		source->restart = source->started;
		source->forgotten = false;
	}
	return status == STATUS_OK ? kafka_subscribe(source, error) : status;
}
