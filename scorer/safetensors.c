/* safetensors.c - 8 bytes of length, a JSON header, then the data without hole or overlap.
 *
 * Invariant: a tensor enters the table only after its bytes were checked to lie inside the file and to be
 * exactly what shape and type ask for. Any thread. */
#include "scorer/safetensors.h"

#include "scorer/json_scan.h"

#include <stdlib.h>

enum { EXTENTS_MAX = 64 };

struct header {
	const struct mapped_file *file;
	struct json_scan scan;
	uint64_t data_start, data_bytes;
	struct tensor_table *table;
	struct error *error;
};

static enum status at_scan(struct header *header)
{
	return mapped_file_corrupt(header->file, 8 + header->scan.at, header->error, "header: %s",
				   header->scan.reason ? header->scan.reason : "malformed");
}

static bool read_metadata(struct json_scan *scan)
{
	struct text_view ignored;

	for (bool more = json_scan_open(scan, '{'); more; more = json_scan_next(scan, '}'))
		if (!json_scan_key(scan, &ignored) || !json_scan_string(scan, &ignored))
			return false;
	return json_scan_ok(scan);
}

static bool read_shape(struct json_scan *scan, uint64_t *extents, size_t *rank)
{
	*rank = 0;
	for (bool more = json_scan_open(scan, '['); more; more = json_scan_next(scan, ']')) {
		if (*rank == EXTENTS_MAX)
			return json_scan_fail(scan, "a shape of more than 64 extents");
		if (!json_scan_unsigned(scan, &extents[(*rank)++]))
			return false;
	}
	return json_scan_ok(scan);
}

static bool read_offsets(struct json_scan *scan, uint64_t offsets[2])
{
	return json_scan_expect(scan, '[') && json_scan_unsigned(scan, &offsets[0]) &&
	       json_scan_expect(scan, ',') && json_scan_unsigned(scan, &offsets[1]) &&
	       json_scan_expect(scan, ']');
}

struct info {
	enum tensor_type type;
	uint64_t extents[EXTENTS_MAX], offsets[2];
	size_t rank;
};

static bool read_info(struct json_scan *scan, struct info *info)
{
	enum { TYPE = 1, SHAPE = 2, OFFSETS = 4 };
	unsigned seen = 0;

	for (bool more = json_scan_open(scan, '{'); more; more = json_scan_next(scan, '}')) {
		struct text_view key, name;
		unsigned field;
		if (!json_scan_key(scan, &key))
			return false;
		field = text_equal(key, TEXT_LITERAL("dtype")) ? TYPE :
			text_equal(key, TEXT_LITERAL("shape")) ?
			SHAPE : text_equal(key, TEXT_LITERAL("data_offsets")) ? OFFSETS : 0;
		if (seen & field)
			return json_scan_fail(scan, "a field of a tensor is given twice");
		seen |= field;
		if (field == TYPE) {
			if (!json_scan_string(scan, &name))
				return false;
			if (!tensor_type_by_name(name, &info->type))
				return json_scan_fail(scan, "unknown dtype");
		} else if (field == SHAPE) {
			if (!read_shape(scan, info->extents, &info->rank))
				return false;
		} else if (field == OFFSETS) {
			if (!read_offsets(scan, info->offsets))
				return false;
		} else if (!json_scan_skip(scan, NULL)) {
			return false;
		}
	}
	if (json_scan_ok(scan) && seen != (TYPE | SHAPE | OFFSETS))
		return json_scan_fail(scan, "a tensor lacks dtype, shape or data_offsets");
	return json_scan_ok(scan);
}

static enum status add(struct header *header, const char *name, size_t name_size, const struct info *info)
{
	struct stored_tensor tensor = {.name = name, .name_size = name_size, .type = info->type,
				       .file = header->file, .rank = (uint32_t)info->rank};
	uint64_t elements = 1;

	for (size_t i = 0; i < info->rank; i++)
		if (__builtin_mul_overflow(elements, info->extents[i], &elements))
			return mapped_file_corrupt(header->file, 8 + header->scan.at, header->error,
						   "tensor %.*s: its shape overflows", (int)name_size, name);
	if (!tensor_type_bytes(info->type, elements, &tensor.bytes))
		return mapped_file_corrupt(header->file, 8 + header->scan.at, header->error,
					   "tensor %.*s: its size overflows or is no whole number of bytes",
					   (int)name_size, name);
	if (info->offsets[0] > info->offsets[1] || info->offsets[1] - info->offsets[0] != tensor.bytes)
		return mapped_file_corrupt(header->file, 8 + header->scan.at, header->error,
					   "tensor %.*s: data_offsets [%llu, %llu] do not hold its %llu "
					   "bytes",
					   (int)name_size, name, (unsigned long long)info->offsets[0],
					   (unsigned long long)info->offsets[1],
					   (unsigned long long)tensor.bytes);
	if (info->offsets[1] > header->data_bytes)
		return mapped_file_corrupt(header->file, header->file->size, header->error,
					   "tensor %.*s ends at data byte %llu, the file holds %llu "
					   "(interrupted "
					   "download?)", (int)name_size, name,
					   (unsigned long long)info->offsets[1],
					   (unsigned long long)header->data_bytes);
	if (info->rank > TENSOR_RANK_MAX)
		return error_set(header->error, STATUS_UNSUPPORTED,
				 "%s: tensor %.*s has rank %zu; at most %d",
				 header->file->path, (int)name_size, name, info->rank, TENSOR_RANK_MAX);
	for (size_t i = 0; i < info->rank; i++)
		tensor.shape[i] = info->extents[i];
	tensor.offset = header->data_start + info->offsets[0];
	tensor.data = header->file->bytes + tensor.offset;
	return tensor_table_add(header->table, &tensor, header->error);
}

