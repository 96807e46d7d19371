/* words.h - titles as sets of words, weighted by rarity over the catalog.
 *
 * A word is a maximal run of letters, marks and digits (Unicode general categories L, M, N), compared
 * after compatibility decomposition and case folding; everything else, invalid UTF-8 included, separates
 * words. Only the first WORDS_TITLE_BYTES bytes of a title, the first WORD_BYTES_MAX bytes of a word and
 * the first WORDS_PER_TITLE_MAX distinct words count, whatever item.text_bytes_max says: the set is a
 * property of the title alone. Owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_WORDS_H
#define EXITPOLL_GRAPH_UPDATER_WORDS_H

#include "graph-updater/terms.h"

enum {
	WORDS_TITLE_BYTES = 4096,
	WORD_BYTES_MAX = 64,
	WORDS_PER_TITLE_MAX = 128,
	WORDS_MAX = 64 * 1024 * 1024,   /* different words alive at a time */
};

struct words;
enum status words_create(uint32_t items_max, struct words **out, struct error *error);
void words_destroy(struct words *words);                /* NULL ok */

/* The distinct words of a title, in order of first appearance. Pure; any thread. */
uint32_t words_of_title(struct text_view title, struct term_hash hashes[WORDS_PER_TITLE_MAX]);

/* The item's title is now this one (empty: no words, also for an item that left the catalog).
 * STATUS_NO_MEMORY: nothing has changed. */
enum status words_set(struct words *words, struct item_id item, struct text_view title,
		      struct error *error);

/* Lists per item; the references of a term are its document frequency. */
const struct terms *words_terms(const struct words *words);

/* The squared rarity log(documents / df)^2 of a word in 2^-32 units, >= 0. Integers, so that sums of
 * weights do not depend on the order of the words. log_documents = log(items in the catalog). */
int64_t words_weight(const struct words *words, uint32_t term, double log_documents);

size_t words_memory_bytes(const struct words *words);

#endif
