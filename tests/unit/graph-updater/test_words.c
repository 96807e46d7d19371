/* test_words.c - what a word is, what a title's set is, rarity, and attribute values with their counters:
 * hand-made cases with hand-made answers. */
#include "graph-updater/attributes.h"
#include "graph-updater/words.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct error error;

static uint32_t words(struct text_view title)
{
	struct term_hash hashes[WORDS_PER_TITLE_MAX];
	return words_of_title(title, hashes);
}

/* Both titles have the same words in the same order. */
static bool same(struct text_view a, struct text_view b)
{
	struct term_hash left[WORDS_PER_TITLE_MAX], right[WORDS_PER_TITLE_MAX];
	uint32_t count = words_of_title(a, left);
	if (words_of_title(b, right) != count)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (left[i].low != right[i].low || left[i].high != right[i].high)
			return false;
	return true;
}

START_TEST(a_word_is_a_run_of_letters_and_digits)
{
	ck_assert_uint_eq(words(text_of("")), 0);
	ck_assert_uint_eq(words((struct text_view){NULL, 0}), 0);
	ck_assert_uint_eq(words(text_of("  ,.-! ")), 0);
	ck_assert_uint_eq(words(text_of("Hello, WORLD! hello")), 2);
	ck_assert(same(text_of("Hello, WORLD! hello"), text_of("hello world")));
	ck_assert(same(text_of("15-Color"), text_of("15 color")));
	ck_assert(!same(text_of("15Color"), text_of("15 color")));
}
END_TEST

START_TEST(words_are_folded_beyond_ascii)
{
	ck_assert(same(text_of("STRASSE"), text_of("Stra\xC3\x9F" "e")));
	ck_assert(same(text_of("\xC3\x89t\xC3\xA9"), text_of("\xC3\xA9T\xC3\x89")));
	/* e with acute, composed and decomposed */
	ck_assert(same(text_of("caf\xC3\xA9"), text_of("CAFE\xCC\x81")));
	ck_assert(!same(text_of("caf\xC3\xA9"), text_of("cafe")));
	/* full-width ABC */
	ck_assert(same(text_of("\xEF\xBC\xA1\xEF\xBC\xA2\xEF\xBC\xA3"), text_of("abc")));
	/* U+2014 separates, Greek and Cyrillic are letters */
	ck_assert_uint_eq(words(text_of("\xCE\xB1\xCE\xB2\xE2\x80\x94\xD0\xAF")), 2);
	/* U+FDFA, the longest decomposition, as often as a word can hold it */
	char longest[64];
	for (int i = 0; i < 21; i++)
		memcpy(longest + 3 * i, "\xEF\xB7\xBA", 3);
	ck_assert_uint_eq(words((struct text_view){longest, 63}), 1);
}
END_TEST

START_TEST(invalid_utf8_separates)
{
	ck_assert(same(TEXT_LITERAL("ab\xFF" "cd"), text_of("ab cd")));
	ck_assert(same(TEXT_LITERAL("ab\xC3"), text_of("ab")));
	ck_assert(same(TEXT_LITERAL("\xED\xA0\x80x"), text_of("x")));
	ck_assert(same(TEXT_LITERAL("a\0b"), text_of("a b")));
}
END_TEST

START_TEST(long_titles_and_words_are_bounded)
{
	size_t size = 1 << 20;
	char *title = malloc(size);
	struct term_hash hashes[WORDS_PER_TITLE_MAX];

	/* 1 MB of one word is the word of its first 64 bytes */
	memset(title, 'x', size);
	ck_assert_uint_eq(words((struct text_view){title, size}), 1);
	ck_assert(same((struct text_view){title, size}, (struct text_view){title, WORD_BYTES_MAX}));
	ck_assert(!same((struct text_view){title, 63}, (struct text_view){title, 64}));

	/* 250 different words of four digits */
	for (int i = 0; i < 250; i++)
		snprintf(title + 5 * i, 6, "%04u ", (unsigned)i % 10000);
	ck_assert_uint_eq(words_of_title((struct text_view){title, 1250}, hashes), WORDS_PER_TITLE_MAX);

	/* what lies beyond the first 4,096 bytes does not count */
	memset(title, ' ', size);
	memcpy(title + WORDS_TITLE_BYTES - 2, "ab", 2);
	memcpy(title + WORDS_TITLE_BYTES + 1, "cd", 2);
	ck_assert(same((struct text_view){title, size}, text_of("ab")));
	free(title);
}
END_TEST

