/* catalog.c - one immutable allocation per item: [entry | attributes | names, values, title].
 *
 * Invariant: entries[item] is non-NULL exactly while IDS_CATALOG holds the id. An entry is built
 * before anything changes, so a failure leaves the catalog as it was. Called by updater.c. */
#include "graph-updater/catalog.h"

#include "graph-updater/chunks.h"
#include "graph-updater/graph.h"

#include <stdlib.h>

struct catalog {
	struct catalog_options options;
	struct chunks entries;          /* rows of struct catalog_entry * */
	uint32_t count;
	uint64_t cut_texts;
	size_t bytes;
	struct arena *scratch;          /* repaired texts of the entry being built */
	struct catalog_listener listeners[CATALOG_LISTENERS_MAX];
	size_t listeners_count;
};

enum { SCRATCH_BYTES_MAX = 16 << 20 };

enum status catalog_create(const struct catalog_options *options, struct catalog **out,
			   struct error *error)
{
	struct catalog *catalog = mem_alloc_zero(1, sizeof *catalog);

	if (!catalog)
		return error_set(error, STATUS_NO_MEMORY, "catalog: out of memory");
	catalog->options = *options;
	catalog->scratch = arena_create(SCRATCH_BYTES_MAX);
	if (!catalog->scratch ||
	    !chunks_create(&catalog->entries, options->items_max, sizeof(struct catalog_entry *))) {
		catalog_destroy(catalog);
		return error_set(error, STATUS_NO_MEMORY, "catalog: out of memory");
	}
	*out = catalog;
	return STATUS_OK;
}

static struct catalog_entry **entry_of(const struct catalog *catalog, uint32_t item)
{
	return chunks_row(&catalog->entries, item);
}

void catalog_destroy(struct catalog *catalog)
{
	if (!catalog)
		return;
	for (uint32_t item = 0; item < chunks_rows(&catalog->entries); item++)
		mem_free(*entry_of(catalog, item));
	chunks_destroy(&catalog->entries);
	arena_destroy(catalog->scratch);
	mem_free(catalog);
}

enum status catalog_listen(struct catalog *catalog, struct catalog_listener listener,
			   struct error *error)
{
	if (catalog->listeners_count == CATALOG_LISTENERS_MAX)
		return error_set(error, STATUS_INTERNAL, "too many listeners of the catalog");
	catalog->listeners[catalog->listeners_count++] = listener;
	return STATUS_OK;
}

/* ---- building an entry ---- */

/* Repaired and cut; *cut counts. False: scratch is full. */
static bool clean_text(struct catalog *catalog, struct text_view text, struct text_view *out, uint64_t *cut)
{
	/* Repair can triple a byte but never shortens below a third: no need to repair a megabyte. */
	size_t enough = 4 * catalog->options.text_bytes_max + 4;
	bool shortened = text.size > enough;

	if (shortened)
		text.size = enough;
	if (!text_copy_repaired(catalog->scratch, text, out))
		return false;
	shortened |= out->size > catalog->options.text_bytes_max;
	*out = text_cut(*out, catalog->options.text_bytes_max);
	*cut += shortened;
	return true;
}

static int compare_attributes(const void *left, const void *right)
{
	const struct attribute *a = left, *b = right;
	int order = text_compare(a->name, b->name);

	return order ? order : text_compare(b->value, a->value);        /* the greatest value first */
}

static struct text_view append(char **end, struct text_view text)
{
	struct text_view copy = {*end, text.size};

	if (text.size)
		memcpy(*end, text.bytes, text.size);
	*end += text.size;
	return copy;
}

