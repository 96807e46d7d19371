/* gcn_update.c - the push rule: how a change travels through the layers.
 *
 *   r_v = round(s_v / d_v) - h_v                       for every node v that something has touched
 *   if |r_v| > tau |round(s_v / d_v)|:                 else it stays, and is looked at when touched again
 *           s_w^(k+1) += r_v  for all neighbours w,    h_v += r_v
 *
 * Layer after layer, k = 1 .. last; the last layer has nobody to push to and always takes its new
 * value, so a flush ends after last - 1 passes of pushes. Every decision of layer k reads sums,
 * degrees and hidden states of layer k, and writes hidden states of k and sums of k + 1: the order in
 * which a layer's nodes are taken changes no bit. Invariant, between and during flushes: s_v^(k) is
 * exactly the sum of the stored h_w^(k-1) over the neighbours of v. At tau = 0 every residual is pushed,
 * so after a flush all r are 0 and the state is that of a full recomputation.
 *
 * Bounded work. A flush may stop after so many edges and go on later, also in the middle of the push of a
 * hub: that has taken its new h, and its neighbours from the newest down to the cursor have r; those
 * before the cursor have not, and their sums are those of h - r. One hub at a time; events meanwhile keep
 * the cursor right (gcn_hub_follow). What is read in between is a mixture of before and after, within the
 * same bound as before; once a flush has finished, nothing tells that it was interrupted at tau = 0. */
#include "graph-updater/gcn_internal.h"

#include <math.h>

enum { NODES_AHEAD = 6 };

void gcn_mix(const struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	_Alignas(64) int16_t final[GCN_DIMENSIONS_MAX];

	for (uint32_t i = 0; i < gcn->options.dimensions; i++) {
		int32_t mixed = GCN_WEIGHT_ONE / 2;
		for (uint32_t k = 0; k <= side->top; k++)
			if (side->weights[k])
				mixed += side->weights[k] * gcn_hidden_of(side, k, node)[i];
		mixed >>= 14;
		final[i] = (int16_t)(mixed > GCN_ONE ? GCN_ONE : mixed < -GCN_ONE ? -GCN_ONE : mixed);
	}
	gcn_set_final(gcn, side, node, final, gcn->kernels->dot(final, final, gcn->options.dimensions));
}

static bool mark_changed(struct gcn_side *side, uint32_t node)
{
	struct gcn_meta *meta = gcn_meta_of(side, node);

	if (meta->changed)
		return true;
	if (!mem_reserve((void **)&side->changed.nodes, &side->changed.capacity, side->changed.count,
			 side->nodes_max, sizeof *side->changed.nodes))
		return false;
	side->changed.nodes[side->changed.count++] = node;
	meta->changed = true;
	return true;
}

/* ---- a push ----
 *
 * Rows lie anywhere, so each is asked for some steps before it is needed: a node's list of neighbours is
 * read when LISTS_AHEAD other nodes have decided to push, a neighbour's row is added to when GCN_ROWS_AHEAD
 * other rows have been asked for. What is still on its way is brought to its end with the layer. */

static void spend(struct gcn *gcn, uint64_t work)
{
	if (gcn->budget != GCN_UNBOUNDED)
		gcn->budget = gcn->budget > work ? gcn->budget - work : 0;
}

/* ---- who need not be looked at ----
 *
 * A node of a middle layer that has stayed, or just taken its new h, with residual r and mean m (both rounded),
 * is still within the threshold after its sums have moved by x in length: with d neighbours the exact mean
 * moves by x / d, and roundings shift either end by sqrt(D) / 2 at most, so
 *
 *   |r'| <= |r| + x/d + sqrt D,  |m'| >= |m| - x/d - sqrt D,  and |r'| <= tau |m'| as long as
 *   x <= d ((tau |m| - |r|) / (1 + tau) - sqrt D) = slack.
 *
 * Pushes use the slack up by the lengths of their residuals, and mark the node once it is too short; a changed
 * edge marks it anyway. So nodes are left alone that would have stayed: no bit depends on it. At tau = 0 there
 * is no slack. Floats are rounded to the safe side by more than their error. */

static void set_slack(const struct gcn *gcn, struct gcn_meta *meta, uint32_t layer, int64_t mean_square,
		      int64_t residual_square)
{
	double tau = gcn->options.threshold, root = sqrt(gcn->options.dimensions);
	double length = tau * sqrt((double)mean_square) - sqrt((double)residual_square);

	meta->slack[layer - 2] = (float)(meta->degree * (length / (1 + tau) * (1 - 1e-6) - root));
}

