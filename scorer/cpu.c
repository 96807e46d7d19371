/* cpu.c - the fast CPU backend: packed weights, rows in tiles, tiles on threads.
 *
 * A layer is two parallel passes: keys and values of all rows, then everything else tile by tile, so that
 * a tile's activations stay in the second-level cache from norm to residual. Invariant: a row's bits
 * depend on no other row (see kernels.h), so tiles may be cut anywhere.
 * Caller: forward.c through the table. */
#include "scorer/backend.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "scorer/cpu_attention.h"
#include "scorer/cpu_weights.h"

#include <stdatomic.h>
#include <stdio.h>

enum { TILE_HEIGHT = 96 };              /* rows of a task at most; a multiple of TILE_ROWS */

struct layer_weights {
	struct packed q, kv, o, gate_up, down;  /* kv: keys first, then values; gate_up: gate first */
	float *attention_norm, *mlp_norm;       /* [C] */
	float *q_bias, *kv_bias;                /* NULL: none */
};

struct thread_buffers {
	float *normed;                  /* [TILE_HEIGHT, pad(C)] */
	float *wide;                    /* [TILE_HEIGHT, max(pad(2F), pad(heads H), pad(2 kv H))] */
	float *mixed;                   /* [TILE_HEIGHT, pad(heads H)] */
	float *out;                     /* [TILE_HEIGHT, pad(C)] */
	float *attention;
	uint16_t *rounded;              /* one input of a product in bf16; NULL: not needed */
};

struct backend {
	struct model_view model;
	struct backend_options options;
	const struct kernels *kernels;
	struct product product;
	struct pool *pool;
	struct attention_shape shape;
	uint32_t query, kv;                     /* heads H, kv_heads H */
	uint32_t wide;                          /* stride of thread_buffers.wide */
	struct layer_weights *layers;           /* [options.layers] */
	float *hidden;                          /* [rows_max, C] */
	struct key_store store;
	struct key_store *instruction;          /* [options.layers] */
	float *cosines, *sines;                 /* [positions_max, H / 2] */
	struct thread_buffers *threads;         /* [threads] */
	char description[200];
	double product_flops;
	/* the pass at hand */
	uint32_t layer, tile;
	const struct batch *batch;
	const uint32_t *rows;
	uint32_t count;
};

static void cpu_destroy(struct backend *b)
{
	if (!b)
		return;
	for (uint32_t l = 0; b->layers && l < b->options.layers; l++) {
		struct layer_weights *w = &b->layers[l];
		struct packed *packed[] = {&w->q, &w->kv, &w->o, &w->gate_up, &w->down};
		for (size_t i = 0; i < sizeof packed / sizeof packed[0]; i++)
			packed_destroy(packed[i]);
		mem_free(w->attention_norm);
		mem_free(w->mlp_norm);
		mem_free(w->q_bias);
		mem_free(w->kv_bias);
	}
	for (uint32_t l = 0; b->instruction && l < b->options.layers; l++) {
		mem_free(b->instruction[l].keys);
		mem_free(b->instruction[l].values);
	}
	for (uint32_t t = 0; b->threads && t < b->options.threads; t++) {
		mem_free(b->threads[t].normed);
		mem_free(b->threads[t].wide);
		mem_free(b->threads[t].mixed);
		mem_free(b->threads[t].out);
		mem_free(b->threads[t].attention);
		mem_free(b->threads[t].rounded);
	}
	pool_destroy(b->pool);
	void *buffers[] = {b->layers, b->instruction, b->threads, b->hidden, b->store.keys, b->store.values,
			   b->cosines, b->sines, b};
	for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
		mem_free(buffers[i]);
}

/* ---- weights ---- */

static enum status read_vector(const struct backend *b, enum model_tensor tensor, uint32_t layer,
			       uint32_t count, float *out, struct error *error)
{
	return b->model.read(b->model.context, tensor, layer, 0, count, out, error);
}

