/* test_container.c - container files of every type and codec: equal bytes, renames, metadata, foreign
 * shapes, every truncation, every flipped byte, bombs, torture by failing allocations. */
#include "schemas/codec_buffer.h"
#include "schemas/container_codec.h"
#include "tests/unit/schemas/codec_samples.h"
#include "tests/check_run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ARENA_BYTES = 64 * 1024 * 1024, CODECS = 3 };

static char folder[64];
static char path[128];
static char part[160];

static void set_up(void)
{
	/* In memory where there is such a place: thousands of files, and syncs that this test cannot see. */
	snprintf(folder, sizeof folder, "%s/exitpoll-container-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/a.avro", folder);
	snprintf(part, sizeof part, "%s.part", path);
}

static void tear_down(void)
{
	unlink(path);
	unlink(part);
	ck_assert_int_eq(rmdir(folder), 0);
}

static size_t slurp(const char *name, char **bytes)
{
	FILE *file = fopen(name, "rb");
	size_t size;
	ck_assert_ptr_nonnull(file);
	fseek(file, 0, SEEK_END);
	size = (size_t)ftell(file);
	rewind(file);
	*bytes = mem_alloc(size);
	ck_assert_uint_eq(fread(*bytes, 1, size, file), size);
	fclose(file);
	return size;
}

