/* seeds_file.c - see seeds_file.h. Invariant: bytes before `at` of the block are given out, and the
 * fingerprint covers every block up to and with this one, each seeded with that of those before. */
#include "graph-updater/seeds_file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum status seeds_file_open(struct seeds_file *file, const char *name, const char *ending, struct error *error)
{
	size_t size = strlen(name) + strlen(ending) + 1;
	struct stat about;

	*file = (struct seeds_file){.path = mem_alloc(size), .file = -1, .block = mem_alloc(SEEDS_BLOCK_BYTES)};
	if (!file->path || !file->block)
		return error_set(error, STATUS_NO_MEMORY, "seeds: out of memory");
	snprintf(file->path, size, "%s%s", name, ending);
	file->file = open(file->path, O_RDONLY | O_CLOEXEC);
	if (file->file < 0 || fstat(file->file, &about))
		return error_set(error, STATUS_NO_INPUT, "seeds %s: %s", file->path, strerror(errno));
	if (!S_ISREG(about.st_mode))
		return error_set(error, STATUS_NO_INPUT, "seeds %s: not a file", file->path);
	file->file_bytes = (uint64_t)about.st_size;
	return STATUS_OK;
}

void seeds_file_close(struct seeds_file *file)
{
	if (file->path && file->file >= 0)
		close(file->file);
	mem_free(file->path);
	mem_free(file->block);
	*file = (struct seeds_file){.file = -1};
}

/* The next block; size 0: there is none. */
static enum status next_block(struct seeds_file *file, struct error *error)
{
	file->size = file->at = 0;
	while (file->size < SEEDS_BLOCK_BYTES) {
		ssize_t done = read(file->file, file->block + file->size, SEEDS_BLOCK_BYTES - file->size);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return error_set(error, STATUS_IO, "seeds %s: %s", file->path, strerror(errno));
		if (!done)
			break;
		file->size += (size_t)done;
	}
	file->read += file->size;
	if (file->size)
		file->fingerprint = XXH3_64bits_withSeed(file->block, file->size, file->fingerprint);
	return STATUS_OK;
}

enum status seeds_file_take(struct seeds_file *file, void *bytes, size_t count, struct error *error)
{
	unsigned char *to = bytes;

	while (count) {
		size_t part = file->size - file->at < count ? file->size - file->at : count;
		if (!part) {
			enum status status = next_block(file, error);
			if (status)
				return status;
			if (!file->size)
				return seeds_file_corrupt(file, file->read, "the file ends too early", error);
			continue;
		}
		memcpy(to, file->block + file->at, part);
		file->at += part;
		to += part;
		count -= part;
	}
	return STATUS_OK;
}

enum status seeds_file_byte(struct seeds_file *file, int *byte, struct error *error)
{
	if (file->at == file->size) {
		enum status status = next_block(file, error);
		if (status)
			return status;
	}
	*byte = file->at < file->size ? file->block[file->at++] : -1;
	return STATUS_OK;
}

uint64_t seeds_file_position(const struct seeds_file *file)
{
	return file->read - (file->size - file->at);
}

enum status seeds_file_corrupt(const struct seeds_file *file, uint64_t byte, const char *reason,
			       struct error *error)
{
	return error_set(error, STATUS_CORRUPT, "seeds %s, byte %" PRIu64 ": %s", file->path, byte, reason);
}
