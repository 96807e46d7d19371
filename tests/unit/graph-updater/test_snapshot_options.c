/* test_snapshot_options.c - a state taken up with other options than it was written with: other shapes,
 * other trained seeds, an older format. */
#include "tests/unit/graph-updater/snapshot_world.h"

#include <xxhash.h>

/* Written with `before`, taken up with `after` and gone on to the end of a flush: as if it had always been
 * `after`. */
static void becomes(struct updater_options before, struct updater_options after, uint64_t seed)
{
	struct stream one = {.draw = {seed}, .now_ms = 1000}, two = one;
	struct updater *old = create(before), *restored, *fresh = create(after);
	const struct position *positions;
	struct error error = {0};
	size_t count;

	apply_some(old, &one, 423);
	must(updater_save(old, folder, NULL, 0, INT64_MAX, &error), &error, seed);
	updater_destroy(old);
	restored = create(after);
	must(updater_restore(restored, folder, INT64_MAX, &positions, &count, &error), &error, seed);
	must(updater_check(restored, &error), &error, seed);
	apply_some(fresh, &two, 423);
	do {
		apply_some(fresh, &two, 1);
		apply_some(restored, &one, 1);
	} while (updater_events_to_flush(fresh) < after.flush_events);
	assert_equal_states(fresh, restored);
	updater_destroy(restored);
	updater_destroy(fresh);
	clear_folder(folder);
}

START_TEST(other_options)
{
	struct updater_options options = small_options(), other, rescaled = options;
	struct stream stream = {.draw = {5}, .now_ms = 1000};
	struct updater *updater;
	const struct position *positions;
	struct error error = {0};
	size_t count;

	options.threshold = 0;
	other = options;
	other.dimensions = 64;
	other.layers = 2;
	other.both_sides = true;
	other.layer_weights[2] = 1;
	other.layer_weights[3] = 0;
	becomes(options, other, 5);
	rescaled.rating_max = 10;
	updater = create(options);
	apply_some(updater, &stream, 400);
	must(updater_save(updater, folder, NULL, 0, INT64_MAX, &error), &error, 0);
	updater_destroy(updater);
	updater = create(rescaled);
	ck_assert_int_eq(updater_restore(updater, folder, INT64_MAX, &positions, &count, &error),
			 STATUS_INCOMPATIBLE);
	ck_assert(strstr(error.text, "rating_scale") != NULL);
	updater_destroy(updater);
}
END_TEST

/* Another seeds file, the first one, none any more: one full pass, and at threshold 0 no trace of before. */
START_TEST(seed_epochs)
{
	struct updater_options by_hash = small_options(), trained, retrained, both;
	struct updater *updater, *looked_at;
	struct stream stream = {.draw = {9}, .now_ms = 1000};
	struct snapshot_info info;
	struct error error = {0};
	bool exact = false;

	by_hash.threshold = 0;
	for (uint32_t layers = 1; layers <= 4; layers++) {
		by_hash.layers = layers;
		for (uint32_t k = 0; k <= 4; k++)
			by_hash.layer_weights[k] = layers % 2 ? k <= layers : k == layers;
		trained = retrained = both = by_hash;
		trained.item_seeds = seeds_of(names.item, 40, 1);
		retrained.item_seeds = seeds_of(names.item, 50, 2);
		both.both_sides = true;
		both.item_seeds = seeds_of(names.item, 40, 3);
		both.user_seeds = seeds_of(names.user, 30, 4);
		becomes(by_hash, trained, layers);
		becomes(trained, retrained, layers + 10);
		becomes(retrained, by_hash, layers + 20);
		becomes(trained, both, layers + 30);
		becomes(both, trained, layers + 40);
	}
	/* A snapshot says its epochs, and is whole without the files. */
	updater = create(both);
	apply_some(updater, &stream, 300);
	must(updater_flush(updater, &error), &error, 0);
	must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
	remove_all_seeds();
	must(snapshot_check(file_a, NULL, &info, &exact, &error), &error, 0);
	ck_assert(exact && info.item_seeds_epoch && info.user_seeds_epoch);
	ck_assert(info.item_seeds_epoch != info.user_seeds_epoch);
	must(snapshot_open(file_a, NULL, &looked_at, &error), &error, 0);
	must(snapshot_write(looked_at, file_b, NULL, 0, NULL, &error), &error, 0);
	assert_equal_states(updater, looked_at);
	updater_destroy(looked_at);
	updater_destroy(updater);
}
END_TEST

/* Every block's checksum once more, as a file of that version has it. */
static void sign_blocks(char *bytes, size_t size, uint64_t version)
{
	uint32_t payload;

	for (size_t at = 16; at < size; at += 32 + payload) {
		XXH128_canonical_t hash;
		memcpy(&payload, bytes + at + 8, sizeof payload);
		XXH128_canonicalFromHash(&hash, XXH3_128bits_withSeed(bytes + at, 16 + payload, version));
		memcpy(bytes + at + 16 + payload, &hash, sizeof hash);
	}
}

