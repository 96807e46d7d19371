/* exit_heads.c - the two files of trained heads, checked name by name, and the part of a head that reads
 * statistics.
 *
 * Invariant: after opening every number is finite, every scale and Platt slope positive, and the policy's
 * list is the heads' list. Caller: bundle.c opens, engine.c computes, fit-heads reads back what it wrote. */
#include "scorer/exit_heads.h"

#include "base/mem.h"
#include "scorer/bundle_json.h"
#include "scorer/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <xxhash.h>

static const char *const root_keys[] = {"version", "model", "wording", "trained_until", "features", "inputs",
					"members", "policy", "heads", "risk", NULL};
static const char *const kind_prefixes[EXIT_INPUT_KINDS] = {"", "log ", "zero "};
static const char *const head_keys[] = {"layer", "hidden", "a", "b", NULL};

struct reading {
	struct exit_heads *heads;
	const struct mapped_file *files;        /* tensors, policy */
	struct tensor_table table;
	size_t used;                            /* floats of heads->values */
	size_t tensors;                         /* taken from the table */
	struct error *error;
};

/* ---- exit_policy.json ---- */

static enum status read_hash(struct reading *r, json_t *root, const char *key, char out[EXIT_HEADS_HASH_BYTES])
{
	const char *text;
	enum status status = bundle_json_text(r->files[1].path, root, key, &text, r->error);
	if (status)
		return status;
	if (!text || strlen(text) >= EXIT_HEADS_HASH_BYTES)
		return error_set(r->error, STATUS_CONFIG, "%s: \"%s\" must be a hash of at most %d digits",
				 r->files[1].path, key, EXIT_HEADS_HASH_BYTES - 1);
	snprintf(out, EXIT_HEADS_HASH_BYTES, "%s", text);
	return STATUS_OK;
}

static enum status read_names(struct reading *r, json_t *names)
{
	struct exit_heads *heads = r->heads;
	size_t count = json_array_size(names);
	if (!json_is_array(names) || count > FEATURES_COUNT_MAX ||
	    (count && (count < FEATURES_FIXED || (count - FEATURES_FIXED) % FEATURES_PER_ATTRIBUTE)))
		return error_set(r->error, STATUS_CONFIG,
				 "%s: \"features\" must name none or %d statistics and %d for each attribute",
				 r->files[1].path, FEATURES_FIXED, FEATURES_PER_ATTRIBUTE);
	heads->names = mem_alloc_zero(count, sizeof *heads->names);
	if (!heads->names)
		return error_set(r->error, STATUS_NO_MEMORY, "no memory for the names of features");
	heads->features_count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		const char *name = json_string_value(json_array_get(names, i));
		if (!name || !*name || strlen(name) >= FEATURES_NAME_BYTES ||
		    (i < FEATURES_FIXED && strcmp(name, features_names[i])))
			return error_set(r->error, STATUS_CONFIG, "%s: feature %zu is \"%.64s\", expected %s",
					 r->files[1].path, i, name ? name : "(no text)",
					 i < FEATURES_FIXED ? features_names[i] : "an attribute's statistic");
		snprintf(heads->names[i], FEATURES_NAME_BYTES, "%s", name);
	}
	return STATUS_OK;
}

/* Where a name stands among the features; features_count: nowhere. */
static uint32_t find_feature(const struct exit_heads *heads, const char *name)
{
	uint32_t f = 0;
	while (f < heads->features_count && strcmp(heads->names[f], name))
		f++;
	return f;
}

static enum status read_input(struct reading *r, const char *name, struct exit_input *out)
{
	for (int kind = EXIT_INPUT_KINDS - 1; name && kind >= 0; kind--) {
		size_t size = strlen(kind_prefixes[kind]);
		if (strncmp(name, kind_prefixes[kind], size))
			continue;
		*out = (struct exit_input){find_feature(r->heads, name + size), (enum exit_input_kind)kind};
		if (out->feature < r->heads->features_count)
			return STATUS_OK;
	}
	return error_set(r->error, STATUS_CONFIG, "%s: the input \"%.64s\" reads none of the features",
			 r->files[1].path, name ? name : "(no text)");
}

