/* test_terms.c - random lists of few and of many terms against a table of flags; failing allocations and
 * the bounds must change nothing. The seed is printed; a given one is argv[1]. */
#include "graph-updater/terms.h"

#include <stdio.h>
#include <stdlib.h>

enum { ITEMS = 60, VOCABULARY = 300, LIST_MAX = 40, STEPS = 60000, ALIVE_MAX = 250 };

static uint64_t state;
static struct error error;

static uint32_t below(uint32_t bound)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 33) % bound);
}

#define MUST(condition) \
	do { if (!(condition)) { fprintf(stderr, "line %d: %s\n", __LINE__, #condition); exit(1); } } while (0)

static struct term_hash hash_of(uint32_t word)
{
	struct term_hash hash = term_hash_of(&word, sizeof word);
	/* Few home slots, so that deletion has long chains to keep whole. */
	hash.low &= UINT64_C(0xFFFFFFFF00000F00);
	return hash;
}

static void compare(const struct terms *terms, uint32_t model[ITEMS][LIST_MAX + 1])
{
	uint32_t references[VOCABULARY] = {0}, alive = 0, term, count;

	for (uint32_t item = 0; item < ITEMS; item++) {
		const uint32_t *list = terms_of(terms, (struct item_id){item}, &count);
		MUST(count == model[item][0]);
		for (uint32_t i = 0; i < count; i++) {
			struct term_hash hash = hash_of(model[item][i + 1]);
			MUST(terms_get(terms, list[i])->hash.high == hash.high);
			MUST(terms_find(terms, hash, &term) && term == list[i]);
			references[model[item][i + 1]]++;
		}
	}
	for (uint32_t word = 0; word < VOCABULARY; word++) {
		alive += references[word] > 0;
		if (terms_find(terms, hash_of(word), &term))
			MUST(terms_get(terms, term)->references == references[word]);
		else
			MUST(references[word] == 0);
	}
	MUST(terms_alive(terms) == alive);
}

int main(int argc, char **argv)
{
	static uint32_t model[ITEMS][LIST_MAX + 1];
	struct terms *terms;
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20261124;
	unsigned failures = 0;

	printf("seed %llu\n", (unsigned long long)seed);
	state = seed;
	MUST(terms_create("terms", ALIVE_MAX, ITEMS, &terms, &error) == STATUS_OK);
	for (int step = 0; step < STEPS; step++) {
		struct item_id item = {below(ITEMS)};
		uint32_t list[LIST_MAX], count = below(4) ? below(LIST_MAX + 1) : 0;
		struct term_hash hashes[LIST_MAX];
		/* Mostly a small vocabulary; at times the whole one, so that the bound is met. */
		uint32_t vocabulary = step % 1000 < 800 ? 60 : VOCABULARY, start = below(vocabulary);
		enum status status;

		for (uint32_t i = 0; i < count; i++) {
			list[i] = (start + i * 7) % vocabulary;
			hashes[i] = hash_of(list[i]);
		}
		if (vocabulary == 60 && count > 60 / 7)
			count = count % 8;
		if (below(3) == 0)
			mem_fail_after(below(3));
		status = terms_set(terms, item, hashes, count, &error);
		mem_fail_after(-1);
		if (status) {
			MUST(status == STATUS_NO_MEMORY);
			failures++;
		} else {
			model[item.v][0] = count;
			memcpy(model[item.v] + 1, list, count * sizeof *list);
		}
		if (step % 16 == 0 || status)
			compare(terms, model);
	}
	compare(terms, model);
	MUST(failures > 100);
	MUST(terms_index_end(terms) <= ALIVE_MAX);
	MUST(terms_set(terms, (struct item_id){ITEMS}, &(struct term_hash){1, 1}, 1, &error) ==
	     STATUS_NO_MEMORY);
	for (uint32_t item = 0; item < ITEMS; item++)
		MUST(terms_set(terms, (struct item_id){item}, NULL, 0, &error) == STATUS_OK);
	MUST(terms_alive(terms) == 0);
	terms_destroy(terms);
	for (long successes = 0; successes < 3; successes++) {
		mem_fail_after(successes);
		MUST(terms_create("terms", 10, 10, &terms, &error) == STATUS_NO_MEMORY);
	}
	mem_fail_after(-1);
	printf("%d changes, %u refused\n", STEPS, failures);
	return 0;
}
