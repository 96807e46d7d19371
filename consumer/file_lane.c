/* file_lane.c - reading ahead in one container file. Invariant: chunk->live counts the records that
 * are in the merge or read ahead; a chunk with none is in the pool. Called by the file source, from its
 * thread. */
#include "consumer/file_lane.h"

#include "schemas/event_size.h"

#include <inttypes.h>
#include <stdio.h>

/* A chunk fills about one block of its arena; an arena that had to grow much is not kept. */
enum { CHUNK_BYTES = 56 * 1024, ARENA_KEPT_BYTES = 1 << 20, POOL_CHUNKS_MAX = 16 };

static void chunk_free(struct chunk *chunk)
{
	arena_destroy(chunk->arena);
	mem_free(chunk);
}

static struct chunk *chunk_get(struct chunk_pool *pool)
{
	struct chunk *chunk = pool->free;

	if (chunk) {
		pool->free = chunk->next;
		pool->free_count--;
	} else {
		chunk = mem_alloc(sizeof *chunk);
		if (!chunk)
			return NULL;
		chunk->arena = arena_create(pool->arena_bytes_max);
		if (!chunk->arena) {
			mem_free(chunk);
			return NULL;
		}
	}
	chunk->live = chunk->count = 0;
	return chunk;
}

static void chunk_put(struct chunk_pool *pool, struct chunk *chunk)
{
	if (pool->free_count >= POOL_CHUNKS_MAX || arena_used(chunk->arena) > ARENA_KEPT_BYTES) {
		chunk_free(chunk);
		return;
	}
	arena_reset(chunk->arena);
	chunk->next = pool->free;
	pool->free = chunk;
	pool->free_count++;
}

void chunk_release(struct chunk_pool *pool, struct held_record *record)
{
	struct chunk *chunk = record->chunk;

	if (--chunk->live == 0)
		chunk_put(pool, chunk);
}

void chunk_pool_free(struct chunk_pool *pool)
{
	for (struct chunk *chunk = pool->free, *next; chunk; chunk = next) {
		next = chunk->next;
		chunk_free(chunk);
	}
	pool->free = NULL;
	pool->free_count = 0;
}

enum status file_lane_open(struct file_lane *lane, struct error *error)
{
	container_reader_close(lane->reader);
	lane->reader = NULL;
	lane->next_record = 0;
	lane->skip = 0;
	lane->ended = false;
	lane->broken = STATUS_OK;
	lane->newest_ms = INT64_MIN;
	return container_reader_open(lane->path, topic_record_type(lane->topic), &lane->reader, error);
}

void file_lane_close(struct file_lane *lane, struct chunk_pool *pool)
{
	container_reader_close(lane->reader);
	lane->reader = NULL;
	if (lane->ahead)
		chunk_put(pool, lane->ahead);
	lane->ahead = NULL;
}

static void make_bad(struct held_record *record, struct arena *arena, enum status status, const char *reason,
		     const char *text)
{
	record->status = status;
	record->reason = reason;
	if (!text_copy(arena, text_of(text), &record->error))
		record->error = (struct text_view){NULL, 0};
}

/* The bytes of a record that decodes but may not be used, for the dead letter. */
static void keep_value(struct held_record *record, struct arena *arena)
{
	struct byte_buffer buffer = {.bytes_max = record->bytes};
	struct error ignored = {0};

	if (codec_encode(&record->event, &buffer, &ignored) != STATUS_OK ||
	    !text_copy(arena, (struct text_view){buffer.bytes, buffer.size}, &record->value))
		record->value = (struct text_view){NULL, 0};
	byte_buffer_free(&buffer);
}

static void judge(struct file_lane *lane, struct held_record *record, struct arena *arena,
		  const struct event_limits *limits)
{
	char text[ERROR_TEXT_BYTES];
	const char *reason;

	record->key = event_key(&record->event);
	record->bytes = event_encoded_bytes(&record->event);
	if (record->bytes > limits->record_bytes_max) {
		snprintf(text, sizeof text, "%s: record %" PRId64 " takes %zu bytes, the limit is %zu",
			 lane->path, lane->next_record, record->bytes, limits->record_bytes_max);
		make_bad(record, arena, STATUS_LIMIT, "too-large", text);
	} else if ((reason = event_malformed(&record->event, limits)) != NULL) {
		snprintf(text, sizeof text, "%s: record %" PRId64 " is malformed: %s", lane->path,
			 lane->next_record, reason);
		make_bad(record, arena, STATUS_BAD_RECORD, reason, text);
		keep_value(record, arena);
	} else if (event_time_ms(&record->event) > lane->newest_ms) {
		lane->newest_ms = event_time_ms(&record->event);
	}
}

static void break_lane(struct file_lane *lane, enum status status, const struct error *why)
{
	lane->broken = status;
	lane->error = *why;
	error_prefix(&lane->error, "after %" PRId64 " records", lane->next_record);
}

/* One record into the chunk; nothing when it is passed over, the file ends or breaks. */
static void read_one(struct file_lane *lane, struct chunk *chunk, const struct event_limits *limits)
{
	struct held_record *record = &chunk->records[chunk->count];
	struct error why = {0};
	bool end = false;

	*record = (struct held_record){
		.chunk = chunk, .position = {lane->topic, lane->number, lane->next_record}};
	enum status status = container_read(lane->reader, chunk->arena, &record->event, &end, &why);
	if (status == STATUS_OK && end) {
		lane->ended = true;
		if (lane->next_record < lane->skip) {
			error_set(&why, STATUS_CONFIG,
				  "%s: has %" PRId64 " records, but the state has read %" PRId64
				  " of it; the state belongs to other files: use another state folder",
				  lane->path, lane->next_record, lane->skip);
			lane->broken = STATUS_CONFIG;
			lane->error = why;
		}
		return;
	}
	if (status != STATUS_OK && status_class(status) != STATUS_CLASS_BAD) {
		break_lane(lane, status, &why);
		return;
	}
	if (status == STATUS_OK)
		judge(lane, record, chunk->arena, limits);
	else
		make_bad(record, chunk->arena, status,
			 status == STATUS_LIMIT ? "over-limit" : "undecodable", why.text);
	if (lane->next_record++ >= lane->skip)
		chunk->count++;
}

enum status file_lane_fill(struct file_lane *lane, struct chunk_pool *pool, const struct event_limits *limits,
			   struct error *error)
{
	struct chunk *chunk;

	if (lane->ahead || lane->ended || lane->broken != STATUS_OK)
		return STATUS_OK;
	chunk = chunk_get(pool);
	if (!chunk)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory to read ahead", lane->path);
	while (chunk->count < CHUNK_RECORDS && arena_used(chunk->arena) < CHUNK_BYTES && !lane->ended &&
	       lane->broken == STATUS_OK) {
		read_one(lane, chunk, limits);
		if (chunk->count == 0)
			arena_reset(chunk->arena);
	}
	if (chunk->count == 0)
		chunk_put(pool, chunk);
	else
		lane->ahead = chunk;
	return STATUS_OK;
}

struct chunk *file_lane_take(struct file_lane *lane)
{
	struct chunk *chunk = lane->ahead;

	lane->ahead = NULL;
	if (chunk)
		chunk->live = chunk->count;
	return chunk;
}
