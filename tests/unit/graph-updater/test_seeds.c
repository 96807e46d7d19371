/* test_seeds.c - files of trained seeds: what numpy and the program itself write is read, everything else
 * is refused with file, byte and reason. */
#include "tests/unit/graph-updater/snapshot_world.h"

#include "graph-updater/export.h"
#include "graph-updater/seeds.h"

#include <math.h>

enum { D = 16 };
static char name[96];

static void put(const char *ending, const void *bytes, size_t size)
{
	char path[112];

	snprintf(path, sizeof path, "%s.%s", name, ending);
	write_file(path, bytes, size);
}

/* An array of `rows` rows of 1/4 behind this dict; what = version of the format. */
static size_t array(char *out, unsigned version, const char *dict, unsigned rows)
{
	size_t prefix = version > 1 ? 12 : 10, header = 128 - prefix;

	memcpy(out, "\x93NUMPY", 6);
	out[6] = (char)version;
	out[7] = 0;
	memset(out + 8, 0, 4);
	out[8] = (char)header;
	memset(out + prefix, ' ', header);
	memcpy(out + prefix, dict, strlen(dict));
	out[127] = '\n';
	for (unsigned i = 0; i < rows * D; i++)
		memcpy(out + 128 + i * sizeof(float), &(float){0.25F}, sizeof(float));
	return 128 + rows * D * sizeof(float);
}

static const char good_dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16), }";

static void refused(enum status want, const char *text)
{
	struct seeds *seeds = NULL;
	struct error error = {0};
	enum status status = seeds_open(name, D, &seeds, &error);

	ck_assert_msg(status == want && strstr(error.text, text), "%s: %s instead of %s", status_name(status),
		      error.text, text);
	ck_assert(seeds == NULL && strstr(error.text, name) != NULL);
}

START_TEST(malformed_arrays)
{
	static const struct { const char *dict, *text; } dicts[] = {
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 16), }", "byte 25: not float32"},
		{"{'descr': '<f4', 'fortran_order': True, 'shape': (3, 16), }", "not a row after the other"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (48,), }", "the shape is"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 4), }", "the shape is"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (x, 16), }", "a number is expected"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 16), }", "larger than any"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (600000000, 16), }", "more rows than"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 16), }", "byte 128: no rows"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 16), }", "byte 320: the file is not"},
		{"{'descr': '<f4', 'fortran_order': False, }", "is missing"},
		{"{'descr': '<f4', 'descr': '<f4', 'shape': (3, 16), }", "an entry stands twice"},
		{"{'descr': '<f4', 'order': False, 'shape': (3, 16), }", "an entry that numpy's"},
		{"{'descr' '<f4', 'fortran_order': False, 'shape': (3, 16), }", "a colon"},
		{"{'descr': <f4, 'fortran_order': False, 'shape': (3, 16), }", "in quotes"},
		{"{'descr': '<f4, }", "a text has no end"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16)", "the dict has no end"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16), } x", "after the dict"},
		{"('descr')", "byte 10: the header is no dict"},
	};
	char bytes[2048];
	size_t size = array(bytes, 1, good_dict, 3);

	put("ids", "a\nb\nc\n", 6);
	for (size_t n = 0; n < sizeof dicts / sizeof dicts[0]; n++) {
		put("npy", bytes, array(bytes, 1, dicts[n].dict, 3));
		refused(STATUS_CORRUPT, dicts[n].text);
	}
	array(bytes, 1, good_dict, 3);
	for (size_t cut = 0; cut < size; cut += cut < 140 ? 1 : 31) {
		put("npy", bytes, cut);
		refused(STATUS_CORRUPT, ".npy, byte ");
	}
	put("npy", bytes, size + 1);
	refused(STATUS_CORRUPT, "byte 321: the file is not as long");
	bytes[6] = 4;
	put("npy", bytes, size);
	refused(STATUS_CORRUPT, "byte 6: a version");
	bytes[0] = 'P';
	put("npy", bytes, size);
	refused(STATUS_CORRUPT, "byte 0: not a numpy array");
	array(bytes, 2, good_dict, 3);
	bytes[10] = 127;
	put("npy", bytes, size);
	refused(STATUS_CORRUPT, "byte 8: a header of no sensible length");
	for (int n = 0; n < 4; n++) {
		static const float wrong[] = {1.0001F, -2, NAN, INFINITY};
		array(bytes, 1, good_dict, 3);
		memcpy(bytes + 128 + 17 * sizeof(float), &wrong[n], sizeof(float));
		put("npy", bytes, size);
		refused(STATUS_CORRUPT, "byte 196: a value outside");
	}
	put("npy", bytes, array(bytes, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 8), }", 3));
	refused(STATUS_CONFIG, "rows of 8 dimensions, but graph.dimensions is 16");
}
END_TEST

