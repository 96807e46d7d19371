/* test_event.c - names, keys, times and what makes an event malformed; topics and records. */
#include "base/clock.h"
#include "schemas/topic.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdlib.h>

static const struct event_limits limits = {
	.record_bytes_max = 1000, .id_bytes_max = 8, .candidates_max = 2, .attributes_max = 1,
};

static void expect(const struct event *event, const char *reason)
{
	const char *found = event_malformed(event, &limits);
	if (!reason)
		ck_assert_msg(!found, "%s", found);
	else
		ck_assert_str_eq(found, reason);
}

#define T(literal) TEXT_LITERAL(literal)

START_TEST(items)
{
	struct attribute attributes[2] = {{T("a"), T("b")}, {T("c"), T("d")}};
	struct event event = {.type = RECORD_ITEM, .item = {.item_id = T("12345678"), .attributes = attributes,
							    .attributes_count = 1}};
	expect(&event, NULL);
	ck_assert(text_equal(event_key(&event), T("12345678")));
	event.item.item_id = T("123456789");
	expect(&event, "id-too-long");
	event.item.item_id = T("a\xff");
	expect(&event, "invalid-utf-8");
	event.item.item_id = T("");
	expect(&event, "missing-item-id");
	event.item.item_id = T("i");
	event.item.attributes_count = 2;
	expect(&event, "too-many-attributes");
	event.item.attributes_count = 0;
	event.item.event_time_ms = -1;
	expect(&event, "negative-time");
	ck_assert_int_eq(event_time_ms(&event), -1);
}
END_TEST

START_TEST(interactions)
{
	struct event event = {.type = RECORD_INTERACTION,
			      .interaction = {.user_id = T("u"), .item_id = T("i"), .event_time_ms = 3}};
	struct interaction_event *interaction = &event.interaction;

	expect(&event, NULL);
	ck_assert(text_equal(event_key(&event), T("u")));
	for (int kind = 0; kind < INTERACTION_KINDS; kind++) {
		interaction->kind = (enum interaction_kind)kind;
		interaction->item_id = T("i");
		expect(&event, NULL);
		interaction->item_id = (struct text_view){NULL, 0};
		expect(&event, kind == KIND_REMOVE ? NULL : "missing-item-id");
		interaction->item_id = T("");
		expect(&event, kind == KIND_REMOVE ? NULL : "missing-item-id");
		interaction->item_id = T("\xc0\x80");
		expect(&event, "invalid-utf-8");
	}
	interaction->item_id = T("i");
	interaction->kind = (enum interaction_kind)INTERACTION_KINDS;
	expect(&event, "unknown-kind");
	interaction->kind = (enum interaction_kind)-1;
	expect(&event, "unknown-kind");
	interaction->kind = KIND_RATE;
	interaction->rating = NAN;
	expect(&event, NULL);           /* absent: nobody looks at it */
	interaction->has_rating = true;
	expect(&event, "bad-rating");
	interaction->rating = -INFINITY;
	expect(&event, "bad-rating");
	interaction->rating = 1e300;
	expect(&event, NULL);
	interaction->impression_id = T("too long for it");
	expect(&event, "id-too-long");
	interaction->impression_id = T("");
	expect(&event, NULL);
	interaction->user_id = T("");
	expect(&event, "missing-user-id");
	interaction->user_id = T("u");
	interaction->event_time_ms = INT64_MIN;
	expect(&event, "negative-time");
}
END_TEST

START_TEST(impressions)
{
	struct text_view candidates[3] = {T("a"), T("a"), T("b")};
	struct event event = {.type = RECORD_IMPRESSION, .impression = {
		.impression_id = T("p"), .user_id = T("u"), .candidates = candidates, .candidates_count = 2}};

	expect(&event, NULL);
	event.impression.candidates_count = 0;
	expect(&event, NULL);
	event.impression.candidates_count = 3;
	expect(&event, "too-many-candidates");
	event.impression.candidates_count = 2;
	candidates[1] = T("");
	expect(&event, "missing-item-id");
	candidates[1] = T("b");
	event.impression.deadline_ms = -1;
	expect(&event, NULL);
	event.impression.has_deadline = true;
	expect(&event, "negative-deadline");
	event.impression.deadline_ms = 0;
	expect(&event, NULL);
	event.impression.impression_id = T("");
	expect(&event, "missing-impression-id");
}
END_TEST

