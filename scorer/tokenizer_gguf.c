/* tokenizer_gguf.c - the vocabulary inside a GGUF file: byte-level here, SentencePiece's by
 * tokenizer_gguf_pieces.c. Used by tokenizer.c while opening. */
#include "scorer/tokenizer_parts.h"

#include <stdio.h>

enum { TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, MERGES_AT_ONCE = BPE_MERGES_MAX };

/* llama.cpp's names for the patterns; others cut text otherwise. */
static const struct {
	const char *name;
	enum pretokenizer_kind kind;
	bool nfc, whole_words, adds_bos;
} patterns[] = {
	{"smollm", PRETOKENIZER_SMOLLM2, false, false, false},
	{"gpt-2", PRETOKENIZER_GPT2, false, false, false},
	{"llama-bpe", PRETOKENIZER_LLAMA3, false, true, true},
	{"llama3", PRETOKENIZER_LLAMA3, false, true, true},
	{"qwen2", PRETOKENIZER_QWEN2, true, false, false},
};

static enum status choose_pattern(struct tokenizer *tokenizer, const struct gguf *gguf, const char *path,
				  struct error *error)
{
	struct text_view name = {0};

	gguf_get_text(gguf, "tokenizer.ggml.pre", &name);
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		if (!text_equal(name, text_of(patterns[i].name)))
			continue;
		tokenizer->nfc = patterns[i].nfc;
		tokenizer->bpe.whole_words = patterns[i].whole_words;
		tokenizer->adds_bos = patterns[i].adds_bos;
		snprintf(tokenizer->kind, sizeof(tokenizer->kind), "byte-level BPE (%s)",
			 pretokenizer_name(patterns[i].kind));
		return pretokenizer_create(patterns[i].kind, &tokenizer->pretokenizer, error);
	}
	return error_set(error, STATUS_UNSUPPORTED,
			 "%s: tokenizer.ggml.pre = %.*s; smollm, gpt-2, llama-bpe and qwen2 "
			 "are supported", path, (int)(name.size < 40 ? name.size : 40),
			 name.bytes ? name.bytes : "");
}

enum status tokenizer_gguf_texts(const struct gguf *gguf, const char *path, struct gguf_array *out,
				 struct error *error)
{
	if (!gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, out) || out->count == 0 ||
	    out->count > VOCABULARY_IDS_MAX)
		return error_set(error, STATUS_CORRUPT, "%s: tokenizer.ggml.tokens is missing or has not 1 to %d "
				 "texts", path, VOCABULARY_IDS_MAX);
	return STATUS_OK;
}

static enum status read_tokens(struct tokenizer *tokenizer, const struct gguf *gguf, const char *path,
			       struct error *error)
{
	struct gguf_array tokens, types = {0};
	enum status status;

	status = tokenizer_gguf_texts(gguf, path, &tokens, error);
	if (status != STATUS_OK)
		return status;
	if (gguf_has(gguf, "tokenizer.ggml.token_type") &&
	    (!gguf_get_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, &types) ||
	     types.count != tokens.count))
		return error_set(error, STATUS_CORRUPT,
				 "%s: tokenizer.ggml.token_type is not one number per token",
				 path);
	status = vocabulary_init(&tokenizer->bpe.vocabulary, (uint32_t)tokens.count, error);
	tokenizer->vocabulary = (uint32_t)tokens.count;
	for (uint32_t id = 0; id < tokenizer->vocabulary && status == STATUS_OK; id++) {
		struct text_view text = gguf_next_text(&tokens);
		int32_t type = types.count ? gguf_next_i32(&types) : 0;
		status = vocabulary_set(&tokenizer->bpe.vocabulary, id, text, error);
		if (status == STATUS_OK && (type == TYPE_CONTROL || type == TYPE_USER_DEFINED))
			status = tokenizer_add_special(tokenizer, (int32_t)id, text, false, error);
	}
	return status == STATUS_OK ? status : error_prefix(error, "%s: tokenizer.ggml.tokens", path);
}

