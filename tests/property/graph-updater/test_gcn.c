/* test_gcn.c - the incremental embeddings against the full propagation, and nearest users against all
 * pairs: random events, all shapes, thresholds, vector widths, internal ids given out in other orders. */
#include "tests/property/graph-updater/graph_world.h"

#include "graph-updater/gcn_internal.h"
#include "graph-updater/gcn_reference.h"
#include "graph-updater/nearest.h"

#include <math.h>

static struct names names;

/* tau = 0 after a flush: every stored row equals the full recomputation. */
static void equals_reference(const struct world *world, uint32_t threads, uint64_t seed)
{
	size_t row_bytes = world->gcn_options.dimensions * sizeof(int16_t);
	struct gcn_reference *reference;
	struct error error = {0};

	must(gcn_reference_create(&world->gcn_options, threads, &reference, &error), &error, seed);
	for (uint32_t layer = 0; layer <= GCN_LAYERS_MAX; layer++) {
		for (uint32_t u = 0; u < ids_end(world->users.table); u++) {
			const int16_t *want = gcn_reference_user(reference, layer, (struct user_id){u});
			const int16_t *have = gcn_user_hidden(world->gcn, layer, (struct user_id){u});
			if (want && have ? memcmp(want, have, row_bytes) != 0
					 : gcn_user_degree(world->gcn, (struct user_id){u}) && (want || have))
				ck_abort_msg("seed %llu: user %u, layer %u", (unsigned long long)seed, u, layer);
		}
		for (uint32_t i = 0; i < ids_end(world->items.table); i++) {
			const int16_t *want = gcn_reference_item(reference, layer, (struct item_id){i});
			const int16_t *have = gcn_item_hidden(world->gcn, layer, (struct item_id){i});
			if (want && have ? memcmp(want, have, row_bytes) != 0
					 : gcn_item_degree(world->gcn, (struct item_id){i}) && (want || have))
				ck_abort_msg("seed %llu: item %u, layer %u", (unsigned long long)seed, i, layer);
		}
	}
	gcn_reference_destroy(reference);
}

/* tau > 0: |h_k - exact_k| <= own residual + rounding + the greatest error of the layer below. */
static void within_bound(const struct world *world, uint64_t seed)
{
	uint32_t dimensions = world->gcn_options.dimensions;
	double below = 0, rounding = 0.5 * sqrt(dimensions);
	struct gcn_reference *reference;
	struct error error = {0};

	must(gcn_reference_create(&world->gcn_options, 1, &reference, &error), &error, seed);
	for (uint32_t layer = 1; layer <= world->gcn->last_layer; layer++) {
		double greatest = 0, slack = 0;
		for (int s = 0; s < GCN_SIDES; s++) {
			const struct gcn_side *side = &world->gcn->sides[s];
			for (uint32_t n = 0; side->has[layer] && n < chunks_rows(&side->meta) &&
			     n < ids_end(side->ids); n++) {
				const int16_t *have = gcn_hidden_of(side, layer, n);
				const int16_t *want = s == GCN_USERS
					? gcn_reference_user(reference, layer, (struct user_id){n})
					: gcn_reference_item(reference, layer, (struct item_id){n});
				double error_square = 0, residual_square = 0;
				if (!gcn_meta_of(side, n)->degree)
					continue;
				for (uint32_t i = 0; i < dimensions; i++) {
					double mean = (double)gcn_sums_get(side, layer, n,
									   i) / gcn_meta_of(side, n)->degree;
					error_square += (have[i] - want[i]) * (double)(have[i] - want[i]);
					residual_square += (have[i] - mean) * (have[i] - mean);
				}
				if (sqrt(error_square) > greatest)
					greatest = sqrt(error_square);
				if (sqrt(residual_square) > slack)
					slack = sqrt(residual_square);
			}
		}
		ck_assert_msg(greatest <= below + slack + rounding + 1e-6,
			      "seed %llu: layer %u: error %g above %g + %g",
			      (unsigned long long)seed, layer, greatest, below, slack);
		below = greatest;
	}
	gcn_reference_destroy(reference);
}

