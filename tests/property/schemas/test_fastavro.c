/* test_fastavro.c - container files against fastavro, an independent implementation in another
 * language: what we write comes back through it unchanged, and what it makes of random writers' schemas
 * is what we make of them. Skipped (77) where fastavro is not installed. EXITPOLL_SEED sets the seed. */
#include "schemas/container.h"
#include "tests/unit/schemas/codec_samples.h"
#include "tests/check_run.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVENTS = 120, CODECS = 3, WRITERS = 40, VERDICTS = 8, ARENA_BYTES = 64 * 1024 * 1024 };

static const char *const codec_names[CODECS] = {"null", "deflate", "zstandard"};
static char folder[64];

/* The exit code of the peer with these arguments. */
static int peer(const char *arguments)
{
	const char *cache = getenv("EXITPOLL_CACHE"), *home = getenv("HOME");
	char python[512], command[2048];
	int result;

	snprintf(python, sizeof python, "%s%s/python/bin/python", cache ? cache : home ? home : "",
		 cache ? "" : "/.cache/exitpoll");
	snprintf(command, sizeof command, "%s " TEST_SOURCE_DIR "/tests/property/schemas/fastavro_peer.py %s",
		 access(python, X_OK) == 0 ? python : "python3", arguments);
	result = system(command);
	return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static struct container_reader *open_file(enum record_type type, const char *format, const char *name, int i)
{
	struct container_reader *reader = NULL;
	struct error error = {0};
	char path[256], file[128];
	enum status status;

	snprintf(file, sizeof file, format, record_type_name(type), name, i);
	snprintf(path, sizeof path, "%s/%s", folder, file);
	status = container_reader_open(path, type, &reader, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	return reader;
}

START_TEST(there_and_back)
{
	enum record_type type = (enum record_type)(_i / CODECS);
	enum container_codec codec = (enum container_codec)(_i % CODECS);
	struct samples samples = {.state = 8, .arena = arena_create(ARENA_BYTES), .finite = true};
	struct arena *arena = arena_create(ARENA_BYTES);
	struct container_reader *reader;
	struct error error = {0};
	char path[256];
	bool end = false;

	snprintf(path, sizeof path, "%s/%s-%s-back.avro", folder, record_type_name(type), codec_names[codec]);
	if (codec == CONTAINER_ZSTANDARD && access(path, F_OK) != 0) {
		/* fastavro has this codec only where the package zstandard is installed too. */
		arena_destroy(samples.arena);
		arena_destroy(arena);
		return;
	}
	reader = open_file(type, "%s-%s-back.avro", codec_names[codec], 0);
	for (int i = 0; i < EVENTS; i++) {
		struct event event, back;
		enum status status;
		arena_reset(samples.arena);
		arena_reset(arena);
		event = sample_event(&samples, type);
		status = container_read(reader, arena, &back, &end, &error);
		ck_assert_msg(status == STATUS_OK && !end, "%s", error.text);
		ck_assert_msg(same_event(&event, &back), "%s %d", record_type_name(type), i);
	}
	ck_assert_int_eq(container_read(reader, arena, &(struct event){0}, &end, &error), STATUS_OK);
	ck_assert(end);
	container_reader_close(reader);
	arena_destroy(samples.arena);
	arena_destroy(arena);
}
END_TEST

START_TEST(what_fastavro_makes_of_it)
{
	enum record_type type = (enum record_type)_i;
	struct arena *arena = arena_create(ARENA_BYTES);
	int read = 0, refused = 0;

	for (int i = 0; i < WRITERS; i++) {
		struct container_reader *evolved = open_file(type, "evolved-%s%s-%d.avro", "", i);
		struct container_reader *resolved = open_file(type, "resolved-%s%s-%d.avro", "", i);
		char path[256], verdicts[VERDICTS + 1] = "";
		FILE *file;

		snprintf(path, sizeof path, "%s/verdicts-%s-%d", folder, record_type_name(type), i);
		file = fopen(path, "r");
		ck_assert_ptr_nonnull(file);
		ck_assert_uint_eq(fread(verdicts, 1, VERDICTS, file), VERDICTS);
		fclose(file);
		for (int k = 0; k < VERDICTS; k++) {
			struct event ours, theirs;
			struct error error = {0};
			bool end = false;
			enum status status;

			arena_reset(arena);
			status = container_read(evolved, arena, &ours, &end, &error);
			ck_assert(!end);
			ck_assert_msg(status == (verdicts[k] == '1' ? STATUS_OK : STATUS_BAD_RECORD),
				      "%s writer %d, record %d, fastavro says %c: %s\n%s", record_type_name(type), i, k,
				      verdicts[k], error.text, container_reader_schema(evolved));
			*(status ? &refused : &read) += 1;
			if (status)
				continue;
			ck_assert_int_eq(container_read(resolved, arena, &theirs, &end, &error), STATUS_OK);
			ck_assert(!end);
			ck_assert_msg(same_event(&ours, &theirs), "%s writer %d, record %d\n%s", record_type_name(type), i,
				      k, container_reader_schema(evolved));
		}
		container_reader_close(evolved);
		container_reader_close(resolved);
	}
	ck_assert_int_gt(read, WRITERS / 4);
	ck_assert_int_gt(refused, WRITERS / 4);
	arena_destroy(arena);
}
END_TEST

static bool write_files(void)
{
	struct samples samples = {.arena = arena_create(ARENA_BYTES), .finite = true};
	bool ok = samples.arena != NULL;

	for (int i = 0; ok && i < RECORD_TYPES * CODECS; i++) {
		enum record_type type = (enum record_type)(i / CODECS);
		enum container_codec codec = (enum container_codec)(i % CODECS);
		struct container_writer *writer = NULL;
		char path[256];

		samples.state = 8;
		snprintf(path, sizeof path, "%s/%s-%s.avro", folder, record_type_name(type), codec_names[codec]);
		ok = !container_writer_create(path, type, codec, NULL, 0, false, &writer, NULL);
		for (int k = 0; ok && k < EVENTS; k++) {
			struct event event;
			arena_reset(samples.arena);
			event = sample_event(&samples, type);
			ok = !container_write(writer, &event, NULL);
		}
		ok = ok && !container_writer_close(&writer, NULL);
	}
	arena_destroy(samples.arena);
	return ok;
}

static void remove_folder(void)
{
	DIR *entries = opendir(folder);
	char path[400];
	for (struct dirent *entry; entries && (entry = readdir(entries));) {
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		unlink(path);
	}
	if (entries)
		closedir(entries);
	rmdir(folder);
}

static int prepare(void)
{
	const char *seed = getenv("EXITPOLL_SEED");
	char arguments[256];
	int result;

	if (!write_files())
		return 1;
	snprintf(arguments, sizeof arguments, "back %s", folder);
	result = peer(arguments);
	if (result)
		return result;
	snprintf(arguments, sizeof arguments, "evolve %s %d %d", folder, seed ? atoi(seed) : 1, WRITERS);
	return peer(arguments);
}

int main(void)
{
	Suite *suite = suite_create("fastavro");
	TCase *tests = tcase_create("fastavro");

	strcpy(folder, "/tmp/exitpoll-fastavro-XXXXXX");
	if (!mkdtemp(folder))
		return EXIT_FAILURE;
	int failed = prepare();
	if (failed) {
		printf("%s\n", failed == 77 ? "skipped: fastavro is not installed" : "fastavro's side failed");
		remove_folder();
		return failed;
	}
	tcase_add_loop_test(tests, there_and_back, 0, RECORD_TYPES * CODECS);
	tcase_add_loop_test(tests, what_fastavro_makes_of_it, 0, RECORD_TYPES);
	tcase_set_timeout(tests, 120);
	suite_add_tcase(suite, tests);
	failed = check_run(suite);
	remove_folder();
	return failed;
}
