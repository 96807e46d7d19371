/* tokenizer.c - opens a tokenizer, and encodes: special tokens, normalisation, words, ids.
 *
 * Invariant: special tokens are recognised only with TOKENIZER_PARSE_SPECIAL; without it their text is
 * text. Immutable after open; what encode changes lies in the scratch. */
#include "scorer/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

struct tokenizer_scratch {
	struct bpe_scratch *bpe;
	void *block;                    /* PCRE2's */
	char *repaired, *normal;
	size_t repaired_capacity, normal_capacity;
	utf8proc_int32_t *code_points;
	size_t code_point_capacity;
};

/* One call's state, passed down. */
struct encoding {
	const struct tokenizer *tokenizer;
	struct tokenizer_scratch *scratch;
	int32_t *ids;
	size_t ids_max, count;
	bool parse_special;
	struct error *error;
};

/* ---- open and close ---- */

static enum status find_in_folder(const char *folder, struct mapped_file *file, struct error *error)
{
	static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
	enum status status = STATUS_OK;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = mapped_file_join(folder, names[i]);
		if (!path)
			return error_set(error, STATUS_NO_MEMORY, "%s: no memory", folder);
		if (!mapped_file_exists(path)) {
			mem_free(path);
			continue;
		}
		status = mapped_file_open(path, file, error);
		mem_free(path);
		return status;
	}
	return error_set(error, STATUS_NO_INPUT, "%s: no tokenizer here; looked for tokenizer.json and "
			 "tokenizer.model", folder);
}

static bool is_json(const struct mapped_file *file)
{
	size_t size = strlen(file->path);
	return (file->size > 0 && file->bytes[0] == '{') ||
		(size > 5 && strcmp(file->path + size - 5, ".json") == 0);
}

static enum status load(struct tokenizer *tokenizer, const struct mapped_file *file, struct error *error)
{
	struct gguf *gguf = NULL;
	enum status status;

	if (gguf_is(file)) {
		status = gguf_parse(file, NULL, &gguf, error);
		if (status == STATUS_OK)
			status = tokenizer_load_gguf(tokenizer, gguf, file, error);
		gguf_destroy(gguf);
		return status;
	}
	/* A SentencePiece model begins with a line feed, so white space says nothing. */
	if (is_json(file))
		return tokenizer_load_json(tokenizer, file, error);
	if (tokenizer_is_ranks(file))
		return tokenizer_load_ranks(tokenizer, file, error);
	return tokenizer_load_sentencepiece(tokenizer, file, error);
}

static int compare_specials(const void *a, const void *b)
{
	const struct special_token *x = a, *y = b;
	if (x->text[0] != y->text[0])
		return (unsigned char)x->text[0] > (unsigned char)y->text[0] ? 1 : -1;
	if (x->size != y->size)
		return x->size < y->size ? 1 : -1;
	return memcmp(x->text, y->text, x->size);
}

static int32_t find_token(const struct tokenizer *tokenizer, const char *text)
{
	int32_t id = tokenizer_special(tokenizer, text);

	if (id >= 0)
		return id;
	if (tokenizer->face == FACE_SENTENCEPIECE)
		return sentencepiece_find(tokenizer->sentencepiece, text, strlen(text));
	return vocabulary_find(&tokenizer->bpe.vocabulary, text_of(text));
}

/* What a folder's settings say goes before what the tokenizer file says. */
static void apply_settings(struct tokenizer *tokenizer)
{
	const struct tokenizer_settings *settings = &tokenizer->settings;

	if (settings->bos_text)
		tokenizer->bos = find_token(tokenizer, settings->bos_text);
	else if (settings->has_no_bos)
		tokenizer->bos = -1;
	else if (tokenizer->bos < 0 && settings->bos_id < (int64_t)tokenizer->vocabulary)
		tokenizer->bos = settings->bos_id;
	if (settings->eos_text)
		tokenizer->eos = find_token(tokenizer, settings->eos_text);
	else if (tokenizer->eos < 0 && settings->eos_id < (int64_t)tokenizer->vocabulary)
		tokenizer->eos = settings->eos_id;
	if (settings->adds_bos >= 0)
		tokenizer->adds_bos = settings->adds_bos;
	if (tokenizer->face == FACE_SENTENCEPIECE && settings->legacy == 0)
		tokenizer->prefix = PREFIX_FIRST;
}

