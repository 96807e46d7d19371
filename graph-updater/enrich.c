/* enrich.c - builds scoring requests.
 *
 * A request is first drafted with texts borrowed from the catalog, then cut to its limit, then copied in
 * one piece, so that the arena takes little more than the encoded size. Called by the owner of the
 * updater, on its thread. */
#include "graph-updater/enrich.h"

#include "base/clock.h"
#include "schemas/event_size.h"

/* A request being built: what scoring_request shows as const. */
struct draft {
	struct history_entry *history;          /* [history_count] */
	size_t history_count;
	struct example *examples;               /* [examples_count], entries in turn in `entries` */
	size_t examples_count;
	struct history_entry *entries;          /* [entries_count] of all examples */
	size_t entries_count;
	struct request_candidate *candidates;   /* [candidates_count] */
	size_t candidates_count;
	float *user_statistics;
};

static struct text_view title_of(const struct updater *updater, struct item_id item)
{
	const struct catalog_entry *entry = catalog_get(updater->catalog, item);
	return entry && entry->title.size ? entry->title : TEXT_LITERAL("");
}

/* The user's last `most` interactions before time_ms into entries, oldest first; their number.
 * *known: the user has an edge of any kind before time_ms. */
static size_t last_interactions(const struct updater *updater, struct user_id user, int64_t time_ms,
				uint32_t most, struct history_entry *entries, bool *known)
{
	const struct edge *shown[ENRICH_HISTORY_MAX];
	uint32_t count, before, found = 0;
	const struct edge *edges = graph_user_edges(updater->graph, user, &count);

	before = graph_edges_before(edges, count, time_ms);
	*known = before > 0;
	for (uint32_t i = before; i > 0 && found < most && before - i < ENRICH_LOOK_BACK_MAX; i--)
		if (edge_kind(&edges[i - 1]) != KIND_VIEW)
			shown[found++] = &edges[i - 1];
	for (uint32_t i = 0; i < found; i++) {
		const struct edge *edge = shown[found - 1 - i];
		struct item_id item = {edge->other};
		entries[i] = (struct history_entry){
			.item_id = item_bytes(updater->items, item),
			.text = title_of(updater, item),
			.kind = edge_kind(edge),
			.has_rating = edge_has_rating(edge),
			.rating = edge_has_rating(edge) ? graph_edge_rating(updater->graph, edge) : 0,
			.event_time_ms = edge_time_ms(edge),
		};
	}
	return found;
}

static void draft_examples(const struct updater *updater, struct user_id user, int64_t time_ms,
			   struct draft *draft)
{
	uint32_t count;
	const struct neighbour *neighbours =
		neighbours_of(updater->enrichment->neighbours, user, &count);

	for (uint32_t i = 0; i < count; i++) {
		struct history_entry *entries = draft->entries + draft->entries_count;
		bool known;
		size_t found = last_interactions(updater, neighbours[i].user, time_ms,
						 updater->options.example_history_max, entries, &known);
		if (!found)
			continue;
		draft->entries_count += found;
		draft->examples[draft->examples_count++] = (struct example){
			.similarity = (float)neighbours[i].cosine,
			.entries = entries,
			.entries_count = found,
		};
	}
}

static bool draft_candidates(const struct updater *updater, const struct impression_event *impression,
			     struct arena *arena, struct draft *draft)
{
	struct enrichment *enrichment = updater->enrichment;
	size_t count = impression->candidates_count, width = enrichment->candidate_statistics;
	struct item_id *items = arena_array(arena, count, sizeof *items);
	bool *known = arena_array(arena, count, sizeof *known);
	float *numbers = arena_array(arena, count, width * sizeof *numbers);

