/* schema_parse.c - Avro schema JSON to nodes.
 *
 * Invariants: recursion follows the JSON and stops at SCHEMA_DEPTH_MAX; a node is complete when its
 * call returns, and only references by name may point at one that is not yet. min_bytes counts such a
 * reference as one byte: it stays a lower bound, because a record that contains itself is never empty.
 * Called once per schema id, by any thread. */
#include "schemas/schema.h"

#include <stdlib.h>

struct schema {
	struct arena *arena;
	json_t *json;
	const struct schema_node *root;
};

struct parser {
	struct arena *arena;
	struct error *error;
	struct named {
		const char *name;
		const struct schema_node *node;
	} *named;
	size_t named_count;
	unsigned depth;
};

static const char *const kind_names[] = {
	"null", "boolean", "int", "long", "float", "double", "bytes", "string",
	"record", "enum", "fixed", "array", "map", "union",
};
enum { PRIMITIVES = SCHEMA_STRING + 1 };

const char *schema_kind_name(enum schema_kind kind)
{
	return kind_names[kind];
}

const char *schema_short_name(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot ? dot + 1 : name;
}

static enum status parse(struct parser *parser, const json_t *json, const char *space,
			 const struct schema_node **out);

static enum status no_memory(struct parser *parser)
{
	return error_set(parser->error, STATUS_NO_MEMORY, "schema does not fit into %d bytes of memory",
			 SCHEMA_ARENA_BYTES_MAX);
}

static bool name_valid(const char *name, bool dots)
{
	bool start = true;
	for (; *name; name++) {
		bool letter = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') || *name == '_';
		bool digit = *name >= '0' && *name <= '9';
		if (dots && *name == '.' && !start)
			start = true;
		else if (letter || (digit && !start))
			start = false;
		else
			return false;
	}
	return !start;
}

static const char *keep(struct parser *parser, const char *text)
{
	size_t bytes = strlen(text) + 1;
	char *copy = arena_alloc(parser->arena, bytes);
	return copy ? memcpy(copy, text, bytes) : NULL;
}

/* "a.b.name" stands alone; "name" belongs to the namespace around it. */
static enum status full_name(struct parser *parser, const char *name, const char *space, const char **out)
{
	size_t bytes;
	char *full;

	if (!name_valid(name, true))
		return error_set(parser->error, STATUS_CORRUPT, "schema: \"%.80s\" is not a valid name", name);
	if (strchr(name, '.') || !*space) {
		*out = keep(parser, name);
		return *out ? STATUS_OK : no_memory(parser);
	}
	bytes = strlen(space) + 1 + strlen(name) + 1;
	full = arena_alloc(parser->arena, bytes);
	if (!full)
		return no_memory(parser);
	snprintf(full, bytes, "%s.%s", space, name);
	*out = full;
	return STATUS_OK;
}

static const struct schema_node *find_named(const struct parser *parser, const char *name)
{
	for (size_t i = 0; i < parser->named_count; i++)
		if (strcmp(parser->named[i].name, name) == 0)
			return parser->named[i].node;
	return NULL;
}

