/* kafka_fixture.h - what the tests against a real broker share: topics of their own, input, a run loop as
 * small as it can be, and an independent reader of what came out. Failures abort the test through Check. */
#ifndef EXITPOLL_TESTS_KAFKA_FIXTURE_H
#define EXITPOLL_TESTS_KAFKA_FIXTURE_H

#include "base/clock.h"
#include "base/mem.h"
#include "consumer/source.h"
#include "producer/sink.h"
#include "producer/topics.h"
#include "schemas/registry.h"
#include "tests/check_run.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static const char *brokers;             /* EXITPOLL_BROKERS */

struct stream {
	char prefix[48];
	char buffers[TOPICS][96];
	struct topic_names names;
	struct registry *registry;
};

static bool in_child;                   /* a process of its own, without Check */

static UNUSED void must(enum status status, const struct error *error)
{
	if (status == STATUS_OK)
		return;
	if (in_child) {                         /* Check's own macros work in its process only */
		fprintf(stderr, "child: %s: %s\n", status_name(status), error->text);
		_exit(6);
	}
	ck_abort_msg("%s: %s", status_name(status), error->text);
}

static UNUSED void pause_ms(long ms)
{
	struct timespec span = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&span, NULL);
}

/* Names and a registry, no topics: a child process opens its parent's stream so. */
static UNUSED void stream_attach(struct stream *stream, const char *prefix)
{
	struct registry_options options = {.verify = true};
	struct error error = {0};

	snprintf(stream->prefix, sizeof(stream->prefix), "%s", prefix);
	for (unsigned i = 0; i < TOPICS; i++) {
		snprintf(stream->buffers[i], sizeof(stream->buffers[i]), "%s-%s", stream->prefix,
			 topic_names_default.name[i]);
		stream->names.name[i] = stream->buffers[i];
	}
	must(registry_create(&options, &stream->registry, &error), &error);
}

static UNUSED void stream_open(struct stream *stream, int partitions)
{
	static unsigned counter;
	struct topics_options options = {.brokers = brokers, .partitions = partitions, .record_bytes_max = 1 << 20};
	struct topic_findings findings;
	struct error error = {0};
	char prefix[48];

	snprintf(prefix, sizeof(prefix), "t%d-%u", (int)getpid(), counter++);
	stream_attach(stream, prefix);
	options.topics = stream->names;
	for (unsigned i = 0; i < TOPICS; i++)
		options.wanted[i] = true;
	must(topics_create(&options, &findings, &error), &error);
}

static UNUSED void stream_close(struct stream *stream)
{
	registry_destroy(stream->registry);
}

static UNUSED struct sink *open_sink(struct stream *stream, const char *id)
{
	struct sink_kafka_options options = {.brokers = brokers, .topics = stream->names,
					     .transactional_id = id, .record_bytes_max = 1 << 20,
					     .registry = stream->registry};
	struct error error = {0};
	struct sink *sink = NULL;

	must(sink_kafka_create(&options, &sink, &error), &error);
	return sink;
}

static UNUSED struct source_kafka_options source_defaults(struct stream *stream, const char *instance)
{
	return (struct source_kafka_options){
		.brokers = brokers,
		.topics = stream->names,
		.read_graph_topics = true,
		.group_id = stream->prefix,
		.instance_id = instance,
		.until_end = true,
		.limits = event_limits_default,
		.registry = stream->registry,
	};
}

static UNUSED struct source *open_source(const struct source_kafka_options *options)
{
	struct error error = {0};
	struct source *source = NULL;

	must(source_kafka_create(options, &source, &error), &error);
	return source;
}

/* ---- input ---- */

static UNUSED void put_event(struct sink *sink, const struct event *event)
{
	struct error error = {0};

	must(sink->class->write(sink, event, (struct text_view){NULL, 0}, &error), &error);
}

static UNUSED void put_interaction(struct sink *sink, const char *user, const char *item, int64_t time_ms)
{
	struct event event = {.type = RECORD_INTERACTION,
			      .interaction = {.user_id = text_of(user), .item_id = text_of(item), .kind = KIND_CLICK,
					      .event_time_ms = time_ms}};
	put_event(sink, &event);
}

