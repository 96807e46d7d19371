/* ids.c - id bytes <-> u32: an open-addressed index of (hash, id) over records of (holders, bytes).
 *
 * Invariant: every living id, but those being loaded, is in exactly one slot of one of at most two tables, no
 * slot between its home and it is empty, and at most 3/4 of the newer table's slots are taken. Deletion shifts
 * later slots back, so there are no markers to sweep. A table that is full is not copied at once: a new one of
 * twice the size takes what comes, and with every id given out some slots of the old one move, so that the old
 * one is empty long before the new one is full.
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

struct id_table {
	struct id_slot *slots;
	uint32_t mask;
};

enum { WAITING_MAX = 32 };              /* their slots are on their way from memory meanwhile */

struct ids {
	char what[16];          /* "users": names the setting in errors */
	uint32_t count_max;
	uint64_t seed;
	struct chunks records;  /* rows of struct id_record * */
	struct id_table table;
	struct id_table old;    /* on its way into the other; slots NULL: none */
	uint32_t old_left;      /* its slots from here on are empty */
	struct id_slot waiting[WAITING_MAX];    /* [waiting_count] being loaded: not yet in a slot of the table */
	uint32_t waiting_count;
	uint32_t count;
	uint32_t fresh;         /* ids given out for the first time */
	uint32_t *free_ids;     /* [free_count] */
	size_t free_count, free_capacity;
	size_t bytes;           /* of records */
};

enum { SLOTS_MIN = 64, IDS_MAX = 1 << 30 };     /* slots and id + 1 stay within u32 */
/* A table of n slots is full with 3n/4 ids, the next one 3n/4 ids later: two slots a step would do. */
enum { SLOTS_PER_STEP = 16 };

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
	ids->table.mask = SLOTS_MIN - 1;
	ids->table.slots = mem_alloc_zero(SLOTS_MIN, sizeof *ids->table.slots);
	if (!ids->table.slots || !chunks_create(&ids->records, count_max, sizeof(struct id_record *))) {
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
	mem_free(ids->table.slots);
	mem_free(ids->old.slots);
	mem_free(ids->free_ids);
	mem_free(ids);
}

static uint32_t hash_of(struct text_view bytes)
{
	return (uint32_t)XXH3_64bits(bytes.bytes ? bytes.bytes : "", bytes.size);
}

/* The slot that holds the bytes, or the empty one where they belong. */
static struct id_slot *slot_of(const struct ids *ids, const struct id_table *table, struct text_view bytes,
			       uint32_t hash)
{
	uint32_t slot = hash & table->mask;

	for (; table->slots[slot].id; slot = (slot + 1) & table->mask) {
		const struct id_record *record;
		if (table->slots[slot].hash != hash)
			continue;
		record = *record_of(ids, table->slots[slot].id - 1);
		if (text_equal((struct text_view){record->bytes, record->size}, bytes))
			break;
	}
	return &table->slots[slot];
}

/* The slot that holds the bytes, in whichever table, or the empty one of the newer where they belong. */
static struct id_slot *find_slot(const struct ids *ids, struct text_view bytes, uint32_t hash)
{
	struct id_slot *slot = slot_of(ids, &ids->table, bytes, hash), *old;

	if (slot->id || !ids->old.slots)
		return slot;
	old = slot_of(ids, &ids->old, bytes, hash);
	return old->id ? old : slot;
}

bool ids_find(const struct ids *ids, struct text_view bytes, uint32_t *out)
{
	const struct id_slot *slot = find_slot(ids, bytes, hash_of(bytes));

	if (!slot->id)
		return false;
	*out = slot->id - 1;
	return true;
}

static void remove_slot(struct id_table *table, uint32_t hole)
{
	uint32_t mask = table->mask;

	for (uint32_t slot = (hole + 1) & mask; table->slots[slot].id; slot = (slot + 1) & mask) {
		uint32_t home = table->slots[slot].hash & mask;
		/* May move into the hole unless its home lies between the hole and itself. */
		if (((slot - home) & mask) >= ((slot - hole) & mask)) {
			table->slots[hole] = table->slots[slot];
			hole = slot;
		}
	}
	table->slots[hole] = (struct id_slot){0, 0};
}

/* Of an id that is not there. */
static void put_slot(struct id_table *table, struct id_slot slot)
{
	uint32_t at = slot.hash & table->mask;

	while (table->slots[at].id)
		at = (at + 1) & table->mask;
	table->slots[at] = slot;
}

/* Some of the old table's last slots move. Taking one out as deletion does keeps the rest findable; what
 * that shifts over the end to the front is met there. */
static void move_slots(struct ids *ids)
{
	for (int n = 0; n < SLOTS_PER_STEP && ids->old.slots; n++) {
		struct id_slot *slot = &ids->old.slots[ids->old_left - 1];
		if (slot->id) {
			put_slot(&ids->table, *slot);
			remove_slot(&ids->old, ids->old_left - 1);
		} else if (--ids->old_left == 0) {
			mem_free(ids->old.slots);
			ids->old.slots = NULL;
		}
	}
}

