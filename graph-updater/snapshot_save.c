/* snapshot_save.c - writes a state; see snapshot.h for what and snapshot_layout.h for how.
 *
 * Nothing of it depends on internal ids or on the order in which the state came about. */
#include "graph-updater/snapshot.h"
#include "graph-updater/snapshot_layout.h"

#include "schemas/codec.h"

#include <xxhash.h>

uint64_t snapshot_schema_fingerprint(void)
{
	const char *item = codec_schema_json(RECORD_ITEM),
		*interaction = codec_schema_json(RECORD_INTERACTION);

	return XXH3_64bits_withSeed(interaction, strlen(interaction), XXH3_64bits(item, strlen(item)));
}

static void put_options(struct snapshot_writer *writer, const struct updater_options *options)
{
	struct snapshot_options stored = {
		.schema_fingerprint = snapshot_schema_fingerprint(),
		.dimensions = options->dimensions,
		.layers = options->layers,
		.threshold = options->threshold,
		.both_sides = options->both_sides,
		.view_edges = options->view_edges,
		.flush_events = options->flush_events,
		.attributes_count = (uint32_t)options->attributes_count,
		.edges_max = options->edges_max,
		.users_max = options->users_max,
		.items_max = options->items_max,
		.edge_days = options->edge_days,
		.tombstone_days = options->tombstone_days,
		.history_max = options->history_max,
		.examples_max = options->examples_max,
		.example_history_max = options->example_history_max,
		.text_bytes_max = options->text_bytes_max,
		.request_bytes_max = options->request_bytes_max,
		.rating_min = options->rating_min,
		.rating_max = options->rating_max,
		.positive = options->positive,
		.item_seeds_epoch = options->item_seeds_epoch,
		.user_seeds_epoch = options->user_seeds_epoch,
	};

	memcpy(stored.layer_weights, options->layer_weights, sizeof stored.layer_weights);
	snapshot_section(writer, SNAPSHOT_OPTIONS);
	snapshot_put(writer, &stored, sizeof stored);
	for (size_t a = 0; a < options->attributes_count; a++)
		snapshot_put_text(writer, options->attributes[a], strlen(options->attributes[a]));
}

static void put_positions(struct snapshot_writer *writer, const struct position *positions, size_t count)
{
	snapshot_section(writer, SNAPSHOT_POSITIONS);
	for (size_t p = 0; p < count; p++) {
		snapshot_put_u32(writer, (uint32_t)positions[p].topic);
		snapshot_put_u32(writer, (uint32_t)positions[p].partition);
		snapshot_put_u64(writer, (uint64_t)positions[p].offset);
	}
}

static void put_items(struct snapshot_writer *writer, const struct updater *updater, const uint32_t *items,
		      uint32_t count)
{
	snapshot_section(writer, SNAPSHOT_ITEMS);
	for (uint32_t i = 0; i < count; i++) {
		struct item_id item = {items[i]};
		struct text_view bytes = item_bytes(updater->items, item);
		const struct catalog_entry *entry = catalog_get(updater->catalog, item);
		snapshot_put_text(writer, bytes.bytes, bytes.size);
		snapshot_put_u32(writer, entry ? entry->attributes_count + 1 : 0);
		if (!entry)
			continue;
		snapshot_put_u64(writer, (uint64_t)entry->event_time_ms);
		snapshot_put_text(writer, entry->title.bytes, entry->title.size);
		for (uint32_t a = 0; a < entry->attributes_count; a++) {
			snapshot_put_text(writer, entry->attributes[a].name.bytes,
					  entry->attributes[a].name.size);
			snapshot_put_text(writer, entry->attributes[a].value.bytes,
					  entry->attributes[a].value.size);
		}
	}
}

/* `places[item]` is the item's place among the sorted ones. */
static void put_users(struct snapshot_writer *writer, const struct updater *updater, const uint32_t *users,
		      uint32_t count, const uint32_t *places)
{
	snapshot_section(writer, SNAPSHOT_USERS);
	for (uint32_t u = 0; u < count; u++) {
		struct text_view bytes = user_bytes(updater->users, (struct user_id){users[u]});
		uint32_t edges_count;
		const struct edge *edges = graph_user_edges(updater->graph, (struct user_id){users[u]},
							    &edges_count);
		snapshot_put_text(writer, bytes.bytes, bytes.size);
		snapshot_put_u32(writer, edges_count);
		for (uint32_t e = 0; e < edges_count; e++) {
			struct edge edge = edges[e];
			edge.other = places[edge.other];
			snapshot_put(writer, &edge, sizeof edge);
		}
	}
}

