/* gcn_load.c - the embeddings as a whole: saved node by node, put together again, and proved sound.
 *
 * Only hidden states are saved; sums follow from them exactly. Called by snapshot.c and --check. */
#include "graph-updater/gcn_internal.h"

/* ---- save ---- */

static size_t state_bytes(const struct gcn *gcn, const struct gcn_side *side)
{
	size_t rows = side->single < 0;

	for (uint32_t k = 1; k <= side->top; k++)
		rows += side->has[k];
	return rows * gcn->options.dimensions * sizeof(int16_t);
}

size_t gcn_user_state_bytes(const struct gcn *gcn)
{
	return state_bytes(gcn, &gcn->sides[GCN_USERS]);
}

size_t gcn_item_state_bytes(const struct gcn *gcn)
{
	return state_bytes(gcn, &gcn->sides[GCN_ITEMS]);
}

static void save_node(const struct gcn *gcn, const struct gcn_side *side, uint32_t node, void *state,
		      bool *pending)
{
	size_t row_bytes = gcn->options.dimensions * sizeof(int16_t);
	char *at = state;

	*pending = false;
	memset(state, 0, state_bytes(gcn, side));
	if (node >= chunks_rows(&side->meta) || !gcn_meta_of(side, node)->degree)
		return;
	for (uint32_t k = 1; k <= side->top; k++) {
		if (!side->has[k])
			continue;
		memcpy(at, gcn_hidden_of(side, k, node), row_bytes);
		at += row_bytes;
	}
	if (side->single < 0)
		memcpy(at, gcn_final_of(side, node), row_bytes);
	*pending = gcn_meta_of(side, node)->dirty != 0;
}

void gcn_save_user(const struct gcn *gcn, struct user_id user, void *state, bool *pending)
{
	save_node(gcn, &gcn->sides[GCN_USERS], user.v, state, pending);
}

void gcn_save_item(const struct gcn *gcn, struct item_id item, void *state, bool *pending)
{
	save_node(gcn, &gcn->sides[GCN_ITEMS], item.v, state, pending);
}

/* ---- load ---- */

void gcn_load_begin(struct gcn *gcn)
{
	gcn->loading = true;
}

static enum status load_row(const struct gcn *gcn, const char **at, int16_t *row, struct error *error)
{
	size_t row_bytes = gcn->options.dimensions * sizeof *row;

	memcpy(row, *at, row_bytes);
	*at += row_bytes;
	for (uint32_t i = 0; i < gcn->options.dimensions; i++)
		if (row[i] > GCN_ONE || row[i] < -GCN_ONE)
			return error_set(error, STATUS_CORRUPT, "an embedding holds %d, outside +-%d", row[i],
					 (int)GCN_ONE);
	return STATUS_OK;
}

static enum status load_node(struct gcn *gcn, struct gcn_side *side, uint32_t node, const void *state,
			     bool pending,
			     struct error *error)
{
	const char *at = state;
	enum status status = STATUS_OK;

	if (node >= chunks_rows(&side->meta) || !gcn_meta_of(side, node)->degree) {
		for (size_t byte = 0; byte < state_bytes(gcn, side); byte++)
			if (at[byte])
				return error_set(error, STATUS_CORRUPT,
						 "an embedding of a node without edges");
		return STATUS_OK;
	}
	for (uint32_t k = 1; k <= side->top && !status; k++)
		if (side->has[k])
			status = load_row(gcn, &at, gcn_hidden_of(side, k, node), error);
	if (!status && side->single < 0)
		status = load_row(gcn, &at, gcn_final_of(side, node), error);
	if (status)
		return status;
	gcn_set_final(gcn, side, node, gcn_final_of(side, node),
		      gcn->kernels->dot(gcn_final_of(side, node), gcn_final_of(side, node),
					gcn->options.dimensions));
	for (uint32_t k = 1; k <= side->top && pending; k++)
		if (side->has[k] && !gcn_mark(side, k, node))
			return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
	return STATUS_OK;
}

enum status gcn_load_user(struct gcn *gcn, struct user_id user, const void *state, bool pending,
			  struct error *error)
{
	return load_node(gcn, &gcn->sides[GCN_USERS], user.v, state, pending, error);
}

