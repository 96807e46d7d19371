/* terms.c - counted terms in a flat table, found by linear probing on their hash.
 *
 * Invariants: slots[] holds index + 1 of every living term, at most half full, no gap between a term's
 * home slot and its place (deletion shifts back); a term's references equal the number of item lists
 * that hold it; free slots of terms[] form a list. A change reserves everything before it changes
 * anything. Called by words.c and attributes.c, owner thread. */
#include "graph-updater/terms.h"

#include "graph-updater/chunks.h"

#include <xxhash.h>

enum { FIRST_SLOTS = 1024, NO_TERM = UINT32_MAX };

struct terms {
	const char *name;
	struct term *terms;             /* [used] of terms_capacity */
	size_t terms_capacity;
	uint32_t used;                  /* indexes given out so far */
	uint32_t alive;
	uint32_t terms_max;
	uint32_t free_first;            /* NO_TERM: none */
	uint32_t *slots;                /* [slots_mask + 1] */
	uint32_t slots_mask;
	struct chunks lists;            /* a row an item, uint32_t *: count, then terms; NULL: no list */
	uint32_t items_max;
	size_t lists_bytes;
};

struct term_hash term_hash_of(const void *bytes, size_t size)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, size);
	return (struct term_hash){hash.low64, hash.high64};
}

enum status terms_create(const char *name, uint32_t terms_max, uint32_t items_max, struct terms **out,
			 struct error *error)
{
	struct terms *terms = mem_alloc_zero(1, sizeof *terms);

	/* Twice terms_max slots must still have 32-bit indexes. */
	if (terms_max > UINT32_MAX / 4)
		terms_max = UINT32_MAX / 4;
	if (terms) {
		terms->name = name;
		terms->terms_max = terms_max;
		terms->items_max = items_max;
		terms->free_first = NO_TERM;
		terms->slots_mask = FIRST_SLOTS - 1;
		terms->slots = mem_alloc_zero(FIRST_SLOTS, sizeof *terms->slots);
	}
	if (!terms || !terms->slots || !chunks_create(&terms->lists, items_max, sizeof(uint32_t *))) {
		terms_destroy(terms);
		return error_set(error, STATUS_NO_MEMORY, "no memory for the table of %s", name);
	}
	*out = terms;
	return STATUS_OK;
}

static uint32_t **list_of(const struct terms *terms, uint32_t item)
{
	return chunks_row(&terms->lists, item);
}

void terms_destroy(struct terms *terms)
{
	if (!terms)
		return;
	for (uint32_t i = 0; i < chunks_rows(&terms->lists); i++)
		mem_free(*list_of(terms, i));
	chunks_destroy(&terms->lists);
	mem_free(terms->slots);
	mem_free(terms->terms);
	mem_free(terms);
}

/* The slot that holds this hash, or the empty one where it belongs. */
static uint32_t slot_of(const struct terms *terms, struct term_hash hash)
{
	uint32_t slot = (uint32_t)hash.low & terms->slots_mask;
	for (;; slot = (slot + 1) & terms->slots_mask) {
		uint32_t entry = terms->slots[slot];
		if (!entry)
			return slot;
		if (terms->terms[entry - 1].hash.low == hash.low &&
		    terms->terms[entry - 1].hash.high == hash.high)
			return slot;
	}
}

static bool grow_slots(struct terms *terms, uint32_t alive)
{
	size_t wanted = (size_t)terms->slots_mask + 1;
	uint32_t *slots;

	if ((size_t)alive * 2 <= wanted)
		return true;
	while ((size_t)alive * 2 > wanted)
		wanted *= 2;
	slots = mem_alloc_zero(wanted, sizeof *slots);
	if (!slots)
		return false;
	mem_free(terms->slots);
	terms->slots = slots;
	terms->slots_mask = (uint32_t)(wanted - 1);
	for (uint32_t i = 0; i < terms->used; i++)
		if (terms->terms[i].references)
			terms->slots[slot_of(terms, terms->terms[i].hash)] = i + 1;
	return true;
}

/* Room for `fresh` more living terms. */
static bool reserve_terms(struct terms *terms, uint32_t fresh)
{
	uint32_t unused = terms->used - terms->alive;

	if (fresh > terms->terms_max - terms->alive || !grow_slots(terms, terms->alive + fresh))
		return false;
	while (fresh > unused && terms->terms_capacity - terms->used < fresh - unused) {
		size_t capacity = terms->terms_capacity;
		if (!mem_reserve((void **)&terms->terms, &terms->terms_capacity, capacity,
				 terms->terms_max, sizeof *terms->terms))
			return false;
	}
	return true;
}

