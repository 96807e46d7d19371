/* gcn.c - what the embeddings are made of, and what an edge does to them at once.
 *
 * gcn_listener(): a new edge adds the stored hidden states of its ends to each other's sums, an edge
 * that goes takes exactly those away again; both ends then wait for the flush. Invariants: a node
 * without edges is zero in every row but layer 0; layer 0 is a function of the id bytes, set with the
 * first edge. Called by the graph; readers at the end of the file. */
#include "graph-updater/gcn_internal.h"

#include <math.h>
#include <xxhash.h>

/* ---- options ---- */

/* Which layers the sides have, and their weights in Q14. */
static enum status plan_layers(struct gcn *gcn, struct error *error)
{
	const struct gcn_options *options = &gcn->options;
	double weights[GCN_LAYERS_MAX + 1], given = 0;

	gcn->last_layer = options->both_sides || options->layers % 2 ? options->layers : options->layers - 1;
	for (uint32_t k = 0; k <= GCN_LAYERS_MAX; k++) {
		weights[k] = k <= options->layers ? options->layer_weights[k] : 0;
		if (!isfinite(weights[k]) || weights[k] < 0)
			return error_set(error, STATUS_CONFIG, "graph.layer_weights: %g is not a weight",
					 weights[k]);
		given += weights[k];
	}
	/* "All on the last layer" is also meant where users have no layer K. */
	if (given == 0 || given == weights[options->layers])
		weights[gcn->last_layer] = 1;
	for (int s = 0; s < GCN_SIDES; s++) {
		struct gcn_side *side = &gcn->sides[s];
		double sum = 0;
		for (uint32_t k = 0; k <= gcn->last_layer; k++) {
			side->has[k] = options->both_sides || (k % 2 == 1) == (s == GCN_USERS);
			if (side->has[k])
				side->top = k;
			side->form[k] = k == 1 && !gcn->sides[!s].seeds ? GCN_UNITS
					: k == gcn->last_layer ? GCN_REST : GCN_WHOLE;
		}
		for (uint32_t k = 0; k <= side->top; k++)
			sum += side->has[k] ? weights[k] : 0;
		if (sum == 0 && s == GCN_USERS)
			return error_set(error, STATUS_CONFIG,
					 "graph.layer_weights: all weight is on layers that users do "
					 "not have: with item seeds these are the odd ones");
		side->single = -1;
		for (uint32_t k = 0; k <= side->top; k++) {
			bool own_layer = s == GCN_ITEMS && !options->both_sides;
			double weight = !side->has[k] ? 0 : own_layer ? k == side->top
										    : weights[k] / sum;
			side->weights[k] = (int32_t)rint(weight * GCN_WEIGHT_ONE);
			if (weight == 1)
				side->single = (int)k;
		}
	}
	return STATUS_OK;
}

static bool create_side(struct gcn *gcn, struct gcn_side *side, const struct ids *ids, uint32_t nodes_max)
{
	size_t row = gcn->options.dimensions * sizeof(int16_t);
	bool made;

	side->ids = ids;
	side->nodes_max = nodes_max;
	made = chunks_create(&side->meta, nodes_max, sizeof(struct gcn_meta)) &&
	       chunks_create(&side->norms, nodes_max, sizeof(int64_t)) &&
	       (side->single >= 0 || chunks_create(&side->final, nodes_max, row));
	for (uint32_t k = 0; k <= side->top && made; k++) {
		if (!side->has[k])
			continue;
		made = chunks_create(&side->hidden[k], nodes_max, row) &&
		       (k == 0 || chunks_create(&side->sums[k], nodes_max,
							gcn_sums_row_bytes(side, k, gcn->options.dimensions)));
	}
	return made;
}

static enum status create_rows(const struct gcn *gcn, struct gcn_side *side, struct error *error)
{
	const struct chunks *final = side->single >= 0 ? &side->hidden[side->single] : &side->final;

	return nearest_rows_create(gcn->options.dimensions, side->nodes_max, final, &side->rows, error);
}

enum status gcn_create(const struct gcn_options *options, struct gcn **out, struct error *error)
{
	struct gcn *gcn;
	enum status status;

