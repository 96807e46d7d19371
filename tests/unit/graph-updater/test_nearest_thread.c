/* test_nearest_thread.c - readers beside the writer: no torn row, no lost winner, no data race (run under the
 * thread sanitizer, too), and threads that share a scan change no result. */
#include "base/clock.h"
#include "graph-updater/neighbours.h"
#include "graph-updater/nearest.h"
#include "tests/property/graph-updater/graph_world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { D = 64, ROWS = 2048, STEADY = 64, TOP = 8, READERS = 2, WRITES = 30000, READS = 50000 };

/* Rows of their own, without a graph. */
static struct {
	struct chunks exact;
	struct nearest_rows *rows;
	struct user_ids users;
	_Atomic bool ending;
	_Atomic unsigned torn, lost, reads;
} shared;

/* Version `version` of a row. The steady ones lie close around one direction, all others away from it. */
static void version_of(uint32_t row, uint32_t version, int16_t *out)
{
	struct draw draw = {(uint64_t)row << 8 | version};

	for (uint32_t i = 0; i < D; i++) {
		int noise = (int)draw_below(&draw, 2001) - 1000;
		out[i] = (int16_t)(row < STEADY ? (i % 2 ? 6000 : -6000) + noise : noise * 8 / (1 + (int)(i % 3)));
	}
}

static int64_t norm_of(const int16_t *row)
{
	return gcn_dot(row, row, D);
}

static void put(uint32_t row, uint32_t version)
{
	_Alignas(64) int16_t values[D];

	version_of(row, version, values);
	nearest_rows_put(shared.rows, row, values, norm_of(values));
}

static void create_rows(uint32_t count)
{
	struct error error = {0};

	memset(&shared, 0, sizeof shared);
	ck_assert(chunks_create(&shared.exact, 4 * ROWS, D * sizeof(int16_t)));
	must(nearest_rows_create(D, 4 * ROWS, &shared.exact, &shared.rows, &error), &error, 0);
	must(ids_create("users", 4 * ROWS, 0, &shared.users.table, &error), &error, 0);
	ck_assert(chunks_reserve(&shared.exact, count) && nearest_rows_reserve(shared.rows, count));
	for (uint32_t row = 0; row < 4 * ROWS; row++) {
		char name[16];
		uint32_t id;
		snprintf(name, sizeof name, "%u", row * 7919 % 65521);
		must(ids_hold(shared.users.table, text_of(name), IDS_GRAPH, &id, &error), &error, 0);
	}
	for (uint32_t row = 0; row < count; row++)
		put(row, 0);
}

static void destroy_rows(void)
{
	nearest_rows_destroy(shared.rows);
	chunks_destroy(&shared.exact);
	ids_destroy(shared.users.table);
}

/* The row is one of its versions, as a whole. */
static bool is_whole(uint32_t row, const int16_t *values)
{
	_Alignas(64) int16_t version[D];

	for (uint32_t v = 0; v < 4; v++) {
		version_of(row, v, version);
		if (!memcmp(values, version, sizeof version))
			return true;
	}
	return false;
}

/* A copied block: every row's codes are those of one of its versions. */
static bool codes_are_whole(uint32_t first, const struct nearest_block *block)
{
	const struct nearest_kernels *kernels = nearest_rows_kernels(shared.rows);

	for (uint32_t r = 0; r < NEAREST_BLOCK_ROWS; r += 5) {
		bool whole = false;
		for (uint32_t v = 0; v < 4 && !whole; v++) {
			_Alignas(64) int16_t version[D];
			uint64_t upper[D / 16], lower[D / 16];
			uint32_t head;
			version_of(first + r, v, version);
			kernels->encode(version, D, norm_of(version), &head, upper, lower);
			whole = head == block->heads[r];
			for (uint32_t k = 0; k < D / 16; k++)
				whole = whole && upper[k] == block->upper[(r / 8 * (D / 16) + k) * 8 + r % 8];
		}
		if (!whole)
			return false;
	}
	return true;
}

static void *read_rows(void *argument)
{
	struct draw draw = {(uint64_t)(uintptr_t)argument};
	_Alignas(64) unsigned char room[NEAREST_BLOCK_BYTES_MAX];
	_Alignas(64) int16_t values[D];

	while (!atomic_load(&shared.ending)) {
		uint32_t row = draw_below(&draw, 2) ? STEADY + draw_below(&draw, 8)
						    : draw_below(&draw, nearest_rows_count(shared.rows));
		uint32_t first = row / NEAREST_BLOCK_ROWS * NEAREST_BLOCK_ROWS;
		struct nearest_block block;
		nearest_rows_copy(shared.rows, row, values);
		/* Rows that are there and not yet written are zero. */
		if (row < ROWS && !is_whole(row, values))
			atomic_fetch_add(&shared.torn, 1);
		if (first + NEAREST_BLOCK_ROWS > ROWS)
			continue;
		block = nearest_rows_block_copy(shared.rows, first, room);
		if (!codes_are_whole(first, &block))
			atomic_fetch_add(&shared.torn, 1);
		atomic_fetch_add(&shared.reads, 1);
	}
	return NULL;
}

