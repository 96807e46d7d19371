/* The cuda backend through its emulation on the CPU: the kernels' very source against the reference backend,
 * over the shapes that break things; the same bits in any batch; every failure by its name.
 * With EXITPOLL_TEST_CUDA_LIBRARY=.../libexitpoll-cuda.so the same tests run on a GPU. */
#include "tests/unit/scorer/cuda_engine.h"

#include "scorer/cuda_library.h"
#include "scorer/half.h"

#include <stdio.h>

static struct prompts prompts;
static struct exit_outcome got[SUFFIXES_MAX], want[SUFFIXES_MAX];
static double worst;

/* fp16 keeps 11 bits, so a rounding is off by 2^-12 at most. Weights and each of a layer's dozen activations are
 * rounded once; over a few layers they move a logit by .3 % of its scale and p by 1e-3 (seen: 7e-4 over shapes and
 * seeds; bf16 moves p by up to 1e-2, by 4e-3 through the rows before a product alone). The weights that the
 * reference reads are not rounded. */
static const double logit_bound = 4e-3, p_bound = 2e-3;

/* p_click within the bound; the same layer unless the margin is as small. */
static void compare(uint32_t count, double bound, const char *what)
{
	for (uint32_t i = 0; i < count; i++) {
		double difference = fabs((double)got[i].p_click - (double)want[i].p_click);
		if (got[i].layer != want[i].layer) {
			ck_assert_msg(want[i].has_margin || got[i].has_margin, "%s: suffix %u", what, i);
			float margin = want[i].layer < got[i].layer ? want[i].margin : got[i].margin;
			ck_assert_msg((double)fabsf(margin) < 2 * bound, "%s: suffix %u leaves at %u, want %u; margin %g", what, i,
				      got[i].layer, want[i].layer, (double)margin);
			continue;
		}
		worst = difference > worst ? difference : worst;
		ck_assert_msg(difference <= bound, "%s: suffix %u: p %g, want %g", what, i,
			      (double)got[i].p_click, (double)want[i].p_click);
	}
}

START_TEST(agrees_with_reference)
{
	struct random_model *m = random_model_create(&shapes[_i], (unsigned)_i + 1);
	struct exit_policy policy = policy_of(EXIT_DISCREPANCY, .03, shapes[_i].layers);
	struct engine gpu = engine_open(&backend_cuda, &m->view, &policy);
	struct engine truth = engine_open(&backend_reference, &m->view, &policy);
	engine_start(&gpu, &m->view, &policy);
	engine_start(&truth, &m->view, &policy);
	worst = 0;
	for (uint32_t l = 0; l < LAYOUTS; l++) {
		char what[64];
		snprintf(what, sizeof what, "shape %d, layout %u", _i, l);
		fill_prompts(&prompts, shapes[_i].vocabulary, layouts[l].instruction, layouts[l].prefix,
			     layouts[l].suffixes, layouts[l].length);
		score_shared(&gpu, &prompts, ROWS, got);
		score_shared(&truth, &prompts, ROWS, want);
		compare(prompts.suffixes, p_bound, what);
		score_alone(&gpu, &prompts, want);
		ck_assert_msg(same(got, want, prompts.suffixes), "%s: alone", what);
	}
	printf("shape %d: p_click at most %.2g from the reference\n", _i, worst);
	engine_close(&gpu);
	engine_close(&truth);
	random_model_destroy(m);
}
END_TEST

