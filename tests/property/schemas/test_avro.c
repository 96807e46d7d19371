/* test_avro.c - our codec against avro-c, on random events and on random writers' schemas of our shape.
 *
 * Two oracles that share nothing with the decoder but the table of fields: avro-c reads what we encode,
 * and writes what we decode; what a value means for a field of ours is decided in avro_oracle.h on
 * avro-c's values, not on plans. Recursive schemas are left to the unit tests: avro-c cannot hold
 * them. The seed is printed with a failure; EXITPOLL_SEED repeats it. */
#include "tests/property/schemas/avro_oracle.h"
#include "tests/unit/schemas/codec_samples.h"

#include <stdlib.h>

enum { EVENTS = 300, SCHEMAS = 250, VALUES = 12, ARENA_BYTES = 32 * 1024 * 1024, BODY_BYTES = 1 << 20 };

static uint64_t seed_of(int index)
{
	const char *given = getenv("EXITPOLL_SEED");
	return given ? strtoull(given, NULL, 10) : 1000 + (uint64_t)index;
}

/* ---- ours encodes, avro-c reads, and writes the same bytes ---- */

static avro_schema_t parse_schema(const char *json, size_t size)
{
	avro_schema_t schema = NULL;
	ck_assert_msg(avro_schema_from_json_length(json, size, &schema) == 0, "%s in %.*s", avro_strerror(),
		(int)size,
		      json);
	return schema;
}

START_TEST(avro_c_reads_ours)
{
	enum record_type type = (enum record_type)_i;
	uint64_t seed = seed_of(_i);
	struct samples samples = {.state = seed, .arena = arena_create(ARENA_BYTES)};
	const char *json = codec_schema_json(type);
	avro_schema_t schema = parse_schema(json, strlen(json));
	avro_value_iface_t *iface = avro_generic_class_from_schema(schema);
	struct byte_buffer body = {.bytes_max = BODY_BYTES};
	char *again = mem_alloc(BODY_BYTES);

	for (int i = 0; i < EVENTS; i++) {
		avro_reader_t reader;
		avro_writer_t writer = avro_writer_memory(again, BODY_BYTES);
		avro_value_t value;
		struct event event;

		arena_reset(samples.arena);
		event = sample_event(&samples, type);
		body.size = 0;
		ck_assert_int_eq(codec_encode(&event, &body, NULL), STATUS_OK);
		reader = avro_reader_memory(body.bytes, (int64_t)body.size);
		avro_generic_value_new(iface, &value);
		ck_assert_msg(avro_value_read(reader, &value) == 0, "seed %llu, event %d: %s",
			      (unsigned long long)seed, i, avro_strerror());
		ck_assert_msg(same_record(&codec_bindings[type], value, fields_of(&event)),
		"seed %llu, event %d",
			      (unsigned long long)seed, i);
		ck_assert_int_eq(avro_value_write(writer, &value), 0);
		ck_assert_int_eq(avro_writer_tell(writer), (int64_t)body.size);
		ck_assert(memcmp(again, body.bytes, body.size) == 0);
		avro_value_decref(&value);
		avro_reader_free(reader);
		avro_writer_free(writer);
	}
	avro_value_iface_decref(iface);
	avro_schema_decref(schema);
	byte_buffer_free(&body);
	mem_free(again);
	arena_destroy(samples.arena);
}
END_TEST

/* ---- random writers: our schema with everything changed that may be ---- */

struct generator {
	struct samples samples;
	int names;              /* each named type gets a namespace of its own */
	json_t *known;          /* name -> definition, for references */
};

static uint64_t roll(struct generator *generator, uint64_t bound)
{
	return sample_below(&generator->samples, bound);
}

static json_t *named(struct generator *generator, const char *type, const char *name)
{
	char space[32];
	snprintf(space, sizeof space, "n%d.x", generator->names++);
	return json_pack("{s:s,s:s,s:s}", "type", type, "name", name, "namespace", space);
}

