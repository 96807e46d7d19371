/* merge.c - a heap of lane heads, and the group of one time that is gathered from it.
 *
 * Invariants: a lane is in the heap exactly if it holds entries; its rank says whether its head is bad,
 * late or in order. It is judged when it becomes the head; the clock moves only when a group is closed,
 * to the last of it, and all heads are beyond that (or judged again, if the group was full). `blocking`
 * counts open lanes that are empty. A group is either being gathered (nothing of it is out) or given out
 * (sorted; nothing is added). Called by the sources, from their thread. */
#include "consumer/merge.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_IN_HEAP = UINT32_MAX };
enum rank { RANK_BAD, RANK_LATE, RANK_ORDER };

struct lane {
	bool used;
	enum topic topic;
	int32_t partition;
	enum merge_lane_state state;
	enum rank rank;                 /* of the head; only if count > 0 */
	uint32_t heap_index;
	struct merge_entry *ring;       /* [capacity], a power of two */
	size_t capacity;
	size_t first;
	size_t count;
	size_t bytes;
};

enum phase { PHASE_NONE, PHASE_GATHER, PHASE_GIVE };

struct merge {
	size_t group_records_max;
	void (*release)(void *context, void *payload);
	void *context;
	struct lane *lanes;             /* [lanes_count], with holes */
	size_t lanes_count;
	size_t lanes_capacity;
	uint32_t *heap;                 /* [heap_count] lane numbers */
	size_t heap_count;
	size_t heap_capacity;
	size_t blocking;
	size_t ended;
	size_t used;
	enum phase phase;
	struct merge_entry *group;      /* [group_count] */
	size_t group_count;
	size_t group_next;
	size_t group_capacity;
	size_t group_bytes;
	int64_t group_ms;               /* the group gathers everything up to this time */
	bool group_was_full;            /* the last group of clock_ms reached the limit */
	bool group_continues;           /* this group goes on where that one ended */
	int64_t clock_ms;
	enum topic clock_topic;         /* of the last in order that was given out at clock_ms */
	size_t bytes;
	size_t records;
	uint64_t late;
	uint64_t overfull;
};

static enum rank entry_rank(const struct merge_entry *entry)
{
	return entry->bad ? RANK_BAD : entry->late ? RANK_LATE : RANK_ORDER;
}

static int compare_position(const struct merge_entry *a, const struct merge_entry *b)
{
	if (a->position.partition != b->position.partition)
		return a->position.partition < b->position.partition ? -1 : 1;
	return (a->position.offset > b->position.offset) - (a->position.offset < b->position.offset);
}

/* The total order among entries of one rank; bad ones have no time and no key to go by. */
static int compare_entries(const struct merge_entry *a, const struct merge_entry *b, bool bad)
{
	int order;

	if (!bad && a->event_time_ms != b->event_time_ms)
		return a->event_time_ms < b->event_time_ms ? -1 : 1;
	if (a->position.topic != b->position.topic)
		return a->position.topic < b->position.topic ? -1 : 1;
	if (!bad && (order = text_compare(a->key, b->key)) != 0)
		return order;
	return compare_position(a, b);
}

static int compare_group(const void *left, const void *right)
{
	const struct merge_entry *a = left, *b = right;
	enum rank rank_a = entry_rank(a), rank_b = entry_rank(b);

	if (rank_a != rank_b)
		return rank_a < rank_b ? -1 : 1;
	return compare_entries(a, b, rank_a == RANK_BAD);
}

static struct merge_entry *lane_head(const struct lane *lane)
{
	return &lane->ring[lane->first];
}

static bool lane_before(const struct merge *merge, uint32_t left, uint32_t right)
{
	const struct lane *a = &merge->lanes[left], *b = &merge->lanes[right];

	if (a->rank != b->rank)
		return a->rank < b->rank;
	return compare_entries(lane_head(a), lane_head(b), a->rank == RANK_BAD) < 0;
}