static int order_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Copies an array of distinct valid names; `space` non-NULL makes them full names. */
static enum status name_list(struct parser *parser, const json_t *json, const char *what, const char *space,
			     const char *const **out, size_t *count)
{
	size_t length = json_array_size(json);
	const char **names = arena_array(parser->arena, length, sizeof *names);
	const char **sorted = arena_array(parser->arena, length, sizeof *sorted);
	enum status status;

	if (!json_is_array(json))
		return error_set(parser->error, STATUS_CORRUPT, "schema: %s is not an array of names", what);
	if (!names || !sorted)
		return no_memory(parser);
	for (size_t i = 0; i < length; i++) {
		const char *text = json_string_value(json_array_get(json, i));
		if (!text || !name_valid(text, space != NULL))
			return error_set(parser->error, STATUS_CORRUPT, "schema: %s[%zu] is not a valid name", what, i);
		status = full_name(parser, text, space ? space : "", &names[i]);
		if (status)
			return status;
		sorted[i] = names[i];
	}
	if (length > 1)
		qsort(sorted, length, sizeof *sorted, order_names);
	for (size_t i = 1; i < length; i++)
		if (strcmp(sorted[i - 1], sorted[i]) == 0)
			return error_set(parser->error, STATUS_CORRUPT, "schema: \"%.80s\" occurs twice in %s",
					 sorted[i], what);
	*out = names;
	*count = length;
	return STATUS_OK;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Reads name, namespace and aliases of record, enum and fixed, and makes the name known. */
static enum status define(struct parser *parser, const json_t *json, const char *around,
			  struct schema_node *node, const char **space)
{
	const char *name = json_string_value(json_object_get(json, "name"));
	const json_t *space_json = json_object_get(json, "namespace");
	const char *given = json_string_value(space_json);
	const json_t *aliases = json_object_get(json, "aliases");
	const char *dot;
	enum status status;

	if (!name)
		return error_set(parser->error, STATUS_CORRUPT, "schema: a %s has no name",
				 schema_kind_name(node->kind));
	if (space_json && !json_is_null(space_json) && (!given || (*given && !name_valid(given, true))))
		return error_set(parser->error, STATUS_CORRUPT, "schema: the namespace of \"%.80s\" is not valid",
				 name);
	status = full_name(parser, name, given ? given : around, &node->name);
	if (status)
		return status;
	for (int i = 0; i < PRIMITIVES; i++)
		if (strcmp(node->name, kind_names[i]) == 0)
			return error_set(parser->error, STATUS_CORRUPT, "schema: \"%s\" is the name of a primitive type",
					 node->name);
	if (find_named(parser, node->name))
		return error_set(parser->error, STATUS_CORRUPT, "schema: \"%.80s\" is defined twice", node->name);
	if (parser->named_count == SCHEMA_NAMES_MAX)
		return error_set(parser->error, STATUS_CORRUPT, "schema: more than %d named types",
				 SCHEMA_NAMES_MAX);
	parser->named[parser->named_count++] = (struct named){node->name, node};
	dot = strrchr(node->name, '.');
	*space = "";
	if (dot) {
		char *copy = arena_alloc(parser->arena, (size_t)(dot - node->name) + 1);
		if (!copy)
			return no_memory(parser);
		memcpy(copy, node->name, (size_t)(dot - node->name));
		copy[dot - node->name] = '\0';
		*space = copy;
	}
	return aliases ? name_list(parser, aliases, "aliases", *space, &node->aliases, &node->aliases_count)
		       : STATUS_OK;
}

static enum status parse_field(struct parser *parser, const json_t *json, const char *space,
			       struct schema_field *field)
{
	const char *name = json_string_value(json_object_get(json, "name"));
	const json_t *type = json_object_get(json, "type");
	const json_t *aliases = json_object_get(json, "aliases");
	enum status status;

	if (!name || !name_valid(name, false))
		return error_set(parser->error, STATUS_CORRUPT, "schema: a field has no valid name");
	if (!type)
		return error_set(parser->error, STATUS_CORRUPT, "schema: field \"%.80s\" has no type", name);
	field->name = keep(parser, name);
	if (!field->name)
		return no_memory(parser);
	field->fallback = json_object_get(json, "default");
	if (aliases) {
		status = name_list(parser, aliases, "aliases", NULL, &field->aliases, &field->aliases_count);
		if (status)
			return status;
	}
	status = parse(parser, type, space, &field->type);
	if (status && parser->error)
		error_prefix(parser->error, "%.40s", name);
	return status;
}

static enum status parse_record(struct parser *parser, const json_t *json, const char *space,
				struct schema_node *node)
{
	const json_t *fields_json = json_object_get(json, "fields");
	size_t count = json_array_size(fields_json);
	struct schema_field *fields = arena_array(parser->arena, count, sizeof *fields);
	const char **sorted = arena_array(parser->arena, count, sizeof *sorted);
	uint64_t min_bytes = 0;
	bool constant = true;

	if (!json_is_array(fields_json))
		return error_set(parser->error, STATUS_CORRUPT, "schema: record \"%.80s\" has no array of fields",
				 node->name);
	node->parts = arena_array(parser->arena, count, sizeof(const struct schema_node *));
	if (!fields || !sorted || !node->parts)
		return no_memory(parser);
	memset(fields, 0, count * sizeof *fields);
	for (size_t i = 0; i < count; i++) {
		enum status status = parse_field(parser, json_array_get(fields_json, i), space, &fields[i]);
		if (status)
			return status;
		min_bytes = add_saturated(min_bytes, fields[i].type->min_bytes);
		constant &= fields[i].type->constant;
		if (fields[i].type->min_bytes || !fields[i].type->constant)
			node->parts[node->parts_count++] = fields[i].type;
		sorted[i] = fields[i].name;
	}
	if (count > 1)
		qsort(sorted, count, sizeof *sorted, order_names);
	for (size_t i = 1; i < count; i++)
		if (strcmp(sorted[i - 1], sorted[i]) == 0)
			return error_set(parser->error, STATUS_CORRUPT, "schema: record \"%.80s\" has field \"%.80s\" twice",
					 node->name, sorted[i]);
	node->fields = fields;
	node->count = count;
	node->min_bytes = min_bytes;
	node->constant = constant;
	return STATUS_OK;
}

static enum status parse_enum(struct parser *parser, const json_t *json, struct schema_node *node)
{
	const char *fallback = json_string_value(json_object_get(json, "default"));
	enum status status = name_list(parser, json_object_get(json, "symbols"), "symbols", NULL,
				       &node->symbols, &node->count);

	if (status)
		return status;
	if (json_object_get(json, "default")) {
		for (size_t i = 0; fallback && i < node->count && !node->symbol_fallback; i++)
			if (strcmp(node->symbols[i], fallback) == 0)
				node->symbol_fallback = node->symbols[i];
		if (!node->symbol_fallback)
			return error_set(parser->error, STATUS_CORRUPT,
					 "schema: the default of enum \"%.80s\" is not one of its symbols", node->name);
	}
	node->min_bytes = 1;
	return STATUS_OK;
}

static enum status parse_fixed(struct parser *parser, const json_t *json, struct schema_node *node)
{
	const json_t *size = json_object_get(json, "size");

	if (!json_is_integer(size) || json_integer_value(size) < 0 || json_integer_value(size) > INT32_MAX)
		return error_set(parser->error, STATUS_CORRUPT, "schema: fixed \"%.80s\" has no valid size",
				 node->name);
	node->size = node->min_bytes = (uint64_t)json_integer_value(size);
	node->constant = true;
	return STATUS_OK;
}

static enum status parse_union(struct parser *parser, const json_t *json, const char *space,
			       struct schema_node *node)
{
	size_t count = json_array_size(json);
	uint64_t seen = 0, least = UINT64_MAX;

	node->parts = arena_array(parser->arena, count, sizeof(const struct schema_node *));
	if (!node->parts)
		return no_memory(parser);
	if (count == 0 || count > 2 * SCHEMA_NAMES_MAX)
		return error_set(parser->error, STATUS_CORRUPT, "schema: a union of %zu types", count);
	for (size_t i = 0; i < count; i++) {
		enum status status = parse(parser, json_array_get(json, i), space, &node->parts[i]);
		if (status)
			return status;
		enum schema_kind kind = node->parts[i]->kind;
		if (kind == SCHEMA_UNION)
			return error_set(parser->error, STATUS_CORRUPT, "schema: a union directly inside a union");
		bool named = kind == SCHEMA_RECORD || kind == SCHEMA_ENUM || kind == SCHEMA_FIXED;
		if (!named && seen & 1u << kind)
			return error_set(parser->error, STATUS_CORRUPT, "schema: a union with %s twice",
					 schema_kind_name(kind));
		for (size_t k = 0; named && k < i; k++)
			if (node->parts[k] == node->parts[i])
				return error_set(parser->error, STATUS_CORRUPT, "schema: a union with \"%.80s\" twice",
						 node->parts[i]->name);
		seen |= 1u << kind;
		least = node->parts[i]->min_bytes < least ? node->parts[i]->min_bytes : least;
	}
	node->count = node->parts_count = count;
	node->min_bytes = add_saturated(1, least);
	return STATUS_OK;
}

static struct schema_node *new_node(struct parser *parser, enum schema_kind kind)
{
	struct schema_node *node = arena_alloc(parser->arena, sizeof *node);
	if (!node)
		return NULL;
	memset(node, 0, sizeof *node);
	node->kind = kind;
	/* Until it is complete it counts as something of at least one byte. */
	node->min_bytes = 1;
	return node;
}

static enum status parse_name(struct parser *parser, const char *name, const char *space,
			      const struct schema_node **out)
{
	static const uint8_t bytes[PRIMITIVES] = {0, 1, 1, 1, 4, 8, 1, 1};
	const char *full;
	enum status status;

	for (int i = 0; i < PRIMITIVES; i++)
		if (strcmp(name, kind_names[i]) == 0) {
			struct schema_node *node = new_node(parser, (enum schema_kind)i);
			if (!node)
				return no_memory(parser);
			node->min_bytes = bytes[i];
			node->constant = i == SCHEMA_NULL || i == SCHEMA_BOOLEAN || i == SCHEMA_FLOAT || i == SCHEMA_DOUBLE;
			*out = node;
			return STATUS_OK;
		}
	status = full_name(parser, name, space, &full);
	if (status)
		return status;
	*out = find_named(parser, full);
	if (!*out)
		return error_set(parser->error, STATUS_CORRUPT, "schema: unknown type \"%.80s\"", full);
	return STATUS_OK;
}

static enum status parse_object(struct parser *parser, const json_t *json, const char *space,
				const struct schema_node **out)
{
	const json_t *type = json_object_get(json, "type");
	const char *name = json_string_value(type);
	enum schema_kind kind = SCHEMA_NULL;
	struct schema_node *node;
	enum status status;

	if (name && strcmp(name, "error") == 0)
		name = "record";
	for (int i = PRIMITIVES; name && i < SCHEMA_UNION; i++)
		if (strcmp(name, kind_names[i]) == 0)
			kind = (enum schema_kind)i;
	if (kind == SCHEMA_NULL) {      /* a primitive with attributes, a name, or a type wrapped once more */
		if (!type)
			return error_set(parser->error, STATUS_CORRUPT, "schema: an object without \"type\"");
		return parse(parser, type, space, out);
	}
	node = new_node(parser, kind);
	if (!node)
		return no_memory(parser);
	if (kind == SCHEMA_ARRAY || kind == SCHEMA_MAP) {
		const json_t *items = json_object_get(json, kind == SCHEMA_ARRAY ? "items" : "values");
		if (!items)
			return error_set(parser->error, STATUS_CORRUPT, "schema: %s without the type of its parts", name);
		status = parse(parser, items, space, &node->items);
	} else {
		status = define(parser, json, space, node, &space);
		if (!status && kind == SCHEMA_RECORD)
			status = parse_record(parser, json, space, node);
		else if (!status && kind == SCHEMA_ENUM)
			status = parse_enum(parser, json, node);
		else if (!status)
			status = parse_fixed(parser, json, node);
	}
	*out = node;
	return status;
}

static enum status parse(struct parser *parser, const json_t *json, const char *space,
			 const struct schema_node **out)
{
	struct schema_node *node;
	enum status status;

	if (parser->depth == SCHEMA_DEPTH_MAX)
		return error_set(parser->error, STATUS_CORRUPT, "schema: nested deeper than %d", SCHEMA_DEPTH_MAX);
	parser->depth++;
	if (json_is_string(json)) {
		status = parse_name(parser, json_string_value(json), space, out);
	} else if (json_is_object(json)) {
		status = parse_object(parser, json, space, out);
	} else if (json_is_array(json)) {
		node = new_node(parser, SCHEMA_UNION);
		status = node ? parse_union(parser, json, space, node) : no_memory(parser);
		*out = node;
	} else {
		status = error_set(parser->error, STATUS_CORRUPT, "schema: a type is neither text, object nor array");
	}
	parser->depth--;
	return status;
}

enum status schema_parse(struct text_view json, struct schema **out, struct error *error)
{
	struct parser parser = {.error = error};
	struct schema *schema = NULL;
	json_error_t json_error;
	enum status status = STATUS_NO_MEMORY;

	if (json.size > SCHEMA_JSON_BYTES_MAX)
		return error_set(error, STATUS_CORRUPT, "schema of %zu bytes, more than %d", json.size,
				 SCHEMA_JSON_BYTES_MAX);
	schema = mem_alloc_zero(1, sizeof *schema);
	parser.named = mem_alloc_array(SCHEMA_NAMES_MAX, sizeof *parser.named);
	parser.arena = arena_create(SCHEMA_ARENA_BYTES_MAX);
	if (schema)
		schema->arena = parser.arena;
	if (!schema || !parser.named || !parser.arena) {
		error_set(error, STATUS_NO_MEMORY, "no memory for a schema");
		if (!schema)
			arena_destroy(parser.arena);
		goto cleanup;
	}
	schema->json = json_loadb(json.bytes ? json.bytes : "", json.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
				  &json_error);
	if (!schema->json) {
		status = error_set(error, STATUS_CORRUPT, "schema is not JSON: %.120s at byte %d", json_error.text,
				   json_error.position);
		goto cleanup;
	}
	status = parse(&parser, schema->json, "", &schema->root);
	if (status)
		goto cleanup;
	*out = schema;
	schema = NULL;
cleanup:
	schema_destroy(schema);
	mem_free(parser.named);
	return status;
}

void schema_destroy(struct schema *schema)
{
	if (!schema)
		return;
	json_decref(schema->json);
	arena_destroy(schema->arena);
	mem_free(schema);
}

const struct schema_node *schema_root(const struct schema *schema)
{
	return schema->root;
}

void schema_drop_json(struct schema *schema)
{
	json_decref(schema->json);
	schema->json = NULL;
}
