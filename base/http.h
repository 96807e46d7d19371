/* http.h - the small HTTP server of a running instance: /livez, /readyz, /metrics and a status page.
 *
 * Read-only and without secrets, so without authentication; it binds to the loopback interface unless
 * told otherwise. One thread of its own, which calls the callbacks: they must not block for long and
 * must be safe beside the owner's thread. At most 32 connections, 10 s each. */
#ifndef EXITPOLL_BASE_HTTP_H
#define EXITPOLL_BASE_HTTP_H

#include "base/metrics.h"
#include "base/status.h"

struct http_server;
struct http_rows;

struct http_options {
	const char *host;               /* address or "localhost"; NULL: 127.0.0.1 */
	int port;                       /* 0: a free one, see http_server_port() */
	const char *title;              /* of the status page; NULL: "exitpoll" */
	/* True: well. Else writes why (NUL-terminated, for people). NULL: always well. */
	bool (*live)(void *context, char *why, size_t why_bytes);
	bool (*ready)(void *context, char *why, size_t why_bytes);
	/* Adds the rows of the status page with http_row(); NULL: none. */
	void (*rows)(void *context, struct http_rows *rows);
	void *context;
	struct metrics *metrics;        /* outlives the server; NULL: /metrics is empty */
};

/* STATUS_CONFIG: the address is none or taken; STATUS_NO_PERMISSION: the port is a privileged one;
 * STATUS_UNSUPPORTED: built without Kafka, hence without HTTP. */
enum status http_server_start(const struct http_options *options, struct http_server **out,
			      struct error *error);
/* Waits for answers in progress. NULL ok. */
void http_server_stop(struct http_server *server);
int http_server_port(const struct http_server *server);

/* One line "name  value" of the status page; both are escaped. Only inside the rows callback. */
void http_row(struct http_rows *rows, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
