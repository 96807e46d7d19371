/* http.c - the HTTP server: routes, the probes and the life of the daemon. The page itself is in
 * http_page.c.
 *
 * libmicrohttpd runs one thread (epoll); every answer is made in memory, so a slow client holds a
 * buffer and no lock. Invariant: nothing of a request but its method and path is looked at, and no text
 * of a request comes back in an answer. */
#include "base/http.h"

#include "base/http_page.h"
#include "base/mem.h"

#if EXITPOLL_KAFKA

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CONNECTIONS_MAX = 32,
	CONNECTION_SECONDS = 10,
	CONNECTION_BYTES = 16384,
	BACKLOG = 64,
};

struct http_server {
	struct http_options options;
	char *title;
	struct MHD_Daemon *daemon;
	int port;
	int64_t start_ms;
};

/* ---- answers ---- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int code, const char *type,
			      const char *body)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(body), (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Content-Security-Policy",
				"default-src 'none'; style-src 'unsafe-inline'");
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, "Allow", "GET, HEAD");
	result = MHD_queue_response(connection, code, response);
	MHD_destroy_response(response);
	return result;
}

/* answer() for a body that may be NULL for want of memory, and is released here. */
static enum MHD_Result answer_made(struct MHD_Connection *connection, const char *type, char *body)
{
	enum MHD_Result result = body ? answer(connection, MHD_HTTP_OK, type, body)
				      : answer(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain",
					       "out of memory\n");
	mem_free(body);
	return result;
}

static enum MHD_Result answer_probe(struct MHD_Connection *connection,
				    bool (*well)(void *context, char *why, size_t why_bytes), void *context)
{
	char why[512] = "", text[520];

	if (!well || well(context, why, sizeof why))
		return answer(connection, MHD_HTTP_OK, "text/plain; charset=utf-8", "ok\n");
	snprintf(text, sizeof text, "%s\n", *why ? why : "no");
	return answer(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_size, void **state)
{
	static const int seen = 1;
	struct http_server *server = context;
	const struct http_options *options = &server->options;

	(void)version;
	(void)upload;
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		/* The answer is queued once the upload is over; until then it is thrown away. */
		if (!*state || *upload_size) {
			*state = (void *)(uintptr_t)&seen;
			*upload_size = 0;
			return MHD_YES;
		}
		return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n");
	}
	if (strcmp(path, "/livez") == 0)
		return answer_probe(connection, options->live, options->context);
	if (strcmp(path, "/readyz") == 0)
		return answer_probe(connection, options->ready, options->context);
	if (strcmp(path, "/metrics") == 0)
		return answer_made(connection, "text/plain; version=0.0.4; charset=utf-8",
				   options->metrics ? metrics_render(options->metrics) : mem_copy_string(""));
	if (strcmp(path, "/") == 0)
		return answer_made(connection, "text/html; charset=utf-8",
				   http_page(options, server->title, server->start_ms));
	return answer(connection, MHD_HTTP_NOT_FOUND, "text/plain", "see /, /livez, /readyz and /metrics\n");
}

/* ---- life ---- */

static enum status listen_at(const struct http_options *options, int *listener, int *port,
			     struct error *error)
{
	const char *host = options->host && *options->host ? options->host : "127.0.0.1";
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof address;
	char service[16];
	int file = -1, on = 1, code;
	enum status status = STATUS_OK;

	snprintf(service, sizeof service, "%d", options->port);
	code = getaddrinfo(host, service, &hints, &found);
	if (code)
		return error_set(error, STATUS_CONFIG, "http.host: %s: %s", host, gai_strerror(code));
	file = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (file >= 0)
		setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (file < 0 || bind(file, found->ai_addr, found->ai_addrlen) || listen(file, BACKLOG) ||
	    getsockname(file, (struct sockaddr *)&address, &size)) {
		status = error_set(error, errno == EACCES ? STATUS_NO_PERMISSION : STATUS_CONFIG,
				   "http.port: cannot listen at %s port %d: %m", host, options->port);
		if (file >= 0)
			close(file);
		goto cleanup;
	}
	*listener = file;
	*port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
						    : ((struct sockaddr_in *)&address)->sin_port);
cleanup:
	freeaddrinfo(found);
	return status;
}

/* Errors of single connections (a client that hung up) are nobody's concern. */
static void ignore_log(void *context, const char *format, va_list arguments)
{
	(void)context;
	(void)format;
	(void)arguments;
}

enum status http_server_start(const struct http_options *options, struct http_server **out,
			      struct error *error)
{
	struct http_server *server = mem_alloc_zero(1, sizeof *server);
	int listener = -1;
	enum status status;

	if (!server)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
	server->options = *options;
	server->start_ms = clock_wall_ms();
	server->title = mem_copy_string(options->title ? options->title : "exitpoll");
	if (!server->title) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
		goto cleanup;
	}
	status = listen_at(options, &listener, &server->port, error);
	if (status)
		goto cleanup;
	server->daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
		server, MHD_OPTION_EXTERNAL_LOGGER, ignore_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, (MHD_socket)listener,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)CONNECTION_SECONDS,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_END);
	if (!server->daemon) {
		close(listener);
		status = error_set(error, STATUS_UNAVAILABLE, "the HTTP server did not start: %m");
		goto cleanup;
	}
	*out = server;
	server = NULL;
cleanup:
	http_server_stop(server);
	return status;
}

void http_server_stop(struct http_server *server)
{
	if (!server)
		return;
	if (server->daemon)
		MHD_stop_daemon(server->daemon);
	mem_free(server->title);
	mem_free(server);
}

int http_server_port(const struct http_server *server)
{
	return server->port;
}

#else

enum status http_server_start(const struct http_options *options, struct http_server **out,
			      struct error *error)
{
	(void)options;
	(void)out;
	return error_set(error, STATUS_UNSUPPORTED, "this program was built without its HTTP server");
}

void http_server_stop(struct http_server *server)
{
	(void)server;
}

int http_server_port(const struct http_server *server)
{
	(void)server;
	return 0;
}

#endif
