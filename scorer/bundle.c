/* bundle.c - from a path and options to the parts of a scorer. Caller: engine.c, score_prompt.c at start. */
#include "scorer/bundle.h"

#include "base/mem.h"
#include "scorer/bundle_json.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

enum { PATH_BYTES = 4096 };

/* ---- exitpoll.json ---- */

static const char *const bundle_keys[] = {"name",    "model",	"adapter", "heads",	    "template",
					  "answers", "context", "policy",  "trained_until", NULL};
static enum status join(const char *folder, const char *name, char out[PATH_BYTES], struct error *error)
{
	int size = name[0] == '/' ? snprintf(out, PATH_BYTES, "%s", name) :
				    snprintf(out, PATH_BYTES, "%s/%s", folder, name);
	if (size < 0 || size >= PATH_BYTES)
		return error_set(error, STATUS_CONFIG, "%.64s: the path is longer than %d bytes", name,
				 PATH_BYTES);
	return STATUS_OK;
}

static enum status read_json(const char *file, json_t **out, struct error *error)
{
	struct mapped_file mapped = {0};
	enum status status = mapped_file_open(file, &mapped, error);
	if (!status)
		status = bundle_json_parse(file, mapped.bytes, mapped.size, out, error);
	mapped_file_close(&mapped);
	return status;
}

static enum status read_answers(const char *file, json_t *root, struct bundle *bundle, struct error *error)
{
	json_t *answers = json_object_get(root, "answers");
	if (!answers || json_is_null(answers))
		return STATUS_OK;
	const char *yes = json_string_value(json_array_get(answers, 0));
	const char *no = json_string_value(json_array_get(answers, 1));
	if (json_array_size(answers) != 2 || !yes || !no || !*yes || !*no)
		return error_set(error, STATUS_CONFIG,
				 "%s: \"answers\" must be two words, [\"Yes\", \"No\"]", file);
	bundle->yes = mem_copy_string(yes);
	bundle->no = mem_copy_string(no);
	if (!bundle->yes || !bundle->no)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the answer words", file);
	return STATUS_OK;
}

struct paths {
	char model[PATH_BYTES], adapter[PATH_BYTES], template[PATH_BYTES], heads[PATH_BYTES];
};

static enum status read_description(const char *folder, const char *file, struct bundle *bundle,
				    struct paths *paths, struct error *error)
{
	json_t *root = NULL;
	const char *name, *model, *adapter, *template, *heads;
	enum status status = read_json(file, &root, error);
	if (status)
		return status;
	if ((status = bundle_json_keys(file, root, bundle_keys, error)) ||
	    (status = bundle_json_text(file, root, "name", &name, error)) ||
	    (status = bundle_json_text(file, root, "model", &model, error)) ||
	    (status = bundle_json_text(file, root, "adapter", &adapter, error)) ||
	    (status = bundle_json_text(file, root, "template", &template, error)) ||
	    (status = bundle_json_text(file, root, "heads", &heads, error)) ||
	    (status = read_answers(file, root, bundle, error)) ||
	    (status = bundle_json_policy(file, json_object_get(root, "policy"), &bundle->policy, error)))
		goto cleanup;
	if (!model) {
		status = error_set(error, STATUS_CONFIG, "%s: \"model\" is missing", file);
		goto cleanup;
	}
	if (heads && json_object_get(root, "policy")) {
		status = error_set(error, STATUS_CONFIG,
				   "%s: \"policy\" beside \"heads\": that of trained heads stands in their "
				   "exit_policy.json", file);
		goto cleanup;
	}
	json_t *until = json_object_get(root, "trained_until");
	if (until && !json_is_integer(until)) {
		status = error_set(error, STATUS_CONFIG,
				   "%s: \"trained_until\" must be a time in milliseconds", file);
		goto cleanup;
	}
	if (until)
		bundle->trained_until_ms = json_integer_value(until);
	json_t *context = json_object_get(root, "context");
	if (context && (!json_is_integer(context) || json_integer_value(context) < 1 ||
			json_integer_value(context) > BUNDLE_CONTEXT_MAX)) {
		status = error_set(error, STATUS_CONFIG, "%s: \"context\" must be 1 to %d tokens", file,
				   BUNDLE_CONTEXT_MAX);
		goto cleanup;
	}
	if (context)
		bundle->context = (uint32_t)json_integer_value(context);
	if (name)
		snprintf(bundle->name, sizeof bundle->name, "%s", name);
	if ((status = join(folder, model, paths->model, error)) ||
	    (heads && (status = join(folder, heads, paths->heads, error))) ||
	    (adapter && (status = join(folder, adapter, paths->adapter, error))))
		goto cleanup;
	if (template && template_builtin(template))
		snprintf(paths->template, sizeof paths->template, "%s", template);
	else if (template)
		status = join(folder, template, paths->template, error);
cleanup:
	json_decref(root);
	return status;
}

/* ---- defaults and overrides ---- */