static void spill(const char *name, const char *bytes, size_t size)
{
	FILE *file = fopen(name, "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
	ck_assert_int_eq(fclose(file), 0);
}

static void write_samples(enum record_type type, enum container_codec codec, uint64_t seed, size_t count)
{
	struct samples samples = {.state = seed, .arena = arena_create(ARENA_BYTES)};
	struct container_metadata metadata[] = {{"exitpoll.seed", "forty-two"}, {"exitpoll.empty", ""}};
	struct container_writer *writer = NULL;
	struct error error = {0};
	enum status status;

	ck_assert_int_eq(container_writer_create(path, type, codec, metadata, 2, true, &writer, &error),
		STATUS_OK);
	for (size_t i = 0; i < count; i++) {
		struct event event;
		arena_reset(samples.arena);
		event = sample_event(&samples, type);
		ck_assert_int_eq(container_write(writer, &event, &error), STATUS_OK);
	}
	ck_assert_uint_eq(container_writer_records(writer), count);
	status = container_writer_close(&writer, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	ck_assert_ptr_null(writer);
	arena_destroy(samples.arena);
}

START_TEST(round_trip)
{
	enum record_type type = (enum record_type)(_i / CODECS);
	enum container_codec codec = (enum container_codec)(_i % CODECS);
	struct samples samples = {.state = 3, .arena = arena_create(ARENA_BYTES)};
	struct arena *arena = arena_create(ARENA_BYTES);
	struct container_reader *reader = NULL;
	struct error error = {0};
	struct event event, back = {0};
	char *first, *second;
	size_t size;
	bool end = true;

	write_samples(type, codec, 3, 300);
	ck_assert_int_ne(access(part, F_OK), 0);
	size = slurp(path, &first);
	write_samples(type, codec, 3, 300);
	ck_assert_uint_eq(slurp(path, &second), size);
	ck_assert(memcmp(first, second, size) == 0);

	ck_assert_int_eq(container_reader_open_any(path, &reader, &error), STATUS_OK);
	ck_assert_int_eq(container_reader_type(reader), type);
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.seed"), "forty-two");
	ck_assert_str_eq(container_reader_metadata(reader, "exitpoll.empty"), "");
	ck_assert_ptr_null(container_reader_metadata(reader, "exitpoll.none"));
	ck_assert_str_eq(container_reader_schema(reader), codec_schema_json(type));
	ck_assert_uint_eq(container_reader_size(reader), size);
	for (int i = 0; i < 300; i++) {
		enum status status;
		arena_reset(samples.arena);
		arena_reset(arena);
		event = sample_event(&samples, type);
		status = container_read(reader, arena, &back, &end, &error);
		ck_assert_msg(status == STATUS_OK, "%s", error.text);
		ck_assert(!end);
		ck_assert(same_event(&event, &back));
		ck_assert_uint_eq(container_reader_records(reader), i + 1);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(container_read(reader, arena, &back, &end, &error), STATUS_OK);
		ck_assert(end);
	}
	container_reader_close(reader);
	mem_free(first);
	mem_free(second);
	arena_destroy(arena);
	arena_destroy(samples.arena);
}
END_TEST

START_TEST(names)
{
	struct container_writer *writer = NULL, *other = NULL;
	struct container_metadata reserved = {"avro.codec", "null"};
	struct event item = {.type = RECORD_ITEM, .item = {.item_id = TEXT_LITERAL("i")}};
	struct event wrong = {.type = RECORD_PREDICTION};
	struct container_reader *reader = NULL;
	struct error error = {0};

	ck_assert_int_eq(container_writer_create("/nowhere/at/all.avro", RECORD_ITEM, CONTAINER_NULL, NULL,
		0, false,
						 &writer, &error), STATUS_CANNOT_CREATE);
	ck_assert_int_eq(container_writer_create(path, RECORD_ITEM, CONTAINER_NULL, &reserved, 1, false,
		&writer,
						 &error), STATUS_INTERNAL);
	ck_assert_ptr_null(writer);
	ck_assert_int_eq(container_reader_open(path, RECORD_ITEM, &reader, &error), STATUS_NO_INPUT);
	ck_assert_int_eq(container_reader_open(folder, RECORD_ITEM, &reader, &error), STATUS_NO_INPUT);

	/* Aborted: nothing stays. A wrong record is refused and not counted. */
	ck_assert_int_eq(container_writer_create(path, RECORD_ITEM, CONTAINER_NULL, NULL, 0, false, &writer,
						 &error), STATUS_OK);
	ck_assert_int_eq(container_write(writer, &wrong, &error), STATUS_INTERNAL);
	ck_assert_uint_eq(container_writer_records(writer), 0);
	ck_assert_int_eq(access(part, F_OK), 0);
	ck_assert_int_ne(access(path, F_OK), 0);
	container_writer_abort(&writer);
	container_writer_abort(&writer);
	ck_assert_int_ne(access(part, F_OK), 0);

	/* Two writers that may not replace: the second to close loses, and cleans up. */
	ck_assert_int_eq(container_writer_create(path, RECORD_ITEM, CONTAINER_NULL, NULL, 0, false, &writer,
						 &error), STATUS_OK);
	ck_assert_int_eq(container_write(writer, &item, &error), STATUS_OK);
	spill(path, "somebody was faster", 19);
	ck_assert_int_eq(container_writer_create(path, RECORD_ITEM, CONTAINER_NULL, NULL, 0, false, &other,
						 &error), STATUS_CANNOT_CREATE);
	ck_assert_int_eq(container_writer_close(&writer, &error), STATUS_CANNOT_CREATE);
	ck_assert_ptr_null(writer);
	ck_assert_int_ne(access(part, F_OK), 0);
	ck_assert_int_eq(container_reader_open(path, RECORD_ITEM, &reader, &error), STATUS_CORRUPT);
	ck_assert_ptr_nonnull(strstr(error.text, "not an Avro container"));

	/* An empty file of records, and one of another type. */
	write_samples(RECORD_ITEM, CONTAINER_ZSTANDARD, 1, 0);
	ck_assert_int_eq(container_reader_open(path, RECORD_PREDICTION, &reader, &error),
		STATUS_INCOMPATIBLE);
	ck_assert_int_eq(container_reader_open(path, RECORD_ITEM, &reader, &error), STATUS_OK);
	struct arena *arena = arena_create(1000);
	struct event back;
	bool end = false;
	ck_assert_int_eq(container_read(reader, arena, &back, &end, &error), STATUS_OK);
	ck_assert(end);
	arena_destroy(arena);
	container_reader_close(reader);
}
END_TEST

/* Reads to the end or the first fatal error; returns that status and counts the records. */
static enum status read_all(const char *name, struct arena *arena, size_t *records, size_t *bad)
{
	struct container_reader *reader = NULL;
	struct event event;
	bool end = false;
	enum status status = container_reader_open_any(name, &reader, NULL);

	*records = *bad = 0;
	while (!status && !end) {
		arena_reset(arena);
		status = container_read(reader, arena, &event, &end, NULL);
		*records += !status && !end;
		if (status_class(status) == STATUS_CLASS_BAD) {
			++*bad;
			status = STATUS_OK;
		}
	}
	if (status && reader) { /* and it says so again */
		ck_assert_int_eq(container_read(reader, arena, &event, &end, NULL), status);
	}
	container_reader_close(reader);
	return status;
}

/* A file of many blocks, cut in the last: all before it are read. */
START_TEST(truncated_tail)
{
	struct arena *arena = arena_create(ARENA_BYTES);
	size_t size, records, whole, bad;
	char *bytes;

	write_samples(RECORD_PREDICTION, (enum container_codec)_i, 12, 3000);
	ck_assert_int_eq(read_all(path, arena, &whole, &bad), STATUS_OK);
	ck_assert_uint_eq(whole, 3000);
	size = slurp(path, &bytes);
	spill(path, bytes, size - 1);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_CORRUPT);
	ck_assert_uint_gt(records, 1000);
	ck_assert_uint_lt(records, 3000);
	bytes[size - 1] ^= 1;
	spill(path, bytes, size);
	ck_assert_int_eq(read_all(path, arena, &bad, &bad), STATUS_CORRUPT);
	mem_free(bytes);
	arena_destroy(arena);
}
END_TEST

/* ---- files made by hand: what other writers may do, and what hostile ones try ---- */

static void put_long(struct byte_buffer *buffer, int64_t value)
{
	char bytes[CODEC_LONG_BYTES_MAX];
	ck_assert(byte_buffer_append(buffer, bytes, (size_t)(codec_put_long(bytes, value) - bytes)));
}

static void put_text(struct byte_buffer *buffer, const char *text)
{
	put_long(buffer, (int64_t)strlen(text));
	ck_assert(byte_buffer_append(buffer, text, strlen(text)));
}

static const char sync_marker[] = "0123456789abcdef";

static void put_header(struct byte_buffer *buffer, const char *codec, const char *schema)
{
	buffer->size = 0;
	buffer->bytes_max = 16 * 1024 * 1024;
	ck_assert(byte_buffer_append(buffer, "Obj\1", 4));
	put_long(buffer, -1);           /* a negative count with the size of the block */
	put_long(buffer, (int64_t)(2 + 11 + strlen(schema)));
	put_text(buffer, "avro.schema");
	put_text(buffer, schema);
	if (codec) {
		put_long(buffer, 1);
		put_text(buffer, "avro.codec");
		put_text(buffer, codec);
	}
	put_long(buffer, 0);
	ck_assert(byte_buffer_append(buffer, sync_marker, 16));
}

static void put_block(struct byte_buffer *buffer, int64_t count, const void *bytes, size_t size)
{
	put_long(buffer, count);
	put_long(buffer, (int64_t)size);
	ck_assert(byte_buffer_append(buffer, bytes, size));
	ck_assert(byte_buffer_append(buffer, sync_marker, 16));
}

static const char short_item[] = "{\"type\":\"record\",\"name\":\"item\",\"fields\":["
				 "{\"name\":\"item_id\",\"type\":\"string\"},{\"name\":\"event_time\","
				 "\"type\":\"long\"}]}";

/* A file of one block whose every byte can be tried: its schema is short. */
enum { SMALL_RECORDS = 12 };

static size_t small_file(enum container_codec codec, char **bytes)
{
	struct container_packer *packer = container_packer_create(codec, true);
	struct byte_buffer file = {0}, block = {.bytes_max = 1000};
	struct text_view packed;

	put_header(&file, container_codec_name(codec), short_item);
	for (int i = 0; i < SMALL_RECORDS; i++) {
		put_text(&block, "item-0123");
		put_long(&block, 1400000000000 + i * i);
	}
	ck_assert_int_eq(container_pack(packer, (struct text_view){block.bytes, block.size}, &packed, NULL), STATUS_OK);
	put_block(&file, SMALL_RECORDS, packed.bytes, packed.size);
	container_packer_destroy(packer);
	byte_buffer_free(&block);
	*bytes = file.bytes;    /* given away */
	return file.size;
}

START_TEST(every_truncation)
{
	struct arena *arena = arena_create(ARENA_BYTES);
	size_t size, records, bad, clean = 0;
	char *bytes;

	size = small_file((enum container_codec)_i, &bytes);
	for (size_t cut = 0; cut < size; cut++) {
		enum status status;
		spill(path, bytes, cut);
		status = read_all(path, arena, &records, &bad);
		ck_assert_uint_eq(records + bad, 0);
		if (status == STATUS_OK)
			clean++;        /* between the header and the only block */
		else
			ck_assert_int_eq(status, STATUS_CORRUPT);
	}
	ck_assert_uint_eq(clean, 1);
	mem_free(bytes);
	arena_destroy(arena);
}
END_TEST

/* One flipped bit anywhere: never a crash, never more records; in the sync markers always found. */
START_TEST(every_flip)
{
	struct arena *arena = arena_create(ARENA_BYTES);
	size_t size, records, bad;
	char *bytes;

	size = small_file((enum container_codec)_i, &bytes);
	for (size_t at = 0; at < size; at++) {
		enum status status;
		bytes[at] ^= (char)(1 << at % 8);
		spill(path, bytes, size);
		status = read_all(path, arena, &records, &bad);
		ck_assert_uint_le(records, SMALL_RECORDS);
		if (at < 4 || at >= size - CONTAINER_SYNC_BYTES)
			ck_assert_int_eq(status, STATUS_CORRUPT);
		bytes[at] ^= (char)(1 << at % 8);
	}
	mem_free(bytes);
	arena_destroy(arena);
}
END_TEST

START_TEST(foreign_files)
{
	struct arena *arena = arena_create(ARENA_BYTES);
	struct byte_buffer file = {0};
	size_t records, bad;

	/* No codec means null; empty blocks are legal; the schema is an older one. */
	put_header(&file, NULL, short_item);
	put_block(&file, 0, "", 0);
	put_block(&file, 2, "\2a\2\2b\4", 6);
	put_block(&file, 0, "", 0);
	put_block(&file, 1, "\2c\6", 3);
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_OK);
	ck_assert_uint_eq(records, 3);

	/* A record that cannot be measured takes the rest of its block, not the next block. */
	put_header(&file, "null", short_item);
	put_block(&file, 3, "\2a\2\x7f\2b\4\2c\6", 9);
	put_block(&file, 1, "\2d\6", 3);
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_OK);
	ck_assert_uint_eq(records, 2);
	ck_assert_uint_eq(bad, 1);

	/* A record whose end is known but whose value we cannot take is lost alone. */
	put_header(&file, "null",
		   "{\"type\":\"record\",\"name\":\"item\",\"fields\":[{\"name\":\"item_id\","
		   "\"type\":[\"string\",\"null\"]},"
		   "{\"name\":\"event_time\",\"type\":\"long\"}]}");
	put_block(&file, 3, "\0\2a\2\2\4\0\2c\6", 10);
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_OK);
	ck_assert_uint_eq(records, 2);
	ck_assert_uint_eq(bad, 1);

	struct { int64_t count; const char *bytes; size_t size; } hostile[] = {
		{2, "\2a\2\2b\4\0", 7},         /* a byte too many */
		{-2, "\2a\2\2b\4", 6},
		{INT64_MAX, "\2a\2\2b\4", 6},
		{7, "\2a\2\2b\4", 6},           /* more records than bytes */
	};
	for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
		put_header(&file, "null", short_item);
		put_block(&file, hostile[i].count, hostile[i].bytes, hostile[i].size);
		spill(path, file.bytes, file.size);
		ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_CORRUPT);
	}
	put_header(&file, "snappy", short_item);
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_UNSUPPORTED);
	put_header(&file, "null", "{\"type\":");
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_CORRUPT);
	put_header(&file, "null", "\"string\"");
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_INCOMPATIBLE);
	spill(path, "Obj\1\2\0", 6);    /* an entry with an empty key, and the end */
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_CORRUPT);

	/* Sizes that nothing stands behind: refused before anything is allocated for them. */
	put_header(&file, "null", short_item);
	put_long(&file, 1);
	put_long(&file, INT64_MAX);
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_CORRUPT);
	byte_buffer_free(&file);
	arena_destroy(arena);
}
END_TEST