/* Every hidden row's exit logit after every layer, not only those of who leaves. */
START_TEST(logits_after_every_layer)
{
	struct random_model *m = random_model_create(&shapes[_i], (unsigned)_i + 40);
	struct exit_policy none = policy_of(EXIT_NONE, NAN, 0);
	struct engine gpu = engine_open(&backend_cuda, &m->view, &none);
	struct engine truth = engine_open(&backend_reference, &m->view, &none);
	struct engine *both[] = {&gpu, &truth};
	float z[2][ROWS], lens[2];
	uint32_t rows[ROWS], last = 0;
	struct error error = {0};
	fill_prompts(&prompts, shapes[_i].vocabulary, 0, 65, 4, 17);
	for (uint32_t r = 0; r < ROWS; r++)
		rows[r] = r;
	double largest = 0;
	for (int k = 0; k < 2; k++) {
		batch_clear(both[k]->batch, 0);
		batch_add_prefix(both[k]->batch, prompts.ids, 65);
		for (uint32_t s = 0; s < 4; s++)
			batch_add_suffix(both[k]->batch, prompts.ids + 65 + 17 * s, 17, s, INT64_MAX);
		ck_assert_int_eq(both[k]->table->embed(both[k]->backend, both[k]->batch, &error), STATUS_OK);
	}
	uint32_t count = gpu.batch->rows;
	for (uint32_t layer = 0; layer < shapes[_i].layers; layer++) {
		for (int k = 0; k < 2; k++) {
			struct engine *e = both[k];
			e->table->keys_values(e->backend, layer, e->batch);
			e->table->finish(e->backend, layer, e->batch, rows, count);
			e->table->read(e->backend, &gpu.heads[0].readout, rows, count, z[k]);
		}
		double scale = 1;
		for (uint32_t r = 0; r < count; r++)
			scale = fmax(scale, fabsf(z[1][r]));
		for (uint32_t r = 0; r < count; r++)
			largest = fmax(largest, fabs((double)z[0][r] - (double)z[1][r]) / scale);
	}
	ck_assert_msg(largest <= logit_bound, "logits are off by %g of their scale", largest);
	printf("shape %d: exit logits at most %.2g of their scale off\n", _i, largest);
	/* The lens reads many vectors from the host, the head one on the device: they agree. */
	struct readout two = {gpu.heads[0].readout.norm, gpu.vectors, 2};
	last = count - 1;
	gpu.table->read(gpu.backend, &two, &last, 1, lens);
	ck_assert_double_le(fabs((double)lens[1] - (double)z[0][last]), 1e-4);
	engine_close(&gpu);
	engine_close(&truth);
	random_model_destroy(m);
}
END_TEST

/* Vicuna-7B's widths of rows and heads, one layer, a short MLP. */
START_TEST(wide_rows)
{
	static const struct random_shape wide = {4096, 512, 1, 32, 32, 128, 64, false, ROPE_SCALING_NONE};
	struct random_model *m = random_model_create(&wide, 3);
	struct exit_policy policy = policy_of(EXIT_FIXED, NAN, 1);
	struct engine gpu = engine_open(&backend_cuda, &m->view, &policy);
	struct engine truth = engine_open(&backend_reference, &m->view, &policy);
	/* A head's logits spread by about 1 whatever the width. */
	for (uint32_t i = 0; i < 4096; i++)
		gpu.vectors[4096 + i] *= .125f, truth.vectors[4096 + i] *= .125f;
	engine_start(&gpu, &m->view, &policy);
	engine_start(&truth, &m->view, &policy);
	fill_prompts(&prompts, wide.vocabulary, 0, 17, 3, 2);
	score_shared(&gpu, &prompts, ROWS, got);
	score_shared(&truth, &prompts, ROWS, want);
	worst = 0;
	compare(3, p_bound, "7B widths");
	printf("7B widths: p_click at most %.2g from the reference\n", worst);
	engine_close(&gpu);
	engine_close(&truth);
	random_model_destroy(m);
}
END_TEST

START_TEST(any_batch_gives_the_same_bits)
{
	struct random_model *m = random_model_create(&shapes[_i], (unsigned)_i + 20);
	struct exit_policy policy = policy_of(EXIT_DISCREPANCY, .02, shapes[_i].layers);
	struct engine gpu = engine_open(&backend_cuda, &m->view, &policy);
	engine_start(&gpu, &m->view, &policy);
	fill_prompts(&prompts, shapes[_i].vocabulary, 20, 50, 12, 0);
	score_shared(&gpu, &prompts, ROWS, want);
	for (uint32_t rows = 1; rows < 200; rows += 60) {
		score_shared(&gpu, &prompts, rows, got);
		ck_assert_msg(same(got, want, prompts.suffixes), "batches of %u rows", rows);
	}
	engine_close(&gpu);
	random_model_destroy(m);
}
END_TEST