static void index_specials(struct tokenizer *tokenizer)
{
	size_t at = 0;

	if (tokenizer->special_count)
		qsort(tokenizer->specials, tokenizer->special_count, sizeof(*tokenizer->specials),
		      compare_specials);
	for (unsigned byte = 0; byte <= 256; byte++) {
		while (at < tokenizer->special_count && (unsigned char)tokenizer->specials[at].text[0] < byte)
			at++;
		tokenizer->special_start[byte] = (uint32_t)at;
	}
	tokenizer->special_start[256] = (uint32_t)tokenizer->special_count;
}

/* folder: NULL, or where the settings lie. */
static enum status make(const char *folder, const struct mapped_file *file, struct tokenizer **out,
			struct error *error)
{
	struct tokenizer *tokenizer = mem_alloc_zero(1, sizeof(*tokenizer));
	enum status status = STATUS_OK;

	if (!tokenizer)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", file->path);
	tokenizer->bos = tokenizer->eos = -1;
	tokenizer->settings = (struct tokenizer_settings){.bos_id = -1, .eos_id = -1, .adds_bos = -1,
							  .legacy = -1};
	tokenizer->bpe.unknown = -1;
	if (folder)
		status = tokenizer_load_settings(tokenizer, folder, error);
	if (status == STATUS_OK)
		status = load(tokenizer, file, error);
	if (status != STATUS_OK) {
		tokenizer_close(tokenizer);
		return status;
	}
	index_specials(tokenizer);
	apply_settings(tokenizer);
	*out = tokenizer;
	return STATUS_OK;
}

enum status tokenizer_from_file(const struct mapped_file *file, struct tokenizer **out, struct error *error)
{
	return make(NULL, file, out, error);
}

enum status tokenizer_open(const char *path, struct tokenizer **out, struct error *error)
{
	struct mapped_file file = {0};
	bool folder = mapped_file_is_folder(path);
	enum status status = folder ? find_in_folder(path, &file, error) :
		mapped_file_open(path, &file, error);

	if (status == STATUS_OK)
		status = make(folder ? path : NULL, &file, out, error);
	mapped_file_close(&file);
	return status;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
	if (!tokenizer)
		return;
	for (size_t i = 0; i < tokenizer->special_count; i++)
		mem_free(tokenizer->specials[i].text);
	mem_free(tokenizer->specials);
	mem_free(tokenizer->chat_template);
	mem_free(tokenizer->settings.bos_text);
	mem_free(tokenizer->settings.eos_text);
	bpe_destroy(&tokenizer->bpe);
	pretokenizer_destroy(tokenizer->pretokenizer);
	sentencepiece_close(tokenizer->sentencepiece);
	mem_free(tokenizer);
}

enum status tokenizer_add_special(struct tokenizer *tokenizer, int32_t id, struct text_view text,
				  bool normalised, struct error *error)
{
	void *specials = tokenizer->specials;
	char *copy;

	if (text.size == 0)
		return error_set(error, STATUS_CORRUPT, "special token %d without text", id);
	if (!mem_reserve(&specials, &tokenizer->special_capacity, tokenizer->special_count,
			 TOKENIZER_SPECIALS_MAX, sizeof(*tokenizer->specials)))
		return error_set(error, STATUS_CORRUPT, "more than %d special tokens",
				 TOKENIZER_SPECIALS_MAX);
	tokenizer->specials = specials;
	copy = mem_alloc(text.size);
	if (!copy)
		return error_set(error, STATUS_NO_MEMORY, "no memory for special token %d", id);
	memcpy(copy, text.bytes, text.size);
	tokenizer->specials[tokenizer->special_count++] =
		(struct special_token){copy, text.size, id, normalised};
	tokenizer->any_normalised = tokenizer->any_normalised || normalised;
	return STATUS_OK;
}

/* ---- scratch ---- */

struct tokenizer_scratch *tokenizer_scratch_create(const struct tokenizer *tokenizer)
{
	struct tokenizer_scratch *scratch = mem_alloc_zero(1, sizeof(*scratch));

