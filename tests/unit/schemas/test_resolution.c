/* test_resolution.c - every rule by which a writer's schema is read as ours (Avro specification 1.11,
 * "Schema Resolution"), each with the bytes of such a writer. */
#include "tests/unit/schemas/writer_bodies.h"

#include <math.h>
#include <stdlib.h>

#define KIND "{\"type\":\"enum\",\"name\":\"interaction_kind\",\"symbols\":[\"VIEW\",\"CLICK\",\"RATE\",\"PURCHASE\"," \
	     "\"REMOVE\"]}"
#define INTERACTION(rating) F("user_id", "\"string\"") "," F("item_id", "\"string\"") "," F("kind", KIND) "," \
	     F("rating", rating) "," F("event_time", "\"long\"")

static void start_interaction(void)
{
	text("u");
	text("i");
	number(KIND_RATE);
}

START_TEST(added_fields_take_defaults)
{
	must_plan(RECORD_ITEM, ITEM);
	text("a");
	number(5);
	must_decode();
	ck_assert(text_equal(event.item.item_id, TEXT_LITERAL("a")));
	ck_assert_ptr_nonnull(event.item.title.bytes);  /* present, and empty */
	ck_assert_uint_eq(event.item.title.size, 0);
	ck_assert_uint_eq(event.item.attributes_count, 0);
	ck_assert(!event.item.deleted);
	ck_assert_int_eq(event.item.event_time_ms, 5);

	must_plan(RECORD_INTERACTION, F("user_id", "\"string\"") "," F("kind", KIND) "," F("event_time",
		"\"long\""));
	text("u");
	number(KIND_REMOVE);
	number(9);
	must_decode();
	ck_assert_ptr_null(event.interaction.item_id.bytes);
	ck_assert_ptr_null(event.interaction.impression_id.bytes);
	ck_assert(!event.interaction.has_rating);
	ck_assert_int_eq(event.interaction.kind, KIND_REMOVE);

	must_plan(RECORD_SCORING_REQUEST, F("impression_id", "\"string\"") "," F("user_id", "\"string\"") ","
		  F("candidates", "{\"type\":\"array\",\"items\":{\"type\":\"record\","
		  "\"name\":\"candidate\",\"fields\":["
		  F("item_id", "\"string\"") "]}}") "," F("event_time", "\"long\""));
	text("p");
	text("u");
	number(2);
	text("a");
	text("b");
	number(0);
	number(77);
	must_decode();
	ck_assert_int_eq(event.scoring_request.status, PREDICTION_OK);
	ck_assert_uint_eq(event.scoring_request.history_count, 0);
	ck_assert_uint_eq(event.scoring_request.candidates_count, 2);
	ck_assert(text_equal(event.scoring_request.candidates[1].item_id, TEXT_LITERAL("b")));
	ck_assert_uint_eq(event.scoring_request.candidates[1].statistics_count, 0);
	ck_assert_int_eq(event.scoring_request.event_time_ms, 77);

	ck_assert_int_eq(plan_for(RECORD_ITEM, "item", F("item_id", "\"string\"")), STATUS_INCOMPATIBLE);
	ck_assert_ptr_nonnull(strstr(error.text, "event_time"));
}
END_TEST

START_TEST(order_is_the_writers)
{
	must_plan(RECORD_INTERACTION, F("event_time", "\"long\"") "," F("rating", "[\"double\",\"null\"]") ","
		  F("kind", KIND) "," F("item_id", "[\"string\",\"null\"]") "," F("user_id", "\"string\""));
	number(1234);
	number(0);
	raw(&(double){4.5}, 8);
	number(KIND_CLICK);
	number(1);
	text("u");
	must_decode();
	ck_assert_int_eq(event.interaction.event_time_ms, 1234);
	ck_assert(event.interaction.has_rating && event.interaction.rating == 4.5);
	ck_assert_ptr_null(event.interaction.item_id.bytes);
	ck_assert(text_equal(event.interaction.user_id, TEXT_LITERAL("u")));
}
END_TEST

