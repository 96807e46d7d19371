/* Exits decided on the (emulated) device: the same outcomes, bit for bit, as when the host decides with the same
 * kernels, for every rule, however late the host learns who is left; two batches in flight; nothing is allocated
 * while scoring; a device that is lost at any moment is a named error. */
#include "tests/unit/scorer/cuda_engine.h"

#include "base/mem.h"

#include <stdio.h>

enum { EXITS_MAX = 4, BATCHES = 5, SUFFIXES = 11, TRACES_MAX = SUFFIXES_MAX * EXITS_MAX };

/* What a sink was told, in order. */
struct told {
	struct exit_outcome outcomes[SUFFIXES_MAX];
	struct { uint64_t tag; uint32_t layer; float p; bool leave; } traces[TRACES_MAX];
	uint32_t traces_count;
};

static struct told here, there;
static double before[SUFFIXES_MAX * EXITS_MAX];

static void note_leave(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	take(((struct told *)context)->outcomes, tag, outcome);
}

static void note_trace(void *context, uint64_t tag, uint32_t layer, float p, const struct exit_decision *decision)
{
	struct told *told = context;
	uint32_t i = told->traces_count++;
	ck_assert_uint_lt(i, TRACES_MAX);
	told->traces[i].tag = tag;
	told->traces[i].layer = layer;
	told->traces[i].p = p;
	told->traces[i].leave = decision->leave;
}

/* Three prefixes, the second one empty, the last one long; deadline: INT64_MAX leaves the exits to the device. */
static uint32_t pack(struct batch *batch, uint32_t vocabulary, uint32_t variant, int64_t deadline_ms)
{
	static const struct { uint32_t prefix, suffixes, length; } parts[] = {{20, 4, 7}, {0, 1, 64}, {33, 6, 3}};
	static int32_t ids[512];
	uint32_t tag = 0;
	for (uint32_t part = 0; part < 3; part++) {
		for (uint32_t i = 0; i < 512; i++)
			ids[i] = (int32_t)((i * 2654435761u + part * 97 + variant * 31) >> 7) % (int32_t)vocabulary;
		batch_add_prefix(batch, ids, parts[part].prefix);
		for (uint32_t s = 0; s < parts[part].suffixes; s++)
			batch_add_suffix(batch, ids + 33 + s + variant, 1 + (parts[part].length + s) % 66, tag++,
					 deadline_ms);
	}
	ck_assert_uint_eq(tag, SUFFIXES);
	return tag;
}

static void run_noted(struct engine *e, struct told *told)
{
	struct error error = {0};
	struct forward_sink sink = {.context = told, .leave = note_leave, .trace = note_trace};
	memset(told, 0, sizeof *told);
	ck_assert_msg(forward_run(e->forward, e->batch, &sink, &error) == STATUS_OK, "%s", error.text);
}

static void compare_told(const char *what, uint32_t count)
{
	ck_assert_msg(same(here.outcomes, there.outcomes, count), "%s", what);
	ck_assert_uint_eq(here.traces_count, there.traces_count);
	for (uint32_t i = 0; i < here.traces_count; i++)
		ck_assert_msg(here.traces[i].tag == there.traces[i].tag &&
				  here.traces[i].layer == there.traces[i].layer &&
				  here.traces[i].p == there.traces[i].p &&
				  here.traces[i].leave == there.traces[i].leave, "%s: decision %u", what, i);
}

/* keep: how many suffixes the knowledge before the model leaves in doubt; the others are sure at once. */
static const struct { enum exit_rule rule; double threshold; uint32_t keep, first_left; } runs[] = {
	{EXIT_FIXED, NAN, 0, 0}, {EXIT_FIXED, 1, 0, SUFFIXES}, {EXIT_FIXED, 2, 0, 0},
	{EXIT_CONFIDENCE, .999, 1, SUFFIXES - 1}, {EXIT_CONFIDENCE, .6, SUFFIXES, UINT32_MAX},
	{EXIT_DISCREPANCY, .02, SUFFIXES, 0}, {EXIT_PATIENCE, NAN, SUFFIXES, 0}, {EXIT_NONE, NAN, 0, 0},
};
enum { RUNS = sizeof runs / sizeof runs[0] };
static const char *const paces[] = {"0", "7", "100000"};

