/* test_evolved.c - readers that our schemas may become: aliases of records, fields and enums, defaults
 * of every type, and enum defaults, which the shipped schemas hardly have yet. */
#include "tests/unit/schemas/writer_bodies.h"

#include <stdlib.h>

static const char evolved[] =
	"{\"type\":\"record\",\"name\":\"scoring_request\",\"namespace\":\"new\","
		"\"aliases\":[\"old.request\",\"ask\"],"
	"\"fields\":["
	"{\"name\":\"impression_id\",\"type\":\"string\",\"aliases\":[\"id\",\"identifier\"]},"
	"{\"name\":\"user_id\",\"type\":\"string\",\"default\":\"nobody \\u00e9\"},"
	"{\"name\":\"status\",\"default\":\"LATE\",\"type\":{\"type\":\"enum\","
		"\"name\":\"prediction_status\","
	" \"aliases\":[\"state\"],\"default\":\"TRUNCATED\",\"symbols\":[\"LATE\",\"TRUNCATED\",\"OK\"]}},"
	"{\"name\":\"history\",\"default\":[{\"item_id\":\"x\",\"kind\":\"RATE\",\"rating\":2,"
		"\"event_time\":7},"
	"  {\"item_id\":\"y\",\"kind\":\"VIEW\",\"event_time\":8}],"
	" \"type\":{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"history_entry\","
		"\"aliases\":[\"entry\"],"
	" \"fields\":[{\"name\":\"item_id\",\"type\":\"string\"},{\"name\":\"text\",\"type\":\"string\","
		"\"default\":\"t\"},"
	" {\"name\":\"kind\",\"type\":{\"type\":\"enum\",\"name\":\"interaction_kind\","
		"\"symbols\":[\"VIEW\",\"RATE\"]}},"
	" {\"name\":\"rating\",\"type\":[\"float\",\"null\"],\"default\":1.5},{\"name\":\"event_time\","
		"\"type\":\"long\"}]}}},"
	"{\"name\":\"examples\",\"type\":{\"type\":\"array\",\"items\":{\"type\":\"record\","
		"\"name\":\"example\",\"fields\":["
	" {\"name\":\"similarity\",\"type\":\"float\"},"
	" {\"name\":\"entries\",\"type\":{\"type\":\"array\",\"items\":\"history_entry\"}}]}},"
		"\"default\":[]},"
	"{\"name\":\"user_statistics\",\"type\":{\"type\":\"array\",\"items\":\"float\"},\"default\":[0.5,"
		"1,-2e3]},"
	"{\"name\":\"candidates\",\"type\":{\"type\":\"array\",\"items\":{\"type\":\"record\","
		"\"name\":\"candidate\",\"fields\":["
	" {\"name\":\"item_id\",\"type\":\"string\",\"default\":\"c\"},{\"name\":\"text\","
		"\"type\":\"string\",\"default\":\"\"},"
	" {\"name\":\"statistics\",\"type\":{\"type\":\"array\",\"items\":\"float\"},\"default\":[]}]}},"
		"\"default\":[]},"
	"{\"name\":\"graph_version\",\"type\":\"long\",\"default\":-9000000000},"
	"{\"name\":\"event_time\",\"type\":\"long\",\"default\":1},"
	"{\"name\":\"deadline_ms\",\"type\":[\"long\",\"null\"],\"default\":30}]}";

static enum status plan_evolved(const char *writer)
{
	codec_plan_destroy(plan);
	plan = NULL;
	body.size = 0;
	return codec_plan_between(RECORD_SCORING_REQUEST, text_of(evolved), text_of(writer), &plan, &error);
}

START_TEST(aliases_and_defaults)
{
	const struct scoring_request *request = &event.scoring_request;

	/* Every field but one from its default, and that one through an alias; the record too. */
	ck_assert_msg(plan_evolved("{\"type\":\"record\",\"name\":\"ask\",\"fields\":[" F("identifier",
		"\"string\"") "]}") ==
		      STATUS_OK, "%s", error.text);
	text("p");
	must_decode();
	ck_assert(text_equal(request->impression_id, TEXT_LITERAL("p")));
	ck_assert(text_equal(request->user_id, TEXT_LITERAL("nobody \xc3\xa9")));
	ck_assert_int_eq(request->status, PREDICTION_LATE);
	ck_assert_uint_eq(request->history_count, 2);
	ck_assert(text_equal(request->history[0].item_id, TEXT_LITERAL("x")));
	ck_assert(text_equal(request->history[1].text, TEXT_LITERAL("t")));
	ck_assert_int_eq(request->history[0].kind, KIND_RATE);
	ck_assert(request->history[0].has_rating && request->history[0].rating == 2.0f);
	ck_assert(request->history[1].has_rating && request->history[1].rating == 1.5f);
	ck_assert_uint_eq(request->user_statistics_count, 3);
	ck_assert(request->user_statistics[2] == -2e3f);
	ck_assert_int_eq(request->graph_version, -9000000000);
	ck_assert(request->has_deadline && request->deadline_ms == 30);
}
END_TEST

