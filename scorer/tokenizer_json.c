/* tokenizer_json.c - the Hugging Face tokenizers library's file, for the BPE kinds we have.
 *
 * The two large members (vocabulary and merges) are walked in place; the small ones go through jansson.
 * What would give other ids and is not implemented is named and refused. Used by tokenizer.c while
 * opening. */
#include "scorer/json_scan.h"
#include "scorer/tokenizer_parts.h"

#include <jansson.h>
#include <stdio.h>

struct sections {
	struct text_view normalizer, pre_tokenizer, post_processor, added_tokens;
	struct text_view type, vocabulary, merges, unknown, prefix, suffix, dropout;
	struct text_view fuse_unknown, byte_fallback, ignore_merges;
};

struct loader {
	struct tokenizer *tokenizer;
	const struct mapped_file *file;
	struct sections sections;
	struct error *error;
};

static enum status at_scan(const struct loader *loader, const struct json_scan *scan)
{
	/* A scan may cover a part of the file alone. */
	size_t base = (size_t)((const uint8_t *)scan->text - loader->file->bytes);
	return mapped_file_corrupt(loader->file, base + scan->at, loader->error, "%s",
				   scan->reason ? scan->reason : "malformed");
}

static enum status refuse(const struct loader *loader, const char *what, const char *detail)
{
	return error_set(loader->error, STATUS_UNSUPPORTED, "%s: %s: %.120s is not supported",
			 loader->file->path,
			 what, detail ? detail : "(missing)");
}

static enum status member_twice(const struct loader *loader, struct text_view key)
{
	return mapped_file_corrupt(loader->file, 0, loader->error, "%.*s is given twice", TEXT_ARGS(key));
}

/* ---- finding the sections ---- */

struct place {
	const char *key;
	struct text_view *value;
};

static enum status find_members(struct loader *loader, struct json_scan *scan, const struct place *places,
				size_t count)
{
	for (bool more = json_scan_open(scan, '{'); more; more = json_scan_next(scan, '}')) {
		struct text_view key, value;
		const struct place *place = NULL;
		if (!json_scan_key(scan, &key))
			return at_scan(loader, scan);
		for (size_t i = 0; i < count; i++)
			if (text_equal(key, text_of(places[i].key)))
				place = &places[i];
		if (place && place->value->bytes)
			return member_twice(loader, key);
		if (!json_scan_skip(scan, &value))
			return at_scan(loader, scan);
		if (place)
			*place->value = value;
	}
	return json_scan_at_end(scan) ? STATUS_OK : at_scan(loader, scan);
}

static enum status find_sections(struct loader *loader)
{
	struct sections *sections = &loader->sections;
	struct text_view model = {0};
	const struct place top[] = {
		{"normalizer", &sections->normalizer}, {"pre_tokenizer", &sections->pre_tokenizer},
		{"post_processor", &sections->post_processor}, {"added_tokens", &sections->added_tokens},
		{"model", &model},
	};
	const struct place inner[] = {
		{"type", &sections->type}, {"vocab", &sections->vocabulary}, {"merges", &sections->merges},
		{"unk_token", &sections->unknown}, {"continuing_subword_prefix", &sections->prefix},
		{"end_of_word_suffix", &sections->suffix}, {"dropout", &sections->dropout},
		{"fuse_unk", &sections->fuse_unknown}, {"byte_fallback", &sections->byte_fallback},
		{"ignore_merges", &sections->ignore_merges},
	};
	struct json_scan scan;
	enum status status;

	if (!json_scan_begin(&scan, (struct text_view){(const char *)loader->file->bytes,
						       loader->file->size}))
		return at_scan(loader, &scan);
	status = find_members(loader, &scan, top, sizeof(top) / sizeof(top[0]));
	json_scan_end(&scan);
	if (status != STATUS_OK)
		return status;
	if (!model.bytes)
		return mapped_file_corrupt(loader->file, 0, loader->error, "no model");
	json_scan_inside(&scan, model);
	status = find_members(loader, &scan, inner, sizeof(inner) / sizeof(inner[0]));
	json_scan_end(&scan);
	if (status != STATUS_OK)
		return status;
	if (!sections->vocabulary.bytes || !sections->merges.bytes)
		return mapped_file_corrupt(loader->file, 0, loader->error,
					   "model: no vocab or no merges (a BPE "
					   "model has both)");
	return STATUS_OK;
}

/* *out: NULL for an absent or null section. */
static enum status parse_section(const struct loader *loader, struct text_view text, json_t **out)
{
	json_error_t trouble;