static enum status prepare_layer(struct backend *b, uint32_t layer, struct error *error)
{
	const struct model_config *c = &b->model.config;
	struct layer_weights *w = &b->layers[layer];
	enum status status;
	enum arithmetic arithmetic = b->product.arithmetic;
	if ((status = packed_create(arithmetic, c->hidden_size, b->query, &w->q, error)) ||
	    (status = packed_create(arithmetic, c->hidden_size, 2 * b->kv, &w->kv, error)) ||
	    (status = packed_create(arithmetic, b->query, c->hidden_size, &w->o, error)) ||
	    (status = packed_create(arithmetic, c->hidden_size, 2 * c->intermediate_size, &w->gate_up,
				    error)) ||
	    (status = packed_create(arithmetic, c->intermediate_size, c->hidden_size, &w->down, error)))
		return status;
	w->attention_norm = mem_alloc_array(c->hidden_size, sizeof(float));
	w->mlp_norm = mem_alloc_array(c->hidden_size, sizeof(float));
	if (!w->attention_norm || !w->mlp_norm)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the norms of layer %u", layer);
	if ((status =
		 read_vector(b, MODEL_ATTENTION_NORM, layer, c->hidden_size, w->attention_norm, error)) ||
	    (status = read_vector(b, MODEL_MLP_NORM, layer, c->hidden_size, w->mlp_norm, error)))
		return status;
	if (!c->qkv_bias)
		return STATUS_OK;
	w->q_bias = mem_alloc_array(b->query, sizeof(float));
	w->kv_bias = mem_alloc_array(2 * (size_t)b->kv, sizeof(float));
	if (!w->q_bias || !w->kv_bias)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the biases of layer %u", layer);
	if ((status = read_vector(b, MODEL_Q_BIAS, layer, b->query, w->q_bias, error)) ||
	    (status = read_vector(b, MODEL_K_BIAS, layer, b->kv, w->kv_bias, error)) ||
	    (status = read_vector(b, MODEL_V_BIAS, layer, b->kv, w->kv_bias + b->kv, error)))
		return status;
	return STATUS_OK;
}

struct loading {
	struct backend *b;
	float **rows;                           /* [threads][TILE_COLUMNS, widest input] */
	struct error *errors;                   /* [threads]; the first failure of each */
};

static void pack_matrix(struct loading *loading, uint32_t layer, uint32_t thread, enum model_tensor tensor,
			uint32_t outputs, uint32_t offset, struct packed *packed)
{
	const struct model_view *model = &loading->b->model;
	float *rows = loading->rows[thread];
	struct error *error = &loading->errors[thread];
	for (uint32_t first = 0; first < outputs && !error->status; first += TILE_COLUMNS) {
		uint32_t count = outputs - first < TILE_COLUMNS ? outputs - first : TILE_COLUMNS;
		if (!model->read(model->context, tensor, layer, first, count, rows, error))
			packed_put(packed, offset + first, count, rows);
	}
}

static void load_layer(void *context, uint32_t layer, uint32_t thread)
{
	struct loading *loading = context;
	struct backend *b = loading->b;
	const struct model_config *c = &b->model.config;
	struct layer_weights *w = &b->layers[layer];
	pack_matrix(loading, layer, thread, MODEL_Q, b->query, 0, &w->q);
	pack_matrix(loading, layer, thread, MODEL_K, b->kv, 0, &w->kv);
	pack_matrix(loading, layer, thread, MODEL_V, b->kv, b->kv, &w->kv);
	pack_matrix(loading, layer, thread, MODEL_O, c->hidden_size, 0, &w->o);
	pack_matrix(loading, layer, thread, MODEL_GATE, c->intermediate_size, 0, &w->gate_up);
	pack_matrix(loading, layer, thread, MODEL_UP, c->intermediate_size, c->intermediate_size,
		    &w->gate_up);
	pack_matrix(loading, layer, thread, MODEL_DOWN, c->hidden_size, 0, &w->down);
}

/* The most inputs that any product has. */
static uint32_t widest_input(const struct backend *b)
{
	const struct model_config *c = &b->model.config;
	uint32_t widest = c->hidden_size > c->intermediate_size ? c->hidden_size : c->intermediate_size;
	return widest > b->query ? widest : b->query;
}

