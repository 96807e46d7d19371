/* Groups, going back, bounded memory and broken brokers, on a real broker. */
#include "tests/unit/kafka/kafka_fixture.h"

#include "consumer/kafka_state.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct worker {
	struct stream *stream;
	const char *name;
	pthread_t thread;
	atomic_bool stop, started;
	atomic_size_t answered;
	struct trail trail;
};

/* A live instance in a thread of its own: answers until it is told to stop. */
static void *work(void *argument)
{
	struct worker *worker = argument;
	struct source_kafka_options options = source_defaults(worker->stream, NULL);
	struct arena *arena = arena_create((size_t)256 << 20);
	struct error error = {0};
	struct source *source;
	struct sink *sink;
	int64_t oldest;
	char id[96];

	options.until_end = false;
	options.idle_ms = 5;
	snprintf(id, sizeof(id), "%s-%s", worker->stream->prefix, worker->name);
	sink = open_sink(worker->stream, id);
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	atomic_store(&worker->started, true);
	while (!atomic_load(&worker->stop)) {
		turn(source, sink, arena, 50, 50, &worker->trail);
		atomic_store(&worker->answered, worker->trail.predictions);
	}
	/* Leaves without a last commit: what it had in hand goes to the others. */
	source->class->destroy(source);
	sink->class->destroy(sink);
	arena_destroy(arena);
	return NULL;
}

static void begin(struct worker *worker, struct stream *stream, const char *name)
{
	worker->stream = stream;
	worker->name = name;
	ck_assert_int_eq(pthread_create(&worker->thread, NULL, work, worker), 0);
}

static void end(struct worker *worker)
{
	atomic_store(&worker->stop, true);
	pthread_join(worker->thread, NULL);
}

static void wait_answered(struct worker *worker, size_t count)
{
	for (int i = 0; i < 600 && atomic_load(&worker->answered) < count; i++)
		pause_ms(50);
	ck_assert_uint_ge(atomic_load(&worker->answered), count);
}

static void wait_predictions(struct stream *stream, int partitions, size_t count)
{
	size_t now = 0;

	for (int i = 0; i < 120 && now < count; i++) {
		struct messages messages;

		read_all(stream->names.name[TOPIC_PREDICTIONS], partitions, "read_committed", &messages);
		now = messages.count;
		messages_free(&messages);
		pause_ms(250);
	}
	ck_assert_uint_eq(now, count);
}

START_TEST(members_come_and_go)
{
	struct stream stream;
	struct worker first = {0}, second = {0};
	struct error error = {0};
	struct sink *sink;

	stream_open(&stream, 4);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 500);
	must(sink->class->settle(sink, &error), &error);
	begin(&first, &stream, "first");
	wait_answered(&first, 100);
	begin(&second, &stream, "second");
	put_mix(sink, 500, 500);
	must(sink->class->settle(sink, &error), &error);
	for (int i = 0; i < 300 && !atomic_load(&second.started); i++)
		pause_ms(50);
	for (int i = 1000; i < 2000; i += 100) {
		put_mix(sink, i, 100);
		must(sink->class->settle(sink, &error), &error);
		pause_ms(20);
	}
	wait_answered(&second, 20);
	end(&second);
	put_mix(sink, 2000, 500);
	must(sink->class->finish(sink, &error), &error);
	wait_predictions(&stream, 4, 2500);
	end(&first);
	ck_assert_uint_gt(first.trail.revoked, 0);
	check_answers(&stream, 4, 2500);
	trail_free(&first.trail);
	trail_free(&second.trail);
	sink->class->destroy(sink);
	stream_close(&stream);
}
END_TEST

START_TEST(same_instance_fences)
{
	struct stream stream;
	struct source_kafka_options options;
	struct arena *arena = arena_create((size_t)64 << 20);
	struct source_batch batch;
	struct error error = {0};
	struct source *first, *second;
	enum status status = STATUS_OK;
	int64_t oldest;

	stream_open(&stream, 2);
	options = source_defaults(&stream, "same");
	options.until_end = false;
	first = open_source(&options);
	must(first->class->join(first, &oldest, &error), &error);
	must(first->class->start(first, NULL, 0, INT64_MIN, &error), &error);
	second = open_source(&options);
	must(second->class->join(second, &oldest, &error), &error);
	for (int i = 0; i < 100 && status_class(status) != STATUS_CLASS_FATAL; i++) {
		arena_reset(arena);
		status = first->class->poll(first, 10, 100, arena, &batch, &error);
	}
	ck_assert_msg(status == STATUS_FENCED, "%s: %s", status_name(status), error.text);
	first->class->destroy(first);
	second->class->destroy(second);
	arena_destroy(arena);
	stream_close(&stream);
}
END_TEST

/* Records of different topics that arrive in the wrong order within idle_ms are given out in the right one,
 * and a silent topic holds them back no longer than that. */
