/* snapshot_layout.h - what snapshot_save.c writes and snapshot_load.c reads, in this order. */
#ifndef EXITPOLL_GRAPH_UPDATER_SNAPSHOT_LAYOUT_H
#define EXITPOLL_GRAPH_UPDATER_SNAPSHOT_LAYOUT_H

#include <stdint.h>

enum snapshot_section_id {
	SNAPSHOT_OPTIONS = 1,   /* struct snapshot_options, then attribute names as texts */
	SNAPSHOT_STATE,         /* struct snapshot_state */
	SNAPSHOT_POSITIONS,     /* u32 topic, u32 partition, u64 offset each */
	SNAPSHOT_ITEMS,         /* text id, u32 1 + attributes or 0; then u64 time, text title, (text, text) each */
	SNAPSHOT_USERS,         /* text id, u32 edges, struct edge each with the item's place as `other` */
	SNAPSHOT_TOMBSTONES,    /* struct tombstone, sorted by hash */
	SNAPSHOT_EMBEDDINGS,    /* users, then items: u32 pending, state */
};

/* No padding: every field stands at a multiple of its size. */
struct snapshot_options {
	uint64_t schema_fingerprint;
	uint32_t dimensions, layers;
	double layer_weights[5];
	double threshold;
	uint32_t both_sides, view_edges, flush_events, attributes_count;
	uint64_t edges_max;
	uint32_t users_max, items_max;
	int64_t edge_days, tombstone_days;
	uint32_t history_max, examples_max, example_history_max, zero;
	uint64_t text_bytes_max, request_bytes_max;
	double rating_min, rating_max, positive;
	/* From version 2 on; 0: seeds by hash. */
	uint64_t item_seeds_epoch, user_seeds_epoch;
};

struct snapshot_state {
	int64_t graph_version, clock_ms;
	uint64_t events_since_flush;
	uint64_t graph_events, late_events, duplicate_events, void_events, evicted;
	uint64_t positions, items, users, edges, tombstones;
};

uint64_t snapshot_schema_fingerprint(void);

enum { SNAPSHOT_ATTRIBUTES_MAX = 256, SNAPSHOT_POSITIONS_MAX = 1 << 20 };

#endif
