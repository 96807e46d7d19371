/* terms.h - counted terms: the words of titles and the values of attributes.
 *
 * A term is known by the 128-bit XXH3 of its bytes (two different terms never meet in practice: at 10^8
 * terms the chance is below 10^-22) and, inside, by an index that decides nothing anyone can see. It
 * lives as long as an item refers to it; its index is used again afterwards. Every item has one list of
 * distinct terms; changing a list is all or nothing. Owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_TERMS_H
#define EXITPOLL_GRAPH_UPDATER_TERMS_H

#include "base/status.h"
#include "schemas/event.h"

struct terms;

/* Bounds: terms alive at a time and items that have a list. name: what the terms are ("words"), for
 * errors; static text. */
enum status terms_create(const char *name, uint32_t terms_max, uint32_t items_max, struct terms **out,
			 struct error *error);
void terms_destroy(struct terms *terms);                /* NULL ok */

/* What a list is made of: the hash of one term. */
struct term_hash {
	uint64_t low, high;
};
struct term_hash term_hash_of(const void *bytes, size_t size);

/* The item's list becomes hashes[0..count), which are distinct; its old terms are let go. The references
 * of a term count the items that hold it. STATUS_NO_MEMORY (memory, or a bound): nothing has changed. */
enum status terms_set(struct terms *terms, struct item_id item, const struct term_hash *hashes,
		      uint32_t count, struct error *error);

/* The item's list in the order given; *count 0 where it has none. Borrowed until the next terms_set(). */
const uint32_t *terms_of(const struct terms *terms, struct item_id item, uint32_t *count);
/* For prefetching: brings the item's list into the cache. */
void terms_prefetch(const struct terms *terms, struct item_id item);

/* One term's state. Items that hold it, and two sums that the owner keeps (zero at a term's birth). */
struct term {
	struct term_hash hash;
	uint32_t references;
	uint32_t free_next;             /* of a free slot */
	uint64_t count;
	int64_t sum;
};
struct term *terms_at(struct terms *terms, uint32_t term);
const struct term *terms_get(const struct terms *terms, uint32_t term);
/* The term with this hash; false: no item has it. */
bool terms_find(const struct terms *terms, struct term_hash hash, uint32_t *term);

uint32_t terms_alive(const struct terms *terms);
/* Every index is below this: the size of an array over the terms. */
uint32_t terms_index_end(const struct terms *terms);
size_t terms_memory_bytes(const struct terms *terms);

#endif
