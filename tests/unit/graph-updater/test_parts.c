/* test_parts.c - ids, tombstones, catalog, kernels, wide sums, export and inspect by hand. */
#include "tests/property/graph-updater/graph_world.h"

#include "graph-updater/catalog.h"
#include "graph-updater/export.h"
#include "graph-updater/gcn_internal.h"
#include "graph-updater/inspect.h"
#include "graph-updater/updater_internal.h"

#include "base/pool.h"

#include <math.h>
#include <unistd.h>

/* ---- ids ---- */

START_TEST(ids_come_and_go)
{
	for (uint64_t seed = 0; seed < 4; seed++) {
		enum { NAMES = 3000 };
		struct ids *ids;
		struct error error = {0};
		struct draw draw = {seed + 1};
		static int held[NAMES];
		static uint32_t id_of[NAMES];
		uint32_t count = 0;
		memset(held, 0, sizeof held);
		must(ids_create("users", NAMES + 2000, seed, &ids, &error), &error, seed);
		for (int step = 0; step < 60000; step++) {
			uint32_t n = draw_below(&draw, NAMES), found;
			enum ids_holder holder = draw_below(&draw, 2) ? IDS_GRAPH : IDS_CATALOG;
			char name[24];
			struct text_view bytes = {name, (size_t)snprintf(name, sizeof name, "%u%s", n, n % 3
									 ? "" : "-long-name")};
			if (draw_below(&draw, 2)) {
				must(ids_hold(ids, bytes, holder, &found, &error), &error, seed);
				ck_assert(!held[n] || found == id_of[n]);
				count += !held[n];
				held[n] |= (int)holder;
				id_of[n] = found;
			} else if (held[n]) {
				bool gone = ids_release(ids, id_of[n], holder);
				held[n] &= ~(int)holder;
				ck_assert_int_eq(gone, !held[n]);
				count -= gone;
			}
			ck_assert_uint_eq(ids_count(ids), count);
			ck_assert_int_eq(ids_find(ids, bytes, &found), held[n] != 0);
			if (held[n])
				ck_assert(found == id_of[n] && text_equal(ids_bytes(ids, found), bytes) &&
					  ids_alive(ids, found) && found < ids_end(ids));
		}
		uint32_t *sorted, sorted_count;
		must(ids_sorted(ids, &sorted, &sorted_count, &error), &error, seed);
		ck_assert_uint_eq(sorted_count, count);
		for (uint32_t n = 1; n < sorted_count; n++)
			ck_assert_int_lt(text_compare(ids_bytes(ids, sorted[n - 1]),
						      ids_bytes(ids, sorted[n])), 0);
		mem_free(sorted);
		ids_destroy(ids);
	}
}
END_TEST

START_TEST(ids_have_a_maximum)
{
	struct ids *ids;
	struct error error = {0};
	uint32_t a, b;

	must(ids_create("users", 2, 0, &ids, &error), &error, 0);
	must(ids_hold(ids, TEXT_LITERAL(""), IDS_GRAPH, &a, &error), &error,
	     0);       /* the empty id is one */
	must(ids_hold(ids, TEXT_LITERAL("b"), IDS_GRAPH, &b, &error), &error, 0);
	ck_assert_int_eq(ids_hold(ids, TEXT_LITERAL("c"), IDS_GRAPH, &b, &error), STATUS_NO_MEMORY);
	ck_assert(strstr(error.text, "graph.users_max") != NULL);
	ck_assert(ids_release(ids, a, IDS_GRAPH));
	must(ids_hold(ids, TEXT_LITERAL("c"), IDS_GRAPH, &b, &error), &error, 0);
	ck_assert_uint_eq(b, a);
	ids_destroy(ids);
}
END_TEST

/* ---- tombstones ---- */

