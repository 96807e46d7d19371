/* Model folders: a small one made here, what is refused and why, LoRA against the plain formula, the content
 * hash; the shared checkpoints in each of their formats against each other. */
#include "model_files.h"

#include "scorer/model.h"
#include "scorer/model_config.h"

#include <math.h>

enum { C = 8, F = 12, H = 8, V = 6, RANK = 2 };

static const char plain_config[] =
	"{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8,"
	"\"intermediate_size\":12,\"num_hidden_layers\":1,\"num_attention_heads\":1,\"vocab_size\":6,"
	"\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false";

struct tensor {
	const char *name;
	uint32_t rows, columns;         /* columns 0: a vector */
};

static const struct tensor llama[] = {
	{"model.embed_tokens.weight", V, C}, {"model.norm.weight", C, 0}, {"lm_head.weight", V, C},
	{"model.layers.0.input_layernorm.weight", C, 0}, {"model.layers.0.self_attn.q_proj.weight", H, C},
	{"model.layers.0.self_attn.k_proj.weight", H, C}, {"model.layers.0.self_attn.v_proj.weight", H, C},
	{"model.layers.0.self_attn.o_proj.weight", C, H},
	{"model.layers.0.post_attention_layernorm.weight", C, 0}, {"model.layers.0.mlp.gate_proj.weight", F, C},
	{"model.layers.0.mlp.up_proj.weight", F, C}, {"model.layers.0.mlp.down_proj.weight", C, F},
	{"model.layers.0.self_attn.rotary_emb.inv_freq", 4, 0},
};
enum { LLAMA = sizeof(llama) / sizeof(llama[0]) };

static float element(const char *name, size_t i)
{
	size_t seed = strlen(name) * 31 + (unsigned char)name[strlen(name) - 10];
	return (float)((int)((seed + i * 37) % 101) - 50) / 64;
}

/* `skip`: the name of one to leave out; `extra`: one to add, or NULL. */
static void write_tensors(const char *folder, const char *file, const struct tensor *tensors, size_t count,
			  const char *skip, const struct tensor *extra)
{
	struct bytes header = {0}, data = {0}, all = {0};

	put_text(&header, "{");
	for (size_t i = 0; i < count + (extra != NULL); i++) {
		const struct tensor *tensor = i < count ? &tensors[i] : extra;
		size_t elements = (size_t)tensor->rows * (tensor->columns ? tensor->columns : 1);
		char text[256], shape[32];
		if (skip && strcmp(tensor->name, skip) == 0)
			continue;
		snprintf(shape, sizeof(shape), tensor->columns ? "%u,%u" : "%u", tensor->rows,
			 tensor->columns);
		snprintf(text, sizeof(text),
			 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
			 header.size > 1 ? "," : "", tensor->name, shape, data.size,
			 data.size + 4 * elements);
		put_text(&header, text);
		for (size_t k = 0; k < elements; k++) {
			float value = element(tensor->name, k);
			put(&data, &value, 4);
		}
	}
	put_text(&header, "}");
	put_number(&all, header.size, 8);
	put(&all, header.at, header.size);
	put(&all, data.at, data.size);
	write_file(folder, file, all.at, all.size);
	mem_free(header.at);
	mem_free(data.at);
	mem_free(all.at);
}

static void write_config(const char *folder, const char *more)
{
	char text[1024];
	snprintf(text, sizeof(text), "%s%s}", plain_config, more);
	write_text(folder, "config.json", text);
}

