/* fuzz_container.c - any bytes as a container file (an anonymous file in memory, opened by its
 * /proc name). Checks: an end after a bounded number of calls, and errors that repeat themselves. */
#include "schemas/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *arena;
	static int file = -1;
	static char path[64];
	struct container_reader *reader = NULL;
	struct error error = {0};
	struct event event;
	bool end = false;

	if (file < 0) {
		file = memfd_create("fuzz", 0);
		arena = arena_create(ARENA_BYTES);
		snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	}
	if (ftruncate(file, 0) || pwrite(file, data, size, 0) != (ssize_t)size)
		abort();
	if (container_reader_open_any(path, &reader, &error)) {
		if (reader || !error.text[0])
			abort();
		return 0;
	}
	for (size_t calls = 0; !end; calls++) {
		enum status status;
		if (calls > 2 * (size_t)(64 << 20))
			abort();
		arena_reset(arena);
		status = container_read(reader, arena, &event, &end, &error);
		if (!status || status_class(status) == STATUS_CLASS_BAD)
			continue;
		if (container_read(reader, arena, &event, &end, &error) != status)
			abort();
		break;
	}
	container_reader_close(reader);
	return 0;
}
