/* The shared tokenizers, id for id: every vector file, through every file format that holds the tokenizer. */
#include "model_files.h"

#include "scorer/tokenizer.h"

#include <jansson.h>

static const struct {
	const char *tokenizer, *vectors, *list, *ids;
	int flags, bos;
	size_t texts;
} files[] = {
	{"smollm2-135m", "smollm2-135m/tokens.json", NULL, "ids", 1, 0, 191},
	{"GGUF", "smollm2-135m/tokens.json", NULL, "ids", 1, 0, 191},
	{"llama3-tokenizer", "llama3-tokenizer/vectors.json", "vectors", "ids", 1, 0, 90},
	{"llama3-tokenizer/tokenizer.model", "llama3-tokenizer/vectors.json", "vectors", "ids", 1, 0, 90},
	{"qwen2-tokenizer", "qwen2-tokenizer/vectors.json", "vectors", "ids", 1, 0, 90},
	{"llama-tokenizer", "llama-tokenizer/vectors.json", "vectors", "ids", 0, 0, 54},
	{"llama-tokenizer/tokenizer.model", "llama-tokenizer/vectors.json", "vectors", "ids", 0, 0, 54},
	{"llama-tokenizer", "llama-tokenizer/vectors.json", "special_token_text", "tokenizer_json_ids", 1, 0, 8},
	{"llama-tokenizer/tokenizer.model", "llama-tokenizer/vectors.json", "special_token_text",
	 "tokenizer_json_ids", 1, 0, 8},
	{"llama-tokenizer", "llama-tokenizer/vectors.json", "special_token_text", "sentencepiece_ids", 0, 0, 8},
	{"llama-tokenizer/tokenizer.model", "llama-tokenizer/vectors.json", "special_token_text",
	 "sentencepiece_ids", 0, 0, 8},
	{"llama-tokenizer", "llama-tokenizer/vectors.json", "llama2c_test_vectors_with_bos", "ids", 0, 1, 4},
	{"llama-tokenizer", "vicuna-7b-v1.5-layout/prompt.json", "single_turn", "input_ids_with_bos", 1, 1, 3},
	{"stories260k-hf", "stories260k-hf/tokenizer-vectors.json", "vectors", "ids", 0, 1, 13},
	{"tinystories-656k", "tinystories-656k/tokenizer-vectors.json", "vectors", "ids", 1, 1, 20},
	{"tinystories-656k-bf16", "tinystories-656k/tokenizer-vectors.json", "vectors", "ids", 1, 1, 20},
};

static const struct {
	const char *tokenizer, *stem;
} llama_cpp[] = {
	{"llama-tokenizer", "llama-tokenizer/ggml-vocab-llama-spm"},
	{"llama-tokenizer/tokenizer.model", "llama-tokenizer/ggml-vocab-llama-spm"},
	{"llama3-tokenizer", "llama3-tokenizer/ggml-vocab-llama-bpe"},
	{"llama3-tokenizer/tokenizer.model", "llama3-tokenizer/ggml-vocab-llama-bpe"},
	{"qwen2-tokenizer", "qwen2-tokenizer/ggml-vocab-qwen2"},
};

static struct tokenizer *open_one(const char *name)
{
	struct tokenizer *tokenizer = NULL;
	struct error error = {0};
	char path[512];

	if (strcmp(name, "GGUF") == 0 ? !find_smollm2(path) : !find_shared(name, path))
		return NULL;
	ck_assert_msg(tokenizer_open(path, &tokenizer, &error) == STATUS_OK, "%s", error.text);
	return tokenizer;
}

