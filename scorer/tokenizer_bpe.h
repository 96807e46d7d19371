/* tokenizer_bpe.h - byte pair encoding: symbols in, merged ids out, always the pair of lowest rank and
 * of those the leftmost.
 *
 * Two faces: byte-level (each byte is a symbol; text was cut into words before) and character-level as
 * SentencePiece has it (each character is a symbol, unknown ones fall back to bytes or to <unk>). The
 * tables are immutable; the scratch belongs to one thread. */
#ifndef EXITPOLL_SCORER_TOKENIZER_BPE_H
#define EXITPOLL_SCORER_TOKENIZER_BPE_H

#include "scorer/vocabulary.h"

enum { BPE_MERGES_MAX = 4 << 20, BPE_TEXT_MAX = 16 << 20 };

struct bpe_merge {
	uint64_t pair;                  /* left << 32 | right; ~0: empty */
	uint32_t rank, merged;
};

struct bpe {
	struct vocabulary vocabulary;
	struct bpe_merge *merges;       /* open addressing */
	uint32_t merge_mask, merge_count;
	int32_t byte_ids[256];          /* byte-level: symbols; character-level: <0xNN>; -1: none */
	int32_t unknown;                /* -1: an unknown character vanishes */
	bool fuse_unknown;
	bool whole_words;               /* a word that is a token is taken whole ("ignore_merges") */
	bool byte_level;
	bool words_apart;               /* character-level: no merge joins across the begin of a word, "▁" */
};

/* Room for `merges`; the vocabulary is set up by the caller before. */
enum status bpe_init_merges(struct bpe *bpe, uint32_t merges, struct error *error);
void bpe_destroy(struct bpe *bpe);                      /* zeroed ok */
/* STATUS_CORRUPT: a part or the whole is no token, or the pair has a rank already. */
enum status bpe_add_merge(struct bpe *bpe, struct text_view left, struct text_view right, uint32_t rank,
			  struct error *error);
/* The same by ids. */
enum status bpe_add_merge_ids(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t merged,
			      uint32_t rank, struct error *error);
/* Fills byte_ids from the vocabulary: from GPT-2's letters for bytes, or from <0x00> to <0xFF>. */
void bpe_find_bytes(struct bpe *bpe);
void bpe_find_fallback_bytes(struct bpe *bpe);
/* Sets words_apart from the merges: texts are then cut before each "▁" behind another character, and
 * their words cached, which changes no id. */
void bpe_find_words(struct bpe *bpe);
/* Does a "▁" stand behind another character? */
bool bpe_spans_words(struct text_view piece);

/* GPT-2's printable stand-in for each byte, as UTF-8: writes at most 2 bytes, returns how many. */
size_t bpe_byte_text(uint8_t byte, char out[2]);

struct bpe_scratch;
struct bpe_scratch *bpe_scratch_create(void);           /* NULL: no memory */
void bpe_scratch_destroy(struct bpe_scratch *scratch);  /* NULL ok */

/* The scratch's bounded cache of short words, for one tokenizer; also for ids made elsewhere. find: appends
 * and is true, if the word is there and its ids have room. */
bool bpe_cache_find(const struct bpe_scratch *scratch, struct text_view word, int32_t *ids, size_t ids_max,
		    size_t *count);
void bpe_cache_put(struct bpe_scratch *scratch, struct text_view word, const int32_t *ids, size_t count);

/* Appends the ids of one word (byte-level) or of a whole normalised text (character-level, valid UTF-8).
 * STATUS_LIMIT: more than ids_max, or text above BPE_TEXT_MAX. */
enum status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, struct text_view text,
		       int32_t *ids, size_t ids_max, size_t *count, struct error *error);

#endif
