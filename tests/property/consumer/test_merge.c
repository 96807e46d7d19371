/* test_merge.c - the total order is a function of the records: not of how they are spread over lanes,
 * nor of when they are pushed. Compared with a plain sort of all records. Seeds are printed. */
#include "consumer/merge.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RECORDS_MAX = 3000, LANES_MAX = 40 };

struct sample {
	int64_t time;
	enum topic topic;
	char key[4];
	int number;             /* place in the common list: position within the key */
};

static uint64_t random_state;

static uint64_t rnd(uint64_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % bound;
}

static int compare_samples(const void *left, const void *right)
{
	const struct sample *a = left, *b = right;
	int order;

	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	if (a->topic != b->topic)
		return a->topic < b->topic ? -1 : 1;
	order = strcmp(a->key, b->key);
	return order ? order : a->number - b->number;
}

static int compare_times(const void *left, const void *right)
{
	const struct sample *a = left, *b = right;
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	return a->number - b->number;
}

/* Records in time order, of few times and keys, so that ties abound. */
static size_t make_samples(struct sample *samples, int times, int keys)
{
	size_t count = 1 + rnd(RECORDS_MAX);

	for (size_t i = 0; i < count; i++) {
		samples[i] = (struct sample){(int64_t)rnd((uint64_t)times), (enum topic)rnd(3), "", (int)i};
		snprintf(samples[i].key, sizeof samples[i].key, "%d", (int)rnd((uint64_t)keys));
	}
	qsort(samples, count, sizeof *samples, compare_times);
	for (size_t i = 0; i < count; i++)
		samples[i].number = (int)i;
	return count;
}

