/* progress.h - a progress bar on standard error, only where that is a terminal. One thread. */
#ifndef EXITPOLL_OPS_CLI_PROGRESS_H
#define EXITPOLL_OPS_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what;       /* "scoring" */
	const char *unit;       /* "impressions" */
	uint64_t total;         /* 0: unknown, no bar but a count */
	int64_t started_ns;
	int64_t shown_ns;
	bool visible;
};

/* `wanted` false: never shows anything. */
struct progress progress_start(const char *what, const char *unit, uint64_t total, bool wanted);
/* Cheap: draws at most ten times a second. */
void progress_update(struct progress *progress, uint64_t done);
/* Clears the line. */
void progress_end(struct progress *progress);

/* Work in several parts (base/advance.h): one bar after another, "%". Begins as {.wanted = ...}. */
struct progress_parts {
	struct progress progress;
	const char *what;
	bool wanted;
};
/* For struct advance: context is a struct progress_parts. Afterwards progress_end(&parts.progress). */
void progress_part(void *context, const char *what, uint64_t done, uint64_t total);

#endif
