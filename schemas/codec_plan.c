/* codec_plan.c - resolves a writer's schema against ours, once per schema id.
 *
 * Recursion follows our schema, which is finite, so a writer's schema that contains itself can only
 * be skipped. Every difference that is certain to fail is found here; one that depends on the data (a
 * union branch or enum symbol that we do not know) becomes a node that fails when it comes.
 * Called by the registry and by container files, any thread. */
#include "schemas/codec_plan.h"
#include "schemas/codec_schemas.h"

enum { PLAN_ARENA_BYTES_MAX = 8 * 1024 * 1024, DEFAULT_BYTES_MAX = 64 * 1024 };

struct planner {
	struct arena *arena;
	struct error *error;
};

static enum status resolve(struct planner *planner, const struct schema_node *reader,
			   const struct binding *binding, const struct schema_node *writer,
			   struct plan_node *out);
static enum status resolve_record(struct planner *planner, const struct schema_node *reader,
				  const struct binding_record *record, const struct schema_node *writer,
				  struct plan_node *out);

static const char *describe(const struct schema_node *node)
{
	return node->name ? node->name : schema_kind_name(node->kind);
}

static enum status incompatible(struct planner *planner, const struct schema_node *reader,
				const struct schema_node *writer)
{
	return error_set(planner->error, STATUS_INCOMPATIBLE, "the writer's %.80s cannot be read as %.80s",
			 describe(writer), describe(reader));
}

static enum status no_memory(struct planner *planner)
{
	return error_set(planner->error, STATUS_NO_MEMORY, "plan does not fit into %d bytes of memory",
			 PLAN_ARENA_BYTES_MAX);
}

static enum status misbound(struct planner *planner, const char *name)
{
	return error_set(planner->error, STATUS_INTERNAL, "our schema and our struct differ in \"%s\"", name);
}

static struct plan_node *new_nodes(struct planner *planner, size_t count)
{
	struct plan_node *nodes = arena_array(planner->arena, count, sizeof *nodes);
	if (nodes)
		memset(nodes, 0, count * sizeof *nodes);
	return nodes;
}

/* Names match without their namespaces, or through an alias of the reader. */
static bool names_match(const struct schema_node *reader, const struct schema_node *writer)
{
	const char *name = schema_short_name(writer->name);

	if (strcmp(schema_short_name(reader->name), name) == 0)
		return true;
	for (size_t i = 0; i < reader->aliases_count; i++)
		if (strcmp(reader->aliases[i], writer->name) == 0 ||
		    strcmp(schema_short_name(reader->aliases[i]), name) == 0)
			return true;
	return false;
}

static enum status resolve_enum(struct planner *planner, const struct schema_node *reader,
				const struct binding *binding, const struct schema_node *writer,
				struct plan_node *out)
{
	int16_t *symbols = arena_array(planner->arena, writer->count, sizeof *symbols);

	if (!symbols)
		return no_memory(planner);
	if (!names_match(reader, writer))
		return incompatible(planner, reader, writer);
	for (size_t i = 0; i < reader->count; i++) {
		bool bound = false;
		for (int value = 0; value < binding->symbols; value++)
			bound |= strcmp(binding->symbol(value), reader->symbols[i]) == 0;
		if (!bound)
			return misbound(planner, reader->symbols[i]);
	}
	for (size_t i = 0; i < writer->count; i++) {
		const char *symbol = reader->symbol_fallback;
		for (size_t k = 0; k < reader->count; k++)
			if (strcmp(reader->symbols[k], writer->symbols[i]) == 0)
				symbol = reader->symbols[k];
		symbols[i] = -1;
		for (int value = 0; symbol && value < binding->symbols; value++)
			if (strcmp(binding->symbol(value), symbol) == 0)
				symbols[i] = (int16_t)value;
	}
	out->op = PLAN_ENUM;
	out->symbols = symbols;
	out->count = writer->count;
	return STATUS_OK;
}