START_TEST(malformed_ids)
{
	static const struct { const char *ids, *text; } cases[] = {
		{"", "byte 0: fewer ids"}, {"a\nb\n", "byte 4: fewer ids"}, {"a\nb\nc\nd", "byte 6: more ids"},
		{"a\nb\nc\n\n", "byte 6: more ids"}, {"a\n\nc\n", "byte 2: an id is empty"},
		{"a\nb\na\n", "byte 4: an id stands twice"}, {"a\r\nb\r\nc\r\n", "byte 1: a tab or carriage"},
		{"a\tx\nb\nc\n", "byte 1: a tab"}, {"a\\x\nb\nc\n", "byte 2: after a backslash"},
		{"a\nb\nc\\", "byte 6: after a backslash"}, {"a\\\nb\nc\n", "byte 2: after a backslash"},
	};
	char bytes[2048], *large = malloc(70000);

	put("npy", bytes, array(bytes, 1, good_dict, 3));
	for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
		put("ids", cases[n].ids, strlen(cases[n].ids));
		refused(STATUS_CORRUPT, cases[n].text);
	}
	memset(large, 'x', 70000);
	put("ids", large, 70000);
	refused(STATUS_CORRUPT, "longer than any");
	free(large);
	remove_seeds(name);
	refused(STATUS_NO_INPUT, "No such file");
}
END_TEST

START_TEST(good_files)
{
	static const char dict_2[] = "{\"shape\":(3,16),'fortran_order':False,'descr':'<f4'}";
	char bytes[2048];
	struct seeds *seeds;
	struct error error = {0};
	uint64_t epoch = 0;
	size_t size = array(bytes, 1, good_dict, 3);

	for (int n = 0; n < 3; n++) {
		if (n == 1)
			size = array(bytes, 2, dict_2, 3);
		/* Rounded half to even: .00006103515625 is half of 2^-13. */
		memcpy(bytes + 128, (const float[]){0.00006103515625F, -1, 1, 0.00018310546875F}, 16);
		put("npy", bytes, size);
		put("ids", n == 2 ? "a\\tb\n\\\\\\n\\r\nc" : "a\\tb\n\\\\\\n\\r\nc\n", n == 2 ? 13 : 14);
		must(seeds_open(name, D, &seeds, &error), &error, 0);
		ck_assert_uint_eq(seeds_count(seeds), 3);
		ck_assert(seeds_epoch(seeds) != epoch && !seeds_are_absent(seeds));
		epoch = seeds_epoch(seeds);
		ck_assert_int_eq(seeds_find(seeds, TEXT_LITERAL("a\tb"))[0], 0);
		ck_assert_int_eq(seeds_find(seeds, TEXT_LITERAL("a\tb"))[1], -GCN_ONE);
		ck_assert_int_eq(seeds_find(seeds, TEXT_LITERAL("a\tb"))[2], GCN_ONE);
		ck_assert_int_eq(seeds_find(seeds, TEXT_LITERAL("a\tb"))[3], 2);
		ck_assert_int_eq(seeds_find(seeds, TEXT_LITERAL("\\\n\r"))[15], GCN_ONE / 4);
		ck_assert(seeds_find(seeds, TEXT_LITERAL("c")) && !seeds_find(seeds, TEXT_LITERAL("d")));
		/* sqrt((44 / 16 + 2 + almost 0) / 48) of 2^13 */
		ck_assert_int_eq(seeds_magnitude(seeds), 2577);
		ck_assert_uint_gt(seeds_memory(seeds), 3 * D * sizeof(int16_t));
		seeds_destroy(seeds);
	}
}
END_TEST