START_TEST(decides_as_the_host_does)
{
	uint32_t shape = (uint32_t)_i % 2 ? 3 : 0;
	struct random_model *m = random_model_create(&shapes[shape], (unsigned)_i + 5);
	struct exit_policy policy = policy_of(runs[_i].rule, runs[_i].threshold, shapes[shape].layers);
	struct engine e = engine_open(&backend_cuda, &m->view, &policy);
	struct error error = {0};
	struct forward_stats old, now;
	if (runs[_i].rule == EXIT_PATIENCE)
		policy.window = 1;
	uint32_t exits = policy.rule == EXIT_NONE ? 1 : policy.layers_count;
	for (uint32_t i = 0; i < SUFFIXES_MAX * exits; i++)
		before[i] = i / exits >= runs[_i].keep ? 20 : .2 * (double)(i % 3);
	engine_start(&e, &m->view, &policy);
	ck_assert_int_eq(forward_keep_instruction(e.forward, e.batch, (int32_t[]){1, 2, 3, 4, 5}, 5, &error), STATUS_OK);
	e.batch->before = before;
	pack(e.batch, shapes[shape].vocabulary, 0, INT64_MAX - 1);
	forward_get_stats(e.forward, &old);
	run_noted(&e, &here);
	forward_get_stats(e.forward, &now);
	uint64_t run = now.layer_tokens_run - old.layer_tokens_run;
	if (runs[_i].first_left != UINT32_MAX)
		ck_assert_uint_eq(now.exits_at[1], runs[_i].first_left);
	for (size_t pace = 0; pace < sizeof paces / sizeof paces[0]; pace++) {
		setenv("EXITPOLL_EMULATED_PACE", paces[pace], 1);
		uint32_t count = pack(e.batch, shapes[shape].vocabulary, 0, INT64_MAX);
		forward_get_stats(e.forward, &old);
		run_noted(&e, &there);
		forward_get_stats(e.forward, &now);
		compare_told(paces[pace], count);
		ck_assert_uint_eq(now.layer_tokens_run - old.layer_tokens_run, run);
		ck_assert_uint_eq(e.batch->rows, 0);
	}
	unsetenv("EXITPOLL_EMULATED_PACE");
	engine_close(&e);
	random_model_destroy(m);
}
END_TEST

/* Layers long enough for the host to wait for the number of rows left. */
START_TEST(waits_where_it_is_worth_it)
{
	static const struct random_shape wide = {256, 512, 3, 4, 2, 64, 64, false, ROPE_SCALING_NONE};
	struct random_model *m = random_model_create(&wide, 8);
	struct exit_policy policy = policy_of(EXIT_CONFIDENCE, .6, wide.layers);
	struct engine e = engine_open(&backend_cuda, &m->view, &policy);
	ck_assert_double_ge(150 * backend_layer_flops(&m->view.config), 1.5e8);
	engine_start(&e, &m->view, &policy);
	for (uint32_t variant = 0; variant < 2; variant++) {
		pack(e.batch, wide.vocabulary, variant, INT64_MAX - 1);
		run_noted(&e, &here);
		uint32_t count = pack(e.batch, wide.vocabulary, variant, INT64_MAX);
		run_noted(&e, &there);
		compare_told("wide", count);
	}
	struct forward_stats stats;
	forward_get_stats(e.forward, &stats);
	ck_assert(stats.exits_at[1] && stats.exits_at[3]);
	engine_close(&e);
	random_model_destroy(m);
}
END_TEST

/* Batches of which the next is packed while the last is in flight, without a single allocation; then with the
 * device lost after so many orders. */
static enum status run_in_flight(struct engine *e, struct batch *other, uint32_t vocabulary, struct told *told,
				 struct error *error)
{
	struct batch *batches[2] = {e->batch, other};
	enum status status = STATUS_OK;
	for (uint32_t i = 0; !status && i < BATCHES; i++) {
		struct forward_sink sink = {.context = &told[i], .leave = note_leave, .trace = note_trace};
		pack(batches[i % 2], vocabulary, i, INT64_MAX);
		status = forward_submit(e->forward, batches[i % 2], &sink, error);
	}
	enum status last = forward_flush(e->forward, status ? NULL : error);
	return status ? status : last;
}

START_TEST(two_batches_in_flight)
{
	static struct told told[BATCHES];
	struct random_model *m = random_model_create(&shapes[0], 5);
	struct exit_policy policy = policy_of(EXIT_CONFIDENCE, .6, shapes[0].layers);
	struct engine e = engine_open(&backend_cuda, &m->view, &policy);
	struct error error = {0};
	struct batch *other;
	engine_start(&e, &m->view, &policy);
	ck_assert_int_eq(batch_create(ROWS, &other, &error), STATUS_OK);
	setenv("EXITPOLL_EMULATED_PACE", _i ? "11" : "0", 1);
	setenv("EXITPOLL_EMULATED_FAULT", "no-more-memory", 1);
	mem_fail_after(0);
	enum status status = run_in_flight(&e, other, shapes[0].vocabulary, told, &error);
	mem_fail_after(-1);
	unsetenv("EXITPOLL_EMULATED_FAULT");
	unsetenv("EXITPOLL_EMULATED_PACE");
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	for (uint32_t i = 0; i < BATCHES; i++) {
		uint32_t count = pack(e.batch, shapes[0].vocabulary, i, INT64_MAX);
		run_noted(&e, &here);
		there = told[i];
		compare_told("in flight", count);
	}
	memset(told, 0, sizeof told);
	engine_close(&e);
	batch_destroy(other);
	random_model_destroy(m);
}
END_TEST

