/* mem.h - the one choke point for memory, and arenas for what dies together.
 *
 * malloc is jemalloc in the shipped program. Nobody else calls malloc, so that sizes are checked,
 * failures can be injected by tests, and every container has a named maximum. mem_* return NULL on
 * failure and never abort. Any thread, except that one arena belongs to one thread at a time. */
#ifndef EXITPOLL_BASE_MEM_H
#define EXITPOLL_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes);                          /* uninitialised; NULL on failure; bytes 0 is 1 */
void *mem_alloc_zero(size_t count, size_t size);        /* product checked */
void *mem_alloc_array(size_t count, size_t size);       /* product checked, uninitialised */
void *mem_alloc_aligned(size_t alignment, size_t bytes);/* power of two; free with mem_free */
void *mem_resize_array(void *old, size_t count, size_t size); /* on failure old is still yours */
void mem_free(void *pointer);                           /* NULL ok */
char *mem_copy_string(const char *text);

/* True and *product written when a * b fits. */
bool mem_multiply(size_t a, size_t b, size_t *product);

/* Makes room for one more element in a growing array with a named maximum: *capacity doubles, up to
 * count_max. False: full (count == count_max) or no memory; the array is unchanged. */
bool mem_reserve(void **array, size_t *capacity, size_t count, size_t count_max, size_t size);

/* Tests only: the next `successes` allocations of this thread work, later ones fail. < 0: never. */
void mem_fail_after(long successes);

/* ---- arena: everything in it dies at reset; nothing in it outlives the batch ---- */
struct arena;

/* At most bytes_max in all; blocks are kept over resets. NULL on failure. */
struct arena *arena_create(size_t bytes_max);
void arena_destroy(struct arena *arena);                /* NULL ok */
void arena_reset(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t bytes);   /* 16-byte aligned; NULL at bytes_max */
void *arena_array(struct arena *arena, size_t count, size_t size); /* product checked, uninitialised */
size_t arena_used(const struct arena *arena);

#endif
