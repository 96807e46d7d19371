/* gcn_load.c - the embeddings as a whole: saved node by node, and put together again.
 *
 * Only hidden states are saved; sums follow from them exactly. Called by snapshot_save.c and
 * snapshot_load.c. */
#include "graph-updater/gcn_internal.h"

#include "base/pool.h"

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

/* Sums are put together from stored rows as if the hub had reached everybody: those whom it has not are to
 * be looked at. (A few too many: all its neighbours.) */
static bool waits_for_hub(const struct gcn *gcn, const struct gcn_side *side, uint32_t node)
{
	struct graph_neighbours list;

	if (!gcn->hub.cursor || side == &gcn->sides[gcn->hub.side])
		return false;
	list = gcn_neighbours_of(gcn, !gcn->hub.side, node);
	for (uint32_t e = 0; e < list.count; e++)
		if (graph_neighbour(&list, e) == gcn->hub.node)
			return true;
	return false;
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
	*pending = gcn_meta_of(side, node)->dirty != 0 || waits_for_hub(gcn, side, node);
}

void gcn_save_user(const struct gcn *gcn, struct user_id user, void *state, bool *pending)
{
	save_node(gcn, &gcn->sides[GCN_USERS], user.v, state, pending);
}

void gcn_save_item(const struct gcn *gcn, struct item_id item, void *state, bool *pending)
{
	save_node(gcn, &gcn->sides[GCN_ITEMS], item.v, state, pending);
}

void gcn_keep_sums_from_forks(struct gcn *gcn)
{
	for (int s = 0; s < GCN_SIDES; s++)
		for (uint32_t k = 1; k <= GCN_LAYERS_MAX; k++)
			gcn->sides[s].sums[k].parent_only = true;
}

uint32_t gcn_hub_waiting(const struct gcn *gcn, bool *are_users)
{
	*are_users = gcn->hub.side == GCN_ITEMS;
	return gcn->hub.cursor;
}

uint32_t gcn_hub_waiting_node(const struct gcn *gcn, uint32_t index)
{
	struct graph_neighbours list = gcn_neighbours_of(gcn, gcn->hub.side, gcn->hub.node);

	return graph_neighbour(&list, index);
}

/* ---- load ---- */

void gcn_load_begin(struct gcn *gcn)
{
	gcn->loading = true;
}

static bool load_nodes_of(struct gcn *gcn, int s)
{
	struct gcn_side *side = &gcn->sides[s];

	for (uint32_t node = 0; node < ids_end(side->ids); node++) {
		struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
		uint32_t degree = list.all ? list.count : 0;
		for (uint32_t e = 0; e < list.count && !list.all; e++)
			degree += graph_neighbour_in_gcn(&list, e);
		if (!degree)
			continue;
		if (!gcn_reserve_node(side, node))
			return false;
		gcn_meta_of(side, node)->degree = degree;
		gcn_begin_node(gcn, side, node);
	}
	return true;
}