	draft->candidates = arena_array(arena, count, sizeof *draft->candidates);
	if (!items || !known || !numbers || !draft->candidates)
		return false;
	for (size_t i = 0; i < count; i++)
		known[i] = item_ids_find(updater->items, impression->candidates[i], &items[i]);
	for (size_t i = 0; i < count; i++) {
		if (i + 2 < count && known[i + 2])
			statistics_prefetch(enrichment->statistics, items[i + 2]);
		statistics_candidate(enrichment->statistics, known[i] ? &items[i] : NULL,
				     numbers + i * width);
		draft->candidates[i] = (struct request_candidate){
			.item_id = impression->candidates[i],
			.text = known[i] ? title_of(updater, items[i]) : TEXT_LITERAL(""),
			.statistics = numbers + i * width,
			.statistics_count = width,
		};
	}
	draft->candidates_count = count;
	return true;
}

/* ---- texts: cut to the limit, then copied ---- */

/* Calls visit(context, text) for every text of the draft; ids for those that outlive the state alone. */
static void each_text(struct draft *draft, bool ids, void (*visit)(void *context, struct text_view *text),
		      void *context)
{
	for (size_t i = 0; i < draft->history_count; i++) {
		visit(context, &draft->history[i].text);
		if (ids)
			visit(context, &draft->history[i].item_id);
	}
	for (size_t i = 0; i < draft->entries_count; i++) {
		visit(context, &draft->entries[i].text);
		if (ids)
			visit(context, &draft->entries[i].item_id);
	}
	for (size_t i = 0; i < draft->candidates_count; i++)
		visit(context, &draft->candidates[i].text);
}

static void find_longest(void *context, struct text_view *text)
{
	size_t *longest = context;
	*longest = text->size > *longest ? text->size : *longest;
}

/* Cutting every text to bytes_max: what it would save, and how many it would shorten. */
struct cut {
	size_t bytes_max;
	size_t saved;
	uint64_t texts;
};

static void measure_cut(void *context, struct text_view *text)
{
	struct cut *cut = context;
	if (text->size <= cut->bytes_max)
		return;
	cut->saved += text->size - cut->bytes_max;
	cut->texts++;
}

static void cut_text(void *context, struct text_view *text)
{
	const struct cut *cut = context;
	*text = text_cut(*text, cut->bytes_max);
}

static void add_size(void *context, struct text_view *text)
{
	size_t *sum = context;
	*sum += text->size;
}

static void copy_text(void *context, struct text_view *text)
{
	char **room = context;
	if (text->size)
		memcpy(*room, text->bytes, text->size);
	text->bytes = *room;
	*room += text->size;
}

static bool own_texts(struct draft *draft, struct arena *arena)
{
	size_t bytes = 0;
	char *room;

	each_text(draft, true, add_size, &bytes);
	room = arena_alloc(arena, bytes);
	if (!room)
		return false;
	each_text(draft, true, copy_text, &room);
	return true;
}

/* Cuts the texts so that the request fits; how many were shortened. */
static uint64_t fit(struct draft *draft, const struct scoring_request *request, size_t bytes_max)
{
	const struct event event = {.type = RECORD_SCORING_REQUEST, .scoring_request = *request};
	size_t encoded = event_encoded_bytes(&event), longest = 0;
	struct cut cut;

	if (encoded <= bytes_max)
		return 0;
	each_text(draft, false, find_longest, &longest);
	if (!longest)
		return 0;
	cut = (struct cut){.bytes_max = longest};
	do {
		cut = (struct cut){.bytes_max = cut.bytes_max / 2};
		each_text(draft, false, measure_cut, &cut);
	} while (cut.bytes_max && encoded - cut.saved > bytes_max);
	each_text(draft, false, cut_text, &cut);
	return cut.texts;
}

/* ---- the whole ---- */

static enum prediction_status later(enum prediction_status a, enum prediction_status b)
{
	return a > b ? a : b;
}

static size_t request_bytes_max(const struct updater *updater)
{
	size_t bytes_max = updater->options.request_bytes_max;
	return bytes_max ? bytes_max : event_limits_default.record_bytes_max;
}

static size_t entries_max(const struct updater *updater)
{
	return (size_t)updater->options.examples_max * updater->options.example_history_max;
}

