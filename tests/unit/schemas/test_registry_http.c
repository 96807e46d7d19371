/* test_registry_http.c - the registry client against a server that misbehaves on command. Each failure
 * has its own status and text, retries are bounded, nothing secret is printed. */
#include "schemas/registry.h"

#include "base/clock.h"
#include "base/log.h"
#include "tests/unit/schemas/scripted_server.h"
#include "tests/check_run.h"

#define ITEM_SCHEMA                                                                                    \
	"{\\\"type\\\":\\\"record\\\",\\\"name\\\":\\\"item\\\",\\\"fields\\\":["                      \
	"{\\\"name\\\":\\\"item_id\\\",\\\"type\\\":\\\"string\\\"},"                                  \
	"{\\\"name\\\":\\\"event_time\\\",\\\"type\\\":\\\"long\\\"}]}"
#define ITEM_ANSWER "{\"schema\":\"" ITEM_SCHEMA "\"}"
#define WRONG_TYPE_ANSWER                                                                              \
	"{\"schema\":\"{\\\"type\\\":\\\"record\\\",\\\"name\\\":\\\"item\\\",\\\"fields\\\":["        \
	"{\\\"name\\\":\\\"item_id\\\",\\\"type\\\":\\\"boolean\\\"},"                                 \
	"{\\\"name\\\":\\\"event_time\\\",\\\"type\\\":\\\"long\\\"}]}\"}"
#define FOREIGN_ANSWER                                                                                 \
	"{\"schema\":\"{\\\"type\\\":\\\"record\\\",\\\"name\\\":\\\"order\\\",\\\"fields\\\":["       \
	"{\\\"name\\\":\\\"n\\\",\\\"type\\\":\\\"int\\\"}]}\"}"
#define UNKNOWN_ANSWER "{\"error_code\":40403,\"message\":\"Schema not found\"}"

struct fixture {
	struct server *server;
	struct registry *registry;
	struct error error;
	const struct codec_plan *plan;
};

static void begin(struct fixture *fixture, const struct server_step *steps, size_t count,
		  struct registry_options options)
{
	char url[64];

	*fixture = (struct fixture){.server = server_start(steps, count)};
	snprintf(url, sizeof url, "http://127.0.0.1:%d/api/", fixture->server->port);
	options.url = url;
	options.verify = true;
	ck_assert_int_eq(registry_create(&options, &fixture->registry, &fixture->error), STATUS_OK);
}

static void end(struct fixture *fixture)
{
	registry_destroy(fixture->registry);
	server_stop(fixture->server);
}

#define BEGIN(fixture, steps, ...)                                                                     \
	begin(&(fixture), steps, sizeof(steps) / sizeof *(steps), (struct registry_options){__VA_ARGS__})

static enum status ask(struct fixture *fixture, enum record_type type, uint32_t id)
{
	fixture->plan = NULL;
	fixture->error = (struct error){0};
	return registry_plan(fixture->registry, type, id, &fixture->plan, &fixture->error);
}

static int requests(const struct fixture *fixture)
{
	return atomic_load(&fixture->server->requests);
}

#define ck_has(text, part) ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)
#define ck_lacks(text, part) ck_assert_msg(!strstr(text, part), "\"%s\" has \"%s\"", text, part)

START_TEST(plan_is_fetched_once)
{
	static const struct server_step steps[] = {{200, ITEM_ANSWER, 0, 0, NULL}};
	struct fixture fixture;
	const struct codec_plan *first;

	BEGIN(fixture, steps, .retry_max_ms = 2000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_OK);
	ck_assert_int_eq(codec_plan_type(fixture.plan), RECORD_ITEM);
	first = fixture.plan;
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_OK);
		ck_assert_ptr_eq(fixture.plan, first);
	}
	ck_assert_int_eq(requests(&fixture), 1);
	ck_has(fixture.server->request[0], "GET /api/schemas/ids/7 HTTP/1.1\r\n");
	ck_lacks(fixture.server->request[0], "Authorization");
	end(&fixture);
}
END_TEST

START_TEST(server_errors_are_tried_again)
{
	static const struct server_step steps[] = {
		{500, "{\"error_code\":50001,\"message\":\"backend\"}", 0, 0, NULL},
		{0, "", 0, 0, NULL},
		{429, "slow down", 0, 0, NULL},
		{200, "<html>starting</html>", 0, 0, NULL},
		{200, ITEM_ANSWER, 0, 0, NULL},
	};
	struct fixture fixture;

	BEGIN(fixture, steps, .retry_max_ms = 10000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_OK);
	ck_assert_int_eq(requests(&fixture), 5);
	end(&fixture);
}
END_TEST

