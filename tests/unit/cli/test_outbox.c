/* Outputs enter a transaction only when their partition is answered up to there: scripted source and sink. */
#include "ops/cli/outbox.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <string.h>

struct scripted_source {
	struct source source;
	struct position prefix[4];
	size_t prefix_count;
	size_t answered, committed_calls;
	int64_t committed_offset;
};

struct scripted_sink {
	struct sink sink;
	char written[64][32];
	size_t count, commits, settles;
	struct position offsets[4];
	size_t offsets_count;
	enum status next_commit;
};

static void answered(struct source *source, struct position position)
{
	(void)position;
	((struct scripted_source *)source)->answered++;
}

static enum status offsets(struct source *source, struct commit_offsets *out, struct error *error)
{
	struct scripted_source *scripted = (struct scripted_source *)source;
	(void)error;
	*out = (struct commit_offsets){scripted->prefix, scripted->prefix_count, scripted};
	return STATUS_OK;
}

static void committed(struct source *source, const struct commit_offsets *known)
{
	struct scripted_source *scripted = (struct scripted_source *)source;
	scripted->committed_calls++;
	scripted->committed_offset = known->positions[0].offset;
}

static enum status write_event(struct sink *sink, const struct event *event, struct text_view traceparent,
			       struct error *error)
{
	struct scripted_sink *scripted = (struct scripted_sink *)sink;
	(void)traceparent;
	(void)error;
	snprintf(scripted->written[scripted->count++], 32, "%.*s", TEXT_ARGS(event->prediction.impression_id));
	return STATUS_OK;
}

static enum status begin_commit(struct sink *sink, const struct commit_offsets *given, struct error *error)
{
	struct scripted_sink *scripted = (struct scripted_sink *)sink;
	if (scripted->next_commit != STATUS_OK)
		return error_set(error, scripted->next_commit, "scripted");
	scripted->commits++;
	scripted->offsets_count = given->count;
	memcpy(scripted->offsets, given->positions, given->count * sizeof *given->positions);
	return STATUS_OK;
}

static enum status settle(struct sink *sink, struct error *error)
{
	(void)error;
	((struct scripted_sink *)sink)->settles++;
	return STATUS_OK;
}

static const struct source_class kafka_like = {.name = "kafka", .commits = true, .answered = answered,
					       .offsets = offsets,
					       .committed = committed};
static const struct source_class file_like = {.name = "file", .answered = answered, .offsets = offsets,
					      .committed = committed};
static const struct sink_class sink_class = {.name = "scripted", .write = write_event, .commit = begin_commit,
					     .settle = settle};

static struct scripted_source source;
static struct scripted_sink sink;
static struct outbox *outbox;
static struct error error;

static void setup(void)
{
	memset(&source, 0, sizeof source);
	memset(&sink, 0, sizeof sink);
	source.source.class = &kafka_like;
	sink.sink.class = &sink_class;
	outbox = outbox_create(&source.source, &sink.sink, 1000, false);
	ck_assert_ptr_nonnull(outbox);
}

static void teardown(void)
{
	outbox_destroy(outbox);
}

static void answer(int32_t partition, int64_t offset, const char *id)
{
	char copy[32];
	snprintf(copy, sizeof copy, "%s", id);
	struct event event = {.type = RECORD_PREDICTION, .prediction = {.impression_id = text_of(copy)}};
	struct position position = {TOPIC_IMPRESSIONS, partition, offset};
	ck_assert_int_eq(outbox_answer(outbox, position, &event, (struct text_view){0}, &error), STATUS_OK);
	/* The outbox must have copied it. */
	memset(copy, '#', sizeof copy);
}

static void prefix(int32_t partition, int64_t next)
{
	source.prefix[0] = (struct position){TOPIC_IMPRESSIONS, partition, next};
	source.prefix_count = 1;
}

