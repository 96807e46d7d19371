/* cuda_weights.c - from a checkpoint's rows to joined fp16 matrices on the device.
 * Invariant: never more than one piece of the model is held on the host. Caller: cuda_backend.c at creation. */
#include "scorer/cuda_weights.h"

#include "base/mem.h"
#include "scorer/half.h"

enum { PIECE_VALUES = 1 << 20 };

struct loader {
	const struct model_view *model;
	const struct device_table *table;
	struct device *device;
	float *piece;                   /* [piece_values] */
	device_half *rounded;           /* [piece_values] */
	size_t piece_values;
	const struct advance *advance;
	uint64_t done, total;           /* bytes on their way to the device */
};

uint64_t cuda_weights_bytes(const struct model_config *c, uint32_t layers)
{
	uint64_t width = c->hidden_size, query = (uint64_t)c->heads * c->head_size;
	uint64_t qkv = query + 2ull * c->kv_heads * c->head_size;
	uint64_t layer = (width * (qkv + query + 3ull * c->intermediate_size)) * sizeof(device_half) +
			 (2 * width + (c->qkv_bias ? qkv : 0)) * sizeof(float);
	return layer * layers + width * c->vocabulary * sizeof(device_half);
}

static bool are_finite(const device_half *numbers, size_t count)
{
	bool finite = true;
	for (size_t i = 0; i < count; i++)
		finite &= (numbers[i] & 0x7c00) != 0x7c00;
	return finite;
}

/* A tensor to fp16 rows at `to`. */
static enum status load_matrix(struct loader *l, enum model_tensor tensor, uint32_t layer, uint32_t rows,
			       uint32_t columns, device_half *to, struct error *error)
{
	uint32_t height = (uint32_t)(l->piece_values / columns);
	for (uint32_t first = 0; first < rows; first += height) {
		uint32_t count = rows - first < height ? rows - first : height;
		size_t values = (size_t)count * columns;
		enum status status =
		    l->model->read(l->model->context, tensor, layer, first, count, l->piece, error);
		if (status)
			return status;
		for (size_t i = 0; i < values; i++)
			l->rounded[i] = half_round(l->piece[i]);
		if (!are_finite(l->rounded, values))
			return error_set(error, STATUS_UNSUPPORTED,
					 "layer %u has weights beyond fp16's 65,504; scorer.backend cpu takes them",
					 layer + 1);
		status = l->table->upload(l->device, to + (size_t)first * columns, l->rounded,
					  values * sizeof *l->rounded, error);
		if (status)
			return status;
		l->done += values * sizeof *l->rounded;
		advance_tell(l->advance, "weights to the GPU", l->done, l->total);
	}
	return STATUS_OK;
}

/* Norms and biases stay fp32; the view counts their elements as rows. */
static enum status load_vector(struct loader *l, enum model_tensor tensor, uint32_t layer, uint32_t count,
			       float *to, struct error *error)
{
	enum status status = l->model->read(l->model->context, tensor, layer, 0, count, l->piece, error);
	return status ? status : l->table->upload(l->device, to, l->piece, count * sizeof *to, error);
}

static enum status take(struct loader *l, size_t count, size_t size, void *at, struct error *error)
{
	void *memory;
	enum status status = l->table->allocate(l->device, count * size, &memory, error);
	if (!status)
		memcpy(at, &memory, sizeof memory);
	return status;
}