START_TEST(retries_are_bounded)
{
	static const struct server_step steps[] = {{503, "{\"message\":\"out\\nof order\"}", 0, 0, NULL}};
	struct fixture fixture;
	int64_t start;

	BEGIN(fixture, steps, .retry_max_ms = 700);
	start = clock_steady_ns();
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_RETRY);
	ck_assert_int_le((clock_steady_ns() - start) / 1000000, 1500);
	ck_has(fixture.error.text, "not available");
	ck_has(fixture.error.text, "HTTP 503");
	ck_has(fixture.error.text, "out of order");
	ck_assert_int_ge(requests(&fixture), 2);
	ck_assert_int_le(requests(&fixture), 7);
	/* Trouble is never remembered as a refusal: the next call asks again. */
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_RETRY);
	ck_assert_int_ge(requests(&fixture), 4);
	end(&fixture);
}
END_TEST

START_TEST(nobody_listens)
{
	static const struct server_step steps[] = {{0, "", 0, 0, NULL}};
	struct server *server = server_start(steps, 1);
	struct registry *registry = NULL;
	struct error error = {0};
	const struct codec_plan *plan = NULL;
	char url[64];

	snprintf(url, sizeof url, "http://127.0.0.1:%d", server->port);
	server_stop(server);
	ck_assert_int_eq(registry_create(&(struct registry_options){.url = url, .retry_max_ms = 300,
					 .verify = true}, &registry, &error), STATUS_OK);
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 1, &plan, &error), STATUS_RETRY);
	ck_has(error.text, "127.0.0.1");
	ck_has(error.text, "not available");
	ck_assert_ptr_null(plan);
	registry_destroy(registry);
}
END_TEST

START_TEST(slow_answers_time_out)
{
	static const struct server_step steps[] = {
		{200, ITEM_ANSWER, 600, 0, NULL},
		{200, ITEM_ANSWER, 0, 0, NULL},
	};
	struct fixture fixture;

	BEGIN(fixture, steps, .request_timeout_ms = 150, .retry_max_ms = 5000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_OK);
	ck_assert_int_ge(requests(&fixture), 2);
	end(&fixture);
}
END_TEST

START_TEST(unknown_id_names_the_setting_and_is_remembered)
{
	static const struct server_step steps[] = {{404, UNKNOWN_ANSWER, 0, 0, NULL}};
	struct fixture fixture;

	BEGIN(fixture, steps, .retry_max_ms = 2000);
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 99), STATUS_UNKNOWN_SCHEMA);
		ck_has(fixture.error.text, "schema.registry");
		ck_has(fixture.error.text, "99");
		ck_assert_int_eq(fixture.error.status, STATUS_UNKNOWN_SCHEMA);
	}
	ck_assert_int_eq(requests(&fixture), 1);
	/* Another id is another question; many of them do not grow anything (the table is fixed). */
	for (uint32_t id = 1000; id < 1400; id++)
		ck_assert_int_eq(ask(&fixture, RECORD_ITEM, id), STATUS_UNKNOWN_SCHEMA);
	ck_assert_int_eq(requests(&fixture), 401);
	end(&fixture);
}
END_TEST

START_TEST(wrong_path_is_not_an_unknown_id)
{
	static const struct server_step steps[] = {{404, "<html>no such page</html>", 0, 0, NULL}};
	struct fixture fixture;

	BEGIN(fixture, steps, .retry_max_ms = 5000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_CONFIG);
	ck_has(fixture.error.text, "path of schema.registry");
	ck_assert_int_eq(requests(&fixture), 3);
	end(&fixture);
}
END_TEST

