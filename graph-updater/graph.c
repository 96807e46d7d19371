/* graph.c - the rule of the winner: what an interaction does to its pair.
 *
 * graph_apply() decides first and changes then: ids are held and room is made on both sides before
 * the first list is touched, so a failure for want of memory leaves the graph as it was (listeners'
 * failures do not: they are fatal). Invariants: both sides hold the same edges; a node without edges
 * has no list and its id is released. Called by updater.c. */
#include "graph-updater/graph_internal.h"

#include <math.h>

enum status graph_create(const struct graph_options *options, struct graph **out, struct error *error)
{
	struct graph *graph;

	if (!(options->rating_min < options->rating_max))
		return error_set(error, STATUS_CONFIG, "statistics.rating_scale: %g..%g is empty",
				 options->rating_min, options->rating_max);
	if (options->edge_days < 0 || options->edge_days > GRAPH_TIME_MAX / 86400000)
		return error_set(error, STATUS_CONFIG, "graph.edge_days: %lld is outside 0..%lld",
				 (long long)options->edge_days, (long long)(GRAPH_TIME_MAX / 86400000));
	graph = mem_alloc_zero(1, sizeof *graph);
	if (!graph)
		return error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
	graph->options = *options;
	graph->edge_ms = options->edge_days * 86400000;
	graph->oldest = oldest_create();
	if (!graph->oldest || !chunks_create(&graph->user_nodes, options->users_max, sizeof(struct user_node)) ||
	    !chunks_create(&graph->item_nodes, options->items_max, sizeof(struct item_node))) {
		graph_destroy(graph);
		return error_set(error, STATUS_NO_MEMORY, "graph: out of memory");
	}
	*out = graph;
	return STATUS_OK;
}

static void destroy_nodes(struct chunks *nodes)
{
	/* Both kinds of node begin with their list. */
	for (uint32_t n = 0; n < chunks_rows(nodes); n++)
		mem_free(((struct list *)chunks_row(nodes, n))->rows);
	chunks_destroy(nodes);
}

void graph_destroy(struct graph *graph)
{
	if (!graph)
		return;
	destroy_nodes(&graph->user_nodes);
	destroy_nodes(&graph->item_nodes);
	oldest_destroy(graph->oldest);
	mem_free(graph->loaded);
	mem_free(graph);
}

enum status graph_listen(struct graph *graph, struct graph_listener listener, struct error *error)
{
	if (graph->listeners_count == GRAPH_LISTENERS_MAX)
		return error_set(error, STATUS_INTERNAL, "too many listeners of the graph");
	graph->listeners[graph->listeners_count++] = listener;
	return STATUS_OK;
}

enum status graph_tell(struct graph *graph, const struct graph_change *change, struct error *error)
{
	enum status status = STATUS_OK;

	for (size_t l = 0; l < graph->listeners_count && !status; l++)
		status = graph->listeners[l].changed(graph->listeners[l].context, change, error);
	return status;
}

/* ---- one pair ---- */

/* From both lists and all counters; ids and room stay. */
static struct graph_place unlink_edge(struct graph *graph, struct user_id user, const struct edge *edge)
{
	struct item_id item = {edge->other};
	struct graph_place place = {user_locate(graph, user, edge), item_locate(graph, item, user)};

	graph->counts.edges--;
	graph->counts.response -= edge_response(edge);
	item_remove(graph, item, place.in_item);
	user_remove(graph, user, place.in_user);
	return place;
}

static struct graph_place link_edge(struct graph *graph, struct user_id user, const struct edge *edge)
{
	struct item_id item = {edge->other};
	struct oldest_edge entry = {edge_time_ms(edge), user, item};
	struct graph_place place;

	graph->counts.edges++;
	graph->counts.response += edge_response(edge);
	place.in_item = item_insert(graph, item, user, entry.time_ms, response_seen(edge));
	place.in_user = user_insert(graph, user, edge);
	oldest_added(graph->oldest, graph, &entry);
	return place;
}

/* There is room for one more on both sides. A winner of the same time takes the place of the old one. */
static void replace_edge(struct graph *graph, const struct edge *old, const struct edge *new,
			 struct graph_change *change)
{
	struct user_node *user_side = user_node(graph, change->user);
	struct item_node *item_side = item_node(graph, change->item);
	uint64_t delta = (uint64_t)edge_response(new) - edge_response(old);

	if (edge_time_ms(old) != edge_time_ms(new)) {
		change->old_place = unlink_edge(graph, change->user, old);
		change->new_place = link_edge(graph, change->user, new);
		return;
	}
	change->old_place = change->new_place =
		(struct graph_place){user_locate(graph, change->user, old),
				     item_locate(graph, change->item, change->user)};
	user_edges(user_side)[change->old_place.in_user] = *new;
	item_responses(item_side)[change->old_place.in_item] = response_seen(new);
	user_side->response += delta;
	item_side->response += delta;
	graph->counts.response += delta;
}

