/* cuda_backend.c - which rows the GPU works on, in which order; the device's table does the rest.
 *
 * Everything is queued: the host waits where it reads numbers (read, hidden) and nowhere else. All memory
 * is taken at creation. Residual rows are fp32, what meets a matrix is fp16. Queries, keys and values of
 * all rows come from one product, gate and up from another. Invariant: a row's bits depend on no other row
 * (kernels.cu, attention.cu, runtime.cu each say why).
 * Caller: forward.c through the table. */
#include "scorer/cuda_backend.h"

#include "base/mem.h"
#include "scorer/cuda_layer.h"
#include "scorer/cuda_library.h"
#include "scorer/cuda_pass.h"

#include <math.h>
#include <stdio.h>

enum { HEAD_SIZE_MAX = 128 };

static uint64_t padded(uint64_t rows)
{
	return (rows + DEVICE_PRODUCT_ROWS - 1) / DEVICE_PRODUCT_ROWS * DEVICE_PRODUCT_ROWS;
}

/* A segment has at least a row, or is an empty prefix before one that has. */
static uint32_t segments_for(uint32_t rows)
{
	return 2 * rows + 1;
}

void cuda_needs_of(const struct model_config *c, const struct backend_options *options, struct cuda_needs *out)
{
	uint64_t query = (uint64_t)c->heads * c->head_size, half = c->head_size / 2;
	out->weights = cuda_weights_bytes(c, options->layers);
	out->each_row = (uint64_t)c->hidden_size * (2 * sizeof(float) + 2 * sizeof(device_half)) +
			(cuda_layer_width(c) + query + 3ull * c->intermediate_size) * sizeof(device_half) +
			sizeof(int32_t) + 3 * sizeof(uint32_t) + sizeof(struct device_tile) +
			2 * sizeof(struct device_segment) + cuda_pass_bytes_of_row(options->layers);
	out->fixed = (uint64_t)options->layers * options->instruction_max * 2 * c->kv_heads * c->head_size *
			     sizeof(device_half) +
		     2 * options->positions_max * half * sizeof(float) + (64ull << 20);
}

enum status cuda_find(struct device_facts *out, struct error *error)
{
	const struct device_table *table;
	*out = (struct device_facts){0};
	enum status status = cuda_library_open(&table, error);
	return status ? status : table->find(out, error);
}

static enum status check_shape(const struct model_config *c, struct error *error)
{
	if (c->head_size % 8 || c->head_size > HEAD_SIZE_MAX)
		return error_set(error, STATUS_UNSUPPORTED,
				 "scorer.backend cuda: heads of %u; want a multiple of 8, at most %d", c->head_size,
				 HEAD_SIZE_MAX);
	if (c->heads / c->kv_heads > DEVICE_TILE_QUERIES)
		return error_set(error, STATUS_UNSUPPORTED,
				 "scorer.backend cuda: %u query heads share a key head; at most %d",
				 c->heads / c->kv_heads, DEVICE_TILE_QUERIES);
	if (c->hidden_size % 8 || c->intermediate_size % 8)
		return error_set(error, STATUS_UNSUPPORTED,
				 "scorer.backend cuda: widths %u and %u; want multiples of 8", c->hidden_size,
				 c->intermediate_size);
	return STATUS_OK;
}

static enum status check_room(const struct model_config *c, const struct backend_options *options,
			      const struct device_facts *facts, struct error *error)
{
	struct cuda_needs needs;
	cuda_needs_of(c, options, &needs);
	uint64_t rows = padded(options->rows_max) * needs.each_row, base = needs.weights + needs.fixed;
	if (base + rows <= facts->free_bytes)
		return STATUS_OK;
	uint64_t fitting = base < facts->free_bytes ? (facts->free_bytes - base) / needs.each_row : 0;
	return error_set(error, STATUS_NO_MEMORY,
			 "%s has %.2f GB free; weights need %.2f GB, a batch of %u tokens %.2f GB: "
			 "%llu tokens fit (scorer.batch_tokens_max)",
			 facts->name, (double)facts->free_bytes / 1e9, (double)base / 1e9, options->rows_max,
			 (double)rows / 1e9, (unsigned long long)fitting);
}

/* Is a precision that was asked for this backend's? */
static bool cuda_computes(const char *precision)
{
	return !precision || strcmp(precision, "auto") == 0 || strcmp(precision, "fp16") == 0;
}

