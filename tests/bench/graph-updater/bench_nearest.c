/* bench_nearest.c - nearest users by the million: one query, 32 at once, with threads, beside a writer.
 *
 *   bench_nearest [USERS [THREADS]]          made rows of 64: normal, and in clusters (as users are)
 *   bench_nearest --rows FILE USERS QUERIES  rows int16 [USERS][64], the first QUERIES ask for TOP;
 *                                            writes FILE.top (u32 [QUERIES][TOP]) and prints JSON:
 *                                            ops/experiments/nearest_peers.py
 *
 * Verified before timed: results equal an exhaustive comparison by exact integers, ties by id bytes. Times
 * are medians. Beside the writer: rows change at 120,000 a second or more while the same queries run; what
 * they find is verified against the rows once the writer has ended. */
#include "base/clock.h"
#include "base/mem.h"
#include "graph-updater/nearest.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 64, TOP = 10, ASKERS = 64, BATCH = 32, UPDATES_PER_S = 120000 };

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, error.text);    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static struct error error;
static struct chunks exact;
static struct nearest_rows *rows;
static struct user_ids users;
static uint32_t users_count;
static struct neighbour found[ASKERS][TOP], expected[ASKERS][TOP];
static struct nearest_query queries[ASKERS];
static struct nearest_how alone, shared;

/* ---- rows ---- */

struct draw { uint64_t state; };

static uint32_t draw_below(struct draw *draw, uint32_t bound)
{
	draw->state = draw->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((draw->state >> 32) * bound >> 32);
}

/* About normal: a sum of eight. */
static int draw_normal(struct draw *draw, int scale)
{
	int sum = 0;

	for (int i = 0; i < 8; i++)
		sum += (int)draw_below(draw, 2001) - 1000;
	return sum * scale / 1600;
}

static void put(uint32_t row, const int16_t *values)
{
	nearest_rows_put(rows, row, values, gcn_dot(values, values, D));
}

static void make_row(struct draw *draw, bool clusters, int16_t *values)
{
	struct draw centre = {draw_below(draw, 20000) + 7};

	for (uint32_t i = 0; i < D; i++) {
		int value = draw_normal(draw, clusters ? 400 : 800) + (clusters ? draw_normal(&centre, 800) : 0);
		values[i] = (int16_t)(value > GCN_ONE ? GCN_ONE : value < -GCN_ONE ? -GCN_ONE : value);
	}
}

static void make_rows(bool clusters)
{
	struct draw draw = {20261124};
	_Alignas(64) int16_t values[D];

	for (uint32_t row = 0; row < users_count; row++) {
		make_row(&draw, clusters, values);
		put(row, values);
	}
}

static void create(void)
{
	MUST(chunks_create(&exact, users_count, D * sizeof(int16_t)) && chunks_reserve(&exact, users_count));
	MUST(nearest_rows_create(D, users_count, &exact, &rows, &error) == STATUS_OK);
	MUST(nearest_rows_reserve(rows, users_count));
	MUST(ids_create("users", users_count, 0, &users.table, &error) == STATUS_OK);
	for (uint32_t row = 0; row < users_count; row++) {
		char name[16];
		uint32_t id;
		snprintf(name, sizeof name, "u%u", row * 7919u);
		MUST(ids_hold(users.table, text_of(name), IDS_GRAPH, &id, &error) == STATUS_OK && id == row);
	}
}

static void ask(void)
{
	for (uint32_t q = 0; q < ASKERS; q++)
		queries[q] = (struct nearest_query){{(uint32_t)((uint64_t)q * users_count / ASKERS)}, TOP,
						    found[q], 0};
}

/* ---- verification: everybody, by exact integers ---- */

static bool is_before(const struct neighbour *a, const struct neighbour *b)
{
	__int128 left = (__int128)a->dot * llabs(a->dot) * b->norm;
	__int128 right = (__int128)b->dot * llabs(b->dot) * a->norm;

	return left != right ? left > right : text_compare(user_bytes(users, a->user),
							   user_bytes(users, b->user)) < 0;
}

