/* What a Kafka source gives out, on a real broker: one order for any number of partitions, exact ends,
 * deletions, and records that cannot be read. */
#include "tests/unit/kafka/kafka_fixture.h"

#include "consumer/merge.h"

#include <string.h>

static void run(struct stream *stream, const struct source_kafka_options *options, struct trail *trail)
{
	struct source *source;
	struct sink *sink = open_sink(stream, stream->prefix);

	source = open_source(options);
	run_to_end(source, sink, trail);
	source->class->destroy(source);
	sink->class->destroy(sink);
}

/* The lines of a trail must be sorted by time, then topic, then key. */
static void check_sorted(const struct trail *trail)
{
	long long before_time = INT64_MIN;
	int before_topic = 0;
	char before_key[64] = "";

	for (const char *line = trail->text; line && *line; line = strchr(line, '\n') + 1) {
		long long time;
		char key[64];
		int topic;

		ck_assert_int_eq(sscanf(line, "%lld %d %63s", &time, &topic, key), 3);
		ck_assert(time > before_time || (time == before_time && topic > before_topic) ||
			  (time == before_time && topic == before_topic && strcmp(key, before_key) >= 0));
		before_time = time;
		before_topic = topic;
		snprintf(before_key, sizeof(before_key), "%s", key);
	}
}

START_TEST(same_order_for_any_number_of_partitions)
{
	static const int counts[] = {1, 3, 8};
	struct trail trails[3] = {{0}};

	for (int i = 0; i < 3; i++) {
		struct stream stream;
		struct source_kafka_options options;
		struct error error = {0};
		struct sink *sink;

		stream_open(&stream, counts[i]);
		sink = open_sink(&stream, NULL);
		put_mix(sink, 0, 3000);
		/* Several of one time, keyed against the order in which they are written. */
		for (int k = 50; k-- > 0;) {
			char user[16];

			snprintf(user, sizeof(user), "v%02d", k);
			put_interaction(sink, user, "i1", 40000);
			put_impression(sink, user, user, 40000);
		}
		must(sink->class->finish(sink, &error), &error);
		sink->class->destroy(sink);
		options = source_defaults(&stream, "one");
		run(&stream, &options, &trails[i]);
		ck_assert_uint_eq(trails[i].records, 3000 * 2 + 600 + 100);
		ck_assert_uint_eq(trails[i].late, 0);
		check_sorted(&trails[i]);
		stream_close(&stream);
	}
	ck_assert_str_eq(trails[0].text, trails[1].text);
	ck_assert_str_eq(trails[0].text, trails[2].text);
	for (int i = 0; i < 3; i++)
		trail_free(&trails[i]);
}
END_TEST

/* The last thing in the partitions are control records, aborted records, and records written later. */
START_TEST(end_behind_aborted_and_control_records)
{
	struct stream stream;
	struct source_kafka_options options;
	struct commit_offsets none = {0};
	struct error error = {0};
	struct trail trail = {0};
	struct source *source;
	struct sink *sink, *output;
	struct arena *arena = arena_create((size_t)64 << 20);
	int64_t oldest;

	stream_open(&stream, 2);
	sink = open_sink(&stream, "feeder");
	put_mix(sink, 0, 200);
	must(sink->class->commit(sink, &none, &error), &error);
	must(sink->class->settle(sink, &error), &error);
	put_mix(sink, 200, 100);
	must(sink->class->abort(sink, &error), &error);
	options = source_defaults(&stream, "one");
	output = open_sink(&stream, stream.prefix);
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	ck_assert_int_eq(oldest, 0);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	/* Not part of this run: it came after the start. */
	put_mix(sink, 300, 100);
	must(sink->class->commit(sink, &none, &error), &error);
	must(sink->class->settle(sink, &error), &error);
	while (turn(source, output, arena, 50, 100, &trail))
		;
	ck_assert_uint_eq(trail.records, 200 * 2 + 40);
	check_answers(&stream, 2, 200);
	source->class->destroy(source);
	trail_free(&trail);
	/* The next run takes exactly the rest, though a transaction is open at its start. */
	put_mix(sink, 400, 50);
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	must(source->class->start(source, NULL, 0, INT64_MIN, &error), &error);
	for (int i = 0; i < 20; i++)
		ck_assert(turn(source, output, arena, 50, 50, &trail));
	must(sink->class->commit(sink, &none, &error), &error);
	while (turn(source, output, arena, 50, 100, &trail))
		;
	ck_assert_uint_eq(trail.records, 350 * 2 + 70 - 200);   /* the graph from the start, the rest of the group */
	source->class->destroy(source);
	output->class->destroy(output);
	sink->class->destroy(sink);
	trail_free(&trail);
	arena_destroy(arena);
	stream_close(&stream);
}
END_TEST

