/* Tokenizers made here, so that the rules are tested without shared files: words, merges, special tokens,
 * unknown characters, invalid UTF-8, and the files that are refused. */
#include "model_files.h"

#include "scorer/tokenizer.h"
#include "scorer/tokenizer_bpe.h"

static const char gpt2[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}";
static const char digits[] =
	"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
	"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}";
static const char pieces[] =
	"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},"
	"{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]}";
static const char metaspace[] =
	"{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"first\",\"split\":false}";

/* All bytes at ids 0 to 255, then "ab" 256, "abc" 257, "Ġa" 258, "11" 259; "<end>" 260 is added. */
static struct bytes byte_level(const char *normalizer, const char *pre_tokenizer, const char *model)
{
	struct bytes text = {0};
	char piece[32];

	put_text(&text, "{\"normalizer\":");
	put_text(&text, normalizer);
	put_text(&text, ",\"pre_tokenizer\":");
	put_text(&text, pre_tokenizer);
	put_text(&text,
		 ",\"added_tokens\":[{\"id\":260,\"content\":\"<end>\",\"special\":true}],\"model\":{");
	put_text(&text, model);
	put_text(&text, "\"type\":\"BPE\",\"vocab\":{");
	for (unsigned byte = 0; byte < 256; byte++) {
		char letters[2];
		size_t size = bpe_byte_text((uint8_t)byte, letters);
		put_text(&text, "\"");
		if (letters[0] == '"' || letters[0] == '\\')
			put_text(&text, "\\");
		put(&text, letters, size);
		snprintf(piece, sizeof(piece), "\":%u,", byte);
		put_text(&text, piece);
	}
	put_text(&text, "\"ab\":256,\"abc\":257,\"\\u0120a\":258,\"11\":259},"
		 "\"merges\":[\"a b\",[\"ab\",\"c\"],\"\\u0120 a\",\"1 1\"]}}");
	return text;
}

static enum status open_bytes(const struct bytes *bytes, struct tokenizer **out, struct error *error)
{
	char *folder = make_folder();
	enum status status;

	write_file(folder, "tokenizer.json", bytes->at, bytes->size);
	status = tokenizer_open(folder, out, error);
	remove_folder(folder);
	return status;
}

static struct tokenizer *open_good(struct bytes bytes)
{
	struct tokenizer *tokenizer = NULL;
	struct error error = {0};
	ck_assert_msg(open_bytes(&bytes, &tokenizer, &error) == STATUS_OK, "%s", error.text);
	mem_free(bytes.at);
	return tokenizer;
}

/* The ids as text, "97,98": easy to compare. */
static const char *ids_of(const struct tokenizer *tokenizer, const char *text, size_t size, int flags)
{
	static char line[1024];
	struct tokenizer_scratch *scratch = tokenizer_scratch_create(tokenizer);
	int32_t ids[256];
	size_t count = 0, used = 0;
	struct error error = {0};

	ck_assert_int_eq(tokenizer_encode(tokenizer, scratch, (struct text_view){text, size}, flags, ids, 256,
					  &count,
					  &error), STATUS_OK);
	line[0] = '\0';
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(line + used, sizeof(line) - used, i ? ",%d" : "%d", ids[i]);
	tokenizer_scratch_destroy(scratch);
	return line;
}
#define IDS(tokenizer, text, flags) ids_of(tokenizer, text, sizeof(text) - 1, flags)