	*out = NULL;
	if (!text.bytes || text_equal(text, TEXT_LITERAL("null")))
		return STATUS_OK;
	*out = json_loadb(text.bytes, text.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
			  &trouble);
	if (*out)
		return STATUS_OK;
	return mapped_file_corrupt(loader->file, (size_t)((const uint8_t *)text.bytes - loader->file->bytes),
				   loader->error, "%s", trouble.text);
}

static bool is_true(struct text_view text)
{
	return text_equal(text, TEXT_LITERAL("true"));
}

static bool is_nothing(struct text_view text)
{
	return !text.bytes || text_equal(text, TEXT_LITERAL("null")) ||
		text_equal(text, TEXT_LITERAL("\"\"")) ||
	       text_equal(text, TEXT_LITERAL("0.0")) || text_equal(text, TEXT_LITERAL("0"));
}

static const char *type_of(json_t *part)
{
	return json_string_value(json_object_get(part, "type"));
}

static bool is_type(json_t *part, const char *type)
{
	const char *found = type_of(part);
	return found && strcmp(found, type) == 0;
}

static bool text_is(json_t *part, const char *key, const char *wanted)
{
	const char *found = json_string_value(json_object_get(part, key));
	return found && strcmp(found, wanted) == 0;
}

/* ---- vocabulary ---- */

static enum status vocabulary_pass(struct loader *loader, bool insert, uint32_t *id_max)
{
	struct json_scan scan;
	enum status status = STATUS_OK;

	json_scan_inside(&scan, loader->sections.vocabulary);
	for (bool more = json_scan_open(&scan, '{'); more &&
	     status == STATUS_OK; more = json_scan_next(&scan, '}')) {
		struct text_view text;
		uint64_t id;
		if (!json_scan_key(&scan, &text))
			break;
		if (insert) {
			/* The text dies with the next string, the number is not one. */
			if (!json_scan_unsigned(&scan, &id))
				break;
			status = vocabulary_set(&loader->tokenizer->bpe.vocabulary, (uint32_t)id, text,
						loader->error);
			if (status != STATUS_OK)
				error_prefix(loader->error, "%s: model.vocab", loader->file->path);
			continue;
		}
		if (!json_scan_unsigned(&scan, &id))
			break;
		if (id >= VOCABULARY_IDS_MAX)
			json_scan_fail(&scan, "a token id above the limit");
		else if (id > *id_max)
			*id_max = (uint32_t)id;
	}
	if (status == STATUS_OK && !json_scan_at_end(&scan))
		status = at_scan(loader, &scan);
	json_scan_end(&scan);
	return status;
}

static enum status read_vocabulary(struct loader *loader, json_t *added)
{
	struct tokenizer *tokenizer = loader->tokenizer;
	uint32_t id_max = 0;
	size_t i;
	json_t *token;
	enum status status = vocabulary_pass(loader, false, &id_max);

	if (status != STATUS_OK)
		return status;
	json_array_foreach(added, i, token) {
		json_t *id = json_object_get(token, "id");
		if (!json_is_integer(id) || json_integer_value(id) < 0 ||
		    json_integer_value(id) >= VOCABULARY_IDS_MAX ||
			    !json_is_string(json_object_get(token, "content")))
			return mapped_file_corrupt(loader->file, 0, loader->error,
						   "added token %zu lacks an id or "
						   "a content", i);
		if (json_integer_value(id) > id_max)
			id_max = (uint32_t)json_integer_value(id);
	}
	tokenizer->vocabulary = id_max + 1;
	status = vocabulary_init(&tokenizer->bpe.vocabulary, id_max + 1, loader->error);
	return status == STATUS_OK ? vocabulary_pass(loader, true, &id_max) : status;
}

/* ---- merges ---- */

/* ["a", "b"], or "a b" in older files. */
static bool read_merge(struct json_scan *scan, char *buffer, struct text_view *left, struct text_view *right)
{
	struct text_view text;
	const char *space;

	if (json_scan_peek(scan) == '[') {
		if (!json_scan_expect(scan, '[') || !json_scan_string(scan, &text))
			return false;
		if (text.size > VOCABULARY_PIECE_MAX)
			return json_scan_fail(scan, "a merge of a part that is too long");
		/* The view dies with the next string. */
		memcpy(buffer, text.bytes, text.size);
		*left = (struct text_view){buffer, text.size};
		return json_scan_expect(scan, ',') && json_scan_string(scan, right) &&
			json_scan_expect(scan, ']');
	}
	if (!json_scan_string(scan, &text))
		return false;
	space = text.size ? memchr(text.bytes, ' ', text.size) : NULL;
	if (!space)
		return json_scan_fail(scan, "a merge without a space");
	*left = (struct text_view){text.bytes, (size_t)(space - text.bytes)};
	*right = (struct text_view){space + 1, text.size - left->size - 1};
	return true;
}