/* One more item refers to this term; there is room. */
static uint32_t hold(struct terms *terms, struct term_hash hash)
{
	uint32_t slot = slot_of(terms, hash), index;

	if (terms->slots[slot]) {
		index = terms->slots[slot] - 1;
		terms->terms[index].references++;
		return index;
	}
	if (terms->free_first != NO_TERM) {
		index = terms->free_first;
		terms->free_first = terms->terms[index].free_next;
	} else {
		index = terms->used++;
	}
	terms->terms[index] = (struct term){.hash = hash, .references = 1, .free_next = NO_TERM};
	terms->slots[slot] = index + 1;
	terms->alive++;
	return index;
}

/* Closes the gap at `slot`: a term may stay behind it only if its home lies behind it too. */
static void empty_slot(struct terms *terms, uint32_t slot)
{
	uint32_t mask = terms->slots_mask, next = slot;

	for (;;) {
		uint32_t home;
		next = (next + 1) & mask;
		if (!terms->slots[next])
			break;
		home = (uint32_t)terms->terms[terms->slots[next] - 1].hash.low & mask;
		if (((next - home) & mask) >= ((next - slot) & mask)) {
			terms->slots[slot] = terms->slots[next];
			slot = next;
		}
	}
	terms->slots[slot] = 0;
}

static void release(struct terms *terms, uint32_t index)
{
	struct term *term = &terms->terms[index];

	if (--term->references)
		return;
	empty_slot(terms, slot_of(terms, term->hash));
	term->free_next = terms->free_first;
	terms->free_first = index;
	terms->alive--;
}

enum status terms_set(struct terms *terms, struct item_id item, const struct term_hash *hashes,
		      uint32_t count, struct error *error)
{
	uint32_t fresh = 0, *list = NULL, *old;

	if (!count && (item.v >= chunks_rows(&terms->lists) || !*list_of(terms, item.v)))
		return STATUS_OK;
	for (uint32_t i = 0; i < count; i++)
		fresh += !terms->slots[slot_of(terms, hashes[i])];
	if (item.v >= terms->items_max || !chunks_reserve(&terms->lists, item.v + 1) ||
	    !reserve_terms(terms, fresh))
		goto full;
	if (count) {
		list = mem_alloc_array((size_t)count + 1, sizeof *list);
		if (!list)
			goto full;
		list[0] = count;
		for (uint32_t i = 0; i < count; i++)
			list[i + 1] = hold(terms, hashes[i]);
		terms->lists_bytes += ((size_t)count + 1) * sizeof *list;
	}
	old = *list_of(terms, item.v);
	*list_of(terms, item.v) = list;
	if (old) {
		for (uint32_t i = 1; i <= old[0]; i++)
			release(terms, old[i]);
		terms->lists_bytes -= ((size_t)old[0] + 1) * sizeof *old;
		mem_free(old);
	}
	return STATUS_OK;
full:
	return error_set(error, STATUS_NO_MEMORY,
			 "no room for the %s of an item: %u of at most %u are kept, items at most %u",
			 terms->name, terms->alive, terms->terms_max, terms->items_max);
}

const uint32_t *terms_of(const struct terms *terms, struct item_id item, uint32_t *count)
{
	const uint32_t *list = item.v < chunks_rows(&terms->lists) ? *list_of(terms, item.v) : NULL;
	*count = list ? list[0] : 0;
	return list ? list + 1 : NULL;
}

void terms_prefetch(const struct terms *terms, struct item_id item)
{
	if (item.v < chunks_rows(&terms->lists))
		__builtin_prefetch(*list_of(terms, item.v));
}

struct term *terms_at(struct terms *terms, uint32_t term)
{
	return &terms->terms[term];
}

const struct term *terms_get(const struct terms *terms, uint32_t term)
{
	return &terms->terms[term];
}

bool terms_find(const struct terms *terms, struct term_hash hash, uint32_t *term)
{
	uint32_t entry = terms->slots[slot_of(terms, hash)];
	if (!entry)
		return false;
	*term = entry - 1;
	return true;
}

uint32_t terms_alive(const struct terms *terms)
{
	return terms->alive;
}

uint32_t terms_index_end(const struct terms *terms)
{
	return terms->used;
}

size_t terms_memory_bytes(const struct terms *terms)
{
	return sizeof *terms + terms->terms_capacity * sizeof *terms->terms +
	       ((size_t)terms->slots_mask + 1) * sizeof *terms->slots +
	       chunks_bytes(&terms->lists) + terms->lists_bytes;
}
