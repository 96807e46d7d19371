/* snapshot_file.c - see snapshot_file.h.
 *
 * Invariant of the writer: `buffer` holds the header of the open block and its payload so far; after the
 * first failure nothing more is written. Of the reader: payload bytes before `at` are used, and every
 * byte of the block has been compared with its checksum before the first is given out. */
#include "graph-updater/snapshot_file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "snapshots are written on little-endian machines"
#endif

enum { FORMAT_VERSION = 2, MAGIC_BYTES = 16, HEADER_BYTES = 16, HASH_BYTES = 16, END_BYTES = 16 };
static const char magic[MAGIC_BYTES + 1] = "exitpoll-snap-2\n";

struct header {
	uint32_t section, number, size, zero;
};

/* ---- writing ---- */

struct snapshot_writer {
	char *path, *temporary, *folder;
	const struct snapshot_faults *faults;
	int file;
	uint32_t section, number;
	uint64_t written;               /* bytes of the file */
	size_t size;                    /* of the open block's payload */
	enum status status;             /* the first failure */
	struct error error;
	unsigned char *buffer;          /* header, payload, hash */
};

static int fault(const struct snapshot_writer *writer, const char *operation, size_t *bytes)
{
	return writer->faults ? writer->faults->before(writer->faults->context, operation, bytes) : 0;
}

static void fail(struct snapshot_writer *writer, const char *operation, const char *path, int code)
{
	if (!writer->status)
		writer->status = error_set(&writer->error, STATUS_IO, "snapshot %s: %s: %s", path, operation,
					   strerror(code));
}

static void write_all(struct snapshot_writer *writer, const unsigned char *bytes, size_t count)
{
	while (count && !writer->status) {
		size_t allowed = count;
		int code = fault(writer, "write", &allowed);
		ssize_t done = code ? -1 : write(writer->file, bytes, allowed);
		if (done < 0 && !code && errno == EINTR)
			continue;
		if (done <= 0) {
			fail(writer, "write", writer->temporary, code ? code : done ? errno : ENOSPC);
			return;
		}
		bytes += done;
		count -= (size_t)done;
		writer->written += (uint64_t)done;
	}
}

static void flush_block(struct snapshot_writer *writer)
{
	struct header header = {writer->section, writer->number, (uint32_t)writer->size, 0};
	size_t hashed = HEADER_BYTES + writer->size;
	XXH128_canonical_t hash;

	memcpy(writer->buffer, &header, sizeof header);
	XXH128_canonicalFromHash(&hash, XXH3_128bits_withSeed(writer->buffer, hashed, FORMAT_VERSION));
	memcpy(writer->buffer + hashed, &hash, HASH_BYTES);
	write_all(writer, writer->buffer, hashed + HASH_BYTES);
	writer->number++;
	writer->size = 0;
}

static char *joined(const char *a, const char *b)
{
	size_t size = strlen(a) + strlen(b) + 1;
	char *text = mem_alloc(size);

	if (text)
		snprintf(text, size, "%s%s", a, b);
	return text;
}

static void free_writer(struct snapshot_writer *writer)
{
	if (writer->file >= 0)
		close(writer->file);
	mem_free(writer->path);
	mem_free(writer->temporary);
	mem_free(writer->folder);
	mem_free(writer->buffer);
	mem_free(writer);
}

enum status snapshot_writer_create(const char *path, const struct snapshot_faults *faults,
				   struct snapshot_writer **out, struct error *error)
{
	struct snapshot_writer *writer = mem_alloc_zero(1, sizeof *writer);
	enum status status;
	char *slash;
	int code;