static size_t lane_of(const struct sample *sample, size_t partitions)
{
	size_t hash = 5381;
	for (const char *c = sample->key; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	return (size_t)sample->topic * partitions + hash % partitions;
}

/* Spreads the samples over `partitions` lanes per topic by key, pushes them in random portions, and
 * writes the order in which they come out. */
static void run_merge(const struct sample *samples, size_t count, size_t partitions, size_t group_max,
		      const struct sample **order)
{
	struct merge *merge;
	struct error error = {0};
	uint32_t lanes[3 * LANES_MAX];
	size_t next[3 * LANES_MAX] = {0}, out = 0, popped[3 * LANES_MAX] = {0};

	ck_assert_int_eq(merge_create(group_max, NULL, NULL, &merge, &error), STATUS_OK);
	for (size_t lane = 0; lane < 3 * partitions; lane++)
		ck_assert_int_eq(merge_lane_add(merge, (enum topic)(lane / partitions),
						(int32_t)(lane % partitions), &lanes[lane], &error),
				 STATUS_OK);
	for (;;) {
		struct merge_entry entry;
		enum merge_result result;
		ck_assert_int_eq(merge_pop(merge, &entry, &result, &error), STATUS_OK);
		if (result == MERGE_END)
			break;
		if (result == MERGE_RECORD) {
			ck_assert(!entry.late);
			ck_assert(out < count);
			order[out++] = entry.payload;
			popped[lane_of(entry.payload, partitions)]++;
			continue;
		}
		ck_assert_int_eq(result, MERGE_BLOCKED);
		/* Feed some lanes, at least one that blocks. */
		size_t lane = rnd(3 * partitions);
		while (!merge_lane_blocks(merge, lanes[lane]))
			lane = (lane + 1) % (3 * partitions);
		size_t portion = 1 + rnd(20);
		while (portion-- > 0 && next[lane] < count) {
			while (next[lane] < count && lane_of(&samples[next[lane]], partitions) != lane)
				next[lane]++;
			if (next[lane] == count)
				break;
			const struct sample *sample = &samples[next[lane]++];
			struct merge_entry pushed = {.event_time_ms = sample->time,
						     .position = {.offset = sample->number},
						     .key = text_of(sample->key),
						     .bytes = 10,
						     .payload = (void *)sample};
			ck_assert_int_eq(merge_push(merge, lanes[lane], &pushed, &error), STATUS_OK);
		}
		if (next[lane] == count)
			merge_lane_set_state(merge, lanes[lane], MERGE_LANE_ENDED);
		if (merge_cut(merge) && rnd(50) == 0) {
			/* What came out is a prefix of every lane. */
			size_t seen[3 * LANES_MAX] = {0};
			for (size_t i = 0; i < out; i++)
				seen[lane_of(order[i], partitions)]++;
			for (size_t i = 0; i < 3 * partitions; i++)
				ck_assert_uint_eq(seen[i], popped[i]);
		}
	}
	ck_assert_uint_eq(out, count);
	ck_assert_uint_eq(merge_bytes(merge), 0);
	ck_assert_uint_eq(merge_records(merge), 0);
	ck_assert_uint_eq(merge_late(merge), 0);
	merge_destroy(merge);
}

START_TEST(order_is_that_of_a_sort)
{
	static struct sample samples[RECORDS_MAX], sorted[RECORDS_MAX];
	static const struct sample *order[RECORDS_MAX];

	for (int round = 0; round < 40; round++) {
		int times = 1 + (int)rnd(round % 2 ? 2000 : 5), keys = 1 + (int)rnd(30);
		size_t count = make_samples(samples, times, keys);
		memcpy(sorted, samples, count * sizeof *samples);
		qsort(sorted, count, sizeof *sorted, compare_samples);
		run_merge(samples, count, 1 + rnd(LANES_MAX), 0, order);
		for (size_t i = 0; i < count; i++)
			ck_assert_int_eq(order[i]->number, sorted[i].number);
	}
}
END_TEST

/* Beyond the limit of a group, times and topics keep their order, and what comes out depends on the
 * lanes' contents, not on the timing. */
START_TEST(small_groups_keep_times_and_topics)
{
	static struct sample samples[RECORDS_MAX];
	static const struct sample *order[RECORDS_MAX], *again[RECORDS_MAX];

	for (int round = 0; round < 20; round++) {
		size_t count = make_samples(samples, 4, 20), partitions = 1 + rnd(LANES_MAX);
		size_t group_max = 1 + rnd(50);
		run_merge(samples, count, partitions, group_max, order);
		run_merge(samples, count, partitions, group_max, again);
		ck_assert_int_eq(memcmp(order, again, count * sizeof *order), 0);
		for (size_t i = 1; i < count; i++) {
			ck_assert_int_le(order[i - 1]->time, order[i]->time);
			if (order[i - 1]->time == order[i]->time)
				ck_assert_int_le(order[i - 1]->topic, order[i]->topic);
		}
	}
}
END_TEST

/* Lanes that are in the total order themselves merge into it whatever the group limit. */
START_TEST(sorted_lanes_need_no_groups)
{
	static struct sample samples[RECORDS_MAX];
	static const struct sample *order[RECORDS_MAX];

	for (int round = 0; round < 15; round++) {
		size_t count = make_samples(samples, 5, 20);
		qsort(samples, count, sizeof *samples, compare_samples);
		for (size_t i = 0; i < count; i++)
			samples[i].number = (int)i;
		run_merge(samples, count, 1 + rnd(LANES_MAX), 1 + rnd(10), order);
		for (size_t i = 0; i < count; i++)
			ck_assert_int_eq(order[i]->number, (int)i);
	}
}
END_TEST

/* Random states, bad entries, removals and clears: nothing is lost, nothing comes twice. */
static size_t released;
static void count_release(void *context, void *payload)
{
	(void)context;
	(void)payload;
	released++;
}

START_TEST(nothing_is_lost_under_any_sequence)
{
	for (int round = 0; round < 40; round++) {
		struct merge *merge;
		struct error error = {0};
		uint32_t lanes[8];
		bool have[8] = {false};
		int64_t offsets[8] = {0};
		size_t pushed = 0, popped = 0;
		released = 0;
		ck_assert_int_eq(merge_create(1 + rnd(10), count_release, NULL, &merge, &error), STATUS_OK);
		for (int step = 0; step < 3000; step++) {
			size_t i = rnd(8);
			struct merge_entry entry;
			enum merge_result result;
			if (!have[i]) {
				ck_assert_int_eq(merge_lane_add(merge, (enum topic)(i % 3), (int32_t)i,
								&lanes[i], &error),
						 STATUS_OK);
				have[i] = true;
			}
			switch (rnd(12)) {
			case 0:
				if (rnd(10) == 0) {
					merge_lane_remove(merge, lanes[i]);
					have[i] = false;
				}
				break;
			case 1: merge_lane_set_state(merge, lanes[i], MERGE_LANE_SILENT); break;
			case 2:
				if (rnd(60) == 0)
					merge_clear(merge, (int64_t)rnd(50));
				break;
			case 3: case 4: case 5: case 6:
				entry = (struct merge_entry){.event_time_ms = (int64_t)rnd(30) + step / 20,
							     .position = {.offset = offsets[i]++},
							     .key = text_of("k"),
							     .bytes = 1 + rnd(5),
							     .bad = rnd(10) == 0,
							     .payload = &entry};
				ck_assert_int_eq(merge_push(merge, lanes[i], &entry, &error), STATUS_OK);
				pushed++;
				break;
			default:
				ck_assert_int_eq(merge_pop(merge, &entry, &result, &error), STATUS_OK);
				popped += result == MERGE_RECORD;
				ck_assert(result != MERGE_BLOCKED || merge_lanes_blocking(merge) > 0);
			}
			ck_assert_uint_eq(pushed - popped - released, merge_records(merge));
		}
		merge_destroy(merge);
		ck_assert_uint_eq(pushed, popped + released);
	}
}
END_TEST

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
	random_state = random_state * 2654435761u | 1;
	printf("seed state %llu\n", (unsigned long long)random_state);
	Suite *suite = suite_create("merge");
	TCase *tests = tcase_create("order");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, order_is_that_of_a_sort);
	tcase_add_test(tests, small_groups_keep_times_and_topics);
	tcase_add_test(tests, sorted_lanes_need_no_groups);
	tcase_add_test(tests, nothing_is_lost_under_any_sequence);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
