/* tokenizer_model.c - files called tokenizer.model: SentencePiece's, and Llama 3's list of ranks.
 *
 * A list of ranks ("base64 rank" a line) names tokens alone: every way to make a token from two others is
 * a merge whose rank is the token's. The special tokens behind it are those of Meta's Llama 3 code. Used
 * by tokenizer.c while opening. */
#include "scorer/tokenizer_parts.h"

#include <stdio.h>

enum { LINE_BYTES_MAX = 4096, TOKEN_BYTES_MAX = 1024, LLAMA3_RESERVED = 256 };

/* ---- SentencePiece ---- */

/* Protocol buffers: a number of 7 bits a byte. False: cut off or above 64 bits. */
static bool read_varint(const uint8_t *bytes, size_t size, size_t *at, uint64_t *out)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && *at < size; shift += 7) {
		uint8_t byte = bytes[(*at)++];
		value |= (uint64_t)(byte & 0x7F) << shift;
		if (!(byte & 0x80)) {
			*out = value;
			return true;
		}
	}
	return false;
}

struct field {
	uint64_t number, value;         /* value: of a varint; of bytes their length */
	const uint8_t *bytes;           /* NULL: not bytes */
};

static bool read_field(const uint8_t *bytes, size_t size, size_t *at, struct field *out)
{
	uint64_t tag;
	size_t skip;

	*out = (struct field){0};
	if (!read_varint(bytes, size, at, &tag))
		return false;
	out->number = tag >> 3;
	switch (tag & 7) {
	case 0: return read_varint(bytes, size, at, &out->value);
	case 1: skip = 8; break;
	case 5: skip = 4; break;
	case 2:
		if (!read_varint(bytes, size, at, &out->value) || out->value > size - *at)
			return false;
		out->bytes = bytes + *at;
		skip = out->value;
		break;
	default: return false;
	}
	if (skip > size - *at)
		return false;
	*at += skip;
	return true;
}

/* A file that the library is given is one that it is known to read right: well-formed, BPE, and without a
 * table for normalisation, which the library would follow unchecked. Llama's models are like that. */
static enum status check_model(const struct mapped_file *file, bool *words_apart, struct error *error)
{
	enum { PIECE = 1, TRAINER = 2, NORMALIZER = 3, TRAINER_TYPE = 3, NORMALIZER_TABLE = 2, TYPE_BPE = 2 };
	enum { PIECE_TEXT = 1, DUMMY_PREFIX = 3, TRIMS_SPACES = 4, ESCAPES_SPACES = 5, MARK_IS_SUFFIX = 24 };
	bool prefixes = true, trims = true, escapes = true, suffixes = false, spans = false;
	struct field field, inner;
	uint64_t type = 1, pieces = 0;

	for (size_t at = 0, begin = 0; at < file->size; begin = at) {
		if (!read_field(file->bytes, file->size, &at, &field))
			return mapped_file_corrupt(file, begin, error,
						   "no SentencePiece model: a field is cut off");
		if (field.number >= PIECE && field.number <= NORMALIZER && !field.bytes)
			return mapped_file_corrupt(file, begin, error,
						   "no SentencePiece model: field %u is no message",
						   (unsigned)field.number);
		if (field.number == PIECE && ++pieces > VOCABULARY_IDS_MAX)
			return mapped_file_corrupt(file, begin, error, "more than %d pieces",
						   VOCABULARY_IDS_MAX);
		for (size_t inside = 0; field.bytes && field.number <= NORMALIZER && inside < field.value;) {
			if (!read_field(field.bytes, field.value, &inside, &inner))
				return mapped_file_corrupt(file, begin, error,
							   "no SentencePiece model: a field in "
							   "field %u is cut off", (unsigned)field.number);
			if (field.number == PIECE && inner.bytes && inner.value > VOCABULARY_PIECE_MAX)
				return mapped_file_corrupt(file, begin, error, "a piece of %llu bytes",
							   (unsigned long long)inner.value);
			if (field.number == PIECE && inner.number == PIECE_TEXT && inner.bytes)
				spans |= bpe_spans_words(
				    (struct text_view){(const char *)inner.bytes, inner.value});
			if (field.number == TRAINER && inner.number == MARK_IS_SUFFIX)
				suffixes = inner.value;
			if (field.number == NORMALIZER && inner.number == DUMMY_PREFIX)
				prefixes = inner.value;
			if (field.number == NORMALIZER && inner.number == TRIMS_SPACES)
				trims = inner.value;
			if (field.number == NORMALIZER && inner.number == ESCAPES_SPACES)
				escapes = inner.value;
			if (field.number == TRAINER && inner.number == TRAINER_TYPE)
				type = inner.value;
			if (field.number == NORMALIZER && inner.number == NORMALIZER_TABLE && inner.value > 0)
				return error_set(error, STATUS_UNSUPPORTED,
						 "%s: byte %zu: SentencePiece with a table for "
						 "normalisation; identity is supported", file->path, begin);
		}
	}
	if (pieces == 0)
		return mapped_file_corrupt(file, 0, error, "no SentencePiece model: no pieces");
	if (type != TYPE_BPE)
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: SentencePiece model of type %llu; BPE (2) is supported",
				 file->path, (unsigned long long)type);
	*words_apart = prefixes && !trims && escapes && !suffixes && !spans;
	return STATUS_OK;
}

