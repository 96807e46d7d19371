/* service.c - numbers of the stages as metrics, and the server that shows them.
 *
 * Idea: one table says which field of which struct becomes which series; a counter advances by the
 * difference to what was seen last, so that stats which start anew after a rewind never make a series
 * fall. Invariant: the HTTP thread reads metrics, constant texts and one atomic flag, nothing else.
 * service_tick() belongs to the pipeline's thread; the callbacks to the server's. */
#include "ops/cli/service.h"

#include "base/clock.h"
#include "base/http.h"
#include "base/log.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { SERIES_MAX = 512, TICK_MS = 100 };

enum origin { TOTALS, SOURCE, UPDATER, SCORER };
enum kind { COUNTER, GAUGE, SECONDS };  /* SECONDS: nanoseconds that only grow */

struct number {
	enum origin origin;
	enum kind kind;
	size_t offset;                  /* of a uint64_t */
	const char *name, *label_name, *label_value, *help;
};

#define TOTAL(field, name, help) {TOTALS, COUNTER, offsetof(struct pipeline_totals, field), name, NULL, NULL, help}
#define RECORDS(field, type) {TOTALS, COUNTER, offsetof(struct pipeline_totals, field), \
	"exitpoll_events_total", "type", type, "Events taken, by record type."}
#define ORDER(kind, field, name, help) {SOURCE, kind, offsetof(struct source_stats, field), name, NULL, NULL, help}
#define GRAPH(kind, field, name, help) {UPDATER, kind, offsetof(struct updater_stats, field), name, NULL, NULL, help}
#define EVENTS(field, what) {UPDATER, COUNTER, offsetof(struct updater_stats, field), \
	"exitpoll_graph_events_total", "outcome", what, "Graph events: all, and those with a remark."}
#define SCORES(kind, field, name, help) {SCORER, kind, offsetof(struct scorer_stats, field), name, NULL, NULL, help}
#define CACHE(field, what) {SCORER, COUNTER, offsetof(struct scorer_stats, field), \
	"exitpoll_token_cache_total", "outcome", what, "Texts looked up in the cache of tokens."}

