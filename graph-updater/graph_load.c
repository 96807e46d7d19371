/* graph_load.c - the whole graph at once: putting one together from a snapshot, and proving one sound. */
#include "graph-updater/graph_internal.h"

#include "base/pool.h"

#include <stdlib.h>

enum { RANGE_EDGES = 1 << 22 };         /* of the items' lists, put together at a time by a thread */
enum { EDGES_AHEAD = 16 };

static enum status check_loaded(const struct graph *graph, const struct edge *edge, const struct edge *before,
				struct error *error)
{
	if (edge_kind(edge) >= KIND_REMOVE || edge->value > RESPONSE_ONE ||
	    (!edge_has_rating(edge) && edge->value) ||
	    (edge_kind(edge) == KIND_RATE && !edge_has_rating(edge)))
		return error_set(error, STATUS_CORRUPT, "an edge with kind %d and value %u",
				 (int)edge_kind(edge), edge->value);
	if (before && edge_compare(graph, before, edge) >= 0)
		return error_set(error, STATUS_CORRUPT, "a user's edges are not in order");
	return STATUS_OK;
}

enum status graph_load_edges(struct graph *graph, struct user_id user, const struct edge *edges, uint32_t count,
			     uint32_t total, struct error *error)
{
	struct user_node *node;
	struct edge *to;
	uint32_t last = 0;

	for (uint32_t e = 0; e < count; e++)
		last = edges[e].other > last ? edges[e].other : last;
	if (!chunks_reserve(&graph->user_nodes, user.v + 1) || !chunks_reserve(&graph->item_nodes, last + 1))
		goto no_memory;
	node = user_node(graph, user);
	if (!user_make_room(graph, node, node->list.count ? count : total))
		goto no_memory;
	to = user_edges(node) + node->list.count;
	for (uint32_t e = 0; e < count; e++) {
		enum status status = check_loaded(graph, &edges[e], node->list.count ? to - 1 : NULL, error);
		if (status)
			return status;
		if (e + EDGES_AHEAD < count)
			__builtin_prefetch(item_node(graph, (struct item_id){edges[e + EDGES_AHEAD].other}), 1);
		*to++ = edges[e];
		node->list.count++;
		node->response += edge_response(&edges[e]);
		graph->counts.response += edge_response(&edges[e]);
		/* Its list comes at the end; until then the response counts the edges to come. */
		item_node(graph, (struct item_id){edges[e].other})->response++;
	}
	graph->counts.edges += count;
	return STATUS_OK;
no_memory:
	return error_set(error, STATUS_NO_MEMORY, "graph: out of memory at %llu edges",
			 (unsigned long long)graph->counts.edges);
}

/* One edge of an item on its way into the item's list. */
struct arrival {
	int64_t time_ms;
	struct user_id user;
	uint16_t response;
};

static int compare_arrivals(const void *left, const void *right, void *context)
{
	const struct arrival *a = left, *b = right;
	const struct graph *graph = context;

	if (a->time_ms != b->time_ms)
		return a->time_ms < b->time_ms ? -1 : 1;
	return text_compare(user_bytes(graph->options.users, a->user),
			    user_bytes(graph->options.users, b->user));
}

/* The lists of items first .. end - 1, whose edges together fit `arrivals`. places[i - first] is where
 * the next edge of item i goes. */
static void load_range(struct graph *graph, uint32_t first, uint32_t end, struct arrival *arrivals,
		       uint64_t *places)
{
	uint64_t begin = 0;

	for (uint32_t u = 0; u < chunks_rows(&graph->user_nodes); u++) {
		uint32_t count;
		const struct edge *edges = graph_user_edges(graph, (struct user_id){u}, &count);
		for (uint32_t e = 0; e < count; e++)
			if (edges[e].other >= first && edges[e].other < end)
				arrivals[places[edges[e].other - first]++] = (struct arrival){
					edge_time_ms(&edges[e]), {u}, response_seen(&edges[e])};
	}
	for (uint32_t i = first; i < end; i++) {
		struct item_node *node = item_node(graph, (struct item_id){i});
		uint32_t count = (uint32_t)(places[i - first] - begin);
		struct arrival *own = arrivals + begin;
		begin = places[i - first];
		if (!count)
			continue;
		qsort_r(own, count, sizeof *own, compare_arrivals, graph);
		node->newest_ms = own[count - 1].time_ms;
		node->list.count = count;
		for (uint32_t e = 0; e < count; e++) {
			item_raters(node)[e] = own[e].user;
			item_responses(node)[e] = own[e].response;
			node->response += rater_response(own[e].response);
		}
	}
}

/* Items that are put together at once; their lists have room, and their responses count their edges. */
struct range {
	uint32_t first, end;
	uint64_t edges;
};

