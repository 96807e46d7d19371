/* service.h - what a running instance shows to the outside: /livez, /readyz, /metrics and a status page.
 *
 * The pipeline's thread owns every number; service_tick() copies them into metrics, and the HTTP thread
 * reads metrics alone. Ready is what pipeline_ready() says: the broker answers and records can flow. */
#ifndef EXITPOLL_OPS_CLI_SERVICE_H
#define EXITPOLL_OPS_CLI_SERVICE_H

#include "base/config.h"
#include "ops/cli/pipeline.h"
#include "schemas/registry.h"

struct service;

/* All borrowed until service_stop(). */
struct service_options {
	const char *host;               /* http.host */
	int port;                       /* http.port; 0: no service */
	enum stage stage;
	const char *from, *to;          /* as on the command line, for the status page */
	const char *state_folder;       /* NULL: none */
	const struct pipeline *pipeline;
	const struct source *source;
	const struct sink *sink;
	const struct scorer *scorer;    /* NULL: none */
	size_t batch_tokens_max;        /* of the scorer, for the fill of its batches */
	const struct registry *registry;
};

/* With port 0, *out is NULL. STATUS_CONFIG: the address is none or taken; else as http_server_start().
 * Logs the address. */
enum status service_start(const struct service_options *options, struct service **out, struct error *error);
/* Waits for answers in progress. NULL ok. */
void service_stop(struct service *service);

/* The pipeline's thread, after every batch; copies at most ten times a second. NULL ok. */
void service_tick(struct service *service, const struct pipeline_totals *totals);

#endif
