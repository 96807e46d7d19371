/* gcn.h - embeddings of users and items by averaging over neighbours, in integers, kept fresh.
 *
 * With H^(k) = D^-1/2 E^(k), the propagation of LightGCN is h^(k)_v = mean of h^(k-1)_w over the
 * neighbours w of v, and the node's own factor sqrt(d_v) cancels in the cosine. Hidden states are
 * int16 in Q13, sums s_v^(k) = sum of h_w^(k-1) over the neighbours are exact integers, and
 * h = round-half-even(s / d).
 *
 * Layer 0 is +-1 by the bits of XXH3 of the id bytes, or trained (seeds.h). In the item chain only items
 * have it: users own the odd layers and items the even ones. With both sides seeded every node has every
 * layer. An id that the trained seeds do not know gets +-seeds_magnitude() by its hash.
 *
 * An edge changes the sums of its two ends at once (gcn_listener); gcn_flush() refreshes the hidden
 * states, layer by layer (gcn_update.c). At threshold 0 the state after a flush is a function of the
 * graph alone, memcmp-equal to gcn_reference.c; at any threshold sums equal those of the stored hidden
 * states exactly. Readers see the last flush; a node that has lost its last edge is zero at once.
 *
 * Internal ids, the order of events within a flush, and vector width decide nothing: all of a layer's
 * decisions read the layer as it was before, and integer sums commute. One writer thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_GCN_H
#define EXITPOLL_GRAPH_UPDATER_GCN_H

#include "graph-updater/graph.h"
#include "graph-updater/nearest_rows.h"
#include "graph-updater/seeds.h"

enum { GCN_LAYERS_MAX = 4, GCN_DIMENSIONS_MAX = 256, GCN_ONE = 1 << 13 };

struct gcn_options {
	uint32_t dimensions;            /* multiple of 16, 16..256 */
	uint32_t layers;                /* K, 1..4 */
	/* alpha of layers 0..K, not negative, scaled to sum 1 over the layers that a side has; none at all, or
	 * all on layer K: the users' last layer. */
	double layer_weights[GCN_LAYERS_MAX + 1];
	bool both_sides;
	const struct seeds *user_seeds, *item_seeds;    /* borrowed; NULL: by hash. Users': with both_sides */
	double threshold;               /* tau, 0..1 */
	uint32_t users_max, items_max;
	struct user_ids users;          /* borrowed */
	struct item_ids items;          /* borrowed */
	const struct graph *graph;      /* borrowed; must outlive */
	uint32_t hub_degree;            /* tests: above it a push may be interrupted; 0: 2^12 */
	uint32_t wide_degree;           /* tests: degree from which sums are int64; 0: 2^14 */
};

struct gcn;
enum status gcn_create(const struct gcn_options *options, struct gcn **out, struct error *error);
void gcn_destroy(struct gcn *gcn);              /* NULL ok */
struct graph_listener gcn_listener(struct gcn *gcn);

/* Refreshes what the events since the last flush have touched. */
enum status gcn_flush(struct gcn *gcn, struct error *error);
/* The same with a bound: about work_max nodes looked at and neighbours pushed to (of a node with up to
 * 2^12 neighbours all), > 0. Not finished: call again, also after more events; readers see a mixture of
 * before and after. Once finished, the state at threshold 0 is that of a flush in one go. */
enum status gcn_flush_some(struct gcn *gcn, uint64_t work_max, bool *finished, struct error *error);
/* Nodes, and neighbours of a hub, that wait for a flush; 0: the last one has finished. */
uint64_t gcn_waiting(const struct gcn *gcn);

/* ---- readers: rows of the last flush, int16 [dimensions] in Q13 ---- */
uint32_t gcn_dimensions(const struct gcn *gcn);
/* Final embedding of a user; NULL: has no edge of the GCN, or none that a flush has seen. */
const int16_t *gcn_user_embedding(const struct gcn *gcn, struct user_id user);
/* The item's own: in the item chain its highest even layer below K, else the weighted layers. */
const int16_t *gcn_item_embedding(const struct gcn *gcn, struct item_id item);
/* Squared lengths of these rows; 0 where the row is NULL. */
int64_t gcn_user_norm(const struct gcn *gcn, struct user_id user);
int64_t gcn_item_norm(const struct gcn *gcn, struct item_id item);

/* Exact integer dot product of two rows [dimensions, multiple of 16], |values| <= GCN_ONE. */
int64_t gcn_dot(const int16_t *a, const int16_t *b, uint32_t dimensions);
/* dot / (sqrt(norm_a) sqrt(norm_b)), clipped to -1..1; 0 where a norm is 0. */
double gcn_cosine(int64_t dot, int64_t norm_a, int64_t norm_b);