static UNUSED void put_item(struct sink *sink, const char *item, const char *title, int64_t time_ms)
{
	struct event event = {.type = RECORD_ITEM,
			      .item = {.item_id = text_of(item), .title = text_of(title), .event_time_ms = time_ms,
				       .deleted = title == NULL}};
	put_event(sink, &event);
}

static UNUSED void put_impression(struct sink *sink, const char *id, const char *user, int64_t time_ms)
{
	struct text_view candidates[2] = {TEXT_LITERAL("i1"), TEXT_LITERAL("i2")};
	struct event event = {.type = RECORD_IMPRESSION,
			      .impression = {.impression_id = text_of(id), .user_id = text_of(user),
					     .candidates = candidates, .candidates_count = 2,
					     .event_time_ms = time_ms}};
	put_event(sink, &event);
}

/* impressions [first, first + count) at times first*10, an interaction and now and then an item between. */
static UNUSED void put_mix(struct sink *sink, int first, int count)
{
	char id[32], user[32], item[32];

	for (int i = first; i < first + count; i++) {
		snprintf(id, sizeof(id), "imp%d", i);
		snprintf(user, sizeof(user), "u%d", i * 7919 % 97);
		snprintf(item, sizeof(item), "i%d", i * 104729 % 53);
		if (i % 5 == 0)
			put_item(sink, item, "a title", i * 10 - i % 2);
		put_interaction(sink, user, item, i * 10 - i % 3);
		put_impression(sink, id, user, i * 10);
	}
}

static UNUSED void put_raw(const char *topic, int32_t partition, const void *key, size_t key_size,
			   const void *value, size_t value_size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char text[256];
	rd_kafka_t *client;

	rd_kafka_conf_set(conf, "bootstrap.servers", brokers, text, sizeof(text));
	client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
	ck_assert_ptr_nonnull(client);
	ck_assert_int_eq(rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
					   RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
					   RD_KAFKA_V_KEY(key, key_size),
					   RD_KAFKA_V_VALUE((void *)value, value_size), RD_KAFKA_V_END), 0);
	ck_assert_int_eq(rd_kafka_flush(client, 10000), 0);
	rd_kafka_destroy(client);
}

/* ---- the run loop of the tests ---- */

struct trail {                          /* what came, in order, one line a record */
	char *text;
	size_t size, capacity;
	size_t records, bad, late, revoked, rewinds, retries, predictions;
};

static UNUSED void trail_free(struct trail *trail)
{
	free(trail->text);
	*trail = (struct trail){0};
}

static UNUSED void trail_add(struct trail *trail, const struct record *record)
{
	char line[256];
	struct text_view key = record->status == STATUS_OK ? event_key(&record->event) : record->key;
	int size = record->status == STATUS_OK ?
		   snprintf(line, sizeof(line), "%lld %d %.*s %.*s%s\n", (long long)event_time_ms(&record->event),
			    record->position.topic, TEXT_ARGS(key), record->event.type == RECORD_IMPRESSION ?
			    (int)record->event.impression.impression_id.size : 0,
			    record->event.type == RECORD_IMPRESSION ? record->event.impression.impression_id.bytes : "",
			    record->event.type == RECORD_ITEM && record->event.item.deleted ? "deleted" : "") :
		   snprintf(line, sizeof(line), "bad %d %s\n", record->position.topic, record->reason);

	if (trail->size + (size_t)size + 1 > trail->capacity) {
		trail->capacity = trail->capacity ? trail->capacity * 2 : 65536;
		trail->text = realloc(trail->text, trail->capacity);
		if (!trail->text)
			abort();
	}
	memcpy(trail->text + trail->size, line, (size_t)size + 1);
	trail->size += (size_t)size;
	trail->records++;
	trail->bad += record->status != STATUS_OK;
	trail->late += record->late;
}

