/* inspect_topic.c - how many records a topic's partitions hold, and the first few (or one) as JSON. Reads
 * as a read_committed client with no group, so that nothing is moved by looking. */
#include "ops/cli/inspect.h"

#include "consumer/consumer_conf.h"
#include "ops/cli/cli.h"
#include "ops/cli/event_json.h"
#include "ops/cli/settings.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 10000, NAME_BYTES = 512, PRINTED_DEFAULT = 5 };

struct target {
	char brokers[NAME_BYTES];
	char topic[NAME_BYTES];
	int32_t partition;      /* -1: all */
	int64_t offset;         /* -1: from the beginning */
};

/* kafka://host:port/topic[/partition[/offset]] */
static enum status parse_target(const char *text, struct target *out, struct error *error)
{
	const char *brokers = text + strlen("kafka://"), *slash = strchr(brokers, '/');
	char *end;

	*out = (struct target){.partition = -1, .offset = -1};
	if (!slash || !slash[1] || (size_t)(slash - brokers) >= NAME_BYTES)
		return error_set(error, STATUS_USAGE, "'%s': kafka://host:port/topic[/partition[/offset]] is needed",
				 text);
	memcpy(out->brokers, brokers, (size_t)(slash - brokers));
	size_t size = strcspn(slash + 1, "/");
	if (size >= NAME_BYTES)
		return error_set(error, STATUS_USAGE, "the topic's name is too long");
	memcpy(out->topic, slash + 1, size);
	slash += 1 + size;
	if (*slash == '/') {
		out->partition = (int32_t)strtol(slash + 1, &end, 10);
		if (end == slash + 1 || out->partition < 0 || (*end && *end != '/'))
			return error_set(error, STATUS_USAGE, "'%s': the partition is not a number", text);
		if (*end == '/') {
			out->offset = strtoll(end + 1, &end, 10);
			if (*end || out->offset < 0)
				return error_set(error, STATUS_USAGE, "'%s': the offset is not a number", text);
		}
	}
	return STATUS_OK;
}

static enum status kafka_failed(rd_kafka_resp_err_t code, const char *what, struct error *error)
{
	return error_set(error, STATUS_UNAVAILABLE, "%s: %s", what, rd_kafka_err2str(code));
}

struct reader {
	rd_kafka_t *client;
	struct registry *registry;
	struct arena *arena;
	bool known_type;
	enum record_type type;
	uint64_t printed, bad;
};

static void print_message(struct reader *reader, const rd_kafka_message_t *message)
{
	struct text_view value = {message->payload, message->len};
	struct event event;
	struct error error = {0};

	printf("{\"partition\":%d,\"offset\":%" PRId64 ",\"key\":", message->partition, message->offset);
	cli_json_string(stdout, message->key, message->key_len);
	arena_reset(reader->arena);
	if (!message->payload) {
		fputs(",\"value\":null}\n", stdout);
	} else if (reader->known_type && registry_decode(reader->registry, reader->type, value, reader->arena, &event,
							  &error) == STATUS_OK) {
		fputs(",\"value\":", stdout);
		event_json_write(stdout, &event);
		puts("}");
	} else {
		reader->bad++;
		printf(",\"bytes\":%zu,\"error\":", message->len);
		cli_json_string(stdout, error.text, strlen(error.text));
		puts("}");
	}
}

/* Prints up to records_max records from `offset` of one partition. */
static enum status read_partition(struct reader *reader, const struct target *target, int32_t partition,
				  int64_t offset, int64_t end, size_t records_max, struct error *error)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t code;

	rd_kafka_topic_partition_list_add(list, target->topic, partition)->offset = offset;
	code = rd_kafka_assign(reader->client, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (code)
		return kafka_failed(code, target->topic, error);
	for (size_t printed = 0; printed < records_max && offset < end;) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(reader->client, 1000);
		if (!message)
			break;
		if (!message->err) {
			print_message(reader, message);
			offset = message->offset + 1;
			printed++;
			reader->printed++;
		}
		rd_kafka_message_destroy(message);
	}
	return STATUS_OK;
}