START_TEST(schemas_that_are_not_ours)
{
	static const struct server_step steps[] = {
		{200, FOREIGN_ANSWER, 0, 0, NULL},
		{200, "{\"schemaType\":\"PROTOBUF\",\"schema\":\"message A {}\"}", 0, 0, NULL},
		{200, "{\"schema\":\"{}\",\"references\":[{\"name\":\"a\",\"subject\":\"b\",\"version\":1}]}",
		 0, 0, NULL},
		{200, "{\"schema\":\"{\\\"type\\\":\\\"nonsense\\\"}\"}", 0, 0, NULL},
		{200, "{\"schema\":\"not json\"}", 0, 0, NULL},
		{200, "{\"schema\":\"\\\"string\\\"\"}", 0, 0, NULL},
		{200, WRONG_TYPE_ANSWER, 0, 0, NULL},
		{200, "{\"schema\":17}", 0, 0, NULL},
	};
	struct fixture fixture;

	BEGIN(fixture, steps, .retry_max_ms = 1000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 1), STATUS_BAD_RECORD);
	ck_has(fixture.error.text, "order");
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 2), STATUS_BAD_RECORD);
	ck_has(fixture.error.text, "PROTOBUF");
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 3), STATUS_BAD_RECORD);
	ck_has(fixture.error.text, "refers to other schemas");
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 4), STATUS_BAD_RECORD);
	ck_has(fixture.error.text, "no Avro schema");
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 5), STATUS_BAD_RECORD);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 6), STATUS_BAD_RECORD);
	/* Our record's name with a field that cannot be ours is a wrong deployment, not a wrong record. */
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_INCOMPATIBLE);
	ck_has(fixture.error.text, "schema id 7");
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 8), STATUS_RETRY);
	ck_assert_int_eq(requests(&fixture), 8);
	/* All but the last two are remembered. */
	for (uint32_t id = 1; id <= 6; id++)
		ck_assert_int_eq(ask(&fixture, RECORD_ITEM, id), STATUS_BAD_RECORD);
	ck_assert_int_eq(requests(&fixture), 8);
	end(&fixture);
}
END_TEST

/* Once the registry has answered, a refusal of one id is about that id: no record may stop the stream. */
START_TEST(refusals_of_one_id_are_bad_records)
{
	static const struct server_step steps[] = {
		{403, "{\"error_code\":40301,\"message\":\"denied\"}", 0, 0, NULL},
		{404, UNKNOWN_ANSWER, 0, 0, NULL},
		{403, "{\"error_code\":40301,\"message\":\"denied Read on Subject\"}", 0, 0, NULL},
		{400, "{\"error_code\":400,\"message\":\"bad id\"}", 0, 0, NULL},
		{422, "{\"error_code\":42201,\"message\":\"odd\"}", 0, 0, NULL},
		{401, "{}", 0, 0, NULL},
		{404, "<html/>", 0, 0, NULL},
	};
	struct fixture fixture;

	BEGIN(fixture, steps, .retry_max_ms = 300);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 1), STATUS_NO_PERMISSION);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 2), STATUS_UNKNOWN_SCHEMA);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 3), STATUS_BAD_RECORD);
	ck_has(fixture.error.text, "denied Read on Subject");
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 4), STATUS_BAD_RECORD);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 5), STATUS_BAD_RECORD);
	/* Credentials that ended, and a path that went away, are not about an id. */
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 6), STATUS_NO_PERMISSION);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_RETRY);
	ck_assert_int_ge(requests(&fixture), 7);
	/* Ids that no registry can hold are not asked for. */
	int before = requests(&fixture);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 0x80000000u), STATUS_UNKNOWN_SCHEMA);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, UINT32_MAX), STATUS_UNKNOWN_SCHEMA);
	ck_has(fixture.error.text, "schema.registry");
	ck_assert_int_eq(requests(&fixture), before);
	end(&fixture);
}
END_TEST

START_TEST(huge_answers_are_cut_off)
{
	static const struct server_step steps[] = {{200, "{\"schema\":\"", 0, 64u << 20, NULL}};
	struct fixture fixture;

	BEGIN(fixture, steps, .retry_max_ms = 3000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_LIMIT);
	ck_has(fixture.error.text, "larger than");
	ck_assert_int_eq(requests(&fixture), 1);
	end(&fixture);
}
END_TEST

START_TEST(credentials_are_sent_and_never_printed)
{
	static const struct server_step steps[] = {
		{401, "{\"error_code\":40101,\"message\":\"Unauthorized\"}", 0, 0, NULL},
		{503, "", 0, 0, NULL},
	};
	struct fixture fixture;
	struct registry *registry = NULL;
	struct error error = {0};
	const struct codec_plan *plan;
	char url[96];

	BEGIN(fixture, steps, .user = "ann", .password = "s3cret", .retry_max_ms = 200);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_NO_PERMISSION);
	ck_has(fixture.error.text, "schema.registry.password");
	ck_lacks(fixture.error.text, "s3cret");
	ck_has(registry_describe(fixture.registry), "ann@127.0.0.1");
	ck_lacks(registry_describe(fixture.registry), "s3cret");
	ck_has(fixture.server->request[0], "Authorization: Basic YW5uOnMzY3JldA==\r\n");
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_RETRY);
	ck_lacks(fixture.error.text, "s3cret");

	/* The same inside the URL, percent-encoded. */
	snprintf(url, sizeof url, "http://bob:p%%40ss@127.0.0.1:%d", fixture.server->port);
	ck_assert_int_eq(registry_create(&(struct registry_options){.url = url, .retry_max_ms = 200},
					 &registry, &error), STATUS_OK);
	int before = requests(&fixture);
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 7, &plan, &error), STATUS_RETRY);
	ck_has(fixture.server->request[before], "Authorization: Basic Ym9iOnBAc3M=\r\n");
	ck_lacks(error.text, "ss@");
	ck_lacks(registry_describe(registry), "ss@");
	ck_has(registry_describe(registry), "http://bob@127.0.0.1");
	registry_destroy(registry);
	end(&fixture);
}
END_TEST

