/* snapshot_child.h - a snapshot written by a child process while the stream goes on.
 *
 * The child is a fork: it sees the state as it was at that instant, and the parent's later writes are
 * copied page by page by the kernel. The parent waits for the fork alone. One child at a time is the
 * caller's business; the folder's invariants (updater_state.c) hold whatever becomes of the child, since
 * a name is given only to a file that is complete and durable. Writer thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_SNAPSHOT_CHILD_H
#define EXITPOLL_GRAPH_UPDATER_SNAPSHOT_CHILD_H

#include "graph-updater/snapshot_file.h"
#include "graph-updater/updater.h"

struct snapshot_child;

struct snapshot_child_options {
	const char *folder;             /* as of updater_save() */
	const struct position *positions;
	size_t positions_count;
	int64_t oldest_unanswered_ms;
	int lock_fd;                    /* the child keeps it open, and with it the folder's lock; -1: none */
	const struct snapshot_faults *faults;   /* tests; asked in the child */
};

/* STATUS_NO_MEMORY: the system refuses a fork of this size; nothing has begun. */
enum status snapshot_child_start(const struct updater *updater, const struct snapshot_child_options *options,
				 struct snapshot_child **out, struct error *error);

/* Waits for at most wait_ms (0: only looks). False: still being written. True: it is over, *child is
 * gone and NULL, and *result says how it went, with *error as updater_save() would have left it;
 * STATUS_IO also when the child died. */
bool snapshot_child_over(struct snapshot_child **child, long wait_ms, enum status *result,
			 struct error *error);

/* How long the fork kept the caller. */
int64_t snapshot_child_pause_ns(const struct snapshot_child *child);

/* Kills it. The file that it was writing is removed when the next one begins. *child NULL ok. */
void snapshot_child_abandon(struct snapshot_child **child);

#endif
