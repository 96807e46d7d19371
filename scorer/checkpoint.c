/* checkpoint.c - which files make up a model, and that an index and its shards agree.
 *
 * Invariant: a tensor's `file` points into checkpoint->files, which never moves. Called by model_open. */
#include "scorer/checkpoint.h"

#include "scorer/model_config.h"
#include "scorer/safetensors.h"
#include "scorer/torch_zip.h"

#include <jansson.h>

enum { INDEX_BYTES_MAX = 64 << 20 };

static enum status map_next(struct checkpoint *checkpoint, const char *folder, const char *name,
			    struct error *error)
{
	char *path;
	enum status status;

	if (checkpoint->file_count == TENSOR_FILES_MAX)
		return error_set(error, STATUS_CORRUPT, "%s: more than %d files", folder, TENSOR_FILES_MAX);
	path = mapped_file_join(folder, name);
	if (!path)
		return error_set(error, STATUS_NO_MEMORY, "%s/%s: no memory", folder, name);
	status = mapped_file_open(path, &checkpoint->files[checkpoint->file_count], error);
	if (status == STATUS_OK)
		checkpoint->file_count++;
	mem_free(path);
	return status;
}

static bool ends_with(const char *text, const char *end)
{
	size_t size = strlen(text), end_size = strlen(end);
	return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static enum status load_weights(struct checkpoint *checkpoint, const char *folder, const char *name,
				struct error *error)
{
	const struct mapped_file *file;
	enum status status = map_next(checkpoint, folder, name, error);

	if (status != STATUS_OK)
		return status;
	file = &checkpoint->files[checkpoint->file_count - 1];
	if (ends_with(name, ".safetensors"))
		return safetensors_parse(file, &checkpoint->table, error);
	return torch_zip_parse(file, &checkpoint->table, error);
}

static const struct mapped_file *find_file(const struct checkpoint *checkpoint, const char *name)
{
	for (size_t i = 1; i < checkpoint->file_count; i++) {
		const char *slash = strrchr(checkpoint->files[i].path, '/');
		if (slash && strcmp(slash + 1, name) == 0)
			return &checkpoint->files[i];
	}
	return NULL;
}

/* Loads each shard once, then checks that every tensor lies where the index says. */
static enum status load_shards(struct checkpoint *checkpoint, const char *folder,
			       const struct mapped_file *index, json_t *map, struct error *error)
{
	enum status status = STATUS_OK;
	const char *name;
	json_t *value;

	json_object_foreach(map, name, value) {
		const char *shard = json_string_value(value);
		if (!shard || !*shard || strchr(shard, '/') || shard[0] == '.')
			return mapped_file_corrupt(index, 0, error,
						   "weight_map: %.200s is not in a file of this "
						   "folder", name);
		if (find_file(checkpoint, shard))
			continue;
		status = load_weights(checkpoint, folder, shard, error);
		if (status != STATUS_OK)
			return error_prefix(error, "a shard named by %s", index->path);
	}
	status = tensor_table_seal(&checkpoint->table, error);
	if (status != STATUS_OK)
		return status;
	json_object_foreach(map, name, value) {
		const struct stored_tensor *tensor = tensor_table_find(&checkpoint->table, text_of(name));
		if (!tensor || tensor->file != find_file(checkpoint, json_string_value(value)))
			return mapped_file_corrupt(index, 0, error, "tensor %.200s is not in %s as the index "
						   "says", name, json_string_value(value));
	}
	return STATUS_OK;
}

static enum status load_index(struct checkpoint *checkpoint, const char *folder, const char *name,
			      struct error *error)
{
	struct mapped_file index = {0};
	json_error_t trouble;
	json_t *root = NULL, *map;
	char *path = mapped_file_join(folder, name);
	enum status status;

	if (!path)
		return error_set(error, STATUS_NO_MEMORY, "%s/%s: no memory", folder, name);
	status = mapped_file_open(path, &index, error);
	if (status != STATUS_OK)
		goto cleanup;
	if (index.size > INDEX_BYTES_MAX) {
		status = mapped_file_corrupt(&index, INDEX_BYTES_MAX, error, "longer than %d bytes",
					     INDEX_BYTES_MAX);
		goto cleanup;
	}
	root = json_loadb((const char *)index.bytes, index.size, JSON_REJECT_DUPLICATES, &trouble);
	if (!root) {
		status = mapped_file_corrupt(&index, trouble.position < 0 ? 0 : (size_t)trouble.position,
					     error,
					     "line %d: %s", trouble.line, trouble.text);
		goto cleanup;
	}
	map = json_object_get(root, "weight_map");
	if (!json_is_object(map) || json_object_size(map) == 0) {
		status = mapped_file_corrupt(&index, 0, error, "weight_map is missing or empty");
		goto cleanup;
	}
	status = load_shards(checkpoint, folder, &index, map, error);
cleanup:
	json_decref(root);
	mapped_file_close(&index);
	mem_free(path);
	return status;
}

static enum status open_folder(struct checkpoint *checkpoint, const char *folder, struct error *error)
{
	static const char *const names[] = {
		"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
		"pytorch_model.bin.index.json",
	};
	enum status status = map_next(checkpoint, folder, "config.json", error);

	if (status == STATUS_OK)
		status = model_config_from_json(&checkpoint->files[0], &checkpoint->config, error);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = mapped_file_join(folder, names[i]);
		bool exists = path && mapped_file_exists(path);
		mem_free(path);
		if (!exists)
			continue;
		if (ends_with(names[i], ".json"))
			return load_index(checkpoint, folder, names[i], error);
		status = load_weights(checkpoint, folder, names[i], error);
		return status == STATUS_OK ? tensor_table_seal(&checkpoint->table, error) : status;
	}
	return error_set(error, STATUS_NO_INPUT, "%s: no weights here; looked for %s, %s, %s and %s", folder,
			 names[0], names[1], names[2], names[3]);
}

