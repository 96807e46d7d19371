/* cuda_library.c - dlopen and the check of the table's version.
 * Invariant: a library once loaded stays, for its table is handed out. Caller: cuda_backend.c. */
#include "scorer/cuda_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };
static const char file_name[] = "libexitpoll-cuda.so";

static bool beside_program(char path[PATH_BYTES])
{
	ssize_t length = readlink("/proc/self/exe", path, PATH_BYTES - 1);
	if (length <= 0)
		return false;
	path[length] = 0;
	char *slash = strrchr(path, '/');
	size_t room = slash ? PATH_BYTES - (size_t)(slash + 1 - path) : 0;
	return slash && snprintf(slash + 1, room, "%s", file_name) < (int)room;
}

static bool in_cache(char path[PATH_BYTES])
{
	const char *cache = getenv("EXITPOLL_CACHE"), *home = getenv("HOME");
	if (!cache && !home)
		return false;
	return snprintf(path, PATH_BYTES, "%s%s/cuda/%s", cache ? cache : home,
			cache ? "" : "/.cache/exitpoll", file_name) < PATH_BYTES;
}

/* A file that is there but does not load is the answer, not a reason to look on. */
static void *load(bool named, const char *path)
{
	return named && access(path, R_OK) == 0 ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static enum status open_handle(void **out, struct error *error)
{
	char path[PATH_BYTES];
	const char *given = getenv("EXITPOLL_CUDA_LIBRARY");
	void *handle = NULL;
	if (given) {
		handle = dlopen(given, RTLD_NOW | RTLD_LOCAL);
	} else {
		bool (*const places[])(char path[PATH_BYTES]) = {beside_program, in_cache};
		for (size_t i = 0; !handle && i < sizeof places / sizeof places[0]; i++) {
			bool named = places[i](path);
			handle = load(named, path);
			if (!handle && named && access(path, R_OK) == 0)
				return error_set(error, STATUS_UNAVAILABLE, "%s does not load: %.400s", path,
						 dlerror());
		}
		if (!handle)
			handle = dlopen(file_name, RTLD_NOW | RTLD_LOCAL);
	}
	if (!handle)
		return error_set(error, STATUS_UNAVAILABLE,
				 "no %s (%.300s); ops/setup.sh --cuda and a new build make it", file_name,
				 dlerror());
	*out = handle;
	return STATUS_OK;
}

enum status cuda_library_open(const struct device_table **out, struct error *error)
{
	void *handle = NULL;
	enum status status = open_handle(&handle, error);
	if (status)
		return status;
	const struct device_table *table = dlsym(handle, DEVICE_TABLE_SYMBOL);
	if (!table || table->version != DEVICE_TABLE_VERSION) {
		status = error_set(error, STATUS_INCOMPATIBLE,
				   "%s has table version %u, this program wants %d: build both from one source",
				   file_name, table ? table->version : 0, DEVICE_TABLE_VERSION);
		dlclose(handle);
		return status;
	}
	*out = table;
	return STATUS_OK;
}