/* A small block that expands to 64 MiB and one byte is refused; damaged blocks are named. */
START_TEST(bombs)
{
	enum container_codec codec = (enum container_codec)(1 + _i);
	struct arena *arena = arena_create(ARENA_BYTES);
	struct container_packer *packer = container_packer_create(codec, true);
	size_t size = CONTAINER_BLOCK_BYTES_MAX + 1, records, bad, whole;
	struct byte_buffer file = {0};
	char *zeros = mem_alloc_zero(size, 1), *copy;
	struct text_view packed;

	ck_assert_int_eq(container_pack(packer, (struct text_view){zeros, size}, &packed, NULL), STATUS_OK);
	ck_assert_uint_lt(packed.size, 1024 * 1024);
	put_header(&file, container_codec_name(codec), short_item);
	put_block(&file, 1000, packed.bytes, packed.size);
	spill(path, file.bytes, file.size);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_CORRUPT);

	ck_assert_int_eq(container_pack(packer, (struct text_view){"\2a\2\2b\4", 6}, &packed, NULL),
		STATUS_OK);
	/* Every cut, and bytes behind it: some writers leave up to four of a checksum after raw deflate. */
	copy = mem_alloc(packed.size + 5);
	memcpy(copy, packed.bytes, packed.size);
	memcpy(copy + packed.size, "xxxxx", 5);
	whole = packed.size;
	for (size_t cut = 0; cut <= whole + 5; cut++) {
		bool good = cut == whole || (codec == CONTAINER_DEFLATE && cut > whole && cut <= whole + 4);
		put_header(&file, container_codec_name(codec), short_item);
		put_block(&file, 2, copy, cut);
		spill(path, file.bytes, file.size);
		ck_assert_int_eq(read_all(path, arena, &records, &bad), good ? STATUS_OK : STATUS_CORRUPT);
		ck_assert_uint_eq(records, good ? 2 : 0);
	}
	mem_free(copy);
	mem_free(zeros);
	container_packer_destroy(packer);
	byte_buffer_free(&file);
	arena_destroy(arena);
}
END_TEST

