/* Settings: origins, types, suggestions, secrets, files. */
#include "base/config.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct config_key keys[] = {
	{"graph.threshold", CONFIG_NUMBER, "0.03", 0, 1, NULL, false, "help"},
	{"graph.layers", CONFIG_INTEGER, "3", 1, 4, NULL, false, "help"},
	{"exit.rule", CONFIG_CHOICE, NULL, 0, 0, "discrepancy|none", false, "help"},
	{"deadline.replay", CONFIG_BOOLEAN, "false", 0, 0, NULL, false, "help"},
	{"registry.password", CONFIG_TEXT, NULL, 0, 0, NULL, true, "help"},
	{"topic.items", CONFIG_TEXT, "items", 0, 0, NULL, false, "help"},
};
static struct config *config;
static struct error error;

static bool is_secret(const char *name)
{
	return strstr(name, "password") != NULL;
}

static void setup(void)
{
	config = config_create(keys, sizeof keys / sizeof keys[0], "kafka.", is_secret);
	ck_assert_ptr_nonnull(config);
	memset(&error, 0, sizeof error);
}

static void teardown(void)
{
	config_destroy(config);
}

static enum status set(const char *key, const char *value)
{
	return config_set(config, key, value, CONFIG_COMMAND_LINE, &error);
}

START_TEST(defaults_and_overrides)
{
	ck_assert_double_eq(config_number(config, "graph.threshold"), 0.03);
	ck_assert(!config_is_set(config, "graph.threshold"));
	ck_assert_ptr_null(config_text(config, "exit.rule"));
	ck_assert_int_eq(set("graph.threshold", "0"), STATUS_OK);
	ck_assert_double_eq(config_number(config, "graph.threshold"), 0);
	/* An earlier origin does not override a later one. */
	ck_assert_int_eq(config_set(config, "graph.threshold", "0.5", CONFIG_FILE, &error), STATUS_OK);
	ck_assert_double_eq(config_number(config, "graph.threshold"), 0);
	ck_assert_int_eq(set("deadline.replay", "yes"), STATUS_OK);
	ck_assert(config_boolean(config, "deadline.replay"));
}
END_TEST