/* Answers one record: a prediction, or a dead letter. */
static UNUSED enum status answer(struct sink *sink, const struct record *record, struct error *error)
{
	struct candidate_score score = {.item_id = TEXT_LITERAL("i1"), .p_click = .5f};
	struct event event;

	if (record->status != STATUS_OK)
		event = (struct event){.type = RECORD_DEAD_LETTER,
				       .dead_letter = {.topic = text_of(topic_names_default.name[record->position.topic]),
						       .partition = record->position.partition,
						       .offset = record->position.offset, .stage = TEXT_LITERAL("test"),
						       .reason = text_of(record->reason), .error = record->error,
						       .key = record->key, .value = record->value}};
	else if (record->event.type == RECORD_IMPRESSION)
		event = (struct event){.type = RECORD_PREDICTION,
				       .prediction = {.impression_id = record->event.impression.impression_id,
						      .user_id = record->event.impression.user_id, .scores = &score,
						      .scores_count = 1, .model_id = TEXT_LITERAL("test"),
						      .event_time_ms = record->event.impression.event_time_ms}};
	else
		return STATUS_OK;
	return sink->class->write(sink, &event, record->traceparent, error);
}

/* Drops what is not committed and goes on from what is. */
static UNUSED void recover(struct source *source, struct sink *sink, struct trail *trail)
{
	struct error error = {0};
	enum status status;

	trail->retries++;
	must(sink->class->abort(sink, &error), &error);
	while ((status = source->class->resume_from_committed(source, &error)) == STATUS_RETRY)
		pause_ms(20);
	must(status, &error);
}

/* Polls once, answers everything, commits at cuts. False: nothing will follow. */
static UNUSED bool turn(struct source *source, struct sink *sink, struct arena *arena, size_t records_max,
			int64_t timeout_ms, struct trail *trail)
{
	struct source_batch batch;
	struct commit_offsets offsets;
	struct error error = {0};
	enum status status;

	arena_reset(arena);
	status = source->class->poll(source, records_max, timeout_ms, arena, &batch, &error);
	if (status == STATUS_RETRY) {
		pause_ms(10);
		return true;
	}
	must(status, &error);
	if (batch.revoked) {
		trail->revoked++;
		recover(source, sink, trail);
		return true;
	}
	trail->rewinds += batch.rewind;
	for (size_t i = 0; i < batch.count; i++) {
		trail_add(trail, &batch.records[i]);
		status = answer(sink, &batch.records[i], &error);
		if (status == STATUS_RETRY) {
			recover(source, sink, trail);
			return true;
		}
		must(status, &error);
		trail->predictions += batch.records[i].status == STATUS_OK &&
				      batch.records[i].event.type == RECORD_IMPRESSION;
		source->class->answered(source, batch.records[i].position);
	}
	if (batch.cut && batch.count) {
		must(source->class->offsets(source, &offsets, &error), &error);
		status = sink->class->commit(sink, &offsets, &error);
		if (status == STATUS_RETRY)
			recover(source, sink, trail);
		else
			must(status, &error);
	}
	if (batch.end) {
		status = sink->class->settle(sink, &error);
		if (status == STATUS_RETRY) {
			recover(source, sink, trail);
			return true;
		}
		must(status, &error);
	}
	return !batch.end;
}

static UNUSED void run_to_end(struct source *source, struct sink *sink, struct trail *trail)
{
	struct arena *arena = arena_create((size_t)256 << 20);
	struct error error = {0};
	int64_t oldest;

	ck_assert_ptr_nonnull(arena);
	must(source->class->join(source, &oldest, &error), &error);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	while (turn(source, sink, arena, 300, 200, trail))
		;
	arena_destroy(arena);
}

/* ---- an independent reader ---- */

struct messages {
	rd_kafka_message_t **list;
	size_t count, capacity;
	size_t per_partition[64];
	rd_kafka_t *client;             /* owns what the messages point into */
};

static UNUSED void messages_free(struct messages *messages)
{
	for (size_t i = 0; i < messages->count; i++)
		rd_kafka_message_destroy(messages->list[i]);
	free(messages->list);
	rd_kafka_consumer_close(messages->client);
	rd_kafka_destroy(messages->client);
	*messages = (struct messages){0};
}

