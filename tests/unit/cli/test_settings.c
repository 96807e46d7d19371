/* What is printed of the settings: every key with its origin, and no secret, in whatever form it came. */
#include "ops/cli/settings.h"
#include "tests/check_run.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The settings as printed after these --set pairs; the caller frees it. */
static char *printed(char *const *pairs, size_t count, bool json)
{
	struct config *config = settings_create();
	struct error error = {0};
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	ck_assert_ptr_nonnull(config);
	ck_assert_ptr_nonnull(out);
	ck_assert_msg(settings_load(config, NULL, pairs, count, &error) == STATUS_OK, "%s", error.text);
	settings_print(config, json, out);
	fclose(out);
	config_destroy(config);
	return text;
}

/* The value of schema.registry in both forms must be `shown`. */
static void check_registry(const char *url, const char *shown)
{
	char pair[512], line[512];
	char *pairs[] = {pair}, *text;
	json_t *root, *value;

	snprintf(pair, sizeof pair, "schema.registry=%s", url);
	text = printed(pairs, 1, true);
	root = json_loads(text, 0, NULL);
	ck_assert_msg(root != NULL, "not JSON: %s", text);
	value = json_object_get(json_object_get(root, "schema.registry"), "value");
	ck_assert_str_eq(json_string_value(value), shown);
	ck_assert_str_eq(json_string_value(json_object_get(json_object_get(root, "schema.registry"), "origin")),
			 "command line");
	json_decref(root);
	free(text);
	text = printed(pairs, 1, false);
	snprintf(line, sizeof line, "\n%-34s %-24s command line\n", "schema.registry", shown);
	ck_assert_msg(strstr(text, line) != NULL, "%s not in:\n%s", line, text);
	free(text);
}

START_TEST(passwords_in_urls_are_hidden)
{
	check_registry("http://user:geheim@host:8081/apis", "http://user:********@host:8081/apis");
	check_registry("https://user:geheim@host", "https://user:********@host");
	check_registry("http://:geheim@host", "http://:********@host");
	check_registry("http://user:@host", "http://user:********@host");
	check_registry("http://user:ge:he@im@host", "http://user:********@host");
	check_registry("http://user:ge/he?im#x@host/path", "http://user:********@host/path");
}
END_TEST

START_TEST(what_is_no_password_stays)
{
	check_registry("http://host:8081/apis/ccompat/v7", "http://host:8081/apis/ccompat/v7");
	check_registry("http://user@host", "http://user@host");
	check_registry("dir:schemas@home", "dir:schemas@home");
	check_registry("a:b@c", "a:b@c");
	check_registry("://", "://");
	check_registry("://@", "://@");
}
END_TEST

START_TEST(secrets_are_hidden)
{
	static const char *const files[] = {"schema.registry.password", "kafka.sasl.password"};

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		char path[] = "/tmp/exitpoll-settings-XXXXXX", pair[128];
		char *pairs[] = {pair};
		int file = mkstemp(path);
		FILE *out = file >= 0 ? fdopen(file, "w") : NULL;

		ck_assert_ptr_nonnull(out);
		fputs("geheim\n", out);
		fclose(out);
		snprintf(pair, sizeof pair, "%s=file:%s", files[i], path);
		for (int json = 0; json < 2; json++) {
			char *text = printed(pairs, 1, json);
			ck_assert_msg(strstr(text, files[i]) != NULL, "%s is not printed", files[i]);
			ck_assert_msg(strstr(text, "geheim") == NULL, "%s shows its secret", files[i]);
			free(text);
		}
		remove(path);
	}
}
END_TEST

/* Every key of --help-settings is printed, and the other way round (kafka.* aside). */
START_TEST(help_and_print_name_the_same_keys)
{
	char *text = printed(NULL, 0, true), *help = NULL, wanted[128];
	size_t size = 0, keys = 0;
	FILE *out = open_memstream(&help, &size);
	json_t *root = json_loads(text, 0, NULL), *value;
	const char *key;

	ck_assert_ptr_nonnull(root);
	settings_help(out);
	fclose(out);
	json_object_foreach(root, key, value) {
		snprintf(wanted, sizeof wanted, "\n  %-32s ", key);
		ck_assert_msg(strstr(help, wanted) != NULL, "%s is not in the help", key);
		keys++;
	}
	ck_assert_uint_gt(keys, 40);
	json_decref(root);
	free(text);
	free(help);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("settings");
	TCase *tests = tcase_create("settings");

	tcase_add_test(tests, passwords_in_urls_are_hidden);
	tcase_add_test(tests, what_is_no_password_stays);
	tcase_add_test(tests, secrets_are_hidden);
	tcase_add_test(tests, help_and_print_name_the_same_keys);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