static enum status read_merges(struct tokenizer *tokenizer, const struct gguf *gguf, const char *path,
			       struct error *error)
{
	struct gguf_array merges;
	enum status status;

	if (!gguf_get_array(gguf, "tokenizer.ggml.merges", GGUF_STRING, &merges) ||
	    merges.count > MERGES_AT_ONCE)
		return error_set(error, STATUS_CORRUPT,
				 "%s: tokenizer.ggml.merges is missing or has more than %d "
				 "texts", path, MERGES_AT_ONCE);
	status = bpe_init_merges(&tokenizer->bpe, (uint32_t)merges.count, error);
	for (uint32_t rank = 0; rank < merges.count && status == STATUS_OK; rank++) {
		struct text_view merge = gguf_next_text(&merges);
		const char *space = merge.size > 2 ? memchr(merge.bytes + 1, ' ', merge.size - 1) : NULL;
		size_t left = space ? (size_t)(space - merge.bytes) : 0;
		if (!space)
			status = error_set(error, STATUS_CORRUPT,
					   "merge %u is not two parts with a space between",
					   rank);
		else
			status = bpe_add_merge(&tokenizer->bpe, (struct text_view){merge.bytes, left},
					       (struct text_view){space + 1, merge.size - left - 1}, rank,
					       error);
	}
	return status == STATUS_OK ? status : error_prefix(error, "%s: tokenizer.ggml.merges", path);
}

static int32_t read_id(const struct gguf *gguf, const char *key, uint32_t vocabulary)
{
	uint32_t id;
	return gguf_get_u32(gguf, key, &id) && id < vocabulary ? (int32_t)id : -1;
}

static enum status load_byte_level(struct tokenizer *tokenizer, const struct gguf *gguf, const char *path,
				   struct error *error)
{
	enum status status = choose_pattern(tokenizer, gguf, path, error);

	tokenizer->face = FACE_BYTE_BPE;
	tokenizer->bpe.byte_level = true;
	if (status == STATUS_OK)
		status = read_tokens(tokenizer, gguf, path, error);
	if (status == STATUS_OK)
		status = read_merges(tokenizer, gguf, path, error);
	if (status == STATUS_OK)
		bpe_find_bytes(&tokenizer->bpe);
	return status;
}

enum status tokenizer_load_gguf(struct tokenizer *tokenizer, const struct gguf *gguf,
				const struct mapped_file *file, struct error *error)
{
	const char *path = file->path ? file->path : "(memory)";
	struct text_view model = {0}, template;
	enum status status;

	if (!gguf_get_text(gguf, "tokenizer.ggml.model", &model))
		return error_set(error, STATUS_CORRUPT, "%s: tokenizer.ggml.model is missing", path);
	if (text_equal(model, TEXT_LITERAL("gpt2")))
		status = load_byte_level(tokenizer, gguf, path, error);
	else if (text_equal(model, TEXT_LITERAL("llama")))
		status = tokenizer_load_gguf_pieces(tokenizer, gguf, file, error);
	else
		status = error_set(error, STATUS_UNSUPPORTED, "%s: tokenizer.ggml.model = %.*s; gpt2 (byte-level BPE) "
				   "and llama (SentencePiece) are read", path,
				   (int)(model.size < 40 ? model.size : 40), model.bytes);
	if (status != STATUS_OK)
		return status;
	tokenizer->bos = read_id(gguf, "tokenizer.ggml.bos_token_id", tokenizer->vocabulary);
	tokenizer->eos = read_id(gguf, "tokenizer.ggml.eos_token_id", tokenizer->vocabulary);
	gguf_get_bool(gguf, "tokenizer.ggml.add_bos_token", &tokenizer->adds_bos);
	if (gguf_get_text(gguf, "tokenizer.chat_template", &template)) {
		tokenizer->chat_template = mem_alloc(template.size + 1);
		if (!tokenizer->chat_template)
			return error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
		memcpy(tokenizer->chat_template, template.bytes, template.size);
		tokenizer->chat_template[template.size] = '\0';
	}
	return STATUS_OK;
}