START_TEST(tombstones_run_out)
{
	struct tombstones *tombstones;
	struct tombstone stone = tombstone_of(TOMBSTONE_PAIR, TEXT_LITERAL("ab"), TEXT_LITERAL("c"), 100);
	struct tombstone other = tombstone_of(TOMBSTONE_PAIR, TEXT_LITERAL("a"), TEXT_LITERAL("bc"), 100);
	struct error error = {0};
	int64_t time_ms;
	bool later;

	must(tombstones_create(50, 3, &tombstones, &error), &error, 0);
	must(tombstones_put(tombstones, &stone, 100, &later, &error), &error, 0);
	ck_assert(later);
	ck_assert(!tombstones_find(tombstones, &other, 100, &time_ms));
	ck_assert(tombstones_find(tombstones, &stone, 150, &time_ms) && time_ms == 100);
	ck_assert(!tombstones_find(tombstones, &stone, 151, &time_ms));
	stone.time_ms = 90;
	must(tombstones_put(tombstones, &stone, 120, &later, &error), &error, 0);
	ck_assert(!later && tombstones_find(tombstones, &stone, 120, &time_ms) && time_ms == 100);
	/* Full of run-out ones is not full. */
	for (int n = 0; n < 20; n++) {
		stone = tombstone_of(TOMBSTONE_USER, text_of((char[2]){(char)('a' + n), 0}), TEXT_LITERAL(""),
				     200 + 100 * n);
		must(tombstones_put(tombstones, &stone, 200 + 100 * n, &later, &error), &error, 0);
		ck_assert(later);
	}
	stone = tombstone_of(TOMBSTONE_USER, TEXT_LITERAL("x"), TEXT_LITERAL(""), 2100);
	for (int n = 0; n < 2; n++) {
		stone.hash[0]++;
		must(tombstones_put(tombstones, &stone, 2100, &later, &error), &error, 0);
	}
	stone.hash[0]++;
	ck_assert_int_eq(tombstones_put(tombstones, &stone, 2100, &later, &error), STATUS_NO_MEMORY);
	tombstones_destroy(tombstones);
}
END_TEST

/* ---- catalog ---- */

static enum catalog_effect put_item(struct catalog *catalog, const char *title, const char *brand,
				    int64_t time_ms,
				    bool deleted)
{
	struct attribute attributes[3] = {{TEXT_LITERAL("z"), TEXT_LITERAL("1")},
					  {TEXT_LITERAL("brand"), TEXT_LITERAL("")},
					  {TEXT_LITERAL("brand"), text_of(brand)}};
	struct item_event event = {TEXT_LITERAL("item"), text_of(title), attributes, 3, time_ms, deleted};
	enum catalog_effect effect;
	struct error error = {0};

	must(catalog_apply(catalog, &event, time_ms > 50 ? time_ms : 50, &effect, &error), &error, 0);
	return effect;
}

START_TEST(catalog_keeps_the_latest)
{
	struct item_ids items;
	struct tombstones *tombstones;
	struct catalog_options options = {100, 8, {NULL}, NULL};
	struct catalog *catalog;
	const struct catalog_entry *entry;
	struct error error = {0};
	struct item_id item;
	struct text_view rest, value;
	static char large[1 << 20];

	must(ids_create("items", 100, 0, &items.table, &error), &error, 0);
	must(tombstones_create(1000, 100, &tombstones, &error), &error, 0);
	options.items = items;
	options.tombstones = tombstones;
	must(catalog_create(&options, &catalog, &error), &error, 0);
	ck_assert_int_eq(put_item(catalog, "old", "b", 10, false), CATALOG_CHANGED);
	ck_assert_int_eq(put_item(catalog, "old", "b", 10, false), CATALOG_DUPLICATE);
	ck_assert_int_eq(put_item(catalog, "older", "b", 9, false), CATALOG_VOID);
	ck_assert_int_eq(put_item(catalog, "p", "b", 10, false), CATALOG_CHANGED);      /* greater content */
	ck_assert_int_eq(put_item(catalog, "new \xff\xc3\xa9\xc3\xa9", "|x||y|", 11, false), CATALOG_CHANGED);
	ck_assert(item_ids_find(items, TEXT_LITERAL("item"), &item));
	entry = catalog_get(catalog, item);
	/* "new " + U+FFFD is 7 bytes; the next character does not fit into 8. */
	ck_assert(text_equal(entry->title, TEXT_LITERAL("new \xef\xbf\xbd")));
	ck_assert_uint_eq(catalog_cut_texts(catalog), 1);
	ck_assert_uint_eq(entry->attributes_count, 2);
	rest = catalog_attribute(entry, TEXT_LITERAL("brand"));
	ck_assert(catalog_next_value(&rest, &value) && text_equal(value, TEXT_LITERAL("x")));
	ck_assert(catalog_next_value(&rest, &value) && text_equal(value, TEXT_LITERAL("y")));
	ck_assert(!catalog_next_value(&rest, &value));
	ck_assert_uint_eq(catalog_attribute(entry, TEXT_LITERAL("none")).size, 0);
	memset(large, 'm', sizeof large - 1);
	ck_assert_int_eq(put_item(catalog, large, "b", 12, false), CATALOG_CHANGED);
	ck_assert(text_equal(catalog_get(catalog, item)->title, TEXT_LITERAL("mmmmmmmm")));
	ck_assert_int_eq(put_item(catalog, "", "", 20, true), CATALOG_CHANGED);
	ck_assert(!item_ids_find(items, TEXT_LITERAL("item"), &item));
	ck_assert_int_eq(put_item(catalog, "late", "b", 20, false), CATALOG_VOID);
	ck_assert_int_eq(put_item(catalog, "back", "b", 21, false), CATALOG_CHANGED);
	ck_assert_int_eq(put_item(catalog, "", "", 5, true), CATALOG_VOID);             /* a late deletion */
	ck_assert_uint_eq(catalog_count(catalog), 1);
	catalog_destroy(catalog);
	tombstones_destroy(tombstones);
	ids_destroy(items.table);
}
END_TEST