START_TEST(reads_a_folder)
{
	char *folder = make_folder();
	struct model *model = NULL;
	struct error error = {0};
	float out[F * C];
	char before[33], after[33];

	write_config(folder, "");
	write_tensors(folder, "model.safetensors", llama, LLAMA, NULL, NULL);
	ck_assert_msg(model_open(folder, NULL, &model, &error) == STATUS_OK, "%s", error.text);
	ck_assert_float_eq(model_get_config(model)->rope_theta, 10000);
	ck_assert_uint_eq(model_get_config(model)->kv_heads, 1);
	ck_assert_uint_eq(model_get_config(model)->positions_max, 2048);
	ck_assert_int_eq(model_read(model, MODEL_GATE, 0, 3, 2, out, &error), STATUS_OK);
	for (size_t i = 0; i < 2 * C; i++)
		ck_assert_float_eq(out[i], element("model.layers.0.mlp.gate_proj.weight", 3 * C + i));
	ck_assert_int_eq(model_content_hash(model, before, &error), STATUS_OK);
	model_close(model);
	/* Another tokenizer is another content. */
	write_text(folder, "tokenizer.json", "{}");
	ck_assert_int_eq(model_open(folder, NULL, &model, &error), STATUS_OK);
	ck_assert_int_eq(model_content_hash(model, after, &error), STATUS_OK);
	ck_assert_str_ne(before, after);
	model_close(model);
	remove_folder(folder);
}
END_TEST

static const struct {
	const char *more, *skip;
	struct tensor extra;
	enum status status;
	const char *reason;
} refusals[] = {
	{"", "model.norm.weight", {0}, STATUS_CORRUPT, "model.norm.weight is missing"},
	{"", "lm_head.weight", {0}, STATUS_CORRUPT, "lm_head.weight is missing"},
	{",\"num_hidden_layers\":1", NULL, {0}, STATUS_CORRUPT, "duplicate"},
	{",\"num_key_value_heads\":2", NULL, {0}, STATUS_CORRUPT, "cannot share"},
	{",\"head_dim\":16", NULL, {0}, STATUS_CORRUPT, "asks for [16, 8]"},
	{",\"head_dim\":9", NULL, {0}, STATUS_UNSUPPORTED, "odd"},
	{",\"attention_bias\":true", NULL, {0}, STATUS_UNSUPPORTED, "attention_bias"},
	{",\"mlp_bias\":true", NULL, {0}, STATUS_UNSUPPORTED, "mlp_bias"},
	{",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}", NULL, {0}, STATUS_UNSUPPORTED, "dynamic"},
	{",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}", NULL, {0}, STATUS_UNSUPPORTED, "yarn"},
	{",\"rope_scaling\":{\"rope_type\":\"linear\"}", NULL, {0}, STATUS_CORRUPT, "factor is missing"},
	{",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":1,"
	 "\"original_max_position_embeddings\":64}", NULL, {0}, STATUS_CORRUPT, "low_freq_factor"},
	{",\"quantization_config\":{}", NULL, {0}, STATUS_UNSUPPORTED, "quantization_config"},
	{",\"rope_theta\":\"x\"", NULL, {0}, STATUS_CORRUPT, "rope_theta"},
	{"", NULL, {"model.layers.0.self_attn.q_norm.weight", 8, 0}, STATUS_UNSUPPORTED, "q_norm.weight has no place"},
	{"", NULL, {"model.layers.0.self_attn.o_proj.bias", 8, 0}, STATUS_UNSUPPORTED, "o_proj.bias has no place"},
	{"", NULL, {"model.layers.1.mlp.up_proj.weight", 12, 8}, STATUS_UNSUPPORTED, "has no place"},
};

START_TEST(refuses)
{
	char *folder = make_folder();
	struct model *model = NULL;
	struct error error = {0};

	write_config(folder, refusals[_i].more);
	write_tensors(folder, "model.safetensors", llama, LLAMA, refusals[_i].skip,
		      refusals[_i].extra.name ? &refusals[_i].extra : NULL);
	ck_assert_msg(model_open(folder, NULL, &model, &error) == refusals[_i].status, "%s: %s",
		      refusals[_i].reason,
		      error.text);
	ck_assert_msg(strstr(error.text, refusals[_i].reason), "%s: %s", refusals[_i].reason, error.text);
	ck_assert_ptr_null(model);
	remove_folder(folder);
}
END_TEST

static enum status config_of(const char *text, struct model_config *config, struct error *error)
{
	struct mapped_file file = {.path = (char *)(uintptr_t)"config.json", .bytes = (const uint8_t *)text,
				   .size = strlen(text)};
	return model_config_from_json(&file, config, error);
}

