/* text_cache.c - an open-addressed table over two pools that are written from the front and emptied as a
 * whole. Invariant: at most half of the table is in use. Caller: prompt.c. */
#include "scorer/text_cache.h"

#include "base/mem.h"

#include <xxhash.h>

struct entry {
	uint64_t hash;
	uint32_t text, text_size;       /* in bytes[] */
	uint32_t ids, ids_count;        /* in ids[] */
	bool used;
};

struct text_cache {
	const struct tokenizer *tokenizer;
	struct tokenizer_scratch *scratch;
	struct text_cache_limits limits;
	struct entry *entries;          /* [2 * texts_max] */
	char *bytes;                    /* [bytes_max] */
	int32_t *ids;                   /* [ids_max] */
	uint32_t texts, bytes_used, ids_used;
	uint64_t hits, misses;
};

enum status text_cache_create(const struct tokenizer *tokenizer, const struct text_cache_limits *limits,
			      struct text_cache **out, struct error *error)
{
	struct text_cache *cache = mem_alloc_zero(1, sizeof *cache);
	if (!cache)
		goto cleanup;
	cache->tokenizer = tokenizer;
	cache->limits = *limits;
	cache->scratch = tokenizer_scratch_create(tokenizer);
	cache->entries = mem_alloc_zero(2 * (size_t)limits->texts_max, sizeof *cache->entries);
	cache->bytes = mem_alloc(limits->bytes_max);
	cache->ids = mem_alloc_array(limits->ids_max, sizeof *cache->ids);
	if (!cache->scratch || !cache->entries || !cache->bytes || !cache->ids)
		goto cleanup;
	*out = cache;
	return STATUS_OK;
cleanup:
	text_cache_destroy(cache);
	return error_set(error, STATUS_NO_MEMORY, "no memory for the cache of %u texts", limits->texts_max);
}

void text_cache_destroy(struct text_cache *cache)
{
	if (!cache)
		return;
	tokenizer_scratch_destroy(cache->scratch);
	mem_free(cache->entries);
	mem_free(cache->bytes);
	mem_free(cache->ids);
	mem_free(cache);
}

static void start_over(struct text_cache *cache)
{
	memset(cache->entries, 0, 2 * (size_t)cache->limits.texts_max * sizeof *cache->entries);
	cache->texts = cache->bytes_used = cache->ids_used = 0;
}

static struct entry *find(struct text_cache *cache, uint64_t hash, struct text_view text)
{
	size_t mask = 2 * (size_t)cache->limits.texts_max - 1;
	for (size_t at = hash & mask;; at = (at + 1) & mask) {
		struct entry *entry = &cache->entries[at];
		if (!entry->used)
			return entry;
		if (entry->hash == hash &&
		    text_equal((struct text_view){cache->bytes + entry->text, entry->text_size}, text))
			return entry;
	}
}

enum status text_cache_get(struct text_cache *cache, struct text_view text, const int32_t **ids,
			   uint32_t *count, struct error *error)
{
	uint64_t hash = XXH3_64bits(text.size ? text.bytes : "", text.size);
	struct entry *entry = find(cache, hash, text);
	if (entry->used) {
		cache->hits++;
		*ids = cache->ids + entry->ids;
		*count = entry->ids_count;
		return STATUS_OK;
	}
	cache->misses++;
	size_t ids_max = tokenizer_ids_max(cache->tokenizer, text.size);
	if (text.size > cache->limits.bytes_max / 2 || ids_max > cache->limits.ids_max / 2)
		return error_set(error, STATUS_LIMIT, "a text of %zu bytes is too long to tokenise",
				 text.size);
	if (cache->texts == cache->limits.texts_max ||
	    text.size > cache->limits.bytes_max - cache->bytes_used ||
	    ids_max > cache->limits.ids_max - cache->ids_used) {
		start_over(cache);
		entry = find(cache, hash, text);
	}
	size_t found = 0;
	enum status status = tokenizer_encode(cache->tokenizer, cache->scratch, text, TOKENIZER_CONTINUES,
					      cache->ids + cache->ids_used, ids_max, &found, error);
	if (status)
		return status;
	*entry = (struct entry){hash, cache->bytes_used, (uint32_t)text.size, cache->ids_used,
				(uint32_t)found, true};
	if (text.size)
		memcpy(cache->bytes + cache->bytes_used, text.bytes, text.size);
	cache->bytes_used += (uint32_t)text.size;
	cache->ids_used += (uint32_t)found;
	cache->texts++;
	*ids = cache->ids + entry->ids;
	*count = entry->ids_count;
	return STATUS_OK;
}

void text_cache_counts(const struct text_cache *cache, uint64_t *hits, uint64_t *misses)
{
	*hits = cache->hits;
	*misses = cache->misses;
}
