/* test_enrich.c - enrichment on graphs small enough to compute by hand, and every edge case that enrich.h
 * names. The expected numbers are written out as the formulas of statistics.h with the numbers put in. */
#include "graph-updater/enrich.h"
#include "schemas/event_size.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct error error;
static struct updater *updater;
static struct arena *arena;
static struct scoring_request request;

static void start(void (*change)(struct updater_options *options))
{
	static const char *const attributes[] = {"brand"};
	struct updater_options options;

	updater_options_defaults(&options);
	options.users_max = options.items_max = 1 << 16;
	options.edges_max = 1 << 20;
	options.flush_events = 1;
	options.attributes = attributes;
	options.attributes_count = 1;
	if (change)
		change(&options);
	ck_assert_msg(updater_create(&options, &updater, &error) == STATUS_OK, "%s", error.text);
	arena = arena_create(64 << 20);
	ck_assert_ptr_nonnull(arena);
}

static void stop(void)
{
	updater_destroy(updater);
	arena_destroy(arena);
}

static void item_of(const char *id, struct text_view title, const char *brand, int64_t time)
{
	struct attribute attribute = {TEXT_LITERAL("brand"), text_of(brand)};
	struct event event = {.type = RECORD_ITEM, .item = {
		.item_id = text_of(id), .title = title, .attributes = &attribute,
		.attributes_count = brand ? 1 : 0, .event_time_ms = time,
	}};
	ck_assert_msg(updater_apply(updater, &event, &error) == STATUS_OK, "%s", error.text);
}

static void delete_item(const char *id, int64_t time)
{
	struct event event = {.type = RECORD_ITEM, .item = {
		.item_id = text_of(id), .event_time_ms = time, .deleted = true,
	}};
	ck_assert_msg(updater_apply(updater, &event, &error) == STATUS_OK, "%s", error.text);
}

static void act(const char *user, const char *item, enum interaction_kind kind, double rating, int64_t time)
{
	struct event event = {.type = RECORD_INTERACTION, .interaction = {
		.user_id = text_of(user), .item_id = text_of(item), .kind = kind,
		.has_rating = kind == KIND_RATE, .rating = rating, .event_time_ms = time,
	}};
	ck_assert_msg(updater_apply(updater, &event, &error) == STATUS_OK, "%s", error.text);
}

static void ask_many(const char *user, const struct text_view *candidates, size_t count, int64_t time, bool late)
{
	struct impression_event impression = {
		.impression_id = TEXT_LITERAL("i1"), .user_id = text_of(user), .candidates = candidates,
		.candidates_count = count, .event_time_ms = time, .has_deadline = true, .deadline_ms = 77,
	};
	arena_reset(arena);
	ck_assert_msg(updater_enrich(updater, &impression, late, arena, &request, &error) == STATUS_OK, "%s",
		      error.text);
	ck_assert_uint_eq(request.candidates_count, count);
	ck_assert_int_eq(request.event_time_ms, time);
	ck_assert(request.has_deadline && request.deadline_ms == 77);
	ck_assert(text_equal(request.user_id, text_of(user)));
}

static void ask(const char *user, const char *candidate, int64_t time)
{
	struct text_view view = text_of(candidate);
	ask_many(user, &view, candidate ? 1 : 0, time, false);
}

static void is_near(float got, double wanted)
{
	ck_assert_double_eq_tol(got, wanted, 1e-6);
}

static double numbers(int k)
{
	return request.candidates[0].statistics[k];
}

enum { BRAND_MEAN = CANDIDATE_STATISTICS, BRAND_AFFINITY, BRAND_LOG_MATCH };

