/* graph_load.c - the whole graph at once: putting one together from a snapshot, and proving one sound. */
#include "graph-updater/graph_internal.h"

#include <stdlib.h>

enum status graph_load_edge(struct graph *graph, struct user_id user, const struct edge *edge,
			    struct error *error)
{
	struct node *node;

	if (!chunks_reserve(&graph->user_nodes, user.v + 1) ||
	    !chunks_reserve(&graph->item_nodes, edge->other + 1))
		goto no_memory;
	node = user_node(graph, user);
	if (edge_kind(edge) >= KIND_REMOVE || edge->value > RESPONSE_ONE ||
	    (!edge_has_rating(edge) && edge->value) ||
	    (edge_kind(edge) == KIND_RATE && !edge_has_rating(edge)))
		return error_set(error, STATUS_CORRUPT, "an edge with kind %d and value %u",
				 (int)edge_kind(edge),
				 edge->value);
	if (node->count && edge_compare(graph->options.items.table, &node->edges[node->count - 1], edge) >= 0)
		return error_set(error, STATUS_CORRUPT, "a user's edges are not in order");
	if (!node_reserve(graph, node, node->count + 1))
		goto no_memory;
	node->edges[node->count++] = *edge;
	node->response += edge_response(edge);
	graph->counts.edges++;
	graph->counts.response += edge_response(edge);
	item_node(graph, (struct item_id){edge->other})->count++;       /* its list comes at the end */
	return STATUS_OK;
no_memory:
	return error_set(error, STATUS_NO_MEMORY, "graph: out of memory at %llu edges",
			 (unsigned long long)graph->counts.edges);
}

static int compare_edges(const void *left, const void *right, void *context)
{
	return edge_compare(context, left, right);
}

/* The items' lists from those of the users. */
static enum status load_item_sides(struct graph *graph, struct error *error)
{
	for (uint32_t i = 0; i < chunks_rows(&graph->item_nodes); i++) {
		struct node *node = item_node(graph, (struct item_id){i});
		uint32_t count = node->count;
		node->count = 0;
		if (count && !node_reserve(graph, node, count))
			return error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
	}
	for (uint32_t u = 0; u < chunks_rows(&graph->user_nodes); u++) {
		const struct node *user_side = user_node(graph, (struct user_id){u});
		for (uint32_t e = 0; e < user_side->count; e++) {
			struct edge edge = user_side->edges[e];
			struct node *node = item_node(graph, (struct item_id){edge.other});
			edge.other = u;
			node->edges[node->count++] = edge;
			node->response += edge_response(&edge);
		}
	}
	for (uint32_t i = 0; i < chunks_rows(&graph->item_nodes); i++) {
		struct node *node = item_node(graph, (struct item_id){i});
		if (node->count)
			qsort_r(node->edges, node->count, sizeof *node->edges, compare_edges,
				graph->options.users.table);
	}
	return STATUS_OK;
}

/* A pair that occurs twice. Marks users by the item that saw them last. */
static enum status find_repeated(const struct graph *graph, enum status verdict, struct error *error)
{
	uint32_t *seen = mem_alloc_zero(chunks_rows(&graph->user_nodes), sizeof *seen);
	enum status status = STATUS_OK;

	if (!seen)
		return error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
	for (uint32_t i = 0; i < chunks_rows(&graph->item_nodes) && !status; i++) {
		const struct node *node = item_node(graph, (struct item_id){i});
		for (uint32_t e = 0; e < node->count && !status; e++) {
			if (seen[node->edges[e].other] == i + 1)
				status = error_set(error, verdict, "a pair has two edges");
			seen[node->edges[e].other] = i + 1;
		}
	}
	mem_free(seen);
	return status;
}

enum status graph_load_finish(struct graph *graph, uint64_t evicted, struct error *error)
{
	enum status status = load_item_sides(graph, error);

	if (status)
		return status;
	status = find_repeated(graph, STATUS_CORRUPT, error);
	if (status)
		return status;
	graph->counts.evicted = evicted;
	for (uint32_t u = 0; u < chunks_rows(&graph->user_nodes); u++) {
		const struct node *node = user_node(graph, (struct user_id){u});
		for (uint32_t e = 0; e < node->count; e++) {
			struct graph_change change = {{u}, {node->edges[e].other}, NULL, &node->edges[e]};
			status = graph_tell(graph, &change, error);
			if (status)
				return status;
		}
	}
	return STATUS_OK;
}

/* One side's lists: in order, ids alive, every edge on the other side as well, counters right. */
static enum status check_side(const struct graph *graph, const struct chunks *nodes,
			      const struct chunks *others,
			      const struct ids *own_ids, const struct ids *other_ids, const char *what,
			      struct graph_counts *counts, struct error *error)
{
	for (uint32_t n = 0; n < chunks_rows(nodes); n++) {
		const struct node *node = chunks_row(nodes, n);
		uint64_t response = 0;
		struct text_view name = ids_bytes(own_ids, n);
		if (node->count && !ids_alive(own_ids, n))
			return error_set(error, STATUS_INTERNAL, "%s %u has edges but no id", what, n);
		for (uint32_t e = 0; e < node->count; e++) {
			struct edge mirrored = node->edges[e];
			const struct node *other = chunks_row(others, node->edges[e].other);
			mirrored.other = n;
			response += edge_response(&node->edges[e]);
			if (e && edge_compare(other_ids, &node->edges[e - 1], &node->edges[e]) >= 0)
				return error_set(error, STATUS_INTERNAL, "edges of %s %.*s are not in order",
						 what,
						 TEXT_ARGS(name));
			uint32_t at = node_locate(other, own_ids, &mirrored);
			if (at == other->count || memcmp(&other->edges[at], &mirrored, sizeof mirrored))
				return error_set(error, STATUS_INTERNAL,
						 "an edge of %s %.*s is not on the other side",
						 what, TEXT_ARGS(name));
		}
		if (response != node->response)
			return error_set(error, STATUS_INTERNAL,
					 "the response counter of %s %.*s is %llu, not %llu", what,
					 TEXT_ARGS(name), (unsigned long long)node->response,
					 (unsigned long long)response);
		counts->edges += node->count;
		counts->response += response;
	}
	if (counts->edges != graph->counts.edges || counts->response != graph->counts.response)
		return error_set(error, STATUS_INTERNAL,
				 "%s sides have %llu edges with response %llu, not %llu with %llu",
				 what, (unsigned long long)counts->edges,
					 (unsigned long long)counts->response,
				 (unsigned long long)graph->counts.edges,
				 (unsigned long long)graph->counts.response);
	return STATUS_OK;
}

enum status graph_check(const struct graph *graph, struct error *error)
{
	const struct ids *users = graph->options.users.table, *items = graph->options.items.table;
	struct graph_counts by_users = {0}, by_items = {0};
	enum status status;

	status = check_side(graph, &graph->user_nodes, &graph->item_nodes, users, items, "user", &by_users,
			    error);
	if (status)
		return status;
	status = check_side(graph, &graph->item_nodes, &graph->user_nodes, items, users, "item", &by_items,
			    error);
	if (status)
		return status;
	return find_repeated(graph, STATUS_INTERNAL, error);
}