size_t updater_enrich_bytes_max(const struct updater *updater, size_t candidates_count)
{
	const struct enrichment *enrichment = updater->enrichment;
	size_t entries = updater->options.history_max + entries_max(updater);
	size_t candidate = sizeof(struct request_candidate) + sizeof(struct item_id) + sizeof(bool) +
			   enrichment->candidate_statistics * sizeof(float);
	enum { ARRAYS = 9, ROUNDING = 16 };

	/* Where not even texts of no bytes fit, ids are all that is copied. */
	return ARRAYS * ROUNDING + entries * (sizeof(struct history_entry) + ID_BYTES_MAX) +
	       updater->options.examples_max * sizeof(struct example) +
	       enrichment->user_statistics * sizeof(float) + candidates_count * candidate +
	       request_bytes_max(updater);
}

static bool draft_user(struct updater *updater, const struct impression_event *impression,
		       struct arena *arena, struct draft *draft, bool *known)
{
	const struct updater_options *options = &updater->options;
	struct user_id user;
	bool found = user_ids_find(updater->users, impression->user_id, &user);

	*draft = (struct draft){
		.history = arena_array(arena, options->history_max, sizeof *draft->history),
		.examples = arena_array(arena, options->examples_max, sizeof *draft->examples),
		.entries = arena_array(arena, entries_max(updater), sizeof *draft->entries),
		.user_statistics = arena_array(arena, updater->enrichment->user_statistics,
					       sizeof *draft->user_statistics),
	};
	if (!draft->history || !draft->examples || !draft->entries || !draft->user_statistics)
		return false;
	*known = false;
	if (found)
		draft->history_count = last_interactions(updater, user, impression->event_time_ms,
							 options->history_max, draft->history, known);
	if (*known)
		draft_examples(updater, user, impression->event_time_ms, draft);
	statistics_user(updater->enrichment->statistics, found ? &user : NULL, impression->event_time_ms,
			draft->user_statistics);
	return true;
}

enum status updater_enrich(struct updater *updater, const struct impression_event *impression, bool late,
			   struct arena *arena, struct scoring_request *out, struct error *error)
{
	struct enrichment *enrichment = updater->enrichment;
	int64_t begin = clock_steady_ns();
	uint64_t scan_ns = neighbours_get_stats(enrichment->neighbours).scan_ns;
	struct scoring_request request;
	struct draft draft;
	uint64_t cut_texts;
	bool known;

	neighbours_epoch(enrichment->neighbours, updater->flush_epoch);
	if (!draft_user(updater, impression, arena, &draft, &known) ||
	    !draft_candidates(updater, impression, arena, &draft))
		goto full;
	request = (struct scoring_request){
		.impression_id = impression->impression_id,
		.user_id = impression->user_id,
		.status = known ? PREDICTION_OK : PREDICTION_UNKNOWN_USER,
		.history = draft.history,
		.history_count = draft.history_count,
		.examples = draft.examples,
		.examples_count = draft.examples_count,
		.user_statistics = draft.user_statistics,
		.user_statistics_count = enrichment->user_statistics,
		.candidates = draft.candidates,
		.candidates_count = draft.candidates_count,
		.graph_version = updater->graph_version,
		.event_time_ms = impression->event_time_ms,
		.has_deadline = impression->has_deadline,
		.deadline_ms = impression->deadline_ms,
	};
	cut_texts = fit(&draft, &request, request_bytes_max(updater));
	if (cut_texts)
		request.status = later(request.status, PREDICTION_TRUNCATED);
	if (late)
		request.status = later(request.status, PREDICTION_LATE);
	if (!impression->candidates_count)
		request.status = later(request.status, PREDICTION_NO_CANDIDATES);
	if (!own_texts(&draft, arena))
		goto full;
	*out = request;
	enrichment->cut_texts += cut_texts;
	enrichment->enrichments++;
	enrichment->enrich_ns += (uint64_t)(clock_steady_ns() - begin) -
				 (neighbours_get_stats(enrichment->neighbours).scan_ns - scan_ns);
	return STATUS_OK;
full:
	return error_set(error, STATUS_NO_MEMORY,
			 "no memory to enrich an impression of %zu candidates: its arena needs %zu bytes",
			 impression->candidates_count,
			 updater_enrich_bytes_max(updater, impression->candidates_count));
}
