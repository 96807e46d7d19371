/* container_write.c - writes Avro object container files: header, blocks, rename.
 *
 * Invariants: what is at `path` is never half a file (everything goes to "<path>.part", which is
 * synced before it takes the name); equal records and metadata give equal bytes (the sync marker is a
 * hash of the header, blocks are cut by size alone). A failed write makes the writer useless: later
 * calls repeat the failure, and close removes the .part file. One thread. */
#include "schemas/codec_buffer.h"
#include "schemas/container_codec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

enum {
	BLOCK_BYTES = 128 * 1024,       /* a block is closed once it has this much, before compression */
	HEADER_BYTES_MAX = 4 * 1024 * 1024,
};

struct container_writer {
	char *path;
	char *part_path;
	int file;
	enum record_type type;
	bool replace;
	bool failed;
	struct container_packer *packer;
	struct byte_buffer block;
	uint64_t block_records;
	uint64_t records;
	char sync[CONTAINER_SYNC_BYTES];
};

static bool write_all(int file, const char *bytes, size_t size)
{
	while (size) {
		ssize_t written = write(file, bytes, size);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		bytes += written;
		size -= (size_t)written;
	}
	return true;
}

static enum status write_failed(struct container_writer *writer, struct error *error)
{
	writer->failed = true;
	return error_set(error, STATUS_IO, "%s: cannot write: %s", writer->part_path, strerror(errno));
}

static bool append_long(struct byte_buffer *buffer, int64_t value)
{
	char bytes[CODEC_LONG_BYTES_MAX];
	return byte_buffer_append(buffer, bytes, (size_t)(codec_put_long(bytes, value) - bytes));
}

static bool append_text(struct byte_buffer *buffer, const char *text)
{
	return append_long(buffer, (int64_t)strlen(text)) && byte_buffer_append(buffer, text, strlen(text));
}

static enum status write_header(struct container_writer *writer, enum record_type type,
				enum container_codec codec, const struct container_metadata *metadata,
				size_t metadata_count, struct error *error)
{
	struct byte_buffer header = {.bytes_max = HEADER_BYTES_MAX};
	XXH128_canonical_t hash;
	enum status status = STATUS_OK;
	bool fits;

	fits = byte_buffer_append(&header, "Obj\1", 4) && append_long(&header, 2 + (int64_t)metadata_count) &&
	       append_text(&header, "avro.codec") && append_text(&header, container_codec_name(codec)) &&
	       append_text(&header, "avro.schema") && append_text(&header, codec_schema_json(type));
	for (size_t i = 0; fits && i < metadata_count; i++)
		fits = append_text(&header, metadata[i].key) && append_text(&header, metadata[i].value);
	fits = fits && append_long(&header, 0);
	if (!fits) {
		status = error_set(error, STATUS_LIMIT, "%s: the header needs more than %d bytes", writer->path,
				   HEADER_BYTES_MAX);
		goto cleanup;
	}
	XXH128_canonicalFromHash(&hash, XXH3_128bits(header.bytes, header.size));
	memcpy(writer->sync, hash.digest, sizeof writer->sync);
	if (!write_all(writer->file, header.bytes, header.size) ||
	    !write_all(writer->file, writer->sync, sizeof writer->sync))
		status = write_failed(writer, error);
cleanup:
	byte_buffer_free(&header);
	return status;
}

