/* nearest.h - the most similar users: exact top-k by cosine over all users' final embeddings.
 *
 * One scan over the int16 rows serves several queries (each block of rows is read once). Ranking is
 * exact: an integer bound throws out what cannot win, candidates are compared by the exact integers
 * dot and norm, and equal cosines by id bytes. Users without edges, and users whose embedding is zero,
 * are never returned and get no neighbours; the user itself never. AVX2 or scalar, chosen at run
 * time, equal results. No allocation; any thread while the writer rests. */
#ifndef EXITPOLL_GRAPH_UPDATER_NEAREST_H
#define EXITPOLL_GRAPH_UPDATER_NEAREST_H

#include "graph-updater/gcn.h"

enum { NEAREST_MAX = 256, NEAREST_BATCH_MAX = 64 };

struct neighbour {
	struct user_id user;
	int64_t dot;            /* with the query's row */
	int64_t norm;           /* of this user's row */
	double cosine;
};

struct nearest_query {
	struct user_id user;            /* must be alive */
	uint32_t most;                  /* k, up to NEAREST_MAX */
	struct neighbour *neighbours;   /* [most], most similar first; the caller's */
	uint32_t count;                 /* out */
};

enum nearest_path { NEAREST_BEST, NEAREST_SCALAR, NEAREST_AVX2 };

/* Any number of queries; they share scans NEAREST_BATCH_MAX at a time. */
void nearest_search(const struct gcn *gcn, struct user_ids users, struct nearest_query *queries,
		    size_t count);
/* Tests: the path named; false where this CPU has not got it. */
bool nearest_search_path(enum nearest_path path, const struct gcn *gcn, struct user_ids users,
			 struct nearest_query *queries, size_t count);

#endif