/* 256 candidates of one prefix; nobody, one or all leave at the first exit. */
START_TEST(many_candidates_and_survivors)
{
	static const struct { enum exit_rule rule; double threshold; } rules[] = {
		{EXIT_FIXED, NAN}, {EXIT_FIXED, 1}, {EXIT_CONFIDENCE, .62}, {EXIT_PATIENCE, NAN}, {EXIT_NONE, NAN},
	};
	struct random_model *m = random_model_create(&shapes[0], 77);
	struct exit_policy policy = policy_of(rules[_i].rule, rules[_i].threshold, shapes[0].layers);
	struct engine gpu = engine_open(&backend_cuda, &m->view, &policy);
	struct engine truth = engine_open(&backend_reference, &m->view, &policy);
	engine_start(&gpu, &m->view, &policy);
	engine_start(&truth, &m->view, &policy);
	fill_prompts(&prompts, shapes[0].vocabulary, 5, 33, 256, 2);
	score_shared(&gpu, &prompts, ROWS, got);
	score_shared(&truth, &prompts, ROWS, want);
	uint32_t first = 0, last = 0;
	for (uint32_t i = 0; i < 256; i++) {
		/* No margin to go by: these rules may turn on a probability at its threshold. */
		if (policy.rule == EXIT_CONFIDENCE || policy.rule == EXIT_PATIENCE) {
			if (got[i].layer == want[i].layer)
				ck_assert_double_le(fabs((double)got[i].p_click - (double)want[i].p_click), p_bound);
			first += got[i].layer != want[i].layer;
			continue;
		}
		ck_assert_uint_eq(got[i].layer, want[i].layer);
		last += got[i].layer == shapes[0].layers;
	}
	if (policy.rule == EXIT_FIXED || policy.rule == EXIT_NONE) {
		compare(256, p_bound, "256 candidates");
		ck_assert_uint_eq(last, rules[_i].threshold == 1 ? 0 : 256);
	}
	ck_assert_uint_le(first, 8);
	engine_close(&gpu);
	engine_close(&truth);
	random_model_destroy(m);
}
END_TEST

/* Every fp16 comes back from fp32, what lies between goes to the nearer one and ties to the even one; bf16 weights of
 * any usual size are exact. */
START_TEST(fp16_rounds_to_nearest)
{
	for (uint32_t h = 0; h < 0x7c00; h++) {
		float value = half_widen((uint16_t)h), next = half_widen((uint16_t)(h + 1));
		float middle = h == 0x7bff ? 65520 : (float)(((double)value + (double)next) / 2);
		ck_assert_uint_eq(half_round(value), h);
		ck_assert_uint_eq(half_round(-value), h | 0x8000);
		ck_assert_uint_eq(half_round(middle), h + h % 2);
		ck_assert_uint_eq(half_round(nextafterf(middle, 0)), h);
		ck_assert_uint_eq(half_round(nextafterf(middle, INFINITY)), h + 1);
	}
	for (uint32_t bits = 0x37000000; bits < 0x47000000; bits += 0x10000) {  /* 2^-17 to 2^15 by bf16's steps */
		float value;
		memcpy(&value, &bits, sizeof value);
		ck_assert(half_widen(half_round(value)) == value);
	}
	ck_assert(isnan(half_widen(half_round(NAN))) && isinf(half_widen(half_round(1e9f))));
	ck_assert(half_widen(0x3c00) == 1 && half_widen(0xc000) == -2 && half_widen(1) == 0x1p-24f);
}
END_TEST

/* ---- the device without an engine ---- */

struct rig {
	const struct device_table *table;
	struct device *device;
};

static struct rig rig_open(void)
{
	struct rig rig;
	struct error error = {0};
	ck_assert_msg(cuda_library_open(&rig.table, &error) == STATUS_OK, "%s", error.text);
	ck_assert_msg(rig.table->open(256, &rig.device, &error) == STATUS_OK, "%s", error.text);
	return rig;
}

static void *put(struct rig *rig, const void *from, size_t bytes)
{
	void *memory = NULL;
	struct error error = {0};
	ck_assert_int_eq(rig->table->allocate(rig->device, bytes, &memory, &error), STATUS_OK);
	if (from)
		ck_assert_int_eq(rig->table->upload(rig->device, memory, from, bytes, &error), STATUS_OK);
	return memory;
}

