/* sample_folder.c - samples.json and the shards behind it. Invariant: after opening, every offset lies inside
 * its tensor and ascends, so that readers need no checks. Caller: the fit-heads command. */
#include "scorer/train/sample_folder.h"

#include "base/mem.h"
#include "scorer/bundle_json.h"
#include "scorer/safetensors.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 32, PARTS_READ = 7 };

struct sample_shard {
	struct mapped_file file;
	struct tensor_table table;
	uint64_t impressions, rows;
	size_t begin, first_row;        /* in the dataset */
	const int32_t *prefix, *suffix; /* aligned; in the mapping or in `copies` */
	const int64_t *prefix_offsets, *suffix_offsets, *candidate_offsets;
	void *copies[PARTS_READ];
	size_t copies_count;
};

static const struct stored_tensor *find(const struct sample_shard *shard, const char *name, enum tensor_type type,
					uint64_t elements, struct error *error)
{
	const struct stored_tensor *tensor = tensor_table_find(&shard->table, text_of(name));
	uint64_t count = 1;
	if (!tensor) {
		mapped_file_corrupt(&shard->file, 8, error, "tensor %s is missing", name);
		return NULL;
	}
	for (uint32_t i = 0; i < tensor->rank; i++)
		count *= tensor->shape[i];      /* its bytes lie in the file, so this cannot overflow */
	if (tensor->type == type && (elements == UINT64_MAX || count == elements))
		return tensor;
	mapped_file_corrupt(&shard->file, tensor->offset, error,
			    "%s has %llu elements of type %s, expected %llu of type %s", name,
			    (unsigned long long)count, tensor_type_name(tensor->type),
			    (unsigned long long)(elements == UINT64_MAX ? count : elements),
			    tensor_type_name(type));
	return NULL;
}

/* The tensor's data, copied where the mapping does not align them. */
static const void *aligned(struct sample_shard *shard, const struct stored_tensor *tensor, struct error *error)
{
	if ((uintptr_t)tensor->data % 8 == 0)
		return tensor->data;
	void *copy = mem_alloc((size_t)tensor->bytes);
	if (!copy) {
		error_set(error, STATUS_NO_MEMORY, "%s: no memory", shard->file.path);
		return NULL;
	}
	memcpy(copy, tensor->data, (size_t)tensor->bytes);
	shard->copies[shard->copies_count++] = copy;
	return copy;
}

static enum status check_offsets(const struct sample_shard *shard, const char *name, const int64_t *offsets,
				 uint64_t count, uint64_t end, struct error *error)
{
	bool good = offsets[0] == 0 && (uint64_t)offsets[count] == end;
	for (uint64_t i = 0; good && i < count; i++)
		good = offsets[i] <= offsets[i + 1];
	return good ? STATUS_OK :
		      mapped_file_corrupt(&shard->file, 8, error, "%s does not ascend from 0 to %llu", name,
					  (unsigned long long)end);
}

static enum status take_offsets(struct sample_shard *shard, const char *name, uint64_t count, uint64_t end,
				const int64_t **out, struct error *error)
{
	const struct stored_tensor *tensor = find(shard, name, TENSOR_I64, count + 1, error);
	const int64_t *offsets = tensor ? aligned(shard, tensor, error) : NULL;
	if (!offsets)
		return error->status;
	*out = offsets;
	return check_offsets(shard, name, offsets, count, end, error);
}

static enum status open_shard(const char *folder, const char *name, struct sample_shard *shard,
			      struct error *error)
{
	char *path = mapped_file_join(folder, name);
	enum status status = path ? mapped_file_open(path, &shard->file, error) :
				    error_set(error, STATUS_NO_MEMORY, "%s: no memory", name);
	mem_free(path);
	if (status || (status = tensor_table_init(&shard->table, error)) ||
	    (status = safetensors_parse(&shard->file, &shard->table, error)) ||
	    (status = tensor_table_seal(&shard->table, error)))
		return status;
	const struct stored_tensor *times = find(shard, "time_ms", TENSOR_I64, UINT64_MAX, error);
	const struct stored_tensor *labels = find(shard, "labels", TENSOR_F32, UINT64_MAX, error);
	const struct stored_tensor *prefix = find(shard, "prefix_tokens", TENSOR_I32, UINT64_MAX, error);
	const struct stored_tensor *suffix = find(shard, "suffix_tokens", TENSOR_I32, UINT64_MAX, error);
	if (!times || !labels || !prefix || !suffix)
		return error->status;
	shard->impressions = times->bytes / sizeof(int64_t);
	shard->rows = labels->bytes / sizeof(float);
	if (!(shard->prefix = aligned(shard, prefix, error)) || !(shard->suffix = aligned(shard, suffix, error)))
		return error->status;
	if ((status = take_offsets(shard, "candidate_offsets", shard->impressions, shard->rows,
				   &shard->candidate_offsets, error)) ||
	    (status = take_offsets(shard, "prefix_offsets", shard->impressions, prefix->bytes / sizeof(int32_t),
				   &shard->prefix_offsets, error)) ||
	    (status = take_offsets(shard, "suffix_offsets", shard->rows, suffix->bytes / sizeof(int32_t),
				   &shard->suffix_offsets, error)))
		return status;
	return STATUS_OK;
}

