/* inspect.c - see inspect.h. */
#include "graph-updater/inspect.h"

#include "graph-updater/updater_internal.h"

#include <math.h>

static enum status no_room(struct error *error)
{
	return error_set(error, STATUS_LIMIT, "inspect: more than fits the arena");
}

static struct inspect_edge one_edge(const struct updater *updater, const struct edge *edge)
{
	return (struct inspect_edge){
		.kind = edge_kind(edge),
		.has_rating = edge_has_rating(edge),
		.rating = edge_has_rating(edge) ? graph_edge_rating(updater->graph, edge) : 0,
		.response = (double)edge_response(edge) / RESPONSE_ONE,
		.event_time_ms = edge_time_ms(edge),
	};
}

/* The user's last edges, newest first. */
static enum status list_items(const struct updater *updater, struct user_id user, uint32_t last_max,
			      struct arena *arena, struct inspect_node *node, struct error *error)
{
	const struct edge *edges = graph_user_edges(updater->graph, user, &node->edges);
	uint32_t kept = node->edges < last_max ? node->edges : last_max;
	struct inspect_edge *last = arena_array(arena, kept, sizeof *last);

	if (!last)
		return no_room(error);
	for (uint32_t n = 0; n < kept; n++) {
		const struct edge *edge = &edges[node->edges - 1 - n];
		struct item_id item = {edge->other};
		const struct catalog_entry *entry = catalog_get(updater->catalog, item);
		last[n] = one_edge(updater, edge);
		last[n].id = item_bytes(updater->items, item);
		if (entry)
			last[n].title = entry->title;
	}
	node->last = last;
	node->last_count = kept;
	return STATUS_OK;
}

/* The item's last raters, newest first; their edges are found on their side. */
static enum status list_raters(const struct updater *updater, struct item_id item, uint32_t last_max,
			       struct arena *arena, struct inspect_node *node, struct error *error)
{
	struct graph_raters raters = graph_item_raters(updater->graph, item);
	uint32_t kept = raters.count < last_max ? raters.count : last_max;
	struct inspect_edge *last = arena_array(arena, kept, sizeof *last);

	if (!last)
		return no_room(error);
	for (uint32_t n = 0; n < kept; n++) {
		struct user_id user = raters.users[raters.count - 1 - n];
		last[n] = one_edge(updater, graph_find(updater->graph, user, item));
		last[n].id = user_bytes(updater->users, user);
	}
	node->edges = raters.count;
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
	enum status status;

	if (!user_ids_find(updater->users, id, &user))
		return error_set(error, STATUS_NOT_FOUND, "no user \"%.*s\" in the state", TEXT_ARGS(id));
	status = list_items(updater, user, last_max, arena, &node, error);
	if (status)
		return status;
	node.gcn_edges = gcn_user_degree(updater->gcn, user);
	node.mean_response = mean_of(graph_user_response(updater->graph, user), node.edges);
	node.length = sqrt((double)gcn_user_norm(updater->gcn, user)) / GCN_ONE;
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
	status = list_raters(updater, item, last_max, arena, &node, error);
	if (status)
		return status;
	node.gcn_edges = gcn_item_degree(updater->gcn, item);
	node.mean_response = mean_of(graph_item_response(updater->graph, item), node.edges);
	node.length = sqrt((double)gcn_item_norm(updater->gcn, item)) / GCN_ONE;
	*out = node;
	return STATUS_OK;
}