static json_t *random_type(struct generator *generator, int depth)
{
	static const char *const primitives[] = {"null", "boolean", "int", "long", "float", "double",
		"bytes", "string"};
	json_t *json, *list;

	switch (roll(generator, depth > 0 ? 14 : 10)) {
	case 8:
		json = named(generator, "fixed", "extra_fixed");
		json_object_set_new(json, "size", json_integer(1 + (json_int_t)roll(generator, 9)));
		return json;
	case 9:
		json = named(generator, "enum", "extra_enum");
		json_object_set_new(json, "symbols", json_pack("[s,s,s]", "A", "B", "C"));
		return json;
	case 10:
		return json_pack("{s:s,s:o}", "type", "array", "items", random_type(generator, depth - 1));
	case 11:
		return json_pack("{s:s,s:o}", "type", "map", "values", random_type(generator, depth - 1));
	case 12:
		json = named(generator, "record", "extra_record");
		list = json_array();
		for (uint64_t i = roll(generator, 4); i > 0; i--) {
			char name[16];
			snprintf(name, sizeof name, "f%d", (int)i);
			json_array_append_new(list, json_pack("{s:s,s:o}", "name", name, "type",
							      random_type(generator, depth - 1)));
		}
		json_object_set_new(json, "fields", list);
		return json;
	case 13:
		return json_pack("[s,s,o]", "null", "string", json_pack("{s:s,s:o}", "type", "array", "items",
									random_type(generator, depth - 1)));
	default:
		return json_string(primitives[roll(generator, 8)]);
	}
}

static json_t *changed_type(struct generator *generator, const json_t *type);

static json_t *changed_record(struct generator *generator, const json_t *record)
{
	json_t *changed = named(generator, "record", json_string_value(json_object_get(record, "name")));
	const json_t *fields = json_object_get(record, "fields");
	json_t *list = json_array();

	json_object_set(generator->known, json_string_value(json_object_get(record, "name")), (json_t
		*)(uintptr_t)record);
	for (size_t i = 0; i < json_array_size(fields); i++) {
		const json_t *field = json_array_get(fields, i);
		json_t *name = json_object_get(field, "name");
		/* The type is walked even where the field goes: others may refer to what it defines. */
		json_t *type = changed_type(generator, json_object_get(field, "type"));
		bool dropped = json_object_get(field, "default") && roll(generator, 4) == 0;

		if (!dropped)
			json_array_insert_new(list, roll(generator, json_array_size(list) + 1),
					      json_pack("{s:O,s:O}", "name", name, "type", type));
		json_decref(type);
	}
	for (uint64_t i = roll(generator, 3); i > 0; i--) {
		char name[16];
		snprintf(name, sizeof name, "extra%d", (int)i);
		json_array_insert_new(list, roll(generator, json_array_size(list) + 1),
				      json_pack("{s:s,s:o}", "name", name, "type", random_type(generator,
				      3)));
	}
	json_object_set_new(changed, "fields", list);
	return changed;
}

static json_t *changed_enum(struct generator *generator, const json_t *type)
{
	json_t *changed = named(generator, "enum", json_string_value(json_object_get(type, "name")));
	const json_t *symbols = json_object_get(type, "symbols");
	json_t *list = json_array();

	for (size_t i = 0; i < json_array_size(symbols); i++)
		if (roll(generator, 6) || json_array_size(list) == 0)
			json_array_insert(list, roll(generator, json_array_size(list) + 1),
			json_array_get(symbols, i));
	if (roll(generator, 4) == 0)
		json_array_insert_new(list, roll(generator, json_array_size(list) + 1),
		json_string("UNHEARD_OF"));
	json_object_set_new(changed, "symbols", list);
	return changed;
}

