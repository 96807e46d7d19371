/* test_kafka_settings.c - what is passed through, what is refused, and that secrets do not reach the log. */
#include "schemas/kafka_settings.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct kafka_setting settings[] = {
	{"sasl.username", "somebody"},
	{"sasl.password", "correct-horse-battery"},
	{"linger.ms", "5"},
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

/* What one message of the client leaves on standard error. */
static void logged(const char *message, char *out, size_t out_bytes)
{
	FILE *file = tmpfile();
	int kept = dup(STDERR_FILENO);
	size_t size;

	ck_assert_ptr_nonnull(file);
	fflush(stderr);
	dup2(fileno(file), STDERR_FILENO);
	kafka_settings_log(settings, SETTINGS, "consumer", 3, "SASL", message);
	fflush(stderr);
	dup2(kept, STDERR_FILENO);
	close(kept);
	rewind(file);
	size = fread(out, 1, out_bytes - 1, file);
	out[size] = '\0';
	fclose(file);
}

START_TEST(test_a_secret_is_scrubbed_wherever_the_line_is_cut)
{
	char message[1024], line[2048];

	for (size_t before = 440; before < 540; before++) {
		memset(message, 'x', before);
		strcpy(message + before, "correct-horse-battery of somebody");
		logged(message, line, sizeof line);
		ck_assert_ptr_nonnull(strstr(line, "xxx"));
		ck_assert_msg(!strstr(line, "correct") && !strstr(line, "xcorr"), "secret at byte %zu: %s", before, line);
		ck_assert_msg(!strstr(line, "somebody"), "name at byte %zu: %s", before, line);
	}
}
END_TEST

static enum kafka_setting_result take(void *context, const char *name, const char *value)
{
	unsigned *taken = context;

	(void)value;
	if (strcmp(name, "linger.mz") == 0)
		return KAFKA_SETTING_UNKNOWN;
	if (strcmp(name, "sasl.mechanism") == 0)
		return KAFKA_SETTING_INVALID;
	(*taken)++;
	return KAFKA_SETTING_OK;
}

static enum status apply(const char *name, const char *value, unsigned *taken, struct error *error)
{
	static const char *const known[] = {"linger.ms", "5", "acks", "-1"};
	struct kafka_setting one = {name, value};

	*taken = 0;
	return kafka_settings_apply(&one, 1, take, taken, known, 4, error);
}

START_TEST(test_apply_refuses_by_name)
{
	struct error error = {0};
	unsigned taken;

	ck_assert_int_eq(apply("linger.ms", "7", &taken, &error), STATUS_OK);
	ck_assert_uint_eq(taken, 1);
	ck_assert_int_eq(apply("isolation.level", "read_uncommitted", &taken, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "inputs are read committed"));
	ck_assert_uint_eq(taken, 0);
	ck_assert_int_eq(apply("linger.mz", "7", &taken, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "did you mean kafka.linger.ms?"));
	ck_assert_int_eq(apply("sasl.mechanism", "hunter2", &taken, &error), STATUS_CONFIG);
	ck_assert_ptr_null(strstr(error.text, "hunter2"));
}
END_TEST

START_TEST(test_what_is_secret)
{
	ck_assert(kafka_setting_is_secret("sasl.password"));
	ck_assert(kafka_setting_is_secret("ssl.key.pem"));
	ck_assert(kafka_setting_is_secret("sasl.oauthbearer.client.secret"));
	ck_assert(!kafka_setting_is_secret("linger.ms"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kafka_settings");
	TCase *tests = tcase_create("all");

	tcase_add_test(tests, test_a_secret_is_scrubbed_wherever_the_line_is_cut);
	tcase_add_test(tests, test_apply_refuses_by_name);
	tcase_add_test(tests, test_what_is_secret);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
