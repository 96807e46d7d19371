/* reference.c - the Llama forward pass as the papers write it: plain C, doubles throughout, one row after
 * the other. The truth that the fast backend is tested against; any machine runs it, slowly.
 * Invariant: hidden rows are doubles until read. Caller: forward.c through the table. */
#include "scorer/backend.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>

struct layer_weights {
	float *attention_norm, *q, *k, *v, *o, *q_bias, *k_bias, *v_bias;
	float *mlp_norm, *gate, *up, *down;
};

struct backend {
	struct model_view model;
	struct backend_options options;
	struct layer_weights *layers;           /* [options.layers] */
	double *hidden;                         /* [rows_max, C] */
	double *keys, *values;                  /* [rows_max, kv_heads * H] of the layer at hand */
	double *kept_keys, *kept_values;        /* [layers, instruction_max, kv_heads * H] */
	float *cosines, *sines;                 /* [positions_max, H / 2] */
	double *normed, *query, *mixed, *gate;  /* one row each */
	double *scores;                         /* [positions_max] */
	float *embedding_row, *readout_row;     /* [C] */
};

static float *read_tensor(const struct model_view *model, enum model_tensor tensor, uint32_t layer,
			  size_t rows, size_t columns, struct error *error)
{
	size_t count;
	float *out = mem_multiply(rows, columns, &count) ? mem_alloc_array(count, sizeof *out) : NULL;
	if (!out) {
		error_set(error, STATUS_NO_MEMORY, "no memory for a tensor of %zu x %zu", rows, columns);
		return NULL;
	}
	if (model->read(model->context, tensor, layer, 0, (uint32_t)rows, out, error)) {
		mem_free(out);
		return NULL;
	}
	return out;
}

/* Norms and biases are one row of many columns to us and rows of one column to the file: the view's
 * contract counts their elements as rows. */
static enum status load_layer(const struct model_view *model, uint32_t layer, struct layer_weights *w,
			      struct error *error)
{
	const struct model_config *c = &model->config;
	size_t q_rows = (size_t)c->heads * c->head_size, kv_rows = (size_t)c->kv_heads * c->head_size;
	if (!(w->attention_norm =
		  read_tensor(model, MODEL_ATTENTION_NORM, layer, c->hidden_size, 1, error)) ||
	    !(w->q = read_tensor(model, MODEL_Q, layer, q_rows, c->hidden_size, error)) ||
	    !(w->k = read_tensor(model, MODEL_K, layer, kv_rows, c->hidden_size, error)) ||
	    !(w->v = read_tensor(model, MODEL_V, layer, kv_rows, c->hidden_size, error)) ||
	    !(w->o = read_tensor(model, MODEL_O, layer, c->hidden_size, q_rows, error)) ||
	    !(w->mlp_norm = read_tensor(model, MODEL_MLP_NORM, layer, c->hidden_size, 1, error)) ||
	    !(w->gate =
		  read_tensor(model, MODEL_GATE, layer, c->intermediate_size, c->hidden_size, error)) ||
	    !(w->up = read_tensor(model, MODEL_UP, layer, c->intermediate_size, c->hidden_size, error)) ||
	    !(w->down = read_tensor(model, MODEL_DOWN, layer, c->hidden_size, c->intermediate_size, error)))
		return error->status;
	if (!c->qkv_bias)
		return STATUS_OK;
	if (!(w->q_bias = read_tensor(model, MODEL_Q_BIAS, layer, q_rows, 1, error)) ||
	    !(w->k_bias = read_tensor(model, MODEL_K_BIAS, layer, kv_rows, 1, error)) ||
	    !(w->v_bias = read_tensor(model, MODEL_V_BIAS, layer, kv_rows, 1, error)))
		return error->status;
	return STATUS_OK;
}