START_TEST(enum_defaults)
{
	const struct scoring_request *request = &event.scoring_request;

	/* An own name wins over an alias, and the alias' field is skipped. An enum and a record by alias;
	 * unknown symbols become the enum's default. */
	ck_assert_msg(plan_evolved("{\"type\":\"record\",\"name\":\"old.request\",\"fields\":["
		F("id", "\"string\"") "," F("impression_id", "\"string\"") ","
		F("status", "{\"type\":\"enum\",\"name\":\"state\",\"symbols\":[\"NEW\",\"LATE\","
		"\"OK\"]}") ","
		F("history", "{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"entry\","
		"\"fields\":["
		  F("item_id", "\"string\"") "," F("event_time", "\"int\"") ","
		  F("kind", "{\"type\":\"enum\",\"name\":\"interaction_kind\",\"symbols\":[\"REMOVE\","
		  "\"RATE\"]}") "]}}")
		"]}") == STATUS_OK, "%s", error.text);
	text("wrong");
	text("right");
	number(0);
	number(1);
	text("i");
	number(4);
	number(1);
	number(0);
	must_decode();
	ck_assert(text_equal(request->impression_id, TEXT_LITERAL("right")));
	ck_assert_int_eq(request->status, PREDICTION_TRUNCATED);
	ck_assert_int_eq(request->history[0].kind, KIND_RATE);
	body.bytes[body.size - 2] = 0;  /* REMOVE, which this reader does not have, and no default */
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
}
END_TEST

START_TEST(items_without_bytes)
{
	const struct scoring_request *request = &event.scoring_request;

	/* Items that cost the writer nothing and us memory: bounded. */
	ck_assert_msg(plan_evolved("{\"type\":\"record\",\"name\":\"ask\",\"fields\":[" F("id",
		"\"string\"") ","
		F("candidates", "{\"type\":\"array\",\"items\":{\"type\":\"record\","
		"\"name\":\"candidate\",\"fields\":[]}}")
		"]}") == STATUS_OK, "%s", error.text);
	text("p");
	number(1000);
	number(0);
	must_decode();
	ck_assert_uint_eq(request->candidates_count, 1000);
	ck_assert(text_equal(request->candidates[999].item_id, TEXT_LITERAL("c")));
	body.size = 0;
	text("p");
	number((int64_t)1 << 40);
	number(0);
	arena_reset(arena);
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	ck_assert_uint_eq(arena_used(arena), 0);
	body.size = 0;
	text("p");
	for (int i = 0; i < 100; i++)
		number(1000);
	number(0);
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
}
END_TEST

START_TEST(wrong_defaults_are_refused)
{
	static const struct { const char *type; const char *value; } wrong[] = {
		{"\"long\"", "\"x\""}, {"\"long\"", "1.5"}, {"\"long\"", "null"},
		{"[\"long\",\"null\"]", "null"}, {"[\"null\",\"long\"]", "5"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		char reader[1024];
		snprintf(reader, sizeof reader, "{\"type\":\"record\",\"name\":\"impression\",\"fields\":["
			 F("impression_id", "\"string\"") "," F("user_id", "\"string\"") ","
			 F("candidates", "{\"type\":\"array\",\"items\":\"string\"}") ","
			 F("event_time", "\"long\"") ",{\"name\":\"deadline_ms\",\"type\":%s,"
			 "\"default\":%s}]}",
			 wrong[i].type, wrong[i].value);
		ck_assert_int_eq(codec_plan_between(RECORD_IMPRESSION, text_of(reader), TEXT_LITERAL(
			"{\"type\":\"record\",\"name\":\"impression\",\"fields\":[" F("impression_id",
			"\"string\"") ","
			F("user_id", "\"string\"") "," F("candidates",
			"{\"type\":\"array\",\"items\":\"string\"}") ","
			F("event_time", "\"long\"") "]}"), &plan, &error), STATUS_CORRUPT);
	}
	/* A reader's schema that is not that of the struct never gets through. */
	ck_assert_int_eq(codec_plan_between(RECORD_ITEM, TEXT_LITERAL("{\"type\":\"record\","
		"\"name\":\"item\",\"fields\":["
		ITEM "]}"), TEXT_LITERAL("{\"type\":\"record\",\"name\":\"item\",\"fields\":[" ITEM "]}"),
		&plan, &error),
		STATUS_INTERNAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("evolved");
	TCase *tests = tcase_create("evolved");

	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_add_test(tests, aliases_and_defaults);
	tcase_add_test(tests, enum_defaults);
	tcase_add_test(tests, items_without_bytes);
	tcase_add_test(tests, wrong_defaults_are_refused);
	tcase_set_timeout(tests, 60);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
