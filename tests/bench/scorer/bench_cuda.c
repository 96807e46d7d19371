/* What the scorer's GPU backend reaches, on random weights of Vicuna-7B's shape, as rows of a table:
 *     bench_cuda [--layers N] [--small]
 * Every rate stands beside cuBLASLt's at 8192 x 8192 x 8192 in fp16, measured in the same run. --small shrinks
 * everything, for a look at the program itself on the emulated device (its figures mean nothing).
 * tests/bench/scorer/bench_cuda.sh builds, checks and runs it. */
#include "scorer/cuda_backend.h"
#include "scorer/cuda_library.h"
#include "scorer/forward.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRODUCT_TURNS = 20, PASS_TURNS = 5 };

struct setup {
	struct model_config config;
	uint32_t rows, prompt, prefix, suffix, candidates, square;
	bool small;
};

static void must(enum status status, const struct error *error)
{
	if (!status)
		return;
	fprintf(stderr, "bench_cuda: %s\n", error->text);
	exit(status_exit_code(status));
}

/* Cheap numbers of the right size: matrices keep a row's scale, norms are 1. */
static enum status read_random(const void *context, enum model_tensor tensor, uint32_t layer, uint32_t first_row,
			       uint32_t count, float *out, struct error *error)
{
	const struct model_config *c = context;
	size_t columns = 1;
	(void)error;
	switch (tensor) {
	case MODEL_O: columns = (size_t)c->heads * c->head_size; break;
	case MODEL_DOWN: columns = c->intermediate_size; break;
	case MODEL_EMBEDDING: case MODEL_HEAD: case MODEL_Q: case MODEL_K: case MODEL_V: case MODEL_GATE:
	case MODEL_UP: columns = c->hidden_size; break;
	default: break;
	}
	float scale = tensor == MODEL_EMBEDDING ? 1 : 1 / sqrtf((float)columns);
	uint32_t seed = first_row * 2654435761u ^ layer * 40503u ^ (uint32_t)tensor * 97u;
	for (size_t i = 0; i < count * columns; i++) {
		seed = seed * 1664525u + 1013904223u;
		out[i] = columns == 1 ? 1 : (float)(int32_t)seed * (scale / 2147483648.0f);
	}
	return STATUS_OK;
}

/* ---- products ---- */

static double product_tflops(const struct device_table *table, struct device *device, uint32_t rows,
			     uint32_t columns, uint32_t depth)
{
	struct error error = {0};
	void *x, *weights, *out;
	must(table->allocate(device, (size_t)rows * depth * 2, &x, &error), &error);
	must(table->allocate(device, (size_t)columns * depth * 2, &weights, &error), &error);
	must(table->allocate(device, (size_t)rows * columns * 2, &out, &error), &error);
	/* Real numbers: zeros would draw less power and run faster. */
	size_t values = (size_t)(rows > columns ? rows : columns) * depth;
	device_half *numbers = malloc(values * sizeof *numbers);
	uint32_t seed = 1;
	for (size_t i = 0; i < values; i++) {
		seed = seed * 1664525u + 1013904223u;
		numbers[i] = (device_half)(0x3f00 | (seed >> 16 & 0x80ff));
	}
	must(table->upload(device, x, numbers, (size_t)rows * depth * 2, &error), &error);
	must(table->upload(device, weights, numbers, (size_t)columns * depth * 2, &error), &error);
	free(numbers);
	must(table->prepare_product(device, columns, depth, &error), &error);
	struct product_work work = {x, weights, out, rows, columns, depth, 1};
	for (int i = 0; i < 3; i++)
		table->product(device, &work);
	must(table->wait(device, &error), &error);
	int64_t begin_ns = clock_steady_ns();
	for (int i = 0; i < PRODUCT_TURNS; i++)
		table->product(device, &work);
	must(table->wait(device, &error), &error);
	double seconds = (double)(clock_steady_ns() - begin_ns) / 1e9;
	return 2.0 * rows * columns * depth * PRODUCT_TURNS / seconds / 1e12;
}