static enum status merges_pass(struct loader *loader, bool insert, uint32_t *count)
{
	struct json_scan scan;
	char buffer[VOCABULARY_PIECE_MAX];
	enum status status = STATUS_OK;

	*count = 0;
	json_scan_inside(&scan, loader->sections.merges);
	for (bool more = json_scan_open(&scan, '['); more &&
	     status == STATUS_OK; more = json_scan_next(&scan, ']')) {
		struct text_view left = {0}, right = {0};
		if (insert ? !read_merge(&scan, buffer, &left, &right) : !json_scan_skip(&scan, NULL))
			break;
		if (*count == BPE_MERGES_MAX) {
			json_scan_fail(&scan, "too many merges");
			break;
		}
		if (insert) {
			status = bpe_add_merge(&loader->tokenizer->bpe, left, right, *count, loader->error);
			if (status != STATUS_OK)
				error_prefix(loader->error, "%s: byte %zu", loader->file->path, (size_t)
					     ((const uint8_t *)scan.text - loader->file->bytes) + scan.at);
		}
		++*count;
	}
	if (status == STATUS_OK && !json_scan_at_end(&scan))
		status = at_scan(loader, &scan);
	json_scan_end(&scan);
	return status;
}

static enum status read_merges(struct loader *loader)
{
	uint32_t count;
	enum status status = merges_pass(loader, false, &count);

	if (status == STATUS_OK)
		status = bpe_init_merges(&loader->tokenizer->bpe, count, loader->error);
	return status == STATUS_OK ? merges_pass(loader, true, &count) : status;
}

/* ---- added tokens ---- */

/* A token that is searched in normalised text is normalised itself: "▁" before, spaces replaced. */
static enum status add_normalised(struct loader *loader, int32_t id, const char *text)
{
	const struct tokenizer *tokenizer = loader->tokenizer;
	char normal[3 * VOCABULARY_PIECE_MAX + 4];
	size_t size = 0;

	if (tokenizer->prefix != PREFIX_NEVER && !tokenizer->prefix_unless_there) {
		memcpy(normal, "\xE2\x96\x81", 3);
		size = 3;
	}
	for (; *text; text++) {
		if (*text == ' ') {
			memcpy(normal + size, "\xE2\x96\x81", 3);
			size += 3;
		} else {
			normal[size++] = *text;
		}
	}
	return tokenizer_add_special(loader->tokenizer, id, (struct text_view){normal, size}, true,
				     loader->error);
}

static enum status read_added(struct loader *loader, json_t *added)
{
	static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
	struct vocabulary *vocabulary = &loader->tokenizer->bpe.vocabulary;
	size_t i;
	json_t *token;

	json_array_foreach(added, i, token) {
		const char *text = json_string_value(json_object_get(token, "content"));
		int32_t id = (int32_t)json_integer_value(json_object_get(token, "id"));
		int32_t known = vocabulary_find(vocabulary, text_of(text));
		enum status status = STATUS_OK;
		for (size_t k = 0; k < sizeof(refused) / sizeof(refused[0]); k++)
			if (json_is_true(json_object_get(token, refused[k])))
				return refuse(loader, "an added token with", refused[k]);
		if (known >= 0 && known != id)
			return mapped_file_corrupt(loader->file, 0, loader->error,
						   "added token %.80s has id %d here and %d in the "
						   "vocabulary", text,
						   id, known);
		if (known < 0)
			status = vocabulary_set(vocabulary, (uint32_t)id, text_of(text), loader->error);
		if (status != STATUS_OK)
			return error_prefix(loader->error, "%s: added token %zu", loader->file->path, i);
		if (json_is_true(json_object_get(token, "normalized")) &&
		    loader->tokenizer->face == FACE_CHARACTER_BPE)
			status = add_normalised(loader, id, text);
		else
			status = tokenizer_add_special(loader->tokenizer, id, text_of(text), false,
						       loader->error);
		if (status != STATUS_OK)
			return status;
	}
	return STATUS_OK;
}

/* ---- normaliser, pre-tokenizer, post-processor ---- */

/* null, NFC, or "▁" before and for spaces; a sequence of one is that one. */
static enum status read_normalizer(struct loader *loader, json_t *part)
{
	struct tokenizer *tokenizer = loader->tokenizer;
	json_t *parts = json_object_get(part, "normalizers");