/* What `export` writes of a graph is a file of trained seeds for the same graph. */
START_TEST(exported_seeds_come_back)
{
	struct updater_options options = small_options();
	struct stream one = {.draw = {8}, .now_ms = 1000}, two = one;
	struct updater *by_hash, *trained;
	struct error error = {0};
	uint64_t rows, again;
	struct export_options export = {.what = EXPORT_SEEDS, .items = true, .name = name};

	options.threshold = 0;
	by_hash = create(options);
	apply_some(by_hash, &one, 500);
	must(updater_flush(by_hash, &error), &error, 0);
	must(export_state(by_hash, &export, &rows, &error), &error, 0);
	options.item_seeds = name;
	trained = create(options);
	apply_some(trained, &two, 500);
	must(updater_flush(trained, &error), &error, 0);
	must(updater_check(trained, &error), &error, 0);
	for (uint32_t u = 0; u < ids_end(by_hash->users.table); u++) {
		const int16_t *a = gcn_user_embedding(by_hash->gcn, (struct user_id){u}),
			*b = gcn_user_embedding(trained->gcn, (struct user_id){u});
		ck_assert(!a == !b && (!a || !memcmp(a, b, options.dimensions * sizeof *a)));
	}
	must(export_state(trained, &export, &again, &error), &error, 0);
	ck_assert_uint_eq(rows, again);
	ck_assert_uint_gt(rows, 30);
	updater_destroy(by_hash);
	updater_destroy(trained);
}
END_TEST

START_TEST(refused_settings)
{
	struct updater_options options = small_options();
	struct updater *updater;
	struct error error = {0};

	options.user_seeds = seeds_of(names.user, 10, 1);
	ck_assert_int_eq(updater_create(&options, &updater, &error), STATUS_CONFIG);
	ck_assert(strstr(error.text, "graph.user_seeds") != NULL);
	options.both_sides = true;
	ck_assert_int_eq(updater_create(&options, &updater, &error), STATUS_CONFIG);
	ck_assert(strstr(error.text, "graph.item_seeds") != NULL);
	options.item_seeds = "/nowhere/seeds";
	ck_assert_int_eq(updater_create(&options, &updater, &error), STATUS_NO_INPUT);
	options.item_seeds = seeds_of(names.item, 10, 1);
	for (long successes = 0;; successes++) {
		enum status status;
		mem_fail_after(successes);
		status = updater_create(&options, &updater, &error);
		mem_fail_after(-1);
		if (status == STATUS_OK)
			break;
		ck_assert_int_eq(status, STATUS_NO_MEMORY);
	}
	updater_destroy(updater);
}
END_TEST

static void setup_name(void)
{
	setup();
	snprintf(name, sizeof name, "%s-given", folder);
}

static void teardown_name(void)
{
	remove_seeds(name);
	teardown();
}

int main(void)
{
	Suite *suite = suite_create("seeds");
	TCase *tcase = tcase_create("unit");

	tcase_add_checked_fixture(tcase, setup_name, teardown_name);
	tcase_add_test(tcase, malformed_arrays);
	tcase_add_test(tcase, malformed_ids);
	tcase_add_test(tcase, good_files);
	tcase_add_test(tcase, exported_seeds_come_back);
	tcase_add_test(tcase, refused_settings);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
