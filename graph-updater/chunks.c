/* chunks.c - see chunks.h. Invariant: chunks 0 .. chunk_count - 1 are there and never move. */
#include "graph-updater/chunks.h"

#include "base/mem.h"

#include <string.h>

bool chunks_create(struct chunks *chunks, uint32_t rows_max, size_t row_bytes)
{
	uint32_t chunk_max = (uint32_t)(((uint64_t)rows_max + CHUNK_ROWS - 1) >> CHUNK_SHIFT);

	*chunks = (struct chunks){
		.chunk = mem_alloc_zero(chunk_max, sizeof *chunks->chunk),
		.chunk_max = chunk_max,
		.row_bytes = row_bytes,
	};
	return chunks->chunk != NULL;
}

void chunks_destroy(struct chunks *chunks)
{
	for (uint32_t c = 0; c < chunks->chunk_count; c++)
		mem_free(chunks->chunk[c]);
	mem_free(chunks->chunk);
	*chunks = (struct chunks){0};
}

bool chunks_reserve(struct chunks *chunks, uint32_t rows)
{
	uint64_t wanted = ((uint64_t)rows + CHUNK_ROWS - 1) >> CHUNK_SHIFT;
	size_t bytes;

	if (wanted > chunks->chunk_max || !mem_multiply(CHUNK_ROWS, chunks->row_bytes, &bytes))
		return false;
	while (chunks->chunk_count < wanted) {
		unsigned char *chunk = mem_alloc_aligned(64, bytes);
		if (!chunk)
			return false;
		memset(chunk, 0, bytes);
		chunks->chunk[chunks->chunk_count++] = chunk;
	}
	return true;
}

size_t chunks_bytes(const struct chunks *chunks)
{
	return chunks->chunk_max * sizeof *chunks->chunk +
	       (size_t)chunks->chunk_count * CHUNK_ROWS * chunks->row_bytes;
}
