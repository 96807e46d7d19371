/* samples_file.c - columns that grow, and the header that says where each of them lies.
 *
 * Invariant: between impressions every column of offsets has one entry more than its things, the last being
 * the size of what it points into. Caller: the samples command. */
#include "scorer/train/samples_file.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#define COLUMN_BYTES_MAX ((size_t)1 << 30)
enum { HEADER_BYTES = 4096, PATH_BYTES = 4096 };

/* In the order of the file: name, type, bytes of an element. */
#define COLUMNS(X)                                                                                 \
	X(PREFIX_OFFSETS, "prefix_offsets", "I64", 8)                                              \
	X(SUFFIX_OFFSETS, "suffix_offsets", "I64", 8)                                              \
	X(CANDIDATE_OFFSETS, "candidate_offsets", "I64", 8)                                        \
	X(TIME, "time_ms", "I64", 8)                                                               \
	X(USER, "user", "U64", 8)                                                                  \
	X(IMPRESSION_ID_OFFSETS, "impression_id_offsets", "I64", 8)                                \
	X(USER_ID_OFFSETS, "user_id_offsets", "I64", 8)                                            \
	X(ITEM_ID_OFFSETS, "item_id_offsets", "I64", 8)                                            \
	X(PREFIX_TOKENS, "prefix_tokens", "I32", 4)                                                \
	X(SUFFIX_TOKENS, "suffix_tokens", "I32", 4)                                                \
	X(LABELS, "labels", "F32", 4)                                                              \
	X(FEATURES, "features", "F32", 4)                                                          \
	X(SPLIT, "split", "U8", 1)                                                                 \
	X(IMPRESSION_IDS, "impression_ids", "U8", 1)                                               \
	X(USER_IDS, "user_ids", "U8", 1)                                                           \
	X(ITEM_IDS, "item_ids", "U8", 1)

enum column_kind {
#define X(code, name, type, bytes) COLUMN_##code,
	COLUMNS(X)
#undef X
	COLUMNS_COUNT
};

static const struct {
	const char *name, *type;
	size_t bytes;
} kinds[COLUMNS_COUNT] = {
#define X(code, name, type, bytes) {name, type, bytes},
	COLUMNS(X)
#undef X
};

struct column {
	unsigned char *bytes;
	size_t size, capacity;
};

struct samples_file {
	struct column columns[COLUMNS_COUNT];
	size_t features;
	size_t impressions, candidates;
};

static enum status append(struct samples_file *file, enum column_kind kind, const void *values, size_t count,
			  struct error *error)
{
	struct column *column = &file->columns[kind];
	size_t bytes, capacity = column->capacity ? column->capacity : 4096;

	if (!count)
		return STATUS_OK;
	if (!mem_multiply(count, kinds[kind].bytes, &bytes) || bytes > COLUMN_BYTES_MAX - column->size)
		return error_set(error, STATUS_LIMIT, "samples: %s would be larger than %zu bytes in one shard",
				 kinds[kind].name, COLUMN_BYTES_MAX);
	while (capacity < column->size + bytes)
		capacity *= 2;
	if (capacity > column->capacity) {
		void *grown = mem_resize_array(column->bytes, capacity, 1);
		if (!grown)
			return error_set(error, STATUS_NO_MEMORY, "samples: no memory for %s", kinds[kind].name);
		column->bytes = grown;
		column->capacity = capacity;
	}
	memcpy(column->bytes + column->size, values, bytes);
	column->size += bytes;
	return STATUS_OK;
}

/* The end of what `of` holds, in elements. */
static enum status append_end(struct samples_file *file, enum column_kind offsets, enum column_kind of,
			      struct error *error)
{
	int64_t end = (int64_t)(file->columns[of].size / kinds[of].bytes);
	return append(file, offsets, &end, 1, error);
}

/* An impression's ends move while its parts come in. */
static void move_end(struct samples_file *file, enum column_kind offsets, int64_t end)
{
	struct column *column = &file->columns[offsets];
	memcpy(column->bytes + column->size - sizeof end, &end, sizeof end);
}

static enum status clear(struct samples_file *file, struct error *error)
{
	static const enum column_kind offsets[] = {
		COLUMN_PREFIX_OFFSETS, COLUMN_SUFFIX_OFFSETS, COLUMN_CANDIDATE_OFFSETS,
		COLUMN_IMPRESSION_ID_OFFSETS, COLUMN_USER_ID_OFFSETS, COLUMN_ITEM_ID_OFFSETS,
	};
	enum status status = STATUS_OK;
	for (int i = 0; i < COLUMNS_COUNT; i++)
		file->columns[i].size = 0;
	file->impressions = file->candidates = 0;
	for (size_t i = 0; !status && i < sizeof offsets / sizeof offsets[0]; i++)
		status = append(file, offsets[i], &(int64_t){0}, 1, error);
	return status;
}

enum status samples_file_create(size_t features, struct samples_file **out, struct error *error)
{
	struct samples_file *file = mem_alloc_zero(1, sizeof *file);
	enum status status;
	if (!file)
		return error_set(error, STATUS_NO_MEMORY, "no memory for samples");
	file->features = features;
	if ((status = clear(file, error))) {
		samples_file_destroy(file);
		return status;
	}
	*out = file;
	return STATUS_OK;
}

