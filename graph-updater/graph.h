/* graph.h - the bipartite graph: who answered what, how and when, seen from both sides.
 *
 * One edge a pair. Its winner is the greatest (event_time, kind, rating); a VIEW counts only where
 * nothing else is known of the pair. REMOVE takes the pair's edge if that is not later and leaves a
 * tombstone; REMOVE without an item does so with all edges of the user. So the graph is a function of
 * the set of events, whatever their order (one exception, documented at graph_apply). Oldest edges are
 * evicted past edges_max or edge_days in the order (time, user id bytes, item id bytes).
 *
 * VIEW edges are kept for the statistics (response 0); whether they are edges of the GCN is the
 * option view_edges: edge_in_gcn().
 *
 * Each side keeps its edges in the order (time, id bytes of the other side), newest last, so "the last
 * 50" are the end of an array. The users' side has them whole, 12 bytes each; the items' side has who
 * and with which response, 6 bytes, and finds the time with the user when it is asked for. Counters per
 * node and in all are integers and exact. One writer thread; views are dead at the next graph_apply(). */
#ifndef EXITPOLL_GRAPH_UPDATER_GRAPH_H
#define EXITPOLL_GRAPH_UPDATER_GRAPH_H

#include "base/advance.h"
#include "graph-updater/ids.h"
#include "graph-updater/tombstones.h"

#include <string.h>

/* A response of 1. Divisible by 4, 5, 7, 8, 9, 10 ...: the steps of common rating scales are exact. */
enum { RESPONSE_ONE = 65520 };

/* Times of the graph: 0 .. 2^44 - 1 ms (the year 2527); others are bad records. */
#define GRAPH_TIME_MAX ((INT64_C(1) << 44) - 1)

/* 12 bytes: the item, time, kind, whether rated, and the rating's place on the scale. */
struct edge {
	uint32_t other;         /* item */
	uint32_t time_low;
	uint16_t time_high_kind;/* 12 bits of time, 1 has_rating, 3 kind */
	uint16_t value;         /* RESPONSE_ONE * (rating - min) / (max - min), clipped; 0 without a rating */
};

static inline int64_t edge_time_ms(const struct edge *edge)
{
	return (int64_t)(edge->time_high_kind >> 4) << 32 | edge->time_low;
}

static inline enum interaction_kind edge_kind(const struct edge *edge)
{
	return (enum interaction_kind)(edge->time_high_kind & 7);
}

static inline bool edge_has_rating(const struct edge *edge)
{
	return edge->time_high_kind >> 3 & 1;
}

/* v of section 3 in units of 1/RESPONSE_ONE: RATE its rating, CLICK and PURCHASE 1, VIEW 0. */
static inline uint32_t edge_response(const struct edge *edge)
{
	switch (edge_kind(edge)) {
	case KIND_VIEW:
		return 0;
	case KIND_RATE:
		return edge->value;
	default:
		return RESPONSE_ONE;
	}
}

/* How the items' side sees a VIEW: no response, and perhaps no edge of the GCN. */
enum { RESPONSE_VIEW = UINT16_MAX };

static inline uint32_t rater_response(uint16_t seen)
{
	return seen == RESPONSE_VIEW ? 0 : seen;
}

/* Indexes in the lists of the two ends. */
struct graph_place { uint32_t in_user, in_item; };

/* What became of one pair. */
struct graph_change {
	struct user_id user;
	struct item_id item;
	const struct edge *old_edge;    /* NULL: there was none */
	const struct edge *new_edge;    /* NULL: there is none any more */
	/* An edge that takes another's place leaves first and comes then: old is where it was before it left,
	 * new where it came to after that. */
	struct graph_place old_place, new_place;
};

/* Called after lists and counters have changed, while both ids are alive. A failure is fatal. */
struct graph_listener {
	enum status (*changed)(void *context, const struct graph_change *change, struct error *error);
	void *context;
};
enum { GRAPH_LISTENERS_MAX = 4 };

struct graph_options {
	uint32_t users_max, items_max;
	uint64_t edges_max;
	int64_t edge_days;              /* 0: keep */
	bool view_edges;                /* VIEW edges belong to the GCN */
	double rating_min, rating_max;
	struct user_ids users;          /* borrowed */
	struct item_ids items;          /* borrowed */
	struct tombstones *tombstones;  /* borrowed */
};

enum graph_effect { GRAPH_CHANGED, GRAPH_DUPLICATE, GRAPH_VOID };

struct graph_counts {
	uint64_t edges;
	uint64_t response;      /* sum over all edges */
	uint64_t evicted;       /* ever */
};

struct graph;
struct pool;
enum status graph_create(const struct graph_options *options, struct graph **out, struct error *error);
void graph_destroy(struct graph *graph);        /* NULL ok; calls no listener */
enum status graph_listen(struct graph *graph, struct graph_listener listener, struct error *error);

