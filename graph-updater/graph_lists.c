/* graph_lists.c - one node's edges: a sorted array, newest last, in a gap buffer that is open at both ends.
 *
 * Invariant: strictly ascending by (time, id bytes of the other side). A user's list has whole edges (12
 * bytes); an item's has the user (4 bytes, one array) and the response (2 bytes, another), for the time
 * stands in the user's list. Events mostly arrive in order and leave oldest first: both touch an end only.
 * Capacities fill the allocator's size classes, four to a doubling, so that little lies empty. */
#include "graph-updater/graph_internal.h"

enum { SMALL_STEP = 16, SMALL_MAX = 128 };
enum { EDGE_BYTES = sizeof(struct edge), RATER_BYTES = sizeof(uint32_t) + sizeof(uint16_t) };

int edge_compare(const struct graph *graph, const struct edge *a, const struct edge *b)
{
	int64_t time_a = edge_time_ms(a), time_b = edge_time_ms(b);

	if (time_a != time_b)
		return time_a < time_b ? -1 : 1;
	return a->other == b->other ? 0 : text_compare(item_bytes(graph->options.items,
								  (struct item_id){a->other}),
						       item_bytes(graph->options.items,
								  (struct item_id){b->other}));
}

/* ---- room ---- */

/* What an allocation of so many bytes really takes: 16, 32 .. 128, then four sizes to a doubling. */
static size_t size_class(size_t bytes)
{
	size_t step = SMALL_STEP;

	if (bytes > SMALL_MAX)
		step = (size_t)1 << (63 - __builtin_clzll(bytes - 1) - 2);
	return (bytes + step - 1) / step * step;
}

/* Rows of a list move within it, or to one of another capacity. */
static void move_rows(unsigned char *to, uint32_t to_capacity, uint32_t to_index, const unsigned char *from,
		      uint32_t from_capacity, uint32_t from_index, uint32_t count, size_t row_bytes)
{
	size_t head = row_bytes == EDGE_BYTES ? EDGE_BYTES : sizeof(uint32_t), tail = row_bytes - head;

	memmove(to + to_index * head, from + from_index * head, count * head);
	if (tail)
		memmove(to + to_capacity * head + to_index * tail,
			from + from_capacity * head + from_index * tail, count * tail);
}

static void move_within(struct list *list, uint32_t to, uint32_t from, uint32_t count, size_t row_bytes)
{
	move_rows(list->rows, list->capacity, to, list->rows, list->capacity, from, count, row_bytes);
}

/* To another capacity, not below the count; the gap goes. */
static bool resize(struct graph *graph, struct list *list, uint64_t capacity, size_t row_bytes)
{
	size_t bytes = size_class(capacity * row_bytes);
	unsigned char *rows;

	capacity = bytes / row_bytes;
	if (capacity > UINT32_MAX)
		return false;
	rows = mem_alloc(bytes);
	if (!rows)
		return false;
	if (list->count)
		move_rows(rows, (uint32_t)capacity, 0, list->rows, list->capacity, list->first, list->count,
			  row_bytes);
	mem_free(list->rows);
	bytes -= list->capacity ? size_class(list->capacity * row_bytes) : 0;
	__atomic_fetch_add(&graph->lists_bytes, bytes, __ATOMIC_RELAXED);
	list->rows = rows;
	list->first = 0;
	list->capacity = (uint32_t)capacity;
	return true;
}

static bool make_room(struct graph *graph, struct list *list, uint32_t more, size_t row_bytes)
{
	if (list->capacity - list->first - list->count >= more)
		return true;
	/* A gap of an eighth pays for closing it. */
	if (list->first >= more && list->first >= list->capacity / 8) {
		move_within(list, 0, list->first, list->count, row_bytes);
		list->first = 0;
		return true;
	}
	return resize(graph, list, (uint64_t)list->count + more, row_bytes);
}

bool user_make_room(struct graph *graph, struct user_node *node, uint32_t more)
{
	return make_room(graph, &node->list, more, EDGE_BYTES);
}

bool item_make_room(struct graph *graph, struct item_node *node, uint32_t more)
{
	return make_room(graph, &node->list, more, RATER_BYTES);
}

/* An empty list goes; one that is mostly empty gives half back, if there is memory to do so. */
static void trim(struct graph *graph, struct list *list, size_t row_bytes)
{
	if (!list->count) {
		graph->lists_bytes -= list->capacity ? size_class(list->capacity * row_bytes) : 0;
		mem_free(list->rows);
		*list = (struct list){0};
	} else if (list->capacity * row_bytes > SMALL_MAX && list->count < list->capacity / 4) {
		resize(graph, list, list->capacity / 2, row_bytes);
	}
}

void user_trim(struct graph *graph, struct user_id user)
{
	trim(graph, &user_node(graph, user)->list, EDGE_BYTES);
}

void item_trim(struct graph *graph, struct item_id item)
{
	trim(graph, &item_node(graph, item)->list, RATER_BYTES);
}

static void open_row(struct list *list, uint32_t index, size_t row_bytes)
{
	move_within(list, list->first + index + 1, list->first + index, list->count - index, row_bytes);
	list->count++;
}

