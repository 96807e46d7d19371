/* lora.c - adapter_config.json, adapter_model.safetensors, and the product of two thin matrices.
 *
 * Invariant: after lora_open every pair has both matrices with the model's shapes. Used by model.c. */
#include "scorer/lora.h"

#include "scorer/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

enum { RANK_MAX = 1024, CONFIG_BYTES_MAX = 1 << 20, MODULES = 8, CHUNK = 256 };

static const struct {
	enum model_tensor tensor;
	const char *name;
} modules[MODULES] = {
	{MODEL_Q, "self_attn.q_proj"}, {MODEL_K, "self_attn.k_proj"}, {MODEL_V, "self_attn.v_proj"},
	{MODEL_O, "self_attn.o_proj"}, {MODEL_GATE, "mlp.gate_proj"}, {MODEL_UP, "mlp.up_proj"},
	{MODEL_DOWN, "mlp.down_proj"}, {MODEL_HEAD, "lm_head"},
};

struct pair {
	float *a, *b;           /* [rank, columns], [rows, rank] */
	uint32_t rows, columns;
};

struct lora {
	struct mapped_file files[2];
	uint32_t rank, layers;
	double scale;
	struct pair *pairs;     /* [layers, MODULES]; the head in layer 0 */
};

static enum status load_file(const char *folder, const char *name, struct mapped_file *out,
			     struct error *error)
{
	char *path = mapped_file_join(folder, name);
	enum status status = path ? mapped_file_open(path, out, error) :
				    error_set(error, STATUS_NO_MEMORY, "%s/%s: no memory", folder, name);
	mem_free(path);
	return status;
}

static bool is_empty(json_t *value)
{
	return !value || json_is_null(value) || json_is_false(value) ||
	       (json_is_object(value) && json_object_size(value) == 0) ||
	       (json_is_array(value) && json_array_size(value) == 0);
}

static enum status read_config(struct lora *lora, struct error *error)
{
	/* Each of these changes what is to be added, or where. */
	static const char *const refused[] = {
		"modules_to_save", "rank_pattern", "alpha_pattern", "use_dora", "fan_in_fan_out", "lora_bias",
		"layers_pattern", "trainable_token_indices", "megatron_config", "alora_invocation_tokens",
	};
	const struct mapped_file *file = &lora->files[0];
	enum status status = STATUS_OK;
	const char *type, *bias;
	json_t *root, *alpha;
	json_int_t rank;
	json_error_t trouble;

	if (file->size > CONFIG_BYTES_MAX)
		return mapped_file_corrupt(file, CONFIG_BYTES_MAX, error, "longer than %d bytes",
					   CONFIG_BYTES_MAX);
	root = json_loadb((const char *)file->bytes, file->size, JSON_REJECT_DUPLICATES, &trouble);
	if (!root)
		return mapped_file_corrupt(file, trouble.position < 0 ? 0 : (size_t)trouble.position, error,
					   "line %d: %s", trouble.line, trouble.text);
	type = json_string_value(json_object_get(root, "peft_type"));
	if (!type || strcmp(type, "LORA") != 0) {
		status = error_set(error, STATUS_UNSUPPORTED, "%s: peft_type = %.40s; LORA is supported",
				   file->path, type ? type : "(missing)");
		goto cleanup;
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (is_empty(json_object_get(root, refused[i])))
			continue;
		status = error_set(error, STATUS_UNSUPPORTED, "%s: %s is set, which is not supported",
				   file->path, refused[i]);
		goto cleanup;
	}
	bias = json_string_value(json_object_get(root, "bias"));
	if (bias && strcmp(bias, "none") != 0) {
		status = error_set(error, STATUS_UNSUPPORTED, "%s: bias = %.40s; none is supported",
				   file->path,
				   bias);
		goto cleanup;
	}
	rank = json_integer_value(json_object_get(root, "r"));
	alpha = json_object_get(root, "lora_alpha");
	if (rank < 1 || rank > RANK_MAX || !json_is_number(alpha)) {
		status = mapped_file_corrupt(file, 0, error, "r must be 1 to %d and lora_alpha a number",
					     RANK_MAX);
		goto cleanup;
	}
	lora->rank = (uint32_t)rank;
	lora->scale = json_number_value(alpha) / (json_is_true(json_object_get(root, "use_rslora")) ?
						  sqrt((double)rank) : (double)rank);
cleanup:
	json_decref(root);
	return status;
}

