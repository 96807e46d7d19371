/* graph_lists.c - one node's edges: a sorted array, newest last.
 *
 * Invariant: strictly ascending by (time, id bytes of the other side). Events mostly arrive in order, so
 * insertion looks from the end. */
#include "graph-updater/graph_internal.h"

enum { CAPACITY_MIN = 4 };

int edge_compare(const struct ids *ids, const struct edge *a, const struct edge *b)
{
	int64_t time_a = edge_time_ms(a), time_b = edge_time_ms(b);

	if (time_a != time_b)
		return time_a < time_b ? -1 : 1;
	return a->other == b->other ? 0 : text_compare(ids_bytes(ids, a->other), ids_bytes(ids, b->other));
}

bool node_reserve(struct graph *graph, struct node *node, uint32_t count)
{
	/* A quarter more: a list is copied about four times over its life, and little lies empty. */
	uint64_t capacity = (uint64_t)node->capacity + node->capacity / 4 + 1;
	struct edge *edges;

	if (count <= node->capacity)
		return true;
	if (capacity < CAPACITY_MIN)
		capacity = CAPACITY_MIN;
	if (capacity < count)
		capacity = count;
	if (capacity > UINT32_MAX)
		return false;
	edges = mem_resize_array(node->edges, capacity, sizeof *edges);
	if (!edges)
		return false;
	graph->lists_bytes += (capacity - node->capacity) * sizeof *edges;
	node->edges = edges;
	node->capacity = (uint32_t)capacity;
	return true;
}

/* First index whose edge is not less than `edge`. */
static uint32_t lower_bound(const struct node *node, const struct ids *ids, const struct edge *edge)
{
	uint32_t low = 0, high = node->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (edge_compare(ids, &node->edges[middle], edge) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void node_insert(struct node *node, const struct ids *ids, const struct edge *edge)
{
	uint32_t at = node->count;

	if (at && edge_compare(ids, &node->edges[at - 1], edge) > 0)
		at = lower_bound(node, ids, edge);
	memmove(&node->edges[at + 1], &node->edges[at], (size_t)(node->count - at) * sizeof *edge);
	node->edges[at] = *edge;
	node->count++;
	node->response += edge_response(edge);
}

uint32_t node_locate(const struct node *node, const struct ids *ids, const struct edge *edge)
{
	uint32_t at = lower_bound(node, ids, edge);

	return at < node->count && edge_compare(ids, &node->edges[at], edge) == 0 ? at : node->count;
}

void node_remove(struct graph *graph, struct node *node, uint32_t index)
{
	struct edge *edges;
	uint32_t capacity;

	node->response -= edge_response(&node->edges[index]);
	node->count--;
	memmove(&node->edges[index], &node->edges[index + 1],
		(size_t)(node->count - index) * sizeof *node->edges);
	if (!node->count) {
		graph->lists_bytes -= node->capacity * sizeof *node->edges;
		mem_free(node->edges);
		node->edges = NULL;
		node->capacity = 0;
	} else if (node->capacity > 2 * CAPACITY_MIN && node->count < node->capacity / 4) {
		capacity = node->capacity / 2;
		edges = mem_resize_array(node->edges, capacity, sizeof *edges);
		if (edges) {
			graph->lists_bytes -= (node->capacity - capacity) * sizeof *edges;
			node->edges = edges;
			node->capacity = capacity;
		}
	}
}

uint32_t node_scan(const struct node *node, uint32_t other)
{
	/* From the end: what is asked for again is mostly recent. */
	for (uint32_t e = node->count; e-- > 0;)
		if (node->edges[e].other == other)
			return e;
	return node->count;
}