START_TEST(configurations)
{
	struct model_config config;
	struct error error = {0};
	char text[2048];

	snprintf(text, sizeof(text), "%s,\"rope_parameters\":{\"rope_theta\":7000.0,\"rope_type\":\"llama3\","
		 "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
		 "\"original_max_position_embeddings\":8192},\"rope_theta\":5}", plain_config);
	ck_assert_msg(config_of(text, &config, &error) == STATUS_OK, "%s", error.text);
	ck_assert_float_eq(config.rope_theta, 7000);
	ck_assert_int_eq(config.rope_scaling, ROPE_SCALING_LLAMA3);
	ck_assert_uint_eq(config.rope_original_positions, 8192);
	ck_assert_float_eq(config.rope_high_freq_factor, 4);
	snprintf(text, sizeof(text), "%s,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}}",
		 plain_config);
	ck_assert_int_eq(config_of(text, &config, &error), STATUS_OK);
	ck_assert_int_eq(config.rope_scaling, ROPE_SCALING_LINEAR);
	ck_assert_float_eq(config.rope_factor, 4);
	ck_assert_int_eq(config_of("[]", &config, &error), STATUS_CORRUPT);
	ck_assert_int_eq(config_of("{", &config, &error), STATUS_CORRUPT);
	ck_assert_int_eq(config_of("", &config, &error), STATUS_CORRUPT);
	ck_assert_int_eq(config_of("{\"model_type\":\"mistral\"}", &config, &error), STATUS_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(error.text, "mistral"));
	ck_assert_int_eq(config_of("{\"model_type\":\"llama\",\"architectures\":[\"LlamaForSequenceClassification\"]}",
				   &config, &error), STATUS_UNSUPPORTED);
	ck_assert_int_eq(config_of("{\"model_type\":\"llama\",\"hidden_size\":-8}", &config, &error),
			 STATUS_CORRUPT);
	ck_assert_int_eq(config_of("{\"model_type\":\"llama\"}", &config, &error), STATUS_CORRUPT);
}
END_TEST

START_TEST(tied_under_either_name)
{
	static const char *const skipped[] = {"lm_head.weight", "model.embed_tokens.weight"};
	static const char tied[] = "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,"
		"\"num_hidden_layers\":1,\"num_attention_heads\":1,\"vocab_size\":6,\"tie_word_embeddings\":true}";

	for (int i = 0; i < 2; i++) {
		char *folder = make_folder();
		struct model *model = NULL;
		struct error error = {0};
		float embedding[V * C], head[V * C];
		write_text(folder, "config.json", tied);
		write_tensors(folder, "model.safetensors", llama, LLAMA, skipped[i], NULL);
		ck_assert_msg(model_open(folder, NULL, &model, &error) == STATUS_OK, "%s", error.text);
		ck_assert_int_eq(model_read(model, MODEL_EMBEDDING, 0, 0, V, embedding, &error), STATUS_OK);
		ck_assert_int_eq(model_read(model, MODEL_HEAD, 0, 0, V, head, &error), STATUS_OK);
		ck_assert_mem_eq(embedding, head, sizeof(head));
		ck_assert_float_eq(head[9], element(skipped[1 - i], 9));
		model_close(model);
		remove_folder(folder);
	}
}
END_TEST

static const struct tensor adapter[] = {
	{"base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", RANK, F},
	{"base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", C, RANK},
	{"base_model.model.lm_head.lora_A.weight", RANK, C},
	{"base_model.model.lm_head.lora_B.weight", V, RANK},
};
enum { ADAPTER = sizeof(adapter) / sizeof(adapter[0]) };

