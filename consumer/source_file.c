/* source_file.c - container files as a source: one lane per file, merged into the total order.
 *
 * Reads ahead one chunk per file, so that memory depends on the number of files and the size of the
 * largest group, not on their length. A file that breaks off early ends the run, but not before all
 * that is certain was delivered: everything up to the time of the last record it gave. Files are never
 * committed: what was answered counts once the run has ended. Called by the pipeline, from one thread. */
#include "consumer/source.h"

#include "consumer/event_copy.h"
#include "consumer/file_lane.h"
#include "consumer/folder.h"
#include "consumer/merge.h"


/* Decoded structs take up to 16 times the bytes of their encoding, twice that while an array grows. */
enum { ARENA_FACTOR = 40, ARENA_SPARE = 1 << 20 };

struct source_file {
	struct source base;
	struct source_file_options options;
	struct file_lane *lanes;        /* [lanes_count], by topic and number */
	size_t lanes_count;
	size_t lanes_capacity;
	struct chunk_pool pool;
	struct merge *merge;
	struct position *positions;     /* [lanes_count]: next of items and interactions */
	size_t positions_count;
	bool started;
	bool ended;                     /* everything was delivered */
	bool has_pending;               /* popped, not yet delivered */
	struct merge_entry pending;
	const struct file_lane *broken; /* the lane whose break comes first, if any */
	int64_t first_impression_ms;    /* INT64_MAX: none */
};

static void release_payload(void *context, void *payload)
{
	chunk_release(context, payload);
}

static struct source_file *source_of(struct source *source)
{
	return (struct source_file *)source;
}

static void destroy(struct source *source)
{
	struct source_file *file = source_of(source);

	if (!file)
		return;
	if (file->has_pending)
		chunk_release(&file->pool, file->pending.payload);
	merge_destroy(file->merge);
	for (size_t i = 0; i < file->lanes_count; i++) {
		file_lane_close(&file->lanes[i], &file->pool);
		mem_free(file->lanes[i].path);
	}
	chunk_pool_free(&file->pool);
	mem_free(file->lanes);
	mem_free(file->positions);
	mem_free(file);
}

static enum status join(struct source *source, int64_t *oldest_unanswered_ms, struct error *error)
{
	struct source_file *file = source_of(source);

	for (size_t i = 0; i < file->lanes_count; i++) {
		struct file_lane *lane = &file->lanes[i];
		enum status status = file_lane_fill(lane, &file->pool, &file->options.limits, error);
		if (status != STATUS_OK)
			return status;
		if (lane->topic != TOPIC_IMPRESSIONS || !lane->ahead)
			continue;
		for (size_t j = 0; j < lane->ahead->count; j++) {
			const struct held_record *record = &lane->ahead->records[j];
			if (record->status == STATUS_OK &&
			    record->event.impression.event_time_ms < file->first_impression_ms)
				file->first_impression_ms = record->event.impression.event_time_ms;
		}
	}
	*oldest_unanswered_ms = file->first_impression_ms;
	return STATUS_OK;
}

static enum status start(struct source *source, const struct position *positions, size_t count,
			 int64_t clock_ms, struct error *error)
{
	struct source_file *file = source_of(source);

	if (file->has_pending)
		chunk_release(&file->pool, file->pending.payload);
	file->has_pending = file->ended = false;
	file->broken = NULL;
	merge_clear(file->merge, clock_ms);
	for (size_t i = 0; i < file->lanes_count; i++) {
		struct file_lane *lane = &file->lanes[i];
		int64_t skip = 0;
		for (size_t j = 0; j < count; j++)
			if (positions[j].topic == lane->topic && positions[j].partition == lane->number &&
			    (lane->topic == TOPIC_ITEMS || lane->topic == TOPIC_INTERACTIONS))
				skip = positions[j].offset;
		/* What join() read ahead serves a start from the beginning. */
		if (file->started || skip > 0) {
			file_lane_close(lane, &file->pool);
			enum status status = file_lane_open(lane, error);
			if (status != STATUS_OK)
				return status;
			lane->skip = skip;
		}
	}
	file->positions_count = 0;
	for (size_t i = 0; i < file->lanes_count; i++) {
		const struct file_lane *lane = &file->lanes[i];
		if (lane->topic == TOPIC_ITEMS || lane->topic == TOPIC_INTERACTIONS)
			file->positions[file->positions_count++] =
				(struct position){lane->topic, lane->number, lane->skip};
	}
	file->started = true;
	return STATUS_OK;
}

static enum status push_chunk(struct source_file *file, struct file_lane *lane, struct error *error)
{
	struct chunk *chunk = file_lane_take(lane);
	size_t count = chunk ? chunk->count : 0;