/* The sums of the node have moved by so much. */
static bool use_slack(struct gcn_meta *meta, uint32_t layer, float length)
{
	float *slack = &meta->slack[layer - 2];

	*slack = (*slack - length) * (1 - 0x1p-22f);
	return *slack > 0;
}

/* The oldest row on its way gets its residual. */
static bool add_oldest_row(struct gcn *gcn)
{
	struct gcn_rows_ahead *ahead = &gcn->rows_ahead;
	uint32_t at = ahead->first++ % GCN_ROWS_AHEAD, node = ahead->nodes[at];
	struct gcn_side *side = &gcn->sides[ahead->side];

	if (!gcn_sums_change(gcn, side, ahead->layer, node, ahead->residuals[at], true))
		return false;
	return (ahead->layer < gcn->last_layer &&
		use_slack(gcn_meta_of(side, node), ahead->layer, ahead->lengths[at])) ||
	       gcn_mark(side, ahead->layer, node);
}

static bool add_rows_ahead(struct gcn *gcn)
{
	bool room = true;

	while (gcn->rows_ahead.first != gcn->rows_ahead.end && room)
		room = add_oldest_row(gcn);
	return room;
}

/* Neighbours first .. end - 1 of the list get the residual into their sums of the next layer; it stays where
 * it is until GCN_ROWS_AHEAD more have been asked for. */
static bool push_range(struct gcn *gcn, int s, uint32_t layer, const struct graph_neighbours *list,
		       uint32_t first, uint32_t end, const int16_t *residual, float length)
{
	struct gcn_rows_ahead *ahead = &gcn->rows_ahead;
	struct gcn_side *other = &gcn->sides[!s];
	size_t row_bytes = gcn_sums_row_bytes(other, layer + 1, gcn->options.dimensions);

	gcn->push_edges += end - first;
	ahead->side = !s;
	ahead->layer = layer + 1;
	for (uint32_t e = first; e < end; e++) {
		uint32_t neighbour = graph_neighbour(list, e), at;
		const char *row;
		if (!graph_neighbour_in_gcn(list, e))
			continue;
		if (ahead->end - ahead->first == GCN_ROWS_AHEAD && !add_oldest_row(gcn))
			return false;
		at = ahead->end++ % GCN_ROWS_AHEAD;
		ahead->nodes[at] = neighbour;
		ahead->residuals[at] = residual;
		ahead->lengths[at] = length;
		row = (const char *)gcn_sums_of(other, layer + 1, neighbour);
		for (size_t byte = 0; byte < row_bytes; byte += 64)
			__builtin_prefetch(row + byte, 1);
		__builtin_prefetch(gcn_meta_of(other, neighbour), 1);
	}
	return true;
}

/* The hub in progress goes on as far as the budget reaches. */
static bool push_hub(struct gcn *gcn)
{
	struct gcn_hub *hub = &gcn->hub;
	struct graph_neighbours list = gcn_neighbours_of(gcn, hub->side, hub->node);
	uint32_t first = hub->cursor > gcn->budget ? hub->cursor - (uint32_t)gcn->budget : 0;
	uint32_t end = hub->cursor;

	hub->cursor = first;
	spend(gcn, end - first);
	return push_range(gcn, hub->side, hub->layer, &list, first, end, hub->residual, hub->length);
}

static bool push_oldest_list(struct gcn *gcn, int s, uint32_t layer)
{
	struct gcn_lists_ahead *ahead = &gcn->lists_ahead;
	const struct gcn_list_ahead *oldest = &ahead->lists[ahead->first++ % GCN_LISTS_AHEAD];

	return push_range(gcn, s, layer, &oldest->list, 0, oldest->list.count, oldest->residual,
			  oldest->length);
}

/* Nothing is on its way any more. */
static bool push_all_ahead(struct gcn *gcn, int s, uint32_t layer)
{
	bool room = true;

	while (gcn->lists_ahead.first != gcn->lists_ahead.end && room)
		room = push_oldest_list(gcn, s, layer);
	return room && add_rows_ahead(gcn);
}

