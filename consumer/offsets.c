/* offsets.c - per partition a ring of what was read and is not yet committed, in offset order.
 *
 * Invariants: ring offsets ascend; the first `answered` entries are answered, the one after them is
 * not; `minima` is the sliding minimum of the ring's event times (times ascend, so the front is the
 * least). Partitions are sorted by (topic, partition). Called by the Kafka source, from its thread. */
#include "consumer/offsets.h"

#include <string.h>

enum { RECORDS_MAX_DEFAULT = 1 << 22 };

struct pending {
	int64_t offset;
	int64_t event_time_ms;
	bool answered;
};

struct minimum {
	uint64_t sequence;              /* of the ring entry, counted from the partition's first */
	int64_t event_time_ms;
};

struct partition {
	enum topic topic;
	int32_t partition;
	int64_t committed;              /* next offset, as assigned or committed */
	int64_t next;                   /* nothing unread is below */
	struct pending *ring;           /* [capacity], a power of two */
	size_t capacity;
	size_t first;
	size_t count;
	size_t answered;                /* leading */
	uint64_t sequence;              /* of the ring's first entry */
	struct minimum *minima;         /* [minima_capacity], a power of two */
	size_t minima_capacity;
	size_t minima_first;
	size_t minima_count;
};

struct offsets {
	size_t records_max;
	struct partition *partitions;   /* [count], sorted */
	size_t count;
	size_t capacity;
	size_t pending;
	size_t unanswered;
	struct position *prefix;        /* what offsets_prefix() lends */
	size_t prefix_capacity;
};

enum status offsets_create(size_t records_max, struct offsets **out, struct error *error)
{
	struct offsets *offsets = mem_alloc_zero(1, sizeof *offsets);

	if (!offsets)
		return error_set(error, STATUS_NO_MEMORY, "offsets: no memory");
	offsets->records_max = records_max ? records_max : RECORDS_MAX_DEFAULT;
	*out = offsets;
	return STATUS_OK;
}

static void partition_free(struct offsets *offsets, struct partition *partition)
{
	for (size_t i = partition->answered; i < partition->count; i++)
		offsets->unanswered -=
			!partition->ring[(partition->first + i) & (partition->capacity - 1)].answered;
	offsets->pending -= partition->count;
	mem_free(partition->ring);
	mem_free(partition->minima);
}

void offsets_destroy(struct offsets *offsets)
{
	if (!offsets)
		return;
	for (size_t i = 0; i < offsets->count; i++)
		partition_free(offsets, &offsets->partitions[i]);
	mem_free(offsets->partitions);
	mem_free(offsets->prefix);
	mem_free(offsets);
}

static int compare_place(const struct partition *partition, enum topic topic, int32_t number)
{
	if (partition->topic != topic)
		return partition->topic < topic ? -1 : 1;
	return (partition->partition > number) - (partition->partition < number);
}

