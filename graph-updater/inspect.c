/* inspect.c - see inspect.h. */
#include "graph-updater/inspect.h"

#include "graph-updater/updater_internal.h"

#include <math.h>

static enum status no_room(struct error *error)
{
	return error_set(error, STATUS_LIMIT, "inspect: more than fits the arena");
}

/* The last edges, newest first. `of_user`: the other side are items, which have titles. */
static enum status list_edges(const struct updater *updater, const struct edge *edges, uint32_t count,
			      bool of_user,
			      uint32_t last_max, struct arena *arena, struct inspect_node *node,
				      struct error *error)
{
	uint32_t kept = count < last_max ? count : last_max;
	struct inspect_edge *last = arena_array(arena, kept, sizeof *last);

	if (!last)
		return no_room(error);
	for (uint32_t n = 0; n < kept; n++) {
		const struct edge *edge = &edges[count - 1 - n];
		const struct catalog_entry *entry =
			of_user ? catalog_get(updater->catalog, (struct item_id){edge->other}) : NULL;
		last[n] = (struct inspect_edge){
			.id = of_user ? item_bytes(updater->items, (struct item_id){edge->other})
				      : user_bytes(updater->users, (struct user_id){edge->other}),
			.title = entry ? entry->title : (struct text_view){NULL, 0},
			.kind = edge_kind(edge),
			.has_rating = edge_has_rating(edge),
			.rating = edge_has_rating(edge) ? graph_edge_rating(updater->graph, edge) : 0,
			.response = (double)edge_response(edge) / RESPONSE_ONE,
			.event_time_ms = edge_time_ms(edge),
		};
	}
	node->last = last;
	node->last_count = kept;
	return STATUS_OK;
}

static double mean_of(uint64_t response, uint32_t count)
{
	return count ? (double)response / RESPONSE_ONE / count : 0;
}

enum status inspect_user(const struct updater *updater, struct text_view id, uint32_t last_max,
			 uint32_t neighbours_max, struct arena *arena, struct inspect_node *out,
				 struct error *error)
{
	struct inspect_node node = {.id = id};
	struct inspect_neighbour *neighbours;
	struct nearest_query query;
	struct user_id user;
	const struct edge *edges;
	enum status status;

	if (!user_ids_find(updater->users, id, &user))
		return error_set(error, STATUS_NOT_FOUND, "no user \"%.*s\" in the state", TEXT_ARGS(id));
	edges = graph_user_edges(updater->graph, user, &node.edges);
	node.gcn_edges = gcn_user_degree(updater->gcn, user);
	node.mean_response = mean_of(graph_user_response(updater->graph, user), node.edges);
	node.length = sqrt((double)gcn_user_norm(updater->gcn, user)) / GCN_ONE;
	status = list_edges(updater, edges, node.edges, true, last_max, arena, &node, error);
	if (status)
		return status;
	if (neighbours_max > NEAREST_MAX)
		neighbours_max = NEAREST_MAX;
	query = (struct nearest_query){user, neighbours_max,
				       arena_array(arena, neighbours_max, sizeof *query.neighbours), 0};
	neighbours = arena_array(arena, neighbours_max, sizeof *neighbours);
	if (!query.neighbours || !neighbours)
		return no_room(error);
	nearest_search(updater->gcn, updater->users, &query, 1);
	for (uint32_t n = 0; n < query.count; n++)
		neighbours[n] = (struct inspect_neighbour){user_bytes(updater->users,
								      query.neighbours[n].user),
							   query.neighbours[n].cosine};
	node.neighbours = neighbours;
	node.neighbours_count = query.count;
	*out = node;
	return STATUS_OK;
}

enum status inspect_item(const struct updater *updater, struct text_view id, uint32_t last_max,
			 struct arena *arena,
			 struct inspect_node *out, struct error *error)
{
	struct inspect_node node = {.id = id};
	const struct catalog_entry *entry;
	const struct edge *edges;
	struct item_id item;
	enum status status;

	if (!item_ids_find(updater->items, id, &item))
		return error_set(error, STATUS_NOT_FOUND, "no item \"%.*s\" in the state", TEXT_ARGS(id));
	entry = catalog_get(updater->catalog, item);
	if (entry) {
		node.title = entry->title;
		node.attributes = entry->attributes;
		node.attributes_count = entry->attributes_count;
	}
	edges = graph_item_edges(updater->graph, item, &node.edges);
	node.gcn_edges = gcn_item_degree(updater->gcn, item);
	node.mean_response = mean_of(graph_item_response(updater->graph, item), node.edges);
	node.length = sqrt((double)gcn_item_norm(updater->gcn, item)) / GCN_ONE;
	status = list_edges(updater, edges, node.edges, false, last_max, arena, &node, error);
	if (!status)
		*out = node;
	return status;
}
