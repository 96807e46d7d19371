/* The engine on random models: fast against reference, shared against independent prompts, any batch
 * against any other, exits against running everything. */
#include "tests/unit/scorer/random_model.h"

#include "scorer/forward.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 300, PROMPTS_MAX = 14 };

/* One request: a prefix and its suffixes, as ids. */
struct request {
	int32_t prefix[90], suffixes[PROMPTS_MAX][24];
	uint32_t prefix_count, suffix_counts[PROMPTS_MAX], count;
};

struct engine {
	struct random_model *model;
	const struct backend_table *table;
	struct backend *backend;
	struct forward *forward;
	struct batch *batch;
	struct exit_head *heads;
	float *vectors;
};

static struct engine engine_open(const struct backend_table *table, struct random_model *model,
				 const struct exit_policy *policy, uint32_t threads)
{
	struct engine e = {.model = model, .table = table};
	struct error error = {0};
	const struct model_config *c = &model->view.config;
	ck_assert_int_eq(batch_create(ROWS, &e.batch, &error), STATUS_OK);
	struct backend_options options = {
		.layers = exit_policy_depth(policy, c->layers), .rows_max = ROWS,
		.slots_max = e.batch->slots_max, .positions_max = 200, .instruction_max = 64,
		.threads = threads, .precision = "fp32",
	};
	ck_assert_msg(table->create(&model->view, &options, &e.backend, &error) == STATUS_OK, "%s",
		      error.text);
	uint32_t exits = policy->rule == EXIT_NONE ? 1 : policy->layers_count;
	/* Every exit its own head, so that a mix-up shows. */
	e.vectors = malloc(2 * exits * c->hidden_size * sizeof(float));
	random_fill(99, 2 * exits * c->hidden_size, .3f, e.vectors);
	e.heads = malloc(exits * sizeof *e.heads);
	for (uint32_t i = 0; i < exits; i++)
		e.heads[i] = (struct exit_head){
		    .readout = {e.vectors + 2 * i * c->hidden_size,
				e.vectors + (2 * i + 1) * c->hidden_size, 1},
		    .platt_a = 1 - .1 * i,
		    .platt_b = .05 * i,
		};
	struct forward_options forward_options = {
		.table = table, .backend = e.backend, .policy = *policy, .model_layers = c->layers,
		.heads = e.heads, .rows_max = ROWS, .segments_max = e.batch->segments_max,
	};
	ck_assert_int_eq(forward_create(&forward_options, &e.forward, &error), STATUS_OK);
	return e;
}

static void engine_close(struct engine *e)
{
	forward_destroy(e->forward);
	e->table->destroy(e->backend);
	batch_destroy(e->batch);
	free(e->heads);
	free(e->vectors);
}

static void take(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	struct exit_outcome *outcomes = context;
	ck_assert_uint_eq(outcomes[tag].layer, 0);      /* each leaves once */
	outcomes[tag] = *outcome;
}

static void run(struct engine *e, struct exit_outcome *outcomes)
{
	struct error error = {0};
	struct forward_sink sink = {.context = outcomes, .leave = take};
	if (e->batch->suffixes)
		ck_assert_msg(forward_run(e->forward, e->batch, &sink, &error) == STATUS_OK, "%s",
			      error.text);
}