START_TEST(wrong_values_are_refused)
{
	static const char *const wrong[][2] = {
		{"graph.threshold", "2"}, {"graph.threshold", "nan"}, {"graph.threshold", ""}, {"graph.threshold", "1x"},
		{"graph.layers", "0"}, {"graph.layers", "5"}, {"graph.layers", "2.5"},
		{"graph.layers", "99999999999999999999"}, {"exit.rule", "disc"}, {"exit.rule", ""},
		{"exit.rule", "discrepancy|none"}, {"deadline.replay", "maybe"}, {"kafka.", "x"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		ck_assert_msg(set(wrong[i][0], wrong[i][1]) == STATUS_CONFIG, "%s=%s", wrong[i][0], wrong[i][1]);
	ck_assert_int_eq(config_integer(config, "graph.layers"), 3);
}
END_TEST

START_TEST(unknown_keys_get_the_nearest)
{
	ck_assert_int_eq(set("graph.treshold", "0"), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "did you mean 'graph.threshold'"));
	ck_assert_int_eq(set("zzzzzzzzzzzzzzzzzzzzzzz", "0"), STATUS_CONFIG);
	ck_assert_ptr_null(strstr(error.text, "did you mean"));
}
END_TEST

START_TEST(passed_through_keys)
{
	const char *name, *value;
	ck_assert_int_eq(set("kafka.linger.ms", "5"), STATUS_OK);
	ck_assert_int_eq(set("kafka.linger.ms", "7"), STATUS_OK);
	ck_assert_uint_eq(config_passed_count(config), 1);
	config_passed_at(config, 0, &name, &value);
	ck_assert_str_eq(name, "linger.ms");
	ck_assert_str_eq(value, "7");
}
END_TEST

static void assert_hidden(const char *secret)
{
	struct config_entry entry;
	for (size_t i = 0; i < config_entries(config); i++) {
		config_entry_at(config, i, &entry);
		ck_assert_msg(!entry.value || !strstr(entry.value, secret), "%s is shown", entry.key);
		ck_assert(!strstr(entry.origin, secret));
	}
}

START_TEST(secrets)
{
	char path[] = "/tmp/exitpoll-secret-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_eq(write(fd, "hunter2\n", 8), 8);
	close(fd);
	/* In plain on the command line: refused, and the message does not repeat it. */
	ck_assert_int_eq(set("registry.password", "hunter2"), STATUS_CONFIG);
	ck_assert_ptr_null(strstr(error.text, "hunter2"));
	ck_assert_int_eq(set("kafka.sasl.password", "hunter2"), STATUS_CONFIG);
	ck_assert_ptr_null(strstr(error.text, "hunter2"));
	ck_assert_uint_eq(config_passed_count(config), 0);
	char from_file[64];
	snprintf(from_file, sizeof from_file, "file:%s", path);
	ck_assert_int_eq(set("registry.password", from_file), STATUS_OK);
	ck_assert_str_eq(config_text(config, "registry.password"), "hunter2");
	setenv("EXITPOLL_TEST_SECRET", "hunter2", 1);
	ck_assert_int_eq(set("kafka.ssl.key.password", "env:EXITPOLL_TEST_SECRET"), STATUS_OK);
	ck_assert_int_eq(set("kafka.sasl.password", "env:EXITPOLL_NOT_THERE"), STATUS_CONFIG);
	assert_hidden("hunter2");
	unlink(path);
}
END_TEST

START_TEST(files)
{
	char path[] = "/tmp/exitpoll-config-XXXXXX";
	static const char text[] = "# comment\n\n graph.layers = 2 \ntopic.items = a\\\nb\nkafka.x=1\n";
	int fd = mkstemp(path);
	ck_assert_int_eq(write(fd, text, sizeof text - 1), (int)sizeof text - 1);
	ck_assert_int_eq(config_load_file(config, path, &error), STATUS_OK);
	ck_assert_int_eq(config_integer(config, "graph.layers"), 2);
	ck_assert_str_eq(config_text(config, "topic.items"), "ab");
	ck_assert_int_eq(write(fd, "graph.layers = 9\n", 17), 17);
	close(fd);
	ck_assert_int_eq(config_load_file(config, path, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, ":7"));
	unlink(path);
	ck_assert_int_eq(config_load_file(config, path, &error), STATUS_NO_INPUT);
}
END_TEST

START_TEST(environment)
{
	struct config_entry entry;
	setenv("TESTCFG_GRAPH_LAYERS", "4", 1);
	setenv("TESTCFG_KAFKA_SASL_USERNAME", "me", 1);
	ck_assert_int_eq(config_load_environment(config, "TESTCFG_", &error), STATUS_OK);
	ck_assert_int_eq(config_integer(config, "graph.layers"), 4);
	const char *name, *value;
	ck_assert_uint_eq(config_passed_count(config), 1);
	config_passed_at(config, 0, &name, &value);
	ck_assert_str_eq(name, "sasl.username");
	config_entry_at(config, 1, &entry);
	ck_assert_str_eq(entry.origin, "environment TESTCFG_GRAPH_LAYERS");
	setenv("TESTCFG_GRAPH_LAYERS", "40", 1);
	ck_assert_int_eq(config_load_environment(config, "TESTCFG_", &error), STATUS_CONFIG);
	unsetenv("TESTCFG_GRAPH_LAYERS");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("config");
	TCase *tests = tcase_create("all");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, defaults_and_overrides);
	tcase_add_test(tests, wrong_values_are_refused);
	tcase_add_test(tests, unknown_keys_get_the_nearest);
	tcase_add_test(tests, passed_through_keys);
	tcase_add_test(tests, secrets);
	tcase_add_test(tests, files);
	tcase_add_test(tests, environment);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