static enum status read_member(struct header *header, bool *metadata_seen)
{
	struct json_scan *scan = &header->scan;
	struct text_view key;
	struct info info = {0};
	char name[TENSOR_NAME_MAX];
	size_t name_size;

	if (!json_scan_key(scan, &key))
		return at_scan(header);
	if (text_equal(key, TEXT_LITERAL("__metadata__"))) {
		if (*metadata_seen)
			json_scan_fail(scan, "__metadata__ is given twice");
		*metadata_seen = true;
		return json_scan_ok(scan) && read_metadata(scan) ? STATUS_OK : at_scan(header);
	}
	if (key.size > sizeof(name)) {
		json_scan_fail(scan, "a tensor name of more than 4096 bytes");
		return at_scan(header);
	}
	/* The view dies with the next string. */
	if (key.size)
		memcpy(name, key.bytes, key.size);
	name_size = key.size;
	if (!read_info(scan, &info))
		return at_scan(header);
	return add(header, name, name_size, &info);
}

static int compare_places(const void *a, const void *b)
{
	const struct stored_tensor *x = a, *y = b;
	uint64_t x_end = x->offset + x->bytes, y_end = y->offset + y->bytes;
	if (x->offset != y->offset)
		return x->offset > y->offset ? 1 : -1;
	return (x_end > y_end) - (x_end < y_end);
}

/* The tensors of this file, which stand last in the table, cover the data exactly. */
static enum status check_cover(struct header *header, size_t first)
{
	size_t count = header->table->count - first;
	struct stored_tensor *tensors = count ? header->table->tensors + first : NULL;
	uint64_t expected = header->data_start;

	if (count)
		qsort(tensors, count, sizeof(*tensors), compare_places);
	for (size_t i = 0; i < count; i++) {
		if (tensors[i].offset != expected)
			return mapped_file_corrupt(header->file, expected, header->error,
						   "tensor %s begins at byte %llu, expected %llu (%s)",
						   tensors[i].name, (unsigned long long)tensors[i].offset,
						   (unsigned long long)expected,
						   tensors[i].offset > expected ? "hole" : "overlap");
		expected += tensors[i].bytes;
	}
	if (expected != header->file->size)
		return mapped_file_corrupt(header->file, expected, header->error,
					   "%llu bytes belong to no tensor",
					   (unsigned long long)(header->file->size - expected));
	return STATUS_OK;
}

enum status safetensors_parse(const struct mapped_file *file, struct tensor_table *table,
			      struct error *error)
{
	struct header header = {.file = file, .table = table, .error = error};
	size_t first = table->count;
	bool metadata_seen = false;
	enum status status = STATUS_OK;
	uint64_t size = 0;

	if (file->size < 8)
		return mapped_file_corrupt(file, file->size, error, "too short for the length of a header");
	for (size_t i = 0; i < 8; i++)
		size |= (uint64_t)file->bytes[i] << 8 * i;
	if (size > SAFETENSORS_HEADER_MAX)
		return mapped_file_corrupt(file, 0, error, "a header of %llu bytes (limit %d)%s",
					   (unsigned long long)size, SAFETENSORS_HEADER_MAX,
					   memcmp(file->bytes, "version ", 8) == 0 ?
					   ": this is a Git LFS pointer, fetch the file itself" : "");
	if (size > file->size - 8)
		return mapped_file_corrupt(file, file->size, error, "the header of %llu bytes is cut off",
					   (unsigned long long)size);
	header.data_start = 8 + size;
	header.data_bytes = file->size - header.data_start;
	if (!json_scan_begin(&header.scan, (struct text_view){(const char *)file->bytes + 8, size})) {
		status = at_scan(&header);
		goto cleanup;
	}
	for (bool more = json_scan_open(&header.scan, '{'); more; more = json_scan_next(&header.scan, '}')) {
		status = read_member(&header, &metadata_seen);
		if (status != STATUS_OK)
			goto cleanup;
	}
	if (!json_scan_at_end(&header.scan)) {
		status = at_scan(&header);
		goto cleanup;
	}
	status = check_cover(&header, first);
cleanup:
	json_scan_end(&header.scan);
	return status;
}