START_TEST(live_waits_for_silent_partitions_a_little)
{
	struct stream stream;
	struct source_kafka_options options;
	struct arena *arena = arena_create((size_t)64 << 20);
	struct trail trail = {0};
	struct error error = {0};
	struct source_batch batch;
	struct source *source;
	struct sink *sink;
	int64_t oldest, begun, took_ms;

	stream_open(&stream, 3);
	sink = open_sink(&stream, NULL);
	options = source_defaults(&stream, "one");
	options.until_end = false;
	options.idle_ms = 300;
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	arena_reset(arena);
	must(source->class->poll(source, 10, 100, arena, &batch, &error), &error);
	ck_assert(!batch.backfill && batch.count == 0 && !batch.end);
	for (int round = 0; round < 3; round++) {
		begun = clock_steady_ns();
		put_impression(sink, "imp", "u", 1000 * round + 20);
		must(sink->class->settle(sink, &error), &error);
		pause_ms(50);
		put_interaction(sink, "u", "i", 1000 * round + 10);
		must(sink->class->settle(sink, &error), &error);
		for (int i = 0; i < 100 && trail.records < 2u * (unsigned)round + 2; i++) {
			arena_reset(arena);
			must(source->class->poll(source, 10, 100, arena, &batch, &error), &error);
			for (size_t k = 0; k < batch.count; k++)
				trail_add(&trail, &batch.records[k]);
		}
		took_ms = (clock_steady_ns() - begun) / 1000000;
		ck_assert_int_ge(took_ms, 300);
		ck_assert_int_lt(took_ms, 3000);
	}
	ck_assert_str_eq(trail.text, "10 2 u \n20 1 u imp\n1010 2 u \n1020 1 u imp\n2010 2 u \n2020 1 u imp\n");
	ck_assert_uint_eq(trail.late, 0);
	source->class->destroy(source);
	sink->class->destroy(sink);
	trail_free(&trail);
	arena_destroy(arena);
	stream_close(&stream);
}
END_TEST

/* After an abort the impressions come again, behind the clock; the caller is told, goes back to the start,
 * and sees the same order once more. */
START_TEST(goes_back_behind_the_clock)
{
	struct stream stream;
	struct source_kafka_options options;
	struct arena *arena = arena_create((size_t)64 << 20);
	struct trail first = {0}, again = {0};
	struct error error = {0};
	struct source_batch batch;
	struct source *source;
	struct sink *sink;
	int64_t oldest;
	bool rewound = false;

	stream_open(&stream, 3);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 300);
	must(sink->class->finish(sink, &error), &error);
	options = source_defaults(&stream, "one");
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	ck_assert_int_eq(oldest, 0);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	while (first.records < 300) {
		arena_reset(arena);
		must(source->class->poll(source, 100, 200, arena, &batch, &error), &error);
		for (size_t i = 0; i < batch.count; i++)
			trail_add(&first, &batch.records[i]);
	}
	ck_assert_int_eq(source->class->oldest_unanswered_ms(source), 0);
	must(source->class->resume_from_committed(source, &error), &error);
	for (int i = 0; i < 50 && !rewound; i++) {
		arena_reset(arena);
		must(source->class->poll(source, 100, 200, arena, &batch, &error), &error);
		rewound = batch.rewind;
		ck_assert_uint_eq(batch.count, 0);
	}
	ck_assert(rewound);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	do {
		arena_reset(arena);
		must(source->class->poll(source, 100, 200, arena, &batch, &error), &error);
		ck_assert(!batch.rewind);
		for (size_t i = 0; i < batch.count; i++)
			trail_add(&again, &batch.records[i]);
	} while (!batch.end);
	ck_assert_uint_eq(again.records, 660);
	ck_assert_uint_eq(again.late, 0);
	ck_assert_int_eq(strncmp(again.text, first.text, first.size), 0);
	source->class->destroy(source);
	sink->class->destroy(sink);
	trail_free(&first);
	trail_free(&again);
	arena_destroy(arena);
	stream_close(&stream);
}
END_TEST

/* One partition has much, another holds everything back by an open transaction: what is buffered stays
 * bounded, and when the transaction is over everything comes, in order. */
