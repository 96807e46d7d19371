/* SentencePiece's vocabulary inside GGUF: a small one made here, the files that are refused, and the shared
 * models' tokenizer.model rewritten as GGUF, which must give the same ids for any text. */
#include "model_files.h"

#include "scorer/tokenizer.h"

struct piece {
	const char *text;
	size_t size;
	float score;
	int32_t type;
};

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, GGUF_TYPE_I32 = 5, GGUF_TYPE_F32 = 6, GGUF_TYPE_STRING = 8 };

static void put_array(struct bytes *bytes, const char *key, uint32_t type, size_t count)
{
	put_gguf_text(bytes, key);
	put_number(bytes, 9, 4);
	put_number(bytes, type, 4);
	put_number(bytes, count, 8);
}

/* A GGUF file without tensors. scores, types: how many of each are written. */
static struct bytes make_gguf(const struct piece *pieces, size_t count, size_t scores, size_t types)
{
	struct bytes bytes = {0};

	put_text(&bytes, "GGUF");
	put_number(&bytes, 3, 4);
	put_number(&bytes, 0, 8);
	put_number(&bytes, 6, 8);
	put_gguf_text(&bytes, "tokenizer.ggml.model");
	put_number(&bytes, GGUF_TYPE_STRING, 4);
	put_gguf_text(&bytes, "llama");
	put_gguf_u32(&bytes, "tokenizer.ggml.bos_token_id", 1);
	put_gguf_u32(&bytes, "tokenizer.ggml.eos_token_id", 2);
	put_array(&bytes, "tokenizer.ggml.tokens", GGUF_TYPE_STRING, count);
	for (size_t i = 0; i < count; i++) {
		put_number(&bytes, pieces[i].size, 8);
		put(&bytes, pieces[i].text, pieces[i].size);
	}
	put_array(&bytes, "tokenizer.ggml.scores", GGUF_TYPE_F32, scores);
	for (size_t i = 0; i < scores; i++)
		put(&bytes, &pieces[i % count].score, 4);
	put_array(&bytes, "tokenizer.ggml.token_type", GGUF_TYPE_I32, types);
	for (size_t i = 0; i < types; i++)
		put_number(&bytes, (uint32_t)pieces[i % count].type, 4);
	return bytes;
}

static enum status open_gguf(struct bytes bytes, struct tokenizer **out, struct error *error)
{
	char *folder = make_folder(), *path = mapped_file_join(folder, "vocabulary.gguf");
	enum status status;

	write_file(folder, "vocabulary.gguf", bytes.at, bytes.size);
	status = tokenizer_open(path, out, error);
	mem_free(path);
	remove_folder(folder);
	mem_free(bytes.at);
	return status;
}

static size_t encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch, struct text_view text,
		     int flags, int32_t *ids, size_t max)
{
	struct error error = {0};
	size_t count = 0;

	ck_assert_msg(tokenizer_encode(tokenizer, scratch, text, flags, ids, max, &count, &error) == STATUS_OK, "%s",
		      error.text);
	return count;
}

#define PIECE(text, score, type) {text, sizeof(text) - 1, score, type}
static const struct piece small[] = {
	PIECE("<unk>", 0, UNKNOWN), PIECE("<s>", 0, CONTROL), PIECE("</s>", 0, CONTROL),
	PIECE("\xE2\x96\x81", -5, NORMAL), PIECE("a", -6, NORMAL), PIECE("b", -7, NORMAL),
	PIECE("ab", -1, NORMAL), PIECE("\xE2\x96\x81" "a", -2, NORMAL),
};
enum { SMALL = sizeof(small) / sizeof(small[0]) };