START_TEST(empty_topics_end_at_once)
{
	struct stream stream;
	struct source_kafka_options options;
	struct trail trail = {0};

	stream_open(&stream, 3);
	options = source_defaults(&stream, "one");
	run(&stream, &options, &trail);
	ck_assert_uint_eq(trail.records, 0);
	stream_close(&stream);
}
END_TEST

START_TEST(null_items_are_deletions)
{
	struct stream stream;
	struct source_kafka_options options;
	struct error error = {0};
	struct trail trail = {0};
	struct sink *sink;

	stream_open(&stream, 2);
	sink = open_sink(&stream, NULL);
	put_item(sink, "a", "title", 1000);
	put_item(sink, "a", NULL, 2000);
	put_item(sink, "b", "title", 3000);
	must(sink->class->finish(sink, &error), &error);
	sink->class->destroy(sink);
	options = source_defaults(&stream, "one");
	run(&stream, &options, &trail);
	ck_assert_str_eq(trail.text, "1000 0 a \n2000 0 a deleted\n3000 0 b \n");
	trail_free(&trail);
	stream_close(&stream);
}
END_TEST

static bool header_is(rd_kafka_message_t *message, const char *name, const char *wanted)
{
	rd_kafka_headers_t *headers;
	const void *value;
	size_t size;

	return rd_kafka_message_headers(message, &headers) == 0 &&
	       rd_kafka_header_get_last(headers, name, &value, &size) == 0 && size == strlen(wanted) &&
	       memcmp(value, wanted, size) == 0;
}

START_TEST(poison_ends_in_dead_letters)
{
	static const char not_framed[] = "hello", unknown[] = "\0\0\0\x03\xe8xyz", cut[] = "\0\0\0\0\2\x08";
	static const struct { const char *bytes; size_t size; const char *reason; } poison[] = {
		{not_framed, sizeof(not_framed) - 1, "undecodable"},
		{unknown, sizeof(unknown) - 1, "unknown-schema"},
		{cut, sizeof(cut) - 1, "undecodable"},
		{NULL, 0, "null-value"},
		{"", 0, "undecodable"},
	};
	enum { KINDS = sizeof(poison) / sizeof(poison[0]) };
	struct stream stream;
	struct source_kafka_options options;
	struct error error = {0};
	struct trail trail = {0};
	struct messages letters;
	struct sink *sink;
	bool seen[KINDS] = {false};

	stream_open(&stream, 1);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 100);
	must(sink->class->commit(sink, &(struct commit_offsets){0}, &error), &error);
	for (int i = 0; i < KINDS; i++)
		put_raw(stream.names.name[TOPIC_IMPRESSIONS], 0, "key", 3, poison[i].bytes, poison[i].size);
	put_impression(sink, "", "u", 2000);            /* malformed: no id */
	put_mix(sink, 100, 100);
	must(sink->class->finish(sink, &error), &error);
	sink->class->destroy(sink);
	options = source_defaults(&stream, "one");
	run(&stream, &options, &trail);
	ck_assert_uint_eq(trail.bad, KINDS + 1);
	check_answers(&stream, 1, 200);
	read_all(stream.names.name[TOPIC_DEAD_LETTERS], 1, "read_committed", &letters);
	ck_assert_uint_eq(letters.count, KINDS + 1);
	for (size_t i = 0; i < letters.count; i++) {
		rd_kafka_message_t *letter = letters.list[i];

		ck_assert(header_is(letter, "exitpoll.topic", "impressions"));
		ck_assert(header_is(letter, "exitpoll.partition", "0"));
		ck_assert(header_is(letter, "exitpoll.stage", "test"));
		for (int k = 0; k < KINDS; k++)
			if (letter->len == poison[k].size && (letter->payload != NULL) == (poison[k].bytes != NULL) &&
			    (letter->len == 0 || memcmp(letter->payload, poison[k].bytes, letter->len) == 0)) {
				ck_assert(header_is(letter, "exitpoll.reason", poison[k].reason));
				ck_assert_uint_eq(letter->key_len, 3);
				seen[k] = true;
			}
	}
	for (int k = 0; k < KINDS; k++)
		ck_assert_msg(seen[k], "poison %d has no dead letter", k);
	messages_free(&letters);
	trail_free(&trail);
	stream_close(&stream);
}
END_TEST

