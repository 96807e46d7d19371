/* bench_engine - what the scorer's engine does per second, verified before it is timed.
 *
 *     bench_engine [threads]
 *
 * A random model of SmolLM2-135M's shape (30 layers, width 576), so it needs no file. Rates are given per
 * wall second and, since machines are shared, per second of CPU time of the whole process. */
#include "tests/unit/scorer/random_model.h"

#include "base/clock.h"
#include "scorer/cpu_weights.h"
#include "scorer/forward.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct random_shape smollm2 = {576, 1536, 30, 9, 3, 64, 49152, false, ROPE_SCALING_NONE};
enum { PREFIX = 512, SUFFIX = 32, CANDIDATES = 32, ROWS = PREFIX + CANDIDATES * SUFFIX };

static double cpu_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

struct timer {
	double wall, cpu;
};

static struct timer timer_start(void)
{
	return (struct timer){(double)clock_steady_ns() * 1e-9, cpu_seconds()};
}
static struct timer timer_stop(struct timer start)
{
	return (struct timer){(double)clock_steady_ns() * 1e-9 - start.wall, cpu_seconds() - start.cpu};
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_engine: %s\n", what);
	exit(70);
}

/* ---- matrix products: ours against oneDNN, one thread each ---- */

static double onednn_gflops(int rows, int inputs, int outputs, float *a, float *w, float *c)
{
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	dnnl_memory_desc_t a_desc, w_desc, c_desc;
	dnnl_dims_t a_dims = {rows, inputs}, w_dims = {inputs, outputs}, c_dims = {rows, outputs};
	dnnl_matmul_desc_t desc;
	dnnl_primitive_desc_t primitive_desc;
	dnnl_primitive_t primitive;
	dnnl_memory_t memory[3];
	if (dnnl_engine_create(&engine, dnnl_cpu, 0) ||
	    dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) ||
	    dnnl_memory_desc_init_by_tag(&a_desc, 2, a_dims, dnnl_f32, dnnl_ab) ||
	    dnnl_memory_desc_init_by_tag(&w_desc, 2, w_dims, dnnl_f32, dnnl_ba) ||
	    dnnl_memory_desc_init_by_tag(&c_desc, 2, c_dims, dnnl_f32, dnnl_ab) ||
	    dnnl_matmul_desc_init(&desc, &a_desc, &w_desc, NULL, &c_desc) ||
	    dnnl_primitive_desc_create(&primitive_desc, &desc, NULL, engine, NULL) ||
	    dnnl_primitive_create(&primitive, primitive_desc) ||
	    dnnl_memory_create(&memory[0], &a_desc, engine, a) ||
	    dnnl_memory_create(&memory[1], &w_desc, engine, w) ||
	    dnnl_memory_create(&memory[2], &c_desc, engine, c))
		fail("oneDNN cannot make a product");
	dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, memory[0]}, {DNNL_ARG_WEIGHTS, memory[1]},
				       {DNNL_ARG_DST, memory[2]}};
	struct timer best = {0, 1e9};
	for (int round = 0; round < 6; round++) {
		struct timer start = timer_start();
		for (int i = 0; i < 10; i++)
			dnnl_primitive_execute(primitive, stream, 3, arguments);
		dnnl_stream_wait(stream);
		struct timer took = timer_stop(start);
		if (round && took.cpu < best.cpu)
			best = took;
	}
	for (int i = 0; i < 3; i++)
		dnnl_memory_destroy(memory[i]);
	dnnl_primitive_destroy(primitive);
	dnnl_primitive_desc_destroy(primitive_desc);
	dnnl_stream_destroy(stream);
	dnnl_engine_destroy(engine);
	return 2e-9 * rows * inputs * outputs * 10 / best.cpu;
}