/* [nodes of that side], true: a hub in progress has still to reach it. */
static bool *hub_waiting(const struct updater *updater, bool *are_users)
{
	uint32_t count = gcn_hub_waiting(updater->gcn, are_users);
	const struct ids *ids = *are_users ? updater->users.table : updater->items.table;
	bool *waiting = mem_alloc_zero(ids_end(ids), sizeof *waiting);

	for (uint32_t n = 0; n < count && waiting; n++)
		waiting[gcn_hub_waiting_node(updater->gcn, n)] = true;
	return waiting;
}

static enum status put_embeddings(struct snapshot_writer *writer, const struct updater *updater,
				  const uint32_t *users, uint32_t users_count, const uint32_t *items,
				  uint32_t items_count, struct error *error)
{
	size_t user_bytes_each = gcn_user_state_bytes(updater->gcn),
		item_bytes_each = gcn_item_state_bytes(updater->gcn);
	unsigned char *state = mem_alloc(user_bytes_each > item_bytes_each ? user_bytes_each
					 : item_bytes_each);
	bool pending, users_wait, *waiting = hub_waiting(updater, &users_wait);

	if (!state || !waiting) {
		mem_free(state);
		mem_free(waiting);
		return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	}
	snapshot_section(writer, SNAPSHOT_EMBEDDINGS);
	for (uint32_t u = 0; u < users_count; u++) {
		gcn_save_user(updater->gcn, (struct user_id){users[u]}, state, &pending);
		snapshot_put_u32(writer, pending || (users_wait && waiting[users[u]]));
		snapshot_put(writer, state, user_bytes_each);
	}
	for (uint32_t i = 0; i < items_count; i++) {
		gcn_save_item(updater->gcn, (struct item_id){items[i]}, state, &pending);
		snapshot_put_u32(writer, pending || (!users_wait && waiting[items[i]]));
		snapshot_put(writer, state, item_bytes_each);
	}
	mem_free(state);
	mem_free(waiting);
	return STATUS_OK;
}

enum status snapshot_write(const struct updater *updater, const char *path, const struct position *positions,
			   size_t positions_count, const struct snapshot_faults *faults, struct error *error)
{
	struct snapshot_writer *writer = NULL;
	struct graph_counts counts = graph_get_counts(updater->graph);
	uint32_t *users = NULL, *items = NULL, *places = NULL, users_count, items_count;
	struct tombstone *tombstones = NULL;
	struct snapshot_state state;
	size_t tombstones_kept;
	enum status status;

	if (positions_count > SNAPSHOT_POSITIONS_MAX ||
	    updater->options.attributes_count > SNAPSHOT_ATTRIBUTES_MAX)
		return error_set(error, STATUS_INTERNAL, "snapshot: %zu positions, %zu attributes",
				 positions_count,
				 updater->options.attributes_count);
	if ((status = ids_sorted(updater->users.table, &users, &users_count, error)) ||
	    (status = ids_sorted(updater->items.table, &items, &items_count, error)) ||
	    (status = tombstones_sorted(updater->tombstones, updater->clock_ms, &tombstones, &tombstones_kept,
					error)))
		goto cleanup;
	places = mem_alloc_array(ids_end(updater->items.table), sizeof *places);
	if (!places) {
		status = error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
		goto cleanup;
	}
	for (uint32_t i = 0; i < items_count; i++)
		places[items[i]] = i;
	status = snapshot_writer_create(path, faults, &writer, error);
	if (status)
		goto cleanup;
	state = (struct snapshot_state){
		.graph_version = updater->graph_version,
		.clock_ms = updater->clock_ms,
		.events_since_flush = updater->events_since_flush,
		.graph_events = updater->graph_events,
		.late_events = updater->late_events,
		.duplicate_events = updater->duplicate_events,
		.void_events = updater->void_events,
		.evicted = counts.evicted,
		.positions = positions_count,
		.items = items_count,
		.users = users_count,
		.edges = counts.edges,
		.tombstones = tombstones_kept,
	};
	put_options(writer, &updater->options);
	snapshot_section(writer, SNAPSHOT_STATE);
	snapshot_put(writer, &state, sizeof state);
	put_positions(writer, positions, positions_count);
	put_items(writer, updater, items, items_count);
	put_users(writer, updater, users, users_count, places);
	snapshot_section(writer, SNAPSHOT_TOMBSTONES);
	snapshot_put(writer, tombstones, tombstones_kept * sizeof *tombstones);
	status = put_embeddings(writer, updater, users, users_count, items, items_count, error);
	if (!status)
		status = snapshot_writer_finish(&writer, error);
cleanup:
	snapshot_writer_abort(&writer);
	mem_free(users);
	mem_free(items);
	mem_free(places);
	mem_free(tombstones);
	return status;
}