/* Of a space, or of the "▁" that stands for one; 0: another character. */
static size_t mark_size(struct text_view text, size_t at)
{
	if (text.bytes[at] == ' ')
		return 1;
	return text.size - at >= 3 && memcmp(text.bytes + at, "\xE2\x96\x81", 3) == 0 ? 3 : 0;
}

/* The library's time grows faster than its text, and shops repeat their words. With a prefix, "word" is
 * what " word" is without. */
enum status tokenizer_encode_sentencepiece(const struct tokenizer *tokenizer, struct bpe_scratch *scratch,
					   struct text_view text, bool prefix, int32_t *ids, size_t ids_max,
					   size_t *count, struct error *error)
{
	const struct sentencepiece_face *face = tokenizer->sentencepiece;
	enum status status = STATUS_OK;

	if (!tokenizer->words_apart)
		return sentencepiece_encode(face, text.bytes, text.size, prefix, ids, ids_max, count, error);
	for (size_t begin = 0, end; status == STATUS_OK && begin < text.size; begin = end, prefix = false) {
		char key[32];
		struct text_view word = {text.bytes + begin, 0};
		size_t had = *count;

		for (end = begin; end < text.size && mark_size(text, end);)
			end += mark_size(text, end);
		while (end < text.size && !mark_size(text, end))
			end++;
		word.size = end - begin;
		if (prefix && word.size < sizeof(key)) {
			key[0] = ' ';
			memcpy(key + 1, word.bytes, word.size);
			word = (struct text_view){key, word.size + 1};
		}
		if (bpe_cache_find(scratch, word, ids, ids_max, count))
			continue;
		status = sentencepiece_encode(face, text.bytes + begin, end - begin, prefix, ids, ids_max,
					      count, error);
		if (status == STATUS_OK && (!prefix || word.bytes == key))
			bpe_cache_put(scratch, word, ids + had, *count - had);
	}
	return status;
}

enum status tokenizer_load_sentencepiece(struct tokenizer *tokenizer, const struct mapped_file *file,
					 struct error *error)
{
	struct sentencepiece_face *sentencepiece = NULL;
	enum status status = check_model(file, &tokenizer->words_apart, error);

	if (status == STATUS_OK)
		status = sentencepiece_load(file->bytes, file->size, file->path, &sentencepiece, error);
	if (status != STATUS_OK)
		return status;
	tokenizer->sentencepiece = sentencepiece;
	tokenizer->face = FACE_SENTENCEPIECE;
	snprintf(tokenizer->kind, sizeof(tokenizer->kind), "SentencePiece");
	tokenizer->prefix = PREFIX_ALWAYS;
	tokenizer->vocabulary = (uint32_t)sentencepiece_count(sentencepiece);
	tokenizer->bos = sentencepiece_bos(sentencepiece);
	tokenizer->eos = sentencepiece_eos(sentencepiece);
	tokenizer->adds_bos = true;
	for (int32_t id = 0; id < (int32_t)tokenizer->vocabulary && status == STATUS_OK; id++) {
		struct text_view text;
		if (!sentencepiece_is_special(sentencepiece, id))
			continue;
		text.bytes = sentencepiece_piece(sentencepiece, id, &text.size);
		status = tokenizer_add_special(tokenizer, id, text, false, error);
	}
	return status == STATUS_OK ? status : error_prefix(error, "%s", file->path);
}

