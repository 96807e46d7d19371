/* event_copy.h - moves an event and all it borrows into another arena: from the memory of a source's
 * look-ahead into that of the batch. Any thread. */
#ifndef EXITPOLL_CONSUMER_EVENT_COPY_H
#define EXITPOLL_CONSUMER_EVENT_COPY_H

#include "schemas/event.h"

/* False: the arena is full; *out is unchanged. */
bool event_copy(struct arena *arena, const struct event *event, struct event *out);

#endif