/* The shorter part moves. */
static void close_row(struct list *list, uint32_t index, size_t row_bytes)
{
	list->count--;
	if (index < list->count / 2) {
		move_within(list, list->first + 1, list->first, index, row_bytes);
		list->first++;
	} else {
		move_within(list, list->first + index, list->first + index + 1, list->count - index,
			    row_bytes);
	}
}

/* ---- a user's edges ---- */

/* First index whose edge is not less than `edge`. */
static uint32_t user_lower_bound(const struct graph *graph, const struct user_node *node,
				 const struct edge *edge)
{
	const struct edge *edges = user_edges(node);
	uint32_t low = 0, high = node->list.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (edge_compare(graph, &edges[middle], edge) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t user_insert(struct graph *graph, struct user_id user, const struct edge *edge)
{
	struct user_node *node = user_node(graph, user);
	uint32_t at = node->list.count;

	if (at && edge_compare(graph, &user_edges(node)[at - 1], edge) > 0)
		at = user_lower_bound(graph, node, edge);
	open_row(&node->list, at, EDGE_BYTES);
	user_edges(node)[at] = *edge;
	node->response += edge_response(edge);
	return at;
}

uint32_t user_locate(const struct graph *graph, struct user_id user, const struct edge *edge)
{
	return user_lower_bound(graph, user_node(graph, user), edge);
}

void user_remove(struct graph *graph, struct user_id user, uint32_t index)
{
	struct user_node *node = user_node(graph, user);

	node->response -= edge_response(&user_edges(node)[index]);
	close_row(&node->list, index, EDGE_BYTES);
}

struct edge *user_scan(const struct graph *graph, struct user_id user, struct item_id item)
{
	const struct user_node *node = user_node(graph, user);
	uint32_t count = node->list.count;
	struct edge *edges = count ? user_edges(node) : NULL;

	/* From the end: what is asked for again is mostly recent. */
	for (uint32_t e = count; e-- > 0;)
		if (edges[e].other == item.v)
			return &edges[e];
	return NULL;
}

struct edge *user_find_at(const struct graph *graph, struct user_id user, struct item_id item,
			  int64_t time_ms)
{
	const struct user_node *node = user_node(graph, user);
	struct edge probe = {item.v, (uint32_t)time_ms, (uint16_t)((uint64_t)time_ms >> 32 << 4), 0}, *found;
	uint32_t at = user_lower_bound(graph, node, &probe);

	if (at == node->list.count)
		return NULL;
	found = &user_edges(node)[at];
	return found->other == item.v && edge_time_ms(found) == time_ms ? found : NULL;
}

/* ---- an item's raters ---- */

/* Costs a look through that user's edges. */
static int64_t rater_time_ms(const struct graph *graph, struct item_id item, uint32_t index)
{
	return edge_time_ms(user_scan(graph, item_raters(item_node(graph, item))[index], item));
}

/* First index whose rater is not before (time, id bytes of the user). */
static uint32_t item_lower_bound(const struct graph *graph, struct item_id item, int64_t time_ms,
				 struct text_view bytes)
{
	const struct item_node *node = item_node(graph, item);
	uint32_t low = 0, high = node->list.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int64_t there_ms = rater_time_ms(graph, item, middle);
		if (there_ms < time_ms ||
		    (there_ms == time_ms &&
		     text_compare(user_bytes(graph->options.users, item_raters(node)[middle]), bytes) < 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t item_insert(struct graph *graph, struct item_id item, struct user_id user, int64_t time_ms,
		     uint16_t response)
{
	struct item_node *node = item_node(graph, item);
	uint32_t at = node->list.count;

	if (at && node->newest_ms >= time_ms)
		at = item_lower_bound(graph, item, time_ms, user_bytes(graph->options.users, user));
	if (at == node->list.count)
		node->newest_ms = time_ms;
	open_row(&node->list, at, RATER_BYTES);
	item_raters(node)[at] = user;
	item_responses(node)[at] = response;
	node->response += rater_response(response);
	return at;
}

uint32_t item_scan(const struct item_node *node, struct user_id user)
{
	uint32_t count = node->list.count;
	const struct user_id *raters = count ? item_raters(node) : NULL;

	/* What leaves is mostly the oldest, what comes again mostly recent. */
	for (uint32_t e = 0; e < count - e; e++) {
		if (raters[count - 1 - e].v == user.v)
			return count - 1 - e;
		if (raters[e].v == user.v)
			return e;
	}
	return count;
}

uint32_t item_locate(const struct graph *graph, struct item_id item, struct user_id user)
{
	return item_scan(item_node(graph, item), user);
}

void item_remove(struct graph *graph, struct item_id item, uint32_t index)
{
	struct item_node *node = item_node(graph, item);

	node->response -= rater_response(item_responses(node)[index]);
	close_row(&node->list, index, RATER_BYTES);
	if (index == node->list.count && index)
		node->newest_ms = rater_time_ms(graph, item, index - 1);
}

uint32_t graph_raters_before(const struct graph *graph, struct item_id item, int64_t time_ms)
{
	const struct item_node *node;

	if (item.v >= chunks_rows(&graph->item_nodes))
		return 0;
	node = item_node(graph, item);
	/* Mostly all of them are: the newest is older than what is asked about. */
	if (!node->list.count || node->newest_ms < time_ms)
		return node->list.count;
	return item_lower_bound(graph, item, time_ms, (struct text_view){NULL, 0});
}
