/* enrichment.c - the life of what enriches: words and attribute counters in step with the catalog and the
 * graph, neighbours in step with the embeddings.
 *
 * Invariant: between two calls words and attributes describe exactly the present catalog and edges,
 * because the listeners see every change. Called by the owner of the updater, on its thread. */
#include "graph-updater/enrich.h"

/* ---- following the graph and the catalog ---- */

static enum status edge_changed(void *context, const struct graph_change *change, struct error *error)
{
	struct enrichment *enrichment = context;
	const struct edge *old_edge = change->old_edge, *new_edge = change->new_edge;

	(void)error;
	attributes_add(enrichment->attributes, change->item, (new_edge != NULL) - (old_edge != NULL),
		       (int64_t)(new_edge ? edge_response(new_edge) : 0) -
		       (int64_t)(old_edge ? edge_response(old_edge) : 0));
	return STATUS_OK;
}

void enrichment_loaded(struct enrichment *enrichment)
{
	const struct graph *graph = enrichment->updater->graph;
	const struct ids *items = enrichment->updater->items.table;

	for (uint32_t i = 0; i < ids_end(items); i++) {
		struct item_id item = {i};
		uint32_t count = graph_item_raters(graph, item).count;
		if (count)
			attributes_add(enrichment->attributes, item, count, (int64_t)graph_item_response(graph, item));
	}
}

static enum status entry_changed(void *context, struct item_id item, const struct catalog_entry *old_entry,
				 const struct catalog_entry *new_entry, struct error *error)
{
	struct enrichment *enrichment = context;
	const struct graph *graph = enrichment->updater->graph;
	enum status status;

	(void)old_entry;
	status = words_set(enrichment->words, item, new_entry ? new_entry->title : TEXT_LITERAL(""), error);
	if (status)
		return status;
	return attributes_set(enrichment->attributes, item, new_entry ? new_entry->attributes : NULL,
			      new_entry ? new_entry->attributes_count : 0,
			      graph_item_raters(graph, item).count,
			      (int64_t)graph_item_response(graph, item), error);
}

enum status enrichment_create(struct updater *updater, struct enrichment **out, struct error *error)
{
	const struct updater_options *options = &updater->options;
	struct enrichment *enrichment;
	struct statistics_sources sources;
	enum status status;

	if (options->history_max > ENRICH_HISTORY_MAX || options->example_history_max > ENRICH_HISTORY_MAX)
		return error_set(error, STATUS_CONFIG,
				 "enrichment.history_max and enrichment.example_history_max are at most %d",
				 ENRICH_HISTORY_MAX);
	if (options->examples_max > ENRICH_EXAMPLES_MAX)
		return error_set(error, STATUS_CONFIG, "enrichment.examples_max is at most %d",
				 ENRICH_EXAMPLES_MAX);
	enrichment = mem_alloc_zero(1, sizeof *enrichment);
	if (!enrichment)
		return error_set(error, STATUS_NO_MEMORY, "no memory for enrichment");
	enrichment->updater = updater;
	if ((status = words_create(options->items_max, &enrichment->words, error)) ||
	    (status = attributes_create(options->attributes, options->attributes_count, options->items_max,
					&enrichment->attributes, error)))
		goto cleanup;
	sources = (struct statistics_sources){
		.graph = updater->graph,
		.catalog = updater->catalog,
		.gcn = updater->gcn,
		.words = enrichment->words,
		.attributes = enrichment->attributes,
	};
	if ((status = statistics_create(&sources, &enrichment->statistics, error)) ||
	    (status = neighbours_create(updater->gcn, updater->users,
					options->example_history_max ? options->examples_max : 0,
					options->threads ? options->threads : 1,
					&enrichment->neighbours, error)))
		goto cleanup;
	statistics_user_names(enrichment->statistics, &enrichment->user_statistics);
	statistics_candidate_names(enrichment->statistics, &enrichment->candidate_statistics);
	if ((status = catalog_listen(updater->catalog,
				     (struct catalog_listener){entry_changed, enrichment}, error)) ||
	    (status = graph_listen(updater->graph, (struct graph_listener){edge_changed, enrichment}, error)))
		goto cleanup;
	*out = enrichment;
cleanup:
	if (status)
		enrichment_destroy(enrichment);
	return status;
}

void enrichment_destroy(struct enrichment *enrichment)
{
	if (!enrichment)
		return;
	neighbours_destroy(enrichment->neighbours);
	statistics_destroy(enrichment->statistics);
	attributes_destroy(enrichment->attributes);
	words_destroy(enrichment->words);
	mem_free(enrichment);
}

void enrichment_changed(struct enrichment *enrichment)
{
	/* Events alone leave kept neighbours right or detectably wrong (neighbours.h). */
	neighbours_epoch(enrichment->neighbours, enrichment->updater->flush_epoch);
}

void enrichment_get_stats(const struct enrichment *enrichment, struct updater_stats *out)
{
	struct neighbours_stats neighbours = neighbours_get_stats(enrichment->neighbours);

	out->cut_texts += enrichment->cut_texts;
	out->scans = neighbours.scans;
	out->scan_ns = neighbours.scan_ns;
	out->enrichments = enrichment->enrichments;
	out->enrich_ns = enrichment->enrich_ns;
	out->memory_bytes += sizeof *enrichment + neighbours.memory_bytes +
			     words_memory_bytes(enrichment->words) +
			     attributes_memory_bytes(enrichment->attributes) +
			     statistics_memory_bytes(enrichment->statistics);
}

const char *const *updater_user_statistics_names(const struct updater *updater, size_t *count)
{
	return statistics_user_names(updater->enrichment->statistics, count);
}

const char *const *updater_candidate_statistics_names(const struct updater *updater, size_t *count)
{
	return statistics_candidate_names(updater->enrichment->statistics, count);
}

uint32_t updater_events_to_flush(const struct updater *updater)
{
	return updater->options.flush_events - updater->events_since_flush;
}

void updater_prepare(struct updater *updater, const struct text_view *user_ids, size_t count)
{
	struct user_id users[NEAREST_BATCH_MAX];
	size_t known = 0;

	neighbours_epoch(updater->enrichment->neighbours, updater->flush_epoch);
	for (size_t i = 0; i < count; i++) {
		known += user_ids_find(updater->users, user_ids[i], &users[known]);
		if (known == NEAREST_BATCH_MAX || i + 1 == count) {
			neighbours_prepare(updater->enrichment->neighbours, users, known);
			known = 0;
		}
	}
}
