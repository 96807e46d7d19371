/* trouble.c - see trouble.h. Called by the pipeline; readiness is read by the HTTP server's thread. */
#include "ops/cli/trouble.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <time.h>

enum { PAUSE_MS = 200 };

static int64_t lasted_ms(const struct trouble *trouble)
{
	return (clock_steady_ns() - trouble->since_ns) / 1000000;
}

bool trouble_may_retry(struct trouble *trouble, int64_t max_ms, const struct error *error)
{
	if (!trouble->since_ns) {
		trouble->since_ns = clock_steady_ns();
		log_warning("pipeline.trouble", "error=\"%s\"", error->text);
	}
	atomic_store(&trouble->ready, false);
	if (lasted_ms(trouble) > max_ms)
		return false;
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
	return true;
}

void trouble_is_over(struct trouble *trouble)
{
	if (trouble->since_ns)
		log_info("pipeline.recovered", "after_ms=%" PRId64, lasted_ms(trouble));
	trouble->since_ns = 0;
	atomic_store(&trouble->ready, true);
}

bool trouble_ready(const struct trouble *trouble)
{
	return atomic_load(&trouble->ready);
}
