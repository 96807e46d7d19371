/* Exactly once, on a real broker: what is committed is visible once, what is not never is, whoever dies. */
#include "tests/unit/kafka/kafka_fixture.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static size_t count_messages(struct stream *stream, enum topic topic, int partitions, const char *isolation)
{
	struct messages messages;
	size_t count;

	read_all(stream->names.name[topic], partitions, isolation, &messages);
	count = messages.count;
	messages_free(&messages);
	return count;
}

START_TEST(visible_when_committed)
{
	struct stream stream;
	struct commit_offsets none = {0};
	struct error error = {0};
	struct sink *sink;

	stream_open(&stream, 1);
	sink = open_sink(&stream, stream.prefix);
	put_interaction(sink, "u", "i", 1);
	put_interaction(sink, "u", "i", 2);
	must(sink->class->commit(sink, &none, &error), &error);
	must(sink->class->settle(sink, &error), &error);
	ck_assert_uint_eq(sink->class->commits(sink), 1);
	ck_assert_int_gt(sink_kafka_commit_ns(sink), 0);
	ck_assert_uint_eq(count_messages(&stream, TOPIC_INTERACTIONS, 1, "read_committed"), 2);
	put_interaction(sink, "u", "i", 3);
	must(sink->class->abort(sink, &error), &error);
	put_interaction(sink, "u", "i", 4);
	must(sink->class->commit(sink, &none, &error), &error);
	put_interaction(sink, "u", "i", 5);
	must(sink->class->commit(sink, &none, &error), &error);
	must(sink->class->finish(sink, &error), &error);
	ck_assert_uint_eq(sink->class->commits(sink), 3);
	ck_assert_uint_eq(count_messages(&stream, TOPIC_INTERACTIONS, 1, "read_committed"), 4);
	put_interaction(sink, "u", "i", 6);     /* never committed */
	sink->class->destroy(sink);
	ck_assert_uint_eq(count_messages(&stream, TOPIC_INTERACTIONS, 1, "read_committed"), 4);
	stream_close(&stream);
}
END_TEST

START_TEST(input_becomes_output_once)
{
	struct stream stream;
	struct source_kafka_options options;
	struct commit_offsets none = {0};
	struct error error = {0};
	struct trail trail = {0};
	struct source *source;
	struct sink *sink;

	stream_open(&stream, 3);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 1000);
	must(sink->class->commit(sink, &none, &error), &error);
	sink->class->destroy(sink);
	for (int run = 0; run < 2; run++) {
		options = source_defaults(&stream, "one");
		sink = open_sink(&stream, stream.prefix);
		source = open_source(&options);
		run_to_end(source, sink, &trail);
		source->class->destroy(source);
		sink->class->destroy(sink);
		/* The second run finds nothing to answer. */
		check_answers(&stream, 3, 1000);
		ck_assert_uint_eq(trail.late, 0);
		trail_free(&trail);
	}
	stream_close(&stream);
}
END_TEST

START_TEST(fenced_by_a_successor)
{
	struct stream stream;
	struct commit_offsets none = {0};
	struct error error = {0};
	struct sink *first, *second;
	enum status status;

	stream_open(&stream, 1);
	first = open_sink(&stream, stream.prefix);
	put_interaction(first, "u", "i", 1);
	second = open_sink(&stream, stream.prefix);
	put_interaction(second, "u", "i", 2);
	must(second->class->commit(second, &none, &error), &error);
	must(second->class->settle(second, &error), &error);
	status = first->class->commit(first, &none, &error);
	if (status == STATUS_OK)
		status = first->class->settle(first, &error);
	ck_assert_msg(status == STATUS_FENCED, "%s: %s", status_name(status), error.text);
	first->class->destroy(first);
	second->class->destroy(second);
	ck_assert_uint_eq(count_messages(&stream, TOPIC_INTERACTIONS, 1, "read_committed"), 1);
	stream_close(&stream);
}
END_TEST

/* A process that dies without a word after `limit` predictions: a commit may be under way, and the next
 * transaction holds a prediction that nobody may ever see. */
static void child(const char *prefix, size_t limit)
{
	struct stream stream;
	struct source_kafka_options options;
	struct arena *arena = arena_create((size_t)256 << 20);
	struct trail trail = {0};
	struct error error = {0};
	struct source *source;
	struct sink *sink;
	int64_t oldest;

	in_child = true;
	stream_attach(&stream, prefix);
	options = source_defaults(&stream, "one");
	sink = open_sink(&stream, prefix);
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	while (trail.predictions < limit)
		if (!turn(source, sink, arena, 100, 200, &trail))
			_exit(3);
	put_event(sink, &(struct event){.type = RECORD_PREDICTION,
					.prediction = {.impression_id = TEXT_LITERAL("imp999999"),
						       .user_id = TEXT_LITERAL("u"),
						       .model_id = TEXT_LITERAL("test")}});
	kill(getpid(), SIGKILL);
}

