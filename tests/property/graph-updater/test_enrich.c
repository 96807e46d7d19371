/* test_enrich.c - requests against naive ones, computed straight from the list of edges as of each
 * impression, under late, re-ordered, repeated, removed and evicted events, erased users, changed and deleted
 * catalog entries. Three updaters see the same events:
 *   A            the one compared with the naive computation
 *   B            other internal ids, neighbours prepared at random moments, now and then saved and replaced
 *                by one that is restored: every bit as A
 *   C            other flush boundaries: every bit as A but for what comes from the embeddings
 * Seeds are printed; argv[1] gives one. */
#include "graph-updater/updater_internal.h"
#include "tests/property/graph-updater/naive_statistics.h"

#include <stdarg.h>

enum {
	STEPS = 2600, ROUNDS = 9, IMPRESSION_EVERY = 23, LOG_MAX = 4096, CANDIDATES_MAX = 6,
	HISTORY = 6, EXAMPLES = 4, EXAMPLE_HISTORY = 3, STATISTICS = 16,
};

static uint64_t state;
static struct error error;
static struct naive naive;

static uint32_t below(uint32_t bound)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 33) % bound);
}

/* ---- events, kept so that they can come again ---- */

struct logged {
	bool is_item;
	int user, item;                 /* item -1: the whole user */
	struct naive_edge edge;
	struct naive_item entry;
};
static struct logged events[LOG_MAX];
static int events_count;
static int edges_max;

static const char *const word[] = {"red", "Blue", "CREAM", "brush", "nail", "polish", "set", "men", "gel", "oil"};

static void append(char *text, const char *format, ...)
{
	va_list arguments;
	size_t used = strlen(text);

	va_start(arguments, format);
	vsnprintf(text + used, NAIVE_TITLE - used, format, arguments);
	va_end(arguments);
}

static struct logged new_item_event(int64_t now)
{
	static int64_t unique;
	struct logged event = {.is_item = true, .item = (int)below(NAIVE_ITEMS)};

	/* No two contents of one item have one time: what decides between them is the catalog's affair. */
	event.entry.time = now - (below(4) ? 0 : below(50000)) + ++unique % 1000;
	event.entry.there = below(8) > 0;
	for (uint32_t i = below(5); i > 0; i--)
		append(event.entry.title, "%s%s", word[below(10)], below(3) ? " " : ", ");
	if (below(3))
		append(event.entry.brand, "brand%u", below(4));
	for (uint32_t i = below(4); i > 0; i--)
		append(event.entry.genre, "%sg%u", below(5) ? "|" : "||", below(5));
	return event;
}

static struct logged new_interaction(int64_t now)
{
	static const int kinds[] = {KIND_VIEW, KIND_CLICK, KIND_RATE, KIND_RATE, KIND_RATE, KIND_PURCHASE};
	struct logged event = {
		/* Some users and items have far more edges than others: more than the last 50 and 64. */
		.user = below(3) ? (int)below(NAIVE_USERS) : (int)below(3),
		.item = below(3) ? (int)below(NAIVE_ITEMS) : (int)below(3),
		.edge = {.time = now - (below(5) ? 0 : 1000 * (int64_t)below(60)), .kind = kinds[below(6)]},
	};
	uint32_t removal = below(200);

	if (removal < 4)
		event.edge.kind = KIND_REMOVE;
	if (removal == 0)
		event.item = -1;
	if (event.edge.kind == KIND_RATE) {
		event.edge.has_rating = true;
		event.edge.rating = 1 + below(5);
	}
	return event;
}

static void apply_naive(const struct logged *event)
{
	if (event->is_item) {
		if (event->entry.time > naive.catalog[event->item].time)
			naive.catalog[event->item] = event->entry;
		return;
	}
	for (int i = 0; i < NAIVE_ITEMS; i++)
		if (event->item < 0 || event->item == i)
			naive_interaction(&naive, event->user, i, &event->edge);
	naive_evict(&naive, edges_max);
}