static void reference_destroy(struct backend *b)
{
	if (!b)
		return;
	for (uint32_t l = 0; b->layers && l < b->options.layers; l++) {
		struct layer_weights *w = &b->layers[l];
		float *all[] = {w->attention_norm, w->q, w->k, w->v, w->o, w->q_bias, w->k_bias, w->v_bias,
				w->mlp_norm, w->gate, w->up, w->down};
		for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
			mem_free(all[i]);
	}
	void *buffers[] = {b->layers, b->hidden, b->keys, b->values, b->kept_keys, b->kept_values, b->cosines,
			   b->sines, b->normed, b->query, b->mixed, b->gate, b->scores, b->embedding_row,
			   b->readout_row, b};
	for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
		mem_free(buffers[i]);
}

static enum status reference_create(const struct model_view *model, const struct backend_options *options,
				    struct backend **out, struct error *error)
{
	struct error unused = {0};
	if (!error)
		error = &unused;
	const struct model_config *c = &model->config;
	if (options->precision && strcmp(options->precision, "bf16") == 0)
		return error_set(error, STATUS_UNSUPPORTED,
				 "scorer.precision bf16: the reference backend computes in double only");
	struct backend *b = mem_alloc_zero(1, sizeof *b);
	if (!b)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the reference backend");
	b->model = *model;
	b->options = *options;
	size_t kv = (size_t)c->kv_heads * c->head_size, query = (size_t)c->heads * c->head_size;
	size_t kept = (size_t)options->layers * options->instruction_max;
	b->layers = mem_alloc_zero(options->layers, sizeof *b->layers);
	b->hidden = mem_alloc_zero(options->rows_max, c->hidden_size * sizeof(double));
	b->keys = mem_alloc_zero(options->rows_max, kv * sizeof(double));
	b->values = mem_alloc_zero(options->rows_max, kv * sizeof(double));
	b->kept_keys = mem_alloc_zero(kept, kv * sizeof(double));
	b->kept_values = mem_alloc_zero(kept, kv * sizeof(double));
	b->cosines = mem_alloc_zero(options->positions_max, c->head_size / 2 * sizeof(float));
	b->sines = mem_alloc_zero(options->positions_max, c->head_size / 2 * sizeof(float));
	b->normed = mem_alloc_zero(c->hidden_size, sizeof(double));
	b->query = mem_alloc_zero(query, sizeof(double));
	b->mixed = mem_alloc_zero(query, sizeof(double));
	b->gate = mem_alloc_zero(c->intermediate_size, sizeof(double));
	b->scores = mem_alloc_zero(options->positions_max, sizeof(double));
	b->embedding_row = mem_alloc_zero(c->hidden_size, sizeof(float));
	b->readout_row = mem_alloc_zero(c->hidden_size, sizeof(float));
	enum status status = STATUS_OK;
	if (!b->layers || !b->hidden || !b->keys || !b->values || !b->kept_keys || !b->kept_values ||
	    !b->cosines || !b->sines || !b->normed || !b->query || !b->mixed || !b->gate || !b->scores ||
	    !b->embedding_row || !b->readout_row) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for the buffers of %u tokens",
				   options->rows_max);
		goto cleanup;
	}
	rope_tables(c, options->positions_max, b->cosines, b->sines);
	for (uint32_t l = 0; l < options->layers; l++)
		if ((status = load_layer(model, l, &b->layers[l], error)))
			goto cleanup;
	*out = b;
	return STATUS_OK;
cleanup:
	reference_destroy(b);
	return status;
}

static const char *reference_describe(const struct backend *b)
{
	(void)b;
	return "reference: plain C in double, 1 thread";
}

static enum status embed(struct backend *b, const struct batch *batch, struct error *error)
{
	uint32_t width = b->model.config.hidden_size;
	for (uint32_t row = 0; row < batch->rows; row++) {
		enum status status = b->model.read(b->model.context, MODEL_EMBEDDING, 0,
						   (uint32_t)batch->ids[row], 1, b->embedding_row, error);
		if (status)
			return status;
		for (uint32_t i = 0; i < width; i++)
			b->hidden[(size_t)row * width + i] = b->embedding_row[i];
	}
	return STATUS_OK;
}