/* Positions of a cut, given to start, continue the order where it was left. */
START_TEST(positions_go_on_where_they_were_taken)
{
	struct stream stream;
	struct source_kafka_options options;
	struct error error = {0};
	struct trail whole = {0}, halves = {0};
	struct arena *arena = arena_create((size_t)64 << 20);
	struct position saved[64];
	char another[64];
	const struct position *positions;
	size_t count = 0;
	struct sink *sink;
	int64_t oldest, clock = INT64_MIN;

	stream_open(&stream, 3);
	sink = open_sink(&stream, NULL);
	put_mix(sink, 0, 500);
	must(sink->class->finish(sink, &error), &error);
	sink->class->destroy(sink);
	options = source_defaults(&stream, "one");
	sink = open_sink(&stream, stream.prefix);
	for (int half = 0; half < 2; half++) {
		struct source *source = open_source(&options);
		struct source_batch batch = {0};
		struct commit_offsets offsets;
		bool enough = false;

		must(source->class->join(source, &oldest, &error), &error);
		must(source->class->start(source, half ? saved : NULL, count, clock, &error), &error);
		while (!enough && !batch.end) {
			arena_reset(arena);
			must(source->class->poll(source, 60, 200, arena, &batch, &error), &error);
			for (size_t i = 0; i < batch.count; i++) {
				trail_add(&halves, &batch.records[i]);
				must(answer(sink, &batch.records[i], &error), &error);
				source->class->answered(source, batch.records[i].position);
				clock = event_time_ms(&batch.records[i].event);
			}
			enough = half == 0 && batch.cut && halves.records > 550;
		}
		must(source->class->offsets(source, &offsets, &error), &error);
		must(sink->class->commit(sink, &offsets, &error), &error);
		/* The offsets are sent in the name of this member: it must not be replaced before. */
		must(sink->class->settle(sink, &error), &error);
		must(source->class->positions(source, &positions, &count, &error), &error);
		ck_assert_uint_eq(count, 6);
		memcpy(saved, positions, count * sizeof(*saved));
		source->class->destroy(source);
	}
	must(sink->class->finish(sink, &error), &error);
	sink->class->destroy(sink);
	check_answers(&stream, 3, 500);
	snprintf(another, sizeof(another), "%s-another", stream.prefix);
	options.group_id = another;
	run(&stream, &options, &whole);
	ck_assert_uint_eq(halves.late, 0);
	ck_assert_str_eq(whole.text, halves.text);
	trail_free(&whole);
	trail_free(&halves);
	arena_destroy(arena);
	stream_close(&stream);
}
END_TEST