static void heap_put(struct merge *merge, size_t index, uint32_t lane)
{
	merge->heap[index] = lane;
	merge->lanes[lane].heap_index = (uint32_t)index;
}

static void heap_up(struct merge *merge, size_t index)
{
	uint32_t lane = merge->heap[index];

	while (index > 0 && lane_before(merge, lane, merge->heap[(index - 1) / 2])) {
		heap_put(merge, index, merge->heap[(index - 1) / 2]);
		index = (index - 1) / 2;
	}
	heap_put(merge, index, lane);
}

static void heap_down(struct merge *merge, size_t index)
{
	uint32_t lane = merge->heap[index];

	for (;;) {
		size_t child = 2 * index + 1;
		if (child >= merge->heap_count)
			break;
		if (child + 1 < merge->heap_count &&
		    lane_before(merge, merge->heap[child + 1], merge->heap[child]))
			child++;
		if (!lane_before(merge, merge->heap[child], lane))
			break;
		heap_put(merge, index, merge->heap[child]);
		index = child;
	}
	heap_put(merge, index, lane);
}

static void heap_remove(struct merge *merge, uint32_t lane)
{
	size_t index = merge->lanes[lane].heap_index;
	uint32_t last = merge->heap[--merge->heap_count];

	merge->lanes[lane].heap_index = NOT_IN_HEAP;
	if (last == lane)
		return;
	heap_put(merge, index, last);
	heap_up(merge, index);
	heap_down(merge, merge->lanes[last].heap_index);
}

static void judge_head(const struct merge *merge, struct lane *lane)
{
	const struct merge_entry *head = lane_head(lane);

	if (head->bad)
		lane->rank = RANK_BAD;
	else if (head->event_time_ms < merge->clock_ms ||
		 (head->event_time_ms == merge->clock_ms && head->position.topic < merge->clock_topic))
		lane->rank = RANK_LATE;
	else
		lane->rank = RANK_ORDER;
}

static bool lane_is_blocking(const struct lane *lane)
{
	return lane->used && lane->state == MERGE_LANE_OPEN && lane->count == 0;
}

/* Removes the head of the heap's first lane. */
static struct merge_entry take_first(struct merge *merge)
{
	uint32_t number = merge->heap[0];
	struct lane *lane = &merge->lanes[number];
	struct merge_entry entry = *lane_head(lane);

	entry.late = lane->rank == RANK_LATE;
	lane->first = (lane->first + 1) & (lane->capacity - 1);
	lane->count--;
	lane->bytes -= entry.bytes;
	if (lane->count > 0) {
		judge_head(merge, lane);
		heap_down(merge, 0);
	} else {
		heap_remove(merge, number);
		merge->blocking += lane_is_blocking(lane);
	}
	return entry;
}

enum status merge_create(size_t group_records_max, void (*release)(void *context, void *payload),
			 void *context, struct merge **out, struct error *error)
{
	struct merge *merge = mem_alloc_zero(1, sizeof *merge);

	if (!merge)
		return error_set(error, STATUS_NO_MEMORY, "merge: no memory");
	merge->group_records_max = group_records_max ? group_records_max : MERGE_GROUP_RECORDS_MAX;
	merge->release = release;
	merge->context = context;
	merge->clock_ms = INT64_MIN;
	*out = merge;
	return STATUS_OK;
}

static void release(struct merge *merge, const struct merge_entry *entry)
{
	merge->records--;
	merge->bytes -= entry->bytes;
	if (merge->release)
		merge->release(merge->context, entry->payload);
}

static void lane_empty(struct merge *merge, struct lane *lane)
{
	for (size_t i = 0; i < lane->count; i++)
		release(merge, &lane->ring[(lane->first + i) & (lane->capacity - 1)]);
	lane->first = lane->count = lane->bytes = 0;
}

static void drop_group(struct merge *merge)
{
	for (size_t i = merge->group_next; i < merge->group_count; i++)
		release(merge, &merge->group[i]);
	merge->group_next = merge->group_count = 0;
	merge->phase = PHASE_NONE;
}

