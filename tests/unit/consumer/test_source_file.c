/* test_source_file.c - folders of container files as a source: the total order whatever the files,
 * positions and restarts, bad records in their places, damaged and cut files. */
#include "../producer/files.h"

#include "consumer/source.h"
#include "schemas/event_size.h"

static char folder[PATH_BYTES];
static struct arena *arena;
static struct error error;

static void setup(void)
{
	files_make(folder);
	arena = arena_create(256 << 20);
}

static void teardown(void)
{
	files_remove(folder);
	arena_destroy(arena);
}

static struct event item(const char *id, int64_t time)
{
	return (struct event){.type = RECORD_ITEM,
			      .item = {.item_id = text_of(id), .title = text_of("title"), .event_time_ms = time}};
}

static struct event interaction(const char *user, const char *item_id, int64_t time)
{
	return (struct event){.type = RECORD_INTERACTION,
			      .interaction = {.user_id = text_of(user),
					      .item_id = text_of(item_id),
					      .kind = KIND_CLICK,
					      .event_time_ms = time}};
}

static struct event impression(const char *user, const char *id, int64_t time)
{
	static const struct text_view candidates[] = {{"a", 1}, {"b", 1}};
	return (struct event){.type = RECORD_IMPRESSION,
			      .impression = {.impression_id = text_of(id),
					     .user_id = text_of(user),
					     .candidates = candidates,
					     .candidates_count = 2,
					     .event_time_ms = time}};
}

static void write_file(const char *name, enum container_codec codec, const struct event *events, size_t count)
{
	struct container_writer *writer;
	char path[PATH_BYTES];
	enum record_type type = strncmp(name, "items", 5) == 0	       ? RECORD_ITEM
				: strncmp(name, "impressions", 11) == 0 ? RECORD_IMPRESSION
									: RECORD_INTERACTION;
	files_path(path, folder, name);
	ck_assert_msg(container_writer_create(path, type, codec, NULL, 0, true, &writer, &error) == STATUS_OK,
		      "%s", error.text);
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(container_write(writer, &events[i], &error) == STATUS_OK, "%s", error.text);
	ck_assert_msg(container_writer_close(&writer, &error) == STATUS_OK, "%s", error.text);
}

static struct source *open_source(size_t group_records_max)
{
	struct source_file_options options = {
		.folder = folder,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
		.limits = event_limits_default,
		.group_records_max = group_records_max,
	};
	struct source *source = NULL;
	enum status status = source_file_create(&options, &source, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	return source;
}

/* Everything from here to the end in one text: "type key time;" and "BAD topic offset reason;". */
static enum status drain(struct source *source, size_t records_max, char *text, size_t bytes)
{
	struct source_batch batch = {0};
	size_t used = 0;