static void run(struct world_options options, unsigned events, unsigned flush_events, bool scalar,
		uint64_t seed)
{
	struct draw draw = {seed};
	struct world world = world_create(options, seed);
	struct error error = {0};
	int64_t now_ms = 1000;

	if (scalar)
		world.gcn->kernels = &gcn_kernels_scalar;
	for (unsigned n = 0; n < events; n++) {
		struct interaction_event event =
			random_event(&draw, &names, (struct mix){60, 40, 100, 150, 20, &now_ms});
		world_apply(&world, &event, seed);
		if (n % 97 == 0)        /* the sums are exact between flushes as well */
			must(gcn_check(world.gcn, &error), &error, seed);
		if ((n + 1) % flush_events)
			continue;
		must(gcn_flush(world.gcn, &error), &error, seed);
		must(gcn_check(world.gcn, &error), &error, seed);
		if (options.gcn.threshold == 0)
			equals_reference(&world, 1 + n % 3, seed);
		else
			within_bound(&world, seed);
	}
	/* Everybody goes: nothing is left. */
	for (unsigned u = 0; u < 60; u++) {
		struct interaction_event erase = {.user_id = text_of(names.user[u]), .kind = KIND_REMOVE,
						  .event_time_ms = now_ms + 1};
		world_apply(&world, &erase, seed);
	}
	must(gcn_flush(world.gcn, &error), &error, seed);
	must(gcn_check(world.gcn, &error), &error, seed);
	ck_assert_uint_eq(graph_get_counts(world.graph).edges, 0);
	ck_assert_uint_eq(ids_count(world.users.table), 0);
	ck_assert_uint_eq(ids_count(world.items.table), 0);
	world_destroy(&world);
}

/* Seeds from files, for most ids. */
static void train(struct world_options *options, uint64_t seed)
{
	uint32_t dimensions = options->gcn.dimensions;

	options->gcn.item_seeds = trained_seeds(names.item, 40, dimensions, seed);
	if (options->gcn.both_sides)
		options->gcn.user_seeds = trained_seeds(names.user, 60, dimensions, seed + 1);
}

static void forget(struct world_options *options)
{
	seeds_destroy((struct seeds *)options->gcn.item_seeds);
	seeds_destroy((struct seeds *)options->gcn.user_seeds);
}

START_TEST(all_shapes)
{
	static const uint32_t dimensions[] = {16, 32, 64, 112, 256};
	static const double thresholds[] = {0, 0.03, 0.5};
	uint64_t seed = 1;

	/* The dimensions' count is odd: every combination of the others comes with and without trained seeds. */
	for (uint32_t layers = 1; layers <= 4; layers++)
		for (size_t d = 0; d < 5; d++)
			for (size_t t = 0; t < 3; t++)
				for (int both = 0; both < 2; both++, seed++) {
					struct world_options options = world_defaults();
					options.gcn.layers = layers;
					options.gcn.dimensions = dimensions[d];
					options.gcn.threshold = thresholds[t];
					options.gcn.both_sides = both;
					options.graph.view_edges = seed % 3 == 0;
					options.gcn.wide_degree = seed / 7 % 2 ? 5 : 0;
					if ((seed - 1) / 2 % 2)
						train(&options, seed);
					if (seed % 5 == 0)
						for (uint32_t k = 0; k <= layers; k++)
							options.gcn.layer_weights[k] = k + 1;
					run(options, 300, 64, seed % 4 == 0, seed);
					forget(&options);
				}
}
END_TEST

START_TEST(flush_after_every_event)
{
	for (uint64_t seed = 500; seed < 504; seed++) {
		struct world_options options = world_defaults();
		options.gcn.threshold = seed % 2 ? 0.03 : 0;
		run(options, 250, 1, false, seed);
	}
}
END_TEST

/* Flushes that stop after a little work, hubs in the middle of their push, events in between: sums are
 * exact at every moment, the threshold holds, and at threshold 0 a finished flush is a full propagation. */