	if (options->dimensions < 16 || options->dimensions > GCN_DIMENSIONS_MAX || options->dimensions % 16)
		return error_set(error, STATUS_CONFIG,
				 "graph.dimensions: %u is not a multiple of 16 up to %d",
				 options->dimensions, (int)GCN_DIMENSIONS_MAX);
	if (options->layers < 1 || options->layers > GCN_LAYERS_MAX)
		return error_set(error, STATUS_CONFIG, "graph.layers: %u is outside 1..%d", options->layers,
				 (int)GCN_LAYERS_MAX);
	if (options->user_seeds && !options->both_sides)
		return error_set(error, STATUS_CONFIG, "graph.user_seeds: users have seeds only with "
				 "graph.seeds = both");
	/* Rows of one scale beside rows of another would drown them. */
	if (options->both_sides && !options->user_seeds != !options->item_seeds)
		return error_set(error, STATUS_CONFIG, "graph.seeds = both: trained seeds are needed for users "
				 "and items (graph.user_seeds, graph.item_seeds), or for neither");
	if (!(options->threshold >= 0 && options->threshold <= 1))
		return error_set(error, STATUS_CONFIG, "graph.threshold: %g is outside 0..1",
				 options->threshold);
	gcn = mem_alloc_zero(1, sizeof *gcn);
	if (!gcn)
		return error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
	gcn->options = *options;
	if (!options->wide_degree || options->wide_degree > GCN_WIDE_DEGREE)
		gcn->options.wide_degree = GCN_WIDE_DEGREE;
	if (!options->hub_degree)
		gcn->options.hub_degree = GCN_HUB_DEGREE;
	gcn->threshold_square = options->threshold * options->threshold;
	gcn->kernels = gcn_kernels_best();
	gcn->sides[GCN_USERS].seeds = options->user_seeds;
	gcn->sides[GCN_ITEMS].seeds = options->item_seeds;
	status = plan_layers(gcn, error);
	if (status)
		goto cleanup;
	gcn->fresh = mem_alloc_aligned(64, options->dimensions * sizeof *gcn->fresh);
	gcn->residuals = mem_alloc_aligned(64, GCN_RESIDUALS * options->dimensions * sizeof *gcn->residuals);
	if (!gcn->fresh || !gcn->residuals ||
	    !create_side(gcn, &gcn->sides[GCN_USERS], options->users.table, options->users_max) ||
	    !create_side(gcn, &gcn->sides[GCN_ITEMS], options->items.table, options->items_max)) {
		status = error_set(error, STATUS_NO_MEMORY, "gcn: out of memory");
		goto cleanup;
	}
	status = create_rows(gcn, &gcn->sides[GCN_USERS], error);
	if (status)
		goto cleanup;
	*out = gcn;
	return STATUS_OK;
cleanup:
	gcn_destroy(gcn);
	return status;
}

void gcn_destroy(struct gcn *gcn)
{
	if (!gcn)
		return;
	for (int s = 0; s < GCN_SIDES; s++) {
		struct gcn_side *side = &gcn->sides[s];
		gcn_sums_destroy(side);         /* finds its memory by the rows */
		chunks_destroy(&side->meta);
		chunks_destroy(&side->final);
		chunks_destroy(&side->norms);
		nearest_rows_destroy(side->rows);
		for (uint32_t k = 0; k <= GCN_LAYERS_MAX; k++) {
			chunks_destroy(&side->hidden[k]);
			chunks_destroy(&side->sums[k]);
			mem_free(side->frontier[k].nodes);
		}
		mem_free(side->changed.nodes);
	}
	mem_free(gcn->fresh);
	mem_free(gcn->residuals);
	mem_free(gcn);
}

/* ---- an edge comes or goes ---- */

void gcn_seed(const struct gcn *gcn, const struct gcn_side *side, uint32_t node, int16_t *row)
{
	struct text_view bytes = ids_bytes(side->ids, node);
	const int16_t *trained = side->seeds ? seeds_find(side->seeds, bytes) : NULL;
	int16_t magnitude = side->seeds ? seeds_magnitude(side->seeds) : GCN_ONE;

	if (trained) {
		memcpy(row, trained, gcn->options.dimensions * sizeof *row);
		return;
	}
	for (uint32_t i = 0; i < gcn->options.dimensions; i += 64) {
		uint64_t bits = XXH3_64bits_withSeed(bytes.bytes ? bytes.bytes : "", bytes.size, i / 64);
		for (uint32_t bit = 0; bit < 64 && i + bit < gcn->options.dimensions; bit++)
			row[i + bit] = (int16_t)(bits >> bit & 1 ? magnitude : -magnitude);
	}
}

bool gcn_mark(struct gcn_side *side, uint32_t layer, uint32_t node)
{
	struct gcn_meta *meta = gcn_meta_of(side, node);
	struct gcn_list *list = &side->frontier[layer];

	if (meta->dirty >> layer & 1)
		return true;
	if (!mem_reserve((void **)&list->nodes, &list->capacity, list->count, side->nodes_max,
			 sizeof *list->nodes))
		return false;
	list->nodes[list->count++] = node;
	meta->dirty |= (uint8_t)(1u << layer);
	return true;
}

