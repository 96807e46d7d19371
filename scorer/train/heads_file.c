/* heads_file.c - exit_heads.safetensors and exit_policy.json from heads in memory.
 *
 * Invariant: tensors stand in the order in which they are named in exit_heads.h, without holes. Caller:
 * fit_heads.c. */
#include "scorer/train/heads_file.h"

#include "base/file.h"
#include "base/mem.h"
#include "scorer/bundle_json.h"

#include <math.h>
#include <stdio.h>

enum { NAME_BYTES = 64, HEADER_ENTRY_BYTES = 160 };

struct layout {
	char *header;                   /* the JSON as it grows */
	size_t header_size, header_max;
	float *values;                  /* NULL while only counting */
	size_t floats;
};

static void add(struct layout *layout, const char *name, const float *values, size_t rows, size_t columns)
{
	size_t count = rows * (columns ? columns : 1);
	if (layout->values) {
		char shape[64];
		snprintf(shape, sizeof shape, columns ? "%zu,%zu" : "%zu", rows, columns);
		memcpy(layout->values + layout->floats, values, count * sizeof *values);
		layout->header_size += (size_t)snprintf(
			layout->header + layout->header_size, layout->header_max - layout->header_size,
			"%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
			layout->header_size > 1 ? "," : "", name, shape, layout->floats * sizeof *values,
			(layout->floats + count) * sizeof *values);
	}
	layout->floats += count;
}

static void add_part(struct layout *layout, const struct exit_head_weights *head, const char *part,
		     const float *values, size_t rows, size_t columns)
{
	char name[NAME_BYTES];
	snprintf(name, sizeof name, "%u.%s", head->layer, part);
	add(layout, name, values, rows, columns);
}

static void add_all(struct layout *layout, const struct exit_heads *heads)
{
	size_t inputs = heads->inputs_count, units = heads->units, all = heads->members * units;
	layout->floats = 0;
	if (inputs) {
		add(layout, "features.mean", heads->mean, inputs, 0);
		add(layout, "features.scale", heads->scale, inputs, 0);
		add(layout, "features.bend", heads->bend, inputs, 0);
		add(layout, "statistics.linear", heads->linear, inputs, 0);
		add(layout, "statistics.weight", heads->weight, all, inputs);
		add(layout, "statistics.bias", heads->bias, all, 0);
		add(layout, "statistics.output", heads->output, all, 0);
	}
	if (inputs && heads->inner) {
		add(layout, "statistics.inner", heads->inner, all, units);
		add(layout, "statistics.inner_bias", heads->inner_bias, all, 0);
	}
	for (uint32_t i = 0; i < heads->count; i++) {
		const struct exit_head_weights *head = &heads->heads[i];
		float intercept = (float)head->intercept;
		add_part(layout, head, "intercept", &intercept, 1, 0);
		if (head->hidden) {
			add_part(layout, head, "norm", head->norm, heads->width, 0);
			add_part(layout, head, "vector", head->vector, heads->width, 0);
		}
	}
}

static enum status write_tensors(const char *folder, const struct exit_heads *heads, struct error *error)
{
	struct layout layout = {.header_max = 256 + (9 + 3 * (size_t)heads->count) * HEADER_ENTRY_BYTES};
	add_all(&layout, heads);
	size_t bytes_max = 8 + layout.header_max + layout.floats * sizeof(float);
	float *values = mem_alloc_array(layout.floats, sizeof *values);
	char *file = mem_alloc(bytes_max);
	enum status status = STATUS_OK;
	if (!values || !file) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory to write the exit heads");
		goto cleanup;
	}
	layout.values = values;
	layout.header = file + 8;
	layout.header[0] = '{';
	layout.header_size = 1;
	add_all(&layout, heads);
	layout.header[layout.header_size++] = '}';
	while (layout.header_size % 8)
		layout.header[layout.header_size++] = ' ';
	for (int i = 0; i < 8; i++)
		file[i] = (char)(layout.header_size >> (8 * i) & 0xff);
	memcpy(layout.header + layout.header_size, values, layout.floats * sizeof *values);
	status = file_put(folder, "exit_heads.safetensors", file,
				8 + layout.header_size + layout.floats * sizeof *values, error);
cleanup:
	mem_free(values);
	mem_free(file);
	return status;
}

static json_t *policy_json(const struct exit_heads *heads, json_t *risk)
{
	const struct exit_policy *policy = &heads->policy;
	json_t *layers = json_array(), *list = json_array(), *features = json_array(), *inputs = json_array();
	for (uint32_t i = 0; i < policy->layers_count; i++)
		json_array_append_new(layers, json_integer(policy->layers[i]));
	for (uint32_t i = 0; i < heads->features_count; i++)
		json_array_append_new(features, json_string(heads->names[i]));
	for (uint32_t i = 0; i < heads->inputs_count; i++) {
		char name[FEATURES_NAME_BYTES + 8];
		exit_input_name(&heads->inputs[i], (const char (*)[FEATURES_NAME_BYTES])heads->names, name);
		json_array_append_new(inputs, json_string(name));
	}
	for (uint32_t i = 0; i < heads->count; i++) {
		const struct exit_head_weights *head = &heads->heads[i];
		json_array_append_new(list, json_pack("{s:i, s:b, s:f, s:f}", "layer", (int)head->layer,
						      "hidden", (int)head->hidden, "a", head->platt_a, "b",
						      head->platt_b));
	}
	json_t *threshold = isnan(policy->threshold) ? json_null() : json_real(policy->threshold);
	json_t *object = json_pack("{s:s, s:o, s:i, s:o}", "rule", exit_rule_name(policy->rule), "threshold",
				   threshold, "window", (int)policy->window, "layers", layers);
	json_t *root = json_pack("{s:i, s:s, s:s, s:I, s:o, s:o, s:i, s:o, s:o}", "version", (int)EXIT_HEADS_VERSION,
				 "model", heads->model, "wording", heads->wording, "trained_until",
				 (json_int_t)heads->trained_until_ms, "features", features, "inputs", inputs,
				 "members", (int)(heads->members ? heads->members : 1), "policy", object,
				 "heads", list);
	if (root && risk)
		json_object_set(root, "risk", risk);
	return root;
}

enum status heads_file_write(const char *folder, const struct exit_heads *heads, json_t *risk,
			     struct error *error)
{
	enum status status = write_tensors(folder, heads, error);
	if (status)
		return status;
	json_t *root = policy_json(heads, risk);
	status = root ? bundle_json_put(folder, "exit_policy.json", root, 17, error) :
			error_set(error, STATUS_NO_MEMORY, "no memory to write the exit policy");
	json_decref(root);
	return status;
}
