/* test_registry_tls.c - the registry client over TLS against openssl's own server: certificates are
 * checked unless told otherwise, a private authority and a client certificate work, and a refused
 * certificate is a configuration error at once, not something to try for 30 s. Skipped without openssl. */
#include "schemas/registry.h"

#include "base/clock.h"
#include "base/log.h"
#include "tests/check_run.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], authority[96], certificate[96], key[96], url[64], other_name_url[64];
static pid_t server;

static int connect_to(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int probe = socket(AF_INET, SOCK_STREAM, 0);
	int result = connect(probe, (struct sockaddr *)&address, sizeof address);

	close(probe);
	return result;
}

static int free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int probe = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(bind(probe, (struct sockaddr *)&address, size), 0);
	ck_assert_int_eq(getsockname(probe, (struct sockaddr *)&address, &size), 0);
	close(probe);
	return ntohs(address.sin_port);
}

static void begin(bool ask_client)
{
	static const char script[] =
		"cd \"$1\" && mkdir -p schemas/ids && for who in server client; do "
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
		"-keyout $who.key -out $who.pem -subj /CN=exitpoll-$who "
		"-addext subjectAltName=IP:127.0.0.1 2>/dev/null || exit 1; done; "
		"printf 'HTTP/1.0 200 ok\\r\\nContent-Type: application/json\\r\\n\\r\\n"
		"{\"schema\":\"{\\\\\"type\\\\\":\\\\\"record\\\\\",\\\\\"name\\\\\":\\\\\"item\\\\\","
		"\\\\\"fields\\\\\":[{\\\\\"name\\\\\":\\\\\"item_id\\\\\",\\\\\"type\\\\\":\\\\\"string\\\\\"},"
		"{\\\\\"name\\\\\":\\\\\"event_time\\\\\",\\\\\"type\\\\\":\\\\\"long\\\\\"}]}\"}' "
		">schemas/ids/7";
	char accept_at[32], command[sizeof script + 96];
	int port = free_port();

	snprintf(folder, sizeof folder, "/tmp/exitpoll-tls-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(command, sizeof command, "set -- '%s'; %s", folder, script);
	ck_assert_int_eq(system(command), 0);
	snprintf(authority, sizeof authority, "%s/server.pem", folder);
	snprintf(certificate, sizeof certificate, "%s/client.pem", folder);
	snprintf(key, sizeof key, "%s/client.key", folder);
	snprintf(url, sizeof url, "https://127.0.0.1:%d", port);
	snprintf(other_name_url, sizeof other_name_url, "https://localhost:%d", port);
	snprintf(accept_at, sizeof accept_at, "127.0.0.1:%d", port);
	server = fork();
	if (server == 0) {
		char *plain[] = {"openssl", "s_server", "-quiet", "-HTTP", "-accept", accept_at, "-cert",
				 "server.pem", "-key", "server.key", NULL, NULL, NULL, NULL, NULL, NULL};
		if (ask_client) {
			plain[10] = "-Verify", plain[11] = "1", plain[12] = "-CAfile", plain[13] = "client.pem";
			plain[14] = "-verify_return_error";
		}
		if (chdir(folder) || !freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
			_exit(1);
		execvp("openssl", plain);
		_exit(1);
	}
	for (int i = 0; i < 500 && connect_to(port); i++)
		usleep(10000);
}

static void end(void)
{
	char command[128];

	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

static void begin_plain(void)
{
	begin(false);
}

static void begin_asking(void)
{
	begin(true);
}

static enum status ask(struct registry_options options, struct error *error)
{
	struct registry *registry = NULL;
	const struct codec_plan *plan;
	enum status status;

	options.retry_max_ms = options.retry_max_ms ? options.retry_max_ms : 3000;
	options.url = options.url ? options.url : url;
	status = registry_create(&options, &registry, error);
	if (!status)
		status = registry_plan(registry, RECORD_ITEM, 7, &plan, error);
	registry_destroy(registry);
	return status;
}

#define ck_status(status, expected) ck_assert_msg((status) == (expected), "%s", error.text)

START_TEST(certificates_are_checked)
{
	struct error error = {0};
	int64_t start = clock_steady_ns();

	ck_status(ask((struct registry_options){.verify = true, .retry_max_ms = 20000}, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "schema.registry.ca_file"));
	ck_assert_int_lt((clock_steady_ns() - start) / 1000000, 5000);
	ck_status(ask((struct registry_options){.verify = true, .ca_file = authority}, &error), STATUS_OK);
	ck_status(ask((struct registry_options){.verify = true, .ca_file = authority, .url = other_name_url},
		      &error), STATUS_CONFIG);
	ck_status(ask((struct registry_options){.verify = false}, &error), STATUS_OK);
	/* A file that is there but holds no certificate. */
	ck_status(ask((struct registry_options){.verify = true, .ca_file = "/dev/null"}, &error), STATUS_CONFIG);
}
END_TEST

START_TEST(client_certificate)
{
	struct error error = {0};

	ck_status(ask((struct registry_options){.verify = true, .ca_file = authority,
		      .certificate_file = certificate, .key_file = key}, &error), STATUS_OK);
	ck_assert_int_ne(ask((struct registry_options){.verify = true, .ca_file = authority,
			     .retry_max_ms = 300}, &error), STATUS_OK);
	ck_status(ask((struct registry_options){.verify = true, .ca_file = authority,
		      .certificate_file = certificate, .key_file = authority}, &error), STATUS_CONFIG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("registry_tls");
	TCase *plain = tcase_create("server"), *asking = tcase_create("client certificate");

	if (system("openssl version >/dev/null 2>&1") != 0) {
		printf("skipped: no openssl\n");
		return 77;
	}
	log_configure(LOG_ERROR, false);
	tcase_set_timeout(plain, 60);
	tcase_add_checked_fixture(plain, begin_plain, end);
	tcase_add_test(plain, certificates_are_checked);
	suite_add_tcase(suite, plain);
	tcase_set_timeout(asking, 60);
	tcase_add_checked_fixture(asking, begin_asking, end);
	tcase_add_test(asking, client_certificate);
	suite_add_tcase(suite, asking);
	return check_run(suite);
}