static void rms_norm(size_t count, const double *x, const float *weight, double epsilon, double *out)
{
	double squares = 0;
	for (size_t i = 0; i < count; i++)
		squares += x[i] * x[i];
	double scale = 1 / sqrt(squares / (double)count + epsilon);
	for (size_t i = 0; i < count; i++)
		out[i] = x[i] * scale * weight[i];
}

/* out[rows] = weights[rows, columns] x + bias */
static void multiply(size_t rows, size_t columns, const float *weights, const float *bias, const double *x,
		     double *out)
{
	for (size_t row = 0; row < rows; row++) {
		const float *w = weights + row * columns;
		double sum = bias ? bias[row] : 0;
		for (size_t i = 0; i < columns; i++)
			sum += w[i] * x[i];
		out[row] = sum;
	}
}

static void rotate(const struct backend *b, uint32_t heads, uint32_t position, double *x)
{
	uint32_t half = b->model.config.head_size / 2;
	const float *cosine = b->cosines + (size_t)position * half,
		    *sine = b->sines + (size_t)position * half;
	for (uint32_t h = 0; h < heads; h++, x += 2 * half)
		for (uint32_t i = 0; i < half; i++) {
			double first = x[i], second = x[i + half];
			x[i] = first * cosine[i] - second * sine[i];
			x[i + half] = second * cosine[i] + first * sine[i];
		}
}

static void keys_values(struct backend *b, uint32_t layer, const struct batch *batch)
{
	const struct model_config *c = &b->model.config;
	const struct layer_weights *w = &b->layers[layer];
	size_t kv = (size_t)c->kv_heads * c->head_size;
	for (uint32_t row = 0; row < batch->rows; row++) {
		double *key = b->keys + row * kv, *value = b->values + row * kv;
		rms_norm(c->hidden_size, b->hidden + (size_t)row * c->hidden_size, w->attention_norm,
			 c->rms_norm_eps, b->normed);
		multiply(kv, c->hidden_size, w->k, w->k_bias, b->normed, key);
		multiply(kv, c->hidden_size, w->v, w->v_bias, b->normed, value);
		rotate(b, c->kv_heads, batch->positions[row], key);
	}
}

/* Where the key or value of a position lies for a row of this segment. */
static const double *at_position(const struct batch *batch, const struct batch_segment *segment,
				 uint32_t position, const double *kept, const double *rows, size_t kv)
{
	if (position < batch->instruction)
		return kept + position * kv;
	if (position < segment->first_position) {
		const struct batch_segment *prefix = &batch->segments[segment->prefix];
		return rows + (prefix->first_row + position - prefix->first_position) * kv;
	}
	return rows + (segment->first_row + position - segment->first_position) * kv;
}

static void attend(struct backend *b, uint32_t layer, const struct batch *batch, uint32_t row)
{
	const struct model_config *c = &b->model.config;
	const struct batch_segment *segment = &batch->segments[batch->row_segment[row]];
	size_t kv = (size_t)c->kv_heads * c->head_size, H = c->head_size;
	const double *kept_keys = b->kept_keys + (size_t)layer * b->options.instruction_max * kv;
	const double *kept_values = b->kept_values + (size_t)layer * b->options.instruction_max * kv;
	uint32_t count = batch->positions[row] + 1, group = c->heads / c->kv_heads;
	for (uint32_t head = 0; head < c->heads; head++) {
		const double *query = b->query + head * H;
		size_t offset = head / group * H;
		double max = -INFINITY, sum = 0;
		for (uint32_t p = 0; p < count; p++) {
			const double *key = at_position(batch, segment, p, kept_keys, b->keys, kv) + offset;
			double score = 0;
			for (size_t i = 0; i < H; i++)
				score += query[i] * key[i];
			b->scores[p] = score / sqrt((double)H);
			max = b->scores[p] > max ? b->scores[p] : max;
		}
		double *mixed = b->mixed + head * H;
		for (size_t i = 0; i < H; i++)
			mixed[i] = 0;
		for (uint32_t p = 0; p < count; p++) {
			const double *value =
			    at_position(batch, segment, p, kept_values, b->values, kv) + offset;
			double weight = exp(b->scores[p] - max);
			sum += weight;
			for (size_t i = 0; i < H; i++)
				mixed[i] += weight * value[i];
		}
		for (size_t i = 0; i < H; i++)
			mixed[i] /= sum;
	}
}