static struct catalog_entry *build_entry(struct catalog *catalog, const struct item_event *event,
					 uint64_t *cut)
{
	size_t count = event->attributes_count, kept = 0, bytes = sizeof(struct catalog_entry);
	struct attribute *attributes, *stored;
	struct catalog_entry *entry;
	struct text_view title;
	char *end;

	arena_reset(catalog->scratch);
	attributes = arena_array(catalog->scratch, count, sizeof *attributes);
	if (!attributes || !clean_text(catalog, event->title, &title, cut))
		return NULL;
	for (size_t a = 0; a < count; a++)
		if (!clean_text(catalog, event->attributes[a].name, &attributes[a].name, cut) ||
		    !clean_text(catalog, event->attributes[a].value, &attributes[a].value, cut))
			return NULL;
	if (count)
		qsort(attributes, count, sizeof *attributes, compare_attributes);
	for (size_t a = 0; a < count; a++)
		if (!kept || !text_equal(attributes[a].name, attributes[kept - 1].name))
			attributes[kept++] = attributes[a];
	bytes += kept * sizeof *attributes + title.size;
	for (size_t a = 0; a < kept; a++)
		bytes += attributes[a].name.size + attributes[a].value.size;
	entry = mem_alloc(bytes);
	if (!entry)
		return NULL;
	stored = (struct attribute *)(entry + 1);
	end = (char *)(stored + kept);
	for (size_t a = 0; a < kept; a++) {
		stored[a].name = append(&end, attributes[a].name);
		stored[a].value = append(&end, attributes[a].value);
	}
	*entry = (struct catalog_entry){
		.event_time_ms = event->event_time_ms,
		.title = append(&end, title),
		.attributes = stored,
		.attributes_count = (uint32_t)kept,
		.bytes = (uint32_t)bytes,
	};
	return entry;
}

/* (event_time, content): which of two entries of one item wins. */
static int compare_entries(const struct catalog_entry *a, const struct catalog_entry *b)
{
	int order;

	if (a->event_time_ms != b->event_time_ms)
		return a->event_time_ms < b->event_time_ms ? -1 : 1;
	order = text_compare(a->title, b->title);
	for (uint32_t i = 0; !order && i < a->attributes_count && i < b->attributes_count; i++) {
		order = text_compare(a->attributes[i].name, b->attributes[i].name);
		if (!order)
			order = text_compare(a->attributes[i].value, b->attributes[i].value);
	}
	if (order)
		return order;
	return (a->attributes_count > b->attributes_count) - (a->attributes_count < b->attributes_count);
}

/* ---- applying an event ---- */

static enum status tell(struct catalog *catalog, struct item_id item, const struct catalog_entry *old_entry,
			const struct catalog_entry *new_entry, struct error *error)
{
	enum status status = STATUS_OK;

	for (size_t l = 0; l < catalog->listeners_count && !status; l++)
		status = catalog->listeners[l].changed(catalog->listeners[l].context, item, old_entry,
						       new_entry, error);
	return status;
}

static enum status delete_entry(struct catalog *catalog, const struct item_event *event, int64_t clock_ms,
				enum catalog_effect *effect, struct error *error)
{
	struct tombstone tombstone = tombstone_of(TOMBSTONE_ITEM, event->item_id, (struct text_view){NULL, 0},
						  event->event_time_ms);
	struct catalog_entry *old;
	struct item_id item;
	enum status status;
	bool later;

	status = tombstones_put(catalog->options.tombstones, &tombstone, clock_ms, &later, error);
	if (status)
		return status;
	*effect = later ? CATALOG_CHANGED : CATALOG_DUPLICATE;
	if (!item_ids_find(catalog->options.items, event->item_id, &item))
		return STATUS_OK;
	old = (struct catalog_entry *)catalog_get(catalog, item);
	if (!old)
		return STATUS_OK;
	if (old->event_time_ms > event->event_time_ms) {
		*effect = CATALOG_VOID;
		return STATUS_OK;
	}
	*effect = CATALOG_CHANGED;
	*entry_of(catalog, item.v) = NULL;
	catalog->count--;
	catalog->bytes -= old->bytes;
	status = tell(catalog, item, old, NULL, error);
	mem_free(old);
	ids_release(catalog->options.items.table, item.v, IDS_CATALOG);
	return status;
}