bool cuda_is_better(const struct model_config *config, const struct backend_options *options,
		    struct error *error)
{
	struct device_facts facts;
	if (!cuda_computes(options->precision)) {
		error_set(error, STATUS_UNAVAILABLE, "scorer.precision %.16s is not the GPU's", options->precision);
		return false;
	}
	if (cuda_find(&facts, error) || check_shape(config, error) || check_room(config, options, &facts, error))
		return false;
	if (facts.emulated) {
		error_set(error, STATUS_UNAVAILABLE, "the device is emulated; scorer.backend cuda would take it");
		return false;
	}
	return true;
}

static void cuda_destroy(struct backend *b)
{
	if (!b)
		return;
	if (b->device_table)
		b->device_table->close(b->device);
	cuda_pass_destroy(b->pass);
	mem_free(b->host_tiles);
	mem_free(b->host_segments);
	mem_free(b->host_row);
	mem_free(b);
}

static enum status take_memory(struct backend *b, struct error *error)
{
	const struct model_config *c = &b->config;
	const struct backend_options *o = &b->options;
	size_t rows = padded(o->rows_max), width = c->hidden_size, query = (size_t)c->heads * c->head_size;
	size_t kept = (size_t)o->layers * o->instruction_max * 2 * c->kv_heads * c->head_size;
	size_t angles = (size_t)o->positions_max * (c->head_size / 2);
	const struct {
		void *at;
		size_t count, size;
	} pieces[] = {
		{&b->hidden[0], rows * width, sizeof(float)}, {&b->hidden[1], rows * width, sizeof(float)},
		{&b->normed, rows * width, sizeof(device_half)}, {&b->delta, rows * width, sizeof(device_half)},
		{&b->qkv, rows * cuda_layer_width(c), sizeof(device_half)}, {&b->mixed, rows * query, sizeof(device_half)},
		{&b->gate_up, rows * 2 * c->intermediate_size, sizeof(device_half)},
		{&b->gated, rows * c->intermediate_size, sizeof(device_half)},
		{&b->kept, kept, sizeof(device_half)}, {&b->cosines, angles, sizeof(float)},
		{&b->sines, angles, sizeof(float)}, {&b->ids, rows, sizeof(int32_t)},
		{&b->positions, rows, sizeof(uint32_t)}, {&b->rows, rows, sizeof(uint32_t)},
		{&b->tiles, b->tiles_max, sizeof(struct device_tile)},
		{&b->segments, b->segments_max, sizeof(struct device_segment)},
		{&b->readout, 2 * width, sizeof(float)}, {&b->z, rows, sizeof(float)},
	};
	for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
		void *memory;
		enum status status = b->device_table->allocate(b->device, pieces[i].count * pieces[i].size,
							       &memory, error);
		if (status)
			return status;
		memcpy(pieces[i].at, &memory, sizeof memory);
	}
	b->host_tiles = mem_alloc_array(b->tiles_max, sizeof *b->host_tiles);
	b->host_segments = mem_alloc_array(b->segments_max, sizeof *b->host_segments);
	b->host_row = mem_alloc_array(width, sizeof *b->host_row);
	if (!b->host_tiles || !b->host_segments || !b->host_row)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the lists of %u rows", o->rows_max);
	return STATUS_OK;
}

static enum status upload_angles(struct backend *b, struct error *error)
{
	size_t count = (size_t)b->options.positions_max * (b->config.head_size / 2);
	float *cosines = mem_alloc_array(2 * count, sizeof *cosines);
	if (!cosines)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %u positions", b->options.positions_max);
	rope_tables(&b->config, b->options.positions_max, cosines, cosines + count);
	enum status status =
	    b->device_table->upload(b->device, b->cosines, cosines, count * sizeof(float), error);
	if (!status)
		status = b->device_table->upload(b->device, b->sines, cosines + count, count * sizeof(float),
						 error);
	mem_free(cosines);
	return status;
}

static enum status prepare_products(struct backend *b, struct error *error)
{
	const struct model_config *c = &b->config;
	uint32_t query = c->heads * c->head_size;
	const uint32_t shapes[][2] = {
		{(uint32_t)cuda_layer_width(c), c->hidden_size}, {c->hidden_size, query},
		{2 * c->intermediate_size, c->hidden_size}, {c->hidden_size, c->intermediate_size},
	};
	enum status status = STATUS_OK;
	for (size_t i = 0; !status && i < sizeof shapes / sizeof shapes[0]; i++)
		status = b->device_table->prepare_product(b->device, shapes[i][0], shapes[i][1], error);
	return status;
}

