/* test_codec.c - encode and decode of every record with edge values; limits; every truncation; torture
 * by failing allocations. */
#include "schemas/codec.h"
#include "tests/unit/schemas/codec_samples.h"
#include "tests/check_run.h"

#include <stdlib.h>

enum { ROUNDS = 400, ARENA_BYTES = 8 * 1024 * 1024 };

static struct codec_plan *own_plan(enum record_type type)
{
	struct error error = {0};
	struct codec_plan *plan = NULL;
	enum status status = codec_plan_create(type, text_of(codec_schema_json(type)), &plan, &error);
	ck_assert_msg(status == STATUS_OK, "%s: %s", record_type_name(type), error.text);
	ck_assert_int_eq(codec_plan_type(plan), type);
	return plan;
}

START_TEST(round_trip)
{
	enum record_type type = (enum record_type)_i;
	struct samples samples = {.state = 7 + (uint64_t)_i, .arena = arena_create(ARENA_BYTES)};
	struct arena *arena = arena_create(ARENA_BYTES);
	struct byte_buffer buffer = {.bytes_max = 1 << 20};
	struct codec_plan *plan = own_plan(type);

	for (int round = 0; round < ROUNDS; round++) {
		struct event event, back;
		struct error error = {0};
		size_t used = 0;
		enum status status;

		arena_reset(samples.arena);
		arena_reset(arena);
		buffer.size = 0;
		event = sample_event(&samples, type);
		ck_assert_int_eq(codec_encode(&event, &buffer, &error), STATUS_OK);
		status = codec_decode(plan, (struct text_view){buffer.bytes, buffer.size}, arena, &back,
		NULL, &error);
		ck_assert_msg(status == STATUS_OK, "round %d: %s", round, error.text);
		ck_assert_msg(same_event(&event, &back), "%s differs in round %d", record_type_name(type),
		round);

		/* With bytes after it, and its length asked for. */
		ck_assert(byte_buffer_append(&buffer, "xyz", 3));
		ck_assert_int_eq(codec_decode(plan, (struct text_view){buffer.bytes, buffer.size}, arena,
		&back,
					      NULL, &error), STATUS_BAD_RECORD);
		ck_assert_int_eq(codec_decode(plan, (struct text_view){buffer.bytes, buffer.size}, arena,
		&back,
					      &used, &error), STATUS_OK);
		ck_assert_uint_eq(used, buffer.size - 3);
	}
	codec_plan_destroy(plan);
	byte_buffer_free(&buffer);
	arena_destroy(arena);
	arena_destroy(samples.arena);
}
END_TEST

/* Every cut of a valid body is an error that names a byte, reads nothing past the cut (the copy is of
 * exactly that size, for the address sanitizer), and leaves the output alone. */
START_TEST(every_truncation)
{
	enum record_type type = (enum record_type)_i;
	struct samples samples = {.state = 99 + (uint64_t)_i, .arena = arena_create(ARENA_BYTES)};
	struct arena *arena = arena_create(ARENA_BYTES);
	struct byte_buffer buffer = {.bytes_max = 1 << 20};
	struct codec_plan *plan = own_plan(type);

	for (int round = 0; round < 5; round++) {
		struct event event = sample_event(&samples, type);
		buffer.size = 0;
		ck_assert_int_eq(codec_encode(&event, &buffer, NULL), STATUS_OK);
		for (size_t size = 0; size < buffer.size; size++) {
			char *copy = mem_alloc(size);
			struct event back = {.type = (enum record_type)77};
			struct error error = {0};

			memcpy(copy, buffer.bytes, size);
			arena_reset(arena);
			ck_assert_int_eq(codec_decode(plan, (struct text_view){copy, size}, arena, &back,
			NULL, &error),
					 STATUS_BAD_RECORD);
			ck_assert_ptr_nonnull(strstr(error.text, "at byte"));
			ck_assert_int_eq(back.type, 77);
			mem_free(copy);
		}
	}
	ck_assert_int_eq(codec_decode(plan, (struct text_view){NULL, 0}, arena, &(struct event){0}, NULL,
		NULL),
			 STATUS_BAD_RECORD);
	codec_plan_destroy(plan);
	byte_buffer_free(&buffer);
	arena_destroy(arena);
	arena_destroy(samples.arena);
}
END_TEST

/* bytes_max is exact: one byte less is a refusal that leaves the buffer as it was. */
START_TEST(encode_limit)
{
	enum record_type type = (enum record_type)_i;
	struct samples samples = {.state = 5 + (uint64_t)_i, .arena = arena_create(ARENA_BYTES)};

	for (int round = 0; round < 100; round++) {
		struct byte_buffer whole = {.bytes_max = 1 << 20}, tight = {0};
		struct event event;
		struct error error = {0};

		arena_reset(samples.arena);
		event = sample_event(&samples, type);
		ck_assert_int_eq(codec_encode(&event, &whole, NULL), STATUS_OK);
		tight.bytes_max = 4 + whole.size;
		ck_assert(byte_buffer_append(&tight, "head", 4));
		ck_assert_int_eq(codec_encode(&event, &tight, NULL), STATUS_OK);
		ck_assert_uint_eq(tight.size, 4 + whole.size);
		ck_assert(memcmp(tight.bytes, "head", 4) == 0);
		ck_assert(memcmp(tight.bytes + 4, whole.bytes, whole.size) == 0);
		tight.size = 4;
		tight.bytes_max--;
		ck_assert_int_eq(codec_encode(&event, &tight, &error), STATUS_LIMIT);
		ck_assert_uint_eq(tight.size, 4);
		ck_assert(memcmp(tight.bytes, "head", 4) == 0);
		tight.bytes_max = 2;    /* below what is there already */
		ck_assert_int_eq(codec_encode(&event, &tight, &error), STATUS_LIMIT);
		ck_assert_uint_eq(tight.size, 4);
		ck_assert(!byte_buffer_append(&tight, "x", 1));
		byte_buffer_free(&whole);
		byte_buffer_free(&tight);
	}
	arena_destroy(samples.arena);
}
END_TEST