	if (is_type(part, "Sequence") && json_array_size(parts) == 0)
		return STATUS_OK;
	if (is_type(part, "Sequence") && json_array_size(parts) == 2) {
		json_t *prepend = json_array_get(parts, 0), *replace = json_array_get(parts, 1);
		if (!is_type(prepend, "Prepend") || !text_is(prepend, "prepend", "\xE2\x96\x81") ||
		    !is_type(replace, "Replace") || !text_is(replace, "content", "\xE2\x96\x81") ||
		    !text_is(json_object_get(replace, "pattern"), "String", " "))
			return refuse(loader, "normalizer",
				      "a Sequence other than Prepend and Replace of \"▁\"");
		tokenizer->face = FACE_CHARACTER_BPE;
		tokenizer->prefix = PREFIX_ALWAYS;
		return STATUS_OK;
	}
	if (is_type(part, "Sequence") && json_array_size(parts) == 1)
		part = json_array_get(parts, 0);
	if (!part || is_type(part, "NFC")) {
		tokenizer->nfc = part != NULL;
		return STATUS_OK;
	}
	return refuse(loader, "normalizer", type_of(part));
}

static enum status use_pattern(struct loader *loader, enum pretokenizer_kind kind)
{
	struct tokenizer *tokenizer = loader->tokenizer;

	tokenizer->face = FACE_BYTE_BPE;
	tokenizer->bpe.byte_level = true;
	snprintf(tokenizer->kind, sizeof(tokenizer->kind), "byte-level BPE (%s)", pretokenizer_name(kind));
	return pretokenizer_create(kind, &tokenizer->pretokenizer, loader->error);
}

static bool is_byte_level(json_t *part, bool with_expression)
{
	json_t *use_regex = json_object_get(part, "use_regex");

	return is_type(part, "ByteLevel") && !json_is_true(json_object_get(part, "add_prefix_space")) &&
	       (use_regex ? json_is_true(use_regex) : true) == with_expression;
}

static enum status read_sequence(struct loader *loader, json_t *parts)
{
	json_t *first = json_array_get(parts, 0), *second = json_array_get(parts, 1);
	const char *expression = json_string_value(json_object_get(json_object_get(first, "pattern"),
								   "Regex"));
	enum pretokenizer_kind kind;

	if (json_array_size(parts) != 2)
		return refuse(loader, "pre_tokenizer", "a Sequence of another length than 2");
	if (is_type(first, "Digits") && json_is_true(json_object_get(first, "individual_digits")) &&
	    is_byte_level(second, true))
		return use_pattern(loader, PRETOKENIZER_SMOLLM2);
	if (!is_type(first, "Split") || !expression || !text_is(first, "behavior", "Isolated") ||
	    json_is_true(json_object_get(first, "invert")) || !is_byte_level(second, false))
		return refuse(loader, "pre_tokenizer",
			      "a Sequence other than Split or Digits, then ByteLevel");
	if (!pretokenizer_by_expression(text_of(expression), &kind))
		return refuse(loader, "pre_tokenizer", expression);
	return use_pattern(loader, kind);
}

static enum status read_metaspace(struct loader *loader, json_t *part)
{
	struct tokenizer *tokenizer = loader->tokenizer;
	json_t *split = json_object_get(part, "split");
	const char *scheme = json_string_value(json_object_get(part, "prepend_scheme"));

	if (tokenizer->face == FACE_CHARACTER_BPE || tokenizer->nfc)
		return refuse(loader, "pre_tokenizer", "Metaspace behind a normalizer");
	if (!text_is(part, "replacement", "\xE2\x96\x81") || !json_is_false(split) || !scheme)
		return refuse(loader, "pre_tokenizer", "Metaspace that splits, or without a prepend_scheme");
	tokenizer->face = FACE_CHARACTER_BPE;
	tokenizer->prefix_unless_there = true;
	tokenizer->prefix = strcmp(scheme, "always") == 0 ? PREFIX_ALWAYS : strcmp(scheme, "first") == 0 ?
			    PREFIX_FIRST : PREFIX_NEVER;
	return STATUS_OK;
}

static enum status read_pre_tokenizer(struct loader *loader, json_t *part)
{
	struct tokenizer *tokenizer = loader->tokenizer;
	enum status status = STATUS_OK;

