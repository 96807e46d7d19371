/* files.h - small helpers of the producer's tests: temporary folders, files written and read back. */
#ifndef EXITPOLL_TESTS_UNIT_PRODUCER_FILES_H
#define EXITPOLL_TESTS_UNIT_PRODUCER_FILES_H

#include "schemas/container.h"
#include "tests/check_run.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

/* A folder of this test process, removed by files_remove(). */
static inline void files_make(char folder[PATH_BYTES])
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, PATH_BYTES, "%s/exitpoll-test-XXXXXX", base ? base : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static inline void files_remove(const char *folder)
{
	char path[2 * PATH_BYTES];
	DIR *directory = opendir(folder);
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path)
			continue;
		if (unlink(path))
			files_remove(path);
	}
	closedir(directory);
	rmdir(folder);
}

static inline const char *files_path(char path[PATH_BYTES], const char *folder, const char *name)
{
	ck_assert_int_lt(snprintf(path, PATH_BYTES, "%s/%s", folder, name), PATH_BYTES);
	return path;
}

static inline void files_write(const char *path, const void *bytes, size_t size)
{
	FILE *file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
	ck_assert_int_eq(fclose(file), 0);
}

static inline void files_write_text(const char *path, const char *text)
{
	files_write(path, text, strlen(text));
}

/* The whole file, to be freed by mem_free(). */
static inline char *files_read(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	struct stat about;
	char *bytes;

	ck_assert_msg(file != NULL, "cannot open %s", path);
	ck_assert_int_eq(fstat(fileno(file), &about), 0);
	*size = (size_t)about.st_size;
	bytes = mem_alloc(*size + 1);
	ck_assert_uint_eq(fread(bytes, 1, *size, file), *size);
	bytes[*size] = '\0';
	fclose(file);
	return bytes;
}

static inline bool files_exist(const char *folder, const char *name)
{
	char path[PATH_BYTES];
	return access(files_path(path, folder, name), F_OK) == 0;
}

/* Entries of a folder, without . and .. ; -1: there is no such folder. */
static inline int files_count(const char *folder)
{
	DIR *directory = opendir(folder);
	int count = -2;

	if (!directory)
		return -1;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* All records of a container file, in an arena that the caller destroys. */
struct loaded {
	struct arena *arena;
	struct event *events;
	size_t count;
};

static inline struct loaded files_load(const char *folder, const char *name, enum record_type type)
{
	struct loaded loaded = {.arena = arena_create((size_t)2 << 30)};
	struct container_reader *reader;
	struct error error = {0};
	char path[PATH_BYTES];
	size_t capacity = 0;
	bool end = false;

	files_path(path, folder, name);
	ck_assert_msg(container_reader_open(path, type, &reader, &error) == STATUS_OK, "%s", error.text);
	for (;;) {
		ck_assert(mem_reserve((void **)&loaded.events, &capacity, loaded.count, 1 << 24,
				      sizeof *loaded.events));
		enum status status = container_read(reader, loaded.arena, &loaded.events[loaded.count], &end,
						    &error);
		ck_assert_msg(status == STATUS_OK, "%s", error.text);
		if (end)
			break;
		loaded.count++;
	}
	container_reader_close(reader);
	return loaded;
}

static inline void loaded_free(struct loaded *loaded)
{
	arena_destroy(loaded->arena);
	mem_free(loaded->events);
}

#endif
