/* chunks.h - arrays of fixed-size rows that grow without ever moving or copying what is there.
 *
 * Rows live in chunks of CHUNK_ROWS, zeroed and 64-byte aligned; only the table of chunk pointers is
 * sized by the maximum. A row's address is stable for the life of the array. Once an array has filled an
 * eighth of SLAB_BYTES, further chunks are cut from slabs of that size and alignment, for which the system is
 * asked for huge pages: rows are read in no order, and every one would miss the table of small ones. One
 * writer. */
#ifndef EXITPOLL_GRAPH_UPDATER_CHUNKS_H
#define EXITPOLL_GRAPH_UPDATER_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHUNK_SHIFT = 10, CHUNK_ROWS = 1 << CHUNK_SHIFT, SLAB_BYTES = 2 << 20 };

struct chunks {
	unsigned char **chunk;  /* [chunk_max], the first chunk_count are there */
	uint32_t chunk_count;
	uint32_t chunk_max;
	size_t row_bytes;
	bool parent_only;       /* set while empty: the array is not there in a fork (snapshot_child.c) */
	uint32_t slab_chunks;   /* chunks of one slab; 0: too large for slabs */
	uint32_t small_chunks;  /* the first ones, each allocated alone */
};

/* False: no memory. A zeroed struct may be destroyed. */
bool chunks_create(struct chunks *chunks, uint32_t rows_max, size_t row_bytes);
void chunks_destroy(struct chunks *chunks);

/* Makes rows 0 .. rows - 1 exist. False: no memory or above the maximum; what was there stays. */
bool chunks_reserve(struct chunks *chunks, uint32_t rows);

static inline uint32_t chunks_rows(const struct chunks *chunks)
{
	return chunks->chunk_count << CHUNK_SHIFT;
}

/* row < chunks_rows() */
static inline void *chunks_row(const struct chunks *chunks, uint32_t row)
{
	return chunks->chunk[row >> CHUNK_SHIFT] + (size_t)(row & (CHUNK_ROWS - 1)) * chunks->row_bytes;
}

size_t chunks_bytes(const struct chunks *chunks);

#endif
