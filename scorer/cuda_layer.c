/* cuda_layer.c - the launches of one layer, in order. Invariant: nothing here waits, and a row's bits depend on no
 * other row. Caller: cuda_backend.c, cuda_pass.c. */
#include "scorer/cuda_layer.h"

uint64_t cuda_layer_width(const struct model_config *c)
{
	return ((uint64_t)c->heads + 2 * c->kv_heads) * c->head_size;
}

uint32_t cuda_layer_tile_rows(const struct model_config *c)
{
	return DEVICE_TILE_QUERIES / (c->heads / c->kv_heads);
}

device_half *cuda_layer_kept(const struct backend *b, uint32_t layer)
{
	return b->kept + (size_t)layer * b->options.instruction_max * 2 * b->config.kv_heads * b->config.head_size;
}

static void multiply(struct backend *b, const device_half *x, const device_half *weights, device_half *out,
		     uint32_t rows, uint64_t columns, uint64_t depth, float scale)
{
	b->device_table->product(b->device, &(struct product_work){
		.x = x, .weights = weights, .out = out, .rows = rows, .columns = (uint32_t)columns,
		.depth = (uint32_t)depth, .scale = scale,
	});
}

/* hidden[list] += delta, then their norm; weight NULL: the sum alone. */
static void add_and_norm(struct backend *b, const device_half *delta, const uint32_t *list, uint32_t count,
			 const uint32_t *live, const float *weight)
{
	b->device_table->norm(b->device, &(struct norm_work){
		.hidden = b->hidden[b->current], .delta = delta, .rows = list, .weight = weight,
		.normed = b->normed, .count = count, .width = b->config.hidden_size,
		.epsilon = b->config.rms_norm_eps, .live = live,
	});
}

void cuda_layer_begin(struct backend *b, uint32_t layer, const uint32_t *positions, uint32_t count,
		      const uint32_t *live)
{
	const struct model_config *c = &b->config;
	const struct cuda_layer *w = &b->weights.layers[layer];
	add_and_norm(b, NULL, NULL, count, live, w->attention_norm);
	multiply(b, b->normed, w->qkv, b->qkv, count, cuda_layer_width(c), c->hidden_size, 1);
	b->device_table->rope(b->device, &(struct rope_work){
		.qkv = b->qkv, .bias = w->qkv_bias, .positions = positions, .cosines = b->cosines,
		.sines = b->sines, .count = count, .heads = c->heads, .kv_heads = c->kv_heads,
		.head_size = c->head_size, .live = live,
	});
}

void cuda_layer_finish(struct backend *b, uint32_t layer, const struct cuda_rows *rows)
{
	const struct model_config *c = &b->config;
	const struct cuda_layer *w = &b->weights.layers[layer];
	uint32_t count = rows->count;
	b->device_table->attention(b->device, &(struct attention_work){
		.qkv = b->qkv, .kept = cuda_layer_kept(b, layer), .tiles = rows->tiles, .segments = rows->segments,
		.rows = rows->list, .mixed = b->mixed, .tiles_count = rows->tiles_count,
		.instruction = rows->instruction, .heads = c->heads, .kv_heads = c->kv_heads,
		.head_size = c->head_size, .live = rows->tiles_live,
	});
	multiply(b, b->mixed, w->o, b->delta, count, c->hidden_size, (uint64_t)c->heads * c->head_size,
		 1 / DEVICE_SHRINK);
	add_and_norm(b, b->delta, rows->list, count, rows->live, w->mlp_norm);
	multiply(b, b->normed, w->gate_up, b->gate_up, count, 2ull * c->intermediate_size, c->hidden_size, 1);
	b->device_table->swiglu(b->device, &(struct swiglu_work){
		.gate_up = b->gate_up, .out = b->gated, .count = count, .width = c->intermediate_size,
		.live = rows->live,
	});
	/* Shrunken in, shrunken out. */
	multiply(b, b->gated, w->down, b->delta, count, c->hidden_size, c->intermediate_size, 1);
	add_and_norm(b, b->delta, rows->list, count, rows->live, NULL);
}
