/* tokenizer_bpe.c - the merge loop, twice: in place for short words, with a heap for long texts.
 *
 * Invariant: both loops apply the same order (rank, then position), so they give the same ids; which one
 * runs depends on the length alone. A bounded cache of short words in the scratch answers most words of
 * item texts without merging. */
#include "scorer/tokenizer_bpe.h"

#include <stdio.h>
#include <xxhash.h>

enum {
	SHORT_SYMBOLS = 48,
	CACHE_WORDS = 1 << 14, CACHE_KEY_BYTES = 27, CACHE_IDS = 8      /* 64 bytes an entry, 1 MiB */
};
#define NO_PAIR UINT64_MAX
#define NO_RANK UINT32_MAX

struct cached_word {
	uint8_t key_size, id_count;     /* key_size 0: empty */
	char key[CACHE_KEY_BYTES + 3];
	int32_t ids[CACHE_IDS];
};

struct link {
	int32_t id, previous, next;     /* id -1: merged away; next -1: last */
};

struct bpe_scratch {
	struct cached_word *cache;
	int32_t *symbols;               /* [symbol_capacity] */
	size_t symbol_capacity;
	struct link *links;             /* [link_capacity], and 3 times as many heap places */
	uint64_t *heap;
	size_t link_capacity;
};

/* ---- tables ---- */

size_t bpe_byte_text(uint8_t byte, char out[2])
{
	unsigned c = byte;

	/* Printable Latin-1 stands for itself; the others follow each other from U+0100. */
	if (c <= 0x20)
		c += 0x100;
	else if (c >= 0x7F && c <= 0xA0)
		c = c - 0x7F + 0x121;
	else if (c == 0xAD)
		c = 0x143;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = (char)(0xC0 | c >> 6);
	out[1] = (char)(0x80 | (c & 63));
	return 2;
}

enum status bpe_init_merges(struct bpe *bpe, uint32_t merges, struct error *error)
{
	uint32_t slots = 16;

	if (merges > BPE_MERGES_MAX)
		return error_set(error, STATUS_CORRUPT, "%u merges (limit %d)", merges, BPE_MERGES_MAX);
	while (slots < merges + merges / 2)
		slots *= 2;
	bpe->merges = mem_alloc_array(slots, sizeof(*bpe->merges));
	if (!bpe->merges)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %u merges", merges);
	for (uint32_t i = 0; i < slots; i++)
		bpe->merges[i] = (struct bpe_merge){.pair = NO_PAIR};
	bpe->merge_mask = slots - 1;
	return STATUS_OK;
}

void bpe_destroy(struct bpe *bpe)
{
	vocabulary_destroy(&bpe->vocabulary);
	mem_free(bpe->merges);
	*bpe = (struct bpe){0};
}

static struct bpe_merge *merge_slot(const struct bpe *bpe, uint64_t pair)
{
	uint64_t hash = pair * 0x9E3779B97F4A7C15u;
	uint32_t at = (uint32_t)(hash >> 32) & bpe->merge_mask;

	while (bpe->merges[at].pair != NO_PAIR && bpe->merges[at].pair != pair)
		at = (at + 1) & bpe->merge_mask;
	return &bpe->merges[at];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
	return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static uint32_t rank_of(const struct bpe *bpe, int32_t left, int32_t right, int32_t *merged)
{
	const struct bpe_merge *merge = merge_slot(bpe, pair_of(left, right));

	if (merge->pair == NO_PAIR)
		return NO_RANK;
	*merged = (int32_t)merge->merged;
	return merge->rank;
}

enum status bpe_add_merge_ids(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t merged,
			      uint32_t rank, struct error *error)
{
	struct bpe_merge *slot;

	/* One slot stays empty so that a search always ends. */
	if (bpe->merge_count >= bpe->merge_mask || rank == NO_RANK)
		return error_set(error, STATUS_CORRUPT, "more merges than were announced");
	slot = merge_slot(bpe, pair_of((int32_t)left, (int32_t)right));
	if (slot->pair != NO_PAIR)
		return error_set(error, STATUS_CORRUPT, "merge %u joins the same pair as merge %u", rank,
				 slot->rank);
	*slot = (struct bpe_merge){pair_of((int32_t)left, (int32_t)right), rank, merged};
	bpe->merge_count++;
	return STATUS_OK;
}

enum status bpe_add_merge(struct bpe *bpe, struct text_view left, struct text_view right, uint32_t rank,
			  struct error *error)
{
	char whole[2 * VOCABULARY_PIECE_MAX];
	int32_t left_id = vocabulary_find(&bpe->vocabulary, left);
	int32_t right_id = vocabulary_find(&bpe->vocabulary, right), whole_id;

