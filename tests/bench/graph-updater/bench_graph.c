/* bench_graph.c - what keeping the graph fresh costs, against computing it anew; verified, then timed.
 *
 * Gowalla's 810,128 edges in a seeded random order with seeded times: all but the newest are the graph
 * that is there, the newest are the events that are timed. One writer thread. Without the data: a generated
 * graph of the same size and skew.
 *
 *   bench_graph [events [copies]]
 *
 * With copies (21: 17 million edges) a second, larger graph: every node so many times, and every edge as
 * often, each time between copies of its ends that are drawn. So degrees follow the same law. Times are
 * those of the processor unless said otherwise: they hold on a machine that others use, too. */
#include "base/clock.h"
#include "graph-updater/gcn_internal.h"
#include "graph-updater/gcn_reference.h"
#include "graph-updater/nearest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FLUSH_EVENTS = 256, TOP = 10, PROBES = 6400 };

struct pair { uint32_t user, item; };

struct world {
	struct user_ids users;
	struct item_ids items;
	struct tombstones *tombstones;
	struct graph *graph;
	struct gcn *gcn;
	struct gcn_options options;
};

static uint64_t random_state = 20261124;

static uint32_t random_below(uint32_t n)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

static struct pair *load_pairs(size_t *count)
{
	struct pair *pairs = malloc(1000000 * sizeof *pairs);
	FILE *table = popen("xz -dc " TEST_SHARED_DIR "/data/gowalla/train.tsv.xz 2>/dev/null", "r");
	char line[256];

	*count = 0;
	while (table && *count < 1000000 && fgets(line, sizeof line, table))
		if (sscanf(line, "%u %u", &pairs[*count].user, &pairs[*count].item) == 2)
			++*count;
	if (table)
		pclose(table);
	if (*count) {
		printf("data: gowalla, %zu edges\n", *count);
	} else {
		printf("data: generated (no gowalla), 810128 pairs drawn\n");
		for (; *count < 810128; ++*count) {
			uint64_t u = random_below(29858), i = random_below(40981);
			pairs[*count] = (struct pair){(uint32_t)(u * random_below(29858) / 29858),
						      (uint32_t)(i * random_below(40981) / 40981)};
		}
	}
	for (size_t n = *count - 1; n > 0; n--) {
		size_t other = random_below((uint32_t)n + 1);
		struct pair swap = pairs[n];
		pairs[n] = pairs[other];
		pairs[other] = swap;
	}
	return pairs;
}

static void must(enum status status, const struct error *error)
{
	if (status) {
		fprintf(stderr, "%s: %s\n", status_name(status), error->text);
		exit(1);
	}
}

enum { NODES_MAX = 2000000 };

static struct world create(double threshold)
{
	struct world world = {{0}, {0}, NULL, NULL, NULL, {0}};
	struct error error = {0};
	struct graph_options graph = {.users_max = NODES_MAX, .items_max = NODES_MAX, .edges_max = 100000000,
				      .rating_min = 1, .rating_max = 5};

	must(ids_create("users", NODES_MAX, 0, &world.users.table, &error), &error);
	must(ids_create("items", NODES_MAX, 0, &world.items.table, &error), &error);
	must(tombstones_create(0, 1000000, &world.tombstones, &error), &error);
	graph.users = world.users;
	graph.items = world.items;
	graph.tombstones = world.tombstones;
	must(graph_create(&graph, &world.graph, &error), &error);
	world.options = (struct gcn_options){.dimensions = 64, .layers = 3, .threshold = threshold,
					     .users_max = NODES_MAX, .items_max = NODES_MAX, .users = world.users,
					     .items = world.items, .graph = world.graph};
	must(gcn_create(&world.options, &world.gcn, &error), &error);
	must(graph_listen(world.graph, gcn_listener(world.gcn), &error), &error);
	return world;
}

static void destroy(struct world *world)
{
	gcn_destroy(world->gcn);
	graph_destroy(world->graph);
	tombstones_destroy(world->tombstones);
	ids_destroy(world->items.table);
	ids_destroy(world->users.table);
}

