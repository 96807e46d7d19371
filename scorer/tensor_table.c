/* tensor_table.c - a sorted array with its names in an arena. */
#include "scorer/tensor_table.h"

#include <stdlib.h>

enum { NAMES_BYTES_MAX = 128 << 20 };

enum status tensor_table_init(struct tensor_table *table, struct error *error)
{
	*table = (struct tensor_table){.names = arena_create(NAMES_BYTES_MAX)};
	if (!table->names)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a table of tensors");
	return STATUS_OK;
}

void tensor_table_destroy(struct tensor_table *table)
{
	mem_free(table->tensors);
	arena_destroy(table->names);
	*table = (struct tensor_table){0};
}

static struct text_view name_of(const struct stored_tensor *tensor)
{
	return (struct text_view){tensor->name, tensor->name_size};
}

enum status tensor_table_add(struct tensor_table *table, const struct stored_tensor *tensor,
			     struct error *error)
{
	void *tensors = table->tensors;
	struct stored_tensor *slot;
	char *name;

	/* CORRUPT, not LIMIT: for a file, more than any checkpoint has is malformed. */
	if (tensor->name_size > TENSOR_NAME_MAX)
		return mapped_file_corrupt(tensor->file, 0, error, "a tensor name of %zu bytes (limit %d)",
					   tensor->name_size, TENSOR_NAME_MAX);
	if (table->count == TENSORS_MAX)
		return mapped_file_corrupt(tensor->file, 0, error, "more than %d tensors", TENSORS_MAX);
	if (!mem_reserve(&tensors, &table->capacity, table->count, TENSORS_MAX, sizeof(*table->tensors)))
		return error_set(error, STATUS_NO_MEMORY, "no memory for tensor %zu", table->count);
	table->tensors = tensors;
	name = arena_alloc(table->names, tensor->name_size + 1);
	if (!name)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the name of tensor %zu",
				 table->count);
	if (tensor->name_size)
		memcpy(name, tensor->name, tensor->name_size);
	name[tensor->name_size] = '\0';
	slot = &table->tensors[table->count++];
	*slot = *tensor;
	slot->name = name;
	return STATUS_OK;
}

static int compare_names(const void *a, const void *b)
{
	return text_compare(name_of(a), name_of(b));
}

enum status tensor_table_seal(struct tensor_table *table, struct error *error)
{
	if (table->count)
		qsort(table->tensors, table->count, sizeof(*table->tensors), compare_names);
	for (size_t i = 1; i < table->count; i++) {
		const struct stored_tensor *tensor = &table->tensors[i];
		if (text_equal(name_of(tensor - 1), name_of(tensor)))
			return mapped_file_corrupt(tensor->file, tensor->offset, error,
						   "tensor %s is stored twice (also in %s)", tensor->name,
						   tensor[-1].file->path);
	}
	return STATUS_OK;
}

const struct stored_tensor *tensor_table_find(const struct tensor_table *table, struct text_view name)
{
	size_t low = 0, high = table->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = text_compare(name_of(&table->tensors[middle]), name);
		if (order == 0)
			return &table->tensors[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
