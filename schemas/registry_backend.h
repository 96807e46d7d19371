/* registry_backend.h - where schemas come from, as registry.c sees it: three of these exist (HTTP,
 * folder, built-in). Private to schemas/registry*.c. Any thread may call; the cache is not theirs. */
#ifndef EXITPOLL_SCHEMAS_REGISTRY_BACKEND_H
#define EXITPOLL_SCHEMAS_REGISTRY_BACKEND_H

#include "schemas/registry.h"

#include <stdatomic.h>

enum { SCHEMA_BYTES_MAX = 1 << 20 };    /* one schema's text; ours have a few KiB */

struct registry_backend {
	/* The text of an id, NUL-terminated, the caller's (mem_free). */
	enum status (*fetch)(struct registry_backend *self, uint32_t schema_id, char **json,
			     struct error *error);
	/* The id of json under the subject, registered if absent. */
	enum status (*publish)(struct registry_backend *self, enum record_type type, const char *subject,
			       const char *json, uint32_t *schema_id, struct error *error);
	void (*destroy)(struct registry_backend *self);
	const char *description;        /* no secrets; lives as long as the backend */
};

/* *cancelled outlives the backend; once true, calls that wait end with STATUS_INTERRUPTED. */
enum status registry_http_create(const struct registry_options *options, const atomic_bool *cancelled,
				 struct registry_backend **out, struct error *error);
enum status registry_folder_create(const char *path, struct registry_backend **out, struct error *error);

#endif
