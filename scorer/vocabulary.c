/* vocabulary.c - an array of views into an arena, and a hash table of ids at most half full. */
#include "scorer/vocabulary.h"

#include <xxhash.h>

enum { TEXT_BYTES_MAX = 256 << 20 };

enum status vocabulary_init(struct vocabulary *vocabulary, uint32_t count, struct error *error)
{
	uint32_t slots = 16;

	*vocabulary = (struct vocabulary){0};
	if (count > VOCABULARY_IDS_MAX)
		return error_set(error, STATUS_CORRUPT, "a vocabulary of %u ids (limit %d)", count,
				 VOCABULARY_IDS_MAX);
	while (slots < 2 * count)
		slots *= 2;
	vocabulary->pieces = mem_alloc_zero(count, sizeof(*vocabulary->pieces));
	vocabulary->slots = mem_alloc_zero(slots, sizeof(*vocabulary->slots));
	vocabulary->arena = arena_create(TEXT_BYTES_MAX);
	vocabulary->count = count;
	vocabulary->mask = slots - 1;
	if (vocabulary->pieces && vocabulary->slots && vocabulary->arena)
		return STATUS_OK;
	vocabulary_destroy(vocabulary);
	return error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %u", count);
}

void vocabulary_destroy(struct vocabulary *vocabulary)
{
	mem_free(vocabulary->pieces);
	mem_free(vocabulary->slots);
	arena_destroy(vocabulary->arena);
	*vocabulary = (struct vocabulary){0};
}

/* The slot that holds the text, or the empty one where it belongs. */
static uint32_t *slot_of(const struct vocabulary *vocabulary, struct text_view text)
{
	uint32_t at = (uint32_t)XXH3_64bits(text.bytes, text.size) & vocabulary->mask;

	while (vocabulary->slots[at] &&
	       !text_equal(vocabulary->pieces[vocabulary->slots[at] - 1], text))
		at = (at + 1) & vocabulary->mask;
	return &vocabulary->slots[at];
}

enum status vocabulary_set(struct vocabulary *vocabulary, uint32_t id, struct text_view text,
			   struct error *error)
{
	uint32_t *slot;

	if (id >= vocabulary->count)
		return error_set(error, STATUS_CORRUPT, "token id %u of %u", id, vocabulary->count);
	if (text.size == 0 || text.size > VOCABULARY_PIECE_MAX)
		return error_set(error, STATUS_CORRUPT, "token %u has %zu bytes (1 to %d)", id, text.size,
				 VOCABULARY_PIECE_MAX);
	if (vocabulary->pieces[id].size)
		return error_set(error, STATUS_CORRUPT, "token id %u is given twice", id);
	slot = slot_of(vocabulary, text);
	if (*slot)
		return error_set(error, STATUS_CORRUPT, "tokens %u and %u have the same text", *slot - 1, id);
	if (!text_copy(vocabulary->arena, text, &vocabulary->pieces[id]))
		return error_set(error, STATUS_NO_MEMORY, "no memory for token %u", id);
	*slot = id + 1;
	return STATUS_OK;
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, struct text_view text)
{
	if (!vocabulary->slots || text.size == 0)
		return -1;
	return (int32_t)*slot_of(vocabulary, text) - 1;
}