START_TEST(byte_level_rules)
{
	struct tokenizer *tokenizer = open_good(byte_level("null", gpt2, ""));

	ck_assert_str_eq(tokenizer_kind(tokenizer), "byte-level BPE (GPT-2)");
	ck_assert_uint_eq(tokenizer_vocabulary(tokenizer), 261);
	ck_assert_str_eq(IDS(tokenizer, "", 0), "");
	ck_assert_str_eq(IDS(tokenizer, "abc", 0), "257");
	ck_assert_str_eq(IDS(tokenizer, "abab", 0), "256,256");
	/* A merge does not cross words: " a" takes its space along, "b" behind a sign is a word of its own. */
	ck_assert_str_eq(IDS(tokenizer, "x abc", 0), "120,32,257");
	ck_assert_str_eq(IDS(tokenizer, "x ac", 0), "120,258,99");
	ck_assert_str_eq(IDS(tokenizer, "a!b", 0), "97,33,98");
	ck_assert_str_eq(IDS(tokenizer, "111", 0), "259,49");
	ck_assert_str_eq(IDS(tokenizer, "a\0b", 0), "97,0,98");
	/* "  1": one space alone, one with the digit. */
	ck_assert_str_eq(IDS(tokenizer, "  1", 0), "32,32,49");
	ck_assert_str_eq(IDS(tokenizer, "<end>", 0), "60,101,110,100,62");
	ck_assert_str_eq(IDS(tokenizer, "ab<end>ab", TOKENIZER_PARSE_SPECIAL), "256,260,256");
	ck_assert_int_eq(tokenizer_special(tokenizer, "<end>"), 260);
	/* Invalid UTF-8: a maximal part is one U+FFFD (EF BF BD). */
	ck_assert_str_eq(IDS(tokenizer, "a\xFF", 0), "97,239,191,189");
	ck_assert_str_eq(IDS(tokenizer, "\xE2\x82x", 0), "239,191,189,120");
	ck_assert_str_eq(IDS(tokenizer, "\xED\xA0\x80", 0), "239,191,189,239,191,189,239,191,189");
	ck_assert_str_eq(IDS(tokenizer, "\xF0\x9F\x98", 0), "239,191,189");
	tokenizer_close(tokenizer);
	tokenizer = open_good(byte_level("null", digits, ""));
	ck_assert_str_eq(tokenizer_kind(tokenizer), "byte-level BPE (SmolLM2)");
	ck_assert_str_eq(IDS(tokenizer, "111", 0), "49,49,49");
	tokenizer_close(tokenizer);
	tokenizer = open_good(byte_level("{\"type\":\"NFC\"}", gpt2, ""));
	/* e and a combining acute become U+00E9. */
	ck_assert_str_eq(IDS(tokenizer, "e\xCC\x81", 0), "195,169");
	tokenizer_close(tokenizer);
}
END_TEST

START_TEST(whole_words)
{
	struct tokenizer *tokenizer = open_good(byte_level("null", gpt2, "\"ignore_merges\":true,"));

	ck_assert_str_eq(IDS(tokenizer, "abc", 0), "257");
	ck_assert_str_eq(IDS(tokenizer, "11", 0), "259");
	ck_assert_str_eq(IDS(tokenizer, "abcab", 0), "257,256");
	tokenizer_close(tokenizer);
}
END_TEST

/* "▁" is "\u2581"; byte fallback only where asked for. */
static struct bytes piece_level(const char *normalizer, const char *pre_tokenizer, const char *model)
{
	struct bytes text = {0};

	put_text(&text, "{\"normalizer\":");
	put_text(&text, normalizer);
	put_text(&text, ",\"pre_tokenizer\":");
	put_text(&text, pre_tokenizer);
	put_text(&text, ",\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"normalized\":false},"
		 "{\"id\":2,\"content\":\"<n>\",\"normalized\":true}],\"post_processor\":{\"type\":\"TemplateProcessing\","
		 "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}]},\"model\":{");
	put_text(&text, model);
	put_text(&text,
		 "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"<n>\":2,\"\xE2\x96\x81\":3,\"a\":4,\"b\":5,\"a\xE2\x96\x81\":6,"
		 "\"a\xE2\x96\x81" "b\":7,\"<0xC3>\":8,\"<0xA9>\":9},\"merges\":[[\"a\",\"\xE2\x96\x81\"],"
		 "[\"a\xE2\x96\x81\",\"b\"]]}}");
	return text;
}

START_TEST(piece_level_rules)
{
	static const char unknown[] = "\"unk_token\":\"<unk>\",\"fuse_unk\":true,";
	struct tokenizer *tokenizer = open_good(piece_level(pieces, "null", unknown));

	ck_assert_int_eq(tokenizer_bos(tokenizer), 1);
	ck_assert(tokenizer_adds_bos(tokenizer));
	/* Merges cross spaces; unknown neighbours are one. */
	ck_assert_str_eq(IDS(tokenizer, "a b", 0), "3,7");
	ck_assert_str_eq(IDS(tokenizer, "a b", TOKENIZER_CONTINUES), "7");
	ck_assert_str_eq(IDS(tokenizer, "axyb", 0), "3,4,0,5");
	ck_assert_str_eq(IDS(tokenizer, "", 0), "");
	ck_assert_str_eq(IDS(tokenizer, "a<s>a", TOKENIZER_PARSE_SPECIAL), "3,4,1,3,4");
	/* Searched after normalisation it is "▁<n>": at the start or behind a space. */
	ck_assert_str_eq(IDS(tokenizer, "<n>a", TOKENIZER_PARSE_SPECIAL), "2,4");
	ck_assert_str_eq(IDS(tokenizer, "b<n>", TOKENIZER_PARSE_SPECIAL), "3,5,0");
	tokenizer_close(tokenizer);
	tokenizer = open_good(piece_level(pieces, "null", "\"unk_token\":\"<unk>\",\"byte_fallback\":true,"));
	ck_assert_str_eq(IDS(tokenizer, "a\xC3\xA9", 0), "3,4,8,9");
	/* A character whose bytes are not all there is unknown; without fusing each is one. */
	ck_assert_str_eq(IDS(tokenizer, "a\xC3\xA8\xC3\xA8", 0), "3,4,0,0");
	tokenizer_close(tokenizer);
	tokenizer = open_good(piece_level("null", metaspace, unknown));
	ck_assert_str_eq(IDS(tokenizer, "b<s>b", TOKENIZER_PARSE_SPECIAL), "3,5,1,5");
	ck_assert_str_eq(IDS(tokenizer, " b", 0), "3,5");
	tokenizer_close(tokenizer);
}
END_TEST