START_TEST(flush_in_pieces)
{
	unsigned interrupted = 0, followed = 0;

	for (uint64_t seed = 900; seed < 924; seed++) {
		struct world_options options = world_defaults();
		struct draw draw = {seed};
		struct error error = {0};
		struct world world;
		int64_t now_ms = 1000;
		bool finished = true;
		options.gcn.layers = 2 + seed % 3;
		options.gcn.dimensions = seed % 2 ? 32 : 64;
		options.gcn.both_sides = seed % 5 == 0;
		options.gcn.threshold = seed % 4 == 3 ? 0.03 : 0;
		options.gcn.hub_degree = 2;
		options.gcn.wide_degree = seed % 3 ? 0 : 6;
		options.graph.view_edges = seed % 7 == 0;
		options.graph.edges_max = seed % 2 ? 300 : 1000000;
		if (seed % 8 >= 5)
			train(&options, seed);
		world = world_create(options, seed);
		if (seed % 2)
			world.gcn->kernels = &gcn_kernels_scalar;
		for (unsigned n = 0; n < 1200; n++) {
			/* Few users and items: most events change a list that a hub is walking along. */
			struct interaction_event event =
				random_event(&draw, &names, (struct mix){30, 20, 100, 120, 10, &now_ms});
			followed += gcn_get_stats(world.gcn).hub_neighbours != 0;
			world_apply(&world, &event, seed);
			if (draw_below(&draw, 3))
				continue;
			must(gcn_flush_some(world.gcn, 1 + draw_below(&draw, 12), &finished, &error), &error, seed);
			interrupted += gcn_get_stats(world.gcn).hub_neighbours != 0;
			ck_assert_int_eq(finished, gcn_waiting(world.gcn) == 0);
			if (n % 4 == 0)
				must(gcn_check(world.gcn, &error), &error, seed);
			if (n % 100)
				continue;
			while (!finished)
				must(gcn_flush_some(world.gcn, 1 + draw_below(&draw, 9), &finished, &error), &error,
				     seed);
			must(gcn_check(world.gcn, &error), &error, seed);
			if (options.gcn.threshold == 0)
				equals_reference(&world, 1, seed);
			else
				within_bound(&world, seed);
		}
		for (unsigned u = 0; u < 30; u++) {
			struct interaction_event erase = {.user_id = text_of(names.user[u]), .kind = KIND_REMOVE,
							  .event_time_ms = now_ms + 1};
			world_apply(&world, &erase, seed);
			must(gcn_check(world.gcn, &error), &error, seed);
		}
		must(gcn_flush(world.gcn, &error), &error, seed);
		ck_assert_uint_eq(gcn_get_stats(world.gcn).hub_neighbours + graph_get_counts(world.graph).edges, 0);
		world_destroy(&world);
		forget(&options);
	}
	ck_assert_uint_gt(interrupted, 1000);
	ck_assert_uint_gt(followed, 1000);
}
END_TEST

/* Both ends of 10^6 edges, as a user and as an item: a call's work is bounded whatever the hub. */
START_TEST(hubs_never_stall)
{
	enum { HUB = 1000000, WORK = 1 << 14, OTHERS = 200 };

	for (int of_item = 0; of_item < 2; of_item++) {
		struct world_options options = world_defaults();
		struct error error = {0};
		struct world world;
		uint64_t pushed = 0, calls = 0;
		bool finished;
		options.graph.users_max = options.graph.items_max = options.gcn.users_max =
			options.gcn.items_max = HUB + OTHERS;
		options.graph.edges_max = 2 * HUB;
		options.gcn.dimensions = 16;
		world = world_create(options, 0);
		/* Both ends have neighbours apart from the hub, so that its change goes on. */
		for (int n = 0; n < HUB + 2 * OTHERS; n++) {
			char user[16], item[16];
			struct interaction_event event = {.kind = KIND_CLICK, .event_time_ms = n};
			int number = n < HUB ? n : n % OTHERS;
			snprintf(user, sizeof user, "u%d", of_item ? number : n < HUB ? 0 : n);
			snprintf(item, sizeof item, "i%d", of_item ? (n < HUB ? 0 : n) : number);
			event.user_id = text_of(user);
			event.item_id = text_of(item);
			world_apply(&world, &event, 0);
		}
		do {
			must(gcn_flush_some(world.gcn, WORK, &finished, &error), &error, 0);
			ck_assert_uint_le(gcn_get_stats(world.gcn).push_edges - pushed, WORK + GCN_HUB_DEGREE);
			pushed = gcn_get_stats(world.gcn).push_edges;
		} while (++calls < 1000000 && !finished);
		ck_assert(finished);
		ck_assert_uint_gt(calls, HUB / WORK);
		equals_reference(&world, 2, 0);
		world_destroy(&world);
	}
}
END_TEST

