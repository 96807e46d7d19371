/* tokenizer_gguf_pieces.c - the SentencePiece vocabulary inside a GGUF file, as Llama 2's and Vicuna's have.
 *
 * GGUF keeps SentencePiece's pieces, scores and types (its numbers for types are SentencePiece's own) and drops
 * the model around them. That is written again here as the protocol buffer that tokenizer.model is, so that
 * the library and everything that we know of its files stay the one way to these ids. Used by
 * tokenizer_gguf.c while opening. */
#include "scorer/tokenizer_parts.h"

#include <stdio.h>

enum { TYPE_NORMAL = 1, TYPE_BYTE = 6 };
/* Fields of SentencePiece's messages (sentencepiece_model.proto). */
enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_TYPE = 3, TRAINER_BYTE_FALLBACK = 35, TRAINER_BOS_PIECE = 46, TRAINER_EOS_PIECE = 47, TYPE_BPE = 2 };
enum { NORMALIZER_DUMMY_PREFIX = 3, NORMALIZER_TRIMS_SPACES = 4, NORMALIZER_ESCAPES_SPACES = 5 };
/* A piece beside its text: two tags and lengths, score, type. The rest: flags and two texts. */
enum { PIECE_BYTES = 24, REST_BYTES = 128 };

struct writer {
	uint8_t *at;
};

static void put_varint(struct writer *writer, uint64_t value)
{
	for (; value > 0x7F; value >>= 7)
		*writer->at++ = (uint8_t)(value | 0x80);
	*writer->at++ = (uint8_t)value;
}

static void put_number(struct writer *writer, unsigned field, uint64_t value)
{
	put_varint(writer, field << 3);
	put_varint(writer, value);
}

static void put_bytes(struct writer *writer, unsigned field, const void *bytes, size_t size)
{
	put_varint(writer, field << 3 | 2);
	put_varint(writer, size);
	memcpy(writer->at, bytes, size);
	writer->at += size;
}

static void put_float(struct writer *writer, unsigned field, float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	put_varint(writer, field << 3 | 5);
	for (unsigned byte = 0; byte < 4; byte++)
		*writer->at++ = (uint8_t)(bits >> 8 * byte);
}

struct pieces {
	struct gguf_array texts, scores, types;
};

static enum status find_pieces(const struct gguf *gguf, const char *path, struct pieces *out,
			       struct error *error)
{
	enum status status = tokenizer_gguf_texts(gguf, path, &out->texts, error);

	if (status != STATUS_OK)
		return status;
	if (!gguf_get_array(gguf, "tokenizer.ggml.scores", GGUF_F32, &out->scores) ||
	    out->scores.count != out->texts.count)
		return error_set(error, STATUS_CORRUPT, "%s: tokenizer.ggml.scores is not one number per token",
				 path);
	if (!gguf_get_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, &out->types) ||
	    out->types.count != out->texts.count)
		return error_set(error, STATUS_CORRUPT, "%s: tokenizer.ggml.token_type is not one number per token",
				 path);
	return STATUS_OK;
}

/* What the model takes at most; every text is within its limit. */
static enum status measure(struct pieces pieces, const char *path, size_t *bytes, struct error *error)
{
	*bytes = REST_BYTES + 2 * VOCABULARY_PIECE_MAX;
	for (uint64_t id = 0; id < pieces.texts.count; id++) {
		struct text_view text = gguf_next_text(&pieces.texts);
		if (text.size > VOCABULARY_PIECE_MAX)
			return error_set(error, STATUS_CORRUPT, "%s: tokenizer.ggml.tokens: token %llu has %zu bytes "
					 "(limit %d)", path, (unsigned long long)id, text.size, VOCABULARY_PIECE_MAX);
		*bytes += PIECE_BYTES + text.size;
	}
	return STATUS_OK;
}