static enum status load_layer(struct loader *l, uint32_t layer, struct cuda_layer *w, struct error *error)
{
	const struct model_config *c = &l->model->config;
	uint32_t width = c->hidden_size, inner = c->intermediate_size;
	uint32_t query = c->heads * c->head_size, kv = c->kv_heads * c->head_size, all = query + 2 * kv;
	enum status status;
	if ((status = take(l, (size_t)all * width, sizeof *w->qkv, &w->qkv, error)) ||
	    (status = take(l, (size_t)width * query, sizeof *w->o, &w->o, error)) ||
	    (status = take(l, 2 * (size_t)inner * width, sizeof *w->gate_up, &w->gate_up, error)) ||
	    (status = take(l, (size_t)width * inner, sizeof *w->down, &w->down, error)) ||
	    (status = take(l, width, sizeof *w->attention_norm, &w->attention_norm, error)) ||
	    (status = take(l, width, sizeof *w->mlp_norm, &w->mlp_norm, error)) ||
	    (status = load_matrix(l, MODEL_Q, layer, query, width, w->qkv, error)) ||
	    (status = load_matrix(l, MODEL_K, layer, kv, width, w->qkv + (size_t)query * width, error)) ||
	    (status = load_matrix(l, MODEL_V, layer, kv, width, w->qkv + (size_t)(query + kv) * width, error)) ||
	    (status = load_matrix(l, MODEL_O, layer, width, query, w->o, error)) ||
	    (status = load_matrix(l, MODEL_GATE, layer, inner, width, w->gate_up, error)) ||
	    (status = load_matrix(l, MODEL_UP, layer, inner, width, w->gate_up + (size_t)inner * width, error)) ||
	    (status = load_matrix(l, MODEL_DOWN, layer, width, inner, w->down, error)) ||
	    (status = load_vector(l, MODEL_ATTENTION_NORM, layer, width, w->attention_norm, error)) ||
	    (status = load_vector(l, MODEL_MLP_NORM, layer, width, w->mlp_norm, error)))
		return status;
	if (!c->qkv_bias)
		return STATUS_OK;
	if ((status = take(l, all, sizeof *w->qkv_bias, &w->qkv_bias, error)) ||
	    (status = load_vector(l, MODEL_Q_BIAS, layer, query, w->qkv_bias, error)) ||
	    (status = load_vector(l, MODEL_K_BIAS, layer, kv, w->qkv_bias + query, error)))
		return status;
	return load_vector(l, MODEL_V_BIAS, layer, kv, w->qkv_bias + query + kv, error);
}

static size_t largest(const struct model_config *c)
{
	size_t columns = c->hidden_size, query = (size_t)c->heads * c->head_size;
	columns = columns > query ? columns : query;
	columns = columns > c->intermediate_size ? columns : c->intermediate_size;
	return columns > PIECE_VALUES ? columns : PIECE_VALUES;
}

enum status cuda_weights_load(const struct model_view *model, uint32_t layers, const struct device_table *table,
			      struct device *device, const struct advance *loading, struct cuda_weights *out,
			      struct error *error)
{
	const struct model_config *c = &model->config;
	struct loader loader = {
		.model = model, .table = table, .device = device, .piece_values = largest(c), .advance = loading,
		.total = cuda_weights_bytes(c, layers),
	};
	enum status status = STATUS_OK;
	if (layers > CUDA_LAYERS_MAX)
		return error_set(error, STATUS_UNSUPPORTED, "%u layers; at most %d", layers, CUDA_LAYERS_MAX);
	loader.piece = mem_alloc_array(loader.piece_values, sizeof *loader.piece);
	loader.rounded = mem_alloc_array(loader.piece_values, sizeof *loader.rounded);
	if (!loader.piece || !loader.rounded) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory to read weights into");
		goto cleanup;
	}
	if ((status = take(&loader, (size_t)c->vocabulary * c->hidden_size, sizeof *out->embedding,
			   &out->embedding, error)) ||
	    (status = load_matrix(&loader, MODEL_EMBEDDING, 0, c->vocabulary, c->hidden_size, out->embedding,
				  error)))
		goto cleanup;
	for (uint32_t layer = 0; !status && layer < layers; layer++)
		status = load_layer(&loader, layer, &out->layers[layer], error);
cleanup:
	mem_free(loader.piece);
	mem_free(loader.rounded);
	return status;
}