/* "folder/SmolLM2.gguf" is called SmolLM2. */
static void name_after(const char *path, char out[96])
{
	char copy[PATH_BYTES];
	snprintf(copy, sizeof copy, "%s", path);
	size_t size = strlen(copy);
	while (size > 1 && copy[size - 1] == '/')
		copy[--size] = 0;
	const char *slash = strrchr(copy, '/');
	snprintf(out, 96, "%.95s", slash && slash[1] ? slash + 1 : copy);
	size = strlen(out);
	if (size > 5 && strcmp(out + size - 5, ".gguf") == 0)
		out[size - 5] = 0;
}

/* What the model was taught to be talked to with. */
static const char *template_for(const struct bundle *bundle)
{
	const struct tokenizer *t = bundle->tokenizer;
	const char *chat = tokenizer_chat_template(t), *name = model_get_config(bundle->model)->name;
	if (tokenizer_special(t, "<|im_start|>") >= 0 && (!chat || strstr(chat, "<|im_start|>")))
		return "chatml";
	if (tokenizer_special(t, "<|start_header_id|>") >= 0 &&
	    (!chat || strstr(chat, "<|start_header_id|>")))
		return "llama3";
	if ((chat && strstr(chat, "USER:")) || strstr(name, "vicuna") || strstr(bundle->name, "vicuna"))
		return "vicuna";
	return "plain";
}

static enum status override_policy(const struct scorer_options *options, struct bundle *bundle,
				   struct error *error)
{
	struct exit_policy *policy = &bundle->policy;
	uint32_t layers = model_get_config(bundle->model)->layers;
	enum status status;
	if (options->exit_rule) {
		enum exit_rule rule;
		if ((status = exit_rule_parse(options->exit_rule, &rule, error)))
			return status;
		if (rule != policy->rule)
			exit_policy_defaults(rule, policy);
	}
	if (!isnan(options->exit_threshold))
		policy->threshold = options->exit_threshold;
	if (options->exit_window < 0)
		return error_set(error, STATUS_CONFIG, "exit.window %d: want 1 to %d", options->exit_window,
				 EXIT_LAYERS_MAX);
	if (options->exit_window)
		policy->window = (uint32_t)options->exit_window;
	if (options->exit_layers || !policy->layers_count)
		if ((status = exit_layers_parse(options->exit_layers, layers, policy, error)))
			return status;
	if ((status = exit_policy_check(policy, layers, error)))
		return status;
	if (bundle_is_trained(bundle) && bundle->trained_until_ms < bundle->heads->trained_until_ms)
		bundle->trained_until_ms = bundle->heads->trained_until_ms;
	for (uint32_t i = 0; bundle_is_trained(bundle) && i < policy->layers_count; i++)
		if (!exit_heads_at(bundle->heads, policy->layers[i]))
			return error_set(error, STATUS_CONFIG,
					 "exit.layers: the bundle has no trained head at layer %u",
					 policy->layers[i]);
	return STATUS_OK;
}

/* Heads know what they were trained on; anything else would be read as if it were that. */
static enum status open_heads(struct bundle *bundle, const char *folder, struct error *error)
{
	const struct model_config *config = model_get_config(bundle->model);
	char wording[BUNDLE_HASH_BYTES];
	enum status status = exit_heads_open(folder, config->hidden_size, config->layers, &bundle->heads,
					     error);
	if (status)
		return status;
	bundle_wording_hash(bundle, wording);
	if (strcmp(bundle->heads->model, bundle->content))
		return error_set(error, STATUS_CONFIG,
				 "%s: the exit heads were trained on model %s, this one is %s (another model, "
				 "another quantisation, or another adapter)", folder, bundle->heads->model,
				 bundle->content);
	if (strcmp(bundle->heads->wording, wording))
		return error_set(error, STATUS_CONFIG,
				 "%s: the exit heads were trained with another template or other answer words "
				 "(%s, now %s)", folder, bundle->heads->wording, wording);
	bundle->policy = bundle->heads->policy;
	return STATUS_OK;
}

/* ---- the id ---- */

static void feed_text(XXH3_state_t *state, const char *text)
{
	uint64_t size = text ? strlen(text) : UINT64_MAX;
	XXH3_128bits_update(state, &size, sizeof size);
	if (text)
		XXH3_128bits_update(state, text, (size_t)size);
}

/* A rule's unused fields stay out: they change no score. */
static void feed_policy(XXH3_state_t *state, const struct exit_policy *policy)
{
	char text[64];
	bool has_window = policy->rule == EXIT_DISCREPANCY || policy->rule == EXIT_PATIENCE;
	bool has_threshold = policy->rule != EXIT_PATIENCE && policy->rule != EXIT_NONE;
	snprintf(text, sizeof text, "%s %a %u", exit_rule_name(policy->rule),
		 has_threshold && !isnan(policy->threshold) ? policy->threshold : -1.0,
		 has_window ? policy->window : 0);
	feed_text(state, text);
	uint64_t count = policy->rule == EXIT_NONE ? 0 : policy->layers_count;
	XXH3_128bits_update(state, &count, sizeof count);
	XXH3_128bits_update(state, policy->layers, count * sizeof policy->layers[0]);
}

