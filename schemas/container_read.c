/* container_read.c - reads Avro object container files block by block.
 *
 * Invariants: no size from the file is believed before the bytes are there (buffers grow with what
 * arrives, to a named maximum); a block is used only after its sync marker matched; after
 * STATUS_CORRUPT every call repeats it. Records are measured, copied into the caller's arena and
 * decoded there, so they outlive the block. One thread. */
#include "schemas/codec_buffer.h"
#include "schemas/codec_plan.h"
#include "schemas/container_codec.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
	HEADER_BYTES_MAX = 8 * 1024 * 1024,
	METADATA_MAX = 4096,
	CHUNK_BYTES = 1024 * 1024,      /* read at once where the size of the file is unknown */
};

struct metadata_entry {
	const char *key;        /* NUL-terminated, in the arena */
	const char *value;
	size_t value_size;
};

struct container_reader {
	char *path;
	FILE *file;
	bool regular;
	uint64_t size;                  /* of a regular file */
	uint64_t position;              /* bytes consumed */
	struct arena *arena;            /* metadata */
	struct metadata_entry *metadata;
	size_t metadata_count;
	size_t metadata_capacity;
	struct codec_plan *plan;
	struct container_packer *packer;
	char sync[CONTAINER_SYNC_BYTES];
	struct byte_buffer raw;         /* the block as it is in the file */
	struct text_view block;         /* what is left of it, decompressed */
	uint64_t block_records;         /* left in it */
	uint64_t block_byte;            /* where it starts in the file */
	uint64_t records;
	bool failed;
	struct error failure;
};

/* The reader is of no use any more, and will say so again. */
static enum status give_up(struct container_reader *reader, enum status status, const char *what,
			   struct error *error)
{
	reader->failed = true;
	error_set(&reader->failure, status, "%s: %s", reader->path, what);
	return error_set(error, status, "%s", reader->failure.text);
}

static enum status corrupt(struct container_reader *reader, struct error *error, const char *what)
{
	reader->failed = true;
	error_set(&reader->failure, STATUS_CORRUPT, "%s: %s at byte %llu of %llu, after %llu records", reader->path,
		  what, (unsigned long long)reader->position, (unsigned long long)reader->size,
		  (unsigned long long)reader->records);
	return error_set(error, STATUS_CORRUPT, "%s", reader->failure.text);
}

static enum status cut_off(struct container_reader *reader, struct error *error)
{
	if (ferror(reader->file))
		return give_up(reader, STATUS_IO, strerror(errno), error);
	return corrupt(reader, error, "the file is cut off");
}

/* *end (may be NULL: an error) is set where the file ends before the first byte. */
static enum status read_long(struct container_reader *reader, int64_t *value, bool *end,
			     struct error *error)
{
	unsigned char bytes[CODEC_LONG_BYTES_MAX];
	size_t count = 0;

	for (;;) {
		int byte = getc_unlocked(reader->file);
		if (byte == EOF) {
			if (count == 0 && end && !ferror(reader->file)) {
				*end = true;
				return STATUS_OK;
			}
			return cut_off(reader, error);
		}
		bytes[count++] = (unsigned char)byte;
		reader->position++;
		if (byte < 0x80)
			break;
		if (count == sizeof bytes)
			return corrupt(reader, error, "a number of more than 64 bits");
	}
	return codec_get_long(bytes, bytes + count, value)
		       ? STATUS_OK
		       : corrupt(reader, error, "a number of more than 64 bits");
}

/* Appends exactly `size` bytes of the file to the buffer. */
static enum status read_bytes(struct container_reader *reader, struct byte_buffer *buffer, uint64_t size,
			      struct error *error)
{
	if (reader->regular && (reader->position > reader->size || size > reader->size - reader->position))
		return corrupt(reader, error, "the file is cut off");
	while (size) {
		size_t chunk = size < CHUNK_BYTES ? (size_t)size : CHUNK_BYTES, got;
		if (buffer->size > buffer->bytes_max - chunk || !codec_buffer_reserve(buffer, buffer->size + chunk))
			return give_up(reader, STATUS_NO_MEMORY, "no memory for a block", error);
		got = fread(buffer->bytes + buffer->size, 1, chunk, reader->file);
		buffer->size += got;
		reader->position += got;
		size -= got;
		if (got < chunk)
			return cut_off(reader, error);
	}
	return STATUS_OK;
}