/* ---- kernels ---- */

START_TEST(kernels_agree)
{
	static _Alignas(64) int16_t row[2][256], fresh[2][256], residual[2][256];
	static _Alignas(64) int32_t sums[2][256];
	struct draw draw = {3};

	if (!gcn_have_avx2())
		return;
	for (int round = 0; round < 3000; round++) {
		uint32_t dimensions = 16 * (1 + draw_below(&draw, 16)),
			degree = 1 + draw_below(&draw, round % 2 ? 40 : 131072);
		int64_t squares[2][2];
		bool extreme = round % 5 == 0;
		for (uint32_t i = 0; i < dimensions; i++) {
			for (int r = 0; r < 2; r++)
				row[r][i] = (int16_t)(extreme ? (round % 2 ? GCN_ONE : -GCN_ONE)
							      : (int)draw_below(&draw,
										2 * GCN_ONE + 1) - GCN_ONE);
			/* Halves on purpose: an odd multiple of degree / 2. */
			sums[0][i] = draw_below(&draw, 3) && degree % 2 == 0
				? (int32_t)(degree / 2) * (int32_t)(2 * draw_below(&draw,
										   GCN_ONE) + 1) - (int32_t)(degree * (GCN_ONE / 2))
				: (int32_t)draw_below(&draw,
						      degree * 2 * GCN_ONE / 2 + 1) - (int32_t)(degree * (GCN_ONE / 2));
			sums[1][i] = sums[0][i];
			/* As in a stream: what is stored is nearly the mean; odd and even, with halves. */
			if (round % 4 >= 2)
				row[0][i] = (int16_t)(gcn_round_quotient(sums[0][i], degree) +
						      (int)draw_below(&draw, 9) - 4);
		}
		ck_assert_int_eq(gcn_kernels_scalar.dot(row[0], row[1], dimensions),
				 gcn_kernels_avx2.dot(row[0], row[1], dimensions));
		for (int path = 0; path < 2; path++) {
			const struct gcn_kernels *kernels = path ? &gcn_kernels_avx2 : &gcn_kernels_scalar;
			kernels->refresh[GCN_WHOLE](sums[path], degree, row[0], dimensions, fresh[path],
						    residual[path],
					 &squares[path][0],
					 &squares[path][1]);
			for (uint32_t i = 0; i < dimensions; i++) {
				int64_t twice = 2 * ((int64_t)sums[path][i] - (int64_t)fresh[path][i] * degree);
				ck_assert(llabs(twice) <= degree);
				ck_assert(llabs(twice) < degree || fresh[path][i] % 2 == 0);
			}
			ck_assert(kernels->add[GCN_WHOLE](sums[path], row[1], dimensions));
			ck_assert(kernels->subtract[GCN_WHOLE](sums[path], row[0], dimensions));
		}
		ck_assert(!memcmp(sums[0], sums[1], dimensions * sizeof **sums));
		ck_assert(!memcmp(fresh[0], fresh[1], dimensions * sizeof **fresh));
		ck_assert(!memcmp(residual[0], residual[1], dimensions * sizeof **residual));
		ck_assert(!memcmp(squares[0], squares[1], sizeof *squares));
	}
}
END_TEST

/* The two short forms say what the whole sum says, on both paths: refreshed, changed, settled; a rest that
 * does not fit is refused and stays. */
