/* chunks.c - see chunks.h. Invariant: chunks 0 .. chunk_count - 1 are there and never move. The first
 * small_chunks chunks are allocations of their own; of the others every slab_chunks-th begins one. */
#include "graph-updater/chunks.h"

#include "base/mem.h"

#include <string.h>
#include <sys/mman.h>

bool chunks_create(struct chunks *chunks, uint32_t rows_max, size_t row_bytes)
{
	uint32_t chunk_max = (uint32_t)(((uint64_t)rows_max + CHUNK_ROWS - 1) >> CHUNK_SHIFT);

	*chunks = (struct chunks){
		.chunk = mem_alloc_zero(chunk_max, sizeof *chunks->chunk),
		.chunk_max = chunk_max,
		.row_bytes = row_bytes,
		.slab_chunks = (uint32_t)(SLAB_BYTES / (CHUNK_ROWS * row_bytes)),
		.small_chunks = (uint32_t)(SLAB_BYTES / 8 / (CHUNK_ROWS * row_bytes)),
	};
	return chunks->chunk != NULL;
}

static bool is_small(const struct chunks *chunks, uint32_t chunk)
{
	return !chunks->slab_chunks || chunk < chunks->small_chunks;
}

static bool begins_allocation(const struct chunks *chunks, uint32_t chunk)
{
	return is_small(chunks, chunk) || (chunk - chunks->small_chunks) % chunks->slab_chunks == 0;
}

/* NULL: no memory. Its bytes are anything. */
static unsigned char *next_chunk(const struct chunks *chunks, size_t bytes)
{
	uint32_t chunk = chunks->chunk_count;
	unsigned char *slab;

	if (!begins_allocation(chunks, chunk))
		return chunks->chunk[chunk - 1] + bytes;
	if (is_small(chunks, chunk))
		return mem_alloc_aligned(64, bytes);
	slab = mem_alloc_aligned(SLAB_BYTES, SLAB_BYTES);
	if (slab)
		(void)madvise(slab, SLAB_BYTES, MADV_HUGEPAGE); /* a wish: small pages serve as well */
	if (slab && chunks->parent_only)
		(void)madvise(slab, SLAB_BYTES, MADV_DONTFORK);
	return slab;
}

void chunks_destroy(struct chunks *chunks)
{
	for (uint32_t c = 0; c < chunks->chunk_count; c++)
		if (begins_allocation(chunks, c)) {
			/* Whoever gets this memory next may need it in a child. */
			if (chunks->parent_only && !is_small(chunks, c))
				(void)madvise(chunks->chunk[c], SLAB_BYTES, MADV_DOFORK);
			mem_free(chunks->chunk[c]);
		}
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
		unsigned char *chunk = next_chunk(chunks, bytes);
		if (!chunk)
			return false;
		memset(chunk, 0, bytes);
		chunks->chunk[chunks->chunk_count++] = chunk;
	}
	return true;
}

size_t chunks_bytes(const struct chunks *chunks)
{
	uint32_t count = chunks->chunk_count, small = chunks->small_chunks;
	size_t bytes = chunks->chunk_max * sizeof *chunks->chunk;

	if (!chunks->slab_chunks || count <= small)
		return bytes + (size_t)count * CHUNK_ROWS * chunks->row_bytes;
	/* A slab counts whole. */
	return bytes + (size_t)small * CHUNK_ROWS * chunks->row_bytes +
	       ((size_t)(count - small) + chunks->slab_chunks - 1) / chunks->slab_chunks * SLAB_BYTES;
}