START_TEST(decides_as_the_policy_does)
{
	enum { COUNT = 300, EXITS = 6 };
	struct rig rig = rig_open();
	struct error error = {0};
	struct exit_policy policy = policy_of((enum exit_rule)_i, NAN, EXITS);
	exit_policy_defaults((enum exit_rule)_i, &policy);
	if (policy.rule == EXIT_DISCREPANCY)
		policy.threshold = .1;
	if (policy.rule == EXIT_FIXED)
		policy.threshold = 4;
	static float z[COUNT], history[COUNT * EXITS], mine[COUNT * EXITS];
	static double before[COUNT * EXITS];
	static uint32_t ordinals[COUNT], leaving[COUNT];
	for (uint32_t i = 0; i < COUNT; i++)
		ordinals[i] = (i * 7) % COUNT;
	for (uint32_t i = 0; i < COUNT * EXITS; i++)
		before[i] = (double)(i % 13) / 13 - .5;
	float *device_z = put(&rig, NULL, sizeof z), *device_history = put(&rig, NULL, sizeof history);
	double *device_before = put(&rig, before, sizeof before);
	uint32_t *device_ordinals = put(&rig, ordinals, sizeof ordinals), *device_leaving = put(&rig, NULL, sizeof leaving);
	uint32_t left = 0;
	for (uint32_t exit = 0; exit < EXITS; exit++) {
		random_fill(exit + 5, COUNT, exit == 3 ? 30 : 2, z);
		ck_assert_int_eq(rig.table->upload(rig.device, device_z, z, sizeof z, &error), STATUS_OK);
		rig.table->decide(rig.device, &(struct decide_work){
			.z = device_z, .before = device_before, .ordinals = device_ordinals,
			.history = device_history, .leaving = device_leaving, .count = COUNT, .exit = exit,
			.exits = EXITS, .layer = policy.layers[exit], .rule = policy.rule, .window = policy.window,
			.threshold = policy.threshold,
		});
		ck_assert_int_eq(rig.table->download(rig.device, leaving, device_leaving, sizeof leaving, &error),
				 STATUS_OK);
		ck_assert_int_eq(rig.table->download(rig.device, history, device_history, sizeof history, &error),
				 STATUS_OK);
		for (uint32_t i = 0; i < COUNT; i++) {
			float *p = mine + ordinals[i] * EXITS;
			p[exit] = exit_probability((double)z[i] + before[ordinals[i] * EXITS + exit]);
			ck_assert_double_le(fabs((double)p[exit] - (double)history[ordinals[i] * EXITS + exit]), 1e-7);
			struct exit_decision decision =
			    exit_decide(&policy, p, exit + 1, policy.layers[exit], exit + 1 == EXITS);
			ck_assert_msg(decision.leave == (leaving[i] == 1), "rule %d exit %u suffix %u", _i, exit, i);
			left += leaving[i];
		}
	}
	ck_assert_uint_ge(left, COUNT);
	rig.table->close(rig.device);
}
END_TEST

/* The emulation says so when a kernel reads or writes beyond its memory. */
START_TEST(wrong_accesses_are_errors)
{
	if (getenv("EXITPOLL_TEST_CUDA_LIBRARY"))
		return;
	enum { WIDTH = 64 };
	struct rig rig = rig_open();
	struct error error = {0};
	float hidden[2 * WIDTH] = {0};
	uint32_t kept[2] = {0, _i == 0 ? 2 : 1};
	struct gather_work work = {
		.from = put(&rig, hidden, sizeof hidden), .kept = put(&rig, kept, sizeof kept),
		.to = put(&rig, NULL, sizeof hidden), .count = _i == 1 ? 3 : 2, .width = WIDTH,
	};
	rig.table->gather(rig.device, &work);
	enum status status = rig.table->wait(rig.device, &error);
	if (_i == 2) {
		ck_assert_int_eq(status, STATUS_OK);
	} else {
		ck_assert_int_eq(status, STATUS_UNAVAILABLE);
		ck_assert_ptr_nonnull(strstr(error.text, "kernel gather"));
	}
	rig.table->close(rig.device);
}
END_TEST