static void apply(struct world *world, struct pair pair, int64_t time_ms)
{
	char user[16], item[16];
	struct interaction_event event = {.kind = KIND_CLICK, .event_time_ms = time_ms};
	struct error error = {0};
	enum graph_effect effect;

	event.user_id = (struct text_view){user, (size_t)snprintf(user, sizeof user, "%u", pair.user)};
	event.item_id = (struct text_view){item, (size_t)snprintf(item, sizeof item, "%u", pair.item)};
	must(graph_apply(world->graph, &event, time_ms, &effect, &error), &error);
}

static void flush(struct world *world)
{
	struct error error = {0};

	must(gcn_flush(world->gcn, &error), &error);
}

/* Time that this thread has had: what counts where others use the processor too. */
static int64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double milliseconds_since(int64_t start_ns)
{
	return (double)(clock_steady_ns() - start_ns) / 1e6;
}

/* Share of each probe's exact top ten that this world's top ten has. */
static double overlap(const struct world *exact, const struct world *world)
{
	enum { BATCH = 32 };
	static struct neighbour want[BATCH][TOP], have[BATCH][TOP];
	struct nearest_query first[BATCH], second[BATCH];
	size_t shared = 0, total = 0;

	for (uint32_t p = 0; p < PROBES / BATCH; p++) {
		uint32_t count = 0;
		while (count < BATCH) {
			struct user_id user = {random_below(ids_end(exact->users.table))};
			if (!gcn_user_embedding(exact->gcn, user))
				continue;
			first[count] = (struct nearest_query){user, TOP, want[count], 0};
			second[count] = (struct nearest_query){user, TOP, have[count], 0};
			count++;
		}
		nearest_search(exact->gcn, exact->users, first, BATCH);
		nearest_search(world->gcn, world->users, second, BATCH);
		for (uint32_t q = 0; q < BATCH; q++) {
			for (uint32_t a = 0; a < first[q].count; a++)
				for (uint32_t b = 0; b < second[q].count; b++)
					/* equal order of arrival: equal ids */
					shared += want[q][a].user.v == have[q][b].user.v;
			total += first[q].count;
		}
	}
	return total ? (double)shared / (double)total : 0;
}

static bool equals_reference(const struct world *world, const struct gcn_reference *reference)
{
	for (uint32_t u = 0; u < ids_end(world->users.table); u++) {
		const int16_t *have = gcn_user_hidden(world->gcn, 3, (struct user_id){u});
		if (gcn_user_degree(world->gcn, (struct user_id){u}) &&
		    memcmp(have, gcn_reference_user(reference, 3, (struct user_id){u}), 64 * sizeof *have))
			return false;
	}
	return true;
}