START_TEST(memory_stays_bounded)
{
	enum { RECORDS = 20000, TITLE = 2000, BUFFER = 4 << 20 };
	struct stream stream;
	struct source_kafka_options options;
	struct arena *arena = arena_create((size_t)256 << 20);
	struct error error = {0};
	struct source_batch batch;
	struct source *source;
	struct sink *sink, *open;
	char title[TITLE + 1], item[32];
	size_t peak = 0, records = 0, late = 0;
	int64_t oldest, begun;

	stream_open(&stream, 1);
	sink = open_sink(&stream, NULL);
	memset(title, 'x', TITLE);
	title[TITLE] = '\0';
	for (int i = 0; i < RECORDS; i++) {
		snprintf(item, sizeof(item), "i%d", i);
		put_item(sink, item, title, i);
	}
	open = open_sink(&stream, "open");
	put_interaction(open, "u", "i", RECORDS / 2);
	must(sink->class->finish(sink, &error), &error);
	for (int i = 0; i < 100; i++)
		pause_ms(2);
	options = source_defaults(&stream, "one");
	options.buffer_bytes_max = BUFFER;
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	for (int i = 0; i < 100; i++) {
		size_t bytes;

		arena_reset(arena);
		must(source->class->poll(source, 1000, 10, arena, &batch, &error), &error);
		ck_assert(batch.count == 0 && batch.backfill && !batch.end);
		bytes = merge_bytes(((struct source_kafka *)source)->merge);
		peak = bytes > peak ? bytes : peak;
	}
	/* A batch of messages may come on top before the partition is paused. */
	ck_assert_uint_ge(peak, BUFFER / 3);
	ck_assert_uint_le(peak, BUFFER + KAFKA_FETCH_MESSAGES * (TITLE + 200));
	must(open->class->commit(open, &(struct commit_offsets){0}, &error), &error);
	must(open->class->finish(open, &error), &error);
	begun = clock_steady_ns();
	do {
		arena_reset(arena);
		must(source->class->poll(source, 1000, 100, arena, &batch, &error), &error);
		for (size_t i = 0; i < batch.count; i++)
			late += batch.records[i].late;
		records += batch.count;
		ck_assert_uint_le(merge_bytes(((struct source_kafka *)source)->merge),
				  BUFFER + KAFKA_FETCH_MESSAGES * (TITLE + 200));
	} while (!batch.end);
	printf("bounded memory: peak %zu bytes for a bound of %d; %d records then took %lld ms\n", peak, BUFFER,
	       RECORDS, (long long)(clock_steady_ns() - begun) / 1000000);
	ck_assert_uint_eq(records, RECORDS + 1);
	ck_assert_uint_eq(late, 0);
	source->class->destroy(source);
	sink->class->destroy(sink);
	open->class->destroy(open);
	arena_destroy(arena);
	stream_close(&stream);
}
END_TEST

/* The broker is stopped and started again (in order, then by a crash) while the stream runs. */
START_TEST(broker_restarts)
{
	const char *commands[2] = {getenv("EXITPOLL_BROKER_RESTART"), getenv("EXITPOLL_BROKER_CRASH")};
	struct stream stream;
	struct worker worker = {0};
	struct error error = {0};
	struct sink *sink;

	if (!commands[0] || !commands[1]) {
		printf("skipped: EXITPOLL_BROKER_RESTART and EXITPOLL_BROKER_CRASH name no commands\n");
		return;
	}
	stream_open(&stream, 3);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 1000);
	must(sink->class->settle(sink, &error), &error);
	begin(&worker, &stream, "first");
	for (int i = 0; i < 2; i++) {
		wait_answered(&worker, 1000u * (unsigned)i + 100);
		ck_assert_int_eq(system(commands[i]), 0);
		put_mix(sink, 1000 * i + 1000, 1000);
		must(sink->class->settle(sink, &error), &error);
	}
	wait_predictions(&stream, 3, 3000);
	end(&worker);
	check_answers(&stream, 3, 3000);
	trail_free(&worker.trail);
	sink->class->destroy(sink);
	stream_close(&stream);
}
END_TEST

START_TEST(no_broker_is_said)
{
	struct stream stream;
	struct source_kafka_options options;
	struct sink_kafka_options output;
	struct kafka_setting typo = {"sesion.timeout.ms", "1"}, reserved = {"acks", "1"};
	struct kafka_setting secret = {"sasl.password", "very-secret-word"};
	struct error error = {0};
	struct source *source;
	struct sink *sink;
	int64_t oldest;

	stream_attach(&stream, "none");
	options = source_defaults(&stream, NULL);
	options.brokers = "127.0.0.1:1";
	options.join_timeout_ms = 1000;
	source = open_source(&options);
	ck_assert_int_eq(source->class->join(source, &oldest, &error), STATUS_UNAVAILABLE);
	ck_assert_ptr_nonnull(strstr(error.text, "127.0.0.1:1"));
	source->class->destroy(source);
	options.settings = &typo;
	options.settings_count = 1;
	ck_assert_int_eq(source_kafka_create(&options, &source, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "session.timeout.ms"));
	output = (struct sink_kafka_options){.brokers = "127.0.0.1:1", .topics = stream.names,
					     .transactional_id = "x", .record_bytes_max = 1000,
					     .registry = stream.registry, .settings = &reserved, .settings_count = 1};
	ck_assert_int_eq(sink_kafka_create(&output, &sink, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "kafka.acks"));
	/* A secret is in no text, whatever goes wrong with it. */
	secret.name = "ssl.key.password";
	options.settings = &secret;
	if (source_kafka_create(&options, &source, &error) == STATUS_OK)
		source->class->destroy(source);
	ck_assert_ptr_null(strstr(error.text, "very-secret-word"));
	stream_close(&stream);
}
END_TEST

int main(void)
{
	Suite *suite;

	if (!have_broker())
		return 77;
	suite = suite_create("group");
	ADD_TEST(suite, no_broker_is_said);
	ADD_TEST(suite, live_waits_for_silent_partitions_a_little);
	ADD_TEST(suite, goes_back_behind_the_clock);
	ADD_TEST(suite, memory_stays_bounded);
	ADD_TEST(suite, same_instance_fences);
	ADD_TEST(suite, members_come_and_go);
	ADD_TEST(suite, broker_restarts);
	return run_suite(suite);
}
