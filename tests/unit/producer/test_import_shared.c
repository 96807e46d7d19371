/* test_import_shared.c - imports of real data sets of every shape: with times, with a time for some
 * rows, without times, without ratings or titles. Skipped where the data is not there. */
#include "files.h"

#include "producer/import.h"

static char folder[PATH_BYTES];

static bool present(const char *name, char path[PATH_BYTES])
{
	files_path(path, TEST_SHARED_DIR "/data", name);
	if (access(path, R_OK) == 0)
		return true;
	printf("skipped: %s is not there\n", path);
	return false;
}

static void setup(void)
{
	files_make(folder);
}

static void teardown(void)
{
	files_remove(folder);
}

static struct import_summary run(struct import_options options, const char *interactions, const char *items)
{
	struct import_summary summary = {0};
	struct error error = {0};
	options.interactions = &interactions;
	options.interactions_count = 1;
	options.items = items;
	options.out = folder;
	options.force = true;
	enum status status = import_run(&options, &summary, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	printf("%s: users=%zu items=%zu catalog=%zu interactions=%zu ratings=%zu impressions=%zu "
	       "candidates=%zu short=%zu new=%zu untimed=%zu bad=%zu %lld..%lld\n",
	       strstr(interactions, "data/"), summary.users, summary.items, summary.catalog,
	       summary.interactions, summary.ratings, summary.impressions, summary.candidates,
	       summary.short_impressions, summary.new_taken, summary.untimed, summary.bad_rows,
	       (long long)summary.first_ms, (long long)summary.last_ms);
	return summary;
}

START_TEST(beauty_has_times)
{
	char interactions[PATH_BYTES], items[PATH_BYTES];
	if (!present("amazon-beauty/beauty2014_5core_interactions.tsv.xz", interactions) ||
	    !present("amazon-beauty/beauty2014_5core_items.tsv.xz", items))
		return;
	const char *attribute = "brand=first-word(title)";
	struct import_options options = import_options_default;
	options.candidates = 8;
	options.label = "rating>=4";
	options.attributes = &attribute;
	options.attributes_count = 1;
	struct import_summary summary = run(options, interactions, items);
	ck_assert_uint_eq(summary.users, 22363);
	ck_assert_uint_eq(summary.items, 12101);
	ck_assert_uint_eq(summary.catalog, 12101);
	ck_assert_uint_eq(summary.interactions, 198502);
	ck_assert_uint_eq(summary.ratings, 198502);
	ck_assert_uint_eq(summary.impressions, 39700);
	ck_assert_uint_eq(summary.candidates, 8 * 39700);
	ck_assert_int_eq(summary.first_ms, INT64_C(1023840000000));
	ck_assert_int_eq(summary.order, IMPORT_ORDER_TIME);
	ck_assert(summary.clicked);

	struct loaded items_read = files_load(folder, "items.avro", RECORD_ITEM);
	ck_assert_uint_eq(items_read.count, 12101);
	for (size_t i = 0; i < items_read.count; i++) {
		const struct item_event *item = &items_read.events[i].item;
		ck_assert_int_eq(item->event_time_ms, 0);
		if (text_equal(item->item_id, TEXT_LITERAL("7806397051"))) {
			ck_assert_uint_eq(item->attributes_count, 1);
			ck_assert(text_equal(item->attributes[0].name, TEXT_LITERAL("brand")));
			ck_assert(text_equal(item->attributes[0].value, TEXT_LITERAL("WAWO")));
		}
	}
	loaded_free(&items_read);
}
END_TEST

START_TEST(movielens_has_a_time_for_some)
{
	char interactions[PATH_BYTES], items[PATH_BYTES];
	if (!present("ml-1m/interactions.tsv.xz", interactions) || !present("ml-1m/items.tsv.xz", items))
		return;
	struct import_options options = import_options_default;
	struct import_summary summary = {0};
	struct error error = {0};
	const char *path = interactions;
	options.interactions = &path;
	options.interactions_count = 1;
	options.items = items;
	options.out = folder;
	ck_assert_int_eq(import_run(&options, &summary, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "948602 of 1000209") && strstr(error.text, ":2:"), "%s", error.text);
	ck_assert_int_eq(files_count(folder), 0);

	options.untimed = IMPORT_UNTIMED_SKIP;
	summary = run(options, interactions, items);
	ck_assert_uint_eq(summary.interactions, 51607);
	ck_assert_uint_eq(summary.impressions, 10321);
	options.untimed = IMPORT_UNTIMED_FIRST;
	options.sequence_column = "user_seq";
	options.impressions = "leave-last";
	summary = run(options, interactions, items);
	ck_assert_uint_eq(summary.interactions, 1000209);
	ck_assert_uint_eq(summary.impressions, 6040);
	ck_assert_uint_eq(summary.untimed, 948602);
	struct loaded items_read = files_load(folder, "items.avro", RECORD_ITEM);
	ck_assert_uint_eq(items_read.count, 3883);
	ck_assert_uint_eq(items_read.events[0].item.attributes_count, 2);
	ck_assert(text_equal(items_read.events[0].item.attributes[1].value,
			     TEXT_LITERAL("Animation|Children's|Comedy")));
	loaded_free(&items_read);
}
END_TEST

START_TEST(gowalla_has_pairs_only)
{
	char interactions[PATH_BYTES];
	if (!present("gowalla/test.tsv.xz", interactions))
		return;
	struct import_summary summary = run(import_options_default, interactions, NULL);
	ck_assert_uint_eq(summary.interactions, 217242);
	ck_assert_uint_eq(summary.ratings, 0);
	ck_assert_uint_eq(summary.catalog, 0);
	ck_assert_int_eq(summary.order, IMPORT_ORDER_ROWS);
	ck_assert_int_eq(summary.first_ms, 1);
	ck_assert_int_eq(summary.last_ms, 217242);
	struct loaded read = files_load(folder, "interactions.avro", RECORD_INTERACTION);
	ck_assert_uint_eq(read.count, 217242);
	ck_assert_int_eq(read.events[0].interaction.kind, KIND_CLICK);
	loaded_free(&read);
}
END_TEST

START_TEST(bookcrossing_has_an_empty_time_column)
{
	char interactions[PATH_BYTES], items[PATH_BYTES];
	if (!present("bookcrossing/interactions.tsv.xz", interactions) ||
	    !present("bookcrossing/items.tsv.xz", items))
		return;
	struct import_options options = import_options_default;
	options.label = "rating>=5";
	struct import_summary summary = run(options, interactions, items);
	ck_assert_uint_eq(summary.interactions, 472619);
	ck_assert_uint_eq(summary.untimed, 472619);
	ck_assert_uint_eq(summary.users, 57462);
	ck_assert_uint_eq(summary.catalog, 28867);
	ck_assert_int_eq(summary.order, IMPORT_ORDER_ROWS);
}
END_TEST

START_TEST(video_games_have_sequences)
{
	char interactions[PATH_BYTES], items[PATH_BYTES];
	if (!present("amazon-video-games/video_games2018_5core_interactions.tsv.xz", interactions) ||
	    !present("amazon-video-games/video_games2018_5core_items.tsv.xz", items))
		return;
	struct import_options options = import_options_default;
	options.sequence_column = "user_seq";
	options.impressions = "leave-last";
	options.candidates = 20;
	struct import_summary summary = run(options, interactions, items);
	ck_assert_uint_eq(summary.interactions, 440264);
	ck_assert_uint_eq(summary.impressions, 50546);
	ck_assert_int_eq(summary.order, IMPORT_ORDER_SEQUENCE);
	ck_assert_int_eq(summary.first_ms, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("import of real tables");
	TCase *tests = tcase_create("shared");
	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, beauty_has_times);
	tcase_add_test(tests, movielens_has_a_time_for_some);
	tcase_add_test(tests, gowalla_has_pairs_only);
	tcase_add_test(tests, bookcrossing_has_an_empty_time_column);
	tcase_add_test(tests, video_games_have_sequences);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