/* Every type that can stand in a removed field, in several block forms. */
START_TEST(removed_fields_are_skipped)
{
	static const struct { const char *type; const char *bytes; size_t size; } removed[] = {
		{"\"null\"", "", 0},
		{"\"boolean\"", "\1", 1},
		{"\"int\"", "\xff\xff\xff\xff\x0f", 5},
		{"\"long\"", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10},
		{"\"float\"", "abcd", 4},
		{"\"double\"", "abcdefgh", 8},
		{"\"bytes\"", "\6abc", 4},
		{"\"string\"", "\0", 1},
		{"{\"type\":\"fixed\",\"name\":\"f\",\"size\":5}", "abcde", 5},
		{"{\"type\":\"fixed\",\"name\":\"f\",\"size\":0}", "", 0},
		{"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\",\"B\"]}", "\2", 1},
		{"{\"type\":\"array\",\"items\":\"long\"}", "\4\2\4\2\6\0", 6},
		{"{\"type\":\"array\",\"items\":\"long\"}", "\3\4\2\4\2\6\0", 7},        /* -2 items, 2
		bytes */
		{"{\"type\":\"array\",\"items\":\"float\"}", "\4abcdefgh\0", 10},
		{"{\"type\":\"array\",\"items\":\"null\"}", "\x80\x80\x80\x80\x80\x80\x01\0", 8}, /* 2^41
		nulls */
		{"{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"n\",\"fields\":[]}}",
		 "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\0", 11},
		{"{\"type\":\"map\",\"values\":\"int\"}", "\2\2k\4\2\2l\6\0", 9},
		{"{\"type\":\"map\",\"values\":\"null\"}", "\4\2k\2l\0", 6},
		{"{\"type\":\"map\",\"values\":{\"type\":\"map\",\"values\":\"string\"}}",
		"\2\2k\1\6\2a\0\0\0", 10},
		{"[\"null\",\"string\",{\"type\":\"array\",\"items\":\"string\"}]", "\4\2\2a\0", 5},
		{"{\"type\":\"record\",\"name\":\"n\",\"fields\":[" F("a", "\"int\"") "," F("b",
		"\"null\"") ","
		 F("c", "{\"type\":\"record\",\"name\":\"m\",\"fields\":[" F("d", "\"string\"") "]}") "]}",
		 "\2\2x", 3},
		/* Recursive: a list of three, a tree. */
		{"{\"type\":\"record\",\"name\":\"l\",\"fields\":[" F("v", "\"int\"") "," F("n",
		"[\"null\",\"l\"]") "]}",
		 "\2\2\4\2\6\0", 6},
		{"{\"type\":\"record\",\"name\":\"t\",\"fields\":[" F("c",
		"{\"type\":\"array\",\"items\":\"t\"}") "]}",
		 "\4\2\0\0\0\0", 6},
		{"{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}", "\2", 1},
		{"{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":-4}", "\2x", 2},
	};
	for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++) {
		char fields[2048];
		snprintf(fields, sizeof fields, F("item_id", "\"string\"") ",{\"name\":\"gone\",\"type\":%s},"
			 F("event_time", "\"long\""), removed[i].type);
		must_plan(RECORD_ITEM, fields);
		text("a");
		raw(removed[i].bytes, removed[i].size);
		number(5);
		must_decode();
		ck_assert_int_eq(event.item.event_time_ms, 5);
		while (--body.size)     /* no cut of it is mistaken for a record */
			ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	}
}
END_TEST

