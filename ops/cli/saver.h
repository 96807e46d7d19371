/* saver.h - when a snapshot is taken, and what becomes of it; the stream goes on meanwhile.
 *
 * A snapshot begins at a cut of the order when enough graph events have passed and none is being written;
 * a child process writes it. One that fails is said in the log and counted, the snapshots before it stay,
 * and the next is due after as many events again: a full disk never stops the stream. Pipeline's thread. */
#ifndef EXITPOLL_OPS_CLI_SAVER_H
#define EXITPOLL_OPS_CLI_SAVER_H

#include "consumer/source.h"
#include "graph-updater/updater.h"

struct snapshot_child;
struct huge_gather;

struct saver_totals {
	uint64_t written, failed;
	uint64_t pause_ns;      /* the stream stood still for this long, summed up */
	uint64_t write_ns;      /* from beginning to end, summed up over those written */
};

struct saver {
	const char *folder;             /* borrowed; NULL: no snapshots at all */
	int lock_fd;                    /* of the folder; -1: none */
	uint64_t every_events;
	struct source *source;          /* borrowed */
	struct saver_totals *totals;    /* borrowed */
	uint64_t events;                /* graph events since the last one began; the pipeline counts them */
	bool missing;                   /* the last one did not come to be */
	struct snapshot_child *child;   /* NULL: none is being written */
	struct huge_gather *gather;     /* after one: of its pages, until it is done; else NULL */
	int64_t version, began_ns;      /* of the one being written */
};

/* Between two batches. Looks after the one being written; at a cut begins one that is due. Fails only
 * where the source does. */
enum status saver_step(struct saver *saver, const struct updater *updater, bool at_cut, struct error *error);

/* The stream is over. Waits for the one being written; then leaves one of the state as it is, if that is at
 * a cut and has news. Once stopping() says so, it waits for a few seconds at most and leaves it at those
 * that are there. Returns the failure of the last one. */
enum status saver_finish(struct saver *saver, const struct updater *updater, bool at_cut,
			 bool (*stopping)(void), struct error *error);

/* The graph is about to be replaced, or everything ends: one being written is given up. */
void saver_abandon(struct saver *saver);

#endif