static const struct number numbers[] = {
	TOTAL(records, "exitpoll_records_total", "Records taken from the source."),
	RECORDS(items, "item"),
	RECORDS(interactions, "interaction"),
	RECORDS(impressions, "impression"),
	RECORDS(requests, "scoring_request"),
	TOTAL(candidates, "exitpoll_candidates_total", "Candidates that were scored."),
	TOTAL(dead_letters, "exitpoll_dead_letters_total", "Records that could not be processed."),
	TOTAL(late, "exitpoll_late_total", "Records that came after their place in the order."),
	TOTAL(retries, "exitpoll_retries_total", "Transactions that did not commit and were done again."),
	{TOTALS, SECONDS, offsetof(struct pipeline_totals, queue_ns), "exitpoll_queue_seconds_total", NULL, NULL,
	 "Time that requests waited between their record's arrival and the scorer, summed up."},
	TOTAL(rewinds, "exitpoll_rewinds_total", "Returns to a snapshot after a rebalance."),
	TOTAL(snapshots.written, "exitpoll_snapshots_total", "Snapshots written."),
	TOTAL(snapshots.failed, "exitpoll_snapshots_failed_total",
	      "Snapshots that could not be written, or were given up."),
	{TOTALS, SECONDS, offsetof(struct pipeline_totals, snapshots.pause_ns), "exitpoll_snapshot_pause_seconds_total",
	 NULL, NULL, "Time that the stream stood still for snapshots."},
	{TOTALS, SECONDS, offsetof(struct pipeline_totals, snapshots.write_ns), "exitpoll_snapshot_write_seconds_total",
	 NULL, NULL, "Time from the beginning of a snapshot until it was on disk; the stream went on."},

	ORDER(GAUGE, waiting_records, "exitpoll_source_waiting_records", "Records waiting to be put in order."),
	ORDER(GAUGE, waiting_bytes, "exitpoll_source_waiting_bytes", "Their bytes (source.buffer_bytes_max)."),
	ORDER(COUNTER, overfull, "exitpoll_source_overfull_total",
	      "Records of one time beyond source.group_records_max, taken in arrival order."),

	GRAPH(GAUGE, users, "exitpoll_graph_users", "Users in the graph."),
	GRAPH(GAUGE, items, "exitpoll_graph_items", "Items in the graph."),
	GRAPH(GAUGE, catalog_items, "exitpoll_catalog_items", "Items with a text."),
	GRAPH(GAUGE, edges, "exitpoll_graph_edges", "Edges in the graph."),
	GRAPH(GAUGE, tombstones, "exitpoll_graph_tombstones", "Removals remembered."),
	EVENTS(graph_events, "taken"),
	EVENTS(late_events, "late"),
	EVENTS(duplicate_events, "duplicate"),
	EVENTS(void_events, "void"),
	GRAPH(COUNTER, evicted_edges, "exitpoll_graph_evicted_edges_total", "Edges that left for newer ones."),
	GRAPH(COUNTER, flushes, "exitpoll_graph_flushes_total", "Refreshes of the embeddings."),
	GRAPH(COUNTER, pushes, "exitpoll_graph_pushes_total", "Embeddings passed on to their neighbours."),
	GRAPH(COUNTER, push_edges, "exitpoll_graph_push_edges_total", "Neighbours that these have reached."),
	GRAPH(COUNTER, held_nodes, "exitpoll_graph_held_total",
	      "Embeddings left as they were, because their change was within graph.threshold."),
	GRAPH(COUNTER, held_mass_millionths, "exitpoll_graph_held_mass_millionths_total",
	      "Lengths of the changes held back, summed up, in millionths of a dimension's largest value."),
	GRAPH(GAUGE, flush_waiting, "exitpoll_graph_flush_waiting",
	      "Embeddings, and neighbours of a hub, that the flush has still to reach."),
	GRAPH(GAUGE, hubs, "exitpoll_graph_hubs_in_progress", "Hubs whose change is on its way to their neighbours."),
	GRAPH(COUNTER, enrichments, "exitpoll_enrichments_total", "Impressions enriched."),
	GRAPH(SECONDS, enrich_ns, "exitpoll_enrich_seconds_total", "Time spent on enrichment, scans included."),
	GRAPH(COUNTER, scans, "exitpoll_scans_total", "Scans for the nearest users."),
	GRAPH(SECONDS, scan_ns, "exitpoll_scan_seconds_total", "Time spent on scans for the nearest users."),

	SCORES(COUNTER, batches, "exitpoll_scorer_batches_total", "Micro-batches run."),
	SCORES(COUNTER, prompt_tokens, "exitpoll_prompt_tokens_total", "Prompt tokens given to the model."),
	SCORES(COUNTER, truncated, "exitpoll_truncated_prompts_total", "Prompts that were cut to fit."),
	SCORES(COUNTER, deadline_exits, "exitpoll_deadline_exits_total", "Candidates left early for a deadline."),
	CACHE(token_cache_hits, "hit"),
	CACHE(token_cache_misses, "miss"),
	SCORES(SECONDS, prompt_ns, "exitpoll_prompt_seconds_total", "Time spent on making prompts."),
	SCORES(SECONDS, forward_ns, "exitpoll_forward_seconds_total", "Time spent in the model."),
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

/* A counter and the value from which it advances. */
struct follower {
	struct counter *counter;
	struct gauge *gauge;            /* of COUNTER: NULL */
	uint64_t seen;
};

struct service {
	struct service_options options;
	struct metrics *metrics;
	struct http_server *server;
	int64_t ticked_ns;
	struct follower followers[NUMBERS];
	struct follower by_status[PREDICTION_STATUSES];
	struct follower exits[SCORER_LAYERS_MAX + 1];   /* made when first needed */
	struct follower commits, layer_tokens_run, layer_tokens_saved;
	struct gauge *ready, *graph_version, *graph_memory, *batch_fill, *commit_seconds;
	struct gauge *tokens_per_second, *flop_utilisation;
	struct scorer_stats seen;       /* of the last tick in which the model ran */
};

/* ---- series ---- */

static bool wanted(const struct service *service, enum origin origin)
{
	if (origin == UPDATER)
		return service->options.stage != STAGE_SCORER;
	return origin != SCORER || service->options.scorer;
}

static void make_numbers(struct service *service)
{
	for (size_t i = 0; i < NUMBERS; i++) {
		const struct number *number = &numbers[i];
		struct follower *follower = &service->followers[i];

		if (!wanted(service, number->origin))
			continue;
		if (number->kind == COUNTER)
			follower->counter = metrics_counter(service->metrics, number->name, number->help,
							    number->label_name, number->label_value);
		else
			follower->gauge = metrics_gauge(service->metrics, number->name, number->help,
							number->label_name, number->label_value);
	}
}

static void make_series(struct service *service)
{
	struct metrics *metrics = service->metrics;

	service->ready = metrics_gauge(metrics, "exitpoll_ready", "1: records can flow.", NULL, NULL);
	make_numbers(service);
	service->commits.counter = metrics_counter(metrics, "exitpoll_commits_total", "Transactions committed.",
						   NULL, NULL);
	if (strcmp(service->options.sink->class->name, "kafka") == 0)
		service->commit_seconds = metrics_gauge(metrics, "exitpoll_last_commit_seconds",
							"How long the last commit took.", NULL, NULL);
	if (wanted(service, UPDATER)) {
		service->graph_version = metrics_gauge(metrics, "exitpoll_graph_version",
						       "Graph events applied in the order.", NULL, NULL);
		service->graph_memory = metrics_gauge(metrics, "exitpoll_graph_memory_bytes",
						      "Memory of catalog, graph and embeddings.", NULL, NULL);
	}
	if (!wanted(service, SCORER))
		return;
	for (int status = 0; status < PREDICTION_STATUSES; status++)
		service->by_status[status].counter =
			metrics_counter(metrics, "exitpoll_predictions_total", "Impressions answered, by status.",
					"status", prediction_status_name((enum prediction_status)status));
	service->batch_fill = metrics_gauge(metrics, "exitpoll_scorer_batch_fill_ratio",
					    "Tokens of the average micro-batch, of scorer.batch_tokens_max.", NULL,
					    NULL);
	service->tokens_per_second =
		metrics_gauge(metrics, "exitpoll_scorer_tokens_per_second",
			      "Prompt tokens per second of the model's time, of late; shared prefixes count once.",
			      NULL, NULL);
	service->flop_utilisation =
		metrics_gauge(metrics, "exitpoll_model_flop_utilisation_ratio",
			      "Operations of the layers that ran (attention left out) per second of the model's "
			      "time, of what the backend's largest product did at start.", NULL, NULL);
	service->layer_tokens_run.counter = metrics_counter(metrics, "exitpoll_layer_tokens_total",
							    "Layers times tokens: run, and saved by exits.",
							    "state", "run");
	service->layer_tokens_saved.counter = metrics_counter(metrics, "exitpoll_layer_tokens_total", "",
							      "state", "saved");
}

/* ---- the pipeline's thread ---- */

static void follow(struct follower *follower, uint64_t value)
{
	counter_add(follower->counter, value >= follower->seen ? value - follower->seen : value);
	follower->seen = value;
}

static void follow_all(struct service *service, enum origin origin, const void *from)
{
	for (size_t i = 0; i < NUMBERS; i++) {
		struct follower *follower = &service->followers[i];
		uint64_t value;

		if (numbers[i].origin != origin)
			continue;
		memcpy(&value, (const char *)from + numbers[i].offset, sizeof value);
		if (numbers[i].kind == COUNTER)
			follow(follower, value);
		else if (numbers[i].kind == GAUGE)
			gauge_set(follower->gauge, (double)value);
		else {
			gauge_add(follower->gauge, 1e-9 * (double)(value >= follower->seen ?
								   value - follower->seen : value));
			follower->seen = value;
		}
	}
}

static void follow_exits(struct service *service, const struct scorer_stats *stats)
{
	for (int layer = 1; layer <= SCORER_LAYERS_MAX; layer++) {
		struct follower *follower = &service->exits[layer];
		char name[16];

		if (!stats->exits_at[layer])
			continue;
		if (!follower->counter) {
			snprintf(name, sizeof name, "%d", layer);
			follower->counter = metrics_counter(service->metrics, "exitpoll_exits_total",
							    "Candidates by the layer at which they left.",
							    "layer", name);
		}
		follow(follower, stats->exits_at[layer]);
	}
}

/* What the model did between two looks at it, if it did anything. */
static void rate_scorer(struct service *service, const struct scorer_stats *stats)
{
	const struct scorer_stats *seen = &service->seen;
	if (stats->forward_ns <= seen->forward_ns)
		return;
	double seconds = 1e-9 * (double)(stats->forward_ns - seen->forward_ns);
	double flops = (double)(stats->layer_tokens_run - seen->layer_tokens_run) * stats->layer_token_flops;
	gauge_set(service->tokens_per_second, (double)(stats->prompt_tokens - seen->prompt_tokens) / seconds);
	if (stats->product_flops > 0)
		gauge_set(service->flop_utilisation, flops / seconds / stats->product_flops);
	service->seen = *stats;
}

static void copy_scorer(struct service *service)
{
	struct scorer_stats stats;
	double room;

	scorer_get_stats(service->options.scorer, &stats);
	follow_all(service, SCORER, &stats);
	follow_exits(service, &stats);
	rate_scorer(service, &stats);
	follow(&service->layer_tokens_run, stats.layer_tokens_run);
	follow(&service->layer_tokens_saved, stats.layer_tokens_full > stats.layer_tokens_run ?
					     stats.layer_tokens_full - stats.layer_tokens_run : 0);
	room = (double)stats.batches * (double)service->options.batch_tokens_max;
	gauge_set(service->batch_fill, room > 0 ? (double)stats.prompt_tokens / room : 0);
}

static void copy_updater(struct service *service, const struct updater *updater)
{
	struct updater_stats stats;

	updater_get_stats(updater, &stats);
	follow_all(service, UPDATER, &stats);
	gauge_set(service->graph_version, (double)updater_graph_version(updater));
	gauge_set(service->graph_memory, (double)stats.memory_bytes);
}

void service_tick(struct service *service, const struct pipeline_totals *totals)
{
	const struct service_options *options;
	struct source_stats source;
	int64_t now = clock_steady_ns();

	if (!service || now - service->ticked_ns < TICK_MS * INT64_C(1000000))
		return;
	options = &service->options;
	service->ticked_ns = now;
	follow_all(service, TOTALS, totals);
	options->source->class->get_stats(options->source, &source);
	follow_all(service, SOURCE, &source);
	for (int status = 0; status < PREDICTION_STATUSES; status++)
		follow(&service->by_status[status], totals->by_status[status]);
	follow(&service->commits, options->sink->class->commits(options->sink));
	if (service->commit_seconds)
		gauge_set(service->commit_seconds, 1e-9 * (double)sink_kafka_commit_ns(options->sink));
	if (options->scorer)
		copy_scorer(service);
	if (pipeline_updater(options->pipeline))
		copy_updater(service, pipeline_updater(options->pipeline));
}

/* ---- the server's thread ---- */

static bool is_ready(void *context, char *why, size_t why_bytes)
{
	const struct service *service = context;

	if (pipeline_ready(service->options.pipeline))
		return true;
	snprintf(why, why_bytes, "starting, or the broker does not answer; see the log");
	return false;
}

static void collect_ready(void *context)
{
	const struct service *service = context;
	gauge_set(service->ready, pipeline_ready(service->options.pipeline));
}

static void add_rows(void *context, struct http_rows *rows)
{
	static const char *const stages[] = {"all", "graph-updater", "scorer"};
	const struct service_options *options = &((const struct service *)context)->options;

	http_row(rows, "stage", "%s", stages[options->stage]);
	http_row(rows, "from", "%s", options->from);
	http_row(rows, "to", "%s", options->to);
	if (options->state_folder)
		http_row(rows, "state", "%s", options->state_folder);
	http_row(rows, "registry", "%s", registry_describe(options->registry));
	if (options->scorer) {
		http_row(rows, "model", "%s", scorer_model_id(options->scorer));
		http_row(rows, "scorer", "%s", scorer_describe(options->scorer));
	}
}

/* ---- life ---- */

enum status service_start(const struct service_options *options, struct service **out, struct error *error)
{
	struct service *service = NULL;
	struct http_options http;
	enum status status = STATUS_NO_MEMORY;

	if (options->port == 0) {
		*out = NULL;
		return STATUS_OK;
	}
	service = mem_alloc_zero(1, sizeof *service);
	if (!service)
		return error_set(error, STATUS_NO_MEMORY, "out of memory");
	service->options = *options;
	service->metrics = metrics_create(SERIES_MAX);
	if (!service->metrics) {
		status = error_set(error, STATUS_NO_MEMORY, "out of memory");
		goto cleanup;
	}
	make_series(service);
	metrics_add_process(service->metrics);
	metrics_on_read(service->metrics, collect_ready, service);
	http = (struct http_options){
		.host = options->host,
		.port = options->port,
		.ready = is_ready,
		.rows = add_rows,
		.context = service,
		.metrics = service->metrics,
	};
	status = http_server_start(&http, &service->server, error);
	if (status != STATUS_OK)
		goto cleanup;
	log_info("http.listening", "address=%s:%d", options->host, http_server_port(service->server));
	*out = service;
	service = NULL;
cleanup:
	service_stop(service);
	return status;
}

void service_stop(struct service *service)
{
	if (!service)
		return;
	http_server_stop(service->server);
	metrics_destroy(service->metrics);
	mem_free(service);
}
