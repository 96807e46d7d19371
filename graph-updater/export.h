/* export.h - the state for other programs: numpy arrays and tables. Rows stand in the order of id bytes.
 *
 * NAME.npy is a C-ordered float32 array, a row a node, with NAME.ids, an id a line. Rows are those of
 * section 3 without the node's own factor sqrt(degree), which cancels in every cosine: sum over k of
 * alpha_k H^(k). Nodes without edges are left out. Tables are NAME.tsv with a header. In ids and tables
 * backslash, tab, newline and carriage return are written as \\, \t, \n, \r.
 * Files are written as .part and renamed. Owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_EXPORT_H
#define EXITPOLL_GRAPH_UPDATER_EXPORT_H

#include "base/advance.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct updater;
struct pool;

enum export_what {
	EXPORT_EMBEDDINGS,      /* users, or items with `items`: NAME.npy, NAME.ids */
	EXPORT_SEEDS,           /* layer 0 of the items (of users too where both sides have one) */
	EXPORT_NEIGHBORS,       /* NAME.tsv: user, neighbour, cosine; the `most` nearest of each */
	EXPORT_GRAPH,           /* NAME.tsv: user, item, kind, rating, time_ms; users ascending, oldest first */
};

struct export_options {
	enum export_what what;
	bool items;             /* the items' side; EXPORT_EMBEDDINGS and EXPORT_SEEDS */
	const char *name;       /* path without the ending */
	uint32_t most;          /* EXPORT_NEIGHBORS, 1..256; 0: 10 */
	struct pool *threads;   /* for tables, NULL: the caller's alone; the files are the same */
	const struct advance *advance;  /* "exporting" users or items; NULL: nobody listens */
};

/* *rows: how many were written. STATUS_CANNOT_CREATE, STATUS_IO (the files are then not there),
 * STATUS_NOT_FOUND where the side has no such layer. */
enum status export_state(const struct updater *updater, const struct export_options *options, uint64_t *rows,
			 struct error *error);

#endif
