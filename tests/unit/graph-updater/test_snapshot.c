/* test_snapshot.c - the state on disk: restored runs equal undisturbed ones, damage of any kind is found,
 * and no crash or full disk ever leaves a folder without a good snapshot. */
#include "tests/unit/graph-updater/snapshot_world.h"

#include <sys/wait.h>

START_TEST(restored_run_equals_undisturbed)
{
	struct position positions[2] = {{TOPIC_ITEMS, 3, 77}, {TOPIC_INTERACTIONS, -1, INT64_MAX}};

	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct updater_options options = small_options();
		struct stream one = {.draw = {seed}, .now_ms = 1000}, two = one;
		struct updater *undisturbed, *disturbed;
		struct error error = {0};
		options.threshold = seed % 3 ? 0.05 : 0;
		options.both_sides = seed % 4 == 0;
		options.edges_max = seed % 2 ? 150 : 100000;
		options.view_edges = seed % 5 == 0;
		if (seed % 6 == 0)
			options.layer_weights[1] = 0.5;
		if (seed % 3 != 2) {
			options.item_seeds = seeds_of(names.item, 35, seed);
			if (options.both_sides)
				options.user_seeds = seeds_of(names.user, 45, seed + 1);
		}
		undisturbed = create(options);
		disturbed = create(options);
		for (unsigned part = 0; part < 8; part++) {
			const struct position *restored;
			size_t count;
			unsigned events = draw_below(&(struct draw){seed * 100 + part}, 180);
			apply_some(undisturbed, &one, events);
			apply_some(disturbed, &two, events);
			must(updater_save(disturbed, folder, positions, 2, INT64_MAX, &error), &error, seed);
			updater_destroy(disturbed);
			options.id_seed = seed + part;
			disturbed = create(options);
			must(updater_restore(disturbed, folder, INT64_MAX, &restored, &count, &error), &error,
			     seed);
			must(updater_check(disturbed, &error), &error, seed);
			ck_assert_uint_eq(count, 2);
			ck_assert(!memcmp(restored, positions, sizeof positions));
			ck_assert_int_eq(updater_graph_version(disturbed),
					 updater_graph_version(undisturbed));
			ck_assert_int_eq(updater_clock_ms(disturbed), updater_clock_ms(undisturbed));
			assert_equal_states(undisturbed, disturbed);
		}
		updater_destroy(undisturbed);
		updater_destroy(disturbed);
		clear_folder(folder);
	}
}
END_TEST

START_TEST(damage_is_found)
{
	struct updater *updater = create(small_options());
	struct stream stream = {.draw = {42}, .now_ms = 1000};
	struct draw draw = {7};
	struct snapshot_info info;
	struct error error = {0};
	size_t size;
	char *bytes;
	bool exact;

	apply_some(updater, &stream, 120);
	must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
	must(snapshot_check(file_a, NULL, &info, &exact, &error), &error, 0);
	ck_assert(!exact);
	ck_assert_int_eq(info.graph_version, 120);
	bytes = read_file(file_a, &size);
	for (size_t byte = 0; byte < size; byte++) {
		char flip = (char)(1 << draw_below(&draw, 8));
		enum status status;
		bytes[byte] ^= flip;
		write_file(file_b, bytes, size);
		status = snapshot_check(file_b, NULL, &info, NULL, &error);
		ck_assert_msg(status == STATUS_CORRUPT, "byte %zu: %s %s", byte, status_name(status),
			      error.text);
		ck_assert(strstr(error.text, file_b) && strstr(error.text, "byte"));
		bytes[byte] ^= flip;
	}
	for (size_t kept = 0; kept < size; kept += 1 + draw_below(&draw, 37)) {
		write_file(file_b, bytes, kept);
		ck_assert_int_eq(snapshot_check(file_b, NULL, &info, NULL, &error), STATUS_CORRUPT);
	}
	bytes[size] = 0;
	write_file(file_b, bytes, size + 1);
	ck_assert_int_eq(snapshot_check(file_b, NULL, &info, NULL, &error), STATUS_CORRUPT);
	ck_assert_int_eq(snapshot_check("/nowhere", NULL, &info, NULL, &error), STATUS_NO_INPUT);
	free(bytes);
	updater_destroy(updater);
}
END_TEST