START_TEST(small_arena)
{
	struct arena *arena = arena_create(16);
	size_t records, bad;

	write_samples(RECORD_ITEM, CONTAINER_NULL, 5, 50);
	ck_assert_int_eq(read_all(path, arena, &records, &bad), STATUS_OK);
	ck_assert_uint_eq(records + bad, 50);
	ck_assert_uint_gt(bad, 40);
	arena_destroy(arena);
}
END_TEST

/* A full disk: the write that meets it says so, so does every later call, and nothing is left behind. */
START_TEST(full_disk)
{
	struct samples samples = {.state = 21, .arena = arena_create(ARENA_BYTES)};
	struct rlimit limit = {.rlim_cur = 200 * 1024, .rlim_max = 200 * 1024};
	struct container_writer *writer = NULL;
	struct error error = {0};
	enum status status = STATUS_OK;

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(container_writer_create(path, RECORD_PREDICTION, CONTAINER_NULL, NULL, 0, false, &writer,
						 &error), STATUS_OK);
	for (int i = 0; i < 10000 && !status; i++) {
		struct event event;
		arena_reset(samples.arena);
		event = sample_event(&samples, RECORD_PREDICTION);
		status = container_write(writer, &event, &error);
	}
	ck_assert_int_eq(status, STATUS_IO);
	ck_assert_ptr_nonnull(strstr(error.text, part));
	struct event event = sample_event(&samples, RECORD_PREDICTION);
	ck_assert_int_eq(container_write(writer, &event, &error), STATUS_IO);
	ck_assert_int_eq(container_writer_close(&writer, &error), STATUS_IO);
	ck_assert_ptr_null(writer);
	ck_assert_int_ne(access(part, F_OK), 0);
	ck_assert_int_ne(access(path, F_OK), 0);
	arena_destroy(samples.arena);
}
END_TEST

