/* tokenizer_settings.c - the small files of a folder that say what the tokenizer file does not. Each may be
 * absent; one that is there must be well-formed. Used by tokenizer.c while opening. */
#include "scorer/tokenizer_parts.h"

#include <jansson.h>

enum { SETTINGS_BYTES_MAX = 16 << 20, TEMPLATE_BYTES_MAX = 1 << 20 };

/* *out stays zeroed when the file is absent. */
static enum status open_optional(const char *folder, const char *name, struct mapped_file *out,
				 struct error *error)
{
	char *path = mapped_file_join(folder, name);
	enum status status = STATUS_OK;

	if (!path)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", folder);
	if (mapped_file_exists(path))
		status = mapped_file_open(path, out, error);
	mem_free(path);
	if (status == STATUS_OK && out->size > SETTINGS_BYTES_MAX)
		status = mapped_file_corrupt(out, SETTINGS_BYTES_MAX, error, "longer than %d bytes",
					     SETTINGS_BYTES_MAX);
	return status;
}

/* *out: NULL when the file is absent. */
static enum status read_json(const char *folder, const char *name, json_t **out, struct error *error)
{
	struct mapped_file file = {0};
	json_error_t trouble;
	enum status status = open_optional(folder, name, &file, error);

	*out = NULL;
	if (status == STATUS_OK && file.path) {
		/* model_max_length is often 1e30 written as an integer. */
		*out = json_loadb((const char *)file.bytes, file.size,
				  JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &trouble);
		if (!*out)
			status = mapped_file_corrupt(&file, trouble.position < 0 ? 0 :
						     (size_t)trouble.position,
						     error, "line %d: %s", trouble.line, trouble.text);
		else if (!json_is_object(*out))
			status = mapped_file_corrupt(&file, 0, error, "not a JSON object");
	}
	mapped_file_close(&file);
	if (status != STATUS_OK) {
		json_decref(*out);
		*out = NULL;
	}
	return status;
}

/* "<s>" or {"content": "<s>", ...}. */
static const char *token_text(json_t *value)
{
	return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

static enum status copy_text(const char *text, char **out, struct error *error)
{
	if (!text || *out)
		return STATUS_OK;
	*out = mem_copy_string(text);
	return *out ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for a tokenizer's settings");
}

/* A text, or a list of named ones of which "default" is meant. */
static const char *chat_template_of(json_t *value)
{
	size_t i;
	json_t *entry;

	json_array_foreach(value, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "name"));
		if (name && strcmp(name, "default") == 0)
			return json_string_value(json_object_get(entry, "template"));
	}
	return json_string_value(value);
}

static int flag_of(json_t *root, const char *key)
{
	json_t *value = json_object_get(root, key);
	return json_is_boolean(value) ? json_is_true(value) : -1;
}

static int32_t id_of(json_t *root, const char *key)
{
	json_t *value = json_object_get(root, key);

	/* Several end tokens: the first. */
	if (json_is_array(value))
		value = json_array_get(value, 0);
	if (!json_is_number(value) || !(json_number_value(value) >= 0 &&
					json_number_value(value) <= INT32_MAX))
		return -1;
	return (int32_t)json_number_value(value);
}

static enum status read_template(struct tokenizer *tokenizer, const char *folder, struct error *error)
{
	struct mapped_file file = {0};
	enum status status = open_optional(folder, "chat_template.jinja", &file, error);

	if (status == STATUS_OK && file.path && file.size <= TEMPLATE_BYTES_MAX) {
		tokenizer->chat_template = mem_alloc(file.size + 1);
		if (!tokenizer->chat_template) {
			status = error_set(error, STATUS_NO_MEMORY, "%s: no memory", folder);
			goto cleanup;
		}
		memcpy(tokenizer->chat_template, file.bytes, file.size);
		tokenizer->chat_template[file.size] = '\0';
	}
cleanup:
	mapped_file_close(&file);
	return status;
}

enum status tokenizer_load_settings(struct tokenizer *tokenizer, const char *folder, struct error *error)
{
	struct tokenizer_settings *settings = &tokenizer->settings;
	json_t *root = NULL, *bos;
	enum status status = read_template(tokenizer, folder, error);

	if (status == STATUS_OK)
		status = read_json(folder, "tokenizer_config.json", &root, error);
	if (status != STATUS_OK)
		return status;
	if (root) {
		bos = json_object_get(root, "bos_token");
		settings->has_no_bos = json_is_null(bos);
		settings->adds_bos = flag_of(root, "add_bos_token");
		settings->legacy = flag_of(root, "legacy");
		status = copy_text(token_text(bos), &settings->bos_text, error);
		if (status == STATUS_OK)
			status = copy_text(token_text(json_object_get(root, "eos_token")),
					   &settings->eos_text,
					   error);
		if (status == STATUS_OK)
			status = copy_text(chat_template_of(json_object_get(root, "chat_template")),
					   &tokenizer->chat_template, error);
		json_decref(root);
	}
	if (status == STATUS_OK)
		status = read_json(folder, "config.json", &root, error);
	if (status != STATUS_OK)
		return status;
	settings->bos_id = id_of(root, "bos_token_id");
	settings->eos_id = id_of(root, "eos_token_id");
	json_decref(root);
	return STATUS_OK;
}
