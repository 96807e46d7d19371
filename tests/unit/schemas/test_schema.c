/* test_schema.c - reading schema JSON: what is valid, what is refused and why, bounds, and that no
 * failing allocation leaks. */
#include "schemas/codec.h"
#include "schemas/schema.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>

static enum status parse(const char *json, struct error *error)
{
	struct schema *schema = NULL;
	enum status status = schema_parse(text_of(json), &schema, error);
	ck_assert_int_eq(status == STATUS_OK, schema != NULL);
	schema_destroy(schema);
	return status;
}

#define R(fields) "{\"type\":\"record\",\"name\":\"r\",\"fields\":[" fields "]}"
#define F(name, type) "{\"name\":\"" name "\",\"type\":" type "}"

START_TEST(valid)
{
	static const char *const schemas[] = {
		"\"int\"", " [\"null\" , \"int\"]\n", "{\"type\":\"int\"}", "{\"type\":{\"type\":\"int\"}}",
		"{\"type\":[\"null\",\"int\"]}", R(""), R(F("a", "\"r\"")), R(F("a", "[\"null\",\"r\"]")),
		"{\"type\":\"error\",\"name\":\"r\",\"fields\":[]}",
		"{\"type\":\"fixed\",\"name\":\"f\",\"size\":0}",
		"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[]}",
		"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\",\"B\"],\"default\":\"B\","
		"\"extra\":{\"x\":[1]}}",
		"{\"type\":\"map\",\"values\":{\"type\":\"array\",\"items\":\"null\"}}",
		"{\"type\":\"record\",\"name\":\"a.b.r\",\"namespace\":\"ignored\",\"fields\":[" F("x",
		"\"r\"") ","
			F("y", "\"a.b.r\"") "]}",
		"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n.m\",\"aliases\":[\"q\",\"x.q\"],"
		"\"fields\":["
			F("x", "{\"type\":\"fixed\",\"name\":\"f\",\"size\":1}") "," F("y", "\"n.m.f\"") ","
			F("z", "{\"type\":\"record\",\"name\":\"o.s\",\"fields\":["
			  F("f", "{\"type\":\"fixed\",\"name\":\"f\",\"size\":2}") "]}") "]}",
		"[{\"type\":\"fixed\",\"name\":\"f\",\"size\":1},{\"type\":\"fixed\",\"name\":\"x.f\","
		"\"size\":1}]",
	};
	for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
		struct error error = {0};
		ck_assert_msg(parse(schemas[i], &error) == STATUS_OK, "%s: %s", schemas[i], error.text);
	}
}
END_TEST

START_TEST(refused)
{
	static const char *const schemas[] = {
		"", "{", "int", "\"int\" \"int\"", "\"integer\"", "5", "null", "true", "{}", "[]",
		"{\"type\":5}",
		"{\"type\":\"int\",\"type\":\"long\"}", "{\"type\":\"record\"}",
		"{\"type\":\"record\",\"name\":\"r\"}", "{\"type\":\"record\",\"name\":\"r\",\"fields\":{}}",
		"{\"type\":\"record\",\"name\":\"\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"1r\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"r.\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\".r\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"a..r\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"r-s\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"int\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"r\",\"namespace\":5,\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"a b\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"r\",\"aliases\":\"x\",\"fields\":[]}",
		"{\"type\":\"record\",\"name\":\"r\",\"aliases\":[\"x\",\"x\"],\"fields\":[]}",
		R("5"), R("{\"name\":\"a\"}"), R("{\"type\":\"int\"}"), R(F("a.b", "\"int\"")), R(F("",
		"\"int\"")),
		R(F("a", "\"int\"") "," F("a", "\"int\"")), R(F("a", "\"unknown\"")), R(F("a", R(""))),
		"{\"type\":\"enum\",\"name\":\"e\"}", "{\"type\":\"enum\",\"name\":\"e\","
		"\"symbols\":[\"A\",\"A\"]}",
		"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A b\"]}",
		"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[1]}",
		"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\"],\"default\":\"B\"}",
		"{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\"],\"default\":5}",
		"{\"type\":\"fixed\",\"name\":\"f\"}", "{\"type\":\"fixed\",\"name\":\"f\",\"size\":-1}",
		"{\"type\":\"fixed\",\"name\":\"f\",\"size\":1.5}",
		"{\"type\":\"fixed\",\"name\":\"f\",\"size\":3000000000}",
		"{\"type\":\"array\"}", "{\"type\":\"map\"}", "[\"int\",\"int\"]", "[\"int\",[\"long\"]]",
		"[" R("") ",\"r\"]", "[{\"type\":\"map\",\"values\":\"int\"},{\"type\":\"map\","
		"\"values\":\"long\"}]",
	};
	for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
		struct error error = {0};
		ck_assert_msg(parse(schemas[i], &error) == STATUS_CORRUPT, "%s", schemas[i]);
		ck_assert_ptr_nonnull(strstr(error.text, "schema"));
		ck_assert_int_eq(parse(schemas[i], NULL), STATUS_CORRUPT);
	}
}
END_TEST