enum status gcn_load_nodes(struct gcn *gcn, struct error *error)
{
	for (int s = 0; s < GCN_SIDES; s++)
		if (!load_nodes_of(gcn, s))
			return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory for embeddings");
	gcn->loading = false;
	return STATUS_OK;
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

/* [dimensions] sums of the layer below over the neighbours, exact: int32 for 2^17 rows at a time. */
static void add_up(const struct gcn *gcn, int s, uint32_t layer, uint32_t node, int64_t *sums)
{
	_Alignas(64) int32_t part[GCN_DIMENSIONS_MAX];
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
	const struct gcn_side *other = &gcn->sides[!s];
	uint32_t dimensions = gcn->options.dimensions;
	enum { PART = 1 << 17, AHEAD = 8 };

	memset(sums, 0, dimensions * sizeof *sums);
	for (uint32_t first = 0; first < list.count; first += PART) {
		uint32_t end = list.count - first > PART ? first + PART : list.count;
		memset(part, 0, sizeof part);
		for (uint32_t e = first; e < end; e++) {
			if (e + AHEAD < end)
				__builtin_prefetch(gcn_hidden_of(other, layer - 1,
								 graph_neighbour(&list, e + AHEAD)));
			if (graph_neighbour_in_gcn(&list, e))
				gcn->kernels->add[GCN_WHOLE](part,
							     gcn_hidden_of(other, layer - 1,
									   graph_neighbour(&list, e)),
							     dimensions);
		}
		for (uint32_t i = 0; i < dimensions; i++)
			sums[i] += part[i];
	}
}

/* Sums of one layer and side from the hidden states below; `anew`: its hidden states as well. */
struct rebuilding {
	struct gcn *gcn;
	const struct advance *advance;
	int side;
	uint32_t layer;
	bool anew;
	uint64_t chunks_done, chunks;           /* of all layers and sides, as far as the caller's thread knows */
	bool no_memory[POOL_THREADS_MAX];       /* a thread each */
};

static bool rebuild_node(struct gcn *gcn, int s, uint32_t layer, uint32_t node, bool anew)
{
	struct gcn_side *side = &gcn->sides[s];
	struct gcn_meta *meta = gcn_meta_of(side, node);
	_Alignas(64) int16_t fresh[GCN_DIMENSIONS_MAX];
	int64_t sums[GCN_DIMENSIONS_MAX];

	if (meta->degree >= gcn->options.wide_degree && !meta->wide && !gcn_sums_widen(gcn, side, node))
		return false;
	add_up(gcn, s, layer, node, sums);
	if (anew) {
		for (uint32_t i = 0; i < gcn->options.dimensions; i++)
			fresh[i] = gcn_round_quotient(sums[i], meta->degree);
		gcn_set_hidden(gcn, side, layer, node, fresh,
			       gcn->kernels->dot(fresh, fresh, gcn->options.dimensions));
	}
	if (!gcn_sums_set(gcn, side, layer, node, sums))
		return false;
	if (anew && side->single < 0 && layer == side->top)
		gcn_mix(gcn, side, node);
	return true;
}

/* Nodes are shared out by chunks: whoever writes a row has its neighbourhood to itself, also among the
 * codes for the scan. Rows of the layer below are only read. */
static void rebuild_chunk(void *context, uint32_t chunk, uint32_t thread)
{
	struct rebuilding *rebuilding = context;
	struct gcn_side *side = &rebuilding->gcn->sides[rebuilding->side];

	if (thread == 0)
		advance_tell(rebuilding->advance, "summing", rebuilding->chunks_done + chunk, rebuilding->chunks);
	for (uint32_t node = chunk << CHUNK_SHIFT; node >> CHUNK_SHIFT == chunk && !rebuilding->no_memory[thread]; node++)
		if (gcn_meta_of(side, node)->degree)
			rebuilding->no_memory[thread] = !rebuild_node(rebuilding->gcn, rebuilding->side,
								      rebuilding->layer, node, rebuilding->anew);
}

static bool is_summed(const struct gcn_side *side, uint32_t layer)
{
	return layer <= side->top && side->has[layer];
}

static enum status rebuild(struct gcn *gcn, bool anew, struct pool *threads, const struct advance *advance,
			   struct error *error)
{
	struct rebuilding rebuilding = {.gcn = gcn, .advance = advance, .anew = anew};

	for (uint32_t k = 1; k <= gcn->last_layer; k++)
		for (int s = 0; s < GCN_SIDES; s++)
			if (is_summed(&gcn->sides[s], k))
				rebuilding.chunks += gcn->sides[s].meta.chunk_count;
	for (uint32_t k = 1; k <= gcn->last_layer; k++)
		for (int s = 0; s < GCN_SIDES; s++) {
			if (!is_summed(&gcn->sides[s], k))
				continue;
			rebuilding.side = s;
			rebuilding.layer = k;
			pool_run(threads, gcn->sides[s].meta.chunk_count, rebuild_chunk, &rebuilding);
			rebuilding.chunks_done += gcn->sides[s].meta.chunk_count;
			for (uint32_t thread = 0; thread < POOL_THREADS_MAX; thread++)
				if (rebuilding.no_memory[thread])
					return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
		}
	return STATUS_OK;
}

enum status gcn_load_finish(struct gcn *gcn, struct pool *threads, const struct advance *advance,
			    struct error *error)
{
	return rebuild(gcn, false, threads, advance, error);
}

enum status gcn_load_anew(struct gcn *gcn, struct pool *threads, const struct advance *advance, struct error *error)
{
	enum status status = gcn->loading ? gcn_load_nodes(gcn, error) : STATUS_OK;

	return status ? status : rebuild(gcn, true, threads, advance, error);
}
