/* Which interactions label which candidates: last answers, views, removals, answers from before or of others. */
#include "ops/cli/samples_labels.h"
#include "schemas/container.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64], path[128];

static bool never(void)
{
	return false;
}

static struct interaction_event answer(const char *impression, const char *item, enum interaction_kind kind,
				       double rating, int64_t time_ms)
{
	return (struct interaction_event){
		.user_id = TEXT_LITERAL("u"), .item_id = text_of(item), .kind = kind, .has_rating = rating > 0,
		.rating = rating, .impression_id = text_of(impression), .event_time_ms = time_ms};
}

static void setup(void)
{
	const struct container_metadata metadata[] = {{"exitpoll.task", "liked"}, {"exitpoll.label", "rating>=4"}};
	const struct interaction_event events[] = {
		answer("rated", "a", KIND_RATE, 5, 100),
		answer("twice", "a", KIND_RATE, 1, 200),  /* the later one counts, wherever it stands */
		answer("twice", "a", KIND_RATE, 5, 150),
		answer("viewed", "a", KIND_VIEW, 0, 100),
		answer("clicked", "b", KIND_CLICK, 0, 100),
		answer("clicked", "b", KIND_VIEW, 0, 900), /* knows less than a click, though later */
		answer("removed", "a", KIND_REMOVE, 0, 100),
		answer("elsewhere", "z", KIND_RATE, 5, 100),
		answer("before", "a", KIND_RATE, 5, 99),
		answer("two", "a", KIND_RATE, 5, 100),
		answer("two", "c", KIND_RATE, 2, 100),
	};
	struct container_writer *writer = NULL;
	struct error error = {0};
	snprintf(folder, sizeof folder, "/tmp/exitpoll_labels_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/interactions.avro", folder);
	ck_assert_msg(container_writer_create(path, RECORD_INTERACTION, CONTAINER_NULL, metadata, 2, true, &writer,
					      &error) == STATUS_OK, "%s", error.text);
	for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
		struct event event = {.type = RECORD_INTERACTION, .interaction = events[i]};
		ck_assert_msg(container_write(writer, &event, &error) == STATUS_OK, "%s", error.text);
	}
	ck_assert_int_eq(container_writer_close(&writer, &error), STATUS_OK);
}

static void teardown(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(folder), 0);
}

static struct samples_labels *labels_of(const char *task, const char *rule)
{
	struct samples_labels_options options = {
		.folder = folder, .task = task, .rule = rule, .limits = event_limits_default, .stopping = never};
	struct samples_labels *labels = NULL;
	struct error error = {0};
	ck_assert_msg(samples_labels_read(&options, &labels, &error) == STATUS_OK, "%s", error.text);
	return labels;
}

/* 'n' none, '0', '1' for the candidates a, b, c; behind them the reason if the impression has no label. */
static const char *read_as(const struct samples_labels *labels, const char *impression)
{
	static const struct text_view items[] = {{"a", 1}, {"b", 1}, {"c", 1}};
	static char text[64];
	float out[3];
	enum samples_answer result = samples_labels_of(labels, text_of(impression), 100, items, 3, out);
	if (result != SAMPLES_LABELLED)
		return samples_answer_name(result);
	for (int i = 0; i < 3; i++)
		text[i] = isnan(out[i]) ? 'n' : out[i] > 0 ? '1' : '0';
	text[3] = '\0';
	return text;
}

START_TEST(liked)
{
	struct samples_labels *labels = labels_of(NULL, NULL);
	ck_assert(!samples_labels_clicked(labels));
	ck_assert_str_eq(samples_labels_rule(labels), "rating>=4");
	ck_assert_str_eq(read_as(labels, "rated"), "1nn");
	ck_assert_str_eq(read_as(labels, "twice"), "0nn");
	ck_assert_str_eq(read_as(labels, "viewed"), "0nn");
	ck_assert_str_eq(read_as(labels, "clicked"), "n1n");
	ck_assert_str_eq(read_as(labels, "two"), "1n0");
	ck_assert_str_eq(read_as(labels, "removed"), "unanswered");
	ck_assert_str_eq(read_as(labels, "nobody"), "unanswered");
	ck_assert_str_eq(read_as(labels, "elsewhere"), "answered_elsewhere");
	ck_assert_str_eq(read_as(labels, "before"), "answered_before");
	samples_labels_destroy(labels);
}
END_TEST

START_TEST(clicked)
{
	struct samples_labels *labels = labels_of("clicked", NULL);
	ck_assert(samples_labels_clicked(labels));
	ck_assert_str_eq(read_as(labels, "rated"), "100");
	ck_assert_str_eq(read_as(labels, "twice"), "100");
	ck_assert_str_eq(read_as(labels, "viewed"), "000");
	ck_assert_str_eq(read_as(labels, "clicked"), "010");
	ck_assert_str_eq(read_as(labels, "two"), "101");
	ck_assert_str_eq(read_as(labels, "elsewhere"), "answered_elsewhere");
	samples_labels_destroy(labels);
}
END_TEST

START_TEST(another_rule_and_mistakes)
{
	struct samples_labels *labels = labels_of("liked", "rating<3");
	struct samples_labels_options options = {
		.folder = folder, .task = "loved", .limits = event_limits_default, .stopping = never};
	struct error error = {0};
	ck_assert_str_eq(read_as(labels, "rated"), "0nn");
	ck_assert_str_eq(read_as(labels, "two"), "0n1");
	samples_labels_destroy(labels);
	labels = NULL;
	ck_assert_int_eq(samples_labels_read(&options, &labels, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "loved"));
	options.task = NULL;
	options.rule = "stars>3";
	ck_assert_int_eq(samples_labels_read(&options, &labels, &error), STATUS_USAGE);
	options.folder = "/nonexistent";
	ck_assert_int_eq(samples_labels_read(&options, &labels, &error), STATUS_NO_INPUT);
	ck_assert_ptr_null(labels);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("samples_labels");
	TCase *tests = tcase_create("samples_labels");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, liked);
	tcase_add_test(tests, clicked);
	tcase_add_test(tests, another_rule_and_mistakes);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
