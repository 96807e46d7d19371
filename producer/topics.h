/* topics.h - creates the topics of the stream, and says how existing ones differ from what it needs.
 * Blocks; any thread. */
#ifndef EXITPOLL_PRODUCER_TOPICS_H
#define EXITPOLL_PRODUCER_TOPICS_H

#include "base/status.h"
#include "schemas/kafka_settings.h"
#include "schemas/topic.h"

struct topics_options {
	const char *brokers;
	const struct kafka_setting *settings;   /* [settings_count] */
	size_t settings_count;
	struct topic_names topics;
	bool wanted[TOPICS];                    /* which to create or check */
	int32_t partitions;                     /* 0: 8 */
	int replication_factor;                 /* 0: the broker's default */
	size_t record_bytes_max;
	int64_t timeout_ms;                     /* 0: 30,000 */
};

enum topic_finding_kind {
	TOPIC_FINDING_CREATED,
	TOPIC_FINDING_EXISTS,           /* create: was there already; its settings were not touched */
	TOPIC_FINDING_GOOD,             /* check: nothing to say */
	TOPIC_FINDING_MISSING,
	TOPIC_FINDING_NOTE,             /* differs, works */
	TOPIC_FINDING_WRONG,            /* differs, breaks a promise */
};

struct topic_finding {
	enum topic topic;
	enum topic_finding_kind kind;
	char setting[32];               /* "cleanup.policy", "partitions"; empty: the topic as a whole */
	char wanted[64];
	char actual[64];
	const char *why;                /* why it matters; static, may be NULL */
};

enum { TOPIC_FINDINGS_MAX = TOPICS * 8 };

struct topic_findings {
	struct topic_finding findings[TOPIC_FINDINGS_MAX];
	size_t count;
	size_t wrong;                   /* how many are MISSING or WRONG */
};

/* items compacted, interactions kept for ever, message sizes for the record limit. Topics that exist are
 * left alone and checked. STATUS_UNAVAILABLE: no broker answers; NO_PERMISSION; CONFIG. */
enum status topics_create(const struct topics_options *options, struct topic_findings *out,
			  struct error *error);
enum status topics_check(const struct topics_options *options, struct topic_findings *out,
			 struct error *error);

const char *topic_finding_kind_name(enum topic_finding_kind kind);      /* "created", "wrong", ... */

#endif