static enum status load_weights(struct backend *b, struct error *error)
{
	uint32_t widest = widest_input(b);
	uint32_t threads = b->options.threads;
	enum status status = STATUS_OK;
	struct loading loading = {.b = b};
	loading.rows = mem_alloc_zero(threads, sizeof *loading.rows);
	loading.errors = mem_alloc_zero(threads, sizeof *loading.errors);
	for (uint32_t t = 0; loading.rows && t < threads; t++)
		if (!(loading.rows[t] = mem_alloc_array(TILE_COLUMNS, widest * sizeof(float))))
			status = error_set(error, STATUS_NO_MEMORY, "no memory to load the weights");
	if (!loading.rows || !loading.errors)
		status = error_set(error, STATUS_NO_MEMORY, "no memory to load the weights");
	for (uint32_t l = 0; !status && l < b->options.layers; l++)
		status = prepare_layer(b, l, error);
	if (status)
		goto cleanup;
	pool_run(b->pool, b->options.layers, load_layer, &loading);
	for (uint32_t t = 0; t < threads && !status; t++)
		if (loading.errors[t].status)
			status = error_set(error, loading.errors[t].status, "%s", loading.errors[t].text);
cleanup:
	for (uint32_t t = 0; loading.rows && t < threads; t++)
		mem_free(loading.rows[t]);
	mem_free(loading.rows);
	mem_free(loading.errors);
	return status;
}

/* ---- buffers ---- */

static float *floats(size_t rows, size_t columns)
{
	size_t count, bytes;
	if (!mem_multiply(rows, columns, &count) || !mem_multiply(count, sizeof(float), &bytes))
		return NULL;
	float *out = mem_alloc_aligned(64, bytes);
	if (out)
		memset(out, 0, bytes);
	return out;
}

static bool create_store(const struct backend *b, uint32_t slots, uint32_t rows, struct key_store *store)
{
	store->slots_max = slots;
	store->rows_max = rows;
	store->keys = floats(slots, b->kv);
	store->values = floats(rows, (size_t)b->shape.kv_heads * b->shape.head_padded);
	return store->keys && store->values;
}

static bool create_buffers(struct backend *b)
{
	const struct model_config *c = &b->model.config;
	const struct backend_options *o = &b->options;
	uint32_t kept_slots = pad_columns(o->instruction_max + 1);
	b->wide = pad_columns(2 * c->intermediate_size);
	b->wide = b->wide > pad_columns(b->query) ? b->wide : pad_columns(b->query);
	b->wide = b->wide > pad_columns(2 * b->kv) ? b->wide : pad_columns(2 * b->kv);
	b->layers = mem_alloc_zero(o->layers, sizeof *b->layers);
	b->instruction = mem_alloc_zero(o->layers, sizeof *b->instruction);
	b->threads = mem_alloc_zero(o->threads, sizeof *b->threads);
	b->hidden = floats(o->rows_max, c->hidden_size);
	b->cosines = floats(o->positions_max, c->head_size / 2);
	b->sines = floats(o->positions_max, c->head_size / 2);
	if (!b->layers || !b->instruction || !b->threads || !b->hidden || !b->cosines || !b->sines ||
	    !create_store(b, o->slots_max, o->rows_max, &b->store))
		return false;
	for (uint32_t l = 0; l < o->layers; l++)
		if (!create_store(b, kept_slots, kept_slots, &b->instruction[l]))
			return false;
	for (uint32_t t = 0; t < o->threads; t++) {
		struct thread_buffers *buffers = &b->threads[t];
		buffers->normed = floats(TILE_HEIGHT, pad_columns(c->hidden_size));
		buffers->wide = floats(TILE_HEIGHT, b->wide);
		buffers->mixed = floats(TILE_HEIGHT, pad_columns(b->query));
		buffers->out = floats(TILE_HEIGHT, pad_columns(c->hidden_size));
		buffers->attention = floats(1, attention_scratch_floats(&b->shape, o->positions_max));
		if (!buffers->normed || !buffers->wide || !buffers->mixed || !buffers->out ||
		    !buffers->attention)
			return false;
		if (b->product.arithmetic != ARITHMETIC_BF16)
			continue;
		size_t halves = packed_scratch_halves(TILE_HEIGHT, widest_input(b));
		buffers->rounded = (uint16_t *)floats(1, halves / 2);
		if (!buffers->rounded)
			return false;
	}
	return true;
}

