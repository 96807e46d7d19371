/* score_prompt.h - a raw prompt and two answer words, without a stream: what the score command does with
 * --prompt-file.
 *
 * All layers run; the logits of both words after every layer come through the model's own final norm and
 * head (the logit lens), and the exit policy is asked as if it had been there. One thread. */
#ifndef EXITPOLL_SCORER_SCORE_PROMPT_H
#define EXITPOLL_SCORER_SCORE_PROMPT_H

#include "scorer/exit_policy.h"
#include "scorer/scorer.h"

struct score_prompt;

enum { SCORE_PROMPT_TOKENS_MAX = 8192 };

struct score_prompt_layer {
	float yes, no;                  /* logits */
	float p;                        /* softmax over the two, of yes; in (0, 1) */
	bool is_exit;                   /* of the policy, up to the one where the prompt leaves */
	struct exit_decision decision;  /* where is_exit */
};

struct score_prompt_result {
	uint32_t tokens, layers_count;
	int32_t yes_id, no_id;
	uint32_t exit_layer;            /* 1-based */
	float p_click;                  /* p there */
	bool has_margin;
	float margin;
	struct score_prompt_layer layers[SCORER_LAYERS_MAX]; /* [layers_count] */
};

/* options as for a scorer (model, backend, precision, exit.*; stub is refused). yes and no: NULL for those
 * of the bundle or its template; of a word of several tokens the first counts. */
enum status score_prompt_open(const struct scorer_options *options, const char *yes, const char *no,
			      struct score_prompt **out, struct error *error);
void score_prompt_close(struct score_prompt *scoring);  /* NULL ok */

/* parse_special: special tokens written in the text are recognised; none is ever added. STATUS_LIMIT: no
 * tokens, or more than the model's positions or SCORE_PROMPT_TOKENS_MAX. */
enum status score_prompt_text(struct score_prompt *scoring, struct text_view text, bool parse_special,
			      struct score_prompt_result *out, struct error *error);
enum status score_prompt_ids(struct score_prompt *scoring, const int32_t *ids, uint32_t count,
			     struct score_prompt_result *out, struct error *error);

const char *score_prompt_model_id(const struct score_prompt *scoring);
const char *score_prompt_describe(const struct score_prompt *scoring);

#endif
