/* text_cache.h - the token ids of texts that come again and again: titles, numbers, actions.
 *
 * Bounded: when texts, bytes or ids are full the cache starts over; what it answers never depends on that.
 * One thread. */
#ifndef EXITPOLL_SCORER_TEXT_CACHE_H
#define EXITPOLL_SCORER_TEXT_CACHE_H

#include "scorer/tokenizer.h"

struct text_cache;

struct text_cache_limits {
	uint32_t texts_max;             /* power of two */
	uint32_t bytes_max, ids_max;    /* of all texts together; a single text may have half */
};

enum status text_cache_create(const struct tokenizer *tokenizer, const struct text_cache_limits *limits,
			      struct text_cache **out, struct error *error);
void text_cache_destroy(struct text_cache *cache);      /* NULL ok */

/* The ids of a text in the middle of a prompt, special tokens not recognised. Borrowed until the next
 * call. STATUS_LIMIT: a text longer than half of the cache. */
enum status text_cache_get(struct text_cache *cache, struct text_view text, const int32_t **ids,
			   uint32_t *count, struct error *error);

void text_cache_counts(const struct text_cache *cache, uint64_t *hits, uint64_t *misses);

#endif
