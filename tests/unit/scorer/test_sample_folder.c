/* A folder of samples: two shards become one dataset, and what does not fit together is refused by name. */
#include "scorer/train/sample_folder.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];

/* Tensors one after the other, 8-byte aligned but for the last, which an odd name list pushes off. */
struct shard {
	char header[4096];
	size_t header_size, data_size;
	unsigned char data[8192];
};

static void add(struct shard *shard, const char *name, const char *type, size_t size, const void *values,
		size_t count, size_t columns)
{
	shard->header_size += (size_t)sprintf(
		shard->header + shard->header_size, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu", shard->header_size > 1 ?
		"," : "", name, type, columns ? count / columns : count);
	if (columns)
		shard->header_size += (size_t)sprintf(shard->header + shard->header_size, ",%zu", columns);
	shard->header_size += (size_t)sprintf(shard->header + shard->header_size, "],\"data_offsets\":[%zu,%zu]}",
					      shard->data_size, shard->data_size + count * size);
	memcpy(shard->data + shard->data_size, values, count * size);
	shard->data_size += count * size;
}

struct content {
	int32_t prefix[5], suffix[6];
	int64_t prefix_offsets[3], suffix_offsets[4], candidate_offsets[3], time_ms[2];
	float labels[3], features[3 * FEATURES_FIXED];
	uint8_t split[2];
	uint64_t user[2];
	const char *without;            /* a tensor that is left out */
};

static struct content good(int shift)
{
	struct content c = {
		.prefix = {1, 2, 3, 4, 5}, .suffix = {6, 7, 8, 9, 10, 11}, .prefix_offsets = {0, 2, 5},
		.suffix_offsets = {0, 1, 4, 6}, .candidate_offsets = {0, 2, 3}, .time_ms = {10 + shift, 20 + shift},
		.labels = {1, 0, NAN}, .split = {PART_TRAIN, PART_TEST},
		.user = {(uint64_t)shift, 7}, .without = "",
	};
	for (int i = 0; i < 3 * FEATURES_FIXED; i++)
		c.features[i] = (float)(i + shift);
	return c;
}

