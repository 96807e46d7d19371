/* samples_shard.c - two columns of a shard. Caller: samples_sink.c. */
#include "ops/cli/samples_shard.h"

#include "base/mem.h"
#include "scorer/safetensors.h"
#include "scorer/train/sample_folder.h"
#include "scorer/train/samples_file.h"

#include <string.h>

static char *path_of(const char *folder, size_t number)
{
	char name[SAMPLES_NAME_BYTES];
	samples_file_name(number, name);
	return mapped_file_join(folder, name);
}

enum status samples_shard_count(const char *folder, size_t *out, struct error *error)
{
	size_t count = 0;
	for (bool there = true; there && count < SAMPLE_SHARDS_MAX; count += there) {
		char *path = path_of(folder, count + 1);
		if (!path)
			return error_set(error, STATUS_NO_MEMORY, "no memory for a path");
		there = mapped_file_exists(path);
		mem_free(path);
	}
	*out = count;
	return STATUS_OK;
}

/* A copy of a column of eight-byte values, for any alignment of the file. */
static void *copy_column(const struct mapped_file *file, const struct tensor_table *table, const char *name,
			 enum tensor_type type, size_t *count, struct error *error)
{
	const struct stored_tensor *tensor = tensor_table_find(table, text_of(name));
	if (!tensor || tensor->type != type || tensor->rank != 1 || tensor->bytes == 0) {
		mapped_file_corrupt(file, 8, error, "no shard of samples: %s is missing, empty or of another type",
				    name);
		return NULL;
	}
	void *copy = mem_alloc((size_t)tensor->bytes);
	if (!copy) {
		error_set(error, STATUS_NO_MEMORY, "%s: no memory", file->path);
		return NULL;
	}
	memcpy(copy, tensor->data, (size_t)tensor->bytes);
	*count = (size_t)tensor->shape[0];
	return copy;
}

enum status samples_shard_open(const char *folder, size_t number, struct samples_shard *out,
			       struct error *error)
{
	struct mapped_file file = {0};
	struct tensor_table table = {0};
	struct samples_shard shard = {0};
	size_t users = 0;
	char *path = path_of(folder, number);
	enum status status = path ? mapped_file_open(path, &file, error) :
				    error_set(error, STATUS_NO_MEMORY, "no memory for a path");
	mem_free(path);
	if (status || (status = tensor_table_init(&table, error)) ||
	    (status = safetensors_parse(&file, &table, error)) || (status = tensor_table_seal(&table, error)))
		goto cleanup;
	shard.time_ms = copy_column(&file, &table, "time_ms", TENSOR_I64, &shard.impressions, error);
	if (shard.time_ms)
		shard.user = copy_column(&file, &table, "user", TENSOR_U64, &users, error);
	if (!shard.user)
		status = error->status;
	else if (users != shard.impressions)
		status = mapped_file_corrupt(&file, 8, error, "%zu times and %zu users", shard.impressions, users);
	if (!status) {
		*out = shard;
		shard = (struct samples_shard){0};
	}
cleanup:
	samples_shard_close(&shard);
	tensor_table_destroy(&table);
	mapped_file_close(&file);
	return status;
}

void samples_shard_close(struct samples_shard *shard)
{
	mem_free(shard->time_ms);
	mem_free(shard->user);
	*shard = (struct samples_shard){0};
}
