/* Random models and random packings: a candidate's score has the same bits alone, shared, in any batch, and
 * for any number of threads. Lengths sit on and beside the borders of tiles and key blocks. */
#include "tests/unit/scorer/random_model.h"

#include "scorer/forward.h"
#include "tests/check_run.h"

#include <stdio.h>

enum { ROWS = 1200, SUFFIXES = 256, LENGTH = 100, CASES = 24 };

static unsigned state;
static uint32_t below(uint32_t n)
{
	state = state * 1664525u + 1013904223u;
	return (state >> 8) % n;
}

static uint32_t length_up_to(uint32_t most)
{
	static const uint32_t borders[] = {1, 2, 11, 12, 13, 15, 16, 17, 31, 32, 33, 48, 95, 96, 97};
	uint32_t length = below(2) ? borders[below(sizeof borders / sizeof borders[0])] : 1 + below(most);
	return length < most ? length : most;
}

static struct random_shape random_shape_draw(void)
{
	static const uint32_t sizes[] = {2, 8, 10, 16, 24, 64};
	struct random_shape shape = {0};
	shape.kv_heads = 1 + below(3);
	shape.heads = shape.kv_heads * (1 + below(below(4) ? 4 : 14));
	shape.head_size = sizes[below(6)];
	shape.hidden = 2 + below(70);
	shape.intermediate = 1 + below(300);
	shape.layers = 1 + below(5);
	shape.vocabulary = 50;
	shape.qkv_bias = below(2);
	shape.scaling = (enum rope_scaling)below(3);
	return shape;
}

struct outcome {
	float p;
	uint32_t layer;
};

static void take(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	((struct outcome *)context)[tag] = (struct outcome){outcome->p_click, outcome->layer};
}

static int32_t instruction[40], prefix[LENGTH], suffixes[SUFFIXES][LENGTH];
static uint32_t instruction_count, prefix_count, counts[SUFFIXES], count;
static struct outcome want[SUFFIXES], got[SUFFIXES];

struct engine {
	struct backend *backend;
	struct batch *batch;
	struct forward *forward;
};

static struct engine engine_open(const struct random_model *model, const struct exit_policy *policy,
				 const struct exit_head *heads, uint32_t threads)
{
	struct engine e = {0};
	struct error error = {0};
	ck_assert_int_eq(batch_create(ROWS, &e.batch, &error), STATUS_OK);
	struct backend_options options = {
	    .layers = exit_policy_depth(policy, model->view.config.layers),
	    .rows_max = ROWS,
	    .slots_max = e.batch->slots_max,
	    .positions_max = 256,
	    .instruction_max = 40,
	    .threads = threads,
	};
	ck_assert_msg(backend_cpu.create(&model->view, &options, &e.backend, &error) == STATUS_OK, "%s",
		      error.text);
	struct forward_options forward = {
		.table = &backend_cpu, .backend = e.backend, .policy = *policy,
		.model_layers = model->view.config.layers, .heads = heads, .rows_max = ROWS,
		.segments_max = e.batch->segments_max,
	};
	ck_assert_int_eq(forward_create(&forward, &e.forward, &error), STATUS_OK);
	return e;
}

static void engine_close(struct engine *e)
{
	forward_destroy(e->forward);
	backend_cpu.destroy(e->backend);
	batch_destroy(e->batch);
}

static void run(struct engine *e, struct outcome *out)
{
	struct error error = {0};
	struct forward_sink sink = {.context = out, .leave = take};
	ck_assert_msg(forward_run(e->forward, e->batch, &sink, &error) == STATUS_OK, "%s", error.text);
}

static void score_alone(struct engine *e, uint32_t s)
{
	int32_t ids[40 + 2 * LENGTH];
	memcpy(ids, instruction, instruction_count * sizeof ids[0]);
	memcpy(ids + instruction_count, prefix, prefix_count * sizeof ids[0]);
	memcpy(ids + instruction_count + prefix_count, suffixes[s], counts[s] * sizeof ids[0]);
	batch_clear(e->batch, 0);
	batch_add_prefix(e->batch, NULL, 0);
	batch_add_suffix(e->batch, ids, instruction_count + prefix_count + counts[s], s, INT64_MAX);
	run(e, want);
}