START_TEST(killed_and_resumed)
{
	struct stream stream;
	struct source_kafka_options options;
	struct commit_offsets none = {0};
	struct error error = {0};
	struct trail trail = {0};
	struct source *source;
	struct sink *sink;
	char limit[16];

	stream_open(&stream, 3);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 2000);
	must(sink->class->commit(sink, &none, &error), &error);
	sink->class->destroy(sink);
	for (int life = 1; life <= 3; life++) {
		pid_t pid;
		int result = 0;

		snprintf(limit, sizeof(limit), "%d", 400 + 10 * life);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			execl("/proc/self/exe", "child", "child", stream.prefix, limit, (char *)NULL);
			_exit(4);
		}
		ck_assert_int_eq(waitpid(pid, &result, 0), pid);
		ck_assert_msg(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL, "the child ended with %x", result);
	}
	options = source_defaults(&stream, "one");
	sink = open_sink(&stream, stream.prefix);
	source = open_source(&options);
	run_to_end(source, sink, &trail);
	source->class->destroy(source);
	sink->class->destroy(sink);
	check_answers(&stream, 3, 2000);
	trail_free(&trail);
	stream_close(&stream);
}
END_TEST

/* A transaction that outlives its time-out is aborted by the broker; the caller is told to go on again. */
START_TEST(too_slow_for_a_transaction)
{
	struct stream stream;
	struct sink_kafka_options options;
	struct commit_offsets none = {0};
	struct error error = {0};
	struct sink *sink = NULL;
	enum status status;

	stream_open(&stream, 1);
	options = (struct sink_kafka_options){.brokers = brokers, .topics = stream.names,
					      .transactional_id = stream.prefix, .record_bytes_max = 1 << 20,
					      .transaction_timeout_ms = 1000, .registry = stream.registry};
	must(sink_kafka_create(&options, &sink, &error), &error);
	put_interaction(sink, "u", "i", 1);
	pause_ms(12500);                /* the broker looks for expired ones every ten seconds */
	status = sink->class->commit(sink, &none, &error);
	if (status == STATUS_OK)
		status = sink->class->settle(sink, &error);
	ck_assert_msg(status == STATUS_RETRY, "%s: %s", status_name(status), error.text);
	put_interaction(sink, "u", "i", 2);
	must(sink->class->commit(sink, &none, &error), &error);
	must(sink->class->finish(sink, &error), &error);
	sink->class->destroy(sink);
	ck_assert_uint_eq(count_messages(&stream, TOPIC_INTERACTIONS, 1, "read_committed"), 1);
	stream_close(&stream);
}
END_TEST

START_TEST(at_least_once_commits_through_the_source)
{
	struct stream stream;
	struct source_kafka_options options;
	struct commit_offsets none = {0}, offsets;
	struct error error = {0};
	struct arena *arena = arena_create((size_t)64 << 20);
	struct source *source;
	struct source_batch batch;
	struct sink *sink;
	int64_t oldest;
	size_t answered = 0;

	stream_open(&stream, 2);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 300);
	must(sink->class->commit(sink, &none, &error), &error);
	for (int run = 0; run < 2; run++) {
		options = source_defaults(&stream, "one");
		source = open_source(&options);
		must(source->class->join(source, &oldest, &error), &error);
		must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
		do {
			arena_reset(arena);
			must(source->class->poll(source, 500, 200, arena, &batch, &error), &error);
			for (size_t i = 0; i < batch.count; i++) {
				answered += batch.records[i].position.topic == TOPIC_IMPRESSIONS;
				must(answer(sink, &batch.records[i], &error), &error);
				source->class->answered(source, batch.records[i].position);
			}
			if (batch.cut) {
				must(source->class->offsets(source, &offsets, &error), &error);
				must(sink->class->commit(sink, &offsets, &error), &error);
				must(source->class->commit(source, &error), &error);
			}
		} while (!batch.end);
		source->class->destroy(source);
	}
	ck_assert_uint_eq(answered, 300);
	sink->class->destroy(sink);
	check_answers(&stream, 2, 300);
	arena_destroy(arena);
	stream_close(&stream);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite;

	if (!have_broker())
		return 77;
	suite = suite_create("exactly once");
	if (argc == 4 && strcmp(argv[1], "child") == 0) {
		child(argv[2], strtoul(argv[3], NULL, 10));
		return 5;
	}
	ADD_TEST(suite, visible_when_committed);
	ADD_TEST(suite, input_becomes_output_once);
	ADD_TEST(suite, fenced_by_a_successor);
	ADD_TEST(suite, killed_and_resumed);
	ADD_TEST(suite, too_slow_for_a_transaction);
	ADD_TEST(suite, at_least_once_commits_through_the_source);
	return run_suite(suite);
}
