/* score_prompt.c - one prompt, every layer, read after each. Invariant: the batch holds one suffix without
 * prefix or instruction, so its rows are the prompt's tokens. Caller: the score command and tests. */
#include "scorer/score_prompt.h"

#include "base/mem.h"
#include "scorer/engine.h"

#include <float.h>
#include <math.h>

struct score_prompt {
	struct bundle *bundle;
	const struct backend_table *table;
	struct backend *backend;
	struct batch *batch;
	struct tokenizer_scratch *scratch;
	uint32_t tokens_max, layers;
	int32_t yes, no;
	float *vectors;                 /* [3, C]: final norm, w_yes, w_no */
	uint32_t *rows;                 /* [tokens_max] 0, 1, 2, ... */
	int32_t *ids;                   /* [tokens_max] */
};

static enum status first_token(struct score_prompt *s, const char *given,
			       const struct template_section *section, int32_t *out, struct error *error)
{
	struct text_view word = given ? text_of(given) : section->parts[0].literal;
	int32_t ids[256];
	size_t count = 0;
	enum status status = tokenizer_encode(s->bundle->tokenizer, s->scratch, word, TOKENIZER_CONTINUES,
					      ids, 256, &count, error);
	if (status)
		return error_prefix(error, "answer word \"%.*s\"", TEXT_ARGS(text_cut(word, 64)));
	if (!count)
		return error_set(error, STATUS_CONFIG, "an answer word is empty");
	*out = ids[0];
	return STATUS_OK;
}

static enum status find_answers(struct score_prompt *s, const char *yes, const char *no, struct error *error)
{
	const struct template *wording = s->bundle->wording;
	enum status status;
	yes = yes ? yes : s->bundle->yes;
	no = no ? no : s->bundle->no;
	if ((status = first_token(s, yes, &wording->sections[SECTION_YES], &s->yes, error)) ||
	    (status = first_token(s, no, &wording->sections[SECTION_NO], &s->no, error)))
		return status;
	if (s->yes == s->no)
		return error_set(error, STATUS_CONFIG,
				 "the answer words begin with the same token (%d); choose others", s->yes);
	return STATUS_OK;
}

enum status score_prompt_open(const struct scorer_options *options, const char *yes, const char *no,
			      struct score_prompt **out, struct error *error)
{
	struct score_prompt *s = mem_alloc_zero(1, sizeof *s);
	if (!s)
		return error_set(error, STATUS_NO_MEMORY, "no memory to score a prompt");
	enum status status;
	if (options->backend && strcmp(options->backend, "stub") == 0) {
		status =
		    error_set(error, STATUS_CONFIG, "a raw prompt needs a model; scorer.backend is stub");
		goto cleanup;
	}
	if ((status = bundle_open(options, &s->bundle, error)))
		goto cleanup;
	const struct model_config *config = model_get_config(s->bundle->model);
	uint32_t width = config->hidden_size;
	s->layers = config->layers;
	s->tokens_max = config->positions_max < SCORE_PROMPT_TOKENS_MAX ? config->positions_max :
									 SCORE_PROMPT_TOKENS_MAX;
	s->scratch = tokenizer_scratch_create(s->bundle->tokenizer);
	s->vectors = mem_alloc_array(3, width * sizeof *s->vectors);
	s->rows = mem_alloc_array(s->tokens_max, sizeof *s->rows);
	s->ids = mem_alloc_array(s->tokens_max, sizeof *s->ids);
	if (!s->scratch || !s->vectors || !s->rows || !s->ids) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for a prompt of %u tokens",
				   s->tokens_max);
		goto cleanup;
	}
	for (uint32_t i = 0; i < s->tokens_max; i++)
		s->rows[i] = i;
	if ((status = batch_create(s->tokens_max, &s->batch, error)) ||
	    (status = find_answers(s, yes, no, error)))
		goto cleanup;
	struct backend_options backend_options = {
		.layers = s->layers, .rows_max = s->tokens_max, .slots_max = s->batch->slots_max,
		.positions_max = s->tokens_max,
	};
	if ((status = engine_open_backend(options, s->bundle->model, &backend_options, &s->table, &s->backend,
					  error)) ||
	    (status = model_read(s->bundle->model, MODEL_FINAL_NORM, 0, 0, width, s->vectors, error)) ||
	    (status = model_read(s->bundle->model, MODEL_HEAD, 0, (uint32_t)s->yes, 1, s->vectors + width,
				 error)) ||
	    (status = model_read(s->bundle->model, MODEL_HEAD, 0, (uint32_t)s->no, 1, s->vectors + 2 * width,
				 error)))
		goto cleanup;
	*out = s;
	return STATUS_OK;
