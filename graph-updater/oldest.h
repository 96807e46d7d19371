/* oldest.h - the oldest edge of the graph in the order (time, user id bytes, item id bytes).
 *
 * Eviction wants exactly that edge, again and again, but a sorted copy of all edges would double the
 * graph. So: a heap of the oldest 1/32 of the edges, filled by one pass over the graph when it is first
 * needed or has run empty. Entries of edges that have gone are noticed when they come up. Nothing is
 * built as long as nothing needs evicting. One writer thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_OLDEST_H
#define EXITPOLL_GRAPH_UPDATER_OLDEST_H

#include "graph-updater/graph.h"

struct oldest;

struct oldest_edge {
	int64_t time_ms;
	struct user_id user;
	struct item_id item;
};

struct oldest *oldest_create(void);             /* NULL: no memory */
void oldest_destroy(struct oldest *oldest);     /* NULL ok */
/* The graph has a new edge. */
void oldest_added(struct oldest *oldest, const struct graph *graph, const struct oldest_edge *edge);
/* *found false: the graph has no edge. STATUS_NO_MEMORY. */
enum status oldest_find(struct oldest *oldest, const struct graph *graph, struct oldest_edge *out,
			bool *found, struct error *error);
/* A lower bound of the oldest edge's time that costs nothing; INT64_MIN: not known. */
int64_t oldest_bound_ms(const struct oldest *oldest);
size_t oldest_memory(const struct oldest *oldest);

#endif
