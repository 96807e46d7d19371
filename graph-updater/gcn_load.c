/* gcn_load.c - the embeddings as a whole: saved node by node, and put together again.
 *
 * Only hidden states are saved; sums follow from them exactly. Called by snapshot_save.c and
 * snapshot_load.c. */
#include "graph-updater/gcn_internal.h"

#include "base/pool.h"
#include "graph-updater/gcn_signs.h"

/* ---- save ---- */

/* The first layer that a state holds: trained seeds stand in it, those by hash follow from the id. */
static uint32_t first_saved(const struct gcn_side *side)
{
	return side->seeds ? 0 : 1;
}

static size_t state_bytes(const struct gcn *gcn, const struct gcn_side *side)
{
	size_t rows = side->single < 0;

	for (uint32_t k = first_saved(side); k <= side->top; k++)
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
	for (uint32_t k = first_saved(side); k <= side->top; k++) {
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

/* Nodes that have edges begin, shared out by chunks. */
struct beginning {
	struct gcn *gcn;
	int side;
};

static uint32_t degree_of(const struct gcn *gcn, int s, uint32_t node)
{
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
	uint32_t degree = list.all ? list.count : 0;

	for (uint32_t e = 0; e < list.count && !list.all; e++)
		degree += graph_neighbour_in_gcn(&list, e);
	return degree;
}

static void begin_chunk(void *context, uint32_t chunk, uint32_t thread)
{
	const struct beginning *beginning = context;
	struct gcn *gcn = beginning->gcn;
	struct gcn_side *side = &gcn->sides[beginning->side];

	(void)thread;
	for (uint32_t node = chunk << CHUNK_SHIFT; node >> CHUNK_SHIFT == chunk; node++) {
		uint32_t degree = degree_of(gcn, beginning->side, node);
		if (!degree)
			continue;
		gcn_meta_of(side, node)->degree = degree;
		gcn_begin_node(gcn, side, node);
	}
}

/* The large arrays of both sides, [count], are made at once: clearing their memory is most of the work. */
struct large_arrays {
	struct chunks *arrays[GCN_SIDES * 2 * (GCN_LAYERS_MAX + 1)];
	uint32_t rows[GCN_SIDES * 2 * (GCN_LAYERS_MAX + 1)];
	uint32_t count;
};

static void add_arrays(struct large_arrays *large, struct gcn_side *side, uint32_t rows)
{
	for (uint32_t k = 0; k <= side->top; k++) {
		if (!side->has[k])
			continue;
		large->rows[large->count] = rows;
		large->arrays[large->count++] = &side->hidden[k];
		if (!k)
			continue;
		large->rows[large->count] = rows;
		large->arrays[large->count++] = &side->sums[k];
	}
}

/* Without memory nothing is said here: whoever needs the rows finds out. */
static void reserve_array(void *context, uint32_t array, uint32_t thread)
{
	const struct large_arrays *large = context;

	(void)thread;
	(void)chunks_reserve(large->arrays[array], large->rows[array]);
}

enum status gcn_load_nodes(struct gcn *gcn, struct pool *threads, struct error *error)
{
	struct large_arrays large = {.count = 0};
	uint32_t ends[GCN_SIDES];

	for (int s = 0; s < GCN_SIDES; s++) {
		for (ends[s] = ids_end(gcn->sides[s].ids); ends[s] && !degree_of(gcn, s, ends[s] - 1); ends[s]--)
			;
		add_arrays(&large, &gcn->sides[s], ends[s]);
	}
	pool_run(threads, large.count, reserve_array, &large);
	for (int s = 0; s < GCN_SIDES; s++) {
		struct beginning beginning = {gcn, s};
		struct gcn_side *side = &gcn->sides[s];
		if (ends[s] && !gcn_reserve_node(side, ends[s] - 1))
			return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory for embeddings");
		pool_run(threads, side->meta.chunk_count, begin_chunk, &beginning);
	}
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

/* A trained seed is the one of the file, or, without the file, believed. */
static enum status load_seed(struct gcn *gcn, struct gcn_side *side, uint32_t node, const char **at,
			     struct error *error)
{
	_Alignas(64) int16_t row[GCN_DIMENSIONS_MAX];
	enum status status = load_row(gcn, at, row, error);
	int16_t *stored = gcn_hidden_of(side, 0, node);
	size_t row_bytes = gcn->options.dimensions * sizeof *stored;

	if (!status && !seeds_are_absent(side->seeds) && memcmp(stored, row, row_bytes) != 0)
		return error_set(error, STATUS_CORRUPT, "a seed is not the one of its epoch");
	if (!status)
		memcpy(stored, row, row_bytes);
	return status;
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
	for (uint32_t k = first_saved(side); k <= side->top && !status; k++)
		if (side->has[k])
			status = k ? load_row(gcn, &at, gcn_hidden_of(side, k, node), error)
				   : load_seed(gcn, side, node, &at, error);
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

static void prefetch_row(const int16_t *row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i += 64 / sizeof *row)
		__builtin_prefetch(row + i);
}

/* [dimensions] sums of the layer below over the neighbours, exact: int32 for 2^17 rows at a time. */
static void add_up(const struct gcn *gcn, const struct gcn_side *other, uint32_t layer,
		   const struct graph_neighbours *list, int64_t *sums)
{
	_Alignas(64) int32_t part[GCN_DIMENSIONS_MAX];
	uint32_t dimensions = gcn->options.dimensions;
	enum { PART = 1 << 17, AHEAD = 8 };

	memset(sums, 0, dimensions * sizeof *sums);
	for (uint32_t first = 0; first < list->count; first += PART) {
		uint32_t end = list->count - first > PART ? first + PART : list->count;
		memset(part, 0, sizeof part);
		for (uint32_t e = first; e < end; e++) {
			if (e + AHEAD < end)
				prefetch_row(gcn_hidden_of(other, layer - 1, graph_neighbour(list, e + AHEAD)), dimensions);
			if (graph_neighbour_in_gcn(list, e))
				gcn->kernels->add[GCN_WHOLE](part,
							     gcn_hidden_of(other, layer - 1,
									   graph_neighbour(list, e)),
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
	struct gcn_signs *signs;                /* of the layer below, where it is hash seeds; or NULL */
	uint64_t chunks_done, chunks;           /* of all layers and sides, as far as the caller's thread knows */
	bool no_memory[POOL_THREADS_MAX];       /* a thread each */
};

static bool rebuild_node(const struct rebuilding *rebuilding, uint32_t node)
{
	struct gcn *gcn = rebuilding->gcn;
	int s = rebuilding->side;
	uint32_t layer = rebuilding->layer;
	bool anew = rebuilding->anew;
	struct gcn_side *side = &gcn->sides[s];
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);
	struct gcn_meta *meta = gcn_meta_of(side, node);
	_Alignas(64) int16_t fresh[GCN_DIMENSIONS_MAX];
	int64_t sums[GCN_DIMENSIONS_MAX];

	if (meta->degree >= gcn->options.wide_degree && !meta->wide && !gcn_sums_widen(gcn, side, node))
		return false;
	if (rebuilding->signs)
		gcn_signs_sum(rebuilding->signs, &list, sums);
	else
		add_up(gcn, &gcn->sides[!s], layer, &list, sums);
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

enum { LISTS_AHEAD = 4, LIST_LINES = 6 };

/* Its first lines; the processor sees to the rest. */
static void prefetch_list(const struct gcn *gcn, int s, uint32_t node)
{
	struct graph_neighbours list = gcn_neighbours_of(gcn, s, node);

	for (uint32_t line = 0; line < LIST_LINES && line * 64 < list.count * list.stride; line++)
		__builtin_prefetch(list.ids + line * 64);
}

/* Nodes are shared out by chunks: whoever writes a row has its neighbourhood to itself, also among the
 * codes for the scan. Rows of the layer below are only read. */
static void rebuild_chunk(void *context, uint32_t chunk, uint32_t thread)
{
	struct rebuilding *rebuilding = context;
	struct gcn_side *side = &rebuilding->gcn->sides[rebuilding->side];

	if (thread == 0)
		advance_tell(rebuilding->advance, "summing", rebuilding->chunks_done + chunk, rebuilding->chunks);
	for (uint32_t node = chunk << CHUNK_SHIFT; node >> CHUNK_SHIFT == chunk; node++) {
		if (rebuilding->no_memory[thread])
			return;
		prefetch_list(rebuilding->gcn, rebuilding->side, node + LISTS_AHEAD);
		if (gcn_meta_of(side, node)->degree)
			rebuilding->no_memory[thread] = !rebuild_node(rebuilding, node);
	}
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
			/* Without memory for them it goes the long way. */
			if (gcn->sides[s].form[k] == GCN_UNITS)
				rebuilding.signs = gcn_signs_create(&gcn->sides[!s].hidden[k - 1],
								    gcn->options.dimensions, threads);
			pool_run(threads, gcn->sides[s].meta.chunk_count, rebuild_chunk, &rebuilding);
			gcn_signs_destroy(rebuilding.signs);
			rebuilding.signs = NULL;
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
	enum status status = gcn->loading ? gcn_load_nodes(gcn, threads, error) : STATUS_OK;

	return status ? status : rebuild(gcn, true, threads, advance, error);
}