static bool promotion(enum schema_kind reader, enum schema_kind writer, enum plan_op *op)
{
	static const struct { enum schema_kind reader, writer; enum plan_op op; } promotions[] = {
		{SCHEMA_BOOLEAN, SCHEMA_BOOLEAN, PLAN_BOOLEAN},
		{SCHEMA_INT, SCHEMA_INT, PLAN_INT},
		{SCHEMA_LONG, SCHEMA_INT, PLAN_INT_TO_LONG},
		{SCHEMA_LONG, SCHEMA_LONG, PLAN_LONG},
		{SCHEMA_FLOAT, SCHEMA_INT, PLAN_INT_TO_FLOAT},
		{SCHEMA_FLOAT, SCHEMA_LONG, PLAN_LONG_TO_FLOAT},
		{SCHEMA_FLOAT, SCHEMA_FLOAT, PLAN_FLOAT},
		{SCHEMA_DOUBLE, SCHEMA_INT, PLAN_INT_TO_DOUBLE},
		{SCHEMA_DOUBLE, SCHEMA_LONG, PLAN_LONG_TO_DOUBLE},
		{SCHEMA_DOUBLE, SCHEMA_FLOAT, PLAN_FLOAT_TO_DOUBLE},
		{SCHEMA_DOUBLE, SCHEMA_DOUBLE, PLAN_DOUBLE},
		{SCHEMA_STRING, SCHEMA_STRING, PLAN_TEXT},
		{SCHEMA_STRING, SCHEMA_BYTES, PLAN_TEXT},
		{SCHEMA_BYTES, SCHEMA_BYTES, PLAN_TEXT},
		{SCHEMA_BYTES, SCHEMA_STRING, PLAN_TEXT},
	};
	for (size_t i = 0; i < sizeof promotions / sizeof promotions[0]; i++)
		if (promotions[i].reader == reader && promotions[i].writer == writer) {
			*op = promotions[i].op;
			return true;
		}
	return false;
}

static size_t items_size(const struct binding *binding)
{
	if (binding->items)
		return binding->items->size;
	return binding->items_kind == SCHEMA_FLOAT ? sizeof(float) : sizeof(struct text_view);
}

static enum status resolve_items(struct planner *planner, const struct schema_node *reader,
				 const struct binding *binding, const struct schema_node *writer,
				 struct plan_node *out)
{
	const struct binding element = {
		.name = binding->name, .kind = binding->items_kind, .extra = BINDING_NONE,
		.items = binding->items,
	};
	struct plan_node *item = new_nodes(planner, 1);

	if (!item)
		return no_memory(planner);
	out->op = writer->kind == SCHEMA_MAP ? PLAN_MAP : PLAN_ARRAY;
	out->children = item;
	out->count = 1;
	out->writer = writer->items;
	out->item_size = items_size(binding);
	/* A map's element has a name at its start and its value where the binding says. */
	return resolve(planner, reader->items,
		       writer->kind == SCHEMA_MAP ? &binding->items->fields[0] : &element, writer->items, item);
}

/* Each branch that the writer may choose has its own node. */
static enum status resolve_writer_union(struct planner *planner, const struct schema_node *reader,
					const struct binding *binding, const struct schema_node *writer,
					struct plan_node *out)
{
	struct plan_node *branches = new_nodes(planner, writer->count);
	size_t resolved = 0;

	if (!branches)
		return no_memory(planner);
	for (size_t i = 0; i < writer->count; i++) {
		enum status status = resolve(planner, reader, binding, writer->parts[i], &branches[i]);
		if (status == STATUS_OK) {
			resolved++;
			continue;
		}
		if (status != STATUS_INCOMPATIBLE)
			return status;
		branches[i] = (struct plan_node){
			.op = PLAN_UNRESOLVED, .name = binding->name, .writer = writer->parts[i],
		};
	}
	if (!resolved)
		return incompatible(planner, reader, writer);
	out->op = PLAN_UNION;
	out->children = branches;
	out->count = writer->count;
	return STATUS_OK;
}