struct loading_items {
	struct graph *graph;
	struct range *ranges;           /* [count] */
	size_t count, capacity;
	unsigned workers;
	enum status verdict;            /* for a pair that occurs twice */
	bool no_memory[POOL_THREADS_MAX], repeated[POOL_THREADS_MAX];   /* a worker each */
};

static bool plan_ranges(struct loading_items *loading)
{
	struct graph *graph = loading->graph;
	uint32_t end = chunks_rows(&graph->item_nodes);

	for (uint32_t i = 0; i < end; i++) {
		struct item_node *node = item_node(graph, (struct item_id){i});
		struct range *range = loading->count ? &loading->ranges[loading->count - 1] : NULL;
		if (node->response && !item_make_room(graph, node, (uint32_t)node->response))
			return false;
		if (!range || range->edges + node->response > RANGE_EDGES) {
			if (!mem_reserve((void **)&loading->ranges, &loading->capacity, loading->count, end,
					 sizeof *loading->ranges))
				return false;
			range = &loading->ranges[loading->count++];
			*range = (struct range){i, i, 0};
		}
		range->end = i + 1;
		range->edges += node->response;
	}
	return true;
}

/* Every range belongs to one worker, and so do its items. */
static void load_ranges(void *context, uint32_t worker, uint32_t thread)
{
	struct loading_items *loading = context;
	struct graph *graph = loading->graph;

	(void)thread;
	for (size_t r = worker; r < loading->count && !loading->no_memory[worker]; r += loading->workers) {
		struct range range = loading->ranges[r];
		struct arrival *arrivals = mem_alloc_array(range.edges, sizeof *arrivals);
		uint64_t *places = mem_alloc_array(range.end - range.first, sizeof *places), at = 0;
		loading->no_memory[worker] = !arrivals || !places;
		for (uint32_t i = range.first; i < range.end && places; i++) {
			struct item_node *node = item_node(graph, (struct item_id){i});
			places[i - range.first] = at;
			at += node->response;
			node->response = 0;
		}
		if (arrivals && places)
			load_range(graph, range.first, range.end, arrivals, places);
		mem_free(arrivals);
		mem_free(places);
	}
}

/* A pair that occurs twice. Marks users by the item that saw them last; items are shared out in runs. */
static void find_repeated_some(void *context, uint32_t worker, uint32_t thread)
{
	struct loading_items *loading = context;
	const struct graph *graph = loading->graph;
	uint32_t *seen = mem_alloc_zero(chunks_rows(&graph->user_nodes), sizeof *seen);

	(void)thread;
	loading->no_memory[worker] = !seen;
	for (uint32_t i = 0; i < chunks_rows(&graph->item_nodes) && seen; i++) {
		struct graph_raters raters;
		if ((i >> CHUNK_SHIFT) % loading->workers != worker)
			continue;
		raters = graph_item_raters(graph, (struct item_id){i});
		for (uint32_t e = 0; e < raters.count; e++) {
			loading->repeated[worker] |= seen[raters.users[e].v] == i + 1;
			seen[raters.users[e].v] = i + 1;
		}
	}
	mem_free(seen);
}

static enum status work_on_items(struct loading_items *loading, struct pool *threads,
				 void (*work)(void *context, uint32_t worker, uint32_t thread), struct error *error)
{
	loading->workers = pool_threads(threads);
	pool_run(threads, loading->workers, work, loading);
	for (unsigned worker = 0; worker < loading->workers; worker++) {
		if (loading->no_memory[worker])
			return error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
		if (loading->repeated[worker])
			return error_set(error, loading->verdict, "a pair has two edges");
	}
	return STATUS_OK;
}

/* The items' lists from those of the users, some items at a time so that the detour stays small. */
static enum status load_item_sides(struct graph *graph, struct pool *threads, struct error *error)
{
	struct loading_items loading = {.graph = graph, .verdict = STATUS_CORRUPT};
	enum status status = plan_ranges(&loading) ? STATUS_OK : error_set(error, STATUS_NO_MEMORY,
									   "graph: out of memory");

	if (!status)
		status = work_on_items(&loading, threads, load_ranges, error);
	mem_free(loading.ranges);
	return status ? status : work_on_items(&loading, threads, find_repeated_some, error);
}

static enum status find_repeated(const struct graph *graph, enum status verdict, struct error *error)
{
	struct loading_items loading = {.graph = (struct graph *)(uintptr_t)graph, .verdict = verdict};

	return work_on_items(&loading, NULL, find_repeated_some, error);
}

