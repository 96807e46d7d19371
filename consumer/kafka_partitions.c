/* kafka_partitions.c - a list of partitions with an index by topic and number.
 *
 * Invariant: index[topic][number] is 1 + the place in the list, or 0; both change together.
 * Called by the files of the Kafka source, one thread. */
#include "consumer/kafka_partitions.h"

struct kafka_partition *kafka_partition_find(const struct kafka_partitions *partitions, enum topic topic,
					     int32_t partition)
{
	if (partition < 0 || (size_t)partition >= partitions->index_size[topic] ||
	    partitions->index[topic][partition] == 0)
		return NULL;
	return &partitions->list[partitions->index[topic][partition] - 1];
}

static bool grow_index(struct kafka_partitions *partitions, enum topic topic, int32_t partition)
{
	size_t size = partitions->index_size[topic], wanted = size ? size : 16;
	uint32_t *grown;

	while (wanted <= (size_t)partition)
		wanted *= 2;
	grown = mem_resize_array(partitions->index[topic], wanted, sizeof(*grown));
	if (!grown)
		return false;
	memset(grown + size, 0, (wanted - size) * sizeof(*grown));
	partitions->index[topic] = grown;
	partitions->index_size[topic] = wanted;
	return true;
}

enum status kafka_partition_add(struct kafka_partitions *partitions, const struct kafka_partition *partition,
				struct error *error)
{
	void *list = partitions->list;

	if (partition->partition < 0 || partition->partition >= KAFKA_PARTITIONS_MAX ||
	    partitions->count >= KAFKA_PARTITIONS_MAX)
		return error_set(error, STATUS_LIMIT, "more than %d partitions", KAFKA_PARTITIONS_MAX);
	if (kafka_partition_find(partitions, partition->topic, partition->partition))
		return error_set(error, STATUS_USAGE, "partition %d is read already", partition->partition);
	if (!mem_reserve(&list, &partitions->capacity, partitions->count, KAFKA_PARTITIONS_MAX,
			 sizeof(*partitions->list)))
		return error_set(error, STATUS_NO_MEMORY, "out of memory for partitions");
	partitions->list = list;
	if ((size_t)partition->partition >= partitions->index_size[partition->topic] &&
	    !grow_index(partitions, partition->topic, partition->partition))
		return error_set(error, STATUS_NO_MEMORY, "out of memory for partitions");
	partitions->list[partitions->count++] = *partition;
	partitions->index[partition->topic][partition->partition] = (uint32_t)partitions->count;
	return STATUS_OK;
}

void kafka_partition_remove(struct kafka_partitions *partitions, struct kafka_partition *partition)
{
	struct kafka_partition *last = &partitions->list[partitions->count - 1];
	size_t place = (size_t)(partition - partitions->list);

	partitions->index[partition->topic][partition->partition] = 0;
	if (partition != last) {
		*partition = *last;
		partitions->index[last->topic][last->partition] = (uint32_t)place + 1;
	}
	partitions->count--;
}

void kafka_partitions_free(struct kafka_partitions *partitions)
{
	mem_free(partitions->list);
	for (size_t i = 0; i < TOPICS; i++)
		mem_free(partitions->index[i]);
	*partitions = (struct kafka_partitions){0};
}
