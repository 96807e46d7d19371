/* graph_internal.h - the graph's inside, for graph.c, graph_lists.c, graph_load.c and oldest.c. */
#ifndef EXITPOLL_GRAPH_UPDATER_GRAPH_INTERNAL_H
#define EXITPOLL_GRAPH_UPDATER_GRAPH_INTERNAL_H

#include "graph-updater/chunks.h"
#include "graph-updater/graph.h"
#include "graph-updater/oldest.h"

/* One user or item. Sorted by (time, id bytes of the other side). */
struct node {
	struct edge *edges;     /* [capacity], count in use */
	uint32_t count, capacity;
	uint64_t response;      /* sum over its edges */
};

struct graph {
	struct graph_options options;
	int64_t edge_ms;        /* 0: keep */
	struct chunks user_nodes, item_nodes;   /* rows of struct node */
	struct graph_counts counts;
	size_t lists_bytes;
	struct oldest *oldest;
	struct graph_listener listeners[GRAPH_LISTENERS_MAX];
	size_t listeners_count;
};

static inline struct node *user_node(const struct graph *graph, struct user_id user)
{
	return chunks_row(&graph->user_nodes, user.v);
}

static inline struct node *item_node(const struct graph *graph, struct item_id item)
{
	return chunks_row(&graph->item_nodes, item.v);
}

/* Order of one side's list: time, then the bytes of `ids` (those of the other side). */
int edge_compare(const struct ids *ids, const struct edge *a, const struct edge *b);

/* graph_lists.c: one node's list. `ids` names the other side. */
bool node_reserve(struct graph *graph, struct node *node, uint32_t count);
void node_insert(struct node *node, const struct ids *ids, const struct edge *edge);
/* Index of the edge with exactly this time and other side, or node->count. */
uint32_t node_locate(const struct node *node, const struct ids *ids, const struct edge *edge);
void node_remove(struct graph *graph, struct node *node, uint32_t index);
/* Index of the edge to `other`, or node->count; linear. */
uint32_t node_scan(const struct node *node, uint32_t other);

/* graph.c */
enum status graph_tell(struct graph *graph, const struct graph_change *change, struct error *error);

#endif