	if (!scratch)
		return NULL;
	scratch->bpe = bpe_scratch_create();
	if (tokenizer->face != FACE_SENTENCEPIECE)
		scratch->block = pretokenizer_block_create();
	if (!scratch->bpe || (tokenizer->face != FACE_SENTENCEPIECE && !scratch->block)) {
		tokenizer_scratch_destroy(scratch);
		return NULL;
	}
	return scratch;
}

void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch)
{
	if (!scratch)
		return;
	bpe_scratch_destroy(scratch->bpe);
	pretokenizer_block_destroy(scratch->block);
	mem_free(scratch->repaired);
	mem_free(scratch->normal);
	mem_free(scratch->code_points);
	mem_free(scratch);
}

/* A buffer of at least `bytes`; keeps what it held. */
static bool reserve(char **buffer, size_t *capacity, size_t bytes)
{
	char *grown;

	if (bytes <= *capacity)
		return true;
	bytes += bytes / 2;
	grown = mem_resize_array(*buffer, bytes, 1);
	if (!grown)
		return false;
	*buffer = grown;
	*capacity = bytes;
	return true;
}

/* ---- normalisation ---- */

/* The longest part at the front of invalid UTF-8 that could have begun a character; at least one byte. */
static size_t invalid_size(const uint8_t *at, size_t left)
{
	size_t wanted, size = 1;
	uint8_t low = 0x80, high = 0xBF, lead = at[0];

	if (lead < 0xC2 || lead > 0xF4)
		return 1;
	wanted = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
	if (lead == 0xE0)
		low = 0xA0;
	else if (lead == 0xED)
		high = 0x9F;
	else if (lead == 0xF0)
		low = 0x90;
	else if (lead == 0xF4)
		high = 0x8F;
	for (; size < wanted && size < left && at[size] >= low && at[size] <= high; size++)
		low = 0x80, high = 0xBF;
	return size;
}

/* Each maximal invalid part becomes U+FFFD, as Rust's and Python's decoders have it. */
static bool repair(struct tokenizer_scratch *scratch, struct text_view *text)
{
	const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text->bytes;
	size_t used = 0;

	if (!reserve(&scratch->repaired, &scratch->repaired_capacity, 3 * text->size))
		return false;
	for (size_t i = 0; i < text->size;) {
		utf8proc_int32_t c;
		utf8proc_ssize_t size = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(text->size - i), &c);
		if (size > 0) {
			memcpy(scratch->repaired + used, bytes + i, (size_t)size);
			used += (size_t)size;
			i += (size_t)size;
			continue;
		}
		memcpy(scratch->repaired + used, "\xEF\xBF\xBD", 3);
		used += 3;
		i += invalid_size(bytes + i, text->size - i);
	}
	*text = (struct text_view){scratch->repaired, used};
	return true;
}

/* All characters below U+0300 are in NFC already, whatever follows among themselves. */
static bool may_need_nfc(struct text_view text)
{
	for (size_t i = 0; i < text.size; i++)
		if ((unsigned char)text.bytes[i] >= 0xCC)
			return true;
	return false;
}

static enum status to_nfc(struct encoding *encoding, struct text_view *text)
{
	struct tokenizer_scratch *scratch = encoding->scratch;
	const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
	utf8proc_ssize_t size;

	for (;;) {
		size = utf8proc_decompose((const utf8proc_uint8_t *)text->bytes, (utf8proc_ssize_t)text->size,
					  scratch->code_points,
					  (utf8proc_ssize_t)scratch->code_point_capacity,
					  options);
		if (size < 0)
			return error_set(encoding->error, STATUS_INTERNAL, "utf8proc: %s",
					 utf8proc_errmsg(size));
		if ((size_t)size < scratch->code_point_capacity)
			break;
		/* One more place than needed: reencode writes a terminator. */
		utf8proc_int32_t *grown = mem_resize_array(scratch->code_points, (size_t)size + 64,
							   sizeof(*grown));
		if (!grown)
			return error_set(encoding->error, STATUS_NO_MEMORY, "no memory to normalise a text");
		scratch->code_points = grown;
		scratch->code_point_capacity = (size_t)size + 64;
	}
	size = utf8proc_reencode(scratch->code_points, size, options);
	if (size < 0)
		return error_set(encoding->error, STATUS_INTERNAL, "utf8proc: %s", utf8proc_errmsg(size));
	*text = (struct text_view){(const char *)scratch->code_points, (size_t)size};
	return STATUS_OK;
}

