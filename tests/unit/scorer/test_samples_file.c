/* Shards as the samples command writes them: what went in comes out of the reader, same calls give the same
 * bytes, and no failure of memory is forgotten. */
#include "scorer/mapped_file.h"
#include "scorer/safetensors.h"
#include "scorer/train/sample_folder.h"
#include "scorer/train/samples_file.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

enum { IMPRESSIONS = 7, FEATURES = FEATURES_FIXED };

static char folder[64];

static void setup(void)
{
	snprintf(folder, sizeof folder, "/tmp/exitpoll_samples_file_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
	static const char *const names[] = {"samples.json", "samples-00001.safetensors", "samples-00002.safetensors"};
	char path[128];
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		remove(path);
	}
	ck_assert_int_eq(rmdir(folder), 0);
}

/* Impression i has i candidates; token ids, ids and features say where they belong. */
static enum status put(struct samples_file *file, int i, struct error *error)
{
	char impression[16], user[16], item[16];
	int32_t tokens[8];
	float features[FEATURES];
	snprintf(impression, sizeof impression, "i%d", i);
	snprintf(user, sizeof user, "u%d", i % 3);
	for (int t = 0; t < 8; t++)
		tokens[t] = 100 * i + t;
	enum status status = samples_file_begin(file, text_of(impression), text_of(user), 1000 + i, (uint8_t)(i % PARTS),
						error);
	if (status || (status = samples_file_prefix(file, tokens, 3, error)) ||
	    (status = samples_file_prefix(file, tokens + 3, (uint32_t)(i % 3), error)))
		return status;
	for (int c = 0; !status && c < i; c++) {
		for (int f = 0; f < FEATURES; f++)
			features[f] = (float)(i * 1000 + c * 100 + f);
		snprintf(item, sizeof item, "item%d", c);
		struct samples_candidate candidate = {text_of(item), tokens + c % 5, (uint32_t)(1 + c % 3),
						      c == 2 ? NAN : (float)(c % 2), features};
		status = samples_file_candidate(file, &candidate, error);
	}
	return status;
}

static void fill(struct samples_file *file)
{
	struct error error = {0};
	for (int i = 0; i < IMPRESSIONS; i++)
		ck_assert_msg(put(file, i, &error) == STATUS_OK, "%s", error.text);
	ck_assert_uint_eq(samples_file_impressions(file), IMPRESSIONS);
}

static void describe(void)
{
	char path[128];
	snprintf(path, sizeof path, "%s/samples.json", folder);
	FILE *out = fopen(path, "w");
	fputs("{\"version\": 1, \"task\": \"liked\", \"features\": [", out);
	for (int f = 0; f < FEATURES; f++)
		fprintf(out, "%s\"%s\"", f ? "," : "", features_names[f]);
	fputs("]}", out);
	fclose(out);
}

START_TEST(what_is_written_is_read)
{
	struct samples_file *file = NULL;
	struct sample_folder *s = NULL;
	struct error error = {0};
	ck_assert_int_eq(samples_file_create(FEATURES, &file, &error), STATUS_OK);
	for (size_t number = 1; number <= 2; number++) {
		fill(file);
		ck_assert_msg(samples_file_write(file, folder, number, &error) == STATUS_OK, "%s", error.text);
		ck_assert_uint_eq(samples_file_impressions(file), 0);
	}
	describe();
	ck_assert_msg(sample_folder_open(folder, &s, &error) == STATUS_OK, "%s", error.text);
	ck_assert_uint_eq(s->data.impressions, 2 * IMPRESSIONS);
	ck_assert_uint_eq(s->data.rows, 2 * 21);
	for (size_t i = 0; i < s->data.impressions; i++) {
		int n = (int)(i % IMPRESSIONS);
		char user[16];
		struct impression_tokens tokens;
		snprintf(user, sizeof user, "u%d", n % 3);
		ck_assert_int_eq(s->data.time_ms[i], 1000 + n);
		ck_assert_int_eq(s->data.part[i], n % PARTS);
		ck_assert_uint_eq(s->data.user[i], XXH3_64bits(user, strlen(user)));
		ck_assert_int_eq(s->data.first[i + 1] - s->data.first[i], n);
		s->tokens.get(s->tokens.context, (uint32_t)i, &tokens);
		ck_assert_uint_eq(tokens.prefix_count, 3 + n % 3);
		for (uint32_t t = 0; t < tokens.prefix_count; t++)
			ck_assert_int_eq(tokens.prefix[t], 100 * n + (int)t);
		for (int c = 0; c < n; c++) {
			size_t row = (size_t)s->data.first[i] + (size_t)c;
			ck_assert_int_eq(tokens.offsets[c + 1] - tokens.offsets[c], 1 + c % 3);
			ck_assert_int_eq(tokens.suffixes[tokens.offsets[c]], 100 * n + c % 5);
			ck_assert(c == 2 ? isnan(s->data.labels[row]) : s->data.labels[row] == (float)(c % 2));
			for (int f = 0; f < FEATURES; f++)
				ck_assert(s->data.values[row * FEATURES + (size_t)f] == (float)(n * 1000 + c * 100 + f));
		}
	}
	sample_folder_close(s);
	samples_file_destroy(file);
}
END_TEST

