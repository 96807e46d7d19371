/* PyTorch checkpoints: a zip made here with a pickle made here, what the machine refuses, prefixes and flipped
 * bytes. */
#include "model_files.h"

#include "scorer/torch_zip.h"

static void put_member(struct bytes *zip, struct bytes *directory, const char *name, const void *data,
		       size_t size, unsigned method)
{
	size_t at = zip->size;

	put_text(zip, "PK\3\4");
	put_number(zip, 0, 14);
	put_number(zip, size, 4);
	put_number(zip, size, 4);
	put_number(zip, strlen(name), 2);
	put_number(zip, 3, 2);
	put_text(zip, name);
	put_text(zip, "pad");
	put(zip, data, size);
	put_text(directory, "PK\1\2");
	put_number(directory, 0, 6);
	put_number(directory, method, 2);
	put_number(directory, 0, 8);
	put_number(directory, size, 4);
	put_number(directory, size, 4);
	put_number(directory, strlen(name), 2);
	put_number(directory, 0, 12);
	put_number(directory, at, 4);
	put_text(directory, name);
}

static void finish(struct bytes *zip, struct bytes *directory, unsigned count)
{
	size_t at = zip->size;

	put(zip, directory->at, directory->size);
	put_text(zip, "PK\5\6");
	put_number(zip, 0, 4);
	put_number(zip, count, 2);
	put_number(zip, count, 2);
	put_number(zip, directory->size, 4);
	put_number(zip, at, 4);
	put_number(zip, 0, 2);
	mem_free(directory->at);
}

static void text_op(struct bytes *pickle, const char *text)
{
	put_text(pickle, "X");
	put_number(pickle, strlen(text), 4);
	put_text(pickle, text);
}

/* {"w": a [2, 3] float16 window from element 1 of storage 0, which has 8}. */
static struct bytes good_pickle(void)
{
	static const char tail[] = "K\x08tQK\x01K\x02K\x03\x86K\x03K\x01\x86\x89"
				   "ccollections\nOrderedDict\n)RtRu.";
	struct bytes pickle = {0};

	put(&pickle, "\x80\x02}q\x00(", 6);
	text_op(&pickle, "w");
	put_text(&pickle, "ctorch._utils\n_rebuild_tensor_v2\n((");
	text_op(&pickle, "storage");
	put_text(&pickle, "ctorch\nHalfStorage\n");
	text_op(&pickle, "0");
	text_op(&pickle, "cpu");
	put(&pickle, tail, sizeof(tail) - 1);
	return pickle;
}

static struct bytes archive(const void *pickle, size_t pickle_size, size_t storage_bytes, unsigned method)
{
	struct bytes zip = {0}, directory = {0};
	uint8_t storage[64];

	for (size_t i = 0; i < sizeof(storage); i++)
		storage[i] = (uint8_t)i;
	put_member(&zip, &directory, "top/data.pkl", pickle, pickle_size, 0);
	put_member(&zip, &directory, "top/data/0", storage, storage_bytes, method);
	put_member(&zip, &directory, "top/version", "3\n", 2, 0);
	finish(&zip, &directory, 3);
	return zip;
}

/* `window`: the bytes that the one tensor must have, or NULL. */
static enum status parse(const struct bytes *zip, const char *window, struct tensor_table *table,
			 struct error *error)
{
	/* Exactly as large as it is, so that a sanitizer sees a read behind it. */
	static struct mapped_file file;
	struct bytes exact = {0};
	enum status status;

	exact.at = mem_alloc(zip->size);
	memcpy(exact.at, zip->at, zip->size);
	exact.size = zip->size;
	file = in_memory(&exact);
	ck_assert_int_eq(tensor_table_init(table, error), STATUS_OK);
	status = torch_zip_parse(&file, table, error);
	if (status == STATUS_OK)
		ck_assert_int_eq(tensor_table_seal(table, error), STATUS_OK);
	if (status == STATUS_OK && window)
		ck_assert_mem_eq(table->tensors[0].data, window, table->tensors[0].bytes);
	mem_free(exact.at);
	return status;
}

START_TEST(reads_a_window)
{
	struct bytes pickle = good_pickle(), zip = archive(pickle.at, pickle.size, 16, 0);
	struct tensor_table table;
	struct error error = {0};

	ck_assert_msg(parse(&zip, "\2\3\4\5\6\7\10\11\12\13\14\15", &table, &error) == STATUS_OK, "%s",
		      error.text);
	ck_assert_uint_eq(table.count, 1);
	ck_assert_str_eq(table.tensors[0].name, "w");
	ck_assert_int_eq(table.tensors[0].type, TENSOR_F16);
	ck_assert_uint_eq(table.tensors[0].shape[1], 3);
	ck_assert_uint_eq(table.tensors[0].bytes, 12);
	tensor_table_destroy(&table);
	mem_free(zip.at);
	mem_free(pickle.at);
}
END_TEST