START_TEST(redirects_are_not_followed)
{
	static const struct server_step steps[] = {{302, "", 0, 0, "Location: http://127.0.0.1:1/x\r\n"}};
	struct fixture fixture;

	BEGIN(fixture, steps, .user = "ann", .password = "s3cret", .retry_max_ms = 2000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_CONFIG);
	ck_has(fixture.error.text, "final address");
	ck_assert_int_eq(requests(&fixture), 1);
	end(&fixture);
}
END_TEST

START_TEST(writer_id_is_looked_up_then_registered_once)
{
	static const struct server_step steps[] = {
		{404, "{\"error_code\":40401,\"message\":\"Subject not found\"}", 0, 0, NULL},
		{200, "{\"id\":41}", 0, 0, NULL},
	};
	struct fixture fixture;
	uint32_t id = 0;

	BEGIN(fixture, steps, .retry_max_ms = 2000);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_PREDICTION, "predictions", &id,
						    &fixture.error), STATUS_OK);
		ck_assert_uint_eq(id, 41);
	}
	ck_assert_int_eq(requests(&fixture), 2);
	ck_has(fixture.server->request[0], "POST /api/subjects/predictions-value HTTP");
	ck_has(fixture.server->request[1], "POST /api/subjects/predictions-value/versions HTTP");
	ck_has(fixture.server->request[1], "\r\n\r\n{\"schema\":\"{");
	ck_has(fixture.server->request[1], "prediction");
	end(&fixture);
}
END_TEST

START_TEST(writer_id_refusals)
{
	static const struct server_step steps[] = {
		{200, "{\"subject\":\"a-value\",\"version\":1,\"id\":2147483647}", 0, 0, NULL},
		{404, "{\"error_code\":40403}", 0, 0, NULL},
		{409, "{\"error_code\":409,\"message\":\"reader field x has no default\"}", 0, 0, NULL},
		{404, "{\"error_code\":40403}", 0, 0, NULL},
		{403, "{\"error_code\":40301,\"message\":\"read only\"}", 0, 0, NULL},
		{200, "{\"id\":2147483648}", 0, 0, NULL},
		{200, "{\"id\":\"seven\"}", 0, 0, NULL},
	};
	struct fixture fixture;
	uint32_t id = 0;
	char long_topic[300];

	BEGIN(fixture, steps, .retry_max_ms = 1000);
	ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_ITEM, "a", &id, &fixture.error), STATUS_OK);
	ck_assert_uint_eq(id, INT32_MAX);
	ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_ITEM, "b", &id, &fixture.error),
			 STATUS_INCOMPATIBLE);
	ck_has(fixture.error.text, "b-value");
	ck_has(fixture.error.text, "reader field x has no default");
	ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_ITEM, "c", &id, &fixture.error),
			 STATUS_NO_PERMISSION);
	ck_has(fixture.error.text, "read only");
	ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_ITEM, "d", &id, &fixture.error),
			 STATUS_RETRY);
	ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_ITEM, "e", &id, &fixture.error),
			 STATUS_RETRY);
	ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_ITEM, "a/../b", &id, &fixture.error),
			 STATUS_CONFIG);
	memset(long_topic, 'a', sizeof long_topic - 1);
	long_topic[sizeof long_topic - 1] = '\0';
	ck_assert_int_eq(registry_writer_id(fixture.registry, RECORD_ITEM, long_topic, &id, &fixture.error),
			 STATUS_CONFIG);
	ck_assert_int_eq(requests(&fixture), 7);
	ck_assert_uint_eq(id, INT32_MAX);
	end(&fixture);
}
END_TEST

struct asker {
	struct registry *registry;
	enum status status;
};

static void *ask_slowly(void *context)
{
	struct asker *asker = context;
	const struct codec_plan *plan;
	struct error error = {0};

	asker->status = registry_plan(asker->registry, RECORD_ITEM, 8, &plan, &error);
	return NULL;
}