static enum status open_file(struct checkpoint *checkpoint, const char *path, struct error *error)
{
	struct mapped_file *file = &checkpoint->files[0];
	enum status status = mapped_file_open(path, file, error);

	if (status != STATUS_OK)
		return status;
	checkpoint->file_count = 1;
	if (!gguf_is(file))
		return mapped_file_corrupt(file, 0, error,
					   "not a GGUF file; give a GGUF file or a folder with "
					   "config.json");
	status = gguf_parse(file, &checkpoint->table, &checkpoint->gguf, error);
	if (status == STATUS_OK)
		status = tensor_table_seal(&checkpoint->table, error);
	if (status == STATUS_OK)
		status = model_config_from_gguf(checkpoint->gguf, file, &checkpoint->config, error);
	return status;
}

enum status checkpoint_open(const char *path, struct checkpoint *out, struct error *error)
{
	struct checkpoint checkpoint = {0};
	enum status status = tensor_table_init(&checkpoint.table, error);

	if (status != STATUS_OK)
		return status;
	checkpoint.files = mem_alloc_zero(TENSOR_FILES_MAX, sizeof(*checkpoint.files));
	if (!checkpoint.files)
		status = error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
	else if (mapped_file_is_folder(path))
		status = open_folder(&checkpoint, path, error);
	else
		status = open_file(&checkpoint, path, error);
	if (status == STATUS_OK)
		*out = checkpoint;
	else
		checkpoint_close(&checkpoint);
	return status;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
	gguf_destroy(checkpoint->gguf);
	tensor_table_destroy(&checkpoint->table);
	for (size_t i = 0; i < checkpoint->file_count; i++)
		mapped_file_close(&checkpoint->files[i]);
	mem_free(checkpoint->files);
	*checkpoint = (struct checkpoint){0};
}