static enum status read_inputs(struct reading *r, json_t *root)
{
	struct exit_heads *heads = r->heads;
	json_t *list = json_object_get(root, "inputs"), *members = json_object_get(root, "members");
	size_t count = list ? json_array_size(list) : heads->features_count;
	json_int_t number = members ? json_integer_value(members) : 1;
	if ((list && (!json_is_array(list) || !count != !heads->features_count)) || count > EXIT_HEADS_INPUTS_MAX)
		return error_set(r->error, STATUS_CONFIG,
				 "%s: \"inputs\" must list what is read of the features, at most %d",
				 r->files[1].path, EXIT_HEADS_INPUTS_MAX);
	if (number < 1 || number > EXIT_HEADS_MEMBERS_MAX)
		return error_set(r->error, STATUS_CONFIG, "%s: \"members\" must be a number from 1 to %d",
				 r->files[1].path, EXIT_HEADS_MEMBERS_MAX);
	heads->members = heads->features_count ? (uint32_t)number : 0;
	heads->inputs_count = (uint32_t)count;
	heads->inputs = mem_alloc_zero(count, sizeof *heads->inputs);
	if (!heads->inputs)
		return error_set(r->error, STATUS_NO_MEMORY, "no memory for %zu inputs", count);
	enum status status = STATUS_OK;
	for (size_t i = 0; !status && i < count; i++) {
		heads->inputs[i].feature = (uint32_t)i;
		if (list)
			status = read_input(r, json_string_value(json_array_get(list, i)), &heads->inputs[i]);
	}
	return status;
}

static enum status read_head(struct reading *r, json_t *object, struct exit_head_weights *head)
{
	const char *file = r->files[1].path;
	json_t *layer = json_object_get(object, "layer"), *hidden = json_object_get(object, "hidden");
	json_t *a = json_object_get(object, "a"), *b = json_object_get(object, "b");
	if (!json_is_object(object))
		return error_set(r->error, STATUS_CONFIG, "%s: \"heads\" must be a list of objects", file);
	enum status status = bundle_json_keys(file, object, head_keys, r->error);
	if (status)
		return status;
	json_int_t number = json_is_integer(layer) ? json_integer_value(layer) : 0;
	if (number < 1 || number > EXIT_LAYERS_MAX || !json_is_boolean(hidden) || !json_is_number(a) ||
	    !json_is_number(b))
		return error_set(r->error, STATUS_CONFIG,
				 "%s: a head needs \"layer\", \"hidden\" (true or false), \"a\" and \"b\"",
				 file);
	head->layer = (uint32_t)number;
	head->hidden = json_is_true(hidden);
	head->platt_a = json_number_value(a);
	head->platt_b = json_number_value(b);
	if (!(head->platt_a > 0 && head->platt_a <= 1e6 && fabs(head->platt_b) <= 1e6))
		return error_set(r->error, STATUS_CONFIG,
				 "%s: layer %u: calibration a = %g, b = %g; a must be positive, and neither "
				 "beyond a million", file, head->layer, head->platt_a, head->platt_b);
	if (!head->hidden && !r->heads->features_count)
		return error_set(r->error, STATUS_CONFIG,
				 "%s: layer %u reads neither the hidden state nor statistics", file,
				 head->layer);
	return STATUS_OK;
}

static enum status read_heads(struct reading *r, json_t *list)
{
	struct exit_heads *heads = r->heads;
	const struct exit_policy *policy = &heads->policy;
	enum status status;
	heads->count = policy->layers_count;
	heads->heads = mem_alloc_zero(heads->count, sizeof *heads->heads);
	if (!heads->heads)
		return error_set(r->error, STATUS_NO_MEMORY, "no memory for %u heads", heads->count);
	if (!json_is_array(list) || json_array_size(list) != heads->count)
		return error_set(r->error, STATUS_CONFIG, "%s: \"heads\" must be one for each of the %u layers",
				 r->files[1].path, heads->count);
	for (uint32_t i = 0; i < heads->count; i++) {
		if ((status = read_head(r, json_array_get(list, i), &heads->heads[i])))
			return status;
		if (heads->heads[i].layer != policy->layers[i])
			return error_set(r->error, STATUS_CONFIG, "%s: head %u is of layer %u, the list says %u",
					 r->files[1].path, i, heads->heads[i].layer, policy->layers[i]);
	}
	return STATUS_OK;
}

