/* schema.h - inside schemas/: an Avro schema read from JSON into nodes (Avro specification 1.11).
 *
 * The JSON may come from anybody: size, depth and counts are bounded, names are checked, recursion by
 * name is legal and shows as a cycle of pointers. Logical types, orders and docs are not kept. A schema
 * is immutable once parsed; any thread may read it. */
#ifndef EXITPOLL_SCHEMAS_SCHEMA_H
#define EXITPOLL_SCHEMAS_SCHEMA_H

#include "base/status.h"
#include "base/text.h"

#include <jansson.h>

enum {
	SCHEMA_JSON_BYTES_MAX = 1024 * 1024,
	SCHEMA_ARENA_BYTES_MAX = 16 * 1024 * 1024,
	SCHEMA_DEPTH_MAX = 64,
	SCHEMA_NAMES_MAX = 1024,
};

enum schema_kind {
	SCHEMA_NULL, SCHEMA_BOOLEAN, SCHEMA_INT, SCHEMA_LONG, SCHEMA_FLOAT, SCHEMA_DOUBLE,
	SCHEMA_BYTES, SCHEMA_STRING,
	SCHEMA_RECORD, SCHEMA_ENUM, SCHEMA_FIXED, SCHEMA_ARRAY, SCHEMA_MAP, SCHEMA_UNION,
};

struct schema_node;

struct schema_field {
	const char *name;
	const char *const *aliases;             /* [aliases_count] */
	size_t aliases_count;
	const struct schema_node *type;
	const json_t *fallback;                 /* the default; NULL: none. Dead after schema_drop_json() */
};

struct schema_node {
	enum schema_kind kind;
	/* Every encoding has at least min_bytes bytes (a lower bound; saturates); constant: exactly. */
	bool constant;
	uint64_t min_bytes;
	const char *name;                       /* full name of record, enum, fixed */
	const char *const *aliases;             /* full names [aliases_count] */
	size_t aliases_count;
	const struct schema_field *fields;      /* record [count] */
	const struct schema_node **parts;       /* record: fields that have bytes [parts_count]; union: branches [count] */
	size_t parts_count;
	const char *const *symbols;             /* enum [count] */
	const char *symbol_fallback;            /* enum's default; NULL: none */
	const struct schema_node *items;        /* array, map */
	size_t count;
	uint64_t size;                          /* fixed */
};

struct schema;

/* STATUS_CORRUPT with the place in the schema, STATUS_NO_MEMORY. */
enum status schema_parse(struct text_view json, struct schema **out, struct error *error);
void schema_destroy(struct schema *schema);     /* NULL ok */
const struct schema_node *schema_root(const struct schema *schema);
/* Gives back the JSON tree, and with it every field's fallback. */
void schema_drop_json(struct schema *schema);

const char *schema_kind_name(enum schema_kind kind);    /* "record" */
/* The part of a full name after its last dot. */
const char *schema_short_name(const char *name);

#endif
