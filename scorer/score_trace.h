/* score_trace.h - why each candidate left where it did, for the score command. */
#ifndef EXITPOLL_SCORER_SCORE_TRACE_H
#define EXITPOLL_SCORER_SCORE_TRACE_H

#include "scorer/exit_policy.h"
#include "scorer/scorer.h"

/* Called at every exit of every candidate during scorer_score(): indexes of the request in the call and
 * of the candidate in the request, the 1-based layer, the head's p, the rule's decision. */
typedef void scorer_trace(void *context, size_t request, size_t candidate, uint32_t layer, float p,
			  const struct exit_decision *decision);

/* NULL ends it. A stub has no exits and never calls. */
void scorer_set_trace(struct scorer *scorer, scorer_trace *trace, void *context);

/* The token ids of a candidate's whole prompt, as the model is given it. STATUS_UNSUPPORTED: a stub. */
enum status scorer_prompt(struct scorer *scorer, const struct scoring_request *request, size_t candidate,
			  int32_t *ids, size_t ids_max, size_t *count, struct error *error);

#endif
