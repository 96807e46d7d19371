/* state_files.h - for the tests of the state on disk: whole files in memory, two that are to be equal, a folder that is
 * to be empty. Everything asserts on trouble of the machine. */
#ifndef EXITPOLL_TESTS_UNIT_GRAPH_UPDATER_STATE_FILES_H
#define EXITPOLL_TESTS_UNIT_GRAPH_UPDATER_STATE_FILES_H

#include "tests/check_run.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline char *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	char *bytes = malloc(1 << 22);

	ck_assert_msg(file != NULL, "%s", path);
	*size = fread(bytes, 1, 1 << 22, file);
	fclose(file);
	return bytes;
}

static inline void write_file(const char *path, const char *bytes, size_t size)
{
	FILE *file = fopen(path, "wb");

	ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

static inline void clear_folder(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	char name[512];

	while (directory && (entry = readdir(directory))) {
		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		unlink(name);
	}
	if (directory)
		closedir(directory);
}

static inline void assert_same_files(const char *a, const char *b)
{
	size_t size_a, size_b;
	char *bytes_a = read_file(a, &size_a), *bytes_b = read_file(b, &size_b);

	ck_assert_uint_eq(size_a, size_b);
	ck_assert(memcmp(bytes_a, bytes_b, size_a) == 0);
	free(bytes_a);
	free(bytes_b);
}

#endif