START_TEST(cached_lookups_do_not_wait_and_cancel_ends_waiting)
{
	static const struct server_step steps[] = {
		{200, ITEM_ANSWER, 0, 0, NULL},
		{200, ITEM_ANSWER, 60000, 0, NULL},
	};
	struct fixture fixture;
	struct asker asker;
	pthread_t thread;
	int64_t start;

	BEGIN(fixture, steps, .request_timeout_ms = 60000, .retry_max_ms = 60000);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_OK);
	asker.registry = fixture.registry;
	ck_assert_int_eq(pthread_create(&thread, NULL, ask_slowly, &asker), 0);
	while (requests(&fixture) < 2)
		usleep(1000);
	start = clock_steady_ns();
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_OK);
	ck_assert_int_lt((clock_steady_ns() - start) / 1000000, 500);
	start = clock_steady_ns();
	registry_cancel(fixture.registry);
	pthread_join(thread, NULL);
	ck_assert_int_lt((clock_steady_ns() - start) / 1000000, 2000);
	ck_assert_int_eq(asker.status, STATUS_INTERRUPTED);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 7), STATUS_OK);
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 9), STATUS_INTERRUPTED);
	end(&fixture);
}
END_TEST

static void *ask_many(void *context)
{
	struct asker *asker = context;
	const struct codec_plan *plan;
	struct error error = {0};

	asker->status = STATUS_OK;
	for (int round = 0; round < 20 && !asker->status; round++)
		for (uint32_t id = 1; id <= 16 && !asker->status; id++)
			asker->status = registry_plan(asker->registry, RECORD_ITEM, id, &plan, &error);
	return NULL;
}

START_TEST(threads_share_one_cache)
{
	static const struct server_step steps[] = {{200, ITEM_ANSWER, 0, 0, NULL}};
	struct fixture fixture;
	struct asker askers[4];
	pthread_t threads[4];

	BEGIN(fixture, steps, .retry_max_ms = 5000, .schemas_max = 16);
	for (int i = 0; i < 4; i++) {
		askers[i].registry = fixture.registry;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_many, &askers[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(askers[i].status, STATUS_OK);
	}
	ck_assert_int_ge(requests(&fixture), 16);
	ck_assert_int_le(requests(&fixture), 64);
	/* The seventeenth does not fit: a dead letter, not more memory. */
	ck_assert_int_eq(ask(&fixture, RECORD_ITEM, 17), STATUS_LIMIT);
	end(&fixture);
}
END_TEST

START_TEST(wrong_settings_are_refused_at_once)
{
	static const char *const urls[] = {"http://", "http://[::1", "https://host:99999", "ftp://host/x",
					   "http://u:s3cret@host/?a=b", "/no/such/folder", "dir:/no/such"};
	struct registry *registry = NULL;
	struct error error = {0};

	for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
		ck_assert_int_eq(registry_create(&(struct registry_options){.url = urls[i]}, &registry, &error),
				 STATUS_CONFIG);
		ck_has(error.text, "schema.registry");
		ck_lacks(error.text, "s3cret");
	}
	ck_assert_int_eq(registry_create(&(struct registry_options){.url = "https://host", .ca_file = "/no/ca"},
					 &registry, &error), STATUS_CONFIG);
	ck_has(error.text, "schema.registry.ca_file");
	ck_assert_ptr_null(registry);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("registry_http");
	TCase *tests = tcase_create("http");

	log_configure(LOG_ERROR, false);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, plan_is_fetched_once);
	tcase_add_test(tests, server_errors_are_tried_again);
	tcase_add_test(tests, retries_are_bounded);
	tcase_add_test(tests, nobody_listens);
	tcase_add_test(tests, slow_answers_time_out);
	tcase_add_test(tests, unknown_id_names_the_setting_and_is_remembered);
	tcase_add_test(tests, wrong_path_is_not_an_unknown_id);
	tcase_add_test(tests, schemas_that_are_not_ours);
	tcase_add_test(tests, refusals_of_one_id_are_bad_records);
	tcase_add_test(tests, huge_answers_are_cut_off);
	tcase_add_test(tests, credentials_are_sent_and_never_printed);
	tcase_add_test(tests, redirects_are_not_followed);
	tcase_add_test(tests, writer_id_is_looked_up_then_registered_once);
	tcase_add_test(tests, writer_id_refusals);
	tcase_add_test(tests, cached_lookups_do_not_wait_and_cancel_ends_waiting);
	tcase_add_test(tests, threads_share_one_cache);
	tcase_add_test(tests, wrong_settings_are_refused_at_once);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
