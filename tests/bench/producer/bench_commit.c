/* bench_commit.c - transactions through the Kafka sink: how long a commit takes, and what is left of it when
 * it hides behind the next batch. Needs EXITPOLL_BROKERS. Verified: every prediction is read back.
 * Usage: bench_commit [batches] [records a batch] */
#include "base/clock.h"
#include "base/mem.h"
#include "producer/sink.h"
#include "producer/topics.h"
#include "schemas/registry.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void check(enum status status, const struct error *error)
{
	if (status == STATUS_OK)
		return;
	fprintf(stderr, "bench_commit: %s: %s\n", status_name(status), error->text);
	exit(status_exit_code(status));
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void write_batch(struct sink *sink, int records, int64_t first)
{
	struct candidate_score scores[8];
	struct error error = {0};
	char id[32];

	for (int i = 0; i < 8; i++)
		scores[i] = (struct candidate_score){.item_id = TEXT_LITERAL("B0001234XY"), .p_click = .25f, .exit_layer = 5};
	for (int i = 0; i < records; i++) {
		struct event event = {.type = RECORD_PREDICTION};

		snprintf(id, sizeof(id), "imp%lld", (long long)first + i);
		event.prediction = (struct prediction){.impression_id = text_of(id), .user_id = text_of(id),
						       .scores = scores, .scores_count = 8,
						       .model_id = TEXT_LITERAL("bench")};
		check(sink->class->write(sink, &event, (struct text_view){NULL, 0}, &error), &error);
	}
}

/* What a read_committed reader finds. */
static uint64_t count_committed(const char *brokers, const char *topic, int partitions)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
	char text[256];
	rd_kafka_t *client;
	uint64_t count = 0;
	int ended = 0;

	rd_kafka_conf_set(conf, "bootstrap.servers", brokers, text, sizeof(text));
	rd_kafka_conf_set(conf, "group.id", "bench", text, sizeof(text));
	rd_kafka_conf_set(conf, "enable.partition.eof", "true", text, sizeof(text));
	client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
	for (int i = 0; i < partitions; i++)
		rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
	rd_kafka_assign(client, list);
	rd_kafka_topic_partition_list_destroy(list);
	while (ended < partitions) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(client, 10000);

		if (!message)
			break;
		ended += message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
		count += !message->err;
		rd_kafka_message_destroy(message);
	}
	rd_kafka_consumer_close(client);
	rd_kafka_destroy(client);
	return count;
}

int main(int argc, char **argv)
{
	const char *brokers = getenv("EXITPOLL_BROKERS");
	int batches = argc > 1 ? atoi(argv[1]) : 300, records = argc > 2 ? atoi(argv[2]) : 100;
	struct topics_options topics = {.partitions = 8, .record_bytes_max = 1 << 20};
	struct sink_kafka_options options = {.record_bytes_max = 1 << 20};
	struct registry_options built_in = {.verify = true};
	struct commit_offsets none = {0};
	struct topic_findings findings;
	struct error error = {0};
	struct sink *sink = NULL;
	int64_t *took, begun;
	char prefix[32], name[64];
	uint64_t found;

	if (!brokers || batches < 1 || records < 1) {
		fprintf(stderr, "bench_commit: EXITPOLL_BROKERS must name a broker (ops/kafka/broker.sh start)\n");
		return 77;
	}
	took = mem_alloc_array((size_t)batches, sizeof(*took));
	if (!took)
		return 71;
	snprintf(prefix, sizeof(prefix), "bench%d", (int)getpid());
	snprintf(name, sizeof(name), "%s-predictions", prefix);
	topics.brokers = options.brokers = brokers;
	topics.topics = topic_names_default;
	topics.topics.name[TOPIC_PREDICTIONS] = name;
	topics.wanted[TOPIC_PREDICTIONS] = true;
	options.topics = topics.topics;
	options.transactional_id = prefix;
	check(registry_create(&built_in, &options.registry, &error), &error);
	check(topics_create(&topics, &findings, &error), &error);
	check(sink_kafka_create(&options, &sink, &error), &error);
	/* One after the other: the commit's own time. */
	for (int i = 0; i < batches; i++) {
		write_batch(sink, records, (int64_t)i * records);
		begun = clock_steady_ns();
		check(sink->class->commit(sink, &none, &error), &error);
		check(sink->class->settle(sink, &error), &error);
		took[i] = clock_steady_ns() - begun;
	}
	qsort(took, (size_t)batches, sizeof(*took), by_value);
	printf("commit of %d records: p50 %.1f ms, p99 %.1f ms\n", records, (double)took[batches / 2] / 1e6,
	       (double)took[batches * 99 / 100] / 1e6);
	/* Behind the next batch. */
	begun = clock_steady_ns();
	for (int i = 0; i < batches; i++) {
		write_batch(sink, records, (int64_t)(batches + i) * records);
		check(sink->class->commit(sink, &none, &error), &error);
	}
	check(sink->class->finish(sink, &error), &error);
	begun = clock_steady_ns() - begun;
	printf("two producers taking turns: %.1f ms a transaction, %.0f records/s\n", (double)begun / 1e6 / batches,
	       (double)batches * records / ((double)begun / 1e9));
	sink->class->destroy(sink);
	found = count_committed(brokers, name, 8);
	registry_destroy(options.registry);
	mem_free(took);
	if (found != 2u * (uint64_t)batches * (uint64_t)records) {
		fprintf(stderr, "bench_commit: %llu records were read back, not %d\n", (unsigned long long)found,
			2 * batches * records);
		return 70;
	}
	return 0;
}