static void run_beside_writer(void *(*reader)(void *))
{
	pthread_t threads[READERS];
	struct draw draw = {4711};
	int64_t end_ns = clock_steady_ns() + 2000000000;

	for (uintptr_t r = 0; r < READERS; r++)
		ck_assert_int_eq(pthread_create(&threads[r], NULL, reader, (void *)(r + 1)), 0);
	for (uint32_t n = 0; n < WRITES || (atomic_load(&shared.reads) < READS && clock_steady_ns() < end_ns) ||
	     atomic_load(&shared.reads) < 20; n++) {
		/* Few rows are written often, so that readers meet the writer. */
		uint32_t row = STEADY + draw_below(&draw, draw_below(&draw, 4) ? 8 : ROWS - STEADY);
		put(row, 1 + draw_below(&draw, 3));
		if (n % 10000 == 0 && n < 30000) {
			uint32_t more = nearest_rows_count(shared.rows) + 1;
			ck_assert(chunks_reserve(&shared.exact, more) && nearest_rows_reserve(shared.rows, more));
		}
	}
	atomic_store(&shared.ending, true);
	for (int r = 0; r < READERS; r++)
		pthread_join(threads[r], NULL);
}

START_TEST(rows_are_never_torn)
{
	create_rows(ROWS);
	run_beside_writer(read_rows);
	ck_assert_uint_eq(shared.torn, 0);
	ck_assert_uint_ge(nearest_rows_count(shared.rows), ROWS + 1);
	for (uint32_t row = 0; row < ROWS; row++)
		ck_assert(nearest_rows_right(shared.rows, row));
	destroy_rows();
}
END_TEST

/* The nearest of a steady row are steady rows: they must be found whatever is written meanwhile. */
static void *search_steady(void *argument)
{
	struct draw draw = {(uint64_t)(uintptr_t)argument};

	while (!atomic_load(&shared.ending)) {
		struct nearest_how beside = {.beside = true};
		struct neighbour found[3][TOP], moving[TOP];
		struct nearest_query queries[4];
		_Alignas(64) int16_t values[D];
		for (int q = 0; q < 3; q++)
			queries[q] = (struct nearest_query){{draw_below(&draw, STEADY)}, TOP, found[q], 0};
		queries[3] = (struct nearest_query){{STEADY + draw_below(&draw, 8)}, TOP, moving, 0};
		nearest_search_rows(shared.rows, shared.users, beside, queries, 4);
		for (int q = 0; q < 3; q++) {
			version_of(queries[q].user.v, 0, values);
			for (uint32_t n = 0; n < TOP; n++) {
				const struct neighbour *neighbour = &found[q][n];
				_Alignas(64) int16_t other[D];
				version_of(neighbour->user.v, 0, other);
				if (queries[q].count != TOP || neighbour->user.v >= STEADY ||
				    neighbour->dot != gcn_dot(values, other, D) || neighbour->norm != norm_of(other))
					atomic_fetch_add(&shared.lost, 1);
			}
		}
		/* What changes meanwhile is reported as one of its versions. */
		for (uint32_t n = 0; n < queries[3].count; n++) {
			bool whole = false;
			for (uint32_t v = 0; v < 4; v++) {
				_Alignas(64) int16_t other[D];
				version_of(moving[n].user.v, v, other);
				whole = whole || moving[n].norm == norm_of(other);
			}
			if (!whole)
				atomic_fetch_add(&shared.torn, 1);
		}
		atomic_fetch_add(&shared.reads, 1);
	}
	return NULL;
}

START_TEST(searches_beside_the_writer)
{
	create_rows(ROWS);
	run_beside_writer(search_steady);
	ck_assert_uint_eq(shared.lost, 0);
	ck_assert_uint_eq(shared.torn, 0);
	destroy_rows();
}
END_TEST