	text[0] = '\0';
	while (!batch.end) {
		arena_reset(arena);
		enum status status = source->class->poll(source, records_max, 0, arena, &batch, &error);
		if (status != STATUS_OK)
			return status;
		ck_assert_uint_le(batch.count, records_max);
		ck_assert(batch.backfill);
		for (size_t i = 0; i < batch.count; i++) {
			const struct record *record = &batch.records[i];
			if (record->status != STATUS_OK) {
				used += (size_t)snprintf(text + used, bytes - used, "BAD %d %d %s;",
							 (int)record->position.topic,
							 (int)record->position.offset, record->reason);
				ck_assert_uint_gt(record->error.size, 0);
				continue;
			}
			struct text_view key = event_key(&record->event);
			ck_assert(text_equal(key, record->key));
			used += (size_t)snprintf(text + used, bytes - used, "%c%.*s%d%s;",
						 "PMX"[record->event.type], TEXT_ARGS(key),
						 (int)event_time_ms(&record->event), record->late ? "!" : "");
		}
		ck_assert_uint_lt(used, bytes - 100);
	}
	return STATUS_OK;
}

static void start(struct source *source, const struct position *positions, size_t count)
{
	ck_assert_msg(source->class->start(source, positions, count, INT64_MIN, &error) == STATUS_OK, "%s",
		      error.text);
}

static const char *run(size_t records_max)
{
	static char text[1 << 20];
	struct source *source = open_source(0);
	int64_t oldest;
	ck_assert_int_eq(source->class->join(source, &oldest, &error), STATUS_OK);
	start(source, NULL, 0);
	enum status status = drain(source, records_max, text, sizeof text);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	source->class->destroy(source);
	return text;
}

START_TEST(orders_by_time_topic_and_key)
{
	struct event items[] = {item("b", 0), item("a", 0), item("c", 7)};
	struct event interactions[] = {interaction("v", "a", 5), interaction("u", "a", 5),
				       interaction("u", "b", 7), interaction("z", "b", 9)};
	struct event impressions[] = {impression("u", "1", 5), impression("u", "2", 7),
				      impression("t", "3", 7), impression("q", "4", 10)};
	const char *expected = "Pa0;Pb0;Mu5;Xu5;Xv5;Pc7;Mt7;Mu7;Xu7;Xz9;Mq10;";

	write_file("items.avro", CONTAINER_NULL, items, 3);
	write_file("interactions.avro", CONTAINER_DEFLATE, interactions, 4);
	write_file("impressions.avro", CONTAINER_ZSTANDARD, impressions, 4);
	ck_assert_str_eq(run(1000), expected);
	ck_assert_str_eq(run(1), expected);
	ck_assert_str_eq(run(3), expected);

	/* The same records in numbered files. */
	char path[PATH_BYTES];
	unlink(files_path(path, folder, "interactions.avro"));
	struct event first[] = {interaction("v", "a", 5), interaction("z", "b", 9)};
	struct event second[] = {interaction("u", "a", 5), interaction("u", "b", 7)};
	write_file("interactions-0001.avro", CONTAINER_NULL, first, 2);
	write_file("interactions-0002.avro", CONTAINER_NULL, second, 2);
	ck_assert_str_eq(run(1000), expected);
}
END_TEST

START_TEST(out_of_order_is_late)
{
	struct event interactions[] = {interaction("a", "x", 5), interaction("b", "x", 9),
				       interaction("c", "x", 7), interaction("d", "x", 9),
				       interaction("e", "x", 10), interaction("f", "x", 8)};
	write_file("interactions.avro", CONTAINER_NULL, interactions, 6);
	write_file("impressions.avro", CONTAINER_NULL, NULL, 0);
	/* c comes while the group of 9 is gathered: not too late. f is. */
	ck_assert_str_eq(run(1000), "Xa5;Xc7;Xb9;Xd9;Xf8!;Xe10;");
}
END_TEST

START_TEST(positions_go_on_where_a_state_ended)
{
	struct event items[300], interactions[3000], impressions[300];
	static char ids[3000][16];
	static char whole[1 << 20], rest[1 << 20];
	struct source_batch batch = {0};
	const struct position *positions;
	struct position saved[4];
	size_t count, delivered = 0;
	int64_t oldest;

	for (int i = 0; i < 3000; i++) {
		snprintf(ids[i], sizeof ids[i], "u%d", i * 7919 % 100);
		interactions[i] = interaction(ids[i], "x", i / 10);
		if (i < 300) {
			items[i] = item(ids[i], i);
			impressions[i] = impression(ids[i], "m", i);
		}
	}
	write_file("items.avro", CONTAINER_NULL, items, 300);
	write_file("interactions-0001.avro", CONTAINER_NULL, interactions, 1500);
	write_file("interactions-0005.avro", CONTAINER_NULL, interactions + 1500, 1500);
	write_file("impressions.avro", CONTAINER_ZSTANDARD, impressions, 300);
	struct source *source = open_source(0);
	ck_assert_int_eq(source->class->join(source, &oldest, &error), STATUS_OK);
	ck_assert_int_eq(oldest, 0);
	ck_assert_int_eq(source->class->oldest_unanswered_ms(source), 0);
	start(source, NULL, 0);
	do {
		arena_reset(arena);
		ck_assert_int_eq(source->class->poll(source, 7, 0, arena, &batch, &error), STATUS_OK);
		delivered += batch.count;
		if (!batch.cut)
			ck_assert_int_eq(source->class->positions(source, &positions, &count, &error),
					 STATUS_USAGE);
	} while (delivered < 1800 || !batch.cut);
	ck_assert_int_eq(source->class->positions(source, &positions, &count, &error), STATUS_OK);
	ck_assert_uint_eq(count, 3);
	memcpy(saved, positions, count * sizeof *saved);
	ck_assert_int_eq(drain(source, 64, whole, sizeof whole), STATUS_OK);
	ck_assert_int_eq(source->class->oldest_unanswered_ms(source), INT64_MAX);

	/* A start of the same source, and one of a new source. Impressions come from their beginning. */
	start(source, saved, count);
	ck_assert_int_eq(drain(source, 64, rest, sizeof rest), STATUS_OK);
	source->class->destroy(source);
	source = open_source(0);
	ck_assert_int_eq(source->class->join(source, &oldest, &error), STATUS_OK);
	start(source, saved, count);
	static char again[1 << 20];
	ck_assert_int_eq(drain(source, 1000, again, sizeof again), STATUS_OK);
	ck_assert_str_eq(rest, again);
	source->class->destroy(source);
	size_t tail = strlen(whole), all = strlen(rest);
	ck_assert_uint_gt(all, tail);
	ck_assert_str_eq(rest + all - tail, whole);

	/* A state of other files. */
	source = open_source(0);
	saved[0].offset = 5000;
	start(source, saved, count);
	ck_assert_int_eq(drain(source, 1000, again, sizeof again), STATUS_CONFIG);
	ck_assert_msg(strstr(error.text, "another state folder"), "%s", error.text);
	source->class->destroy(source);
}
END_TEST

START_TEST(malformed_records_are_bad_in_their_place)
{
	struct event interactions[] = {interaction("a", "x", 5), interaction("", "x", 6),
				       interaction("c", "x", 7), interaction("d", "x", -3),
				       interaction("e", "x", 9)};
	static char title[2 << 20];
	struct event items[] = {item("a", 0), item("b", 1), item("c", 2)};

	memset(title, 't', sizeof title - 1);
	items[1].item.title = text_of(title);
	ck_assert_uint_gt(event_encoded_bytes(&items[1]), event_limits_default.record_bytes_max);
	write_file("interactions.avro", CONTAINER_NULL, interactions, 5);
	write_file("impressions.avro", CONTAINER_NULL, NULL, 0);
	/* Found while the group before them is gathered, bad records go to its front. */
	ck_assert_str_eq(run(1000), "BAD 2 1 missing-user-id;Xa5;BAD 2 3 negative-time;Xc7;Xe9;");
	write_file("items.avro", CONTAINER_NULL, items, 3);
	write_file("interactions.avro", CONTAINER_NULL, NULL, 0);
	ck_assert_str_eq(run(1000), "BAD 0 1 too-large;Pa0;Pc2;");
}
END_TEST

/* Byte `at` from the end (negative) or start is flipped. */
static void damage(const char *name, long at)
{
	char path[PATH_BYTES];
	size_t size;
	char *bytes = files_read(files_path(path, folder, name), &size);
	bytes[at < 0 ? (long)size + at : at] ^= 0x55;
	files_write(path, bytes, size);
	mem_free(bytes);
}

START_TEST(a_cut_file_delivers_what_it_has_and_fails)
{
	static struct event interactions[20000];
	static char ids[20000][16], text[1 << 20];
	struct event impressions[] = {impression("u", "1", 3), impression("v", "2", 1000000)};
	char path[PATH_BYTES];
	struct source *source;
	size_t size, interactions_read = 0;
	int64_t oldest;

	for (int i = 0; i < 20000; i++) {
		snprintf(ids[i], sizeof ids[i], "user%d", i);
		interactions[i] = interaction(ids[i], "x", i);
	}
	write_file("interactions.avro", CONTAINER_NULL, interactions, 20000);
	write_file("impressions.avro", CONTAINER_NULL, impressions, 2);
	char *bytes = files_read(files_path(path, folder, "interactions.avro"), &size);
	files_write(path, bytes, size - 100);
	mem_free(bytes);
	source = open_source(0);
	ck_assert_int_eq(source->class->join(source, &oldest, &error), STATUS_OK);
	start(source, NULL, 0);
	ck_assert_int_eq(drain(source, 100, text, sizeof text), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "interactions.avro"), "%s", error.text);
	for (const char *at = text; (at = strstr(at, "Xuser")); at++)
		interactions_read++;
	ck_assert_uint_gt(interactions_read, 1000);
	ck_assert_uint_lt(interactions_read, 20000);
	ck_assert_ptr_nonnull(strstr(text, "Mu3;"));
	/* An impression after the break would miss what the file has lost. */
	ck_assert_ptr_null(strstr(text, "Mv1000000"));
	/* It stays broken, and can be started again. */
	struct source_batch batch;
	ck_assert_int_eq(source->class->poll(source, 10, 0, arena, &batch, &error), STATUS_CORRUPT);
	start(source, NULL, 0);
	ck_assert_int_eq(drain(source, 100, text, sizeof text), STATUS_CORRUPT);
	source->class->destroy(source);
}
END_TEST