/* Everything in the topic now, as a reader of this isolation level sees it. */
static UNUSED void read_all(const char *topic, int partitions, const char *isolation, struct messages *out)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
	char text[256];
	int ended = 0;
	rd_kafka_t *client;

	rd_kafka_conf_set(conf, "bootstrap.servers", brokers, text, sizeof(text));
	rd_kafka_conf_set(conf, "group.id", "reader", text, sizeof(text));
	rd_kafka_conf_set(conf, "enable.auto.commit", "false", text, sizeof(text));
	rd_kafka_conf_set(conf, "enable.partition.eof", "true", text, sizeof(text));
	rd_kafka_conf_set(conf, "fetch.wait.max.ms", "20", text, sizeof(text));
	rd_kafka_conf_set(conf, "isolation.level", isolation, text, sizeof(text));
	client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
	ck_assert_ptr_nonnull(client);
	rd_kafka_poll_set_consumer(client);
	for (int i = 0; i < partitions; i++)
		rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
	rd_kafka_assign(client, list);
	rd_kafka_topic_partition_list_destroy(list);
	*out = (struct messages){.client = client};
	while (ended < partitions) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(client, 10000);

		ck_assert_msg(message != NULL, "no answer from %s", topic);
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
			ended++;
		} else if (!message->err) {
			if (out->count == out->capacity) {
				out->capacity = out->capacity ? 2 * out->capacity : 1024;
				out->list = realloc(out->list, out->capacity * sizeof(*out->list));
				ck_assert_ptr_nonnull(out->list);
			}
			out->per_partition[message->partition % 64]++;
			out->list[out->count++] = message;
			continue;
		}
		rd_kafka_message_destroy(message);
	}
}

/* Every imp<0..count-1> has exactly one prediction. */
static UNUSED void check_answers(struct stream *stream, int partitions, int count)
{
	struct messages messages;
	struct arena *arena = arena_create(64 << 20);
	int *seen = calloc((size_t)count, sizeof(*seen)), missing = 0, twice = 0;

	ck_assert_ptr_nonnull(seen);
	read_all(stream->names.name[TOPIC_PREDICTIONS], partitions, "read_committed", &messages);
	for (size_t i = 0; i < messages.count; i++) {
		struct text_view value = {messages.list[i]->payload, messages.list[i]->len};
		struct error error = {0};
		struct event event;
		char id[64];

		arena_reset(arena);
		must(registry_decode(stream->registry, RECORD_PREDICTION, value, arena, &event, &error), &error);
		snprintf(id, sizeof(id), "%.*s", TEXT_ARGS(event.prediction.impression_id));
		ck_assert_int_eq(strncmp(id, "imp", 3), 0);
		ck_assert_int_lt(atoi(id + 3), count);
		seen[atoi(id + 3)]++;
	}
	for (int i = 0; i < count; i++) {
		missing += seen[i] == 0;
		twice += seen[i] > 1;
	}
	ck_assert_msg(missing == 0 && twice == 0, "of %d impressions %d have no answer and %d several", count, missing,
		      twice);
	free(seen);
	messages_free(&messages);
	arena_destroy(arena);
}

/* Each test is a case of its own, so that CK_RUN_CASE=name runs it alone. */
#define ADD_TEST(suite, test) add_test(suite, #test, test)
static UNUSED void add_test(Suite *suite, const char *name, const TTest *test)
{
	TCase *one = tcase_create(name);

	tcase_set_timeout(one, 120);
	tcase_add_test(one, test);
	suite_add_tcase(suite, one);
}

/* Runs the suite, or says "skipped" without a broker. */
static UNUSED int run_suite(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_set_fork_status(runner, CK_NOFORK);     /* clients do not survive a fork */
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static UNUSED bool have_broker(void)
{
	brokers = getenv("EXITPOLL_BROKERS");
	if (brokers && brokers[0])
		return true;
	printf("skipped: EXITPOLL_BROKERS names no broker (tests/integration/test_kafka_parts.sh starts one)\n");
	return false;
}

#endif