START_TEST(damaged_skips_are_errors)
{
	static const struct { const char *type; const char *bytes; size_t size; } removed[] = {
		{"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\",\"B\"]}", "\4", 1},
		{"[\"null\",\"string\"]", "\4", 1},
		{"[\"null\",\"string\"]", "\1", 1},
		{"\"string\"", "\1", 1},                                         /* -1 bytes */
		{"\"bytes\"", "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10},
		{"\"long\"", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10},        /* 65 bits */
		{"\"long\"", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
		{"{\"type\":\"array\",\"items\":\"float\"}", "\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", 9},
		{"{\"type\":\"array\",\"items\":\"string\"}", "\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", 9},
		{"{\"type\":\"map\",\"values\":\"null\"}", "\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", 9},
		{"{\"type\":\"array\",\"items\":\"long\"}", "\1\1", 2},            /* -1 items of -1 bytes */
		{"{\"type\":\"array\",\"items\":\"long\"}", "\1\x7e", 2},
		{"{\"type\":\"array\",\"items\":\"long\"}", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x7e",
		11},
		/* A record that can only contain itself. */
		{"{\"type\":\"record\",\"name\":\"s\",\"fields\":[" F("s", "\"s\"") "]}", "", 0},
		{"{\"type\":\"record\",\"name\":\"s\",\"fields\":[" F("s", "[\"s\"]") "]}", "\0", 1},
	};
	for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++) {
		char fields[2048];
		snprintf(fields, sizeof fields, F("item_id", "\"string\"") ",{\"name\":\"gone\",\"type\":%s},"
			 F("event_time", "\"long\""), removed[i].type);
		must_plan(RECORD_ITEM, fields);
		text("a");
		raw(removed[i].bytes, removed[i].size);
		number(5);
		ck_assert_msg(decode() == STATUS_BAD_RECORD, "%zu: %s", i, removed[i].type);
		ck_assert_ptr_nonnull(strstr(error.text, "gone"));
	}
	/* A list of many links: as deep as allowed, and no deeper. */
	must_plan(RECORD_ITEM, F("gone", "{\"type\":\"record\",\"name\":\"l\",\"fields\":[" F("n",
		"[\"null\",\"l\"]") "]}")
		  "," ITEM);
	for (int i = 0; i < 50000; i++)
		number(1);
	number(0);
	text("a");
	number(5);
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "too deep"));
}
END_TEST

START_TEST(promotions)
{
	static const char *const rating[] = {"\"int\"", "\"long\"", "\"float\"", "\"double\"",
		"[\"null\",\"int\"]"};

	for (int i = 0; i < 5; i++) {
		char fields[1024];
		snprintf(fields, sizeof fields, F("user_id", "\"bytes\"") "," F("item_id", "\"string\"") ","
			 F("kind", KIND) ",{\"name\":\"rating\",\"type\":%s}," F("event_time", "\"int\""),
			 rating[i]);
		must_plan(RECORD_INTERACTION, fields);
		start_interaction();
		if (i == 4)
			number(1);
		if (i == 2)
			raw(&(float){-3}, 4);
		else if (i == 3)
			raw(&(double){-3}, 8);
		else
			number(-3);
		number(-2147483648LL);
		must_decode();
		ck_assert(event.interaction.has_rating && event.interaction.rating == -3);
		ck_assert(text_equal(event.interaction.item_id, TEXT_LITERAL("i")));
		ck_assert_int_eq(event.interaction.event_time_ms, INT32_MIN);
	}
	must_plan(RECORD_PREDICTION, F("impression_id", "\"string\"") "," F("user_id", "\"string\"") ","
		  F("scores", "{\"type\":\"array\",\"items\":{\"type\":\"record\","
		  "\"name\":\"candidate_score\",\"fields\":["
		  F("item_id", "\"bytes\"") "," F("p_click", "\"long\"") "," F("margin",
		  "[\"int\",\"null\"]") "]}}") ","
		  F("model_id", "\"string\"") "," F("event_time", "\"long\"") "," F("scored_time",
		  "\"long\"") ","
		  F("status", "{\"type\":\"enum\",\"name\":\"prediction_status\",\"symbols\":[\"LATE\","
		  "\"OK\",\"NEW\"]}"));
	text("p");
	text("u");
	number(-1);     /* one item in a block that says its size */
	number(3);
	text("i");
	number(3);
	number(1);
	number(0);
	text("m");
	number(1);
	number(2);
	number(0);
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "size is not that of its items"));
	body.bytes[5] = 8;
	body.bytes[8] = 2;
	must_decode();
	ck_assert_uint_eq(event.prediction.scores_count, 1);
	ck_assert(event.prediction.scores[0].p_click == 1.0f && !event.prediction.scores[0].has_margin);
	ck_assert_int_eq(event.prediction.status, PREDICTION_LATE);
	body.bytes[body.size - 1] = 4;  /* NEW */
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "unknown here"));
	body.bytes[body.size - 1] = 6;
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "no such enum symbol"));
	body.bytes[body.size - 1] = 1;
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);

	/* An int that does not fit into one. */
	must_plan(RECORD_ITEM, F("item_id", "\"string\"") "," F("event_time", "\"int\""));
	text("a");
	number(2147483648LL);
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
}
END_TEST

