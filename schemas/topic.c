/* topic.c - default topic names and which record each topic holds. Pure, any thread. */
#include "schemas/topic.h"

const struct topic_names topic_names_default = {
	.name = {
		[TOPIC_ITEMS] = "items",
		[TOPIC_IMPRESSIONS] = "impressions",
		[TOPIC_INTERACTIONS] = "interactions",
		[TOPIC_SCORING_REQUESTS] = "scoring-requests",
		[TOPIC_PREDICTIONS] = "predictions",
		[TOPIC_DEAD_LETTERS] = "dead-letters",
	},
};

/* The two enums list the same six in the same order; what keeps them so is this file. */
_Static_assert((int)TOPIC_ITEMS == (int)RECORD_ITEM && (int)TOPIC_IMPRESSIONS == (int)RECORD_IMPRESSION &&
	       (int)TOPIC_INTERACTIONS == (int)RECORD_INTERACTION &&
	       (int)TOPIC_SCORING_REQUESTS == (int)RECORD_SCORING_REQUEST &&
	       (int)TOPIC_PREDICTIONS == (int)RECORD_PREDICTION &&
	       (int)TOPIC_DEAD_LETTERS == (int)RECORD_DEAD_LETTER && (int)TOPICS == (int)RECORD_TYPES,
	       "a topic holds the record of the same number");

enum record_type topic_record_type(enum topic topic)
{
	return (enum record_type)topic;
}

enum topic topic_of_record_type(enum record_type type)
{
	return (enum topic)type;
}