/* A text of the header, copied with a NUL after it. */
static enum status read_text(struct container_reader *reader, const char **text, size_t *size,
			     struct error *error)
{
	int64_t bytes;
	char *copy;
	enum status status = read_long(reader, &bytes, NULL, error);

	if (status)
		return status;
	if (bytes < 0 || bytes > HEADER_BYTES_MAX)
		return corrupt(reader, error, "a header entry of impossible size");
	reader->raw.size = 0;
	status = read_bytes(reader, &reader->raw, (uint64_t)bytes, error);
	if (status)
		return status;
	copy = arena_alloc(reader->arena, (size_t)bytes + 1);
	if (!copy)
		return corrupt(reader, error, "a header of too many bytes");
	if (bytes)
		memcpy(copy, reader->raw.bytes, (size_t)bytes);
	copy[bytes] = '\0';
	*text = copy;
	*size = (size_t)bytes;
	return STATUS_OK;
}

static enum status read_metadata(struct container_reader *reader, struct error *error)
{
	for (;;) {
		int64_t count, size;
		enum status status = read_long(reader, &count, NULL, error);

		if (status)
			return status;
		if (count == 0)
			return STATUS_OK;
		if (count < 0) {
			status = read_long(reader, &size, NULL, error);
			if (status)
				return status;
			count = count == INT64_MIN ? INT64_MAX : -count;
		}
		for (; count; count--) {
			struct metadata_entry entry;
			if (reader->metadata_count == METADATA_MAX)
				return corrupt(reader, error, "a header of too many entries");
			if (!mem_reserve((void **)&reader->metadata, &reader->metadata_capacity, reader->metadata_count,
					 METADATA_MAX, sizeof entry))
				return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its header", reader->path);
			status = read_text(reader, &entry.key, &entry.value_size, error);
			if (!status)
				status = read_text(reader, &entry.value, &entry.value_size, error);
			if (status)
				return status;
			reader->metadata[reader->metadata_count++] = entry;
		}
	}
}

static const struct metadata_entry *find_metadata(const struct container_reader *reader, const char *key)
{
	for (size_t i = reader->metadata_count; i > 0; i--)     /* the last of equal keys holds */
		if (strcmp(reader->metadata[i - 1].key, key) == 0)
			return &reader->metadata[i - 1];
	return NULL;
}

static enum status read_header(struct container_reader *reader, struct error *error)
{
	const struct metadata_entry *codec_entry;
	enum container_codec codec = CONTAINER_NULL;
	enum status status = read_bytes(reader, &reader->raw, 4, error);

	if (status == STATUS_CORRUPT || (!status && memcmp(reader->raw.bytes, "Obj\1", 4) != 0)) {
		reader->position = 0;
		return corrupt(reader, error, "not an Avro container file (no \"Obj\" 1)");
	}
	if (!status)
		status = read_metadata(reader, error);
	reader->raw.size = 0;
	if (!status)
		status = read_bytes(reader, &reader->raw, CONTAINER_SYNC_BYTES, error);
	if (status)
		return status;
	memcpy(reader->sync, reader->raw.bytes, CONTAINER_SYNC_BYTES);
	if (!find_metadata(reader, "avro.schema"))
		return corrupt(reader, error, "the header has no avro.schema");
	codec_entry = find_metadata(reader, "avro.codec");
	if (codec_entry && codec_entry->value_size && !container_codec_find(codec_entry->value, &codec))
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: block codec \"%.40s\"; null, deflate and zstandard can be read", reader->path,
				 codec_entry->value);
	reader->packer = container_packer_create(codec, false);
	return reader->packer ? STATUS_OK
			      : error_set(error, STATUS_NO_MEMORY, "%s: no memory to read it", reader->path);
}

