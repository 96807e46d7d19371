/* tombstones.c - an open-addressed table of (hash, time); run-out ones are swept when it would grow.
 *
 * Invariant: a hash is in at most one slot; slots with time INT64_MIN are empty. Whether a tombstone
 * holds is asked of its time and the clock, never of whether it has been swept, so sweeping is
 * invisible. */
#include "graph-updater/tombstones.h"

#include "base/mem.h"

#include <stdlib.h>
#include <xxhash.h>

struct tombstones {
	int64_t keep_ms;
	uint64_t count_max;
	struct tombstone *slots;
	size_t mask;
	size_t count;           /* taken slots */
};

enum { SLOTS_MIN = 64 };
#define EMPTY INT64_MIN

static struct tombstone *new_slots(size_t count)
{
	struct tombstone *slots = mem_alloc_array(count, sizeof *slots);

	for (size_t s = 0; slots && s < count; s++)
		slots[s].time_ms = EMPTY;
	return slots;
}

enum status tombstones_create(int64_t keep_ms, uint64_t count_max, struct tombstones **out,
			      struct error *error)
{
	struct tombstones *tombstones = mem_alloc_zero(1, sizeof *tombstones);

	if (tombstones)
		tombstones->slots = new_slots(SLOTS_MIN);
	if (!tombstones || !tombstones->slots) {
		mem_free(tombstones);
		return error_set(error, STATUS_NO_MEMORY, "tombstones: out of memory");
	}
	tombstones->keep_ms = keep_ms;
	tombstones->count_max = count_max;
	tombstones->mask = SLOTS_MIN - 1;
	*out = tombstones;
	return STATUS_OK;
}

void tombstones_destroy(struct tombstones *tombstones)
{
	if (!tombstones)
		return;
	mem_free(tombstones->slots);
	mem_free(tombstones);
}

struct tombstone tombstone_of(enum tombstone_tag tag, struct text_view a, struct text_view b,
			      int64_t time_ms)
{
	XXH128_hash_t hash_a = XXH3_128bits(a.size ? a.bytes : "", a.size);
	XXH128_hash_t hash_b = XXH3_128bits(b.size ? b.bytes : "", b.size);
	uint64_t parts[5] = {(uint64_t)tag, hash_a.low64, hash_a.high64, hash_b.low64, hash_b.high64};
	XXH128_hash_t hash = XXH3_128bits(parts, sizeof parts);

	return (struct tombstone){{hash.low64, hash.high64}, time_ms};
}

static bool holds(const struct tombstones *tombstones, int64_t time_ms, int64_t clock_ms)
{
	/* Times are >= 0, so the difference cannot overflow. */
	return time_ms != EMPTY && clock_ms - time_ms <= tombstones->keep_ms;
}

static struct tombstone *slot_of(struct tombstone *slots, size_t mask, const uint64_t hash[2])
{
	size_t slot = hash[0] & mask;

	while (slots[slot].time_ms != EMPTY &&
	       (slots[slot].hash[0] != hash[0] || slots[slot].hash[1] != hash[1]))
		slot = (slot + 1) & mask;
	return &slots[slot];
}

/* Rebuilds without the run-out ones, in a table at most half full. */
static enum status sweep(struct tombstones *tombstones, int64_t clock_ms, struct error *error)
{
	size_t living = 0, size = SLOTS_MIN;
	struct tombstone *slots;

	for (size_t s = 0; s <= tombstones->mask; s++)
		living += holds(tombstones, tombstones->slots[s].time_ms, clock_ms);
	if (living >= tombstones->count_max)
		return error_set(error, STATUS_NO_MEMORY,
				 "%zu removals are remembered, the maximum: lower graph.tombstone_days",
					 living);
	while (size < 2 * (living + 1))
		size *= 2;
	slots = new_slots(size);
	if (!slots)
		return error_set(error, STATUS_NO_MEMORY, "tombstones: out of memory at %zu", living);
	for (size_t s = 0; s <= tombstones->mask; s++)
		if (holds(tombstones, tombstones->slots[s].time_ms, clock_ms))
			*slot_of(slots, size - 1, tombstones->slots[s].hash) = tombstones->slots[s];
	mem_free(tombstones->slots);
	tombstones->slots = slots;
	tombstones->mask = size - 1;
	tombstones->count = living;
	return STATUS_OK;
}

enum status tombstones_put(struct tombstones *tombstones, const struct tombstone *tombstone,
			   int64_t clock_ms, bool *later, struct error *error)
{
	struct tombstone *slot = slot_of(tombstones->slots, tombstones->mask, tombstone->hash);
	enum status status;

	*later = false;
	if (!holds(tombstones, tombstone->time_ms, clock_ms))
		return STATUS_OK;
	if (slot->time_ms == EMPTY) {
		if (tombstones->count >= tombstones->count_max ||
		    4 * tombstones->count >= 3 * tombstones->mask) {
			status = sweep(tombstones, clock_ms, error);
			if (status)
				return status;
			slot = slot_of(tombstones->slots, tombstones->mask, tombstone->hash);
		}
		*slot = *tombstone;
		tombstones->count++;
		*later = true;
	} else if (slot->time_ms < tombstone->time_ms) {
		slot->time_ms = tombstone->time_ms;
		*later = true;
	}
	return STATUS_OK;
}

bool tombstones_find(const struct tombstones *tombstones, const struct tombstone *tombstone,
		     int64_t clock_ms, int64_t *time_ms)
{
	const struct tombstone *slot = slot_of(tombstones->slots, tombstones->mask, tombstone->hash);

	if (!holds(tombstones, slot->time_ms, clock_ms))
		return false;
	*time_ms = slot->time_ms;
	return true;
}

static int compare_hashes(const void *left, const void *right)
{
	const struct tombstone *a = left, *b = right;

	for (int half = 0; half < 2; half++)
		if (a->hash[half] != b->hash[half])
			return a->hash[half] < b->hash[half] ? -1 : 1;
	return 0;
}

enum status tombstones_sorted(const struct tombstones *tombstones, int64_t clock_ms,
			      struct tombstone **out, size_t *count, struct error *error)
{
	struct tombstone *sorted = mem_alloc_array(tombstones->count, sizeof *sorted);
	size_t n = 0;

	if (!sorted)
		return error_set(error, STATUS_NO_MEMORY, "tombstones: out of memory");
	for (size_t s = 0; s <= tombstones->mask; s++)
		if (holds(tombstones, tombstones->slots[s].time_ms, clock_ms))
			sorted[n++] = tombstones->slots[s];
	qsort(sorted, n, sizeof *sorted, compare_hashes);
	*out = sorted;
	*count = n;
	return STATUS_OK;
}

size_t tombstones_count(const struct tombstones *tombstones)
{
	return tombstones->count;
}

size_t tombstones_memory(const struct tombstones *tombstones)
{
	return sizeof *tombstones + (tombstones->mask + 1) * sizeof *tombstones->slots;
}