/* As many neighbours, all of the largest seed there is, as pass what an int32 holds. */
START_TEST(sums_beyond_int32)
{
	enum { HUB = 270000, DIMENSIONS = 16 };
	char name[64], path[80], (*ids)[16] = malloc(HUB * sizeof *ids);
	struct world_options options = world_defaults();
	struct error error = {0};
	struct seeds *seeds = NULL;
	struct user_id hub;
	struct world world;
	FILE *array;

	for (int n = 0; n < HUB; n++)
		snprintf(ids[n], sizeof ids[n], "i%d", n);
	snprintf(name, sizeof name, "/tmp/exitpoll-seeds-%d", (int)getpid());
	snprintf(path, sizeof path, "%s.npy", name);
	write_seeds(name, ids, HUB, DIMENSIONS, &(struct draw){0});
	array = fopen(path, "r+b");
	ck_assert(array && !fseek(array, 128, SEEK_SET));
	for (int n = 0; n < HUB * DIMENSIONS; n++)
		fwrite(&(float){1}, sizeof(float), 1, array);
	fclose(array);
	must(seeds_open(name, DIMENSIONS, &seeds, &error), &error, 0);
	remove_seeds(name);
	options.graph.items_max = options.gcn.items_max = HUB;
	options.gcn.dimensions = DIMENSIONS;
	options.gcn.item_seeds = seeds;
	world = world_create(options, 0);
	for (int n = 0; n < HUB; n++) {
		struct interaction_event event = {.user_id = TEXT_LITERAL("hub"), .item_id = text_of(ids[n]),
						  .kind = KIND_CLICK, .event_time_ms = n};
		world_apply(&world, &event, 0);
	}
	must(gcn_flush(world.gcn, &error), &error, 0);
	must(gcn_check(world.gcn, &error), &error, 0);
	ck_assert(user_ids_find(world.users, TEXT_LITERAL("hub"), &hub));
	ck_assert_int_gt(gcn_sums_get(&world.gcn->sides[GCN_USERS], 1, hub.v, 7), INT32_MAX);
	ck_assert_int_eq(gcn_sums_get(&world.gcn->sides[GCN_USERS], 1, hub.v, 7), (int64_t)HUB * GCN_ONE);
	ck_assert_int_eq(gcn_user_embedding(world.gcn, hub)[7], GCN_ONE);
	ck_assert_uint_eq(gcn_get_stats(world.gcn).wide_nodes, 1);
	equals_reference(&world, 1, 0);
	world_destroy(&world);
	seeds_destroy(seeds);
	free(ids);
}
END_TEST

/* Equal state by id bytes, at every threshold, whatever internal ids and vector width. */
START_TEST(internal_ids_decide_nothing)
{
	for (uint64_t seed = 600; seed < 606; seed++) {
		struct world_options options = world_defaults();
		struct world worlds[2];
		struct error error = {0};
		options.gcn.threshold = seed % 2 ? 0.05 : 0;
		options.graph.edges_max = 400;
		if (seed % 3 == 0)
			train(&options, seed);
		for (int w = 0; w < 2; w++) {
			struct draw draw = {seed};
			int64_t now_ms = 1000;
			options.id_seed = w ? seed : 0;
			worlds[w] = world_create(options, seed);
			if (w)
				worlds[w].gcn->kernels = &gcn_kernels_scalar;
			for (unsigned n = 0; n < 3000; n++) {
				struct interaction_event event =
					random_event(&draw, &names,
						     (struct mix){80, 60, 50, 50, 10, &now_ms});
				world_apply(&worlds[w], &event, seed);
				if (n % 64 == 63)
					must(gcn_flush(worlds[w].gcn, &error), &error, seed);
			}
		}
		ck_assert_uint_eq(ids_count(worlds[0].users.table), ids_count(worlds[1].users.table));
		for (uint32_t u = 0; u < ids_end(worlds[0].users.table); u++) {
			struct user_id mine = {u}, theirs;
			struct neighbour near[2][10];
			struct nearest_query query[2];
			const int16_t *a, *b;
			if (!ids_alive(worlds[0].users.table, u))
				continue;
			ck_assert(user_ids_find(worlds[1].users, user_bytes(worlds[0].users, mine), &theirs));
			a = gcn_user_embedding(worlds[0].gcn, mine);
			b = gcn_user_embedding(worlds[1].gcn, theirs);
			ck_assert_int_eq(a == NULL, b == NULL);
			if (a)
				ck_assert_int_eq(memcmp(a, b, 64 * sizeof *a), 0);
			query[0] = (struct nearest_query){mine, 10, near[0], 0};
			query[1] = (struct nearest_query){theirs, 10, near[1], 0};
			for (int w = 0; w < 2; w++)
				nearest_search(worlds[w].gcn, worlds[w].users, &query[w], 1);
			ck_assert_uint_eq(query[0].count, query[1].count);
			for (uint32_t n = 0; n < query[0].count; n++) {
				ck_assert(text_equal(user_bytes(worlds[0].users, near[0][n].user),
						     user_bytes(worlds[1].users, near[1][n].user)));
				ck_assert(near[0][n].cosine == near[1][n].cosine);
			}
		}
		world_destroy(&worlds[0]);
		world_destroy(&worlds[1]);
		forget(&options);
	}
}
END_TEST