static enum status cuda_create(const struct model_view *model, const struct backend_options *options,
			       struct backend **out, struct error *error)
{
	struct device_facts facts = {0};
	enum status status;
	if (!cuda_computes(options->precision))
		return error_set(error, STATUS_UNSUPPORTED,
				 "scorer.precision %.16s: the cuda backend computes in fp16 with fp32 sums (auto, fp16)",
				 options->precision);
	struct backend *b = mem_alloc_zero(1, sizeof *b);
	if (!b)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the cuda backend");
	b->config = model->config;
	b->options = *options;
	b->segments_max = segments_for(options->rows_max);
	b->tiles_max = options->rows_max;
	if ((status = check_shape(&b->config, error)) ||
	    (status = cuda_library_open(&b->device_table, error)) ||
	    (status = b->device_table->find(&facts, error)) ||
	    (status = check_room(&b->config, options, &facts, error)) ||
	    (status = b->device_table->open((uint32_t)padded(options->rows_max), &b->device, error)) ||
	    (status = prepare_products(b, error)) || (status = take_memory(b, error)) ||
	    (status = upload_angles(b, error)) ||
	    (status = cuda_weights_load(model, options->layers, b->device_table, b->device, options->loading,
				       &b->weights, error)) ||
	    (status = b->device_table->wait(b->device, error))) {
		if (error)
			error_prefix(error, "scorer.backend cuda");
		cuda_destroy(b);
		return status;
	}
	b->multiprocessors = facts.multiprocessors;
	snprintf(b->description, sizeof b->description, "cuda: fp16 with fp32 sums, %s (%u.%u, CUDA %u.%u)%s",
		 facts.name, facts.major, facts.minor, facts.runtime / 1000, facts.runtime % 1000 / 10,
		 facts.emulated ? ": for tests, slow" : "");
	*out = b;
	return STATUS_OK;
}

static const char *cuda_describe(const struct backend *b)
{
	return b->description;
}

/* ---- a batch ---- */

static void send(struct backend *b, void *to, const void *from, size_t count, size_t size)
{
	struct error error = {0};
	if (b->device_table->upload(b->device, to, from, count * size, &error) && !b->trouble.status)
		b->trouble = error;
}

/* Cuts a list of rows into tiles: neighbours of one segment, as many as there is room for queries. */
static uint32_t cut_tiles(struct backend *b, const struct batch *batch, const uint32_t *rows, uint32_t count)
{
	uint32_t height = cuda_layer_tile_rows(&b->config), tiles = 0;
	for (uint32_t first = 0; first < count;) {
		uint32_t segment = batch->row_segment[rows ? rows[first] : first], end = first + 1;
		while (end < count && end - first < height &&
		       batch->row_segment[rows ? rows[end] : end] == segment)
			end++;
		b->host_tiles[tiles++] = (struct device_tile){first, end - first, segment};
		first = end;
	}
	send(b, b->tiles, b->host_tiles, tiles, sizeof *b->host_tiles);
	return tiles;
}

static void send_layout(struct backend *b, const struct batch *batch)
{
	for (uint32_t s = 0; s < batch->segments_count; s++) {
		const struct batch_segment *segment = &batch->segments[s];
		struct device_segment *to = &b->host_segments[s];
		*to = (struct device_segment){.first_row = segment->first_row, .count = segment->count};
		if (segment->prefix != BATCH_NO_PREFIX) {
			to->prefix_row = batch->segments[segment->prefix].first_row;
			to->prefix_count = batch->segments[segment->prefix].count;
		}
	}
	send(b, b->segments, b->host_segments, batch->segments_count, sizeof *b->host_segments);
	send(b, b->positions, batch->positions, batch->rows, sizeof *batch->positions);
	b->stale = false;
}

static enum status embed(struct backend *b, const struct batch *batch, struct error *error)
{
	if (!b->trouble.status) {
		send(b, b->ids, batch->ids, batch->rows, sizeof *batch->ids);
		send_layout(b, batch);
		b->device_table->embed(b->device, &(struct embed_work){
			.ids = b->ids, .table = b->weights.embedding, .hidden = b->hidden[b->current],
			.count = batch->rows, .width = b->config.hidden_size,
		});
	}
	if (b->trouble.status)
		return error_set(error, b->trouble.status, "%s", b->trouble.text);
	return STATUS_OK;
}

