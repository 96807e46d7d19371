/* words.c - cuts titles into folded words and keeps their document frequencies.
 *
 * Invariant: the list of an item is the word set of its current title. Called by the updater when a
 * catalog entry changes and by statistics.c to read; owner thread. */
#include "graph-updater/words.h"

#include <math.h>
#include <utf8proc.h>

enum {
	LOGARITHMS = 4096,
	/* A code point gives at most 18 under compatibility decomposition (U+FDFA). */
	FOLDED_MAX = WORD_BYTES_MAX * 18,
};

struct words {
	struct terms *terms;
	double logarithm[LOGARITHMS];   /* of small document frequencies */
};

enum status words_create(uint32_t items_max, struct words **out, struct error *error)
{
	struct words *words = mem_alloc_zero(1, sizeof *words);
	enum status status;

	if (!words)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the words of titles");
	status = terms_create("words", WORDS_MAX, items_max, &words->terms, error);
	if (status) {
		mem_free(words);
		return status;
	}
	for (int i = 1; i < LOGARITHMS; i++)
		words->logarithm[i] = log(i);
	*out = words;
	return STATUS_OK;
}

void words_destroy(struct words *words)
{
	if (!words)
		return;
	terms_destroy(words->terms);
	mem_free(words);
}

static bool is_ascii_word(unsigned char byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* Bytes of the character at `at`; *in_word: it belongs to a word. */
static size_t next_character(const unsigned char *at, size_t left, bool *in_word)
{
	utf8proc_int32_t code;
	utf8proc_ssize_t length;

	if (*at < 0x80) {
		*in_word = is_ascii_word(*at);
		return 1;
	}
	length = utf8proc_iterate(at, (utf8proc_ssize_t)left, &code);
	if (length <= 0) {
		*in_word = false;
		return 1;
	}
	switch (utf8proc_category(code)) {
	case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO:
		*in_word = true;
		break;
	default:
		*in_word = false;
	}
	return (size_t)length;
}

/* word: valid UTF-8 of at most WORD_BYTES_MAX bytes; lower-cased in place where it is ASCII. */
static struct term_hash fold(unsigned char *word, size_t size)
{
	utf8proc_int32_t codes[FOLDED_MAX];
	utf8proc_uint8_t bytes[FOLDED_MAX * 4];
	utf8proc_ssize_t count;
	size_t used = 0;
	bool ascii = true;

	for (size_t i = 0; i < size; i++) {
		ascii &= word[i] < 0x80;
		if (word[i] >= 'A' && word[i] <= 'Z')
			word[i] = (unsigned char)(word[i] - 'A' + 'a');
	}
	if (ascii)
		return term_hash_of(word, size);
	count = utf8proc_decompose(word, (utf8proc_ssize_t)size, codes, FOLDED_MAX,
				   UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE |
				   UTF8PROC_CASEFOLD);
	if (count < 0 || count > FOLDED_MAX)
		return term_hash_of(word, size);
	for (utf8proc_ssize_t i = 0; i < count; i++)
		used += (size_t)utf8proc_encode_char(codes[i], bytes + used);
	return term_hash_of(bytes, used);
}

static uint32_t add_distinct(struct term_hash *hashes, uint32_t count, struct term_hash hash)
{
	for (uint32_t i = 0; i < count; i++)
		if (hashes[i].low == hash.low && hashes[i].high == hash.high)
			return count;
	hashes[count] = hash;
	return count + 1;
}

uint32_t words_of_title(struct text_view title, struct term_hash hashes[WORDS_PER_TITLE_MAX])
{
	struct text_view text = text_cut(title, WORDS_TITLE_BYTES);
	const unsigned char *bytes = (const unsigned char *)text.bytes;
	unsigned char word[WORD_BYTES_MAX];
	size_t size = 0;
	bool cut = false;
	uint32_t count = 0;

	for (size_t i = 0; i <= text.size && count < WORDS_PER_TITLE_MAX;) {
		bool in_word = false;
		size_t length = i < text.size ? next_character(bytes + i, text.size - i, &in_word) : 1;
		if (in_word) {
			cut |= size + length > WORD_BYTES_MAX;
			if (!cut) {
				memcpy(word + size, bytes + i, length);
				size += length;
			}
		} else {
			if (size)
				count = add_distinct(hashes, count, fold(word, size));
			size = 0;
			cut = false;
		}
		i += length;
	}
	return count;
}

enum status words_set(struct words *words, struct item_id item, struct text_view title,
		      struct error *error)
{
	struct term_hash hashes[WORDS_PER_TITLE_MAX];
	return terms_set(words->terms, item, hashes, words_of_title(title, hashes), error);
}

const struct terms *words_terms(const struct words *words)
{
	return words->terms;
}

int64_t words_weight(const struct words *words, uint32_t term, double log_documents)
{
	uint32_t df = terms_get(words->terms, term)->references;
	double rarity = log_documents - (df < LOGARITHMS ? words->logarithm[df] : log(df));

	/* A df above the catalog's count cannot be, but a rarity must not be negative by rounding. */
	return rarity <= 0 ? 0 : llrint(rarity * rarity * 4294967296.0);
}

size_t words_memory_bytes(const struct words *words)
{
	return sizeof *words + terms_memory_bytes(words->terms);
}