static void finish(struct backend *b, uint32_t layer, const struct batch *batch, const uint32_t *rows,
		   uint32_t count)
{
	const struct model_config *c = &b->model.config;
	const struct layer_weights *w = &b->layers[layer];
	size_t query = (size_t)c->heads * c->head_size;
	for (uint32_t r = 0; r < count; r++) {
		uint32_t row = rows[r];
		double *x = b->hidden + (size_t)row * c->hidden_size;
		rms_norm(c->hidden_size, x, w->attention_norm, c->rms_norm_eps, b->normed);
		multiply(query, c->hidden_size, w->q, w->q_bias, b->normed, b->query);
		rotate(b, c->heads, batch->positions[row], b->query);
		attend(b, layer, batch, row);
		multiply(c->hidden_size, query, w->o, NULL, b->mixed, b->normed);
		for (uint32_t i = 0; i < c->hidden_size; i++)
			x[i] += b->normed[i];

		rms_norm(c->hidden_size, x, w->mlp_norm, c->rms_norm_eps, b->normed);
		for (uint32_t f = 0; f < c->intermediate_size; f++) {
			double gate, up;
			multiply(1, c->hidden_size, w->gate + (size_t)f * c->hidden_size, NULL, b->normed,
				 &gate);
			multiply(1, c->hidden_size, w->up + (size_t)f * c->hidden_size, NULL, b->normed, &up);
			b->gate[f] = gate / (1 + exp(-gate)) * up;
		}
		multiply(c->hidden_size, c->intermediate_size, w->down, NULL, b->gate, b->normed);
		for (uint32_t i = 0; i < c->hidden_size; i++)
			x[i] += b->normed[i];
	}
}

static void copy_hidden(struct backend *b, uint32_t row, float *out)
{
	uint32_t width = b->model.config.hidden_size;
	for (uint32_t i = 0; i < width; i++)
		out[i] = (float)b->hidden[(size_t)row * width + i];
}

static void read_rows(struct backend *b, const struct readout *readout, const uint32_t *rows, uint32_t count,
		      float *z)
{
	for (uint32_t r = 0; r < count; r++) {
		copy_hidden(b, rows[r], b->readout_row);
		readout_row(readout, b->model.config.hidden_size, b->model.config.rms_norm_eps,
			    b->readout_row, z + (size_t)r * readout->count);
	}
}

static void gather(struct backend *b, const uint32_t *kept, uint32_t count)
{
	size_t width = b->model.config.hidden_size;
	for (uint32_t i = 0; i < count; i++)
		if (kept[i] != i)
			memcpy(b->hidden + i * width, b->hidden + kept[i] * width, width * sizeof(double));
}

static void keep_instruction(struct backend *b, uint32_t layer, uint32_t count)
{
	size_t kv = (size_t)b->model.config.kv_heads * b->model.config.head_size;
	size_t offset = (size_t)layer * b->options.instruction_max * kv;
	memcpy(b->kept_keys + offset, b->keys, count * kv * sizeof(double));
	memcpy(b->kept_values + offset, b->values, count * kv * sizeof(double));
}

const struct backend_table backend_reference = {
	.name = "reference",
	.create = reference_create,
	.destroy = reference_destroy,
	.describe = reference_describe,
	.embed = embed,
	.keys_values = keys_values,
	.finish = finish,
	.read = read_rows,
	.gather = gather,
	.keep_instruction = keep_instruction,
	.hidden = copy_hidden,
};
