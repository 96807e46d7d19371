/* producer_topics.h - the topics that one client produces to, made known to it before the first message.
 * One thread. */
#ifndef EXITPOLL_PRODUCER_PRODUCER_TOPICS_H
#define EXITPOLL_PRODUCER_PRODUCER_TOPICS_H

#include <librdkafka/rdkafka.h>

enum { PRODUCER_TOPICS_MAX = 8 };

struct producer_topics {
	const char *names[PRODUCER_TOPICS_MAX];         /* borrowed; compared as pointers */
	rd_kafka_topic_t *handles[PRODUCER_TOPICS_MAX];
	int count;
};

/* The handle of a topic. At first use asks the broker for its partitions (which librdkafka by itself does
 * up to a second later, and a first commit would wait for that). NULL: more than PRODUCER_TOPICS_MAX. */
rd_kafka_topic_t *producer_topic(struct producer_topics *topics, rd_kafka_t *client, const char *name);
/* Before the client is destroyed. */
void producer_topics_release(struct producer_topics *topics);

#endif
