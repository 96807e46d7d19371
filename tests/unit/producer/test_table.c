/* test_table.c - tables in every wrapping, quoting, bad rows with their lines, bounds, and streams that
 * are cut or damaged. */
#include "files.h"

#include "producer/table.h"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

static char folder[PATH_BYTES], path[PATH_BYTES];
static struct error error;

static void setup(void)
{
	files_make(folder);
	files_path(path, folder, "table");
}

static void teardown(void)
{
	files_remove(folder);
}

/* The whole table as text: fields in [], a line end after a row, "!LINE" for a bad one. */
static const char *read_all(size_t row_bytes_max)
{
	static char text[1 << 16];
	struct table *table = NULL;
	size_t used = 0;
	enum status status = table_open(path, row_bytes_max, &table, &error);

	text[0] = '\0';
	if (status != STATUS_OK)
		return status_name(status);
	for (;;) {
		const struct text_view *fields;
		bool end = false;
		status = table_next(table, &fields, &end, &error);
		if (status == STATUS_BAD_RECORD) {
			char expected[64];
			snprintf(expected, sizeof expected, "table:%d: ", (int)table_line(table));
			ck_assert_msg(strstr(error.text, expected) != NULL, "%s", error.text);
			used += (size_t)snprintf(text + used, sizeof text - used, "!%d\n",
						 (int)table_line(table));
			continue;
		}
		if (status != STATUS_OK || end)
			break;
		for (size_t i = 0; i < table_columns(table); i++)
			used += (size_t)snprintf(text + used, sizeof text - used, "[%.*s]",
						 TEXT_ARGS(fields[i]));
		used += (size_t)snprintf(text + used, sizeof text - used, "\n");
	}
	table_close(table);
	return status == STATUS_OK ? text : status_name(status);
}

static void expect(const char *table, const char *rows)
{
	files_write_text(path, table);
	ck_assert_str_eq(read_all(0), rows);
}

START_TEST(splits)
{
	expect("a\tb\n1\t2\n3\t4\n", "[1][2]\n[3][4]\n");
	expect("a\tb\n1\t2\n3\t4", "[1][2]\n[3][4]\n");
	expect("a\tb\r\n1\t2\r\n\r\n\n3\t\r\n", "[1][2]\n[3][]\n");
	expect("a\tb\n\"1\t2\"\n", "[\"1][2\"]\n");
	expect("\xEF\xBB\xBF" "a,b\n1,2\n", "[1][2]\n");
	expect("a,b\n\"1,\"\"x\"\"\",2\n\"\",\"line\nend\"\n", "[1,\"x\"][2]\n[][line\nend]\n");
	expect("a;b\n\"1;\";2,5\n", "[1;][2,5]\n");
	expect("only\nx\ny\n", "[x]\n[y]\n");
	expect("a,b", "");
	expect("\"a\",\"b\"\n1,2\n", "[1][2]\n");
}
END_TEST

START_TEST(reports_bad_rows_and_goes_on)
{
	expect("a\tb\n1\n1\t2\n1\t2\t3\n3\t4\n", "!2\n[1][2]\n!4\n[3][4]\n");
	expect("a,b\n\"x\"y,1\n1,2\n", "!2\n[1][2]\n");
	expect("a,b\n\"1\n2\",3\n4\n5,6\n", "[1\n2][3]\n!4\n[5][6]\n");
	expect("a,b\n1,\"open\n2,3\n", "!2\n");
}
END_TEST

START_TEST(headers_that_will_not_do)
{
	expect("", "CORRUPT");
	expect("\n\n", "CORRUPT");
	expect("a\ta\n", "CORRUPT");
	ck_assert_msg(strstr(error.text, "two columns are named a"), "%s", error.text);
	expect("a\t\n", "CORRUPT");
	expect("a\t\xFF\n", "CORRUPT");
	unlink(path);
	ck_assert_str_eq(read_all(0), "NO_INPUT");
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_str_eq(read_all(0), "NO_INPUT");
	rmdir(path);
}
END_TEST

START_TEST(rows_are_bounded)
{
	static char table[400000];
	strcpy(table, "a\tb\n1\t2\n");
	size_t at = strlen(table);
	memset(table + at, 'x', 300000);
	strcpy(table + at + 300000, "\n3\t4\n");
	files_write_text(path, table);
	ck_assert_str_eq(read_all(1000), "[1][2]\n!3\n[3][4]\n");
	/* A quote that is never closed does not swallow the file. */
	strcpy(table, "a,b\n1,\"x");
	for (int i = 0; i < 100; i++)
		strcat(table, "\n3,4 and more text to fill the row");
	files_write_text(path, table);
	const char *rows = read_all(1000);
	ck_assert_msg(!strncmp(rows, "!2\n[3]", 6), "%.30s", rows);
	/* A last line that is too long. */
	strcpy(table, "a\n");
	memset(table + 2, 'y', 5000);
	table[5002] = '\0';
	files_write_text(path, table);
	ck_assert_str_eq(read_all(1000), "!2\n");
	/* Exactly at the bound. */
	table[2 + 1000] = '\0';
	files_write_text(path, table);
	ck_assert_uint_eq(strlen(read_all(1000)), 1003);
}
END_TEST