cleanup:
	score_prompt_close(s);
	return status;
}

void score_prompt_close(struct score_prompt *s)
{
	if (!s)
		return;
	if (s->table)
		s->table->destroy(s->backend);
	batch_destroy(s->batch);
	tokenizer_scratch_destroy(s->scratch);
	bundle_close(s->bundle);
	mem_free(s->vectors);
	mem_free(s->rows);
	mem_free(s->ids);
	mem_free(s);
}

static float softmax_of_two(double yes, double no)
{
	float p = (float)(1 / (1 + exp(no - yes)));
	return p < FLT_MIN ? FLT_MIN : p > 1 - FLT_EPSILON / 2 ? 1 - FLT_EPSILON / 2 : p;
}

/* The policy over what was read, up to the exit at which the prompt would have left. */
static void ask_policy(const struct score_prompt *s, struct score_prompt_result *result)
{
	const struct exit_policy *policy = &s->bundle->policy;
	bool none = policy->rule == EXIT_NONE;
	uint32_t exits = none ? 1 : policy->layers_count;
	float history[EXIT_LAYERS_MAX];
	for (uint32_t exit = 0; exit < exits && !result->exit_layer; exit++) {
		uint32_t layer = none ? s->layers : policy->layers[exit];
		struct score_prompt_layer *at = &result->layers[layer - 1];
		history[exit] = at->p;
		at->is_exit = true;
		at->decision = exit_decide(policy, history, exit + 1, layer, exit + 1 == exits);
		if (!at->decision.leave)
			continue;
		result->exit_layer = layer;
		result->p_click = at->p;
		result->has_margin = at->decision.has_margin;
		result->margin = at->decision.margin;
	}
}

enum status score_prompt_ids(struct score_prompt *s, const int32_t *ids, uint32_t count,
			     struct score_prompt_result *out, struct error *error)
{
	if (!count || count > s->tokens_max)
		return error_set(error, STATUS_LIMIT, "the prompt has %u tokens; this model takes 1 to %u",
				 count, s->tokens_max);
	uint32_t vocabulary = model_get_config(s->bundle->model)->vocabulary;
	for (uint32_t i = 0; i < count; i++)
		if (ids[i] < 0 || (uint32_t)ids[i] >= vocabulary)
			return error_set(error, STATUS_LIMIT, "token id %d at %u; the model has %u", ids[i],
					 i, vocabulary);
	*out = (struct score_prompt_result){
		.tokens = count, .layers_count = s->layers, .yes_id = s->yes, .no_id = s->no,
	};
	batch_clear(s->batch, 0);
	batch_add_prefix(s->batch, NULL, 0);
	batch_add_suffix(s->batch, ids, count, 0, INT64_MAX);
	enum status status = s->table->embed(s->backend, s->batch, error);
	if (status)
		return status;
	uint32_t width = model_get_config(s->bundle->model)->hidden_size, last = count - 1;
	struct readout readout = {s->vectors, s->vectors + width, 2};
	for (uint32_t layer = 0; layer < s->layers; layer++) {
		float z[2];
		s->table->keys_values(s->backend, layer, s->batch);
		s->table->finish(s->backend, layer, s->batch, s->rows, count);
		s->table->read(s->backend, &readout, &last, 1, z);
		if (!isfinite(z[0]) || !isfinite(z[1]))
			return error_set(error, STATUS_INTERNAL, "the model gave %g, %g after layer %u",
					 (double)z[0], (double)z[1], layer + 1);
		out->layers[layer] = (struct score_prompt_layer){
			.yes = z[0], .no = z[1], .p = softmax_of_two(z[0], z[1]),
		};
	}
	ask_policy(s, out);
	return STATUS_OK;
}

enum status score_prompt_text(struct score_prompt *s, struct text_view text, bool parse_special,
			      struct score_prompt_result *out, struct error *error)
{
	size_t count = 0;
	enum status status = tokenizer_encode(s->bundle->tokenizer, s->scratch, text,
					      parse_special ? TOKENIZER_PARSE_SPECIAL : TOKENIZER_PLAIN,
					      s->ids, s->tokens_max, &count, error);
	if (status)
		return error_prefix(error, "prompt");
	return score_prompt_ids(s, s->ids, (uint32_t)count, out, error);
}

const char *score_prompt_model_id(const struct score_prompt *s)
{
	return s->bundle->model_id;
}

const char *score_prompt_describe(const struct score_prompt *s)
{
	return s->table->describe(s->backend);
}