START_TEST(what_cannot_be_read)
{
	static const char *const fields[] = {
		F("item_id", "\"long\"") "," F("event_time", "\"long\""),
		F("item_id", "\"string\"") "," F("event_time", "\"double\""),
		F("item_id", "\"string\"") "," F("event_time", "\"float\""),
		F("item_id", "[\"null\",\"int\"]") "," F("event_time", "\"long\""),
		F("item_id", "\"null\"") "," F("event_time", "\"long\""),
		ITEM "," F("attributes", "{\"type\":\"array\",\"items\":\"string\"}"),
		ITEM "," F("attributes", "{\"type\":\"map\",\"values\":\"long\"}"),
		ITEM "," F("title", "{\"type\":\"fixed\",\"name\":\"f\",\"size\":3}"),
		ITEM "," F("title", "{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"a\"]}"),
		ITEM "," F("deleted", "\"int\""),
	};
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		ck_assert_msg(plan_for(RECORD_ITEM, "item", fields[i]) == STATUS_INCOMPATIBLE, "%s",
		fields[i]);
		ck_assert_ptr_null(plan);
	}
	ck_assert_int_eq(plan_for(RECORD_ITEM, "thing", ITEM), STATUS_INCOMPATIBLE);
	ck_assert_ptr_nonnull(strstr(error.text, "thing"));
	ck_assert_int_eq(plan_for(RECORD_ITEM, "com.example.item", ITEM), STATUS_OK);
	ck_assert_int_eq(plan_for(RECORD_INTERACTION, "interaction",
		F("user_id", "\"string\"") "," F("kind", "{\"type\":\"enum\",\"name\":\"other\","
		"\"symbols\":[\"VIEW\"]}") ","
		F("event_time", "\"long\"")), STATUS_INCOMPATIBLE);
	ck_assert_int_eq(codec_plan_create(RECORD_ITEM, TEXT_LITERAL("\"string\""), &plan, &error),
			 STATUS_INCOMPATIBLE);
	ck_assert_int_eq(codec_plan_create((enum record_type)9, TEXT_LITERAL("\"string\""), &plan, &error),
			 STATUS_INTERNAL);
}
END_TEST

START_TEST(unions)
{
	/* A writer's union read as a plain field: the branch that fits is read, the other is an error. */
	must_plan(RECORD_ITEM, F("item_id", "[\"null\",\"string\",\"long\",\"bytes\"]") "," F("event_time",
		"[\"int\",\"long\"]"));
	number(1);
	text("a");
	number(0);
	number(8);
	must_decode();
	ck_assert(text_equal(event.item.item_id, TEXT_LITERAL("a")));
	ck_assert_int_eq(event.item.event_time_ms, 8);
	body.bytes[0] = 6;
	must_decode();
	body.size = 0;
	number(0);
	number(1);
	number(8);
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "item_id: null where a value is needed"));
	body.size = 0;
	number(2);
	number(8);
	number(1);
	number(8);
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "a long, which this field cannot hold"));
	for (int branch = 4; branch > -6; branch -= 5) {        /* 4, -1 */
		body.size = 0;
		number(branch);
		ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
		ck_assert_ptr_nonnull(strstr(error.text, "a union branch"));
	}

	/* A writer's plain field read as our union; a writer's null alone. */
	must_plan(RECORD_INTERACTION, INTERACTION("\"double\""));
	start_interaction();
	raw(&(double){2.5}, 8);
	number(1);
	must_decode();
	ck_assert(event.interaction.has_rating && event.interaction.rating == 2.5);
	must_plan(RECORD_INTERACTION, INTERACTION("\"null\""));
	start_interaction();
	number(1);
	must_decode();
	ck_assert(!event.interaction.has_rating);

	/* Unions of more branches than ours, at the root too. */
	codec_plan_destroy(plan);
	plan = NULL;
	ck_assert_int_eq(codec_plan_create(RECORD_ITEM, TEXT_LITERAL(
		"[\"null\",{\"type\":\"record\",\"name\":\"other\",\"fields\":[]},"
		"{\"type\":\"record\",\"name\":\"x.item\",\"fields\":[" ITEM "]}]"), &plan, &error),
		STATUS_OK);
	body.size = 0;
	number(2);
	text("a");
	number(3);
	must_decode();
	body.bytes[0] = 2;
	ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
}
END_TEST