/* GFLOP/s of ours and oneDNN's weighted by how much of a layer a shape is. */
static double bench_products(const struct kernels *kernels)
{
	static const int shapes[][2] = {{576, 576}, {576, 384}, {576, 576}, {576, 3072}, {1536, 576}};
	double flops = 0, ours_seconds = 0, onednn_seconds = 0;
	int rows = 96;
	printf("products of %d rows, one thread (GFLOP per second of CPU time)\n", rows);
	for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
		int inputs = shapes[s][0], outputs = shapes[s][1];
		float *w = malloc((size_t)inputs * (size_t)outputs * sizeof *w);
		float *a = malloc((size_t)rows * (size_t)inputs * sizeof *a);
		float *c = malloc((size_t)rows * (size_t)outputs * sizeof *c),
		      *d = malloc((size_t)rows * (size_t)outputs * sizeof *d);
		random_fill(1, (size_t)inputs * (size_t)outputs, 1, w);
		random_fill(2, (size_t)rows * (size_t)inputs, 1, a);
		struct packed packed;
		struct error error = {0};
		struct product product = {ARITHMETIC_FP32, kernels, NULL};
		if (packed_create(ARITHMETIC_FP32, (uint32_t)inputs, (uint32_t)outputs, &packed, &error))
			fail(error.text);
		packed_put(&packed, 0, (uint32_t)outputs, w);
		double theirs = onednn_gflops(rows, inputs, outputs, a, w, d);
		struct timer best = {0, 1e9};
		for (int round = 0; round < 6; round++) {
			struct timer start = timer_start();
			for (int i = 0; i < 10; i++)
				packed_multiply(&packed, &product, (uint32_t)rows, a, (size_t)inputs, c,
						(size_t)outputs, NULL);
			struct timer took = timer_stop(start);
			if (round && took.cpu < best.cpu)
				best = took;
		}
		for (int i = 0; i < rows * outputs; i++)
			if (fabsf(c[i] - d[i]) > 1e-3f)
				fail("a product differs from oneDNN's");
		double work = 2e-9 * rows * inputs * outputs, ours = work * 10 / best.cpu;
		printf("  %4d -> %4d   %6.1f   oneDNN %6.1f   ratio %.2f\n", inputs, outputs, ours, theirs,
		       ours / theirs);
		flops += work;
		ours_seconds += work / ours;
		onednn_seconds += work / theirs;
		packed_destroy(&packed);
		free(w), free(a), free(c), free(d);
	}
	printf("  a layer        %6.1f   oneDNN %6.1f   ratio %.2f\n", flops / ours_seconds,
	       flops / onednn_seconds, onednn_seconds / ours_seconds);
	return flops / onednn_seconds;
}

/* ---- the engine ---- */

struct rig {
	struct backend *backend;
	struct batch *batch;
	struct forward *forward;
	float *vectors;
	struct exit_head heads[6];
	double load_seconds;
};

static struct rig rig_open(struct random_model *model, enum exit_rule rule, double threshold,
			   uint32_t threads)
{
	struct rig rig = {0};
	struct error error = {0};
	struct exit_policy policy = {.layers = {5, 10, 15, 20, 25, 30}, .layers_count = 6};
	exit_policy_defaults(rule, &policy);
	policy.threshold = threshold;
	if (batch_create(ROWS, &rig.batch, &error))
		fail(error.text);
	struct backend_options options = {
		.layers = exit_policy_depth(&policy, 30), .rows_max = ROWS, .slots_max = rig.batch->slots_max,
		.positions_max = PREFIX + SUFFIX, .threads = threads, .precision = "fp32",
	};
	struct timer start = timer_start();
	if (backend_cpu.create(&model->view, &options, &rig.backend, &error))
		fail(error.text);
	rig.load_seconds = timer_stop(start).wall;
	rig.vectors = malloc(2 * 576 * sizeof *rig.vectors);
	random_fill(5, 2 * 576, .2f, rig.vectors);
	return rig;
}

static void rig_forward(struct rig *rig, enum exit_rule rule, double threshold)
{
	struct error error = {0};
	for (int i = 0; i < 6; i++)
		rig->heads[i] = (struct exit_head){{rig->vectors, rig->vectors + 576, 1}, 1, 0};
	struct forward_options options = {
	    .table = &backend_cpu,
	    .backend = rig->backend,
	    .policy = {.layers = {5, 10, 15, 20, 25, 30}, .layers_count = 6},
	    .model_layers = 30,
	    .heads = rig->heads,
	    .rows_max = ROWS,
	    .segments_max = rig->batch->segments_max,
	};
	exit_policy_defaults(rule, &options.policy);
	options.policy.threshold = threshold;
	forward_destroy(rig->forward);
	rig->forward = NULL;
	if (forward_create(&options, &rig->forward, &error))
		fail(error.text);
}

static void rig_close(struct rig *rig)
{
	forward_destroy(rig->forward);
	backend_cpu.destroy(rig->backend);
	batch_destroy(rig->batch);
	free(rig->vectors);
}

static float scores[2][CANDIDATES];

static void take(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	((float *)context)[tag] = outcome->p_click;
}

static int32_t prefix_ids[PREFIX], suffix_ids[CANDIDATES][SUFFIX];

