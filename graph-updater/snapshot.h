/* snapshot.h - the whole state of an updater in one file, equal bytes for equal states.
 *
 * Sections: options and schema fingerprint; clock, counters, events since the last flush; positions of
 * the inputs; items with their catalog entries; users with their edges; tombstones; hidden states and
 * who waits for a flush. Users and items stand in the order of their id bytes and refer to each other by
 * place, so internal ids leave no trace. Sums, statistics and the items' sides follow from these.
 * Owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_SNAPSHOT_H
#define EXITPOLL_GRAPH_UPDATER_SNAPSHOT_H

#include "base/advance.h"
#include "graph-updater/snapshot_file.h"
#include "graph-updater/updater_internal.h"

struct snapshot_info {
	int64_t graph_version;
	int64_t clock_ms;               /* INT64_MIN: no event yet */
	uint64_t users, items, edges, tombstones, positions;
	uint64_t file_bytes;
	bool same_schemas;              /* as those of this program */
	uint64_t item_seeds_epoch, user_seeds_epoch;    /* of trained seeds; 0: by hash */
	struct gcn_accuracy accuracy;   /* of the embeddings; by snapshot_check() alone */
};

enum status snapshot_write(const struct updater *updater, const char *path, const struct position *positions,
			   size_t positions_count, const struct snapshot_faults *faults, struct error *error);

/* Into a fresh updater. After a failure the updater is to be made anew. Other dimensions, layers, seeds (another
 * epoch too), weights or view_edges than when it was written: embeddings are computed anew (said in the log),
 * once, and the next flush is due when it would have been.
 * Another rating scale: STATUS_INCOMPATIBLE. advance, here and below: "reading" MiB, then "joining" the
 * items' lists, then "summing" rows; NULL: nobody listens. */
enum status snapshot_read(struct updater *updater, const char *path, const struct advance *advance,
			  struct error *error);

/* The beginning only. */
enum status snapshot_get_info(const char *path, struct snapshot_info *out, struct error *error);

/* The options it was written with; attributes point into *names, one allocation (mem_free). */
enum status snapshot_get_options(const char *path, struct updater_options *out, void **names,
				 struct error *error);

/* Every byte, and then the state itself: edges on both sides, counters, sums, embeddings within the
 * threshold (at threshold 0 with nothing pending: equal to a full recomputation). *exact (may be NULL)
 * says whether it is that last case. STATUS_CORRUPT with file, byte and reason. */
enum status snapshot_check(const char *path, const struct advance *advance, struct snapshot_info *out,
			   bool *exact, struct error *error);

/* An updater with the options and the state of a file: for inspect and export. */
enum status snapshot_open(const char *path, const struct advance *advance, struct updater **out,
			  struct error *error);

/* updater_save() with faults injected (tests). */
enum status snapshot_save_folder(const struct updater *updater, const char *folder,
				 const struct position *positions, size_t positions_count,
				 int64_t oldest_unanswered_ms, const struct snapshot_faults *faults,
				 struct error *error);
/* The path of the newest snapshot of a folder whose bytes begin well (mem_free). STATUS_NOT_FOUND. */
enum status snapshot_newest(const char *folder, char **path, struct error *error);

#endif