void merge_destroy(struct merge *merge)
{
	if (!merge)
		return;
	drop_group(merge);
	for (size_t i = 0; i < merge->lanes_count; i++) {
		lane_empty(merge, &merge->lanes[i]);
		mem_free(merge->lanes[i].ring);
	}
	mem_free(merge->lanes);
	mem_free(merge->heap);
	mem_free(merge->group);
	mem_free(merge);
}

enum status merge_lane_add(struct merge *merge, enum topic topic, int32_t partition, uint32_t *lane,
			   struct error *error)
{
	size_t number = merge->lanes_count;

	for (size_t i = 0; i < merge->lanes_count; i++) {
		if (!merge->lanes[i].used)
			number = i;
		else if (merge->lanes[i].topic == topic && merge->lanes[i].partition == partition)
			return error_set(error, STATUS_USAGE, "merge: topic %d partition %d has a lane",
					 (int)topic, (int)partition);
	}
	if (number == merge->lanes_count) {
		if (merge->lanes_count >= MERGE_LANES_MAX)
			return error_set(error, STATUS_LIMIT, "merge: more than %d partitions",
					 MERGE_LANES_MAX);
		if (!mem_reserve((void **)&merge->lanes, &merge->lanes_capacity, merge->lanes_count,
				 MERGE_LANES_MAX, sizeof *merge->lanes) ||
		    !mem_reserve((void **)&merge->heap, &merge->heap_capacity, merge->lanes_count,
				 MERGE_LANES_MAX, sizeof *merge->heap))
			return error_set(error, STATUS_NO_MEMORY, "merge: no memory for a lane");
		merge->lanes[number] = (struct lane){0};
		merge->lanes_count++;
	}
	struct lane *added = &merge->lanes[number];
	added->used = true;
	added->topic = topic;
	added->partition = partition;
	added->state = MERGE_LANE_OPEN;
	added->heap_index = NOT_IN_HEAP;
	merge->used++;
	merge->blocking++;
	*lane = (uint32_t)number;
	return STATUS_OK;
}

static struct lane *find_lane(const struct merge *merge, uint32_t number)
{
	return number < merge->lanes_count && merge->lanes[number].used ? &merge->lanes[number] : NULL;
}

void merge_lane_remove(struct merge *merge, uint32_t number)
{
	struct lane *lane = find_lane(merge, number);
	size_t kept = merge->group_next;

	if (!lane)
		return;
	merge->blocking -= lane_is_blocking(lane);
	merge->ended -= lane->state == MERGE_LANE_ENDED;
	if (lane->heap_index != NOT_IN_HEAP)
		heap_remove(merge, number);
	lane_empty(merge, lane);
	mem_free(lane->ring);
	for (size_t i = merge->group_next; i < merge->group_count; i++) {
		struct merge_entry *entry = &merge->group[i];
		if (entry->position.topic == lane->topic && entry->position.partition == lane->partition)
			release(merge, entry);
		else
			merge->group[kept++] = *entry;
	}
	merge->group_count = kept;
	if (merge->group_next == merge->group_count)
		drop_group(merge);
	*lane = (struct lane){.heap_index = NOT_IN_HEAP};
	merge->used--;
}

void merge_clear(struct merge *merge, int64_t clock_ms)
{
	drop_group(merge);
	merge->blocking = 0;
	merge->ended = 0;
	merge->heap_count = 0;
	for (size_t i = 0; i < merge->lanes_count; i++) {
		struct lane *lane = &merge->lanes[i];
		lane_empty(merge, lane);
		lane->state = MERGE_LANE_OPEN;
		lane->heap_index = NOT_IN_HEAP;
		merge->blocking += lane->used;
	}
	merge->clock_ms = clock_ms;
	merge->clock_topic = TOPIC_ITEMS;
	merge->group_was_full = false;
}