START_TEST(what_is_beyond_the_prefix_waits)
{
	answer(0, 6, "six");            /* 5 has the same time and a later key: not answered yet */
	source.prefix_count = 0;
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	ck_assert_uint_eq(sink.count, 0);
	ck_assert_uint_eq(source.answered, 1);
	answer(0, 5, "five");
	answer(1, 9, "nine");
	prefix(0, 7);
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	ck_assert_uint_eq(sink.count, 2);
	ck_assert_str_eq(sink.written[0], "six");
	ck_assert_str_eq(sink.written[1], "five");
	prefix(1, 10);
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	ck_assert_str_eq(sink.written[2], "nine");
}
END_TEST

START_TEST(a_commit_is_known_when_the_next_has_begun)
{
	answer(0, 0, "a");
	prefix(0, 1);
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	ck_assert_int_eq(outbox_commit_if_due(outbox, true, &error), STATUS_OK);
	ck_assert_uint_eq(sink.commits, 1);
	ck_assert_int_eq(sink.offsets[0].offset, 1);
	ck_assert_uint_eq(source.committed_calls, 0);
	answer(0, 1, "b");
	prefix(0, 2);
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	ck_assert_int_eq(outbox_commit_if_due(outbox, true, &error), STATUS_OK);
	ck_assert_uint_eq(source.committed_calls, 1);
	ck_assert_int_eq(source.committed_offset, 1);
	ck_assert_int_eq(outbox_settle(outbox, &error), STATUS_OK);
	ck_assert_int_eq(source.committed_offset, 2);
}
END_TEST

START_TEST(a_commit_takes_along_what_it_claims)
{
	answer(0, 0, "a");
	prefix(0, 1);
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	/* "b" is answered, so that the prefix goes beyond it, but nobody has released it. */
	answer(0, 1, "b");
	prefix(0, 2);
	ck_assert_int_eq(outbox_commit_if_due(outbox, true, &error), STATUS_OK);
	ck_assert_int_eq(sink.offsets[0].offset, 2);
	ck_assert_uint_eq(sink.count, 2);
}
END_TEST

START_TEST(a_failed_commit_is_an_abort)
{
	answer(0, 0, "a");
	prefix(0, 1);
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	sink.next_commit = STATUS_RETRY;
	ck_assert(!outbox_aborted(outbox));
	ck_assert_int_eq(outbox_commit_if_due(outbox, true, &error), STATUS_RETRY);
	ck_assert(outbox_aborted(outbox));
	ck_assert_uint_eq(source.committed_calls, 0);
	outbox_clear(outbox);
	ck_assert(!outbox_aborted(outbox));
}
END_TEST

START_TEST(nothing_written_nothing_due)
{
	ck_assert_int_eq(outbox_poll_ms(outbox, 100), 100);
	ck_assert_int_eq(outbox_commit_if_due(outbox, true, &error), STATUS_OK);
	ck_assert_uint_eq(sink.commits, 0);
	answer(0, 0, "a");
	prefix(0, 1);
	ck_assert_int_eq(outbox_release(outbox, &error), STATUS_OK);
	ck_assert_int_eq(outbox_commit_if_due(outbox, false, &error), STATUS_OK);
	ck_assert_uint_eq(sink.commits, 0);     /* 1,000 ms are not over */
}
END_TEST

START_TEST(files_are_written_at_once)
{
	source.source.class = &file_like;
	struct outbox *files = outbox_create(&source.source, &sink.sink, 1000, false);
	struct event event = {.type = RECORD_PREDICTION, .prediction = {.impression_id = TEXT_LITERAL("x")}};
	ck_assert_int_eq(outbox_answer(files, (struct position){TOPIC_IMPRESSIONS, 0, 3}, &event,
				       (struct text_view){0}, &error), STATUS_OK);
	ck_assert_uint_eq(sink.count, 1);
	outbox_destroy(files);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("outbox");
	TCase *tests = tcase_create("all");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, what_is_beyond_the_prefix_waits);
	tcase_add_test(tests, a_commit_is_known_when_the_next_has_begun);
	tcase_add_test(tests, a_commit_takes_along_what_it_claims);
	tcase_add_test(tests, a_failed_commit_is_an_abort);
	tcase_add_test(tests, nothing_written_nothing_due);
	tcase_add_test(tests, files_are_written_at_once);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
