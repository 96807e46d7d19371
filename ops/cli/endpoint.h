/* endpoint.h - what --from and --to say: a folder of container files, or kafka://host:port[,...]. */
#ifndef EXITPOLL_OPS_CLI_ENDPOINT_H
#define EXITPOLL_OPS_CLI_ENDPOINT_H

#include "base/status.h"

#include <stdbool.h>

struct endpoint {
	bool kafka;
	const char *where;      /* folder, or brokers without the scheme; borrowed from the argument */
};

/* STATUS_USAGE for an empty text or an unknown scheme. "file:PATH" and plain paths are folders. */
enum status endpoint_parse(const char *text, struct endpoint *out, struct error *error);

#endif
