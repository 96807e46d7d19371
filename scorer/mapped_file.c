/* mapped_file.c - open, check, map. The descriptor is closed at once: the mapping holds the file. */
#include "scorer/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum status mapped_file_open(const char *path, struct mapped_file *out, struct error *error)
{
	struct mapped_file file = {.bytes = (const uint8_t *)""};
	struct stat info;
	enum status status = STATUS_OK;
	int descriptor = open(path, O_RDONLY | O_CLOEXEC);

	if (descriptor < 0)
		return error_set(error, STATUS_NO_INPUT, "%s: %s", path, strerror(errno));
	if (fstat(descriptor, &info) != 0) {
		status = error_set(error, STATUS_NO_INPUT, "%s: %s", path, strerror(errno));
		goto cleanup;
	}
	if (!S_ISREG(info.st_mode)) {
		status = error_set(error, STATUS_NO_INPUT, "%s: not a regular file", path);
		goto cleanup;
	}
	file.path = mem_copy_string(path);
	if (!file.path) {
		status = error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
		goto cleanup;
	}
	if (info.st_size > 0) {
		void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
		if (bytes == MAP_FAILED) {
			status = error_set(error, STATUS_NO_INPUT, "%s: cannot be mapped: %s", path,
					   strerror(errno));
			mem_free(file.path);
			goto cleanup;
		}
		file.bytes = bytes;
		file.size = (size_t)info.st_size;
		file.mapped = true;
	}
	*out = file;
cleanup:
	close(descriptor);
	return status;
}

void mapped_file_close(struct mapped_file *file)
{
	if (file->mapped)
		munmap((void *)(uintptr_t)file->bytes, file->size);
	mem_free(file->path);
	*file = (struct mapped_file){0};
}

char *mapped_file_join(const char *folder, const char *name)
{
	size_t bytes = strlen(folder) + strlen(name) + 2;
	char *path = mem_alloc(bytes);

	if (path)
		snprintf(path, bytes, "%s/%s", folder, name);
	return path;
}

bool mapped_file_is_folder(const char *path)
{
	struct stat info;
	return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool mapped_file_exists(const char *path)
{
	struct stat info;
	return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

enum status mapped_file_corrupt(const struct mapped_file *file, size_t byte, struct error *error,
				const char *format, ...)
{
	char reason[ERROR_TEXT_BYTES / 2];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	return error_set(error, STATUS_CORRUPT, "%s: byte %zu: %s", file->path ? file->path : "(memory)",
			 byte,
			 reason);
}