START_TEST(merges_an_adapter)
{
	char *folder = make_folder(), *lora = make_folder();
	struct model *model = NULL, *bare = NULL;
	struct error error = {0};
	float with[C * F], without[C * F], alone[F];
	char hex[33], bare_hex[33];

	write_config(folder, "");
	write_tensors(folder, "model.safetensors", llama, LLAMA, NULL, NULL);
	write_text(lora, "adapter_config.json",
		   "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6,\"bias\":\"none\","
		   "\"modules_to_save\":null,\"rank_pattern\":{},\"target_modules\":[\"down_proj\"]}");
	write_tensors(lora, "adapter_model.safetensors", adapter, ADAPTER, NULL, NULL);
	ck_assert_msg(model_open(folder, lora, &model, &error) == STATUS_OK, "%s", error.text);
	ck_assert_int_eq(model_open(folder, NULL, &bare, &error), STATUS_OK);
	ck_assert_int_eq(model_read(model, MODEL_DOWN, 0, 0, C, with, &error), STATUS_OK);
	ck_assert_int_eq(model_read(bare, MODEL_DOWN, 0, 0, C, without, &error), STATUS_OK);
	for (size_t r = 0; r < C; r++) {
		for (size_t c = 0; c < F; c++) {
			double sum = 0;
			for (size_t k = 0; k < RANK; k++)
				sum += (double)element(adapter[1].name, r * RANK + k) *
				       (double)element(adapter[0].name, k * F + c);
			ck_assert_double_eq_tol((double)with[r * F + c], (double)without[r * F + c] + 3 * sum,
						1e-6);
		}
	}
	ck_assert_int_eq(model_read(model, MODEL_DOWN, 0, 5, 1, alone, &error), STATUS_OK);
	ck_assert_mem_eq(alone, with + (size_t)5 * F, sizeof(alone));
	/* What the adapter leaves alone keeps its bits; what it changes is another content. */
	ck_assert_int_eq(model_read(model, MODEL_UP, 0, 0, C, with, &error), STATUS_OK);
	ck_assert_int_eq(model_read(bare, MODEL_UP, 0, 0, C, without, &error), STATUS_OK);
	ck_assert_mem_eq(with, without, C * C * sizeof(float));
	ck_assert_int_eq(model_read(model, MODEL_HEAD, 0, 0, V, with, &error), STATUS_OK);
	ck_assert_int_eq(model_read(bare, MODEL_HEAD, 0, 0, V, without, &error), STATUS_OK);
	ck_assert_int_ne(memcmp(with, without, V * C * sizeof(float)), 0);
	model_content_hash(model, hex, &error);
	model_content_hash(bare, bare_hex, &error);
	ck_assert_str_ne(hex, bare_hex);
	model_close(model);
	model_close(bare);
	remove_folder(folder);
	remove_folder(lora);
}
END_TEST

static const struct {
	const char *config, *skip;
	struct tensor extra;
	enum status status;
	const char *reason;
} bad_adapters[] = {
	{"{\"peft_type\":\"IA3\",\"r\":2,\"lora_alpha\":6}", NULL, {0}, STATUS_UNSUPPORTED, "IA3"},
	{"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6,\"use_dora\":true}", NULL, {0}, STATUS_UNSUPPORTED, "use_dora"},
	{"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6,\"bias\":\"all\"}", NULL, {0}, STATUS_UNSUPPORTED, "bias"},
	{"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6,\"alpha_pattern\":{\"a\":1}}", NULL, {0},
	 STATUS_UNSUPPORTED, "alpha_pattern"},
	{"{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":6}", NULL, {0}, STATUS_CORRUPT, "r must be"},
	{"{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":6}", NULL, {0}, STATUS_CORRUPT, "wrong shape"},
	{"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6}",
	 "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", {0}, STATUS_CORRUPT, "only one of"},
	{"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6}", NULL,
	 {"base_model.model.model.layers.1.mlp.down_proj.lora_A.weight", RANK, F}, STATUS_CORRUPT, "has 1 layers"},
	{"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6}", NULL,
	 {"base_model.model.model.embed_tokens.lora_embedding_A", RANK, F}, STATUS_UNSUPPORTED, "no part of a LoRA"},
};