START_TEST(rarity_is_the_squared_log_of_n_over_df)
{
	struct words *table;
	uint32_t count, term;
	const uint32_t *list;

	ck_assert_int_eq(words_create(10, &table, &error), STATUS_OK);
	ck_assert_int_eq(words_set(table, (struct item_id){0}, text_of("red lipstick"), &error), STATUS_OK);
	ck_assert_int_eq(words_set(table, (struct item_id){1}, text_of("Red brush"), &error), STATUS_OK);
	ck_assert_int_eq(words_set(table, (struct item_id){2}, text_of("comb"), &error), STATUS_OK);
	list = terms_of(words_terms(table), (struct item_id){0}, &count);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(terms_get(words_terms(table), list[0])->references, 2);
	ck_assert_uint_eq(terms_get(words_terms(table), list[1])->references, 1);
	double weight = (double)words_weight(table, list[0], log(3)) / 4294967296.0;
	ck_assert_double_eq_tol(weight, log(1.5) * log(1.5), 1e-9);
	ck_assert_int_eq(words_weight(table, list[0], log(2)), 0);

	/* the title changes, then goes */
	ck_assert_int_eq(words_set(table, (struct item_id){1}, text_of("brush"), &error), STATUS_OK);
	list = terms_of(words_terms(table), (struct item_id){0}, &count);
	ck_assert_uint_eq(terms_get(words_terms(table), list[0])->references, 1);
	ck_assert_int_eq(words_set(table, (struct item_id){0}, text_of(""), &error), STATUS_OK);
	ck_assert(!terms_find(words_terms(table), term_hash_of("red", 3), &term));
	ck_assert_uint_eq(terms_alive(words_terms(table)), 2);

	ck_assert_int_eq(words_set(table, (struct item_id){10}, text_of("x"), &error), STATUS_NO_MEMORY);
	words_destroy(table);
	words_destroy(NULL);
}
END_TEST

static const struct term *value(const struct attributes *attributes, size_t name, const char *text)
{
	uint32_t term;
	if (!terms_find(attributes_terms(attributes, name), term_hash_of(text, strlen(text)), &term))
		return NULL;
	return terms_get(attributes_terms(attributes, name), term);
}

START_TEST(edges_move_with_the_attributes_of_their_item)
{
	const char *names[] = {"brand", "genre"};
	struct attribute first[] = {{text_of("brand"), text_of("acme")},
				    {text_of("genre"), text_of("|a|b||a|")},
				    {text_of("color"), text_of("red")}};
	struct attribute second[] = {{text_of("genre"), text_of("b|c")}};
	struct attributes *attributes;
	uint32_t count;

	ck_assert_int_eq(attributes_create(names, 2, 10, &attributes, &error), STATUS_OK);
	ck_assert_int_eq(attributes_set(attributes, (struct item_id){3}, first, 3, 2, 100, &error), STATUS_OK);
	terms_of(attributes_terms(attributes, 1), (struct item_id){3}, &count);
	ck_assert_uint_eq(count, 2);
	attributes_add(attributes, (struct item_id){3}, 1, 11);
	attributes_add(attributes, (struct item_id){3}, 0, -1);
	attributes_add(attributes, (struct item_id){4}, 1, 5000);       /* an item without attributes */
	ck_assert_uint_eq(value(attributes, 0, "acme")->count, 3);
	ck_assert_int_eq(value(attributes, 0, "acme")->sum, 110);
	ck_assert_int_eq(value(attributes, 1, "a")->sum, 110);
	ck_assert_ptr_null(value(attributes, 1, ""));
	ck_assert_ptr_null(value(attributes, 1, "red"));

	ck_assert_int_eq(attributes_set(attributes, (struct item_id){3}, second, 1, 3, 110, &error), STATUS_OK);
	ck_assert_ptr_null(value(attributes, 0, "acme"));
	ck_assert_ptr_null(value(attributes, 1, "a"));
	ck_assert_int_eq(value(attributes, 1, "b")->sum, 110);
	ck_assert_uint_eq(value(attributes, 1, "c")->count, 3);

	ck_assert_int_eq(attributes_set(attributes, (struct item_id){4}, second, 1, 1, 5000, &error), STATUS_OK);
	ck_assert_int_eq(attributes_set(attributes, (struct item_id){3}, NULL, 0, 3, 110, &error), STATUS_OK);
	ck_assert_uint_eq(value(attributes, 1, "b")->count, 1);
	ck_assert_int_eq(value(attributes, 1, "b")->sum, 5000);
	attributes_destroy(attributes);
	attributes_destroy(NULL);
}
END_TEST

START_TEST(bad_names_are_refused)
{
	const char *twice[] = {"brand", "brand"}, *empty[] = {""}, *many[ATTRIBUTES_MAX + 1];
	char texts[ATTRIBUTES_MAX + 1][12];
	struct attributes *attributes = NULL;

	for (int i = 0; i <= ATTRIBUTES_MAX; i++) {
		snprintf(texts[i], sizeof texts[i], "%d", i);
		many[i] = texts[i];
	}
	ck_assert_int_eq(attributes_create(twice, 2, 10, &attributes, &error), STATUS_CONFIG);
	ck_assert_int_eq(attributes_create(empty, 1, 10, &attributes, &error), STATUS_CONFIG);
	ck_assert_int_eq(attributes_create(many, ATTRIBUTES_MAX + 1, 10, &attributes, &error), STATUS_CONFIG);
	ck_assert_ptr_null(attributes);
	ck_assert_int_eq(attributes_create(many, ATTRIBUTES_MAX, 10, &attributes, &error), STATUS_OK);
	attributes_destroy(attributes);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("words");
	TCase *tests = tcase_create("words");

	tcase_add_test(tests, a_word_is_a_run_of_letters_and_digits);
	tcase_add_test(tests, words_are_folded_beyond_ascii);
	tcase_add_test(tests, invalid_utf8_separates);
	tcase_add_test(tests, long_titles_and_words_are_bounded);
	tcase_add_test(tests, rarity_is_the_squared_log_of_n_over_df);
	tcase_add_test(tests, edges_move_with_the_attributes_of_their_item);
	tcase_add_test(tests, bad_names_are_refused);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