/* Arrays and maps of what we keep: blocks of every form, and counts that nothing stands behind. */
START_TEST(blocks)
{
	must_plan(RECORD_ITEM, ITEM "," F("attributes", "{\"type\":\"map\",\"values\":[\"null\","
		"\"string\"]}"));
	text("a");
	number(1);
	number(1);
	text("x");
	number(1);
	text("1");
	number(-2);
	number(10);
	text("y");
	number(1);
	text("2");
	text("y");
	number(1);
	text("3");
	number(0);
	must_decode();
	ck_assert_uint_eq(event.item.attributes_count, 3);
	ck_assert(text_equal(event.item.attributes[2].name, TEXT_LITERAL("y")));
	ck_assert(text_equal(event.item.attributes[2].value, TEXT_LITERAL("3")));

	/* Many blocks of one: memory stays near the size of the array. */
	must_plan(RECORD_IMPRESSION, F("impression_id", "\"string\"") "," F("user_id", "\"string\"") ","
		  F("event_time", "\"long\"") "," F("candidates",
		  "{\"type\":\"array\",\"items\":\"string\"}"));
	text("p");
	text("u");
	number(1);
	for (int i = 0; i < 20000; i++) {
		number(1);
		text(i % 2 ? "a" : "b");
	}
	number(0);
	arena_reset(arena);
	must_decode();
	ck_assert_uint_eq(event.impression.candidates_count, 20000);
	ck_assert(text_equal(event.impression.candidates[19999], TEXT_LITERAL("a")));
	ck_assert_uint_lt(arena_used(arena), 4 * 20000 * sizeof(struct text_view));

	for (int i = 1; i < 9; i++) {
		body.size = 0;
		text("p");
		text("u");
		number(1);
		number(INT64_MAX >> 7 * i);
		arena_reset(arena);
		ck_assert_int_eq(decode(), STATUS_BAD_RECORD);
		ck_assert_uint_eq(arena_used(arena), 0);
	}
	/* Items without bytes: each would cost memory of ours, so they are counted against a limit. */
	ck_assert_int_eq(plan_for(RECORD_IMPRESSION, "impression", F("impression_id", "\"string\"") ","
		F("user_id", "\"string\"") "," F("event_time", "\"long\"") ","
		F("candidates", "{\"type\":\"array\",\"items\":\"null\"}")), STATUS_INCOMPATIBLE);
}
END_TEST

START_TEST(arena_limit)
{
	struct arena *small = arena_create(1000);

	must_plan(RECORD_IMPRESSION, F("impression_id", "\"string\"") "," F("user_id", "\"string\"") ","
		  F("event_time", "\"long\"") "," F("candidates",
		  "{\"type\":\"array\",\"items\":\"string\"}"));
	text("p");
	text("u");
	number(1);
	number(100);
	for (int i = 0; i < 100; i++)
		text("");
	number(0);
	ck_assert_int_eq(codec_decode(plan, (struct text_view){body.bytes, body.size}, small, &event, NULL,
		&error),
			 STATUS_LIMIT);
	ck_assert_ptr_nonnull(strstr(error.text, "candidates"));
	arena_destroy(small);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("resolution");
	TCase *tests = tcase_create("resolution");

	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_add_test(tests, added_fields_take_defaults);
	tcase_add_test(tests, order_is_the_writers);
	tcase_add_test(tests, removed_fields_are_skipped);
	tcase_add_test(tests, damaged_skips_are_errors);
	tcase_add_test(tests, promotions);
	tcase_add_test(tests, what_cannot_be_read);
	tcase_add_test(tests, unions);
	tcase_add_test(tests, blocks);
	tcase_add_test(tests, arena_limit);
	tcase_set_timeout(tests, 60);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