static void release_lonely(struct graph *graph, struct user_id user, struct item_id item)
{
	if (!user_node(graph, user)->list.count)
		ids_release(graph->options.users.table, user.v, IDS_GRAPH);
	if (!item_node(graph, item)->list.count)
		ids_release(graph->options.items.table, item.v, IDS_GRAPH);
}

static enum status remove_edge(struct graph *graph, struct user_id user, struct edge edge,
			       struct error *error)
{
	struct graph_change change = {.user = user, .item = {edge.other}, .old_edge = &edge};
	enum status status;

	change.old_place = unlink_edge(graph, user, &edge);
	user_trim(graph, user);
	item_trim(graph, change.item);
	status = graph_tell(graph, &change, error);
	release_lonely(graph, user, change.item);
	return status;
}

/* Ids held and room made on both sides, or nothing changed. */
static enum status make_room(struct graph *graph, const struct interaction_event *event, struct user_id *user,
			     struct item_id *item, struct error *error)
{
	struct ids *users = graph->options.users.table, *items = graph->options.items.table;
	enum status status = ids_hold(users, event->user_id, IDS_GRAPH, &user->v, error);

	if (status)
		return status;
	if (!chunks_reserve(&graph->user_nodes, user->v + 1)) {
		ids_release(users, user->v, IDS_GRAPH);
		return error_set(error, STATUS_NO_MEMORY, "graph: out of memory at %llu edges",
				 (unsigned long long)graph->counts.edges);
	}
	status = ids_hold(items, event->item_id, IDS_GRAPH, &item->v, error);
	if (status) {
		if (!user_node(graph, *user)->list.count)
			ids_release(users, user->v, IDS_GRAPH);
		return status;
	}
	if (chunks_reserve(&graph->item_nodes, item->v + 1)) {
		if (user_make_room(graph, user_node(graph, *user), 1) &&
		    item_make_room(graph, item_node(graph, *item), 1))
			return STATUS_OK;
		user_trim(graph, *user);
		item_trim(graph, *item);
		release_lonely(graph, *user, *item);
	} else {
		ids_release(items, item->v, IDS_GRAPH);
		if (!user_node(graph, *user)->list.count)
			ids_release(users, user->v, IDS_GRAPH);
	}
	return error_set(error, STATUS_NO_MEMORY, "graph: out of memory at %llu edges",
			 (unsigned long long)graph->counts.edges);
}

/* ---- eviction ---- */

static enum status evict(struct graph *graph, int64_t clock_ms, struct error *error)
{
	int64_t oldest_kept_ms = graph->edge_ms ? clock_ms - graph->edge_ms : INT64_MIN;
	struct oldest_edge oldest;
	enum status status;
	bool found;

	for (;;) {
		bool too_many = graph->counts.edges > graph->options.edges_max;
		if (!too_many && (!graph->edge_ms || oldest_bound_ms(graph->oldest) >= oldest_kept_ms))
			return STATUS_OK;
		status = oldest_find(graph->oldest, graph, &oldest, &found, error);
		if (status || !found || (!too_many && oldest.time_ms >= oldest_kept_ms))
			return status;
		status = remove_edge(graph, oldest.user,
				     *user_find_at(graph, oldest.user, oldest.item, oldest.time_ms), error);
		if (status)
			return status;
		graph->counts.evicted++;
	}
}

/* ---- applying an event ---- */

static enum status edge_of(const struct graph *graph, const struct interaction_event *event,
			   struct edge *edge,
			   struct error *error)
{
	uint64_t time = (uint64_t)event->event_time_ms;
	double place;

	if (event->event_time_ms < 0 || event->event_time_ms > GRAPH_TIME_MAX)
		return error_set(error, STATUS_BAD_RECORD, "interaction event_time %lld is outside 0..%lld",
				 (long long)event->event_time_ms, (long long)GRAPH_TIME_MAX);
	if ((unsigned)event->kind >= INTERACTION_KINDS)
		return error_set(error, STATUS_BAD_RECORD, "interaction kind %d", (int)event->kind);
	if (event->kind == KIND_RATE && !event->has_rating)
		return error_set(error, STATUS_BAD_RECORD, "a RATE without a rating");
	if (event->has_rating && !isfinite(event->rating))
		return error_set(error, STATUS_BAD_RECORD, "a rating that is not finite");
	if (event->kind != KIND_REMOVE && !event->item_id.bytes)
		return error_set(error, STATUS_BAD_RECORD, "a %s without an item",
				 event->kind == KIND_VIEW ? "VIEW" : "CLICK, RATE or PURCHASE");
	*edge = (struct edge){.time_low = (uint32_t)time};
	edge->time_high_kind = (uint16_t)((time >> 32) << 4 | (uint64_t)event->has_rating << 3 | event->kind);
	if (event->has_rating) {
		place = (event->rating - graph->options.rating_min) /
			(graph->options.rating_max - graph->options.rating_min);
		place = place < 0 ? 0 : place > 1 ? 1 : place;
		edge->value = (uint16_t)rint(place * RESPONSE_ONE);
	}
	return STATUS_OK;
}