static enum status find_type(struct container_reader *reader, struct text_view json,
			     enum record_type *type, struct error *error)
{
	struct schema *schema = NULL;
	enum status status = schema_parse(json, &schema, error);
	const char *name = NULL;

	if (status) {
		if (error)
			error_prefix(error, "%s", reader->path);
		return status;
	}
	if (schema_root(schema)->name)
		name = schema_short_name(schema_root(schema)->name);
	status = STATUS_INCOMPATIBLE;
	for (int i = 0; name && i < RECORD_TYPES; i++)
		if (strcmp(record_type_name((enum record_type)i), name) == 0) {
			*type = (enum record_type)i;
			status = STATUS_OK;
		}
	if (status)
		error_set(error, status, "%s holds %.80s, which is none of our records", reader->path,
			  name ? name : schema_kind_name(schema_root(schema)->kind));
	schema_destroy(schema);
	return status;
}

/* type NULL: found from the schema's name. */
static enum status open_reader(const char *path, const enum record_type *type,
			       struct container_reader **out, struct error *error)
{
	struct container_reader *reader = mem_alloc_zero(1, sizeof *reader);
	const struct metadata_entry *schema;
	enum record_type found = RECORD_ITEM;
	struct text_view json;
	struct stat state;
	enum status status;

	if (!reader)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory to read it", path);
	reader->raw.bytes_max = CONTAINER_BLOCK_BYTES_MAX;
	reader->path = mem_copy_string(path);
	reader->arena = arena_create(HEADER_BYTES_MAX);
	if (!reader->path || !reader->arena) {
		status = error_set(error, STATUS_NO_MEMORY, "%s: no memory to read it", path);
		goto cleanup;
	}
	reader->file = fopen(path, "rbe");
	if (!reader->file || fstat(fileno(reader->file), &state)) {
		status = error_set(error, errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT,
				   "%s: cannot open: %s", path, strerror(errno));
		goto cleanup;
	}
	if (S_ISDIR(state.st_mode)) {
		status = error_set(error, STATUS_NO_INPUT, "%s is a folder, not a container file", path);
		goto cleanup;
	}
	reader->regular = S_ISREG(state.st_mode);
	reader->size = reader->regular ? (uint64_t)state.st_size : 0;
	status = read_header(reader, error);
	if (status)
		goto cleanup;
	schema = find_metadata(reader, "avro.schema");
	json = (struct text_view){schema->value, schema->value_size};
	if (type)
		found = *type;
	else
		status = find_type(reader, json, &found, error);
	if (status)
		goto cleanup;
	status = codec_plan_create(found, json, &reader->plan, error);
	if (status) {
		if (error)
			error_prefix(error, "%s", path);
		goto cleanup;
	}
	reader->block_byte = reader->position;
	*out = reader;
	reader = NULL;
cleanup:
	container_reader_close(reader);
	return status;
}

enum status container_reader_open(const char *path, enum record_type type, struct container_reader **out,
				  struct error *error)
{
	return open_reader(path, &type, out, error);
}

enum status container_reader_open_any(const char *path, struct container_reader **out,
				      struct error *error)
{
	return open_reader(path, NULL, out, error);
}

void container_reader_close(struct container_reader *reader)
{
	if (!reader)
		return;
	if (reader->file)
		fclose(reader->file);
	codec_plan_destroy(reader->plan);
	container_packer_destroy(reader->packer);
	byte_buffer_free(&reader->raw);
	arena_destroy(reader->arena);
	mem_free(reader->metadata);
	mem_free(reader->path);
	mem_free(reader);
}

/* The next block with records in it, or the end. */
static enum status read_block(struct container_reader *reader, bool *end, struct error *error)
{
	struct error reason = {0};
	int64_t count, size;
	enum status status;