static void search_all(uint32_t asker, struct neighbour *best)
{
	const int16_t *own = nearest_rows_exact(rows, asker);
	uint32_t count = 0;

	for (uint32_t row = 0; row < users_count; row++) {
		const int16_t *other = nearest_rows_exact(rows, row);
		struct neighbour candidate = {{row}, gcn_dot(own, other, D), gcn_dot(other, other, D), 0};
		uint32_t at;
		if (row == asker || !candidate.norm)
			continue;
		if (count == TOP && !is_before(&candidate, &best[TOP - 1]))
			continue;
		for (at = count < TOP ? count++ : TOP - 1; at && is_before(&candidate, &best[at - 1]); at--)
			best[at] = best[at - 1];
		best[at] = candidate;
	}
}

static void verify(struct nearest_how how, const char *what)
{
	uint32_t right = 0;

	ask();
	nearest_search_rows(rows, users, how, queries, BATCH);
	for (uint32_t q = BATCH; q < ASKERS; q++)
		nearest_search_rows(rows, users, how, &queries[q], 1);
	for (uint32_t q = 0; q < ASKERS; q++) {
		MUST(queries[q].count == TOP);
		for (uint32_t n = 0; n < TOP; n++)
			right += found[q][n].user.v == expected[q][n].user.v;
	}
	printf("  verified, %s: recall %.3f of %d\n", what, (double)right / (ASKERS * TOP), ASKERS * TOP);
	MUST(right == ASKERS * TOP);
}

/* ---- timing ---- */

