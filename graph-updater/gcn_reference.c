/* gcn_reference.c - the plain full propagation; see gcn_reference.h.
 *
 * Written to be obviously right and independent of gcn_update.c: it shares only the layout of edges, the
 * table of trained seeds and the hash of the seeds' definition. Sums are int64 above 2^17 neighbours and
 * int32 (where they cannot overflow: 2^13 each) below, for the speed that a fair comparison deserves.
 * Threads share out nodes; each node is written by one of them. */
#include "graph-updater/gcn_reference.h"

#include "base/pool.h"

#include <math.h>
#include <xxhash.h>

enum { THREADS_MAX = 64, BLOCK = 256 };

struct layer {
	int16_t *rows;          /* [end][dimensions]; NULL: the side has no such layer */
};

struct gcn_reference {
	struct gcn_options options;
	uint32_t ends[2];                               /* users, items */
	struct layer layers[2][GCN_LAYERS_MAX + 1];
};

static struct graph_neighbours neighbours_of(const struct gcn_reference *reference, int side, uint32_t node)
{
	return side == 0 ? graph_neighbours_of_user(reference->options.graph, (struct user_id){node})
			 : graph_neighbours_of_item(reference->options.graph, (struct item_id){node});
}

static void seed_node(const struct gcn_reference *reference, int side, const struct ids *ids, uint32_t node,
		      int16_t *row)
{
	const struct seeds *seeds = side == 0 ? reference->options.user_seeds : reference->options.item_seeds;
	struct text_view bytes = ids_bytes(ids, node);
	const int16_t *trained = seeds ? seeds_find(seeds, bytes) : NULL;
	int magnitude = seeds ? seeds_magnitude(seeds) : GCN_ONE;

	for (uint32_t i = 0; i < reference->options.dimensions && trained; i++)
		row[i] = trained[i];
	for (uint32_t i = 0; i < reference->options.dimensions && !trained; i++) {
		uint64_t bits = XXH3_64bits_withSeed(bytes.bytes ? bytes.bytes : "", bytes.size, i / 64);
		row[i] = (int16_t)(bits >> (i % 64) & 1 ? magnitude : -magnitude);
	}
}

static void mean_of_few(const struct graph_neighbours *list, const int16_t *below, uint32_t dimensions,
			int16_t *row)
{
	int32_t sums[GCN_DIMENSIONS_MAX] = {0}, degree = 0;

	for (uint32_t e = 0; e < list->count; e++) {
		const int16_t *neighbour = below + (size_t)graph_neighbour(list, e) * dimensions;
		if (e + 8 < list->count) {
			const int16_t *later = below + (size_t)graph_neighbour(list, e + 8) * dimensions;
			__builtin_prefetch(later);
			__builtin_prefetch(later + 32);
		}
		if (!graph_neighbour_in_gcn(list, e))
			continue;
		degree++;
		for (uint32_t i = 0; i < dimensions; i++)
			sums[i] += neighbour[i];
	}
	for (uint32_t i = 0; i < dimensions && degree; i++)
		row[i] = (int16_t)rint((double)sums[i] / (double)degree);
}

static void mean_of_many(const struct graph_neighbours *list, const int16_t *below, uint32_t dimensions,
			 int16_t *row)
{
	int64_t sums[GCN_DIMENSIONS_MAX] = {0}, degree = 0;

	for (uint32_t e = 0; e < list->count; e++) {
		if (!graph_neighbour_in_gcn(list, e))
			continue;
		degree++;
		for (uint32_t i = 0; i < dimensions; i++)
			sums[i] += below[(size_t)graph_neighbour(list, e) * dimensions + i];
	}
	for (uint32_t i = 0; i < dimensions && degree; i++)
		row[i] = (int16_t)rint((double)sums[i] / (double)degree);
}

struct whole_layer {
	struct gcn_reference *reference;
	int side;
	uint32_t layer;
};

