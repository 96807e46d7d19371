/* inspect_model.c - what a model is made of, and whether every tensor of it can be read. */
#include "ops/cli/inspect.h"

#include "base/mem.h"
#include "ops/cli/cli.h"
#include "scorer/backend.h"
#include "scorer/model.h"
#include "scorer/safetensors.h"
#include "scorer/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_config(const struct model_config *config, bool json)
{
	static const char *const scaling[] = {"none", "linear", "llama3"};

	if (json) {
		fputs("\"name\":", stdout);
		cli_json_string(stdout, config->name, strlen(config->name));
		printf(",\"architecture\":\"%s\",\"layers\":%u,\"hidden_size\":%u,\"intermediate_size\":%u,\"heads\":%u,"
		       "\"kv_heads\":%u,\"head_size\":%u,\"vocabulary\":%u,\"positions_max\":%u,\"rms_norm_eps\":%g,"
		       "\"rope_theta\":%g,\"rope_scaling\":\"%s\",\"tied\":%s,\"qkv_bias\":%s",
		       config->architecture, config->layers, config->hidden_size, config->intermediate_size,
		       config->heads, config->kv_heads, config->head_size, config->vocabulary, config->positions_max,
		       (double)config->rms_norm_eps, (double)config->rope_theta, scaling[config->rope_scaling],
		       config->tied ? "true" : "false", config->qkv_bias ? "true" : "false");
		return;
	}
	printf("%s: %s, %u layers, width %u, MLP %u, %u heads of %u (%u for keys and values)\n", config->name,
	       config->architecture, config->layers, config->hidden_size, config->intermediate_size, config->heads,
	       config->head_size, config->kv_heads);
	printf("vocabulary %u, context %u, RoPE theta %g (scaling %s), norm eps %g, %s head%s\n", config->vocabulary,
	       config->positions_max, (double)config->rope_theta, scaling[config->rope_scaling],
	       (double)config->rms_norm_eps, config->tied ? "tied" : "untied",
	       config->qkv_bias ? ", q/k/v biases" : "");
}

static void print_tensor(const struct model_tensor_info *info, bool json, bool first)
{
	if (json) {
		fputs(first ? "{\"name\":" : ",{\"name\":", stdout);
		cli_json_string(stdout, info->name, strlen(info->name));
		printf(",\"type\":\"%s\",\"shape\":[", info->type);
		for (uint32_t d = 0; d < info->rank; d++)
			printf("%s%" PRIu64, d ? "," : "", info->shape[d]);
		printf("],\"bytes\":%" PRIu64 ",\"offset\":%" PRIu64 "}", info->bytes, info->offset);
		return;
	}
	printf("  %-44s %-6s ", info->name, info->type);
	for (uint32_t d = 0; d < info->rank; d++)
		printf("%s%" PRIu64, d ? " x " : "", info->shape[d]);
	printf("  %" PRIu64 " bytes\n", info->bytes);
}

static void print_tensors(const struct model *model, bool json)
{
	struct model_tensor_info info;
	uint64_t bytes = 0;

	fputs(json ? ",\"tensors\":[" : "", stdout);
	for (size_t i = 0; i < model_tensor_count(model); i++) {
		model_tensor_info(model, i, &info);
		bytes += info.bytes;
		print_tensor(&info, json, i == 0);
	}
	if (json)
		printf("],\"tensor_bytes\":%" PRIu64, bytes);
	else
		printf("%zu tensors, %.1f MB\n", model_tensor_count(model), (double)bytes / 1e6);
}

struct role {
	enum model_tensor tensor;
	const char *name;
	uint32_t rows, columns;
	bool per_layer;
	bool present;
};

static enum status read_all_rows(const struct model *model, const struct role *role, uint32_t layer, float *row,
				 struct error *error)
{
	for (uint32_t i = 0; i < role->rows; i++) {
		enum status status = model_read(model, role->tensor, layer, i, 1, row, error);
		if (status != STATUS_OK)
			return status;
		for (uint32_t j = 0; j < role->columns; j++)
			if (!isfinite(row[j]))
				return error_set(error, STATUS_CORRUPT, "%s of layer %u: row %u, column %u is not finite",
						 role->name, layer, i, j);
	}
	return STATUS_OK;
}