void samples_file_destroy(struct samples_file *file)
{
	if (!file)
		return;
	for (int i = 0; i < COLUMNS_COUNT; i++)
		mem_free(file->columns[i].bytes);
	mem_free(file);
}

enum status samples_file_begin(struct samples_file *file, struct text_view impression_id,
			       struct text_view user_id, int64_t time_ms, uint8_t part, struct error *error)
{
	uint64_t user = XXH3_64bits(user_id.bytes, user_id.size);
	enum status status;
	if ((status = append(file, COLUMN_IMPRESSION_IDS, impression_id.bytes, impression_id.size, error)) ||
	    (status = append_end(file, COLUMN_IMPRESSION_ID_OFFSETS, COLUMN_IMPRESSION_IDS, error)) ||
	    (status = append(file, COLUMN_USER_IDS, user_id.bytes, user_id.size, error)) ||
	    (status = append_end(file, COLUMN_USER_ID_OFFSETS, COLUMN_USER_IDS, error)) ||
	    (status = append(file, COLUMN_TIME, &time_ms, 1, error)) ||
	    (status = append(file, COLUMN_SPLIT, &part, 1, error)) ||
	    (status = append(file, COLUMN_USER, &user, 1, error)) ||
	    (status = append_end(file, COLUMN_PREFIX_OFFSETS, COLUMN_PREFIX_TOKENS, error)) ||
	    (status = append(file, COLUMN_CANDIDATE_OFFSETS, &(int64_t){(int64_t)file->candidates}, 1, error)))
		return status;
	file->impressions++;
	return STATUS_OK;
}

enum status samples_file_prefix(struct samples_file *file, const int32_t *tokens, uint32_t count,
				struct error *error)
{
	enum status status = append(file, COLUMN_PREFIX_TOKENS, tokens, count, error);
	if (!status)
		move_end(file, COLUMN_PREFIX_OFFSETS,
			 (int64_t)(file->columns[COLUMN_PREFIX_TOKENS].size / sizeof *tokens));
	return status;
}

enum status samples_file_candidate(struct samples_file *file, const struct samples_candidate *candidate,
				   struct error *error)
{
	enum status status;
	if ((status = append(file, COLUMN_SUFFIX_TOKENS, candidate->tokens, candidate->tokens_count, error)) ||
	    (status = append_end(file, COLUMN_SUFFIX_OFFSETS, COLUMN_SUFFIX_TOKENS, error)) ||
	    (status = append(file, COLUMN_LABELS, &candidate->label, 1, error)) ||
	    (status = append(file, COLUMN_FEATURES, candidate->features, file->features, error)) ||
	    (status = append(file, COLUMN_ITEM_IDS, candidate->item_id.bytes, candidate->item_id.size, error)) ||
	    (status = append_end(file, COLUMN_ITEM_ID_OFFSETS, COLUMN_ITEM_IDS, error)))
		return status;
	move_end(file, COLUMN_CANDIDATE_OFFSETS, (int64_t)++file->candidates);
	return STATUS_OK;
}

size_t samples_file_impressions(const struct samples_file *file)
{
	return file->impressions;
}

static size_t data_bytes(const struct samples_file *file)
{
	size_t bytes = 0;
	for (int i = 0; i < COLUMNS_COUNT; i++)
		bytes += file->columns[i].size;
	return bytes;
}

bool samples_file_is_full(const struct samples_file *file)
{
	return file->impressions >= SAMPLES_SHARD_IMPRESSIONS || data_bytes(file) >= SAMPLES_SHARD_BYTES;
}

void samples_file_name(size_t number, char out[SAMPLES_NAME_BYTES])
{
	snprintf(out, SAMPLES_NAME_BYTES, "samples-%05zu.safetensors", number);
}

static size_t write_header(const struct samples_file *file, char *out)
{
	size_t size = 0, begin = 0;
	out[size++] = '{';
	for (int i = 0; i < COLUMNS_COUNT; i++) {
		char shape[64];
		size_t end = begin + file->columns[i].size;
		if (i == COLUMN_FEATURES)
			snprintf(shape, sizeof shape, "%zu,%zu", file->candidates, file->features);
		else
			snprintf(shape, sizeof shape, "%zu", file->columns[i].size / kinds[i].bytes);
		size += (size_t)snprintf(out + size, HEADER_BYTES - size,
					 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
					 i ? "," : "", kinds[i].name, kinds[i].type, shape, begin, end);
		begin = end;
	}
	out[size++] = '}';
	while (size % 8)
		out[size++] = ' ';
	return size;
}

enum status samples_file_write(struct samples_file *file, const char *folder, size_t number,
			       struct error *error)
{
	char header[HEADER_BYTES], name[SAMPLES_NAME_BYTES], path[PATH_BYTES];
	uint64_t header_size = write_header(file, header);
	unsigned char size[8];
	struct file_part parts[COLUMNS_COUNT + 2] = {{size, sizeof size}, {header, (size_t)header_size}};
	for (int i = 0; i < 8; i++)
		size[i] = (unsigned char)(header_size >> (8 * i) & 0xff);
	for (int i = 0; i < COLUMNS_COUNT; i++)
		parts[i + 2] = (struct file_part){file->columns[i].bytes, file->columns[i].size};
	samples_file_name(number, name);
	if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: the path is longer than %d bytes", name, PATH_BYTES);
	enum status status = file_replace(path, parts, COLUMNS_COUNT + 2, true, error);
	return status ? status : clear(file, error);
}
