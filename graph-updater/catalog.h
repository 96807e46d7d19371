/* catalog.h - what is known of the items: title and attributes, the latest event wins.
 *
 * The winner of an item is the greatest (event_time, deleted, content bytes), so replays are
 * idempotent and no order matters; a deletion is remembered for tombstone_days, and older events of
 * the item that come after it are void. Texts are stored ready for use: invalid UTF-8 repaired, cut to
 * text_bytes_max at a character boundary (counted). Attributes are sorted by name; of a repeated name
 * the greatest value stays. One writer thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_CATALOG_H
#define EXITPOLL_GRAPH_UPDATER_CATALOG_H

#include "graph-updater/ids.h"
#include "graph-updater/tombstones.h"

/* Owned by the catalog, immutable; dead when the item's entry changes (the listener is called first). */
struct catalog_entry {
	int64_t event_time_ms;
	struct text_view title;                 /* may be empty */
	const struct attribute *attributes;     /* [attributes_count], sorted by name */
	uint32_t attributes_count;
	uint32_t bytes;                         /* of the whole allocation */
};

/* Called after the catalog has changed and before `old` dies. old or new is NULL where there is none. */
struct catalog_listener {
	enum status (*changed)(void *context, struct item_id item, const struct catalog_entry *old_entry,
			       const struct catalog_entry *new_entry, struct error *error);
	void *context;
};
enum { CATALOG_LISTENERS_MAX = 4 };

struct catalog_options {
	uint32_t items_max;
	size_t text_bytes_max;                  /* of the title and of each attribute value */
	struct item_ids items;                  /* borrowed */
	struct tombstones *tombstones;          /* borrowed */
};

enum catalog_effect { CATALOG_CHANGED, CATALOG_DUPLICATE, CATALOG_VOID };

struct catalog;
enum status catalog_create(const struct catalog_options *options, struct catalog **out,
			   struct error *error);
void catalog_destroy(struct catalog *catalog);  /* NULL ok; calls no listener */
enum status catalog_listen(struct catalog *catalog, struct catalog_listener listener,
			   struct error *error);

/* clock_ms is the state's clock, not before the event. */
enum status catalog_apply(struct catalog *catalog, const struct item_event *event, int64_t clock_ms,
			  enum catalog_effect *effect, struct error *error);

/* NULL: nothing known. */
const struct catalog_entry *catalog_get(const struct catalog *catalog, struct item_id item);
/* The value of an attribute ("a|b" where there are several), or an empty view. */
struct text_view catalog_attribute(const struct catalog_entry *entry, struct text_view name);
/* The next value of "a|b|c" at *rest, which moves on; empty ones are left out. False: no more. */
bool catalog_next_value(struct text_view *rest, struct text_view *value);

uint32_t catalog_count(const struct catalog *catalog);
uint64_t catalog_cut_texts(const struct catalog *catalog);
size_t catalog_memory(const struct catalog *catalog);

#endif