/* A damaged one falls back to the one before; a newer clock than asked for is not taken. */
START_TEST(falls_back)
{
	struct updater *updater = create(small_options()), *restored;
	struct stream stream = {.draw = {5}, .now_ms = 1000};
	struct error error = {0};
	const struct position *positions;
	int64_t versions[3], clocks[3];
	size_t count, size;
	char path[128], *bytes;

	for (int s = 0; s < 3; s++) {
		apply_some(updater, &stream, 100);
		must(updater_save(updater, folder, NULL, 0, INT64_MAX, &error), &error, 0);
		versions[s] = updater_graph_version(updater);
		clocks[s] = updater_clock_ms(updater);
	}
	restored = create(small_options());
	must(updater_restore(restored, folder, clocks[2], &positions, &count, &error), &error, 0);
	ck_assert_int_eq(updater_graph_version(restored), versions[1]);
	updater_destroy(restored);
	snprintf(path, sizeof path, "%s/snapshot-%lld.snap", folder, (long long)versions[2]);
	bytes = read_file(path, &size);
	bytes[size / 2] ^= 1;
	write_file(path, bytes, size);
	free(bytes);
	restored = create(small_options());
	must(updater_restore(restored, folder, INT64_MAX, &positions, &count, &error), &error, 0);
	ck_assert_int_eq(updater_graph_version(restored), versions[1]);
	must(updater_check(restored, &error), &error, 0);
	updater_destroy(restored);
	restored = create(small_options());
	ck_assert_int_eq(updater_restore(restored, folder, 0, &positions, &count, &error), STATUS_NOT_FOUND);
	ck_assert_int_eq(updater_restore(restored, "/nowhere/at/all", INT64_MAX, &positions, &count, &error),
			 STATUS_NOT_FOUND);
	ck_assert_int_eq(updater_graph_version(restored), 0);
	updater_destroy(restored);
	updater_destroy(updater);
}
END_TEST

START_TEST(keeps_three_and_an_old_one)
{
	struct updater *updater = create(small_options());
	struct stream stream = {.draw = {6}, .now_ms = 1000};
	struct error error = {0};
	int64_t waiting_ms = 0;
	struct snapshot_info info;
	char path[128];
	int kept = 0;

	for (int s = 0; s < 10; s++) {
		apply_some(updater, &stream, 60);
		if (s == 2)
			waiting_ms = updater_clock_ms(updater) + 1;
		must(updater_save(updater, folder, NULL, 0, s < 2 ? INT64_MAX : waiting_ms, &error), &error,
		     0);
	}
	for (int s = 1; s <= 10; s++) {
		snprintf(path, sizeof path, "%s/snapshot-%d.snap", folder, s * 60);
		if (access(path, F_OK))
			continue;
		kept++;
		must(snapshot_get_info(path, &info, &error), &error, 0);
		ck_assert(s == 3 || s >= 8);
	}
	ck_assert_int_eq(kept, 4);
	updater_destroy(updater);
}
END_TEST

/* ---- crashes and full disks ---- */

struct plan {
	int at;                 /* the operation that goes wrong; counted from 0 */
	int seen;
	int code;               /* errno, or 0: the process dies there */
	bool torn;
};

static int go_wrong(void *context, const char *operation, size_t *bytes)
{
	struct plan *plan = context;
	int now = plan->seen++;

	(void)operation;
	if (now == plan->at - 1 && plan->torn && *bytes > 1)
		*bytes /= 2;            /* half of it is written, the rest asked for again */
	if (now != plan->at)
		return 0;
	if (!plan->code)
		_exit(9);
	return plan->code;
}

