/* updater.c - the stage's face: what an event does, the flush rule, and what can be seen from outside.
 *
 * updater_apply() moves the clock, counts the event into graph_version, changes catalog or graph (whose
 * listeners follow), and flushes the embeddings after every flush_events well-formed interactions. So
 * the state is a function of the events in their order. enrichment.c and enrich.c answer impressions
 * from it, updater_state.c keeps it on disk. One thread. */
#include "graph-updater/updater_internal.h"

#include "base/log.h"

#include <inttypes.h>
#include <math.h>

/* Nodes and edges that a live flush may touch: a few milliseconds. */
enum { FLUSH_WORK_MAX = 1 << 17 };
enum { TOMBSTONES_MAX = 50000000, NODES_MAX = 1 << 30 };
#define DAY_MS INT64_C(86400000)

void updater_options_defaults(struct updater_options *options)
{
	*options = (struct updater_options){
		.dimensions = 64,
		.layers = 3,
		.layer_weights = {0, 0, 0, 1},
		.threshold = 0.03,
		.flush_events = 256,
		.edges_max = 100000000,
		.users_max = 20000000,
		.items_max = 20000000,
		.tombstone_days = 7,
		.threads = 1,
		.history_max = 15,
		.examples_max = 4,
		.example_history_max = 5,
		.text_bytes_max = 512,
		.rating_min = 1,
		.rating_max = 5,
		.positive = 0.7,
	};
}

/* ---- making and unmaking ---- */

static enum status check_options(const struct updater_options *options, struct error *error)
{
	if (!options->flush_events)
		return error_set(error, STATUS_CONFIG,
				 "graph.flush_events: 0 would never refresh the embeddings");
	if (!options->users_max || !options->items_max || !options->edges_max ||
	    options->users_max > NODES_MAX ||
	    options->items_max > NODES_MAX)
		return error_set(error, STATUS_CONFIG, "graph.users_max, graph.items_max (at most %d) and "
				 "graph.edges_max are at least 1", (int)NODES_MAX);
	if (options->tombstone_days < 0 || options->tombstone_days > GRAPH_TIME_MAX / DAY_MS)
		return error_set(error, STATUS_CONFIG, "graph.tombstone_days: %lld is outside 0..%lld",
				 (long long)options->tombstone_days, (long long)(GRAPH_TIME_MAX / DAY_MS));
	if (!options->text_bytes_max || options->text_bytes_max > 1 << 16)
		return error_set(error, STATUS_CONFIG, "item.text_bytes_max: %zu is outside 1..65536",
				 options->text_bytes_max);
	return STATUS_OK;
}

/* Names are copied, so that the updater depends on nobody's memory. */
static enum status copy_attributes(struct updater *updater, const struct updater_options *options,
				   struct error *error)
{
	char **names = mem_alloc_zero(options->attributes_count, sizeof *names);

	updater->options.attributes = (const char *const *)names;
	if (!names)
		return error_set(error, STATUS_NO_MEMORY, "updater: out of memory");
	for (size_t a = 0; a < options->attributes_count; a++) {
		names[a] = mem_copy_string(options->attributes[a]);
		if (!names[a])
			return error_set(error, STATUS_NO_MEMORY, "updater: out of memory");
	}
	return STATUS_OK;
}

/* The trained seeds of one side, if it has any. */
static enum status open_seeds(const char *name, uint32_t dimensions, uint64_t *epoch, struct seeds **out,
			      struct error *error)
{
	enum status status;

	if (!name)
		return *epoch ? seeds_create_absent(*epoch, out, error) : STATUS_OK;
	if (dimensions < 16 || dimensions > GCN_DIMENSIONS_MAX)
		return error_set(error, STATUS_CONFIG, "graph.dimensions: %u is not within 16..%d", dimensions,
				 (int)GCN_DIMENSIONS_MAX);
	status = seeds_open(name, dimensions, out, error);
	if (status)
		return status;
	*epoch = seeds_epoch(*out);
	log_info("seeds.loaded", "name=%s rows=%u epoch=%016" PRIx64, name, seeds_count(*out), *epoch);
	return STATUS_OK;
}

static enum status create_graph(struct updater *updater, struct error *error)
{
	const struct updater_options *options = &updater->options;
	struct graph_options graph = {
		.users_max = options->users_max,
		.items_max = options->items_max,
		.edges_max = options->edges_max,
		.edge_days = options->edge_days,
		.view_edges = options->view_edges,
		.rating_min = options->rating_min,
		.rating_max = options->rating_max,
		.users = updater->users,
		.items = updater->items,
		.tombstones = updater->tombstones,
	};
	struct gcn_options gcn = {
		.dimensions = options->dimensions,
		.layers = options->layers,
		.both_sides = options->both_sides,
		.user_seeds = updater->user_seeds,
		.item_seeds = updater->item_seeds,
		.threshold = options->threshold,
		.users_max = options->users_max,
		.items_max = options->items_max,
		.users = updater->users,
		.items = updater->items,
	};
	enum status status = graph_create(&graph, &updater->graph, error);