/* The users' embeddings as other threads may read them beside the writer; a row without length: none. */
const struct nearest_rows *gcn_user_rows(const struct gcn *gcn);

/* Stored hidden state of one layer, [dimensions]; NULL: the side has no such layer, or the node no row.
 * For tests, check and export. */
const int16_t *gcn_user_hidden(const struct gcn *gcn, uint32_t layer, struct user_id user);
const int16_t *gcn_item_hidden(const struct gcn *gcn, uint32_t layer, struct item_id item);
/* Edges of the GCN (without VIEWs, unless they count). */
uint32_t gcn_user_degree(const struct gcn *gcn, struct user_id user);
uint32_t gcn_item_degree(const struct gcn *gcn, struct item_id item);

struct gcn_stats {
	uint64_t flushes, pushes;       /* pushes: nodes whose change was passed on */
	uint64_t push_edges;            /* rows added to on behalf of pushes */
	uint64_t held;                  /* nodes looked at and left alone, being within the threshold */
	double held_mass;               /* lengths of their residuals, 1 = GCN_ONE, added up */
	uint64_t waiting;               /* gcn_waiting() */
	uint32_t hub_neighbours;        /* that the hub in progress has still to reach; 0: none is */
	size_t wide_nodes;              /* with sums in int64 */
	size_t memory_bytes;
};
struct gcn_stats gcn_get_stats(const struct gcn *gcn);

/* How far the state is from a full recomputation, by a pass over all nodes; lengths, 1 = GCN_ONE.
 * A layer is off by no more than its own residuals, its rounding, and what the layer below is off: means
 * of neighbours cannot enlarge an error. Hence bound = sum over layers below the last of the largest
 * residual, plus sqrt(D) / 2 units of rounding a layer. */
struct gcn_accuracy {
	uint64_t nodes;                 /* with edges */
	uint64_t residual_nodes;        /* with a residual in any layer */
	double residual_mass;           /* lengths of all residuals, added up */
	double largest_residual[GCN_LAYERS_MAX + 1];
	double bound;                   /* on the error of any final embedding's layer */
	bool exact;                     /* nothing waits, no residual anywhere */
};
enum status gcn_measure(const struct gcn *gcn, struct gcn_accuracy *out, struct error *error);

/* Proves: sums equal those of the stored hidden states (memcmp), every node that no event has touched
 * since the last flush is within the threshold, and at threshold 0 after a flush the hidden states
 * equal a full recomputation. STATUS_INTERNAL says what is wrong, where. */
enum status gcn_check(const struct gcn *gcn, struct error *error);

/* ---- snapshot: one node's stored state ---- */
/* Bytes of a node's stored state: hidden states of its layers, in layer order, final row last. Layer 0 is
 * among them where it is trained: it cannot be told from the id alone. */
size_t gcn_user_state_bytes(const struct gcn *gcn);
size_t gcn_item_state_bytes(const struct gcn *gcn);
/* Neighbours that the push of a hub has still to reach, users or items: they are to be saved as pending, since
 * a restart gives their sums the hub's new hidden state. */
uint32_t gcn_hub_waiting(const struct gcn *gcn, bool *are_users);
uint32_t gcn_hub_waiting_node(const struct gcn *gcn, uint32_t index);
/* *pending: an event has touched it since the last flush. */
void gcn_save_user(const struct gcn *gcn, struct user_id user, void *state, bool *pending);
void gcn_save_item(const struct gcn *gcn, struct item_id item, void *state, bool *pending);
/* The sums are not needed to save a state: a child process goes without them. Before the first node. */
void gcn_keep_sums_from_forks(struct gcn *gcn);
/* gcn_load_begin() before the graph is loaded, whose edges are then passed over. gcn_load_nodes() makes the
 * nodes of all edges, the hidden states are set, and gcn_load_finish() rebuilds the sums from them exactly,
 * on the given threads (NULL: the caller's alone), "summing" rows. STATUS_CORRUPT: out of range. */
void gcn_load_begin(struct gcn *gcn);
enum status gcn_load_nodes(struct gcn *gcn, struct pool *threads, struct error *error);
enum status gcn_load_user(struct gcn *gcn, struct user_id user, const void *state, bool pending,
			  struct error *error);
enum status gcn_load_item(struct gcn *gcn, struct item_id item, const void *state, bool pending,
			  struct error *error);
enum status gcn_load_finish(struct gcn *gcn, struct pool *threads, const struct advance *advance,
			    struct error *error);
/* Instead of hidden states: everything is computed anew (other options than when it was saved). Makes the
 * nodes as well, if they are not there yet. */
enum status gcn_load_anew(struct gcn *gcn, struct pool *threads, const struct advance *advance, struct error *error);

#endif