static int by_value(const void *a, const void *b)
{
	const double *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

/* Median milliseconds a query, `at_once` together. */
static double time_queries(struct nearest_how how, uint32_t at_once, uint32_t rounds)
{
	double each[512];

	ask();
	for (uint32_t r = 0; r < rounds; r++) {
		int64_t begin = clock_steady_ns();
		nearest_search_rows(rows, users, how, &queries[r * at_once % (ASKERS - at_once + 1)], at_once);
		each[r] = (double)(clock_steady_ns() - begin) / 1e6 / at_once;
	}
	qsort(each, rounds, sizeof *each, by_value);
	return each[rounds / 2];
}

/* ---- beside a writer ---- */

struct writer {
	_Atomic bool ending;
	uint64_t updates;
	double seconds;
};

/* Some rows a time, evenly spread: other values, then the old ones again. */
static void *write_rows(void *argument)
{
	struct writer *writer = argument;
	struct draw draw = {99};
	_Alignas(64) int16_t old[D], values[D];
	int64_t begin = clock_steady_ns();

	while (!atomic_load(&writer->ending)) {
		double due = (double)(clock_steady_ns() - begin) / 1e9 * UPDATES_PER_S;
		while ((double)writer->updates < due) {
			uint32_t row = draw_below(&draw, users_count);
			memcpy(old, nearest_rows_exact(rows, row), sizeof old);
			for (uint32_t i = 0; i < D; i++)
				values[i] = (int16_t)(old[i] / 2 + old[(i + 1) % D] / 3);
			put(row, values);
			put(row, old);
			writer->updates += 2;
		}
		nanosleep(&(struct timespec){0, 100000}, NULL);
	}
	writer->seconds = (double)(clock_steady_ns() - begin) / 1e9;
	return NULL;
}

static void time_beside(void)
{
	struct nearest_how beside = {.beside = true};
	double quiet[3], busy[3], rate = 0;

	/* Alternating, since the machine's speed changes. */
	for (int round = 0; round < 3; round++) {
		struct writer writer = {0};
		pthread_t thread;
		quiet[round] = time_queries(beside, 1, 60);
		MUST(pthread_create(&thread, NULL, write_rows, &writer) == 0);
		busy[round] = time_queries(beside, 1, 60);
		atomic_store(&writer.ending, true);
		pthread_join(thread, NULL);
		rate += (double)writer.updates / writer.seconds / 3;
	}
	qsort(quiet, 3, sizeof *quiet, by_value);
	qsort(busy, 3, sizeof *busy, by_value);
	printf("  beside the writer: %.0f row updates/s, a query takes %.2f ms, %.2f without updates: %.2f x\n",
	       rate, busy[1], quiet[1], busy[1] / quiet[1]);
	verify(beside, "after the writer");
}

static void time_updates(void)
{
	struct draw draw = {5};
	_Alignas(64) int16_t values[D];
	int64_t begin;
	enum { UPDATES = 300000 };

	make_row(&draw, false, values);
	begin = clock_steady_ns();
	for (uint32_t n = 0; n < UPDATES; n++)
		put(draw_below(&draw, users_count), values);
	printf("row updates alone: %.0f a second\n", UPDATES * 1e9 / (double)(clock_steady_ns() - begin));
}

static void measure(const char *what, bool clusters)
{
	double one, many;

	make_rows(clusters);
	printf("%u users x %d, %s, top %d (%s):\n", users_count, D, what, TOP, nearest_rows_kernels(rows)->name);
	ask();
	for (uint32_t q = 0; q < ASKERS; q++)
		search_all(queries[q].user.v, expected[q]);
	verify(alone, "one thread");
	verify(shared, "threads");
	one = time_queries(alone, 1, 200);
	many = time_queries(alone, BATCH, 12);
	printf("  one thread: one query %.3f ms, %d at once %.3f ms each\n", one, BATCH, many);
	printf("  %u threads: one query %.3f ms, %d at once %.3f ms each\n",
	       pool_threads(shared.threads), time_queries(shared, 1, 200), BATCH,
	       time_queries(shared, BATCH, 12));
	time_beside();
}

/* ---- for the peers ---- */

static int answer_file(const char *path, uint32_t asking)
{
	FILE *file = fopen(path, "rb"), *out;
	_Alignas(64) int16_t values[D];
	char name[4096];
	struct neighbour *top = malloc((size_t)asking * TOP * sizeof *top);
	struct nearest_query *asked = malloc(asking * sizeof *asked);
	double one, many, one_shared, many_shared;

	MUST(file && top && asked && asking >= ASKERS);
	for (uint32_t row = 0; row < users_count; row++) {
		MUST(fread(values, sizeof values, 1, file) == 1);
		put(row, values);
	}
	fclose(file);
	for (uint32_t q = 0; q < asking; q++)
		asked[q] = (struct nearest_query){{q}, TOP, top + (size_t)q * TOP, 0};
	nearest_search_rows(rows, users, alone, asked, asking);
	snprintf(name, sizeof name, "%s.top", path);
	out = fopen(name, "wb");
	MUST(out);
	for (uint32_t q = 0; q < asking; q++)
		for (uint32_t n = 0; n < TOP; n++)
			MUST(n < asked[q].count && fwrite(&top[(size_t)q * TOP + n].user.v, 4, 1, out) == 1);
	MUST(fclose(out) == 0);
	one = time_queries(alone, 1, 200);
	many = time_queries(alone, BATCH, 12);
	one_shared = time_queries(shared, 1, 200);
	many_shared = time_queries(shared, BATCH, 12);
	printf("{\"kernel\": \"%s\", \"one_ms\": %.4f, \"batch_ms\": %.4f, \"threads\": %u, "
	       "\"one_threads_ms\": %.4f, \"batch_threads_ms\": %.4f, \"bytes\": %zu}\n",
	       nearest_rows_kernels(rows)->name, one, many, pool_threads(shared.threads), one_shared,
	       many_shared, nearest_rows_bytes(rows) + chunks_bytes(&exact));
	free(top);
	free(asked);
	return 0;
}

int main(int argc, char **argv)
{
	bool file = argc == 5 && strcmp(argv[1], "--rows") == 0;
	unsigned threads = !file && argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 2;
	int code = 0;

	users_count = (uint32_t)strtoul(file ? argv[3] : argc > 1 ? argv[1] : "1000000", NULL, 10);
	MUST(users_count >= 1000);
	create();
	MUST(pool_create(threads, &shared.threads, &error) == STATUS_OK);
	shared.scratch = malloc((size_t)threads * NEAREST_BATCH_MAX * TOP * sizeof *shared.scratch);
	MUST(shared.scratch);
	if (file) {
		code = answer_file(argv[2], (uint32_t)strtoul(argv[4], NULL, 10));
	} else {
		measure("normal", false);
		measure("in clusters", true);
		time_updates();
	}
	free(shared.scratch);
	pool_destroy(shared.threads);
	ids_destroy(users.table);
	nearest_rows_destroy(rows);
	chunks_destroy(&exact);
	return code;
}