	if (status)
		return status;
	for (size_t k = 0; k <= GCN_LAYERS_MAX; k++)
		gcn.layer_weights[k] = options->layer_weights[k];
	gcn.graph = updater->graph;
	status = gcn_create(&gcn, &updater->gcn, error);
	if (status)
		return status;
	gcn_keep_sums_from_forks(updater->gcn);
	return graph_listen(updater->graph, gcn_listener(updater->gcn), error);
}

enum status updater_parts_create(struct updater *updater, struct error *error)
{
	const struct updater_options *options = &updater->options;
	struct catalog_options catalog;
	enum status status;

	updater->clock_ms = INT64_MIN;
	updater->flush_epoch = 1;
	if ((status = ids_create("users", options->users_max, options->id_seed, &updater->users.table,
				 error)) ||
	    (status = ids_create("items", options->items_max, options->id_seed, &updater->items.table,
				 error)) ||
	    (status = tombstones_create(options->tombstone_days * DAY_MS, TOMBSTONES_MAX,
					&updater->tombstones,
					error)))
		return status;
	catalog = (struct catalog_options){options->items_max, options->text_bytes_max, updater->items,
					   updater->tombstones};
	if ((status = catalog_create(&catalog, &updater->catalog, error)) ||
	    (status = create_graph(updater, error)))
		return status;
	return enrichment_create(updater, &updater->enrichment, error);
}

void updater_parts_destroy(struct updater *updater)
{
	struct updater kept = {
		.options = updater->options,
		.item_seeds = updater->item_seeds,
		.user_seeds = updater->user_seeds,
	};

	enrichment_destroy(updater->enrichment);
	gcn_destroy(updater->gcn);
	graph_destroy(updater->graph);
	catalog_destroy(updater->catalog);
	tombstones_destroy(updater->tombstones);
	ids_destroy(updater->items.table);
	ids_destroy(updater->users.table);
	mem_free(updater->positions);
	*updater = kept;
}

enum status updater_create(const struct updater_options *options, struct updater **out,
			   struct error *error)
{
	struct updater *updater;
	enum status status = check_options(options, error);

	if (status)
		return status;
	updater = mem_alloc_zero(1, sizeof *updater);
	if (!updater)
		return error_set(error, STATUS_NO_MEMORY, "updater: out of memory");
	updater->options = *options;
	status = copy_attributes(updater, options, error);
	if (!status)
		status = open_seeds(options->item_seeds, options->dimensions, &updater->options.item_seeds_epoch,
				    &updater->item_seeds, error);
	if (!status)
		status = open_seeds(options->user_seeds, options->dimensions, &updater->options.user_seeds_epoch,
				    &updater->user_seeds, error);
	updater->options.item_seeds = updater->options.user_seeds = NULL;
	if (!status)
		status = updater_parts_create(updater, error);
	if (status) {
		updater_destroy(updater);
		return status;
	}
	*out = updater;
	return STATUS_OK;
}

void updater_destroy(struct updater *updater)
{
	char **names;

	if (!updater)
		return;
	updater_parts_destroy(updater);
	seeds_destroy(updater->item_seeds);
	seeds_destroy(updater->user_seeds);
	names = (char **)updater->options.attributes;
	for (size_t a = 0; names && a < updater->options.attributes_count; a++)
		mem_free(names[a]);
	mem_free(names);
	mem_free(updater);
}

/* ---- events ---- */

/* Live, a flush is bounded, so that hubs do not stall the stream, and goes on when the next one is due; in a
 * backfill it is finished before the next event, so that the state follows from the order alone. */
static enum status flush(struct updater *updater, struct error *error)
{
	enum status status;
	bool finished = false;

	if (updater->live) {
		status = gcn_flush_some(updater->gcn, FLUSH_WORK_MAX, &finished, error);
	} else {
		status = gcn_flush(updater->gcn, error);
		finished = status == STATUS_OK;
	}
	/* An unfinished one counts as an event: it waits for the next flush. */
	updater->events_since_flush = !finished;
	updater->flush_epoch++;
	enrichment_changed(updater->enrichment);
	return status;
}

enum status updater_flush(struct updater *updater, struct error *error)
{
	updater->live = true;
	return flush(updater, error);
}

static enum status apply_item(struct updater *updater, const struct item_event *item, int64_t clock_ms,
			      struct error *error)
{
	enum catalog_effect effect;
	enum status status = catalog_apply(updater->catalog, item, clock_ms, &effect, error);

