/* avro_oracle.h - what a value of avro-c means for a field of our structs: whether it can be read at
 * all, and whether the struct says the same. Shares with the decoder only the table of fields. */
#ifndef EXITPOLL_TESTS_AVRO_ORACLE_H
#define EXITPOLL_TESTS_AVRO_ORACLE_H

#include "schemas/codec_plan.h"
#include "tests/check_run.h"

#include <avro.h>
#include <stdio.h>

static inline avro_value_t branch_of(avro_value_t value)
{
	avro_value_t branch;
	if (avro_value_get_type(&value) != AVRO_UNION)
		return value;
	ck_assert_int_eq(avro_value_get_current_branch(&value, &branch), 0);
	return branch;
}

static inline bool is_text(avro_type_t type)
{
	return type == AVRO_STRING || type == AVRO_BYTES;
}

static inline struct text_view text_in(avro_value_t *value)
{
	const char *text = NULL;
	const void *bytes = NULL;
	size_t size = 0;
	if (avro_value_get_type(value) == AVRO_STRING) {
		ck_assert_int_eq(avro_value_get_string(value, &text, &size), 0);
		return (struct text_view){text, size - 1};
	}
	ck_assert_int_eq(avro_value_get_bytes(value, &bytes, &size), 0);
	return (struct text_view){bytes, size};
}

static inline int symbol_in(avro_value_t *value, const struct binding *binding)
{
	int index;
	const char *symbol;
	ck_assert_int_eq(avro_value_get_enum(value, &index), 0);
	symbol = avro_schema_enum_get(avro_value_get_schema(value), index);
	for (int i = 0; i < binding->symbols; i++)
		if (strcmp(binding->symbol(i), symbol) == 0)
			return i;
	/* The one enum of ours with a default: the status of a scoring request. */
	for (size_t i = 0; i < codec_bindings[RECORD_SCORING_REQUEST].count; i++)
		if (binding == &codec_bindings[RECORD_SCORING_REQUEST].fields[i])
			return PREDICTION_OK;
	return -1;
}

static inline bool integer_in(avro_value_t *value, int64_t *integer)
{
	int32_t narrow;
	if (avro_value_get_type(value) == AVRO_INT32) {
		ck_assert_int_eq(avro_value_get_int(value, &narrow), 0);
		*integer = narrow;
		return true;
	}
	return avro_value_get_type(value) == AVRO_INT64 && avro_value_get_long(value, integer) == 0;
}

static inline struct binding element_of(const struct binding *binding)
{
	if (binding->kind == SCHEMA_MAP)
		return binding->items->fields[0];
	return (struct binding){.name = binding->name, .kind = binding->items_kind, .extra = BINDING_NONE,
				.items = binding->items};
}

static inline size_t element_size(const struct binding *binding)
{
	if (binding->items)
		return binding->items->size;
	return binding->items_kind == SCHEMA_FLOAT ? sizeof(float) : sizeof(struct text_view);
}

static inline bool readable_record(const struct binding_record *record, avro_value_t value);

/* Can our field hold this value at all? */
static inline bool readable(const struct binding *binding, avro_value_t whole)
{
	avro_value_t value = branch_of(whole), child;
	avro_type_t type = avro_value_get_type(&value);
	struct binding element;
	size_t count = 0;
	bool all = true;

	if (type == AVRO_NULL)
		return binding->optional;
	switch (binding->kind) {
	case SCHEMA_BOOLEAN: return type == AVRO_BOOLEAN;
	case SCHEMA_INT: return type == AVRO_INT32;
	case SCHEMA_LONG: return type == AVRO_INT32 || type == AVRO_INT64;
	case SCHEMA_FLOAT: return type == AVRO_INT32 || type == AVRO_INT64 || type == AVRO_FLOAT;
	case SCHEMA_DOUBLE:
		return type == AVRO_INT32 || type == AVRO_INT64 || type == AVRO_FLOAT || type == AVRO_DOUBLE;
	case SCHEMA_STRING:
	case SCHEMA_BYTES: return is_text(type);
	case SCHEMA_ENUM: return type == AVRO_ENUM && symbol_in(&value, binding) >= 0;
	case SCHEMA_RECORD: return type == AVRO_RECORD && readable_record(binding->items, value);
	default: break;
	}
	if (type != (binding->kind == SCHEMA_MAP ? AVRO_MAP : AVRO_ARRAY))
		return false;
	element = element_of(binding);
	ck_assert_int_eq(avro_value_get_size(&value, &count), 0);
	for (size_t i = 0; all && i < count; i++) {
		ck_assert_int_eq(avro_value_get_by_index(&value, i, &child, NULL), 0);
		all = readable(&element, child);
	}
	return all;
}

