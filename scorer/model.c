/* model.c - what a checkpoint's tensors are called, and their rows as float32.
 *
 * Invariant: after model_open every tensor that the configuration asks for is there with the right shape
 * and a readable type, and no tensor is left over that would change the result. GGUF files of the llama
 * architecture store q and k with RoPE's pairs adjacent; model_read puts them back. Immutable, any thread. */
#include "scorer/model.h"

#include "scorer/checkpoint.h"
#include "scorer/lora.h"

#include <stdio.h>
#include <xxhash.h>

enum { SLOTS = MODEL_DOWN + 1 };

struct model {
	struct checkpoint checkpoint;
	struct lora *lora;              /* NULL: none */
	bool pairs_adjacent;            /* q and k rows as GGUF has them */
	const struct stored_tensor *(*slots)[SLOTS];    /* [layers]; the first three in layer 0 alone */
	char *folder;                   /* NULL: a GGUF file */
};

/* "%u" stands for the layer. */
static const struct {
	const char *hugging_face, *gguf;
} names[SLOTS] = {
	[MODEL_EMBEDDING] = {"model.embed_tokens.weight", "token_embd.weight"},
	[MODEL_FINAL_NORM] = {"model.norm.weight", "output_norm.weight"},
	[MODEL_HEAD] = {"lm_head.weight", "output.weight"},
	[MODEL_ATTENTION_NORM] = {"model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight"},
	[MODEL_Q] = {"model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight"},
	[MODEL_K] = {"model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight"},
	[MODEL_V] = {"model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight"},
	[MODEL_O] = {"model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight"},
	[MODEL_Q_BIAS] = {"model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias"},
	[MODEL_K_BIAS] = {"model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias"},
	[MODEL_V_BIAS] = {"model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias"},
	[MODEL_MLP_NORM] = {"model.layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight"},
	[MODEL_GATE] = {"model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight"},
	[MODEL_UP] = {"model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight"},
	[MODEL_DOWN] = {"model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight"},
};

static bool is_global(int slot)
{
	return slot <= MODEL_HEAD;
}

static bool is_bias(int slot)
{
	return slot >= MODEL_Q_BIAS && slot <= MODEL_V_BIAS;
}

/* columns 1: a vector of `rows`. */
static void shape_of(const struct model_config *config, int slot, uint32_t *rows, uint32_t *columns)
{
	uint32_t q_rows = config->heads * config->head_size, kv_rows = config->kv_heads * config->head_size;
	uint32_t hidden = config->hidden_size;

	switch (slot) {
	case MODEL_EMBEDDING: case MODEL_HEAD: *rows = config->vocabulary, *columns = hidden; break;
	case MODEL_Q: *rows = q_rows, *columns = hidden; break;
	case MODEL_K: case MODEL_V: *rows = kv_rows, *columns = hidden; break;
	case MODEL_O: *rows = hidden, *columns = q_rows; break;
	case MODEL_Q_BIAS: *rows = q_rows, *columns = 1; break;
	case MODEL_K_BIAS: case MODEL_V_BIAS: *rows = kv_rows, *columns = 1; break;
	case MODEL_GATE: case MODEL_UP: *rows = config->intermediate_size, *columns = hidden; break;
	case MODEL_DOWN: *rows = hidden, *columns = config->intermediate_size; break;
	default: *rows = hidden, *columns = 1; break;
	}
}

static const struct stored_tensor *find(const struct model *model, int slot, uint32_t layer, char name[128])
{
	const char *format = model->checkpoint.gguf ? names[slot].gguf : names[slot].hugging_face;
	const char *place = strstr(format, "%u");

	if (place)
		snprintf(name, 128, "%.*s%u%s", (int)(place - format), format, layer, place + 2);
	else
		snprintf(name, 128, "%s", format);
	return tensor_table_find(&model->checkpoint.table, text_of(name));
}