static bool lane_grow(struct lane *lane)
{
	size_t capacity = lane->capacity ? lane->capacity * 2 : 16;
	struct merge_entry *ring = mem_alloc_array(capacity, sizeof *ring);

	if (!ring)
		return false;
	for (size_t i = 0; i < lane->count; i++)
		ring[i] = lane->ring[(lane->first + i) & (lane->capacity - 1)];
	mem_free(lane->ring);
	lane->ring = ring;
	lane->capacity = capacity;
	lane->first = 0;
	return true;
}

enum status merge_push(struct merge *merge, uint32_t number, const struct merge_entry *entry,
		       struct error *error)
{
	struct lane *lane = find_lane(merge, number);

	if (!lane || lane->state == MERGE_LANE_ENDED)
		return error_set(error, STATUS_USAGE, "merge: push to %s lane", lane ? "an ended" : "no");
	if (lane->count >= MERGE_LANE_RECORDS_MAX)
		return error_set(error, STATUS_LIMIT, "merge: %d records wait in partition %d of topic %d",
				 MERGE_LANE_RECORDS_MAX, (int)lane->partition, (int)lane->topic);
	if (lane->count == lane->capacity && !lane_grow(lane))
		return error_set(error, STATUS_NO_MEMORY, "merge: no memory for %zu records",
				 lane->count + 1);
	merge->blocking -= lane_is_blocking(lane);
	lane->state = MERGE_LANE_OPEN;
	struct merge_entry *slot = &lane->ring[(lane->first + lane->count) & (lane->capacity - 1)];
	*slot = *entry;
	slot->position.topic = lane->topic;
	slot->position.partition = lane->partition;
	slot->late = false;
	lane->bytes += entry->bytes;
	merge->bytes += entry->bytes;
	merge->records++;
	if (lane->count++ == 0) {
		judge_head(merge, lane);
		merge->heap[merge->heap_count] = number;
		heap_up(merge, merge->heap_count++);
	}
	return STATUS_OK;
}

void merge_lane_set_state(struct merge *merge, uint32_t number, enum merge_lane_state state)
{
	struct lane *lane = find_lane(merge, number);

	if (!lane || lane->state == state || lane->state == MERGE_LANE_ENDED ||
	    (state == MERGE_LANE_SILENT && lane->count > 0))
		return;
	merge->blocking -= lane_is_blocking(lane);
	lane->state = state;
	merge->blocking += lane_is_blocking(lane);
	merge->ended += state == MERGE_LANE_ENDED;
}

static bool group_is_full(const struct merge *merge)
{
	return merge->group_count >= merge->group_records_max ||
	       merge->group_bytes > MERGE_GROUP_BYTES_MAX;
}

/* STATUS_RETRY: an open lane is empty. */
static enum status gather(struct merge *merge)
{
	while (!group_is_full(merge)) {
		if (merge->blocking > 0)
			return STATUS_RETRY;
		if (merge->heap_count == 0)
			break;
		const struct lane *lane = &merge->lanes[merge->heap[0]];
		if (lane->rank == RANK_ORDER && lane_head(lane)->event_time_ms > merge->group_ms)
			break;
		if (!mem_reserve((void **)&merge->group, &merge->group_capacity, merge->group_count,
				 merge->group_records_max, sizeof *merge->group))
			return STATUS_NO_MEMORY;
		merge->group[merge->group_count] = take_first(merge);
		merge->group_bytes += merge->group[merge->group_count++].bytes;
	}
	return STATUS_OK;
}

static void begin_group(struct merge *merge)
{
	merge->group_ms = lane_head(&merge->lanes[merge->heap[0]])->event_time_ms;
	merge->group_continues = merge->group_ms == merge->clock_ms && merge->group_was_full;
	merge->group_bytes = 0;
	merge->phase = PHASE_GATHER;
}

/* Behind a full group lanes may still hold what belonged into it. */
static void judge_all(struct merge *merge)
{
	for (size_t i = 0; i < merge->heap_count; i++)
		judge_head(merge, &merge->lanes[merge->heap[i]]);
	for (size_t i = merge->heap_count / 2; i-- > 0;)
		heap_down(merge, i);
}

