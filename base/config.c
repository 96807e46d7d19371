/* config.c - the settings table at work: values are kept as text with their origin and were checked
 * when set. The number of passed-through keys has a maximum; everything else is as large as the table. */
#include "base/config.h"

#include "base/mem.h"
#include "base/text.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum { PASSED_MAX = 256, LINE_BYTES_MAX = 64 * 1024, SECRET_BYTES_MAX = 64 * 1024 };

struct setting {
	const struct config_key *key;   /* NULL: passed through */
	char *name;                     /* passed through: with prefix */
	char *value;
	char *origin_text;
	enum config_origin origin;
};

struct config {
	struct setting *settings;       /* [keys_count + PASSED_MAX] */
	size_t keys_count;
	size_t count;                   /* keys, then passed-through ones */
	const char *pass_through;
	bool (*passed_is_secret)(const char *name);
};

struct config *config_create(const struct config_key *keys, size_t count, const char *pass_through,
			     bool (*passed_is_secret)(const char *name))
{
	struct config *config = mem_alloc_zero(1, sizeof *config);
	if (!config)
		return NULL;
	config->settings = mem_alloc_zero(count + PASSED_MAX, sizeof *config->settings);
	if (!config->settings) {
		mem_free(config);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		config->settings[i].key = &keys[i];
	config->keys_count = config->count = count;
	config->pass_through = pass_through;
	config->passed_is_secret = passed_is_secret;
	return config;
}

void config_destroy(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->count; i++) {
		mem_free(config->settings[i].name);
		mem_free(config->settings[i].value);
		mem_free(config->settings[i].origin_text);
	}
	mem_free(config->settings);
	mem_free(config);
}

static const char *setting_name(const struct setting *setting)
{
	return setting->key ? setting->key->name : setting->name;
}

static bool is_secret(const struct config *config, const struct setting *setting)
{
	return setting->key ? setting->key->secret
			    : config->passed_is_secret(setting->name + strlen(config->pass_through));
}

static struct setting *find(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->count; i++)
		if (strcmp(setting_name(&config->settings[i]), name) == 0)
			return &config->settings[i];
	return NULL;
}

static enum status unknown_key(const struct config *config, const char *name, struct error *error)
{
	const char *nearest = NULL;
	size_t nearest_distance = SIZE_MAX;

	for (size_t i = 0; i < config->keys_count; i++) {
		size_t distance = text_distance(name, config->settings[i].key->name);
		if (distance < nearest_distance) {
			nearest_distance = distance;
			nearest = config->settings[i].key->name;
		}
	}
	if (nearest && nearest_distance <= 2 + strlen(name) / 3)
		return error_set(error, STATUS_CONFIG, "unknown setting '%s'; did you mean '%s'?", name,
				 nearest);
	return error_set(error, STATUS_CONFIG, "unknown setting '%s'; `exitpoll run --help-settings` lists them",
			 name);
}

static bool choice_holds(const char *choices, const char *value)
{
	size_t size = strlen(value);
	if (strchr(value, '|'))
		return false;
	for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
		if (strncmp(at, value, size) == 0 && (at[size] == '|' || at[size] == '\0'))
			return size > 0;
	return false;
}

static bool parse_boolean(const char *value, bool *out)
{
	if (!strcmp(value, "true") || !strcmp(value, "yes") || !strcmp(value, "on") || !strcmp(value, "1"))
		*out = true;
	else if (!strcmp(value, "false") || !strcmp(value, "no") || !strcmp(value, "off") || !strcmp(value, "0"))
		*out = false;
	else
		return false;
	return true;
}

static enum status check_value(const struct config_key *key, const char *value, struct error *error)
{
	char *end;
	bool ignored;

	switch (key->type) {
	case CONFIG_TEXT:
		return STATUS_OK;
	case CONFIG_BOOLEAN:
		if (!parse_boolean(value, &ignored))
			return error_set(error, STATUS_CONFIG, "%s = '%s': true or false is needed", key->name,
					 value);
		return STATUS_OK;
	case CONFIG_CHOICE:
		if (!choice_holds(key->choices, value))
			return error_set(error, STATUS_CONFIG, "%s = '%s': one of %s is needed", key->name, value,
					 key->choices);
		return STATUS_OK;
	case CONFIG_INTEGER: {
		errno = 0;
		long long integer = strtoll(value, &end, 10);
		if (end == value || *end || errno || (double)integer < key->min || (double)integer > key->max)
			return error_set(error, STATUS_CONFIG, "%s = '%s': a whole number from %.0f to %.0f is needed",
					 key->name, value, key->min, key->max);
		return STATUS_OK;
	}
	case CONFIG_NUMBER: {
		double number = strtod(value, &end);
		if (end == value || *end || !(number >= key->min && number <= key->max))
			return error_set(error, STATUS_CONFIG, "%s = '%s': a number from %g to %g is needed",
					 key->name, value, key->min, key->max);
		return STATUS_OK;
	}
	}
	return STATUS_INTERNAL;
}