/* All suffixes of all requests, split over batches of at most `batch_rows` rows. */
static void score_shared(struct engine *e, const int32_t *instruction, uint32_t instruction_count,
			 const struct request *requests, uint32_t count, uint32_t batch_rows,
			 struct exit_outcome *outcomes)
{
	struct error error = {0};
	ck_assert_int_eq(
	    forward_keep_instruction(e->forward, e->batch, instruction, instruction_count, &error),
	    STATUS_OK);
	memset(outcomes, 0, count * PROMPTS_MAX * sizeof *outcomes);
	for (uint32_t r = 0; r < count; r++) {
		bool open = false;
		for (uint32_t s = 0; s < requests[r].count; s++) {
			uint32_t prefix = open ? 0 : requests[r].prefix_count,
				 suffix = requests[r].suffix_counts[s];
			if (!batch_has_room(e->batch, prefix, suffix) ||
			    (e->batch->suffixes && e->batch->rows + prefix + suffix > batch_rows)) {
				run(e, outcomes);
				open = false;
			}
			if (!open)
				batch_add_prefix(e->batch, requests[r].prefix, requests[r].prefix_count);
			open = true;
			batch_add_suffix(e->batch, requests[r].suffixes[s], suffix, r * PROMPTS_MAX + s,
					 INT64_MAX);
		}
	}
	run(e, outcomes);
}

/* Each prompt alone, as one run of tokens without anything shared. */
static void score_alone(struct engine *e, const int32_t *instruction, uint32_t instruction_count,
			const struct request *requests, uint32_t count, struct exit_outcome *outcomes)
{
	memset(outcomes, 0, count * PROMPTS_MAX * sizeof *outcomes);
	for (uint32_t r = 0; r < count; r++)
		for (uint32_t s = 0; s < requests[r].count; s++) {
			int32_t ids[ROWS];
			uint32_t length = 0;
			for (uint32_t i = 0; i < instruction_count; i++)
				ids[length++] = instruction[i];
			for (uint32_t i = 0; i < requests[r].prefix_count; i++)
				ids[length++] = requests[r].prefix[i];
			for (uint32_t i = 0; i < requests[r].suffix_counts[s]; i++)
				ids[length++] = requests[r].suffixes[s][i];
			batch_clear(e->batch, 0);
			batch_add_prefix(e->batch, NULL, 0);
			batch_add_suffix(e->batch, ids, length, r * PROMPTS_MAX + s, INT64_MAX);
			run(e, outcomes);
		}
}

