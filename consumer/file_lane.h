/* file_lane.h - one container file, read ahead in chunks, as a lane of the total order.
 *
 * A chunk holds records and the arena they live in; it goes back to its pool when the last of its
 * records was handed on. What the file lacks (a damaged block, a malformed or oversized record) is a bad
 * record in its place; what ends it early (a truncated tail, a bad sync marker) breaks the lane. One
 * thread. */
#ifndef EXITPOLL_CONSUMER_FILE_LANE_H
#define EXITPOLL_CONSUMER_FILE_LANE_H

#include "schemas/container.h"
#include "schemas/topic.h"

enum { CHUNK_RECORDS = 256 };

struct held_record {
	struct chunk *chunk;
	struct position position;
	enum status status;             /* OK, or of class BAD */
	const char *reason;
	struct text_view error;
	struct text_view key;
	struct text_view value;
	struct event event;             /* OK */
	size_t bytes;                   /* encoded */
};

struct chunk {
	struct arena *arena;
	struct chunk *next;             /* free list */
	size_t live;                    /* records not yet released */
	size_t count;
	struct held_record records[CHUNK_RECORDS];
};

struct chunk_pool {
	struct chunk *free;
	size_t free_count;
	size_t arena_bytes_max;
};

struct file_lane {
	char *path;                     /* owned */
	enum topic topic;
	int32_t number;
	uint32_t merge_lane;
	struct container_reader *reader;
	int64_t next_record;            /* number of the next record in the file, bad ones counted */
	int64_t skip;                   /* records below this are passed over */
	struct chunk *ahead;            /* read but not yet taken */
	bool ended;
	enum status broken;             /* else OK: why no more can be read */
	struct error error;
	int64_t newest_ms;              /* greatest time read; INT64_MIN: none */
};

/* A release of one record of a chunk; the last one gives the chunk back. */
void chunk_release(struct chunk_pool *pool, struct held_record *record);
void chunk_pool_free(struct chunk_pool *pool);

/* (Re)opens the file at its first record. */
enum status file_lane_open(struct file_lane *lane, struct error *error);
/* Closes the file and drops what was read ahead. */
void file_lane_close(struct file_lane *lane, struct chunk_pool *pool);

/* Reads ahead, unless it was done. Then lane->ahead is a chunk of at least one record, or the lane has
 * ended or is broken (a chunk may come with the end). STATUS_NO_MEMORY only. */
enum status file_lane_fill(struct file_lane *lane, struct chunk_pool *pool, const struct event_limits *limits,
			   struct error *error);
/* The chunk read ahead, now the caller's (NULL: none); all its records are live. */
struct chunk *file_lane_take(struct file_lane *lane);

#endif