/* The node's residual goes to its neighbours; it takes its new hidden state next. */
static bool push(struct gcn *gcn, int s, uint32_t layer, uint32_t node, const int16_t *residual, float length)
{
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
	struct gcn_lists_ahead *ahead = &gcn->lists_ahead;

	gcn->pushes++;
	list.all |= list.count == gcn_meta_of(&gcn->sides[s], node)->degree;
	if (list.count > gcn->options.hub_degree) {
		/* Rows of the last hub may be on their way with its residual. */
		if (!add_rows_ahead(gcn))
			return false;
		gcn->hub.side = s;
		gcn->hub.layer = layer;
		gcn->hub.node = node;
		gcn->hub.cursor = list.count;
		gcn->hub.length = length;
		memcpy(gcn->hub.residual, residual, gcn->options.dimensions * sizeof *residual);
		return push_hub(gcn);
	}
	spend(gcn, list.count);
	if (ahead->end - ahead->first == GCN_LISTS_AHEAD && !push_oldest_list(gcn, s, layer))
		return false;
	ahead->lists[ahead->end++ % GCN_LISTS_AHEAD] = (struct gcn_list_ahead){list, residual, length};
	for (size_t byte = 0; byte < 128; byte += 64)
		__builtin_prefetch(list.ids + byte);
	return true;
}

bool gcn_hub_follow(struct gcn *gcn, int s, const struct graph_change *change, bool had, bool has)
{
	struct gcn_hub *hub = &gcn->hub;
	struct gcn_side *other = &gcn->sides[!s];
	uint32_t old_at = s == GCN_USERS ? change->old_place.in_user : change->old_place.in_item;
	uint32_t new_at = s == GCN_USERS ? change->new_place.in_user : change->new_place.in_item;
	uint32_t neighbour = s == GCN_USERS ? change->item.v : change->user.v;
	bool old_waits = change->old_edge && old_at < hub->cursor, new_waits;

	if (change->old_edge && change->new_edge &&
	    edge_time_ms(change->old_edge) == edge_time_ms(change->new_edge)) {
		new_waits = old_waits;
	} else {
		hub->cursor -= old_waits;
		new_waits = change->new_edge && new_at < hub->cursor;
		hub->cursor += new_waits;
	}
	/* The sums were changed by the hub's new h; one who waits has, or shall have, h - r. */
	if (had && old_waits && !gcn_sums_change(gcn, other, hub->layer + 1, neighbour, hub->residual, true))
		return false;
	if (has && new_waits && !gcn_sums_change(gcn, other, hub->layer + 1, neighbour, hub->residual, false))
		return false;
	return (!had && !has) || gcn_mark(other, hub->layer + 1, neighbour);
}

/* ---- a node, a layer, a flush ---- */

/* All that flush_node() will touch of a node that comes up soon. */
static void prefetch_node(const struct gcn *gcn, int s, uint32_t layer, uint32_t node)
{
	const struct gcn_side *side = &gcn->sides[s];
	const char *sums = (const char *)gcn_sums_of(side, layer, node);
	const char *hidden = (const char *)gcn_hidden_of(side, layer, node);
	size_t row_bytes = gcn->options.dimensions * sizeof(int16_t);
	size_t sums_bytes = gcn_sums_row_bytes(side, layer, gcn->options.dimensions);

	for (size_t byte = 0; byte < sums_bytes; byte += 64)
		__builtin_prefetch(sums + byte);
	for (size_t byte = 0; byte < row_bytes; byte += 64)
		__builtin_prefetch(hidden + byte, 1);
	__builtin_prefetch(gcn_meta_of(side, node), 1);
	if (side->single == (int)layer) {
		__builtin_prefetch(gcn_norm_of(side, node), 1);
		if (side->rows)
			nearest_rows_prefetch_put(side->rows, node);
	}
	if (layer == gcn->last_layer)
		return;
	if (s == GCN_USERS)
		graph_prefetch_user(gcn->options.graph, (struct user_id){node});
	else
		graph_prefetch_item(gcn->options.graph, (struct item_id){node});
}

