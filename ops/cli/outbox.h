/* outbox.h - from answers to committed transactions.
 *
 * Joins the source's answered prefix and the sink's transactions: an answer is given with the position
 * of its input, enters the open transaction once its partition is answered up to there, and is
 * committed together with that prefix. One thread. */
#ifndef EXITPOLL_OPS_CLI_OUTBOX_H
#define EXITPOLL_OPS_CLI_OUTBOX_H

#include "base/status.h"
#include "consumer/source.h"
#include "producer/sink.h"

struct outbox;

/* at_least_once: the sink has no transactions, so the source commits by itself once it has settled.
 * NULL: no memory. */
struct outbox *outbox_create(struct source *source, struct sink *sink, int64_t commit_ms,
			     bool at_least_once);
void outbox_destroy(struct outbox *outbox);             /* NULL ok */

/* The output of one input record. STATUS_LIMIT: the sink refuses its size; the input is then not
 * answered yet. */
enum status outbox_answer(struct outbox *outbox, struct position position, const struct event *event,
			  struct text_view traceparent, struct error *error);
/* Writes what the prefix has reached; every commit does it first. */
enum status outbox_release(struct outbox *outbox, struct error *error);
/* Commits when commit_ms have passed since the first write, or when `idle` and anything was written. */
enum status outbox_commit_if_due(struct outbox *outbox, bool idle, struct error *error);
/* Writes what the prefix has reached, commits it and waits. */
enum status outbox_settle(struct outbox *outbox, struct error *error);
void outbox_clear(struct outbox *outbox);               /* forgets what is held and uncommitted */
/* The last failure came from the sink: the transaction is gone. */
bool outbox_aborted(const struct outbox *outbox);
/* How long a poll may wait: until the next commit is due, at most poll_ms. */
int64_t outbox_poll_ms(const struct outbox *outbox, int64_t poll_ms);

#endif