START_TEST(failing_allocations)
{
	enum container_codec codec = (enum container_codec)_i;
	struct event item = {.type = RECORD_ITEM, .item = {.item_id = TEXT_LITERAL("i")}};
	struct arena *arena = arena_create(ARENA_BYTES);
	enum status status = STATUS_NO_MEMORY;
	size_t records = 0, bad;

	for (long step = 0; status != STATUS_OK; step++) {
		struct container_writer *writer = NULL;
		ck_assert_int_lt(step, 1000);
		mem_fail_after(step);
		status = container_writer_create(path, RECORD_ITEM, codec, NULL, 0, true, &writer, NULL);
		if (!status)
			status = container_write(writer, &item, NULL);
		if (!status)
			status = container_writer_close(&writer, NULL);
		container_writer_abort(&writer);
		mem_fail_after(-1);
		ck_assert(status == STATUS_OK || access(part, F_OK) != 0);
	}
	status = STATUS_NO_MEMORY;
	for (long step = 0; status != STATUS_OK || records != 1; step++) {
		ck_assert_int_lt(step, 10000);
		arena_destroy(arena);
		arena = arena_create(ARENA_BYTES);
		mem_fail_after(step);
		status = read_all(path, arena, &records, &bad);
		mem_fail_after(-1);
	}
	arena_destroy(arena);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("container");
	TCase *tests = tcase_create("container");

	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_add_loop_test(tests, round_trip, 0, RECORD_TYPES * CODECS);
	tcase_add_test(tests, names);
	tcase_add_loop_test(tests, every_truncation, 0, CODECS);
	tcase_add_loop_test(tests, truncated_tail, 0, CODECS);
	tcase_add_loop_test(tests, every_flip, 0, CODECS);
	tcase_add_test(tests, foreign_files);
	tcase_add_loop_test(tests, bombs, 0, 2);
	tcase_add_test(tests, small_arena);
	tcase_add_test(tests, full_disk);
	tcase_add_loop_test(tests, failing_allocations, 0, CODECS);
	tcase_set_timeout(tests, 60);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
