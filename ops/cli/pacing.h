/* pacing.h - how long scoring takes, as last measured, and what follows from it.
 *
 * Scores depend on no batch, so how many requests go together is free to follow the clock: the first
 * answer does not wait for a batch to fill, and a stop waits for one chunk at most. Pure but for the
 * struct; one thread. */
#ifndef EXITPOLL_OPS_CLI_PACING_H
#define EXITPOLL_OPS_CLI_PACING_H

#include <stddef.h>
#include <stdint.h>

struct pacing {
	int64_t request_ns;             /* of the last chunk; 0: nothing measured yet */
	int64_t candidate_ns;
};

void pacing_measured(struct pacing *pacing, size_t requests, size_t candidates, int64_t elapsed_ns);
/* Requests of the next chunk, 1..most: what takes about two seconds; 1 before anything was measured. */
size_t pacing_requests(const struct pacing *pacing, size_t most);
/* What so many candidates will take; 0 before anything was measured. */
int64_t pacing_expected_ms(const struct pacing *pacing, size_t candidates);

#endif
