/* The safetensors reader: what its own library accepts and refuses, on its cases and on ones made here. */
#include "model_files.h"

#include "scorer/safetensors.h"

#include <jansson.h>

static enum status parse(const struct mapped_file *file, struct tensor_table *table, struct error *error)
{
	enum status status;
	ck_assert_int_eq(tensor_table_init(table, error), STATUS_OK);
	status = safetensors_parse(file, table, error);
	return status == STATUS_OK ? tensor_table_seal(table, error) : status;
}

static struct bytes with_header(const char *header, size_t data_bytes)
{
	struct bytes bytes = {0};
	put_number(&bytes, strlen(header), 8);
	put_text(&bytes, header);
	for (size_t i = 0; i < data_bytes; i++)
		put_number(&bytes, i, 1);
	return bytes;
}

static const struct {
	const char *header;
	size_t data_bytes;
	const char *reason;     /* NULL: accepted */
} cases[] = {
	{"{}", 0, NULL},
	{" {\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}} ", 8, NULL},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, NULL},
	{"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL},
	{"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
	 "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL},
	{"", 0, "expected '{'"},
	{"{", 0, "expected a string"},
	{"{} x", 0, "follows"},
	{"{}", 1, "belong to no tensor"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "interrupted"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "do not hold"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}", 8, "do not hold"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "hole"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
	 "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}", 6, "overlap"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
	 "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "stored twice"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387908],\"data_offsets\":[0,16]}}", 16, "overflows"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "overflows"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,0]}}", 0, "64 bits"},
	{"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole number of bytes"},
	{"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype"},
	{"{\"a\":{\"dtype\":\"Q8_0\",\"shape\":[32],\"data_offsets\":[0,34]}}", 34, "unknown dtype"},
	{"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "twice"},
	{"{\"__metadata__\":{\"a\":1}}", 0, "expected a string"},
	{"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],}}", 4, "expected a string"},
	{"{\"\\ud800\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "surrogate"},
	{"{\"\xC0\xAF\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "UTF-8"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "rank"},
	{"{\"a\":{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0, "too deep"},
};

START_TEST(own_cases)
{
	struct bytes bytes = with_header(cases[_i].header, cases[_i].data_bytes);
	struct mapped_file file = in_memory(&bytes);
	struct tensor_table table;
	struct error error = {0};
	enum status status = parse(&file, &table, &error);

	if (!cases[_i].reason) {
		ck_assert_msg(status == STATUS_OK, "%s: %s", cases[_i].header, error.text);
	} else {
		ck_assert_msg(status == STATUS_CORRUPT ||
			      status == STATUS_UNSUPPORTED, "%s", cases[_i].header);
		ck_assert_msg(strstr(error.text, cases[_i].reason), "%s: %s", cases[_i].header, error.text);
		ck_assert_msg(strncmp(error.text, "test: ", 6) == 0, "%s", error.text);
	}
	tensor_table_destroy(&table);
	mem_free(bytes.at);
}
END_TEST

START_TEST(every_prefix_is_refused)
{
	struct bytes bytes = with_header(cases[1].header, 8);
	for (size_t size = 0; size < bytes.size; size++) {
		/* A copy of exactly this size, so that a sanitizer sees a read behind it. */
		struct bytes part = {0};
		struct tensor_table table;
		struct error error = {0};
		put(&part, bytes.at, size);
		struct mapped_file file = in_memory(&part);
		ck_assert_int_eq(parse(&file, &table, &error), STATUS_CORRUPT);
		tensor_table_destroy(&table);
		mem_free(part.at);
	}
	mem_free(bytes.at);
}
END_TEST

static void check_tensor(const struct tensor_table *table, json_t *wanted, const struct mapped_file *file)
{
	json_t *name = json_object_get(wanted, "name"), *shape = json_object_get(wanted, "shape");
	const char *hex = json_string_value(json_object_get(wanted, "hex"));
	const struct stored_tensor *tensor = tensor_table_find(table,
		(struct text_view){json_string_value(name), json_string_length(name)});
	ck_assert_ptr_nonnull(tensor);
	ck_assert_str_eq(tensor_type_name(tensor->type), json_string_value(json_object_get(wanted, "dtype")));
	ck_assert_uint_eq(tensor->rank, json_array_size(shape));
	for (uint32_t i = 0; i < tensor->rank; i++)
		ck_assert_uint_eq(tensor->shape[i], (uint64_t)json_integer_value(json_array_get(shape, i)));
	ck_assert_uint_eq(tensor->offset, (uint64_t)json_integer_value(json_object_get(wanted, "begin")));
	ck_assert_uint_eq(tensor->offset + tensor->bytes,
			  (uint64_t)json_integer_value(json_object_get(wanted, "end")));
	ck_assert_ptr_eq(tensor->data, file->bytes + tensor->offset);
	for (uint64_t i = 0; hex && i < tensor->bytes; i++) {
		unsigned byte;
		ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		ck_assert_uint_eq(tensor->data[i], byte);
	}
}

START_TEST(cases_of_the_library)
{
	char folder[512], path[1100];
	size_t i, k, refused = 0;
	json_t *root, *wanted_case, *tensor;

	if (!find_shared("safetensors-cases", folder))
		return;
	snprintf(path, sizeof(path), "%s/cases.json", folder);
	root = json_load_file(path, JSON_ALLOW_NUL, NULL);
	ck_assert_ptr_nonnull(root);
	ck_assert_uint_ge(json_array_size(json_object_get(root, "cases")), 67);
	json_array_foreach(json_object_get(root, "cases"), i, wanted_case) {
		const char *name = json_string_value(json_object_get(wanted_case, "file"));
		bool accepted = strncmp(name, "ok_", 3) == 0;
		struct mapped_file file = {0};
		struct tensor_table table;
		struct error error = {0};
		snprintf(path, sizeof(path), "%s/%s", folder, name);
		ck_assert_int_eq(mapped_file_open(path, &file, &error), STATUS_OK);
		enum status status = parse(&file, &table, &error);
		ck_assert_msg(status == (accepted ? STATUS_OK : STATUS_CORRUPT), "%s: %s %s", name,
			      status_name(status), error.text);
		refused += !accepted;
		json_array_foreach(json_object_get(wanted_case, "tensors"), k, tensor)
			if (accepted)
				check_tensor(&table, tensor, &file);
		tensor_table_destroy(&table);
		mapped_file_close(&file);
	}
	ck_assert_uint_ge(refused, 51);
	json_decref(root);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("safetensors");
	tcase_add_loop_test(tests, own_cases, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tests, every_prefix_is_refused);
	tcase_add_test(tests, cases_of_the_library);
	return run_suite("safetensors", tests);
}