static const struct {
	const char *text;
	enum status status;
	const char *reason;
} refusals[] = {
	{"", STATUS_CORRUPT, "expected '{'"},
	{"{}", STATUS_CORRUPT, "no model"},
	{"{\"model\":{}}", STATUS_CORRUPT, "no vocab"},
	{"{\"model\":{},\"model\":{}}", STATUS_CORRUPT, "given twice"},
	{"{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_UNSUPPORTED, "another than BPE"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}", STATUS_UNSUPPORTED, "pre_tokenizer"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}}",
	 STATUS_UNSUPPORTED, "BertPreTokenizer"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"NFKC\"}}", STATUS_UNSUPPORTED, "NFKC"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
	 "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a+\"},\"behavior\":\"Isolated\"},"
	 "{\"type\":\"ByteLevel\",\"use_regex\":false}]}}", STATUS_UNSUPPORTED, "a+"},
	{"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", STATUS_CORRUPT,
	 "non-negative"},
	{"{\"model\":{\"vocab\":{\"a\":99999999},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_CORRUPT, "limit"},
	{"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_CORRUPT, "given twice"},
	{"{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_CORRUPT, "same text"},
	{"{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_CORRUPT, "no token"},
	{"{\"model\":{\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",\"a a\"]},"
	 "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_CORRUPT, "same pair"},
	{"{\"model\":{\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"aa\"]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_CORRUPT, "without a space"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"x\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_CORRUPT, "unk_token"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":0,\"content\":\"b\"}],"
	 "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", STATUS_CORRUPT, "given twice"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":1,\"content\":\"b\",\"lstrip\":true}],"
	 "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", STATUS_UNSUPPORTED, "lstrip"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
	 STATUS_UNSUPPORTED, "dropout"},
	{"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
	 "\"add_prefix_space\":true}}", STATUS_UNSUPPORTED, "ByteLevel"},
};

START_TEST(refuses)
{
	struct bytes bytes = {0};
	struct tokenizer *tokenizer = NULL;
	struct error error = {0};

	put_text(&bytes, refusals[_i].text);
	ck_assert_msg(open_bytes(&bytes, &tokenizer, &error) == refusals[_i].status, "%s: %s",
		      refusals[_i].text,
		      error.text);
	ck_assert_msg(strstr(error.text, refusals[_i].reason), "%s: %s", refusals[_i].text, error.text);
	mem_free(bytes.at);
}
END_TEST

START_TEST(tokenizer_models)
{
	static const char *const bad[] = {"", "x", "IQ== 0\nIg== 2\n", "IQ= 0\n", "IQ== x\n",
					  "IQ== 0\nIQ== 1\n",
					  "IQ== 0\n\n", "\n\x03" "abc"};
	char *folder = make_folder(), *path = mapped_file_join(folder, "tokenizer.model");
	struct tokenizer *tokenizer = NULL;
	struct error error = {0};

	ck_assert_int_eq(tokenizer_open(folder, &tokenizer, &error), STATUS_NO_INPUT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_text(folder, "tokenizer.model", bad[i]);
		ck_assert_msg(tokenizer_open(folder, &tokenizer, &error) == STATUS_CORRUPT, "%zu: %s", i,
			      error.text);
	}
	/* "!", "\"", and "!\"": the merge follows from the tokens. */
	write_text(folder, "tokenizer.model", "IQ== 0\nIg== 1\nISI= 2\n");
	ck_assert_msg(tokenizer_open(folder, &tokenizer, &error) == STATUS_OK, "%s", error.text);
	ck_assert_uint_eq(tokenizer_vocabulary(tokenizer), 3 + 256);
	ck_assert_str_eq(IDS(tokenizer, "!\"!", 0), "2,0");
	ck_assert_int_eq(tokenizer_special(tokenizer, "<|begin_of_text|>"), 3);
	ck_assert_int_eq(tokenizer_special(tokenizer, "<|eot_id|>"), 12);
	ck_assert_int_eq(tokenizer_special(tokenizer, "<|reserved_special_token_250|>"), 258);
	tokenizer_close(tokenizer);
	mem_free(path);
	remove_folder(folder);
}
END_TEST

START_TEST(settings_of_a_folder)
{
	struct bytes bytes = byte_level("null", gpt2, "");
	char *folder = make_folder();
	struct tokenizer *tokenizer = NULL;
	struct error error = {0};

	write_file(folder, "tokenizer.json", bytes.at, bytes.size);
	write_text(folder, "config.json", "{\"bos_token_id\":97,\"eos_token_id\":[98,99]}");
	ck_assert_int_eq(tokenizer_open(folder, &tokenizer, &error), STATUS_OK);
	ck_assert_int_eq(tokenizer_bos(tokenizer), 97);
	ck_assert_int_eq(tokenizer_eos(tokenizer), 98);
	ck_assert(!tokenizer_adds_bos(tokenizer));
	ck_assert_ptr_null(tokenizer_chat_template(tokenizer));
	tokenizer_close(tokenizer);
	write_text(folder, "tokenizer_config.json",
		   "{\"bos_token\":null,\"eos_token\":{\"content\":\"<end>\"},"
		   "\"add_bos_token\":true,\"model_max_length\":1000000000000000019884624838656,"
		   "\"chat_template\":[{\"name\":\"x\",\"template\":\"1\"},{\"name\":\"default\",\"template\":\"2\"}]}");
	ck_assert_msg(tokenizer_open(folder, &tokenizer, &error) == STATUS_OK, "%s", error.text);
	ck_assert_int_eq(tokenizer_bos(tokenizer), -1);
	ck_assert_int_eq(tokenizer_eos(tokenizer), 260);
	ck_assert(!tokenizer_adds_bos(tokenizer));
	ck_assert_str_eq(tokenizer_chat_template(tokenizer), "2");
	tokenizer_close(tokenizer);
	write_text(folder, "tokenizer_config.json", "{");
	ck_assert_int_eq(tokenizer_open(folder, &tokenizer, &error), STATUS_CORRUPT);
	remove_folder(folder);
	mem_free(bytes.at);
}
END_TEST

/* Every allocation of ours may fail, while opening and while encoding. */
START_TEST(survives_without_memory)
{
	struct bytes bytes = byte_level("{\"type\":\"NFC\"}", gpt2, "");
	char *folder = make_folder();
	bool done = false;
	long failures = 0;

	write_file(folder, "tokenizer.json", bytes.at, bytes.size);
	for (; !done && failures < 10000; failures++) {
		static const char text[] = "ab \xFF e\xCC\x81 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
		struct tokenizer *tokenizer = NULL;
		struct tokenizer_scratch *scratch = NULL;
		struct error error = {0};
		int32_t ids[256];
		size_t count = 0;
		mem_fail_after(failures);
		if (tokenizer_open(folder, &tokenizer, &error) == STATUS_OK)
			scratch = tokenizer_scratch_create(tokenizer);
		else
			ck_assert(error.text[0] && !tokenizer);
		if (scratch)
			done = tokenizer_encode(tokenizer, scratch, text_of(text), 0, ids, 256, &count, &error) ==
			       STATUS_OK;
		mem_fail_after(-1);
		tokenizer_scratch_destroy(scratch);
		tokenizer_close(tokenizer);
	}
	ck_assert(done);
	ck_assert_int_gt(failures, 15);
	remove_folder(folder);
	mem_free(bytes.at);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("tokenizer");
	tcase_add_test(tests, byte_level_rules);
	tcase_add_test(tests, whole_words);
	tcase_add_test(tests, piece_level_rules);
	tcase_add_loop_test(tests, refuses, 0, sizeof(refusals) / sizeof(refusals[0]));
	tcase_add_test(tests, tokenizer_models);
	tcase_add_test(tests, settings_of_a_folder);
	tcase_add_test(tests, survives_without_memory);
	return run_suite("tokenizer", tests);
}
