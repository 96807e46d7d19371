/* gcn_internal.h - the embeddings' inside, for gcn.c, gcn_update.c, gcn_load.c.
 *
 *   side (users | items)     node v:  meta[v]     degree in the GCN, which layers wait for a flush
 *                                     hidden[k]   int16 [D]  h^(k), layers the side has
 *                                     sums[k]     s^(k), k >= 1, in one of three forms (gcn_sums.c)
 *                                     final       int16 [D]  what readers see; one of hidden[], or mixed
 *                                     norms       int64      squared length of final
 *                                     rows        users only: codes of final, for the scan
 */
#ifndef EXITPOLL_GRAPH_UPDATER_GCN_INTERNAL_H
#define EXITPOLL_GRAPH_UPDATER_GCN_INTERNAL_H

#include "graph-updater/chunks.h"
#include "graph-updater/gcn.h"
#include "graph-updater/gcn_kernels.h"

enum { GCN_USERS, GCN_ITEMS, GCN_SIDES };

/* Degree from which sums are int64; the bound is in gcn_sums.c. */
enum { GCN_WIDE_DEGREE = 1 << 14 };
/* Neighbours above which a push may be interrupted. */
enum { GCN_HUB_DEGREE = 1 << 12 };
enum { GCN_WEIGHT_ONE = 1 << 14 };      /* layer weights in Q14 */

struct gcn_meta {
	uint32_t degree;
	uint8_t dirty;          /* bit k: layer k waits for a flush */
	bool changed;           /* final is to be mixed anew at the end of this flush */
	bool wide;              /* sums are int64, elsewhere */
	/* Layers 2 .. last - 1: how far pushes may move the sums, in length, before the residual could pass the
	 * threshold: until then the node need not be looked at. At most 0: at once. See gcn_update.c. */
	float slack[GCN_LAYERS_MAX - 2];
};

struct gcn_list {
	uint32_t *nodes;        /* [count], each once: its dirty bit is set as long as it is here */
	size_t count, capacity;
};

/* The push of a hub that is under way; see gcn_update.c. */
struct gcn_hub {
	int side;
	uint32_t layer, node;
	uint32_t cursor;        /* neighbours before it wait for the residual; 0: none is under way */
	float length;           /* not less than that of the residual */
	_Alignas(64) int16_t residual[GCN_DIMENSIONS_MAX];
};

/* What a flush has asked the memory for and not yet used; empty between flushes. See gcn_update.c. */
enum { GCN_ROWS_AHEAD = 16, GCN_LISTS_AHEAD = 4 };
/* Residuals that a push may still need: each of them has a list, or one row at least, ahead. */
enum { GCN_RESIDUALS = 32 };

struct gcn_rows_ahead {
	int side;
	uint32_t layer;
	uint32_t first, end;    /* modulo GCN_ROWS_AHEAD */
	uint32_t nodes[GCN_ROWS_AHEAD];
	const int16_t *residuals[GCN_ROWS_AHEAD];
	float lengths[GCN_ROWS_AHEAD];  /* not less than those of the residuals */
};

struct gcn_list_ahead {
	struct graph_neighbours list;
	const int16_t *residual;
	float length;
};

struct gcn_lists_ahead {
	uint32_t first, end;    /* modulo GCN_LISTS_AHEAD */
	struct gcn_list_ahead lists[GCN_LISTS_AHEAD];
};

#define GCN_UNBOUNDED UINT64_MAX

struct gcn_side {
	const struct ids *ids;
	const struct seeds *seeds;              /* NULL: by hash */
	uint32_t nodes_max;
	bool has[GCN_LAYERS_MAX + 1];
	enum gcn_form form[GCN_LAYERS_MAX + 1]; /* of the sums of layers 1 .. top */
	uint32_t top;                           /* highest layer the side has */
	int32_t weights[GCN_LAYERS_MAX + 1];    /* Q14, sum GCN_WEIGHT_ONE */
	int single;                             /* the layer that is the final row, or -1: mixed */
	struct chunks meta;
	struct chunks hidden[GCN_LAYERS_MAX + 1];
	struct chunks sums[GCN_LAYERS_MAX + 1];
	struct chunks final;                    /* only when mixed */
	struct chunks norms;
	struct nearest_rows *rows;              /* users; NULL: items */
	struct gcn_list frontier[GCN_LAYERS_MAX + 1];
	struct gcn_list changed;
	size_t wide_count;                      /* nodes whose sums are int64 */
};