/* ---- nearest users ---- */

static const struct world *sorted_world;
static const int16_t *sorted_row;

/* The exact order, from nothing but integers. */
static int compare_cosines(const void *left, const void *right)
{
	struct user_id a = *(const struct user_id *)left, b = *(const struct user_id *)right;
	uint32_t dimensions = sorted_world->gcn_options.dimensions;
	int64_t dot[2] = {0, 0};
	__int128 key[2];

	for (int n = 0; n < 2; n++) {
		struct user_id user = n ? b : a, other = n ? a : b;
		const int16_t *row = gcn_user_embedding(sorted_world->gcn, user);
		for (uint32_t i = 0; i < dimensions; i++)
			dot[n] += (int64_t)sorted_row[i] * row[i];
		key[n] = (__int128)dot[n] * llabs(dot[n]) * gcn_user_norm(sorted_world->gcn, other);
	}
	if (key[0] != key[1])
		return key[0] > key[1] ? -1 : 1;
	return text_compare(user_bytes(sorted_world->users, a), user_bytes(sorted_world->users, b));
}

/* Rows that propagation seldom makes: multiples of one another (exact ties whose doubles differ), very
 * short beside very long ones, opposite ones. */
START_TEST(nearest_on_made_rows)
{
	enum { USERS = 300, QUERIES = 40 };
	static const uint32_t dimensions_of[] = {16, 64, 128, 256};

	for (uint64_t seed = 800; seed < 816; seed++) {
		uint32_t dimensions = dimensions_of[seed % 4];
		struct world_options options = world_defaults();
		struct draw draw = {seed};
		struct error error = {0};
		struct world world;
		static _Alignas(64) int16_t state[2][256], base[3][256];
		static struct user_id users[USERS], order[USERS];
		static struct neighbour found[2][QUERIES][64];
		static struct nearest_query queries[2][QUERIES];
		options.gcn.dimensions = dimensions;
		world = world_create(options, seed);
		for (int b = 0; b < 3; b++)
			for (uint32_t i = 0; i < dimensions; i++)
				base[b][i] = (int16_t)((int)draw_below(&draw, 41) - 20);
		for (unsigned u = 0; u < USERS; u++) {
			struct interaction_event event = {.user_id = text_of(names.user[u]),
							  .item_id = text_of(names.item[0]), .kind = KIND_CLICK};
			int kind = (int)draw_below(&draw, 4), factor = 1 + (int)draw_below(&draw, 400);
			bool negative = draw_below(&draw, 6) == 0;
			int16_t *row = (int16_t *)state + dimensions;   /* hidden states of layers 1 and 3 */
			world_apply(&world, &event, seed);
			ck_assert(user_ids_find(world.users, event.user_id, &users[u]));
			for (uint32_t i = 0; i < dimensions; i++) {
				int value = kind == 0 ? base[u % 3][i] * factor
					    : kind == 1 ? (int)draw_below(&draw, 5) - 2
					    : kind == 2 ? (draw_below(&draw, 2) ? GCN_ONE : -GCN_ONE)
							: (int)draw_below(&draw, 2 * GCN_ONE + 1) - GCN_ONE;
				row[i] = (int16_t)(negative ? -value : value);
			}
			must(gcn_load_user(world.gcn, users[u], state, false, &error), &error, seed);
		}
		for (size_t q = 0; q < QUERIES; q++)
			for (int p = 0; p < 2; p++)
				queries[p][q] = (struct nearest_query){users[q], 1 + (uint32_t)(q * 7 % 64), found[p][q], 0};
		nearest_search_path(NEAREST_SCALAR, world.gcn, world.users, queries[0], QUERIES);
		nearest_search(world.gcn, world.users, queries[1], QUERIES);
		for (size_t q = 0; q < QUERIES; q++) {
			size_t others = 0;
			if (!gcn_user_embedding(world.gcn, users[q])) {
				ck_assert_uint_eq(queries[0][q].count + queries[1][q].count, 0);
				continue;
			}
			for (size_t n = 0; n < USERS; n++)
				if (n != q && gcn_user_embedding(world.gcn, users[n]))
					order[others++] = users[n];
			sorted_world = &world;
			sorted_row = gcn_user_embedding(world.gcn, users[q]);
			qsort(order, others, sizeof *order, compare_cosines);
			for (int p = 0; p < 2; p++)
				for (uint32_t n = 0; n < queries[p][q].count; n++)
					ck_assert_msg(found[p][q][n].user.v == order[n].v,
						      "seed %llu: path %d, query %zu, place %u",
						      (unsigned long long)seed, p, q, n);
		}
		world_destroy(&world);
	}
}
END_TEST