	if (left_id < 0 || right_id < 0)
		return error_set(error, STATUS_CORRUPT, "merge %u: %s part is no token", rank,
				 left_id < 0 ? "its left" : "its right");
	/* Tokens are at most VOCABULARY_PIECE_MAX bytes long. */
	memcpy(whole, left.bytes, left.size);
	memcpy(whole + left.size, right.bytes, right.size);
	whole_id = vocabulary_find(&bpe->vocabulary, (struct text_view){whole, left.size + right.size});
	if (whole_id < 0)
		return error_set(error, STATUS_CORRUPT, "merge %u: what it makes is no token", rank);
	return bpe_add_merge_ids(bpe, (uint32_t)left_id, (uint32_t)right_id, (uint32_t)whole_id, rank, error);
}

void bpe_find_bytes(struct bpe *bpe)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		char text[2];
		size_t size = bpe_byte_text((uint8_t)byte, text);
		bpe->byte_ids[byte] = vocabulary_find(&bpe->vocabulary, (struct text_view){text, size});
	}
}

void bpe_find_fallback_bytes(struct bpe *bpe)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		char text[8];
		snprintf(text, sizeof(text), "<0x%02X>", byte);
		bpe->byte_ids[byte] = vocabulary_find(&bpe->vocabulary, text_of(text));
	}
}

/* ---- scratch ---- */

struct bpe_scratch *bpe_scratch_create(void)
{
	struct bpe_scratch *scratch = mem_alloc_zero(1, sizeof(*scratch));

	if (!scratch)
		return NULL;
	scratch->cache = mem_alloc_zero(CACHE_WORDS, sizeof(*scratch->cache));
	if (!scratch->cache) {
		mem_free(scratch);
		return NULL;
	}
	return scratch;
}

void bpe_scratch_destroy(struct bpe_scratch *scratch)
{
	if (!scratch)
		return;
	mem_free(scratch->cache);
	mem_free(scratch->symbols);
	mem_free(scratch->links);
	mem_free(scratch->heap);
	mem_free(scratch);
}

static bool reserve_symbols(struct bpe_scratch *scratch, size_t count)
{
	int32_t *symbols;

	if (count <= scratch->symbol_capacity)
		return true;
	count += count / 2;
	symbols = mem_resize_array(scratch->symbols, count, sizeof(*symbols));
	if (!symbols)
		return false;
	scratch->symbols = symbols;
	scratch->symbol_capacity = count;
	return true;
}

static bool reserve_links(struct bpe_scratch *scratch, size_t count)
{
	struct link *links;
	uint64_t *heap;

	if (count <= scratch->link_capacity)
		return true;
	count += count / 2;
	links = mem_resize_array(scratch->links, count, sizeof(*links));
	if (!links)
		return false;
	scratch->links = links;
	heap = mem_resize_array(scratch->heap, 3 * count, sizeof(*heap));
	if (!heap)
		return false;
	scratch->heap = heap;
	scratch->link_capacity = count;
	return true;
}

/* ---- merging ---- */

/* At most SHORT_SYMBOLS symbols, in place; returns how many are left. */
static size_t merge_short(const struct bpe *bpe, int32_t *symbols, size_t count)
{
	uint32_t ranks[SHORT_SYMBOLS];
	int32_t merged[SHORT_SYMBOLS] = {0};

	for (size_t i = 0; i + 1 < count; i++)
		ranks[i] = rank_of(bpe, symbols[i], symbols[i + 1], &merged[i]);
	while (count > 1) {
		size_t best = 0;
		for (size_t i = 1; i + 1 < count; i++)
			if (ranks[i] < ranks[best])
				best = i;
		if (ranks[best] == NO_RANK)
			break;
		symbols[best] = merged[best];
		count--;
		memmove(symbols + best + 1, symbols + best + 2, (count - best - 1) * sizeof(*symbols));
		memmove(ranks + best, ranks + best + 1, (count - best - 1) * sizeof(*ranks));
		memmove(merged + best, merged + best + 1, (count - best - 1) * sizeof(*merged));
		if (best + 1 < count)
			ranks[best] = rank_of(bpe, symbols[best], symbols[best + 1], &merged[best]);
		if (best > 0)
			ranks[best - 1] = rank_of(bpe, symbols[best - 1], symbols[best], &merged[best - 1]);
	}
	return count;
}

static void heap_push(uint64_t *heap, size_t *size, uint64_t value)
{
	size_t at = (*size)++;

	while (at > 0 && heap[(at - 1) / 2] > value) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *size)
{
	uint64_t top = heap[0], last = heap[--*size];
	size_t at = 0, child;

	for (; (child = 2 * at + 1) < *size; at = child) {
		if (child + 1 < *size && heap[child + 1] < heap[child])
			child++;
		if (heap[child] >= last)
			break;
		heap[at] = heap[child];
	}
	heap[at] = last;
	return top;
}