void gcn_set_final(const struct gcn *gcn, struct gcn_side *side, uint32_t node, const int16_t *row,
		   int64_t norm)
{
	*gcn_norm_of(side, node) = norm;
	if (side->rows)
		nearest_rows_put(side->rows, node, row, norm);
	else
		memmove(gcn_final_of(side, node), row, gcn->options.dimensions * sizeof *row);
}

void gcn_set_hidden(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		    const int16_t *row, int64_t norm)
{
	if (side->single == (int)layer)
		gcn_set_final(gcn, side, node, row, norm);
	else
		memcpy(gcn_hidden_of(side, layer, node), row, gcn->options.dimensions * sizeof *row);
}

bool gcn_reserve_node(struct gcn_side *side, uint32_t node)
{
	bool room = chunks_reserve(&side->meta, node + 1) && chunks_reserve(&side->norms, node + 1) &&
		    (side->single >= 0 || chunks_reserve(&side->final, node + 1));

	for (uint32_t k = 0; k <= side->top && room; k++)
		if (side->has[k])
			room = chunks_reserve(&side->hidden[k], node + 1) &&
			       (k == 0 || chunks_reserve(&side->sums[k], node + 1));
	return room && (!side->rows || nearest_rows_reserve(side->rows, node + 1));
}

void gcn_begin_node(struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	_Alignas(64) int16_t seed[GCN_DIMENSIONS_MAX];  /* loading, several threads come here */

	if (side->has[0]) {
		gcn_seed(gcn, side, node, seed);
		gcn_set_hidden(gcn, side, 0, node, seed, gcn->kernels->dot(seed, seed, gcn->options.dimensions));
	}
	/* A final row made of seeds alone, or with a share of them, is there at once. */
	if (side->weights[0] && side->single < 0)
		gcn_mix(gcn, side, node);
}

/* The node has one edge more. */
static bool gain_edge(struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	struct gcn_meta *meta = gcn_meta_of(side, node);

	if (!gcn_sums_change_degree(gcn, side, node, true))
		return false;
	if (meta->degree == 1)
		gcn_begin_node(gcn, side, node);
	return true;
}

static bool lose_edge(struct gcn *gcn, struct gcn_side *side, uint32_t node)
{
	struct gcn_meta *meta = gcn_meta_of(side, node);

	if (!gcn_sums_change_degree(gcn, side, node, false))
		return false;
	gcn_sums_narrow(gcn, side, node);
	if (meta->degree)
		return true;
	/* Nobody's neighbour any more: its share of all sums is gone, so it may be forgotten at once. */
	memset(gcn->fresh, 0, gcn->options.dimensions * sizeof *gcn->fresh);
	for (uint32_t k = 0; k <= side->top; k++)
		if (side->has[k])
			gcn_set_hidden(gcn, side, k, node, gcn->fresh, 0);
	if (side->single < 0)
		gcn_set_final(gcn, side, node, gcn->fresh, 0);
	return true;
}

/* What `from` has in the layer below is added to, or taken from, the sums of `node`. */
static bool change_sums(struct gcn *gcn, int s, uint32_t node, uint32_t from, bool add)
{
	struct gcn_side *side = &gcn->sides[s];

	for (uint32_t k = 1; k <= side->top; k++) {
		if (!side->has[k])
			continue;
		if (!gcn_sums_change(gcn, side, k, node, gcn_hidden_of(&gcn->sides[!s], k - 1, from), add) ||
		    !gcn_mark(side, k, node))
			return false;
	}
	return true;
}

static enum status edge_changed(void *context, const struct graph_change *change, struct error *error)
{
	struct gcn *gcn = context;
	struct gcn_side *users = &gcn->sides[GCN_USERS], *items = &gcn->sides[GCN_ITEMS];
	bool had = change->old_edge && graph_edge_in_gcn(gcn->options.graph, change->old_edge);
	bool has = change->new_edge && graph_edge_in_gcn(gcn->options.graph, change->new_edge);
	uint32_t user = change->user.v, item = change->item.v;
	bool room = true;

	if (gcn->loading || had == has) {
		/* Loading, all nodes come at once, later. Else a hub's list may have been re-ordered. */
	} else if (has) {
		room = gcn_reserve_node(users, user) && gcn_reserve_node(items, item) &&
		       gain_edge(gcn, users, user) && gain_edge(gcn, items, item) &&
		       change_sums(gcn, GCN_USERS, user, item, true) &&
		       change_sums(gcn, GCN_ITEMS, item, user, true);
	} else {
		room = change_sums(gcn, GCN_USERS, user, item, false) &&
		       change_sums(gcn, GCN_ITEMS, item, user, false) &&
		       lose_edge(gcn, users, user) && lose_edge(gcn, items, item);
	}
	for (int s = 0; s < GCN_SIDES && room && gcn->hub.cursor; s++)
		if (gcn->hub.side == s && gcn->hub.node == (s == GCN_USERS ? user : item))
			room = gcn_hub_follow(gcn, s, change, had, has);
	return room ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "gcn: out of memory for embeddings");
}

