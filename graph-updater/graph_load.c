/* graph_load.c - the whole graph at once: putting one together from a snapshot, and proving one sound. */
#include "graph-updater/graph_internal.h"

#include "base/pool.h"

/* Items whose lists are put together at once: about so many bits of their numbers tell buckets apart. */
enum { BUCKETS_MAX = 512, RUN = 12 };

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
	bool begins;

	for (uint32_t e = 0; e < count; e++)
		last = edges[e].other > last ? edges[e].other : last;
	begins = !graph->loaded_count || graph->loaded[graph->loaded_count - 1].v != user.v;
	if (!chunks_reserve(&graph->user_nodes, user.v + 1) || !chunks_reserve(&graph->item_nodes, last + 1) ||
	    (begins && !mem_reserve((void **)&graph->loaded, &graph->loaded_capacity, graph->loaded_count,
				    graph->options.users_max, sizeof *graph->loaded)))
		goto no_memory;
	if (begins)
		graph->loaded[graph->loaded_count++] = user;
	node = user_node(graph, user);
	if (!user_make_room(graph, node, node->list.count ? count : total))
		goto no_memory;
	to = user_edges(node) + node->list.count;
	for (uint32_t e = 0; e < count; e++) {
		enum status status = check_loaded(graph, &edges[e], node->list.count ? to - 1 : NULL, error);
		if (status)
			return status;
		*to++ = edges[e];
		node->list.count++;
		node->response += edge_response(&edges[e]);
		graph->counts.response += edge_response(&edges[e]);
	}
	graph->counts.edges += count;
	return STATUS_OK;
no_memory:
	return error_set(error, STATUS_NO_MEMORY, "graph: out of memory at %llu edges",
			 (unsigned long long)graph->counts.edges);
}

/* ---- the items' side ---- */

/* One edge of an item on its way into the item's list. */
struct arrival {
	uint64_t time_response;         /* time << 16 | response_seen() */
	struct user_id user;
	uint32_t item;
};

/* Edges are dealt out to buckets of items, by slices of the users, and then each bucket to its items; both
 * keep the order in which users were loaded, which is that of their id bytes. So an item's edges need only
 * be put in the order of time, stably, and a pair that occurs twice stands side by side before. */
struct joining {
	struct graph *graph;
	const struct advance *advance;
	uint32_t slices, buckets;
	int shift;                      /* item >> shift: its bucket */
	uint64_t *places;               /* [slices][buckets]: counts, then where the next arrival goes */
	uint64_t *begins;               /* [buckets + 1] */
	struct arrival *arrivals;       /* [edges] */
	bool no_memory[POOL_THREADS_MAX], repeated[POOL_THREADS_MAX];   /* a thread each */
};

static void slice_bounds(const struct joining *joining, uint32_t slice, size_t *first, size_t *end)
{
	*first = joining->graph->loaded_count * slice / joining->slices;
	*end = joining->graph->loaded_count * (slice + 1) / joining->slices;
}

static void count_slice(void *context, uint32_t slice, uint32_t thread)
{
	struct joining *joining = context;
	uint64_t *counts = joining->places + (size_t)slice * joining->buckets;
	size_t first, end;

	(void)thread;
	slice_bounds(joining, slice, &first, &end);
	for (size_t u = first; u < end; u++) {
		uint32_t count;
		const struct edge *edges = graph_user_edges(joining->graph, joining->graph->loaded[u], &count);
		for (uint32_t e = 0; e < count; e++)
			counts[edges[e].other >> joining->shift]++;
	}
}

static void deal_slice(void *context, uint32_t slice, uint32_t thread)
{
	struct joining *joining = context;
	uint64_t *places = joining->places + (size_t)slice * joining->buckets;
	size_t first, end;

	(void)thread;
	slice_bounds(joining, slice, &first, &end);
	for (size_t u = first; u < end; u++) {
		struct user_id user = joining->graph->loaded[u];
		uint32_t count;
		const struct edge *edges = graph_user_edges(joining->graph, user, &count);
		for (uint32_t e = 0; e < count; e++)
			joining->arrivals[places[edges[e].other >> joining->shift]++] = (struct arrival){
				(uint64_t)edge_time_ms(&edges[e]) << 16 | response_seen(&edges[e]), user,
				edges[e].other};
	}
}

/* From counts to places: bucket by bucket, in it slice by slice. */
static void place_buckets(struct joining *joining)
{
	uint64_t at = 0;

	for (uint32_t b = 0; b < joining->buckets; b++) {
		joining->begins[b] = at;
		for (uint32_t s = 0; s < joining->slices; s++) {
			uint64_t *place = &joining->places[(size_t)s * joining->buckets + b], count = *place;
			*place = at;
			at += count;
		}
	}
	joining->begins[joining->buckets] = at;
}

/* Stable, by time; spare as long. Runs by insertion, then merged. */
static void sort_by_time(struct arrival *arrivals, uint32_t count, struct arrival *spare)
{
	struct arrival *from = arrivals, *to = spare, *swap;

	for (uint32_t first = 0; first < count; first += RUN) {
		uint32_t end = count - first < RUN ? count : first + RUN;
		for (uint32_t n = first + 1; n < end; n++) {
			struct arrival moving = arrivals[n];
			uint32_t at = n;
			for (; at > first && arrivals[at - 1].time_response >> 16 > moving.time_response >> 16; at--)
				arrivals[at] = arrivals[at - 1];
			arrivals[at] = moving;
		}
	}
	for (uint64_t width = RUN; width < count; width *= 2, swap = from, from = to, to = swap)
		for (uint64_t first = 0; first < count; first += 2 * width) {
			uint64_t middle = first + width < count ? first + width : count;
			uint64_t end = middle + width < count ? middle + width : count, a = first, b = middle;
			for (uint64_t n = first; n < end; n++)
				to[n] = b == end || (a < middle && from[a].time_response >> 16 <=
							       from[b].time_response >> 16)
						? from[a++] : from[b++];
		}
	if (from != arrivals)
		memcpy(arrivals, from, count * sizeof *arrivals);
}