/* Ours are [null, value] in either order; the first branch that matches is the only one that can. */
static enum status resolve_reader_union(struct planner *planner, const struct schema_node *reader,
					const struct binding *binding, const struct schema_node *writer,
					struct plan_node *out)
{
	if (!binding->optional || reader->count != 2 ||
	    (reader->parts[0]->kind == SCHEMA_NULL) == (reader->parts[1]->kind == SCHEMA_NULL))
		return misbound(planner, binding->name);
	if (writer->kind == SCHEMA_NULL) {
		out->op = PLAN_ABSENT;
		return STATUS_OK;
	}
	return resolve(planner, reader->parts[reader->parts[0]->kind == SCHEMA_NULL], binding, writer, out);
}

static enum status resolve(struct planner *planner, const struct schema_node *reader,
			   const struct binding *binding, const struct schema_node *writer,
			   struct plan_node *out)
{
	out->name = binding->name;
	out->offset = binding->offset;
	out->extra = binding->extra;
	if (writer->kind == SCHEMA_UNION)
		return resolve_writer_union(planner, reader, binding, writer, out);
	if (reader->kind == SCHEMA_UNION)
		return resolve_reader_union(planner, reader, binding, writer, out);
	if (reader->kind != binding->kind)
		return misbound(planner, binding->name);
	if (reader->kind <= SCHEMA_STRING)
		return promotion(reader->kind, writer->kind, &out->op) ? STATUS_OK
								       : incompatible(planner, reader, writer);
	if (reader->kind != writer->kind)
		return incompatible(planner, reader, writer);
	switch (reader->kind) {
	case SCHEMA_ENUM:
		return resolve_enum(planner, reader, binding, writer, out);
	case SCHEMA_ARRAY:
	case SCHEMA_MAP:
		return resolve_items(planner, reader, binding, writer, out);
	case SCHEMA_RECORD:
		return resolve_record(planner, reader, binding->items, writer, out);
	default:
		return misbound(planner, binding->name);
	}
}

static const struct schema_field *find_field(const struct schema_node *record, const char *name)
{
	for (size_t i = 0; i < record->count; i++)
		if (strcmp(record->fields[i].name, name) == 0)
			return &record->fields[i];
	return NULL;
}

/* The writer's field of the same name, else the first that an alias names and no field of ours. */
static const struct schema_field *writer_field(const struct schema_node *reader,
					       const struct schema_field *field,
					       const struct schema_node *writer)
{
	const struct schema_field *found = find_field(writer, field->name);

	for (size_t i = 0; !found && i < field->aliases_count; i++)
		if (!find_field(reader, field->aliases[i]))
			found = find_field(writer, field->aliases[i]);
	return found;
}

static enum status resolve_default(struct planner *planner, const struct schema_field *field,
				   const struct binding *binding, struct plan_node *out)
{
	struct byte_buffer buffer = {.bytes_max = DEFAULT_BYTES_MAX};
	struct plan_node *value = new_nodes(planner, 1);
	unsigned char *copy = NULL;
	enum status status;

	if (!value)
		return no_memory(planner);
	status = codec_default_encode(field->type, field->fallback, &buffer, planner->error);
	if (!status)
		status = resolve(planner, field->type, binding, field->type, value);
	if (!status) {
		copy = arena_alloc(planner->arena, buffer.size);
		status = copy ? STATUS_OK : no_memory(planner);
	}
	if (!status) {
		if (buffer.size)
			memcpy(copy, buffer.bytes, buffer.size);
		*out = (struct plan_node){
			.op = PLAN_DEFAULT, .name = binding->name, .children = value, .count = 1,
			.fallback = copy, .fallback_size = buffer.size,
		};
	}
	byte_buffer_free(&buffer);
	return status;
}

static const struct binding *find_binding(const struct binding_record *record, const char *name)
{
	for (size_t i = 0; i < record->count; i++)
		if (strcmp(record->fields[i].name, name) == 0)
			return &record->fields[i];
	return NULL;
}

static enum status resolve_record(struct planner *planner, const struct schema_node *reader,
				  const struct binding_record *record, const struct schema_node *writer,
				  struct plan_node *out)
{
	const struct schema_field **sources;    /* [reader->count] the writer's, or NULL */
	struct plan_node *steps;
	size_t count = 0;