/* One well-formed interaction; clock_ms is the state's clock, not before the event.
 * STATUS_BAD_RECORD (nothing changed): a time outside 0..GRAPH_TIME_MAX, a RATE without a rating.
 * GRAPH_DUPLICATE: exactly this was known. GRAPH_VOID: older than what is known, buried by a
 * tombstone, too old for edge_days, a REMOVE of nothing.
 * The one trace of order: a VIEW that lost against another kind is forgotten, so when a later-arriving
 * REMOVE between the two takes the winner, the VIEW does not come back. */
enum status graph_apply(struct graph *graph, const struct interaction_event *event, int64_t clock_ms,
			enum graph_effect *effect, struct error *error);

/* [*count] edges, oldest first by (time, id bytes of the item). *count = 0: none. */
const struct edge *graph_user_edges(const struct graph *graph, struct user_id user, uint32_t *count);
/* How many of the first `count` edges (in the order above) are strictly older than time_ms. */
uint32_t graph_edges_before(const struct edge *edges, uint32_t count, int64_t time_ms);

/* The other side of an item's edges, [count], oldest first by (time, id bytes of the user). */
struct graph_raters {
	const struct user_id *users;
	const uint16_t *responses;      /* rater_response() of each, or RESPONSE_VIEW */
	uint32_t count;
};
struct graph_raters graph_item_raters(const struct graph *graph, struct item_id item);
/* How many of the item's raters are strictly older than time_ms. Costs nothing if all are, else a look
 * at the lists of a logarithm of them. */
uint32_t graph_raters_before(const struct graph *graph, struct item_id item, int64_t time_ms);

/* Neighbours of one node for whom both sides are alike. `all`: every one is an edge of the GCN. */
struct graph_neighbours {
	const unsigned char *ids;       /* u32 every `stride` bytes */
	const uint16_t *marks;          /* high half of an edge's time and kind, or responses; same count */
	uint32_t stride, marks_stride, count;
	bool of_user, all;
};
struct graph_neighbours graph_neighbours_of_user(const struct graph *graph, struct user_id user);
struct graph_neighbours graph_neighbours_of_item(const struct graph *graph, struct item_id item);

/* Hint: graph_neighbours_of_...() is called soon. */
void graph_prefetch_user(const struct graph *graph, struct user_id user);
void graph_prefetch_item(const struct graph *graph, struct item_id item);

static inline uint32_t graph_neighbour(const struct graph_neighbours *list, uint32_t index)
{
	uint32_t id;

	memcpy(&id, list->ids + (size_t)index * list->stride, sizeof id);
	return id;
}

static inline bool graph_neighbour_in_gcn(const struct graph_neighbours *list, uint32_t index)
{
	uint16_t mark;

	if (list->all)
		return true;
	mark = list->marks[(size_t)index * list->marks_stride];
	return list->of_user ? (mark & 7) != KIND_VIEW : mark != RESPONSE_VIEW;
}

/* The pair's edge (user's side), or NULL. Costs the smaller of the two degrees. */
const struct edge *graph_find(const struct graph *graph, struct user_id user, struct item_id item);

/* Lifetime counters: n is the edge count above, and the sum of the responses. */
uint64_t graph_user_response(const struct graph *graph, struct user_id user);
uint64_t graph_item_response(const struct graph *graph, struct item_id item);
struct graph_counts graph_get_counts(const struct graph *graph);

bool graph_edge_in_gcn(const struct graph *graph, const struct edge *edge);
float graph_edge_rating(const struct graph *graph, const struct edge *edge);   /* has_rating only */
size_t graph_memory(const struct graph *graph);

/* Proves the invariants: both sides hold the same edges in order, counters equal their sums.
 * STATUS_INTERNAL with what is wrong and where. */
enum status graph_check(const struct graph *graph, struct error *error);

/* Bytes of the lists alone, as allocated: what an edge costs, on both sides together. */
size_t graph_lists_bytes(const struct graph *graph);

/* Restore only: appends edges to the user's side in its order; of them `total` come in all. Users come in the
 * order of their id bytes, each with all its edges before the next.
 * graph_load_finish() makes the other side on the given threads (NULL: the caller's alone; "joining" parts),
 * counts and checks; it takes 16 bytes an edge meanwhile. Listeners hear nothing: whoever follows the graph
 * looks at it afterwards. STATUS_CORRUPT: not in order, repeated. */
enum status graph_load_edges(struct graph *graph, struct user_id user, const struct edge *edges, uint32_t count,
			     uint32_t total, struct error *error);
enum status graph_load_finish(struct graph *graph, uint64_t evicted, struct pool *threads,
			      const struct advance *advance, struct error *error);

#endif