#define PICKLE(text) text, sizeof(text) - 1
static const struct {
	const char *pickle;
	size_t size;
	const char *reason;
} cases[] = {
	{PICKLE("\x80\x02" "cos\nsystem\nX\x02\x00\x00\x00id\x85R."), "imports os.system"},
	{PICKLE("\x80\x02" "cbuiltins\neval\n."), "imports builtins.eval"},
	{PICKLE("\x80\x02" "ctorch\nhub\n."), "imports torch.hub"},
	{PICKLE("\x80\x02" "iposix\nsystem\n."), "opcode 0x69"},
	{PICKLE("\x80\x04\x95."), "protocol 2"},
	{PICKLE("\x80\x02" "."), "no dictionary"},
	{PICKLE("\x80\x02"), "cut off"},
	{PICKLE("\x80\x02}"), "cut off"},
	{PICKLE("\x80\x02}K\x01K\x02s."), "not a name with a tensor"},
	{PICKLE("\x80\x02}.x"), "follows its end"},
	{PICKLE("\x80\x02}}."), "no dictionary"},
	{PICKLE("\x80\x02}h\x05."), "never given"},
	{PICKLE("\x80\x02}r\xff\xff\xff\xff."), "too large"},
	{PICKLE("\x80\x02" "t."), "without its mark"},
	{PICKLE("\x80\x02" "u."), "without their mark"},
	{PICKLE("\x80\x02" "((t."), "no dictionary"},
	{PICKLE("\x80\x02" "R."), "without function"},
	{PICKLE("\x80\x02" "K\x01)R."), "no function"},
	{PICKLE("\x80\x02" "NQ."), "no storage"},
	{PICKLE("\x80\x02" "X\xff\xff\xff\x7f" "a."), "cut off"},
	{PICKLE("\x80\x02\x8a\x09" "123456789."), "64 bits"},
	{PICKLE("\x80\x02" "Nb."), "no dictionary"},
	{PICKLE("\x80\x02" "ccollections\nOrderedDict\nK\x01\x85R."), "from arguments"},
	{PICKLE("\x80\x02" "ctorch._utils\n_rebuild_tensor_v2\n)R."), "6 or 7 parts"},
	{PICKLE("\x80\x02" "ctorch._utils\n_rebuild_parameter\n)R."), "without a tensor"},
};

START_TEST(machine_refuses)
{
	struct bytes zip = archive(cases[_i].pickle, cases[_i].size, 16, 0);
	struct tensor_table table;
	struct error error = {0};

	ck_assert_int_eq(parse(&zip, NULL, &table, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, cases[_i].reason), "%s: %s", cases[_i].reason, error.text);
	tensor_table_destroy(&table);
	mem_free(zip.at);
}
END_TEST

static void expect(struct bytes zip, enum status status, const char *reason)
{
	struct tensor_table table;
	struct error error = {0};

	ck_assert_msg(parse(&zip, NULL, &table, &error) == status, "%s: %s", reason, error.text);
	ck_assert_msg(strstr(error.text, reason), "%s: %s", reason, error.text);
	tensor_table_destroy(&table);
	mem_free(zip.at);
}

START_TEST(zip_refuses)
{
	struct bytes pickle = good_pickle(), zip = {0}, directory = {0};

	expect(archive(pickle.at, pickle.size, 14, 0), STATUS_CORRUPT, "not those of 8 F16");
	expect(archive(pickle.at, pickle.size, 16, 8), STATUS_CORRUPT, "compressed");
	put(&zip, "\x80\x02\x8a\x0a", 4);
	expect(zip, STATUS_UNSUPPORTED, "before version 1.6");
	zip = (struct bytes){0};
	put_member(&zip, &directory, "top/data.pkl", pickle.at, pickle.size, 0);
	finish(&zip, &directory, 1);
	expect(zip, STATUS_CORRUPT, "data/0 is missing");
	zip = directory = (struct bytes){0};
	put_member(&zip, &directory, "top/data.pkl", pickle.at, pickle.size, 0);
	put_member(&zip, &directory, "top/data.pkl", pickle.at, pickle.size, 0);
	finish(&zip, &directory, 2);
	expect(zip, STATUS_CORRUPT, "stored twice");
	zip = directory = (struct bytes){0};
	put_member(&zip, &directory, "data.pkl", pickle.at, pickle.size, 0);
	finish(&zip, &directory, 1);
	expect(zip, STATUS_CORRUPT, "no PyTorch checkpoint");
	zip = archive(pickle.at, pickle.size, 16, 0);
	zip.size -= 3;
	expect(zip, STATUS_CORRUPT, "directory is missing");
	zip = directory = (struct bytes){0};
	put_member(&zip, &directory, "top/data.pkl", pickle.at, pickle.size, 0);
	put_member(&zip, &directory, "top/data/0", "0123456789abcdef", 16, 0);
	put_member(&zip, &directory, "top/byteorder", "big", 3, 0);
	finish(&zip, &directory, 3);
	expect(zip, STATUS_UNSUPPORTED, "little-endian");
	mem_free(pickle.at);
}
END_TEST

START_TEST(damage_does_no_harm)
{
	struct bytes pickle = good_pickle(), zip = archive(pickle.at, pickle.size, 16, 0);
	struct tensor_table table;
	struct error error = {0};
	enum status status;

	for (size_t size = 1; size < zip.size; size++) {
		struct bytes part = {zip.at, size, size};
		ck_assert_int_eq(parse(&part, NULL, &table, &error), STATUS_CORRUPT);
		tensor_table_destroy(&table);
	}
	for (size_t i = 0; i < zip.size; i++) {
		for (int bit = 0; bit < 8; bit++) {
			zip.at[i] ^= (uint8_t)(1u << bit);
			status = parse(&zip, NULL, &table, &error);
			ck_assert(status == STATUS_OK || status == STATUS_CORRUPT ||
				  status == STATUS_UNSUPPORTED);
			tensor_table_destroy(&table);
			zip.at[i] ^= (uint8_t)(1u << bit);
		}
	}
	mem_free(zip.at);
	mem_free(pickle.at);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("torch");
	tcase_add_test(tests, reads_a_window);
	tcase_add_loop_test(tests, machine_refuses, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tests, zip_refuses);
	tcase_add_test(tests, damage_does_no_harm);
	return run_suite("torch", tests);
}
