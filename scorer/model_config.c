/* model_config.c - config.json (jansson) and GGUF metadata into one struct.
 *
 * Invariant: a key that we know changes the arithmetic is either carried into the struct or refused by
 * name; defaults are those of the Hugging Face classes. Used by model.c. Pure. */
#include "scorer/model_config.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

enum {
	CONFIG_BYTES_MAX = 1 << 20, HIDDEN_MAX = 1 << 16, INTERMEDIATE_MAX = 1 << 20, LAYERS_MAX = 128,
	HEADS_MAX = 1024, VOCABULARY_MAX = 1 << 21, POSITIONS_MAX = 1 << 24
};

static enum status unsupported(const char *path, struct error *error, const char *key, const char *value,
			       const char *supported)
{
	return error_set(error, STATUS_UNSUPPORTED, "%s: %s = %.80s is not supported; %s", path, key, value,
			 supported);
}

enum status model_config_check(const struct model_config *config, const char *path, struct error *error)
{
	const struct {
		const char *name;
		uint32_t value, low, high;
	} limits[] = {
		{"hidden size", config->hidden_size, 1, HIDDEN_MAX},
		{"intermediate size", config->intermediate_size, 1, INTERMEDIATE_MAX},
		{"number of layers", config->layers, 1, LAYERS_MAX},
		{"number of heads", config->heads, 1, HEADS_MAX},
		{"number of key-value heads", config->kv_heads, 1, HEADS_MAX},
		{"head size", config->head_size, 8, 256},
		{"vocabulary", config->vocabulary, 1, VOCABULARY_MAX},
		{"context length", config->positions_max, 1, POSITIONS_MAX},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (limits[i].value < limits[i].low || limits[i].value > limits[i].high)
			return error_set(error, STATUS_UNSUPPORTED, "%s: %s is %u; %u to %u are supported",
					 path,
					 limits[i].name, limits[i].value, limits[i].low, limits[i].high);
	if (config->head_size % 2 != 0)
		return error_set(error, STATUS_UNSUPPORTED, "%s: head size %u is odd; RoPE needs pairs", path,
				 config->head_size);
	if (config->heads % config->kv_heads != 0)
		return error_set(error, STATUS_CORRUPT, "%s: %u heads cannot share %u key-value heads", path,
				 config->heads, config->kv_heads);
	/* Written so that NaN fails too. */
	if (!(config->rms_norm_eps > 0 && config->rms_norm_eps < 1))
		return error_set(error, STATUS_CORRUPT, "%s: rms_norm_eps %g is not between 0 and 1", path,
				 (double)config->rms_norm_eps);
	if (!(config->rope_theta >= 1 && config->rope_theta <= 1e12f))
		return error_set(error, STATUS_CORRUPT, "%s: rope_theta %g is not between 1 and 1e12", path,
				 (double)config->rope_theta);
	if (config->rope_scaling != ROPE_SCALING_NONE &&
	    !(config->rope_factor >= 1 && config->rope_factor <= 1e6f))
		return error_set(error, STATUS_CORRUPT, "%s: RoPE scaling factor %g is not between 1 and 1e6",
				 path, (double)config->rope_factor);
	if (config->rope_scaling == ROPE_SCALING_LLAMA3 &&
	    (!(config->rope_low_freq_factor > 0) || !isfinite(config->rope_high_freq_factor) ||
	     !(config->rope_high_freq_factor > config->rope_low_freq_factor) ||
	     config->rope_original_positions < 1))
		return error_set(error, STATUS_CORRUPT, "%s: llama3 RoPE scaling wants low_freq_factor < "
				 "high_freq_factor and original_max_position_embeddings", path);
	return STATUS_OK;
}

/* ---- config.json ---- */

struct reader {
	const char *path;
	json_t *root;
	struct error *error;
	enum status status;     /* first trouble; later reads do nothing */
};

static bool is_given(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);
	return value && !json_is_null(value);
}

static void bad(struct reader *reader, const char *key, const char *wanted)
{
	if (reader->status == STATUS_OK)
		reader->status = error_set(reader->error, STATUS_CORRUPT, "%s: %s is missing or is not %s",
					   reader->path, key, wanted);
}

static uint32_t get_count(struct reader *reader, json_t *object, const char *key, int64_t fallback)
{
	json_t *value = json_object_get(object, key);

	if (!is_given(object, key) && fallback >= 0)
		return (uint32_t)fallback;
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) > UINT32_MAX) {
		bad(reader, key, "a count");
		return 0;
	}
	return (uint32_t)json_integer_value(value);
}