START_TEST(an_empty_state_answers_from_the_prior)
{
	start(NULL);
	ask("u", "A", 1000);
	ck_assert_int_eq(request.status, PREDICTION_UNKNOWN_USER);
	ck_assert_uint_eq(request.history_count + request.examples_count, 0);
	is_near(request.user_statistics[USER_MEAN], .7);
	is_near(request.user_statistics[USER_RECENT], .7);
	is_near(request.user_statistics[USER_LOG_COUNT], 0);
	is_near(request.user_statistics[USER_RESIDUAL], 0);
	ck_assert_uint_eq(request.candidates[0].statistics_count, CANDIDATE_STATISTICS + 3);
	for (int k = 0; k < CANDIDATE_STATISTICS + 3; k++)
		is_near((float)numbers(k), k == ITEM_MEAN || k == BRAND_MEAN ? .7 : 0);
	ck_assert_uint_eq(request.candidates[0].text.size, 0);
	ck_assert_int_eq(request.graph_version, 0);
	stop();
}
END_TEST

/* u rates A 5 and B 1; w has rated A 3. C is in the catalog only. */
static void small_world(void)
{
	item_of("A", text_of("red lipstick"), "x", 0);
	item_of("B", text_of("red brush"), "x|y", 0);
	item_of("C", text_of("green Brush"), "y|z", 0);
	act("w", "A", KIND_RATE, 3, 500);
	act("u", "A", KIND_RATE, 5, 1000);
	act("u", "B", KIND_RATE, 1, 2000);
}

START_TEST(every_row_of_the_table_by_hand)
{
	const double G = (1.5 + 35) / 53;
	const double r_A = 1 - (.5 + 3 * G) / 4, r_B = 0 - G, b_u = (r_A + r_B) / 5;
	const double d_A = r_A - b_u, d_B = r_B - b_u;
	const double rare = log(3) * log(3), common = log(1.5) * log(1.5);
	double t_CB = common / sqrt((common + rare) * 2 * common), t_AB = t_CB;

	start(NULL);
	small_world();
	ask("u", "A", 3000);
	ck_assert_int_eq(request.status, PREDICTION_OK);
	ck_assert_int_eq(request.graph_version, 6);
	is_near(request.user_statistics[USER_MEAN], (1 + 5 * G) / 7);
	is_near(request.user_statistics[USER_LOG_COUNT], log(3));
	is_near(request.user_statistics[USER_RESIDUAL], b_u);
	is_near(request.user_statistics[USER_RECENT], .7 * (.7 * G + .3));
	is_near((float)numbers(ITEM_MEAN), (1.5 + 3 * G) / 5);
	is_near((float)numbers(ITEM_LOG_COUNT), log(3));
	is_near((float)numbers(ITEM_RESIDUAL), (.5 - G + 1 - 5 * G / 6) / 7);
	/* x: three edges, A's two and B's one */
	is_near((float)numbers(BRAND_MEAN), (1.5 + 10 * G) / 13);
	is_near((float)numbers(BRAND_AFFINITY), (d_A + d_B) / 4);
	is_near((float)numbers(BRAND_LOG_MATCH), log(3));
	is_near((float)numbers(SIMILAR_TEXTS), (d_A + t_AB * t_AB * d_B) / (1 + t_AB * t_AB + .1));
	is_near((float)numbers(SIMILAR_TEXTS_WEIGHT), 1 + t_AB * t_AB);
	is_near((float)numbers(SIMILAR_TEXTS_MAX), 1);

	ask("u", "C", 3000);
	is_near((float)numbers(ITEM_MEAN), G);
	is_near((float)numbers(ITEM_RESIDUAL), 0);
	/* y: B's edge; z: none. B has half of C's values, A none. */
	is_near((float)numbers(BRAND_MEAN), (10 * G / 11 + G) / 2);
	is_near((float)numbers(BRAND_AFFINITY), .5 * d_B / 2.5);
	is_near((float)numbers(BRAND_LOG_MATCH), log(1.5));
	is_near((float)numbers(SIMILAR_TEXTS), t_CB * t_CB * d_B / (t_CB * t_CB + .1));
	is_near((float)numbers(SIMILAR_TEXTS_MAX), t_CB);
	is_near((float)numbers(SIMILAR_RATERS_WEIGHT), 0);
	ck_assert(text_equal(request.candidates[0].text, text_of("green Brush")));

	/* w and A form a star: equal embeddings, so every cosine of A's raters with w that is not u's is 1 */
	ask("w", "A", 3000);
	double c_uw = 0;
	struct user_id u, w;
	ck_assert(user_ids_find(updater->users, text_of("u"), &u));
	ck_assert(user_ids_find(updater->users, text_of("w"), &w));
	c_uw = gcn_cosine(gcn_dot(gcn_user_embedding(updater->gcn, u), gcn_user_embedding(updater->gcn, w),
				  gcn_dimensions(updater->gcn)),
			  gcn_user_norm(updater->gcn, u), gcn_user_norm(updater->gcn, w));
	ck_assert_double_gt(c_uw, .3);
	const double b_A = (.5 - G + 1 - 5 * G / 6) / 7, cube = c_uw * c_uw * c_uw;
	is_near((float)numbers(SIMILAR_RATERS_WEIGHT), 1 + cube);
	is_near((float)numbers(SIMILAR_RATERS), (.5 - G - b_A + cube * (1 - 5 * G / 6 - b_A)) / (2 + cube));
	const double m_A = (1 + 3 * G) / 4, b_w = (.5 - m_A) / 4;
	is_near((float)numbers(SIMILAR_ITEMS_WEIGHT), 1);
	is_near((float)numbers(SIMILAR_ITEMS), (.5 - m_A - b_w) / 1.3);
	stop();
}
END_TEST

