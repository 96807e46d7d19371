/* test_sink_file.c - container files as a sink: they appear at finish or not at all, existing output is
 * refused or replaced, limits hold; and the sizes that the limits go by are those of the encoder. */
#include "files.h"

#include "producer/sink.h"
#include "schemas/event_size.h"

static char folder[PATH_BYTES], out[PATH_BYTES];
static struct sink_file_options options;
static struct error error;
static const struct text_view no_trace = {NULL, 0};

static void setup(void)
{
	files_make(folder);
	files_path(out, folder, "a/b");
	options = (struct sink_file_options){.folder = out,
					     .topics = {[TOPIC_PREDICTIONS] = true, [TOPIC_ITEMS] = true},
					     .record_bytes_max = 1000};
}

static void teardown(void)
{
	files_remove(folder);
}

static struct event item(const char *title, size_t size)
{
	return (struct event){.type = RECORD_ITEM,
			      .item = {.item_id = TEXT_LITERAL("id"), .title = {title, size}}};
}

static struct event dead_letter(void)
{
	return (struct event){.type = RECORD_DEAD_LETTER,
			      .dead_letter = {.topic = TEXT_LITERAL("items"),
					      .stage = TEXT_LITERAL("scorer"),
					      .reason = TEXT_LITERAL("undecodable"),
					      .error = TEXT_LITERAL("x")}};
}