START_TEST(no_crash_loses_the_state)
{
	struct updater *updater = create(small_options());
	struct stream stream = {.draw = {8}, .now_ms = 1000};
	struct error error = {0};
	const struct position *positions;
	size_t count;
	int64_t before, now;
	int deaths = 0;

	apply_some(updater, &stream, 300);
	must(updater_save(updater, folder, NULL, 0, INT64_MAX, &error), &error, 0);
	before = updater_graph_version(updater);
	for (int at = 0; at < 100; at++) {
		for (int how = 0; how < 4; how++) {
			struct plan plan = {at, 0, how == 2 ? ENOSPC : how == 3 ? EIO : 0, how == 1};
			struct snapshot_faults faults = {go_wrong, &plan};
			struct updater *restored;
			bool died = false, failed = false;
			int64_t version;
			apply_some(updater, &stream, 3);
			now = updater_graph_version(updater);
			if (how < 2) {
				int result;
				pid_t child = fork();
				if (!child) {
					snapshot_save_folder(updater, folder, NULL, 0, INT64_MAX, &faults,
							     NULL);
					_exit(0);
				}
				ck_assert_int_eq(waitpid(child, &result, 0), child);
				ck_assert(WIFEXITED(result));
				died = WEXITSTATUS(result) == 9;
				deaths += died;
			} else {
				failed = snapshot_save_folder(updater, folder, NULL, 0, INT64_MAX, &faults,
							      &error) != STATUS_OK;
			}
			restored = create(small_options());
			must(updater_restore(restored, folder, INT64_MAX, &positions, &count, &error), &error,
			     0);
			version = updater_graph_version(restored);
			ck_assert_msg(version == now || ((died || failed) && version == before),
				      "operation %d, way %d: version %lld", at, how, (long long)version);
			if (version == now)
				assert_equal_states(updater, restored);
			must(updater_check(restored, &error), &error, 0);
			before = version;
			updater_destroy(restored);
			if (!died && !failed && plan.seen <= at && how >= 2)
				at = 100;       /* past the last operation */
		}
	}
	ck_assert_int_gt(deaths, 10);
	updater_destroy(updater);
}
END_TEST

/* ---- the rest ---- */

static bool contains(const char *bytes, size_t size, const char *text)
{
	return memmem(bytes, size, text, strlen(text)) != NULL;
}

START_TEST(erased_users_are_gone)
{
	struct updater *updater = create(small_options());
	struct event event = {.type = RECORD_INTERACTION};
	struct error error = {0};
	size_t size;
	char *bytes;

	event.interaction = (struct interaction_event){.user_id = TEXT_LITERAL("somebody@example.org"),
						       .item_id = TEXT_LITERAL("item"), .kind = KIND_CLICK,
							       .event_time_ms = 5};
	must(updater_apply(updater, &event, &error), &error, 0);
	must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
	bytes = read_file(file_a, &size);
	ck_assert(contains(bytes, size, "somebody"));
	free(bytes);
	event.interaction.kind = KIND_REMOVE;
	event.interaction.item_id = (struct text_view){NULL, 0};
	event.interaction.event_time_ms = 6;
	must(updater_apply(updater, &event, &error), &error, 0);
	must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
	bytes = read_file(file_a, &size);
	ck_assert(!contains(bytes, size, "somebody") && !contains(bytes, size, "example"));
	free(bytes);
	updater_destroy(updater);
}
END_TEST