/* Version 1 knew no epochs: its options end before them, and its checksums are seeded with 1. */
START_TEST(version_1_is_read)
{
	struct updater *updater = create(small_options()), *restored = create(small_options());
	struct stream stream = {.draw = {3}, .now_ms = 1000};
	size_t cut = sizeof(struct snapshot_options) - offsetof(struct snapshot_options, item_seeds_epoch);
	size_t first = 16 + 16 + offsetof(struct snapshot_options, item_seeds_epoch), size;
	struct error error = {0};
	uint32_t payload;
	uint64_t before;
	char *bytes;

	apply_some(updater, &stream, 300);
	must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
	bytes = read_file(file_a, &size);
	bytes[14] = '1';
	memcpy(&payload, bytes + 16 + 8, sizeof payload);
	payload -= (uint32_t)cut;
	memcpy(bytes + 16 + 8, &payload, sizeof payload);
	memmove(bytes + first, bytes + first + cut, size - first - cut);
	size -= cut;
	before = size - 16 - 16 - 16;           /* the end block: header, count and bytes before it, checksum */
	memcpy(bytes + size - 16 - 8, &before, sizeof before);
	sign_blocks(bytes, size, 1);
	write_file(file_b, bytes, size);
	must(snapshot_read(restored, file_b, NULL, &error), &error, 0);
	assert_equal_states(updater, restored);
	updater_destroy(restored);
	updater_destroy(updater);
	/* The next version is refused, with its number. */
	bytes[14] = '3';
	sign_blocks(bytes, size, 3);
	write_file(file_b, bytes, size);
	restored = create(small_options());
	ck_assert_int_eq(snapshot_read(restored, file_b, NULL, &error), STATUS_INCOMPATIBLE);
	ck_assert_msg(strstr(error.text, "version 3") && strstr(error.text, "1 to 2"), "%s", error.text);
	updater_destroy(restored);
	free(bytes);
}
END_TEST

/* Growth past graph.memory_max_bytes is refused as a whole: the state stays sound, can be saved, and with more
 * room goes on as if nothing had been. */
START_TEST(memory_is_bounded)
{
	struct updater_options options = small_options(), roomy;
	struct updater *bounded, *undisturbed;
	struct updater_stats stats;
	const struct position *positions;
	struct error error = {0};
	enum status status = STATUS_OK;
	size_t count;
	unsigned applied;

	options.users_max = options.items_max = 1 << 20;
	roomy = options;
	bounded = create(options);
	undisturbed = create(options);
	updater_get_stats(bounded, &stats);
	updater_destroy(bounded);
	options.memory_max_bytes = stats.memory_bytes + (2 << 20);
	bounded = create(options);
	/* A user and an item more with each event. */
	for (applied = 0; !status && applied < 1000000; applied += !status) {
		struct event event = {.type = RECORD_INTERACTION};
		char id[16];
		snprintf(id, sizeof id, "%u", applied);
		event.interaction = (struct interaction_event){.user_id = text_of(id), .item_id = text_of(id),
							       .kind = KIND_CLICK, .event_time_ms = applied};
		status = updater_apply(bounded, &event, &error);
		if (!status)
			must(updater_apply(undisturbed, &event, &error), &error, 0);
	}
	ck_assert_int_eq(status, STATUS_NO_MEMORY);
	ck_assert_int_eq(status_exit_code(status), 71);
	ck_assert_msg(strstr(error.text, "graph.memory_max_bytes") && strstr(error.text, "graph.edges_max"), "%s",
		      error.text);
	ck_assert_uint_eq(applied % UPDATER_MEMORY_EVENTS, 0);
	updater_get_stats(bounded, &stats);
	ck_assert_uint_gt(stats.memory_bytes, options.memory_max_bytes);
	ck_assert_uint_lt(stats.memory_bytes, options.memory_max_bytes + (4 << 20));
	must(updater_check(bounded, &error), &error, 0);
	assert_equal_states(bounded, undisturbed);
	must(updater_save(bounded, folder, NULL, 0, INT64_MAX, &error), &error, 0);
	updater_destroy(bounded);
	options.memory_max_bytes = 1 << 20;
	bounded = create(options);
	ck_assert_int_eq(updater_restore(bounded, folder, INT64_MAX, &positions, &count, &error), STATUS_NO_MEMORY);
	ck_assert(strstr(error.text, "graph.memory_max_bytes") != NULL);
	updater_destroy(bounded);
	bounded = create(roomy);
	must(updater_restore(bounded, folder, INT64_MAX, &positions, &count, &error), &error, 0);
	assert_equal_states(bounded, undisturbed);
	updater_destroy(bounded);
	updater_destroy(undisturbed);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snapshot options");
	TCase *tcase = tcase_create("unit");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, other_options);
	tcase_add_test(tcase, seed_epochs);
	tcase_add_test(tcase, version_1_is_read);
	tcase_add_test(tcase, memory_is_bounded);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
