/* oldest.c - see oldest.h.
 *
 * Invariant while `valid`: every edge of the graph before `cutoff_ms` (every edge at all, when
 * `complete`) has an entry in the heap or in the batch. Entries may be stale: their edge may have gone,
 * and even their ids. So the heap is ordered by time alone; when a time comes up, its entries that are
 * still true move to the batch, which is sorted by id bytes and used up from its end. An entry is
 * believed only after it was found in the graph; a new edge of the batch's time or before puts the
 * batch back, because a reused id may have changed its order. */
#include "graph-updater/oldest.h"

#include "graph-updater/graph_internal.h"

#include <stdlib.h>

struct oldest {
	struct oldest_edge *heap;       /* [capacity] min-heap by time */
	struct oldest_edge *batch;      /* [capacity] of one time, greatest id bytes first */
	size_t count, batch_count;      /* together at most capacity */
	size_t capacity;
	int64_t cutoff_ms;
	bool valid, complete;
};

enum { HEAP_MIN = 1024, HEAP_SHARE = 32 };

struct oldest *oldest_create(void)
{
	return mem_alloc_zero(1, sizeof(struct oldest));
}

void oldest_destroy(struct oldest *oldest)
{
	if (!oldest)
		return;
	mem_free(oldest->heap);
	mem_free(oldest->batch);
	mem_free(oldest);
}

/* sign 1: min-heap, -1: max-heap */
static void sift_down(struct oldest_edge *heap, size_t count, size_t at, int sign)
{
	for (size_t child; (child = 2 * at + 1) < count; at = child) {
		struct oldest_edge swap = heap[at];
		if (child + 1 < count && sign * heap[child + 1].time_ms < sign * heap[child].time_ms)
			child++;
		if (sign * heap[at].time_ms <= sign * heap[child].time_ms)
			return;
		heap[at] = heap[child];
		heap[child] = swap;
	}
}

static void push(struct oldest *oldest, const struct oldest_edge *edge)
{
	size_t at = oldest->count++;

	for (; at && edge->time_ms < oldest->heap[(at - 1) / 2].time_ms; at = (at - 1) / 2)
		oldest->heap[at] = oldest->heap[(at - 1) / 2];
	oldest->heap[at] = *edge;
}

static void pop(struct oldest *oldest)
{
	oldest->heap[0] = oldest->heap[--oldest->count];
	sift_down(oldest->heap, oldest->count, 0, 1);
}

void oldest_added(struct oldest *oldest, const struct graph *graph, const struct oldest_edge *edge)
{
	(void)graph;
	if (!oldest->valid || (!oldest->complete && edge->time_ms >= oldest->cutoff_ms))
		return;
	if (oldest->count + oldest->batch_count == oldest->capacity) {
		oldest->valid = false;          /* filled anew when asked */
		return;
	}
	push(oldest, edge);
}

/* One pass over all edges: a max-heap of the `capacity` oldest by time. When more edges share the
 * latest time kept than fit, that time is left out altogether - unless it is the earliest of all, and
 * then the heap grows to hold every edge of it. */