static void put_piece(struct writer *writer, struct text_view text, float score, int32_t type)
{
	uint8_t inner[PIECE_BYTES + VOCABULARY_PIECE_MAX];
	struct writer piece = {inner};

	put_bytes(&piece, PIECE_TEXT, text.bytes, text.size);
	put_float(&piece, PIECE_SCORE, score);
	put_number(&piece, PIECE_TYPE, (uint64_t)type);
	put_bytes(writer, MODEL_PIECE, inner, (size_t)(piece.at - inner));
}

/* Flags that GGUF does not have are those of Llama's own models. */
static void put_rest(struct writer *writer, const struct gguf *gguf, bool has_bytes, struct text_view bos,
		     struct text_view eos)
{
	uint8_t inner[REST_BYTES + 2 * VOCABULARY_PIECE_MAX];
	struct writer message = {inner};
	bool prefixes = true, trims = false;

	put_number(&message, TRAINER_TYPE, TYPE_BPE);
	put_number(&message, TRAINER_BYTE_FALLBACK, has_bytes);
	if (bos.bytes)
		put_bytes(&message, TRAINER_BOS_PIECE, bos.bytes, bos.size);
	if (eos.bytes)
		put_bytes(&message, TRAINER_EOS_PIECE, eos.bytes, eos.size);
	put_bytes(writer, MODEL_TRAINER, inner, (size_t)(message.at - inner));

	gguf_get_bool(gguf, "tokenizer.ggml.add_space_prefix", &prefixes);
	gguf_get_bool(gguf, "tokenizer.ggml.remove_extra_whitespaces", &trims);
	message.at = inner;
	put_number(&message, NORMALIZER_DUMMY_PREFIX, prefixes);
	put_number(&message, NORMALIZER_TRIMS_SPACES, trims);
	put_number(&message, NORMALIZER_ESCAPES_SPACES, true);
	put_bytes(writer, MODEL_NORMALIZER, inner, (size_t)(message.at - inner));
}

enum status tokenizer_load_gguf_pieces(struct tokenizer *tokenizer, const struct gguf *gguf,
				       const struct mapped_file *file, struct error *error)
{
	const char *path = file->path ? file->path : "(memory)";
	struct text_view bos = {0}, eos = {0};
	uint32_t bos_id = UINT32_MAX, eos_id = UINT32_MAX;
	struct mapped_file model = {.path = file->path};
	struct pieces pieces = {0};
	struct writer writer;
	bool has_bytes = false;
	uint8_t *bytes = NULL;
	size_t bytes_max;
	enum status status = find_pieces(gguf, path, &pieces, error);

	if (status == STATUS_OK)
		status = measure(pieces, path, &bytes_max, error);
	if (status != STATUS_OK)
		return status;
	bytes = mem_alloc(bytes_max);
	if (!bytes)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
	writer.at = bytes;
	gguf_get_u32(gguf, "tokenizer.ggml.bos_token_id", &bos_id);
	gguf_get_u32(gguf, "tokenizer.ggml.eos_token_id", &eos_id);
	for (uint32_t id = 0; id < pieces.texts.count; id++) {
		struct text_view text = gguf_next_text(&pieces.texts);
		float score = gguf_next_f32(&pieces.scores);
		int32_t type = gguf_next_i32(&pieces.types);
		if (type < TYPE_NORMAL || type > TYPE_BYTE) {
			status = error_set(error, STATUS_CORRUPT, "%s: tokenizer.ggml.token_type: token %u has type %d "
					   "(1 to %d)", path, id, type, TYPE_BYTE);
			goto cleanup;
		}
		put_piece(&writer, text, score, type);
		has_bytes |= type == TYPE_BYTE;
		if (id == bos_id)
			bos = text;
		if (id == eos_id)
			eos = text;
	}
	put_rest(&writer, gguf, has_bytes, bos, eos);
	model.bytes = bytes;
	model.size = (size_t)(writer.at - bytes);
	status = tokenizer_load_sentencepiece(tokenizer, &model, error);
cleanup:
	mem_free(bytes);
	return status;
}
