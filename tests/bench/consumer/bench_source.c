/* bench_source.c - how fast the total order is made: the merge alone, and a folder of container files
 * through the file source. What comes out is checked before it is timed.
 *
 *     bench_source [RECORDS]          (default 1,000,000) */
#include "base/clock.h"
#include "consumer/merge.h"
#include "consumer/source.h"
#include "schemas/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LANES = 24, LOOK_AHEAD = 256 };

static void fail(const char *what, const struct error *error)
{
	fprintf(stderr, "bench_source: %s: %s\n", what, error->text);
	exit(1);
}

/* `same` records share each time. */
static void bench_merge(int64_t records, int64_t same)
{
	struct merge *merge;
	struct error error = {0};
	uint32_t lanes[LANES];
	int64_t next[LANES], out = 0, last = -1;
	bool ordered = true;

	if (merge_create(0, NULL, NULL, &merge, &error) != STATUS_OK)
		fail("create", &error);
	for (int i = 0; i < LANES; i++) {
		next[i] = i;
		if (merge_lane_add(merge, (enum topic)(i % 3), i, &lanes[i], &error) != STATUS_OK)
			fail("lane", &error);
	}
	int64_t begun = clock_steady_ns();
	for (;;) {
		struct merge_entry entry;
		enum merge_result result;
		if (merge_pop(merge, &entry, &result, &error) != STATUS_OK)
			fail("pop", &error);
		if (result == MERGE_END)
			break;
		if (result == MERGE_RECORD) {
			ordered = ordered && entry.event_time_ms >= last;
			last = entry.event_time_ms;
			out++;
			continue;
		}
		for (int i = 0; i < LANES; i++) {
			if (!merge_lane_blocks(merge, lanes[i]))
				continue;
			for (int n = 0; n < LOOK_AHEAD && next[i] < records; n++, next[i] += LANES) {
				struct merge_entry pushed = {.event_time_ms = next[i] / same,
							     .position = {.offset = next[i]},
							     .key = {"user", 4},
							     .bytes = 50};
				if (merge_push(merge, lanes[i], &pushed, &error) != STATUS_OK)
					fail("push", &error);
			}
			if (next[i] >= records)
				merge_lane_set_state(merge, lanes[i], MERGE_LANE_ENDED);
		}
	}
	double seconds = (double)(clock_steady_ns() - begun) / 1e9;
	if (!ordered || out != records)
		fail("the order is wrong", &error);
	printf("merge, %d lanes, %lld records of one time: %.2f M records/s\n", LANES, (long long)same,
	       (double)records / seconds / 1e6);
	merge_destroy(merge);
}

static void write_file(const char *path, enum record_type type, int64_t records)
{
	struct container_writer *writer;
	struct error error = {0};
	static const struct text_view candidates[8] = {{"item1", 5}, {"item2", 5}, {"item3", 5}, {"item4", 5},
						       {"item5", 5}, {"item6", 5}, {"item7", 5}, {"item8", 5}};

	if (container_writer_create(path, type, CONTAINER_ZSTANDARD, NULL, 0, true, &writer, &error) != STATUS_OK)
		fail(path, &error);
	for (int64_t i = 0; i < records; i++) {
		char user[32];
		struct text_view id = {user, (size_t)snprintf(user, sizeof user, "user%lld",
							      (long long)(i * 7919 % 20000))};
		struct event event = {.type = type};
		if (type == RECORD_IMPRESSION)
			event.impression = (struct impression_event){id, id, candidates, 8, i * 10, false, 0};
		else
			event.interaction = (struct interaction_event){
				id, candidates[i % 8], KIND_RATE, true, 4, {NULL, 0}, i};
		if (container_write(writer, &event, &error) != STATUS_OK)
			fail(path, &error);
	}
	if (container_writer_close(&writer, &error) != STATUS_OK)
		fail(path, &error);
}

static void bench_file(int64_t records)
{
	char folder[] = "/tmp/bench_source-XXXXXX", interactions[64], impressions[64];
	struct arena *arena = arena_create(64 << 20);
	struct source *source;
	struct error error = {0};
	struct source_batch batch = {0};
	int64_t out = 0, last = -1;

	if (!mkdtemp(folder))
		exit(1);
	snprintf(interactions, sizeof interactions, "%s/interactions.avro", folder);
	snprintf(impressions, sizeof impressions, "%s/impressions.avro", folder);
	write_file(interactions, RECORD_INTERACTION, records);
	write_file(impressions, RECORD_IMPRESSION, records / 10);
	struct source_file_options options = {
		.folder = folder,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
		.limits = event_limits_default,
	};
	int64_t begun = clock_steady_ns();
	if (source_file_create(&options, &source, &error) != STATUS_OK ||
	    source->class->start(source, NULL, 0, INT64_MIN, &error) != STATUS_OK)
		fail("source", &error);
	while (!batch.end) {
		arena_reset(arena);
		if (source->class->poll(source, 1000, 0, arena, &batch, &error) != STATUS_OK)
			fail("poll", &error);
		for (size_t i = 0; i < batch.count; i++, out++) {
			int64_t time = event_time_ms(&batch.records[i].event);
			if (time < last || batch.records[i].status != STATUS_OK)
				fail("the order is wrong", &error);
			last = time;
		}
	}
	double seconds = (double)(clock_steady_ns() - begun) / 1e9;
	if (out != records + records / 10)
		fail("records are missing", &error);
	printf("file source, zstandard, 10 interactions to an impression of 8: %.2f M records/s\n",
	       (double)out / seconds / 1e6);
	source->class->destroy(source);
	arena_destroy(arena);
	unlink(interactions);
	unlink(impressions);
	rmdir(folder);
}

int main(int argc, char **argv)
{
	int64_t records = argc > 1 ? strtoll(argv[1], NULL, 10) : 1000000;

	if (records < 1)
		return 64;
	bench_merge(records, 1);
	bench_merge(records, 1000);
	bench_file(records);
	return 0;
}
