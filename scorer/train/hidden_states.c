/* hidden_states.c - blocks of impressions through forward_run(), rows taken at the exits.
 *
 * Idea: the pass runs under the rule fixed, so that everybody goes to the last exit and is read at each on
 * the way; the heads that it asks for are zeros. Blocks end at multiples of BLOCK of the data's order, so
 * that a larger choice of impressions finds most blocks of a smaller one. Caller: fit.c. */
#include "scorer/train/hidden_states.h"

#include "base/clock.h"
#include "base/mem.h"
#include "scorer/engine.h"
#include "scorer/forward.h"
#include "scorer/prompt.h"

#include <math.h>
#include <stdio.h>
#include <xxhash.h>

enum { BLOCK = 32, DESCRIPTION_BYTES = 160 };

struct block_place {
	size_t begin, end;              /* of the list */
	struct hidden_key key;
	struct hidden_shape shape;
};

struct hidden_states {
	struct hidden_block *blocks;    /* [blocks_count] */
	struct block_place *places;
	size_t blocks_count;
	uint32_t *block_of;             /* [list.count] */
	uint64_t *row_of;               /* [list.count] first row in its block */
	uint32_t width, instruction;
	char description[DESCRIPTION_BYTES];
	struct hidden_states_figures figures;
};

/* What computes: made when the first block is not cached. */
struct machine {
	const struct hidden_states_options *options;
	struct prompt *prompt;
	struct prompt_ids instruction;
	const struct backend_table *table;
	struct backend *backend;
	struct batch *batch;
	struct forward *forward;
	struct exit_head heads[EXIT_LAYERS_MAX];
	float *zeros, *row;             /* [C] */
	uint32_t batch_tokens_max;
	/* the block at hand */
	float *values;                  /* [exits, rows, C] */
	struct hidden_shape shape;
};

/* ---- the machine ---- */

static void machine_destroy(struct machine *m)
{
	forward_destroy(m->forward);
	if (m->table && m->backend)
		m->table->destroy(m->backend);
	batch_destroy(m->batch);
	prompt_destroy(m->prompt);
	mem_free(m->zeros);
	mem_free(m->row);
	mem_free(m->values);
}

static enum status machine_start(struct machine *m, struct error *error)
{
	const struct hidden_states_options *options = m->options;
	const struct bundle *bundle = options->bundle;
	const struct model_config *config = model_get_config(bundle->model);
	size_t wanted = options->scorer->batch_tokens_max ? options->scorer->batch_tokens_max : 2048;
	m->batch_tokens_max = (uint32_t)wanted;
	uint32_t rows_max = wanted > bundle->context ? (uint32_t)wanted : bundle->context;
	m->zeros = mem_alloc_zero(config->hidden_size, sizeof *m->zeros);
	m->row = mem_alloc_zero(config->hidden_size, sizeof *m->row);
	if (!m->zeros || !m->row)
		return error_set(error, STATUS_NO_MEMORY, "no memory for hidden rows");
	for (uint32_t e = 0; e < options->exits; e++)
		m->heads[e] = (struct exit_head){{m->zeros, m->zeros, 1}, 1, 0};
	struct exit_policy policy = {.layers_count = options->exits};
	exit_policy_defaults(EXIT_FIXED, &policy);
	memcpy(policy.layers, options->layers, options->exits * sizeof *policy.layers);
	enum status status = batch_create(rows_max, &m->batch, error);
	if (status)
		return status;
	struct backend_options backend_options = {
		.layers = options->layers[options->exits - 1], .rows_max = rows_max,
		.slots_max = m->batch->slots_max, .positions_max = bundle->context,
		.instruction_max = m->instruction.count,
	};
	if ((status = engine_open_backend(options->scorer, bundle->model, &backend_options, &m->table,
					  &m->backend, error)))
		return status;
	struct forward_options forward_options = {
		.table = m->table, .backend = m->backend, .policy = policy, .model_layers = config->layers,
		.heads = m->heads, .rows_max = rows_max, .segments_max = m->batch->segments_max,
		.stopping = options->stopping,
	};
	if ((status = forward_create(&forward_options, &m->forward, error)))
		return status;
	return forward_keep_instruction(m->forward, m->batch, m->instruction.ids, m->instruction.count, error);
}

