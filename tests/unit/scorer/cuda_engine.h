/* cuda_engine.h - a backend, a pass and prompts for the tests of the cuda backend: shapes that break things. */
#ifndef EXITPOLL_TESTS_UNIT_SCORER_CUDA_ENGINE_H
#define EXITPOLL_TESTS_UNIT_SCORER_CUDA_ENGINE_H

#include "tests/unit/scorer/random_model.h"

#include "scorer/cuda_backend.h"
#include "scorer/forward.h"
#include "tests/check_run.h"

enum { ROWS = 640, SUFFIXES_MAX = 256, POSITIONS = 400 };

struct engine {
	const struct backend_table *table;
	struct backend *backend;
	struct forward *forward;
	struct batch *batch;
	struct exit_head heads[EXIT_LAYERS_MAX];
	float *vectors;
};

static inline struct engine engine_open(const struct backend_table *table, const struct model_view *view,
				 const struct exit_policy *policy)
{
	struct engine e = {.table = table};
	struct error error = {0};
	const struct model_config *c = &view->config;
	ck_assert_int_eq(batch_create(ROWS, &e.batch, &error), STATUS_OK);
	struct backend_options options = {
		.layers = exit_policy_depth(policy, c->layers), .rows_max = ROWS, .slots_max = e.batch->slots_max,
		.positions_max = POSITIONS, .instruction_max = 70, .threads = 1, .precision = "auto",
	};
	ck_assert_msg(table->create(view, &options, &e.backend, &error) == STATUS_OK, "%s", error.text);
	uint32_t exits = policy->rule == EXIT_NONE ? 1 : policy->layers_count;
	size_t width = c->hidden_size;
	e.vectors = malloc(2 * exits * width * sizeof(float));
	random_fill(99, 2 * exits * width, .3f, e.vectors);
	for (size_t i = 0; i < 2 * exits * width; i++)
		e.vectors[i] = i / width % 2 ? e.vectors[i] / 2 : 1 + e.vectors[i];
	for (uint32_t i = 0; i < exits; i++)
		e.heads[i] = (struct exit_head){
			.readout = {e.vectors + 2 * i * width, e.vectors + (2 * i + 1) * width, 1},
			.platt_a = 1 - .1 * i, .platt_b = .05 * i,
		};
	return e;
}

/* e must not move from here on: the pass borrows its heads. */
static inline void engine_start(struct engine *e, const struct model_view *view, const struct exit_policy *policy)
{
	struct error error = {0};
	struct forward_options options = {
		.table = e->table, .backend = e->backend, .policy = *policy, .model_layers = view->config.layers,
		.heads = e->heads, .rows_max = ROWS, .segments_max = e->batch->segments_max,
	};
	ck_assert_int_eq(forward_create(&options, &e->forward, &error), STATUS_OK);
}

static inline void engine_close(struct engine *e)
{
	forward_destroy(e->forward);
	e->table->destroy(e->backend);
	batch_destroy(e->batch);
	free(e->vectors);
}

struct prompts {
	int32_t ids[4096];
	uint32_t instruction, prefix, suffixes;
	uint32_t lengths[SUFFIXES_MAX];
};

static inline void fill_prompts(struct prompts *p, uint32_t vocabulary, uint32_t instruction, uint32_t prefix,
			 uint32_t suffixes, uint32_t length)
{
	float *numbers = malloc(sizeof p->ids / sizeof p->ids[0] * sizeof *numbers);
	random_fill(instruction * 31 + prefix * 7 + suffixes, sizeof p->ids / sizeof p->ids[0], 1, numbers);
	for (size_t i = 0; i < sizeof p->ids / sizeof p->ids[0]; i++)
		p->ids[i] = (int32_t)((numbers[i] + 1) / 2 * (float)vocabulary) % (int32_t)vocabulary;
	free(numbers);
	p->instruction = instruction;
	p->prefix = prefix;
	p->suffixes = suffixes;
	for (uint32_t s = 0; s < suffixes; s++)
		p->lengths[s] = length ? length : 1 + s * 5 % 23;
}