START_TEST(small_vocabulary)
{
	static const int32_t wanted[] = {3, 6, 4, 7, 0};
	struct tokenizer *tokenizer = NULL;
	struct tokenizer_scratch *scratch;
	struct error error = {0};
	int32_t ids[64];

	ck_assert_msg(open_gguf(make_gguf(small, SMALL, SMALL, SMALL), &tokenizer, &error) == STATUS_OK, "%s",
		      error.text);
	scratch = tokenizer_scratch_create(tokenizer);
	ck_assert_uint_eq(tokenizer_vocabulary(tokenizer), SMALL);
	ck_assert_int_eq(tokenizer_bos(tokenizer), 1);
	ck_assert_int_eq(tokenizer_eos(tokenizer), 2);
	ck_assert(tokenizer_adds_bos(tokenizer));
	/* "▁", "ab" (better than "▁a"), "a", "▁a", and unknown. */
	ck_assert_uint_eq(encode(tokenizer, scratch, TEXT_LITERAL("aba a!"), TOKENIZER_PLAIN, ids, 64), 5);
	ck_assert_mem_eq(ids, wanted, sizeof(wanted));
	/* Control tokens are text in a title, and themselves where a prompt is parsed. */
	ck_assert_int_eq(tokenizer_special(tokenizer, "</s>"), 2);
	ck_assert_uint_eq(encode(tokenizer, scratch, TEXT_LITERAL("</s>"), TOKENIZER_PARSE_SPECIAL, ids, 64), 1);
	ck_assert_int_eq(ids[0], 2);
	ck_assert_uint_gt(encode(tokenizer, scratch, TEXT_LITERAL("</s>"), TOKENIZER_PLAIN, ids, 64), 1);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tokenizer);
}
END_TEST

START_TEST(refuses)
{
	static char long_text[4097];
	struct piece changed[SMALL];
	struct tokenizer *tokenizer = NULL;
	struct error error = {0};

	ck_assert_int_eq(open_gguf(make_gguf(small, SMALL, SMALL - 1, SMALL), &tokenizer, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "vocabulary.gguf: tokenizer.ggml.scores"), "%s", error.text);
	ck_assert_int_eq(open_gguf(make_gguf(small, SMALL, SMALL, SMALL + 1), &tokenizer, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "tokenizer.ggml.token_type"), "%s", error.text);
	ck_assert_int_eq(open_gguf(make_gguf(small, 0, 0, 0), &tokenizer, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "tokenizer.ggml.tokens"), "%s", error.text);
	for (int32_t type = -1; type <= 7; type += 8) {
		memcpy(changed, small, sizeof(small));
		changed[4].type = type;
		ck_assert_int_eq(open_gguf(make_gguf(changed, SMALL, SMALL, SMALL), &tokenizer, &error),
				 STATUS_CORRUPT);
		ck_assert_msg(strstr(error.text, "token 4 has type"), "%s", error.text);
	}
	memcpy(changed, small, sizeof(small));
	memset(long_text, 'a', sizeof(long_text));
	changed[5].text = long_text;
	changed[5].size = sizeof(long_text);
	ck_assert_int_eq(open_gguf(make_gguf(changed, SMALL, SMALL, SMALL), &tokenizer, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "token 5 has 4097 bytes"), "%s", error.text);
	changed[5] = small[4];          /* a piece twice */
	ck_assert_int_eq(open_gguf(make_gguf(changed, SMALL, SMALL, SMALL), &tokenizer, &error), STATUS_CORRUPT);
	ck_assert_ptr_null(tokenizer);
}
END_TEST

/* ---- a tokenizer.model rewritten ---- */

static uint64_t varint(const uint8_t **at)
{
	uint64_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		value |= (uint64_t)(**at & 0x7F) << shift;
		if (!(*(*at)++ & 0x80))
			return value;
	}
}

