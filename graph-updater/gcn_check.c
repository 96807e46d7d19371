/* gcn_check.c - the embeddings proved sound, and how far they are from a full recomputation.
 *
 * Reads everything and changes nothing. Called by tests, by `inspect --check`, on the writer's thread. */
#include "graph-updater/gcn_internal.h"

#include <math.h>

struct check {
	const struct gcn *gcn;
	int64_t *sums;          /* [dimensions] */
	int16_t *scratch;       /* [2 dimensions] */
	uint8_t *waits;         /* 1: a neighbour that the hub in progress has not reached; NULL: no hub */
};

static enum status wrong(const struct gcn_side *side, int s, uint32_t node, uint32_t layer, const char *what,
			 struct error *error)
{
	return error_set(error, STATUS_INTERNAL, "layer %u of %s %.*s: %s", layer, s == GCN_USERS ? "user"
			 : "item",
			 TEXT_ARGS(ids_bytes(side->ids, node)), what);
}

static enum status check_layer(const struct check *check, int s, uint32_t node, uint32_t layer,
			       struct error *error)
{
	const struct gcn *gcn = check->gcn;
	int64_t *sums = check->sums;
	int16_t *scratch = check->scratch;
	const struct gcn_side *side = &gcn->sides[s], *other = &gcn->sides[!s];
	const struct gcn_meta *meta = gcn_meta_of(side, node);
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
	uint32_t dimensions = gcn->options.dimensions;
	int64_t fresh_square, residual_square;

	memset(sums, 0, dimensions * sizeof *sums);
	for (uint32_t e = 0; e < list.count; e++) {
		const int16_t *row;
		if (!graph_neighbour_in_gcn(&list, e))
			continue;
		row = gcn_hidden_of(other, layer - 1, graph_neighbour(&list, e));
		for (uint32_t i = 0; i < dimensions; i++)
			sums[i] += row[i];
	}
	if (check->waits && s != gcn->hub.side && layer == gcn->hub.layer + 1 && check->waits[node])
		for (uint32_t i = 0; i < dimensions; i++)
			sums[i] -= gcn->hub.residual[i];
	for (uint32_t i = 0; i < dimensions; i++)
		if (gcn_sums_get(side, layer, node, i) != sums[i])
			return wrong(side, s, node, layer, "sums differ from those of the hidden states",
				     error);
	if (!meta->degree || meta->dirty >> layer & 1)
		return STATUS_OK;
	gcn_sums_refresh(gcn, side, layer, node, scratch, scratch + dimensions, &fresh_square,
			 &residual_square);
	if (residual_square && (layer == gcn->last_layer ||
				(double)residual_square > gcn->threshold_square * (double)fresh_square))
		return wrong(side, s, node, layer,
			     "the hidden state is further from its mean than the threshold", error);
	return STATUS_OK;
}

static enum status check_node(const struct check *check, int s, uint32_t node, struct error *error)
{
	const struct gcn *gcn = check->gcn;
	int16_t *scratch = check->scratch;
	const struct gcn_side *side = &gcn->sides[s];
	const struct gcn_meta *meta = gcn_meta_of(side, node);
	const int16_t *final = gcn_final_of(side, node);
	size_t row_bytes = gcn->options.dimensions * sizeof *final;
	/* Without the file of the trained seeds there is nothing to compare them with. */
	bool seed_known = !seeds_are_absent(side->seeds);
	enum status status = STATUS_OK;
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
	uint32_t degree = 0;