START_TEST(encode_refuses_wrong_enums)
{
	struct byte_buffer buffer = {.bytes_max = 1000};
	struct error error = {0};
	struct event event = {.type = RECORD_INTERACTION,
			      .interaction = {.user_id = TEXT_LITERAL("u"), .kind = (enum
			      interaction_kind)9}};

	ck_assert_int_eq(codec_encode(&event, &buffer, &error), STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "9 is no interaction kind"));
	ck_assert_uint_eq(buffer.size, 0);
	event = (struct event){.type = RECORD_PREDICTION, .prediction = {.status = (enum
		prediction_status)6}};
	ck_assert_int_eq(codec_encode(&event, &buffer, &error), STATUS_BAD_RECORD);
	event = (struct event){.type = (enum record_type)6};
	ck_assert_int_eq(codec_encode(&event, &buffer, &error), STATUS_BAD_RECORD);
	byte_buffer_free(&buffer);
}
END_TEST

/* Whatever allocation fails, the call says so, writes nothing and leaks nothing. */
START_TEST(failing_allocations)
{
	enum record_type type = (enum record_type)_i;
	struct samples samples = {.state = 31 + (uint64_t)_i, .arena = arena_create(ARENA_BYTES)};
	struct byte_buffer good = {.bytes_max = 1 << 20};
	struct event event;
	struct codec_plan *plan = NULL;
	long step = 0;

	do
		event = sample_event(&samples, type);
	while (type == RECORD_SCORING_REQUEST && event.scoring_request.history_count == 0);
	for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; step++) {
		struct byte_buffer buffer = {.bytes_max = 1 << 20};
		ck_assert_int_lt(step, 1000);
		mem_fail_after(step);
		status = codec_encode(&event, &buffer, NULL);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || (status == STATUS_NO_MEMORY && buffer.size == 0));
		byte_buffer_free(&buffer);
	}
	ck_assert_int_eq(codec_encode(&event, &good, NULL), STATUS_OK);
	step = 0;
	for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; step++) {
		ck_assert_int_lt(step, 10000);
		mem_fail_after(step);
		status = codec_plan_create(type, text_of(codec_schema_json(type)), &plan, NULL);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || (status == STATUS_NO_MEMORY && !plan));
	}
	step = 0;
	for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; step++) {
		struct arena *arena = arena_create(ARENA_BYTES);
		struct event back = {0};
		ck_assert_int_lt(step, 1000);
		mem_fail_after(step);
		status = codec_decode(plan, (struct text_view){good.bytes, good.size}, arena, &back, NULL,
		NULL);
		mem_fail_after(-1);
		ck_assert(status == STATUS_LIMIT || (status == STATUS_OK && same_event(&event, &back)));
		arena_destroy(arena);
	}
	codec_plan_destroy(plan);
	byte_buffer_free(&good);
	arena_destroy(samples.arena);
}
END_TEST

START_TEST(framing)
{
	char header[FRAMING_BYTES];
	struct text_view body;
	struct error error = {0};
	uint32_t id = 0;

	for (uint64_t given = 0; given <= UINT32_MAX; given = given * 3 + 1) {
		framing_write((uint32_t)given, header);
		ck_assert_int_eq(framing_read((struct text_view){header, 5}, &id, &body, &error), STATUS_OK);
		ck_assert_uint_eq(id, (uint32_t)given);
		ck_assert_uint_eq(body.size, 0);
	}
	ck_assert_int_eq(framing_read((struct text_view){"\0\1\2\3\4body", 9}, &id, &body, &error),
		STATUS_OK);
	ck_assert_uint_eq(id, 0x01020304);
	ck_assert(text_equal(body, TEXT_LITERAL("body")));
	for (size_t size = 0; size < 5; size++)
		ck_assert_int_eq(framing_read((struct text_view){"\0\1\2\3", size}, &id, &body, &error),
				 STATUS_BAD_RECORD);
	ck_assert_int_eq(framing_read((struct text_view){"\1\1\2\3\4body", 9}, &id, &body, &error),
			 STATUS_BAD_RECORD);
	ck_assert_ptr_nonnull(strstr(error.text, "0x01"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("codec");
	TCase *tests = tcase_create("codec");

	tcase_add_loop_test(tests, round_trip, 0, RECORD_TYPES);
	tcase_add_loop_test(tests, every_truncation, 0, RECORD_TYPES);
	tcase_add_loop_test(tests, encode_limit, 0, RECORD_TYPES);
	tcase_add_test(tests, encode_refuses_wrong_enums);
	tcase_add_loop_test(tests, failing_allocations, 0, RECORD_TYPES);
	tcase_add_test(tests, framing);
	tcase_set_timeout(tests, 60);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