static void apply(struct updater *updater, const struct logged *event)
{
	struct attribute attributes[2] = {{TEXT_LITERAL("brand"), text_of(event->entry.brand)},
					  {TEXT_LITERAL("genre"), text_of(event->entry.genre)}};
	struct event out;
	enum status status;

	if (event->is_item)
		out = (struct event){.type = RECORD_ITEM, .item = {
			.item_id = text_of(naive.item[event->item]),
			.title = text_of(event->entry.title),
			.attributes = attributes,
			.attributes_count = event->entry.there ? 2 : 0,
			.event_time_ms = event->entry.time,
			.deleted = !event->entry.there,
		}};
	else
		out = (struct event){.type = RECORD_INTERACTION, .interaction = {
			.user_id = text_of(naive.user[event->user]),
			.item_id = event->item < 0 ? (struct text_view){NULL, 0} :
				   text_of(naive.item[event->item]),
			.kind = (enum interaction_kind)event->edge.kind,
			.has_rating = event->edge.has_rating,
			.rating = event->edge.rating,
			.event_time_ms = event->edge.time,
		}};
	status = updater_apply(updater, &out, &error);
	if (status)
		fprintf(stderr, "%s\n", error.text);
	MUST(status == STATUS_OK);
}

/* ---- cosines from the rows ---- */

static double row_cosine(const int16_t *a, const int16_t *b, uint32_t dimensions)
{
	double dot = 0, a_norm = 0, b_norm = 0;

	for (uint32_t d = 0; a && b && d < dimensions; d++) {
		dot += (double)a[d] * b[d];
		a_norm += (double)a[d] * a[d];
		b_norm += (double)b[d] * b[d];
	}
	return a_norm > 0 && b_norm > 0 ? dot / sqrt(a_norm) / sqrt(b_norm) : 0;
}

static const int16_t *user_row(const struct updater *updater, int user)
{
	struct user_id id;
	return user_ids_find(updater->users, text_of(naive.user[user]), &id) ?
	       gcn_user_embedding(updater->gcn, id) : NULL;
}

static double user_cosine(void *context, int a, int b)
{
	const struct updater *updater = context;
	return row_cosine(user_row(updater, a), user_row(updater, b), gcn_dimensions(updater->gcn));
}

static double item_cosine(void *context, int a, int b)
{
	const struct updater *updater = context;
	struct item_id left, right;

	if (!item_ids_find(updater->items, text_of(naive.item[a]), &left) ||
	    !item_ids_find(updater->items, text_of(naive.item[b]), &right))
		return 0;
	return row_cosine(gcn_item_embedding(updater->gcn, left), gcn_item_embedding(updater->gcn, right),
			  gcn_dimensions(updater->gcn));
}

/* ---- comparisons ---- */

static void same_number(double got, double wanted, const char *name)
{
	if (fabs(got - wanted) <= 2e-6 + 2e-6 * fabs(wanted))
		return;
	fprintf(stderr, "%s: got %.9g, wanted %.9g\n", name, got, wanted);
	exit(1);
}

static void same_entries(const struct history_entry *entries, size_t count, int user, int64_t time, int most)
{
	struct naive_list list = naive_list_of(&naive, user, -1, time, most, false);

	MUST(count == (size_t)list.count);
	for (size_t i = 0; i < count; i++) {
		const struct naive_edge *edge = &naive.edge[user][list.other[i]];
		const struct naive_item *item = &naive.catalog[list.other[i]];
		MUST(text_equal(entries[i].item_id, text_of(naive.item[list.other[i]])));
		MUST(text_equal(entries[i].text, text_of(item->there ? item->title : "")));
		MUST((int)entries[i].kind == edge->kind && entries[i].event_time_ms == edge->time);
		MUST(entries[i].has_rating == edge->has_rating);
		MUST(!edge->has_rating || fabs(entries[i].rating - edge->rating) < 1e-6);
	}
}