START_TEST(short_sums_say_the_same)
{
	static _Alignas(64) int16_t stored[256], row[256], half[256], before[256];
	static _Alignas(64) int16_t fresh[2][256], residual[2][256];
	static _Alignas(64) int32_t whole[256];
	struct draw draw = {4};
	int refused = 0, taken = 0;

	for (int round = 0; round < 6000; round++) {
		uint32_t dimensions = 16 * (1 + draw_below(&draw, 16)), degree = 1 + draw_below(&draw, 1 << 14);
		enum gcn_form form = round % 2 ? GCN_UNITS : GCN_REST;
		const struct gcn_kernels *kernels = round / 2 % 2 && gcn_have_avx2() ? &gcn_kernels_avx2
										     : &gcn_kernels_scalar;
		int64_t squares[2][2];
		bool fits = true;
		for (uint32_t i = 0; i < dimensions; i++) {
			int64_t sum, slack;
			stored[i] = (int16_t)((int)draw_below(&draw, 2 * GCN_ONE + 1) - GCN_ONE);
			row[i] = (int16_t)(form == GCN_UNITS ? (draw_below(&draw, 2) ? GCN_ONE : -GCN_ONE)
					   : (int)draw_below(&draw, 2 * GCN_ONE + 1) - GCN_ONE);
			if (form == GCN_UNITS) {
				half[i] = (int16_t)((int)draw_below(&draw, 2 * degree + 1) - (int)degree);
				sum = (int64_t)half[i] * GCN_ONE;
			} else {
				/* |s| <= 2^13 d, at the limits too. */
				slack = (int64_t)GCN_ONE * degree - llabs((int64_t)stored[i] * degree);
				slack = slack > INT16_MAX ? INT16_MAX : slack;
				half[i] = (int16_t)((int64_t)draw_below(&draw, (uint32_t)(2 * slack + 1)) - slack);
				sum = half[i] + (int64_t)degree * stored[i];
				fits = fits && half[i] + row[i] <= INT16_MAX && half[i] + row[i] >= INT16_MIN;
			}
			whole[i] = (int32_t)sum;
		}
		kernels->refresh[form](half, degree, stored, dimensions, fresh[0], residual[0], &squares[0][0],
				       &squares[0][1]);
		gcn_kernels_scalar.refresh[GCN_WHOLE](whole, degree, stored, dimensions, fresh[1], residual[1],
						      &squares[1][0], &squares[1][1]);
		ck_assert(!memcmp(fresh[0], fresh[1], dimensions * sizeof **fresh));
		ck_assert(!memcmp(residual[0], residual[1], dimensions * sizeof **residual));
		ck_assert(!memcmp(squares[0], squares[1], sizeof *squares));
		memcpy(before, half, sizeof half);
		ck_assert(kernels->add[form](half, row, dimensions) == fits);
		for (uint32_t i = 0; i < dimensions; i++)
			ck_assert_int_eq(half[i] - before[i], !fits ? 0 : form == GCN_UNITS ? row[i] / GCN_ONE : row[i]);
		if (fits)
			ck_assert(kernels->subtract[form](half, row, dimensions));
		ck_assert(!memcmp(before, half, dimensions * sizeof *half));
		refused += !fits;
		taken += fits;
		if (form == GCN_REST) {
			kernels->settle(half, degree, residual[0], dimensions);
			for (uint32_t i = 0; i < dimensions; i++) {
				ck_assert_int_eq(half[i] + (int64_t)degree * fresh[0][i], whole[i]);
				ck_assert(2 * abs(half[i]) <= (int)degree);
			}
		}
	}
	ck_assert(refused > 100 && taken > 100);
}
END_TEST

/* A hub whose sums leave int32: 300,000 users of one item, all with the same seed sign per dimension. */
START_TEST(sums_beyond_int32)
{
	struct world_options options = world_defaults();
	struct world world;
	struct error error = {0};
	bool beyond = false;
	struct item_id item;

	options.graph.users_max = options.gcn.users_max = 400000;
	options.gcn.dimensions = 16;
	options.gcn.threshold = 0.1;
	world = world_create(options, 0);
	for (uint32_t n = 0; n < 300000; n++) {
		char name[16];
		struct interaction_event event = {.user_id = {name,
							      (size_t)snprintf(name, sizeof name, "%u", n)},
						  .item_id = TEXT_LITERAL("hub"), .kind = KIND_CLICK,
							  .event_time_ms = n};
		world_apply(&world, &event, 0);
		if (n % 50000 == 49999)
			must(gcn_flush(world.gcn, &error), &error, 0);
	}
	must(gcn_flush(world.gcn, &error), &error, 0);
	must(gcn_check(world.gcn, &error), &error, 0);
	ck_assert(item_ids_find(world.items, TEXT_LITERAL("hub"), &item));
	for (uint32_t i = 0; i < 16; i++)
		beyond |= llabs(gcn_sums_get(&world.gcn->sides[GCN_ITEMS], 2, item.v, i)) > INT32_MAX;
	ck_assert(beyond);
	world_destroy(&world);
}
END_TEST