static void take_row(void *context, uint64_t tag, uint32_t exit, const float *row)
{
	struct machine *m = context;
	size_t width = m->shape.width;
	memcpy(m->values + ((size_t)exit * m->shape.rows + tag) * width, row, width * sizeof *row);
}

static void ignore(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	(void)context;
	(void)tag;
	(void)outcome;
}

static enum status run_batch(struct machine *m, uint64_t *tokens, struct error *error)
{
	struct forward_sink sink = {.context = m, .leave = ignore, .row = m->row, .tap = take_row};
	if (!m->batch->suffixes)
		return STATUS_OK;
	*tokens += m->batch->rows;
	return forward_run(m->forward, m->batch, &sink, error);
}

static bool fits(const struct machine *m, uint32_t prefix, uint32_t suffix)
{
	if (!batch_has_room(m->batch, prefix, suffix))
		return false;
	return !m->batch->suffixes || (uint64_t)m->batch->rows + prefix + suffix <= m->batch_tokens_max;
}

/* Rows [row, ..) of the block, as the engine packs a request. */
static enum status add_impression(struct machine *m, const struct impression_tokens *tokens, size_t candidates,
				  uint64_t row, uint64_t *count, struct error *error)
{
	uint32_t prefix = tokens->prefix_count - m->instruction.count;
	const int32_t *ids = tokens->prefix + m->instruction.count;
	bool in_batch = false;
	for (size_t k = 0; k < candidates; k++) {
		uint32_t suffix = (uint32_t)(tokens->offsets[k + 1] - tokens->offsets[k]);
		if (!fits(m, in_batch ? 0 : prefix, suffix)) {
			enum status status = run_batch(m, count, error);
			if (status)
				return status;
			in_batch = false;
		}
		if (!in_batch)
			batch_add_prefix(m->batch, ids, prefix);
		in_batch = true;
		batch_add_suffix(m->batch, tokens->suffixes + tokens->offsets[k], suffix, row + k, INT64_MAX);
	}
	return STATUS_OK;
}

/* ---- blocks ---- */

struct computing {
	struct hidden_states *states;
	const struct dataset *data;
	struct dataset_list list;
	const struct token_source *tokens;
	struct machine machine;
	bool started;
};

static enum status check_ids(const struct computing *c, const int32_t *ids, uint64_t count, uint32_t impression,
			     struct error *error)
{
	int64_t vocabulary = model_get_config(c->machine.options->bundle->model)->vocabulary;
	for (uint64_t i = 0; i < count; i++)
		if (ids[i] < 0 || ids[i] >= vocabulary)
			return error_set(error, STATUS_BAD_RECORD, "sample %u: token %d is not in the vocabulary",
					 impression, ids[i]);
	return STATUS_OK;
}

static enum status check_tokens(const struct computing *c, uint32_t impression,
				const struct impression_tokens *tokens, size_t candidates, struct error *error)
{
	const struct prompt_ids *instruction = &c->machine.instruction;
	uint32_t context = c->machine.options->bundle->context;
	if (tokens->prefix_count < instruction->count ||
	    memcmp(tokens->prefix, instruction->ids, instruction->count * sizeof *instruction->ids))
		return error_set(error, STATUS_BAD_RECORD,
				 "sample %u does not begin with the instruction of this bundle's template: the "
				 "samples were written with another", impression);
	for (size_t k = 0; k < candidates; k++) {
		int64_t suffix = tokens->offsets[k + 1] - tokens->offsets[k];
		if (suffix < 1 || (uint64_t)suffix + tokens->prefix_count > context)
			return error_set(error, STATUS_BAD_RECORD,
					 "sample %u, candidate %zu: a prompt of %lld tokens; the context is %u",
					 impression, k, (long long)suffix + tokens->prefix_count, context);
	}
	enum status status = check_ids(c, tokens->prefix, tokens->prefix_count, impression, error);
	if (status || !candidates)
		return status;
	return check_ids(c, tokens->suffixes + tokens->offsets[0],
			 (uint64_t)(tokens->offsets[candidates] - tokens->offsets[0]), impression, error);
}

