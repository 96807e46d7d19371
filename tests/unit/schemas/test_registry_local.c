/* test_registry_local.c - the built-in registry and the one in a folder: ids, additions by several
 * writers at once, and every way in which a folder can be wrong. */
#include "schemas/registry.h"

#include "base/log.h"
#include "tests/check_run.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static void make_folder(void)
{
	snprintf(folder, sizeof folder, "/tmp/exitpoll-registry-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

static void write_file(const char *name, const char *text)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	fclose(file);
}

static void ck_file(const char *name, const char *expected)
{
	char path[160], text[256] = "";
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	file = fopen(path, "r");
	ck_assert_msg(file != NULL, "%s is not there", path);
	text[fread(text, 1, sizeof text - 1, file)] = '\0';
	fclose(file);
	ck_assert_str_eq(text, expected);
}

static struct registry *open_registry(const char *url)
{
	struct registry *registry = NULL;
	struct error error = {0};

	ck_assert_msg(registry_create(&(struct registry_options){.url = url}, &registry, &error) == STATUS_OK,
		      "%s", error.text);
	return registry;
}

#define ck_has(text, part) ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)

START_TEST(builtin_ids_are_record_type_plus_one)
{
	struct registry *registry = open_registry(NULL);
	const struct codec_plan *plan = NULL;
	struct error error = {0};
	uint32_t id = 0;

	ck_assert_str_eq(registry_describe(registry), "built-in");
	for (int type = 0; type < RECORD_TYPES; type++) {
		ck_assert_int_eq(registry_writer_id(registry, (enum record_type)type, "any", &id, &error),
				 STATUS_OK);
		ck_assert_uint_eq(id, (uint32_t)type + 1);
		ck_assert_msg(registry_plan(registry, (enum record_type)type, id, &plan, &error) == STATUS_OK,
			      "%s", error.text);
		ck_assert_int_eq(codec_plan_type(plan), type);
	}
	for (uint32_t wrong = 7; wrong; wrong = wrong == 7 ? UINT32_MAX : 0) {
		ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, wrong, &plan, &error),
				 STATUS_UNKNOWN_SCHEMA);
		ck_has(error.text, "schema.registry");
	}
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 0, &plan, &error), STATUS_UNKNOWN_SCHEMA);
	registry_destroy(registry);
}
END_TEST

START_TEST(every_other_id_is_a_misdirected_record)
{
	struct registry *registry = open_registry("");
	const struct codec_plan *plan = NULL;
	struct error error = {0};

	for (int type = 0; type < RECORD_TYPES; type++)
		for (uint32_t id = 1; id <= RECORD_TYPES; id++)
			ck_assert_int_eq(registry_plan(registry, (enum record_type)type, id, &plan, &error),
					 id == (uint32_t)type + 1 ? STATUS_OK : STATUS_BAD_RECORD);
	registry_destroy(registry);
}
END_TEST

START_TEST(decode_reads_what_encode_framed)
{
	struct registry *registry = open_registry(NULL);
	struct arena *arena = arena_create(1 << 20);
	struct event event = {.type = RECORD_ITEM}, read = {0};
	struct byte_buffer buffer = {.bytes_max = 4096};
	struct error error = {0};
	char header[FRAMING_BYTES];

	event.item.item_id = TEXT_LITERAL("i1");
	event.item.title = TEXT_LITERAL("A title");
	event.item.event_time_ms = 5;
	framing_write(1, header);
	ck_assert(byte_buffer_append(&buffer, header, sizeof header));
	ck_assert_int_eq(codec_encode(&event, &buffer, &error), STATUS_OK);
	ck_assert_msg(registry_decode(registry, RECORD_ITEM, (struct text_view){buffer.bytes, buffer.size}, arena,
				      &read, &error) == STATUS_OK, "%s", error.text);
	ck_assert(text_equal(read.item.title, event.item.title));
	/* Too short for the framing, a wrong first byte, an unknown id, a body cut off. */
	ck_assert_int_eq(status_class(registry_decode(registry, RECORD_ITEM, (struct text_view){buffer.bytes, 4},
				      arena, &read, &error)), STATUS_CLASS_BAD);
	ck_assert_int_eq(status_class(registry_decode(registry, RECORD_ITEM,
				      (struct text_view){buffer.bytes, buffer.size - 1}, arena, &read, &error)),
			 STATUS_CLASS_BAD);
	buffer.bytes[4] = 9;
	ck_assert_int_eq(registry_decode(registry, RECORD_ITEM, (struct text_view){buffer.bytes, buffer.size},
					 arena, &read, &error), STATUS_UNKNOWN_SCHEMA);
	buffer.bytes[0] = 1;
	ck_assert_int_eq(status_class(registry_decode(registry, RECORD_ITEM,
				      (struct text_view){buffer.bytes, buffer.size}, arena, &read, &error)),
			 STATUS_CLASS_BAD);
	byte_buffer_free(&buffer);
	arena_destroy(arena);
	registry_destroy(registry);
}
END_TEST

