/* Byte pair encoding against the plainest possible version of itself, over random tables and texts: the short
 * loop, the heap, the cache, both faces. */
#include "scorer/tokenizer_bpe.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>

enum { LETTERS = 6, TOKENS_MAX = 200, TEXT_MAX = 400 };

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % below;
}

struct table {
	char texts[TOKENS_MAX][64];
	uint32_t left[TOKENS_MAX], right[TOKENS_MAX], whole[TOKENS_MAX];        /* by rank */
	uint32_t tokens, merges;
};

/* Letters first, then tokens joined from two earlier ones. */
static void make_table(struct table *table, struct bpe *bpe)
{
	struct error error = {0};
	uint32_t wanted = LETTERS + 1 + draw(60);

	*table = (struct table){0};
	for (; table->tokens < LETTERS; table->tokens++)
		snprintf(table->texts[table->tokens], 64, "%c", 'a' + table->tokens);
	for (int tries = 0; table->tokens < wanted && tries < 1000; tries++) {
		uint32_t left = draw(table->tokens), right = draw(table->tokens), known = 0;
		char text[64];
		if (strlen(table->texts[left]) + strlen(table->texts[right]) > 12)
			continue;
		snprintf(text, sizeof(text), "%.30s%.30s", table->texts[left], table->texts[right]);
		while (known < table->tokens && strcmp(table->texts[known], text) != 0)
			known++;
		if (known < table->tokens)
			continue;
		strcpy(table->texts[table->tokens], text);
		table->left[table->merges] = left;
		table->right[table->merges] = right;
		table->whole[table->merges++] = table->tokens++;
	}
	*bpe = (struct bpe){.unknown = -1};
	ck_assert_int_eq(vocabulary_init(&bpe->vocabulary, table->tokens, &error), STATUS_OK);
	for (uint32_t id = 0; id < table->tokens; id++)
		ck_assert_int_eq(vocabulary_set(&bpe->vocabulary, id, text_of(table->texts[id]), &error),
				 STATUS_OK);
	ck_assert_int_eq(bpe_init_merges(bpe, table->merges, &error), STATUS_OK);
	for (uint32_t rank = 0; rank < table->merges; rank++)
		ck_assert_int_eq(bpe_add_merge(bpe, text_of(table->texts[table->left[rank]]),
					       text_of(table->texts[table->right[rank]]), rank, &error),
					       STATUS_OK);
	bpe_find_bytes(bpe);
}

/* Look for the lowest rank anywhere, apply it at its first place, begin again. */
static size_t plain_encode(const struct table *table, const char *text, size_t size, int32_t *ids)
{
	size_t count = size;

	for (size_t i = 0; i < size; i++)
		ids[i] = text[i] - 'a';
	for (;;) {
		size_t place = 0;
		uint32_t rank = 0;
		bool found = false;
		for (; rank < table->merges && !found; rank += !found)
			for (place = 0; place + 1 < count && !found; place += !found)
				found = ids[place] == (int32_t)table->left[rank] &&
					ids[place + 1] == (int32_t)table->right[rank];
		if (!found)
			return count;
		ids[place] = (int32_t)table->whole[rank];
		memmove(ids + place + 1, ids + place + 2, (count - place - 2) * sizeof(*ids));
		count--;
	}
}

START_TEST(equals_the_plain_version)
{
	static struct table table;
	int32_t wanted[TEXT_MAX], found[TEXT_MAX];
	char text[TEXT_MAX];

	for (int round = 0; round < 150; round++) {
		struct bpe bpe;
		struct bpe_scratch *scratch = bpe_scratch_create();
		make_table(&table, &bpe);
		for (int i = 0; i < 60; i++) {
			size_t size = i % 3 == 0 ? draw(TEXT_MAX) : draw(60), count = 0, repeated = 0;
			uint32_t letters = 1 + draw(LETTERS);
			size_t expected;
			struct error error = {0};
			for (size_t k = 0; k < size; k++)
				text[k] = (char)('a' + draw(letters));
			expected = plain_encode(&table, text, size, wanted);
			bpe.byte_level = i % 2;
			ck_assert_int_eq(bpe_encode(&bpe, scratch, (struct text_view){text, size}, found,
						    TEXT_MAX, &count,
						    &error), STATUS_OK);
			ck_assert_uint_eq(count, expected);
			ck_assert_int_eq(memcmp(found, wanted, count * sizeof(*found)), 0);
			ck_assert_int_eq(bpe_encode(&bpe, scratch, (struct text_view){text, size}, found,
						    TEXT_MAX,
						    &repeated, &error), STATUS_OK);
			ck_assert_uint_eq(repeated, expected);
			ck_assert_int_eq(memcmp(found, wanted, count * sizeof(*found)), 0);
		}
		bpe_scratch_destroy(scratch);
		bpe_destroy(&bpe);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bpe");
	TCase *tests = tcase_create("bpe");

	tcase_add_test(tests, equals_the_plain_version);
	tcase_set_timeout(tests, 120);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