/* One block of nodes of a layer. */
static void propagate(void *context, uint32_t block, uint32_t thread)
{
	const struct whole_layer *whole = context;
	struct gcn_reference *reference = whole->reference;
	const struct ids *ids = whole->side == 0 ? reference->options.users.table
		: reference->options.items.table;
	uint32_t dimensions = reference->options.dimensions, end = reference->ends[whole->side];
	int16_t *rows = reference->layers[whole->side][whole->layer].rows;
	const int16_t *below = whole->layer ? reference->layers[!whole->side][whole->layer - 1].rows : NULL;

	(void)thread;
	for (uint32_t node = block * BLOCK; node < (block + 1) * BLOCK && node < end; node++) {
		struct graph_neighbours list = neighbours_of(reference, whole->side, node);
		int16_t *row = rows + (size_t)node * dimensions;
		bool has_edge = false;
		for (uint32_t e = 0; e < list.count && !has_edge; e++)
			has_edge = graph_neighbour_in_gcn(&list, e);
		if (!has_edge)
			continue;
		if (whole->layer == 0)
			seed_node(reference, whole->side, ids, node, row);
		else if (list.count < 1 << 17)
			mean_of_few(&list, below, dimensions, row);
		else
			mean_of_many(&list, below, dimensions, row);
	}
}

static enum status run_layer(struct gcn_reference *reference, int side, uint32_t layer, struct pool *pool,
			     struct error *error)
{
	struct whole_layer whole = {reference, side, layer};
	uint32_t end = reference->ends[side];
	size_t values;

	if (!mem_multiply(end, reference->options.dimensions, &values) ||
	    !(reference->layers[side][layer].rows = mem_alloc_zero(values, sizeof(int16_t))))
		return error_set(error, STATUS_NO_MEMORY, "full propagation: out of memory");
	pool_run(pool, end / BLOCK + (end % BLOCK != 0), propagate, &whole);
	return STATUS_OK;
}

enum status gcn_reference_create(const struct gcn_options *options, uint32_t threads,
				 struct gcn_reference **out, struct error *error)
{
	struct gcn_reference *reference = mem_alloc_zero(1, sizeof *reference);
	enum status status = STATUS_OK;
	uint32_t last = options->both_sides || options->layers % 2 ? options->layers : options->layers - 1;
	struct pool *pool = NULL;

	if (!reference)
		return error_set(error, STATUS_NO_MEMORY, "full propagation: out of memory");
	/* Where the system gives no threads, the caller does it all. */
	if (threads > 1 && threads <= THREADS_MAX && pool_create(threads, &pool, NULL) != STATUS_OK)
		pool = NULL;
	reference->options = *options;
	reference->ends[0] = ids_end(options->users.table);
	reference->ends[1] = ids_end(options->items.table);
	for (uint32_t layer = 0; layer <= last && !status; layer++)
		for (int side = 0; side < 2 && !status; side++)
			if (options->both_sides || (int)(layer % 2) == !side)
				status = run_layer(reference, side, layer, pool, error);
	pool_destroy(pool);
	if (status) {
		gcn_reference_destroy(reference);
		return status;
	}
	*out = reference;
	return STATUS_OK;
}

void gcn_reference_destroy(struct gcn_reference *reference)
{
	if (!reference)
		return;
	for (int side = 0; side < 2; side++)
		for (uint32_t layer = 0; layer <= GCN_LAYERS_MAX; layer++)
			mem_free(reference->layers[side][layer].rows);
	mem_free(reference);
}

static const int16_t *row_of(const struct gcn_reference *reference, int side, uint32_t layer, uint32_t node)
{
	const int16_t *rows = layer <= GCN_LAYERS_MAX ? reference->layers[side][layer].rows : NULL;

	return rows && node < reference->ends[side] ? rows + (size_t)node * reference->options.dimensions
		: NULL;
}

const int16_t *gcn_reference_user(const struct gcn_reference *reference, uint32_t layer, struct user_id user)
{
	return row_of(reference, 0, layer, user.v);
}

const int16_t *gcn_reference_item(const struct gcn_reference *reference, uint32_t layer, struct item_id item)
{
	return row_of(reference, 1, layer, item.v);
}