/* ---- creation ---- */

static void multiply_once(void *context, uint32_t index, uint32_t thread)
{
	struct backend *b = context;
	const struct thread_buffers *buffers = &b->threads[thread];
	(void)index;
	packed_multiply(&b->layers[0].q, &b->product, TILE_HEIGHT, buffers->normed,
			pad_columns(b->model.config.hidden_size), buffers->wide, b->wide, buffers->rounded);
}

/* The query product of a full tile on every thread; the best of a few, the first warms up. */
static void measure_product(struct backend *b)
{
	enum { ROUNDS = 5 };
	int64_t best_ns = INT64_MAX;
	for (int round = 0; round < ROUNDS; round++) {
		int64_t begin_ns = clock_steady_ns();
		pool_run(b->pool, b->options.threads, multiply_once, b);
		int64_t took_ns = clock_steady_ns() - begin_ns;
		best_ns = took_ns < best_ns ? took_ns : best_ns;
	}
	double operations = 2.0 * TILE_HEIGHT * b->model.config.hidden_size * b->query * b->options.threads;
	b->product_flops = operations / (1e-9 * (double)(best_ns > 0 ? best_ns : 1));
}

static double product_flops(const struct backend *b)
{
	return b->product_flops;
}

/* bf16 products where the CPU has them and they pass their check; else fp32 products, with weights in bf16
 * only if bf16 was asked for, since they save memory and not time. */
static struct product choose_arithmetic(const char *precision, uint32_t threads, char *description, size_t bytes)
{
	const char *reason, *reason_bf16 = "as asked for", *what = "fp32";
	const struct bf16_product *pairs = NULL;
	struct product product = {ARITHMETIC_FP32, kernels_best(&reason), NULL};
	precision = precision ? precision : "auto";
	if (strcmp(precision, "bf16-dot") == 0)
		pairs = &bf16_dot_plain;
	else if (strcmp(precision, "bf16-tile") == 0)
		pairs = &bf16_tile_plain;
	else if (strcmp(precision, "fp32") != 0)
		pairs = bf16_best(&reason_bf16);
	product.pairs = pairs;
	if (pairs)
		product.arithmetic = ARITHMETIC_BF16, what = "bf16";
	else if (strcmp(precision, "bf16") == 0)
		product.arithmetic = ARITHMETIC_BF16_WEIGHTS, what = "bf16 weights, fp32 sums";
	snprintf(description, bytes, "cpu: %s, %s%s%s%s%s (%s%s%s), %u thread%s", what,
		 pairs ? pairs->name : "", pairs ? " (" : "", pairs ? reason_bf16 : "", pairs ? "), " : "",
		 product.kernels->name, reason, pairs ? "" : "; ", pairs ? "" : reason_bf16, threads,
		 threads == 1 ? "" : "s");
	return product;
}

void backend_cpu_explain(const char *precision, uint32_t threads, char *out, size_t bytes)
{
	choose_arithmetic(precision, threads, out, bytes);
}

static enum status cpu_create(const struct model_view *model, const struct backend_options *options,
			      struct backend **out, struct error *error)
{
	const struct model_config *c = &model->config;
	struct backend *b = mem_alloc_zero(1, sizeof *b);
	if (!b)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the cpu backend");
	b->model = *model;
	b->options = *options;
	b->product = choose_arithmetic(options->precision, options->threads, b->description,
				       sizeof b->description);
	b->kernels = b->product.kernels;
	b->shape = (struct attention_shape){c->heads, c->kv_heads, c->head_size, pad_columns(c->head_size)};
	b->query = c->heads * c->head_size;
	b->kv = c->kv_heads * c->head_size;
	enum status status;
	if ((status = pool_create(options->threads, &b->pool, error)))
		goto cleanup;
	if (!create_buffers(b)) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for the buffers of %u tokens",
				   options->rows_max);
		goto cleanup;
	}
	rope_tables(c, options->positions_max, b->cosines, b->sines);
	if ((status = load_weights(b, error)))
		goto cleanup;
	measure_product(b);
	*out = b;
	return STATUS_OK;
cleanup:
	cpu_destroy(b);
	return status;
}

