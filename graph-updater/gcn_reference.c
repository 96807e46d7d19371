/* gcn_reference.c - the plain full propagation; see gcn_reference.h.
 *
 * Written to be obviously right and independent of gcn_update.c: it shares only the layout of edges and
 * the hash of the seeds' definition. Sums are int64 above 2^17 neighbours and int32 (where they cannot
 * overflow: 2^13 each) below, for the speed that a fair comparison deserves. Threads share out nodes;
 * each node is written by one of them. */
#include "graph-updater/gcn_reference.h"

#include <math.h>
#include <pthread.h>
#include <xxhash.h>

enum { THREADS_MAX = 64 };

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

static void seed_node(const struct gcn_reference *reference, const struct ids *ids, uint32_t node,
		      int16_t *row)
{
	struct text_view bytes = ids_bytes(ids, node);

	for (uint32_t i = 0; i < reference->options.dimensions; i++) {
		uint64_t bits = XXH3_64bits_withSeed(bytes.bytes ? bytes.bytes : "", bytes.size, i / 64);
		row[i] = bits >> (i % 64) & 1 ? GCN_ONE : -GCN_ONE;
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

struct share {
	struct gcn_reference *reference;
	int side;
	uint32_t layer, first, stride;
};

/* One layer of one side, every stride-th block of nodes. */
static void *propagate(void *context)
{
	const struct share *share = context;
	struct gcn_reference *reference = share->reference;
	const struct ids *ids = share->side == 0 ? reference->options.users.table
		: reference->options.items.table;
	uint32_t dimensions = reference->options.dimensions, end = reference->ends[share->side];
	int16_t *rows = reference->layers[share->side][share->layer].rows;
	const int16_t *below = share->layer ? reference->layers[!share->side][share->layer - 1].rows : NULL;
	enum { BLOCK = 256 };

	for (uint32_t block = share->first * BLOCK; block < end; block += share->stride * BLOCK)
		for (uint32_t node = block; node < block + BLOCK && node < end; node++) {
			struct graph_neighbours list = neighbours_of(reference, share->side, node);
			int16_t *row = rows + (size_t)node * dimensions;
			bool has_edge = false;
			for (uint32_t e = 0; e < list.count && !has_edge; e++)
				has_edge = graph_neighbour_in_gcn(&list, e);
			if (!has_edge)
				continue;
			if (share->layer == 0)
				seed_node(reference, ids, node, row);
			else if (list.count < 1 << 17)
				mean_of_few(&list, below, dimensions, row);
			else
				mean_of_many(&list, below, dimensions, row);
		}
	return NULL;
}

static enum status run_layer(struct gcn_reference *reference, int side, uint32_t layer, uint32_t threads,
			     struct error *error)
{
	struct share shares[THREADS_MAX];
	pthread_t workers[THREADS_MAX];
	uint32_t started = 1;
	size_t values;

	if (!mem_multiply(reference->ends[side], reference->options.dimensions, &values) ||
	    !(reference->layers[side][layer].rows = mem_alloc_zero(values, sizeof(int16_t))))
		return error_set(error, STATUS_NO_MEMORY, "full propagation: out of memory");
	for (uint32_t t = 0; t < threads; t++)
		shares[t] = (struct share){reference, side, layer, t, threads};
	for (; started < threads; started++)
		if (pthread_create(&workers[started], NULL, propagate, &shares[started]))
			break;
	propagate(&shares[0]);
	/* Shares that found no thread are done here. */
	for (uint32_t t = started; t < threads; t++)
		propagate(&shares[t]);
	for (uint32_t t = 1; t < started; t++)
		pthread_join(workers[t], NULL);
	return STATUS_OK;
}

enum status gcn_reference_create(const struct gcn_options *options, uint32_t threads,
				 struct gcn_reference **out, struct error *error)
{
	struct gcn_reference *reference = mem_alloc_zero(1, sizeof *reference);
	enum status status = STATUS_OK;
	uint32_t last = options->both_sides || options->layers % 2 ? options->layers : options->layers - 1;

	if (!reference)
		return error_set(error, STATUS_NO_MEMORY, "full propagation: out of memory");
	if (!threads || threads > THREADS_MAX)
		threads = 1;
	reference->options = *options;
	reference->ends[0] = ids_end(options->users.table);
	reference->ends[1] = ids_end(options->items.table);
	for (uint32_t layer = 0; layer <= last && !status; layer++)
		for (int side = 0; side < 2 && !status; side++)
			if (options->both_sides || (int)(layer % 2) == !side)
				status = run_layer(reference, side, layer, threads, error);
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
