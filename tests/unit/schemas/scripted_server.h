/* scripted_server.h - an HTTP server for tests that answers the n-th request with the n-th step of a
 * script: right, wrong, late, endless or not at all. One thread, one connection at a time, loopback, a
 * free port. After the script's end its last step repeats. Requests are kept for the test to look at. */
#ifndef EXITPOLL_TESTS_SCRIPTED_SERVER_H
#define EXITPOLL_TESTS_SCRIPTED_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SERVER_REQUESTS_MAX = 64, SERVER_REQUEST_BYTES = 16384 };

struct server_step {
	int code;                       /* HTTP status; 0: close the connection without an answer */
	const char *body;
	int delay_ms;                   /* before the answer */
	size_t filler_bytes;            /* so many 'x' follow the body */
	const char *header;             /* a further header line with "\r\n"; NULL: none */
};

struct server {
	const struct server_step *steps;
	size_t steps_count;
	int listener;
	int port;
	pthread_t thread;
	atomic_bool stop;
	atomic_int requests;
	char request[SERVER_REQUESTS_MAX][SERVER_REQUEST_BYTES];
};

static void server_send(int connection, const char *bytes, size_t count)
{
	while (count > 0) {
		ssize_t sent = send(connection, bytes, count, MSG_NOSIGNAL);
		if (sent <= 0)
			return;
		bytes += sent;
		count -= (size_t)sent;
	}
}

static void server_read(int connection, char *request)
{
	size_t used = 0, wanted = 0;

	while (used + 1 < SERVER_REQUEST_BYTES) {
		ssize_t got = recv(connection, request + used, SERVER_REQUEST_BYTES - 1 - used, 0);
		char *end, *length;

		if (got <= 0)
			return;
		used += (size_t)got;
		request[used] = '\0';
		end = strstr(request, "\r\n\r\n");
		if (!end)
			continue;
		if (strstr(request, "Expect: 100-continue"))
			server_send(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		length = strstr(request, "Content-Length: ");
		wanted = (size_t)(end + 4 - request) + (length ? strtoul(length + 16, NULL, 10) : 0);
		if (used >= wanted)
			return;
	}
}

static void server_answer(struct server *server, int connection)
{
	int number = atomic_load(&server->requests);
	size_t index = (size_t)number < server->steps_count ? (size_t)number : server->steps_count - 1;
	const struct server_step *step = &server->steps[index];
	static const char filler[4096] = {'x'};
	char head[512];
	int size;

	server_read(connection, server->request[number % SERVER_REQUESTS_MAX]);
	atomic_fetch_add(&server->requests, 1);
	for (int waited = 0; waited < step->delay_ms && !atomic_load(&server->stop); waited += 5)
		usleep(5000);
	if (!step->code)
		return;
	size = snprintf(head, sizeof head, "HTTP/1.1 %d Scripted\r\nContent-Length: %zu\r\n%s"
			"Connection: close\r\n\r\n", step->code, strlen(step->body) + step->filler_bytes,
			step->header ? step->header : "");
	server_send(connection, head, (size_t)size);
	server_send(connection, step->body, strlen(step->body));
	for (size_t left = step->filler_bytes; left > 0;) {
		size_t part = left < sizeof filler ? left : sizeof filler;
		server_send(connection, filler, part);
		left -= part;
	}
}

static void *server_run(void *context)
{
	struct server *server = context;

	while (!atomic_load(&server->stop)) {
		struct pollfd waiting = {server->listener, POLLIN, 0};
		struct timeval limit = {2, 0};
		int connection;

		if (poll(&waiting, 1, 10) <= 0)
			continue;
		connection = accept(server->listener, NULL, NULL);
		if (connection < 0)
			continue;
		setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
		server_answer(server, connection);
		close(connection);
	}
	return NULL;
}

/* Never returns NULL: a test without its server aborts. */
static struct server *server_start(const struct server_step *steps, size_t count)
{
	struct server *server = calloc(1, sizeof *server);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;

	if (!server)
		abort();
	server->steps = steps;
	server->steps_count = count;
	server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server->listener, (struct sockaddr *)&address, size) || listen(server->listener, 64) ||
	    getsockname(server->listener, (struct sockaddr *)&address, &size))
		abort();
	server->port = ntohs(address.sin_port);
	if (pthread_create(&server->thread, NULL, server_run, server))
		abort();
	return server;
}

static void server_stop(struct server *server)
{
	atomic_store(&server->stop, true);
	pthread_join(server->thread, NULL);
	close(server->listener);
	free(server);
}

#endif
