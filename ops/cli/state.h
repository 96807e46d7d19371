/* state.h - the state folder around the snapshots: who owns it, what it was built from, our name.
 *
 *   lock          held while a process runs on the folder
 *   instance.id   the name of this instance to Kafka, made once
 *   origin        where the events came from; positions mean nothing elsewhere */
#ifndef EXITPOLL_OPS_CLI_STATE_H
#define EXITPOLL_OPS_CLI_STATE_H

#include "base/status.h"

enum { STATE_INSTANCE_ID_BYTES = 128 };

struct state {
	int lock_fd;
	char instance_id[STATE_INSTANCE_ID_BYTES];
};

/* Creates the folder if absent, takes the lock (STATUS_RETRY: another process has it), reads or makes
 * the instance id, checks the origin (STATUS_CONFIG: another one; NULL: not checked). */
enum status state_open(const char *folder, const char *origin, struct state *out, struct error *error);
void state_close(struct state *state);

/* Waits for the folder's lock at most wait_ms: an instance that was killed leaves it at once, one that
 * drains a little later. */
enum status state_open_waiting(const char *folder, const char *origin, long wait_ms, struct state *out,
			       struct error *error);

#endif
