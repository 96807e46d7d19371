/* score_request.h - a scoring request from JSON, as people write it and `inspect` prints it. */
#ifndef EXITPOLL_OPS_CLI_SCORE_REQUEST_H
#define EXITPOLL_OPS_CLI_SCORE_REQUEST_H

#include "base/status.h"
#include "schemas/event.h"

/* Everything in *out lives in the arena. Only "candidates" is needed; a candidate is an object with
 * "item_id" and/or "text", or a string (its text). STATUS_CORRUPT names line and field. */
enum status score_request_parse(struct text_view json, struct arena *arena, struct scoring_request *out,
				struct error *error);

#endif