static enum status read_policy(struct reading *r, uint32_t model_layers)
{
	struct exit_heads *heads = r->heads;
	const char *file = r->files[1].path;
	json_t *root = NULL;
	enum status status = bundle_json_parse(file, r->files[1].bytes, r->files[1].size, &root, r->error);
	if (status)
		return status;
	json_t *version = json_object_get(root, "version"), *until = json_object_get(root, "trained_until");
	if (!json_is_integer(version) || json_integer_value(version) != EXIT_HEADS_VERSION) {
		status = error_set(r->error, STATUS_UNSUPPORTED, "%s: \"version\" must be %d", file,
				   EXIT_HEADS_VERSION);
		goto cleanup;
	}
	if (!json_is_integer(until)) {
		status = error_set(r->error, STATUS_CONFIG,
				   "%s: \"trained_until\" must be a time in milliseconds", file);
		goto cleanup;
	}
	heads->trained_until_ms = json_integer_value(until);
	exit_policy_defaults(EXIT_DISCREPANCY, &heads->policy);
	if ((status = bundle_json_keys(file, root, root_keys, r->error)) ||
	    (status = read_hash(r, root, "model", heads->model)) ||
	    (status = read_hash(r, root, "wording", heads->wording)) ||
	    (status = read_names(r, json_object_get(root, "features"))) || (status = read_inputs(r, root)) ||
	    (status = bundle_json_policy(file, json_object_get(root, "policy"), &heads->policy, r->error)))
		goto cleanup;
	if (heads->policy.rule == EXIT_NONE) {
		status = error_set(r->error, STATUS_CONFIG,
				   "%s: the rule none reads the model's own head; trained heads that all wait "
				   "for the last exit have the rule fixed", file);
		goto cleanup;
	}
	if ((status = exit_policy_check(&heads->policy, model_layers, r->error))) {
		error_prefix(r->error, "%s", file);
		goto cleanup;
	}
	status = read_heads(r, json_object_get(root, "heads"));
cleanup:
	json_decref(root);
	return status;
}

/* ---- exit_heads.safetensors ---- */

/* The floats of one tensor of exactly this shape; columns 0: a vector of `rows`. */
static enum status take(struct reading *r, const char *name, uint64_t rows, uint64_t columns,
			const float **out)
{
	const struct mapped_file *file = &r->files[0];
	const struct stored_tensor *tensor = tensor_table_find(&r->table, text_of(name));
	uint32_t rank = columns ? 2 : 1;
	if (!tensor)
		return mapped_file_corrupt(file, 8, r->error, "tensor %s is missing", name);
	if (tensor->type != TENSOR_F32)
		return error_set(r->error, STATUS_UNSUPPORTED, "%s: %s is %s; heads are F32", file->path, name,
				 tensor_type_name(tensor->type));
	if (tensor->rank != rank || tensor->shape[0] != rows || (columns && tensor->shape[1] != columns))
		return mapped_file_corrupt(file, tensor->offset, r->error,
					   columns ? "%s has a wrong shape, expected [%llu, %llu]" :
						     "%s has a wrong shape, expected [%llu]",
					   name, (unsigned long long)rows, (unsigned long long)columns);
	size_t count = (size_t)(rows * (columns ? columns : 1));
	float *values = r->heads->values + r->used;
	tensor_type_to_float(TENSOR_F32, tensor->data, count, values);
	for (size_t i = 0; i < count; i++)
		if (!isfinite(values[i]) || fabsf(values[i]) > 1e12f)
			return mapped_file_corrupt(file, tensor->offset + i * sizeof *values, r->error,
						   "%s: %g is no weight", name, (double)values[i]);
	r->used += count;
	r->tensors++;
	*out = values;
	return STATUS_OK;
}

static enum status take_part(struct reading *r, uint32_t layer, const char *part, uint64_t rows,
			     uint64_t columns, const float **out)
{
	char name[64];
	snprintf(name, sizeof name, "%u.%s", layer, part);
	return take(r, name, rows, columns, out);
}

static enum status take_head(struct reading *r, struct exit_head_weights *head, const float *zeros)
{
	const struct exit_heads *heads = r->heads;
	uint32_t layer = head->layer;
	const float *intercept;
	enum status status = take_part(r, layer, "intercept", 1, 0, &intercept);
	if (status)
		return status;
	head->intercept = *intercept;
	head->norm = head->vector = zeros;
	if (head->hidden && ((status = take_part(r, layer, "norm", heads->width, 0, &head->norm)) ||
			     (status = take_part(r, layer, "vector", heads->width, 0, &head->vector))))
		return status;
	return STATUS_OK;
}