static double bench_products(const struct setup *s)
{
	const struct device_table *table;
	const struct model_config *c = &s->config;
	struct device *device;
	struct error error = {0};
	uint32_t rows = s->small ? 128 : 4096, query = c->heads * c->head_size;
	const struct { const char *name; uint32_t columns, depth; } shapes[] = {
		{"QKV", query + 2 * c->kv_heads * c->head_size, c->hidden_size}, {"O", c->hidden_size, query},
		{"gate and up", 2 * c->intermediate_size, c->hidden_size},
		{"down", c->hidden_size, c->intermediate_size},
	};
	must(cuda_library_open(&table, &error), &error);
	/* Each plan is chosen for the rows of its own measurement, as the backend chooses for its batch. */
	must(table->open(s->square, &device, &error), &error);
	double best = product_tflops(table, device, s->square, s->square, s->square);
	table->close(device);
	printf("| cuBLASLt, %u x %u x %u, fp16 | %.1f TFLOP/s | |\n", s->square, s->square, s->square, best);
	must(table->open(rows, &device, &error), &error);
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		double rate = product_tflops(table, device, rows, shapes[i].columns, shapes[i].depth);
		printf("| %s, M = %u, N = %u, K = %u | %.1f TFLOP/s, %.3f of it | .90 |\n", shapes[i].name, rows,
		       shapes[i].columns, shapes[i].depth, rate, rate / best);
	}
	table->close(device);
	return best;
}

/* ---- passes ---- */

struct bench {
	const struct setup *setup;
	struct backend *backend;
	struct forward *forward;
	struct batch *batch;
	struct exit_head heads[EXIT_LAYERS_MAX];
	float *vectors;
	uint64_t left;
};

static void leave(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	struct bench *b = context;
	(void)tag, (void)outcome;
	b->left++;
}

static void start(struct bench *b, const struct exit_policy *policy)
{
	struct error error = {0};
	forward_destroy(b->forward);
	struct forward_options options = {
		.table = &backend_cuda, .backend = b->backend, .policy = *policy,
		.model_layers = b->setup->config.layers, .heads = b->heads, .rows_max = b->setup->rows,
		.segments_max = b->batch->segments_max,
	};
	must(forward_create(&options, &b->forward, &error), &error);
}

/* Prompts of one length, or of lengths spread evenly from a quarter of it to twice as much. */
static uint32_t fill_prompts(struct bench *b, bool mixed)
{
	const struct setup *s = b->setup;
	int32_t *ids = malloc(s->rows * sizeof *ids);
	uint32_t count = 0, seed = 5;
	for (uint32_t i = 0; i < s->rows; i++)
		ids[i] = (int32_t)((seed = seed * 1664525u + 1013904223u) >> 8) % (int32_t)s->config.vocabulary;
	batch_clear(b->batch, 0);
	for (;;) {
		uint32_t length = mixed ? s->prompt / 4 + count * 7 % 15 * (s->prompt / 8) : s->prompt;
		if (!batch_has_room(b->batch, 0, length))
			break;
		batch_add_prefix(b->batch, NULL, 0);
		batch_add_suffix(b->batch, ids, length, count++, INT64_MAX);
	}
	free(ids);
	return count;
}