	for (size_t i = 0; i < count; i++) {
		struct held_record *record = &chunk->records[i];
		struct merge_entry entry = {
			.event_time_ms = record->status == STATUS_OK ? event_time_ms(&record->event) : 0,
			.position = record->position,
			.key = record->key,
			.bytes = record->bytes,
			.bad = record->status != STATUS_OK,
			.payload = record,
		};
		enum status status = merge_push(file->merge, lane->merge_lane, &entry, error);
		if (status != STATUS_OK) {
			for (; i < count; i++)
				chunk_release(&file->pool, &chunk->records[i]);
			return status;
		}
	}
	return STATUS_OK;
}

/* Feeds every lane that the merge waits for. */
static enum status refill(struct source_file *file, struct error *error)
{
	for (size_t i = 0; i < file->lanes_count; i++) {
		struct file_lane *lane = &file->lanes[i];
		if (!merge_lane_blocks(file->merge, lane->merge_lane))
			continue;
		enum status status = file_lane_fill(lane, &file->pool, &file->options.limits, error);
		if (status == STATUS_OK)
			status = push_chunk(file, lane, error);
		if (status != STATUS_OK)
			return status;
		if (lane->ended || lane->broken != STATUS_OK)
			merge_lane_set_state(file->merge, lane->merge_lane, MERGE_LANE_ENDED);
		if (lane->broken != STATUS_OK &&
		    (!file->broken || lane->newest_ms < file->broken->newest_ms))
			file->broken = lane;
	}
	return STATUS_OK;
}

/* Makes `pending` the next entry. False: there is none (the end, or not beyond a break). */
static enum status next_pending(struct source_file *file, bool *more, struct error *error)
{
	*more = file->has_pending;
	while (!file->has_pending) {
		enum merge_result result;
		enum status status = merge_pop(file->merge, &file->pending, &result, error);
		if (status == STATUS_OK && result == MERGE_BLOCKED)
			status = refill(file, error);
		if (status != STATUS_OK)
			return status;
		if (result == MERGE_END || result == MERGE_IDLE) {
			file->ended = file->broken == NULL;
			return STATUS_OK;
		}
		*more = file->has_pending = result == MERGE_RECORD;
	}
	if (file->broken && !file->pending.bad && !file->pending.late &&
	    file->pending.event_time_ms > file->broken->newest_ms)
		*more = false;
	return STATUS_OK;
}

static bool deliver(struct source_file *file, struct arena *arena, struct record *out)
{
	struct held_record *held = file->pending.payload;
	struct event whole = {.type = held->event.type};
	struct text_view error = {NULL, 0}, key = {NULL, 0}, value = {NULL, 0};

	if (held->status == STATUS_OK) {
		if (!event_copy(arena, &held->event, &whole))
			return false;
		key = event_key(&whole);
	} else if (!text_copy(arena, held->error, &error) || !text_copy(arena, held->key, &key) ||
		   !text_copy(arena, held->value, &value)) {
		return false;
	}
	*out = (struct record){
		.position = held->position,
		.status = held->status,
		.reason = held->reason,
		.error = error,
		.event = whole,
		.late = file->pending.late,
		.key = key,
		.value = value,
	};
	for (size_t i = 0; i < file->positions_count; i++)
		if (file->positions[i].topic == held->position.topic &&
		    file->positions[i].partition == held->position.partition &&
		    file->positions[i].offset <= held->position.offset)
			file->positions[i].offset = held->position.offset + 1;
	chunk_release(&file->pool, held);
	file->has_pending = false;
	return true;
}

static enum status poll_records(struct source *source, size_t records_max, int64_t timeout_ms,
				struct arena *arena, struct source_batch *batch, struct error *error)
{
	struct source_file *file = source_of(source);
	struct record *records;
	size_t count = 0;
	bool more = true;

	(void)timeout_ms;
	if (!file->started)
		return error_set(error, STATUS_USAGE, "file source: poll before start");
	records = arena_array(arena, records_max, sizeof *records);
	if (!records && records_max > 0)
		return error_set(error, STATUS_NO_MEMORY,
				 "file source: the batch's arena does not hold %zu records", records_max);
	while (count < records_max) {
		enum status status = next_pending(file, &more, error);
		if (status != STATUS_OK)
			return status;
		if (!more)
			break;
		if (!deliver(file, arena, &records[count])) {
			if (count == 0)
				return error_set(error, STATUS_NO_MEMORY,
						 "file source: the batch's arena does not hold one record");
			break;
		}
		count++;
	}
	if (count == 0 && !more && file->broken) {
		if (error)
			*error = file->broken->error;
		return file->broken->broken;
	}
	*batch = (struct source_batch){
		.records = records,
		.count = count,
		.cut = merge_cut(file->merge) && !file->has_pending,
		.end = file->ended,
		.backfill = true,
	};
	return STATUS_OK;
}

