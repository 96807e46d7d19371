/* test_graph.c - the graph against a naive one: a list of edges and a list of removals, nothing else. */
#include "tests/property/graph-updater/graph_world.h"

#include <math.h>

enum { PAIRS_MAX = 60000, REMOVALS_MAX = 60000 };

struct naive_edge {
	const char *user, *item;
	int64_t time_ms;
	int kind, has_rating;
	unsigned value;
};

struct naive_removal {
	const char *user, *item;        /* item NULL: the whole user */
	int64_t time_ms;
};

struct naive {
	struct naive_edge *edges;
	struct naive_removal *removals;
	size_t edges_count, removals_count;
	struct world_options options;
	uint64_t evicted;
};

static int compare_age(const void *left, const void *right)
{
	const struct naive_edge *a = left, *b = right;

	if (a->time_ms != b->time_ms)
		return a->time_ms < b->time_ms ? -1 : 1;
	int order = strcmp(a->user, b->user);
	return order ? order : strcmp(a->item, b->item);
}

static int rank_of(const struct naive_edge *a, const struct naive_edge *b)
{
	if ((a->kind == KIND_VIEW) != (b->kind == KIND_VIEW))
		return a->kind == KIND_VIEW ? -1 : 1;
	if (a->time_ms != b->time_ms)
		return a->time_ms < b->time_ms ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->has_rating != b->has_rating)
		return a->has_rating ? 1 : -1;
	return a->value < b->value ? -1 : a->value > b->value;
}

static void naive_evict(struct naive *naive, int64_t clock_ms)
{
	size_t from = 0;

	qsort(naive->edges, naive->edges_count, sizeof *naive->edges, compare_age);
	while (naive->edges_count - from > naive->options.graph.edges_max ||
	       (naive->options.graph.edge_days && from < naive->edges_count &&
		naive->edges[from].time_ms < clock_ms - naive->options.graph.edge_days * 86400000))
		from++;
	naive->evicted += from;
	naive->edges_count -= from;
	memmove(naive->edges, naive->edges + from, naive->edges_count * sizeof *naive->edges);
}

static void naive_apply(struct naive *naive, const struct interaction_event *event, int64_t clock_ms)
{
	const char *user = event->user_id.bytes, *item = event->item_id.bytes;
	double place = (event->rating - 1) / 4;
	struct naive_edge edge = {user, item, event->event_time_ms, event->kind, event->has_rating, 0};

	if (event->kind == KIND_REMOVE) {
		naive->removals[naive->removals_count++] = (struct naive_removal){user, item,
										  event->event_time_ms};
		for (size_t e = 0; e < naive->edges_count;) {
			struct naive_edge *known = &naive->edges[e];
			if (!strcmp(known->user, user) && (!item || !strcmp(known->item, item)) &&
			    known->time_ms <= event->event_time_ms)
				*known = naive->edges[--naive->edges_count];
			else
				e++;
		}
		naive_evict(naive, clock_ms);
		return;
	}
	if (event->has_rating)
		edge.value = (unsigned)rint(fmin(1, fmax(0, place)) * RESPONSE_ONE);
	for (size_t r = 0; r < naive->removals_count; r++) {
		struct naive_removal *removal = &naive->removals[r];
		if (clock_ms - removal->time_ms <= naive->options.tombstone_ms &&
		    !strcmp(removal->user, user) &&
		    (!removal->item || !strcmp(removal->item, item)) && edge.time_ms <= removal->time_ms)
			goto done;
	}
	if (naive->options.graph.edge_days &&
	    edge.time_ms < clock_ms - naive->options.graph.edge_days * 86400000)
		goto done;
	for (size_t e = 0; e < naive->edges_count; e++)
		if (!strcmp(naive->edges[e].user, user) && !strcmp(naive->edges[e].item, item)) {
			if (rank_of(&edge, &naive->edges[e]) > 0)
				naive->edges[e] = edge;
			goto done;
		}
	naive->edges[naive->edges_count++] = edge;
done:
	naive_evict(naive, clock_ms);
}

static unsigned response_of(const struct naive_edge *edge)
{
	return edge->kind == KIND_VIEW ? 0 : edge->kind == KIND_RATE ? edge->value : RESPONSE_ONE;
}

static void compare(const struct naive *naive, const struct world *world, uint64_t seed)
{
	struct graph_counts counts = graph_get_counts(world->graph);
	struct error error = {0};
	uint64_t response = 0;

	must(graph_check(world->graph, &error), &error, seed);
	ck_assert_msg(counts.edges == naive->edges_count, "seed %llu: %llu edges, not %zu",
		      (unsigned long long)seed,
		      (unsigned long long)counts.edges, naive->edges_count);
	ck_assert_uint_eq(counts.evicted, naive->evicted);
	for (size_t e = 0; e < naive->edges_count; e++) {
		const struct naive_edge *want = &naive->edges[e];
		struct user_id user;
		struct item_id item;
		const struct edge *edge;
		ck_assert_msg(user_ids_find(world->users, text_of(want->user), &user), "seed %llu: %s",
			      (unsigned long long)seed, want->user);
		ck_assert(item_ids_find(world->items, text_of(want->item), &item));
		edge = graph_find(world->graph, user, item);
		ck_assert_msg(edge != NULL, "seed %llu: no edge %s %s", (unsigned long long)seed, want->user,
			      want->item);
		ck_assert_int_eq(edge_time_ms(edge), want->time_ms);
		ck_assert_int_eq(edge_kind(edge), want->kind);
		ck_assert_int_eq(edge_has_rating(edge), want->has_rating);
		ck_assert_uint_eq(edge->value, want->value);
		response += response_of(want);
	}
	ck_assert_uint_eq(counts.response, response);
	/* Nobody without an edge has kept an id. */
	for (uint32_t u = 0; u < ids_end(world->users.table); u++) {
		uint32_t count;
		graph_user_edges(world->graph, (struct user_id){u}, &count);
		ck_assert_int_eq(count > 0, ids_alive(world->users.table, u));
	}
}

