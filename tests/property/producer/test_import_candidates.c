/* test_import_candidates.c - nothing at or after an impression shows in it. Random tables are imported
 * twice: as they are, and with everything from one time on changed, removed and added to. Impressions
 * up to that time must be equal, whatever their candidates. And draws follow the counts. Seeds are
 * printed. */
#include "../../unit/producer/files.h"

#include "producer/import.h"
#include "producer/popularity.h"

#include <math.h>
#include <time.h>

enum { ROWS_MAX = 600, LINE_BYTES = 64 };

struct row {
	int user;
	int item;
	int64_t time;
};

static uint64_t random_state;
static char folder[PATH_BYTES];

static uint64_t rnd(uint64_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % bound;
}

static void setup(void)
{
	files_make(folder);
}

static void teardown(void)
{
	files_remove(folder);
}

static struct loaded import_rows(const char *name, const struct row *rows, size_t count, size_t candidates)
{
	static char text[2 * ROWS_MAX * LINE_BYTES];
	char table[PATH_BYTES], out[PATH_BYTES], inner[64];
	const char *list[] = {table};
	struct import_options options = import_options_default;
	struct import_summary summary;
	struct error error = {0};
	size_t used = (size_t)sprintf(text, "item_id\tuser_id\tunix_time\n");

	for (size_t i = 0; i < count; i++)
		used += (size_t)sprintf(text + used, "i%d\tu%d\t%lld\n", rows[i].item, rows[i].user,
					(long long)rows[i].time);
	snprintf(inner, sizeof inner, "%s.tsv", name);
	files_write_text(files_path(table, folder, inner), text);
	options.interactions = list;
	options.interactions_count = 1;
	options.out = files_path(out, folder, name);
	options.force = true;
	options.impressions = "all";
	options.candidates = candidates;
	options.seed = 5;
	ck_assert_msg(import_run(&options, &summary, &error) == STATUS_OK, "%s", error.text);
	return files_load(out, "impressions.avro", RECORD_IMPRESSION);
}

/* The tables differ in rows at or after `cut` alone; the order of the lines differs too, but for rows of
 * one user and time. */
static size_t change_future(const struct row *rows, size_t count, int64_t cut, struct row *changed)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (rows[i].time < cut || rnd(2))
			changed[kept++] = rows[i];
	for (size_t i = 0; i < kept; i++)
		if (changed[i].time >= cut && rnd(2))
			changed[i] = (struct row){(int)rnd(20), (int)rnd(90), cut + (int64_t)rnd(50)};
	while (kept < count && rnd(20)) {
		/* New lines anywhere in the table. */
		size_t at = rnd(kept + 1);
		memmove(changed + at + 1, changed + at, (kept - at) * sizeof *changed);
		changed[at] = (struct row){(int)rnd(20), (int)rnd(90), cut + (int64_t)rnd(50)};
		kept++;
	}
	return kept;
}

static bool same_impression(const struct impression_event *a, const struct impression_event *b)
{
	bool same = text_equal(a->impression_id, b->impression_id) && text_equal(a->user_id, b->user_id) &&
		    a->event_time_ms == b->event_time_ms && a->candidates_count == b->candidates_count;
	for (size_t i = 0; same && i < a->candidates_count; i++)
		same = text_equal(a->candidates[i], b->candidates[i]);
	return same;
}

/* The future of an impression is what is at or after its time; of the earlier ones all must be equal,
 * and of those at the cut itself the ones that both tables have with the same taken item. */
START_TEST(the_future_does_not_show)
{
	for (int round = 0; round < 7; round++) {
		struct row rows[ROWS_MAX], changed[2 * ROWS_MAX];
		size_t count = 50 + rnd(ROWS_MAX - 50), candidates = 2 + rnd(12), compared = 0;
		for (size_t i = 0; i < count; i++)
			rows[i] = (struct row){(int)rnd(20), (int)(rnd(60) * rnd(60) / 60), (int64_t)rnd(80)};
		int64_t cut = (int64_t)rnd(80);
		size_t changed_count = change_future(rows, count, cut, changed);
		struct loaded a = import_rows("a", rows, count, candidates);
		struct loaded b = import_rows("b", changed, changed_count, candidates);
		size_t i = 0;
		for (; i < a.count && a.events[i].impression.event_time_ms < cut * 1000; i++) {
			ck_assert(i < b.count);
			ck_assert(same_impression(&a.events[i].impression, &b.events[i].impression));
			compared++;
		}
		ck_assert(i == b.count || b.events[i].impression.event_time_ms >= cut * 1000);
		if (cut > 40)
			ck_assert_uint_gt(compared, 0);
		loaded_free(&a);
		loaded_free(&b);
	}
}
END_TEST