static void answered(struct source *source, struct position position)
{
	(void)source;
	(void)position;
}

static enum status offsets(struct source *source, struct commit_offsets *out, struct error *error)
{
	(void)source;
	(void)error;
	*out = (struct commit_offsets){0};
	return STATUS_OK;
}

static enum status resume_from_committed(struct source *source, struct error *error)
{
	(void)source;
	return error_set(error, STATUS_USAGE, "file source: files have no committed offsets to go back to");
}

static enum status positions(struct source *source, const struct position **out, size_t *count,
			     struct error *error)
{
	struct source_file *file = source_of(source);

	if (!file->started || !merge_cut(file->merge) || file->has_pending)
		return error_set(error, STATUS_USAGE, "file source: positions asked for within a group");
	*out = file->positions;
	*count = file->positions_count;
	return STATUS_OK;
}

static int64_t oldest_unanswered_ms(const struct source *source)
{
	const struct source_file *file = (const struct source_file *)source;
	return file->ended ? INT64_MAX : file->first_impression_ms;
}

static void get_stats(const struct source *base, struct source_stats *out)
{
	const struct merge *merge = ((const struct source_file *)base)->merge;

	*out = (struct source_stats){merge_records(merge), merge_bytes(merge), merge_overfull(merge)};
}

static const struct source_class file_class = {
	.name = "file",
	.join = join,
	.start = start,
	.poll = poll_records,
	.answered = answered,
	.offsets = offsets,
	.resume_from_committed = resume_from_committed,
	.positions = positions,
	.oldest_unanswered_ms = oldest_unanswered_ms,
	.get_stats = get_stats,
	.destroy = destroy,
};

/* Adds the files of one topic, opened, with a lane each. */
static enum status add_topic(struct source_file *file, enum topic topic, struct error *error)
{
	struct folder_files files = {0};
	const char *name = topic_names_default.name[topic];
	enum status status = folder_list(file->options.folder, name, &files, error);

	if (status == STATUS_OK && files.count == 0 && topic != TOPIC_ITEMS)
		status = error_set(error, STATUS_NO_INPUT,
				   "%s: holds neither %s.avro nor %s-0001.avro; give the folder that `exitpoll "
				   "import` or a run has written",
				   file->options.folder, name, name);
	for (size_t i = 0; i < files.count && status == STATUS_OK; i++) {
		if (!mem_reserve((void **)&file->lanes, &file->lanes_capacity, file->lanes_count,
				 MERGE_LANES_MAX, sizeof *file->lanes)) {
			status = error_set(error, STATUS_LIMIT, "%s: too many files (at most %d)",
					   file->options.folder, MERGE_LANES_MAX);
			break;
		}
		struct file_lane *lane = &file->lanes[file->lanes_count++];
		*lane = (struct file_lane){
			.path = files.files[i].path, .topic = topic, .number = files.files[i].number};
		files.files[i].path = NULL;
		status = file_lane_open(lane, error);
		if (status == STATUS_OK)
			status = merge_lane_add(file->merge, topic, lane->number, &lane->merge_lane, error);
	}
	folder_files_free(&files);
	return status;
}

enum status source_file_create(const struct source_file_options *options, struct source **out,
			       struct error *error)
{
	enum status status = STATUS_OK;
	struct source_file *file = mem_alloc_zero(1, sizeof *file);

	if (!file)
		return error_set(error, STATUS_NO_MEMORY, "file source: no memory");
	file->base.class = &file_class;
	file->options = *options;
	file->first_impression_ms = INT64_MAX;
	file->pool.arena_bytes_max = options->limits.record_bytes_max > SIZE_MAX / (2 * ARENA_FACTOR)
					     ? SIZE_MAX / 2
					     : options->limits.record_bytes_max * ARENA_FACTOR + ARENA_SPARE;
	status = merge_create(options->group_records_max, release_payload, &file->pool, &file->merge, error);
	for (int topic = 0; topic < TOPICS && status == STATUS_OK; topic++)
		if (options->topics[topic])
			status = add_topic(file, (enum topic)topic, error);
	if (status == STATUS_OK) {
		file->positions = mem_alloc_zero(file->lanes_count, sizeof *file->positions);
		if (!file->positions)
			status = error_set(error, STATUS_NO_MEMORY, "file source: no memory");
	}
	if (status != STATUS_OK) {
		destroy(&file->base);
		return status;
	}
	file->options.folder = NULL;    /* was only borrowed for the call */
	*out = &file->base;
	return STATUS_OK;
}
