/* ids.c - id bytes <-> u32: an open-addressed index of (hash, id) over records of (holders, bytes).
 *
 * Invariant: every living id is in exactly one slot, no slot between its home and it is empty, and at
 * most 3/4 of the slots are taken. Deletion shifts later slots back, so there are no markers to sweep.
 * Ids are given out from a free list first (last freed first), then in blocks of CHUNK_ROWS, in an
 * order that the seed permutes. */
#include "graph-updater/ids.h"

#include "graph-updater/chunks.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

struct id_record {
	uint32_t size;          /* of bytes */
	uint32_t holders;
	char bytes[];
};

struct id_slot {
	uint32_t hash;          /* low half: enough for the home slot, and to skip most strangers */
	uint32_t id;            /* + 1; 0: empty */
};

struct ids {
	char what[16];          /* "users": names the setting in errors */
	uint32_t count_max;
	uint64_t seed;
	struct chunks records;  /* rows of struct id_record * */
	struct id_slot *slots;
	uint32_t slots_mask;
	uint32_t count;
	uint32_t fresh;         /* ids given out for the first time */
	uint32_t *free_ids;     /* [free_count] */
	size_t free_count, free_capacity;
	size_t bytes;           /* of records */
};

enum { SLOTS_MIN = 64, IDS_MAX = 1 << 30 };     /* slots and id + 1 stay within u32 */

enum status ids_create(const char *what, uint32_t count_max, uint64_t seed, struct ids **out,
		       struct error *error)
{
	struct ids *ids = mem_alloc_zero(1, sizeof *ids);

	if (!ids)
		return error_set(error, STATUS_NO_MEMORY, "ids of %s: out of memory", what);
	snprintf(ids->what, sizeof ids->what, "%s", what);
	if (count_max > IDS_MAX)
		count_max = IDS_MAX;
	ids->count_max = count_max;
	ids->seed = seed;
	ids->slots_mask = SLOTS_MIN - 1;
	ids->slots = mem_alloc_zero(SLOTS_MIN, sizeof *ids->slots);
	if (!ids->slots || !chunks_create(&ids->records, count_max, sizeof(struct id_record *))) {
		ids_destroy(ids);
		return error_set(error, STATUS_NO_MEMORY, "ids of %s: out of memory", what);
	}
	*out = ids;
	return STATUS_OK;
}

static struct id_record **record_of(const struct ids *ids, uint32_t id)
{
	return chunks_row(&ids->records, id);
}

void ids_destroy(struct ids *ids)
{
	if (!ids)
		return;
	for (uint32_t id = 0; id < chunks_rows(&ids->records); id++)
		mem_free(*record_of(ids, id));
	chunks_destroy(&ids->records);
	mem_free(ids->slots);
	mem_free(ids->free_ids);
	mem_free(ids);
}

static uint32_t hash_of(struct text_view bytes)
{
	return (uint32_t)XXH3_64bits(bytes.bytes ? bytes.bytes : "", bytes.size);
}

/* The slot that holds the bytes, or the empty one where they belong. */
static uint32_t slot_of(const struct ids *ids, struct text_view bytes, uint32_t hash)
{
	uint32_t slot = hash & ids->slots_mask;

	for (; ids->slots[slot].id; slot = (slot + 1) & ids->slots_mask) {
		const struct id_record *record;
		if (ids->slots[slot].hash != hash)
			continue;
		record = *record_of(ids, ids->slots[slot].id - 1);
		if (text_equal((struct text_view){record->bytes, record->size}, bytes))
			break;
	}
	return slot;
}

bool ids_find(const struct ids *ids, struct text_view bytes, uint32_t *out)
{
	const struct id_slot *slot = &ids->slots[slot_of(ids, bytes, hash_of(bytes))];

	if (!slot->id)
		return false;
	*out = slot->id - 1;
	return true;
}

static bool grow_slots(struct ids *ids)
{
	uint32_t mask = ids->slots_mask * 2 + 1;
	struct id_slot *slots = mem_alloc_zero((size_t)mask + 1, sizeof *slots);

	if (!slots)
		return false;
	for (size_t s = 0; s <= ids->slots_mask; s++) {
		uint32_t slot = ids->slots[s].hash & mask;
		if (!ids->slots[s].id)
			continue;
		while (slots[slot].id)
			slot = (slot + 1) & mask;
		slots[slot] = ids->slots[s];
	}
	mem_free(ids->slots);
	ids->slots = slots;
	ids->slots_mask = mask;
	return true;
}

/* The n-th id given out: blocks in order, within a block an affine permutation drawn from the seed. */
static uint32_t nth_id(const struct ids *ids, uint32_t n)
{
	uint32_t block = n >> CHUNK_SHIFT, place = n & (CHUNK_ROWS - 1);

	if (ids->seed && (block + 1) << CHUNK_SHIFT <= ids->count_max) {
		uint64_t draw = XXH3_64bits_withSeed(&block, sizeof block, ids->seed);
		place = (place * ((uint32_t)draw | 1) + (uint32_t)(draw >> 32)) & (CHUNK_ROWS - 1);
	}
	return block << CHUNK_SHIFT | place;
}