START_TEST(finds_columns)
{
	struct table *table;
	files_write_text(path, "user_id,item_id,rating\n");
	ck_assert_int_eq(table_open(path, 0, &table, &error), STATUS_OK);
	ck_assert_int_eq(table_column(table, "item_id"), 1);
	ck_assert_int_eq(table_column(table, "item"), -1);
	ck_assert_str_eq(table_nearest_column(table, "user"), "user_id");
	ck_assert_ptr_null(table_nearest_column(table, "zzzz"));
	table_close(table);
}
END_TEST

enum { PLAIN_BYTES = 700000 };
static char plain[PLAIN_BYTES + 100], packed[PLAIN_BYTES * 2];

static size_t make_plain(void)
{
	size_t size = (size_t)sprintf(plain, "a\tb\n");
	for (int i = 0; size < PLAIN_BYTES; i++)
		size += (size_t)sprintf(plain + size, "row %d\t%d\n", i, i % 1009 * 7);
	return size;
}

static size_t pack_gzip(const char *bytes, size_t size, char *out)
{
	z_stream gzip = {0};
	ck_assert_int_eq(deflateInit2(&gzip, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	gzip.next_in = (unsigned char *)bytes;
	gzip.avail_in = (unsigned)size;
	gzip.next_out = (unsigned char *)out;
	gzip.avail_out = PLAIN_BYTES;
	ck_assert_int_eq(deflate(&gzip, Z_FINISH), Z_STREAM_END);
	size = gzip.total_out;
	deflateEnd(&gzip);
	return size;
}

static size_t pack_xz(const char *bytes, size_t size, char *out)
{
	size_t used = 0;
	ck_assert_int_eq(lzma_easy_buffer_encode(3, LZMA_CHECK_CRC64, NULL, (const uint8_t *)bytes, size,
						 (uint8_t *)out, &used, PLAIN_BYTES),
			 LZMA_OK);
	return used;
}

static size_t pack_zstandard(const char *bytes, size_t size, char *out)
{
	ZSTD_CCtx *context = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
	size_t used = ZSTD_compress2(context, out, PLAIN_BYTES, bytes, size);
	ck_assert(!ZSTD_isError(used));
	ZSTD_freeCCtx(context);
	return used;
}

static size_t count_rows(enum status *status)
{
	struct table *table = NULL;
	const struct text_view *fields;
	bool end = false;
	size_t rows = 0;

	*status = table_open(path, 0, &table, &error);
	while (*status == STATUS_OK) {
		*status = table_next(table, &fields, &end, &error);
		if (*status == STATUS_BAD_RECORD)
			*status = STATUS_OK;    /* the row that the damage cut */
		else if (*status == STATUS_OK && end)
			break;
		else
			rows++;
	}
	table_close(table);
	return rows;
}

START_TEST(unpacks_and_notices_damage)
{
	size_t (*const packers[])(const char *, size_t, char *) = {pack_gzip, pack_xz, pack_zstandard};
	size_t size = make_plain(), half = size / 2, rows, expected;
	enum status status;

	files_write(path, plain, size);
	expected = count_rows(&status);
	ck_assert_int_eq(status, STATUS_OK);
	ck_assert_uint_gt(expected, 30000);
	for (size_t i = 0; i < 3; i++) {
		size_t packed_size = packers[i](plain, size, packed);
		files_write(path, packed, packed_size);
		rows = count_rows(&status);
		ck_assert_msg(status == STATUS_OK, "%s", error.text);
		ck_assert_uint_eq(rows, expected);
		/* Cut anywhere: never taken for the end. */
		for (size_t cut = 7; cut < packed_size; cut += packed_size / 23) {
			files_write(path, packed, cut);
			count_rows(&status);
			ck_assert_msg(status == STATUS_CORRUPT, "packer %zu cut at %zu: %d", i, cut, status);
		}
		/* The checks see damage in the body. */
		for (size_t at = 64; at < packed_size; at += packed_size / 11) {
			packed[at] ^= 4;
			files_write(path, packed, packed_size);
			count_rows(&status);
			ck_assert_msg(status == STATUS_CORRUPT, "packer %zu damage at %zu: %d", i, at, status);
			packed[at] ^= 4;
		}
		/* Two members, one after the other, are one table. */
		size_t first = packers[i](plain, half, packed);
		size_t second = packers[i](plain + half, size - half, packed + first);
		files_write(path, packed, first + second);
		ck_assert_uint_eq(count_rows(&status), expected);
		ck_assert_int_eq(status, STATUS_OK);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("table");
	TCase *tests = tcase_create("table");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, splits);
	tcase_add_test(tests, reports_bad_rows_and_goes_on);
	tcase_add_test(tests, headers_that_will_not_do);
	tcase_add_test(tests, rows_are_bounded);
	tcase_add_test(tests, finds_columns);
	tcase_add_test(tests, unpacks_and_notices_damage);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
