/* event.h - the records of the stream as C structs: what every stage passes to the next.
 *
 * Decoders write straight into these, encoders read straight from them, and the seam inside one
 * process passes the same scoring_request as the wire does. All texts and arrays are borrowed from
 * the arena (or mapping) of the batch that holds the event: nothing here owns memory. Times are Unix
 * milliseconds. Absent optional texts have bytes == NULL. */
#ifndef EXITPOLL_SCHEMAS_EVENT_H
#define EXITPOLL_SCHEMAS_EVENT_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Users and items inside the process: indexes given out in order of arrival. They decide nothing that
 * anyone can see (ties are broken by id bytes); two types, so that swapping the sides of the bipartite
 * graph does not compile. */
struct user_id { uint32_t v; };
struct item_id { uint32_t v; };

enum record_type {
	RECORD_ITEM,
	RECORD_IMPRESSION,
	RECORD_INTERACTION,
	RECORD_SCORING_REQUEST,
	RECORD_PREDICTION,
	RECORD_DEAD_LETTER,
};
enum { RECORD_TYPES = 6 };

/* Order is part of the format: it decides between two interactions of one pair and one time. */
enum interaction_kind { KIND_VIEW, KIND_CLICK, KIND_RATE, KIND_PURCHASE, KIND_REMOVE };
enum { INTERACTION_KINDS = 5 };

struct attribute {
	struct text_view name;
	struct text_view value;         /* several values are separated by '|' */
};

/* A null value on the wire (tombstone of the compacted topic) arrives with deleted = true and item_id
 * from the key; its event_time_ms is the message's timestamp. */
struct item_event {
	struct text_view item_id;
	struct text_view title;
	const struct attribute *attributes;     /* [attributes_count] */
	size_t attributes_count;
	int64_t event_time_ms;
	bool deleted;
};

struct interaction_event {
	struct text_view user_id;
	struct text_view item_id;       /* absent only for REMOVE: erases the user */
	enum interaction_kind kind;
	bool has_rating;
	double rating;                  /* finite */
	struct text_view impression_id; /* optional */
	int64_t event_time_ms;
};

struct impression_event {
	struct text_view impression_id;
	struct text_view user_id;
	const struct text_view *candidates;     /* item ids [candidates_count]; may repeat */
	size_t candidates_count;
	int64_t event_time_ms;
	bool has_deadline;
	int64_t deadline_ms;            /* duration from event_time_ms */
};

/* One interaction of the user, or of a similar user, as the prompt shows it. */
struct history_entry {
	struct text_view item_id;
	struct text_view text;          /* title, cut to item.text_bytes_max; empty when unknown */
	enum interaction_kind kind;
	bool has_rating;
	float rating;
	int64_t event_time_ms;
};

/* A similar user. */
struct example {
	float similarity;               /* cosine */
	const struct history_entry *entries;    /* [entries_count], oldest first */
	size_t entries_count;
};

struct request_candidate {
	struct text_view item_id;
	struct text_view text;
	const float *statistics;        /* [statistics_count] of the request, order of statistics_names */
	size_t statistics_count;
};

/* Where several apply, the last in this list. */
enum prediction_status {
	PREDICTION_OK,
	PREDICTION_UNKNOWN_USER,
	PREDICTION_TRUNCATED,
	PREDICTION_DEADLINE,
	PREDICTION_LATE,
	PREDICTION_NO_CANDIDATES,
};
enum { PREDICTION_STATUSES = 6 };

struct scoring_request {
	struct text_view impression_id;
	struct text_view user_id;
	enum prediction_status status;  /* what graph-updater knows: OK, UNKNOWN_USER, TRUNCATED, LATE, NO_CANDIDATES */
	const struct history_entry *history;    /* [history_count], oldest first */
	size_t history_count;
	const struct example *examples;         /* [examples_count], most similar first */
	size_t examples_count;
	const float *user_statistics;           /* [user_statistics_count] */
	size_t user_statistics_count;
	const struct request_candidate *candidates; /* [candidates_count], in the impression's order */
	size_t candidates_count;
	int64_t graph_version;
	int64_t event_time_ms;
	bool has_deadline;
	int64_t deadline_ms;
};

struct candidate_score {
	struct text_view item_id;
	float p_click;                  /* in (0, 1) */
	int32_t exit_layer;             /* 1-based layer at which the candidate left; 0: no model ran */
	bool has_margin;
	float margin;                   /* threshold - |D - mean D| */
};

struct prediction {
	struct text_view impression_id;
	struct text_view user_id;
	const struct candidate_score *scores;   /* [scores_count], in the impression's order */
	size_t scores_count;
	struct text_view model_id;
	int64_t graph_version;
	int64_t event_time_ms;
	int64_t scored_time_ms;
	enum prediction_status status;
};

/* An input that could not be processed. On Kafka key and value are the original bytes and the rest
 * travels in headers exitpoll.topic|partition|offset|stage|reason|error; in files it is a record. */
struct dead_letter {
	struct text_view topic;
	int32_t partition;
	int64_t offset;
	struct text_view stage;         /* "graph-updater" or "scorer" */
	struct text_view reason;        /* short and countable: "truncated", "unknown-schema", ... */
	struct text_view error;         /* the sentence for a person */
	struct text_view key;           /* optional */
	struct text_view value;         /* optional */
};

struct event {
	enum record_type type;
	union {
		struct item_event item;
		struct interaction_event interaction;
		struct impression_event impression;
		struct scoring_request scoring_request;
		struct prediction prediction;
		struct dead_letter dead_letter;
	};
};

/* Limits that hold in one process as on the wire. */
struct event_limits {
	size_t record_bytes_max;        /* an encoded record; default 1 MiB - 1 KiB headroom */
	size_t id_bytes_max;            /* default 256 */
	size_t candidates_max;          /* impression.candidates_max, default 10,000 */
	size_t attributes_max;          /* default 256 */
	int64_t future_ms_max;          /* events further ahead of the wall clock are malformed; 0: any time goes */
};
extern const struct event_limits event_limits_default;

const char *record_type_name(enum record_type type);            /* "scoring_request" */
const char *interaction_kind_name(enum interaction_kind kind);  /* "RATE" */
const char *prediction_status_name(enum prediction_status status);

int64_t event_time_ms(const struct event *event);               /* dead letters: INT64_MIN */
/* user_id, or item_id for items, the original key for dead letters: the message key of section 2. */
struct text_view event_key(const struct event *event);

/* What a decoder cannot know from the bytes: ids present and within id_bytes_max, times >= 0, finite
 * ratings, an item for all kinds but REMOVE, candidates within the limit. NULL: well-formed; else the
 * short countable reason ("missing-user-id", "too-many-candidates", ...). */
const char *event_malformed(const struct event *event, const struct event_limits *limits);

#endif
