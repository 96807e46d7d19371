/* codec_plan.h - inside schemas/: where each field of our records lives in its struct (bindings), and
 * the resolved plan that codec_decode.c walks. Immutable once made; any thread. */
#ifndef EXITPOLL_SCHEMAS_CODEC_PLAN_H
#define EXITPOLL_SCHEMAS_CODEC_PLAN_H

#include "schemas/codec.h"
#include "schemas/schema.h"

enum { BINDING_NONE = UINT16_MAX };

/* One field of a struct. Texts (string, bytes) are absent when their pointer is NULL; other optional
 * values have a bool at `extra`; arrays and maps have a pointer at `offset`, a size_t at `extra`. */
struct binding {
	const char *name;                       /* in our .avsc */
	enum schema_kind kind;
	enum schema_kind items_kind;            /* of arrays: RECORD, STRING or FLOAT */
	uint16_t offset;
	uint16_t extra;                         /* or BINDING_NONE */
	bool optional;
	const struct binding_record *items;     /* arrays of records, maps */
	const char *(*symbol)(int value);       /* enums: value -> symbol */
	int symbols;
};

struct binding_record {
	size_t size;                            /* of the struct */
	const struct binding *fields;           /* [count] */
	size_t count;
};

extern const struct binding_record codec_bindings[RECORD_TYPES];

enum plan_op {
	PLAN_BOOLEAN, PLAN_INT, PLAN_LONG, PLAN_INT_TO_LONG, PLAN_INT_TO_FLOAT, PLAN_INT_TO_DOUBLE,
	PLAN_LONG_TO_FLOAT, PLAN_LONG_TO_DOUBLE, PLAN_FLOAT, PLAN_FLOAT_TO_DOUBLE, PLAN_DOUBLE,
	PLAN_TEXT, PLAN_ENUM, PLAN_ARRAY, PLAN_MAP, PLAN_RECORD, PLAN_UNION,
	PLAN_ABSENT,            /* null: the struct is zero there already */
	PLAN_SKIP,              /* the reader has no such field */
	PLAN_DEFAULT,           /* the writer has no such field */
	PLAN_UNRESOLVED,        /* a branch that our schema cannot hold: an error if it comes */
};

struct plan_node {
	enum plan_op op;
	uint16_t offset;                        /* in the struct that holds the field */
	uint16_t extra;                         /* as in struct binding */
	const char *name;                       /* of the field, for messages */
	size_t count;                           /* children, or symbols */
	const struct plan_node *children;       /* RECORD: steps in the writer's order; UNION: branches;
	                                           ARRAY, MAP: the one item; DEFAULT: the one value */
	const int16_t *symbols;                 /* ENUM: writer's index -> value, -1: unknown */
	const struct schema_node *writer;       /* SKIP, UNRESOLVED, and the items of ARRAY and MAP */
	size_t item_size;                       /* ARRAY, MAP: bytes of one element of the struct's array */
	const unsigned char *fallback;          /* DEFAULT: the value, encoded in our schema */
	size_t fallback_size;
};

struct codec_plan {
	enum record_type type;
	struct arena *arena;                    /* all nodes */
	struct schema *reader;                  /* nodes of defaults point into it */
	struct schema *writer;
	const struct plan_node *root;
};

/* As codec_plan_create(), with another reader's schema of the same fields: how aliases and defaults
 * that the shipped schemas do not have yet are tested. */
enum status codec_plan_between(enum record_type reader, struct text_view reader_json,
			       struct text_view writer_json, struct codec_plan **out, struct error *error);

/* Appends the encoding of a JSON default. STATUS_CORRUPT: it does not fit the schema. */
enum status codec_default_encode(const struct schema_node *node, const json_t *json,
				 struct byte_buffer *buffer, struct error *error);

/* The length of the writer's record at the start of `body`, found without reading it. */
enum status codec_measure(const struct codec_plan *plan, struct text_view body, size_t *bytes,
			  struct error *error);

#endif