enum status container_writer_create(const char *path, enum record_type type, enum container_codec codec,
				    const struct container_metadata *metadata, size_t metadata_count,
				    bool replace, struct container_writer **out, struct error *error)
{
	size_t part_bytes = strlen(path) + sizeof ".part";
	struct container_writer *writer;
	enum status status;

	for (size_t i = 0; i < metadata_count; i++)
		if (strncmp(metadata[i].key, "avro.", 5) == 0)
			return error_set(error, STATUS_INTERNAL, "%s: metadata \"%s\" is reserved", path,
					 metadata[i].key);
	if (!replace && access(path, F_OK) == 0)
		return error_set(error, STATUS_CANNOT_CREATE, "%s exists already; remove it or choose another place",
				 path);
	writer = mem_alloc_zero(1, sizeof *writer);
	if (!writer)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory to write it", path);
	writer->file = -1;
	writer->type = type;
	writer->replace = replace;
	writer->block.bytes_max = CONTAINER_BLOCK_BYTES_MAX;
	writer->path = mem_copy_string(path);
	writer->part_path = mem_alloc(part_bytes);
	writer->packer = container_packer_create(codec, true);
	if (!writer->path || !writer->part_path || !writer->packer) {
		status = error_set(error, STATUS_NO_MEMORY, "%s: no memory to write it", path);
		goto cleanup;
	}
	snprintf(writer->part_path, part_bytes, "%s.part", path);
	writer->file = open(writer->part_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (writer->file < 0) {
		status = error_set(error, errno == EACCES || errno == EPERM ? STATUS_NO_PERMISSION
									     : STATUS_CANNOT_CREATE,
				   "%s: cannot create: %s", writer->part_path, strerror(errno));
		goto cleanup;
	}
	status = write_header(writer, type, codec, metadata, metadata_count, error);
	if (status)
		goto cleanup;
	*out = writer;
	writer = NULL;
cleanup:
	container_writer_abort(&writer);
	return status;
}

static enum status flush(struct container_writer *writer, struct error *error)
{
	char head[2 * CODEC_LONG_BYTES_MAX], *at = head;
	struct text_view packed;
	enum status status;

	if (writer->block_records == 0)
		return STATUS_OK;
	status = container_pack(writer->packer, (struct text_view){writer->block.bytes, writer->block.size},
				&packed, error);
	if (status) {
		writer->failed = true;
		return status;
	}
	at = codec_put_long(at, (int64_t)writer->block_records);
	at = codec_put_long(at, (int64_t)packed.size);
	if (!write_all(writer->file, head, (size_t)(at - head)) ||
	    !write_all(writer->file, packed.bytes, packed.size) ||
	    !write_all(writer->file, writer->sync, sizeof writer->sync))
		return write_failed(writer, error);
	writer->block.size = 0;
	writer->block_records = 0;
	return STATUS_OK;
}

enum status container_write(struct container_writer *writer, const struct event *event,
			    struct error *error)
{
	enum status status;

	if (writer->failed)
		return error_set(error, STATUS_IO, "%s: an earlier write failed", writer->part_path);
	if (event->type != writer->type)
		return error_set(error, STATUS_INTERNAL, "%s: a %s does not belong into a file of type %s",
				 writer->path, record_type_name(event->type), record_type_name(writer->type));
	status = codec_encode(event, &writer->block, error);
	if (status)
		return status;
	writer->block_records++;
	writer->records++;
	return writer->block.size >= BLOCK_BYTES ? flush(writer, error) : STATUS_OK;
}

uint64_t container_writer_records(const struct container_writer *writer)
{
	return writer->records;
}

/* The new name has to be on disk too. Not every file system can sync a folder; that is no failure. */
static void sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? mem_copy_string(path) : mem_copy_string(".");
	int file;

	if (!folder)
		return;
	if (slash)
		folder[slash == path ? 1 : slash - path] = '\0';
	file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file >= 0) {
		(void)fsync(file);
		close(file);
	}
	mem_free(folder);
}

static enum status take_name(struct container_writer *writer, struct error *error)
{
	int result = -1;

	if (!writer->replace) {
		result = renameat2(AT_FDCWD, writer->part_path, AT_FDCWD, writer->path, RENAME_NOREPLACE);
		/* A file system without that flag: look first, which two processes could both do. */
		if (result && errno != EEXIST && access(writer->path, F_OK) == 0)
			errno = EEXIST;
		else if (result && errno != EEXIST)
			result = rename(writer->part_path, writer->path);
	} else {
		result = rename(writer->part_path, writer->path);
	}
	if (result)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: cannot rename to %s: %s", writer->part_path,
				 writer->path, strerror(errno));
	sync_folder(writer->path);
	return STATUS_OK;
}

enum status container_writer_close(struct container_writer **out, struct error *error)
{
	struct container_writer *writer = *out;
	enum status status;

	if (writer->failed)
		status = error_set(error, STATUS_IO, "%s: an earlier write failed", writer->part_path);
	else
		status = flush(writer, error);
	if (!status && fsync(writer->file))
		status = write_failed(writer, error);
	if (!status) {
		int file = writer->file;
		writer->file = -1;
		if (close(file))
			status = write_failed(writer, error);
	}
	if (!status)
		status = take_name(writer, error);
	if (!status) {
		mem_free(writer->part_path);
		writer->part_path = NULL;       /* nothing to remove any more */
	} else {
		writer->failed = true;
	}
	container_writer_abort(out);
	return status;
}

void container_writer_abort(struct container_writer **out)
{
	struct container_writer *writer = *out;

	if (!writer)
		return;
	if (writer->part_path && (writer->file >= 0 || writer->failed))
		(void)unlink(writer->part_path);
	if (writer->file >= 0)
		close(writer->file);
	container_packer_destroy(writer->packer);
	byte_buffer_free(&writer->block);
	mem_free(writer->path);
	mem_free(writer->part_path);
	mem_free(writer);
	*out = NULL;
}