enum status ids_hold(struct ids *ids, struct text_view bytes, enum ids_holder holder, uint32_t *out,
		     struct error *error)
{
	uint32_t hash = hash_of(bytes), slot = slot_of(ids, bytes, hash), id;
	struct id_record *record;

	if (ids->slots[slot].id) {
		*out = ids->slots[slot].id - 1;
		(*record_of(ids, *out))->holders |= holder;
		return STATUS_OK;
	}
	if (bytes.size > ID_BYTES_MAX)
		return error_set(error, STATUS_BAD_RECORD, "an id of %zu bytes", bytes.size);
	if (ids->count >= ids->count_max)
		return error_set(error, STATUS_NO_MEMORY,
				 "graph.%s_max = %u is reached: raise it, or evict with graph.edges_max or "
				 "graph.edge_days", ids->what, ids->count_max);
	if ((uint64_t)ids->count * 4 >= (uint64_t)ids->slots_mask * 3) {
		if (!grow_slots(ids))
			goto no_memory;
		slot = slot_of(ids, bytes, hash);
	}
	record = mem_alloc(sizeof *record + bytes.size);
	if (!record)
		goto no_memory;
	if (ids->free_count) {
		id = ids->free_ids[--ids->free_count];
	} else {
		id = nth_id(ids, ids->fresh);
		if (!chunks_reserve(&ids->records, id + 1)) {
			mem_free(record);
			goto no_memory;
		}
		ids->fresh++;
	}
	record->size = (uint32_t)bytes.size;
	record->holders = holder;
	if (bytes.size)
		memcpy(record->bytes, bytes.bytes, bytes.size);
	*record_of(ids, id) = record;
	ids->slots[slot] = (struct id_slot){hash, id + 1};
	ids->bytes += sizeof *record + bytes.size;
	ids->count++;
	*out = id;
	return STATUS_OK;
no_memory:
	return error_set(error, STATUS_NO_MEMORY, "ids of %s: out of memory at %u", ids->what, ids->count);
}

static void remove_slot(struct ids *ids, uint32_t hole)
{
	uint32_t mask = ids->slots_mask;

	for (uint32_t slot = (hole + 1) & mask; ids->slots[slot].id; slot = (slot + 1) & mask) {
		uint32_t home = ids->slots[slot].hash & mask;
		/* May move into the hole unless its home lies between the hole and itself. */
		if (((slot - home) & mask) >= ((slot - hole) & mask)) {
			ids->slots[hole] = ids->slots[slot];
			hole = slot;
		}
	}
	ids->slots[hole] = (struct id_slot){0, 0};
}

bool ids_release(struct ids *ids, uint32_t id, enum ids_holder holder)
{
	struct id_record *record = *record_of(ids, id);
	struct text_view bytes = {record->bytes, record->size};

	record->holders &= ~(uint32_t)holder;
	if (record->holders)
		return false;
	remove_slot(ids, slot_of(ids, bytes, hash_of(bytes)));
	ids->bytes -= sizeof *record + record->size;
	ids->count--;
	*record_of(ids, id) = NULL;
	explicit_bzero(record->bytes, record->size);
	mem_free(record);
	/* Without memory for the list the number is merely not given out again. */
	if (mem_reserve((void **)&ids->free_ids, &ids->free_capacity, ids->free_count, ids->count_max,
			sizeof *ids->free_ids))
		ids->free_ids[ids->free_count++] = id;
	return true;
}

bool ids_alive(const struct ids *ids, uint32_t id)
{
	return id < chunks_rows(&ids->records) && *record_of(ids, id);
}

struct text_view ids_bytes(const struct ids *ids, uint32_t id)
{
	const struct id_record *record = ids_alive(ids, id) ? *record_of(ids, id) : NULL;

	return record ? (struct text_view){record->bytes, record->size} : (struct text_view){NULL, 0};
}

uint32_t ids_count(const struct ids *ids)
{
	return ids->count;
}

uint32_t ids_end(const struct ids *ids)
{
	uint32_t end = (ids->fresh + CHUNK_ROWS - 1) >> CHUNK_SHIFT << CHUNK_SHIFT;

	return end < chunks_rows(&ids->records) ? end : chunks_rows(&ids->records);
}

size_t ids_memory(const struct ids *ids)
{
	return sizeof *ids + ids->bytes + chunks_bytes(&ids->records) +
	       ((size_t)ids->slots_mask + 1) * sizeof *ids->slots + ids->free_capacity * sizeof *ids->free_ids;
}

static int compare_records(const void *left, const void *right, void *context)
{
	const struct ids *ids = context;

	return text_compare(ids_bytes(ids, *(const uint32_t *)left),
			    ids_bytes(ids, *(const uint32_t *)right));
}

enum status ids_sorted(const struct ids *ids, uint32_t **out, uint32_t *count, struct error *error)
{
	uint32_t *sorted = mem_alloc_array(ids->count, sizeof *sorted);
	uint32_t n = 0;

	if (!sorted)
		return error_set(error, STATUS_NO_MEMORY, "ids of %s: out of memory", ids->what);
	for (uint32_t id = 0; id < ids_end(ids) && n < ids->count; id++)
		if (ids_alive(ids, id))
			sorted[n++] = id;
	qsort_r(sorted, n, sizeof *sorted, compare_records, (void *)ids);
	*out = sorted;
	*count = n;
	return STATUS_OK;
}