static void keys_values(struct backend *b, uint32_t layer, const struct batch *batch)
{
	if (b->stale)
		send_layout(b, batch);
	cuda_layer_begin(b, layer, b->positions, batch->rows, NULL);
}

static void finish(struct backend *b, uint32_t layer, const struct batch *batch, const uint32_t *rows,
		   uint32_t count)
{
	bool all = count == batch->rows;
	if (!count)
		return;
	if (!all)
		send(b, b->rows, rows, count, sizeof *rows);
	cuda_layer_finish(b, layer, &(struct cuda_rows){
		.list = all ? NULL : b->rows, .count = count, .tiles = b->tiles,
		.tiles_count = cut_tiles(b, batch, all ? NULL : rows, count), .segments = b->segments,
		.instruction = batch->instruction,
	});
}

/* ---- looking at rows ---- */

static void fetch(struct backend *b, void *to, const void *from, size_t bytes)
{
	struct error error = {0};
	if (b->device_table->download(b->device, to, from, bytes, &error)) {
		if (!b->trouble.status)
			b->trouble = error;
		memset(to, 0xff, bytes);        /* NaN: nobody takes it for a number */
	}
}

static void copy_hidden(struct backend *b, uint32_t row, float *out)
{
	size_t width = b->config.hidden_size;
	fetch(b, out, b->hidden[b->current] + row * width, width * sizeof *out);
}

/* One vector, an exit head, is read on the device; the logit lens, which wants many, here. */
static void read_rows(struct backend *b, const struct readout *readout, const uint32_t *rows, uint32_t count,
		      float *z)
{
	uint32_t width = b->config.hidden_size;
	if (readout->count != 1) {
		for (uint32_t i = 0; i < count; i++) {
			copy_hidden(b, rows[i], b->host_row);
			readout_row(readout, width, b->config.rms_norm_eps, b->host_row,
				    z + (size_t)i * readout->count);
		}
		return;
	}
	send(b, b->readout, readout->norm, width, sizeof(float));
	send(b, b->readout + width, readout->vectors, width, sizeof(float));
	send(b, b->rows, rows, count, sizeof *rows);
	b->device_table->head(b->device, &(struct head_work){
		.hidden = b->hidden[b->current], .rows = b->rows, .norm = b->readout,
		.vector = b->readout + width, .z = b->z, .count = count, .width = width,
		.epsilon = b->config.rms_norm_eps,
	});
	fetch(b, z, b->z, count * sizeof *z);
}

static void gather(struct backend *b, const uint32_t *kept, uint32_t count)
{
	send(b, b->rows, kept, count, sizeof *kept);
	b->device_table->gather(b->device, &(struct gather_work){
		.from = b->hidden[b->current], .kept = b->rows, .to = b->hidden[!b->current], .count = count,
		.width = b->config.hidden_size,
	});
	b->current = !b->current;
	b->stale = true;
}

static void keep_instruction(struct backend *b, uint32_t layer, uint32_t count)
{
	size_t query = (size_t)b->config.heads * b->config.head_size * sizeof(device_half);
	size_t pitch = cuda_layer_width(&b->config) * sizeof(device_half);
	b->device_table->copy_rows(b->device, cuda_layer_kept(b, layer), pitch - query, (const char *)b->qkv + query, pitch,
				   pitch - query, count);
}

static enum status trouble(const struct backend *b, struct error *error)
{
	if (!b->trouble.status)
		return STATUS_OK;
	return error_set(error, b->trouble.status, "%s", b->trouble.text);
}

const struct backend_table backend_cuda = {
	.name = "cuda",
	.create = cuda_create,
	.destroy = cuda_destroy,
	.describe = cuda_describe,
	.embed = embed,
	.keys_values = keys_values,
	.finish = finish,
	.read = read_rows,
	.gather = gather,
	.keep_instruction = keep_instruction,
	.hidden = copy_hidden,
	.trouble = trouble,
	.pass_prepare = cuda_pass_prepare,
	.pass_start = cuda_pass_start,
	.pass_drive = cuda_pass_drive,
	.pass_collect = cuda_pass_collect,
};
