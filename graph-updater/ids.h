/* ids.h - id bytes on the wire <-> the u32 inside.
 *
 * Open addressing on XXH3 of the bytes, bounded by a named maximum. An id exists as long as somebody
 * holds it (the graph while it has an edge, the catalog while it has an entry); when the last holder
 * lets go, its bytes are overwritten and freed and the u32 is given out again. The u32 decides nothing
 * that anyone can see: id_seed permutes the order in which they are given out, and tests show that
 * nothing changes. One writer thread; finds and bytes are also for that thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_IDS_H
#define EXITPOLL_GRAPH_UPDATER_IDS_H

#include "base/status.h"
#include "schemas/event.h"

enum { ID_BYTES_MAX = 65535 };          /* the record limits are far below */

/* Who keeps an id alive. */
enum ids_holder { IDS_GRAPH = 1, IDS_CATALOG = 2 };

struct ids;     /* one side; use it through the typed faces below */

enum status ids_create(const char *what, uint32_t count_max, uint64_t seed, struct ids **out,
		       struct error *error);
void ids_destroy(struct ids *ids);      /* NULL ok */
bool ids_find(const struct ids *ids, struct text_view bytes, uint32_t *out);
/* Finds or creates, and holds. STATUS_NO_MEMORY at count_max (the text names the setting). */
enum status ids_hold(struct ids *ids, struct text_view bytes, enum ids_holder holder, uint32_t *out,
		     struct error *error);
/* Loading many: room for so many at once (without memory for it, as they come); then ids that are certainly not
 * there yet, which ids_find() need not know before ids_load_end(). Otherwise as ids_hold(). */
void ids_expect(struct ids *ids, uint32_t count);
enum status ids_load(struct ids *ids, struct text_view bytes, enum ids_holder holder, uint32_t *out,
		     struct error *error);
void ids_load_end(struct ids *ids);
/* The holder lets go; true: the id is gone, its bytes overwritten. */
bool ids_release(struct ids *ids, uint32_t id, enum ids_holder holder);
/* Bytes of a living id, valid until it is released; an id that is not there: empty, bytes NULL. */
struct text_view ids_bytes(const struct ids *ids, uint32_t id);
uint32_t ids_count(const struct ids *ids);      /* living ids */
uint32_t ids_end(const struct ids *ids);        /* every living id is below; loop and test ids_alive() */
bool ids_alive(const struct ids *ids, uint32_t id);
size_t ids_memory(const struct ids *ids);

/* Living ids in the order of their bytes; the array is the caller's (mem_free). */
enum status ids_sorted(const struct ids *ids, uint32_t **out, uint32_t *count, struct error *error);

/* ---- users and items: two types, so that swapping the sides does not compile ---- */
struct user_ids { struct ids *table; };
struct item_ids { struct ids *table; };

static inline bool user_ids_find(struct user_ids users, struct text_view bytes, struct user_id *out)
{
	return ids_find(users.table, bytes, &out->v);
}

static inline bool item_ids_find(struct item_ids items, struct text_view bytes, struct item_id *out)
{
	return ids_find(items.table, bytes, &out->v);
}

static inline struct text_view user_bytes(struct user_ids users, struct user_id user)
{
	return ids_bytes(users.table, user.v);
}

static inline struct text_view item_bytes(struct item_ids items, struct item_id item)
{
	return ids_bytes(items.table, item.v);
}

#endif
