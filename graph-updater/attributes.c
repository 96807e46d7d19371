/* attributes.c - value counters that follow the edges of the items.
 *
 * Invariant: a value's counters are the sums over its items of their edges' number and responses. One
 * table of terms per configured name. Called when a catalog entry or an edge changes; owner thread. */
#include "graph-updater/attributes.h"

struct attributes {
	size_t count;
	char *names[ATTRIBUTES_MAX];
	struct terms *terms[ATTRIBUTES_MAX];
};

enum status attributes_create(const char *const *names, size_t count, uint32_t items_max,
			      struct attributes **out, struct error *error)
{
	struct attributes *attributes = NULL;
	enum status status = STATUS_OK;

	if (count > ATTRIBUTES_MAX)
		return error_set(error, STATUS_CONFIG,
				 "statistics.attributes names %zu attributes; at most %d are kept", count,
				 ATTRIBUTES_MAX);
	for (size_t i = 0; i < count; i++) {
		if (!names[i] || !*names[i])
			return error_set(error, STATUS_CONFIG, "statistics.attributes has an empty name");
		for (size_t j = 0; j < i; j++)
			if (strcmp(names[i], names[j]) == 0)
				return error_set(error, STATUS_CONFIG,
						 "statistics.attributes names \"%s\" twice", names[i]);
	}
	attributes = mem_alloc_zero(1, sizeof *attributes);
	if (!attributes)
		return error_set(error, STATUS_NO_MEMORY, "no memory for attributes");
	for (size_t i = 0; i < count && !status; i++) {
		attributes->count = i + 1;
		attributes->names[i] = mem_copy_string(names[i]);
		if (!attributes->names[i])
			status = error_set(error, STATUS_NO_MEMORY, "no memory for attributes");
		else
			status = terms_create("attribute values", ATTRIBUTE_TERMS_MAX, items_max,
					      &attributes->terms[i], error);
	}
	if (status)
		attributes_destroy(attributes);
	else
		*out = attributes;
	return status;
}

void attributes_destroy(struct attributes *attributes)
{
	if (!attributes)
		return;
	for (size_t i = 0; i < attributes->count; i++) {
		terms_destroy(attributes->terms[i]);
		mem_free(attributes->names[i]);
	}
	mem_free(attributes);
}

size_t attributes_count(const struct attributes *attributes)
{
	return attributes->count;
}

const char *attributes_name(const struct attributes *attributes, size_t name)
{
	return attributes->names[name];
}

static uint32_t add_values(struct text_view text, struct term_hash *hashes, uint32_t count)
{
	for (size_t start = 0; start < text.size && count < ATTRIBUTE_VALUES_MAX;) {
		const char *bar = memchr(text.bytes + start, '|', text.size - start);
		size_t end = bar ? (size_t)(bar - text.bytes) : text.size;
		struct term_hash hash = term_hash_of(text.bytes + start, end - start);
		bool seen = end == start;
		for (uint32_t i = 0; i < count && !seen; i++)
			seen = hashes[i].low == hash.low && hashes[i].high == hash.high;
		if (!seen)
			hashes[count++] = hash;
		start = end + 1;
	}
	return count;
}

static void add_to_values(struct terms *terms, struct item_id item, int64_t responses, int64_t sum)
{
	uint32_t count;
	const uint32_t *values = terms_of(terms, item, &count);

	for (uint32_t i = 0; i < count; i++) {
		struct term *term = terms_at(terms, values[i]);
		term->count += (uint64_t)responses;
		term->sum += sum;
	}
}

/* The item's values under one name, with its edges in their counters. */
static enum status set_values(struct terms *terms, struct item_id item, struct text_view name,
			      const struct attribute *list, size_t list_count, int64_t responses,
			      int64_t sum, struct error *error)
{
	struct term_hash hashes[ATTRIBUTE_VALUES_MAX];
	uint32_t count = 0;
	enum status status;

	for (size_t i = 0; i < list_count; i++)
		if (text_equal(list[i].name, name))
			count = add_values(list[i].value, hashes, count);
	add_to_values(terms, item, -responses, -sum);
	status = terms_set(terms, item, hashes, count, error);
	/* To the new values, or back to the old ones. */
	add_to_values(terms, item, responses, sum);
	return status;
}

enum status attributes_set(struct attributes *attributes, struct item_id item,
			   const struct attribute *list, size_t list_count, uint64_t responses, int64_t sum,
			   struct error *error)
{
	for (size_t i = 0; i < attributes->count; i++) {
		enum status status = set_values(attributes->terms[i], item, text_of(attributes->names[i]),
						list, list_count, (int64_t)responses, sum, error);
		if (status)
			return error_prefix(error, "attribute \"%s\"", attributes->names[i]);
	}
	return STATUS_OK;
}

void attributes_add(struct attributes *attributes, struct item_id item, int64_t responses, int64_t sum)
{
	for (size_t i = 0; i < attributes->count; i++)
		add_to_values(attributes->terms[i], item, responses, sum);
}

const struct terms *attributes_terms(const struct attributes *attributes, size_t name)
{
	return attributes->terms[name];
}

size_t attributes_memory_bytes(const struct attributes *attributes)
{
	size_t bytes = sizeof *attributes;
	for (size_t i = 0; i < attributes->count; i++)
		bytes += terms_memory_bytes(attributes->terms[i]);
	return bytes;
}