static enum status check_tensor(const struct model_config *config, int slot,
				const struct stored_tensor *tensor, struct error *error)
{
	uint32_t rows, columns;
	bool vector;

	shape_of(config, slot, &rows, &columns);
	vector = slot == MODEL_FINAL_NORM || slot == MODEL_ATTENTION_NORM || slot == MODEL_MLP_NORM ||
		 is_bias(slot);
	if (vector ? tensor->rank != 1 || tensor->shape[0] != rows :
	    tensor->rank != 2 || tensor->shape[0] != rows || tensor->shape[1] != columns) {
		unsigned long long found[2] = {tensor->rank > 0 ? tensor->shape[0] : 0,
					       tensor->rank > 1 ? tensor->shape[1] : 0};
		return mapped_file_corrupt(tensor->file, tensor->offset, error,
					   "%s has rank %u and shape [%llu, %llu, ...]; the configuration "
					   "asks for [%u, %u]", tensor->name, tensor->rank, found[0],
					   found[1], rows, columns);
	}
	if (!tensor_type_readable(tensor->type))
		return error_set(error, STATUS_UNSUPPORTED, "%s: %s is %s; F32, F16 and BF16 are read",
				 tensor->file->path, tensor->name, tensor_type_name(tensor->type));
	return STATUS_OK;
}

static enum status resolve_slot(struct model *model, int slot, uint32_t layer, struct error *error)
{
	const struct model_config *config = &model->checkpoint.config;
	const struct stored_tensor *tensor;
	char name[128], other[128];

	if (is_bias(slot) && !config->qkv_bias)
		return STATUS_OK;
	tensor = find(model, slot, layer, name);
	/* Tied weights are stored once, under either name. */
	if (config->tied && slot == MODEL_EMBEDDING && !tensor)
		tensor = find(model, MODEL_HEAD, layer, other);
	if (config->tied && slot == MODEL_HEAD)
		tensor = model->slots[0][MODEL_EMBEDDING];
	if (!tensor)
		return error_set(error, STATUS_CORRUPT, "%s: tensor %s is missing (of %zu tensors)",
				 model->checkpoint.files[0].path, name, model->checkpoint.table.count);
	model->slots[layer][slot] = tensor;
	return check_tensor(config, slot, tensor, error);
}

static bool is_rope_table_of_ones(const struct stored_tensor *tensor)
{
	if (strcmp(tensor->name, "rope_freqs.weight") != 0 || tensor->type != TENSOR_F32)
		return false;
	for (uint64_t i = 0; i < tensor->bytes / 4; i++) {
		float value;
		memcpy(&value, tensor->data + 4 * i, sizeof(value));
		if (value != 1.0f)
			return false;
	}
	return true;
}

/* A tensor that nobody reads may be a bias or a norm of a variant that we would compute wrongly. */
static enum status check_left_over(const struct model *model, struct error *error)
{
	static const char inverse_frequencies[] = "rotary_emb.inv_freq";
	const struct model_config *config = &model->checkpoint.config;
	const struct tensor_table *table = &model->checkpoint.table;

	for (size_t i = 0; i < table->count; i++) {
		const struct stored_tensor *tensor = &table->tensors[i];
		size_t end = sizeof(inverse_frequencies) - 1;
		bool used = false;
		for (uint32_t layer = 0; layer < config->layers && !used; layer++)
			for (int slot = 0; slot < SLOTS && !used; slot++)
				used = model->slots[layer][slot] == tensor;
		if (used || (config->tied && strcmp(tensor->name, names[MODEL_HEAD].hugging_face) == 0) ||
		    is_rope_table_of_ones(tensor))
			continue;
		if (tensor->name_size >= end && strcmp(tensor->name + tensor->name_size - end,
						       inverse_frequencies) == 0)
			continue;
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: tensor %.200s has no place in a %s model of %u "
				 "layers%s", tensor->file->path, tensor->name, config->architecture,
				 config->layers,
				 strcmp(tensor->name, "rope_freqs.weight") == 0 ?
				 " (llama3 RoPE scaling is read from a Hugging Face folder)" : "");
	}
	return STATUS_OK;
}

static enum status resolve(struct model *model, struct error *error)
{
	struct checkpoint *checkpoint = &model->checkpoint;
	char name[128];
	enum status status = STATUS_OK;