static void check(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch, struct text_view text,
		  int flags, const int32_t *wanted, size_t wanted_count, size_t count)
{
	size_t max = tokenizer_ids_max(tokenizer, text.size) + count, start = count;
	int32_t *ids = mem_alloc_array(max + 1, sizeof(*ids));
	struct error error = {0};

	if (count)
		ids[0] = tokenizer_bos(tokenizer);
	ck_assert_msg(tokenizer_encode(tokenizer, scratch, text, flags, ids, max, &count,
				       &error) == STATUS_OK, "%s",
		      error.text);
	ck_assert_msg(count == wanted_count && memcmp(ids, wanted, count * sizeof(*ids)) == 0,
		      "\"%.*s\": %zu ids, not the %zu wanted", TEXT_ARGS(text), count, wanted_count);
	/* One place too few is told, and changes nothing. */
	if (count > start) {
		size_t kept = start;
		ck_assert_int_eq(tokenizer_encode(tokenizer, scratch, text, flags, ids, count - 1, &kept,
						  &error),
				 STATUS_LIMIT);
		ck_assert_uint_eq(kept, start);
	}
	mem_free(ids);
}

START_TEST(vectors)
{
	struct tokenizer *tokenizer = open_one(files[_i].tokenizer);
	struct tokenizer_scratch *scratch;
	char path[512];
	size_t i, k;
	json_t *root, *list, *vector, *id;

	if (!tokenizer || !find_shared(files[_i].vectors, path)) {
		tokenizer_close(tokenizer);
		return;
	}
	scratch = tokenizer_scratch_create(tokenizer);
	root = json_load_file(path, JSON_ALLOW_NUL, NULL);
	ck_assert_ptr_nonnull(root);
	list = files[_i].list ? json_object_get(root, files[_i].list) : root;
	ck_assert_uint_ge(json_array_size(list), files[_i].texts);
	/* Twice: the second time the words come from the cache. */
	for (int round = 0; round < 2; round++) {
		json_array_foreach(list, i, vector) {
			json_t *text = json_object_get(vector, "text"),
			*ids = json_object_get(vector, files[_i].ids);
			int32_t wanted[4096];
			if (!text)
				text = json_object_get(vector, "prompt");
			ck_assert(json_is_array(ids) && json_array_size(ids) < 4096);
			json_array_foreach(ids, k, id)
				wanted[k] = (int32_t)json_integer_value(id);
			check(tokenizer, scratch,
			      (struct text_view){json_string_value(text), json_string_length(text)},
			      files[_i].flags, wanted, json_array_size(ids), (size_t)files[_i].bos);
		}
	}
	json_decref(root);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tokenizer);
}
END_TEST

START_TEST(llama_cpp_vectors)
{
	static const char separator[] = "\n__ggml_vocab_test__\n";
	struct tokenizer *tokenizer = open_one(llama_cpp[_i].tokenizer);
	struct tokenizer_scratch *scratch;
	struct mapped_file input = {0}, output = {0};
	struct error error = {0};
	char path[512], name[256];
	const char *at, *line;
	size_t texts = 0;

	snprintf(name, sizeof(name), "%s.gguf.inp", llama_cpp[_i].stem);
	if (!tokenizer || !find_shared(name, path))
		return;
	ck_assert_int_eq(mapped_file_open(path, &input, &error), STATUS_OK);
	snprintf(name, sizeof(name), "%s.gguf.out", llama_cpp[_i].stem);
	ck_assert(find_shared(name, path));
	ck_assert_int_eq(mapped_file_open(path, &output, &error), STATUS_OK);
	scratch = tokenizer_scratch_create(tokenizer);
	line = (const char *)output.bytes;
	for (at = (const char *)input.bytes; at < (const char *)input.bytes + input.size; texts++) {
		size_t left = input.size - (size_t)(at - (const char *)input.bytes);
		const char *end = memmem(at, left, separator, sizeof(separator) - 1);
		const char *line_end = memchr(line, '\n',
					      output.size - (size_t)(line - (const char *)output.bytes));
		int32_t wanted[1024];
		size_t count = 0;
		if (!end)
			break;
		ck_assert_ptr_nonnull(line_end);
		for (const char *number = line; number < line_end && count < 1024; count++) {
			char *next;
			wanted[count] = (int32_t)strtol(number, &next, 10);
			if (next == number || next > line_end)
				break;
			number = next;
		}
		check(tokenizer, scratch, (struct text_view){at, (size_t)(end - at)}, 0, wanted, count, 0);
		at = end + sizeof(separator) - 1;
		line = line_end + 1;
	}
	ck_assert_uint_ge(texts, 45);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tokenizer);
	mapped_file_close(&input);
	mapped_file_close(&output);
}
END_TEST

