/* tokenizer_parts.h - what a tokenizer is made of; for tokenizer.c and the loaders alone.
 *
 * A loader fills a zeroed struct tokenizer; tokenizer_close frees whatever a failed one left. */
#ifndef EXITPOLL_SCORER_TOKENIZER_PARTS_H
#define EXITPOLL_SCORER_TOKENIZER_PARTS_H

#include "scorer/gguf.h"
#include "scorer/pretokenizer.h"
#include "scorer/sentencepiece_face.h"
#include "scorer/tokenizer.h"
#include "scorer/tokenizer_bpe.h"

enum { TOKENIZER_SPECIALS_MAX = 65536 };

enum tokenizer_face { FACE_BYTE_BPE, FACE_CHARACTER_BPE, FACE_SENTENCEPIECE };

/* Where SentencePiece's "▁" is put before a text. */
enum tokenizer_prefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS };

struct special_token {
	char *text;             /* owned; as it is searched (normalised: "▁" added, spaces replaced) */
	size_t size;
	int32_t id;
	bool normalised;        /* searched in the normalised text */
};

/* What the files beside the tokenizer say. */
struct tokenizer_settings {
	char *bos_text, *eos_text;      /* owned; NULL: not said */
	bool has_no_bos;                /* bos_token is null */
	int32_t bos_id, eos_id;         /* config.json; -1: not said */
	int adds_bos, legacy;           /* -1: not said */
};

struct tokenizer {
	enum tokenizer_face face;
	char kind[64];
	struct bpe bpe;                         /* the two BPE faces */
	struct pretokenizer *pretokenizer;      /* byte-level */
	bool nfc;                               /* byte-level: Unicode NFC first */
	enum tokenizer_prefix prefix;           /* the other faces */
	bool prefix_unless_there;               /* no second "▁" before one */
	struct sentencepiece_face *sentencepiece;
	bool words_apart;                       /* SentencePiece's: no piece spans the begin of a word */
	struct special_token *specials;         /* sorted by first byte, longest first */
	size_t special_count, special_capacity;
	uint32_t special_start[257];            /* by first byte */
	bool any_normalised;
	uint32_t vocabulary;
	int32_t bos, eos;
	bool adds_bos;
	struct tokenizer_settings settings;
	char *chat_template;
};

/* id and text as the vocabulary has them; text is copied. */
enum status tokenizer_add_special(struct tokenizer *tokenizer, int32_t id, struct text_view text,
				  bool normalised, struct error *error);

/* What tokenizer_open does with a file that is not in a folder. *file may be closed afterwards. */
enum status tokenizer_from_file(const struct mapped_file *file, struct tokenizer **out, struct error *error);

/* Loaders. Errors name the file. */
enum status tokenizer_load_json(struct tokenizer *tokenizer, const struct mapped_file *file,
				struct error *error);
enum status tokenizer_load_gguf(struct tokenizer *tokenizer, const struct gguf *gguf,
				const struct mapped_file *file, struct error *error);
/* tokenizer.ggml.tokens, an id each: 1 to VOCABULARY_IDS_MAX. STATUS_CORRUPT. */
enum status tokenizer_gguf_texts(const struct gguf *gguf, const char *path, struct gguf_array *out,
				 struct error *error);
/* tokenizer.ggml.model = llama. */
enum status tokenizer_load_gguf_pieces(struct tokenizer *tokenizer, const struct gguf *gguf,
				       const struct mapped_file *file, struct error *error);
/* tokenizer.model: SentencePiece's, or Llama 3's list of ranks. */
enum status tokenizer_load_sentencepiece(struct tokenizer *tokenizer, const struct mapped_file *file,
					 struct error *error);
/* Appends ids; word by word through the cache of the scratch where no piece spans words. */
enum status tokenizer_encode_sentencepiece(const struct tokenizer *tokenizer, struct bpe_scratch *scratch,
					   struct text_view text, bool prefix, int32_t *ids, size_t ids_max,
					   size_t *count, struct error *error);
enum status tokenizer_load_ranks(struct tokenizer *tokenizer, const struct mapped_file *file,
				 struct error *error);
bool tokenizer_is_ranks(const struct mapped_file *file);

/* tokenizer_config.json, config.json and chat_template.jinja of a folder, where they are: begin and end
 * tokens, chat template, SentencePiece's legacy flag. */
enum status tokenizer_load_settings(struct tokenizer *tokenizer, const char *folder, struct error *error);

#endif
