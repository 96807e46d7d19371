/* test_registry_live.c - the registry client against a real registry service, whose address is in
 * EXITPOLL_REGISTRY_URL (skipped without it). tests/integration/test_registry.sh starts one, and calls
 * this in three phases, named by EXITPOLL_REGISTRY_PHASE: "up", "down" (the service was killed) and
 * "again" (it is back with its data). */
#include "schemas/registry.h"

#include "base/log.h"
#include "schemas/topic.h"
#include "tests/check_run.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *url;

static struct registry *open_registry(void)
{
	struct registry *registry = NULL;
	struct error error = {0};

	ck_assert_msg(registry_create(&(struct registry_options){.url = url, .verify = true,
				      .retry_max_ms = 3000}, &registry, &error) == STATUS_OK, "%s", error.text);
	return registry;
}

static size_t keep(char *bytes, size_t size, size_t count, void *context)
{
	char *answer = context;
	size_t used = strlen(answer), part = size * count;

	if (used + part > 8191)
		part = 8191 - used;
	memcpy(answer + used, bytes, part);
	answer[used + part] = '\0';
	return size * count;
}

/* What an administrator or another producer does: a raw request. Returns "id" of the answer or -1. */
static int64_t send_json(const char *method, const char *path, json_t *body)
{
	struct curl_slist *headers =
		curl_slist_append(NULL, "Content-Type: application/vnd.schemaregistry.v1+json");
	CURL *curl = curl_easy_init();
	char answer[8192] = "", address[512], *text = json_dumps(body, 0);
	json_t *json;
	int64_t id;

	snprintf(address, sizeof address, "%s%s", url, path);
	curl_easy_setopt(curl, CURLOPT_URL, address);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
	ck_assert_int_eq(curl_easy_perform(curl), CURLE_OK);
	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	free(text);
	json_decref(body);
	json = json_loads(answer, 0, NULL);
	id = json_is_integer(json_object_get(json, "id")) ? json_integer_value(json_object_get(json, "id")) : -1;
	json_decref(json);
	return id;
}

static uint32_t register_schema(const char *subject, const char *type, const char *schema)
{
	char path[256];
	int64_t id;

	snprintf(path, sizeof path, "/subjects/%s/versions", subject);
	id = send_json("POST", path, json_pack("{s:s,s:s}", "schemaType", type, "schema", schema));
	ck_assert_int_ge(id, 0);
	return (uint32_t)id;
}

START_TEST(our_schemas_are_registered_once)
{
	struct registry *first = open_registry(), *second = open_registry();
	const struct codec_plan *plan;
	struct error error = {0};
	uint32_t id, again;

	for (int type = 0; type < RECORD_TYPES; type++) {
		const char *topic = topic_names_default.name[topic_of_record_type((enum record_type)type)];
		ck_assert_msg(registry_writer_id(first, (enum record_type)type, topic, &id, &error) == STATUS_OK,
			      "%s", error.text);
		ck_assert_msg(registry_writer_id(second, (enum record_type)type, topic, &again, &error) == STATUS_OK,
			      "%s", error.text);
		ck_assert_uint_eq(id, again);
		/* What comes back from the service resolves to what was sent. */
		ck_assert_msg(registry_plan(second, (enum record_type)type, id, &plan, &error) == STATUS_OK,
			      "%s", error.text);
	}
	registry_destroy(first);
	registry_destroy(second);
}
END_TEST

START_TEST(an_evolved_writer_is_read)
{
	/* Another order of fields, an int where we read a long, a field that we do not know, none of ours
	 * that have a default. */
	static const char schema[] =
		"{\"type\":\"record\",\"name\":\"item\",\"namespace\":\"shop\",\"fields\":["
		"{\"name\":\"event_time\",\"type\":\"int\"},{\"name\":\"color\",\"type\":\"string\"},"
		"{\"name\":\"item_id\",\"type\":\"string\"}]}";
	static const char body[] = "\x0E\x06red\x04i9";
	char message[FRAMING_BYTES + sizeof body - 1];
	struct registry *registry = open_registry();
	struct arena *arena = arena_create(1 << 20);
	struct error error = {0};
	struct event event;

	framing_write(register_schema("evolved-value", "AVRO", schema), message);
	memcpy(message + FRAMING_BYTES, body, sizeof body - 1);
	ck_assert_msg(registry_decode(registry, RECORD_ITEM, (struct text_view){message, sizeof message}, arena,
				      &event, &error) == STATUS_OK, "%s", error.text);
	ck_assert_int_eq(event.item.event_time_ms, 7);
	ck_assert(text_equal(event.item.item_id, TEXT_LITERAL("i9")));
	ck_assert_uint_eq(event.item.title.size, 0);
	arena_destroy(arena);
	registry_destroy(registry);
}
END_TEST