/* Repeats `open`, then `middle`, then `close`. */
static char *nested(const char *open, const char *middle, const char *close, int count)
{
	size_t size = (strlen(open) + strlen(close)) * (size_t)count + strlen(middle) + 1;
	char *json = mem_alloc(size), *at = json;
	for (int i = 0; i < count; i++)
		at = stpcpy(at, open);
	at = stpcpy(at, middle);
	for (int i = 0; i < count; i++)
		at = stpcpy(at, close);
	return json;
}

START_TEST(bounds)
{
	struct { const char *open, *close; } forms[] = {
		{"{\"type\":\"array\",\"items\":", "}"}, {"{\"type\":", "}"}, {"[", "]"},
	};
	struct error error = {0};
	char *json;

	for (int form = 0; form < 3; form++)
		for (int depth = 1; depth <= 100000; depth *= 10) {
			if (form == 2 && depth == 1)
				continue;       /* ["int"] is fine */
			json = nested(forms[form].open, "\"int\"", forms[form].close, depth);
			ck_assert_int_eq(parse(json, &error), depth < 64 && form < 2 ? STATUS_OK :
			STATUS_CORRUPT);
			mem_free(json);
		}
	json = mem_alloc_zero(SCHEMA_JSON_BYTES_MAX + 10, 1);
	memset(json, ' ', SCHEMA_JSON_BYTES_MAX + 1);
	strcpy(json + SCHEMA_JSON_BYTES_MAX, "\"int\"");
	ck_assert_int_eq(parse(json, &error), STATUS_CORRUPT);
	mem_free(json);
	/* More named types than allowed. */
	char *at = json = mem_alloc(2000 * 64);
	at = stpcpy(at, "[");
	for (int i = 0; i < 1500; i++)
		at += sprintf(at, "%s{\"type\":\"fixed\",\"name\":\"f%d\",\"size\":1}", i ? "," : "", i);
	strcpy(at, "]");
	ck_assert_int_eq(parse(json, &error), STATUS_CORRUPT);
	ck_assert_ptr_nonnull(strstr(error.text, "1024 named types"));
	mem_free(json);
	/* A megabyte of fields is a lot, and fine. */
	at = json = mem_alloc(SCHEMA_JSON_BYTES_MAX);
	at = stpcpy(at, "{\"type\":\"record\",\"name\":\"r\",\"fields\":[");
	for (int i = 0; i < 25000; i++)
		at += sprintf(at, "%s{\"name\":\"f%d\",\"type\":\"int\"}", i ? "," : "", i);
	strcpy(at, "]}");
	enum status status = parse(json, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	mem_free(json);
}
END_TEST

START_TEST(lower_bounds)
{
	static const struct { const char *json; uint64_t min_bytes; bool constant; } cases[] = {
		{"\"null\"", 0, true}, {"\"long\"", 1, false}, {"\"double\"", 8, true}, {"\"string\"", 1,
		false},
		{R(""), 0, true}, {R(F("a", "\"null\"")), 0, true}, {R(F("a", "\"float\"") "," F("b",
		"\"boolean\"")), 5, true},
		{R(F("a", "\"float\"") "," F("b", "\"int\"")), 5, false},
		{"[\"null\",\"double\"]", 1, false}, {"[\"double\"]", 9, false},
		{"{\"type\":\"array\",\"items\":\"double\"}", 1, false}, {R(F("a", "[\"null\",\"r\"]")), 1,
		false},
		{"{\"type\":\"fixed\",\"name\":\"f\",\"size\":7}", 7, true},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct schema *schema = NULL;
		ck_assert_int_eq(schema_parse(text_of(cases[i].json), &schema, NULL), STATUS_OK);
		ck_assert_msg(schema_root(schema)->min_bytes == cases[i].min_bytes &&
			      schema_root(schema)->constant == cases[i].constant, "%s", cases[i].json);
		schema_destroy(schema);
	}
}
END_TEST

START_TEST(failing_allocations)
{
	enum status status = STATUS_NO_MEMORY;
	for (long step = 0; status != STATUS_OK; step++) {
		struct error error = {0};
		ck_assert_int_lt(step, 1000);
		mem_fail_after(step);
		status = parse(codec_schema_json((enum record_type)_i), &error);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schema");
	TCase *tests = tcase_create("schema");

	tcase_add_test(tests, valid);
	tcase_add_test(tests, refused);
	tcase_add_test(tests, bounds);
	tcase_add_test(tests, lower_bounds);
	tcase_add_loop_test(tests, failing_allocations, 0, RECORD_TYPES);
	tcase_set_timeout(tests, 60);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