static void run(struct world_options options, struct mix mix, unsigned events, uint64_t seed)
{
	struct draw draw = {seed};
	struct naive naive = {.options = options};
	struct world world = world_create(options, seed);
	static struct names names;
	int64_t now_ms = 1000;

	names_fill(&names);
	mix.now_ms = &now_ms;
	naive.edges = calloc(PAIRS_MAX, sizeof *naive.edges);
	naive.removals = calloc(REMOVALS_MAX, sizeof *naive.removals);
	for (unsigned n = 0; n < events; n++) {
		struct interaction_event event = random_event(&draw, &names, mix);
		world_apply(&world, &event, seed);
		naive_apply(&naive, &event, world.clock_ms);
		if (n % 100 == 99)
			compare(&naive, &world, seed);
	}
	compare(&naive, &world, seed);
	free(naive.edges);
	free(naive.removals);
	world_destroy(&world);
}

START_TEST(equals_naive)
{
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct world_options options = world_defaults();
		options.id_seed = seed % 3;
		options.graph.view_edges = seed % 2;
		if (seed % 4 == 0)
			options.tombstone_ms = 200000;
		run(options, (struct mix){40, 30, 100, 80, 10, NULL}, 1500, seed);
	}
}
END_TEST

START_TEST(equals_naive_with_eviction)
{
	for (uint64_t seed = 100; seed < 108; seed++) {
		struct world_options options = world_defaults();
		options.graph.edges_max = seed % 2 ? 60 : 7;
		options.id_seed = seed % 3;
		run(options, (struct mix){30, 30, 100, 50, 10, NULL}, 1500, seed);
	}
}
END_TEST

START_TEST(equals_naive_with_age)
{
	for (uint64_t seed = 200; seed < 204; seed++) {
		struct world_options options = world_defaults();
		static int64_t day_ms = 86400000;
		(void)day_ms;
		options.graph.edge_days = 1;
		struct draw draw = {seed};
		struct naive naive = {.options = options};
		struct world world = world_create(options, seed);
		static struct names names;
		int64_t now_ms = 1000;
		names_fill(&names);
		naive.edges = calloc(PAIRS_MAX, sizeof *naive.edges);
		naive.removals = calloc(REMOVALS_MAX, sizeof *naive.removals);
		for (unsigned n = 0; n < 1500; n++) {
			struct interaction_event event =
				random_event(&draw, &names, (struct mix){40, 40, 50, 30, 5, &now_ms});
			event.event_time_ms *= 400;     /* a day is some 200 events */
			world_apply(&world, &event, seed);
			naive_apply(&naive, &event, world.clock_ms);
			if (n % 50 == 0)
				compare(&naive, &world, seed);
		}
		ck_assert_uint_gt(naive.evicted, 100);
		free(naive.edges);
		free(naive.removals);
		world_destroy(&world);
	}
}
END_TEST

/* The set of events decides, not their order (no VIEWs, no eviction, all removals remembered). */
START_TEST(order_decides_nothing)
{
	enum { EVENTS = 1200 };
	static struct interaction_event events[EVENTS];
	static struct names names;

	names_fill(&names);
	for (uint64_t seed = 300; seed < 306; seed++) {
		struct draw draw = {seed};
		int64_t now_ms = 1000;
		struct world first, second;
		struct world_options options = world_defaults();
		for (unsigned n = 0; n < EVENTS; n++)
			events[n] = random_event(&draw, &names, (struct mix){25, 25, 0, 80, 10, &now_ms});
		first = world_create(options, seed);
		for (unsigned n = 0; n < EVENTS; n++)
			world_apply(&first, &events[n], seed);
		for (unsigned n = EVENTS - 1; n > 0; n--) {
			unsigned other = draw_below(&draw, n + 1);
			struct interaction_event swap = events[n];
			events[n] = events[other];
			events[other] = swap;
		}
		options.id_seed = seed;
		second = world_create(options, seed);
		for (unsigned n = 0; n < EVENTS; n++)
			world_apply(&second, &events[n], seed);
		/* Once more: nothing is news. */
		for (unsigned n = 0; n < EVENTS; n++)
			ck_assert_int_ne(world_apply(&second, &events[n], seed), GRAPH_CHANGED);
		ck_assert_uint_eq(ids_count(first.users.table), ids_count(second.users.table));
		for (uint32_t u = 0; u < ids_end(first.users.table); u++) {
			struct user_id mine = {u}, theirs;
			uint32_t count, count2;
			const struct edge *a = graph_user_edges(first.graph, mine, &count), *b;
			if (!count)
				continue;
			ck_assert(user_ids_find(second.users, user_bytes(first.users, mine), &theirs));
			b = graph_user_edges(second.graph, theirs, &count2);
			ck_assert_uint_eq(count, count2);
			for (uint32_t e = 0; e < count; e++) {
				ck_assert_int_eq(edge_time_ms(&a[e]), edge_time_ms(&b[e]));
				ck_assert_uint_eq(a[e].value, b[e].value);
				ck_assert(text_equal(item_bytes(first.items, (struct item_id){a[e].other}),
						     item_bytes(second.items, (struct item_id){b[e].other})));
			}
		}
		world_destroy(&first);
		world_destroy(&second);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("graph");
	TCase *tcase = tcase_create("property");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, equals_naive);
	tcase_add_test(tcase, equals_naive_with_eviction);
	tcase_add_test(tcase, equals_naive_with_age);
	tcase_add_test(tcase, order_decides_nothing);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