static void same_examples(const struct updater *updater, const struct scoring_request *request, int user,
			  int64_t time)
{
	bool taken[NAIVE_USERS] = {false};
	size_t example = 0;

	for (int place = 0; place < EXAMPLES && user >= 0; place++) {
		int best = -1;
		double most = 0;
		for (int u = 0; u < NAIVE_USERS; u++) {
			double cosine;
			if (u == user || taken[u] || !user_row(updater, u) || !user_row(updater, user) ||
			    user_cosine((void *)(uintptr_t)updater, u, u) == 0)
				continue;
			cosine = user_cosine((void *)(uintptr_t)updater, user, u);
			if (best < 0 || cosine > most + 1e-13 ||
			    (cosine > most - 1e-13 && strcmp(naive.user[u], naive.user[best]) < 0)) {
				best = u;
				most = cosine;
			}
		}
		if (best < 0)
			break;
		taken[best] = true;
		if (naive_list_of(&naive, best, -1, time, EXAMPLE_HISTORY, false).count == 0)
			continue;
		MUST(example < request->examples_count);
		same_number(request->examples[example].similarity, most, "similarity");
		same_entries(request->examples[example].entries, request->examples[example].entries_count,
			     best, time, EXAMPLE_HISTORY);
		example++;
	}
	MUST(request->examples_count == example);
}

static void same_as_naive(struct updater *updater, const struct impression_event *impression, int user,
			  const int *candidates, bool late, const struct scoring_request *request)
{
	size_t user_count, count;
	const char *const *user_names = updater_user_statistics_names(updater, &user_count);
	const char *const *names = updater_candidate_statistics_names(updater, &count);
	int64_t time = impression->event_time_ms;
	double wanted[STATISTICS] = {0};
	bool known = user >= 0 && naive_list_of(&naive, user, -1, time, 1, true).count > 0;

	MUST(user_count == 4 && count == STATISTICS);
	MUST(request->status == (!impression->candidates_count ? PREDICTION_NO_CANDIDATES :
				 late ? PREDICTION_LATE : known ? PREDICTION_OK : PREDICTION_UNKNOWN_USER));
	if (user >= 0)
		same_entries(request->history, request->history_count, user, time, HISTORY);
	else
		MUST(request->history_count == 0);
	same_examples(updater, request, known ? user : -1, time);
	naive_user(&naive, user, time, wanted);
	MUST(request->user_statistics_count == user_count);
	for (size_t k = 0; k < user_count; k++)
		same_number(request->user_statistics[k], wanted[k], user_names[k]);
	MUST(request->candidates_count == impression->candidates_count);
	for (size_t c = 0; c < request->candidates_count; c++) {
		const struct request_candidate *candidate = &request->candidates[c];
		const struct naive_item *item = candidates[c] < 0 ? NULL : &naive.catalog[candidates[c]];
		MUST(text_equal(candidate->item_id, impression->candidates[c]));
		MUST(text_equal(candidate->text, text_of(item && item->there ? item->title : "")));
		MUST(candidate->statistics_count == STATISTICS);
		naive_candidate(&naive, user, candidates[c], time, wanted);
		for (size_t k = 0; k < STATISTICS; k++)
			same_number(candidate->statistics[k], wanted[k], names[k]);
	}
}

static void equal_entries(const struct history_entry *a, const struct history_entry *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		MUST(text_equal(a[i].item_id, b[i].item_id) && text_equal(a[i].text, b[i].text));
		MUST(a[i].kind == b[i].kind && a[i].has_rating == b[i].has_rating);
		MUST(memcmp(&a[i].rating, &b[i].rating, sizeof a[i].rating) == 0);
		MUST(a[i].event_time_ms == b[i].event_time_ms);
	}
}

