/* hidden_cache.c - blocks of hidden rows as files. Invariant: a file that loads has the bytes that were
 * stored under its key. Caller: hidden_states.c. */
#include "scorer/train/hidden_cache.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { PATH_BYTES = 4096, KEY_DIGITS = 32, FILES_MAX = 1 << 20 };

static const char magic[8] = "EPHIDDN1";
static const char ending[] = ".hidden";

struct header {
	char magic[8];
	struct hidden_key key;
	struct hidden_shape shape;
	uint64_t checksum;
};
_Static_assert(sizeof(struct header) == 48, "the header has no holes");

bool hidden_cache_bytes(struct hidden_shape shape, uint64_t *bytes)
{
	uint64_t values;
	if (__builtin_mul_overflow((uint64_t)shape.exits * shape.width, shape.rows, &values) ||
	    values > (UINT64_MAX >> 4))
		return false;
	*bytes = sizeof(struct header) + values * sizeof(float);
	return true;
}

static enum status path_of(const char *folder, struct hidden_key key, char out[PATH_BYTES], struct error *error)
{
	int size = snprintf(out, PATH_BYTES, "%s/%016llx%016llx%s", folder, (unsigned long long)key.high,
			    (unsigned long long)key.low, ending);
	if (size < 0 || size >= PATH_BYTES)
		return error_set(error, STATUS_CANNOT_CREATE, "%.64s: the path is longer than %d bytes", folder,
				 PATH_BYTES);
	return STATUS_OK;
}

bool hidden_cache_load(const char *folder, struct hidden_key key, struct hidden_shape shape,
		       struct hidden_block *out)
{
	char path[PATH_BYTES];
	struct mapped_file file = {0};
	struct header header;
	struct error ignored;
	uint64_t bytes;
	if (!hidden_cache_bytes(shape, &bytes) || path_of(folder, key, path, &ignored) ||
	    access(path, R_OK) != 0 || mapped_file_open(path, &file, &ignored))
		return false;
	if (file.size != bytes)
		goto absent;
	memcpy(&header, file.bytes, sizeof header);
	if (memcmp(header.magic, magic, sizeof magic) || memcmp(&header.key, &key, sizeof key) ||
	    memcmp(&header.shape, &shape, sizeof shape) ||
	    header.checksum != XXH3_64bits(file.bytes + sizeof header, file.size - sizeof header))
		goto absent;
	/* Its time says when it was used last; failing to say so costs a trim its order, nothing else. */
	(void)utimensat(AT_FDCWD, path, NULL, 0);
	*out = (struct hidden_block){file, (const float *)(const void *)(file.bytes + sizeof header), shape};
	return true;
absent:
	mapped_file_close(&file);
	return false;
}

void hidden_block_close(struct hidden_block *block)
{
	mapped_file_close(&block->file);
	*block = (struct hidden_block){0};
}

enum status hidden_cache_store(const char *folder, struct hidden_key key, struct hidden_shape shape,
			       const float *values, struct error *error)
{
	char path[PATH_BYTES];
	struct header header = {.key = key, .shape = shape};
	uint64_t bytes;
	enum status status = path_of(folder, key, path, error);
	if (status)
		return status;
	if (!hidden_cache_bytes(shape, &bytes))
		return error_set(error, STATUS_LIMIT, "%s: a block of %llu rows is too large", path,
				 (unsigned long long)shape.rows);
	memcpy(header.magic, magic, sizeof magic);
	size_t size = (size_t)bytes - sizeof header;
	header.checksum = XXH3_64bits(values, size);
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: %s", folder, strerror(errno));
	/* Lost in a crash, it is computed again. */
	return file_replace(path, (struct file_part[]){{&header, sizeof header}, {values, size}}, 2, false, error);
}

/* ---- trimming ---- */

struct cached {
	char name[KEY_DIGITS + sizeof ending];
	uint64_t bytes;
	int64_t used_ms;
};

static int by_use(const void *left, const void *right)
{
	const struct cached *a = left, *b = right;
	if (a->used_ms != b->used_ms)
		return a->used_ms < b->used_ms ? -1 : 1;
	return strcmp(a->name, b->name);
}

static bool is_block(const char *name)
{
	size_t size = strlen(name);
	return size == KEY_DIGITS + sizeof ending - 1 && strspn(name, "0123456789abcdef") == KEY_DIGITS &&
	       strcmp(name + KEY_DIGITS, ending) == 0;
}

static enum status list_blocks(const char *folder, struct cached **out, size_t *count, struct error *error)
{
	DIR *open = opendir(folder);
	void *array = NULL;
	size_t capacity = 0, found = 0;
	enum status status = STATUS_OK;
	*out = NULL;
	*count = 0;
	if (!open)
		return errno == ENOENT ? STATUS_OK :
					 error_set(error, STATUS_NO_INPUT, "%s: %s", folder, strerror(errno));
	for (struct dirent *entry; !status && (entry = readdir(open));) {
		struct stat info;
		if (!is_block(entry->d_name) || fstatat(dirfd(open), entry->d_name, &info, 0) != 0)
			continue;
		if (!mem_reserve(&array, &capacity, found, FILES_MAX, sizeof(struct cached))) {
			status = error_set(error, STATUS_LIMIT, "%s: more than %d blocks; remove old ones", folder,
					   FILES_MAX);
			break;
		}
		struct cached *cached = (struct cached *)array + found++;
		memcpy(cached->name, entry->d_name, sizeof cached->name);
		cached->bytes = (uint64_t)info.st_size;
		cached->used_ms = (int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
	}
	closedir(open);
	if (status) {
		mem_free(array);
		return status;
	}
	*out = array;
	*count = found;
	return STATUS_OK;
}

enum status hidden_cache_trim(const char *folder, uint64_t coming, uint64_t bytes_max, int64_t since_ms,
			      struct error *error)
{
	struct cached *blocks = NULL;
	size_t count;
	uint64_t bytes = coming;
	enum status status = list_blocks(folder, &blocks, &count, error);
	if (status)
		return status;
	for (size_t i = 0; i < count; i++)
		bytes += blocks[i].bytes;
	if (count)
		qsort(blocks, count, sizeof *blocks, by_use);
	for (size_t i = 0; i < count && bytes > bytes_max && blocks[i].used_ms < since_ms; i++) {
		char path[PATH_BYTES];
		snprintf(path, sizeof path, "%s/%s", folder, blocks[i].name);
		if (unlink(path) == 0)
			bytes -= blocks[i].bytes;
	}
	mem_free(blocks);
	if (bytes > bytes_max)
		return error_set(error, STATUS_LIMIT,
				 "%s: hidden states of this run need %.1f GB, the cache may hold %.1f GB; take "
				 "fewer samples (--hidden-samples) or fewer exits, or allow more (--cache-max)",
				 folder, (double)bytes / 1e9, (double)bytes_max / 1e9);
	return STATUS_OK;
}