START_TEST(a_lost_device_is_an_error)
{
	static const char *const moments[] = {"1", "5", "40", "80", "130"};
	static struct told told[BATCHES];
	struct random_model *m = random_model_create(&shapes[0], 5);
	struct exit_policy policy = policy_of(EXIT_CONFIDENCE, .6, shapes[0].layers);
	struct error error = {0};
	struct batch *other;
	if (getenv("EXITPOLL_TEST_CUDA_LIBRARY"))
		return;
	setenv("EXITPOLL_EMULATED_FAULT", "lost", 1);
	setenv("EXITPOLL_EMULATED_LOST_AFTER", moments[_i], 1);
	struct engine e = engine_open(&backend_cuda, &m->view, &policy);
	engine_start(&e, &m->view, &policy);
	ck_assert_int_eq(batch_create(ROWS, &other, &error), STATUS_OK);
	memset(told, 0, sizeof told);
	ck_assert_int_eq(run_in_flight(&e, other, shapes[0].vocabulary, told, &error), STATUS_UNAVAILABLE);
	ck_assert_int_eq(status_exit_code(error.status), 69);
	ck_assert_msg(strstr(error.text, "device lost") != NULL, "%s", error.text);
	for (uint32_t i = 0; i < BATCHES; i++)          /* whole batches or nothing */
		for (uint32_t s = 0; s < SUFFIXES; s++)
			ck_assert_uint_eq(told[i].outcomes[s].layer > 0, told[i].outcomes[0].layer > 0);
	ck_assert_uint_eq(told[BATCHES - 1].traces_count, 0);
	/* It stays lost, by name, on either path. */
	for (int64_t late = 0; late < 2; late++) {
		struct forward_sink sink = {.context = &here, .leave = note_leave};
		batch_clear(e.batch, 0);
		memset(&here, 0, sizeof here);
		pack(e.batch, shapes[0].vocabulary, 0, INT64_MAX - late);
		ck_assert_int_eq(forward_run(e.forward, e.batch, &sink, &error), STATUS_UNAVAILABLE);
		ck_assert_msg(strstr(error.text, "device lost") != NULL, "%s", error.text);
	}
	unsetenv("EXITPOLL_EMULATED_FAULT");
	engine_close(&e);
	batch_destroy(other);
	random_model_destroy(m);
}
END_TEST

/* An infinite embedding ends in a named error, not in a probability. */
START_TEST(numbers_that_are_none_are_errors)
{
	struct random_model *m = random_model_create(&shapes[0], 5);
	struct exit_policy policy = policy_of(EXIT_FIXED, NAN, shapes[0].layers);
	struct engine e = engine_open(&backend_cuda, &m->view, &policy);
	struct error error = {0};
	struct forward_sink sink = {.context = &here, .leave = note_leave};
	e.vectors[0] = NAN;
	engine_start(&e, &m->view, &policy);
	memset(&here, 0, sizeof here);
	pack(e.batch, shapes[0].vocabulary, 0, INT64_MAX);
	ck_assert_int_eq(forward_run(e.forward, e.batch, &sink, &error), STATUS_INTERNAL);
	ck_assert_msg(strstr(error.text, "at layer 1") != NULL, "%s", error.text);
	engine_close(&e);
	m->poison = true;               /* beyond fp16 already when it is loaded */
	struct backend_options options = {
		.layers = 2, .rows_max = ROWS, .slots_max = ROWS, .positions_max = POSITIONS, .threads = 1,
	};
	struct backend *backend;
	ck_assert_int_eq(backend_cuda.create(&m->view, &options, &backend, &error), STATUS_UNSUPPORTED);
	ck_assert_msg(strstr(error.text, "65,504") != NULL, "%s", error.text);
	random_model_destroy(m);
}
END_TEST

int main(void)
{
	const char *given = getenv("EXITPOLL_TEST_CUDA_LIBRARY");
	setenv("EXITPOLL_CUDA_LIBRARY", given ? given : TEST_CUDA_LIBRARY, 1);
	Suite *suite = suite_create("cuda_pass");
	TCase *cases = tcase_create("cuda_pass");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, decides_as_the_host_does, 0, RUNS);
	tcase_add_test(cases, waits_where_it_is_worth_it);
	tcase_add_loop_test(cases, two_batches_in_flight, 0, 2);
	tcase_add_loop_test(cases, a_lost_device_is_an_error, 0, 5);
	tcase_add_test(cases, numbers_that_are_none_are_errors);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
