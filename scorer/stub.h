/* stub.h - scores without a model, for tests of the stream alone (scorer.backend = stub).
 *
 * p_click is a hash in (0, 1) of everything this candidate sees of its scoring request, so any
 * difference in enrichment, however small, shows in the predictions. Pure functions, any thread. */
#ifndef EXITPOLL_SCORER_STUB_H
#define EXITPOLL_SCORER_STUB_H

#include "schemas/event.h"

/* The hash of what all candidates of the request share. */
uint64_t stub_hash_request(const struct scoring_request *request);

/* The score of one candidate under that hash. Equal candidates get equal scores wherever they stand. */
float stub_score(uint64_t request_hash, const struct request_candidate *candidate);

#endif