static enum status read_secret_file(const char *name, const char *path, char **out, struct error *error)
{
	FILE *file = fopen(path, "re");
	char *text;
	size_t size;

	if (!file)
		return error_set(error, STATUS_CONFIG, "%s: cannot open the secret's file %s: %s", name, path,
				 strerror(errno));
	text = mem_alloc(SECRET_BYTES_MAX + 1);
	size = text ? fread(text, 1, SECRET_BYTES_MAX, file) : 0;
	fclose(file);
	if (!text)
		return error_set(error, STATUS_NO_MEMORY, "%s: out of memory", name);
	while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r'))
		size--;
	text[size] = '\0';
	*out = text;
	return STATUS_OK;
}

/* file:PATH and env:NAME are followed for secrets; anything else is taken as it is. */
static enum status resolve(const struct config *config, const struct setting *setting, const char *value,
			   enum config_origin origin, char **out, struct error *error)
{
	const char *name = setting_name(setting);

	if (is_secret(config, setting)) {
		if (strncmp(value, "file:", 5) == 0)
			return read_secret_file(name, value + 5, out, error);
		if (strncmp(value, "env:", 4) == 0) {
			const char *found = getenv(value + 4);
			if (!found)
				return error_set(error, STATUS_CONFIG, "%s: the environment has no %s", name,
						 value + 4);
			value = found;
		} else if (origin == CONFIG_COMMAND_LINE) {
			return error_set(error, STATUS_CONFIG,
					 "%s: a secret on the command line can be read by every user of this "
					 "machine; give file:PATH or env:NAME, or put it into --config FILE", name);
		}
	}
	*out = mem_copy_string(value);
	return *out ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "%s: out of memory", name);
}

static enum status set_with_origin(struct config *config, const char *name, const char *value,
				   enum config_origin origin, const char *origin_text, struct error *error)
{
	struct setting *setting = find(config, name);
	bool created = false;
	char *copy = NULL, *origin_copy;
	enum status status;

	if (!setting) {
		size_t prefix = config->pass_through ? strlen(config->pass_through) : 0;
		if (!prefix || strncmp(name, config->pass_through, prefix) != 0 || !name[prefix])
			return unknown_key(config, name, error);
		if (config->count >= config->keys_count + PASSED_MAX)
			return error_set(error, STATUS_CONFIG, "more than %d settings under %s", (int)PASSED_MAX,
					 config->pass_through);
		setting = &config->settings[config->count];
		setting->name = mem_copy_string(name);
		if (!setting->name)
			return error_set(error, STATUS_NO_MEMORY, "%s: out of memory", name);
		created = true;
	}
	if (origin < setting->origin)
		return STATUS_OK;
	status = resolve(config, setting, value, origin, &copy, error);
	if (status == STATUS_OK && setting->key)
		status = check_value(setting->key, copy, error);
	origin_copy = status == STATUS_OK ? mem_copy_string(origin_text) : NULL;
	if (status == STATUS_OK && !origin_copy)
		status = error_set(error, STATUS_NO_MEMORY, "%s: out of memory", name);
	if (status != STATUS_OK) {
		mem_free(copy);
		if (created) {
			mem_free(setting->name);
			setting->name = NULL;
		}
		return status;
	}
	config->count += created;
	mem_free(setting->value);
	mem_free(setting->origin_text);
	setting->value = copy;
	setting->origin = origin;
	setting->origin_text = origin_copy;
	return STATUS_OK;
}

enum status config_set(struct config *config, const char *key, const char *value,
		       enum config_origin origin, struct error *error)
{
	static const char *const names[] = {"default", "file", "environment", "command line"};
	return set_with_origin(config, key, value, origin, names[origin], error);
}

enum status config_set_pair(struct config *config, const char *pair, struct error *error)
{
	const char *equals = strchr(pair, '=');
	char name[256];

	if (!equals || equals == pair || (size_t)(equals - pair) >= sizeof name)
		return error_set(error, STATUS_USAGE, "--set needs key=value, not '%s'", pair);
	memcpy(name, pair, (size_t)(equals - pair));
	name[equals - pair] = '\0';
	return config_set(config, name, equals + 1, CONFIG_COMMAND_LINE, error);
}

static char *trim(char *text)
{
	char *end;
	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text;
}

static enum status set_line(struct config *config, const char *path, int line_number, char *line,
			    struct error *error)
{
	char origin[512];
	char *text = trim(line), *equals;
	enum status status;

	if (*text == '\0' || *text == '#' || *text == '!')
		return STATUS_OK;
	equals = strchr(text, '=');
	if (!equals)
		return error_set(error, STATUS_CONFIG, "%s:%d: key=value is needed", path, line_number);
	*equals = '\0';
	snprintf(origin, sizeof origin, "file %s:%d", path, line_number);
	status = set_with_origin(config, trim(text), trim(equals + 1), CONFIG_FILE, origin, error);
	return status == STATUS_OK ? status : error_prefix(error, "%s:%d", path, line_number);
}

