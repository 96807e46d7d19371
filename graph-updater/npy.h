/* npy.h - the header of a numpy array file, for the one kind that is read here: float32, two dimensions,
 * a row after the other (numpy's format versions 1 to 3). Pure functions, any thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_NPY_H
#define EXITPOLL_GRAPH_UPDATER_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NPY_PREFIX_BYTES = 12, NPY_HEADER_BYTES_MAX = 1 << 16 };

struct npy {
	uint64_t rows;
	uint32_t columns;
};

/* What is wrong, and at which byte of the file. */
struct npy_fault {
	size_t byte;
	const char *reason;
};

/* The bytes before the data, from the first NPY_PREFIX_BYTES: 0 with *fault where these do not begin an
 * array, else at most NPY_HEADER_BYTES_MAX. */
size_t npy_header_bytes(const unsigned char *prefix, struct npy_fault *fault);

/* The whole header, [npy_header_bytes()]. False: *fault. */
bool npy_parse(const unsigned char *header, size_t size, struct npy *out, struct npy_fault *fault);

#endif