enum status graph_load_finish(struct graph *graph, uint64_t evicted, struct pool *threads,
			      const struct advance *advance, struct error *error)
{
	enum status status;

	advance_tell(advance, "joining", 0, 1);
	status = load_item_sides(graph, threads, error);
	if (status)
		return status;
	graph->counts.evicted = evicted;
	for (uint32_t u = 0; u < chunks_rows(&graph->user_nodes); u++) {
		uint32_t count;
		const struct edge *edges = graph_user_edges(graph, (struct user_id){u}, &count);
		for (uint32_t e = 0; e < count; e++) {
			struct graph_change change = {.user = {u}, .item = {edges[e].other}, .new_edge = &edges[e]};
			status = graph_tell(graph, &change, error);
			if (status)
				return status;
		}
	}
	return STATUS_OK;
}

/* ---- proof ---- */

static enum status wrong(const char *what, struct text_view name, const char *how, struct error *error)
{
	return error_set(error, STATUS_INTERNAL, "%s %.*s: %s", what, TEXT_ARGS(name), how);
}

static enum status check_user(const struct graph *graph, struct user_id user, struct graph_counts *counts,
			      struct error *error)
{
	struct text_view name = user_bytes(graph->options.users, user);
	uint32_t count;
	const struct edge *edges = graph_user_edges(graph, user, &count);
	uint64_t response = 0;

	if (count && !ids_alive(graph->options.users.table, user.v))
		return error_set(error, STATUS_INTERNAL, "user %u has edges but no id", user.v);
	for (uint32_t e = 0; e < count; e++) {
		response += edge_response(&edges[e]);
		if (!ids_alive(graph->options.items.table, edges[e].other))
			return wrong("user", name, "an edge to an item without id", error);
		if (e && edge_compare(graph, &edges[e - 1], &edges[e]) >= 0)
			return wrong("user", name, "edges are not in order", error);
	}
	if (response != graph_user_response(graph, user))
		return wrong("user", name, "the response counter is not the sum over the edges", error);
	counts->edges += count;
	counts->response += response;
	return STATUS_OK;
}

/* Every rater has the edge, with this response, in this order. With as many edges on both sides and no
 * pair twice, then no edge is on one side only. */
static enum status check_item(const struct graph *graph, struct item_id item, struct graph_counts *counts,
			      struct error *error)
{
	struct text_view name = item_bytes(graph->options.items, item), before = {NULL, 0};
	struct graph_raters raters = graph_item_raters(graph, item);
	int64_t before_ms = INT64_MIN;
	uint64_t response = 0;

	if (raters.count && !ids_alive(graph->options.items.table, item.v))
		return error_set(error, STATUS_INTERNAL, "item %u has edges but no id", item.v);
	for (uint32_t e = 0; e < raters.count; e++) {
		struct text_view now = user_bytes(graph->options.users, raters.users[e]);
		const struct edge *edge = NULL;
		if (ids_alive(graph->options.users.table, raters.users[e].v))
			edge = user_scan(graph, raters.users[e], item);
		if (!edge || response_seen(edge) != raters.responses[e])
			return wrong("item", name, "an edge is not so on the user's side", error);
		if (edge_time_ms(edge) < before_ms ||
		    (edge_time_ms(edge) == before_ms && text_compare(before, now) >= 0))
			return wrong("item", name, "raters are not in order", error);
		before = now;
		before_ms = edge_time_ms(edge);
		response += rater_response(raters.responses[e]);
	}
	if (raters.count && item_node(graph, item)->newest_ms != before_ms)
		return wrong("item", name, "the newest time is not that of the last rater", error);
	if (response != graph_item_response(graph, item))
		return wrong("item", name, "the response counter is not the sum over the edges", error);
	counts->edges += raters.count;
	counts->response += response;
	return STATUS_OK;
}

static enum status compare_counts(const struct graph *graph, const struct graph_counts *counts,
				  const char *what, struct error *error)
{
	if (counts->edges == graph->counts.edges && counts->response == graph->counts.response)
		return STATUS_OK;
	return error_set(error, STATUS_INTERNAL, "%s have %llu edges with response %llu, not %llu with %llu",
			 what, (unsigned long long)counts->edges, (unsigned long long)counts->response,
			 (unsigned long long)graph->counts.edges, (unsigned long long)graph->counts.response);
}

enum status graph_check(const struct graph *graph, struct error *error)
{
	struct graph_counts by_users = {0}, by_items = {0};
	enum status status = STATUS_OK;

	for (uint32_t u = 0; u < chunks_rows(&graph->user_nodes) && !status; u++)
		status = check_user(graph, (struct user_id){u}, &by_users, error);
	if (!status)
		status = compare_counts(graph, &by_users, "users", error);
	for (uint32_t i = 0; i < chunks_rows(&graph->item_nodes) && !status; i++)
		status = check_item(graph, (struct item_id){i}, &by_items, error);
	if (!status)
		status = compare_counts(graph, &by_items, "items", error);
	return status ? status : find_repeated(graph, STATUS_INTERNAL, error);
}