/* A title that says a special token's text is text, by either way into the model. */
START_TEST(titles_are_text)
{
	static const char *const names[] = {"smollm2-135m", "llama3-tokenizer", "qwen2-tokenizer",
					    "llama-tokenizer",
					    "llama-tokenizer/tokenizer.model"};
	static const char *const texts[] = {"<|im_end|>", "<|eot_id|>", "<|im_end|>", "</s>", "</s>"};
	struct tokenizer *tokenizer = open_one(names[_i]);
	struct tokenizer_scratch *scratch;
	struct error error = {0};
	int32_t special, ids[64];
	size_t count = 0;

	if (!tokenizer)
		return;
	scratch = tokenizer_scratch_create(tokenizer);
	special = tokenizer_special(tokenizer, texts[_i]);
	ck_assert_int_ge(special, 0);
	ck_assert_int_eq(tokenizer_special(tokenizer, "<|nobody|>"), -1);
	ck_assert_int_eq(tokenizer_special(tokenizer, "a"), -1);
	ck_assert_int_eq(tokenizer_encode(tokenizer, scratch, text_of(texts[_i]), TOKENIZER_PLAIN, ids, 64,
					  &count, &error),
			 STATUS_OK);
	ck_assert_uint_gt(count, 1);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_ne(ids[i], special);
	count = 0;
	ck_assert_int_eq(tokenizer_encode(tokenizer, scratch, text_of(texts[_i]), TOKENIZER_PARSE_SPECIAL,
					  ids, 64,
					  &count, &error), STATUS_OK);
	ck_assert_uint_eq(count, 1);
	ck_assert_int_eq(ids[0], special);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tokenizer);
}
END_TEST

/* "▁Yes" at the start, "Yes" where a text goes on. */
START_TEST(continued_text_has_no_prefix)
{
	static const char *const names[] = {"llama-tokenizer", "llama-tokenizer/tokenizer.model"};
	for (int i = 0; i < 2; i++) {
		struct tokenizer *tokenizer = open_one(names[i]);
		struct tokenizer_scratch *scratch;
		struct error error = {0};
		int32_t ids[8];
		size_t count = 0;
		if (!tokenizer)
			return;
		scratch = tokenizer_scratch_create(tokenizer);
		tokenizer_encode(tokenizer, scratch, text_of("Yes"), TOKENIZER_PLAIN, ids, 8, &count, &error);
		tokenizer_encode(tokenizer, scratch, text_of("Yes"), TOKENIZER_CONTINUES, ids, 8, &count,
				 &error);
		tokenizer_encode(tokenizer, scratch, text_of(" Yes"), TOKENIZER_CONTINUES, ids, 8, &count,
				 &error);
		tokenizer_encode(tokenizer, scratch, text_of("Yes</s>Yes"),
				 TOKENIZER_CONTINUES | TOKENIZER_PARSE_SPECIAL, ids, 8, &count, &error);
		ck_assert_uint_eq(count, 6);
		ck_assert_int_eq(ids[0], 3869);
		ck_assert_int_eq(ids[1], 8241);
		ck_assert_int_eq(ids[2], 3869);
		ck_assert_int_eq(ids[3], 8241);
		ck_assert_int_eq(ids[4], 2);
		ck_assert_int_eq(ids[5], 3869);
		tokenizer_scratch_destroy(scratch);
		tokenizer_close(tokenizer);
	}
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("vectors");
	tcase_add_loop_test(tests, vectors, 0, sizeof(files) / sizeof(files[0]));
	tcase_add_loop_test(tests, llama_cpp_vectors, 0, sizeof(llama_cpp) / sizeof(llama_cpp[0]));
	tcase_add_loop_test(tests, titles_are_text, 0, 5);
	tcase_add_test(tests, continued_text_has_no_prefix);
	return run_suite("tokenizer vectors", tests);
}