enum status config_load_file(struct config *config, const char *path, struct error *error)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t used = 0;
	int number = 0, first = 1, byte;
	enum status status = STATUS_OK;

	if (!file)
		return error_set(error, STATUS_NO_INPUT, "cannot open the configuration file %s: %s", path,
				 strerror(errno));
	line = mem_alloc(LINE_BYTES_MAX + 1);
	if (!line) {
		status = error_set(error, STATUS_NO_MEMORY, "out of memory");
		goto cleanup;
	}
	do {
		byte = getc(file);
		if (byte == '\n' || byte == EOF) {
			number++;
			if (byte == '\n' && used && line[used - 1] == '\\') {
				used--;
				continue;
			}
			line[used] = '\0';
			status = set_line(config, path, first, line, error);
			used = 0;
			first = number + 1;
		} else if (used == LINE_BYTES_MAX) {
			status = error_set(error, STATUS_CONFIG, "%s:%d: a line of more than %d bytes", path,
					   number + 1, (int)LINE_BYTES_MAX);
		} else {
			line[used++] = (char)byte;
		}
	} while (byte != EOF && status == STATUS_OK);
cleanup:
	mem_free(line);
	fclose(file);
	return status;
}

static void environment_name(const char *prefix, const char *key, char *out, size_t size)
{
	size_t used = (size_t)snprintf(out, size, "%s", prefix);
	for (; *key && used + 1 < size; key++)
		out[used++] = *key == '.' || *key == '-' ? '_' : (char)toupper((unsigned char)*key);
	out[used] = '\0';
}

enum status config_load_environment(struct config *config, const char *prefix, struct error *error)
{
	char name[256], origin[300];
	enum status status = STATUS_OK;

	for (size_t i = 0; i < config->keys_count && status == STATUS_OK; i++) {
		environment_name(prefix, config->settings[i].key->name, name, sizeof name);
		const char *value = getenv(name);
		snprintf(origin, sizeof origin, "environment %s", name);
		if (value)
			status = set_with_origin(config, config->settings[i].key->name, value,
						 CONFIG_ENVIRONMENT, origin, error);
	}
	if (!config->pass_through || status != STATUS_OK)
		return status;
	environment_name(prefix, config->pass_through, name, sizeof name);
	size_t head = strlen(name);
	for (char **entry = environ; *entry && status == STATUS_OK; entry++) {
		const char *equals = strchr(*entry, '=');
		if (strncmp(*entry, name, head) != 0 || !equals || (size_t)(equals - *entry) >= 200)
			continue;
		char key[256];
		size_t used = (size_t)snprintf(key, sizeof key, "%s", config->pass_through);
		for (const char *at = *entry + head; at < equals; at++)
			key[used++] = *at == '_' ? '.' : (char)tolower((unsigned char)*at);
		key[used] = '\0';
		snprintf(origin, sizeof origin, "environment %.*s", (int)(equals - *entry), *entry);
		status = set_with_origin(config, key, equals + 1, CONFIG_ENVIRONMENT, origin, error);
	}
	return status;
}

static const struct setting *known(const struct config *config, const char *key)
{
	const struct setting *setting = find(config, key);
	assert(setting && "a setting that is read must be in the table");
	return setting;
}

const char *config_text(const struct config *config, const char *key)
{
	const struct setting *setting = known(config, key);
	return setting->value ? setting->value : setting->key->default_value;
}

int64_t config_integer(const struct config *config, const char *key)
{
	const char *value = config_text(config, key);
	return value ? strtoll(value, NULL, 10) : 0;
}

double config_number(const struct config *config, const char *key)
{
	const char *value = config_text(config, key);
	return value ? strtod(value, NULL) : 0;
}

bool config_boolean(const struct config *config, const char *key)
{
	const char *value = config_text(config, key);
	bool result = false;
	if (value)
		parse_boolean(value, &result);
	return result;
}

bool config_is_set(const struct config *config, const char *key)
{
	return known(config, key)->value != NULL;
}

size_t config_entries(const struct config *config)
{
	return config->count;
}

void config_entry_at(const struct config *config, size_t index, struct config_entry *out)
{
	const struct setting *setting = &config->settings[index];
	const char *fallback = setting->key ? setting->key->default_value : NULL;

	out->key = setting_name(setting);
	out->secret = is_secret(config, setting);
	out->value = setting->value ? (out->secret ? "********" : setting->value) : fallback;
	out->origin = setting->origin_text ? setting->origin_text : "default";
	out->help = setting->key ? setting->key->help : NULL;
}

size_t config_passed_count(const struct config *config)
{
	return config->count - config->keys_count;
}

void config_passed_at(const struct config *config, size_t index, const char **name, const char **value)
{
	const struct setting *setting = &config->settings[config->keys_count + index];
	*name = setting->name + strlen(config->pass_through);
	*value = setting->value;
}