/* ---- samples.json ---- */

static enum status read_names(struct sample_folder *s, const char *file, json_t *names, struct error *error)
{
	size_t count = json_array_size(names);
	if (!json_is_array(names) || count > FEATURES_COUNT_MAX ||
	    (count && (count < FEATURES_FIXED || (count - FEATURES_FIXED) % FEATURES_PER_ATTRIBUTE)))
		return error_set(error, STATUS_CONFIG, "%s: \"features\" must be a list of 0, or %d to %d, names",
				 file, FEATURES_FIXED, FEATURES_COUNT_MAX);
	s->names = mem_alloc_zero(count, sizeof *s->names);
	if (!s->names)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", file);
	s->data.features = count;
	for (size_t i = 0; i < count; i++) {
		const char *name = json_string_value(json_array_get(names, i));
		if (!name || !*name || strlen(name) >= FEATURES_NAME_BYTES ||
		    (i < FEATURES_FIXED && strcmp(name, features_names[i])))
			return error_set(error, STATUS_CONFIG, "%s: feature %zu is \"%.64s\", expected %s", file, i,
					 name ? name : "(no text)",
					 i < FEATURES_FIXED ? features_names[i] : "an attribute's statistic");
		snprintf(s->names[i], FEATURES_NAME_BYTES, "%s", name);
	}
	return STATUS_OK;
}

static enum status read_description(struct sample_folder *s, const char *folder, struct error *error)
{
	struct mapped_file file = {0};
	json_t *root = NULL;
	const char *task, *model, *wording;
	char *path = mapped_file_join(folder, "samples.json");
	enum status status = path ? mapped_file_open(path, &file, error) :
				    error_set(error, STATUS_NO_MEMORY, "samples.json: no memory");
	if (status || (status = bundle_json_parse(path, file.bytes, file.size, &root, error)) ||
	    (status = bundle_json_text(path, root, "task", &task, error)))
		goto cleanup;
	if (!task || (strcmp(task, "liked") && strcmp(task, "clicked"))) {
		status = error_set(error, STATUS_CONFIG, "%s: \"task\" must be \"liked\" or \"clicked\"", path);
		goto cleanup;
	}
	snprintf(s->task, sizeof s->task, "%s", task);
	s->data.clicked = strcmp(task, "clicked") == 0;
	if ((status = bundle_json_text(path, root, "model_hash", &model, error)) ||
	    (status = bundle_json_text(path, root, "wording", &wording, error)))
		goto cleanup;
	snprintf(s->wording, sizeof s->wording, "%s", wording ? wording : "");
	snprintf(s->model, sizeof s->model, "%s", model ? model : "");
	status = read_names(s, path, json_object_get(root, "features"), error);
	s->description = json_incref(root);
cleanup:
	json_decref(root);
	mapped_file_close(&file);
	mem_free(path);
	return status;
}

/* ---- gathering ---- */

static void get_tokens(const void *context, uint32_t impression, struct impression_tokens *out)
{
	const struct sample_folder *s = context;
	const struct sample_shard *shard = &s->shards[s->shard_of[impression]];
	size_t local = impression - shard->begin;
	int64_t begin = shard->prefix_offsets[local];
	*out = (struct impression_tokens){
		.prefix = shard->prefix + begin,
		.prefix_count = (uint32_t)(shard->prefix_offsets[local + 1] - begin),
		.suffixes = shard->suffix,
		.offsets = shard->suffix_offsets + shard->candidate_offsets[local],
	};
}

static enum status gather_shard(struct sample_folder *s, size_t index, struct error *error)
{
	const struct sample_shard *shard = &s->shards[index];
	size_t n = (size_t)shard->impressions, m = (size_t)shard->rows, at = shard->begin, row = shard->first_row;
	const struct stored_tensor *features, *times = find(shard, "time_ms", TENSOR_I64, n, error);
	const struct stored_tensor *labels = find(shard, "labels", TENSOR_F32, m, error);
	const struct stored_tensor *split = find(shard, "split", TENSOR_U8, n, error);
	const struct stored_tensor *user = find(shard, "user", TENSOR_U64, n, error);
	if (!split || !user || !times || !labels ||
	    !(features = find(shard, "features", TENSOR_F32, m * s->data.features, error)))
		return error->status;
	memcpy(s->time_ms + at, times->data, n * sizeof *s->time_ms);
	memcpy(s->user + at, user->data, n * sizeof *s->user);
	memcpy(s->part + at, split->data, n);
	memcpy(s->labels + row, labels->data, m * sizeof *s->labels);
	memcpy(s->values + row * s->data.features, features->data, m * s->data.features * sizeof *s->values);
	for (size_t i = 0; i < n; i++) {
		s->shard_of[at + i] = (uint32_t)index;
		s->first[at + i] = (int64_t)row + shard->candidate_offsets[i];
		s->prefix_tokens[at + i] = (uint32_t)(shard->prefix_offsets[i + 1] - shard->prefix_offsets[i]);
		if (s->part[at + i] >= PARTS)
			return mapped_file_corrupt(&shard->file, split->offset + i, error,
						   "split %u: there are %d parts", s->part[at + i], PARTS);
	}
	for (size_t r = 0; r < m; r++) {
		float label = s->labels[row + r];
		s->suffix_tokens[row + r] = (uint32_t)(shard->suffix_offsets[r + 1] - shard->suffix_offsets[r]);
		if (!isnan(label) && label != 0 && label != 1)
			return mapped_file_corrupt(&shard->file, labels->offset + r * sizeof label, error,
						   "label %g: want 0, 1 or NaN", (double)label);
	}
	return STATUS_OK;
}