START_TEST(history_is_oldest_first_and_strictly_before)
{
	start(NULL);
	small_world();
	act("u", "D", KIND_VIEW, 0, 2500);
	act("u", "E", KIND_CLICK, 0, 2000);
	ask("u", NULL, 3000);
	ck_assert_int_eq(request.status, PREDICTION_NO_CANDIDATES);
	ck_assert_uint_eq(request.history_count, 3);
	ck_assert(text_equal(request.history[0].item_id, text_of("A")));
	ck_assert(text_equal(request.history[1].item_id, text_of("B")));
	ck_assert(text_equal(request.history[2].item_id, text_of("E")));
	ck_assert(request.history[0].has_rating && !request.history[2].has_rating);
	is_near(request.history[0].rating, 5);
	ck_assert_int_eq(request.history[2].kind, KIND_CLICK);
	ck_assert_uint_eq(request.history[2].text.size, 0);
	ck_assert(text_equal(request.history[1].text, text_of("red brush")));
	/* w shares A; its one interaction is an example */
	ck_assert_uint_eq(request.examples_count, 1);
	ck_assert_uint_eq(request.examples[0].entries_count, 1);
	ck_assert_int_eq(request.examples[0].entries[0].event_time_ms, 500);

	/* a late one sees nothing at or after its time */
	struct text_view A = text_of("A");
	ask_many("u", &A, 1, 2000, true);
	ck_assert_int_eq(request.status, PREDICTION_LATE);
	ck_assert_uint_eq(request.history_count, 1);
	ask_many("u", &A, 1, 1000, true);
	ck_assert_int_eq(request.status, PREDICTION_LATE);
	ck_assert_uint_eq(request.history_count, 0);
	ask_many("u", &A, 0, 1000, true);
	ck_assert_int_eq(request.status, PREDICTION_NO_CANDIDATES);

	/* shown and not taken: known, without a history */
	act("v", "A", KIND_VIEW, 0, 100);
	ask("v", "A", 3000);
	ck_assert_int_eq(request.status, PREDICTION_OK);
	ck_assert_uint_eq(request.history_count, 0);
	is_near(request.user_statistics[USER_LOG_COUNT], log(2));
	stop();
}
END_TEST

static void short_history(struct updater_options *options)
{
	options->history_max = 2;
	options->examples_max = 1;
	options->example_history_max = 1;
}

static void no_context(struct updater_options *options)
{
	options->history_max = 0;
	options->examples_max = 0;
	options->example_history_max = 0;
	options->attributes_count = 0;
}

