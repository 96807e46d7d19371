/* test_http.c - the HTTP server of an instance over real sockets: probes, metrics, the page, what is
 * refused, and clients that are slow, many or wrong. */
#include "base/http.h"
#include "tests/check_run.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_bool is_ready;

static bool ready(void *context, char *why, size_t why_bytes)
{
	(void)context;
	snprintf(why, why_bytes, "the broker does not answer");
	return atomic_load(&is_ready);
}

static void rows(void *context, struct http_rows *out)
{
	http_row(out, "source", "%s", (const char *)context);
	http_row(out, "<b>", "%d & \"more\"", 5);
}

static int connect_to(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {5, 0};
	int connection = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(connect(connection, (struct sockaddr *)&address, sizeof address), 0);
	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	return connection;
}

/* Sends text, reads to the end; answer is NUL-terminated. */
static void talk(int port, const char *text, char *answer, size_t bytes)
{
	int connection = connect_to(port);
	size_t used = 0;
	ssize_t got;

	ck_assert_int_eq(send(connection, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	while (used + 1 < bytes && (got = recv(connection, answer + used, bytes - 1 - used, 0)) > 0)
		used += (size_t)got;
	answer[used] = '\0';
	close(connection);
}

static void get(int port, const char *path, char *answer, size_t bytes)
{
	char text[256];

	snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
	talk(port, text, answer, bytes);
}

#define ck_has(text, part) ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)
#define ck_starts(text, start) ck_assert_msg(strncmp(text, start, strlen(start)) == 0, "\"%s\"", text)

static struct http_server *start(struct metrics *metrics, const char *context)
{
	struct http_server *server = NULL;
	struct error error = {0};
	struct http_options options = {.ready = ready, .rows = rows, .context = (void *)(uintptr_t)context,
				       .metrics = metrics, .title = "exitpoll <test>"};

	ck_assert_msg(http_server_start(&options, &server, &error) == STATUS_OK, "%s", error.text);
	ck_assert_int_gt(http_server_port(server), 0);
	return server;
}

START_TEST(probes)
{
	struct http_server *server = start(NULL, "files");
	int port = http_server_port(server);
	char answer[4096];

	atomic_store(&is_ready, true);
	get(port, "/livez", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	ck_has(answer, "\r\n\r\nok\n");
	get(port, "/readyz", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	atomic_store(&is_ready, false);
	get(port, "/readyz?verbose", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 503 ");
	ck_has(answer, "\r\n\r\nthe broker does not answer\n");
	get(port, "/livez", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	get(port, "/metrics", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	http_server_stop(server);
}
END_TEST

START_TEST(metrics_and_page)
{
	struct metrics *metrics = metrics_create(8);
	struct http_server *server = start(metrics, "kafka://<host>");
	int port = http_server_port(server);
	static char answer[65536];

	counter_add(metrics_counter(metrics, "events_total", "Events.", "topic", "a<b"), 12);
	histogram_observe(metrics_histogram(metrics, "commit_seconds", "Commit.", NULL, NULL, NULL, 0), .01);
	get(port, "/metrics", answer, sizeof answer);
	ck_has(answer, "Content-Type: text/plain; version=0.0.4");
	ck_has(answer, "\nevents_total{topic=\"a<b\"} 12\n");
	get(port, "/", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	ck_has(answer, "text/html");
	ck_has(answer, "<title>exitpoll &lt;test&gt;</title>");
	ck_has(answer, "<tr><th>source</th><td>kafka://&lt;host&gt;</td></tr>");
	ck_has(answer, "<tr><th>&lt;b&gt;</th><td>5 &amp; &quot;more&quot;</td></tr>");
	ck_has(answer, "no: the broker does not answer");
	ck_has(answer, "events_total{topic=a&lt;b}");
	ck_has(answer, "1 observations, mean 0.01");
	ck_has(answer, "</html>\n");
	http_server_stop(server);
	metrics_destroy(metrics);
}
END_TEST

START_TEST(what_is_refused)
{
	struct http_server *server = start(NULL, "files");
	int port = http_server_port(server);
	static char answer[65536], large[40000];

	get(port, "/etc/passwd", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 404 ");
	get(port, "/metrics/../..", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 404 ");
	ck_assert_ptr_null(strstr(answer, ".."));
	talk(port, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", answer,
	     sizeof answer);
	ck_starts(answer, "HTTP/1.1 405 ");
	ck_has(answer, "Allow: GET, HEAD");
	talk(port, "DELETE /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 405 ");
	talk(port, "HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	ck_assert_ptr_null(strstr(answer, "ok\n"));
	talk(port, "nonsense\r\n\r\n", answer, sizeof answer);
	ck_assert(*answer == '\0' || strstr(answer, "HTTP/1.1 200") == NULL);
	/* Headers larger than a connection may hold. */
	memset(large, 'a', sizeof large - 1);
	memcpy(large, "GET /livez HTTP/1.1\r\nX: ", 24);
	memcpy(large + sizeof large - 5, "\r\n\r\n", 5);
	{
		int connection = connect_to(port);
		ssize_t got;
		ck_assert_int_gt(send(connection, large, strlen(large), MSG_NOSIGNAL), 0);
		got = recv(connection, answer, sizeof answer - 1, 0);
		ck_assert(got <= 0 || strncmp(answer, "HTTP/1.1 200", 12) != 0);
		close(connection);
	}
	get(port, "/livez", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	http_server_stop(server);
}
END_TEST

START_TEST(idle_clients_do_not_stop_it)
{
	struct http_server *server = start(NULL, "files");
	int port = http_server_port(server), idle[20];
	char answer[4096];

	for (int i = 0; i < 20; i++) {
		idle[i] = connect_to(port);
		ck_assert_int_gt(send(idle[i], "GET /", 5, MSG_NOSIGNAL), 0);
	}
	get(port, "/livez", answer, sizeof answer);
	ck_starts(answer, "HTTP/1.1 200 ");
	/* Stopping does not wait for them. */
	http_server_stop(server);
	for (int i = 0; i < 20; i++)
		close(idle[i]);
}
END_TEST

START_TEST(addresses)
{
	struct http_server *server = start(NULL, "files"), *other = NULL;
	struct error error = {0};

	ck_assert_int_eq(http_server_start(&(struct http_options){.port = http_server_port(server)}, &other,
					   &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "http.port"));
	ck_assert_int_eq(http_server_start(&(struct http_options){.host = "not an address"}, &other, &error),
			 STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "http.host"));
	ck_assert_ptr_null(other);
	ck_assert_int_eq(http_server_start(&(struct http_options){.host = "0.0.0.0"}, &other, &error),
			 STATUS_OK);
	http_server_stop(other);
	http_server_stop(server);
	http_server_stop(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("http");
	TCase *tests = tcase_create("http");

	if (!EXITPOLL_KAFKA) {
		printf("skipped: built without the HTTP server\n");
		return 77;
	}
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, probes);
	tcase_add_test(tests, metrics_and_page);
	tcase_add_test(tests, what_is_refused);
	tcase_add_test(tests, idle_clients_do_not_stop_it);
	tcase_add_test(tests, addresses);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