START_TEST(folder_gives_ids_out_and_finds_them_again)
{
	char url[80];
	struct registry *registry;
	const struct codec_plan *plan = NULL;
	struct error error = {0};
	uint32_t id = 0;

	snprintf(url, sizeof url, "dir:%s", folder);
	write_file("41.avsc", "\"string\"");
	write_file("notes.txt", "not a schema");
	registry = open_registry(url);
	ck_has(registry_describe(registry), folder);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "items", &id, &error), STATUS_OK);
	ck_assert_uint_eq(id, 42);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_INTERACTION, "interactions", &id, &error),
			 STATUS_OK);
	ck_assert_uint_eq(id, 43);
	/* The same schema under another subject keeps its id. */
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "products", &id, &error), STATUS_OK);
	ck_assert_uint_eq(id, 42);
	ck_file("items-value.ids", "42\n");
	ck_file("products-value.ids", "42\n");
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 42, &plan, &error), STATUS_OK);
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 41, &plan, &error), STATUS_BAD_RECORD);
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 40, &plan, &error), STATUS_UNKNOWN_SCHEMA);
	ck_has(error.text, "40.avsc");
	ck_has(error.text, "schema.registry");
	registry_destroy(registry);

	/* A second process, a plain path, an older version listed and no newline at the end. */
	write_file("items-value.ids", "7\n42");
	write_file("interactions-value.ids", "41");
	registry = open_registry(folder);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "items", &id, &error), STATUS_OK);
	ck_assert_uint_eq(id, 42);
	ck_file("items-value.ids", "7\n42");
	ck_assert_int_eq(registry_writer_id(registry, RECORD_INTERACTION, "interactions", &id, &error),
			 STATUS_OK);
	ck_file("interactions-value.ids", "41\n43\n");
	registry_destroy(registry);
}
END_TEST

static void *register_all(void *context)
{
	uint32_t *ids = context;
	struct registry *registry = NULL;
	struct error error = {0};

	if (registry_create(&(struct registry_options){.url = folder}, &registry, &error))
		return NULL;
	for (int type = 0; type < RECORD_TYPES; type++)
		if (registry_writer_id(registry, (enum record_type)type, "shared", &ids[type], &error))
			ids[type] = 0;
	registry_destroy(registry);
	return NULL;
}

START_TEST(writers_at_once_agree)
{
	uint32_t ids[6][RECORD_TYPES] = {{0}};
	pthread_t threads[6];

	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, register_all, ids[i]), 0);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	for (int type = 0; type < RECORD_TYPES; type++) {
		ck_assert_uint_ge(ids[0][type], 1);
		ck_assert_uint_le(ids[0][type], RECORD_TYPES);
		for (int i = 1; i < 6; i++)
			ck_assert_uint_eq(ids[i][type], ids[0][type]);
		for (int other = 0; other < type; other++)
			ck_assert_uint_ne(ids[0][type], ids[0][other]);
	}
}
END_TEST

