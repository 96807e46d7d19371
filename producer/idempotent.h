/* idempotent.h - the producer of delivery = at_least_once: no transactions, no duplicates of its own
 * retries, and a flush that says whether all that was written has arrived.
 * One thread at a time. */
#ifndef EXITPOLL_PRODUCER_IDEMPOTENT_H
#define EXITPOLL_PRODUCER_IDEMPOTENT_H

#include "producer/transactional.h"

struct idempotent;

/* options->id is not used. Does not wait for a broker. */
enum status idempotent_create(const struct transactional_options *options, struct idempotent **out,
			      struct error *error);
void idempotent_destroy(struct idempotent *producer);   /* NULL ok; drops what was not delivered */
enum status idempotent_produce(struct idempotent *producer, struct outgoing *message, struct error *error);
/* Waits until all is delivered. STATUS_RETRY: something was not; the caller re-reads from the committed
 * offsets and what did arrive will be there twice. */
enum status idempotent_flush(struct idempotent *producer, struct error *error);
/* Forgets what has not been sent yet. */
enum status idempotent_drop(struct idempotent *producer, struct error *error);

#endif
