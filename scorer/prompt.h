/* prompt.h - a scoring request as token ids: instruction | user part | one suffix per candidate.
 *
 * Literals of the template are tokenised once at creation, values when they come (and cached). Titles are
 * trimmed, cut to PROMPT_TITLE_BYTES, control characters become spaces, an empty one gets the template's
 * unknown_title; special tokens in them are text. A prompt too long for the context loses, in this order:
 * the examples, least similar first and each oldest entry first; the history, oldest first; the end of
 * the candidate's title. One thread; no allocation after creation. */
#ifndef EXITPOLL_SCORER_PROMPT_H
#define EXITPOLL_SCORER_PROMPT_H

#include "schemas/event.h"
#include "scorer/template.h"
#include "scorer/tokenizer.h"

struct prompt;

enum { PROMPT_TITLE_BYTES = 512, PROMPT_TITLE_TOKENS_MIN = 16 };

/* Statistics that a prompt can show stand first in the request's arrays: mean in [0, 1], log(1 + count). */
enum { PROMPT_STATISTIC_MEAN = 0, PROMPT_STATISTIC_LOG_COUNT = 1 };

/* Tokenizer and template are borrowed. yes, no: the answer words, NULL for the template's.
 * positions_max: instruction + user part + suffix. STATUS_CONFIG: the context has no room for the
 * template, the answer words begin with the same token. */
enum status prompt_create(const struct tokenizer *tokenizer, const struct template *wording,
			  const char *yes, const char *no, uint32_t positions_max, struct prompt **out,
			  struct error *error);
void prompt_destroy(struct prompt *prompt);             /* NULL ok */

struct prompt_ids {
	const int32_t *ids;             /* borrowed: instruction for ever, others until the next call */
	uint32_t count;
};
struct prompt_ids prompt_instruction(const struct prompt *prompt);

/* First tokens of the answer words. */
void prompt_answers(const struct prompt *prompt, int32_t *yes, int32_t *no);

/* The part that all candidates of the request share. *cut: examples or history were left out. */
enum status prompt_user(struct prompt *prompt, const struct scoring_request *request,
			struct prompt_ids *out, bool *cut, struct error *error);

/* A candidate's suffix with the answer cue; after prompt_user() of the same request. *cut: the title was. */
enum status prompt_candidate(struct prompt *prompt, const struct scoring_request *request, size_t index,
			     struct prompt_ids *out, bool *cut, struct error *error);

void prompt_counts(const struct prompt *prompt, uint64_t *cache_hits, uint64_t *cache_misses);

#endif
