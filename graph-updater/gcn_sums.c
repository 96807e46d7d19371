/* gcn_sums.c - exact sums of a node's neighbours, in as few bytes as they need.
 *
 * Layer 1 sums seeds, which by hash are +-2^13: int16 counts of them (GCN_UNITS). The last layer always
 * takes its new value, so what is left of its sum, s - d h, is at most d / 2 after a flush: int16
 * (GCN_REST). Layers between, and layer 1 over trained seeds, are int32 (GCN_WHOLE). Where one of these
 * could overflow, or does, the node is wide: int64 sums of all its layers, s itself, in memory of its own.
 *
 * Bounds. |h| <= 2^13, so |s| <= 2^13 d. A node is wide from degree 2^14 on (half of what would do): below,
 * units are at most 2^14, whole sums at most 2^27, and a settled rest at most 2^13. An unsettled rest is
 * guarded by the kernels, which refuse an overflow; the node is then wide until it has settled. int64 holds
 * 2^13 * 2^32, more than any degree can reach.
 *
 * A wide node's address stands in its (otherwise unused) row of the highest layer. */
#include "graph-updater/gcn_internal.h"

struct wide {
	int64_t *sums[GCN_LAYERS_MAX + 1];      /* [D] of each layer the side has from 1 on */
};

static struct wide *wide_of(const struct gcn_side *side, uint32_t node)
{
	struct wide *wide;

	memcpy(&wide, gcn_sums_of(side, side->top, node), sizeof wide);
	return wide;
}

size_t gcn_sums_row_bytes(const struct gcn_side *side, uint32_t layer, uint32_t dimensions)
{
	return dimensions * (side->form[layer] == GCN_WHOLE ? sizeof(int32_t) : sizeof(int16_t));
}

static void change_wide(const struct gcn *gcn, int64_t *sums, const int16_t *row, bool add)
{
	for (uint32_t i = 0; i < gcn->options.dimensions; i++)
		sums[i] += add ? row[i] : -row[i];
}

static bool change_narrow(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
			  const int16_t *row, bool add)
{
	enum gcn_form form = side->form[layer];

	return (add ? gcn->kernels->add : gcn->kernels->subtract)[form](gcn_sums_of(side, layer, node), row,
								       gcn->options.dimensions);
}

bool gcn_sums_change(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		     const int16_t *row, bool add)
{
	if (__builtin_expect(!gcn_meta_of(side, node)->wide, 1)) {
		if (__builtin_expect(change_narrow(gcn, side, layer, node, row, add), 1))
			return true;
		if (!gcn_sums_widen(gcn, side, node))
			return false;
	}
	change_wide(gcn, wide_of(side, node)->sums[layer], row, add);
	return true;
}

bool gcn_sums_change_degree(const struct gcn *gcn, struct gcn_side *side, uint32_t node, bool more)
{
	struct gcn_meta *meta = gcn_meta_of(side, node);
	uint32_t k = side->top;

	/* s - d h, where d becomes d + 1 or d - 1; the other forms do not depend on d. */
	if (side->form[k] == GCN_REST && !meta->wide &&
	    !change_narrow(gcn, side, k, node, gcn_hidden_of(side, k, node), !more) &&
	    !gcn_sums_widen(gcn, side, node))
		return false;
	meta->degree += more ? 1u : -1u;
	return !more || meta->degree < gcn->options.wide_degree || meta->wide ||
	       gcn_sums_widen(gcn, side, node);
}

void gcn_sums_refresh(const struct gcn *gcn, const struct gcn_side *side, uint32_t layer, uint32_t node,
		      int16_t *fresh, int16_t *residual, int64_t *fresh_square, int64_t *residual_square)
{
	const struct gcn_meta *meta = gcn_meta_of(side, node);
	const int16_t *stored = gcn_hidden_of(side, layer, node);
	const int64_t *sums;

	if (!meta->wide) {
		gcn->kernels->refresh[side->form[layer]](gcn_sums_of(side, layer, node), meta->degree, stored,
							 gcn->options.dimensions, fresh, residual,
							 fresh_square, residual_square);
		return;
	}
	sums = wide_of(side, node)->sums[layer];
	*fresh_square = *residual_square = 0;
	for (uint32_t i = 0; i < gcn->options.dimensions; i++) {
		fresh[i] = gcn_round_quotient(sums[i], meta->degree);
		residual[i] = (int16_t)(fresh[i] - stored[i]);
		*fresh_square += (int64_t)fresh[i] * fresh[i];
		*residual_square += (int64_t)residual[i] * residual[i];
	}
}

void gcn_sums_settle(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		     const int16_t *residual)
{
	const struct gcn_meta *meta = gcn_meta_of(side, node);

	if (!meta->wide && side->form[layer] == GCN_REST)
		gcn->kernels->settle((int16_t *)gcn_sums_of(side, layer, node), meta->degree, residual,
				     gcn->options.dimensions);
}

