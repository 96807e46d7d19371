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
 * so after a flush all r are 0 and the state is that of a full recomputation. Called by gcn_flush(). */
#include "graph-updater/gcn_internal.h"

void gcn_mix(const struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	int16_t *final = gcn->fresh;

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

/* The node's residual goes into its neighbours' sums of the next layer. */
static bool push(struct gcn *gcn, int s, uint32_t layer, uint32_t node, const int16_t *residual)
{
	struct gcn_side *other = &gcn->sides[!s];
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
	const uint32_t ahead = 4;

	gcn->pushes++;
	gcn->push_edges += list.count;
	for (uint32_t e = 0; e < list.count; e++) {
		uint32_t neighbour = graph_neighbour(&list, e);
		uint32_t later = e + ahead < list.count ? graph_neighbour(&list, e + ahead) : UINT32_MAX;
		if (later < chunks_rows(&other->meta)) {
			const char *row = (const char *)gcn_sums_of(other, layer + 1, later);
			__builtin_prefetch(row, 1);
			__builtin_prefetch(row + 64, 1);
			__builtin_prefetch(row + 128, 1);
			__builtin_prefetch(row + 192, 1);
			__builtin_prefetch(gcn_meta_of(other, later), 1);
		}
		if (!graph_neighbour_in_gcn(&list, e))
			continue;
		gcn_sums_change(gcn, other, layer + 1, neighbour, residual, true);
		if (!gcn_mark(other, layer + 1, neighbour))
			return false;
	}
	return true;
}

/* The rows of a node that comes up soon: they lie anywhere. */
static void prefetch_node(const struct gcn *gcn, const struct gcn_side *side, uint32_t layer, uint32_t node)
{
	const char *sums = (const char *)gcn_sums_of(side, layer, node);
	const char *hidden = (const char *)gcn_hidden_of(side, layer, node);
	size_t row_bytes = gcn->options.dimensions * sizeof(int16_t);

	for (size_t byte = 0; byte < 2 * row_bytes; byte += 64)
		__builtin_prefetch(sums + byte);
	for (size_t byte = 0; byte < row_bytes; byte += 64)
		__builtin_prefetch(hidden + byte, 1);
	__builtin_prefetch(gcn_meta_of(side, node), 1);
}

static bool flush_node(struct gcn *gcn, int s, uint32_t layer, uint32_t node)
{
	struct gcn_side *side = &gcn->sides[s];
	int64_t fresh_square, residual_square;

	gcn_sums_refresh(gcn, side, layer, node, gcn->fresh, gcn->residual, &fresh_square, &residual_square);
	if (!residual_square)
		return true;
	if (layer < gcn->last_layer) {
		/* Exact: both are integers below 2^53. */
		if ((double)residual_square <= gcn->threshold_square * (double)fresh_square)
			return true;
		if (!push(gcn, s, layer, node, gcn->residual))
			return false;
	}
	gcn_set_hidden(gcn, side, layer, node, gcn->fresh, fresh_square);
	return side->single == (int)layer || !side->weights[layer] || mark_changed(side, node);
}

static bool flush_if_dirty(struct gcn *gcn, int s, uint32_t layer, uint32_t node)
{
	struct gcn_meta *meta = gcn_meta_of(&gcn->sides[s], node);
	bool dirty = meta->dirty >> layer & 1;

	meta->dirty &= (uint8_t)~(1u << layer);
	/* Without edges it has lost the last one, and is zero. */
	return !dirty || !meta->degree || flush_node(gcn, s, layer, node);
}

/* All nodes of the frontier; where they are many, in the order of their rows, which is faster. */
static bool flush_layer(struct gcn *gcn, int s, uint32_t layer)
{
	struct gcn_side *side = &gcn->sides[s];
	struct gcn_list *list = &side->frontier[layer];
	bool room = true;

	if (list->count > chunks_rows(&side->meta) / 4) {
		for (uint32_t node = 0; node < chunks_rows(&side->meta) && room; node++)
			room = flush_if_dirty(gcn, s, layer, node);
	} else {
		for (size_t n = 0; n < list->count && room; n++) {
			if (n + 4 < list->count)
				prefetch_node(gcn, side, layer, list->nodes[n + 4]);
			room = flush_if_dirty(gcn, s, layer, list->nodes[n]);
		}
	}
	list->count = 0;
	return room;
}

enum status gcn_flush(struct gcn *gcn, struct error *error)
{
	bool room = true;

	for (uint32_t layer = 1; layer <= gcn->last_layer && room; layer++)
		for (int s = 0; s < GCN_SIDES && room; s++)
			room = flush_layer(gcn, s, layer);
	for (int s = 0; s < GCN_SIDES; s++) {
		struct gcn_side *side = &gcn->sides[s];
		for (size_t n = 0; n < side->changed.count; n++) {
			struct gcn_meta *meta = gcn_meta_of(side, side->changed.nodes[n]);
			gcn_mix(gcn, side, side->changed.nodes[n]);
			meta->changed = false;
		}
		side->changed.count = 0;
	}
	gcn->flushes++;
	return room ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "gcn: out of memory in a flush");
}