START_TEST(threads_change_nothing)
{
	enum { MANY = 4 * ROWS, QUERIES = 64 };
	static const unsigned counts[] = {2, 3, 16, NEAREST_THREADS_MAX};
	static struct neighbour found[2][QUERIES][TOP];
	struct nearest_query queries[QUERIES];
	struct error error = {0};
	struct pool *none = NULL;

	create_rows(MANY);
	/* Equal rows: ids decide. */
	for (uint32_t row = 0; row < MANY; row += 17)
		nearest_rows_put(shared.rows, row, nearest_rows_exact(shared.rows, 17 * 40),
				 norm_of(nearest_rows_exact(shared.rows, 17 * 40)));
	for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
		struct nearest_how how = {0};
		must(pool_create(counts[c], &how.threads, &error), &error, c);
		ck_assert_uint_eq(pool_threads(how.threads), counts[c]);
		how.scratch = mem_alloc_array((size_t)counts[c] * NEAREST_BATCH_MAX * TOP, sizeof *how.scratch);
		ck_assert_ptr_nonnull(how.scratch);
		for (int round = 0; round < 3; round++) {
			for (int p = 0; p < 2; p++) {
				for (uint32_t q = 0; q < QUERIES; q++)
					queries[q] = (struct nearest_query){
						{(q * 119 + (uint32_t)round * 17) % MANY}, 1 + q % TOP, found[p][q], 0};
				nearest_search_rows(shared.rows, shared.users, p ? how : (struct nearest_how){0},
						    queries, QUERIES);
				for (uint32_t q = 0; q < QUERIES; q++)
					ck_assert_uint_eq(queries[q].count, 1 + q % TOP);
			}
			for (uint32_t q = 0; q < QUERIES; q++)
				for (uint32_t n = 0; n < 1 + q % TOP; n++)
					ck_assert_msg(found[0][q][n].user.v == found[1][q][n].user.v &&
						      found[0][q][n].cosine == found[1][q][n].cosine,
						      "%u threads: query %u, place %u", counts[c], q, n);
		}
		mem_free(how.scratch);
		pool_destroy(how.threads);
	}
	ck_assert_int_eq(pool_create(0, &none, &error), STATUS_CONFIG);
	ck_assert_int_eq(pool_create(POOL_THREADS_MAX + 1, &none, &error), STATUS_CONFIG);
	ck_assert_ptr_null(none);
	pool_destroy(NULL);
	destroy_rows();
}
END_TEST

/* ---- the real writer: events and flushes ---- */

static struct world world;
static struct names names;

static void *search_world(void *argument)
{
	struct draw draw = {(uint64_t)(uintptr_t)argument};

	while (!atomic_load(&shared.ending)) {
		const struct nearest_rows *rows = gcn_user_rows(world.gcn);
		struct neighbour found[4][TOP];
		struct nearest_query queries[4];
		for (int q = 0; q < 4; q++)
			queries[q] = (struct nearest_query){{draw_below(&draw, 300)}, TOP, found[q], 0};
		nearest_search_rows(rows, world.users, (struct nearest_how){.beside = true}, queries, 4);
		for (int q = 0; q < 4; q++)
			for (uint32_t n = 0; n < queries[q].count; n++) {
				const struct neighbour *neighbour = &found[q][n];
				/* Cauchy and Schwarz: a torn row would break it sooner or later. */
				if (neighbour->norm <= 0 || neighbour->cosine > 1 || neighbour->cosine < -1 ||
				    (n && neighbour->cosine > neighbour[-1].cosine) ||
				    neighbour->user.v == queries[q].user.v)
					atomic_fetch_add(&shared.torn, 1);
			}
		atomic_fetch_add(&shared.reads, 1);
	}
	return NULL;
}

START_TEST(searches_beside_flushes)
{
	static const double weights[][GCN_LAYERS_MAX + 1] = {{0}, {0, 1, 0, 1}};

	names_fill(&names);
	for (size_t w = 0; w < 2; w++) {
		struct world_options options = world_defaults();
		struct draw draw = {w + 1};
		struct error error = {0};
		int64_t now_ms = 1000;
		pthread_t threads[READERS];
		struct neighbours *none = NULL;

		memset(&shared, 0, sizeof shared);
		memcpy(options.gcn.layer_weights, weights[w], sizeof weights[w]);
		world = world_create(options, w);
		/* All ids are there before the readers are: they must rest. */
		for (unsigned u = 0; u < 300; u++)
			world_apply(&world, &(struct interaction_event){
				.user_id = text_of(names.user[u]), .item_id = text_of(names.item[u % 40]),
				.kind = KIND_CLICK, .event_time_ms = 1}, w);
		must(gcn_flush(world.gcn, &error), &error, w);
		ck_assert_int_eq(neighbours_create(world.gcn, world.users, TOP, NEAREST_THREADS_MAX + 1, &none, &error),
				 STATUS_CONFIG);
		ck_assert_ptr_null(none);
		for (uintptr_t r = 0; r < READERS; r++)
			ck_assert_int_eq(pthread_create(&threads[r], NULL, search_world, (void *)(r + 1)), 0);
		for (unsigned n = 0; n < 4000 || atomic_load(&shared.reads) < 20; n++) {
			struct interaction_event event =
				random_event(&draw, &names, (struct mix){300, 40, 30, 0, 0, &now_ms});
			world_apply(&world, &event, w);
			if (n % 16 == 0)
				must(gcn_flush(world.gcn, &error), &error, w);
		}
		atomic_store(&shared.ending, true);
		for (int r = 0; r < READERS; r++)
			pthread_join(threads[r], NULL);
		ck_assert_uint_eq(shared.torn, 0);
		must(gcn_flush(world.gcn, &error), &error, w);
		must(gcn_check(world.gcn, &error), &error, w);
		world_destroy(&world);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nearest_thread");
	TCase *tcase = tcase_create("threads");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, rows_are_never_torn);
	tcase_add_test(tcase, searches_beside_the_writer);
	tcase_add_test(tcase, threads_change_nothing);
	tcase_add_test(tcase, searches_beside_flushes);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
