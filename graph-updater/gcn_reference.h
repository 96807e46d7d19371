/* gcn_reference.h - the whole propagation from nothing: what everything else is tested against.
 *
 * Layer k of a node is round-half-even of the mean of its neighbours' layer k - 1, layer 0 the
 * seed. No state, no threshold, nothing incremental: a function of the graph alone. It is also the
 * full recomputation that the incremental refresh is measured against. */
#ifndef EXITPOLL_GRAPH_UPDATER_GCN_REFERENCE_H
#define EXITPOLL_GRAPH_UPDATER_GCN_REFERENCE_H

#include "graph-updater/gcn.h"

struct gcn_reference;

/* `threads` 1..64; the result does not depend on it. */
enum status gcn_reference_create(const struct gcn_options *options, uint32_t threads,
				 struct gcn_reference **out, struct error *error);
void gcn_reference_destroy(struct gcn_reference *reference);    /* NULL ok */
/* [dimensions]; NULL: the side has no such layer. Nodes without edges are zero. */
const int16_t *gcn_reference_user(const struct gcn_reference *reference, uint32_t layer, struct user_id user);
const int16_t *gcn_reference_item(const struct gcn_reference *reference, uint32_t layer, struct item_id item);

#endif