START_TEST(memory_may_fail_anywhere)
{
	struct updater *updater = create(small_options());
	struct stream stream = {.draw = {10}, .now_ms = 1000};
	struct error error = {0};
	enum status status = STATUS_NO_MEMORY;
	struct snapshot_info info;

	apply_some(updater, &stream, 200);
	for (long successes = 0; status; successes += 1 + successes / 20) {
		mem_fail_after(successes);
		status = snapshot_write(updater, file_a, NULL, 0, NULL, &error);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
	}
	status = STATUS_NO_MEMORY;
	for (long successes = 0; status; successes += 1 + successes / 20) {
		mem_fail_after(successes);
		status = snapshot_check(file_a, NULL, &info, NULL, &error);
		mem_fail_after(-1);
		ck_assert_msg(status == STATUS_OK || status == STATUS_NO_MEMORY, "%s: %s",
			      status_name(status), error.text);
	}
	updater_destroy(updater);
}
END_TEST

/* Failing is fatal for the updater, but it does not crash, leak, or claim success. */
START_TEST(memory_may_fail_in_events)
{
	struct updater_options options = small_options();
	struct error error = {0};
	enum status status = STATUS_NO_MEMORY;

	for (long successes = 0; status; successes++) {
		struct updater *updater = NULL;
		mem_fail_after(successes);
		status = updater_create(&options, &updater, &error);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || (status == STATUS_NO_MEMORY && !updater));
		updater_destroy(updater);
	}
	for (long successes = 0; successes < 300; successes += 1 + successes / 10) {
		struct updater *updater = create(options);
		struct stream stream = {.draw = {12}, .now_ms = 1000};
		status = STATUS_OK;
		mem_fail_after(successes);
		for (unsigned n = 0; n < 300 && !status; n++) {
			struct event event = next_event(&stream);
			status = updater_apply(updater, &event, &error);
		}
		mem_fail_after(-1);
		ck_assert_msg(status == STATUS_NO_MEMORY, "after %ld: %s", successes, status_name(status));
		updater_destroy(updater);
	}
}
END_TEST

START_TEST(bad_events_change_nothing)
{
	struct updater *a = create(small_options()), *b = create(small_options());
	struct stream stream = {.draw = {11}, .now_ms = 1000}, again = stream;
	struct event event = {.type = RECORD_INTERACTION};
	struct error error = {0};

	apply_some(a, &stream, 100);
	apply_some(b, &again, 100);
	event.interaction = (struct interaction_event){.user_id = TEXT_LITERAL("u"),
						       .item_id = TEXT_LITERAL("i"),
						       .kind = KIND_RATE, .event_time_ms = 99999999};
	ck_assert_int_eq(updater_apply(a, &event, &error), STATUS_BAD_RECORD);         /* no rating */
	event.interaction.kind = KIND_CLICK;
	event.interaction.event_time_ms = GRAPH_TIME_MAX + 1;
	ck_assert_int_eq(updater_apply(a, &event, &error), STATUS_BAD_RECORD);
	event.interaction.event_time_ms = -1;
	ck_assert_int_eq(updater_apply(a, &event, &error), STATUS_BAD_RECORD);
	event.interaction.event_time_ms = 5;
	event.interaction.item_id = (struct text_view){NULL, 0};
	ck_assert_int_eq(updater_apply(a, &event, &error), STATUS_BAD_RECORD);
	event.type = RECORD_ITEM;
	event.item = (struct item_event){.item_id = TEXT_LITERAL("i"), .event_time_ms = GRAPH_TIME_MAX + 1};
	ck_assert_int_eq(updater_apply(a, &event, &error), STATUS_BAD_RECORD);
	assert_equal_states(a, b);
	updater_destroy(a);
	updater_destroy(b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *tcase = tcase_create("snapshot");

	tcase_set_timeout(tcase, 300);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, restored_run_equals_undisturbed);
	tcase_add_test(tcase, damage_is_found);
	tcase_add_test(tcase, falls_back);
	tcase_add_test(tcase, keeps_three_and_an_old_one);
	tcase_add_test(tcase, no_crash_loses_the_state);
	tcase_add_test(tcase, erased_users_are_gone);
	tcase_add_test(tcase, memory_may_fail_anywhere);
	tcase_add_test(tcase, memory_may_fail_in_events);
	tcase_add_test(tcase, bad_events_change_nothing);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
