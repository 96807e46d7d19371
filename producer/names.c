/* names.c - an open-addressing table over an arena of texts. Invariant: at most half of the slots are
 * taken. Called by import; one thread. */
#include "producer/names.h"

#include <xxhash.h>

enum { SLOTS_FIRST = 1024 };

bool names_create(struct names *names, size_t bytes_max)
{
	names->arena = arena_create(bytes_max);
	names->slots = mem_alloc_array(SLOTS_FIRST, sizeof *names->slots);
	if (!names->arena || !names->slots) {
		names_destroy(names);
		return false;
	}
	memset(names->slots, 0xFF, SLOTS_FIRST * sizeof *names->slots);
	names->slots_count = SLOTS_FIRST;
	return true;
}

void names_destroy(struct names *names)
{
	arena_destroy(names->arena);
	mem_free(names->texts);
	mem_free(names->slots);
	*names = (struct names){0};
}

/* The slot that holds the text, or the free one where it belongs. */
static size_t find_slot(const struct names *names, struct text_view text)
{
	size_t mask = names->slots_count - 1;
	size_t slot = XXH3_64bits(text.bytes, text.size) & mask;

	while (names->slots[slot] != NAMES_NONE && !text_equal(names->texts[names->slots[slot]], text))
		slot = (slot + 1) & mask;
	return slot;
}

static bool grow_slots(struct names *names)
{
	size_t slots_count = names->slots_count * 2;
	uint32_t *slots = mem_alloc_array(slots_count, sizeof *slots), *old = names->slots;

	if (!slots)
		return false;
	memset(slots, 0xFF, slots_count * sizeof *slots);
	names->slots = slots;
	names->slots_count = slots_count;
	for (size_t i = 0; i < names->count; i++)
		slots[find_slot(names, names->texts[i])] = (uint32_t)i;
	mem_free(old);
	return true;
}

uint32_t names_add(struct names *names, struct text_view text)
{
	size_t slot = find_slot(names, text);
	struct text_view copy;

	if (names->slots[slot] != NAMES_NONE)
		return names->slots[slot];
	if (!mem_reserve((void **)&names->texts, &names->capacity, names->count, names_count_max,
			 sizeof *names->texts) ||
	    !text_copy(names->arena, text, &copy))
		return NAMES_NONE;
	if (names->count * 2 >= names->slots_count) {
		if (!grow_slots(names))
			return NAMES_NONE;
		slot = find_slot(names, text);
	}
	names->texts[names->count] = copy;
	names->slots[slot] = (uint32_t)names->count;
	return (uint32_t)names->count++;
}
