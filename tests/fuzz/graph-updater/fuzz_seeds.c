/* fuzz_seeds.c - hostile trained seeds: no crash, no read out of bounds, no memory for what a file claims.
 *
 * u16 size of the array's file, then that file, then the ids. First byte of the array 0: the rest of it is
 * put behind a right header for (rows, 16), rows being the second byte, so that values and ids are reached. */
#include "graph-updater/seeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(int file, const void *bytes, size_t size)
{
	if (write(file, bytes, size) != (ssize_t)size)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[64], array_path[80], ids_path[80], header[118];
	struct text_view absent = TEXT_LITERAL("absent");
	size_t array_size, used;
	struct seeds *seeds;
	struct error error = {0};
	FILE *array, *ids;

	if (size < 4)
		return 0;
	array_size = (size_t)data[0] | (size_t)data[1] << 8;
	data += 2;
	size -= 2;
	if (array_size > size)
		array_size = size;
	snprintf(name, sizeof name, "/dev/shm/exitpoll-fuzz-seeds-%d", (int)getpid());
	snprintf(array_path, sizeof array_path, "%s.npy", name);
	snprintf(ids_path, sizeof ids_path, "%s.ids", name);
	array = fopen(array_path, "wb");
	ids = fopen(ids_path, "wb");
	if (!array || !ids)
		abort();
	if (array_size >= 2 && !data[0]) {
		used = (size_t)snprintf(header, sizeof header,
					"{'descr': '<f4', 'fortran_order': False, 'shape': (%u, 16), }", data[1]);
		memset(header + used, ' ', sizeof header - used);
		header[sizeof header - 1] = '\n';
		put(fileno(array), "\x93NUMPY\x01\x00\x76\x00", 10);
		put(fileno(array), header, sizeof header);
		put(fileno(array), data + 2, array_size - 2);
	} else {
		put(fileno(array), data, array_size);
	}
	put(fileno(ids), data + array_size, size - array_size);
	fclose(array);
	fclose(ids);
	if (seeds_open(name, 16, &seeds, &error) == STATUS_OK) {
		if (!seeds_count(seeds) || !seeds_epoch(seeds) || seeds_magnitude(seeds) < 1)
			abort();
		seeds_find(seeds, absent);
		seeds_destroy(seeds);
	} else if (!error.text[0]) {
		abort();
	}
	remove(array_path);
	remove(ids_path);
	return 0;
}