/* Units are what the bias says; every other tensor is held to it. */
static enum status find_units(struct reading *r)
{
	const struct stored_tensor *bias = tensor_table_find(&r->table, text_of("statistics.bias"));
	uint64_t members = r->heads->members, size = bias && bias->rank == 1 ? bias->shape[0] : 0;
	if (!size || size % members || size / members > EXIT_HEADS_UNITS_MAX)
		return mapped_file_corrupt(&r->files[0], bias ? bias->offset : 8, r->error,
					   "statistics.bias must have 1 to %d units for each member",
					   EXIT_HEADS_UNITS_MAX);
	r->heads->units = (uint32_t)(size / members);
	return STATUS_OK;
}

static enum status take_statistics(struct reading *r)
{
	struct exit_heads *heads = r->heads;
	size_t inputs = heads->inputs_count, all = (size_t)heads->members * heads->units;
	enum status status;
	if ((status = take(r, "features.mean", inputs, 0, &heads->mean)) ||
	    (status = take(r, "features.scale", inputs, 0, &heads->scale)) ||
	    (status = take(r, "features.bend", inputs, 0, &heads->bend)) ||
	    (status = take(r, "statistics.linear", inputs, 0, &heads->linear)) ||
	    (status = take(r, "statistics.weight", all, inputs, &heads->weight)) ||
	    (status = take(r, "statistics.bias", all, 0, &heads->bias)) ||
	    (status = take(r, "statistics.output", all, 0, &heads->output)))
		return status;
	if (tensor_table_find(&r->table, text_of("statistics.inner")) &&
	    ((status = take(r, "statistics.inner", all, heads->units, &heads->inner)) ||
	     (status = take(r, "statistics.inner_bias", all, 0, &heads->inner_bias))))
		return status;
	for (size_t i = 0; i < inputs; i++)
		if (!(heads->scale[i] > 0 && heads->bend[i] > 0))
			return mapped_file_corrupt(&r->files[0], 8, r->error,
						   "input %zu: a scale must be positive, and a bend", i);
	return STATUS_OK;
}

static enum status read_weights(struct reading *r)
{
	struct exit_heads *heads = r->heads;
	enum status status;
	if ((status = tensor_table_init(&r->table, r->error)) ||
	    (status = safetensors_parse(&r->files[0], &r->table, r->error)) ||
	    (status = tensor_table_seal(&r->table, r->error)) ||
	    (heads->features_count && (status = find_units(r))))
		return status;
	size_t inputs = heads->inputs_count, all = (size_t)heads->members * heads->units;
	size_t each = 2 * (size_t)heads->width + 1, statistics = 4 * inputs + all * (inputs + heads->units + 3);
	heads->values = mem_alloc_zero(heads->width + statistics + heads->count * each, sizeof *heads->values);
	if (!heads->values)
		return error_set(r->error, STATUS_NO_MEMORY, "no memory for the exit heads");
	const float *zeros = heads->values;
	r->used = heads->width;
	if (inputs && (status = take_statistics(r)))
		return status;
	for (uint32_t i = 0; i < heads->count; i++)
		if ((status = take_head(r, &heads->heads[i], zeros)))
			return status;
	if (r->tensors != r->table.count)
		return mapped_file_corrupt(&r->files[0], 8, r->error,
					   "%zu tensors, of which %zu belong to no head of the policy",
					   r->table.count, r->table.count - r->tensors);
	return STATUS_OK;
}

/* ---- opening ---- */

static void hash_content(const struct mapped_file files[2], char out[EXIT_HEADS_HASH_BYTES])
{
	XXH128_hash_t first = XXH3_128bits(files[0].bytes, files[0].size);
	uint64_t seed = first.low64 ^ first.high64 * 0x9e3779b97f4a7c15u;
	XXH128_hash_t both = XXH3_128bits_withSeed(files[1].bytes, files[1].size, seed);
	snprintf(out, EXIT_HEADS_HASH_BYTES, "%016llx%016llx", (unsigned long long)both.high64,
		 (unsigned long long)both.low64);
}

enum status exit_heads_from_files(const struct mapped_file files[2], uint32_t width, uint32_t model_layers,
				  struct exit_heads **out, struct error *error)
{
	struct exit_heads *heads = mem_alloc_zero(1, sizeof *heads);
	if (!heads)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the exit heads");
	heads->width = width;
	struct reading reading = {.heads = heads, .files = files, .error = error};
	enum status status = read_policy(&reading, model_layers);
	if (!status)
		status = read_weights(&reading);
	tensor_table_destroy(&reading.table);
	if (status) {
		exit_heads_close(heads);
		return status;
	}
	hash_content(files, heads->content);
	*out = heads;
	return STATUS_OK;
}