static void close_group(struct merge *merge)
{
	bool sorted = true;

	for (size_t i = 1; i < merge->group_count && sorted; i++)
		sorted = compare_group(&merge->group[i - 1], &merge->group[i]) <= 0;
	if (!sorted)
		qsort(merge->group, merge->group_count, sizeof *merge->group, compare_group);
	const struct merge_entry *last = &merge->group[merge->group_count - 1];
	if (entry_rank(last) == RANK_ORDER) {
		merge->clock_ms = last->event_time_ms;
		merge->clock_topic = last->position.topic;
	}
	if (merge->group_continues)
		merge->overfull += merge->group_count;
	merge->group_was_full = group_is_full(merge);
	if (merge->group_was_full)
		judge_all(merge);
	merge->phase = PHASE_GIVE;
}

static void give(struct merge *merge, const struct merge_entry *entry, struct merge_entry *out,
		 enum merge_result *result)
{
	merge->bytes -= entry->bytes;
	merge->records--;
	merge->late += entry->late;
	*out = *entry;
	*result = MERGE_RECORD;
}

enum status merge_pop(struct merge *merge, struct merge_entry *out, enum merge_result *result,
		      struct error *error)
{
	if (merge->phase == PHASE_NONE) {
		if (merge->heap_count > 0 && merge->lanes[merge->heap[0]].rank != RANK_ORDER) {
			struct merge_entry entry = take_first(merge);
			give(merge, &entry, out, result);
			return STATUS_OK;
		}
		if (merge->blocking > 0) {
			*result = MERGE_BLOCKED;
			return STATUS_OK;
		}
		if (merge->heap_count == 0) {
			*result = merge->ended == merge->used ? MERGE_END : MERGE_IDLE;
			return STATUS_OK;
		}
		begin_group(merge);
	}
	if (merge->phase == PHASE_GATHER) {
		enum status status = gather(merge);
		if (status == STATUS_NO_MEMORY)
			return error_set(error, status, "merge: no memory for a group of %zu records",
					 merge->group_count + 1);
		if (status == STATUS_RETRY) {
			*result = MERGE_BLOCKED;
			return STATUS_OK;
		}
		close_group(merge);
	}
	give(merge, &merge->group[merge->group_next++], out, result);
	if (merge->group_next == merge->group_count) {
		merge->group_next = merge->group_count = 0;
		merge->phase = PHASE_NONE;
	}
	return STATUS_OK;
}

bool merge_cut(const struct merge *merge)
{
	return merge->phase != PHASE_GIVE;
}

bool merge_lane_blocks(const struct merge *merge, uint32_t number)
{
	const struct lane *lane = find_lane(merge, number);
	return lane && lane_is_blocking(lane);
}

size_t merge_lanes_blocking(const struct merge *merge)
{
	return merge->blocking;
}

enum merge_lane_state merge_lane_state(const struct merge *merge, uint32_t number)
{
	const struct lane *lane = find_lane(merge, number);
	return lane ? lane->state : MERGE_LANE_ENDED;
}

size_t merge_lane_records(const struct merge *merge, uint32_t number)
{
	const struct lane *lane = find_lane(merge, number);
	return lane ? lane->count : 0;
}

size_t merge_lane_bytes(const struct merge *merge, uint32_t number)
{
	const struct lane *lane = find_lane(merge, number);
	return lane ? lane->bytes : 0;
}

size_t merge_bytes(const struct merge *merge)
{
	return merge->bytes;
}

size_t merge_records(const struct merge *merge)
{
	return merge->records;
}

int64_t merge_clock_ms(const struct merge *merge)
{
	return merge->clock_ms;
}

uint64_t merge_late(const struct merge *merge)
{
	return merge->late;
}

uint64_t merge_overfull(const struct merge *merge)
{
	return merge->overfull;
}