/* Bit by bit; embeddings: also what comes from them. */
static void equal_requests(const struct scoring_request *a, const struct scoring_request *b, bool embeddings)
{
	MUST(a->status == b->status && a->graph_version == b->graph_version);
	MUST(a->history_count == b->history_count && a->candidates_count == b->candidates_count);
	equal_entries(a->history, b->history, a->history_count);
	MUST(memcmp(a->user_statistics, b->user_statistics,
		    a->user_statistics_count * sizeof(float)) == 0);
	for (size_t c = 0; c < a->candidates_count; c++) {
		const float *left = a->candidates[c].statistics, *right = b->candidates[c].statistics;
		MUST(text_equal(a->candidates[c].text, b->candidates[c].text));
		for (int k = 0; k < STATISTICS; k++)
			if (embeddings || k < 3 || k > 6)
				MUST(memcmp(&left[k], &right[k], sizeof(float)) == 0);
	}
	if (!embeddings)
		return;
	MUST(a->examples_count == b->examples_count);
	for (size_t e = 0; e < a->examples_count; e++) {
		MUST(memcmp(&a->examples[e].similarity, &b->examples[e].similarity, sizeof(float)) == 0);
		MUST(a->examples[e].entries_count == b->examples[e].entries_count);
		equal_entries(a->examples[e].entries, b->examples[e].entries, a->examples[e].entries_count);
	}
}

/* ---- one impression ---- */

static void enrich(struct updater *updater, const struct impression_event *impression, bool late,
		   struct arena *arena, struct scoring_request *out)
{
	arena_reset(arena);
	MUST(updater_enrich(updater, impression, late, arena, out, &error) == STATUS_OK);
}

/* Every allocation fails in turn: the call says so and the next one is right. */
static void starve(struct updater *updater, const struct impression_event *impression, bool late,
		   const struct scoring_request *right)
{
	for (long successes = 0; successes < 100; successes++) {
		struct scoring_request request;
		struct arena *arena = arena_create(updater_enrich_bytes_max(updater,
									    impression->candidates_count));
		enum status status;

		MUST(arena);
		mem_fail_after(successes);
		status = updater_enrich(updater, impression, late, arena, &request, &error);
		mem_fail_after(-1);
		MUST(status == STATUS_OK || status == STATUS_NO_MEMORY);
		if (status == STATUS_OK)
			equal_requests(right, &request, true);
		arena_destroy(arena);
		if (status == STATUS_OK)
			return;
	}
	MUST(!"an allocation never succeeds");
}

static void impress(struct updater *updaters[3], struct arena *arenas[3], int64_t time, int64_t clock, int step)
{
	int user = below(12) ? below(2) ? (int)below(3) : (int)below(NAIVE_USERS) : -1;
	int candidates[CANDIDATES_MAX];
	struct text_view ids[CANDIDATES_MAX];
	struct impression_event impression = {
		.impression_id = TEXT_LITERAL("i"),
		.user_id = user < 0 ? TEXT_LITERAL("stranger") : text_of(naive.user[user]),
		.candidates = ids,
		.candidates_count = below(10) ? 1 + below(CANDIDATES_MAX) : 0,
		.event_time_ms = time,
	};
	struct scoring_request requests[3];
	bool late = time < clock;

	for (size_t c = 0; c < impression.candidates_count; c++) {
		candidates[c] = below(10) ? below(3) ? (int)below(NAIVE_ITEMS) : (int)below(3) : -1;
		if (c && below(10) == 0)
			candidates[c] = candidates[c - 1];
		ids[c] = candidates[c] < 0 ? TEXT_LITERAL("nothing") : text_of(naive.item[candidates[c]]);
	}
	naive_refresh(&naive);
	naive.context = updaters[0];
	for (int i = 0; i < 3; i++)
		enrich(updaters[i], &impression, late, arenas[i], &requests[i]);
	same_as_naive(updaters[0], &impression, user, candidates, late, &requests[0]);
	equal_requests(&requests[0], &requests[1], true);
	equal_requests(&requests[0], &requests[2], false);
	MUST(requests[0].graph_version == step);
	if (below(8) == 0)
		starve(updaters[1], &impression, late, &requests[0]);
}

static struct updater *create(uint64_t id_seed, uint32_t flush_events, bool view_edges, bool both_sides)
{
	static const char *const attributes[] = {"brand", "genre"};
	struct updater_options options;
	struct updater *updater;
	enum status status;

