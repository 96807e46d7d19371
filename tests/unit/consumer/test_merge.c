/* test_merge.c - the answers of the merge that a sort does not give: late and bad entries, silent
 * lanes, groups beyond the limit, cuts, the books that are kept. */
#include "consumer/merge.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>

static struct merge *merge;
static struct error error;
static uint32_t items, impressions, interactions;
static int64_t next_offset;

static void setup_with(size_t group_records_max)
{
	merge_destroy(merge);
	ck_assert_int_eq(merge_create(group_records_max, NULL, NULL, &merge, &error), STATUS_OK);
	ck_assert_int_eq(merge_lane_add(merge, TOPIC_INTERACTIONS, 0, &interactions, &error), STATUS_OK);
	ck_assert_int_eq(merge_lane_add(merge, TOPIC_ITEMS, 0, &items, &error), STATUS_OK);
	ck_assert_int_eq(merge_lane_add(merge, TOPIC_IMPRESSIONS, 0, &impressions, &error), STATUS_OK);
	next_offset = 0;
}

static void setup(void)
{
	merge = NULL;
	setup_with(0);
}

static void teardown(void)
{
	merge_destroy(merge);
}

/* The key is a literal: it outlives the entry. */
static void push(uint32_t lane, int64_t time, const char *key)
{
	struct merge_entry entry = {.event_time_ms = time,
				    .position = {.offset = next_offset++},
				    .key = text_of(key),
				    .bytes = 100,
				    .bad = key[0] == '#',
				    .payload = (void *)key};
	ck_assert_int_eq(merge_push(merge, lane, &entry, &error), STATUS_OK);
}

static void end(uint32_t lane)
{
	merge_lane_set_state(merge, lane, MERGE_LANE_ENDED);
}

/* Pops until it cannot; keys, with ! for late, | where there is a cut, and how it ended. */
static const char *pop_all(void)
{
	static char text[4096];
	static const char *const ends[] = {"", "blocked", "idle", "end"};
	struct merge_entry entry;
	enum merge_result result;
	size_t used = 0;

	for (;;) {
		ck_assert_int_eq(merge_pop(merge, &entry, &result, &error), STATUS_OK);
		if (result != MERGE_RECORD)
			break;
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s ",
					 (const char *)entry.payload, entry.late ? "!" : "",
					 merge_cut(merge) ? "|" : "");
	}
	snprintf(text + used, sizeof text - used, "%s", ends[result]);
	return text;
}

START_TEST(open_lanes_block)
{
	ck_assert_str_eq(pop_all(), "blocked");
	ck_assert_uint_eq(merge_lanes_blocking(merge), 3);
	push(items, 5, "a");
	push(impressions, 5, "b");
	ck_assert_str_eq(pop_all(), "blocked");
	ck_assert(merge_lane_blocks(merge, interactions));
	ck_assert(!merge_lane_blocks(merge, items));
	/* All have a head: the first is certain, but its lane may hold more of its time. */
	push(interactions, 4, "c");
	ck_assert_str_eq(pop_all(), "blocked");
	push(interactions, 9, "d");
	ck_assert_str_eq(pop_all(), "c| blocked");
	ck_assert_int_eq(merge_clock_ms(merge), 4);
	end(items);
	end(impressions);
	ck_assert_str_eq(pop_all(), "a b| blocked");
	end(interactions);
	ck_assert_str_eq(pop_all(), "d| end");
	struct merge_entry entry = {.key = text_of("x")};
	ck_assert_int_eq(merge_push(merge, items, &entry, &error), STATUS_USAGE);
	ck_assert_int_eq(merge_push(merge, 77, &entry, &error), STATUS_USAGE);
}
END_TEST

START_TEST(topics_then_keys_then_offsets)
{
	push(interactions, 1, "b");
	push(interactions, 1, "a");
	push(interactions, 1, "a");
	push(impressions, 1, "z");
	push(items, 1, "y");
	push(items, 1, "yy");
	push(items, 1, "x");
	end(items);
	end(impressions);
	end(interactions);
	ck_assert_str_eq(pop_all(), "x y yy z a a b| end");
	ck_assert_uint_eq(merge_late(merge), 0);
	ck_assert_uint_eq(merge_bytes(merge), 0);
}
END_TEST

