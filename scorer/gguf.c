/* gguf.c - a cursor that never passes the end of the file, over header, metadata and tensor list.
 *
 * Invariant: a value is recorded only after all of its bytes were seen inside the mapping, so the getters
 * need no checks. Tensor data must lie as the format's writer puts them: aligned, in turn, without overlap
 * and without more than padding between them. */
#include "scorer/gguf.h"

#include <stdlib.h>

enum { ALIGNMENT_DEFAULT = 32, ALIGNMENT_MAX = 1 << 20, KEY_BYTES_MAX = 65535 };

struct value {
	struct text_view key;
	enum gguf_type type, element;
	uint64_t count;
	const uint8_t *at;
};

struct gguf {
	struct value *values;
	size_t count;
	uint64_t data_start;
};

struct cursor {
	const struct mapped_file *file;
	size_t at;
	struct error *error;
};

static const uint8_t type_bytes[GGUF_TYPE_COUNT] = {
	[GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
	[GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static uint64_t load(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;
	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

static enum status take(struct cursor *cursor, uint64_t bytes, const char *what, const uint8_t **out)
{
	if (bytes > cursor->file->size - cursor->at)
		return mapped_file_corrupt(cursor->file, cursor->at, cursor->error,
					   "%s of %llu bytes runs past the end of the file (%zu bytes)", what,
					   (unsigned long long)bytes, cursor->file->size);
	*out = cursor->file->bytes + cursor->at;
	cursor->at += bytes;
	return STATUS_OK;
}

static enum status take_integer(struct cursor *cursor, size_t bytes, const char *what, uint64_t *out)
{
	const uint8_t *at = NULL;
	enum status status = take(cursor, bytes, what, &at);
	if (status == STATUS_OK)
		*out = load(at, bytes);
	return status;
}

static enum status take_text(struct cursor *cursor, const char *what, struct text_view *out)
{
	const uint8_t *at = NULL;
	uint64_t size = 0;
	enum status status = take_integer(cursor, 8, what, &size);
	if (status == STATUS_OK)
		status = take(cursor, size, what, &at);
	if (status == STATUS_OK)
		*out = (struct text_view){(const char *)at, size};
	return status;
}

static enum status take_array(struct cursor *cursor, struct value *value)
{
	uint64_t element = 0;
	enum status status = take_integer(cursor, 4, "an array's type", &element);

	if (status == STATUS_OK)
		status = take_integer(cursor, 8, "an array's length", &value->count);
	if (status != STATUS_OK)
		return status;
	if (element >= GGUF_TYPE_COUNT || element == GGUF_ARRAY)
		return mapped_file_corrupt(cursor->file, cursor->at - 12, cursor->error,
					   "array of unknown element type %llu", (unsigned long long)element);
	if (value->count > GGUF_ARRAY_MAX)
		return mapped_file_corrupt(cursor->file, cursor->at - 8, cursor->error,
					   "array of %llu elements (limit %d)",
					   (unsigned long long)value->count, GGUF_ARRAY_MAX);
	value->element = (enum gguf_type)element;
	value->at = cursor->file->bytes + cursor->at;
	if (element != GGUF_STRING) {
		const uint8_t *ignored;
		return take(cursor, value->count * type_bytes[element], "an array", &ignored);
	}
	for (uint64_t i = 0; i < value->count && status == STATUS_OK; i++) {
		struct text_view ignored;
		status = take_text(cursor, "a string of an array", &ignored);
	}
	return status;
}

static enum status take_value(struct cursor *cursor, struct value *value)
{
	size_t key_at = cursor->at;
	uint64_t type = 0;
	enum status status = take_text(cursor, "a metadata key", &value->key);

	if (status != STATUS_OK)
		return status;
	if (value->key.size == 0 || value->key.size > KEY_BYTES_MAX)
		return mapped_file_corrupt(cursor->file, key_at, cursor->error, "metadata key of %zu bytes",
					   value->key.size);
	status = take_integer(cursor, 4, "a metadata type", &type);
	if (status != STATUS_OK)
		return status;
	if (type >= GGUF_TYPE_COUNT)
		return mapped_file_corrupt(cursor->file, cursor->at - 4, cursor->error,
					   "unknown metadata type %llu", (unsigned long long)type);
	value->type = (enum gguf_type)type;
	value->count = 1;
	if (type == GGUF_ARRAY)
		return take_array(cursor, value);
	value->at = cursor->file->bytes + cursor->at;
	if (type == GGUF_STRING) {
		struct text_view ignored;
		return take_text(cursor, "a metadata string", &ignored);
	}
	return take(cursor, type_bytes[type], "a metadata value", &value->at);
}

static int compare_values(const void *a, const void *b)
{
	return text_compare(((const struct value *)a)->key, ((const struct value *)b)->key);
}

static const struct value *find(const struct gguf *gguf, const char *key)
{
	struct value wanted = {.key = text_of(key)};
	if (!gguf->count)
		return NULL;
	return bsearch(&wanted, gguf->values, gguf->count, sizeof(wanted), compare_values);
}

static bool type_of_ggml(uint64_t number, enum tensor_type *out)
{
	switch (number) {
	case 0: *out = TENSOR_F32; return true;
	case 1: *out = TENSOR_F16; return true;
	case 2: *out = TENSOR_Q4_0; return true;
	case 3: *out = TENSOR_Q4_1; return true;
	case 8: *out = TENSOR_Q8_0; return true;
	case 30: *out = TENSOR_BF16; return true;
	default: return false;
	}
}

static enum status take_tensor(struct cursor *cursor, struct stored_tensor *tensor)
{
	const struct mapped_file *file = cursor->file;
	struct text_view name = {0};
	uint64_t rank = 0, number = 0, elements = 1;
	size_t start = cursor->at;
	enum status status = take_text(cursor, "a tensor name", &name);

	if (status == STATUS_OK)
		status = take_integer(cursor, 4, "a tensor's rank", &rank);
	if (status != STATUS_OK)
		return status;
	if (name.size == 0 || name.size > TENSOR_NAME_MAX)
		return mapped_file_corrupt(file, start, cursor->error, "tensor name of %zu bytes", name.size);
	if (rank < 1 || rank > TENSOR_RANK_MAX)
		return mapped_file_corrupt(file, cursor->at - 4, cursor->error, "tensor %.*s has rank %llu",
					   TEXT_ARGS(name), (unsigned long long)rank);
	tensor->name = name.bytes;
	tensor->name_size = name.size;
	tensor->rank = (uint32_t)rank;
	for (uint64_t i = 0; i < rank; i++) {
		uint64_t extent = 0;
		status = take_integer(cursor, 8, "a tensor's shape", &extent);
		if (status != STATUS_OK)
			return status;
		/* GGUF gives the innermost extent first. */
		tensor->shape[rank - 1 - i] = extent;
		if (__builtin_mul_overflow(elements, extent, &elements))
			return mapped_file_corrupt(file, cursor->at - 8, cursor->error,
						   "tensor %.*s: its shape overflows", TEXT_ARGS(name));
	}
	status = take_integer(cursor, 4, "a tensor's type", &number);
	if (status == STATUS_OK)
		status = take_integer(cursor, 8, "a tensor's offset", &tensor->offset);
	if (status != STATUS_OK)
		return status;
	if (!type_of_ggml(number, &tensor->type))
		return error_set(cursor->error, STATUS_UNSUPPORTED,
				 "%s: byte %zu: tensor %.*s has ggml type %llu; F32, F16, BF16, Q8_0, Q4_0 "
				 "and "
				 "Q4_1 are read: quantise to one of these", file->path, cursor->at - 12,
				 TEXT_ARGS(name), (unsigned long long)number);
	if (tensor->shape[rank - 1] % tensor_type_block(tensor->type) != 0 ||
	    !tensor_type_bytes(tensor->type, elements, &tensor->bytes))
		return mapped_file_corrupt(file, start, cursor->error,
					   "tensor %.*s: %llu elements do not fill "
					   "blocks of %s", TEXT_ARGS(name), (unsigned long long)elements,
					   tensor_type_name(tensor->type));
	tensor->file = file;
	return STATUS_OK;
}

static int compare_offsets(const void *a, const void *b)
{
	const struct stored_tensor *x = a, *y = b;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Places the tensors, which lie behind the metadata in the order of their offsets. */
static enum status place(struct stored_tensor *tensors, size_t count, const struct mapped_file *file,
			 uint64_t data_start, uint64_t alignment, struct error *error)
{
	uint64_t expected = 0;

	if (count)
		qsort(tensors, count, sizeof(*tensors), compare_offsets);
	for (size_t i = 0; i < count; i++) {
		struct stored_tensor *tensor = &tensors[i];
		uint64_t room = file->size - data_start;
		if (tensor->offset != expected)
			return mapped_file_corrupt(file, data_start, error,
						   "tensor %.*s lies at data offset %llu, expected %llu "
						   "(overlap, hole or wrong alignment)",
						   (int)tensor->name_size, tensor->name,
						   (unsigned long long)tensor->offset,
						   (unsigned long long)expected);
		if (tensor->offset > room || tensor->bytes > room - tensor->offset)
			return mapped_file_corrupt(file, file->size, error,
						   "tensor %.*s needs bytes %llu to %llu, the file ends "
						   "before "
						   "(interrupted download?)", (int)tensor->name_size,
						   tensor->name,
						   (unsigned long long)(data_start + tensor->offset),
						   (unsigned long long)(data_start + tensor->offset +
									tensor->bytes));
		/* Both are at most the file's size, and alignment is small: no overflow. */
		expected = tensor->offset + tensor->bytes;
		expected = (expected + alignment - 1) / alignment * alignment;
		tensor->offset += data_start;
		tensor->data = file->bytes + tensor->offset;
	}
	return STATUS_OK;
}

static enum status read_tensors(struct cursor *cursor, uint64_t count, uint64_t alignment,
				struct gguf *gguf, struct tensor_table *table)
{
	struct stored_tensor *tensors = mem_alloc_zero(count, sizeof(*tensors));
	enum status status = STATUS_OK;

	if (!tensors)
		return error_set(cursor->error, STATUS_NO_MEMORY, "%s: no memory for %llu tensors",
				 cursor->file->path, (unsigned long long)count);
	for (uint64_t i = 0; i < count && status == STATUS_OK; i++)
		status = take_tensor(cursor, &tensors[i]);
	if (status != STATUS_OK)
		goto cleanup;
	gguf->data_start = (cursor->at + alignment - 1) / alignment * alignment;
	if (gguf->data_start > cursor->file->size) {
		if (count) {
			status = mapped_file_corrupt(cursor->file, cursor->at, cursor->error,
						     "the file ends before its tensors");
			goto cleanup;
		}
		gguf->data_start = cursor->file->size;
	}
	status = place(tensors, count, cursor->file, gguf->data_start, alignment, cursor->error);
	for (uint64_t i = 0; i < count && status == STATUS_OK; i++)
		status = tensor_table_add(table, &tensors[i], cursor->error);
cleanup:
	mem_free(tensors);
	return status;
}

static enum status read_values(struct cursor *cursor, uint64_t count, struct gguf *gguf)
{
	gguf->values = mem_alloc_zero(count, sizeof(*gguf->values));
	if (!gguf->values)
		return error_set(cursor->error, STATUS_NO_MEMORY, "%s: no memory for metadata",
				 cursor->file->path);
	for (uint64_t i = 0; i < count; i++) {
		enum status status = take_value(cursor, &gguf->values[i]);
		if (status != STATUS_OK)
			return status;
		gguf->count++;
	}
	if (count)
		qsort(gguf->values, count, sizeof(*gguf->values), compare_values);
	for (uint64_t i = 1; i < count; i++)
		if (text_equal(gguf->values[i - 1].key, gguf->values[i].key))
			return mapped_file_corrupt(cursor->file,
						   (size_t)((const uint8_t *)gguf->values[i].key.bytes -
								  cursor->file->bytes), cursor->error,
						   "metadata key %.*s is given twice",
						   TEXT_ARGS(gguf->values[i].key));
	return STATUS_OK;
}

bool gguf_is(const struct mapped_file *file)
{
	return file->size >= 4 && memcmp(file->bytes, "GGUF", 4) == 0;
}

enum status gguf_parse(const struct mapped_file *file, struct tensor_table *table, struct gguf **out,
		       struct error *error)
{
	struct cursor cursor = {file, 4, error};
	uint64_t version = 0, tensors = 0, values = 0;
	uint32_t alignment = ALIGNMENT_DEFAULT;
	struct gguf *gguf = NULL;
	enum status status;

	if (!gguf_is(file))
		return mapped_file_corrupt(file, 0, error, "not a GGUF file");
	status = take_integer(&cursor, 4, "the version", &version);
	if (status != STATUS_OK)
		return status;
	if (version != 2 && version != 3)
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: byte 4: GGUF version %llu; 2 and 3, little-endian, "
				 "are read", file->path, (unsigned long long)version);
	status = take_integer(&cursor, 8, "the number of tensors", &tensors);
	if (status == STATUS_OK)
		status = take_integer(&cursor, 8, "the number of metadata keys", &values);
	if (status != STATUS_OK)
		return status;
	if (tensors > TENSORS_MAX || values > GGUF_KEYS_MAX)
		return mapped_file_corrupt(file, 8, error,
					   "%llu tensors and %llu metadata keys (limits %d and %d)",
					   (unsigned long long)tensors, (unsigned long long)values,
					   TENSORS_MAX,
					   GGUF_KEYS_MAX);
	gguf = mem_alloc_zero(1, sizeof(*gguf));
	if (!gguf)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", file->path);
	status = read_values(&cursor, values, gguf);
	if (status != STATUS_OK)
		goto cleanup;
	if (gguf_has(gguf, "general.alignment") && (!gguf_get_u32(gguf, "general.alignment", &alignment) ||
	    alignment == 0 || alignment % 8 != 0 || alignment > ALIGNMENT_MAX)) {
		status = mapped_file_corrupt(file, 0, error,
					     "general.alignment is not a multiple of 8 up to %d",
					     ALIGNMENT_MAX);
		goto cleanup;
	}
	if (table)
		status = read_tensors(&cursor, tensors, alignment, gguf, table);
cleanup:
	if (status == STATUS_OK)
		*out = gguf;
	else
		gguf_destroy(gguf);
	return status;
}

void gguf_destroy(struct gguf *gguf)
{
	if (!gguf)
		return;
	mem_free(gguf->values);
	mem_free(gguf);
}

uint64_t gguf_data_start(const struct gguf *gguf)
{
	return gguf->data_start;
}

bool gguf_has(const struct gguf *gguf, const char *key)
{
	return find(gguf, key) != NULL;
}

bool gguf_get_u32(const struct gguf *gguf, const char *key, uint32_t *out)
{
	const struct value *value = find(gguf, key);
	uint64_t integer;

	if (!value || value->type == GGUF_F32 || value->type == GGUF_F64 || value->type == GGUF_STRING ||
	    value->type == GGUF_ARRAY || value->type == GGUF_BOOL)
		return false;
	integer = load(value->at, type_bytes[value->type]);
	/* A negative number of any width has its sign bit set and does not fit. */
	if (value->type == GGUF_I8 || value->type == GGUF_I16 || value->type == GGUF_I32 ||
	    value->type == GGUF_I64) {
		if (integer >> (8 * type_bytes[value->type] - 1))
			return false;
	}
	if (integer > UINT32_MAX)
		return false;
	*out = (uint32_t)integer;
	return true;
}

bool gguf_get_f32(const struct gguf *gguf, const char *key, float *out)
{
	const struct value *value = find(gguf, key);
	double wide;

	if (!value || (value->type != GGUF_F32 && value->type != GGUF_F64))
		return false;
	if (value->type == GGUF_F32) {
		memcpy(out, value->at, sizeof(*out));
		return true;
	}
	memcpy(&wide, value->at, sizeof(wide));
	*out = (float)wide;
	return true;
}

bool gguf_get_bool(const struct gguf *gguf, const char *key, bool *out)
{
	const struct value *value = find(gguf, key);
	if (!value || value->type != GGUF_BOOL)
		return false;
	*out = *value->at != 0;
	return true;
}

static struct text_view text_at(const uint8_t *at)
{
	return (struct text_view){(const char *)at + 8, load(at, 8)};
}

bool gguf_get_text(const struct gguf *gguf, const char *key, struct text_view *out)
{
	const struct value *value = find(gguf, key);
	if (!value || value->type != GGUF_STRING)
		return false;
	*out = text_at(value->at);
	return true;
}

bool gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type type, struct gguf_array *out)
{
	const struct value *value = find(gguf, key);
	if (!value || value->type != GGUF_ARRAY || value->element != type)
		return false;
	*out = (struct gguf_array){value->element, value->count, value->at};
	return true;
}

struct text_view gguf_next_text(struct gguf_array *array)
{
	struct text_view text = text_at(array->at);
	array->at += 8 + text.size;
	return text;
}

static uint32_t next_bits(struct gguf_array *array)
{
	uint32_t bits = (uint32_t)load(array->at, 4);

	array->at += 4;
	return bits;
}

int32_t gguf_next_i32(struct gguf_array *array)
{
	uint32_t bits = next_bits(array);
	int32_t value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

float gguf_next_f32(struct gguf_array *array)
{
	uint32_t bits = next_bits(array);
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}