START_TEST(limits_of_history_and_examples)
{
	start(short_history);
	small_world();
	act("u", "C", KIND_CLICK, 0, 2500);
	act("x", "A", KIND_CLICK, 0, 2600);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.history_count, 2);
	ck_assert(text_equal(request.history[1].item_id, text_of("C")));
	ck_assert_uint_eq(request.examples_count, 1);
	stop();

	start(no_context);
	small_world();
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.history_count + request.examples_count, 0);
	ck_assert_int_eq(request.status, PREDICTION_OK);
	ck_assert_uint_eq(request.candidates[0].statistics_count, CANDIDATE_STATISTICS);
	stop();
}
END_TEST

START_TEST(deleted_items_and_erased_users)
{
	start(NULL);
	small_world();
	delete_item("A", 2100);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.candidates[0].text.size, 0);
	ck_assert_uint_eq(request.history[0].text.size, 0);
	is_near((float)numbers(ITEM_LOG_COUNT), log(3));
	is_near((float)numbers(BRAND_LOG_MATCH), 0);
	is_near((float)numbers(SIMILAR_TEXTS_MAX), 0);
	ck_assert_uint_eq(request.examples_count, 1);

	struct event erase = {.type = RECORD_INTERACTION, .interaction = {
		.user_id = text_of("w"), .kind = KIND_REMOVE, .event_time_ms = 2200,
	}};
	ck_assert_int_eq(updater_apply(updater, &erase, &error), STATUS_OK);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.examples_count, 0);
	is_near((float)numbers(ITEM_LOG_COUNT), log(2));
	ask("w", "A", 3000);
	ck_assert_int_eq(request.status, PREDICTION_UNKNOWN_USER);
	ck_assert_uint_eq(request.history_count, 0);
	stop();
}
END_TEST

static void rare_flushes(struct updater_options *options)
{
	options->flush_events = 3;
}

START_TEST(neighbours_are_of_the_last_flush_without_the_lost)
{
	struct text_view both[] = {TEXT_LITERAL("u"), TEXT_LITERAL("w"), TEXT_LITERAL("u"), TEXT_LITERAL("?")};
	struct updater_stats stats;

	start(rare_flushes);
	ck_assert_uint_eq(updater_events_to_flush(updater), 3);
	act("y", "Z", KIND_CLICK, 0, 1);
	ck_assert_uint_eq(updater_events_to_flush(updater), 2);
	act("y", "Z", KIND_REMOVE, 0, 1);
	act("y", "Z", KIND_CLICK, 0, 1);
	ck_assert_uint_eq(updater_events_to_flush(updater), 3);
	small_world();
	updater_prepare(updater, both, 4);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.examples_count, 1);
	ask("w", "A", 3000);
	ck_assert_uint_eq(request.examples_count, 1);
	memset(&stats, 0, sizeof stats);
	updater_get_stats(updater, &stats);
	ck_assert_uint_eq(stats.scans, 1);
	ck_assert_uint_eq(stats.enrichments, 2);
	/* x comes after the flush: not yet a neighbour; w loses all: no more */
	act("x", "A", KIND_CLICK, 0, 2300);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.examples_count, 1);
	act("w", "A", KIND_REMOVE, 0, 2400);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.examples_count, 0);
	stop();
}
END_TEST

static void one_example_and_rare_flushes(struct updater_options *options)
{
	options->flush_events = 5;
	options->examples_max = 1;
}

/* Who loses the last edge makes room for the next, also where a list was kept, and also when the internal
 * id has a new owner. */
START_TEST(a_kept_list_is_searched_again_when_someone_has_left)
{
	struct text_view u = TEXT_LITERAL("u");

	start(one_example_and_rare_flushes);
	small_world();
	act("w", "B", KIND_CLICK, 0, 2000);     /* as u: the nearest */
	act("x", "A", KIND_CLICK, 0, 2001);     /* the next */
	updater_prepare(updater, &u, 1);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.examples_count, 1);
	ck_assert_uint_eq(request.examples[0].entries_count, 2);
	act("w", "A", KIND_REMOVE, 0, 2100);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.examples[0].entries_count, 1);
	ck_assert(text_equal(request.examples[0].entries[0].item_id, text_of("B")));
	act("w", "B", KIND_REMOVE, 0, 2200);
	act("new", "C", KIND_CLICK, 0, 2300);
	ask("u", "A", 3000);
	ck_assert_uint_eq(request.examples_count, 1);
	ck_assert(text_equal(request.examples[0].entries[0].item_id, text_of("A")));
	ck_assert_int_eq(request.examples[0].entries[0].event_time_ms, 2001);
	stop();
}
END_TEST