	if (!writer)
		return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	writer->file = -1;
	writer->faults = faults;
	writer->section = SNAPSHOT_END;
	writer->path = mem_copy_string(path);
	writer->temporary = joined(path, ".tmp");
	writer->folder = joined("./", path);
	writer->buffer = mem_alloc(HEADER_BYTES + SNAPSHOT_BLOCK_BYTES + HASH_BYTES);
	if (!writer->path || !writer->temporary || !writer->folder || !writer->buffer) {
		free_writer(writer);
		return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	}
	if (path[0] == '/')
		memmove(writer->folder, writer->folder + 2, strlen(path) + 1);
	slash = strrchr(writer->folder, '/');
	slash[slash == writer->folder] = '\0';
	code = fault(writer, "create", &(size_t){0});
	writer->file = code ? -1 : open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (writer->file < 0) {
		status = error_set(error, STATUS_CANNOT_CREATE, "snapshot %s: %s", writer->temporary,
				   strerror(code ? code : errno));
		free_writer(writer);
		return status;
	}
	write_all(writer, (const unsigned char *)magic, MAGIC_BYTES);
	*out = writer;
	return STATUS_OK;
}

void snapshot_section(struct snapshot_writer *writer, uint32_t section)
{
	if (writer->section != SNAPSHOT_END)
		flush_block(writer);
	writer->section = section;
}

void snapshot_put(struct snapshot_writer *writer, const void *bytes, size_t count)
{
	const unsigned char *from = bytes;

	while (count) {
		size_t room = SNAPSHOT_BLOCK_BYTES - writer->size, part = count < room ? count : room;
		if (!room) {
			flush_block(writer);
			continue;
		}
		memcpy(writer->buffer + HEADER_BYTES + writer->size, from, part);
		writer->size += part;
		from += part;
		count -= part;
	}
}

void snapshot_put_u32(struct snapshot_writer *writer, uint32_t value)
{
	snapshot_put(writer, &value, sizeof value);
}

void snapshot_put_u64(struct snapshot_writer *writer, uint64_t value)
{
	snapshot_put(writer, &value, sizeof value);
}

void snapshot_put_text(struct snapshot_writer *writer, const void *bytes, size_t count)
{
	snapshot_put_u32(writer, (uint32_t)count);
	if (count)
		snapshot_put(writer, bytes, count);
}

/* Step by step; the first that fails ends it. */
static void make_durable(struct snapshot_writer *writer)
{
	int folder, code;

	code = fault(writer, "fsync", &(size_t){0});
	if (code || fsync(writer->file)) {
		fail(writer, "fsync", writer->temporary, code ? code : errno);
		return;
	}
	code = close(writer->file) ? errno : 0;
	writer->file = -1;
	if (code) {
		fail(writer, "close", writer->temporary, code);
		return;
	}
	code = fault(writer, "rename", &(size_t){0});
	if (code || rename(writer->temporary, writer->path)) {
		fail(writer, "rename", writer->path, code ? code : errno);
		return;
	}
	code = fault(writer, "fsync-folder", &(size_t){0});
	folder = code ? -1 : open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 || fsync(folder))
		fail(writer, "fsync of the folder", writer->folder, code ? code : errno);
	if (folder >= 0)
		close(folder);
}

enum status snapshot_writer_finish(struct snapshot_writer **taken, struct error *error)
{
	struct snapshot_writer *writer = *taken;
	uint64_t end[2];
	enum status status;

	snapshot_section(writer, SNAPSHOT_END);
	end[0] = writer->number;
	end[1] = writer->written;
	snapshot_put(writer, end, sizeof end);
	flush_block(writer);
	if (!writer->status)
		make_durable(writer);
	status = writer->status;
	if (status)
		error_set(error, status, "%s", writer->error.text);
	if (status)
		snapshot_writer_abort(taken);
	else
		free_writer(writer);
	*taken = NULL;
	return status;
}

void snapshot_writer_abort(struct snapshot_writer **taken)
{
	if (!*taken)
		return;
	unlink((*taken)->temporary);
	free_writer(*taken);
	*taken = NULL;
}

/* ---- reading ---- */

struct snapshot_reader {
	char *path;
	const struct advance *advance;
	int file;
	uint64_t file_bytes, position;          /* next byte to read */
	uint32_t number;                        /* of the next block */
	uint32_t section;
	size_t size, at;                        /* of the block's payload */
	uint64_t version;                       /* seed of the checksums: a damaged version is no version */
	unsigned char *buffer;                  /* header, payload, hash */
	unsigned char *text;                    /* [text_capacity] */
	size_t text_capacity;
};

