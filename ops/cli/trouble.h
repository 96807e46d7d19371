/* trouble.h - trouble that may pass: how long it lasts, and whether records can flow meanwhile.
 *
 * One thread, but for trouble_ready(). */
#ifndef EXITPOLL_OPS_CLI_TROUBLE_H
#define EXITPOLL_OPS_CLI_TROUBLE_H

#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct trouble {
	int64_t since_ns;               /* 0: none */
	_Atomic bool ready;
};

/* There is trouble: not ready. Logged when it begins. True: it has lasted for at most max_ms, and a pause
 * before the next try was made. */
bool trouble_may_retry(struct trouble *trouble, int64_t max_ms, const struct error *error);

/* Records flow (again): ready. */
void trouble_is_over(struct trouble *trouble);

/* Any thread. */
bool trouble_ready(const struct trouble *trouble);

#endif