START_TEST(titles_of_a_megabyte_and_of_broken_bytes)
{
	size_t size = 1 << 20;
	char *title = malloc(size);

	start(NULL);
	for (size_t i = 0; i + 2 < size; i += 2)
		memcpy(title + i, "\xC3\xA9", 2);
	item_of("A", (struct text_view){title + 1, size - 4}, NULL, 0);
	item_of("B", TEXT_LITERAL("a\xFF" "b\xED\xA0\x80"), NULL, 0);
	ask("u", "A", 10);
	ck_assert_uint_le(request.candidates[0].text.size, 512);
	ck_assert_uint_ge(request.candidates[0].text.size, 509);
	ck_assert(text_is_utf8(request.candidates[0].text));
	ask("u", "B", 10);
	ck_assert(text_is_utf8(request.candidates[0].text));
	ck_assert(memcmp(request.candidates[0].text.bytes, "a\xEF\xBF\xBD" "b\xEF\xBF\xBD", 8) == 0);
	free(title);
	stop();
}
END_TEST

START_TEST(ten_thousand_candidates_fit_a_record)
{
	enum { MANY = 10000, KINDS = 100 };
	static struct text_view candidates[MANY];
	static char ids[KINDS][16];
	char title[512];
	size_t longest = 0;

	start(NULL);
	memset(title, 'x', sizeof title);
	for (int i = 0; i < KINDS; i++) {
		snprintf(ids[i], sizeof ids[i], "item-%06u", (unsigned)i % 1000000);
		item_of(ids[i], (struct text_view){title, (size_t)i * 5}, NULL, 0);
		act("u", ids[i], KIND_CLICK, 0, 1);
	}
	for (int i = 0; i < MANY; i++)
		candidates[i] = text_of(ids[i % KINDS]);
	arena_destroy(arena);
	arena = arena_create(updater_enrich_bytes_max(updater, MANY));
	ask_many("u", candidates, MANY, 3000, false);
	ck_assert_int_eq(request.status, PREDICTION_TRUNCATED);
	struct event event = {.type = RECORD_SCORING_REQUEST, .scoring_request = request};
	ck_assert_uint_le(event_encoded_bytes(&event), event_limits_default.record_bytes_max);
	for (int i = 0; i < MANY; i++) {
		const struct request_candidate *candidate = &request.candidates[i];
		ck_assert(text_equal(candidate->item_id, candidates[i]));
		ck_assert(text_equal(candidate->text, request.candidates[i % KINDS].text));
		ck_assert_int_eq(memcmp(candidate->statistics, request.candidates[i % KINDS].statistics,
					candidate->statistics_count * sizeof(float)), 0);
		longest = candidate->text.size > longest ? candidate->text.size : longest;
	}
	ck_assert_uint_gt(longest, 0);

	/* A few of them fit as they are; a stranger's truncated request says TRUNCATED. */
	ask_many("u", candidates, KINDS, 3000, false);
	ck_assert_int_eq(request.status, PREDICTION_OK);
	ck_assert_uint_eq(request.candidates[KINDS - 1].text.size, 495);
	struct updater_stats stats = {0};
	updater_get_stats(updater, &stats);
	ck_assert_uint_gt(stats.cut_texts, MANY / 2);
	ck_assert_uint_lt(stats.cut_texts, MANY);
	ask_many("stranger", candidates, MANY, 3000, false);
	ck_assert_int_eq(request.status, PREDICTION_TRUNCATED);
	ask_many("u", candidates, MANY, 3000, true);
	ck_assert_int_eq(request.status, PREDICTION_LATE);
	stop();
}
END_TEST