	if (is_type(part, "Metaspace"))
		status = read_metaspace(loader, part);
	if (status != STATUS_OK)
		return status;
	if (tokenizer->face == FACE_CHARACTER_BPE) {
		if (part && !is_type(part, "Metaspace"))
			return refuse(loader, "pre_tokenizer", type_of(part));
		snprintf(tokenizer->kind, sizeof(tokenizer->kind), "BPE of SentencePiece's pieces");
		return STATUS_OK;
	}
	if (is_byte_level(part, true))
		return use_pattern(loader, PRETOKENIZER_GPT2);
	if (is_type(part, "Sequence"))
		return read_sequence(loader, json_object_get(part, "pretokenizers"));
	return refuse(loader, "pre_tokenizer", part ? type_of(part) : "null without \"▁\" in the normalizer");
}

/* A template that begins with a special token puts it there by default. */
static void read_post_processor(struct loader *loader, json_t *part)
{
	json_t *inner, *first;
	size_t i;
	const char *text;

	json_array_foreach(json_object_get(part, "processors"), i, inner)
		if (is_type(inner, "TemplateProcessing"))
			part = inner;
	if (!is_type(part, "TemplateProcessing"))
		return;
	first = json_object_get(json_array_get(json_object_get(part, "single"), 0), "SpecialToken");
	text = json_string_value(json_object_get(first, "id"));
	if (!text)
		return;
	loader->tokenizer->bos = vocabulary_find(&loader->tokenizer->bpe.vocabulary, text_of(text));
	loader->tokenizer->adds_bos = true;
}

static enum status read_model_settings(struct loader *loader)
{
	const struct sections *sections = &loader->sections;
	struct bpe *bpe = &loader->tokenizer->bpe;
	struct json_scan scan;
	struct text_view unknown;

	if (sections->type.bytes && !text_equal(sections->type, TEXT_LITERAL("\"BPE\"")))
		return refuse(loader, "model.type", "another than BPE");
	if (!is_nothing(sections->prefix) || !is_nothing(sections->suffix))
		return refuse(loader, "model", "continuing_subword_prefix or end_of_word_suffix");
	if (!is_nothing(sections->dropout))
		return refuse(loader, "model", "dropout");
	bpe->fuse_unknown = is_true(sections->fuse_unknown);
	bpe->whole_words = is_true(sections->ignore_merges);
	if (bpe->whole_words && !bpe->byte_level)
		return refuse(loader, "model", "ignore_merges without ByteLevel");
	if (bpe->byte_level)
		bpe_find_bytes(bpe);
	else if (is_true(sections->byte_fallback))
		bpe_find_fallback_bytes(bpe);
	else
		for (int i = 0; i < 256; i++)
			bpe->byte_ids[i] = -1;
	bpe_find_words(bpe);
	if (is_nothing(sections->unknown))
		return STATUS_OK;
	json_scan_inside(&scan, sections->unknown);
	if (!json_scan_string(&scan, &unknown)) {
		json_scan_end(&scan);
		return at_scan(loader, &scan);
	}
	bpe->unknown = vocabulary_find(&bpe->vocabulary, unknown);
	json_scan_end(&scan);
	return bpe->unknown >= 0 ? STATUS_OK : mapped_file_corrupt(loader->file, 0, loader->error,
								  "unk_token is no token");
}

enum status tokenizer_load_json(struct tokenizer *tokenizer, const struct mapped_file *file,
				struct error *error)
{
	struct loader loader = {.tokenizer = tokenizer, .file = file, .error = error};
	json_t *normalizer = NULL, *pre_tokenizer = NULL, *post_processor = NULL, *added = NULL;
	enum status status = find_sections(&loader);

	if (status == STATUS_OK)
		status = parse_section(&loader, loader.sections.normalizer, &normalizer);
	if (status == STATUS_OK)
		status = parse_section(&loader, loader.sections.pre_tokenizer, &pre_tokenizer);
	if (status == STATUS_OK)
		status = parse_section(&loader, loader.sections.post_processor, &post_processor);
	if (status == STATUS_OK)
		status = parse_section(&loader, loader.sections.added_tokens, &added);
	if (status == STATUS_OK)
		status = read_normalizer(&loader, normalizer);
	if (status == STATUS_OK)
		status = read_pre_tokenizer(&loader, pre_tokenizer);
	if (status == STATUS_OK)
		status = read_vocabulary(&loader, added);
	if (status == STATUS_OK)
		status = read_merges(&loader);
	if (status == STATUS_OK)
		status = read_added(&loader, added);
	if (status == STATUS_OK)
		status = read_model_settings(&loader);
	if (status == STATUS_OK)
		read_post_processor(&loader, post_processor);
	json_decref(normalizer);
	json_decref(pre_tokenizer);
	json_decref(post_processor);
	json_decref(added);
	return status;
}
