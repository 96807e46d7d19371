/* pretokenizer.h - cuts text into the words that byte pair encoding must not join.
 *
 * The originals' regular expressions, run by PCRE2 (compiled to machine code where it can be). Immutable
 * after create, any thread; a walk needs a match block of its own. */
#ifndef EXITPOLL_SCORER_PRETOKENIZER_H
#define EXITPOLL_SCORER_PRETOKENIZER_H

#include "base/status.h"
#include "base/text.h"

enum pretokenizer_kind {
	PRETOKENIZER_GPT2,
	PRETOKENIZER_SMOLLM2,           /* every digit alone, then GPT-2 */
	PRETOKENIZER_LLAMA3,
	PRETOKENIZER_QWEN2,
	PRETOKENIZER_KIND_COUNT
};

struct pretokenizer;

enum status pretokenizer_create(enum pretokenizer_kind kind, struct pretokenizer **out, struct error *error);
void pretokenizer_destroy(struct pretokenizer *pretokenizer);   /* NULL ok */
const char *pretokenizer_name(enum pretokenizer_kind kind);     /* "GPT-2", ... */

/* The kind whose tokenizer.json holds this Split expression; false: none of ours. */
bool pretokenizer_by_expression(struct text_view expression, enum pretokenizer_kind *out);

/* PCRE2's match block, one per thread. NULL: no memory. */
void *pretokenizer_block_create(void);
void pretokenizer_block_destroy(void *block);

/* Calls take(context, word) for each word in order; all words joined are the text. text must be valid
 * UTF-8. Stops at the first status that is not OK and returns it. */
typedef enum status (*pretokenizer_take)(void *context, struct text_view word);
enum status pretokenizer_walk(const struct pretokenizer *pretokenizer, void *block, struct text_view text,
			      pretokenizer_take take, void *context, struct error *error);

#endif