START_TEST(refuses_adapters)
{
	char *folder = make_folder(), *lora = make_folder();
	struct model *model = NULL;
	struct error error = {0};

	write_config(folder, "");
	write_tensors(folder, "model.safetensors", llama, LLAMA, NULL, NULL);
	write_text(lora, "adapter_config.json", bad_adapters[_i].config);
	write_tensors(lora, "adapter_model.safetensors", adapter, ADAPTER, bad_adapters[_i].skip,
		      bad_adapters[_i].extra.name ? &bad_adapters[_i].extra : NULL);
	ck_assert_msg(model_open(folder, lora, &model, &error) == bad_adapters[_i].status, "%s", error.text);
	ck_assert_msg(strstr(error.text, bad_adapters[_i].reason), "%s: %s", bad_adapters[_i].reason,
		      error.text);
	remove_folder(folder);
	remove_folder(lora);
}
END_TEST

START_TEST(index_and_shards_agree)
{
	static const char *const indices[] = {
		"{\"weight_map\":{\"model.norm.weight\":\"../model-1.safetensors\"}}",
		"{\"weight_map\":{\"model.norm.weight\":\"model-2.safetensors\"}}",
		"{\"weight_map\":{\"nobody\":\"model-1.safetensors\"}}",
		"{\"weight_map\":{}}",
		"{\"weight_map\":{\"model.norm.weight\":7}}",
	};
	static const enum status statuses[] = {STATUS_CORRUPT, STATUS_NO_INPUT, STATUS_CORRUPT,
					       STATUS_CORRUPT,
					       STATUS_CORRUPT};
	char *folder = make_folder();
	struct model *model = NULL;
	struct error error = {0};

	write_config(folder, "");
	write_tensors(folder, "model-1.safetensors", llama, LLAMA, NULL, NULL);
	for (int i = 0; i < 5; i++) {
		write_text(folder, "model.safetensors.index.json", indices[i]);
		ck_assert_msg(model_open(folder, NULL, &model, &error) == statuses[i], "%d: %s", i,
			      error.text);
	}
	write_text(folder, "model.safetensors.index.json",
		   "{\"weight_map\":{\"model.norm.weight\":\"model-1.safetensors\"}}");
	ck_assert_msg(model_open(folder, NULL, &model, &error) == STATUS_OK, "%s", error.text);
	model_close(model);
	remove_folder(folder);
}
END_TEST

/* Every allocation of ours may fail; each failure is told and nothing is lost (a sanitizer looks). */
START_TEST(survives_without_memory)
{
	char *folder = make_folder(), *lora = make_folder();
	struct model *model = NULL;
	long failures = 0;

	write_config(folder, "");
	write_tensors(folder, "model.safetensors", llama, LLAMA, NULL, NULL);
	write_text(lora, "adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6}");
	write_tensors(lora, "adapter_model.safetensors", adapter, ADAPTER, NULL, NULL);
	for (; !model && failures < 10000; failures++) {
		struct error error = {0};
		enum status status;
		mem_fail_after(failures);
		status = model_open(folder, lora, &model, &error);
		mem_fail_after(-1);
		ck_assert_msg(status == STATUS_OK || error.text[0], "%s", status_name(status));
		ck_assert_msg((status == STATUS_OK) == (model != NULL), "%s", error.text);
	}
	ck_assert_int_gt(failures, 20);
	model_close(model);
	remove_folder(folder);
	remove_folder(lora);
}
END_TEST

