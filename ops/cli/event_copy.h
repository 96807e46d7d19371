/* event_copy.h - a deep copy of an output event into an arena, for those that outlive their batch. */
#ifndef EXITPOLL_OPS_CLI_EVENT_COPY_H
#define EXITPOLL_OPS_CLI_EVENT_COPY_H

#include "schemas/event.h"

/* Predictions, scoring requests and dead letters. False: arena full; *out is then undefined. */
bool event_copy(struct arena *arena, const struct event *event, struct event *out);
bool event_copy_request(struct arena *arena, const struct scoring_request *request,
			struct scoring_request *out);
bool event_copy_prediction(struct arena *arena, const struct prediction *prediction,
			   struct prediction *out);

#endif
