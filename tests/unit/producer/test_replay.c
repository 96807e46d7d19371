/* test_replay.c - pace, commits, stopping and going on, over a sink that counts. */
#include "producer/replay.h"

#include "base/clock.h"
#include "tests/check_run.h"

#include <stdlib.h>

struct counting_sink {
	struct sink base;
	uint64_t written;
	uint64_t committed;
	uint64_t commits;
	int64_t last_ms;
	enum status commit_status;
};

static enum status write_event(struct sink *base, const struct event *event, struct text_view traceparent,
			       struct error *error)
{
	struct counting_sink *sink = (struct counting_sink *)base;
	(void)traceparent;
	if (event->interaction.user_id.size == 3)
		return error_set(error, STATUS_LIMIT, "too large");
	sink->written++;
	sink->last_ms = event->interaction.event_time_ms;
	return STATUS_OK;
}

static enum status commit(struct sink *base, const struct commit_offsets *offsets, struct error *error)
{
	struct counting_sink *sink = (struct counting_sink *)base;
	ck_assert_uint_eq(offsets->count, 0);
	if (sink->commit_status != STATUS_OK)
		return error_set(error, sink->commit_status, "no commit");
	sink->committed = sink->written;
	sink->commits++;
	return STATUS_OK;
}

static enum status settle(struct sink *base, struct error *error)
{
	(void)base;
	(void)error;
	return STATUS_OK;
}

static const struct sink_class counting_class = {
	.name = "counting", .write = write_event, .commit = commit, .settle = settle};

struct input {
	struct event event;
	int64_t step_ms;
	uint64_t count;
	uint64_t next;
	uint64_t unusable;      /* every so many; 0: none */
	uint64_t broken_at;     /* 0: never */
};

static enum status next_event(void *context, struct replay_event *out, bool *end, struct error *error)
{
	struct input *input = context;
	if (input->broken_at && input->next == input->broken_at)
		return error_set(error, STATUS_CORRUPT, "cut file");
	if (input->next == input->count) {
		*end = true;
		return STATUS_OK;
	}
	input->event.interaction.event_time_ms = 1000 + (int64_t)input->next++ * input->step_ms;
	out->event = input->unusable && input->next % input->unusable == 0 ? NULL : &input->event;
	return STATUS_OK;
}

static struct counting_sink sink;
static struct input input;
static struct replay_options options;
static struct replay_summary summary;
static struct error error;

static void setup(void)
{
	sink = (struct counting_sink){.base = {&counting_class}};
	input = (struct input){.event = {.type = RECORD_INTERACTION,
					 .interaction = {.user_id = TEXT_LITERAL("u")}},
			       .step_ms = 10,
			       .count = 1000};
	options = (struct replay_options){.next = next_event, .context = &input, .sink = &sink.base};
}

static double run(enum status expected)
{
	int64_t begun = clock_steady_ns();
	ck_assert_int_eq(replay_run(&options, &summary, &error), expected);
	return (double)(clock_steady_ns() - begun) / 1e9;
}

START_TEST(at_full_speed)
{
	options.commit_events = 300;
	run(STATUS_OK);
	ck_assert_uint_eq(sink.committed, 1000);
	ck_assert_uint_eq(sink.commits, 4);
	ck_assert_uint_eq(summary.events, 1000);
	ck_assert_uint_eq(summary.next, 1000);
	ck_assert_int_eq(summary.first_ms, 1000);
	ck_assert_int_eq(summary.last_ms, 1000 + 9990);
	ck_assert(!summary.stopped);
}
END_TEST

