/* tokenizer.h - text to token ids, equal to the original tokenizer id for id.
 *
 * SentencePiece (tokenizer.model, GGUF) through its library; byte-level BPE (tokenizer.json, GGUF,
 * Llama 3's tokenizer.model) by our own merges with PCRE2 pre-tokenizer patterns; SentencePiece-like BPE
 * from tokenizer.json too. Immutable after open; encode is safe from any thread with a scratch each. */
#ifndef EXITPOLL_SCORER_TOKENIZER_H
#define EXITPOLL_SCORER_TOKENIZER_H

#include "base/status.h"
#include "base/text.h"

#include <stdint.h>

struct tokenizer;
struct tokenizer_scratch;

/* A folder (only a tokenizer is enough; tokenizer.json goes before tokenizer.model), a GGUF file, or one
 * of those two files. STATUS_NO_INPUT, CORRUPT, UNSUPPORTED (what is not supported is named). */
enum status tokenizer_open(const char *path, struct tokenizer **out, struct error *error);
void tokenizer_close(struct tokenizer *tokenizer);      /* NULL ok */
const char *tokenizer_kind(const struct tokenizer *tokenizer);  /* "byte-level BPE (GPT-2)", ... */
uint32_t tokenizer_vocabulary(const struct tokenizer *tokenizer);

struct tokenizer_scratch *tokenizer_scratch_create(const struct tokenizer *tokenizer);
void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch);

/* Text after the first segment of a prompt must not get SentencePiece's dummy prefix: CONTINUES. */
enum tokenizer_flags { TOKENIZER_PLAIN = 0, TOKENIZER_PARSE_SPECIAL = 1, TOKENIZER_CONTINUES = 2 };

/* Appends to ids[*count ..]; no BOS. ids_max too small, or a text above 4 MiB: STATUS_LIMIT, *count
 * untouched. A text never gives more than tokenizer_ids_max() ids. Invalid UTF-8 is repaired: each maximal
 * invalid part (SentencePiece: each invalid byte) is U+FFFD. Without PARSE_SPECIAL no special or added
 * token is recognised, whatever the text says. */
enum status tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
			     struct text_view text, int flags, int32_t *ids, size_t ids_max,
			     size_t *count, struct error *error);
size_t tokenizer_ids_max(const struct tokenizer *tokenizer, size_t text_bytes);

/* "<|im_start|>", "<s>": -1 when there is no such special token. */
int32_t tokenizer_special(const struct tokenizer *tokenizer, const char *text);
int32_t tokenizer_bos(const struct tokenizer *tokenizer);       /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *tokenizer);
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);     /* what the original does by default */
/* The piece as stored; borrowed. */
struct text_view tokenizer_piece(const struct tokenizer *tokenizer, int32_t id);
/* The chat template text shipped with the model, or NULL. */
const char *tokenizer_chat_template(const struct tokenizer *tokenizer);

#endif
