/* gcn_signs.h - sums of rows whose every component is +-GCN_ONE, by counting signs: a bit a component.
 *
 * Hash seeds are such rows. All their signs fit the processor's cache where the rows do not, and 64 of them are
 * counted at once. For putting a state together (gcn_load.c); any thread once made. */
#ifndef EXITPOLL_GRAPH_UPDATER_GCN_SIGNS_H
#define EXITPOLL_GRAPH_UPDATER_GCN_SIGNS_H

#include "base/pool.h"
#include "graph-updater/chunks.h"
#include "graph-updater/graph.h"

struct gcn_signs;

/* Of rows of int16 [dimensions], of which only those asked for need be +-GCN_ONE. NULL: no memory. */
struct gcn_signs *gcn_signs_create(const struct chunks *rows, uint32_t dimensions, struct pool *threads);
void gcn_signs_destroy(struct gcn_signs *signs);        /* NULL ok */

/* sums [dimensions] over those neighbours that are edges of the GCN. */
void gcn_signs_sum(const struct gcn_signs *signs, const struct graph_neighbours *list, int64_t *sums);

#endif