static struct sink *open_sink(void)
{
	struct sink *sink = NULL;
	enum status status = sink_file_create(&options, &sink, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	return sink;
}

START_TEST(appears_at_finish)
{
	struct event event = item("title", 5);
	struct commit_offsets none = {0};
	struct sink *sink = open_sink();
	ck_assert_int_eq(sink->class->write(sink, &event, no_trace, &error), STATUS_OK);
	ck_assert(!files_exist(out, "items.avro"));
	ck_assert_int_eq(sink->class->commit(sink, &none, &error), STATUS_OK);
	ck_assert_int_eq(sink->class->settle(sink, &error), STATUS_OK);
	ck_assert_uint_eq(sink->class->commits(sink), 1);
	ck_assert_int_eq(sink->class->finish(sink, &error), STATUS_OK);
	ck_assert_int_eq(sink->class->write(sink, &event, no_trace, &error), STATUS_USAGE);
	ck_assert_int_eq(sink->class->finish(sink, &error), STATUS_USAGE);
	sink->class->destroy(sink);
	/* Empty topics appear, dead letters only where there are any. */
	ck_assert_int_eq(files_count(out), 2);
	struct loaded items = files_load(out, "items.avro", RECORD_ITEM);
	struct loaded predictions = files_load(out, "predictions.avro", RECORD_PREDICTION);
	ck_assert_uint_eq(items.count, 1);
	ck_assert_uint_eq(predictions.count, 0);
	loaded_free(&items);
	loaded_free(&predictions);
}
END_TEST

START_TEST(leaves_nothing_without_finish)
{
	struct event event = item("title", 5), letter = dead_letter();
	char path[PATH_BYTES];
	struct sink *sink = open_sink();
	ck_assert_int_eq(sink->class->write(sink, &event, no_trace, &error), STATUS_OK);
	ck_assert_int_eq(sink->class->write(sink, &letter, no_trace, &error), STATUS_OK);
	sink->class->destroy(sink);
	/* The folders it made are gone, too. */
	ck_assert_int_eq(files_count(files_path(path, folder, "a")), -1);
	/* A folder that was there stays. */
	mkdir(path, 0700);
	sink = open_sink();
	ck_assert_int_eq(sink->class->abort(sink, &error), STATUS_OK);
	ck_assert_int_eq(sink->class->write(sink, &event, no_trace, &error), STATUS_USAGE);
	ck_assert_int_eq(sink->class->commit(sink, &(struct commit_offsets){0}, &error), STATUS_USAGE);
	ck_assert_int_eq(sink->class->finish(sink, &error), STATUS_USAGE);
	sink->class->destroy(sink);
	ck_assert_int_eq(files_count(path), 0);
}
END_TEST

START_TEST(existing_output_is_refused_or_replaced)
{
	struct event first = item("first", 5), second = item("second", 6), letter = dead_letter();
	struct sink *sink = open_sink();
	sink->class->write(sink, &first, no_trace, &error);
	sink->class->write(sink, &letter, no_trace, &error);
	ck_assert_int_eq(sink->class->finish(sink, &error), STATUS_OK);
	sink->class->destroy(sink);
	ck_assert_int_eq(files_count(out), 3);

	sink = NULL;
	ck_assert_int_eq(sink_file_create(&options, &sink, &error), STATUS_CANNOT_CREATE);
	ck_assert_ptr_null(sink);
	ck_assert_msg(strstr(error.text, "--force"), "%s", error.text);
	ck_assert_int_eq(files_count(out), 3);
	/* A run that fails leaves the old output. */
	options.force = true;
	sink = open_sink();
	sink->class->write(sink, &second, no_trace, &error);
	sink->class->destroy(sink);
	struct loaded items = files_load(out, "items.avro", RECORD_ITEM);
	ck_assert(text_equal(items.events[0].item.title, TEXT_LITERAL("first")));
	loaded_free(&items);
	/* One that succeeds replaces all of it: old dead letters would pass for its own. */
	sink = open_sink();
	sink->class->write(sink, &second, no_trace, &error);
	ck_assert_int_eq(sink->class->finish(sink, &error), STATUS_OK);
	sink->class->destroy(sink);
	items = files_load(out, "items.avro", RECORD_ITEM);
	ck_assert(text_equal(items.events[0].item.title, TEXT_LITERAL("second")));
	loaded_free(&items);
	ck_assert_int_eq(files_count(out), 2);
}
END_TEST

START_TEST(limits_hold)
{
	static char title[3000];
	struct event small = item(title, 0), letter = dead_letter();
	struct sink *sink = open_sink();

	memset(title, 't', sizeof title);
	while (event_encoded_bytes(&small) < 1000)
		small.item.title.size++;
	ck_assert_int_eq(sink->class->write(sink, &small, no_trace, &error), STATUS_OK);
	struct event large = item(title, small.item.title.size + 1);
	ck_assert_int_eq(sink->class->write(sink, &large, no_trace, &error), STATUS_LIMIT);
	/* The dead letter of a record that large still goes through. */
	letter.dead_letter.value = (struct text_view){title, sizeof title};
	ck_assert_int_eq(sink->class->write(sink, &letter, no_trace, &error), STATUS_OK);
	ck_assert_int_eq(sink->class->finish(sink, &error), STATUS_OK);
	sink->class->destroy(sink);
	struct loaded items = files_load(out, "items.avro", RECORD_ITEM);
	ck_assert_uint_eq(items.count, 1);
	loaded_free(&items);
}
END_TEST

START_TEST(places_that_cannot_be_written)
{
	struct sink *sink = NULL;
	char path[PATH_BYTES];
	files_write_text(files_path(path, folder, "a"), "a file");
	ck_assert_int_eq(sink_file_create(&options, &sink, &error), STATUS_CANNOT_CREATE);
	options.folder = "";
	ck_assert_int_eq(sink_file_create(&options, &sink, &error), STATUS_USAGE);
	options.folder = "/proc/nothing/here";
	ck_assert_int_eq(sink_file_create(&options, &sink, &error), STATUS_CANNOT_CREATE);
	ck_assert_ptr_null(sink);
}
END_TEST

/* Lengths and counts around the steps of a varint, optional fields there and not. */
START_TEST(sizes_are_those_of_the_encoder)
{
	static char text[20000];
	static const size_t sizes[] = {0, 1, 63, 64, 8191, 8192, 20000};
	static const int64_t times[] = {0, 63, 64, 8192, INT64_C(1700000000000), INT64_MAX, -1, INT64_MIN};
	static struct text_view candidates[200];
	static struct attribute attributes[70];
	static struct history_entry history[70];
	static struct candidate_score scores[70];
	static struct request_candidate request[70];
	static float statistics[130];

	for (size_t round = 0; round < 56; round++) {
		struct text_view view = {text, sizes[round % 7]}, absent = {NULL, 0};
		struct text_view optional = round % 2 ? view : absent;
		int64_t time = times[round % 8];
		size_t count = round % 3 == 0 ? 0 : round % 3 == 1 ? 63 : 70;
		for (size_t i = 0; i < 70; i++) {
			attributes[i] = (struct attribute){view, optional};
			history[i] = (struct history_entry){view, optional, KIND_RATE, i % 2, 1.5f, time};
			scores[i] = (struct candidate_score){{text, i}, .5f, (int32_t)(i * 13), i % 2, .1f};
			request[i] = (struct request_candidate){{text, i}, view, statistics, i};
		}
		struct example example = {.5f, history, count};
		struct event events[] = {
			{.type = RECORD_ITEM, .item = {view, optional, attributes, count, time, round % 2}},
			{.type = RECORD_IMPRESSION,
			 .impression = {view, view, candidates, count * 2, time, round % 2, time}},
			{.type = RECORD_INTERACTION,
			 .interaction = {view, optional, KIND_REMOVE, round % 2, 3.5, optional, time}},
			{.type = RECORD_SCORING_REQUEST,
			 .scoring_request = {view, view, PREDICTION_LATE, history, count, &example, 1, statistics,
					     count, request, count, time, time, round % 2, time}},
			{.type = RECORD_PREDICTION,
			 .prediction = {view, view, scores, count, view, time, time, time, PREDICTION_OK}},
			{.type = RECORD_DEAD_LETTER,
			 .dead_letter = {view, (int32_t)time, time, view, view, view, optional, optional}},
		};
		for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
			struct byte_buffer buffer = {.bytes_max = (size_t)64 << 20};
			ck_assert_msg(codec_encode(&events[i], &buffer, &error) == STATUS_OK, "%s", error.text);
			ck_assert_msg(buffer.size == event_encoded_bytes(&events[i]), "%s: %zu, encoder %zu",
				      record_type_name(events[i].type), event_encoded_bytes(&events[i]),
				      buffer.size);
			byte_buffer_free(&buffer);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("file sink");
	TCase *tests = tcase_create("file sink");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, appears_at_finish);
	tcase_add_test(tests, leaves_nothing_without_finish);
	tcase_add_test(tests, existing_output_is_refused_or_replaced);
	tcase_add_test(tests, limits_hold);
	tcase_add_test(tests, places_that_cannot_be_written);
	tcase_add_test(tests, sizes_are_those_of_the_encoder);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
