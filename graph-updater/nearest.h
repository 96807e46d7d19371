/* nearest.h - the most similar users: exact top-k by cosine over all users' final embeddings.
 *
 * A scan over byte codes throws out, by a proven bound (nearest_codes.h), what cannot win; the rest is
 * compared by the exact integers dot and norm, and equal cosines by id bytes. So the result is that of
 * comparing with everybody: recall 1 by construction, the same for every processor, number of threads,
 * grouping of queries and internal ids. Up to NEAREST_BATCH_MAX queries share a scan.
 *
 * Users without edges, and users whose embedding is zero, are never returned and get no neighbours; the
 * user itself never. No allocation. */
#ifndef EXITPOLL_GRAPH_UPDATER_NEAREST_H
#define EXITPOLL_GRAPH_UPDATER_NEAREST_H

#include "graph-updater/gcn.h"
#include "graph-updater/nearest_rows.h"
#include "base/pool.h"

enum { NEAREST_MAX = 256, NEAREST_BATCH_MAX = 64, NEAREST_THREADS_MAX = 64 };

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

/* Any number of queries. Any thread while the writer rests. */
void nearest_search(const struct gcn *gcn, struct user_ids users, struct nearest_query *queries,
		    size_t count);

struct nearest_how {
	enum nearest_path path;         /* tests; one that this CPU has (nearest_kernels_get()) */
	struct pool *threads;           /* NULL: the caller's alone; at most NEAREST_THREADS_MAX */
	/* [pool_threads() - 1][NEAREST_BATCH_MAX][most of any query], for the threads */
	struct neighbour *scratch;
	/* The writer goes on meanwhile. Every row is then taken as it was, in one piece, at some moment during
	 * the search; where one has changed since it was taken, it counts as it was. Only `users` must rest:
	 * ids are neither given out nor released. */
	bool beside;
};
void nearest_search_rows(const struct nearest_rows *rows, struct user_ids users, struct nearest_how how,
			 struct nearest_query *queries, size_t count);
/* Tests: the path named; false where this CPU has not got it. */
bool nearest_search_path(enum nearest_path path, const struct gcn *gcn, struct user_ids users,
			 struct nearest_query *queries, size_t count);

#endif