/* candidates [first, first + count) behind one prefix, or each as a prompt of its own. */
static struct timer run(struct rig *rig, uint32_t count, bool shared, float *out)
{
	struct error error = {0};
	struct forward_sink sink = {.context = out, .leave = take};
	struct timer start = timer_start();
	for (uint32_t c = 0; c < count;) {
		batch_clear(rig->batch, 0);
		do {
			if (!shared || !rig->batch->suffixes)
				batch_add_prefix(rig->batch, prefix_ids, PREFIX);
			batch_add_suffix(rig->batch, suffix_ids[c], SUFFIX, c, INT64_MAX);
			c++;
		} while (c < count && batch_has_room(rig->batch, shared ? 0 : PREFIX, SUFFIX));
		if (forward_run(rig->forward, rig->batch, &sink, &error))
			fail(error.text);
	}
	return timer_stop(start);
}

int main(int argc, char **argv)
{
	uint32_t threads = argc > 1 ? (uint32_t)atoi(argv[1]) : 2;
	const char *reason;
	const struct kernels *kernels = kernels_best(&reason);
	/* oneDNN's threads are OpenMP's where it was built so. */
	void (*omp_threads)(int) = (void (*)(int))(uintptr_t)dlsym(RTLD_DEFAULT, "omp_set_num_threads");
	if (omp_threads)
		omp_threads(1);
	printf("kernels: %s (%s)\n", kernels->name, reason);
	double onednn = bench_products(kernels);

	struct random_model *model = random_model_create(&smollm2, 1);
	for (int i = 0; i < PREFIX; i++)
		prefix_ids[i] = (i * 7919 + 13) % 49152;
	for (int c = 0; c < CANDIDATES; c++)
		for (int i = 0; i < SUFFIX; i++)
			suffix_ids[c][i] = (c * 104729 + i * 1299709) % 49152;
	struct rig rig = rig_open(model, EXIT_NONE, NAN, threads);
	printf("\n%s\nrandom weights made and packed in %.2f s\n", backend_cpu.describe(rig.backend),
	       rig.load_seconds);

	rig_forward(&rig, EXIT_NONE, NAN);
	struct timer alone = run(&rig, 4, false, scores[0]);
	struct timer shared = run(&rig, CANDIDATES, true, scores[1]);
	for (int c = 0; c < 4; c++)
		if (memcmp(&scores[0][c], &scores[1][c], sizeof(float)))
			fail("a shared prompt differs from its independent one");
	double per_token = 30 * 2.0 * (576 * 576 * 2 + 576 * 384 + 3 * 576 * 1536);
	double prompt_tokens = 4.0 * (PREFIX + SUFFIX);
	double gflops = prompt_tokens * per_token * 1e-9 / alone.cpu;
	printf("independent prompts of %d: %.0f tokens/s (%.0f per CPU second), %.1f GFLOP per CPU second "
	       "without "
	       "attention, %.2f of oneDNN\n",
	       PREFIX + SUFFIX, prompt_tokens / alone.wall, prompt_tokens / alone.cpu, gflops,
	       gflops / onednn);
	printf("prefix of %d, %d candidates of %d: %.2f s against %.2f s alone: %.1f x (CPU time; same "
	       "bits)\n",
	       PREFIX, CANDIDATES, SUFFIX, shared.cpu, alone.cpu * CANDIDATES / 4,
	       alone.cpu * CANDIDATES / 4 / shared.cpu);

	/* Everybody leaves at layer 15: the work saved against the time saved. */
	struct forward_stats before, after;
	rig_forward(&rig, EXIT_FIXED, NAN);
	struct timer full = run(&rig, CANDIDATES, true, scores[0]);
	forward_get_stats(rig.forward, &before);
	rig_forward(&rig, EXIT_FIXED, 15);
	struct timer early = run(&rig, CANDIDATES, true, scores[1]);
	forward_get_stats(rig.forward, &after);
	double work = (double)before.layer_tokens_run / (double)after.layer_tokens_run;
	printf("exit at 15 of 30: %.2f x less work, %.2f x less time: efficiency %.3f; deciding and "
	       "compacting "
	       "%.2f %% of the time\n",
	       work, full.cpu / early.cpu, full.cpu / early.cpu / work,
	       100.0 * (double)before.control_ns * 1e-9 / full.wall);
	rig_close(&rig);

	rig = rig_open(model, EXIT_NONE, NAN, 1);
	rig_forward(&rig, EXIT_NONE, NAN);
	struct timer one = run(&rig, 4, false, scores[0]);
	printf(
	    "threads: 1 takes %.2f s, %u take %.2f s: %.2f x (wall; only meaningful on an idle machine)\n",
	    one.wall, threads, alone.wall, one.wall / alone.wall);
	rig_close(&rig);
	random_model_destroy(model);
	return 0;
}