/* The machine's threads change no bit, so they are no part of what the rows depend on. */
static void hash_machine(const struct computing *c, XXH3_state_t *state)
{
	const struct hidden_states_options *options = c->machine.options;
	const char *text[] = {"exitpoll hidden 1", options->bundle->content, options->scorer->backend,
			      options->scorer->precision};
	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
		if (text[i])
			XXH3_128bits_update(state, text[i], strlen(text[i]) + 1);
	XXH3_128bits_update(state, options->layers, options->exits * sizeof *options->layers);
	XXH3_128bits_update(state, &c->machine.instruction.count, sizeof c->machine.instruction.count);
}

static enum status make_key(const struct computing *c, struct block_place *place, struct error *error)
{
	XXH3_state_t *state = XXH3_createState();
	enum status status = STATUS_OK;
	if (!state)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the key of a block");
	XXH3_128bits_reset(state);
	hash_machine(c, state);
	for (size_t j = place->begin; !status && j < place->end; j++) {
		uint32_t impression = c->list.impressions[j];
		size_t candidates = (size_t)(c->data->first[impression + 1] - c->data->first[impression]);
		struct impression_tokens tokens;
		c->tokens->get(c->tokens->context, impression, &tokens);
		if ((status = check_tokens(c, impression, &tokens, candidates, error)))
			break;
		XXH3_128bits_update(state, &tokens.prefix_count, sizeof tokens.prefix_count);
		XXH3_128bits_update(state, tokens.prefix, tokens.prefix_count * sizeof *tokens.prefix);
		for (size_t k = 0; k < candidates; k++) {
			int64_t size = tokens.offsets[k + 1] - tokens.offsets[k];
			XXH3_128bits_update(state, &size, sizeof size);
			XXH3_128bits_update(state, tokens.suffixes + tokens.offsets[k],
					    (size_t)size * sizeof *tokens.suffixes);
		}
		c->states->row_of[j] = place->shape.rows;
		place->shape.rows += candidates;
	}
	XXH128_hash_t hash = XXH3_128bits_digest(state);
	place->key = (struct hidden_key){hash.high64, hash.low64};
	XXH3_freeState(state);
	return status;
}

static enum status compute(struct computing *c, const struct block_place *place, struct error *error)
{
	struct machine *m = &c->machine;
	enum status status;
	if (!c->started && (status = machine_start(m, error)))
		return status;
	c->started = true;
	size_t values = (size_t)place->shape.rows * place->shape.exits * place->shape.width;
	mem_free(m->values);
	m->values = mem_alloc_array(values, sizeof *m->values);
	if (!m->values)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %zu hidden values", values);
	m->shape = place->shape;
	int64_t begin_ns = clock_steady_ns();
	for (size_t j = place->begin; j < place->end; j++) {
		uint32_t impression = c->list.impressions[j];
		struct impression_tokens tokens;
		c->tokens->get(c->tokens->context, impression, &tokens);
		if ((status = add_impression(m, &tokens,
					     (size_t)(c->data->first[impression + 1] - c->data->first[impression]),
					     c->states->row_of[j], &c->states->figures.tokens, error)))
			return status;
	}
	if ((status = run_batch(m, &c->states->figures.tokens, error)))
		return status;
	c->states->figures.seconds += (double)(clock_steady_ns() - begin_ns) / 1e9;
	c->states->figures.computed += place->end - place->begin;
	return hidden_cache_store(m->options->cache, place->key, place->shape, m->values, error);
}

static enum status find_blocks(struct computing *c, struct error *error)
{
	struct hidden_states *states = c->states;
	const struct hidden_states_options *options = c->machine.options;
	uint64_t bytes = 0, coming = 0;
	/* A second of slack: file systems keep time more coarsely than the clock. */
	int64_t now_ms = clock_wall_ms() - 1000;
	for (size_t j = 0; j < c->list.count;) {
		struct block_place *place = &states->places[states->blocks_count];
		*place = (struct block_place){.begin = j, .shape = {options->exits, states->width, 0}};
		for (uint32_t window = c->list.impressions[j] / BLOCK;
		     j < c->list.count && c->list.impressions[j] / BLOCK == window; j++)
			states->block_of[j] = (uint32_t)states->blocks_count;
		place->end = j;
		enum status status = make_key(c, place, error);
		if (status)
			return status;
		if (!hidden_cache_bytes(place->shape, &bytes))
			return error_set(error, STATUS_LIMIT, "a block of hidden states is too large");
		if (!hidden_cache_load(options->cache, place->key, place->shape,
				       &states->blocks[states->blocks_count]))
			coming += bytes;
		states->blocks_count++;
	}
	return hidden_cache_trim(options->cache, coming, options->cache_bytes_max, now_ms, error);
}