	updater_options_defaults(&options);
	options.id_seed = id_seed;
	options.flush_events = flush_events;
	options.users_max = options.items_max = 4096;
	options.edges_max = (uint64_t)edges_max;
	options.history_max = HISTORY;
	options.examples_max = EXAMPLES;
	options.example_history_max = EXAMPLE_HISTORY;
	options.attributes = attributes;
	options.attributes_count = 2;
	options.view_edges = view_edges;
	options.both_sides = both_sides;
	options.tombstone_days = 10000;
	status = updater_create(&options, &updater, &error);
	if (status)
		fprintf(stderr, "%s\n", error.text);
	MUST(status == STATUS_OK);
	return updater;
}

/* The updater goes on as another one that has read its snapshot. */
static struct updater *restored(struct updater *updater, struct updater *fresh)
{
	char folder[] = "/tmp/exitpoll-enrich-XXXXXX", command[64];
	const struct position *positions;
	size_t count;
	enum status status;

	MUST(mkdtemp(folder));
	status = updater_save(updater, folder, NULL, 0, INT64_MAX, &error);
	if (!status)
		status = updater_restore(fresh, folder, INT64_MAX, &positions, &count, &error);
	if (status)
		fprintf(stderr, "%s\n", error.text);
	MUST(status == STATUS_OK);
	snprintf(command, sizeof command, "rm -r %s", folder);
	MUST(system(command) == 0);
	updater_destroy(updater);
	return fresh;
}

static void round_of(uint64_t seed, bool view_edges, bool both_sides, bool evict)
{
	struct updater *updaters[3];
	struct arena *arenas[3];
	int64_t now = 1000000000, clock = INT64_MIN;

	printf("seed %llu, view edges %d, both sides %d, eviction %d\n", (unsigned long long)seed, view_edges,
	       both_sides, evict);
	edges_max = evict ? 400 : 1 << 20;
	state = seed;
	events_count = 0;
	naive_init(&naive);
	naive.user_cosine = user_cosine;
	naive.item_cosine = item_cosine;
	for (int u = 0; u < NAIVE_USERS; u++)
		snprintf(naive.user[u], NAIVE_ID, "%c%u", 'a' + (char)below(26), (unsigned)(u * 37 % 101));
	for (int i = 0; i < NAIVE_ITEMS; i++)
		snprintf(naive.item[i], NAIVE_ID, "%c%u", 'a' + (char)below(26), (unsigned)(i * 37 % 101));
	updaters[0] = create(1, 7, view_edges, both_sides);
	updaters[1] = create(seed * 3 + 99, 7, view_edges, both_sides);
	updaters[2] = create(5, 31, view_edges, both_sides);
	for (int i = 0; i < 3; i++)
		MUST((arenas[i] = arena_create(updater_enrich_bytes_max(updaters[i], CANDIDATES_MAX))));

	for (int step = 0; step < STEPS; step++) {
		struct logged event = below(8) ? new_interaction(now) : new_item_event(now);
		int64_t time;
		if (events_count && below(6) == 0)
			event = events[below((uint32_t)events_count)];
		else
			events[events_count++] = event;
		apply_naive(&event);
		for (int i = 0; i < 3; i++)
			apply(updaters[i], &event);
		time = event.is_item ? event.entry.time : event.edge.time;
		clock = time > clock ? time : clock;
		if (below(3) == 0)
			now += 1000;
		if (below(30) == 0) {
			struct text_view ids[80];
			uint32_t count = below(80);
			for (uint32_t i = 0; i < count; i++)
				ids[i] = text_of(naive.user[below(NAIVE_USERS)]);
			updater_prepare(updaters[1], ids, count);
		}
		if (step % 701 == 700)
			updaters[1] = restored(updaters[1], create(seed + (uint64_t)step, 7, view_edges, both_sides));
		if (step % IMPRESSION_EVERY == 0)
			impress(updaters, arenas, below(4) ? clock : now - 1000 * (int64_t)below(200), clock,
				step + 1);
	}
	for (int i = 0; i < 3; i++) {
		arena_destroy(arenas[i]);
		updater_destroy(updaters[i]);
	}
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20261124;

	for (int round = 0; round < ROUNDS; round++)
		round_of(seed + (uint64_t)round, round % 3 == 1, round % 3 == 2, round % 4 == 3);
	return 0;
}