START_TEST(foreign_and_unknown_schemas)
{
	static const uint32_t unknown[] = {0, 99999999, INT32_MAX, 0x80000000u, UINT32_MAX};
	struct registry *registry = open_registry();
	const struct codec_plan *plan;
	struct error error = {0};
	uint32_t id;

	id = register_schema("orders-value", "AVRO",
			     "{\"type\":\"record\",\"name\":\"order\",\"fields\":[{\"name\":\"n\",\"type\":\"int\"}]}");
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, id, &plan, &error), STATUS_BAD_RECORD);
	id = register_schema("proto-value", "PROTOBUF", "syntax = \"proto3\"; message A { string b = 1; }");
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, id, &plan, &error), STATUS_BAD_RECORD);
	for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
		ck_assert_msg(registry_plan(registry, RECORD_ITEM, unknown[i], &plan, &error) ==
			      STATUS_UNKNOWN_SCHEMA, "%s", error.text);
		ck_assert_ptr_nonnull(strstr(error.text, "schema.registry"));
	}
	id = register_schema("items2-value", "AVRO",
			     "{\"type\":\"record\",\"name\":\"item\",\"fields\":[{\"name\":\"n\",\"type\":\"int\"}]}");
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, id, &plan, &error), STATUS_INCOMPATIBLE);
	registry_destroy(registry);
}
END_TEST

START_TEST(the_subject_rule_refuses_ours)
{
	struct registry *registry = open_registry();
	struct error error = {0};
	uint32_t id = 3;

	register_schema("clash-value", "AVRO", "{\"type\":\"record\",\"name\":\"item\",\"fields\":["
			"{\"name\":\"item_id\",\"type\":\"long\"}]}");
	send_json("PUT", "/config/clash-value", json_pack("{s:s}", "compatibility", "FULL"));
	ck_assert_msg(registry_writer_id(registry, RECORD_ITEM, "clash", &id, &error) == STATUS_INCOMPATIBLE,
		      "%s", error.text);
	ck_assert_ptr_nonnull(strstr(error.text, "clash-value"));
	ck_assert_uint_eq(id, 3);
	registry_destroy(registry);
}
END_TEST

START_TEST(down_is_something_to_try_again)
{
	struct registry *registry = open_registry();
	const struct codec_plan *plan;
	struct error error = {0};
	uint32_t id;

	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 1, &plan, &error), STATUS_RETRY);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "items", &id, &error), STATUS_RETRY);
	ck_assert_ptr_nonnull(strstr(error.text, "not available"));
	registry_destroy(registry);
}
END_TEST

int main(void)
{
	const char *phase = getenv("EXITPOLL_REGISTRY_PHASE");
	Suite *suite;
	TCase *tests;

	url = getenv("EXITPOLL_REGISTRY_URL");
	if (!url || !*url) {
		printf("skipped: EXITPOLL_REGISTRY_URL is not set\n");
		return 77;
	}
	suite = suite_create("registry_live");
	tests = tcase_create("live");
	log_configure(LOG_ERROR, false);
	tcase_set_timeout(tests, 60);
	if (phase && strcmp(phase, "down") == 0) {
		tcase_add_test(tests, down_is_something_to_try_again);
	} else {
		tcase_add_test(tests, our_schemas_are_registered_once);
		tcase_add_test(tests, an_evolved_writer_is_read);
		tcase_add_test(tests, foreign_and_unknown_schemas);
		tcase_add_test(tests, the_subject_rule_refuses_ours);
	}
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