struct graph_listener gcn_listener(struct gcn *gcn)
{
	return (struct graph_listener){edge_changed, gcn};
}

/* ---- readers ---- */

uint32_t gcn_dimensions(const struct gcn *gcn)
{
	return gcn->options.dimensions;
}

static int64_t norm_of(const struct gcn_side *side, uint32_t node)
{
	return node < chunks_rows(&side->norms) ? *gcn_norm_of(side, node) : 0;
}

static const int16_t *embedding_of(const struct gcn_side *side, uint32_t node)
{
	return norm_of(side, node) ? gcn_final_of(side, node) : NULL;
}

const int16_t *gcn_user_embedding(const struct gcn *gcn, struct user_id user)
{
	return embedding_of(&gcn->sides[GCN_USERS], user.v);
}

const int16_t *gcn_item_embedding(const struct gcn *gcn, struct item_id item)
{
	return embedding_of(&gcn->sides[GCN_ITEMS], item.v);
}

int64_t gcn_user_norm(const struct gcn *gcn, struct user_id user)
{
	return norm_of(&gcn->sides[GCN_USERS], user.v);
}

int64_t gcn_item_norm(const struct gcn *gcn, struct item_id item)
{
	return norm_of(&gcn->sides[GCN_ITEMS], item.v);
}

int64_t gcn_dot(const int16_t *a, const int16_t *b, uint32_t dimensions)
{
	return gcn_kernels_best()->dot(a, b, dimensions);
}

double gcn_cosine(int64_t dot, int64_t norm_a, int64_t norm_b)
{
	double cosine;

	if (norm_a <= 0 || norm_b <= 0)
		return 0;
	cosine = (double)dot / (sqrt((double)norm_a) * sqrt((double)norm_b));
	return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

const struct nearest_rows *gcn_user_rows(const struct gcn *gcn)
{
	return gcn->sides[GCN_USERS].rows;
}

static const int16_t *hidden_of(const struct gcn_side *side, uint32_t layer, uint32_t node)
{
	if (layer > side->top || !side->has[layer] || node >= chunks_rows(&side->hidden[layer]))
		return NULL;
	return gcn_hidden_of(side, layer, node);
}

const int16_t *gcn_user_hidden(const struct gcn *gcn, uint32_t layer, struct user_id user)
{
	return hidden_of(&gcn->sides[GCN_USERS], layer, user.v);
}

const int16_t *gcn_item_hidden(const struct gcn *gcn, uint32_t layer, struct item_id item)
{
	return hidden_of(&gcn->sides[GCN_ITEMS], layer, item.v);
}

static uint32_t degree_of(const struct gcn_side *side, uint32_t node)
{
	return node < chunks_rows(&side->meta) ? gcn_meta_of(side, node)->degree : 0;
}

uint32_t gcn_user_degree(const struct gcn *gcn, struct user_id user)
{
	return degree_of(&gcn->sides[GCN_USERS], user.v);
}

uint32_t gcn_item_degree(const struct gcn *gcn, struct item_id item)
{
	return degree_of(&gcn->sides[GCN_ITEMS], item.v);
}

struct gcn_stats gcn_get_stats(const struct gcn *gcn)
{
	struct gcn_stats stats = {
		.flushes = gcn->flushes,
		.pushes = gcn->pushes,
		.push_edges = gcn->push_edges,
		.held = gcn->held,
		.held_mass = gcn->held_mass / GCN_ONE,
		.waiting = gcn_waiting(gcn),
		.hub_neighbours = gcn->hub.cursor,
		.memory_bytes = sizeof *gcn,
	};

	for (int s = 0; s < GCN_SIDES; s++) {
		const struct gcn_side *side = &gcn->sides[s];
		stats.memory_bytes += chunks_bytes(&side->meta) + chunks_bytes(&side->final) +
				      chunks_bytes(&side->norms) +
				      (side->rows ? nearest_rows_bytes(side->rows) : 0) +
				      side->changed.capacity * sizeof(uint32_t);
		for (uint32_t k = 0; k <= side->top; k++)
			stats.memory_bytes += chunks_bytes(&side->hidden[k]) + chunks_bytes(&side->sums[k]) +
					      side->frontier[k].capacity * sizeof(uint32_t);
		stats.wide_nodes += side->wide_count;
		stats.memory_bytes += side->wide_count * side->top * gcn->options.dimensions * sizeof(int64_t);
	}
	return stats;
}