START_TEST(requests_and_predictions)
{
	struct history_entry entry = {.item_id = T("i"), .kind = KIND_RATE, .rating = NAN};
	struct example example = {.similarity = 0.5f, .entries = &entry, .entries_count = 1};
	struct request_candidate candidate = {.item_id = T("c")};
	struct event event = {.type = RECORD_SCORING_REQUEST, .scoring_request = {
		.impression_id = T("p"), .user_id = T("u"), .history = &entry, .history_count = 1,
		.examples = &example, .examples_count = 1, .candidates = &candidate, .candidates_count = 1}};

	expect(&event, NULL);
	entry.has_rating = true;
	expect(&event, "bad-rating");
	entry.rating = 1;
	example.similarity = NAN;
	expect(&event, "bad-similarity");
	example.similarity = 1;
	candidate.item_id = T("");
	expect(&event, "missing-item-id");
	candidate.item_id = T("c");
	event.scoring_request.status = (enum prediction_status)PREDICTION_STATUSES;
	expect(&event, "unknown-status");

	struct candidate_score score = {.item_id = T("c"), .p_click = 0.5f};
	event = (struct event){.type = RECORD_PREDICTION, .prediction = {
		.impression_id = T("p"), .user_id = T("u"), .scores = &score, .scores_count = 1}};
	expect(&event, NULL);
	const float bad[] = {0, 1, -1, 2, NAN, INFINITY};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		score.p_click = bad[i];
		expect(&event, "bad-p-click");
	}
	event = (struct event){.type = RECORD_DEAD_LETTER, .dead_letter = {.key = T("k")}};
	expect(&event, NULL);
	ck_assert_int_eq(event_time_ms(&event), INT64_MIN);
	ck_assert(text_equal(event_key(&event), T("k")));
}
END_TEST

START_TEST(the_future)
{
	struct event_limits soon = limits;
	struct event event = {.type = RECORD_ITEM, .item = {.item_id = T("i"), .event_time_ms = INT64_MAX}};

	expect(&event, NULL);           /* 0: any time goes */
	soon.future_ms_max = 60000;
	ck_assert_ptr_nonnull(event_malformed(&event, &soon));
	event.item.event_time_ms = clock_wall_ms();
	ck_assert_ptr_null(event_malformed(&event, &soon));
	event.item.event_time_ms += 120000;
	ck_assert_ptr_nonnull(event_malformed(&event, &soon));
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(record_type_name(RECORD_SCORING_REQUEST), "scoring_request");
	ck_assert_str_eq(record_type_name((enum record_type)99), "unknown");
	ck_assert_str_eq(interaction_kind_name(KIND_PURCHASE), "PURCHASE");
	ck_assert_str_eq(interaction_kind_name((enum interaction_kind)99), "UNKNOWN");
	ck_assert_str_eq(prediction_status_name(PREDICTION_NO_CANDIDATES), "NO_CANDIDATES");
	ck_assert_str_eq(prediction_status_name((enum prediction_status)99), "UNKNOWN");
	for (int i = 0; i < TOPICS; i++)
		ck_assert_int_eq(topic_of_record_type(topic_record_type((enum topic)i)), i);
	ck_assert_str_eq(topic_names_default.name[TOPIC_SCORING_REQUESTS], "scoring-requests");
	ck_assert_str_eq(topic_names_default.name[TOPIC_DEAD_LETTERS], "dead-letters");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("event");
	TCase *tests = tcase_create("event");

	tcase_add_test(tests, items);
	tcase_add_test(tests, interactions);
	tcase_add_test(tests, impressions);
	tcase_add_test(tests, requests_and_predictions);
	tcase_add_test(tests, the_future);
	tcase_add_test(tests, names);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
