/* gcn_sums.c - exact sums of a node's neighbours: int32, and int64 where int32 could overflow.
 *
 * Bound: |h| <= 2^13, so |s| <= 2^13 d; up to the wide degree 2^17 that is 2^30. A node that grows
 * past it gets int64 rows (2^13 * 2^32 < 2^63: no degree can overflow them) and gives them back when
 * it has shrunk to half. wide rows: an array sorted by node, for there are few of them. */
#include "graph-updater/gcn_internal.h"

static struct gcn_wide *find_wide(const struct gcn_side *side, uint32_t node, size_t *at)
{
	size_t low = 0, high = side->wide_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (side->wide[middle].node < node)
			low = middle + 1;
		else
			high = middle;
	}
	*at = low;
	return low < side->wide_count && side->wide[low].node == node ? &side->wide[low] : NULL;
}

static int64_t *wide_row(const struct gcn_side *side, uint32_t layer, uint32_t node)
{
	size_t at;

	return find_wide(side, node, &at)->sums[layer];
}

void gcn_sums_change(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		     const int16_t *row, bool add)
{
	uint32_t dimensions = gcn->options.dimensions;

	if (__builtin_expect(gcn_meta_of(side, node)->wide, 0)) {
		int64_t *sums = wide_row(side, layer, node);
		for (uint32_t i = 0; i < dimensions; i++)
			sums[i] += add ? row[i] : -row[i];
	} else if (add) {
		gcn->kernels->add(gcn_sums_of(side, layer, node), row, dimensions);
	} else {
		gcn->kernels->subtract(gcn_sums_of(side, layer, node), row, dimensions);
	}
}

void gcn_sums_refresh(const struct gcn *gcn, const struct gcn_side *side, uint32_t layer, uint32_t node,
		      int16_t *fresh, int16_t *residual, int64_t *fresh_square, int64_t *residual_square)
{
	const struct gcn_meta *meta = gcn_meta_of(side, node);
	const int16_t *stored = gcn_hidden_of(side, layer, node);
	const int64_t *sums;

	if (!meta->wide) {
		gcn->kernels->refresh(gcn_sums_of(side, layer, node), meta->degree, stored,
				      gcn->options.dimensions,
				      fresh, residual, fresh_square, residual_square);
		return;
	}
	sums = wide_row(side, layer, node);
	*fresh_square = *residual_square = 0;
	for (uint32_t i = 0; i < gcn->options.dimensions; i++) {
		fresh[i] = gcn_round_quotient(sums[i], meta->degree);
		residual[i] = (int16_t)(fresh[i] - stored[i]);
		*fresh_square += (int64_t)fresh[i] * fresh[i];
		*residual_square += (int64_t)residual[i] * residual[i];
	}
}

int64_t gcn_sums_get(const struct gcn_side *side, uint32_t layer, uint32_t node, uint32_t dimension)
{
	return gcn_meta_of(side, node)->wide ? wide_row(side, layer, node)[dimension]
					     : gcn_sums_of(side, layer, node)[dimension];
}

static void free_rows(struct gcn_wide *wide)
{
	for (uint32_t k = 1; k <= GCN_LAYERS_MAX; k++)
		mem_free(wide->sums[k]);
}

bool gcn_sums_widen(const struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	struct gcn_wide wide = {.node = node};
	size_t at;

	if (!mem_reserve((void **)&side->wide, &side->wide_capacity, side->wide_count, side->nodes_max,
			 sizeof *side->wide))
		return false;
	for (uint32_t k = 1; k <= side->top; k++) {
		if (!side->has[k])
			continue;
		wide.sums[k] = mem_alloc_array(gcn->options.dimensions, sizeof *wide.sums[k]);
		if (!wide.sums[k]) {
			free_rows(&wide);
			return false;
		}
		for (uint32_t i = 0; i < gcn->options.dimensions; i++)
			wide.sums[k][i] = gcn_sums_of(side, k, node)[i];
	}
	find_wide(side, node, &at);
	memmove(&side->wide[at + 1], &side->wide[at], (side->wide_count - at) * sizeof *side->wide);
	side->wide[at] = wide;
	side->wide_count++;
	gcn_meta_of(side, node)->wide = true;
	return true;
}

void gcn_sums_narrow(const struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	struct gcn_wide *wide;
	size_t at;

	wide = find_wide(side, node, &at);
	for (uint32_t k = 1; k <= side->top; k++)
		for (uint32_t i = 0; side->has[k] && i < gcn->options.dimensions; i++)
			gcn_sums_of(side, k, node)[i] = (int32_t)wide->sums[k][i];
	free_rows(wide);
	side->wide_count--;
	memmove(&side->wide[at], &side->wide[at + 1], (side->wide_count - at) * sizeof *side->wide);
	gcn_meta_of(side, node)->wide = false;
}

void gcn_sums_destroy(struct gcn_side *side)
{
	for (size_t w = 0; w < side->wide_count; w++)
		free_rows(&side->wide[w]);
	mem_free(side->wide);
}