static const char *cpu_describe(const struct backend *b)
{
	return b->description;
}

/* ---- the forward pass ---- */

static enum status embed(struct backend *b, const struct batch *batch, struct error *error)
{
	size_t width = b->model.config.hidden_size;
	for (uint32_t row = 0; row < batch->rows; row++) {
		enum status status =
		    b->model.read(b->model.context, MODEL_EMBEDDING, 0, (uint32_t)batch->ids[row], 1,
				  b->hidden + row * width, error);
		if (status)
			return status;
	}
	return STATUS_OK;
}

static void rotate(const struct backend *b, uint32_t heads, uint32_t position, float *x)
{
	uint32_t half = b->shape.head_size / 2;
	const float *restrict cosine = b->cosines + (size_t)position * half;
	const float *restrict sine = b->sines + (size_t)position * half;
	for (uint32_t h = 0; h < heads; h++, x += 2 * half)
		for (uint32_t i = 0; i < half; i++) {
			float first = x[i], second = x[i + half];
			x[i] = first * cosine[i] - second * sine[i];
			x[i + half] = second * cosine[i] + first * sine[i];
		}
}

static void add_bias(uint32_t rows, uint32_t columns, const float *bias, float *x, size_t stride)
{
	for (uint32_t row = 0; bias && row < rows; row++)
		for (uint32_t i = 0; i < columns; i++)
			x[row * stride + i] += bias[i];
}

