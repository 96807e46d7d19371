/* producer_topics.c - topic handles of a producer, primed with their metadata.
 * Called by transactional.c and idempotent.c, one thread at a time. */
#include "producer/producer_topics.h"

enum { METADATA_MS = 2000 };

rd_kafka_topic_t *producer_topic(struct producer_topics *topics, rd_kafka_t *client, const char *name)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *handle;

	for (int i = 0; i < topics->count; i++)
		if (topics->names[i] == name)
			return topics->handles[i];
	if (topics->count == PRODUCER_TOPICS_MAX)
		return NULL;
	handle = rd_kafka_topic_new(client, name, NULL);
	if (!handle)
		return NULL;
	/* A failure here shows again, with its reason, when the message is delivered. */
	if (rd_kafka_metadata(client, 0, handle, &metadata, METADATA_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
		rd_kafka_metadata_destroy(metadata);
	topics->names[topics->count] = name;
	topics->handles[topics->count++] = handle;
	return handle;
}

void producer_topics_release(struct producer_topics *topics)
{
	for (int i = 0; i < topics->count; i++)
		rd_kafka_topic_destroy(topics->handles[i]);
	topics->count = 0;
}