START_TEST(keeps_the_pace)
{
	/* 10 s of events 20 times as fast: half a second. */
	options.speed = 20;
	double seconds = run(STATUS_OK);
	ck_assert_uint_eq(sink.committed, 1000);
	ck_assert_msg(seconds > .49 && seconds < 5, "%f", seconds);
	/* Gaps are cut short: 3 waits of at most 50 ms. */
	setup();
	input.count = 4;
	input.step_ms = 1000000;
	options.speed = 1;
	options.pause_ms_max = 50;
	seconds = run(STATUS_OK);
	ck_assert_msg(seconds > .14 && seconds < 5, "%f", seconds);
	ck_assert_uint_eq(sink.committed, 4);
}
END_TEST

START_TEST(passes_over)
{
	input.unusable = 10;
	options.skip = 500;
	options.start_ms = 1000 + 6000;
	run(STATUS_OK);
	ck_assert_uint_eq(sink.committed, 360);
	ck_assert_uint_eq(summary.events, 360);
	ck_assert_uint_eq(summary.skipped, 640);
	ck_assert_uint_eq(summary.next, 1000);
	setup();
	input.event.interaction.user_id = TEXT_LITERAL("big");
	run(STATUS_OK);
	ck_assert_uint_eq(summary.too_large, 1000);
	ck_assert_uint_eq(summary.events, 0);
	ck_assert_uint_eq(summary.next, 1000);
}
END_TEST

static bool stop_after(void *context, uint64_t events, int64_t time_ms)
{
	(void)time_ms;
	return events < *(uint64_t *)context;
}

START_TEST(stops_and_goes_on)
{
	uint64_t limit = 5, done;
	input.step_ms = 200;
	input.count = 50;
	options.speed = 4;
	options.progress = stop_after;
	options.progress_context = &limit;
	run(STATUS_OK);
	ck_assert(summary.stopped);
	ck_assert_uint_ge(sink.committed, 5);
	ck_assert_uint_lt(sink.committed, 20);
	ck_assert_uint_eq(summary.next, sink.committed);
	ck_assert_uint_eq(summary.events, sink.committed);
	done = summary.next;
	input.next = 0;
	options.speed = 0;
	options.progress = NULL;
	options.skip = done;
	run(STATUS_OK);
	ck_assert_uint_eq(sink.committed, 50);
	/* A number of events at a time. */
	setup();
	options.events_max = 7;
	run(STATUS_OK);
	ck_assert_uint_eq(sink.committed, 7);
	ck_assert_uint_eq(summary.next, 7);
}
END_TEST

START_TEST(failures_tell_what_is_committed)
{
	input.broken_at = 42;
	run(STATUS_CORRUPT);
	ck_assert_str_eq(error.text, "cut file");
	ck_assert_uint_eq(sink.committed, 42);
	ck_assert_uint_eq(summary.next, 42);
	setup();
	options.commit_events = 100;
	sink.commit_status = STATUS_RETRY;
	run(STATUS_RETRY);
	ck_assert_uint_eq(summary.events, 0);
	ck_assert_uint_eq(summary.next, 0);
}
END_TEST

START_TEST(speeds)
{
	double speed = -1;
	ck_assert_int_eq(replay_speed_parse("max", &speed, &error), STATUS_OK);
	ck_assert(speed == 0);
	ck_assert_int_eq(replay_speed_parse("60x", &speed, &error), STATUS_OK);
	ck_assert(speed == 60);
	ck_assert_int_eq(replay_speed_parse("0.5", &speed, &error), STATUS_OK);
	ck_assert(speed == 0.5);
	static const char *const wrong[] = {"", "x", "0", "-1x", "60xx", "infx", "nan", "fast"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		ck_assert_msg(replay_speed_parse(wrong[i], &speed, &error) == STATUS_USAGE, "%s", wrong[i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replay");
	TCase *tests = tcase_create("replay");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, NULL);
	tcase_add_test(tests, at_full_speed);
	tcase_add_test(tests, keeps_the_pace);
	tcase_add_test(tests, passes_over);
	tcase_add_test(tests, stops_and_goes_on);
	tcase_add_test(tests, failures_tell_what_is_committed);
	tcase_add_test(tests, speeds);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