/* Tiles of equal height, their number a multiple of the threads where there are rows enough. */
static void run_tiles(struct backend *b, uint32_t layer, const struct batch *batch, const uint32_t *rows,
		      uint32_t count, void (*task)(void *context, uint32_t index, uint32_t thread))
{
	uint32_t threads = b->options.threads;
	uint32_t tiles = (count + TILE_HEIGHT - 1) / TILE_HEIGHT;
	tiles = (tiles + threads - 1) / threads * threads;
	uint32_t height = (count + tiles - 1) / tiles;
	height = (height + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
	b->layer = layer;
	b->batch = batch;
	b->rows = rows;
	b->count = count;
	b->tile = height;
	pool_run(b->pool, (count + height - 1) / height, task, b);
}

static void keys_values_tile(void *context, uint32_t index, uint32_t thread)
{
	struct backend *b = context;
	const struct layer_weights *w = &b->layers[b->layer];
	const struct batch *batch = b->batch;
	const struct thread_buffers *buffers = &b->threads[thread];
	uint32_t width = b->model.config.hidden_size, padded = pad_columns(width);
	uint32_t begin = index * b->tile, end = begin + b->tile < b->count ? begin + b->tile : b->count;
	for (uint32_t row = begin; row < end; row++)
		b->kernels->rms_norm(width, b->hidden + (size_t)row * width, w->attention_norm,
				     b->model.config.rms_norm_eps,
				     buffers->normed + (size_t)(row - begin) * padded);
	packed_multiply(&w->kv, &b->product, end - begin, buffers->normed, padded, buffers->wide, b->wide,
			buffers->rounded);
	add_bias(end - begin, 2 * b->kv, w->kv_bias, buffers->wide, b->wide);
	for (uint32_t row = begin; row < end; row++) {
		const struct batch_segment *segment = &batch->segments[batch->row_segment[row]];
		float *key = buffers->wide + (size_t)(row - begin) * b->wide;
		rotate(b, b->shape.kv_heads, batch->positions[row], key);
		attention_store(&b->shape, &b->store, segment->first_slot + row - segment->first_row, row,
				key, key + b->kv);
	}
}

static void keys_values(struct backend *b, uint32_t layer, const struct batch *batch)
{
	if (batch->rows)
		run_tiles(b, layer, batch, NULL, batch->rows, keys_values_tile);
}

static void add_residual(const struct backend *b, const uint32_t *rows, uint32_t count, const float *out)
{
	size_t width = b->model.config.hidden_size, padded = pad_columns((uint32_t)width);
	for (uint32_t i = 0; i < count; i++) {
		float *restrict x = b->hidden + rows[i] * width;
		const float *restrict add = out + i * padded;
		for (size_t j = 0; j < width; j++)
			x[j] += add[j];
	}
}

static void norm_rows(const struct backend *b, const uint32_t *rows, uint32_t count, const float *weight,
		      float *normed)
{
	uint32_t width = b->model.config.hidden_size, padded = pad_columns(width);
	for (uint32_t i = 0; i < count; i++)
		b->kernels->rms_norm(width, b->hidden + (size_t)rows[i] * width, weight,
				     b->model.config.rms_norm_eps, normed + (size_t)i * padded);
}

static void finish_tile(void *context, uint32_t index, uint32_t thread)
{
	struct backend *b = context;
	const struct model_config *c = &b->model.config;
	const struct layer_weights *w = &b->layers[b->layer];
	const struct thread_buffers *buffers = &b->threads[thread];
	uint32_t padded = pad_columns(c->hidden_size), begin = index * b->tile;
	const uint32_t *rows = b->rows + begin;
	uint32_t count = b->count - begin < b->tile ? b->count - begin : b->tile;

	norm_rows(b, rows, count, w->attention_norm, buffers->normed);
	packed_multiply(&w->q, &b->product, count, buffers->normed, padded, buffers->wide, b->wide,
			buffers->rounded);
	add_bias(count, b->query, w->q_bias, buffers->wide, b->wide);
	for (uint32_t i = 0; i < count; i++)
		rotate(b, c->heads, b->batch->positions[rows[i]], buffers->wide + (size_t)i * b->wide);
	attention_rows(&b->shape, b->kernels, &b->instruction[b->layer], &b->store, b->batch, rows, count,
		       buffers->wide, b->wide, buffers->mixed, pad_columns(b->query),
		       b->options.positions_max, buffers->attention);
	packed_multiply(&w->o, &b->product, count, buffers->mixed, pad_columns(b->query), buffers->out, padded,
			buffers->rounded);
	add_residual(b, rows, count, buffers->out);

	norm_rows(b, rows, count, w->mlp_norm, buffers->normed);
	packed_multiply(&w->gate_up, &b->product, count, buffers->normed, padded, buffers->wide, b->wide,
			buffers->rounded);
	for (uint32_t i = 0; i < count; i++) {
		float *gate = buffers->wide + (size_t)i * b->wide;
		b->kernels->swiglu(c->intermediate_size, gate, gate + c->intermediate_size);
	}
	packed_multiply(&w->down, &b->product, count, buffers->wide, b->wide, buffers->out, padded,
			buffers->rounded);
	add_residual(b, rows, count, buffers->out);
}

static void finish(struct backend *b, uint32_t layer, const struct batch *batch, const uint32_t *rows,
		   uint32_t count)
{
	if (count)
		run_tiles(b, layer, batch, rows, count, finish_tile);
}

static void read_rows(struct backend *b, const struct readout *readout, const uint32_t *rows, uint32_t count,
		      float *z)
{
	size_t width = b->model.config.hidden_size;
	for (uint32_t i = 0; i < count; i++)
		readout_row(readout, (uint32_t)width, b->model.config.rms_norm_eps,
			    b->hidden + rows[i] * width, z + (size_t)i * readout->count);
}

static void gather(struct backend *b, const uint32_t *kept, uint32_t count)
{
	size_t width = b->model.config.hidden_size;
	for (uint32_t i = 0; i < count; i++)
		if (kept[i] != i)
			memcpy(b->hidden + i * width, b->hidden + kept[i] * width, width * sizeof(float));
}

static void keep_instruction(struct backend *b, uint32_t layer, uint32_t count)
{
	attention_copy(&b->shape, &b->store, &b->instruction[layer], count);
}

static void copy_hidden(struct backend *b, uint32_t row, float *out)
{
	size_t width = b->model.config.hidden_size;
	memcpy(out, b->hidden + row * width, width * sizeof(float));
}

const struct backend_table backend_cpu = {
	.name = "cpu",
	.create = cpu_create,
	.destroy = cpu_destroy,
	.describe = cpu_describe,
	.embed = embed,
	.keys_values = keys_values,
	.finish = finish,
	.read = read_rows,
	.gather = gather,
	.keep_instruction = keep_instruction,
	.hidden = copy_hidden,
	.product_flops = product_flops,
};