enum { TEXT_BYTES_MAX = 1 << 24 };

enum status snapshot_corrupt(const struct snapshot_reader *reader, struct error *error, const char *reason)
{
	uint64_t byte = reader->position - (reader->size - reader->at);

	return error_set(error, STATUS_CORRUPT, "snapshot %s, byte %" PRIu64 ": %s", reader->path, byte,
			 reason);
}

static enum status read_all(struct snapshot_reader *reader, void *bytes, size_t count, struct error *error)
{
	unsigned char *to = bytes;

	if (count > reader->file_bytes - reader->position)
		return snapshot_corrupt(reader, error, "the file ends too early");
	while (count) {
		ssize_t done = pread(reader->file, to, count, (off_t)reader->position);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return error_set(error, STATUS_IO, "snapshot %s: %s", reader->path, strerror(errno));
		if (!done)
			return snapshot_corrupt(reader, error, "the file ends too early");
		to += done;
		count -= (size_t)done;
		reader->position += (uint64_t)done;
	}
	return STATUS_OK;
}

/* The next block, whole and verified. */
static enum status read_block(struct snapshot_reader *reader, struct error *error)
{
	struct header header;
	XXH128_canonical_t hash;
	enum status status;

	reader->size = reader->at = 0;
	status = read_all(reader, reader->buffer, HEADER_BYTES, error);
	if (status)
		return status;
	memcpy(&header, reader->buffer, sizeof header);
	if (header.size > SNAPSHOT_BLOCK_BYTES || header.zero || header.number != reader->number)
		return snapshot_corrupt(reader, error, "a block's header is damaged");
	status = read_all(reader, reader->buffer + HEADER_BYTES, header.size + HASH_BYTES, error);
	if (status)
		return status;
	XXH128_canonicalFromHash(&hash, XXH3_128bits_withSeed(reader->buffer, HEADER_BYTES + header.size,
							      reader->version));
	if (memcmp(&hash, reader->buffer + HEADER_BYTES + header.size, HASH_BYTES))
		return snapshot_corrupt(reader, error, "a block does not have its checksum");
	reader->number++;
	reader->section = header.section;
	reader->size = header.size;
	advance_tell(reader->advance, "reading", reader->position >> 20, reader->file_bytes >> 20);
	return STATUS_OK;
}

enum status snapshot_reader_open(const char *path, const struct advance *advance, struct snapshot_reader **out,
				 struct error *error)
{
	struct snapshot_reader *reader = mem_alloc_zero(1, sizeof *reader);
	enum status status = STATUS_NO_MEMORY;
	char start[MAGIC_BYTES];
	struct stat about;

	if (!reader)
		return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	reader->file = open(path, O_RDONLY | O_CLOEXEC);
	reader->path = mem_copy_string(path);
	reader->advance = advance;
	reader->buffer = mem_alloc(HEADER_BYTES + SNAPSHOT_BLOCK_BYTES + HASH_BYTES);
	if (reader->file < 0) {
		status = error_set(error, STATUS_NO_INPUT, "snapshot %s: %s", path, strerror(errno));
		goto cleanup;
	}
	if (!reader->path || !reader->buffer) {
		status = error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
		goto cleanup;
	}
	if (fstat(reader->file, &about) || !S_ISREG(about.st_mode)) {
		status = error_set(error, STATUS_NO_INPUT, "snapshot %s: not a file", path);
		goto cleanup;
	}
	reader->file_bytes = (uint64_t)about.st_size;
	(void)posix_fadvise(reader->file, 0, 0, POSIX_FADV_SEQUENTIAL);
	status = read_all(reader, start, MAGIC_BYTES, error);
	if (status)
		goto cleanup;
	reader->version = (uint64_t)(start[14] - '0');
	if (memcmp(start, magic, 14) || start[15] != '\n' || start[14] < '1' || start[14] > '0' + FORMAT_VERSION) {
		bool other = !memcmp(start, magic, 14) && start[14] > '0' && start[14] <= '9' &&
			start[15] == '\n' &&
			     read_block(reader, NULL) == STATUS_OK;
		status = other ? error_set(error, STATUS_INCOMPATIBLE,
					   "snapshot %s: format version %c, this program "
					   "reads 1 to %d: use the program that wrote it, or start from the log",
						   path,
					   start[14], (int)FORMAT_VERSION)
			       : error_set(error, STATUS_CORRUPT,
					   "snapshot %s, byte 0: not a snapshot (wrong first bytes)",
					   path);
		goto cleanup;
	}
	*out = reader;
	return STATUS_OK;
cleanup:
	snapshot_reader_close(reader);
	return status;
}

