/* test_import.c - small tables whose import is known by hand, and what an import refuses. */
#include "files.h"

#include "base/log.h"
#include "producer/import.h"
#include "producer/label.h"

static char folder[PATH_BYTES], table[PATH_BYTES], items[PATH_BYTES], out[PATH_BYTES];
static struct import_options options;
static struct import_summary summary;
static struct error error;
static const char *table_list[1];

static void setup(void)
{
	files_make(folder);
	files_path(table, folder, "interactions.tsv");
	files_path(items, folder, "items.csv");
	files_path(out, folder, "deep/out");
	options = import_options_default;
	table_list[0] = table;
	options.interactions = table_list;
	options.interactions_count = 1;
	options.out = out;
	log_configure(LOG_ERROR, false);
}

static void teardown(void)
{
	files_remove(folder);
}

static void run(const char *text)
{
	files_write_text(table, text);
	enum status status = import_run(&options, &summary, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	options.force = true;
}

static void refuse(const char *text, enum status expected, const char *part)
{
	files_write_text(table, text);
	summary = (struct import_summary){.bad_rows = 12345};
	enum status status = import_run(&options, &summary, &error);
	ck_assert_msg(status == expected, "%s: %s", status_name(status), error.text);
	ck_assert_msg(strstr(error.text, part) != NULL, "'%s' is not in: %s", part, error.text);
	ck_assert_uint_eq(summary.bad_rows, 12345);
	if (!options.force)
		ck_assert_int_eq(files_count(out), -1);
}

/* Interactions as "user item kind time impression;". */
static const char *interactions(void)
{
	static char text[1 << 14];
	size_t used = 0;
	struct loaded loaded = files_load(out, "interactions.avro", RECORD_INTERACTION);

	text[0] = '\0';
	for (size_t i = 0; i < loaded.count; i++) {
		const struct interaction_event *event = &loaded.events[i].interaction;
		used += (size_t)snprintf(text + used, sizeof text - used, "%.*s %.*s ", TEXT_ARGS(event->user_id),
					 TEXT_ARGS(event->item_id));
		if (event->has_rating)
			used += (size_t)snprintf(text + used, sizeof text - used, "%g ", event->rating);
		ck_assert_int_eq(event->kind, event->has_rating ? KIND_RATE : KIND_CLICK);
		used += (size_t)snprintf(text + used, sizeof text - used, "%lld%s%.*s;",
					 (long long)event->event_time_ms, event->impression_id.bytes ? " " : "",
					 TEXT_ARGS(event->impression_id));
	}
	loaded_free(&loaded);
	return text;
}

static const char *impressions(void)
{
	static char text[1 << 14];
	size_t used = 0;
	struct loaded loaded = files_load(out, "impressions.avro", RECORD_IMPRESSION);

	text[0] = '\0';
	for (size_t i = 0; i < loaded.count; i++) {
		const struct impression_event *event = &loaded.events[i].impression;
		used += (size_t)snprintf(text + used, sizeof text - used, "%.*s %.*s %lld",
					 TEXT_ARGS(event->impression_id), TEXT_ARGS(event->user_id),
					 (long long)event->event_time_ms);
		for (size_t j = 0; j < event->candidates_count; j++)
			used += (size_t)snprintf(text + used, sizeof text - used, " %.*s",
						 TEXT_ARGS(event->candidates[j]));
		used += (size_t)snprintf(text + used, sizeof text - used, ";");
	}
	loaded_free(&loaded);
	return text;
}

START_TEST(sorts_by_time_and_user)
{
	options.impressions = "last:0.5";
	run("user_id\titem_id\trating\tunix_time\n"
	    "u\ta\t5\t20\nv\tb\t\t10\nu\tb\t2.5\t10\nt\tc\t1\t20.5\n");
	ck_assert_str_eq(interactions(), "u b 2.5 10000;v b 10000;u a 5 20000 u:2;t c 1 20500 t:1;");
	ck_assert_str_eq(impressions(), "u:2 u 20000 a;t:1 t 20500 c;");
	ck_assert_uint_eq(summary.users, 3);
	ck_assert_uint_eq(summary.items, 3);
	ck_assert_uint_eq(summary.catalog, 0);
	ck_assert_uint_eq(summary.interactions, 4);
	ck_assert_uint_eq(summary.ratings, 3);
	ck_assert_uint_eq(summary.impressions, 2);
	ck_assert(!summary.clicked);
	ck_assert_int_eq(files_count(out), 3);
}
END_TEST

START_TEST(picks_impressions_by_rule)
{
	const char *rows = "user_id\titem_id\tsplit\nu\ta\ttrain\nv\tb\ttest\nu\tc\ttrain\nu\td\ttest\n";
	options.impressions = "leave-last";
	run(rows);
	ck_assert_str_eq(impressions(), "v:1 v 2 b;u:3 u 4 d;");
	options.impressions = "column:split=train";
	run(rows);
	ck_assert_str_eq(impressions(), "u:1 u 1 a;u:2 u 3 c;");
	options.impressions = "all";
	run(rows);
	ck_assert_uint_eq(summary.impressions, 4);
	options.impressions = "none";
	run(rows);
	ck_assert_str_eq(impressions(), "");
	options.impressions = "column:spilt=x";
	refuse(rows, STATUS_USAGE, "did you mean 'split'");
	static const char *const wrong[] = {"last:0", "last:1.5", "last:", "first", "column:", "column:=x",
					    "column:split"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		options.impressions = wrong[i];
		refuse(rows, STATUS_USAGE, "impressions");
	}
}
END_TEST

START_TEST(orders_rows_without_times)
{
	const char *rows = "user_id\titem_id\tunix_time\tseq\nu\ta\t\t1\nu\tb\t\t0\nv\tc\t\t0\n";
	options.impressions = "none";
	run(rows);
	ck_assert_str_eq(interactions(), "u a 1;u b 2;v c 3;");
	ck_assert_int_eq(summary.order, IMPORT_ORDER_ROWS);
	options.sequence_column = "seq";
	run(rows);
	ck_assert_str_eq(interactions(), "u b 1;v c 1;u a 2;");
	ck_assert_int_eq(summary.order, IMPORT_ORDER_SEQUENCE);
	ck_assert_uint_eq(summary.untimed, 3);
}
END_TEST

START_TEST(rows_without_a_time_among_others)
{
	const char *rows = "user_id\titem_id\tunix_time\nu\ta\t9\nv\tb\t\nw\tc\t8\nx\td\t\n";
	options.impressions = "none";
	refuse(rows, STATUS_CORRUPT, "interactions.tsv:3: a row without a time; 2 of 4 rows have none");
	options.untimed = IMPORT_UNTIMED_SKIP;
	run(rows);
	ck_assert_str_eq(interactions(), "w c 8000;u a 9000;");
	options.untimed = IMPORT_UNTIMED_FIRST;
	run(rows);
	ck_assert_str_eq(interactions(), "v b 1;x d 2;w c 8000;u a 9000;");
	refuse("user_id\titem_id\tunix_time\nu\ta\t0\nv\tb\t\n", STATUS_CORRUPT, "do not fit");
}
END_TEST

START_TEST(reads_items_and_attributes)
{
	static const char *const attributes[] = {"brand=first-word(title)", "era=year"};
	const char *rows = "user_id\titem_id\nu\tb\n";
	files_write_text(items, "item_id,title,genres,year\n"
				"b,\"Ab|c, the film\",Drama|War,1999\n"
				"a,,,\n"
				"c,\" leading \xFF\",x,2000\n"
				"a,Again,Comedy,\n");
	options.items = items;
	options.attributes = attributes;
	options.attributes_count = 2;
	run(rows);
	ck_assert_uint_eq(summary.catalog, 3);
	ck_assert_uint_eq(summary.items, 3);
	ck_assert_uint_eq(summary.duplicate_items, 1);
	struct loaded loaded = files_load(out, "items.avro", RECORD_ITEM);
	char text[4096] = "";
	for (size_t i = 0; i < loaded.count; i++) {
		const struct item_event *item = &loaded.events[i].item;
		size_t used = strlen(text);
		used += (size_t)snprintf(text + used, sizeof text - used, "%.*s '%.*s'", TEXT_ARGS(item->item_id),
					 TEXT_ARGS(item->title));
		for (size_t j = 0; j < item->attributes_count; j++)
			used += (size_t)snprintf(text + used, sizeof text - used, " %.*s=%.*s",
						 TEXT_ARGS(item->attributes[j].name),
						 TEXT_ARGS(item->attributes[j].value));
		snprintf(text + used, sizeof text - used, ";");
		ck_assert_int_eq(item->event_time_ms, 0);
		ck_assert(!item->deleted);
	}
	loaded_free(&loaded);
	ck_assert_str_eq(text, "a 'Again' genres=Comedy brand=Again;"
			       "b 'Ab|c, the film' genres=Drama|War year=1999 brand=Ab/c, era=1999;"
			       "c ' leading \xEF\xBF\xBD' genres=x year=2000 brand=leading era=2000;");
	static const char *const wrong[][2] = {
		{"brand", "write it as"},	     {"=x", "write it as"},
		{"brand=last-word(title)", "only function"}, {"brand=first-word(titel)", "did you mean 'title'"},
		{"year=title", "take another name"}, {"x=nothing", "no column 'nothing'"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		options.attributes = wrong[i];
		options.attributes_count = 1;
		refuse(rows, STATUS_USAGE, wrong[i][1]);
	}
}
END_TEST

START_TEST(takes_titles_from_interactions)
{
	static const char *const attributes[] = {"brand=first-word(title)"};
	options.attributes = attributes;
	options.attributes_count = 1;
	run("user_id\titem_id\ttitle\nu\tb\t\nu\tb\tBest one\nv\tb\tother\nv\ta\t\n");
	ck_assert_uint_eq(summary.catalog, 1);
	struct loaded loaded = files_load(out, "items.avro", RECORD_ITEM);
	ck_assert_uint_eq(loaded.count, 1);
	ck_assert(text_equal(loaded.events[0].item.title, TEXT_LITERAL("Best one")));
	ck_assert(text_equal(loaded.events[0].item.attributes[0].value, TEXT_LITERAL("Best")));
	loaded_free(&loaded);
}
END_TEST

START_TEST(stops_past_the_limit_of_bad_rows)
{
	static char rows[1 << 16];
	char long_id[400];
	memset(long_id, 'x', sizeof long_id - 1);
	long_id[sizeof long_id - 1] = '\0';
	snprintf(rows, sizeof rows, "user_id\titem_id\trating\tunix_time\n"
		 "u\ta\t5\t1\n\ta\t5\t1\nu\t\t5\t1\nu\ta\tfive\t1\nu\ta\tinf\t1\nu\ta\t5\t-1\nu\ta\t5\tnow\n"
		 "u\ta\n%s\ta\t5\t1\nu\t\xFF\t5\t1\nu\ta\t5\t99999999999999999\nv\ta\t4\t2\n", long_id);
	options.bad_rows_max = 10;
	run(rows);
	ck_assert_uint_eq(summary.bad_rows, 10);
	ck_assert_uint_eq(summary.interactions, 2);
	files_remove(out);
	rmdir(out);
	options.force = false;
	options.bad_rows_max = 9;
	refuse(rows, STATUS_CORRUPT, "10 bad rows, more than the 9 allowed");
	ck_assert_msg(strstr(error.text, "interactions.tsv:12:") != NULL, "%s", error.text);
	options.bad_rows_max = 0;
	refuse("user_id\titem_id\nu\n", STATUS_CORRUPT, ":2: 1 fields where the header has 2");
}
END_TEST

START_TEST(refuses_what_it_cannot_use)
{
	refuse("user_id\titem_id\n", STATUS_CORRUPT, "no row");
	refuse("user\titem_id\nu\ta\n", STATUS_USAGE, "did you mean 'user'");
	options.user_column = "user";
	run("user\titem_id\nu\ta\n");
	options.rating_column = "stars";
	refuse("user\titem_id\nu\ta\n", STATUS_USAGE, "no column 'stars'");
	options.rating_column = NULL;
	options.label = "rating>=4";
	refuse("user\titem_id\nu\ta\n", STATUS_USAGE, "no ratings");
	options.label = "stars>4";
	refuse("user\titem_id\nu\ta\n", STATUS_USAGE, "rating>=4");
	options.label = NULL;
	options.candidates = 0;
	refuse("user\titem_id\nu\ta\n", STATUS_USAGE, "candidates");
	options.candidates = 1;
	options.items = "/nonexistent/items.tsv";
	refuse("user\titem_id\nu\ta\n", STATUS_NO_INPUT, "/nonexistent/items.tsv");
	options.items = NULL;
	/* Existing output is left as it is. */
	size_t before_size, after_size;
	char path[PATH_BYTES];
	char *before = files_read(files_path(path, out, "interactions.avro"), &before_size);
	options.force = false;
	files_write_text(table, "user\titem_id\nother\tb\n");
	ck_assert_int_eq(import_run(&options, &summary, &error), STATUS_CANNOT_CREATE);
	ck_assert_msg(strstr(error.text, "--force"), "%s", error.text);
	char *after = files_read(path, &after_size);
	ck_assert(before_size == after_size && !memcmp(before, after, before_size));
	ck_assert_int_eq(files_count(out), 3);
	mem_free(before);
	mem_free(after);
	files_write_text(files_path(path, folder, "file"), "x");
	options.out = path;
	files_write_text(table, "user\titem_id\nother\tb\n");
	ck_assert_int_eq(import_run(&options, &summary, &error), STATUS_CANNOT_CREATE);
}
END_TEST

static bool interrupt(void *context, const char *phase, double fraction)
{
	(void)fraction;
	return strcmp(phase, context) != 0;
}

START_TEST(an_interrupted_import_leaves_nothing)
{
	static char *phases[] = {"interactions", "writing"};
	options.progress = interrupt;
	for (int i = 0; i < 2; i++) {
		options.context = phases[i];
		refuse("user_id\titem_id\nu\ta\n", STATUS_INTERRUPTED, "nothing was written");
	}
	/* Nor the folder above. */
	char path[PATH_BYTES];
	ck_assert_int_eq(files_count(files_path(path, folder, "deep")), -1);
}
END_TEST

START_TEST(metadata_say_what_it_is)
{
	static const struct container_metadata more = {"exitpoll.version", "1"};
	struct container_reader *reader;
	char path[PATH_BYTES];
	options.impressions = "all";
	options.label = "rating >= 4";
	options.candidates = 3;
	options.seed = 7;
	options.metadata = &more;
	options.metadata_count = 1;
	run("user_id\titem_id\trating\nu\ta\t1\n");
	files_path(path, out, "impressions.avro");
	ck_assert_int_eq(container_reader_open(path, RECORD_IMPRESSION, &reader, &error), STATUS_OK);
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.label"), "rating >= 4");
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.task"), "clicked");
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.seed"), "7");
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.interactions"), "interactions.tsv");
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.order"), "rows");
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.version"), "1");
	container_reader_close(reader);
	ck_assert_uint_eq(summary.short_impressions, 1);
	ck_assert_uint_eq(summary.new_taken, 1);
	options.skip_new = true;
	run("user_id\titem_id\trating\nu\ta\t1\n");
	ck_assert_uint_eq(summary.impressions, 0);
}
END_TEST

/* The same tables and options give the same bytes; another seed gives other candidates. */
START_TEST(is_reproducible)
{
	static const char *const names[] = {"items.avro", "interactions.avro", "impressions.avro"};
	char rows[8192], path[PATH_BYTES];
	char *first[3];
	size_t sizes[3], size, used = (size_t)sprintf(rows, "user_id\titem_id\trating\n");
	for (int i = 0; i < 300; i++)
		used += (size_t)sprintf(rows + used, "u%d\ti%d\t%d\n", i * 31 % 40, i * i % 53, i % 5);
	options.candidates = 5;
	run(rows);
	for (int i = 0; i < 3; i++)
		first[i] = files_read(files_path(path, out, names[i]), &sizes[i]);
	for (uint64_t seed = 0; seed < 2; seed++) {
		options.seed = seed;
		run(rows);
		for (int i = 0; i < 3; i++) {
			char *again = files_read(files_path(path, out, names[i]), &size);
			bool same = size == sizes[i] && !memcmp(first[i], again, size);
			ck_assert(same == (seed == 0));
			mem_free(again);
		}
	}
	for (int i = 0; i < 3; i++)
		mem_free(first[i]);
}
END_TEST

START_TEST(label_rules)
{
	static const struct {
		const char *text;
		bool below, at, above;          /* holds for 3.9, 4, 4.1 */
	} rules[] = {{"rating>=4", 0, 1, 1}, {" rating > 4 ", 0, 0, 1}, {"rating<=4", 1, 1, 0},
		     {"rating<4.0", 1, 0, 0}, {"rating=4", 0, 1, 0},	{"rating == 4e0", 0, 1, 0}};
	struct label_rule rule;
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		ck_assert_int_eq(label_rule_parse(rules[i].text, &rule, &error), STATUS_OK);
		ck_assert_int_eq(label_rule_holds(&rule, 3.9), rules[i].below);
		ck_assert_int_eq(label_rule_holds(&rule, 4), rules[i].at);
		ck_assert_int_eq(label_rule_holds(&rule, 4.1), rules[i].above);
	}
	static const char *const wrong[] = {"", "rating", "rating>", "rating>=x", "rating>=4 or so", "ratings>4",
					    "rating!4", "rating>=nan"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		ck_assert_msg(label_rule_parse(wrong[i], &rule, &error) == STATUS_USAGE, "%s", wrong[i]);
}
END_TEST

/* Whatever allocation fails, the import fails cleanly and leaves nothing. */
START_TEST(no_memory_is_an_error)
{
	bool done = false;
	files_write_text(items, "item_id,title,genres\na,One,x\nb,Two,y\n");
	files_write_text(table, "user_id\titem_id\trating\nu\ta\t1\nv\tb\t2\nw\ta\t3\nu\tb\t4\n");
	options.items = items;
	options.candidates = 2;
	for (long successes = 0; !done; successes++) {
		ck_assert_int_lt(successes, 100000);
		mem_fail_after(successes);
		enum status status = import_run(&options, &summary, &error);
		mem_fail_after(-1);
		done = status == STATUS_OK;
		if (!done)
			ck_assert_msg(files_count(out) == -1, "%ld", successes);
	}
	ck_assert_uint_eq(summary.interactions, 4);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("import");
	TCase *tests = tcase_create("import");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, sorts_by_time_and_user);
	tcase_add_test(tests, picks_impressions_by_rule);
	tcase_add_test(tests, orders_rows_without_times);
	tcase_add_test(tests, rows_without_a_time_among_others);
	tcase_add_test(tests, reads_items_and_attributes);
	tcase_add_test(tests, takes_titles_from_interactions);
	tcase_add_test(tests, stops_past_the_limit_of_bad_rows);
	tcase_add_test(tests, refuses_what_it_cannot_use);
	tcase_add_test(tests, an_interrupted_import_leaves_nothing);
	tcase_add_test(tests, metadata_say_what_it_is);
	tcase_add_test(tests, is_reproducible);
	tcase_add_test(tests, label_rules);
	tcase_add_test(tests, no_memory_is_an_error);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