struct gcn {
	struct gcn_options options;
	uint32_t last_layer;                    /* highest layer anyone has */
	double threshold_square;
	const struct gcn_kernels *kernels;
	struct gcn_side sides[GCN_SIDES];
	bool loading;                           /* hidden states and sums come from a snapshot */
	uint64_t flushes, pushes, push_edges;
	uint64_t held;                          /* looked at and left alone, being within the threshold */
	double held_mass;                       /* lengths of their residuals, added up */
	uint64_t budget;                        /* nodes and edges that this flush may still touch */
	struct gcn_hub hub;
	int16_t *fresh;                         /* [D] scratch of one step */
	int16_t *residuals;                     /* [GCN_RESIDUALS][D], in turns */
	struct gcn_lists_ahead lists_ahead;
	struct gcn_rows_ahead rows_ahead;
};

static inline struct gcn_meta *gcn_meta_of(const struct gcn_side *side, uint32_t node)
{
	return chunks_row(&side->meta, node);
}

static inline int16_t *gcn_hidden_of(const struct gcn_side *side, uint32_t layer, uint32_t node)
{
	return chunks_row(&side->hidden[layer], node);
}

static inline void *gcn_sums_of(const struct gcn_side *side, uint32_t layer, uint32_t node)
{
	return chunks_row(&side->sums[layer], node);
}

static inline int16_t *gcn_final_of(const struct gcn_side *side, uint32_t node)
{
	return chunks_row(side->single >= 0 ? &side->hidden[side->single] : &side->final, node);
}

static inline int64_t *gcn_norm_of(const struct gcn_side *side, uint32_t node)
{
	return chunks_row(&side->norms, node);
}

/* The final row, or a hidden one, takes these values [D], of squared length norm (0: no row). Everything
 * that readers see is written here. */
void gcn_set_final(const struct gcn *gcn, struct gcn_side *side, uint32_t node, const int16_t *row,
		   int64_t norm);
void gcn_set_hidden(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		    const int16_t *row, int64_t norm);

static inline struct graph_neighbours gcn_neighbours_of(const struct gcn *gcn, int side, uint32_t node)
{
	return side == GCN_USERS ? graph_neighbours_of_user(gcn->options.graph, (struct user_id){node})
				 : graph_neighbours_of_item(gcn->options.graph, (struct item_id){node});
}

/* gcn.c */
void gcn_seed(const struct gcn *gcn, const struct gcn_side *side, uint32_t node, int16_t *row);
bool gcn_reserve_node(struct gcn_side *side, uint32_t node);           /* false: no memory */
void gcn_begin_node(struct gcn *gcn, struct gcn_side *side, uint32_t node);    /* it has got its first edge */
bool gcn_mark(struct gcn_side *side, uint32_t layer, uint32_t node);    /* false: no memory */

/* gcn_sums.c: the sums of one node and layer; false: no memory */
size_t gcn_sums_row_bytes(const struct gcn_side *side, uint32_t layer, uint32_t dimensions);
bool gcn_sums_change(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		     const int16_t *row, bool add);
void gcn_sums_refresh(const struct gcn *gcn, const struct gcn_side *side, uint32_t layer, uint32_t node,
		      int16_t *fresh, int16_t *residual, int64_t *fresh_square, int64_t *residual_square);
/* The stored row of the layer has taken the residual that gcn_sums_refresh() found. */
void gcn_sums_settle(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		     const int16_t *residual);
/* The node has one edge more or less; the sums themselves stay. */
bool gcn_sums_change_degree(const struct gcn *gcn, struct gcn_side *side, uint32_t node, bool more);
int64_t gcn_sums_get(const struct gcn_side *side, uint32_t layer, uint32_t node, uint32_t dimension);
bool gcn_sums_set(const struct gcn *gcn, struct gcn_side *side, uint32_t layer, uint32_t node,
		  const int64_t *sums);
bool gcn_sums_widen(const struct gcn *gcn, struct gcn_side *side, uint32_t node);
/* A wide node that need not be so any more gives the memory back. */
void gcn_sums_narrow(const struct gcn *gcn, struct gcn_side *side, uint32_t node);
void gcn_sums_destroy(struct gcn_side *side);

/* gcn_update.c: the edge of the hub in progress, on side s, has changed; sums already follow its new h. */
bool gcn_hub_follow(struct gcn *gcn, int s, const struct graph_change *change, bool had, bool has);
/* gcn_update.c: final row of a node from its hidden states, where it is mixed. */
void gcn_mix(const struct gcn *gcn, struct gcn_side *side, uint32_t node);

#endif