void snapshot_reader_close(struct snapshot_reader *reader)
{
	if (!reader)
		return;
	if (reader->file >= 0)
		close(reader->file);
	mem_free(reader->path);
	mem_free(reader->buffer);
	mem_free(reader->text);
	mem_free(reader);
}

uint32_t snapshot_reader_version(const struct snapshot_reader *reader)
{
	return (uint32_t)reader->version;
}

uint64_t snapshot_reader_left(const struct snapshot_reader *reader)
{
	return reader->file_bytes - reader->position + (reader->size - reader->at);
}

enum status snapshot_expect(struct snapshot_reader *reader, uint32_t section, struct error *error)
{
	enum status status;

	if (reader->at != reader->size)
		return snapshot_corrupt(reader, error, "a section is longer than its content");
	status = read_block(reader, error);
	if (status)
		return status;
	if (reader->section != section)
		return snapshot_corrupt(reader, error, "a section is missing or out of place");
	return STATUS_OK;
}

enum status snapshot_get(struct snapshot_reader *reader, void *bytes, size_t count, struct error *error)
{
	unsigned char *to = bytes;

	while (count) {
		size_t left = reader->size - reader->at, part = count < left ? count : left;
		if (!left) {
			uint32_t section = reader->section;
			enum status status = read_block(reader, error);
			if (status)
				return status;
			if (reader->section != section || !reader->size)
				return snapshot_corrupt(reader, error,
							"a section ends in the middle of its content");
			continue;
		}
		memcpy(to, reader->buffer + HEADER_BYTES + reader->at, part);
		reader->at += part;
		to += part;
		count -= part;
	}
	return STATUS_OK;
}

enum status snapshot_get_u32(struct snapshot_reader *reader, uint32_t *value, struct error *error)
{
	return snapshot_get(reader, value, sizeof *value, error);
}

enum status snapshot_get_u64(struct snapshot_reader *reader, uint64_t *value, struct error *error)
{
	return snapshot_get(reader, value, sizeof *value, error);
}

enum status snapshot_get_text(struct snapshot_reader *reader, size_t bytes_max, const char **bytes,
			      size_t *count, struct error *error)
{
	enum status status;
	uint32_t size;

	status = snapshot_get_u32(reader, &size, error);
	if (status)
		return status;
	if (size > bytes_max || size > TEXT_BYTES_MAX)
		return snapshot_corrupt(reader, error, "a text is longer than any can be");
	if (size > snapshot_reader_left(reader))
		return snapshot_corrupt(reader, error, "a text is longer than the file");
	if (size > reader->text_capacity) {
		unsigned char *grown = mem_resize_array(reader->text, size, 1);
		if (!grown)
			return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
		reader->text = grown;
		reader->text_capacity = size;
	}
	status = snapshot_get(reader, reader->text, size, error);
	if (status)
		return status;
	*bytes = (const char *)reader->text;
	*count = size;
	return STATUS_OK;
}

enum status snapshot_reader_finish(struct snapshot_reader *reader, struct error *error)
{
	uint64_t before, blocks = reader->number, end[2];
	enum status status;

	before = reader->position;
	status = snapshot_expect(reader, SNAPSHOT_END, error);
	if (!status && reader->size != END_BYTES)
		status = snapshot_corrupt(reader, error, "the end block is damaged");
	if (!status)
		status = snapshot_get(reader, end, sizeof end, error);
	if (status)
		return status;
	if (end[0] != blocks || end[1] != before || reader->position != reader->file_bytes)
		return snapshot_corrupt(reader, error, "blocks are missing, or something follows the end");
	return STATUS_OK;
}
