/* updater_internal.h - what is inside struct updater, for the files of this folder only.
 *
 * updater.c owns it: ids, catalog, graph, gcn, the flush rule and the state on disk. enrich.c owns
 * `enrichment` and implements updater_enrich(), updater_prepare() and the statistics names of
 * updater.h. Everything here belongs to the one writer thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_UPDATER_INTERNAL_H
#define EXITPOLL_GRAPH_UPDATER_UPDATER_INTERNAL_H

#include "graph-updater/catalog.h"
#include "graph-updater/gcn.h"
#include "graph-updater/graph.h"
#include "graph-updater/ids.h"
#include "graph-updater/nearest.h"
#include "graph-updater/updater.h"

/* Statistics, words, neighbours kept from updater_prepare(): everything that follows the graph and the
 * catalog and is not saved, because it is a function of them (restore tells the listeners of every
 * entry and edge, catalog first). */
struct enrichment;

struct updater {
	struct updater_options options;         /* attributes copied, owned; no names of files */
	struct seeds *item_seeds, *user_seeds;  /* NULL: by hash */
	struct user_ids users;
	struct item_ids items;
	struct tombstones *tombstones;
	struct catalog *catalog;
	struct graph *graph;
	struct gcn *gcn;
	struct enrichment *enrichment;

	int64_t graph_version;
	int64_t clock_ms;                       /* INT64_MIN: no event yet */
	uint32_t events_since_flush;
	bool live;                              /* flushes are bounded */
	uint64_t flush_epoch;                   /* embeddings changed: neighbours kept are stale */
	uint64_t graph_events, late_events, duplicate_events, void_events;

	struct position *positions;             /* [positions_count] of the last restore */
	size_t positions_count;
};

/* updater.c: everything but options, attributes and seeds made, or unmade (these stay). */
enum status updater_parts_create(struct updater *updater, struct error *error);
void updater_parts_destroy(struct updater *updater);

/* Implemented in enrich.c. Called when ids, catalog, graph and gcn are there and empty: registers its
 * listeners with catalog_listen() and graph_listen(). */
enum status enrichment_create(struct updater *updater, struct enrichment **out, struct error *error);
void enrichment_destroy(struct enrichment *enrichment); /* NULL ok */
/* Fills in cut_texts (added to), scans, scan_ns, enrichments, enrich_ns; adds its memory_bytes. */
void enrichment_get_stats(const struct enrichment *enrichment, struct updater_stats *out);
/* The graph, the catalog or the embeddings have changed: neighbours kept by updater_prepare() and
 * anything cached per user are void. Called before every applied event and after every flush. */
void enrichment_changed(struct enrichment *enrichment);
/* The graph has been loaded as a whole, after the catalog. */
void enrichment_loaded(struct enrichment *enrichment);

#endif