/* Reads every weight once: finite, and readable in the shape that the configuration says. */
static enum status check_weights(const struct model *model, struct error *error)
{
	const struct model_config *c = model_get_config(model);
	uint32_t q = c->heads * c->head_size, kv = c->kv_heads * c->head_size;
	const struct role roles[] = {
		{MODEL_EMBEDDING, "embedding", c->vocabulary, c->hidden_size, false, true},
		{MODEL_FINAL_NORM, "final norm", 1, c->hidden_size, false, true},
		{MODEL_HEAD, "head", c->vocabulary, c->hidden_size, false, true},
		{MODEL_ATTENTION_NORM, "attention norm", 1, c->hidden_size, true, true},
		{MODEL_Q, "q", q, c->hidden_size, true, true},
		{MODEL_K, "k", kv, c->hidden_size, true, true},
		{MODEL_V, "v", kv, c->hidden_size, true, true},
		{MODEL_O, "o", c->hidden_size, q, true, true},
		{MODEL_MLP_NORM, "MLP norm", 1, c->hidden_size, true, true},
		{MODEL_GATE, "gate", c->intermediate_size, c->hidden_size, true, true},
		{MODEL_UP, "up", c->intermediate_size, c->hidden_size, true, true},
		{MODEL_DOWN, "down", c->hidden_size, c->intermediate_size, true, true},
	};
	uint32_t widest = c->intermediate_size > c->hidden_size ? c->intermediate_size : c->hidden_size;
	float *row = mem_alloc_array(widest > q ? widest : q, sizeof *row);
	enum status status = row ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "out of memory");

	for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
		for (uint32_t layer = 0; layer < (roles[i].per_layer ? c->layers : 1) && status == STATUS_OK; layer++)
			status = read_all_rows(model, &roles[i], layer, row, error);
	mem_free(row);
	return status;
}

enum status inspect_model(const struct inspect_options *options, struct error *error)
{
	struct model *model = NULL;
	struct tokenizer *tokenizer = NULL;
	char hash[33] = "";
	enum status status = model_open(options->target, NULL, &model, error);

	if (status != STATUS_OK)
		return status;
	if (options->check)
		status = check_weights(model, error);
	if (status == STATUS_OK)
		status = model_content_hash(model, hash, error);
	if (status != STATUS_OK) {
		model_close(model);
		return status;
	}
	fputs(options->json ? "{" : "", stdout);
	print_config(model_get_config(model), options->json);
	print_tensors(model, options->json);
	struct error no_tokenizer = {0};
	if (tokenizer_open(options->target, &tokenizer, &no_tokenizer) == STATUS_OK)
		printf(options->json ? ",\"tokenizer\":\"%s\"" : "tokenizer: %s\n", tokenizer_kind(tokenizer));
	else if (!options->json)
		printf("tokenizer: none that is supported (%s)\n", no_tokenizer.text);
	printf(options->json ? ",\"hash\":\"%s\"" : "content hash %s\n", hash);
	char backend[200];
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	backend_cpu_explain("auto", cores > 0 ? (uint32_t)cores : 1, backend, sizeof backend);
	printf(options->json ? ",\"computed_by\":\"%s\"" : "computed here by %s\n", backend);
	if (options->check)
		fputs(options->json ? ",\"check\":\"ok\"" : "every weight can be read and is finite\n", stdout);
	fputs(options->json ? "}\n" : "", stdout);
	tokenizer_close(tokenizer);
	model_close(model);
	return STATUS_OK;
}

enum status inspect_safetensors(const struct inspect_options *options, struct error *error)
{
	struct mapped_file file = {0};
	struct tensor_table table = {0};
	enum status status = mapped_file_open(options->target, &file, error);

	if (status == STATUS_OK)
		status = tensor_table_init(&table, error);
	if (status == STATUS_OK)
		status = safetensors_parse(&file, &table, error);
	if (status == STATUS_OK)
		status = tensor_table_seal(&table, error);
	if (status == STATUS_OK) {
		fputs(options->json ? "{\"tensors\":[" : "", stdout);
		for (size_t i = 0; i < table.count; i++) {
			const struct stored_tensor *tensor = &table.tensors[i];
			struct model_tensor_info info = {.name = tensor->name, .type = tensor_type_name(tensor->type),
							 .rank = tensor->rank, .bytes = tensor->bytes,
							 .offset = tensor->offset};
			memcpy(info.shape, tensor->shape, sizeof tensor->shape);
			print_tensor(&info, options->json, i == 0);
		}
		printf(options->json ? "],\"count\":%zu}\n" : "%zu tensors\n", table.count);
	}
	tensor_table_destroy(&table);
	mapped_file_close(&file);
	return status;
}