/* Not a union: something that resolves to `type`. */
static json_t *changed_plain(struct generator *generator, const json_t *type)
{
	static const char *const numbers[] = {"int", "long", "float", "double"};
	const char *name = json_string_value(json_is_object(type) ? json_object_get(type, "type") : type);

	ck_assert_ptr_nonnull(name);
	for (size_t i = 0; i < 4; i++)
		if (strcmp(name, numbers[i]) == 0)
			return json_string(numbers[roll(generator, i + 1)]);
	if (strcmp(name, "string") == 0 || strcmp(name, "bytes") == 0)
		return json_string(roll(generator, 2) ? "string" : "bytes");
	if (strcmp(name, "record") == 0)
		return changed_record(generator, type);
	if (strcmp(name, "enum") == 0)
		return changed_enum(generator, type);
	if (strcmp(name, "array") == 0)
		return json_pack("{s:s,s:o}", "type", name, "items",
				 changed_type(generator, json_object_get(type, "items")));
	if (strcmp(name, "map") == 0)
		return json_pack("{s:s,s:o}", "type", name, "values",
				 changed_type(generator, json_object_get(type, "values")));
	if (json_object_get(generator->known, name))
		return changed_record(generator, json_object_get(generator->known, name));
	return json_string(name);       /* boolean */
}

static json_t *changed_type(struct generator *generator, const json_t *type)
{
	const char *others[] = {"null", "boolean"};
	bool optional = json_is_array(type);
	json_t *plain = changed_plain(generator, optional ? json_array_get(type, 1) : type), *list;
	const char *name = json_string_value(plain);

	if (optional && roll(generator, 8) == 0) {
		json_decref(plain);
		return json_string("null");
	}
	if (roll(generator, optional ? 4 : 3) == 0 || (!optional && roll(generator, 2)))
		return plain;
	list = json_pack("[o]", plain);
	for (int i = 0; i < 2; i++)
		if (!(name && strcmp(name, others[i]) == 0) && roll(generator, i == 0 ? 2 : 6) == 0)
			json_array_insert_new(list, roll(generator, json_array_size(list) + 1),
			json_string(others[i]));
	return list;
}

static void fill(struct generator *generator, avro_value_t *value, int depth)
{
	struct text_view text;
	avro_value_t child;
	size_t count = 0;
	char key[32];

	switch (avro_value_get_type(value)) {
	case AVRO_NULL: avro_value_set_null(value); break;
	case AVRO_BOOLEAN: avro_value_set_boolean(value, (int)roll(generator, 2)); break;
	case AVRO_INT32: avro_value_set_int(value, (int32_t)sample_long(&generator->samples)); break;
	case AVRO_INT64: avro_value_set_long(value, sample_long(&generator->samples)); break;
	case AVRO_FLOAT: avro_value_set_float(value, sample_float(&generator->samples)); break;
	case AVRO_DOUBLE: avro_value_set_double(value, sample_double(&generator->samples)); break;
	case AVRO_STRING:
	case AVRO_BYTES:
		text = sample_text(&generator->samples);
		((char *)(uintptr_t)text.bytes)[text.size] = '\0';      /* sample_text leaves room */
		if (avro_value_get_type(value) == AVRO_STRING)
			avro_value_set_string_len(value, text.bytes, text.size + 1);
		else
			avro_value_set_bytes(value, (void *)(uintptr_t)text.bytes, text.size);
		break;
	case AVRO_ENUM:
		count = (size_t)avro_schema_enum_number_of_symbols(avro_value_get_schema(value));
		avro_value_set_enum(value, (int)roll(generator, count));
		break;
	case AVRO_FIXED:
		count = (size_t)avro_schema_fixed_size(avro_value_get_schema(value));
		avro_value_set_fixed(value, (void *)(uintptr_t)"0123456789", count);
		break;
	case AVRO_UNION:
		count = avro_schema_union_size(avro_value_get_schema(value));
		avro_value_set_branch(value, (int)roll(generator, count), &child);
		fill(generator, &child, depth);
		break;
	case AVRO_RECORD:
		avro_value_get_size(value, &count);
		for (size_t i = 0; i < count; i++) {
			avro_value_get_by_index(value, i, &child, NULL);
			fill(generator, &child, depth + 1);
		}
		break;
	case AVRO_ARRAY:
	case AVRO_MAP:
		for (uint64_t i = roll(generator, depth > 3 ? 2 : 5); i > 0; i--) {
			snprintf(key, sizeof key, "key %d", (int)i);
			if (avro_value_get_type(value) == AVRO_ARRAY)
				avro_value_append(value, &child, NULL);
			else
				avro_value_add(value, key, &child, NULL, NULL);
			fill(generator, &child, depth + 1);
		}
		break;
	default: ck_abort_msg("type %d", (int)avro_value_get_type(value));
	}
}

