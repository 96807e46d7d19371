/* test_source_file.c - the same events in one file, in three or in eight, split by key, are delivered
 * alike, in any size of batch, and go on alike from the positions of any cut. Seeds are printed. */
#include "../../unit/producer/files.h"

#include "consumer/source.h"

#include <time.h>

enum { EVENTS_MAX = 4000, IDS = 40, FILES_MAX = 8 };

static uint64_t random_state;
static char folder[PATH_BYTES];
static char ids[IDS][8];
static struct event events[EVENTS_MAX];
static struct error error;

static uint64_t rnd(uint64_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % bound;
}

static void setup(void)
{
	files_make(folder);
	for (int i = 0; i < IDS; i++)
		snprintf(ids[i], sizeof ids[i], "id%u", (unsigned)i % IDS);
}

static void teardown(void)
{
	files_remove(folder);
}

static size_t make_events(void)
{
	static struct text_view candidates[IDS];
	size_t count = 1 + rnd(EVENTS_MAX);
	int64_t now = 0;

	for (size_t i = 0; i < IDS; i++)
		candidates[i] = text_of(ids[i]);
	for (size_t i = 0; i < count; i++) {
		struct text_view key = text_of(ids[rnd(IDS)]), other = text_of(ids[rnd(IDS)]);
		now += rnd(4) == 0 ? (int64_t)rnd(5) : 0;
		switch (rnd(4)) {
		case 0:
			events[i] = (struct event){.type = RECORD_ITEM,
						   .item = {.item_id = key, .title = other, .event_time_ms = now}};
			break;
		case 1:
			events[i] = (struct event){.type = RECORD_IMPRESSION,
						   .impression = {other, key, candidates, rnd(IDS), now, false, 0}};
			break;
		default:
			events[i] = (struct event){.type = RECORD_INTERACTION,
						   .interaction = {key, other, KIND_RATE, true, (double)rnd(5),
								   {NULL, 0}, now}};
		}
	}
	return count;
}

static void write_files(size_t count, size_t files)
{
	static const char *const names[] = {"items", "impressions", "interactions"};

	for (int topic = 0; topic < 3; topic++)
		for (size_t file = 0; file < files; file++) {
			struct container_writer *writer;
			char path[PATH_BYTES], name[64];
			if (files == 1)
				snprintf(name, sizeof name, "%s.avro", names[topic]);
			else
				snprintf(name, sizeof name, "%s-%04d.avro", names[topic], (int)file + 1);
			ck_assert_int_eq(container_writer_create(files_path(path, folder, name),
								 (enum record_type)topic, CONTAINER_DEFLATE,
								 NULL, 0, true, &writer, &error),
					 STATUS_OK);
			for (size_t i = 0; i < count; i++)
				if ((int)events[i].type == topic &&
				    (size_t)atoi(event_key(&events[i]).bytes + 2) % files == file)
					ck_assert_int_eq(container_write(writer, &events[i], &error), STATUS_OK);
			ck_assert_int_eq(container_writer_close(&writer, &error), STATUS_OK);
		}
}

static struct source *open_source(void)
{
	struct source_file_options options = {
		.folder = folder,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
		.limits = event_limits_default,
	};
	struct source *source = NULL;
	enum status status = source_file_create(&options, &source, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	return source;
}

/* Encodes everything delivered into one buffer; impressions only if wanted. At the first cut after
 * `stop` records, keeps the positions and what was delivered so far. */
struct run {
	struct byte_buffer all;
	struct position positions[2 * FILES_MAX];
	size_t positions_count;
	size_t at_cut;          /* bytes of `all` */
};

static void drain(struct source *source, size_t stop, bool impressions, struct run *run)
{
	struct arena *arena = arena_create(64 << 20);
	struct source_batch batch = {0};
	size_t delivered = 0;
	bool kept = false;

	while (!batch.end) {
		arena_reset(arena);
		ck_assert_int_eq(source->class->poll(source, 1 + rnd(200), 0, arena, &batch, &error), STATUS_OK);
		for (size_t i = 0; i < batch.count; i++) {
			ck_assert_int_eq(batch.records[i].status, STATUS_OK);
			ck_assert(!batch.records[i].late);
			if (impressions || batch.records[i].event.type != RECORD_IMPRESSION)
				ck_assert_int_eq(codec_encode(&batch.records[i].event, &run->all, &error),
						 STATUS_OK);
		}
		delivered += batch.count;
		if (!kept && batch.cut && delivered >= stop) {
			const struct position *positions;
			ck_assert_int_eq(source->class->positions(source, &positions, &run->positions_count,
								  &error),
					 STATUS_OK);
			memcpy(run->positions, positions, run->positions_count * sizeof *positions);
			run->at_cut = run->all.size;
			kept = true;
		}
	}
	arena_destroy(arena);
}

static struct run run_files(size_t count, size_t files, size_t stop, bool impressions)
{
	struct run run = {.all = {.bytes_max = 64 << 20}};

	files_remove(folder);
	mkdir(folder, 0700);
	write_files(count, files);
	struct source *source = open_source();
	ck_assert_int_eq(source->class->start(source, NULL, 0, INT64_MIN, &error), STATUS_OK);
	drain(source, stop, impressions, &run);
	source->class->destroy(source);
	return run;
}

START_TEST(files_do_not_show)
{
	for (int round = 0; round < 5; round++) {
		size_t count = make_events();
		struct run one = run_files(count, 1, 0, true);
		for (size_t files = 3; files <= FILES_MAX; files += 5) {
			struct run many = run_files(count, files, 0, true);
			ck_assert_uint_eq(many.all.size, one.all.size);
			ck_assert_int_eq(memcmp(many.all.bytes, one.all.bytes, one.all.size), 0);
			byte_buffer_free(&many.all);
		}
		byte_buffer_free(&one.all);
	}
}
END_TEST

START_TEST(any_cut_can_be_gone_on_from)
{
	for (int round = 0; round < 5; round++) {
		size_t count = make_events();
		struct run run = run_files(count, 1 + rnd(FILES_MAX), rnd(count), false);
		struct run rest = {.all = {.bytes_max = 64 << 20}};
		struct source *source = open_source();
		ck_assert_int_eq(source->class->start(source, run.positions, run.positions_count, INT64_MIN,
						      &error),
				 STATUS_OK);
		drain(source, 0, false, &rest);
		source->class->destroy(source);
		ck_assert_uint_eq(rest.all.size, run.all.size - run.at_cut);
		if (rest.all.size > 0)
			ck_assert_int_eq(memcmp(rest.all.bytes, run.all.bytes + run.at_cut, rest.all.size), 0);
		byte_buffer_free(&run.all);
		byte_buffer_free(&rest.all);
	}
}
END_TEST

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
	random_state = random_state * 2654435761u | 1;
	printf("seed state %llu\n", (unsigned long long)random_state);
	Suite *suite = suite_create("file source");
	TCase *tests = tcase_create("file source");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, files_do_not_show);
	tcase_add_test(tests, any_cut_can_be_gone_on_from);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