static enum status fill(struct oldest *oldest, const struct graph *graph, struct error *error)
{
	size_t wanted = HEAP_MIN + graph->counts.edges / HEAP_SHARE;
	int64_t dropped_ms;
	uint32_t end;

again:
	if (wanted > oldest->capacity) {
		mem_free(oldest->heap);
		mem_free(oldest->batch);
		oldest->capacity = 0;
		oldest->heap = mem_alloc_array(wanted, sizeof *oldest->heap);
		oldest->batch = mem_alloc_array(wanted, sizeof *oldest->batch);
		if (!oldest->heap || !oldest->batch)
			return error_set(error, STATUS_NO_MEMORY, "eviction: out of memory for %zu edges",
					 wanted);
		oldest->capacity = wanted;
	}
	/* A quarter stays free for edges that arrive late. */
	wanted = oldest->capacity - oldest->capacity / 4;
	oldest->count = oldest->batch_count = 0;
	dropped_ms = INT64_MAX;
	end = chunks_rows(&graph->user_nodes);
	for (uint32_t user = 0; user < end; user++) {
		uint32_t edges_count;
		const struct edge *edges = graph_user_edges(graph, (struct user_id){user}, &edges_count);
		for (uint32_t e = 0; e < edges_count; e++) {
			struct oldest_edge edge = {edge_time_ms(&edges[e]), {user}, {edges[e].other}};
			if (edge.time_ms >= dropped_ms)
				break;          /* its list is in order of time */
			if (oldest->count < wanted) {
				size_t at = oldest->count++;
				for (; at && edge.time_ms > oldest->heap[(at - 1) / 2].time_ms; at = (at - 1) / 2)
					oldest->heap[at] = oldest->heap[(at - 1) / 2];
				oldest->heap[at] = edge;
				continue;
			}
			if (edge.time_ms < oldest->heap[0].time_ms) {
				dropped_ms = oldest->heap[0].time_ms;
				oldest->heap[0] = edge;
				sift_down(oldest->heap, oldest->count, 0, -1);
			} else {
				dropped_ms = edge.time_ms;
				break;
			}
			/* The latest time kept may not be kept whole: drop what equals the dropped. */
			while (oldest->count && oldest->heap[0].time_ms >= dropped_ms) {
				oldest->heap[0] = oldest->heap[--oldest->count];
				sift_down(oldest->heap, oldest->count, 0, -1);
			}
		}
	}
	while (oldest->count && oldest->heap[0].time_ms >= dropped_ms) {
		oldest->heap[0] = oldest->heap[--oldest->count];
		sift_down(oldest->heap, oldest->count, 0, -1);
	}
	if (!oldest->count && dropped_ms != INT64_MAX) {
		wanted = 2 * oldest->capacity;
		if (wanted > 4 * (graph->counts.edges + HEAP_MIN))
			return error_set(error, STATUS_INTERNAL, "eviction: no oldest edge among %llu",
					 (unsigned long long)graph->counts.edges);
		goto again;
	}
	oldest->complete = dropped_ms == INT64_MAX;
	oldest->cutoff_ms = dropped_ms;
	oldest->valid = true;
	for (size_t at = oldest->count / 2; at-- > 0;)
		sift_down(oldest->heap, oldest->count, at, 1);
	return STATUS_OK;
}

static bool is_there(const struct graph *graph, const struct oldest_edge *edge)
{
	return ids_alive(graph->options.users.table, edge->user.v) &&
	       ids_alive(graph->options.items.table, edge->item.v) &&
	       user_find_at(graph, edge->user, edge->item, edge->time_ms);
}

static int compare_descending(const void *left, const void *right, void *context)
{
	const struct oldest_edge *a = right, *b = left;
	const struct graph *graph = context;
	int order = text_compare(user_bytes(graph->options.users, a->user),
				 user_bytes(graph->options.users, b->user));

	return order ? order : text_compare(item_bytes(graph->options.items, a->item),
					    item_bytes(graph->options.items, b->item));
}

/* Moves the entries of the earliest time that are true to the empty batch. */
static void take_batch(struct oldest *oldest, const struct graph *graph)
{
	int64_t time_ms = oldest->heap[0].time_ms;

	while (oldest->count && oldest->heap[0].time_ms == time_ms) {
		if (is_there(graph, &oldest->heap[0]))
			oldest->batch[oldest->batch_count++] = oldest->heap[0];
		pop(oldest);
	}
	qsort_r(oldest->batch, oldest->batch_count, sizeof *oldest->batch, compare_descending, (void *)graph);
}

enum status oldest_find(struct oldest *oldest, const struct graph *graph, struct oldest_edge *out,
			bool *found, struct error *error)
{
	enum status status;

	*found = graph->counts.edges > 0;
	while (*found) {
		if (!oldest->valid || (!oldest->count && !oldest->batch_count)) {
			status = fill(oldest, graph, error);
			if (status)
				return status;
		}
		if (!oldest->batch_count) {
			take_batch(oldest, graph);
			continue;
		}
		const struct oldest_edge *last = &oldest->batch[oldest->batch_count - 1];
		if (oldest->count && oldest->heap[0].time_ms <= last->time_ms) {
			while (oldest->batch_count)
				push(oldest, &oldest->batch[--oldest->batch_count]);
		} else if (is_there(graph, last)) {
			*out = *last;
			break;
		} else {
			oldest->batch_count--;
		}
	}
	return STATUS_OK;
}

int64_t oldest_bound_ms(const struct oldest *oldest)
{
	if (!oldest->valid)
		return INT64_MIN;
	int64_t bound_ms = oldest->count ? oldest->heap[0].time_ms : INT64_MAX;
	if (oldest->batch_count && oldest->batch[0].time_ms < bound_ms)
		bound_ms = oldest->batch[0].time_ms;
	if (bound_ms != INT64_MAX)
		return bound_ms;
	return oldest->complete ? INT64_MAX : oldest->cutoff_ms;
}

size_t oldest_memory(const struct oldest *oldest)
{
	return sizeof *oldest + oldest->capacity * 2 * sizeof *oldest->heap;
}