static void check_schema(struct generator *generator, enum record_type type, uint64_t seed, struct arena
	*arena,
			 char *bytes, size_t *read, size_t *refused)
{
	json_t *own = json_loads(codec_schema_json(type), 0, NULL), *writer_json;
	struct codec_plan *plan = NULL;
	struct error error = {0};
	avro_value_iface_t *iface;
	avro_schema_t schema;
	char *json;

	generator->known = json_object();
	writer_json = changed_record(generator, own);
	json = json_dumps(writer_json, JSON_COMPACT);
	schema = parse_schema(json, strlen(json));
	iface = avro_generic_class_from_schema(schema);
	ck_assert_msg(codec_plan_create(type, text_of(json), &plan, &error) == STATUS_OK, "seed %llu: %s: %s",
		      (unsigned long long)seed, error.text, json);
	for (int i = 0; i < VALUES; i++) {
		avro_writer_t writer = avro_writer_memory(bytes, BODY_BYTES);
		struct event event;
		struct text_view body;
		avro_value_t value;
		enum status status;
		size_t measured = 0;
		bool can;

		arena_reset(arena);
		arena_reset(generator->samples.arena);
		avro_generic_value_new(iface, &value);
		fill(generator, &value, 0);
		ck_assert_int_eq(avro_value_write(writer, &value), 0);
		body = (struct text_view){bytes, (size_t)avro_writer_tell(writer)};
		can = readable_record(&codec_bindings[type], value);
		status = codec_decode(plan, body, arena, &event, NULL, &error);
		ck_assert_msg(status == (can ? STATUS_OK : STATUS_BAD_RECORD), "seed %llu, value %d: %s: %s",
			      (unsigned long long)seed, i, error.text, json);
		if (can)
			ck_assert_msg(same_record(&codec_bindings[type], value, fields_of(&event)),
				      "seed %llu, value %d: %s", (unsigned long long)seed, i, json);
		ck_assert_int_eq(codec_measure(plan, body, &measured, &error), STATUS_OK);
		ck_assert_uint_eq(measured, body.size);
		*(can ? read : refused) += 1;
		avro_value_decref(&value);
		avro_writer_free(writer);
	}
	codec_plan_destroy(plan);
	avro_value_iface_decref(iface);
	avro_schema_decref(schema);
	free(json);     /* jansson's */
	json_decref(writer_json);
	json_decref(own);
	json_decref(generator->known);
}

START_TEST(ours_reads_any_writer)
{
	enum record_type type = (enum record_type)_i;
	struct generator generator = {.samples.arena = arena_create(ARENA_BYTES)};
	struct arena *arena = arena_create(ARENA_BYTES);
	char *bytes = mem_alloc(BODY_BYTES);
	size_t read = 0, refused = 0;

	for (int i = 0; i < (getenv("EXITPOLL_SEED") ? 1 : SCHEMAS); i++) {
		uint64_t seed = seed_of(100000 * (_i + 1) + i);
		generator.samples.state = seed;
		check_schema(&generator, type, seed, arena, bytes, &read, &refused);
	}
	/* Both kinds have to occur, or the test shows little. */
	if (!getenv("EXITPOLL_SEED")) {
		ck_assert_uint_gt(read, SCHEMAS / 4);
		ck_assert_uint_gt(refused, SCHEMAS / 4);
	}
	mem_free(bytes);
	arena_destroy(arena);
	arena_destroy(generator.samples.arena);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("avro");
	TCase *tests = tcase_create("avro");

	tcase_add_loop_test(tests, avro_c_reads_ours, 0, RECORD_TYPES);
	tcase_add_loop_test(tests, ours_reads_any_writer, 0, RECORD_TYPES);
	tcase_set_timeout(tests, 120);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