/* At the time of an impression itself: other users' rows of that time come and go. */
START_TEST(the_present_does_not_show)
{
	for (int round = 0; round < 7; round++) {
		struct row rows[ROWS_MAX], more[2 * ROWS_MAX];
		size_t count = 100 + rnd(ROWS_MAX - 200), added;
		for (size_t i = 0; i < count; i++)
			rows[i] = (struct row){(int)rnd(20), (int)rnd(40), (int64_t)rnd(30)};
		rows[count] = (struct row){7, 3, 30};
		memcpy(more, rows, (count + 1) * sizeof *rows);
		added = count + 1;
		for (int i = 0; i < 60; i++)
			more[added++] = (struct row){8 + (int)rnd(50), (int)rnd(80), 30};
		struct loaded a = import_rows("a", rows, count + 1, 8), b = import_rows("b", more, added, 8);
		const struct impression_event *lone = &a.events[a.count - 1].impression;
		bool found = false;
		ck_assert(text_equal(lone->user_id, TEXT_LITERAL("u7")));
		ck_assert_uint_eq(lone->candidates_count, 8);
		for (size_t i = 0; i < b.count; i++)
			if (text_equal(b.events[i].impression.impression_id, lone->impression_id)) {
				ck_assert(same_impression(lone, &b.events[i].impression));
				found = true;
			}
		ck_assert(found);
		loaded_free(&a);
		loaded_free(&b);
	}
}
END_TEST

/* What an impression must hold, checked against the rows. */
START_TEST(candidates_are_what_they_should_be)
{
	struct row rows[ROWS_MAX];
	size_t shown_first = 0, impressions = 0;

	for (size_t i = 0; i < ROWS_MAX; i++)
		rows[i] = (struct row){(int)rnd(30), (int)rnd(80), (int64_t)i};
	struct loaded loaded = import_rows("a", rows, ROWS_MAX, 8);
	ck_assert_uint_eq(loaded.count, ROWS_MAX);
	for (size_t i = 0; i < loaded.count; i++) {
		const struct impression_event *event = &loaded.events[i].impression;
		int taken = rows[i].item, copies = 0;
		for (size_t j = 0; j < event->candidates_count; j++) {
			int item = atoi(event->candidates[j].bytes + 1);
			bool known = false;
			for (size_t k = 0; k < j; k++)
				ck_assert(!text_equal(event->candidates[j], event->candidates[k]));
			if (item == taken) {
				copies++;
				shown_first += j == 0;
				continue;
			}
			for (size_t k = 0; k < i; k++) {
				known = known || rows[k].item == item;
				ck_assert(rows[k].user != rows[i].user || rows[k].item != item);
			}
			ck_assert(known);
		}
		ck_assert_int_eq(copies, 1);
		impressions++;
	}
	/* Its place says nothing: an eighth of 600 is 75. */
	ck_assert_uint_gt(shown_first, 30);
	ck_assert_uint_lt(shown_first, 140);
	ck_assert_uint_eq(impressions, ROWS_MAX);
	loaded_free(&loaded);
}
END_TEST

/* With every count alike, as it is, and to a power between. */
START_TEST(draws_follow_the_counts)
{
	static const double powers[] = {1, .5, 0};
	const double power = powers[_i];
	enum { ITEMS = 6, DRAWS = 40000 };
	static const uint32_t counts[ITEMS] = {1, 2, 3, 4, 90, 50};
	struct popularity *popularity = popularity_create(ITEMS + 1, 200, power);
	uint32_t items[ITEMS];
	size_t seen[ITEMS] = {0};

	ck_assert_ptr_nonnull(popularity);
	ck_assert_uint_eq(popularity_draw(popularity, 1, 0, 6, items, ITEMS), 0);
	for (uint32_t item = 0; item < ITEMS; item++)
		for (uint32_t i = 0; i < counts[item]; i++)
			popularity_count(popularity, item == 5 ? 1 : 2, item);
	/* User 1 has item 5; item 4 is the taken one: 1, 2, 3, 4 of 10 are left. */
	double all = 0;
	for (uint32_t item = 0; item < 4; item++)
		all += pow(counts[item], power);
	for (uint64_t seed = 0; seed < DRAWS; seed++) {
		ck_assert_uint_eq(popularity_draw(popularity, seed * 2654435761u, 1, 4, items, 1), 1);
		seen[items[0]]++;
	}
	for (uint32_t item = 0; item < 4; item++) {
		double share = (double)seen[item] / DRAWS, expected = pow(counts[item], power) / all;
		ck_assert_msg(share > expected - 0.015 && share < expected + 0.015, "%u: %f", item, share);
	}
	ck_assert_uint_eq(seen[4] + seen[5], 0);
	/* All that are left, once each. */
	ck_assert_uint_eq(popularity_draw(popularity, 3, 1, 4, items, ITEMS), 4);
	ck_assert_uint_eq(popularity_of(popularity, 4), 90);
	ck_assert_uint_eq(popularity_draw(popularity, 3, 9, 6, items, ITEMS), ITEMS);
	popularity_destroy(popularity);
}
END_TEST

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
	random_state = random_state * 2654435761u | 1;
	printf("seed state %llu\n", (unsigned long long)random_state);
	Suite *suite = suite_create("candidates");
	TCase *tests = tcase_create("candidates");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, the_future_does_not_show);
	tcase_add_test(tests, the_present_does_not_show);
	tcase_add_test(tests, candidates_are_what_they_should_be);
	tcase_add_loop_test(tests, draws_follow_the_counts, 0, 3);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