START_TEST(silent_lanes_block_nobody)
{
	merge_lane_set_state(merge, items, MERGE_LANE_SILENT);
	merge_lane_set_state(merge, impressions, MERGE_LANE_SILENT);
	push(interactions, 10, "a");
	/* Not silent while it holds something. */
	merge_lane_set_state(merge, interactions, MERGE_LANE_SILENT);
	ck_assert_int_eq(merge_lane_state(merge, interactions), MERGE_LANE_OPEN);
	ck_assert_str_eq(pop_all(), "blocked");
	merge_lane_set_state(merge, interactions, MERGE_LANE_SILENT);
	ck_assert_str_eq(pop_all(), "a| idle");
	/* Who was silent too long is late: by time, and at the same time by topic. */
	push(impressions, 9, "b");
	ck_assert_int_eq(merge_lane_state(merge, impressions), MERGE_LANE_OPEN);
	push(impressions, 10, "c");
	push(impressions, 11, "d");
	merge_lane_set_state(merge, interactions, MERGE_LANE_SILENT);
	ck_assert_str_eq(pop_all(), "b!| c!| blocked");
	ck_assert_uint_eq(merge_late(merge), 2);
	/* The same topic and time as what was given out is not late, whatever the key; and what is behind a
	 * group that still waits (11) goes before it. */
	push(interactions, 10, "A");
	push(interactions, 10, "0");
	push(interactions, 12, "e");
	ck_assert_str_eq(pop_all(), "blocked");
	end(items);
	ck_assert_str_eq(pop_all(), "blocked");
	end(impressions);
	ck_assert_str_eq(pop_all(), "0 A d| blocked");
	ck_assert_uint_eq(merge_late(merge), 2);
	push(interactions, 12, "f");
	end(interactions);
	ck_assert_str_eq(pop_all(), "e f| end");
	ck_assert_int_eq(merge_clock_ms(merge), 12);
}
END_TEST

/* A full group behind which its lane goes back in time. */
START_TEST(disorder_behind_a_full_group_is_late)
{
	setup_with(2);
	push(interactions, 11, "a");
	push(interactions, 10, "b");
	push(interactions, 10, "c");
	push(interactions, 11, "d");
	end(items);
	end(impressions);
	end(interactions);
	ck_assert_str_eq(pop_all(), "b a| c!| d| end");
	ck_assert_int_eq(merge_clock_ms(merge), 11);
}
END_TEST

START_TEST(bad_entries_do_not_wait)
{
	push(interactions, 0, "#1");
	push(interactions, 5, "a");
	push(interactions, 0, "#2");
	push(interactions, 5, "b");
	ck_assert_str_eq(pop_all(), "#1| blocked");
	end(items);
	end(impressions);
	/* Found while the group is gathered, it goes to the front of it. */
	ck_assert_str_eq(pop_all(), "blocked");
	ck_assert(merge_cut(merge));
	push(interactions, 6, "c");
	ck_assert_str_eq(pop_all(), "#2 a b| blocked");
	push(interactions, 3, "late");
	push(interactions, 0, "#3");
	push(interactions, 7, "d");
	/* 3 is behind 5, which was given out. */
	ck_assert_str_eq(pop_all(), "#3 late! c| blocked");
}
END_TEST