START_TEST(nearest_equals_all_pairs)
{
	for (uint64_t seed = 700; seed < 712; seed++) {
		struct world_options options = world_defaults();
		struct draw draw = {seed};
		struct error error = {0};
		int64_t now_ms = 1000;
		struct world world;
		static struct user_id users[512];
		static struct neighbour found[3][70][64];
		static struct nearest_query queries[3][70];
		size_t count = 0;
		options.gcn.dimensions = seed % 3 == 0 ? 256 : seed % 3 == 1 ? 64 : 16;
		options.gcn.layers = seed % 4 ? 3 : 1;          /* one layer: many equal rows, ties */
		world = world_create(options, seed);
		for (unsigned n = 0; n < 900; n++) {
			struct interaction_event event =
				random_event(&draw, &names, (struct mix){400, 30, 50, 30, 5, &now_ms});
			world_apply(&world, &event, seed);
		}
		must(gcn_flush(world.gcn, &error), &error, seed);
		for (uint32_t u = 0; u < ids_end(world.users.table); u++)
			if (gcn_user_embedding(world.gcn, (struct user_id){u}))
				users[count++] = (struct user_id){u};
		ck_assert_uint_gt(count, 100);
		for (size_t q = 0; q < 70; q++)
			for (int p = 0; p < 3; p++)
				queries[p][q] = (struct nearest_query){users[q], 1 + (uint32_t)(q % 64),
								       found[p][q], 0};
		nearest_search_path(NEAREST_SCALAR, world.gcn, world.users, queries[0], 70);
		if (!nearest_search_path(NEAREST_AVX2, world.gcn, world.users, queries[1], 70))
			nearest_search(world.gcn, world.users, queries[1], 70);
		for (size_t q = 0; q < 70; q++)
			nearest_search(world.gcn, world.users, &queries[2][q], 1);
		for (size_t q = 0; q < 70; q++) {
			static struct user_id order[512];
			size_t others = 0;
			for (size_t n = 0; n < count; n++)
				if (users[n].v != queries[0][q].user.v)
					order[others++] = users[n];
			sorted_world = &world;
			sorted_row = gcn_user_embedding(world.gcn, queries[0][q].user);
			qsort(order, others, sizeof *order, compare_cosines);
			for (int p = 0; p < 3; p++) {
				ck_assert_uint_eq(queries[p][q].count, queries[p][q].most);
				for (uint32_t n = 0; n < queries[p][q].count; n++)
					ck_assert_msg(found[p][q][n].user.v == order[n].v,
						      "seed %llu: path %d, query %zu, place %u",
							      (unsigned long long)seed,
						      p, q, n);
			}
		}
		world_destroy(&world);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gcn");
	TCase *tcase = tcase_create("property"), *limits = tcase_create("limits");

	names_fill(&names);
	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, all_shapes);
	tcase_add_test(tcase, flush_after_every_event);
	tcase_add_test(tcase, flush_in_pieces);
	tcase_add_test(tcase, hubs_never_stall);
	tcase_add_test(limits, sums_beyond_int32);
	tcase_add_test(tcase, internal_ids_decide_nothing);
	tcase_add_test(tcase, nearest_on_made_rows);
	tcase_add_test(tcase, nearest_equals_all_pairs);
	suite_add_tcase(suite, tcase);
	tcase_set_timeout(limits, 300);
	suite_add_tcase(suite, limits);
	return check_run(suite);
}