/* ---- export and inspect ---- */

static void click(struct updater *updater, const char *user, const char *item, double rating, int64_t time_ms)
{
	struct event event = {.type = RECORD_INTERACTION};
	struct error error = {0};

	event.interaction = (struct interaction_event){.user_id = text_of(user), .item_id = text_of(item),
						       .kind = KIND_RATE, .has_rating = true,
							       .rating = rating,
						       .event_time_ms = time_ms};
	must(updater_apply(updater, &event, &error), &error, 0);
}

static char *file_text(const char *name, const char *ending, size_t *size)
{
	static char text[1 << 16];
	char path[128];
	FILE *file;

	snprintf(path, sizeof path, "%s.%s", name, ending);
	file = fopen(path, "rb");
	ck_assert_msg(file != NULL, "%s", path);
	*size = fread(text, 1, sizeof text - 1, file);
	text[*size] = 0;
	fclose(file);
	unlink(path);
	return text;
}

/* Tables are the same bytes for any number of threads; rows come to more than one part. */
START_TEST(exports_alike_with_threads)
{
	enum { USERS = 1200, EACH = 15 };
	static const enum export_what kinds[] = {EXPORT_GRAPH, EXPORT_NEIGHBORS};
	struct updater_options options;
	struct updater *updater;
	struct error error = {0};
	char alone[64], shared[64], user[16], item[24], command[512];
	uint64_t rows_alone, rows_shared;
	struct pool *threads;

	updater_options_defaults(&options);
	options.dimensions = 16;
	options.users_max = options.items_max = 10000;
	must(updater_create(&options, &updater, &error), &error, 0);
	for (int u = 0; u < USERS; u++)
		for (int e = 0; e < EACH; e++) {
			snprintf(user, sizeof user, u % 7 ? "u%d" : "u\n%d", u);
			snprintf(item, sizeof item, e % 5 ? "i%d" : "i\\%d", (u * 31 + e * e * 17) % 997);
			click(updater, user, item, e % 3 ? e % 5 + 1 : 2.25, u * 100 + e);
		}
	must(updater_flush(updater, &error), &error, 0);
	must(pool_create(3, &threads, &error), &error, 0);
	snprintf(alone, sizeof alone, "/tmp/exitpoll-alone-%d", (int)getpid());
	snprintf(shared, sizeof shared, "/tmp/exitpoll-shared-%d", (int)getpid());
	for (size_t k = 0; k < 2; k++) {
		struct export_options export = {.what = kinds[k], .name = alone, .most = 2};
		must(export_state(updater, &export, &rows_alone, &error), &error, 0);
		export.name = shared;
		export.threads = threads;
		must(export_state(updater, &export, &rows_shared, &error), &error, 0);
		ck_assert_uint_eq(rows_alone, rows_shared);
		ck_assert_uint_eq(rows_alone, kinds[k] == EXPORT_GRAPH ? graph_get_counts(updater->graph).edges : 2 * USERS);
		snprintf(command, sizeof command, "cmp %s.tsv %s.tsv && test $(wc -l < %s.tsv) -eq %d && rm %s.tsv %s.tsv",
			 alone, shared, alone, (int)rows_alone + 1, alone, shared);
		ck_assert_int_eq(system(command), 0);
	}
	pool_destroy(threads);
	updater_destroy(updater);
}
END_TEST

