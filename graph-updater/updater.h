/* updater.h - the graph-updater stage: events in, enriched scoring requests out, state on disk.
 *
 * Catalog, bipartite graph, GCN embeddings, nearest users and fresh statistics behind one face. The
 * state after a prefix of the total order is a function of that prefix alone (flush rule: embeddings
 * are refreshed after every flush_events graph events of the order; an impression triggers none).
 * One thread writes and enriches; readers of embeddings never block it. */
#ifndef EXITPOLL_GRAPH_UPDATER_UPDATER_H
#define EXITPOLL_GRAPH_UPDATER_UPDATER_H

#include "base/status.h"
#include "schemas/topic.h"

struct updater;

enum { UPDATER_MEMORY_EVENTS = 64 };

struct updater_options {
	/* graph.* */
	uint32_t dimensions;            /* graph.dimensions, 64 (32..256, multiple of 16) */
	uint32_t layers;                /* graph.layers, 3 (1..4) */
	double layer_weights[5];        /* graph.layer_weights, default all weight on the last layer */
	bool both_sides;                /* graph.seeds = items (false) | both */
	const char *item_seeds, *user_seeds;    /* graph.item_seeds, graph.user_seeds: see seeds.h; NULL: by hash */
	/* The epochs of those files, filled in by the updater; given without a file, rows come with the snapshot
	 * and nothing can be applied to it: for inspect and export. */
	uint64_t item_seeds_epoch, user_seeds_epoch;
	double threshold;               /* graph.threshold, 0.03; 0 is exact */
	uint32_t flush_events;          /* graph.flush_events, 256 */
	uint64_t edges_max;             /* graph.edges_max, oldest are evicted; default 100,000,000 */
	uint32_t users_max;             /* graph.users_max, default 20,000,000 */
	uint32_t items_max;             /* graph.items_max, default 20,000,000 */
	/* graph.memory_max_bytes: what updater_stats.memory_bytes may come to, 0: anything. Looked at every
	 * UPDATER_MEMORY_EVENTS events and after a restore, so passed by at most what so many allocate. */
	uint64_t memory_max_bytes;
	int64_t edge_days;              /* graph.edge_days, 0: keep */
	int64_t tombstone_days;         /* graph.tombstone_days, 7 */
	bool view_edges;                /* graph.view_edges, false */
	uint32_t threads;               /* graph.threads: share the search for similar users; default 1 */
	uint64_t id_seed;               /* tests: permutes the order in which internal ids are given out */
	/* enrichment.* */
	uint32_t history_max;           /* enrichment.history_max, 15 */
	uint32_t examples_max;          /* enrichment.examples_max, 4 */
	uint32_t example_history_max;   /* enrichment.example_history_max, 5 */
	size_t text_bytes_max;          /* item.text_bytes_max, 512 */
	/* Encoded size of a scoring request from which its texts are cut further (TRUNCATED); 0: the default
	 * record limit. Statistics and ids are never cut. */
	size_t request_bytes_max;
	/* statistics.* */
	double rating_min, rating_max;  /* statistics.rating_scale = "1..5" */
	double positive;                /* statistics.positive: a response at or above counts as liked, .7 */
	const char *const *attributes;  /* statistics.attributes: names [attributes_count], e.g. brand */
	size_t attributes_count;
};
void updater_options_defaults(struct updater_options *options);

enum status updater_create(const struct updater_options *options, struct updater **out,
			   struct error *error);
void updater_destroy(struct updater *updater);          /* NULL ok */

/* An item or interaction in its place in the order. BAD class: nothing changed (dead letter);
 * STATUS_LIMIT of a growth limit comes back as STATUS_NO_MEMORY with a clear text, and nothing changed: fatal. */
enum status updater_apply(struct updater *updater, const struct event *event, struct error *error);

/* Enriches an impression as of this very place. Everything in *out lives in `arena` or is borrowed
 * from the impression. `late`: the impression is older than the state's clock. Never fails for what
 * the impression says: unknown users and items, no candidates, repeats have defined answers. */
enum status updater_enrich(struct updater *updater, const struct impression_event *impression, bool late,
			   struct arena *arena, struct scoring_request *out, struct error *error);

/* The most that one call takes from its arena: an arena with this much left is always enough. */
size_t updater_enrich_bytes_max(const struct updater *updater, size_t candidates_count);

/* Hint: these users' neighbours will be asked for before the next flush (flush_events); lets many queries
 * share one scan, and events in between cost nothing. Changes no result. */
void updater_prepare(struct updater *updater, const struct text_view *user_ids, size_t count);

/* Graph events until the next flush, >= 1: how far ahead updater_prepare() is worth calling. */
uint32_t updater_events_to_flush(const struct updater *updater);

int64_t updater_graph_version(const struct updater *updater);
int64_t updater_clock_ms(const struct updater *updater);        /* latest event time applied; INT64_MIN: none */

/* Names of the statistics in the order of the request's arrays. */
const char *const *updater_user_statistics_names(const struct updater *updater, size_t *count);
const char *const *updater_candidate_statistics_names(const struct updater *updater, size_t *count);

/* ---- state ---- */
/* Writes <folder>/snapshot-<graph_version>.snap (temporary, fsync, rename, fsync of the folder) and keeps
 * the newest three and one whose clock is before oldest_unanswered_ms (INT64_MAX: nothing waits). */
enum status updater_save(const struct updater *updater, const char *folder,
			 const struct position *positions, size_t positions_count,
			 int64_t oldest_unanswered_ms, struct error *error);
/* Restores the newest valid snapshot whose clock is before not_after_ms (INT64_MAX: any) into a fresh
 * updater: an impression sees nothing at or after its own time, so a clock equal to it may be too late. A
 * damaged one falls back to the one before and says so in the log. No usable snapshot: STATUS_NOT_FOUND, the
 * updater is empty. *positions is owned by the updater until the next call. */
enum status updater_restore(struct updater *updater, const char *folder, int64_t not_after_ms,
			    const struct position **positions, size_t *positions_count,
			    struct error *error);

/* Refreshes the embeddings at once: for a live run that has waited 2 ms since the last event. From then on
 * flushes are bounded: what a hub leaves over waits for the next one, and readers see embeddings in which
 * a part of its neighbours has its change. A run that must equal its replay bit for bit at a threshold above
 * 0 never calls it. */
enum status updater_flush(struct updater *updater, struct error *error);

/* ---- looking inside (inspect, export, metrics); owner thread ---- */
/* Proves the invariants of the state: see graph_check() and gcn_check(). STATUS_INTERNAL says what is
 * wrong and where. */
enum status updater_check(const struct updater *updater, struct error *error);

struct updater_stats {
	uint64_t users, items, catalog_items, edges, tombstones;
	uint64_t graph_events, late_events, duplicate_events, void_events, evicted_edges, cut_texts;
	uint64_t flushes, pushes;
	uint64_t push_edges;            /* neighbours that pushes have reached */
	uint64_t held_nodes;            /* nodes looked at in a flush and left alone, within graph.threshold */
	uint64_t held_mass_millionths;  /* lengths of their residuals, added up; an embedding's is at most sqrt(D) */
	uint64_t flush_waiting;         /* nodes, and neighbours of a hub, that the flush has still to reach */
	uint64_t hubs;                  /* hubs whose push is under way: 0 or 1 */
	uint64_t scans, scan_ns, enrichments, enrich_ns;
	size_t memory_bytes;
};
void updater_get_stats(const struct updater *updater, struct updater_stats *out);
/* STATUS_NO_MEMORY: more than memory_max_bytes is in use. */
enum status updater_check_memory(const struct updater *updater, struct error *error);

#endif