/* The pieces of a well-formed model: field 1, and in it text (1), score (2), type (3). */
static size_t read_pieces(const struct mapped_file *file, struct piece *out, size_t max)
{
	size_t count = 0;

	for (const uint8_t *at = file->bytes, *end = at + file->size; at < end;) {
		uint64_t tag = varint(&at), size = varint(&at);
		const uint8_t *inner = at, *inner_end = at + size;
		ck_assert_uint_eq(tag & 7, 2);
		at = inner_end;
		if (tag >> 3 != 1)
			continue;
		ck_assert_uint_lt(count, max);
		out[count] = (struct piece){.type = NORMAL};
		while (inner < inner_end) {
			uint64_t field = varint(&inner);
			if (field == (1 << 3 | 2)) {
				out[count].size = varint(&inner);
				out[count].text = (const char *)inner;
				inner += out[count].size;
			} else if (field == (2 << 3 | 5)) {
				memcpy(&out[count].score, inner, 4);
				inner += 4;
			} else {
				ck_assert_uint_eq(field, 3 << 3);
				out[count].type = (int32_t)varint(&inner);
			}
		}
		count++;
	}
	return count;
}

static const char *const models[] = {"llama-tokenizer/tokenizer.model", "stories260k-hf/tokenizer.model"};

START_TEST(same_ids_as_the_model)
{
	enum { PIECES_MAX = 40000, TEXTS = 2000, PARTS_MAX = 24, IDS_MAX = 4096 };
	static struct piece pieces[PIECES_MAX];
	static int32_t wanted[IDS_MAX], got[IDS_MAX];
	struct mapped_file file = {0};
	struct tokenizer *model = NULL, *gguf = NULL;
	struct tokenizer_scratch *of_model, *of_gguf;
	struct error error = {0};
	uint64_t state = 7 + (uint64_t)_i;
	char path[512], text[8192];
	size_t count;

	if (!find_shared(models[_i], path))
		return;
	ck_assert_int_eq(mapped_file_open(path, &file, &error), STATUS_OK);
	count = read_pieces(&file, pieces, PIECES_MAX);
	ck_assert_int_eq(tokenizer_open(path, &model, &error), STATUS_OK);
	ck_assert_msg(open_gguf(make_gguf(pieces, count, count, count), &gguf, &error) == STATUS_OK, "%s", error.text);
	of_model = tokenizer_scratch_create(model);
	of_gguf = tokenizer_scratch_create(gguf);
	ck_assert_uint_eq(tokenizer_vocabulary(gguf), tokenizer_vocabulary(model));
	ck_assert_int_eq(tokenizer_bos(gguf), tokenizer_bos(model));
	ck_assert_int_eq(tokenizer_eos(gguf), tokenizer_eos(model));
	for (int n = 0; n < TEXTS; n++) {
		size_t size = 0, ids;
		/* Pieces in any order, with spaces, and now and then a byte that is no text. */
		for (int part = 0; part < PARTS_MAX; part++) {
			const struct piece *piece;
			state = state * 6364136223846793005u + 1442695040888963407u;
			piece = &pieces[(state >> 33) % count];
			if (size + piece->size + 2 > sizeof(text) || (state >> 20 & 15) == 0)
				break;
			memcpy(text + size, piece->text, piece->size);
			size += piece->size;
			if (state >> 24 & 1)
				text[size++] = (state >> 25 & 15) == 0 ? '\xFF' : ' ';
		}
		for (int flags = 0; flags < 4; flags++) {
			ids = encode(model, of_model, (struct text_view){text, size}, flags, wanted, IDS_MAX);
			ck_assert_msg(encode(gguf, of_gguf, (struct text_view){text, size}, flags, got,
					     IDS_MAX) == ids &&
				      memcmp(got, wanted, ids * sizeof(*got)) == 0,
				      "text %d, flags %d: \"%.*s\"", n, flags, (int)size, text);
		}
	}
	tokenizer_scratch_destroy(of_model);
	tokenizer_scratch_destroy(of_gguf);
	tokenizer_close(model);
	tokenizer_close(gguf);
	mapped_file_close(&file);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("gguf pieces");
	tcase_add_test(tests, small_vocabulary);
	tcase_add_test(tests, refuses);
	tcase_add_loop_test(tests, same_ids_as_the_model, 0, sizeof(models) / sizeof(models[0]));
	return run_suite("gguf pieces", tests);
}