/* ---- a list of ranks ---- */

static int base64_digit(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 :
	       c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Strict: whole groups of four, padding at the end only. False: malformed. */
static bool decode_base64(const uint8_t *at, size_t size, uint8_t *out, size_t *out_size)
{
	*out_size = 0;
	if (size == 0 || size % 4 != 0)
		return false;
	for (size_t i = 0; i < size; i += 4) {
		int padding = 0;
		uint32_t bits = 0;
		for (size_t k = 0; k < 4; k++) {
			int digit = base64_digit(at[i + k]);
			if (at[i + k] == '=' && i + 4 == size && k >= 2)
				padding++;
			else if (digit < 0 || padding)
				return false;
			bits = bits << 6 | (uint32_t)(digit < 0 ? 0 : digit);
		}
		out[(*out_size)++] = (uint8_t)(bits >> 16);
		if (padding < 2)
			out[(*out_size)++] = (uint8_t)(bits >> 8);
		if (padding < 1)
			out[(*out_size)++] = (uint8_t)bits;
	}
	return true;
}

bool tokenizer_is_ranks(const struct mapped_file *file)
{
	size_t i = 0;

	while (i < file->size && i < LINE_BYTES_MAX &&
	       (base64_digit(file->bytes[i]) >= 0 || file->bytes[i] == '='))
		i++;
	return i >= 4 && i + 1 < file->size && file->bytes[i] == ' ' && file->bytes[i + 1] >= '0' &&
	       file->bytes[i + 1] <= '9';
}

/* One line; the byte string in GPT-2's letters, as tokenizer.json has it. */
static enum status read_line(struct tokenizer *tokenizer, const struct mapped_file *file, size_t start,
			     size_t end, uint32_t rank, struct error *error)
{
	uint8_t bytes[LINE_BYTES_MAX];
	char text[2 * TOKEN_BYTES_MAX];
	const uint8_t *line = file->bytes + start, *space;
	size_t size = 0, text_size = 0;
	uint64_t number = 0;
	enum status status;

	if (end > start && file->bytes[end - 1] == '\r')
		end--;
	space = end - start > LINE_BYTES_MAX ? NULL : memchr(line, ' ', end - start);
	if (!space || !decode_base64(line, (size_t)(space - line), bytes, &size) || size > TOKEN_BYTES_MAX)
		return mapped_file_corrupt(file, start, error, "not a line of base64, a space and a rank");
	for (const uint8_t *at = space + 1; at < file->bytes + end; at++) {
		if (*at < '0' || *at > '9' || number > VOCABULARY_IDS_MAX)
			return mapped_file_corrupt(file, start, error, "not a rank");
		number = number * 10 + (uint64_t)(*at - '0');
	}
	if (number != rank || space + 1 == file->bytes + end)
		return mapped_file_corrupt(file, start, error, "rank %u was to come", rank);
	for (size_t i = 0; i < size; i++)
		text_size += bpe_byte_text(bytes[i], text + text_size);
	status = vocabulary_set(&tokenizer->bpe.vocabulary, rank, (struct text_view){text, text_size}, error);
	return status == STATUS_OK ? status : error_prefix(error, "%s: byte %zu", file->path, start);
}

/* Calls for every way to cut a token in two tokens. Letters are one or two bytes; a cut inside one finds
 * no token. */
static enum status make_merges(struct bpe *bpe, uint32_t ranks, bool count_only, uint32_t *count,
			       struct error *error)
{
	enum status status = STATUS_OK;

	*count = 0;
	for (uint32_t id = 0; id < ranks; id++) {
		struct text_view token = bpe->vocabulary.pieces[id];
		for (size_t cut = 1; cut < token.size; cut++) {
			int32_t left = vocabulary_find(&bpe->vocabulary,
						       (struct text_view){token.bytes, cut});
			int32_t right = left < 0 ? -1 : vocabulary_find(&bpe->vocabulary,
				(struct text_view){token.bytes + cut, token.size - cut});
			if (right < 0)
				continue;
			if (*count == BPE_MERGES_MAX)
				return error_set(error, STATUS_CORRUPT, "more than %d merges",
						 BPE_MERGES_MAX);
			++*count;
			if (!count_only)
				status = bpe_add_merge_ids(bpe, (uint32_t)left, (uint32_t)right, id, id,
							   error);
			if (status != STATUS_OK)
				return status;
		}
	}
	return status;
}

static enum status add_llama3_specials(struct tokenizer *tokenizer, uint32_t ranks, struct error *error)
{
	static const char *const first[] = {
		"<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
		"<|reserved_special_token_1|>", "<|reserved_special_token_2|>",
		"<|reserved_special_token_3|>",
		"<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>",
	};
	const uint32_t named = sizeof(first) / sizeof(first[0]);

	for (uint32_t i = 0; i < LLAMA3_RESERVED; i++) {
		char text[40];
		enum status status;
		if (i < named)
			snprintf(text, sizeof(text), "%s", first[i]);
		else
			snprintf(text, sizeof(text), "<|reserved_special_token_%u|>", i - named + 5);
		status = vocabulary_set(&tokenizer->bpe.vocabulary, ranks + i, text_of(text), error);
		if (status == STATUS_OK)
			status = tokenizer_add_special(tokenizer, (int32_t)(ranks + i), text_of(text), false,
						       error);
		if (status != STATUS_OK)
			return status;
	}
	tokenizer->bos = (int32_t)ranks;
	tokenizer->eos = (int32_t)ranks + 1;
	tokenizer->adds_bos = true;
	return STATUS_OK;
}

enum status tokenizer_load_ranks(struct tokenizer *tokenizer, const struct mapped_file *file,
				 struct error *error)
{
	uint32_t ranks = 0, rank = 0, merges = 0;
	struct bpe *bpe = &tokenizer->bpe;
	enum status status;

	for (size_t i = 0; i < file->size; i++)
		ranks += file->bytes[i] == '\n' || i + 1 == file->size;
	if (ranks > VOCABULARY_IDS_MAX - LLAMA3_RESERVED)
		return mapped_file_corrupt(file, 0, error, "%u lines (limit %d)", ranks,
					   VOCABULARY_IDS_MAX - LLAMA3_RESERVED);
	tokenizer->vocabulary = ranks + LLAMA3_RESERVED;
	status = vocabulary_init(&bpe->vocabulary, tokenizer->vocabulary, error);
	for (size_t start = 0, end; start < file->size && status == STATUS_OK; start = end + 1) {
		const uint8_t *line_end = memchr(file->bytes + start, '\n', file->size - start);
		end = line_end ? (size_t)(line_end - file->bytes) : file->size;
		status = read_line(tokenizer, file, start, end, rank++, error);
	}
	if (status == STATUS_OK)
		status = make_merges(bpe, ranks, true, &merges, error);
	if (status == STATUS_OK)
		status = bpe_init_merges(bpe, merges, error);
	if (status == STATUS_OK)
		status = make_merges(bpe, ranks, false, &merges, error);
	if (status == STATUS_OK)
		status = add_llama3_specials(tokenizer, ranks, error);
	if (status == STATUS_OK)
		status = pretokenizer_create(PRETOKENIZER_LLAMA3, &tokenizer->pretokenizer, error);
	if (status != STATUS_OK)
		return status;
	bpe_find_bytes(bpe);
	bpe->whole_words = true;
	bpe->byte_level = true;
	tokenizer->face = FACE_BYTE_BPE;
	snprintf(tokenizer->kind, sizeof(tokenizer->kind), "byte-level BPE (Llama 3)");
	return STATUS_OK;
}