static uint64_t hash_of(const char *name)
{
	struct mapped_file file = {0};
	struct error error = {0};
	char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	ck_assert_msg(mapped_file_open(path, &file, &error) == STATUS_OK, "%s", error.text);
	uint64_t hash = XXH3_64bits(file.bytes, file.size);
	mapped_file_close(&file);
	return hash;
}

START_TEST(equal_calls_give_equal_bytes_and_ids_are_kept)
{
	struct samples_file *file = NULL;
	struct mapped_file mapped = {0};
	struct tensor_table table = {0};
	struct error error = {0};
	char path[128];
	ck_assert_int_eq(samples_file_create(FEATURES, &file, &error), STATUS_OK);
	fill(file);
	ck_assert_int_eq(samples_file_write(file, folder, 1, &error), STATUS_OK);
	fill(file);
	ck_assert_int_eq(samples_file_write(file, folder, 2, &error), STATUS_OK);
	ck_assert_uint_eq(hash_of("samples-00001.safetensors"), hash_of("samples-00002.safetensors"));
	snprintf(path, sizeof path, "%s/samples-00001.safetensors", folder);
	ck_assert_int_eq(mapped_file_open(path, &mapped, &error), STATUS_OK);
	ck_assert_int_eq(tensor_table_init(&table, &error), STATUS_OK);
	ck_assert_int_eq(safetensors_parse(&mapped, &table, &error), STATUS_OK);
	ck_assert_int_eq(tensor_table_seal(&table, &error), STATUS_OK);
	const struct stored_tensor *ids = tensor_table_find(&table, TEXT_LITERAL("impression_ids"));
	ck_assert(ids && ids->bytes == 2 * IMPRESSIONS && memcmp(ids->data, "i0i1i2i3i4i5i6", 14) == 0);
	ids = tensor_table_find(&table, TEXT_LITERAL("item_ids"));
	ck_assert(ids && ids->bytes == 5 * 21 && memcmp(ids->data, "item0item0item1", 15) == 0);
	for (size_t i = 0; i < table.count; i++)
		ck_assert(table.tensors[i].type == TENSOR_U8 || (uintptr_t)table.tensors[i].data % 4 == 0);
	tensor_table_destroy(&table);
	mapped_file_close(&mapped);
	samples_file_destroy(file);
}
END_TEST

START_TEST(a_full_shard_says_so)
{
	struct samples_file *file = NULL;
	struct error error = {0};
	ck_assert_int_eq(samples_file_create(0, &file, &error), STATUS_OK);
	for (int i = 0; i < SAMPLES_SHARD_IMPRESSIONS; i++) {
		ck_assert(!samples_file_is_full(file));
		ck_assert_int_eq(samples_file_begin(file, TEXT_LITERAL("i"), TEXT_LITERAL("u"), i, 0, &error), STATUS_OK);
	}
	ck_assert(samples_file_is_full(file));
	ck_assert_int_eq(samples_file_write(file, "/nonexistent", 1, &error), STATUS_CANNOT_CREATE);
	ck_assert_ptr_nonnull(strstr(error.text, "/nonexistent"));
	samples_file_destroy(file);
}
END_TEST

/* Every allocation fails in turn: an error comes back, nothing leaks, nothing is read out of bounds. */
START_TEST(no_memory_is_an_error)
{
	int failures = 0;
	for (long successes = 0; successes < 60; successes++) {
		struct samples_file *file = NULL;
		struct error error = {0};
		mem_fail_after(successes);
		enum status status = samples_file_create(FEATURES, &file, &error);
		for (int i = 0; !status && i < IMPRESSIONS; i++)
			status = put(file, i, &error);
		if (!status)
			status = samples_file_write(file, folder, 1, &error);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || (status == STATUS_NO_MEMORY && error.text[0]));
		failures += status != STATUS_OK;
		samples_file_destroy(file);
	}
	ck_assert_int_gt(failures, 10);
	ck_assert_int_lt(failures, 60);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("samples_file");
	TCase *tests = tcase_create("samples_file");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, what_is_written_is_read);
	tcase_add_test(tests, equal_calls_give_equal_bytes_and_ids_are_kept);
	tcase_add_test(tests, a_full_shard_says_so);
	tcase_add_test(tests, no_memory_is_an_error);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