static bool flush_node(struct gcn *gcn, int s, uint32_t layer, uint32_t node)
{
	struct gcn_side *side = &gcn->sides[s];
	int16_t *residual = gcn->residuals + gcn->pushes % GCN_RESIDUALS * gcn->options.dimensions;
	int64_t fresh_square, residual_square;

	gcn_sums_refresh(gcn, side, layer, node, gcn->fresh, residual, &fresh_square, &residual_square);
	if (residual_square && layer < gcn->last_layer) {
		/* Exact: both are integers below 2^53. */
		if ((double)residual_square <= gcn->threshold_square * (double)fresh_square) {
			gcn->held++;
			gcn->held_mass += sqrt((double)residual_square);
			if (layer > 1)
				set_slack(gcn, gcn_meta_of(side, node), layer, fresh_square, residual_square);
			return true;
		}
		if (!push(gcn, s, layer, node, residual, (float)(sqrt((double)residual_square) * (1 + 1e-6))))
			return false;
	}
	if (layer > 1 && layer < gcn->last_layer)
		set_slack(gcn, gcn_meta_of(side, node), layer, fresh_square, 0);
	if (residual_square) {
		gcn_set_hidden(gcn, side, layer, node, gcn->fresh, fresh_square);
		gcn_sums_settle(gcn, side, layer, node, residual);
	}
	if (layer == gcn->last_layer)
		gcn_sums_narrow(gcn, side, node);
	return !residual_square || side->single == (int)layer || !side->weights[layer] ||
	       mark_changed(side, node);
}

static bool flush_if_dirty(struct gcn *gcn, int s, uint32_t layer, uint32_t node)
{
	struct gcn_meta *meta = gcn_meta_of(&gcn->sides[s], node);

	meta->dirty &= (uint8_t)~(1u << layer);
	/* Without edges it has lost the last one, and is zero. */
	return !meta->degree || flush_node(gcn, s, layer, node);
}

/* The same nodes, the first row last. */
static void sort_frontier(struct gcn_side *side, uint32_t layer)
{
	struct gcn_list *list = &side->frontier[layer];

	list->count = 0;
	for (uint32_t node = chunks_rows(&side->meta); node--;)
		if (gcn_meta_of(side, node)->dirty >> layer & 1)
			list->nodes[list->count++] = node;
}

/* The nodes of the frontier, from its end; where they are many, in the order of their rows, which share
 * lines. */
static bool flush_layer(struct gcn *gcn, int s, uint32_t layer)
{
	struct gcn_side *side = &gcn->sides[s];
	struct gcn_list *list = &side->frontier[layer];
	bool room = true;

	if (gcn->budget == GCN_UNBOUNDED && list->count > chunks_rows(&side->meta) / 4)
		sort_frontier(side, layer);
	while (list->count && gcn->budget && !gcn->hub.cursor && room) {
		uint32_t node = list->nodes[--list->count];
		spend(gcn, 1);
		if (list->count >= NODES_AHEAD)
			prefetch_node(gcn, s, layer, list->nodes[list->count - NODES_AHEAD]);
		room = flush_if_dirty(gcn, s, layer, node);
	}
	return room && push_all_ahead(gcn, s, layer);
}

static void mix_changed(struct gcn *gcn)
{
	for (int s = 0; s < GCN_SIDES; s++) {
		struct gcn_side *side = &gcn->sides[s];
		for (size_t n = 0; n < side->changed.count; n++) {
			struct gcn_meta *meta = gcn_meta_of(side, side->changed.nodes[n]);
			if (meta->degree)
				gcn_mix(gcn, side, side->changed.nodes[n]);
			meta->changed = false;
		}
		side->changed.count = 0;
	}
}

uint64_t gcn_waiting(const struct gcn *gcn)
{
	uint64_t waiting = gcn->hub.cursor;

	for (int s = 0; s < GCN_SIDES; s++)
		for (uint32_t k = 1; k <= gcn->sides[s].top; k++)
			waiting += gcn->sides[s].frontier[k].count;
	return waiting;
}

enum status gcn_flush_some(struct gcn *gcn, uint64_t work_max, bool *finished, struct error *error)
{
	bool room = true;

	gcn->budget = work_max;
	if (gcn->hub.cursor)
		room = push_hub(gcn) && add_rows_ahead(gcn);
	for (uint32_t layer = 1; layer <= gcn->last_layer && room; layer++)
		for (int s = 0; s < GCN_SIDES && room && gcn->budget && !gcn->hub.cursor; s++)
			room = flush_layer(gcn, s, layer);
	mix_changed(gcn);
	if (!room)
		return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory in a flush");
	*finished = !gcn_waiting(gcn);
	gcn->flushes += *finished;
	return STATUS_OK;
}

enum status gcn_flush(struct gcn *gcn, struct error *error)
{
	enum status status;
	bool finished;

	do
		status = gcn_flush_some(gcn, GCN_UNBOUNDED, &finished, error);
	while (!status && !finished);
	return status;
}