/* "▁" before (where asked for) and in place of every space. */
static enum status to_pieces(struct encoding *encoding, bool prefix, struct text_view *text)
{
	static const char lower_block[] = "\xE2\x96\x81";
	struct tokenizer_scratch *scratch = encoding->scratch;
	size_t used = 0;

	if (!reserve(&scratch->normal, &scratch->normal_capacity, 3 * text->size + 3))
		return error_set(encoding->error, STATUS_NO_MEMORY, "no memory to normalise a text");
	if (prefix && encoding->tokenizer->prefix_unless_there &&
	    (text->bytes[0] == ' ' || (text->size >= 3 && memcmp(text->bytes, lower_block, 3) == 0)))
		prefix = false;
	if (prefix) {
		memcpy(scratch->normal, lower_block, 3);
		used = 3;
	}
	for (size_t i = 0; i < text->size; i++) {
		if (text->bytes[i] == ' ') {
			memcpy(scratch->normal + used, lower_block, 3);
			used += 3;
		} else {
			scratch->normal[used++] = text->bytes[i];
		}
	}
	*text = (struct text_view){scratch->normal, used};
	return STATUS_OK;
}

/* ---- encoding ---- */

/* The longest special token at the front of the text, of the asked kind; NULL: none. */
static const struct special_token *special_at(const struct tokenizer *tokenizer, struct text_view text,
					      bool normalised)
{
	unsigned char first = (unsigned char)text.bytes[0];

	for (uint32_t i = tokenizer->special_start[first]; i < tokenizer->special_start[first + 1]; i++) {
		const struct special_token *special = &tokenizer->specials[i];
		if (special->normalised == normalised && special->size <= text.size &&
		    memcmp(special->text, text.bytes, special->size) == 0)
			return special;
	}
	return NULL;
}

static enum status append_id(struct encoding *encoding, int32_t id)
{
	if (encoding->count == encoding->ids_max)
		return error_set(encoding->error, STATUS_LIMIT, "more than %zu token ids", encoding->ids_max);
	encoding->ids[encoding->count++] = id;
	return STATUS_OK;
}

static enum status encode_word(void *context, struct text_view word)
{
	struct encoding *encoding = context;
	return bpe_encode(&encoding->tokenizer->bpe, encoding->scratch->bpe, word, encoding->ids,
			  encoding->ids_max, &encoding->count, encoding->error);
}

/* Calls plain(text between) and appends the id of each special token of the asked kind. `first`: the part
 * begins the whole text; `after_special`: it follows a special token. */
typedef enum status (*encode_part)(struct encoding *encoding, struct text_view text, bool first,
				   bool after_special);
static enum status split_specials(struct encoding *encoding, struct text_view text, bool normalised,
				  bool first, encode_part plain)
{
	size_t start = 0, at = 0;
	enum status status;

	while (at < text.size) {
		struct text_view rest = {text.bytes + at, text.size - at};
		const struct special_token *special = special_at(encoding->tokenizer, rest, normalised);
		if (!special) {
			at++;
			continue;
		}
		status = plain(encoding, (struct text_view){text.bytes + start, at - start}, first &&
			       start == 0,
			       start > 0);
		if (status == STATUS_OK)
			status = append_id(encoding, special->id);
		if (status != STATUS_OK)
			return status;
		at += special->size;
		start = at;
	}
	return plain(encoding, (struct text_view){text.bytes + start, text.size - start}, first && start == 0,
		     start > 0);
}

static enum status encode_normalised(struct encoding *encoding, struct text_view text, bool first,
				     bool after_special)
{
	(void)first;
	(void)after_special;
	return encode_word(encoding, text);
}