/* Greater wins: anything over a VIEW, then (time, kind, rating). */
static int compare_rank(const struct edge *a, const struct edge *b)
{
	int64_t rank_a[4] = {edge_kind(a) != KIND_VIEW, edge_time_ms(a), edge_kind(a),
			     edge_has_rating(a) ? a->value : -1};
	int64_t rank_b[4] = {edge_kind(b) != KIND_VIEW, edge_time_ms(b), edge_kind(b),
			     edge_has_rating(b) ? b->value : -1};

	for (int r = 0; r < 4; r++)
		if (rank_a[r] != rank_b[r])
			return rank_a[r] < rank_b[r] ? -1 : 1;
	return 0;
}

static bool is_buried(const struct graph *graph, const struct interaction_event *event, int64_t clock_ms)
{
	struct text_view none = {NULL, 0};
	struct tombstone probe;
	int64_t time_ms;

	if (!tombstones_count(graph->options.tombstones))
		return false;
	probe = tombstone_of(TOMBSTONE_PAIR, event->user_id, event->item_id, 0);
	if (tombstones_find(graph->options.tombstones, &probe, clock_ms, &time_ms) &&
	    event->event_time_ms <= time_ms)
		return true;
	probe = tombstone_of(TOMBSTONE_USER, event->user_id, none, 0);
	return tombstones_find(graph->options.tombstones, &probe, clock_ms, &time_ms) &&
	       event->event_time_ms <= time_ms;
}

/* REMOVE, of a pair or of the whole user. */
static enum status apply_removal(struct graph *graph, const struct interaction_event *event, int64_t clock_ms,
				 enum graph_effect *effect, struct error *error)
{
	bool whole_user = !event->item_id.bytes, later;
	struct tombstone tombstone = tombstone_of(whole_user ? TOMBSTONE_USER : TOMBSTONE_PAIR,
						  event->user_id,
						  event->item_id, event->event_time_ms);
	const struct user_node *node;
	const struct edge *edge;
	enum status status;
	struct user_id user;
	struct item_id item;

	/* Before any change: this is what may fail. */
	status = tombstones_put(graph->options.tombstones, &tombstone, clock_ms, &later, error);
	if (status)
		return status;
	*effect = later ? GRAPH_CHANGED : GRAPH_VOID;
	if (!user_ids_find(graph->options.users, event->user_id, &user))
		return STATUS_OK;
	if (!whole_user) {
		if (!item_ids_find(graph->options.items, event->item_id, &item))
			return STATUS_OK;
		edge = graph_find(graph, user, item);
		if (!edge || edge_time_ms(edge) > event->event_time_ms)
			return STATUS_OK;
		*effect = GRAPH_CHANGED;
		return remove_edge(graph, user, *edge, error);
	}
	/* The user's node outlives its edges: only its id is released with the last one. */
	node = user_node(graph, user);
	for (uint32_t left = graph_edges_before(user_edges(node), node->list.count,
						event->event_time_ms + 1); left; left--) {
		*effect = GRAPH_CHANGED;
		status = remove_edge(graph, user, user_edges(node)[left - 1], error);
		if (status)
			return status;
	}
	return STATUS_OK;
}

enum status graph_apply(struct graph *graph, const struct interaction_event *event, int64_t clock_ms,
			enum graph_effect *effect, struct error *error)
{
	struct user_id user;
	struct item_id item;
	const struct edge *known = NULL;
	struct edge edge, old;
	struct graph_change change;
	enum status status;
	int order;

	status = edge_of(graph, event, &edge, error);
	if (status)
		return status;
	if (event->kind == KIND_REMOVE) {
		status = apply_removal(graph, event, clock_ms, effect, error);
		return status ? status : evict(graph, clock_ms, error);
	}
	*effect = GRAPH_VOID;
	if ((graph->edge_ms && event->event_time_ms < clock_ms - graph->edge_ms) ||
	    is_buried(graph, event, clock_ms) || !graph->options.edges_max)
		return evict(graph, clock_ms, error);
	if (user_ids_find(graph->options.users, event->user_id, &user) &&
	    item_ids_find(graph->options.items, event->item_id, &item))
		known = graph_find(graph, user, item);
	if (known) {
		order = compare_rank(&edge, known);
		if (order <= 0) {
			*effect = order ? GRAPH_VOID : GRAPH_DUPLICATE;
			return evict(graph, clock_ms, error);
		}
		old = *known;
	}
	status = make_room(graph, event, &user, &item, error);
	if (status)
		return status;
	edge.other = item.v;
	change = (struct graph_change){.user = user, .item = item, .old_edge = known ? &old : NULL,
				       .new_edge = &edge};
	if (known)
		replace_edge(graph, &old, &edge, &change);
	else
		change.new_place = link_edge(graph, user, &edge);
	*effect = GRAPH_CHANGED;
	status = graph_tell(graph, &change, error);
	return status ? status : evict(graph, clock_ms, error);
}