static void write_shard(int number, const struct content *c)
{
	struct shard *shard = calloc(1, sizeof *shard);
	shard->header[0] = '{';
	shard->header_size = 1;
#define ADD(name, type, array, columns)                                                            \
	if (strcmp(c->without, #name))                                                             \
		add(shard, #name, type, sizeof(array)[0], array, sizeof(array) / sizeof(array)[0], columns)
	ADD(split, "U8", c->split, 0);  /* first: everything behind it is off its alignment */
	ADD(prefix_tokens, "I32", c->prefix, 0);
	ADD(prefix_offsets, "I64", c->prefix_offsets, 0);
	ADD(suffix_tokens, "I32", c->suffix, 0);
	ADD(suffix_offsets, "I64", c->suffix_offsets, 0);
	ADD(candidate_offsets, "I64", c->candidate_offsets, 0);
	ADD(labels, "F32", c->labels, 0);
	ADD(features, "F32", c->features, FEATURES_FIXED);
	ADD(time_ms, "I64", c->time_ms, 0);
	ADD(user, "U64", c->user, 0);
	shard->header[shard->header_size++] = '}';
	while (shard->header_size % 8)
		shard->header[shard->header_size++] = ' ';
	char path[128];
	snprintf(path, sizeof path, "%s/samples-%05d.safetensors", folder, number);
	uint64_t size = shard->header_size;
	FILE *file = fopen(path, "wb");
	ck_assert(file && fwrite(&size, 8, 1, file) == 1 && fwrite(shard->header, size, 1, file) == 1 &&
		  fwrite(shard->data, shard->data_size, 1, file) == 1 && fclose(file) == 0);
	free(shard);
}

static void describe(const char *task, size_t features, const char *odd)
{
	char path[128];
	snprintf(path, sizeof path, "%s/samples.json", folder);
	FILE *file = fopen(path, "w");
	fprintf(file, "{\"version\": 1, \"task\": \"%s\", \"features\": [", task);
	for (size_t i = 0; i < features; i++)
		fprintf(file, "%s\"%s\"", i ? ", " : "", i == 2 && odd ? odd : features_names[i]);
	fputs("]}\n", file);
	fclose(file);
}

static void setup(void)
{
	snprintf(folder, sizeof folder, "/tmp/exitpoll_samples_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	describe("clicked", FEATURES_FIXED, NULL);
}

static void teardown(void)
{
	static const char *const names[] = {"samples.json", "samples-00001.safetensors",
					    "samples-00002.safetensors"};
	char path[128];
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		remove(path);
	}
	ck_assert_int_eq(rmdir(folder), 0);
}

START_TEST(shards_become_one_dataset)
{
	struct sample_folder *s = NULL;
	struct error error = {0};
	struct content first = good(0), second = good(100);
	write_shard(1, &first);
	write_shard(2, &second);
	ck_assert_msg(sample_folder_open(folder, &s, &error) == STATUS_OK, "%s", error.text);
	ck_assert_uint_eq(s->data.impressions, 4);
	ck_assert_uint_eq(s->data.rows, 6);
	ck_assert_uint_eq(s->data.features, FEATURES_FIXED);
	ck_assert(s->data.clicked);
	int64_t want[] = {0, 2, 3, 5, 6};
	ck_assert_mem_eq(s->data.first, want, sizeof want);
	ck_assert_int_eq(s->data.time_ms[3], 120);
	ck_assert_uint_eq(s->data.user[2], 100);
	ck_assert_uint_eq(s->data.part[1], PART_TEST);
	ck_assert(isnan(s->data.labels[5]) && s->data.labels[3] == 1);
	ck_assert_float_eq(s->data.values[3 * FEATURES_FIXED], 100);
	struct impression_tokens tokens;
	s->tokens.get(s->tokens.context, 3, &tokens);
	ck_assert_uint_eq(tokens.prefix_count, 3);
	ck_assert_int_eq(tokens.prefix[0], 3);
	ck_assert_int_eq(tokens.offsets[1] - tokens.offsets[0], 2);
	ck_assert_int_eq(tokens.suffixes[tokens.offsets[0]], 10);
	ck_assert_uint_eq(s->prefix_tokens[2], 2);
	ck_assert_uint_eq(s->suffix_tokens[4], 3);
	sample_folder_close(s);
}
END_TEST

static void refused(enum status want, const char *text)
{
	struct sample_folder *s = NULL;
	struct error error = {0};
	enum status status = sample_folder_open(folder, &s, &error);
	ck_assert_msg(status == want && strstr(error.text, text), "want %s: %s", text, error.text);
	ck_assert_ptr_null(s);
}

START_TEST(what_does_not_fit_is_refused)
{
	struct content c = good(0);
	refused(STATUS_BAD_RECORD, "0 samples");
	write_shard(1, &c);
	describe("guessed", FEATURES_FIXED, NULL);
	refused(STATUS_CONFIG, "\"task\" must be");
	describe("liked", FEATURES_FIXED, "odd");
	refused(STATUS_CONFIG, "feature 2 is \"odd\"");
	describe("liked", 3, NULL);
	refused(STATUS_CONFIG, "\"features\" must be a list");
	describe("liked", 0, NULL);
	refused(STATUS_CORRUPT, "features has 42 elements");
	describe("liked", FEATURES_FIXED, NULL);
	static const char *const names[] = {"prefix_tokens", "prefix_offsets", "suffix_tokens", "suffix_offsets",
					    "candidate_offsets", "labels", "features", "time_ms", "split", "user"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char want[64];
		c = good(0);
		c.without = names[i];
		write_shard(1, &c);
		snprintf(want, sizeof want, "tensor %s is missing", names[i]);
		refused(STATUS_CORRUPT, want);
	}
	c = good(0);
	c.prefix_offsets[1] = 9;
	write_shard(1, &c);
	refused(STATUS_CORRUPT, "prefix_offsets does not ascend");
	c = good(0);
	c.suffix_offsets[3] = 7;
	write_shard(1, &c);
	refused(STATUS_CORRUPT, "suffix_offsets does not ascend");
	c = good(0);
	c.candidate_offsets[0] = -1;
	write_shard(1, &c);
	refused(STATUS_CORRUPT, "candidate_offsets does not ascend");
	c = good(0);
	c.labels[1] = .5f;
	write_shard(1, &c);
	refused(STATUS_CORRUPT, "label 0.5");
	c = good(0);
	c.split[0] = PARTS;
	write_shard(1, &c);
	refused(STATUS_CORRUPT, "there are 5 parts");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sample folder");
	TCase *tests = tcase_create("sample folder");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, shards_become_one_dataset);
	tcase_add_test(tests, what_does_not_fit_is_refused);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
