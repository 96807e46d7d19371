/* test_event_copy.c - a copy encodes to the same bytes after the original's memory is overwritten, and
 * says so when the arena is full, leaving its output alone. */
#include "consumer/event_copy.h"

#include "base/status.h"
#include "schemas/codec.h"
#include "tests/check_run.h"

#include <stdlib.h>

enum { COUNT = 5, TEXT_BYTES = 32 };

/* Everything an event borrows, in one block that can be wiped. */
struct borrowed {
	char texts[TEXT_BYTES];
	struct attribute attributes[COUNT];
	struct text_view candidates[COUNT];
	struct history_entry history[COUNT];
	struct example examples[COUNT];
	float statistics[COUNT];
	struct request_candidate request[COUNT];
	struct candidate_score scores[COUNT];
};

static struct event make_event(enum record_type type, struct borrowed *b, size_t count)
{
	struct text_view text = {b->texts, TEXT_BYTES}, empty = {b->texts, 0}, absent = {NULL, 0};

	memset(b->texts, 'a' + (int)type, sizeof b->texts);
	for (size_t i = 0; i < COUNT; i++) {
		struct text_view part = {b->texts + i, TEXT_BYTES - 2 * i};
		b->attributes[i] = (struct attribute){part, text};
		b->candidates[i] = part;
		b->history[i] = (struct history_entry){part, empty, KIND_CLICK, true, (float)i, (int64_t)i};
		b->examples[i] = (struct example){(float)i, b->history, i};
		b->statistics[i] = (float)i * 1.5f;
		b->request[i] = (struct request_candidate){part, text, b->statistics, i};
		b->scores[i] = (struct candidate_score){part, .25f, 3, i % 2, .5f};
	}
	switch (type) {
	case RECORD_ITEM:
		return (struct event){.type = type, .item = {text, empty, b->attributes, count, 5, true}};
	case RECORD_IMPRESSION:
		return (struct event){.type = type,
				      .impression = {text, text, b->candidates, count, 5, true, 7}};
	case RECORD_INTERACTION:
		return (struct event){.type = type,
				      .interaction = {text, absent, KIND_REMOVE, true, 2.5, empty, 5}};
	case RECORD_SCORING_REQUEST:
		return (struct event){.type = type,
				      .scoring_request = {text, text, PREDICTION_OK, b->history, count,
							  b->examples, count, b->statistics, count, b->request,
							  count, 3, 4, true, 5}};
	case RECORD_PREDICTION:
		return (struct event){.type = type,
				      .prediction = {text, text, b->scores, count, text, 1, 2, 3, PREDICTION_OK}};
	case RECORD_DEAD_LETTER:
		break;
	}
	return (struct event){.type = type, .dead_letter = {text, 1, 2, text, text, empty, absent, text}};
}

START_TEST(copies_are_whole)
{
	struct error error = {0};

	for (int type = 0; type < RECORD_TYPES; type++)
		for (size_t count = 0; count <= COUNT; count += COUNT) {
			struct borrowed *borrowed = mem_alloc(sizeof *borrowed);
			struct event event = make_event((enum record_type)type, borrowed, count), copy;
			struct byte_buffer before = {.bytes_max = 1 << 20}, after = {.bytes_max = 1 << 20};
			ck_assert_int_eq(codec_encode(&event, &before, &error), STATUS_OK);

			/* Too small by any amount: nothing is written. */
			struct arena *arena = NULL;
			bool copied = false;
			for (size_t bytes = 0; !copied; bytes += 16) {
				arena_destroy(arena);
				arena = arena_create(bytes);
				memset(&copy, 0x77, sizeof copy);
				copied = event_copy(arena, &event, &copy);
				if (!copied)
					ck_assert_int_eq(((unsigned char *)&copy)[sizeof copy - 1], 0x77);
			}
			memset(borrowed, 0, sizeof *borrowed);
			mem_free(borrowed);
			ck_assert_int_eq(codec_encode(&copy, &after, &error), STATUS_OK);
			ck_assert(before.size == after.size && !memcmp(before.bytes, after.bytes, after.size));
			byte_buffer_free(&before);
			byte_buffer_free(&after);
			arena_destroy(arena);
		}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("event copy");
	TCase *tests = tcase_create("event copy");
	tcase_add_test(tests, copies_are_whole);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