	model->slots = mem_alloc_zero(checkpoint->config.layers, sizeof(*model->slots));
	if (!model->slots)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a model");
	if (checkpoint->gguf) {
		checkpoint->config.tied = !find(model, MODEL_HEAD, 0, name);
		model->pairs_adjacent = strcmp(checkpoint->config.architecture, "llama") == 0;
	}
	for (uint32_t layer = 0; layer < checkpoint->config.layers; layer++)
		for (int slot = 0; slot < SLOTS && status == STATUS_OK; slot++)
			if (layer == 0 || !is_global(slot))
				status = resolve_slot(model, slot, layer, error);
	return status == STATUS_OK ? check_left_over(model, error) : status;
}

/* The last part of the path names a model whose files do not. */
static void name_model(struct model_config *config, const char *path)
{
	size_t end = strlen(path), start;

	if (config->name[0])
		return;
	while (end > 1 && path[end - 1] == '/')
		end--;
	for (start = end; start > 0 && path[start - 1] != '/'; start--)
		;
	snprintf(config->name, sizeof(config->name), "%.*s", (int)(end - start), path + start);
}

enum status model_open(const char *path, const char *adapter, struct model **out, struct error *error)
{
	struct model *model = mem_alloc_zero(1, sizeof(*model));
	enum status status;

	if (!model)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
	status = checkpoint_open(path, &model->checkpoint, error);
	if (status == STATUS_OK)
		status = resolve(model, error);
	if (status == STATUS_OK && adapter)
		status = lora_open(adapter, &model->checkpoint.config, &model->lora, error);
	if (status == STATUS_OK && !model->checkpoint.gguf) {
		model->folder = mem_copy_string(path);
		if (!model->folder)
			status = error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
	}
	if (status != STATUS_OK) {
		model_close(model);
		return status;
	}
	name_model(&model->checkpoint.config, path);
	*out = model;
	return STATUS_OK;
}

void model_close(struct model *model)
{
	if (!model)
		return;
	lora_close(model->lora);
	mem_free(model->slots);
	mem_free(model->folder);
	checkpoint_close(&model->checkpoint);
	mem_free(model);
}

const struct model_config *model_get_config(const struct model *model)
{
	return &model->checkpoint.config;
}

/* Row r of a head in rotate-half order is element (i, j) = (r % (H/2), r / (H/2)) of pairs (2i + j). */
static uint32_t adjacent_row(uint32_t row, uint32_t head_size)
{
	uint32_t half = head_size / 2, inside = row % head_size;
	return row - inside + 2 * (inside % half) + inside / half;
}

enum status model_read(const struct model *model, enum model_tensor tensor, uint32_t layer,
		       uint32_t first_row, uint32_t count, float *out, struct error *error)
{
	const struct model_config *config = &model->checkpoint.config;
	const struct stored_tensor *stored;
	uint32_t rows, columns;
	uint64_t row_bytes;
	bool reorder = model->pairs_adjacent && (tensor == MODEL_Q || tensor == MODEL_K ||
						 tensor == MODEL_Q_BIAS || tensor == MODEL_K_BIAS);

	if (layer >= config->layers && !is_global((int)tensor))
		return error_set(error, STATUS_INTERNAL, "layer %u of %u", layer, config->layers);
	stored = model->slots[is_global((int)tensor) ? 0 : layer][tensor];
	shape_of(config, (int)tensor, &rows, &columns);
	if (!stored)
		return error_set(error, STATUS_INTERNAL, "a %s model has no such bias", config->architecture);
	if (first_row > rows || count > rows - first_row)
		return error_set(error, STATUS_INTERNAL, "%s: rows %u to %llu of %u", stored->name, first_row,
				 (unsigned long long)first_row + count, rows);
	row_bytes = stored->bytes / rows;
	if (!reorder && columns > 1) {
		tensor_type_to_float(stored->type, stored->data + first_row * row_bytes,
				     (size_t)count * columns, out);
	} else if (columns > 1) {
		for (uint32_t i = 0; i < count; i++)
			tensor_type_to_float(stored->type,
					     stored->data + row_bytes *
					     adjacent_row(first_row + i, config->head_size),
					     columns, out + (size_t)i * columns);
	} else {
		/* A vector's blocks may span rows: convert block by block and pick. */
		uint32_t block = tensor_type_block(stored->type), at_block = UINT32_MAX;
		float values[32];
		for (uint32_t i = 0; i < count; i++) {
			uint32_t row = reorder ? adjacent_row(first_row + i, config->head_size) :
				first_row + i;
			if (row / block != at_block) {
				at_block = row / block;
				tensor_type_to_float(stored->type, stored->data +
						     (uint64_t)at_block * (stored->bytes / (rows / block)),
						     block, values);
			}
			out[i] = values[row % block];
		}
	}
	if (model->lora)
		lora_add(model->lora, tensor, layer, first_row, count, out);
	return STATUS_OK;
}