/* In order from a random first suffix, the batch closed at random. */
static void score_packed(struct engine *e)
{
	struct error error = {0};
	ck_assert_int_eq(
	    forward_keep_instruction(e->forward, e->batch, instruction, instruction_count, &error),
	    STATUS_OK);
	uint32_t first = below(count), close = below(3) ? 1 + below(40) : 1000;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t s = (first + i) % count;
		bool empty = !e->batch->suffixes;
		if (!empty && (below(close) == 0 || !batch_has_room(e->batch, prefix_count, counts[s]))) {
			run(e, got);
			empty = true;
		}
		if (empty || below(20) == 0)            /* sometimes a second prefix of the same ids */
			batch_add_prefix(e->batch, prefix, prefix_count);
		batch_add_suffix(e->batch, suffixes[s], counts[s], s, INT64_MAX);
	}
	run(e, got);
}

START_TEST(same_bits)
{
	state = (unsigned)_i * 7919 + 17;
	struct random_shape shape = random_shape_draw();
	struct random_model *model = random_model_create(&shape, state);
	struct exit_policy policy = {.layers_count = 0};
	exit_policy_defaults((enum exit_rule)below(EXIT_RULES), &policy);
	for (uint32_t layer = 1; layer <= shape.layers; layer++)
		if (below(3) || (layer == shape.layers && !policy.layers_count))
			policy.layers[policy.layers_count++] = layer;
	if (policy.rule == EXIT_DISCREPANCY)
		policy.threshold = .1;
	if (policy.rule == EXIT_CONFIDENCE)
		policy.threshold = .6;
	float *vectors = malloc(2 * shape.hidden * sizeof *vectors);
	random_fill(state, 2 * shape.hidden, .5f, vectors);
	struct exit_head heads[EXIT_LAYERS_MAX];
	for (int i = 0; i < EXIT_LAYERS_MAX; i++)
		heads[i] = (struct exit_head){{vectors, vectors + shape.hidden, 1}, 1, 0};

	instruction_count = below(4) ? below(40) : 0;
	prefix_count = below(5) ? length_up_to(LENGTH) : 0;
	count = below(6) ? 1 + below(24) : 1 + below(SUFFIXES);
	for (uint32_t i = 0; i < 40; i++)
		instruction[i] = (int32_t)below(50);
	for (uint32_t i = 0; i < LENGTH; i++)
		prefix[i] = (int32_t)below(50);
	for (uint32_t s = 0; s < count; s++) {
		counts[s] = count > 24 ? 1 + below(8) : length_up_to(LENGTH);
		for (uint32_t i = 0; i < counts[s]; i++)
			suffixes[s][i] = (int32_t)below(50);
	}
	struct engine one = engine_open(model, &policy, heads, 1),
		      many = engine_open(model, &policy, heads, 3);
	for (uint32_t s = 0; s < count; s++)
		score_alone(&one, s);
	for (int round = 0; round < 4; round++) {
		memset(got, 0, sizeof got);
		score_packed(round % 2 ? &many : &one);
		for (uint32_t s = 0; s < count; s++)
			ck_assert_msg(
			    memcmp(&want[s], &got[s], sizeof want[s]) == 0,
			    "case %d round %d candidate %u of %u: alone %.9g at %u, packed %.9g at %u", _i,
			    round, s, count, (double)want[s].p, want[s].layer, (double)got[s].p,
			    got[s].layer);
	}
	engine_close(&one);
	engine_close(&many);
	free(vectors);
	random_model_destroy(model);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine");
	TCase *cases = tcase_create("engine");
	tcase_set_timeout(cases, 120);
	tcase_add_loop_test(cases, same_bits, 0, CASES);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