START_TEST(names_say_what_the_numbers_are)
{
	size_t count;
	const char *const *names;

	start(NULL);
	names = updater_user_statistics_names(updater, &count);
	ck_assert_uint_eq(count, USER_STATISTICS);
	ck_assert_str_eq(names[USER_RECENT], "user_recent");
	names = updater_candidate_statistics_names(updater, &count);
	ck_assert_uint_eq(count, CANDIDATE_STATISTICS + 3);
	ck_assert_str_eq(names[SIMILAR_TEXTS_MAX], "similar_texts_max");
	ck_assert_str_eq(names[BRAND_LOG_MATCH], "brand_log_match");
	stop();
}
END_TEST

START_TEST(options_out_of_bounds_are_refused)
{
	static const char *const twice[] = {"brand", "brand"};
	struct updater_options good, bad[4];

	updater_options_defaults(&good);
	good.users_max = good.items_max = 1024;
	good.edges_max = 1024;
	for (int i = 0; i < 4; i++)
		bad[i] = good;
	bad[0].history_max = ENRICH_HISTORY_MAX + 1;
	bad[1].examples_max = ENRICH_EXAMPLES_MAX + 1;
	bad[2].example_history_max = ENRICH_HISTORY_MAX + 1;
	bad[3].attributes = twice;
	bad[3].attributes_count = 2;
	for (int i = 0; i < 4; i++) {
		updater = NULL;
		ck_assert_int_eq(updater_create(&bad[i], &updater, &error), STATUS_CONFIG);
		ck_assert_ptr_null(updater);
	}
}
END_TEST

/* Creation and events with every allocation failing in turn: a clean refusal, nothing lost. */
START_TEST(memory_that_ends_is_said)
{
	static const char *const attributes[] = {"brand"};
	struct attribute attribute = {TEXT_LITERAL("brand"), TEXT_LITERAL("x|y|z")};
	struct event item = {.type = RECORD_ITEM, .item = {
		.item_id = TEXT_LITERAL("A"), .title = TEXT_LITERAL("some words for a title"),
		.attributes = &attribute, .attributes_count = 1,
	}};
	struct updater_options options;
	enum status status = STATUS_NO_MEMORY;
	long successes = 0;

	updater_options_defaults(&options);
	options.users_max = options.items_max = 1024;
	options.edges_max = 1024;
	options.attributes = attributes;
	options.attributes_count = 1;
	for (; status; successes++) {
		ck_assert_int_lt(successes, 1000);
		mem_fail_after(successes);
		status = updater_create(&options, &updater, &error);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
	}
	ck_assert_int_gt(successes, 20);
	updater_destroy(updater);
	/* A failed event is fatal for the updater, but it can still be destroyed. */
	status = STATUS_NO_MEMORY;
	for (successes = 0; status; successes++) {
		ck_assert_int_lt(successes, 1000);
		ck_assert_int_eq(updater_create(&options, &updater, &error), STATUS_OK);
		mem_fail_after(successes);
		status = updater_apply(updater, &item, &error);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
		updater_destroy(updater);
	}
	ck_assert_int_gt(successes, 5);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("enrich");
	TCase *tests = tcase_create("enrich");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, an_empty_state_answers_from_the_prior);
	tcase_add_test(tests, every_row_of_the_table_by_hand);
	tcase_add_test(tests, history_is_oldest_first_and_strictly_before);
	tcase_add_test(tests, limits_of_history_and_examples);
	tcase_add_test(tests, deleted_items_and_erased_users);
	tcase_add_test(tests, neighbours_are_of_the_last_flush_without_the_lost);
	tcase_add_test(tests, a_kept_list_is_searched_again_when_someone_has_left);
	tcase_add_test(tests, titles_of_a_megabyte_and_of_broken_bytes);
	tcase_add_test(tests, ten_thousand_candidates_fit_a_record);
	tcase_add_test(tests, names_say_what_the_numbers_are);
	tcase_add_test(tests, options_out_of_bounds_are_refused);
	tcase_add_test(tests, memory_that_ends_is_said);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