void bundle_wording_hash(const struct bundle *bundle, char out[BUNDLE_HASH_BYTES])
{
	const char *parts[3] = {bundle->wording->text, bundle->yes, bundle->no};
	uint64_t low = 0, high = 0;
	for (int i = 0; i < 3; i++) {
		const char *text = parts[i] ? parts[i] : "";
		XXH128_hash_t hash = XXH3_128bits_withSeed(text, strlen(text), low ^ (high << 1) ^ !parts[i]);
		low = hash.low64;
		high = hash.high64;
	}
	snprintf(out, BUNDLE_HASH_BYTES, "%016llx%016llx", (unsigned long long)high, (unsigned long long)low);
}

static enum status make_id(struct bundle *bundle, struct error *error)
{
	XXH3_state_t *state = XXH3_createState();
	if (!state)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the hash of the bundle");
	XXH3_128bits_reset(state);
	feed_text(state, "exitpoll bundle 1");
	feed_text(state, bundle->content);
	feed_text(state, bundle->wording->text);
	feed_text(state, bundle->yes);
	feed_text(state, bundle->no);
	if (bundle_is_trained(bundle))
		feed_text(state, bundle->heads->content);
	feed_policy(state, &bundle->policy);
	uint64_t context = bundle->context;
	XXH3_128bits_update(state, &context, sizeof context);
	XXH128_hash_t hash = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	snprintf(bundle->model_id, sizeof bundle->model_id, "%s@%016llx%016llx", bundle->name,
		 (unsigned long long)hash.high64, (unsigned long long)hash.low64);
	return STATUS_OK;
}

/* ---- opening ---- */

enum status bundle_open(const struct scorer_options *options, struct bundle **out, struct error *error)
{
	if (!options->model || !*options->model)
		return error_set(error, STATUS_CONFIG,
				 "no model: give --model a bundle folder, a model folder or a "
				 "GGUF file (or set scorer.backend=stub)");
	enum status status = STATUS_OK;
	char file[PATH_BYTES];
	struct bundle *bundle = mem_alloc_zero(1, sizeof *bundle);
	struct paths *paths = mem_alloc_zero(1, sizeof *paths);
	if (!bundle || !paths) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for the bundle");
		goto cleanup;
	}
	exit_policy_defaults(EXIT_DISCREPANCY, &bundle->policy);
	bundle->trained_until_ms = INT64_MIN;
	name_after(options->model, bundle->name);
	if ((status = join(options->model, "exitpoll.json", file, error)))
		goto cleanup;
	if (access(file, F_OK) == 0)
		status = read_description(options->model, file, bundle, paths, error);
	else
		status = join(".", options->model, paths->model, error);
	if (status)
		goto cleanup;
	if ((status = model_open(paths->model, paths->adapter[0] ? paths->adapter : NULL, &bundle->model,
				 error)) ||
	    (status = tokenizer_open(paths->model, &bundle->tokenizer, error)))
		goto cleanup;
	const struct model_config *config = model_get_config(bundle->model);
	if (config->layers > SCORER_LAYERS_MAX) {
		status = error_set(error, STATUS_UNSUPPORTED, "%s: %u layers; at most %d are supported",
				   paths->model, config->layers, SCORER_LAYERS_MAX);
		goto cleanup;
	}
	if (tokenizer_vocabulary(bundle->tokenizer) > config->vocabulary) {
		status =
		    error_set(error, STATUS_UNSUPPORTED,
			      "%s: the tokenizer has %u ids, the model %u rows; they "
			      "do not belong together",
			      paths->model, tokenizer_vocabulary(bundle->tokenizer), config->vocabulary);
		goto cleanup;
	}
	const char *wording = options->template_name ? options->template_name :
			      paths->template[0] ? paths->template : template_for(bundle);
	if ((status = template_load(wording, &bundle->wording, error)) ||
	    (status = model_content_hash(bundle->model, bundle->content, error)) ||
	    (paths->heads[0] && (status = open_heads(bundle, paths->heads, error))) ||
	    (status = override_policy(options, bundle, error)))
		goto cleanup;
	if (bundle->context > config->positions_max) {
		status = error_set(error, STATUS_CONFIG,
				   "%s: \"context\" %u is more than the model's %u positions", file,
				   bundle->context, config->positions_max);
		goto cleanup;
	}
	if (!bundle->context)
		bundle->context = config->positions_max < BUNDLE_CONTEXT_DEFAULT ? config->positions_max :
										   BUNDLE_CONTEXT_DEFAULT;
	if ((status = make_id(bundle, error)))
		goto cleanup;
	mem_free(paths);
	*out = bundle;
	return STATUS_OK;
cleanup:
	mem_free(paths);
	bundle_close(bundle);
	return status;
}

void bundle_close(struct bundle *bundle)
{
	if (!bundle)
		return;
	exit_heads_close(bundle->heads);
	tokenizer_close(bundle->tokenizer);
	model_close(bundle->model);
	template_destroy(bundle->wording);
	mem_free(bundle->yes);
	mem_free(bundle->no);
	mem_free(bundle);
}