START_TEST(folder_faults)
{
	struct registry *registry;
	const struct codec_plan *plan = NULL;
	struct error error = {0};
	char path[160], *large = malloc((1 << 20) + 2);
	uint32_t id = 5;

	ck_assert_ptr_nonnull(large);
	memset(large, ' ', (1 << 20) + 1);
	large[(1 << 20) + 1] = '\0';
	write_file("1.avsc", large);
	write_file("2.avsc", "");
	snprintf(path, sizeof path, "%s/3.avsc", folder);
	ck_assert_int_eq(mkdir(path, 0777), 0);
	registry = open_registry(folder);
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 1, &plan, &error), STATUS_LIMIT);
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 2, &plan, &error), STATUS_BAD_RECORD);
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 3, &plan, &error), STATUS_LIMIT);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "a/b", &id, &error), STATUS_CONFIG);
	snprintf(path, sizeof path, "%s/4294967295.avsc", folder);
	write_file("4294967295.avsc", "\"string\"");
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "items", &id, &error), STATUS_LIMIT);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_uint_eq(id, 5);
	/* The folder goes away: trouble that may pass, not a bad record. */
	remove_folder();
	ck_assert_int_eq(registry_plan(registry, RECORD_ITEM, 4, &plan, &error), STATUS_RETRY);
	registry_destroy(registry);
	make_folder();
	free(large);
}
END_TEST

START_TEST(read_only_folder_serves_what_it_has)
{
	struct registry *registry;
	struct error error = {0};
	uint32_t id = 0;

	if (geteuid() == 0)
		return;         /* nothing is read-only for root */
	registry = open_registry(folder);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "items", &id, &error), STATUS_OK);
	registry_destroy(registry);
	ck_assert_int_eq(chmod(folder, 0555), 0);
	registry = open_registry(folder);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_ITEM, "items", &id, &error), STATUS_OK);
	ck_assert_uint_eq(id, 1);
	ck_assert_int_eq(registry_writer_id(registry, RECORD_INTERACTION, "interactions", &id, &error),
			 STATUS_CANNOT_CREATE);
	registry_destroy(registry);
	ck_assert_int_eq(chmod(folder, 0755), 0);
}
END_TEST

START_TEST(no_memory_is_an_error_everywhere)
{
	struct error error = {0};

	for (long successes = 0; successes < 200; successes++) {
		struct registry *registry = NULL;
		const struct codec_plan *plan = NULL;
		enum status status;

		mem_fail_after(successes);
		status = registry_create(&(struct registry_options){.url = folder}, &registry, &error);
		if (!status) {
			uint32_t id;
			status = registry_writer_id(registry, RECORD_ITEM, "items", &id, &error);
			if (!status)
				status = registry_plan(registry, RECORD_ITEM, id, &plan, &error);
			registry_destroy(registry);
		}
		mem_fail_after(-1);
		if (!status)
			return;
		ck_assert_int_eq(status, STATUS_NO_MEMORY);
	}
	ck_abort_msg("200 allocations are not enough");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("registry_local");
	TCase *builtin = tcase_create("built-in"), *local = tcase_create("folder");

	log_configure(LOG_ERROR, false);
	tcase_add_test(builtin, builtin_ids_are_record_type_plus_one);
	tcase_add_test(builtin, every_other_id_is_a_misdirected_record);
	tcase_add_test(builtin, decode_reads_what_encode_framed);
	suite_add_tcase(suite, builtin);
	tcase_set_timeout(local, 60);
	tcase_add_checked_fixture(local, make_folder, remove_folder);
	tcase_add_test(local, folder_gives_ids_out_and_finds_them_again);
	tcase_add_test(local, writers_at_once_agree);
	tcase_add_test(local, folder_faults);
	tcase_add_test(local, read_only_folder_serves_what_it_has);
	tcase_add_test(local, no_memory_is_an_error_everywhere);
	suite_add_tcase(suite, local);
	return check_run(suite);
}