static bool grow_slots(struct ids *ids)
{
	struct id_table table = {.mask = ids->table.mask * 2 + 1};

	while (ids->old.slots)          /* never, at this pace */
		move_slots(ids);
	table.slots = mem_alloc_zero((size_t)table.mask + 1, sizeof *table.slots);
	if (!table.slots)
		return false;
	ids->old = ids->table;
	ids->old_left = ids->old.mask + 1;
	ids->table = table;
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

static enum status no_memory(const struct ids *ids, struct error *error)
{
	return error_set(error, STATUS_NO_MEMORY, "ids of %s: out of memory at %u", ids->what, ids->count);
}

/* Its number and record; a slot is still to be given to it, for which there is room. */
static enum status begin_id(struct ids *ids, struct text_view bytes, enum ids_holder holder, uint32_t *out,
			    struct error *error)
{
	struct id_record *record;
	uint32_t id;

	if (bytes.size > ID_BYTES_MAX)
		return error_set(error, STATUS_BAD_RECORD, "an id of %zu bytes", bytes.size);
	if (ids->count >= ids->count_max)
		return error_set(error, STATUS_NO_MEMORY,
				 "graph.%s_max = %u is reached: raise it, or evict with graph.edges_max or "
				 "graph.edge_days", ids->what, ids->count_max);
	if ((uint64_t)ids->count * 4 >= (uint64_t)ids->table.mask * 3 && !grow_slots(ids))
		return no_memory(ids, error);
	move_slots(ids);
	record = mem_alloc(sizeof *record + bytes.size);
	if (!record)
		return no_memory(ids, error);
	if (ids->free_count) {
		id = ids->free_ids[--ids->free_count];
	} else {
		id = nth_id(ids, ids->fresh);
		if (!chunks_reserve(&ids->records, id + 1)) {
			mem_free(record);
			return no_memory(ids, error);
		}
		ids->fresh++;
	}
	record->size = (uint32_t)bytes.size;
	record->holders = holder;
	if (bytes.size)
		memcpy(record->bytes, bytes.bytes, bytes.size);
	*record_of(ids, id) = record;
	ids->bytes += sizeof *record + bytes.size;
	ids->count++;
	*out = id;
	return STATUS_OK;
}

enum status ids_hold(struct ids *ids, struct text_view bytes, enum ids_holder holder, uint32_t *out,
		     struct error *error)
{
	uint32_t hash = hash_of(bytes), id;
	struct id_slot *slot = find_slot(ids, bytes, hash);
	enum status status;

	if (slot->id) {
		*out = slot->id - 1;
		(*record_of(ids, *out))->holders |= holder;
		return STATUS_OK;
	}
	status = begin_id(ids, bytes, holder, &id, error);
	if (status)
		return status;
	*find_slot(ids, bytes, hash) = (struct id_slot){hash, id + 1};
	*out = id;
	return STATUS_OK;
}

/* ---- many at once ---- */

void ids_expect(struct ids *ids, uint32_t count)
{
	struct id_table table = {.mask = ids->table.mask};

	if (ids->count || ids->old.slots)
		return;                 /* it grows as it always does */
	if (count > ids->count_max)
		count = ids->count_max;
	while ((uint64_t)count * 4 >= (uint64_t)table.mask * 3)
		table.mask = table.mask * 2 + 1;
	table.slots = mem_alloc_zero((size_t)table.mask + 1, sizeof *table.slots);
	if (!table.slots)
		return;
	mem_free(ids->table.slots);
	ids->table = table;
}

enum status ids_load(struct ids *ids, struct text_view bytes, enum ids_holder holder, uint32_t *out,
		     struct error *error)
{
	struct id_slot *waiting;
	enum status status;

	if (ids->waiting_count == WAITING_MAX)
		ids_load_end(ids);
	waiting = &ids->waiting[ids->waiting_count];
	status = begin_id(ids, bytes, holder, out, error);
	if (status)
		return status;
	*waiting = (struct id_slot){hash_of(bytes), *out + 1};
	__builtin_prefetch(&ids->table.slots[waiting->hash & ids->table.mask], 1);
	ids->waiting_count++;
	return STATUS_OK;
}

void ids_load_end(struct ids *ids)
{
	for (uint32_t n = 0; n < ids->waiting_count; n++)
		put_slot(&ids->table, ids->waiting[n]);
	ids->waiting_count = 0;
}

bool ids_release(struct ids *ids, uint32_t id, enum ids_holder holder)
{
	struct id_record *record = *record_of(ids, id);
	struct text_view bytes = {record->bytes, record->size};
	struct id_slot *slot;

	record->holders &= ~(uint32_t)holder;
	if (record->holders)
		return false;
	slot = find_slot(ids, bytes, hash_of(bytes));
	if (slot >= ids->table.slots && slot <= ids->table.slots + ids->table.mask)
		remove_slot(&ids->table, (uint32_t)(slot - ids->table.slots));
	else
		remove_slot(&ids->old, (uint32_t)(slot - ids->old.slots));
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
	       ((size_t)ids->table.mask + 1) * sizeof(struct id_slot) +
	       (ids->old.slots ? (size_t)ids->old.mask + 1 : 0) * sizeof(struct id_slot) +
	       ids->free_capacity * sizeof *ids->free_ids;
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