static void shape_of(const struct model_config *config, enum model_tensor tensor, uint32_t *rows,
		     uint32_t *columns)
{
	uint32_t q_rows = config->heads * config->head_size, kv_rows = config->kv_heads * config->head_size;

	*columns = tensor == MODEL_O ? q_rows : tensor == MODEL_DOWN ? config->intermediate_size :
		   config->hidden_size;
	*rows = tensor == MODEL_Q ? q_rows : tensor == MODEL_K || tensor == MODEL_V ? kv_rows :
		tensor == MODEL_GATE || tensor == MODEL_UP ? config->intermediate_size :
		tensor == MODEL_HEAD ? config->vocabulary : config->hidden_size;
}

/* "base_model.model.model.layers.3.mlp.up_proj.lora_A.weight": which pair and which half. */
static bool parse_name(const char *name, uint32_t *layer, int *module, bool *is_b)
{
	static const char start[] = "base_model.model.", in_layer[] = "model.layers.";
	const char *at = name, *half;
	bool head;

	if (strncmp(at, start, sizeof(start) - 1) != 0)
		return false;
	at += sizeof(start) - 1;
	*layer = 0;
	head = strncmp(at, in_layer, sizeof(in_layer) - 1) != 0;
	if (!head) {
		size_t digits = 0;
		for (at += sizeof(in_layer) - 1; *at >= '0' && *at <= '9' && digits < 4; at++, digits++)
			*layer = *layer * 10 + (uint32_t)(*at - '0');
		if (digits == 0 || digits == 4 || *at++ != '.')
			return false;
	}
	for (int i = 0; i < MODULES; i++) {
		size_t size = strlen(modules[i].name);
		if (head != (modules[i].tensor == MODEL_HEAD) || strncmp(at, modules[i].name, size) != 0)
			continue;
		half = at + size;
		*module = i;
		*is_b = strcmp(half, ".lora_B.weight") == 0;
		return *is_b || strcmp(half, ".lora_A.weight") == 0;
	}
	return false;
}

static enum status read_tensor(struct lora *lora, const struct model_config *config,
			       const struct stored_tensor *tensor, struct error *error)
{
	uint32_t layer, rows, columns;
	size_t elements;
	struct pair *pair;
	int module;
	bool is_b;
	float *values;

	if (strlen(tensor->name) != tensor->name_size || !parse_name(tensor->name, &layer, &module, &is_b))
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: tensor %.200s is no part of a LoRA adapter for q, "
				 "k, v, o, gate, up, down or lm_head", tensor->file->path, tensor->name);
	if (layer >= config->layers)
		return mapped_file_corrupt(tensor->file, tensor->offset, error,
					   "%.200s: the model has %u layers",
					   tensor->name, config->layers);
	if (modules[module].tensor == MODEL_HEAD && config->tied)
		return error_set(error, STATUS_UNSUPPORTED, "%s: an adapter for lm_head on tied embeddings",
				 tensor->file->path);
	shape_of(config, modules[module].tensor, &rows, &columns);
	if (tensor->rank != 2 || tensor->shape[0] != (is_b ? rows : lora->rank) ||
	    tensor->shape[1] != (is_b ? lora->rank : columns))
		return mapped_file_corrupt(tensor->file, tensor->offset, error,
					   "%.200s has a wrong shape, expected [%u, %u]", tensor->name,
					   is_b ? rows : lora->rank, is_b ? lora->rank : columns);
	if (!tensor_type_readable(tensor->type))
		return error_set(error, STATUS_UNSUPPORTED, "%s: %.200s is %s; F32, F16 and BF16 are read",
				 tensor->file->path, tensor->name, tensor_type_name(tensor->type));
	elements = (size_t)(tensor->shape[0] * tensor->shape[1]);
	values = mem_alloc_array(elements, sizeof(*values));
	if (!values)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", tensor->file->path);
	tensor_type_to_float(tensor->type, tensor->data, elements, values);
	pair = &lora->pairs[layer * MODULES + (size_t)module];
	pair->rows = rows;
	pair->columns = columns;
	*(is_b ? &pair->b : &pair->a) = values;
	return STATUS_OK;
}

static enum status read_adapter(struct lora *lora, const struct model_config *config,
				struct tensor_table *table,
				struct error *error)
{
	enum status status = read_config(lora, error);