static unsigned seed = 7;
static uint32_t random_below(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void fill_request(struct request *request, uint32_t vocabulary, uint32_t suffixes)
{
	request->prefix_count = random_below(5) ? random_below(90) : 0;
	for (uint32_t i = 0; i < request->prefix_count; i++)
		request->prefix[i] = (int32_t)random_below(vocabulary);
	request->count = suffixes;
	for (uint32_t s = 0; s < suffixes; s++) {
		request->suffix_counts[s] = 1 + random_below(20);
		for (uint32_t i = 0; i < request->suffix_counts[s]; i++)
			request->suffixes[s][i] = (int32_t)random_below(vocabulary);
	}
}

static bool same(const struct exit_outcome *a, const struct exit_outcome *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (memcmp(&a[i].p_click, &b[i].p_click, sizeof(float)) || a[i].layer != b[i].layer ||
		    a[i].has_margin != b[i].has_margin ||
		    (a[i].has_margin && memcmp(&a[i].margin, &b[i].margin, sizeof(float))))
			return false;
	return true;
}

static struct exit_policy policy_every(uint32_t step, uint32_t layers, enum exit_rule rule, double threshold)
{
	struct exit_policy policy = {.layers_count = 0};
	exit_policy_defaults(rule, &policy);
	policy.threshold = threshold;
	for (uint32_t layer = step; layer <= layers; layer += step)
		policy.layers[policy.layers_count++] = layer;
	return policy;
}

enum { REQUESTS = 3 };
static struct request requests[REQUESTS];
static struct exit_outcome first[REQUESTS * PROMPTS_MAX], second[REQUESTS * PROMPTS_MAX];
static int32_t instruction[64];

static void fill_requests(uint32_t vocabulary)
{
	for (uint32_t r = 0; r < REQUESTS; r++)
		fill_request(&requests[r], vocabulary, 1 + random_below(PROMPTS_MAX - 1));
	for (uint32_t i = 0; i < 64; i++)
		instruction[i] = (int32_t)random_below(vocabulary);
}

/* The random models: many shapes, each with its traps. */
static const struct random_shape shapes[] = {
	{64, 172, 6, 8, 4, 8, 101, false, ROPE_SCALING_NONE},
	{48, 40, 4, 3, 1, 16, 64, true, ROPE_SCALING_NONE},
	{40, 96, 1, 5, 5, 10, 77, false, ROPE_SCALING_LINEAR},
	{64, 520, 3, 13, 1, 12, 50, true, ROPE_SCALING_LLAMA3},
	{96, 64, 5, 2, 2, 64, 333, false, ROPE_SCALING_NONE},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

START_TEST(shared_equals_independent_and_reference)
{
	struct random_model *model = random_model_create(&shapes[_i], (unsigned)_i + 1);
	struct exit_policy policy = policy_every(1, shapes[_i].layers, EXIT_FIXED, NAN);
	fill_requests(shapes[_i].vocabulary);
	struct engine fast = engine_open(&backend_cpu, model, &policy, 2);
	struct engine slow = engine_open(&backend_reference, model, &policy, 1);
	for (uint32_t instruction_count = 0; instruction_count < 64; instruction_count += 31) {
		score_shared(&fast, instruction, instruction_count, requests, REQUESTS, ROWS, first);
		score_alone(&fast, instruction, instruction_count, requests, REQUESTS, second);
		ck_assert(same(first, second, REQUESTS * PROMPTS_MAX));         /* to the bit */
		score_shared(&slow, instruction, instruction_count, requests, REQUESTS, ROWS, second);
		for (uint32_t i = 0; i < REQUESTS * PROMPTS_MAX; i++) {
			ck_assert_uint_eq(first[i].layer, second[i].layer);
			ck_assert_double_le(fabs(first[i].p_click - second[i].p_click), 1e-5);
		}
		score_alone(&slow, instruction, instruction_count, requests, REQUESTS, first);
		ck_assert(same(first, second, REQUESTS * PROMPTS_MAX));
	}
	engine_close(&fast);
	engine_close(&slow);
	random_model_destroy(model);
}
END_TEST

START_TEST(any_batch_gives_the_same_bits)
{
	struct random_model *model = random_model_create(&shapes[_i], (unsigned)_i + 20);
	/* A threshold that some pass and some do not, so that compaction happens in the middle. */
	struct exit_policy policy = policy_every(1, shapes[_i].layers, EXIT_DISCREPANCY, .01);
	fill_requests(shapes[_i].vocabulary);
	struct engine one = engine_open(&backend_cpu, model, &policy, 1);
	score_shared(&one, instruction, 20, requests, REQUESTS, ROWS, first);
	uint32_t early = 0, late = 0;
	for (uint32_t i = 0; i < REQUESTS * PROMPTS_MAX; i++) {
		early += first[i].layer && first[i].layer < shapes[_i].layers;
		late += first[i].layer == shapes[_i].layers;
	}
	if (shapes[_i].layers > 3)
		ck_assert_msg(early && late, "shape %d: %u early, %u late", _i, early, late);
	for (uint32_t batch_rows = 1; batch_rows < ROWS; batch_rows += 1 + random_below(97)) {
		score_shared(&one, instruction, 20, requests, REQUESTS, batch_rows, second);
		ck_assert_msg(same(first, second, REQUESTS * PROMPTS_MAX), "batches of %u rows", batch_rows);
	}
	score_alone(&one, instruction, 20, requests, REQUESTS, second);
	ck_assert(same(first, second, REQUESTS * PROMPTS_MAX));
	for (uint32_t threads = 2; threads <= 5; threads++) {
		struct engine many = engine_open(&backend_cpu, model, &policy, threads);
		score_shared(&many, instruction, 20, requests, REQUESTS, ROWS, second);
		ck_assert_msg(same(first, second, REQUESTS * PROMPTS_MAX), "%u threads", threads);
		engine_close(&many);
	}
	/* The prompts in the other order: other neighbours, other places. */
	struct request turned[REQUESTS];
	for (uint32_t r = 0; r < REQUESTS; r++)
		turned[r] = requests[REQUESTS - 1 - r];
	score_shared(&one, instruction, 20, turned, REQUESTS, 150, second);
	for (uint32_t r = 0; r < REQUESTS; r++)
		ck_assert(
		    same(first + r * PROMPTS_MAX, second + (REQUESTS - 1 - r) * PROMPTS_MAX, PROMPTS_MAX));
	engine_close(&one);
	random_model_destroy(model);
}
END_TEST

struct traced {
	float p[REQUESTS * PROMPTS_MAX][EXIT_LAYERS_MAX];
	uint32_t exits[REQUESTS * PROMPTS_MAX];
};
static struct traced traced;

static void note(void *context, uint64_t tag, uint32_t layer, float p, const struct exit_decision *decision)
{
	(void)context, (void)layer, (void)decision;
	traced.p[tag][traced.exits[tag]++] = p;
}

static void ignore(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	(void)context, (void)tag, (void)outcome;
}

/* Each rule with compaction equals: run everything, then ask the rule at each exit. */
START_TEST(exits_equal_running_everything_and_discarding)
{
	static const struct { enum exit_rule rule; double threshold; uint32_t step; } rules[] = {
		{EXIT_DISCREPANCY, .02, 1}, {EXIT_DISCREPANCY, .2, 2}, {EXIT_CONFIDENCE, .6, 1},
		{EXIT_PATIENCE, NAN, 1}, {EXIT_FIXED, 3, 1}, {EXIT_DISCREPANCY, .05, 5}, {EXIT_NONE, NAN, 1},
	};
	struct random_model *model = random_model_create(&shapes[0], 50);
	uint32_t layers = shapes[0].layers;
	struct error error = {0};
	fill_requests(shapes[0].vocabulary);
	struct exit_policy policy = policy_every(rules[_i].step, layers, rules[_i].rule, rules[_i].threshold);
	struct exit_policy never = policy;
	if (policy.rule != EXIT_NONE)
		exit_policy_defaults(EXIT_FIXED, &never);
	struct engine full = engine_open(&backend_cpu, model, &never, 1);
	memset(&traced, 0, sizeof traced);
	batch_clear(full.batch, 0);
	for (uint32_t r = 0; r < REQUESTS; r++)
		for (uint32_t s = 0; s < requests[r].count; s++) {
			batch_add_prefix(full.batch, requests[r].prefix, requests[r].prefix_count);
			batch_add_suffix(full.batch, requests[r].suffixes[s], requests[r].suffix_counts[s],
					 r * PROMPTS_MAX + s, INT64_MAX);
			struct forward_sink sink = {.leave = ignore, .trace = note};
			ck_assert_int_eq(forward_run(full.forward, full.batch, &sink, &error), STATUS_OK);
		}
	struct engine early = engine_open(&backend_cpu, model, &policy, 2);
	score_shared(&early, NULL, 0, requests, REQUESTS, ROWS, first);
	uint32_t exits = policy.rule == EXIT_NONE ? 1 : policy.layers_count;
	for (uint32_t i = 0; i < REQUESTS * PROMPTS_MAX; i++) {
		if (!traced.exits[i])
			continue;
		ck_assert_uint_eq(traced.exits[i], exits);
		struct exit_decision decision = {0};
		uint32_t exit = 0, layer;
		do {
			layer = policy.rule == EXIT_NONE ? layers : policy.layers[exit];
			decision = exit_decide(&policy, traced.p[i], exit + 1, layer, exit + 1 == exits);
			exit++;
		} while (!decision.leave);
		ck_assert_uint_eq(first[i].layer, layer);
		ck_assert(first[i].has_margin == decision.has_margin);
		if (decision.has_margin)
			ck_assert(first[i].margin == decision.margin);
		double z = log(traced.p[i][exit - 1] / (1 - (double)traced.p[i][exit - 1]));
		z = (1 - .1 * (exit - 1)) * z + .05 * (exit - 1);
		ck_assert_double_le(fabs(first[i].p_click - 1 / (1 + exp(-z))), 1e-5);
	}
	struct forward_stats saved, spent;
	forward_get_stats(early.forward, &saved);
	forward_get_stats(full.forward, &spent);
	ck_assert_uint_le(saved.layer_tokens_run, saved.layer_tokens_full);
	ck_assert_uint_le(saved.layer_tokens_run, spent.layer_tokens_run);
	engine_close(&early);
	engine_close(&full);
	random_model_destroy(model);
}
END_TEST

START_TEST(a_passed_deadline_leaves_at_the_next_exit)
{
	struct random_model *model = random_model_create(&shapes[0], 60);
	struct exit_policy policy = policy_every(2, shapes[0].layers, EXIT_DISCREPANCY, 0);
	struct engine e = engine_open(&backend_cpu, model, &policy, 1);
	fill_requests(shapes[0].vocabulary);
	memset(first, 0, sizeof first);
	batch_clear(e.batch, 0);
	batch_add_prefix(e.batch, requests[0].prefix, requests[0].prefix_count);
	batch_add_suffix(e.batch, requests[0].suffixes[0], requests[0].suffix_counts[0], 0, 1);
	batch_add_suffix(e.batch, requests[0].suffixes[0], requests[0].suffix_counts[0], 1, INT64_MAX);
	run(&e, first);
	ck_assert(first[0].deadline && first[0].layer == 2);
	ck_assert(!first[1].deadline && first[1].layer == 6);
	struct forward_stats stats;
	forward_get_stats(e.forward, &stats);
	ck_assert_uint_eq(stats.deadline_exits, 1);
	engine_close(&e);
	random_model_destroy(model);
}
END_TEST

START_TEST(scoring_allocates_nothing)
{
	struct random_model *model = random_model_create(&shapes[0], 61);
	struct exit_policy policy = policy_every(1, shapes[0].layers, EXIT_DISCREPANCY, .05);
	struct engine e = engine_open(&backend_cpu, model, &policy, 2);
	fill_requests(shapes[0].vocabulary);
	mem_fail_after(0);
	score_shared(&e, instruction, 20, requests, REQUESTS, 100, first);
	mem_fail_after(-1);
	engine_close(&e);
	random_model_destroy(model);
}
END_TEST

START_TEST(numbers_that_are_not_finite_are_an_error)
{
	struct random_model *model = random_model_create(&shapes[0], 62);
	model->poison = true;
	struct exit_policy policy = policy_every(1, shapes[0].layers, EXIT_DISCREPANCY, .05);
	struct engine e = engine_open(&backend_cpu, model, &policy, 1);
	int32_t id = 1;
	batch_clear(e.batch, 0);
	batch_add_prefix(e.batch, NULL, 0);
	batch_add_suffix(e.batch, &id, 1, 0, INT64_MAX);
	struct error error = {0};
	struct forward_sink sink = {.leave = ignore};
	ck_assert_int_eq(forward_run(e.forward, e.batch, &sink, &error), STATUS_INTERNAL);
	engine_close(&e);
	random_model_destroy(model);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("forward");
	TCase *cases = tcase_create("forward");
	tcase_set_timeout(cases, 120);
	tcase_add_loop_test(cases, shared_equals_independent_and_reference, 0, SHAPES);
	tcase_add_loop_test(cases, any_batch_gives_the_same_bits, 0, SHAPES);
	tcase_add_loop_test(cases, exits_equal_running_everything_and_discarding, 0, 7);
	tcase_add_test(cases, a_passed_deadline_leaves_at_the_next_exit);
	tcase_add_test(cases, scoring_allocates_nothing);
	tcase_add_test(cases, numbers_that_are_not_finite_are_an_error);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