START_TEST(large_groups_are_given_in_parts)
{
	setup_with(3);
	for (int i = 0; i < 7; i++)
		push(interactions, 5, i % 2 ? "a" : "b");
	push(items, 5, "i");
	push(impressions, 5, "m");
	end(items);
	end(impressions);
	end(interactions);
	ck_assert_str_eq(pop_all(), "i m b| a a b| a b b| end");
	ck_assert_uint_eq(merge_overfull(merge), 6);
	ck_assert_uint_eq(merge_late(merge), 0);
	/* By bytes, too. */
	setup_with(0);
	for (int i = 0; i < 4; i++) {
		struct merge_entry entry = {.event_time_ms = 5,
					    .position = {.offset = i},
					    .key = text_of("k"),
					    .bytes = MERGE_GROUP_BYTES_MAX / 2,
					    .payload = "k"};
		ck_assert_int_eq(merge_push(merge, items, &entry, &error), STATUS_OK);
	}
	end(items);
	end(impressions);
	end(interactions);
	ck_assert_str_eq(pop_all(), "k k k| k| end");
}
END_TEST

START_TEST(clearing_goes_back_in_time)
{
	push(interactions, 5, "a");
	push(interactions, 50, "b");
	end(items);
	end(impressions);
	ck_assert_str_eq(pop_all(), "a| blocked");
	end(interactions);
	merge_clear(merge, 20);
	ck_assert_uint_eq(merge_records(merge), 0);
	ck_assert_uint_eq(merge_lanes_blocking(merge), 3);
	push(interactions, 19, "before");
	push(interactions, 20, "at");
	push(interactions, 30, "after");
	end(items);
	push(impressions, 20, "impression");
	end(impressions);
	end(interactions);
	ck_assert_str_eq(pop_all(), "before!| impression at| after| end");
}
END_TEST

START_TEST(lanes_come_and_go)
{
	uint32_t lane;
	ck_assert_int_eq(merge_lane_add(merge, TOPIC_ITEMS, 0, &lane, &error), STATUS_USAGE);
	push(interactions, 5, "a");
	push(impressions, 5, "b");
	push(items, 5, "c");
	end(items);
	end(impressions);
	ck_assert_str_eq(pop_all(), "blocked");
	/* Gathered in part: what the lane gave goes with it. */
	merge_lane_remove(merge, interactions);
	ck_assert_uint_eq(merge_bytes(merge), 200);
	ck_assert_str_eq(pop_all(), "c b| end");
	ck_assert_int_eq(merge_lane_add(merge, TOPIC_INTERACTIONS, 1, &lane, &error), STATUS_OK);
	ck_assert_uint_eq(lane, interactions);
	ck_assert_str_eq(pop_all(), "blocked");
	merge_lane_remove(merge, lane);
	merge_lane_remove(merge, items);
	merge_lane_remove(merge, impressions);
	ck_assert_str_eq(pop_all(), "end");
}
END_TEST

START_TEST(no_memory_loses_nothing)
{
	struct merge_entry entry = {.event_time_ms = 1, .key = text_of("k"), .payload = "k"};
	enum merge_result result;
	push(interactions, 1, "a");
	push(items, 1, "b");
	end(items);
	end(impressions);
	end(interactions);
	mem_fail_after(0);
	ck_assert_int_eq(merge_pop(merge, &entry, &result, &error), STATUS_NO_MEMORY);
	mem_fail_after(-1);
	ck_assert_str_eq(pop_all(), "b a| end");
	merge_clear(merge, 0);
	for (int i = 0; i < 16; i++)
		push(items, i, "x");
	mem_fail_after(0);
	ck_assert_int_eq(merge_push(merge, items, &entry, &error), STATUS_NO_MEMORY);
	mem_fail_after(-1);
	ck_assert_uint_eq(merge_lane_records(merge, items), 16);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("merge");
	TCase *tests = tcase_create("merge");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, open_lanes_block);
	tcase_add_test(tests, topics_then_keys_then_offsets);
	tcase_add_test(tests, silent_lanes_block_nobody);
	tcase_add_test(tests, disorder_behind_a_full_group_is_late);
	tcase_add_test(tests, bad_entries_do_not_wait);
	tcase_add_test(tests, large_groups_are_given_in_parts);
	tcase_add_test(tests, clearing_goes_back_in_time);
	tcase_add_test(tests, lanes_come_and_go);
	tcase_add_test(tests, no_memory_loses_nothing);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