	reader->block_byte = reader->position;
	status = read_long(reader, &count, end, error);
	if (status || *end)
		return status;
	status = read_long(reader, &size, NULL, error);
	if (status)
		return status;
	if (count < 0 || size < 0 || size > CONTAINER_BLOCK_BYTES_MAX)
		return corrupt(reader, error, "a block of impossible size");
	reader->raw.size = 0;
	status = read_bytes(reader, &reader->raw, (uint64_t)size, error);
	if (!status) {
		char sync[CONTAINER_SYNC_BYTES];
		size_t got = fread(sync, 1, sizeof sync, reader->file);
		reader->position += got;
		if (got < sizeof sync)
			return cut_off(reader, error);
		if (memcmp(sync, reader->sync, sizeof sync) != 0)
			return corrupt(reader, error, "the sync marker after a block is wrong");
		status = container_unpack(reader->packer, (struct text_view){reader->raw.bytes, (size_t)size},
					  &reader->block, &reason);
		if (status == STATUS_CORRUPT)
			return corrupt(reader, error, reason.text);
		if (status)
			return give_up(reader, status, reason.text, error);
	}
	if (status)
		return status;
	/* Every record of ours has an id, and so at least a byte. */
	if ((uint64_t)count > reader->block.size)
		return corrupt(reader, error, "a block of more records than bytes");
	reader->block_records = (uint64_t)count;
	return STATUS_OK;
}

static enum status bad_record(struct container_reader *reader, enum status status, uint64_t lost,
			      const struct error *reason, struct error *error)
{
	return error_set(error, status, "%s: record %llu, block at byte %llu: %s (%llu lost)", reader->path,
			 (unsigned long long)(reader->records - lost), (unsigned long long)reader->block_byte,
			 reason->text, (unsigned long long)lost);
}

enum status container_read(struct container_reader *reader, struct arena *arena, struct event *out,
			   bool *end, struct error *error)
{
	struct error reason = {0};
	struct text_view body;
	enum status status;
	uint64_t lost = 1;
	size_t bytes;
	bool at_end = false;

	if (reader->failed)
		return error_set(error, reader->failure.status, "%s", reader->failure.text);
	while (reader->block_records == 0) {
		if (reader->block.size)
			return corrupt(reader, error, "a block has bytes after its last record");
		status = read_block(reader, &at_end, error);
		if (status)
			return status;
		if (at_end) {
			*end = true;
			return STATUS_OK;
		}
	}
	status = codec_measure(reader->plan, reader->block, &bytes, &reason);
	if (status) {   /* where it ends, nobody knows: the rest of the block is lost */
		lost = reader->block_records;
		reader->records += lost;
		reader->block_records = 0;
		reader->block = (struct text_view){NULL, 0};
		return bad_record(reader, STATUS_BAD_RECORD, lost, &reason, error);
	}
	body = (struct text_view){reader->block.bytes, bytes};
	reader->block.bytes += bytes;
	reader->block.size -= bytes;
	reader->block_records--;
	reader->records++;
	if (!text_copy(arena, body, &body)) {
		error_set(&reason, STATUS_LIMIT, "%zu bytes are more than the arena has left", bytes);
		return bad_record(reader, STATUS_LIMIT, lost, &reason, error);
	}
	status = codec_decode(reader->plan, body, arena, out, NULL, &reason);
	if (status)
		return bad_record(reader, status, lost, &reason, error);
	*end = false;
	return STATUS_OK;
}

enum record_type container_reader_type(const struct container_reader *reader)
{
	return codec_plan_type(reader->plan);
}

const char *container_reader_metadata(const struct container_reader *reader, const char *key)
{
	const struct metadata_entry *entry = find_metadata(reader, key);
	return entry ? entry->value : NULL;
}

const char *container_reader_schema(const struct container_reader *reader)
{
	return container_reader_metadata(reader, "avro.schema");
}

uint64_t container_reader_records(const struct container_reader *reader)
{
	return reader->records;
}

uint64_t container_reader_size(const struct container_reader *reader)
{
	return reader->size;
}