/* ---- reading ---- */

const struct edge *graph_user_edges(const struct graph *graph, struct user_id user, uint32_t *count)
{
	const struct user_node *node;

	*count = 0;
	if (user.v >= chunks_rows(&graph->user_nodes))
		return NULL;
	node = user_node(graph, user);
	*count = node->list.count;
	return *count ? user_edges(node) : NULL;
}

struct graph_raters graph_item_raters(const struct graph *graph, struct item_id item)
{
	const struct item_node *node;

	if (item.v >= chunks_rows(&graph->item_nodes) || !item_node(graph, item)->list.count)
		return (struct graph_raters){NULL, NULL, 0};
	node = item_node(graph, item);
	return (struct graph_raters){item_raters(node), item_responses(node), node->list.count};
}

void graph_prefetch_user(const struct graph *graph, struct user_id user)
{
	__builtin_prefetch(user_node(graph, user));
}

void graph_prefetch_item(const struct graph *graph, struct item_id item)
{
	__builtin_prefetch(item_node(graph, item));
}

struct graph_neighbours graph_neighbours_of_user(const struct graph *graph, struct user_id user)
{
	uint32_t count;
	const struct edge *edges = graph_user_edges(graph, user, &count);

	return (struct graph_neighbours){
		.ids = (const unsigned char *)edges,
		.marks = count ? &edges->time_high_kind : NULL,
		.stride = sizeof *edges,
		.marks_stride = sizeof *edges / sizeof(uint16_t),
		.count = count,
		.of_user = true,
		.all = graph->options.view_edges,
	};
}

struct graph_neighbours graph_neighbours_of_item(const struct graph *graph, struct item_id item)
{
	struct graph_raters raters = graph_item_raters(graph, item);

	return (struct graph_neighbours){
		.ids = (const unsigned char *)raters.users,
		.marks = raters.responses,
		.stride = sizeof *raters.users,
		.marks_stride = 1,
		.count = raters.count,
		.all = graph->options.view_edges,
	};
}

uint32_t graph_edges_before(const struct edge *edges, uint32_t count, int64_t time_ms)
{
	uint32_t low = 0, high = count;

	/* Mostly all of them are: the newest edge is older than what is asked about. */
	if (!count || edge_time_ms(&edges[count - 1]) < time_ms)
		return count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (edge_time_ms(&edges[middle]) < time_ms)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct edge *graph_find(const struct graph *graph, struct user_id user, struct item_id item)
{
	const struct item_node *item_side;

	if (user.v >= chunks_rows(&graph->user_nodes) || item.v >= chunks_rows(&graph->item_nodes))
		return NULL;
	item_side = item_node(graph, item);
	/* The shorter list says whether; the user's says what. */
	if (item_side->list.count < user_node(graph, user)->list.count &&
	    item_scan(item_side, user) == item_side->list.count)
		return NULL;
	return user_scan(graph, user, item);
}

uint64_t graph_user_response(const struct graph *graph, struct user_id user)
{
	return user.v < chunks_rows(&graph->user_nodes) ? user_node(graph, user)->response : 0;
}

uint64_t graph_item_response(const struct graph *graph, struct item_id item)
{
	return item.v < chunks_rows(&graph->item_nodes) ? item_node(graph, item)->response : 0;
}

struct graph_counts graph_get_counts(const struct graph *graph)
{
	return graph->counts;
}

bool graph_edge_in_gcn(const struct graph *graph, const struct edge *edge)
{
	return edge_kind(edge) != KIND_VIEW || graph->options.view_edges;
}

float graph_edge_rating(const struct graph *graph, const struct edge *edge)
{
	return (float)(graph->options.rating_min + (double)edge->value / RESPONSE_ONE *
		       (graph->options.rating_max - graph->options.rating_min));
}

size_t graph_lists_bytes(const struct graph *graph)
{
	return graph->lists_bytes;
}

size_t graph_memory(const struct graph *graph)
{
	return sizeof *graph + chunks_bytes(&graph->user_nodes) + chunks_bytes(&graph->item_nodes) +
	       graph->lists_bytes + oldest_memory(graph->oldest);
}
