/* kafka_create.c - makes the Kafka source and takes it apart.
 *
 * Idea: three clients. `group` reads what the consumer group shares out, `graph` what every instance reads
 * as a whole, `watch` only asks questions (read uncommitted, so that it sees high watermarks and not the
 * ends of the last finished transactions).
 * Invariant: a half-made source can be destroyed.
 * Called by ops/cli through source.h, one thread. */
#include "consumer/kafka_state.h"

#include <stdio.h>

enum {
	IDLE_MS = 50,
	JOIN_MS = 60000,
	PARTITIONS_MS = 60000,
	SCRATCH_RECORDS = 16,           /* decoded arrays may take this many times a record's bytes */
};

static void unforward(rd_kafka_t *client)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(client);

	rd_kafka_queue_forward(queue, NULL);
	rd_kafka_queue_destroy(queue);
}

/* A client is not gone before every message of its partitions is: the common queue goes first. */
void kafka_close_clients(struct source_kafka *source)
{
	if (source->graph)
		rd_kafka_assign(source->graph, NULL);
	if (source->graph)
		unforward(source->graph);
	if (source->group)
		unforward(source->group);
	if (source->queue)
		rd_kafka_queue_destroy(source->queue);
	if (source->graph)
		rd_kafka_destroy_flags(source->graph, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	if (source->group) {
		rd_kafka_consumer_close(source->group);
		rd_kafka_destroy_flags(source->group, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	}
	if (source->watch)
		rd_kafka_destroy_flags(source->watch, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	source->group = source->graph = source->watch = NULL;
	source->queue = NULL;
}

void kafka_source_destroy(struct source *base)
{
	struct source_kafka *source = (struct source_kafka *)base;

	if (!source)
		return;
	source->closing = true;
	kafka_forget(source, true);
	kafka_forget(source, false);
	if (source->assign_pending)
		rd_kafka_topic_partition_list_destroy(source->assign_pending);
	if (source->group_metadata)
		rd_kafka_consumer_group_metadata_destroy(source->group_metadata);
	kafka_close_clients(source);
	if (source->has_held)
		kafka_record_free(source->held.payload);
	merge_destroy(source->merge);
	offsets_destroy(source->offsets);
	arena_destroy(source->reader.scratch);
	kafka_partitions_free(&source->partitions);
	for (size_t i = 0; i < TOPICS; i++)
		mem_free(source->names[i]);
	mem_free(source->positions);
	mem_free(source->brokers);
	mem_free(source->group_id);
	mem_free(source->graph_group_id);
	mem_free(source->instance_id);
	mem_free(source);
}

static void release_payload(void *context, void *payload)
{
	(void)context;
	kafka_record_free(payload);
}

static enum status read_options(struct source_kafka *source, const struct source_kafka_options *options,
				struct error *error)
{
	const char *policy = options->offset_policy ? options->offset_policy : "error";
	bool wanted[TOPICS] = {
		[TOPIC_ITEMS] = options->read_graph_topics,
		[TOPIC_INTERACTIONS] = options->read_graph_topics,
		[TOPIC_IMPRESSIONS] = options->read_graph_topics,
		[TOPIC_SCORING_REQUESTS] = options->read_scoring_requests,
	};
	char graph_group[300];

	if (options->read_graph_topics == options->read_scoring_requests)
		return error_set(error, STATUS_USAGE, "a Kafka source reads either the graph's topics or scoring requests");
	if (strcmp(policy, "error") != 0 && strcmp(policy, "earliest") != 0 && strcmp(policy, "latest") != 0)
		return error_set(error, STATUS_CONFIG, "state.offset.policy is error, earliest or latest, not \"%s\"",
				 policy);
	source->policy = policy[0] == 'l' ? OFFSET_LATEST : strcmp(policy, "error") == 0 ? OFFSET_ERROR : OFFSET_EARLIEST;
	source->read_graph = options->read_graph_topics;
	source->read_requests = options->read_scoring_requests;
	source->until_end = options->until_end;
	source->idle_ms = options->idle_ms ? options->idle_ms : IDLE_MS;
	source->partitions_ms = options->partitions_ms ? options->partitions_ms : PARTITIONS_MS;
	source->join_timeout_ms = options->join_timeout_ms ? options->join_timeout_ms : JOIN_MS;
	source->stopping = options->stopping;
	source->buffer_bytes_max = options->buffer_bytes_max ? options->buffer_bytes_max : (size_t)64 << 20;
	source->reader.registry = options->registry;
	source->reader.limits = options->limits;
	source->brokers = mem_copy_string(options->brokers);
	source->group_id = mem_copy_string(options->group_id);
	/* Needed by the client, but never joined and never committed to. */
	if ((size_t)snprintf(graph_group, sizeof(graph_group), "%s-graph", options->group_id) >= sizeof(graph_group))
		return error_set(error, STATUS_CONFIG, "the group id is longer than %zu bytes", sizeof(graph_group) - 7);
	source->graph_group_id = mem_copy_string(graph_group);
	if (options->instance_id && !(source->instance_id = mem_copy_string(options->instance_id)))
		return error_set(error, STATUS_NO_MEMORY, "out of memory for the Kafka source");
	for (size_t i = 0; i < TOPICS; i++)
		if (wanted[i] && !(source->names[i] = mem_copy_string(options->topics.name[i])))
			return error_set(error, STATUS_NO_MEMORY, "out of memory for the Kafka source");
	if (!source->brokers || !source->group_id || !source->graph_group_id)
		return error_set(error, STATUS_NO_MEMORY, "out of memory for the Kafka source");
	return STATUS_OK;
}

static enum status make_client(struct source_kafka *source, const struct consumer_conf *conf, rd_kafka_t **out,
			       struct error *error)
{
	rd_kafka_queue_t *queue;
	enum status status = consumer_conf_client(conf, out, error);

	if (status != STATUS_OK || conf->uncommitted)
		return status;
	rd_kafka_poll_set_consumer(*out);
	/* The queue is the group's: callbacks of both clients are served in the group's name, and only the group
	 * has a rebalance callback. */
	if (!source->queue)
		source->queue = rd_kafka_queue_new(*out);
	queue = rd_kafka_queue_get_consumer(*out);
	rd_kafka_queue_forward(queue, source->queue);
	rd_kafka_queue_destroy(queue);
	return STATUS_OK;
}

static void set_confs(struct source_kafka *source, const struct source_kafka_options *options)
{
	struct consumer_conf common = {
		.brokers = source->brokers,
		.settings = options->settings,
		.settings_count = options->settings_count,
		.opaque = source,
	};

	source->group_conf = source->graph_conf = source->watch_conf = common;
	source->group_conf.group_id = source->group_id;
	source->group_conf.instance_id = source->instance_id;
	source->group_conf.session_lost_ns = &source->session_lost_ns;
	source->group_conf.rebalanced = kafka_group_rebalanced;
	source->group_conf.failed = source->graph_conf.failed = kafka_client_failed;
	source->graph_conf.group_id = source->watch_conf.group_id = source->graph_group_id;
	source->watch_conf.uncommitted = true;
}

enum status kafka_make_clients(struct source_kafka *source, struct error *error)
{
	enum status status = make_client(source, &source->group_conf, &source->group, error);

	if (status == STATUS_OK)
		status = make_client(source, &source->watch_conf, &source->watch, error);
	if (status == STATUS_OK && source->read_graph)
		status = make_client(source, &source->graph_conf, &source->graph, error);
	return status;
}

enum status source_kafka_create(const struct source_kafka_options *options, struct source **out,
				struct error *error)
{
	struct source_kafka *source = mem_alloc_zero(1, sizeof(*source));
	size_t scratch = options->limits.record_bytes_max;
	enum status status;

	if (!source)
		return error_set(error, STATUS_NO_MEMORY, "out of memory for the Kafka source");
	source->source.class = &kafka_source_class;
	status = read_options(source, options, error);
	if (status == STATUS_OK)
		status = merge_create(options->group_records_max, release_payload, NULL, &source->merge, error);
	if (status == STATUS_OK)
		status = offsets_create(0, &source->offsets, error);
	if (status == STATUS_OK &&
	    (!mem_multiply(scratch, SCRATCH_RECORDS, &scratch) ||
	     !(source->reader.scratch = arena_create(scratch + (1 << 20)))))
		status = error_set(error, STATUS_NO_MEMORY, "out of memory for the Kafka source");
	set_confs(source, options);
	if (status == STATUS_OK)
		status = kafka_make_clients(source, error);
	if (status != STATUS_OK) {
		kafka_source_destroy(&source->source);
		return status;
	}
	*out = &source->source;
	return STATUS_OK;
}
