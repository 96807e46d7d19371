/* fuzz_words.c - any bytes as titles and as attribute values: no crash, no read out of bounds, bounds
 * kept, equal texts equal sets, and a table that is empty again once every item is gone.
 *
 * The input is split at 0x1F: pieces become title and attribute value of items in turn; each item is
 * set, set again with the next piece, and cleared. */
#include "graph-updater/attributes.h"
#include "graph-updater/words.h"

#include <stdlib.h>

enum { ITEMS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void same_words_again(struct text_view title)
{
	struct term_hash first[WORDS_PER_TITLE_MAX], second[WORDS_PER_TITLE_MAX];
	uint32_t count = words_of_title(title, first);

	must(count <= WORDS_PER_TITLE_MAX && words_of_title(title, second) == count);
	for (uint32_t i = 0; i < count; i++) {
		must(first[i].low == second[i].low && first[i].high == second[i].high);
		for (uint32_t j = 0; j < i; j++)
			must(first[i].low != first[j].low || first[i].high != first[j].high);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"brand"};
	struct words *words = NULL;
	struct attributes *attributes = NULL;
	uint32_t item = 0;

	must(words_create(ITEMS, &words, NULL) == STATUS_OK);
	must(attributes_create(names, 1, ITEMS, &attributes, NULL) == STATUS_OK);
	for (size_t start = 0; start < size; item = (item + 1) % ITEMS) {
		const uint8_t *end = memchr(data + start, 0x1F, size - start);
		struct text_view text = {(const char *)data + start,
					 end ? (size_t)(end - data) - start : size - start};
		struct attribute attribute = {TEXT_LITERAL("brand"), text};
		same_words_again(text);
		must(words_set(words, (struct item_id){item}, text, NULL) == STATUS_OK);
		must(attributes_set(attributes, (struct item_id){item}, &attribute, 1, 1, 7, NULL) == STATUS_OK);
		start += text.size + 1;
	}
	for (item = 0; item < ITEMS; item++) {
		uint32_t values;
		const uint32_t *list = terms_of(attributes_terms(attributes, 0), (struct item_id){item}, &values);
		for (uint32_t i = 0; i < values; i++)
			must(terms_get(attributes_terms(attributes, 0), list[i])->count ==
			     terms_get(attributes_terms(attributes, 0), list[i])->references);
	}
	for (item = 0; item < ITEMS; item++) {
		must(words_set(words, (struct item_id){item}, (struct text_view){NULL, 0}, NULL) == STATUS_OK);
		must(attributes_set(attributes, (struct item_id){item}, NULL, 0, 1, 7, NULL) == STATUS_OK);
	}
	must(terms_alive(words_terms(words)) == 0);
	must(terms_alive(attributes_terms(attributes, 0)) == 0);
	words_destroy(words);
	attributes_destroy(attributes);
	return 0;
}
