/* One tokenizer in two files gives the same ids for random texts: Llama 2 by SentencePiece's library and by
 * our merges, Llama 3 by its ranks and by its merges, SmolLM2 by its GGUF vocabulary and by tokenizer.json
 * (texts without digits: the shared tokenizer.json does not split them as the original does). Skipped without
 * the shared folder. */
#include "../../unit/scorer/model_files.h"

#include "scorer/mapped_file.h"
#include "scorer/sentencepiece_face.h"
#include "scorer/tokenizer.h"

static uint64_t state = 0x243F6A8885A308D3u;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % below;
}

static size_t put_random(char *to, bool digits)
{
	static const char *const parts[] = {
		" ", "  ", "\n", "\t", "\r\n", "the", "Hair", "conditioner", "n't", "'S", "'ll", "<s>",
		"</s>",
		"<|im_end|>", "\xE2\x96\x81", "\xC3\xA9", "e\xCC\x81", "\xE4\xBD\xA0\xE5\xA5\xBD",
		"\xF0\x9F\x98\x80",
		"\xE2\x80\xA8", "\xC2\xA0", "\xC2\x85", "\xE1\xA0\x8E", "\xD8\xA7\xD9\x84",
		"\xE0\xA4\x95\xE0\xA5\x8D",
		"!!!", "--", "(", ")", "&amp;", "\xEF\xBF\xBD", "\xC5\xBF", "'\xC5\xBF", "\xEF\xBC\x91",
	};
	static const char *const numbers[] = {"1", "23", "4567", " 8", "\xC2\xBD", "\xD9\xA3"};
	const char *part;
	uint32_t kind = draw(10);

	if (kind < 4) {
		to[0] = (char)('a' + draw(26) - (draw(4) ? 0 : 32));
		return 1;
	}
	if (kind == 4 && digits)
		part = numbers[draw(sizeof(numbers) / sizeof(numbers[0]))];
	else
		part = parts[draw(sizeof(parts) / sizeof(parts[0]) - (digits ? 0 : 1))];
	memcpy(to, part, strlen(part));
	return strlen(part);
}

static void compare(const char *first, const char *second, bool digits, int flags, int texts)
{
	struct tokenizer *tokenizers[2] = {NULL};
	struct tokenizer_scratch *scratches[2];
	struct error error = {0};

	for (int i = 0; i < 2; i++) {
		ck_assert_msg(tokenizer_open(i ? second : first, &tokenizers[i], &error) == STATUS_OK, "%s",
			      error.text);
		scratches[i] = tokenizer_scratch_create(tokenizers[i]);
	}
	for (int round = 0; round < texts; round++) {
		char text[2048];
		int32_t ids[2][4096];
		size_t size = 0, parts = draw(round % 10 ? 20 : 100), counts[2] = {0};
		for (size_t i = 0; i < parts; i++)
			size += put_random(text + size, digits);
		for (int i = 0; i < 2; i++)
			ck_assert_int_eq(tokenizer_encode(tokenizers[i], scratches[i],
							  (struct text_view){text, size},
							  flags, ids[i], 4096, &counts[i], &error),
							  STATUS_OK);
		ck_assert_msg(counts[0] == counts[1] &&
			      memcmp(ids[0], ids[1], counts[0] * sizeof(int32_t)) == 0,
			      "\"%.*s\"", (int)size, text);
		ck_assert_uint_le(counts[0], tokenizer_ids_max(tokenizers[0], size));
	}
	for (int i = 0; i < 2; i++) {
		tokenizer_scratch_destroy(scratches[i]);
		tokenizer_close(tokenizers[i]);
	}
}

START_TEST(llama2)
{
	char json[512], model[512];
	if (!find_shared("llama-tokenizer/tokenizer.json", json) ||
	    !find_shared("llama-tokenizer/tokenizer.model", model))
		return;
	compare(json, model, true, TOKENIZER_PLAIN, 4000);
	compare(json, model, true, TOKENIZER_CONTINUES, 1000);
	compare(json, model, true, TOKENIZER_PARSE_SPECIAL, 2000);
}
END_TEST

/* The library given whole texts, against ours that gives it words and remembers them; bytes that are no
 * UTF-8 too. */
START_TEST(words_are_apart)
{
	char path[512];
	struct mapped_file file = {0};
	struct sentencepiece_face *face;
	struct tokenizer *tokenizer;
	struct error error = {0};
	if (!find_shared("llama-tokenizer/tokenizer.model", path))
		return;
	ck_assert_int_eq(mapped_file_open(path, &file, &error), STATUS_OK);
	ck_assert_int_eq(sentencepiece_load(file.bytes, file.size, path, &face, &error), STATUS_OK);
	ck_assert_int_eq(tokenizer_open(path, &tokenizer, &error), STATUS_OK);
	struct tokenizer_scratch *scratch = tokenizer_scratch_create(tokenizer);
	for (int round = 0; round < 6000; round++) {
		char text[2048];
		int32_t ids[2][4096];
		size_t size = 0, parts = draw(30), counts[2] = {0};
		for (size_t i = 0; i < parts; i++) {
			if (draw(12) == 0)
				text[size++] = (char)(0x80 + draw(128));
			if (draw(3) == 0)
				text[size++] = ' ';
			size += put_random(text + size, true);
		}
		bool prefix = round % 3;
		ck_assert_int_eq(sentencepiece_encode(face, text, size, prefix && size, ids[0], 4096, &counts[0],
						      &error), STATUS_OK);
		ck_assert_int_eq(tokenizer_encode(tokenizer, scratch, (struct text_view){text, size},
						  prefix ? TOKENIZER_PLAIN : TOKENIZER_CONTINUES, ids[1], 4096,
						  &counts[1], &error), STATUS_OK);
		ck_assert_msg(counts[0] == counts[1] &&
			      memcmp(ids[0], ids[1], counts[0] * sizeof(int32_t)) == 0,
			      "\"%.*s\"", (int)size, text);
	}
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tokenizer);
	sentencepiece_close(face);
	mapped_file_close(&file);
}
END_TEST

START_TEST(llama3)
{
	char json[512], model[512];
	if (!find_shared("llama3-tokenizer/tokenizer.json", json) ||
	    !find_shared("llama3-tokenizer/tokenizer.model", model))
		return;
	compare(json, model, true, TOKENIZER_PLAIN, 4000);
}
END_TEST

START_TEST(smollm2)
{
	char json[512], gguf[512];
	if (!find_shared("smollm2-135m/tokenizer.json", json) || !find_smollm2(gguf))
		return;
	compare(json, gguf, false, TOKENIZER_PARSE_SPECIAL, 4000);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("pairs");
	tcase_add_test(tests, llama2);
	tcase_add_test(tests, words_are_apart);
	tcase_add_test(tests, llama3);
	tcase_add_test(tests, smollm2);
	return run_suite("tokenizer pairs", tests);
}