enum status gcn_load_item(struct gcn *gcn, struct item_id item, const void *state, bool pending,
			  struct error *error)
{
	return load_node(gcn, &gcn->sides[GCN_ITEMS], item.v, state, pending, error);
}

/* Sums of one side from the other side's hidden states. */
static bool rebuild_sums(struct gcn *gcn, int s)
{
	struct gcn_side *side = &gcn->sides[s];

	for (uint32_t node = 0; node < chunks_rows(&side->meta); node++) {
		struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
		struct gcn_meta *meta = gcn_meta_of(side, node);
		if (meta->degree >= gcn->options.wide_degree && !meta->wide &&
		    !gcn_sums_widen(gcn, side, node))
			return false;
		for (uint32_t k = 1; k <= side->top; k++)
			for (uint32_t e = 0; side->has[k] && e < list.count; e++)
				if (graph_neighbour_in_gcn(&list, e))
					gcn_sums_change(gcn, side, k, node,
							gcn_hidden_of(&gcn->sides[!s], k - 1,
								      graph_neighbour(&list, e)), true);
	}
	return true;
}

enum status gcn_load_finish(struct gcn *gcn, struct error *error)
{
	gcn->loading = false;
	if (!rebuild_sums(gcn, GCN_USERS) || !rebuild_sums(gcn, GCN_ITEMS))
		return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
	return STATUS_OK;
}

enum status gcn_load_anew(struct gcn *gcn, struct error *error)
{
	enum status status = gcn_load_finish(gcn, error);

	for (int s = 0; s < GCN_SIDES && !status; s++) {
		struct gcn_side *side = &gcn->sides[s];
		for (uint32_t node = 0; node < chunks_rows(&side->meta) && !status; node++)
			for (uint32_t k = 1; k <= side->top && gcn_meta_of(side, node)->degree &&
			     !status; k++)
				if (side->has[k] && !gcn_mark(side, k, node))
					status = error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
	}
	return status ? status : gcn_flush(gcn, error);
}

/* ---- check ---- */

static enum status wrong(const struct gcn_side *side, int s, uint32_t node, uint32_t layer, const char *what,
			 struct error *error)
{
	return error_set(error, STATUS_INTERNAL, "layer %u of %s %.*s: %s", layer, s == GCN_USERS ? "user"
			 : "item",
			 TEXT_ARGS(ids_bytes(side->ids, node)), what);
}

static enum status check_layer(const struct gcn *gcn, int s, uint32_t node, uint32_t layer, int64_t *sums,
			       int16_t *scratch, struct error *error)
{
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

static enum status check_node(const struct gcn *gcn, int s, uint32_t node, int64_t *sums, int16_t *scratch,
			      struct error *error)
{
	const struct gcn_side *side = &gcn->sides[s];
	const struct gcn_meta *meta = gcn_meta_of(side, node);
	const int16_t *final = gcn_final_of(side, node);
	size_t row_bytes = gcn->options.dimensions * sizeof *final;
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
	if (degree && side->has[0])
		gcn_seed(gcn, side, node, scratch);
	for (uint32_t k = 0; k <= side->top; k++)
		if (side->has[k] && (k == 0 || !degree) && memcmp(gcn_hidden_of(side, k, node), scratch,
								  row_bytes))
			return wrong(side, s, node, k, degree ? "not the seed of the id"
				     : "not zero without edges", error);
	for (uint32_t k = 1; k <= side->top && !status; k++)
		if (side->has[k])
			status = check_layer(gcn, s, node, k, sums, scratch, error);
	return status;
}

enum status gcn_check(const struct gcn *gcn, struct error *error)
{
	int64_t *sums = mem_alloc_array(gcn->options.dimensions, sizeof *sums);
	int16_t *scratch = mem_alloc_aligned(64, 2 * gcn->options.dimensions * sizeof *scratch);
	enum status status = STATUS_OK;

	if (!sums || !scratch)
		status = error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
	for (int s = 0; s < GCN_SIDES && !status; s++)
		for (uint32_t node = 0; node < chunks_rows(&gcn->sides[s].meta) && !status; node++)
			status = check_node(gcn, s, node, sums, scratch, error);
	mem_free(sums);
	mem_free(scratch);
	return status;
}