/* ---- content hash ---- */

static void hash_bytes(XXH3_state_t *state, const char *what, const void *bytes, uint64_t size)
{
	char label[96];
	int length = snprintf(label, sizeof(label), "%s %llu\n", what, (unsigned long long)size);

	/* Label and length before the bytes: no two lists of parts give the same stream. */
	XXH3_128bits_update(state, label, (size_t)length);
	XXH3_128bits_update(state, bytes, size);
}

/* The files beside the weights that decide about the ids; one that is absent counts as absent. */
static enum status hash_tokenizer(const struct model *model, XXH3_state_t *state, struct error *error)
{
	static const char *const files[] = {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"};

	for (size_t i = 0; model->folder && i < sizeof(files) / sizeof(files[0]); i++) {
		struct mapped_file file = {0};
		char *path = mapped_file_join(model->folder, files[i]);
		enum status status = STATUS_OK;
		if (!path)
			return error_set(error, STATUS_NO_MEMORY, "%s: no memory", model->folder);
		if (mapped_file_exists(path))
			status = mapped_file_open(path, &file, error);
		if (status == STATUS_OK && file.path)
			hash_bytes(state, files[i], file.bytes, file.size);
		mapped_file_close(&file);
		mem_free(path);
		if (status != STATUS_OK)
			return status;
	}
	return STATUS_OK;
}

enum status model_content_hash(const struct model *model, char hex[33], struct error *error)
{
	const struct checkpoint *checkpoint = &model->checkpoint;
	const struct tensor_table *table = &checkpoint->table;
	XXH3_state_t *state = XXH3_createState();
	XXH128_canonical_t canonical;
	enum status status;

	if (!state)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a hash");
	XXH3_128bits_reset(state);
	hash_bytes(state, checkpoint->gguf ? "gguf" : "config", checkpoint->files[0].bytes,
		   checkpoint->gguf ? gguf_data_start(checkpoint->gguf) : checkpoint->files[0].size);
	for (size_t i = 0; i < table->count; i++) {
		const struct stored_tensor *tensor = &table->tensors[i];
		hash_bytes(state, "name", tensor->name, tensor->name_size);
		hash_bytes(state, "shape", tensor->shape, tensor->rank * sizeof(tensor->shape[0]));
		hash_bytes(state, tensor_type_name(tensor->type), tensor->data, tensor->bytes);
	}
	status = hash_tokenizer(model, state, error);
	if (status == STATUS_OK && model->lora) {
		size_t count;
		const struct mapped_file *files = lora_files(model->lora, &count);
		for (size_t i = 0; i < count; i++)
			hash_bytes(state, "adapter", files[i].bytes, files[i].size);
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
	XXH3_freeState(state);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < sizeof(canonical.digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", canonical.digest[i]);
	return STATUS_OK;
}

/* ---- inspect ---- */

size_t model_tensor_count(const struct model *model)
{
	return model->checkpoint.table.count;
}

void model_tensor_info(const struct model *model, size_t index, struct model_tensor_info *out)
{
	const struct stored_tensor *tensor = &model->checkpoint.table.tensors[index];

	*out = (struct model_tensor_info){
		.name = tensor->name, .type = tensor_type_name(tensor->type), .rank = tensor->rank,
		.bytes = tensor->bytes, .file = tensor->file->path, .offset = tensor->offset,
	};
	memcpy(out->shape, tensor->shape, sizeof(out->shape));
}
