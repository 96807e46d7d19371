/* codec_default.c - a field's JSON default to the bytes that a writer would have written, so that the
 * decoder needs no second way to fill a field. Only our own schemas' defaults come here. */
#include "schemas/codec_buffer.h"
#include "schemas/codec_plan.h"

static enum status misfit(const struct schema_node *node, struct error *error)
{
	return error_set(error, STATUS_CORRUPT, "a default does not fit its type, %s",
			 schema_kind_name(node->kind));
}

static bool append_long(struct byte_buffer *buffer, int64_t value)
{
	char bytes[CODEC_LONG_BYTES_MAX];
	return byte_buffer_append(buffer, bytes, (size_t)(codec_put_long(bytes, value) - bytes));
}

/* Bytes are JSON text whose code points 0 to 255 are the bytes. */
static enum status bytes_encode(const struct schema_node *node, const char *text, size_t size,
				struct byte_buffer *buffer, struct error *error)
{
	size_t points = 0;

	for (size_t i = 0; i < size; i++)
		points += ((unsigned char)text[i] & 0xC0) != 0x80;
	if (node->kind == SCHEMA_FIXED ? points != node->size : !append_long(buffer, (int64_t)points))
		return misfit(node, error);
	for (size_t i = 0; i < size; i++) {
		unsigned char byte = (unsigned char)text[i];
		if (byte >= 0xC4)
			return misfit(node, error);
		if (byte >= 0xC0)       /* jansson hands out valid UTF-8: one more byte follows */
			byte = (unsigned char)(byte << 6 | ((unsigned char)text[++i] & 0x3F));
		if (!byte_buffer_append(buffer, &byte, 1))
			return misfit(node, error);
	}
	return STATUS_OK;
}

static enum status items_encode(const struct schema_node *node, const json_t *json,
				struct byte_buffer *buffer, struct error *error)
{
	size_t count = node->kind == SCHEMA_ARRAY ? json_array_size(json) : json_object_size(json);
	enum status status = STATUS_OK;

	if (node->kind == SCHEMA_ARRAY ? !json_is_array(json) : !json_is_object(json))
		return misfit(node, error);
	if (count && !append_long(buffer, (int64_t)count))
		return misfit(node, error);
	if (node->kind == SCHEMA_ARRAY) {
		for (size_t i = 0; !status && i < count; i++)
			status = codec_default_encode(node->items, json_array_get(json, i), buffer, error);
	} else {
		const char *key;
		json_t *value;
		json_object_foreach((json_t *)(uintptr_t)json, key, value) {
			if (!append_long(buffer, (int64_t)strlen(key)) || !byte_buffer_append(buffer, key, strlen(key)))
				return misfit(node, error);
			status = codec_default_encode(node->items, value, buffer, error);
			if (status)
				break;
		}
	}
	if (!status && !append_long(buffer, 0))
		return misfit(node, error);
	return status;
}

static enum status record_encode(const struct schema_node *node, const json_t *json,
				 struct byte_buffer *buffer, struct error *error)
{
	enum status status = STATUS_OK;

	if (!json_is_object(json))
		return misfit(node, error);
	for (size_t i = 0; !status && i < node->count; i++) {
		const json_t *value = json_object_get(json, node->fields[i].name);
		if (!value)
			value = node->fields[i].fallback;
		status = value ? codec_default_encode(node->fields[i].type, value, buffer, error)
			       : misfit(node, error);
	}
	return status;
}

static enum status number_encode(const struct schema_node *node, const json_t *json,
				 struct byte_buffer *buffer, struct error *error)
{
	double number = json_number_value(json);
	float single = (float)number;
	bool fits;

	if (node->kind == SCHEMA_INT || node->kind == SCHEMA_LONG) {
		json_int_t integer = json_integer_value(json);
		fits = json_is_integer(json) &&
		       (node->kind == SCHEMA_LONG || (integer >= INT32_MIN && integer <= INT32_MAX)) &&
		       append_long(buffer, integer);
	} else {
		fits = json_is_number(json) &&
		       (node->kind == SCHEMA_FLOAT ? byte_buffer_append(buffer, &single, sizeof single)
						   : byte_buffer_append(buffer, &number, sizeof number));
	}
	return fits ? STATUS_OK : misfit(node, error);
}

enum status codec_default_encode(const struct schema_node *node, const json_t *json,
				 struct byte_buffer *buffer, struct error *error)
{
	const char *text = json_string_value(json);
	size_t size = json_string_length(json);
	char truth = json_is_true(json);

	switch (node->kind) {
	case SCHEMA_NULL:
		return json_is_null(json) ? STATUS_OK : misfit(node, error);
	case SCHEMA_BOOLEAN:
		if (!json_is_boolean(json) || !byte_buffer_append(buffer, &truth, 1))
			return misfit(node, error);
		return STATUS_OK;
	case SCHEMA_INT:
	case SCHEMA_LONG:
	case SCHEMA_FLOAT:
	case SCHEMA_DOUBLE:
		return number_encode(node, json, buffer, error);
	case SCHEMA_STRING:
		if (!text || !append_long(buffer, (int64_t)size) || !byte_buffer_append(buffer, text, size))
			return misfit(node, error);
		return STATUS_OK;
	case SCHEMA_BYTES:
	case SCHEMA_FIXED:
		return text ? bytes_encode(node, text, size, buffer, error) : misfit(node, error);
	case SCHEMA_ENUM:
		for (size_t i = 0; text && i < node->count; i++)
			if (strcmp(node->symbols[i], text) == 0 && append_long(buffer, (int64_t)i))
				return STATUS_OK;
		return misfit(node, error);
	case SCHEMA_ARRAY:
	case SCHEMA_MAP:
		return items_encode(node, json, buffer, error);
	case SCHEMA_RECORD:
		return record_encode(node, json, buffer, error);
	case SCHEMA_UNION:      /* the specification: a default is of the first branch */
		if (!append_long(buffer, 0))
			return misfit(node, error);
		return codec_default_encode(node->parts[0], json, buffer, error);
	}
	return misfit(node, error);
}