/* The index of the partition, or where it would be. */
static size_t search(const struct offsets *offsets, enum topic topic, int32_t number)
{
	size_t low = 0, high = offsets->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_place(&offsets->partitions[middle], topic, number) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct partition *find(const struct offsets *offsets, enum topic topic, int32_t number)
{
	size_t at = search(offsets, topic, number);

	if (at == offsets->count || compare_place(&offsets->partitions[at], topic, number) != 0)
		return NULL;
	return &offsets->partitions[at];
}

enum status offsets_assign(struct offsets *offsets, enum topic topic, int32_t number, int64_t next_offset,
			   struct error *error)
{
	struct partition *partition = find(offsets, topic, number);

	if (partition) {
		partition_free(offsets, partition);
	} else {
		size_t at = search(offsets, topic, number);
		if (offsets->count >= OFFSETS_PARTITIONS_MAX)
			return error_set(error, STATUS_LIMIT, "offsets: more than %d partitions",
					 OFFSETS_PARTITIONS_MAX);
		if (!mem_reserve((void **)&offsets->partitions, &offsets->capacity, offsets->count,
				 OFFSETS_PARTITIONS_MAX, sizeof *offsets->partitions))
			return error_set(error, STATUS_NO_MEMORY, "offsets: no memory for a partition");
		partition = &offsets->partitions[at];
		memmove(partition + 1, partition, (offsets->count - at) * sizeof *partition);
		offsets->count++;
	}
	*partition = (struct partition){
		.topic = topic, .partition = number, .committed = next_offset, .next = next_offset};
	return STATUS_OK;
}

void offsets_revoke(struct offsets *offsets, enum topic topic, int32_t number)
{
	struct partition *partition = find(offsets, topic, number);

	if (!partition)
		return;
	partition_free(offsets, partition);
	offsets->count--;
	memmove(partition, partition + 1,
		(offsets->count - (size_t)(partition - offsets->partitions)) * sizeof *partition);
}

bool offsets_assigned(const struct offsets *offsets, enum topic topic, int32_t number)
{
	return find(offsets, topic, number) != NULL;
}

static struct pending *entry(const struct partition *partition, size_t index)
{
	return &partition->ring[(partition->first + index) & (partition->capacity - 1)];
}

static struct minimum *minimum(const struct partition *partition, size_t index)
{
	return &partition->minima[(partition->minima_first + index) & (partition->minima_capacity - 1)];
}

/* Doubles a ring of `count` elements of `size` bytes when it is full. */
static bool ring_reserve(void **ring, size_t *capacity, size_t *first, size_t count, size_t size)
{
	size_t grown_capacity = *capacity ? *capacity * 2 : 64, head;
	char *grown;

	if (count < *capacity)
		return true;
	grown = mem_alloc_array(grown_capacity, size);
	if (!grown)
		return false;
	head = *capacity - *first < count ? *capacity - *first : count;
	if (count > 0) {
		memcpy(grown, (char *)*ring + *first * size, head * size);
		memcpy(grown + head * size, *ring, (count - head) * size);
	}
	mem_free(*ring);
	*ring = grown;
	*capacity = grown_capacity;
	*first = 0;
	return true;
}

enum status offsets_read(struct offsets *offsets, struct position position, int64_t event_time_ms,
			 struct error *error)
{
	struct partition *partition = find(offsets, position.topic, position.partition);

	if (!partition || position.offset < partition->next)
		return error_set(error, STATUS_USAGE, "offsets: topic %d partition %d offset %lld %s",
				 (int)position.topic, (int)position.partition, (long long)position.offset,
				 partition ? "was read before" : "is not assigned");
	if (offsets->pending >= offsets->records_max)
		return error_set(error, STATUS_LIMIT, "offsets: %zu records wait for a commit",
				 offsets->pending);
	if (!ring_reserve((void **)&partition->ring, &partition->capacity, &partition->first,
			  partition->count, sizeof *partition->ring) ||
	    !ring_reserve((void **)&partition->minima, &partition->minima_capacity,
			  &partition->minima_first, partition->minima_count, sizeof *partition->minima))
		return error_set(error, STATUS_NO_MEMORY, "offsets: no memory for %zu records",
				 offsets->pending + 1);
	uint64_t sequence = partition->sequence + partition->count;
	*entry(partition, partition->count++) = (struct pending){position.offset, event_time_ms, false};
	while (partition->minima_count > 0 &&
	       minimum(partition, partition->minima_count - 1)->event_time_ms >= event_time_ms)
		partition->minima_count--;
	*minimum(partition, partition->minima_count++) = (struct minimum){sequence, event_time_ms};
	partition->next = position.offset + 1;
	offsets->pending++;
	offsets->unanswered++;
	return STATUS_OK;
}

void offsets_passed(struct offsets *offsets, enum topic topic, int32_t number, int64_t next_offset)
{
	struct partition *partition = find(offsets, topic, number);

	if (partition && next_offset > partition->next)
		partition->next = next_offset;
}

bool offsets_answered(struct offsets *offsets, struct position position)
{
	struct partition *partition = find(offsets, position.topic, position.partition);
	size_t low, high;

	if (!partition)
		return false;
	low = partition->answered;
	high = partition->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (entry(partition, middle)->offset < position.offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == partition->count || entry(partition, low)->offset != position.offset ||
	    entry(partition, low)->answered)
		return false;
	entry(partition, low)->answered = true;
	offsets->unanswered--;
	while (partition->answered < partition->count && entry(partition, partition->answered)->answered)
		partition->answered++;
	return true;
}

static int64_t commit_offset(const struct partition *partition)
{
	return partition->answered < partition->count ? entry(partition, partition->answered)->offset
						      : partition->next;
}

enum status offsets_prefix(struct offsets *offsets, const struct position **out, size_t *count,
			   struct error *error)
{
	size_t used = 0;

	if (offsets->prefix_capacity < offsets->count) {
		struct position *grown =
			mem_resize_array(offsets->prefix, offsets->capacity, sizeof *grown);
		if (!grown)
			return error_set(error, STATUS_NO_MEMORY, "offsets: no memory for positions");
		offsets->prefix = grown;
		offsets->prefix_capacity = offsets->capacity;
	}
	for (size_t i = 0; i < offsets->count; i++) {
		const struct partition *partition = &offsets->partitions[i];
		int64_t offset = commit_offset(partition);
		if (offset > partition->committed)
			offsets->prefix[used++] =
				(struct position){partition->topic, partition->partition, offset};
	}
	*out = offsets->prefix;
	*count = used;
	return STATUS_OK;
}

void offsets_committed(struct offsets *offsets, const struct position *positions, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct partition *partition = find(offsets, positions[i].topic, positions[i].partition);
		if (!partition || positions[i].offset <= partition->committed)
			continue;
		partition->committed = positions[i].offset;
		if (partition->next < partition->committed)
			partition->next = partition->committed;
		while (partition->count > 0 && entry(partition, 0)->offset < partition->committed) {
			offsets->unanswered -= !entry(partition, 0)->answered;
			partition->answered -= partition->answered > 0;
			partition->first = (partition->first + 1) & (partition->capacity - 1);
			partition->count--;
			partition->sequence++;
			offsets->pending--;
		}
		while (partition->answered < partition->count &&
		       entry(partition, partition->answered)->answered)
			partition->answered++;
		while (partition->minima_count > 0 && minimum(partition, 0)->sequence < partition->sequence) {
			partition->minima_first =
				(partition->minima_first + 1) & (partition->minima_capacity - 1);
			partition->minima_count--;
		}
	}
}

int64_t offsets_oldest_ms(const struct offsets *offsets)
{
	int64_t oldest = INT64_MAX;

	for (size_t i = 0; i < offsets->count; i++) {
		const struct partition *partition = &offsets->partitions[i];
		if (partition->minima_count > 0 && minimum(partition, 0)->event_time_ms < oldest)
			oldest = minimum(partition, 0)->event_time_ms;
	}
	return oldest;
}

size_t offsets_pending(const struct offsets *offsets)
{
	return offsets->pending;
}

size_t offsets_unanswered(const struct offsets *offsets)
{
	return offsets->unanswered;
}

int64_t offsets_next(const struct offsets *offsets, enum topic topic, int32_t number)
{
	const struct partition *partition = find(offsets, topic, number);
	return partition ? commit_offset(partition) : -1;
}
