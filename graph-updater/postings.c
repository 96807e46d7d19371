/* postings.c - linear probing into as few slots as the user's terms need, at most half full, so that
 * emptying it costs no more than filling it. Slots come from bits 15 and up: there are at most 2^15.
 * Called by statistics.c, owner thread. */
#include "graph-updater/postings.h"

#include "base/mem.h"

#include <string.h>

enum { SLOTS_MIN = 16 };

bool postings_create(struct postings *postings, uint32_t entries_max)
{
	uint32_t slots = SLOTS_MIN;

	while (slots / 2 < entries_max)
		slots *= 2;
	*postings = (struct postings){
		.keys = mem_alloc_array(slots, sizeof *postings->keys),
		.heads = mem_alloc_zero(slots, sizeof *postings->heads),
		.entries = mem_alloc_array(entries_max, sizeof *postings->entries),
		.slots_max = slots,
		.mask = SLOTS_MIN - 1,
		.entries_max = entries_max,
	};
	if (postings->keys && postings->heads && postings->entries)
		return true;
	postings_destroy(postings);
	return false;
}

void postings_destroy(struct postings *postings)
{
	mem_free(postings->keys);
	mem_free(postings->heads);
	mem_free(postings->entries);
	*postings = (struct postings){0};
}

void postings_begin(struct postings *postings, uint32_t entries)
{
	uint32_t slots = SLOTS_MIN;

	while (slots / 2 < entries && slots < postings->slots_max)
		slots *= 2;
	postings->mask = slots - 1;
	postings->count = 0;
	memset(postings->heads, 0, slots * sizeof *postings->heads);
}

static uint32_t slot_of(const struct postings *postings, uint32_t term)
{
	/* Indexes of terms are dense: spread them (Fibonacci hashing). */
	uint32_t slot = (uint32_t)(term * UINT32_C(2654435769)) >> 15 & postings->mask;

	while (postings->heads[slot] && postings->keys[slot] != term)
		slot = (slot + 1) & postings->mask;
	return slot;
}

void postings_add(struct postings *postings, uint32_t term, uint32_t edge)
{
	uint32_t slot = slot_of(postings, term);

	postings->entries[postings->count] = (struct posting){edge, postings->heads[slot]};
	postings->keys[slot] = term;
	postings->heads[slot] = ++postings->count;
}

uint32_t postings_first(const struct postings *postings, uint32_t term)
{
	return postings->heads[slot_of(postings, term)];
}
