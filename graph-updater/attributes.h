/* attributes.h - the configured attributes of items (brand, genre, author) and the responses to each of
 * their values.
 *
 * An attribute's text holds several values separated by '|'; values are compared byte by byte, empty ones
 * do not count, repeated ones once, and only the first ATTRIBUTE_VALUES_MAX distinct ones of an item.
 * Counter of a value: number and sum of the responses of all edges of the items that have the value now,
 * so when an item's attributes change, its edges move. Owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_ATTRIBUTES_H
#define EXITPOLL_GRAPH_UPDATER_ATTRIBUTES_H

#include "graph-updater/terms.h"

enum {
	ATTRIBUTES_MAX = 16,            /* configured names */
	ATTRIBUTE_VALUES_MAX = 64,      /* of one item and name */
	ATTRIBUTE_TERMS_MAX = 64 * 1024 * 1024, /* different values of one name alive at a time */
};

struct attributes;

/* names [count] are copied; STATUS_CONFIG: too many, empty or repeated names. */
enum status attributes_create(const char *const *names, size_t count, uint32_t items_max,
			      struct attributes **out, struct error *error);
void attributes_destroy(struct attributes *attributes); /* NULL ok */
size_t attributes_count(const struct attributes *attributes);
const char *attributes_name(const struct attributes *attributes, size_t name);

/* The item's attributes are now these (count 0 also for an item that left the catalog). responses and sum
 * are those of the item's edges now, in the graph's integer units. STATUS_NO_MEMORY: the names before the
 * one in the error have changed, the others not; every counter fits the lists either way. */
enum status attributes_set(struct attributes *attributes, struct item_id item,
			   const struct attribute *list, size_t list_count, uint64_t responses, int64_t sum,
			   struct error *error);

/* An edge of the item came (+1, its response), went (-1, minus its response) or changed (0, the
 * difference). Cannot fail. */
void attributes_add(struct attributes *attributes, struct item_id item, int64_t responses, int64_t sum);

/* Values of one configured name: lists per item; count and sum of a term are its counters. */
const struct terms *attributes_terms(const struct attributes *attributes, size_t name);

size_t attributes_memory_bytes(const struct attributes *attributes);

#endif