	if (!names_match(reader, writer))
		return incompatible(planner, reader, writer);
	if (reader->count != record->count)
		return misbound(planner, reader->name);
	steps = new_nodes(planner, writer->count + reader->count);
	sources = arena_array(planner->arena, reader->count, sizeof *sources);
	if (!steps || !sources)
		return no_memory(planner);
	for (size_t k = 0; k < reader->count; k++)
		sources[k] = writer_field(reader, &reader->fields[k], writer);
	for (size_t i = 0; i < writer->count; i++) {
		const struct schema_field *field = NULL;
		for (size_t k = 0; k < reader->count && !field; k++)
			if (sources[k] == &writer->fields[i])
				field = &reader->fields[k];
		if (!field) {
			if (writer->fields[i].type->min_bytes)
				steps[count++] = (struct plan_node){
					.op = PLAN_SKIP, .name = writer->fields[i].name, .writer = writer->fields[i].type,
				};
			continue;
		}
		const struct binding *binding = find_binding(record, field->name);
		if (!binding)
			return misbound(planner, field->name);
		enum status status = resolve(planner, field->type, binding, writer->fields[i].type, &steps[count++]);
		if (status) {
			if (planner->error)
				error_prefix(planner->error, "%s", field->name);
			return status;
		}
	}
	for (size_t k = 0; k < reader->count; k++) {
		const struct schema_field *field = &reader->fields[k];
		const struct binding *binding = find_binding(record, field->name);
		enum status status;

		if (!binding)
			return misbound(planner, field->name);
		if (sources[k])
			continue;
		if (!field->fallback)
			return error_set(planner->error, STATUS_INCOMPATIBLE,
					 "%s: the writer has no such field, and it has no default", field->name);
		status = resolve_default(planner, field, binding, &steps[count++]);
		if (status)
			return status;
	}
	out->op = PLAN_RECORD;
	out->children = steps;
	out->count = count;
	return STATUS_OK;
}

enum status codec_plan_between(enum record_type type, struct text_view reader_json,
			       struct text_view writer_json, struct codec_plan **out, struct error *error)
{
	const struct binding whole = {
		.name = record_type_name(type), .kind = SCHEMA_RECORD, .extra = BINDING_NONE,
		.items = &codec_bindings[type],
	};
	struct planner planner = {.error = error};
	struct codec_plan *plan = NULL;
	struct plan_node *root;
	enum status status;

	plan = mem_alloc_zero(1, sizeof *plan);
	if (plan)
		plan->arena = planner.arena = arena_create(PLAN_ARENA_BYTES_MAX);
	if (!plan || !plan->arena) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for a plan");
		goto cleanup;
	}
	plan->type = type;
	status = schema_parse(reader_json, &plan->reader, error);
	if (!status)
		status = schema_parse(writer_json, &plan->writer, error);
	if (status)
		goto cleanup;
	root = new_nodes(&planner, 1);
	status = root ? resolve(&planner, schema_root(plan->reader), &whole, schema_root(plan->writer), root)
		      : no_memory(&planner);
	if (status)
		goto cleanup;
	schema_drop_json(plan->reader);
	schema_drop_json(plan->writer);
	plan->root = root;
	*out = plan;
	plan = NULL;
cleanup:
	codec_plan_destroy(plan);
	return status;
}

const char *codec_schema_json(enum record_type type)
{
	return (unsigned)type < RECORD_TYPES ? codec_schemas[type] : NULL;
}

enum status codec_plan_create(enum record_type reader, struct text_view writer_json,
			      struct codec_plan **out, struct error *error)
{
	if ((unsigned)reader >= RECORD_TYPES)
		return error_set(error, STATUS_INTERNAL, "no record type %d", (int)reader);
	return codec_plan_between(reader, text_of(codec_schemas[reader]), writer_json, out, error);
}

void codec_plan_destroy(struct codec_plan *plan)
{
	if (!plan)
		return;
	schema_destroy(plan->reader);
	schema_destroy(plan->writer);
	arena_destroy(plan->arena);
	mem_free(plan);
}

enum record_type codec_plan_type(const struct codec_plan *plan)
{
	return plan->type;
}