START_TEST(exports_and_inspects)
{
	struct updater_options options;
	struct updater *updater;
	struct error error = {0};
	struct arena *arena = arena_create(1 << 20);
	struct inspect_node node;
	char name[64];
	struct export_options export = {.what = EXPORT_EMBEDDINGS, .name = name};
	uint64_t rows;
	size_t size;
	char *text;
	float row[16];

	snprintf(name, sizeof name, "/tmp/exitpoll-export-%d", (int)getpid());
	updater_options_defaults(&options);
	options.dimensions = 16;
	options.users_max = options.items_max = 1000;
	must(updater_create(&options, &updater, &error), &error, 0);
	click(updater, "tab\there", "i1", 4, 10);
	click(updater, "b", "i1", 3.5, 20);
	click(updater, "a", "i2", 1, 30);
	must(updater_flush(updater, &error), &error, 0);
	must(export_state(updater, &export, &rows, &error), &error, 0);
	ck_assert_uint_eq(rows, 3);
	text = file_text(name, "npy", &size);
	ck_assert_uint_eq(size, 128 + 3 * 16 * 4);
	ck_assert(!memcmp(text, "\x93NUMPY\x01\x00\x76\x00", 10));
	ck_assert(strstr(text + 10,
			 "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16), }") == text + 10);
	ck_assert_int_eq(text[127], '\n');
	/* "a" is alone with i2: its embedding is the seed of i2, +-1. */
	memcpy(row, text + 128, sizeof row);
	for (int i = 0; i < 16; i++)
		ck_assert(fabsf(row[i]) == 1);
	text = file_text(name, "ids", &size);
	ck_assert_str_eq(text, "a\nb\ntab\\there\n");
	export.what = EXPORT_NEIGHBORS;
	must(export_state(updater, &export, &rows, &error), &error, 0);
	text = file_text(name, "tsv", &size);
	ck_assert(strstr(text, "user\tneighbour\tcosine\n") == text &&
		  strstr(text, "b\ttab\\there\t1.000000000\n"));
	export.what = EXPORT_GRAPH;
	must(export_state(updater, &export, &rows, &error), &error, 0);
	text = file_text(name, "tsv", &size);
	ck_assert_str_eq(text, "user\titem\tkind\trating\ttime_ms\na\ti2\tRATE\t1\t30\nb\ti1\tRATE\t3.5\t20\n"
			       "tab\\there\ti1\tRATE\t4\t10\n");
	export.what = EXPORT_SEEDS;
	ck_assert_int_eq(export_state(updater, &export, &rows, &error), STATUS_NOT_FOUND);
	export.items = true;
	must(export_state(updater, &export, &rows, &error), &error, 0);
	ck_assert_uint_eq(rows, 2);
	file_text(name, "npy", &size);
	file_text(name, "ids", &size);
	export.name = "/nowhere/at/all";
	ck_assert_int_eq(export_state(updater, &export, &rows, &error), STATUS_CANNOT_CREATE);

	must(inspect_user(updater, TEXT_LITERAL("b"), 10, 5, arena, &node, &error), &error, 0);
	ck_assert(node.edges == 1 && node.gcn_edges == 1 && node.last_count == 1 &&
		  node.last[0].rating == 3.5f);
	ck_assert(node.mean_response == 0.625 && node.length > 0 && node.neighbours_count == 2);
	ck_assert(text_equal(node.neighbours[0].id, TEXT_LITERAL("tab\there")));
	must(inspect_item(updater, TEXT_LITERAL("i1"), 1, arena, &node, &error), &error, 0);
	ck_assert(node.edges == 2 && node.last_count == 1 && text_equal(node.last[0].id, TEXT_LITERAL("b")));
	ck_assert_int_eq(inspect_user(updater, TEXT_LITERAL("nobody"), 1, 1, arena, &node, &error),
			 STATUS_NOT_FOUND);
	arena_destroy(arena);
	updater_destroy(updater);
}
END_TEST

START_TEST(configuration_is_checked)
{
	struct updater_options options;
	struct updater *updater;
	struct error error = {0};

	for (int wrong = 0; wrong < 8; wrong++) {
		updater_options_defaults(&options);
		options.users_max = options.items_max = 1000;
		switch (wrong) {
		case 0: options.dimensions = 40; break;
		case 1: options.layers = 5; break;
		case 2: options.threshold = -1; break;
		case 3: options.flush_events = 0; break;
		case 4: options.rating_max = 1; break;
		case 5: options.edge_days = -1; break;
		case 6: options.layer_weights[3] = 0, options.layer_weights[2] = 1; break;
		case 7: options.edges_max = 0; break;
		}
		error.text[0] = 0;
		ck_assert_int_eq(updater_create(&options, &updater, &error), STATUS_CONFIG);
		ck_assert(strlen(error.text) > 10);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("parts");
	TCase *tcase = tcase_create("parts");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, ids_come_and_go);
	tcase_add_test(tcase, ids_have_a_maximum);
	tcase_add_test(tcase, tombstones_run_out);
	tcase_add_test(tcase, catalog_keeps_the_latest);
	tcase_add_test(tcase, kernels_agree);
	tcase_add_test(tcase, short_sums_say_the_same);
	tcase_add_test(tcase, sums_beyond_int32);
	tcase_add_test(tcase, exports_and_inspects);
	tcase_add_test(tcase, exports_alike_with_threads);
	tcase_add_test(tcase, configuration_is_checked);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