	for (uint32_t e = 0; e < list.count; e++)
		degree += graph_neighbour_in_gcn(&list, e);
	if (degree != meta->degree)
		return wrong(side, s, node, 0, "the degree is not the number of edges", error);
	if (*gcn_norm_of(side, node) != gcn->kernels->dot(final, final, gcn->options.dimensions))
		return wrong(side, s, node, 0, "the length is not that of the embedding", error);
	if (side->rows && !nearest_rows_right(side->rows, node))
		return wrong(side, s, node, 0, "the codes are not those of the embedding", error);
	memset(scratch, 0, row_bytes);
	if (degree && side->has[0] && seed_known)
		gcn_seed(gcn, side, node, scratch);
	for (uint32_t k = 0; k <= side->top; k++)
		if (side->has[k] && (!degree || (k == 0 && seed_known)) &&
		    memcmp(gcn_hidden_of(side, k, node), scratch, row_bytes))
			return wrong(side, s, node, k, degree ? "not the seed of the id"
				     : "not zero without edges", error);
	for (uint32_t k = 1; k <= side->top && !status; k++)
		if (side->has[k])
			status = check_layer(check, s, node, k, error);
	return status;
}

static bool begin(struct check *check, const struct gcn *gcn)
{
	struct graph_neighbours list;

	*check = (struct check){
		.gcn = gcn,
		.sums = mem_alloc_array(gcn->options.dimensions, sizeof *check->sums),
		.scratch = mem_alloc_aligned(64, 2 * gcn->options.dimensions * sizeof *check->scratch),
	};
	if (!check->sums || !check->scratch || !gcn->hub.cursor)
		return check->sums && check->scratch;
	check->waits = mem_alloc_zero(chunks_rows(&gcn->sides[!gcn->hub.side].meta), 1);
	if (!check->waits)
		return false;
	list = gcn_neighbours_of(gcn, gcn->hub.side, gcn->hub.node);
	for (uint32_t e = 0; e < gcn->hub.cursor; e++)
		if (graph_neighbour_in_gcn(&list, e))
			check->waits[graph_neighbour(&list, e)] = 1;
	return true;
}

static void end(struct check *check)
{
	mem_free(check->sums);
	mem_free(check->scratch);
	mem_free(check->waits);
}

enum status gcn_check(const struct gcn *gcn, struct error *error)
{
	enum status status = STATUS_OK;
	struct check check;

	if (!begin(&check, gcn))
		status = error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
	for (int s = 0; s < GCN_SIDES && !status; s++)
		for (uint32_t node = 0; node < chunks_rows(&gcn->sides[s].meta) && !status; node++)
			status = check_node(&check, s, node, error);
	end(&check);
	return status;
}

enum status gcn_measure(const struct gcn *gcn, struct gcn_accuracy *out, struct error *error)
{
	struct gcn_accuracy accuracy = {.exact = !gcn_waiting(gcn)};
	struct check check;

	if (!begin(&check, gcn)) {
		end(&check);
		return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
	}
	for (int s = 0; s < GCN_SIDES; s++) {
		const struct gcn_side *side = &gcn->sides[s];
		for (uint32_t node = 0; node < chunks_rows(&side->meta); node++) {
			bool any = false;
			if (!gcn_meta_of(side, node)->degree)
				continue;
			accuracy.nodes++;
			for (uint32_t k = 1; k <= side->top; k++) {
				int64_t fresh_square, residual_square;
				double length;
				if (!side->has[k])
					continue;
				gcn_sums_refresh(gcn, side, k, node, check.scratch,
						 check.scratch + gcn->options.dimensions, &fresh_square,
						 &residual_square);
				length = sqrt((double)residual_square) / GCN_ONE;
				any |= residual_square != 0;
				accuracy.residual_mass += length;
				if (length > accuracy.largest_residual[k])
					accuracy.largest_residual[k] = length;
			}
			accuracy.residual_nodes += any;
		}
	}
	accuracy.exact &= !accuracy.residual_nodes;
	for (uint32_t k = 1; k <= gcn->last_layer && !accuracy.exact; k++)
		accuracy.bound += accuracy.largest_residual[k] + sqrt(gcn->options.dimensions) / 2 / GCN_ONE;
	end(&check);
	*out = accuracy;
	return STATUS_OK;
}