static uint32_t fill_shared(struct bench *b, bool shared)
{
	const struct setup *s = b->setup;
	int32_t *ids = calloc(s->prefix + s->suffix, sizeof *ids);
	uint32_t count = 0;
	batch_clear(b->batch, 0);
	for (uint32_t c = 0; c < s->candidates; c++) {
		uint32_t prefix = shared && c ? 0 : s->prefix;
		if (!batch_has_room(b->batch, prefix, s->suffix))
			break;
		if (prefix || !shared)
			batch_add_prefix(b->batch, ids, s->prefix);
		batch_add_suffix(b->batch, ids, s->suffix, count++, INT64_MAX);
	}
	free(ids);
	return count;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Seconds of one pass over what `fill` packs: the median of some. flops counts products and attention. */
static double pass_seconds(struct bench *b, uint32_t (*fill)(struct bench *b, bool flag), bool flag,
			   uint32_t *prompts, uint32_t *rows, double *flops)
{
	const struct model_config *c = &b->setup->config;
	struct forward_sink sink = {.context = b, .leave = leave};
	double seconds[PASS_TURNS];
	struct error error = {0};
	for (int turn = -1; turn < PASS_TURNS; turn++) {
		*prompts = fill(b, flag);
		*rows = b->batch->rows;
		double seen = 0;
		for (uint32_t r = 0; r < b->batch->rows; r++)
			seen += b->batch->positions[r] + 1;
		*flops = c->layers * ((double)*rows * backend_layer_flops(c) + 4 * seen * c->heads * c->head_size);
		int64_t begin_ns = clock_steady_ns();
		must(forward_run(b->forward, b->batch, &sink, &error), &error);
		if (turn >= 0)
			seconds[turn] = (double)(clock_steady_ns() - begin_ns) / 1e9;
	}
	qsort(seconds, PASS_TURNS, sizeof *seconds, by_value);
	return seconds[PASS_TURNS / 2];
}

static void open_bench(struct bench *b)
{
	const struct setup *s = b->setup;
	struct error error = {0};
	uint32_t width = s->config.hidden_size;
	struct model_view view = {s->config, read_random, &s->config};
	must(batch_create(s->rows, &b->batch, &error), &error);
	struct backend_options options = {
		.layers = s->config.layers, .rows_max = s->rows, .slots_max = b->batch->slots_max,
		.positions_max = 2 * s->prompt + s->prefix, .threads = 1, .precision = "fp16",
	};
	int64_t begin_ns = clock_steady_ns();
	must(backend_cuda.create(&view, &options, &b->backend, &error), &error);
	printf("\n%s; weights made and loaded in %.1f s\n\n", backend_cuda.describe(b->backend),
	       (double)(clock_steady_ns() - begin_ns) / 1e9);
	b->vectors = malloc(2 * width * sizeof *b->vectors);
	for (uint32_t i = 0; i < width; i++) {
		b->vectors[i] = 1;
		b->vectors[width + i] = (i * 2654435761u >> 31 ? 1.0f : -1.0f) / sqrtf((float)width);
	}
	for (uint32_t i = 0; i < EXIT_LAYERS_MAX; i++)
		b->heads[i] = (struct exit_head){{b->vectors, b->vectors + width, 1}, 1, 0};
}

/* Everybody leaves at 5/8 of the layers: the speed-up over the layer-tokens saved. */
static void exit_efficiency(struct bench *b, uint32_t (*fill)(struct bench *b, bool flag), bool flag,
			    const char *name, const char *target)
{
	uint32_t layers = b->setup->config.layers, prompts, rows;
	struct exit_policy none = {.layers_count = 0}, early = {.layers_count = 0};
	double flops;
	exit_policy_defaults(EXIT_NONE, &none);
	start(b, &none);
	double full = pass_seconds(b, fill, flag, &prompts, &rows, &flops);
	exit_policy_defaults(EXIT_FIXED, &early);
	early.threshold = layers * 5 / 8;
	for (uint32_t layer = layers / 8; layer && layer <= layers; layer += layers / 8)
		early.layers[early.layers_count++] = layer;
	start(b, &early);
	double cut = pass_seconds(b, fill, flag, &prompts, &rows, &flops);
	struct forward_stats stats;
	forward_get_stats(b->forward, &stats);
	double saved = (double)stats.layer_tokens_full / (double)stats.layer_tokens_run;
	printf("| exit efficiency, %s: %.2f x faster, %.2f x fewer layer-tokens | %.3f | %s |\n", name, full / cut,
	       saved, full / cut / saved, target);
}

/* Exits at 5, 10, .. 30, a candidate a prompt: what arXiv 2501.02173 reports as 4.57 to 5.59 requests/s of an A100
 * (table 4; it states neither prompt lengths nor depths, so operations stand beside the rate). */
static void paper_setting(struct bench *b)
{
	uint32_t layers = b->setup->config.layers, prompts, rows;
	struct exit_policy policy = {.layers_count = 0};
	struct forward_stats stats;
	double flops;
	exit_policy_defaults(EXIT_DISCREPANCY, &policy);
	for (uint32_t layer = 5; layer <= 30 && layer <= layers; layer += 5)
		policy.layers[policy.layers_count++] = layer;
	start(b, &policy);
	double seconds = pass_seconds(b, fill_prompts, false, &prompts, &rows, &flops);
	forward_get_stats(b->forward, &stats);
	double share = (double)stats.layer_tokens_run / (double)stats.layer_tokens_full;
	printf("| exits at 5, 10, .., 30, prompts of %u tokens, mean depth %.1f layers: %.2f TFLOP a request "
	       "| %.1f requests/s | the paper, on an A100: 4.57 to 5.59 |\n",
	       b->setup->prompt, share * layers, flops * share / prompts / 1e12, prompts / seconds);
}

int main(int argc, char **argv)
{
	struct setup s = {
		.config = {
			.architecture = "llama", .name = "random 7B", .hidden_size = 4096,
			.intermediate_size = 11008, .layers = 32, .heads = 32, .kv_heads = 32, .head_size = 128,
			.vocabulary = 32000, .positions_max = 4096, .rms_norm_eps = 1e-5f, .rope_theta = 10000,
		},
		.rows = 8192, .prompt = 512, .prefix = 512, .suffix = 64, .candidates = 32, .square = 8192,
	};
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--small") == 0) {
			s.small = true;
			s.config.hidden_size = 128, s.config.intermediate_size = 256, s.config.layers = 8;
			s.config.heads = s.config.kv_heads = 2, s.config.head_size = 64, s.config.vocabulary = 100;
			s.rows = 256, s.prompt = 32, s.prefix = 32, s.suffix = 8, s.candidates = 4, s.square = 128;
		} else if (strcmp(argv[i], "--layers") == 0 && i + 1 < argc) {
			s.config.layers = (uint32_t)strtoul(argv[++i], NULL, 10);
		} else {
			fprintf(stderr, "usage: bench_cuda [--layers N] [--small]\n");
			return 64;
		}
	if (s.config.layers < 8 || s.config.layers > 128) {
		fprintf(stderr, "bench_cuda: --layers: want 8 to 128\n");
		return 64;
	}
	struct device_facts facts;
	struct error error = {0};
	must(cuda_find(&facts, &error), &error);
	if (facts.emulated && !s.small) {
		fprintf(stderr, "bench_cuda: the device is emulated; only --small makes sense\n");
		return 64;
	}
	printf("| what (%s%s) | measured | target |\n|---|---|---|\n", facts.name, s.small ? ", --small" : "");
	double best = bench_products(&s);

	struct bench b = {.setup = &s};
	struct exit_policy none = {.layers_count = 0};
	uint32_t prompts, rows, alone;
	double flops;
	exit_policy_defaults(EXIT_NONE, &none);
	open_bench(&b);
	start(&b, &none);
	printf("| what | measured | target |\n|---|---|---|\n");
	double seconds = pass_seconds(&b, fill_prompts, false, &prompts, &rows, &flops);
	printf("| end to end, %u prompts of %u tokens, no exit: %.1f prompts/s | %.1f TFLOP/s, %.3f of it | .85 |\n",
	       prompts, s.prompt, prompts / seconds, flops / seconds / 1e12, flops / seconds / 1e12 / best);
	seconds = pass_seconds(&b, fill_prompts, true, &prompts, &rows, &flops);
	printf("| mixed lengths, %u prompts, %u tokens: %.1f prompts/s | %.1f TFLOP/s, %.3f of it | |\n", prompts,
	       rows, prompts / seconds, flops / seconds / 1e12, flops / seconds / 1e12 / best);
	double together = pass_seconds(&b, fill_shared, true, &prompts, &rows, &flops) / prompts;
	double apart = pass_seconds(&b, fill_shared, false, &alone, &rows, &flops) / alone;
	printf("| shared prefix, %u candidates, %u + %u tokens: %.1f candidates/s | %.2f x of each alone | |\n", prompts,
	       s.prefix, s.suffix, 1 / together, apart / together);
	exit_efficiency(&b, fill_prompts, false, "independent", ".95");
	exit_efficiency(&b, fill_shared, true, "shared", ".90");
	paper_setting(&b);
	forward_destroy(b.forward);
	backend_cuda.destroy(b.backend);
	batch_destroy(b.batch);
	free(b.vectors);
	return 0;
}