	if (status == STATUS_OK)
		status = tensor_table_init(table, error);
	if (status == STATUS_OK)
		status = safetensors_parse(&lora->files[1], table, error);
	if (status == STATUS_OK)
		status = tensor_table_seal(table, error);
	if (status == STATUS_OK && table->count == 0)
		status = mapped_file_corrupt(&lora->files[1], 8, error, "an adapter without tensors");
	for (size_t i = 0; i < table->count && status == STATUS_OK; i++)
		status = read_tensor(lora, config, &table->tensors[i], error);
	for (size_t i = 0; i < (size_t)config->layers * MODULES && status == STATUS_OK; i++)
		if (!lora->pairs[i].a != !lora->pairs[i].b)
			status = mapped_file_corrupt(&lora->files[1], 8, error,
						     "layer %zu %s: only one of lora_A and lora_B",
						     i / MODULES,
						     modules[i % MODULES].name);
	return status;
}

enum status lora_from_files(struct mapped_file files[2], const struct model_config *config, struct lora **out,
			    struct error *error)
{
	struct tensor_table table = {0};
	struct lora *lora = mem_alloc_zero(1, sizeof(*lora));
	enum status status;

	if (!lora) {
		mapped_file_close(&files[0]);
		mapped_file_close(&files[1]);
		return error_set(error, STATUS_NO_MEMORY, "no memory for an adapter");
	}
	lora->files[0] = files[0];
	lora->files[1] = files[1];
	lora->layers = config->layers;
	lora->pairs = mem_alloc_zero((size_t)config->layers * MODULES, sizeof(*lora->pairs));
	status = lora->pairs ? read_adapter(lora, config, &table, error) :
			       error_set(error, STATUS_NO_MEMORY, "no memory for an adapter");
	tensor_table_destroy(&table);
	if (status == STATUS_OK)
		*out = lora;
	else
		lora_close(lora);
	return status;
}

enum status lora_open(const char *folder, const struct model_config *config, struct lora **out,
		      struct error *error)
{
	struct mapped_file files[2] = {{0}};
	enum status status = load_file(folder, "adapter_config.json", &files[0], error);

	if (status == STATUS_OK)
		status = load_file(folder, "adapter_model.safetensors", &files[1], error);
	if (status == STATUS_OK)
		return lora_from_files(files, config, out, error);
	mapped_file_close(&files[0]);
	return status;
}

void lora_close(struct lora *lora)
{
	if (!lora)
		return;
	for (size_t i = 0; lora->pairs && i < (size_t)lora->layers * MODULES; i++) {
		mem_free(lora->pairs[i].a);
		mem_free(lora->pairs[i].b);
	}
	mem_free(lora->pairs);
	mapped_file_close(&lora->files[0]);
	mapped_file_close(&lora->files[1]);
	mem_free(lora);
}

static void add_row(const struct lora *lora, const struct pair *pair, uint32_t row, float *out)
{
	const float *b = pair->b + (size_t)row * lora->rank;

	for (uint32_t start = 0; start < pair->columns; start += CHUNK) {
		uint32_t width = pair->columns - start < CHUNK ? pair->columns - start : CHUNK;
		double sum[CHUNK] = {0};
		for (uint32_t r = 0; r < lora->rank; r++) {
			const float *a = pair->a + (size_t)r * pair->columns + start;
			for (uint32_t i = 0; i < width; i++)
				sum[i] += (double)b[r] * (double)a[i];
		}
		for (uint32_t i = 0; i < width; i++)
			out[start + i] = (float)((double)out[start + i] + lora->scale * sum[i]);
	}
}

void lora_add(const struct lora *lora, enum model_tensor tensor, uint32_t layer, uint32_t first,
	      uint32_t count, float *out)
{
	for (int module = 0; module < MODULES; module++) {
		const struct pair *pair;
		if (modules[module].tensor != tensor)
			continue;
		pair = &lora->pairs[(tensor == MODEL_HEAD ? 0 : layer) * (size_t)MODULES + (size_t)module];
		for (uint32_t i = 0; pair->a && i < count; i++)
			add_row(lora, pair, first + i, out + (size_t)i * pair->columns);
	}
}

const struct mapped_file *lora_files(const struct lora *lora, size_t *count)
{
	*count = 2;
	return lora->files;
}