START_TEST(topics_say_what_differs)
{
	struct stream stream;
	struct topics_options options = {.brokers = brokers, .partitions = 4, .record_bytes_max = 1 << 20};
	struct topic_findings findings;
	struct error error = {0};
	bool seen[3] = {false};
	char missing[64];

	stream_open(&stream, 3);
	snprintf(missing, sizeof(missing), "%s-missing", stream.prefix);
	options.topics = stream.names;
	for (unsigned i = 0; i < TOPICS; i++)
		options.wanted[i] = true;
	options.partitions = 3;
	must(topics_check(&options, &findings, &error), &error);
	ck_assert_uint_eq(findings.wrong, 0);
	ck_assert_uint_eq(findings.count, TOPICS);
	/* Items and interactions exchanged, bigger records, another number of partitions, one that is not there. */
	options.topics.name[TOPIC_ITEMS] = stream.names.name[TOPIC_INTERACTIONS];
	options.topics.name[TOPIC_IMPRESSIONS] = missing;
	options.record_bytes_max = 2 << 20;
	options.partitions = 5;
	must(topics_check(&options, &findings, &error), &error);
	for (size_t i = 0; i < findings.count; i++) {
		const struct topic_finding *finding = &findings.findings[i];

		seen[0] |= finding->topic == TOPIC_ITEMS && strcmp(finding->setting, "cleanup.policy") == 0 &&
			   strcmp(finding->wanted, "compact") == 0 && strcmp(finding->actual, "delete") == 0;
		seen[1] |= finding->topic == TOPIC_IMPRESSIONS && finding->kind == TOPIC_FINDING_MISSING;
		seen[2] |= finding->topic == TOPIC_PREDICTIONS && strcmp(finding->setting, "partitions") == 0;
	}
	ck_assert(seen[0] && seen[1] && seen[2]);
	ck_assert_uint_ge(findings.wrong, 2 + TOPICS - 1);
	must(topics_create(&options, &findings, &error), &error);
	ck_assert_int_eq(findings.findings[0].kind, TOPIC_FINDING_EXISTS);
	stream_close(&stream);
}
END_TEST

START_TEST(missing_topic_and_lost_offsets_are_errors)
{
	struct stream stream, other;
	struct source_kafka_options options;
	struct error error = {0};
	struct position beyond = {TOPIC_ITEMS, 0, 12345};
	struct source *source;
	int64_t oldest;

	stream_open(&stream, 1);
	stream_attach(&other, "nowhere");
	options = source_defaults(&other, NULL);
	source = open_source(&options);
	ck_assert_int_eq(source->class->join(source, &oldest, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "nowhere-impressions"));
	source->class->destroy(source);
	options = source_defaults(&stream, NULL);
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	ck_assert_int_eq(oldest, INT64_MAX);
	ck_assert_int_eq(source->class->start(source, &beyond, 1, 5, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "state.offset.policy"));
	source->class->destroy(source);
	options.offset_policy = "earliest";
	source = open_source(&options);
	must(source->class->join(source, &oldest, &error), &error);
	must(source->class->start(source, &beyond, 1, 5, &error), &error);
	source->class->destroy(source);
	stream_close(&stream);
	stream_close(&other);
}
END_TEST

int main(void)
{
	Suite *suite;

	if (!have_broker())
		return 77;
	suite = suite_create("order");
	ADD_TEST(suite, same_order_for_any_number_of_partitions);
	ADD_TEST(suite, end_behind_aborted_and_control_records);
	ADD_TEST(suite, empty_topics_end_at_once);
	ADD_TEST(suite, null_items_are_deletions);
	ADD_TEST(suite, poison_ends_in_dead_letters);
	ADD_TEST(suite, positions_go_on_where_they_were_taken);
	ADD_TEST(suite, topics_say_what_differs);
	ADD_TEST(suite, missing_topic_and_lost_offsets_are_errors);
	return run_suite(suite);
}
