/* output_folder.c - mkdir -p that can be undone. Called by the file sink; one thread. */
#include "producer/output_folder.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path)
{
	struct stat about;
	return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Makes every missing folder of the path, from the left. */
static enum status make_all(struct output_folder *folder, struct error *error)
{
	size_t length = strlen(folder->path);
	enum status status = STATUS_OK;

	for (size_t at = 1; at <= length && status == STATUS_OK; at++) {
		char kept = folder->path[at];
		if ((kept != '/' && kept != '\0') || folder->path[at - 1] == '/')
			continue;
		folder->path[at] = '\0';
		if (mkdir(folder->path, 0777) == 0) {
			if (folder->first_made == 0)
				folder->first_made = at;
		} else if (!is_folder(folder->path)) {
			status = error_set(error, STATUS_CANNOT_CREATE, "%s: cannot make the folder: %s",
					   folder->path, strerror(errno));
		}
		folder->path[at] = kept;
	}
	return status;
}

enum status output_folder_open(struct output_folder *folder, const char *path, struct error *error)
{
	enum status status;
	size_t length;

	if (!path || !*path)
		return error_set(error, STATUS_USAGE, "no output folder was given");
	folder->path = mem_copy_string(path);
	if (!folder->path)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the path", path);
	length = strlen(folder->path);
	while (length > 1 && folder->path[length - 1] == '/')
		folder->path[--length] = '\0';
	status = make_all(folder, error);
	if (status == STATUS_OK && access(folder->path, W_OK | X_OK))
		status = error_set(error, STATUS_CANNOT_CREATE, "%s: cannot write into the folder: %s",
				   folder->path, strerror(errno));
	if (status != STATUS_OK)
		output_folder_close(folder, false);
	return status;
}

enum status output_folder_sync(const struct output_folder *folder, struct error *error)
{
	int fd = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum status status = STATUS_OK;

	/* EINVAL: a file system that cannot sync folders has nothing to make durable. */
	if (fd < 0 || (fsync(fd) && errno != EINVAL))
		status = error_set(error, STATUS_IO, "%s: cannot make the output durable: %s", folder->path,
				   strerror(errno));
	if (fd >= 0)
		close(fd);
	return status;
}

void output_folder_close(struct output_folder *folder, bool keep)
{
	if (folder->path && !keep && folder->first_made > 0) {
		size_t length = strlen(folder->path);
		while (length >= folder->first_made && rmdir(folder->path) == 0) {
			while (length > 0 && folder->path[length - 1] != '/')
				length--;
			while (length > 0 && folder->path[length - 1] == '/')
				length--;
			folder->path[length] = '\0';
		}
	}
	mem_free(folder->path);
	*folder = (struct output_folder){0};
}
