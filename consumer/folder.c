/* folder.c - the names of container files in a folder. A name that is almost right (items-1.avro) is
 * not a file of the topic; digits are at least four, so that names sort as numbers do. Called by
 * sources and commands; any thread. */
#include "consumer/folder.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS_MIN = 4, DIGITS_MAX = 9 };

/* The number of the file in `name`, or -1. */
static int32_t file_number(const char *name, const char *topic)
{
	size_t prefix = strlen(topic), digits = 0;
	int32_t number = 0;

	if (strncmp(name, topic, prefix) != 0)
		return -1;
	name += prefix;
	if (strcmp(name, ".avro") == 0)
		return 0;
	if (*name++ != '-')
		return -1;
	for (; name[digits] >= '0' && name[digits] <= '9' && digits < DIGITS_MAX; digits++)
		number = number * 10 + (name[digits] - '0');
	if (digits < DIGITS_MIN || strcmp(name + digits, ".avro") != 0)
		return -1;
	return number;
}

static int compare_files(const void *left, const void *right)
{
	const struct folder_file *a = left, *b = right;
	int order = (a->number > b->number) - (a->number < b->number);
	return order ? order : strcmp(a->path, b->path);
}

void folder_files_free(struct folder_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		mem_free(files->files[i].path);
	mem_free(files->files);
	*files = (struct folder_files){0};
}

static enum status add_file(struct folder_files *files, const char *folder, const char *name, int32_t number,
			    struct error *error)
{
	size_t bytes = strlen(folder) + strlen(name) + 2;
	char *path;

	if (files->count >= FOLDER_FILES_MAX)
		return error_set(error, STATUS_LIMIT, "%s: more than %d files of one topic", folder,
				 FOLDER_FILES_MAX);
	if (!mem_reserve((void **)&files->files, &files->capacity, files->count, FOLDER_FILES_MAX,
			 sizeof *files->files) ||
	    !(path = mem_alloc(bytes)))
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory for file names", folder);
	snprintf(path, bytes, "%s/%s", folder, name);
	files->files[files->count++] = (struct folder_file){path, number};
	return STATUS_OK;
}

enum status folder_list(const char *folder, const char *topic, struct folder_files *out, struct error *error)
{
	enum status status = STATUS_OK;
	struct dirent *entry;
	DIR *directory = opendir(folder);

	if (!directory)
		return error_set(error, STATUS_NO_INPUT, "%s: cannot open the folder: %s", folder,
				 strerror(errno));
	while (status == STATUS_OK && (errno = 0, entry = readdir(directory))) {
		int32_t number = file_number(entry->d_name, topic);
		if (number >= 0)
			status = add_file(out, folder, entry->d_name, number, error);
	}
	if (status == STATUS_OK && errno)
		status = error_set(error, STATUS_IO, "%s: cannot read the folder: %s", folder,
				   strerror(errno));
	closedir(directory);
	if (status == STATUS_OK && out->count > 1) {
		qsort(out->files, out->count, sizeof *out->files, compare_files);
		for (size_t i = 1; i < out->count && status == STATUS_OK; i++)
			if (out->files[i].number == out->files[i - 1].number)
				status = error_set(error, STATUS_CORRUPT,
						   "%s and %s have one number; remove one of them",
						   out->files[i - 1].path, out->files[i].path);
		if (status == STATUS_OK && out->files[0].number == 0 &&
		    !strcmp(out->files[0].path + strlen(folder) + 1 + strlen(topic), ".avro"))
			status = error_set(error, STATUS_CORRUPT,
					   "%s stands beside %s; keep either one file or numbered ones",
					   out->files[0].path, out->files[1].path);
	}
	if (status != STATUS_OK)
		folder_files_free(out);
	return status;
}