START_TEST(a_damaged_block_never_goes_unseen)
{
	static struct event interactions[5000];
	static char ids[5000][16], text[1 << 20];
	char path[PATH_BYTES];
	size_t size;
	int64_t oldest;

	for (int i = 0; i < 5000; i++) {
		snprintf(ids[i], sizeof ids[i], "user%d", i);
		interactions[i] = interaction(ids[i], "x", i);
	}
	write_file("impressions.avro", CONTAINER_NULL, NULL, 0);
	write_file("interactions.avro", CONTAINER_ZSTANDARD, interactions, 5000);
	mem_free(files_read(files_path(path, folder, "interactions.avro"), &size));
	for (long at = (long)size / 2; at < (long)size / 2 + 40; at += 13) {
		damage("interactions.avro", at);
		struct source *source = open_source(0);
		ck_assert_int_eq(source->class->join(source, &oldest, &error), STATUS_OK);
		start(source, NULL, 0);
		enum status status = drain(source, 100, text, sizeof text);
		if (status == STATUS_OK)
			ck_assert_msg(strstr(text, "BAD 2 "), "byte %ld", at);
		else
			ck_assert_int_eq(status, STATUS_CORRUPT);
		source->class->destroy(source);
		damage("interactions.avro", at);
	}
}
END_TEST