/* A text without special tokens of the kind searched before normalisation. */
static enum status encode_plain(struct encoding *encoding, struct text_view text, bool first,
				bool after_special)
{
	const struct tokenizer *tokenizer = encoding->tokenizer;
	bool prefix = (tokenizer->prefix != PREFIX_NEVER && first) ||
		      (tokenizer->prefix == PREFIX_ALWAYS && after_special);
	enum status status = STATUS_OK;

	if (text.size == 0)
		return STATUS_OK;
	switch (tokenizer->face) {
	case FACE_SENTENCEPIECE:
		return tokenizer_encode_sentencepiece(tokenizer, encoding->scratch->bpe, text, prefix,
						      encoding->ids, encoding->ids_max, &encoding->count,
						      encoding->error);
	case FACE_CHARACTER_BPE:
		status = to_pieces(encoding, prefix, &text);
		if (status != STATUS_OK)
			return status;
		if (encoding->parse_special && tokenizer->any_normalised)
			return split_specials(encoding, text, true, true, encode_normalised);
		return encode_word(encoding, text);
	case FACE_BYTE_BPE:
		if (tokenizer->nfc && may_need_nfc(text))
			status = to_nfc(encoding, &text);
		if (status != STATUS_OK)
			return status;
		return pretokenizer_walk(tokenizer->pretokenizer, encoding->scratch->block, text, encode_word,
					 encoding, encoding->error);
	}
	return STATUS_INTERNAL;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
			     struct text_view text, int flags, int32_t *ids, size_t ids_max,
			     size_t *count, struct error *error)
{
	struct encoding encoding = {.tokenizer = tokenizer, .scratch = scratch, .ids = ids,
				    .ids_max = ids_max,
				    .count = *count, .error = error,
				    .parse_special = flags & TOKENIZER_PARSE_SPECIAL};
	bool first = !(flags & TOKENIZER_CONTINUES);
	enum status status;

	if (text.size > BPE_TEXT_MAX / 4)
		return error_set(error, STATUS_LIMIT, "a text of %zu bytes (limit %d)", text.size,
				 BPE_TEXT_MAX / 4);
	if (*count > ids_max)
		return error_set(error, STATUS_LIMIT, "%zu ids in an array of %zu", *count, ids_max);
	/* SentencePiece repairs by itself, each byte on its own. */
	if (tokenizer->face != FACE_SENTENCEPIECE && !text_is_utf8(text) && !repair(scratch, &text))
		return error_set(error, STATUS_NO_MEMORY, "no memory to repair a text");
	if (encoding.parse_special)
		status = split_specials(&encoding, text, false, first, encode_plain);
	else
		status = encode_plain(&encoding, text, first, false);
	if (status == STATUS_OK)
		*count = encoding.count;
	return status;
}

size_t tokenizer_ids_max(const struct tokenizer *tokenizer, size_t text_bytes)
{
	(void)tokenizer;
	/* A byte may be repaired to U+FFFD, or a space become "▁", of three bytes and as many ids; a "▁" goes
	 * before. NFC makes no text more than three times as long either. */
	return text_bytes > SIZE_MAX / 4 ? SIZE_MAX : 3 * text_bytes + 3;
}

/* ---- questions ---- */

const char *tokenizer_kind(const struct tokenizer *tokenizer)
{
	return tokenizer->kind;
}

uint32_t tokenizer_vocabulary(const struct tokenizer *tokenizer)
{
	return tokenizer->vocabulary;
}

struct text_view tokenizer_piece(const struct tokenizer *tokenizer, int32_t id)
{
	struct text_view piece = {"", 0};

	if (id < 0 || (uint32_t)id >= tokenizer->vocabulary)
		return piece;
	if (tokenizer->face == FACE_SENTENCEPIECE) {
		piece.bytes = sentencepiece_piece(tokenizer->sentencepiece, id, &piece.size);
		return piece;
	}
	return tokenizer->bpe.vocabulary.pieces[id];
}

int32_t tokenizer_special(const struct tokenizer *tokenizer, const char *text)
{
	struct text_view wanted = text_of(text);

	for (size_t i = 0; i < tokenizer->special_count; i++)
		if (text_equal(tokenizer_piece(tokenizer, tokenizer->specials[i].id), wanted))
			return tokenizer->specials[i].id;
	return -1;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
	return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
	return tokenizer->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer)
{
	return tokenizer->adds_bos && tokenizer->bos >= 0;
}

const char *tokenizer_chat_template(const struct tokenizer *tokenizer)
{
	return tokenizer->chat_template;
}
