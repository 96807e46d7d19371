/* mem.c - checked allocation and the arena (a chain of blocks that is rewound, not freed).
 * Invariant of an arena: used <= bytes_max, and blocks before `current` are full. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Read by jemalloc when it starts (another allocator does not know it): its memory asks for huge pages, which
 * spare searches the table of small ones, and forks copying it (huge.h). */
extern const char *const malloc_conf;
const char *const malloc_conf = "thp:always";

static _Thread_local long fail_after = -1;

void mem_fail_after(long successes)
{
	fail_after = successes;
}

static bool injected_failure(void)
{
	if (fail_after < 0)
		return false;
	if (fail_after == 0)
		return true;
	fail_after--;
	return false;
}

bool mem_multiply(size_t a, size_t b, size_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

void *mem_alloc(size_t bytes)
{
	return injected_failure() ? NULL : malloc(bytes ? bytes : 1);
}

void *mem_alloc_zero(size_t count, size_t size)
{
	return injected_failure() ? NULL : calloc(count ? count : 1, size ? size : 1);
}

void *mem_alloc_array(size_t count, size_t size)
{
	size_t bytes;
	return mem_multiply(count, size, &bytes) ? mem_alloc(bytes) : NULL;
}

void *mem_alloc_aligned(size_t alignment, size_t bytes)
{
	void *pointer = NULL;
	if (injected_failure() || posix_memalign(&pointer, alignment, bytes ? bytes : 1))
		return NULL;
	return pointer;
}

void *mem_resize_array(void *old, size_t count, size_t size)
{
	size_t bytes;
	if (injected_failure() || !mem_multiply(count, size, &bytes))
		return NULL;
	return realloc(old, bytes ? bytes : 1);
}

void mem_free(void *pointer)
{
	free(pointer);
}

char *mem_copy_string(const char *text)
{
	size_t bytes = strlen(text) + 1;
	char *copy = mem_alloc(bytes);
	if (copy)
		memcpy(copy, text, bytes);
	return copy;
}

bool mem_reserve(void **array, size_t *capacity, size_t count, size_t count_max, size_t size)
{
	size_t wanted;
	void *grown;

	if (count < *capacity)
		return true;
	if (count >= count_max)
		return false;
	wanted = *capacity < 8 ? 16 : *capacity * 2;
	if (wanted > count_max || wanted < *capacity)
		wanted = count_max;
	grown = mem_resize_array(*array, wanted, size);
	if (!grown)
		return false;
	*array = grown;
	*capacity = wanted;
	return true;
}

enum { ARENA_BLOCK_BYTES = 64 * 1024, ARENA_ALIGNMENT = 16 };

struct arena_block {
	struct arena_block *next;
	size_t size;            /* bytes of data */
	size_t used;
	_Alignas(ARENA_ALIGNMENT) unsigned char data[];
};

struct arena {
	struct arena_block *first;
	struct arena_block *current;
	size_t bytes_max;
	size_t reserved;        /* sum of block sizes */
	size_t used;
};

struct arena *arena_create(size_t bytes_max)
{
	struct arena *arena = mem_alloc_zero(1, sizeof *arena);
	if (arena)
		arena->bytes_max = bytes_max;
	return arena;
}

void arena_destroy(struct arena *arena)
{
	if (!arena)
		return;
	for (struct arena_block *block = arena->first, *next; block; block = next) {
		next = block->next;
		mem_free(block);
	}
	mem_free(arena);
}

void arena_reset(struct arena *arena)
{
	arena->current = arena->first;
	if (arena->first)
		arena->first->used = 0;
	arena->used = 0;
}

static struct arena_block *block_with_room(struct arena *arena, size_t bytes)
{
	struct arena_block *last = arena->current;

	if (last && last->size - last->used >= bytes)
		return last;
	while (last && last->next) {
		last = last->next;
		last->used = 0;
		if (last->size >= bytes) {
			arena->current = last;
			return last;
		}
	}
	size_t size = ARENA_BLOCK_BYTES;
	if (arena->reserved / 2 > size)
		size = arena->reserved / 2;
	if (size > arena->bytes_max)
		size = arena->bytes_max;
	if (size < bytes)
		size = bytes;
	struct arena_block *block = mem_alloc(sizeof *block + size);
	if (!block)
		return NULL;
	block->next = NULL;
	block->size = size;
	block->used = 0;
	if (last)
		last->next = block;
	else
		arena->first = block;
	arena->reserved += size;
	arena->current = block;
	return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
	struct arena_block *block;
	void *result;

	if (bytes > SIZE_MAX - ARENA_ALIGNMENT)
		return NULL;
	bytes = (bytes + ARENA_ALIGNMENT - 1) & ~(size_t)(ARENA_ALIGNMENT - 1);
	if (bytes == 0)
		bytes = ARENA_ALIGNMENT;
	if (bytes > arena->bytes_max - arena->used)
		return NULL;
	block = block_with_room(arena, bytes);
	if (!block)
		return NULL;
	result = block->data + block->used;
	block->used += bytes;
	arena->used += bytes;
	return result;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
	size_t bytes;
	return mem_multiply(count, size, &bytes) ? arena_alloc(arena, bytes) : NULL;
}

size_t arena_used(const struct arena *arena)
{
	return arena->used;
}