static void push_pair(const struct bpe *bpe, const struct link *links, uint64_t *heap, size_t *size,
		      int32_t left)
{
	int32_t right = links[left].next, ignored;
	uint32_t rank = right < 0 ? NO_RANK : rank_of(bpe, links[left].id, links[right].id, &ignored);

	if (rank != NO_RANK)
		heap_push(heap, size, (uint64_t)rank << 32 | (uint32_t)left);
}

/* A heap entry is rank << 32 | position; one whose pair has changed since is recognised by its rank. Every
 * merge adds at most two entries: 3 * count places are enough. */
static size_t merge_long(const struct bpe *bpe, struct bpe_scratch *scratch, int32_t *symbols, size_t count)
{
	struct link *links = scratch->links;
	uint64_t *heap = scratch->heap;
	size_t size = 0, kept = 0;

	for (size_t i = 0; i < count; i++)
		links[i] = (struct link){symbols[i], (int32_t)i - 1, i + 1 < count ? (int32_t)i + 1 : -1};
	for (size_t i = 0; i + 1 < count; i++)
		push_pair(bpe, links, heap, &size, (int32_t)i);
	while (size > 0) {
		uint64_t top = heap_pop(heap, &size);
		int32_t left = (int32_t)(uint32_t)top, right, merged = -1;
		if (links[left].id < 0 || links[left].next < 0)
			continue;
		right = links[left].next;
		if (rank_of(bpe, links[left].id, links[right].id, &merged) != (uint32_t)(top >> 32))
			continue;
		links[left].id = merged;
		links[left].next = links[right].next;
		links[right].id = -1;
		if (links[left].next >= 0)
			links[links[left].next].previous = left;
		push_pair(bpe, links, heap, &size, left);
		if (links[left].previous >= 0)
			push_pair(bpe, links, heap, &size, links[left].previous);
	}
	for (int32_t at = count ? 0 : -1; at >= 0; at = links[at].next)
		symbols[kept++] = links[at].id;
	return kept;
}

/* ---- symbols ---- */

static size_t split_bytes(const struct bpe *bpe, struct text_view text, int32_t *symbols)
{
	size_t count = 0;

	for (size_t i = 0; i < text.size; i++) {
		int32_t id = bpe->byte_ids[(uint8_t)text.bytes[i]];
		if (id < 0)
			id = bpe->unknown;
		if (id >= 0)
			symbols[count++] = id;
	}
	return count;
}