static enum status gather(struct sample_folder *s, const char *folder, struct error *error)
{
	size_t impressions = 0, rows = 0;
	for (size_t i = 0; i < s->shards_count; i++) {
		s->shards[i].begin = impressions;
		s->shards[i].first_row = rows;
		impressions += (size_t)s->shards[i].impressions;
		rows += (size_t)s->shards[i].rows;
	}
	if (!impressions || impressions >= UINT32_MAX)
		return error_set(error, STATUS_BAD_RECORD, "%s: %zu samples", folder, impressions);
	s->shard_of = mem_alloc_array(impressions, sizeof *s->shard_of);
	s->first = mem_alloc_array(impressions + 1, sizeof *s->first);
	s->time_ms = mem_alloc_array(impressions, sizeof *s->time_ms);
	s->user = mem_alloc_array(impressions, sizeof *s->user);
	s->part = mem_alloc_array(impressions, sizeof *s->part);
	s->prefix_tokens = mem_alloc_array(impressions, sizeof *s->prefix_tokens);
	s->suffix_tokens = mem_alloc_array(rows, sizeof *s->suffix_tokens);
	s->labels = mem_alloc_array(rows, sizeof *s->labels);
	s->values = mem_alloc_array(rows, s->data.features * sizeof *s->values);
	if (!s->shard_of || !s->first || !s->time_ms || !s->user || !s->part || !s->prefix_tokens ||
	    !s->suffix_tokens || !s->labels || !s->values)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu samples", folder, rows);
	s->first[impressions] = (int64_t)rows;
	for (size_t i = 0; i < s->shards_count; i++) {
		enum status status = gather_shard(s, i, error);
		if (status)
			return status;
	}
	s->data.impressions = impressions;
	s->data.rows = rows;
	s->data.first = s->first;
	s->data.labels = s->labels;
	s->data.values = s->values;
	s->data.part = s->part;
	s->data.user = s->user;
	s->data.time_ms = s->time_ms;
	s->tokens = (struct token_source){s, get_tokens};
	return STATUS_OK;
}

enum status sample_folder_open(const char *folder, struct sample_folder **out, struct error *error)
{
	struct sample_folder *s = mem_alloc_zero(1, sizeof *s);
	void *shards = NULL;
	size_t capacity = 0;
	if (!s)
		return error_set(error, STATUS_NO_MEMORY, "no memory for samples");
	enum status status = read_description(s, folder, error);
	while (!status) {
		char name[NAME_BYTES];
		snprintf(name, sizeof name, "samples-%05zu.safetensors", s->shards_count + 1);
		char *path = mapped_file_join(folder, name);
		bool there = path && mapped_file_exists(path);
		mem_free(path);
		if (!there)
			break;
		if (!mem_reserve(&shards, &capacity, s->shards_count, SAMPLE_SHARDS_MAX, sizeof *s->shards)) {
			status = error_set(error, STATUS_LIMIT, "%s: more than %d shards", folder,
					   SAMPLE_SHARDS_MAX);
			break;
		}
		s->shards = shards;
		struct sample_shard *shard = &s->shards[s->shards_count++];
		*shard = (struct sample_shard){0};
		status = open_shard(folder, name, shard, error);
	}
	if (!status)
		status = gather(s, folder, error);
	if (status) {
		sample_folder_close(s);
		return status;
	}
	*out = s;
	return STATUS_OK;
}

void sample_folder_close(struct sample_folder *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->shards_count; i++) {
		struct sample_shard *shard = &s->shards[i];
		for (size_t k = 0; k < shard->copies_count; k++)
			mem_free(shard->copies[k]);
		tensor_table_destroy(&shard->table);
		mapped_file_close(&shard->file);
	}
	json_decref(s->description);
	void *arrays[] = {s->shards, s->names, s->shard_of, s->first, s->time_ms, s->user, s->part,
			  s->prefix_tokens, s->suffix_tokens, s->labels, s->values, s};
	for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
		mem_free(arrays[i]);
}
