/* The stub: in (0, 1), the same for the same request, different for any difference a candidate sees. */
#include "scorer/scorer.h"
#include "scorer/stub.h"
#include "tests/check_run.h"

#include <stdlib.h>

static float user_statistics[2], statistics[3];
static struct history_entry history[2], shown[1];
static struct example examples[1];
static struct request_candidate candidates[3];
static struct scoring_request request;

static void fill(void)
{
	user_statistics[0] = .5f, user_statistics[1] = -1;
	statistics[0] = .1f, statistics[1] = 0, statistics[2] = 3;
	history[0] = (struct history_entry){TEXT_LITERAL("a"), TEXT_LITERAL("Soap"), KIND_RATE, true, 4, 10};
	history[1] = (struct history_entry){TEXT_LITERAL("b"), TEXT_LITERAL(""), KIND_CLICK, false, 0, 11};
	shown[0] = history[0];
	examples[0] = (struct example){.9f, shown, 1};
	for (int i = 0; i < 3; i++)
		candidates[i] = (struct request_candidate){TEXT_LITERAL("c"), TEXT_LITERAL("Brush"),
							   statistics, 3};
	candidates[1].text = TEXT_LITERAL("Comb");
	request = (struct scoring_request){
		.impression_id = TEXT_LITERAL("i"), .user_id = TEXT_LITERAL("u"),
		.history = history, .history_count = 2, .examples = examples, .examples_count = 1,
		.user_statistics = user_statistics, .user_statistics_count = 2,
		.candidates = candidates, .candidates_count = 3,
		.graph_version = 7, .event_time_ms = 12,
	};
}

static float first_score(void)
{
	return stub_score(stub_hash_request(&request), &request.candidates[0]);
}

START_TEST(every_field_counts)
{
	fill();
	float before = first_score();
	ck_assert_float_gt(before, 0);
	ck_assert_float_lt(before, 1);
#define CHANGES(change)                            \
	do {                                       \
		fill();                            \
		change;                            \
		ck_assert(first_score() != before); \
		fill();                            \
		ck_assert(first_score() == before); \
	} while (0)
	CHANGES(request.impression_id = TEXT_LITERAL("j"));
	CHANGES(request.user_id = TEXT_LITERAL("v"));
	CHANGES(request.history_count = 1);
	CHANGES(request.examples_count = 0);
	CHANGES(request.user_statistics_count = 1);
	CHANGES(request.graph_version = 8);
	CHANGES(request.event_time_ms = 13);
	CHANGES((request.has_deadline = true, request.deadline_ms = 0));
	CHANGES(user_statistics[1] = -0.99999994f);
	CHANGES(statistics[1] = -0.0f);
	CHANGES(history[0].item_id = TEXT_LITERAL("x"));
	CHANGES(history[0].text = TEXT_LITERAL("Soaq"));
	CHANGES(history[0].kind = KIND_CLICK);
	CHANGES(history[0].has_rating = false);
	CHANGES(history[0].rating = 4.0000005f);
	CHANGES(history[0].event_time_ms = 9);
	CHANGES(examples[0].similarity = .90000004f);
	CHANGES(shown[0].rating = 1);
	CHANGES(candidates[0].item_id = TEXT_LITERAL("d"));
	CHANGES(candidates[0].text = TEXT_LITERAL("Brus"));
	CHANGES(candidates[0].statistics_count = 2);
	/* Bytes that move from one field to the next are another request. */
	CHANGES((request.impression_id = TEXT_LITERAL("iu"), request.user_id = TEXT_LITERAL("")));
}
END_TEST

START_TEST(the_facade_answers_in_order)
{
	fill();
	struct scorer_options options;
	scorer_options_defaults(&options);
	options.backend = "stub";
	struct scorer *scorer;
	struct error error = {0};
	ck_assert_int_eq(scorer_create(&options, &scorer, &error), STATUS_OK);
	ck_assert_str_eq(scorer_model_id(scorer), "stub");
	struct scoring_request empty = request;
	empty.candidates_count = 0;
	empty.status = PREDICTION_LATE;
	request.status = PREDICTION_UNKNOWN_USER;
	const struct scoring_request *requests[] = {&request, &empty};
	struct prediction predictions[2];
	struct arena *arena = arena_create(1 << 16);
	ck_assert_int_eq(scorer_score(scorer, requests, 2, arena, predictions, &error), STATUS_OK);
	ck_assert_uint_eq(predictions[0].scores_count, 3);
	ck_assert_int_eq(predictions[0].status, PREDICTION_UNKNOWN_USER);
	ck_assert(predictions[0].scores[0].p_click == predictions[0].scores[2].p_click);
	ck_assert(predictions[0].scores[0].p_click != predictions[0].scores[1].p_click);
	ck_assert_int_eq(predictions[0].scores[0].exit_layer, 0);
	ck_assert(!predictions[0].scores[0].has_margin);
	ck_assert_int_gt(predictions[0].scored_time_ms, 0);
	ck_assert_int_eq(predictions[0].graph_version, 7);
	ck_assert_uint_eq(predictions[1].scores_count, 0);
	ck_assert_int_eq(predictions[1].status, PREDICTION_NO_CANDIDATES);
	arena_destroy(arena);
	scorer_destroy(scorer);
	scorer_destroy(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stub");
	TCase *cases = tcase_create("stub");
	tcase_add_test(cases, every_field_counts);
	tcase_add_test(cases, the_facade_answers_in_order);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