int64_t gcn_sums_get(const struct gcn_side *side, uint32_t layer, uint32_t node, uint32_t dimension)
{
	const void *sums = gcn_sums_of(side, layer, node);
	const struct gcn_meta *meta = gcn_meta_of(side, node);

	if (meta->wide)
		return wide_of(side, node)->sums[layer][dimension];
	switch (side->form[layer]) {
	case GCN_UNITS:
		return (int64_t)((const int16_t *)sums)[dimension] * GCN_ONE;
	case GCN_REST:
		return ((const int16_t *)sums)[dimension] +
		       (int64_t)meta->degree * gcn_hidden_of(side, layer, node)[dimension];
	default:
		return ((const int32_t *)sums)[dimension];
	}
}

bool gcn_sums_set(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		  const int64_t *sums)
{
	const int16_t *stored = gcn_hidden_of(side, layer, node);
	struct gcn_meta *meta = gcn_meta_of(side, node);

	for (uint32_t i = 0; i < gcn->options.dimensions && !meta->wide; i++) {
		int64_t rest = sums[i] - (int64_t)meta->degree * stored[i];
		if (side->form[layer] == GCN_REST && (rest > INT16_MAX || rest < INT16_MIN) &&
		    !gcn_sums_widen(gcn, side, node))
			return false;
	}
	for (uint32_t i = 0; i < gcn->options.dimensions; i++) {
		void *row = gcn_sums_of(side, layer, node);
		if (meta->wide)
			wide_of(side, node)->sums[layer][i] = sums[i];
		else if (side->form[layer] == GCN_WHOLE)
			((int32_t *)row)[i] = (int32_t)sums[i];
		else if (side->form[layer] == GCN_UNITS)
			((int16_t *)row)[i] = (int16_t)(sums[i] / GCN_ONE);
		else
			((int16_t *)row)[i] = (int16_t)(sums[i] - (int64_t)meta->degree * stored[i]);
	}
	return true;
}

static void free_wide(struct wide *wide)
{
	for (uint32_t k = 1; k <= GCN_LAYERS_MAX; k++)
		mem_free(wide->sums[k]);
	mem_free(wide);
}

bool gcn_sums_widen(const struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	struct wide *wide;

	/* A side that has seeds alone has no sums. */
	if (!side->top)
		return true;
	wide = mem_alloc_zero(1, sizeof *wide);
	if (!wide)
		return false;
	for (uint32_t k = 1; k <= side->top; k++) {
		if (!side->has[k])
			continue;
		wide->sums[k] = mem_alloc_array(gcn->options.dimensions, sizeof *wide->sums[k]);
		if (!wide->sums[k]) {
			free_wide(wide);
			return false;
		}
		for (uint32_t i = 0; i < gcn->options.dimensions; i++)
			wide->sums[k][i] = gcn_sums_get(side, k, node, i);
	}
	memcpy(gcn_sums_of(side, side->top, node), &wide, sizeof wide);
	gcn_meta_of(side, node)->wide = true;
	/* Loading, two threads may come here for different nodes. */
	__atomic_fetch_add(&side->wide_count, 1, __ATOMIC_RELAXED);
	return true;
}

static bool fits(const struct gcn *gcn, const struct gcn_side *side, uint32_t node)
{
	const struct gcn_meta *meta = gcn_meta_of(side, node);

	for (uint32_t k = 1; k <= side->top; k++)
		for (uint32_t i = 0; side->form[k] == GCN_REST && i < gcn->options.dimensions; i++) {
			int64_t rest = gcn_sums_get(side, k, node, i) -
				       (int64_t)meta->degree * gcn_hidden_of(side, k, node)[i];
			if (rest > INT16_MAX || rest < INT16_MIN)
				return false;
		}
	return true;
}

void gcn_sums_narrow(const struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	struct gcn_meta *meta = gcn_meta_of(side, node);
	struct wide *wide;

	/* A node just below the limit stays as it is, lest it goes back and forth. */
	if (!meta->wide || meta->degree > gcn->options.wide_degree / 2 || !fits(gcn, side, node))
		return;
	wide = wide_of(side, node);
	meta->wide = false;
	side->wide_count--;
	for (uint32_t k = 1; k <= side->top; k++)
		if (side->has[k])
			gcn_sums_set(gcn, side, k, node, wide->sums[k]);        /* fits: cannot fail */
	free_wide(wide);
}

void gcn_sums_destroy(struct gcn_side *side)
{
	for (uint32_t node = 0; side->wide_count && node < chunks_rows(&side->meta); node++)
		if (gcn_meta_of(side, node)->wide) {
			free_wide(wide_of(side, node));
			side->wide_count--;
		}
}
