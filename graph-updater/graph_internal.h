/* graph_internal.h - the graph's inside, for graph.c, graph_lists.c, graph_load.c and oldest.c. */
#ifndef EXITPOLL_GRAPH_UPDATER_GRAPH_INTERNAL_H
#define EXITPOLL_GRAPH_UPDATER_GRAPH_INTERNAL_H

#include "graph-updater/chunks.h"
#include "graph-updater/graph.h"
#include "graph-updater/oldest.h"

/* One node's edges, in the order (time, id bytes of the other side). In use are the rows
 * first .. first + count - 1; the gap before them lets the oldest leave without moving the others. */
struct list {
	unsigned char *rows;    /* user: struct edge [capacity]; item: u32 [capacity], then u16 [capacity] */
	uint32_t first, count, capacity;
};

struct user_node {
	struct list list;
	uint64_t response;      /* sum over its edges */
};

struct item_node {
	struct list list;
	uint64_t response;
	int64_t newest_ms;      /* time of the last rater; raters do not carry their times */
};

struct graph {
	struct graph_options options;
	int64_t edge_ms;        /* 0: keep */
	struct chunks user_nodes, item_nodes;
	struct graph_counts counts;
	size_t lists_bytes;     /* loading, several threads add to it */
	struct user_id *loaded; /* [loaded_count], while loading: in the order in which they came */
	size_t loaded_count, loaded_capacity;
	struct oldest *oldest;
	struct graph_listener listeners[GRAPH_LISTENERS_MAX];
	size_t listeners_count;
};

static inline struct user_node *user_node(const struct graph *graph, struct user_id user)
{
	return chunks_row(&graph->user_nodes, user.v);
}

static inline struct item_node *item_node(const struct graph *graph, struct item_id item)
{
	return chunks_row(&graph->item_nodes, item.v);
}

static inline struct edge *user_edges(const struct user_node *node)
{
	return (struct edge *)(void *)node->list.rows + node->list.first;
}

static inline struct user_id *item_raters(const struct item_node *node)
{
	return (struct user_id *)(void *)node->list.rows + node->list.first;
}

static inline uint16_t *item_responses(const struct item_node *node)
{
	return (uint16_t *)(void *)(node->list.rows + (size_t)node->list.capacity * sizeof(uint32_t)) +
	       node->list.first;
}

/* ---- graph_lists.c ---- */

/* Order of a user's list: time, then the items' id bytes. */
int edge_compare(const struct graph *graph, const struct edge *a, const struct edge *b);

/* Room for more edges on either side. False: no memory; nothing changed. */
bool user_make_room(struct graph *graph, struct user_node *node, uint32_t more);
bool item_make_room(struct graph *graph, struct item_node *node, uint32_t more);
/* There is room. Return the index that the edge has got. */
uint32_t user_insert(struct graph *graph, struct user_id user, const struct edge *edge);
uint32_t item_insert(struct graph *graph, struct item_id item, struct user_id user, int64_t time_ms,
		     uint16_t response);
/* Index of what is certainly there. */
uint32_t user_locate(const struct graph *graph, struct user_id user, const struct edge *edge);
uint32_t item_locate(const struct graph *graph, struct item_id item, struct user_id user);
/* Lists keep their room until they are trimmed. */
void user_remove(struct graph *graph, struct user_id user, uint32_t index);
void item_remove(struct graph *graph, struct item_id item, uint32_t index);
void user_trim(struct graph *graph, struct user_id user);
void item_trim(struct graph *graph, struct item_id item);
/* The edge to the item, or NULL: linear, from the newest. */
struct edge *user_scan(const struct graph *graph, struct user_id user, struct item_id item);
/* Index of the user, or the count: linear, from both ends. */
uint32_t item_scan(const struct item_node *node, struct user_id user);
/* The pair's edge of exactly this time, or NULL: binary search. */
struct edge *user_find_at(const struct graph *graph, struct user_id user, struct item_id item,
			  int64_t time_ms);

/* What the item's side keeps of an edge. */
static inline uint16_t response_seen(const struct edge *edge)
{
	return edge_kind(edge) == KIND_VIEW ? RESPONSE_VIEW : (uint16_t)edge_response(edge);
}

/* graph.c */
enum status graph_tell(struct graph *graph, const struct graph_change *change, struct error *error);

#endif
