/* Texts, arenas and growing arrays at their edges. */
#include "base/mem.h"
#include "base/status.h"
#include "base/text.h"
#include "tests/check_run.h"

START_TEST(utf8)
{
	static const char *const good[] = {"", "a", "é", "€", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"};
	static const char *const bad[] = {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
					  "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82", "a\xFF"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		ck_assert_msg(text_is_utf8(text_of(good[i])), "good %zu", i);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(!text_is_utf8(text_of(bad[i])), "bad %zu", i);
}
END_TEST

START_TEST(cut_never_splits_a_character)
{
	struct text_view text = TEXT_LITERAL("aé€\xF0\x9F\x98\x80z");
	static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
	for (size_t max = 0; max < sizeof expected / sizeof expected[0]; max++) {
		ck_assert_uint_eq(text_cut(text, max).size, expected[max]);
		ck_assert(text_is_utf8(text_cut(text, max)));
	}
}
END_TEST

START_TEST(repair)
{
	struct arena *arena = arena_create(1 << 16);
	struct text_view out;
	ck_assert(text_copy_repaired(arena, TEXT_LITERAL("a\xFF\x80z\xE2\x82"), &out));
	ck_assert(text_is_utf8(out));
	ck_assert(text_equal(out, TEXT_LITERAL("a\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD")));
	arena_destroy(arena);
}
END_TEST

START_TEST(compare_is_bytewise)
{
	ck_assert_int_lt(text_compare(TEXT_LITERAL("a"), TEXT_LITERAL("ab")), 0);
	ck_assert_int_lt(text_compare(TEXT_LITERAL("Z"), TEXT_LITERAL("a")), 0);
	ck_assert_int_gt(text_compare(TEXT_LITERAL("\xC3"), TEXT_LITERAL("z")), 0);
	ck_assert_int_eq(text_compare(TEXT_LITERAL(""), (struct text_view){NULL, 0}), 0);
	ck_assert_uint_eq(text_distance("kitten", "sitting"), 3);
}
END_TEST

START_TEST(arena_keeps_its_limit)
{
	struct arena *arena = arena_create(1 << 20);
	ck_assert_ptr_null(arena_alloc(arena, (1 << 20) + 1));
	ck_assert_ptr_null(arena_alloc(arena, SIZE_MAX));
	ck_assert_ptr_null(arena_array(arena, SIZE_MAX / 2, 4));
	for (int round = 0; round < 3; round++) {
		size_t given = 0;
		for (unsigned char *block; (block = arena_alloc(arena, 1000)) != NULL; given += 1008) {
			ck_assert_uint_eq((uintptr_t)block % 16, 0);
			memset(block, round, 1000);
		}
		ck_assert_uint_ge(given, (1 << 20) - 1008);
		ck_assert_uint_le(arena_used(arena), 1 << 20);
		arena_reset(arena);
	}
	arena_destroy(arena);
}
END_TEST

START_TEST(growth_has_a_maximum)
{
	void *array = NULL;
	size_t capacity = 0;
	for (size_t count = 0; count < 100; count++)
		ck_assert(mem_reserve(&array, &capacity, count, 100, 8));
	ck_assert_uint_eq(capacity, 100);
	ck_assert(!mem_reserve(&array, &capacity, 100, 100, 8));
	mem_free(array);
	ck_assert_ptr_null(mem_alloc_array(SIZE_MAX, 2));
}
END_TEST

START_TEST(injected_failures)
{
	mem_fail_after(1);
	void *one = mem_alloc(8), *two = mem_alloc(8);
	mem_fail_after(-1);
	ck_assert_ptr_nonnull(one);
	ck_assert_ptr_null(two);
	mem_free(one);
}
END_TEST

START_TEST(errors)
{
	struct error error = {0};
	ck_assert_int_eq(error_set(&error, STATUS_CORRUPT, "byte %d", 7), STATUS_CORRUPT);
	ck_assert_int_eq(error_prefix(&error, "file %s", "x"), STATUS_CORRUPT);
	ck_assert_str_eq(error.text, "file x: byte 7");
	ck_assert_int_eq(status_exit_code(STATUS_CORRUPT), 65);
	ck_assert_int_eq(status_class(STATUS_RETRY), STATUS_CLASS_RETRY);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("text and memory");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, utf8);
	tcase_add_test(tests, cut_never_splits_a_character);
	tcase_add_test(tests, repair);
	tcase_add_test(tests, compare_is_bytewise);
	tcase_add_test(tests, arena_keeps_its_limit);
	tcase_add_test(tests, growth_has_a_maximum);
	tcase_add_test(tests, injected_failures);
	tcase_add_test(tests, errors);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