static size_t character_size(unsigned char lead)
{
	return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

static size_t split_characters(const struct bpe *bpe, struct text_view text, int32_t *symbols)
{
	size_t count = 0, size;
	bool last_unknown = false;

	for (size_t i = 0; i < text.size; i += size) {
		int32_t id;
		bool has_bytes = true;
		size = character_size((unsigned char)text.bytes[i]);
		id = vocabulary_find(&bpe->vocabulary, (struct text_view){text.bytes + i, size});
		for (size_t k = 0; id < 0 && k < size; k++)
			has_bytes = has_bytes && bpe->byte_ids[(uint8_t)text.bytes[i + k]] >= 0;
		if (id >= 0) {
			symbols[count++] = id;
			last_unknown = false;
		} else if (has_bytes) {
			for (size_t k = 0; k < size; k++)
				symbols[count++] = bpe->byte_ids[(uint8_t)text.bytes[i + k]];
			last_unknown = false;
		} else if (bpe->unknown >= 0) {
			if (!last_unknown || !bpe->fuse_unknown)
				symbols[count++] = bpe->unknown;
			last_unknown = true;
		}
	}
	return count;
}

/* ---- words ---- */

/* "▁", which SentencePiece writes for a space. */
static bool is_word_mark(struct text_view text, size_t at)
{
	return text.size - at >= 3 && memcmp(text.bytes + at, "\xE2\x96\x81", 3) == 0;
}

/* Behind the marks at `begin` and all that is no mark. */
static size_t word_end(struct text_view text, size_t begin)
{
	size_t at = begin;

	while (at < text.size && is_word_mark(text, at))
		at += 3;
	while (at < text.size && !is_word_mark(text, at))
		at++;
	return at;
}

bool bpe_spans_words(struct text_view piece)
{
	return word_end(piece, 0) < piece.size;
}

void bpe_find_words(struct bpe *bpe)
{
	bpe->words_apart = !bpe->byte_level &&
			   vocabulary_find(&bpe->vocabulary, TEXT_LITERAL("\xE2\x96\x81")) >= 0;
	for (uint32_t i = 0; bpe->words_apart && i <= bpe->merge_mask; i++)
		if (bpe->merges[i].pair != NO_PAIR)
			bpe->words_apart =
			    !bpe_spans_words(bpe->vocabulary.pieces[bpe->merges[i].merged]);
}

static struct cached_word *cache_place(const struct bpe_scratch *scratch, struct text_view word)
{
	if (word.size == 0 || word.size > CACHE_KEY_BYTES)
		return NULL;
	return &scratch->cache[XXH3_64bits(word.bytes, word.size) % CACHE_WORDS];
}

bool bpe_cache_find(const struct bpe_scratch *scratch, struct text_view word, int32_t *ids, size_t ids_max,
		    size_t *count)
{
	const struct cached_word *cached = cache_place(scratch, word);

	if (!cached || cached->key_size != word.size || memcmp(cached->key, word.bytes, word.size) != 0 ||
	    cached->id_count > ids_max - *count)
		return false;
	memcpy(ids + *count, cached->ids, cached->id_count * sizeof(*ids));
	*count += cached->id_count;
	return true;
}

void bpe_cache_put(struct bpe_scratch *scratch, struct text_view word, const int32_t *ids, size_t count)
{
	struct cached_word *cached = cache_place(scratch, word);

	if (!cached || count > CACHE_IDS)
		return;
	cached->key_size = (uint8_t)word.size;
	cached->id_count = (uint8_t)count;
	memcpy(cached->key, word.bytes, word.size);
	memcpy(cached->ids, ids, count * sizeof(*ids));
}

/* ---- one word or text ---- */

static enum status append(const int32_t *from, size_t size, int32_t *ids, size_t ids_max, size_t *count,
			  struct error *error)
{
	if (size > ids_max - *count)
		return error_set(error, STATUS_LIMIT, "more than %zu token ids", ids_max);
	memcpy(ids + *count, from, size * sizeof(*ids));
	*count += size;
	return STATUS_OK;
}

static int32_t whole_word(const struct bpe *bpe, struct text_view word)
{
	char text[VOCABULARY_PIECE_MAX];
	size_t size = 0;

	if (word.size > sizeof(text) / 2)
		return -1;
	for (size_t i = 0; i < word.size; i++)
		size += bpe_byte_text((uint8_t)word.bytes[i], text + size);
	return vocabulary_find(&bpe->vocabulary, (struct text_view){text, size});
}

static enum status encode_word(const struct bpe *bpe, struct bpe_scratch *scratch, struct text_view text,
			       int32_t *ids, size_t ids_max, size_t *count, struct error *error)
{
	bool cacheable = bpe->byte_level || bpe->words_apart;
	int32_t few[SHORT_SYMBOLS], *symbols = few;
	size_t size;

	if (cacheable && bpe_cache_find(scratch, text, ids, ids_max, count))
		return STATUS_OK;
	if (text.size > SHORT_SYMBOLS) {
		if (!reserve_symbols(scratch, text.size))
			return error_set(error, STATUS_NO_MEMORY, "no memory to tokenise %zu bytes",
					 text.size);
		symbols = scratch->symbols;
	}
	if (bpe->byte_level && bpe->whole_words && (symbols[0] = whole_word(bpe, text)) >= 0) {
		size = 1;
	} else {
		size = bpe->byte_level ? split_bytes(bpe, text, symbols) :
			split_characters(bpe, text, symbols);
		if (size > SHORT_SYMBOLS) {
			if (!reserve_links(scratch, size))
				return error_set(error, STATUS_NO_MEMORY, "no memory to tokenise %zu bytes",
						 text.size);
			size = merge_long(bpe, scratch, symbols, size);
		} else {
			size = merge_short(bpe, symbols, size);
		}
	}
	if (cacheable)
		bpe_cache_put(scratch, text, symbols, size);
	return append(symbols, size, ids, ids_max, count, error);
}

enum status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, struct text_view text,
		       int32_t *ids, size_t ids_max, size_t *count, struct error *error)
{
	enum status status = STATUS_OK;

	if (text.size > BPE_TEXT_MAX)
		return error_set(error, STATUS_LIMIT, "a text of %zu bytes (limit %d)", text.size,
				 BPE_TEXT_MAX);
	for (size_t begin = 0, end; status == STATUS_OK && begin < text.size; begin = end) {
		end = bpe->words_apart ? word_end(text, begin) : text.size;
		status = encode_word(bpe, scratch, (struct text_view){text.bytes + begin, end - begin}, ids,
				     ids_max, count, error);
	}
	return status;
}