static int compare_doubles(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

/* Events alone, each with its own flush: the tail. */
static void time_single_events(struct world *world, const struct pair *pairs, size_t count, int64_t time_ms)
{
	double *each = malloc(count * sizeof *each);

	for (size_t n = 0; n < count; n++) {
		int64_t start_ns = thread_ns();
		apply(world, pairs[n], time_ms + (int64_t)n);
		flush(world);
		each[n] = (double)(thread_ns() - start_ns) / 1e3;
	}
	qsort(each, count, sizeof *each, compare_doubles);
	printf("  flushed one by one, processor time: p50 %.1f us, p99 %.1f us, max %.0f us\n", each[count / 2],
	       each[count * 99 / 100], each[count - 1]);
	free(each);
}

static void time_nearest(const struct world *world)
{
	static struct neighbour found[32][TOP];
	struct nearest_query queries[32];
	int64_t start_ns;
	uint32_t rounds = 20;

	for (uint32_t q = 0; q < 32; q++)
		queries[q] = (struct nearest_query){{random_below(ids_count(world->users.table))}, TOP,
						    found[q], 0};
	start_ns = clock_steady_ns();
	for (uint32_t r = 0; r < rounds; r++)
		for (uint32_t q = 0; q < 32; q++)
			nearest_search(world->gcn, world->users, &queries[q], 1);
	printf("nearest users, %u x 64, top %d: %.1f us per single query", ids_count(world->users.table), TOP,
	       1e3 * milliseconds_since(start_ns) / rounds / 32);
	start_ns = clock_steady_ns();
	for (uint32_t r = 0; r < rounds; r++)
		nearest_search(world->gcn, world->users, queries, 32);
	printf(", %.1f us in batches of 32\n", 1e3 * milliseconds_since(start_ns) / rounds / 32);
}

/* Bytes of everything that an edge or a node takes. */
static void print_memory(const struct world *world)
{
	double edges = (double)graph_get_counts(world->graph).edges, users = ids_count(world->users.table);
	double items = ids_count(world->items.table);
	struct gcn_stats gcn = gcn_get_stats(world->gcn);
	double lists = (double)graph_lists_bytes(world->graph);
	double both = (double)graph_memory(world->graph) - lists + (double)gcn.memory_bytes +
		      (double)(ids_memory(world->users.table) + ids_memory(world->items.table));
	/* Items have one layer's row of sums (4 bytes a value) and two of hidden states, a degree and a length. */
	double each_item = 64 * (4 + 2 + 2) + sizeof(struct gcn_meta) + sizeof(int64_t) + 40 +
			   (double)ids_memory(world->items.table) / items;

	printf("memory: %.2f bytes per edge (lists of both sides), %.0f per user and %.0f per item (embeddings, sums, "
	       "codes, heads of lists, ids); %.0f MB in all\n", lists / edges, (both - each_item * items) / users,
	       each_item, (lists + both) / 1e6);
}

/* The newest `timed` pairs as events, in batches. Returns microseconds an event by the clock on the wall,
 * as a full recomputation is timed. */
static double time_batches(struct world *world, const struct pair *pairs, size_t timed, int64_t time_ms)
{
	struct gcn_stats before = gcn_get_stats(world->gcn), after;
	int64_t wall_ns = clock_steady_ns(), start_ns = thread_ns(), flush_ns = 0;
	double event_us, wall_us;

	for (size_t n = 0; n < timed; n++) {
		apply(world, pairs[n], time_ms + (int64_t)n);
		if (n % FLUSH_EVENTS == FLUSH_EVENTS - 1 || n + 1 == timed) {
			int64_t one_ns = thread_ns();
			flush(world);
			flush_ns += thread_ns() - one_ns;
		}
	}
	event_us = (double)(thread_ns() - start_ns) / 1e3 / (double)timed;
	wall_us = 1e3 * milliseconds_since(wall_ns) / (double)timed;
	after = gcn_get_stats(world->gcn);
	printf("  %zu events, flushed every %d: %.2f us per event (%.0f/s; by the clock on the wall %.2f us), of it "
	       "%.2f us in flushes; %.2f pushes, %.1f rows added to per event\n", timed, (int)FLUSH_EVENTS, event_us,
	       1e6 / event_us, wall_us, (double)flush_ns / 1e3 / (double)timed,
	       (double)(after.pushes - before.pushes) / (double)timed,
	       (double)(after.push_edges - before.push_edges) / (double)timed);
	return wall_us;
}

/* Milliseconds on the wall, the best of three; the world must equal it. */
static double time_full(const struct world *world, uint32_t threads)
{
	struct gcn_reference *reference;
	struct error error = {0};
	double best_ms = 1e30;

	for (int round = 0; round < 3; round++) {
		int64_t start_ns = clock_steady_ns();
		must(gcn_reference_create(&world->options, threads, &reference, &error), &error);
		if (milliseconds_since(start_ns) < best_ms)
			best_ms = milliseconds_since(start_ns);
		if (!equals_reference(world, reference)) {
			fputs("the state is NOT that of a full recomputation\n", stderr);
			exit(1);
		}
		gcn_reference_destroy(reference);
	}
	printf("full recomputation, %u thread%s: %.1f ms (wall); the state equals it bit for bit\n", threads,
	       threads > 1 ? "s" : "", best_ms);
	return best_ms;
}

/* The larger graph: read at once, checked against a full recomputation, then events. */
static void run_large(const struct pair *pairs, size_t count, uint32_t copies, size_t timed, double small_us)
{
	struct world world = create(0.03);
	struct error error = {0};
	struct pair *events = malloc((timed + 4000) * sizeof *events);
	double full_ms, event_us;
	int64_t longest_ns = 0, start_ns = clock_steady_ns();

	gcn_load_begin(world.gcn);
	for (size_t n = 0, total = count * copies; n < total + timed + 4000; n++) {
		struct pair pair = pairs[n % count];
		int64_t one_ns = thread_ns();
		pair.user = pair.user * copies + random_below(copies);
		pair.item = pair.item * copies + random_below(copies);
		if (n >= total) {
			events[n - total] = pair;
			continue;
		}
		apply(&world, pair, (int64_t)n);
		one_ns = thread_ns() - one_ns;
		longest_ns = one_ns > longest_ns ? one_ns : longest_ns;
	}
	printf("generated, %u copies: %llu edges, %u users, %u items in %.1f s; longest pause of one event's growth "
	       "%.2f ms\n", copies, (unsigned long long)graph_get_counts(world.graph).edges,
	       ids_count(world.users.table), ids_count(world.items.table), milliseconds_since(start_ns) / 1e3,
	       (double)longest_ns / 1e6);
	start_ns = clock_steady_ns();
	must(gcn_load_anew(world.gcn, NULL, NULL, &error), &error);
	printf("embeddings from nothing: %.2f s (wall)\n", milliseconds_since(start_ns) / 1e3);
	full_ms = time_full(&world, 2);
	event_us = time_batches(&world, events, timed, (int64_t)(count * copies));
	time_single_events(&world, events + timed, 4000, (int64_t)(count * copies + timed));
	printf("full / event (both by the clock on the wall): %.0fx at tau 0.03; an event costs %.2f times that of the "
	       "small graph\n",
	       1e3 * full_ms / event_us, event_us / small_us);
	print_memory(&world);
	destroy(&world);
	free(events);
}

int main(int argc, char **argv)
{
	size_t count, timed = argc > 1 ? strtoul(argv[1], NULL, 10) : 40000, singles = 4000;
	uint32_t copies = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
	struct pair *pairs = load_pairs(&count);
	static const double thresholds[] = {0, 0.03};
	struct world worlds[2];
	double event_us[2], full_ms, one_ms;
	struct error error = {0};

	if (timed + singles > count / 2)
		timed = count / 2 - singles;
	for (int t = 0; t < 2; t++) {
		struct world *world = &worlds[t];
		size_t built = count - timed - singles;
		int64_t start_ns = clock_steady_ns();
		*world = create(thresholds[t]);
		for (size_t n = 0; n < built; n++)
			apply(world, pairs[n], (int64_t)n);
		flush(world);
		printf("tau %.2f: %zu edges built in %.0f ms\n", thresholds[t], built,
		       milliseconds_since(start_ns));
		event_us[t] = time_batches(world, pairs + built, timed, (int64_t)built);
		time_single_events(world, pairs + count - singles, singles, (int64_t)count);
		must(gcn_check(world->gcn, &error), &error);
	}
	one_ms = time_full(&worlds[0], 1);
	full_ms = time_full(&worlds[0], 2);
	full_ms = one_ms < full_ms ? one_ms : full_ms;
	printf("full / event (both by the clock on the wall): %.0fx at tau 0, %.0fx at tau 0.03; top-%d overlap at tau "
	       "0.03: %.4f (%d users)\n",
	       1e3 * full_ms / event_us[0], 1e3 * full_ms / event_us[1], (int)TOP,
	       overlap(&worlds[0], &worlds[1]), (int)PROBES);
	time_nearest(&worlds[0]);
	print_memory(&worlds[1]);
	destroy(&worlds[0]);
	destroy(&worlds[1]);
	if (copies)
		run_large(pairs, count, copies, timed, event_us[1]);
	free(pairs);
	return 0;
}