static enum status inspect_partitions(const struct inspect_options *options, struct reader *reader,
				      const struct target *target, struct error *error)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(reader->client, target->topic, NULL);
	rd_kafka_resp_err_t code = rd_kafka_metadata(reader->client, 0, topic, &metadata, TIMEOUT_MS);
	size_t left = target->offset >= 0 ? 1 : options->records_max ? options->records_max : PRINTED_DEFAULT;
	enum status status = STATUS_OK;
	int64_t total = 0;

	rd_kafka_topic_destroy(topic);
	if (code)
		return kafka_failed(code, target->brokers, error);
	if (metadata->topic_cnt < 1 || metadata->topics[0].err || metadata->topics[0].partition_cnt == 0)
		status = error_set(error, STATUS_NO_INPUT, "there is no topic '%s' at %s", target->topic, target->brokers);
	for (int i = 0; status == STATUS_OK && i < metadata->topics[0].partition_cnt; i++) {
		int32_t partition = metadata->topics[0].partitions[i].id;
		int64_t low, high;
		if (target->partition >= 0 && partition != target->partition)
			continue;
		code = rd_kafka_query_watermark_offsets(reader->client, target->topic, partition, &low, &high, TIMEOUT_MS);
		if (code) {
			status = kafka_failed(code, target->topic, error);
			break;
		}
		total += high - low;
		if (options->json)
			printf("{\"topic\":\"%s\",\"partition\":%d,\"first\":%" PRId64 ",\"end\":%" PRId64 "}\n",
			       target->topic, partition, low, high);
		else
			printf("%s partition %d: offsets %" PRId64 " to %" PRId64 "\n", target->topic, partition, low, high);
		uint64_t before = reader->printed;
		status = read_partition(reader, target, partition, target->offset >= 0 ? target->offset : low, high, left,
					error);
		left -= (size_t)(reader->printed - before);
	}
	rd_kafka_metadata_destroy(metadata);
	if (status == STATUS_OK && target->offset >= 0 && reader->printed == 0)
		return error_set(error, STATUS_NO_INPUT, "there is no record at offset %" PRId64 " of %s/%d",
				 target->offset, target->topic, target->partition);
	if (status == STATUS_OK && !options->json)
		printf("%" PRId64 " offsets in use\n", total);
	if (status == STATUS_OK && options->check && reader->bad)
		return error_set(error, STATUS_CORRUPT, "%" PRIu64 " of the %" PRIu64 " records looked at cannot be decoded",
				 reader->bad, reader->printed);
	return status;
}

static void find_type(struct reader *reader, const struct config *config, const char *topic)
{
	struct topic_names names;

	settings_topics(config, &names);
	for (int i = 0; i < TOPIC_DEAD_LETTERS; i++)
		if (strcmp(names.name[i], topic) == 0) {
			reader->known_type = true;
			reader->type = topic_record_type((enum topic)i);
		}
}

enum status inspect_topic(const struct inspect_options *options, char *const *pairs, size_t pairs_count,
			  struct error *error)
{
	struct settings_lists lists = {0};
	struct registry_options registry_options;
	struct consumer_conf conf = {.settings = lists.kafka, .group_id = "exitpoll-inspect"};
	struct reader reader = {0};
	struct target target;
	struct config *config = settings_create();
	enum status status = config ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "out of memory");

	if (status == STATUS_OK)
		status = settings_load(config, NULL, pairs, pairs_count, error);
	if (status == STATUS_OK)
		status = parse_target(options->target, &target, error);
	if (status != STATUS_OK)
		goto cleanup;
	settings_kafka(config, &lists);
	settings_registry(config, &registry_options);
	find_type(&reader, config, target.topic);
	conf.brokers = target.brokers;
	conf.settings_count = lists.kafka_count;
	reader.arena = arena_create((size_t)1 << 28);
	if (!reader.arena)
		status = error_set(error, STATUS_NO_MEMORY, "out of memory");
	if (status == STATUS_OK)
		status = registry_create(&registry_options, &reader.registry, error);
	if (status == STATUS_OK)
		status = consumer_conf_client(&conf, &reader.client, error);
	if (status == STATUS_OK)
		status = inspect_partitions(options, &reader, &target, error);
cleanup:
	if (reader.client) {
		rd_kafka_consumer_close(reader.client);
		rd_kafka_destroy(reader.client);
	}
	registry_destroy(reader.registry);
	arena_destroy(reader.arena);
	config_destroy(config);
	return status;
}