enum status exit_heads_open(const char *folder, uint32_t width, uint32_t model_layers, struct exit_heads **out,
			    struct error *error)
{
	static const char *const names[2] = {"exit_heads.safetensors", "exit_policy.json"};
	struct mapped_file files[2] = {{0}};
	enum status status = STATUS_OK;
	for (int i = 0; !status && i < 2; i++) {
		char *path = mapped_file_join(folder, names[i]);
		status = path ? mapped_file_open(path, &files[i], error) :
				error_set(error, STATUS_NO_MEMORY, "%s: no memory", folder);
		mem_free(path);
	}
	if (!status)
		status = exit_heads_from_files(files, width, model_layers, out, error);
	mapped_file_close(&files[0]);
	mapped_file_close(&files[1]);
	return status;
}

void exit_heads_close(struct exit_heads *heads)
{
	if (!heads)
		return;
	mem_free(heads->heads);
	mem_free(heads->names);
	mem_free(heads->inputs);
	mem_free(heads->values);
	mem_free(heads);
}

const struct exit_head_weights *exit_heads_at(const struct exit_heads *heads, uint32_t layer)
{
	for (uint32_t i = 0; i < heads->count; i++)
		if (heads->heads[i].layer == layer)
			return &heads->heads[i];
	return NULL;
}

/* ---- statistics ---- */

double exit_input_value(enum exit_input_kind kind, double bend, double feature)
{
	if (kind == EXIT_INPUT_ZERO)
		return feature == 0;
	return kind == EXIT_INPUT_LOG ? copysign(log1p(fabs(feature) / bend), feature) : feature;
}

void exit_input_name(const struct exit_input *input, const char (*names)[FEATURES_NAME_BYTES],
		     char out[FEATURES_NAME_BYTES + 8])
{
	snprintf(out, FEATURES_NAME_BYTES + 8, "%s%s", kind_prefixes[input->kind], names[input->feature]);
}

void exit_heads_standardise(const struct exit_heads *heads, const float *features, double *out)
{
	for (uint32_t i = 0; i < heads->inputs_count; i++) {
		double feature = (double)features[heads->inputs[i].feature];
		double value = (exit_input_value(heads->inputs[i].kind, (double)heads->bend[i], feature) -
				(double)heads->mean[i]) / (double)heads->scale[i];
		out[i] = isnan(feature) ? 0 : fmax(-EXIT_HEADS_CLIP, fmin(EXIT_HEADS_CLIP, value));
	}
}

/* out [rows] = silu(bias + weight [rows, columns] in). Eight rows at once: their sums do not wait for each other,
 * and each adds in the order of the columns. */
static void layer(const float *weight, const float *bias, const double *in, uint32_t rows, uint32_t columns,
		  double *out)
{
	enum { BLOCK = 8 };
	uint32_t u = 0;
	for (; u + BLOCK <= rows; u += BLOCK) {
		const float *block = weight + (size_t)u * columns;
		double a[BLOCK];
		for (int k = 0; k < BLOCK; k++)
			a[k] = (double)bias[u + (uint32_t)k];
		for (uint32_t i = 0; i < columns; i++)
			for (size_t k = 0; k < BLOCK; k++)
				a[k] += (double)block[k * columns + i] * in[i];
		memcpy(out + u, a, sizeof a);
	}
	for (; u < rows; u++) {
		out[u] = (double)bias[u];
		for (uint32_t i = 0; i < columns; i++)
			out[u] += (double)weight[(size_t)u * columns + i] * in[i];
	}
	for (u = 0; u < rows; u++)
		out[u] = out[u] / (1 + exp(-out[u]));
}

double exit_heads_statistics(const struct exit_heads *heads, const double *standardised)
{
	double z = 0, first[EXIT_HEADS_UNITS_MAX], second[EXIT_HEADS_UNITS_MAX];
	uint32_t units = heads->units;
	for (uint32_t i = 0; i < heads->inputs_count; i++)
		z += (double)heads->linear[i] * standardised[i];
	for (uint32_t k = 0; k < heads->members; k++) {
		size_t at = (size_t)k * units;
		layer(heads->weight + at * heads->inputs_count, heads->bias + at, standardised, units,
		      heads->inputs_count, first);
		if (heads->inner)
			layer(heads->inner + at * units, heads->inner_bias + at, first, units, units, second);
		for (uint32_t u = 0; u < units; u++)
			z += (double)heads->output[at + u] * (heads->inner ? second : first)[u];
	}
	return z;
}