static enum status fill_blocks(struct computing *c, struct error *error)
{
	struct hidden_states *states = c->states;
	const struct hidden_states_options *options = c->machine.options;
	uint64_t done = 0;
	for (size_t b = 0; b < states->blocks_count; b++)
		if (states->blocks[b].values)
			done += states->places[b].end - states->places[b].begin;
	for (size_t b = 0; b < states->blocks_count; b++) {
		const struct block_place *place = &states->places[b];
		if (states->blocks[b].values)
			continue;
		if (options->stopping && options->stopping())
			return error_set(error, STATUS_INTERRUPTED,
					 "interrupted; the next run goes on after %llu of %zu impressions",
					 (unsigned long long)done, c->list.count);
		enum status status = compute(c, place, error);
		if (status)
			return status;
		if (!hidden_cache_load(options->cache, place->key, place->shape, &states->blocks[b]))
			return error_set(error, STATUS_IO, "%s: a block that was just written cannot be read",
					 options->cache);
		done += place->end - place->begin;
		if (options->progress)
			options->progress(options->progress_context, done, c->list.count);
	}
	return STATUS_OK;
}

enum status hidden_states_create(const struct hidden_states_options *options, const struct dataset *data,
				 struct dataset_list list, const struct token_source *tokens,
				 struct hidden_states **out, struct error *error)
{
	const struct bundle *bundle = options->bundle;
	struct hidden_states *states = mem_alloc_zero(1, sizeof *states);
	struct computing c = {.states = states, .data = data, .list = list, .tokens = tokens,
			      .machine = {.options = options}};
	enum status status = STATUS_OK;
	if (states) {
		states->blocks = mem_alloc_zero(list.count, sizeof *states->blocks);
		states->places = mem_alloc_zero(list.count, sizeof *states->places);
		states->block_of = mem_alloc_array(list.count, sizeof *states->block_of);
		states->row_of = mem_alloc_array(list.count, sizeof *states->row_of);
	}
	if (!states || !states->blocks || !states->places || !states->block_of || !states->row_of) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for hidden states of %zu impressions",
				   list.count);
		goto cleanup;
	}
	states->width = model_get_config(bundle->model)->hidden_size;
	states->figures.impressions = list.count;
	if ((status = prompt_create(bundle->tokenizer, bundle->wording, bundle->yes, bundle->no, bundle->context,
				    &c.machine.prompt, error)))
		goto cleanup;
	c.machine.instruction = prompt_instruction(c.machine.prompt);
	states->instruction = c.machine.instruction.count;
	if ((status = find_blocks(&c, error)) || (status = fill_blocks(&c, error)))
		goto cleanup;
	snprintf(states->description, sizeof states->description, "%s",
		 c.machine.backend ? c.machine.table->describe(c.machine.backend) : "all from the cache");
	*out = states;
	states = NULL;
cleanup:
	machine_destroy(&c.machine);
	hidden_states_destroy(states);
	return status;
}

void hidden_states_destroy(struct hidden_states *states)
{
	if (!states)
		return;
	for (size_t b = 0; b < states->blocks_count; b++)
		hidden_block_close(&states->blocks[b]);
	mem_free(states->blocks);
	mem_free(states->places);
	mem_free(states->block_of);
	mem_free(states->row_of);
	mem_free(states);
}

const float *hidden_states_row(const struct hidden_states *states, uint32_t exit, size_t j, size_t k)
{
	const struct hidden_block *block = &states->blocks[states->block_of[j]];
	return block->values + ((size_t)exit * block->shape.rows + states->row_of[j] + k) * states->width;
}

const struct hidden_states_figures *hidden_states_get_figures(const struct hidden_states *states)
{
	return &states->figures;
}

const char *hidden_states_describe(const struct hidden_states *states)
{
	return states->description;
}

uint32_t hidden_states_instruction(const struct hidden_states *states)
{
	return states->instruction;
}