static inline void take(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	struct exit_outcome *outcomes = context;
	ck_assert_uint_eq(outcomes[tag].layer, 0);
	outcomes[tag] = *outcome;
}

static inline void run(struct engine *e, struct exit_outcome *outcomes)
{
	struct error error = {0};
	struct forward_sink sink = {.context = outcomes, .leave = take};
	ck_assert_msg(forward_run(e->forward, e->batch, &sink, &error) == STATUS_OK, "%s", error.text);
}

/* Batches of at most `rows` rows, the suffixes in order. */
static inline void score_shared(struct engine *e, const struct prompts *p, uint32_t rows, struct exit_outcome *outcomes)
{
	struct error error = {0};
	const int32_t *prefix = p->ids + p->instruction, *suffix = prefix + p->prefix;
	memset(outcomes, 0, SUFFIXES_MAX * sizeof *outcomes);
	ck_assert_int_eq(forward_keep_instruction(e->forward, e->batch, p->ids, p->instruction, &error), STATUS_OK);
	for (uint32_t s = 0; s < p->suffixes; suffix += p->lengths[s++]) {
		if (e->batch->suffixes && e->batch->rows + p->lengths[s] > rows)
			run(e, outcomes);
		if (!e->batch->segments_count)
			batch_add_prefix(e->batch, prefix, p->prefix);
		batch_add_suffix(e->batch, suffix, p->lengths[s], s, INT64_MAX);
	}
	run(e, outcomes);
}

static inline void score_alone(struct engine *e, const struct prompts *p, struct exit_outcome *outcomes)
{
	const int32_t *suffix = p->ids + p->instruction + p->prefix;
	uint32_t common = p->instruction + p->prefix;
	memset(outcomes, 0, SUFFIXES_MAX * sizeof *outcomes);
	for (uint32_t s = 0; s < p->suffixes; suffix += p->lengths[s++]) {
		int32_t ids[ROWS];
		memcpy(ids, p->ids, common * sizeof *ids);
		memcpy(ids + common, suffix, p->lengths[s] * sizeof *ids);
		batch_clear(e->batch, 0);
		batch_add_prefix(e->batch, NULL, 0);
		batch_add_suffix(e->batch, ids, common + p->lengths[s], s, INT64_MAX);
		run(e, outcomes);
	}
}

static inline bool same(const struct exit_outcome *a, const struct exit_outcome *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (memcmp(&a[i].p_click, &b[i].p_click, sizeof(float)) || a[i].layer != b[i].layer ||
		    a[i].has_margin != b[i].has_margin || memcmp(&a[i].margin, &b[i].margin, sizeof(float)))
			return false;
	return true;
}

static inline struct exit_policy policy_of(enum exit_rule rule, double threshold, uint32_t layers)
{
	struct exit_policy policy = {.layers_count = layers};
	exit_policy_defaults(rule, &policy);
	policy.threshold = threshold;
	for (uint32_t i = 0; i < layers; i++)
		policy.layers[i] = i + 1;
	return policy;
}

/* width, inner, layers, heads, key heads, head size: groups of 1, 2, 3, 7 and 8, heads of 8 to 128. */
static const struct random_shape shapes[] __attribute__((unused)) = {
	{64, 176, 4, 8, 4, 8, 101, false, ROPE_SCALING_NONE},
	{64, 128, 3, 1, 1, 64, 90, true, ROPE_SCALING_NONE},
	{128, 96, 3, 3, 1, 128, 77, false, ROPE_SCALING_LLAMA3},
	{96, 160, 4, 8, 1, 64, 333, false, ROPE_SCALING_NONE},
	{112, 64, 3, 14, 2, 24, 50, true, ROPE_SCALING_LINEAR},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const struct {
	uint32_t instruction, prefix, suffixes, length;
} layouts[] __attribute__((unused)) = {
	{0, 0, 1, 1}, {0, 0, 1, 63}, {0, 0, 1, 64}, {0, 0, 1, 65}, {0, 15, 2, 1}, {16, 17, 3, 0}, {64, 0, 2, 64},
	{63, 1, 5, 0}, {1, 127, 7, 0}, {31, 129, 2, 17},
};
enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

#endif
