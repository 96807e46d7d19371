/* event_size.h - how many bytes an event takes on the wire, without encoding it.
 *
 * The record limit holds in one process as it does in two, so files and the middle topic need the size
 * of the body that codec_encode() would write. Pure, any thread. */
#ifndef EXITPOLL_SCHEMAS_EVENT_SIZE_H
#define EXITPOLL_SCHEMAS_EVENT_SIZE_H

#include "schemas/event.h"

/* Bytes of the Avro body in our own schema, without framing. */
size_t event_encoded_bytes(const struct event *event);

#endif
