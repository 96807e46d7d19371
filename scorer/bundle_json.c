/* bundle_json.c - strict reading of a bundle's JSON. Caller: bundle.c, exit_heads.c. */
#include "scorer/bundle_json.h"

#include "base/file.h"
#include "base/text.h"

#include <math.h>

static const char *const policy_keys[] = {"rule", "threshold", "window", "layers", NULL};

enum status bundle_json_parse(const char *file, const void *bytes, size_t size, json_t **out,
			      struct error *error)
{
	json_error_t where;
	if (size > BUNDLE_JSON_BYTES_MAX)
		return error_set(error, STATUS_CORRUPT,
				 "%s: %zu bytes; a bundle's description has at most %d", file, size,
				 BUNDLE_JSON_BYTES_MAX);
	json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return error_set(error, STATUS_CORRUPT, "%s: byte %d: %s", file, where.position, where.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return error_set(error, STATUS_CORRUPT, "%s: byte 0: not a JSON object", file);
	}
	*out = root;
	return STATUS_OK;
}

enum status bundle_json_keys(const char *file, json_t *object, const char *const *known, struct error *error)
{
	const char *key;
	json_t *value;
	json_object_foreach(object, key, value) {
		const char *nearest = known[0];
		bool found = false;
		for (size_t i = 0; known[i]; i++) {
			found |= strcmp(known[i], key) == 0;
			if (text_distance(key, known[i]) < text_distance(key, nearest))
				nearest = known[i];
		}
		if (!found)
			return error_set(error, STATUS_CONFIG,
					 "%s: unknown key \"%.64s\"; did you mean \"%s\"?", file, key,
					 nearest);
	}
	return STATUS_OK;
}

enum status bundle_json_text(const char *file, json_t *object, const char *key, const char **out,
			     struct error *error)
{
	json_t *value = json_object_get(object, key);
	*out = NULL;
	if (!value || json_is_null(value))
		return STATUS_OK;
	if (!json_is_string(value) || !*json_string_value(value))
		return error_set(error, STATUS_CONFIG, "%s: \"%s\" must be a text", file, key);
	*out = json_string_value(value);
	return STATUS_OK;
}

static enum status read_layers(const char *file, json_t *layers, struct exit_policy *policy,
			       struct error *error)
{
	if (!json_is_array(layers) || !json_array_size(layers) || json_array_size(layers) > EXIT_LAYERS_MAX)
		return error_set(error, STATUS_CONFIG, "%s: \"layers\" must be a list of 1 to %d layers",
				 file, EXIT_LAYERS_MAX);
	policy->layers_count = (uint32_t)json_array_size(layers);
	for (uint32_t i = 0; i < policy->layers_count; i++) {
		json_t *layer = json_array_get(layers, i);
		json_int_t value = json_is_integer(layer) ? json_integer_value(layer) : 0;
		policy->layers[i] = value > 0 && value <= EXIT_LAYERS_MAX ? (uint32_t)value : 0;
	}
	return STATUS_OK;
}

enum status bundle_json_policy(const char *file, json_t *object, struct exit_policy *policy,
			       struct error *error)
{
	if (!object || json_is_null(object))
		return STATUS_OK;
	enum status status;
	const char *rule;
	enum exit_rule kind = policy->rule;
	if (!json_is_object(object))
		return error_set(error, STATUS_CONFIG, "%s: \"policy\" must be an object", file);
	if ((status = bundle_json_keys(file, object, policy_keys, error)) ||
	    (status = bundle_json_text(file, object, "rule", &rule, error)) ||
	    (rule && (status = exit_rule_parse(rule, &kind, error))))
		return status;
	exit_policy_defaults(kind, policy);
	json_t *threshold = json_object_get(object, "threshold"), *window = json_object_get(object, "window");
	json_t *layers = json_object_get(object, "layers");
	if (threshold && !json_is_null(threshold) && !json_is_number(threshold))
		return error_set(error, STATUS_CONFIG, "%s: \"threshold\" must be a number", file);
	if (json_is_number(threshold))
		policy->threshold = json_number_value(threshold);
	else if (json_is_null(threshold))
		policy->threshold = NAN;
	if (window && (!json_is_integer(window) || json_integer_value(window) < 1 ||
		       json_integer_value(window) > EXIT_LAYERS_MAX))
		return error_set(error, STATUS_CONFIG, "%s: \"window\" must be 1 to %d", file,
				 EXIT_LAYERS_MAX);
	if (window)
		policy->window = (uint32_t)json_integer_value(window);
	return layers ? read_layers(file, layers, policy, error) : STATUS_OK;
}

enum status bundle_json_put(const char *folder, const char *name, const json_t *root, unsigned digits,
			    struct error *error)
{
	char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
	enum status status = text ? file_put(folder, name, text, strlen(text), error) :
				    error_set(error, STATUS_NO_MEMORY, "no memory to write %s", name);
	/* json_dumps' text is the C library's. */
	(free)(text);
	return status;
}