	if (status)
		return status;
	updater->duplicate_events += effect == CATALOG_DUPLICATE;
	updater->void_events += effect == CATALOG_VOID;
	return STATUS_OK;
}

static enum status apply_interaction(struct updater *updater, const struct interaction_event *interaction,
				     int64_t clock_ms, struct error *error)
{
	enum graph_effect effect;
	enum status status = graph_apply(updater->graph, interaction, clock_ms, &effect, error);

	if (status)
		return status;
	updater->graph_events++;
	updater->events_since_flush++;
	updater->duplicate_events += effect == GRAPH_DUPLICATE;
	updater->void_events += effect == GRAPH_VOID;
	return STATUS_OK;
}

enum status updater_apply(struct updater *updater, const struct event *event, struct error *error)
{
	int64_t time_ms = event_time_ms(event);
	int64_t clock_ms = time_ms > updater->clock_ms ? time_ms : updater->clock_ms;
	enum status status;

	if (time_ms < 0 || time_ms > GRAPH_TIME_MAX)
		return error_set(error, STATUS_BAD_RECORD,
				 "event_time %lld is outside 0..%lld (the year 2527)",
				 (long long)time_ms, (long long)GRAPH_TIME_MAX);
	if (updater->graph_version % UPDATER_MEMORY_EVENTS == 0) {
		status = updater_check_memory(updater, error);
		if (status)
			return status;
	}
	enrichment_changed(updater->enrichment);
	if (event->type == RECORD_ITEM)
		status = apply_item(updater, &event->item, clock_ms, error);
	else if (event->type == RECORD_INTERACTION)
		status = apply_interaction(updater, &event->interaction, clock_ms, error);
	else
		return error_set(error, STATUS_INTERNAL, "updater: a %s is not applied",
				 record_type_name(event->type));
	if (status)
		return status;
	updater->late_events += time_ms < updater->clock_ms;
	updater->clock_ms = clock_ms;
	updater->graph_version++;
	if (updater->events_since_flush >= updater->options.flush_events)
		return flush(updater, error);
	return STATUS_OK;
}

/* ---- looking inside ---- */

int64_t updater_graph_version(const struct updater *updater)
{
	return updater->graph_version;
}

int64_t updater_clock_ms(const struct updater *updater)
{
	return updater->clock_ms;
}

void updater_get_stats(const struct updater *updater, struct updater_stats *out)
{
	struct graph_counts counts = graph_get_counts(updater->graph);
	struct gcn_stats gcn = gcn_get_stats(updater->gcn);

	*out = (struct updater_stats){
		.users = ids_count(updater->users.table),
		.items = ids_count(updater->items.table),
		.catalog_items = catalog_count(updater->catalog),
		.edges = counts.edges,
		.tombstones = tombstones_count(updater->tombstones),
		.graph_events = updater->graph_events,
		.late_events = updater->late_events,
		.duplicate_events = updater->duplicate_events,
		.void_events = updater->void_events,
		.evicted_edges = counts.evicted,
		.cut_texts = catalog_cut_texts(updater->catalog),
		.flushes = gcn.flushes,
		.pushes = gcn.pushes,
		.push_edges = gcn.push_edges,
		.held_nodes = gcn.held,
		.held_mass_millionths = (uint64_t)(gcn.held_mass * 1e6),
		.flush_waiting = gcn.waiting,
		.hubs = gcn.hub_neighbours != 0,
		.memory_bytes = sizeof *updater + ids_memory(updater->users.table) +
				ids_memory(updater->items.table) + tombstones_memory(updater->tombstones) +
				catalog_memory(updater->catalog) + graph_memory(updater->graph) + gcn.memory_bytes +
				(updater->item_seeds ? seeds_memory(updater->item_seeds) : 0) +
				(updater->user_seeds ? seeds_memory(updater->user_seeds) : 0),
	};
	enrichment_get_stats(updater->enrichment, out);
}

enum status updater_check_memory(const struct updater *updater, struct error *error)
{
	struct updater_stats stats;

	if (!updater->options.memory_max_bytes)
		return STATUS_OK;
	updater_get_stats(updater, &stats);
	if (stats.memory_bytes <= updater->options.memory_max_bytes)
		return STATUS_OK;
	return error_set(error, STATUS_NO_MEMORY,
			 "graph.memory_max_bytes = %" PRIu64 " is reached: %zu bytes for %" PRIu64 " users, %" PRIu64
			 " items, %" PRIu64 " edges: raise it, or evict with graph.edges_max or graph.edge_days",
			 updater->options.memory_max_bytes, stats.memory_bytes, stats.users, stats.items, stats.edges);
}

enum status updater_check(const struct updater *updater, struct error *error)
{
	enum status status = graph_check(updater->graph, error);

	return status ? status : gcn_check(updater->gcn, error);
}