/* False: no memory. */
static bool fill_item(struct graph *graph, struct item_id item, struct arrival *arrivals, uint32_t count,
		      struct arrival *spare)
{
	struct item_node *node = item_node(graph, item);

	if (!item_make_room(graph, node, count))
		return false;
	sort_by_time(arrivals, count, spare);
	node->newest_ms = (int64_t)(arrivals[count - 1].time_response >> 16);
	node->list.count = count;
	for (uint32_t e = 0; e < count; e++) {
		uint16_t response = (uint16_t)arrivals[e].time_response;
		item_raters(node)[e] = arrivals[e].user;
		item_responses(node)[e] = response;
		node->response += rater_response(response);
	}
	return true;
}

static bool has_repeated(const struct arrival *arrivals, uint32_t count)
{
	bool repeated = false;

	for (uint32_t e = 1; e < count; e++)
		repeated |= arrivals[e].user.v == arrivals[e - 1].user.v;
	return repeated;
}

static void fill_bucket(void *context, uint32_t bucket, uint32_t thread)
{
	struct joining *joining = context;
	const struct arrival *arrivals = joining->arrivals + joining->begins[bucket];
	uint64_t count = joining->begins[bucket + 1] - joining->begins[bucket];
	uint32_t items = (uint32_t)1 << joining->shift, first = bucket << joining->shift;
	struct arrival *dealt = mem_alloc_array(2 * count, sizeof *dealt);
	uint64_t *ends = mem_alloc_zero(items + 1, sizeof *ends);

	joining->no_memory[thread] |= !dealt || !ends;
	if (thread == 0)
		advance_tell(joining->advance, "joining", bucket, joining->buckets);
	for (uint64_t e = 0; e < count && ends; e++)
		ends[arrivals[e].item - first + 1]++;
	for (uint32_t i = 0; i < items && ends; i++)
		ends[i + 1] += ends[i];
	/* ends[i] is where the next arrival of item i goes, and in the end where the next item's begin. */
	for (uint64_t e = 0; e < count && dealt && ends; e++)
		dealt[ends[arrivals[e].item - first]++] = arrivals[e];
	for (uint32_t i = 0; i < items && !joining->no_memory[thread]; i++) {
		uint64_t begin = i ? ends[i - 1] : 0;
		if (ends[i] == begin)
			continue;
		joining->repeated[thread] |= has_repeated(dealt + begin, (uint32_t)(ends[i] - begin));
		joining->no_memory[thread] |= !fill_item(joining->graph, (struct item_id){first + i}, dealt + begin,
							 (uint32_t)(ends[i] - begin), dealt + count);
	}
	mem_free(dealt);
	mem_free(ends);
}

enum status graph_load_finish(struct graph *graph, uint64_t evicted, struct pool *threads,
			      const struct advance *advance, struct error *error)
{
	uint32_t items = chunks_rows(&graph->item_nodes);
	struct joining joining = {.graph = graph, .advance = advance, .slices = pool_threads(threads)};
	enum status status = STATUS_OK;

	while (items >> joining.shift > BUCKETS_MAX)
		joining.shift++;
	joining.buckets = (items >> joining.shift) + 1;
	joining.places = mem_alloc_zero((size_t)joining.slices * joining.buckets, sizeof *joining.places);
	joining.begins = mem_alloc_array(joining.buckets + 1, sizeof *joining.begins);
	joining.arrivals = mem_alloc_array(graph->counts.edges, sizeof *joining.arrivals);
	if (!joining.places || !joining.begins || !joining.arrivals) {
		status = error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
		goto cleanup;
	}
	pool_run(threads, joining.slices, count_slice, &joining);
	place_buckets(&joining);
	pool_run(threads, joining.slices, deal_slice, &joining);
	pool_run(threads, joining.buckets, fill_bucket, &joining);
	for (uint32_t thread = 0; thread < pool_threads(threads) && !status; thread++)
		if (joining.no_memory[thread])
			status = error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
		else if (joining.repeated[thread])
			status = error_set(error, STATUS_CORRUPT, "a pair has two edges");
	graph->counts.evicted = evicted;
cleanup:
	mem_free(joining.places);
	mem_free(joining.begins);
	mem_free(joining.arrivals);
	mem_free(graph->loaded);
	graph->loaded = NULL;
	graph->loaded_count = graph->loaded_capacity = 0;
	return status;
}

/* ---- proof ---- */

/* A pair that occurs twice: marks users by the item that saw them last. */
static enum status find_repeated(const struct graph *graph, struct error *error)
{
	uint32_t *seen = mem_alloc_zero(chunks_rows(&graph->user_nodes), sizeof *seen);
	bool repeated = false;

	for (uint32_t i = 0; i < chunks_rows(&graph->item_nodes) && seen; i++) {
		struct graph_raters raters = graph_item_raters(graph, (struct item_id){i});
		for (uint32_t e = 0; e < raters.count; e++) {
			repeated |= seen[raters.users[e].v] == i + 1;
			seen[raters.users[e].v] = i + 1;
		}
	}
	if (!seen)
		return error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
	mem_free(seen);
	return repeated ? error_set(error, STATUS_INTERNAL, "a pair has two edges") : STATUS_OK;
}

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
	return status ? status : find_repeated(graph, error);
}