enum status catalog_apply(struct catalog *catalog, const struct item_event *event, int64_t clock_ms,
			  enum catalog_effect *effect, struct error *error)
{
	struct tombstone probe;
	struct catalog_entry *entry, *old;
	struct item_id item;
	enum status status;
	uint64_t cut = 0;
	int64_t buried_ms;

	if (event->event_time_ms < 0 || event->event_time_ms > GRAPH_TIME_MAX)
		return error_set(error, STATUS_BAD_RECORD, "item event_time %lld is outside 0..%lld",
				 (long long)event->event_time_ms, (long long)GRAPH_TIME_MAX);
	if (event->deleted)
		return delete_entry(catalog, event, clock_ms, effect, error);
	probe = tombstone_of(TOMBSTONE_ITEM, event->item_id, (struct text_view){NULL, 0}, 0);
	if (tombstones_find(catalog->options.tombstones, &probe, clock_ms, &buried_ms) &&
	    event->event_time_ms <= buried_ms) {
		*effect = CATALOG_VOID;
		return STATUS_OK;
	}
	entry = build_entry(catalog, event, &cut);
	if (!entry)
		return error_set(error, STATUS_NO_MEMORY, "catalog: out of memory at %u items",
				 catalog->count);
	catalog->cut_texts += cut;
	if (item_ids_find(catalog->options.items, event->item_id, &item) &&
	    (old = (struct catalog_entry *)catalog_get(catalog, item)) != NULL) {
		int order = compare_entries(entry, old);
		if (order <= 0) {
			*effect = order ? CATALOG_VOID : CATALOG_DUPLICATE;
			mem_free(entry);
			return STATUS_OK;
		}
	} else {
		old = NULL;
		status = ids_hold(catalog->options.items.table, event->item_id, IDS_CATALOG, &item.v, error);
		if (status) {
			mem_free(entry);
			return status;
		}
		if (!chunks_reserve(&catalog->entries, item.v + 1)) {
			mem_free(entry);
			ids_release(catalog->options.items.table, item.v, IDS_CATALOG);
			return error_set(error, STATUS_NO_MEMORY, "catalog: out of memory");
		}
		catalog->count++;
	}
	*effect = CATALOG_CHANGED;
	*entry_of(catalog, item.v) = entry;
	catalog->bytes += entry->bytes;
	status = tell(catalog, item, old, entry, error);
	if (old) {
		catalog->bytes -= old->bytes;
		mem_free(old);
	}
	return status;
}

/* ---- reading ---- */

const struct catalog_entry *catalog_get(const struct catalog *catalog, struct item_id item)
{
	return item.v < chunks_rows(&catalog->entries) ? *entry_of(catalog, item.v) : NULL;
}

struct text_view catalog_attribute(const struct catalog_entry *entry, struct text_view name)
{
	for (uint32_t a = 0; a < entry->attributes_count; a++)
		if (text_equal(entry->attributes[a].name, name))
			return entry->attributes[a].value;
	return (struct text_view){NULL, 0};
}

bool catalog_next_value(struct text_view *rest, struct text_view *value)
{
	while (rest->size) {
		const char *bar = memchr(rest->bytes, '|', rest->size);
		size_t size = bar ? (size_t)(bar - rest->bytes) : rest->size;
		*value = (struct text_view){rest->bytes, size};
		size += bar != NULL;
		*rest = (struct text_view){rest->bytes + size, rest->size - size};
		if (value->size)
			return true;
	}
	return false;
}

uint32_t catalog_count(const struct catalog *catalog)
{
	return catalog->count;
}

uint64_t catalog_cut_texts(const struct catalog *catalog)
{
	return catalog->cut_texts;
}

size_t catalog_memory(const struct catalog *catalog)
{
	return sizeof *catalog + catalog->bytes + chunks_bytes(&catalog->entries);
}