static float get_number(struct reader *reader, json_t *object, const char *key, double fallback)
{
	json_t *value = json_object_get(object, key);

	if (!is_given(object, key) && !isnan(fallback))
		return (float)fallback;
	if (!json_is_number(value)) {
		bad(reader, key, "a number");
		return 0;
	}
	return (float)json_number_value(value);
}

static bool get_bool(struct reader *reader, const char *key, bool fallback)
{
	json_t *value = json_object_get(reader->root, key);

	if (!is_given(reader->root, key))
		return fallback;
	if (!json_is_boolean(value))
		bad(reader, key, "true or false");
	return json_is_true(value);
}

/* NULL when absent. */
static const char *get_text(struct reader *reader, json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	if (!is_given(object, key))
		return NULL;
	if (!json_is_string(value))
		bad(reader, key, "a text");
	return json_string_value(value);
}

static void refuse(struct reader *reader, const char *key, const char *value, const char *supported)
{
	if (reader->status == STATUS_OK)
		reader->status = unsupported(reader->path, reader->error, key, value, supported);
}

static void read_architecture(struct reader *reader, struct model_config *config)
{
	static const struct {
		const char *type, *class;
	} known[] = {{"llama", "LlamaForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}};
	const char *type = get_text(reader, reader->root, "model_type");
	json_t *classes = json_object_get(reader->root, "architectures");
	const char *class = json_string_value(json_array_get(classes, 0));
	const char *supported = "LlamaForCausalLM (llama) and Qwen2ForCausalLM (qwen2) are";

	if (!type && !class) {
		bad(reader, "model_type (or architectures)", "a text");
		return;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (type ? strcmp(type, known[i].type) != 0 : strcmp(class, known[i].class) != 0)
			continue;
		if (class && strcmp(class, known[i].class) != 0)
			refuse(reader, "architectures", class, supported);
		snprintf(config->architecture, sizeof(config->architecture), "%s", known[i].type);
		return;
	}
	refuse(reader, type ? "model_type" : "architectures", type ? type : class, supported);
}

static void read_rope(struct reader *reader, struct model_config *config)
{
	/* transformers 5 moved theta and scaling together; older files have them apart. */
	json_t *parameters = json_object_get(reader->root, "rope_parameters");
	json_t *scaling = json_object_get(reader->root, "rope_scaling");
	const char *type;

	config->rope_theta = get_number(reader, reader->root, "rope_theta", 10000);
	if (json_is_object(parameters)) {
		config->rope_theta = get_number(reader, parameters, "rope_theta", (double)config->rope_theta);
		scaling = parameters;
	} else if (parameters && !json_is_null(parameters)) {
		bad(reader, "rope_parameters", "an object");
	}
	if (!scaling || json_is_null(scaling))
		return;
	if (!json_is_object(scaling)) {
		bad(reader, "rope_scaling", "an object");
		return;
	}
	type = get_text(reader, scaling, "rope_type");
	if (!type)
		type = get_text(reader, scaling, "type");
	if (is_given(scaling, "partial_rotary_factor") &&
	    get_number(reader, scaling, "partial_rotary_factor", 1) != 1.0f)
		refuse(reader, "partial_rotary_factor", "other than 1", "whole heads are rotated");
	if (!type || strcmp(type, "default") == 0)
		return;
	if (strcmp(type, "linear") == 0) {
		config->rope_scaling = ROPE_SCALING_LINEAR;
		config->rope_factor = get_number(reader, scaling, "factor", NAN);
	} else if (strcmp(type, "llama3") == 0) {
		config->rope_scaling = ROPE_SCALING_LLAMA3;
		config->rope_factor = get_number(reader, scaling, "factor", NAN);
		config->rope_low_freq_factor = get_number(reader, scaling, "low_freq_factor", NAN);
		config->rope_high_freq_factor = get_number(reader, scaling, "high_freq_factor", NAN);
		config->rope_original_positions =
			get_count(reader, scaling, "original_max_position_embeddings", -1);
	} else {
		refuse(reader, "RoPE scaling", type, "none, linear and llama3 are");
	}
}

/* What would silently change the result if it were ignored. */
static void read_refusals(struct reader *reader)
{
	const char *activation = get_text(reader, reader->root, "hidden_act");
	json_t *kinds = json_object_get(reader->root, "layer_types");
	size_t i;
	json_t *kind;

	if (activation && strcmp(activation, "silu") != 0)
		refuse(reader, "hidden_act", activation, "silu is");
	if (get_bool(reader, "attention_bias", false))
		refuse(reader, "attention_bias", "true", "biases are read for q, k and v of Qwen2 only");
	if (get_bool(reader, "mlp_bias", false))
		refuse(reader, "mlp_bias", "true", "feed-forward layers have no biases here");
	if (get_bool(reader, "use_sliding_window", false))
		refuse(reader, "use_sliding_window", "true", "every layer attends to the whole prompt");
	if (is_given(reader->root, "quantization_config"))
		refuse(reader, "quantization_config", "set", "give float weights, or a GGUF file");
	if (get_number(reader, reader->root, "partial_rotary_factor", 1) != 1.0f)
		refuse(reader, "partial_rotary_factor", "other than 1", "whole heads are rotated");
	json_array_foreach(kinds, i, kind)
		if (!json_is_string(kind) || strcmp(json_string_value(kind), "full_attention") != 0)
			refuse(reader, "layer_types", json_is_string(kind) ? json_string_value(kind) : "?",
			       "full_attention is");
}

static void read_sizes(struct reader *reader, struct model_config *config)
{
	json_t *root = reader->root;
	bool qwen2 = strcmp(config->architecture, "qwen2") == 0;

	config->hidden_size = get_count(reader, root, "hidden_size", -1);
	config->intermediate_size = get_count(reader, root, "intermediate_size", -1);
	config->layers = get_count(reader, root, "num_hidden_layers", -1);
	config->heads = get_count(reader, root, "num_attention_heads", -1);
	config->kv_heads = get_count(reader, root, "num_key_value_heads", config->heads);
	config->vocabulary = get_count(reader, root, "vocab_size", -1);
	config->positions_max = get_count(reader, root, "max_position_embeddings", qwen2 ? 32768 : 2048);
	config->rms_norm_eps = get_number(reader, root, "rms_norm_eps", 1e-6);
	config->tied = get_bool(reader, "tie_word_embeddings", false);
	config->qkv_bias = qwen2;
	if (is_given(root, "head_dim")) {
		config->head_size = get_count(reader, root, "head_dim", -1);
	} else if (config->heads == 0 || config->hidden_size % config->heads != 0) {
		bad(reader, "num_attention_heads", "a divisor of hidden_size");
	} else {
		config->head_size = config->hidden_size / config->heads;
	}
}

enum status model_config_from_json(const struct mapped_file *file, struct model_config *out,
				   struct error *error)
{
	struct reader reader = {.path = file->path ? file->path : "(memory)", .error = error};
	struct model_config config = {0};
	const char *name;
	json_error_t trouble;

	if (file->size > CONFIG_BYTES_MAX)
		return mapped_file_corrupt(file, CONFIG_BYTES_MAX, error, "longer than %d bytes",
					   CONFIG_BYTES_MAX);
	reader.root = json_loadb((const char *)file->bytes, file->size, JSON_REJECT_DUPLICATES, &trouble);
	if (!reader.root)
		return mapped_file_corrupt(file, trouble.position < 0 ? 0 : (size_t)trouble.position, error,
					   "line %d: %s", trouble.line, trouble.text);
	if (!json_is_object(reader.root)) {
		reader.status = mapped_file_corrupt(file, 0, error, "not a JSON object");
		goto cleanup;
	}
	read_architecture(&reader, &config);
	if (reader.status != STATUS_OK)
		goto cleanup;
	read_sizes(&reader, &config);
	read_rope(&reader, &config);
	read_refusals(&reader);
	if (reader.status == STATUS_OK)
		reader.status = model_config_check(&config, reader.path, error);
	if (reader.status != STATUS_OK)
		goto cleanup;
	name = json_string_value(json_object_get(reader.root, "_name_or_path"));
	snprintf(config.name, sizeof(config.name), "%s", name ? name : "");
	*out = config;
cleanup:
	json_decref(reader.root);
	return reader.status;
}

/* ---- GGUF ---- */

static const char *key_of(char buffer[128], const char *architecture, const char *key)
{
	snprintf(buffer, 128, "%s.%s", architecture, key);
	return buffer;
}

static enum status gguf_rope(const struct gguf *gguf, const char *path, struct model_config *config,
			     struct error *error)
{
	struct text_view type = {0};
	const char *architecture = config->architecture;
	char key[128];
	uint32_t rotated;

	config->rope_theta = 10000;
	gguf_get_f32(gguf, key_of(key, architecture, "rope.freq_base"), &config->rope_theta);
	if (gguf_get_u32(gguf, key_of(key, architecture, "rope.dimension_count"), &rotated) &&
	    rotated != config->head_size)
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: %s = %u with heads of %u; whole heads are rotated",
				 path, key, rotated, config->head_size);
	if (gguf_get_f32(gguf, key_of(key, architecture, "rope.scale_linear"), &config->rope_factor) &&
	    config->rope_factor != 1.0f)
		config->rope_scaling = ROPE_SCALING_LINEAR;
	if (gguf_get_text(gguf, key_of(key, architecture, "rope.scaling.type"), &type) &&
	    !text_equal(type, TEXT_LITERAL("none"))) {
		if (!text_equal(type, TEXT_LITERAL("linear")))
			return error_set(error, STATUS_UNSUPPORTED,
					 "%s: %s = %.*s; none and linear are supported",
					 path, key, (int)(type.size < 64 ? type.size : 64), type.bytes);
		config->rope_scaling = ROPE_SCALING_LINEAR;
		if (!gguf_get_f32(gguf, key_of(key, architecture, "rope.scaling.factor"),
				  &config->rope_factor))
			return error_set(error, STATUS_CORRUPT, "%s: %s is missing", path, key);
	}
	return STATUS_OK;
}

enum status model_config_from_gguf(const struct gguf *gguf, const struct mapped_file *file,
				   struct model_config *out, struct error *error)
{
	struct model_config config = {0};
	struct text_view architecture = {0}, name = {0};
	const char *path = file->path ? file->path : "(memory)";
	struct gguf_array tokens;
	const struct {
		const char *key;
		uint32_t *out;
	} counts[] = {
		{"embedding_length", &config.hidden_size}, {"feed_forward_length", &config.intermediate_size},
		{"block_count", &config.layers}, {"attention.head_count", &config.heads},
		{"context_length", &config.positions_max},
	};
	uint32_t experts, value_size;
	char key[128];
	enum status status;

	if (!gguf_get_text(gguf, "general.architecture", &architecture))
		return error_set(error, STATUS_CORRUPT, "%s: general.architecture is missing", path);
	if (!text_equal(architecture, TEXT_LITERAL("llama")) &&
	    !text_equal(architecture, TEXT_LITERAL("qwen2")))
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: general.architecture = %.*s; llama and qwen2 are "
				 "supported", path, (int)(architecture.size < 64 ? architecture.size : 64),
				 architecture.bytes);
	memcpy(config.architecture, architecture.bytes, architecture.size);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		if (!gguf_get_u32(gguf, key_of(key, config.architecture, counts[i].key), counts[i].out))
			return error_set(error, STATUS_CORRUPT, "%s: %s is missing or is not a count", path,
					 key);
	if (gguf_get_u32(gguf, key_of(key, config.architecture, "expert_count"), &experts) && experts > 0)
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: %s = %u; mixtures of experts are not supported",
				 path, key, experts);
	config.kv_heads = config.heads;
	if (gguf_has(gguf, key_of(key, config.architecture, "attention.head_count_kv")) &&
	    !gguf_get_u32(gguf, key, &config.kv_heads))
		return error_set(error, STATUS_UNSUPPORTED, "%s: %s is not one count for all layers", path,
				 key);
	if (!gguf_get_f32(gguf, key_of(key, config.architecture, "attention.layer_norm_rms_epsilon"),
			  &config.rms_norm_eps))
		return error_set(error, STATUS_CORRUPT, "%s: %s is missing", path, key);
	if (!gguf_get_u32(gguf, key_of(key, config.architecture, "attention.key_length"),
			  &config.head_size)) {
		if (config.heads == 0 || config.hidden_size % config.heads != 0)
			return error_set(error, STATUS_CORRUPT, "%s: width %u is no multiple of %u heads",
					 path,
					 config.hidden_size, config.heads);
		config.head_size = config.hidden_size / config.heads;
	}
	if (gguf_get_u32(gguf, key_of(key, config.architecture, "attention.value_length"), &value_size) &&
	    value_size != config.head_size)
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: keys of %u and values of %u; they must be of "
				 "one size", path, config.head_size, value_size);
	if (!gguf_get_u32(gguf, key_of(key, config.architecture, "vocab_size"), &config.vocabulary)) {
		if (!gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens))
			return error_set(error, STATUS_CORRUPT, "%s: neither %s nor tokenizer.ggml.tokens",
					 path, key);
		config.vocabulary = (uint32_t)tokens.count;
	}
	config.qkv_bias = strcmp(config.architecture, "qwen2") == 0;
	status = gguf_rope(gguf, path, &config, error);
	if (status == STATUS_OK)
		status = model_config_check(&config, path, error);
	if (status != STATUS_OK)
		return status;
	gguf_get_text(gguf, "general.name", &name);
	name = text_cut(name, sizeof(config.name) - 1);
	if (name.size)
		memcpy(config.name, name.bytes, name.size);
	*out = config;
	return STATUS_OK;
}