static inline bool readable_record(const struct binding_record *record, avro_value_t value)
{
	avro_value_t child;
	for (size_t i = 0; i < record->count; i++)
		if (avro_value_get_by_name(&value, record->fields[i].name, &child, NULL) == 0 &&
		    !readable(&record->fields[i], child))
			return false;
	return true;
}

#define LOAD(type, at) (*(const type *)(const void *)(at))

static inline bool same_record(const struct binding_record *record, avro_value_t value, const unsigned char *base);

/* Is this what the struct says? */
static inline bool same(const struct binding *binding, avro_value_t whole, const unsigned char *base)
{
	const unsigned char *at = base + binding->offset;
	bool has = binding->extra == BINDING_NONE || !binding->optional || LOAD(bool, base + binding->extra);
	avro_value_t value = branch_of(whole), child;
	avro_type_t type = avro_value_get_type(&value);
	struct binding element;
	int64_t integer = 0;
	double number = 0;
	float single = 0;
	int truth = 0;
	size_t count = 0;
	bool whole_number;

	if (type == AVRO_NULL)
		return binding->extra == BINDING_NONE ? !LOAD(struct text_view, at).bytes : !has;
	if (!has)
		return false;
	whole_number = integer_in(&value, &integer);
	switch (binding->kind) {
	case SCHEMA_BOOLEAN:
		return avro_value_get_boolean(&value, &truth) == 0 && LOAD(bool, at) == (truth != 0);
	case SCHEMA_INT: return whole_number && LOAD(int32_t, at) == integer;
	case SCHEMA_LONG: return whole_number && LOAD(int64_t, at) == integer;
	case SCHEMA_FLOAT:
		single = (float)integer;
		if (!whole_number)
			ck_assert_int_eq(avro_value_get_float(&value, &single), 0);
		return memcmp(at, &single, sizeof single) == 0;
	case SCHEMA_DOUBLE:
		number = (double)integer;
		if (type == AVRO_FLOAT) {
			ck_assert_int_eq(avro_value_get_float(&value, &single), 0);
			number = (double)single;
		} else if (!whole_number) {
			ck_assert_int_eq(avro_value_get_double(&value, &number), 0);
		}
		return memcmp(at, &number, sizeof number) == 0;
	case SCHEMA_STRING:
	case SCHEMA_BYTES:
		return LOAD(struct text_view, at).bytes && text_equal(LOAD(struct text_view, at),
		text_in(&value));
	case SCHEMA_ENUM: return LOAD(int, at) == symbol_in(&value, binding);
	case SCHEMA_RECORD: return same_record(binding->items, value, at);
	default: break;
	}
	element = element_of(binding);
	ck_assert_int_eq(avro_value_get_size(&value, &count), 0);
	if (count != LOAD(size_t, base + binding->extra))
		return false;
	for (size_t i = 0; i < count; i++) {
		const unsigned char *item = LOAD(const unsigned char *, at) + i * element_size(binding);
		const char *key = NULL;
		ck_assert_int_eq(avro_value_get_by_index(&value, i, &child, &key), 0);
		if (binding->kind == SCHEMA_MAP && !text_equal(LOAD(struct attribute, item).name,
		text_of(key)))
			return false;
		if (!same(&element, child, item))
			return false;
	}
	return true;
}

/* The defaults of the shipped schemas: nothing, nought, empty. */
static inline bool is_default(const struct binding *binding, const unsigned char *base)
{
	const unsigned char *at = base + binding->offset;
	if (binding->kind == SCHEMA_STRING || binding->kind == SCHEMA_BYTES)
		return binding->optional ? !LOAD(struct text_view, at).bytes : LOAD(struct text_view,
		at).size == 0;
	switch (binding->kind) {
	case SCHEMA_BOOLEAN: return !LOAD(bool, at);
	case SCHEMA_INT:
	case SCHEMA_ENUM: return LOAD(int32_t, at) == 0;
	case SCHEMA_ARRAY:
	case SCHEMA_MAP: return LOAD(size_t, base + binding->extra) == 0;
	default: return binding->optional ? !LOAD(bool, base + binding->extra) : LOAD(int64_t, at) == 0;
	}
}

static inline bool same_record(const struct binding_record *record, avro_value_t value, const unsigned char *base)
{
	avro_value_t child;
	for (size_t i = 0; i < record->count; i++) {
		const struct binding *field = &record->fields[i];
		bool equal = avro_value_get_by_name(&value, field->name, &child, NULL) == 0 ? same(field,
		child, base)
											    : is_default(field, base);
		if (!equal) {
			fprintf(stderr, "field %s differs\n", field->name);
			return false;
		}
	}
	return true;
}

static inline const unsigned char *fields_of(const struct event *event)
{
	return (const unsigned char *)&event->item;
}

#endif
