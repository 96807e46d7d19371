/* tiny_bundle.h - a model folder made on the spot: random Llama weights in safetensors and a byte-level
 * tokenizer without merges, so that id b is byte b and a prompt can be read back letter by letter. */
#ifndef EXITPOLL_TESTS_UNIT_SCORER_TINY_BUNDLE_H
#define EXITPOLL_TESTS_UNIT_SCORER_TINY_BUNDLE_H

#include "tests/unit/scorer/random_model.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TINY_IM_START = 256, TINY_IM_END = 257, TINY_VOCABULARY = 258 };

static const struct random_shape tiny_shape = {32, 48, 4, 4, 2, 8, TINY_VOCABULARY, false, ROPE_SCALING_NONE};

static inline void tiny_write(const char *folder, const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "w");
	if (!file || fputs(text, file) < 0 || fclose(file))
		abort();
}

/* The alphabet of byte-level BPE: printable bytes stand for themselves, the others for U+0100 and on. */
static inline void tiny_tokenizer(const char *folder)
{
	char *text = calloc(1, 65536), *at = text;
	unsigned next = 256;
	at += sprintf(
	    at, "{\"version\":\"1.0\",\"added_tokens\":["
		"{\"id\":256,\"content\":\"<|im_start|>\",\"single_word\":false,\"lstrip\":false,"
		"\"rstrip\":false,\"normalized\":false,\"special\":true},"
		"{\"id\":257,\"content\":\"<|im_end|>\",\"single_word\":false,\"lstrip\":false,"
		"\"rstrip\":false,\"normalized\":false,\"special\":true}],"
		"\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
		"\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,"
		"\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
	for (unsigned byte = 0; byte < 256; byte++) {
		bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
		at += sprintf(at, "%s\"\\u%04x\":%u", byte ? "," : "", printable ? byte : next++, byte);
	}
	sprintf(at, ",\"<|im_start|>\":256,\"<|im_end|>\":257},\"merges\":[]}}");
	tiny_write(folder, "tokenizer.json", text);
	free(text);
}

static inline void tiny_model(const char *folder, unsigned seed, uint32_t positions)
{
	static const struct { enum model_tensor tensor; const char *name; bool per_layer;
	} tensors[] = {
	    {MODEL_EMBEDDING, "model.embed_tokens.weight", false},
	    {MODEL_FINAL_NORM, "model.norm.weight", false},
	    {MODEL_HEAD, "lm_head.weight", false},
	    {MODEL_ATTENTION_NORM, "model.layers.%u.input_layernorm.weight", true},
	    {MODEL_Q, "model.layers.%u.self_attn.q_proj.weight", true},
	    {MODEL_K, "model.layers.%u.self_attn.k_proj.weight", true},
	    {MODEL_V, "model.layers.%u.self_attn.v_proj.weight", true},
	    {MODEL_O, "model.layers.%u.self_attn.o_proj.weight", true},
	    {MODEL_MLP_NORM, "model.layers.%u.post_attention_layernorm.weight", true},
	    {MODEL_GATE, "model.layers.%u.mlp.gate_proj.weight", true},
	    {MODEL_UP, "model.layers.%u.mlp.up_proj.weight", true},
	    {MODEL_DOWN, "model.layers.%u.mlp.down_proj.weight", true},
	};
	const struct random_shape *s = &tiny_shape;
	struct random_model *model = random_model_create(s, seed);
	char *header = calloc(1, 1 << 16), *at = header, text[1024], path[512];
	float *data = calloc(1 << 18, sizeof *data);
	size_t floats = 0;
	*at++ = '{';
	for (uint32_t layer = 0; layer < s->layers; layer++)
		for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
			if (!tensors[i].per_layer && layer)
				continue;
			uint32_t rows = s->hidden, columns = s->hidden;
			switch (tensors[i].tensor) {
			case MODEL_EMBEDDING: case MODEL_HEAD: rows = s->vocabulary; break;
			case MODEL_FINAL_NORM:
			case MODEL_ATTENTION_NORM:
			case MODEL_MLP_NORM: columns = 1; break;
			case MODEL_Q: rows = s->heads * s->head_size; break;
			case MODEL_K: case MODEL_V: rows = s->kv_heads * s->head_size; break;
			case MODEL_O: columns = s->heads * s->head_size; break;
			case MODEL_GATE: case MODEL_UP: rows = s->intermediate; break;
			case MODEL_DOWN: columns = s->intermediate; break;
			default: break;
			}
			struct error error;
			random_model_read(model, tensors[i].tensor, layer, 0, rows, data + floats, &error);
			if (at[-1] != '{')
				*at++ = ',';
			*at++ = '"';
			at += sprintf(at, tensors[i].name, layer);
			at += sprintf(at, "\":{\"dtype\":\"F32\",\"shape\":[%u", rows);
			if (columns > 1)
				at += sprintf(at, ",%u", columns);
			at += sprintf(at, "],\"data_offsets\":[%zu,", floats * 4);
			floats += (size_t)rows * columns;
			at += sprintf(at, "%zu]}", floats * 4);
		}
	at += sprintf(at, "}");
	while ((at - header) % 8)
		*at++ = ' ';
	uint64_t size = (uint64_t)(at - header);
	snprintf(path, sizeof path, "%s/model.safetensors", folder);
	FILE *file = fopen(path, "w");
	if (!file || fwrite(&size, 8, 1, file) != 1 || fwrite(header, size, 1, file) != 1 ||
	    fwrite(data, 4, floats, file) != floats || fclose(file))
		abort();
	snprintf(text, sizeof text,
		 "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":%u,"
		 "\"intermediate_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,"
		 "\"num_key_value_heads\":%u,\"vocab_size\":%u,\"max_position_embeddings\":%u,"
		 "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
		 "\"tie_word_embeddings\":false}",
		 s->hidden, s->intermediate, s->layers, s->heads, s->kv_heads, s->vocabulary, positions);
	tiny_write(folder, "config.json", text);
	free(header);
	free(data);
	random_model_destroy(model);
}

/* A new folder under /tmp; tiny_remove() takes it away. */
static inline char *tiny_folder(unsigned seed, uint32_t positions)
{
	char *folder = strdup("/tmp/exitpoll_tiny_XXXXXX");
	if (!folder || !mkdtemp(folder))
		abort();
	tiny_tokenizer(folder);
	tiny_model(folder, seed, positions);
	return folder;
}

static inline void tiny_remove(char *folder)
{
	static const char *const names[] = {"tokenizer.json", "model.safetensors", "config.json",
					    "exitpoll.json", "prompt.txt"};
	char path[512];
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		remove(path);
	}
	rmdir(folder);
	free(folder);
}

#endif