/* Largest difference of two models over all tensors that both have, k and v heads repeated if need be. */
static double difference(const struct model *a, const struct model *b)
{
	const struct model_config *config = model_get_config(a);
	uint32_t repeat = model_get_config(b)->kv_heads / config->kv_heads;
	uint32_t rows_of[] = {config->heads * config->head_size, config->kv_heads * config->head_size,
			      config->hidden_size, config->intermediate_size};
	static const struct {
		enum model_tensor tensor;
		int rows;
		bool wide;      /* columns are the intermediate size */
	} parts[] = {{MODEL_Q, 0, false}, {MODEL_K, 1, false}, {MODEL_V, 1, false}, {MODEL_O, 2, false},
		     {MODEL_GATE, 3, false}, {MODEL_UP, 3, false}, {MODEL_DOWN, 2, true}};
	static float x[1024], y[1024];
	struct error error = {0};
	double worst = 0;

	for (uint32_t layer = 0; layer < config->layers; layer++) {
		for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
			uint32_t columns = parts[p].wide ? config->intermediate_size : config->hidden_size;
			for (uint32_t r = 0; r < rows_of[parts[p].rows]; r++) {
				uint32_t head = r / config->head_size, inside = r % config->head_size;
				uint32_t other = parts[p].rows == 1 ?
					head * repeat * config->head_size + inside : r;
				ck_assert_int_eq(model_read(a, parts[p].tensor, layer, r, 1, x, &error),
						 STATUS_OK);
				ck_assert_int_eq(model_read(b, parts[p].tensor, layer, other, 1, y, &error),
						 STATUS_OK);
				for (uint32_t c = 0; c < columns; c++)
					worst = fmax(worst, fabs((double)x[c] - (double)y[c]));
			}
		}
	}
	return worst;
}

START_TEST(shared_formats_agree)
{
	static const char *const names[] = {"stories260k-hf", "stories260k-hf-f16-sharded",
					    "stories260k-hf-f16-torch", "tinystories-656k",
					    "tinystories-656k-bf16"};
	struct model *models[5] = {NULL};
	struct error error = {0};
	char path[512], hex[2][33];

	for (int i = 0; i < 5; i++) {
		if (!find_shared(names[i], path))
			goto cleanup;
		ck_assert_msg(model_open(path, NULL, &models[i], &error) == STATUS_OK, "%s", error.text);
	}
	/* F16 rounds the F32 weights; torch and BF16 hold the same numbers exactly. */
	ck_assert_double_lt(difference(models[0], models[1]), 2e-3);
	ck_assert(difference(models[1], models[2]) == 0);
	ck_assert(difference(models[3], models[4]) == 0);
	ck_assert(model_get_config(models[3])->tied && !model_get_config(models[1])->tied);
	/* The same content in two containers has one hash. */
	model_content_hash(models[1], hex[0], &error);
	model_content_hash(models[2], hex[1], &error);
	ck_assert_str_eq(hex[0], hex[1]);
	model_content_hash(models[3], hex[1], &error);
	ck_assert_str_ne(hex[0], hex[1]);
cleanup:
	for (int i = 0; i < 5; i++)
		model_close(models[i]);
}
END_TEST

START_TEST(shared_configurations)
{
	static const char *const names[] = {"vicuna-7b-v1.5-layout/config.json",
					    "llama2-7b-chat-layout/config.json",
					    "qwen2-tokenizer/config.json", "smollm2-135m/config.json"};
	for (int i = 0; i < 4; i++) {
		struct mapped_file file = {0};
		struct model_config config;
		struct error error = {0};
		char path[512];
		if (!find_shared(names[i], path))
			continue;
		ck_assert_int_eq(mapped_file_open(path, &file, &error), STATUS_OK);
		ck_assert_msg(model_config_from_json(&file, &config, &error) == STATUS_OK, "%s", error.text);
		ck_assert_float_eq(config.rope_theta, i == 2 ? 1e6f : i == 3 ? 1e5f : 1e4f);
		ck_assert_float_eq(config.rms_norm_eps, i == 1 || i == 2 ? 1e-6f : 1e-5f);
		ck_assert(config.qkv_bias == (i == 2));
		mapped_file_close(&file);
	}
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("model");
	tcase_add_test(tests, reads_a_folder);
	tcase_add_loop_test(tests, refuses, 0, sizeof(refusals) / sizeof(refusals[0]));
	tcase_add_test(tests, configurations);
	tcase_add_test(tests, tied_under_either_name);
	tcase_add_test(tests, merges_an_adapter);
	tcase_add_loop_test(tests, refuses_adapters, 0, sizeof(bad_adapters) / sizeof(bad_adapters[0]));
	tcase_add_test(tests, index_and_shards_agree);
	tcase_add_test(tests, survives_without_memory);
	tcase_add_test(tests, shared_formats_agree);
	tcase_add_test(tests, shared_configurations);
	return run_suite("model", tests);
}