struct heard {
	uint64_t times, done, total;
};

static void hear(void *context, const char *what, uint64_t done, uint64_t total)
{
	struct heard *heard = context;
	ck_assert_str_eq(what, "weights to the GPU");
	ck_assert_uint_gt(done, heard->done);
	heard->times++;
	heard->done = done;
	heard->total = total;
}

START_TEST(failures_have_names)
{
	static const struct { const char *fault; enum status status; int exit; const char *text; } faults[] = {
		{"no-driver", STATUS_UNAVAILABLE, 69, "driver"}, {"old-driver", STATUS_UNSUPPORTED, 78, "update"},
		{"old-card", STATUS_UNSUPPORTED, 78, "compute capability"}, {"small", STATUS_NO_MEMORY, 71, "tokens fit"},
	};
	if (getenv("EXITPOLL_TEST_CUDA_LIBRARY"))
		return;
	struct random_model *m = random_model_create(&shapes[0], 1);
	struct backend_options options = {
		.layers = 2, .rows_max = ROWS, .slots_max = ROWS, .positions_max = POSITIONS, .threads = 1,
		.precision = "auto",
	};
	struct error error = {0};
	struct backend *backend;
	setenv("EXITPOLL_EMULATED_FAULT", faults[_i].fault, 1);
	ck_assert_int_eq(backend_cuda.create(&m->view, &options, &backend, &error), faults[_i].status);
	ck_assert_int_eq(status_exit_code(error.status), faults[_i].exit);
	ck_assert_msg(strstr(error.text, faults[_i].text) != NULL, "%s", error.text);
	ck_assert(!cuda_is_better(&m->view.config, &options, &error));
	unsetenv("EXITPOLL_EMULATED_FAULT");
	options.precision = _i % 2 ? "fp32" : "bf16";
	ck_assert_int_eq(backend_cuda.create(&m->view, &options, &backend, &error), STATUS_UNSUPPORTED);
	options.precision = "fp16";
	struct heard heard = {0};
	options.loading = &(struct advance){hear, &heard};
	ck_assert_int_eq(backend_cuda.create(&m->view, &options, &backend, &error), STATUS_OK);
	ck_assert_uint_ge(heard.times, 15);     /* once a matrix at least */
	ck_assert(heard.done > .95 * (double)heard.total && heard.done <= heard.total);
	ck_assert_ptr_nonnull(strstr(backend_cuda.describe(backend), "cuda: fp16"));
	/* auto never takes an emulation */
	ck_assert(!cuda_is_better(&m->view.config, &options, &error));
	backend_cuda.destroy(backend);
	setenv("EXITPOLL_CUDA_LIBRARY", "/nowhere/libexitpoll-cuda.so", 1);
	ck_assert_int_eq(backend_cuda.create(&m->view, &options, &backend, &error), STATUS_UNAVAILABLE);
	ck_assert_ptr_nonnull(strstr(error.text, "ops/setup.sh --cuda"));
	setenv("EXITPOLL_CUDA_LIBRARY", TEST_CUDA_LIBRARY, 1);
	random_model_destroy(m);
}
END_TEST

int main(void)
{
	const char *given = getenv("EXITPOLL_TEST_CUDA_LIBRARY");
	setenv("EXITPOLL_CUDA_LIBRARY", given ? given : TEST_CUDA_LIBRARY, 1);
	Suite *suite = suite_create("cuda");
	TCase *cases = tcase_create("cuda");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, agrees_with_reference, 0, SHAPES);
	tcase_add_loop_test(cases, logits_after_every_layer, 0, SHAPES);
	tcase_add_test(cases, wide_rows);
	tcase_add_test(cases, fp16_rounds_to_nearest);
	tcase_add_loop_test(cases, any_batch_gives_the_same_bits, 0, SHAPES);
	tcase_add_loop_test(cases, many_candidates_and_survivors, 0, 5);
	tcase_add_loop_test(cases, decides_as_the_policy_does, 0, 5);
	tcase_add_loop_test(cases, wrong_accesses_are_errors, 0, 3);
	tcase_add_loop_test(cases, failures_have_names, 0, 4);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