START_TEST(folders_that_will_not_do)
{
	struct source_file_options options = {
		.folder = folder,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
		.limits = event_limits_default,
	};
	struct source *source = NULL;
	struct event one = interaction("u", "x", 1);

	ck_assert_int_eq(source_file_create(&options, &source, &error), STATUS_NO_INPUT);
	ck_assert_msg(strstr(error.text, "impressions"), "%s", error.text);
	write_file("impressions.avro", CONTAINER_NULL, NULL, 0);
	write_file("interactions.avro", CONTAINER_NULL, &one, 1);
	write_file("interactions-0001.avro", CONTAINER_NULL, &one, 1);
	ck_assert_int_eq(source_file_create(&options, &source, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "beside"), "%s", error.text);
	char path[PATH_BYTES];
	unlink(files_path(path, folder, "interactions.avro"));
	write_file("interactions-00001.avro", CONTAINER_NULL, &one, 1);
	ck_assert_int_eq(source_file_create(&options, &source, &error), STATUS_CORRUPT);
	unlink(files_path(path, folder, "interactions-00001.avro"));
	/* Names that are almost right belong to nobody. */
	files_write_text(files_path(path, folder, "interactions-1.avro"), "x");
	files_write_text(files_path(path, folder, "interactions-0002.avro.part"), "x");
	ck_assert_str_eq(run(10), "Xu1;");
	files_write_text(files_path(path, folder, "items.avro"), "not a container file");
	ck_assert_int_eq(source_file_create(&options, &source, &error), STATUS_CORRUPT);
	options.folder = "/nonexistent/folder";
	ck_assert_int_eq(source_file_create(&options, &source, &error), STATUS_NO_INPUT);
	ck_assert_ptr_null(source);
}
END_TEST

/* Memory that runs out is an error, wherever it happens, and leaks nothing. */
START_TEST(no_memory_is_an_error)
{
	struct event items[] = {item("a", 0), item("b", 0)}, interactions[] = {interaction("u", "a", 5)};
	struct event impressions[] = {impression("u", "1", 6)};
	static char text[1000];
	struct source_file_options options = {
		.folder = folder,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
		.limits = event_limits_default,
	};
	bool done = false;

	write_file("items.avro", CONTAINER_NULL, items, 2);
	write_file("interactions.avro", CONTAINER_NULL, interactions, 1);
	write_file("impressions.avro", CONTAINER_NULL, impressions, 1);
	for (long successes = 0; !done; successes++) {
		struct source *source = NULL;
		int64_t oldest;
		ck_assert_int_lt(successes, 100000);
		mem_fail_after(successes);
		enum status status = source_file_create(&options, &source, &error);
		if (status == STATUS_OK)
			status = source->class->join(source, &oldest, &error);
		if (status == STATUS_OK)
			status = source->class->start(source, NULL, 0, INT64_MIN, &error);
		if (status == STATUS_OK)
			status = drain(source, 10, text, sizeof text);
		mem_fail_after(-1);
		if (source)
			source->class->destroy(source);
		done = status == STATUS_OK && strcmp(text, "Pa0;Pb0;Xu5;Mu6;") == 0;
		if (!done)
			ck_assert_msg(status != STATUS_OK || strstr(text, "BAD"), "%ld: %d %s", successes,
				      (int)status, text);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("file source");
	TCase *tests = tcase_create("file source");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, orders_by_time_topic_and_key);
	tcase_add_test(tests, out_of_order_is_late);
	tcase_add_test(tests, positions_go_on_where_a_state_ended);
	tcase_add_test(tests, malformed_records_are_bad_in_their_place);
	tcase_add_test(tests, a_cut_file_delivers_what_it_has_and_fails);
	tcase_add_test(tests, a_damaged_block_never_goes_unseen);
	tcase_add_test(tests, folders_that_will_not_do);
	tcase_add_test(tests, no_memory_is_an_error);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
