/* held.h - outputs that are ready but may not be written yet.
 *
 * Records of one time are answered in key order, but what a commit claims is a prefix of each
 * partition. An output beyond that prefix would be in the transaction while its input is not, and a
 * crash would give it twice; so it waits here, copied, until the prefix has reached it. Bounded by one
 * group of equal times and bytes_max. One thread. */
#ifndef EXITPOLL_OPS_CLI_HELD_H
#define EXITPOLL_OPS_CLI_HELD_H

#include "schemas/topic.h"

#include "base/status.h"

struct held;

/* bytes_max bounds the copies. NULL: no memory. */
struct held *held_create(size_t bytes_max);
void held_destroy(struct held *held);                   /* NULL ok */

/* Copies the event (prediction, scoring request or dead letter) and the trace header. */
enum status held_add(struct held *held, struct position position, const struct event *event,
		     struct text_view traceparent, struct error *error);
size_t held_count(const struct held *held);
void held_clear(struct held *held);

/* Gives every output whose position is below the prefix of its partition to write(), in the order of
 * addition, and keeps the rest. Stops at the first failure. */
enum status held_release(struct held *held, const struct commit_offsets *prefix,
			 enum status (*write)(void *context, const struct event *event,
					      struct text_view traceparent, struct error *error),
			 void *context, struct error *error);

#endif
