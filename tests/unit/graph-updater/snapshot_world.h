/* snapshot_world.h - for the tests of the state on disk: an updater, a stream of random events for it, files
 * and a folder in memory where that is possible, trained seeds. */
#ifndef EXITPOLL_TESTS_UNIT_GRAPH_UPDATER_SNAPSHOT_WORLD_H
#define EXITPOLL_TESTS_UNIT_GRAPH_UPDATER_SNAPSHOT_WORLD_H

#include "tests/property/graph-updater/graph_world.h"
#include "tests/unit/graph-updater/state_files.h"

#include "graph-updater/snapshot.h"
#include "graph-updater/snapshot_layout.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

static struct names names;
static const char *const attribute_names[] = {"brand"};
static char folder[64], file_a[96], file_b[96];

static inline struct updater_options small_options(void)
{
	struct updater_options options;

	updater_options_defaults(&options);
	options.users_max = 2048;
	options.items_max = 2048;
	options.dimensions = 32;
	options.flush_events = 50;
	options.attributes = attribute_names;
	options.attributes_count = 1;
	return options;
}

static inline struct updater *create(struct updater_options options)
{
	struct updater *updater = NULL;
	struct error error = {0};

	must(updater_create(&options, &updater, &error), &error, 0);
	return updater;
}

struct stream { struct draw draw; int64_t now_ms; char title[32]; struct attribute attribute; };

/* An interaction, or sometimes an item. */
static inline struct event next_event(struct stream *stream)
{
	struct event event = {.type = RECORD_INTERACTION};

	if (draw_below(&stream->draw, 8) == 0) {
		event.type = RECORD_ITEM;
		snprintf(stream->title, sizeof stream->title, "Title %u", draw_below(&stream->draw, 1000));
		stream->attribute = (struct attribute){TEXT_LITERAL("brand"),
						       draw_below(&stream->draw, 2) ? TEXT_LITERAL("a|b")
							       : TEXT_LITERAL("c")};
		event.item = (struct item_event){
			.item_id = text_of(names.item[draw_below(&stream->draw, 60)]),
			.title = text_of(stream->title),
			.attributes = &stream->attribute,
			.attributes_count = draw_below(&stream->draw, 2),
			.event_time_ms = stream->now_ms,
			.deleted = draw_below(&stream->draw, 6) == 0,
		};
		return event;
	}
	event.interaction = random_event(&stream->draw, &names,
					 (struct mix){60, 50, 60, 60, 15, &stream->now_ms});
	return event;
}

static inline void apply_some(struct updater *updater, struct stream *stream, unsigned count)
{
	struct error error = {0};

	for (unsigned n = 0; n < count; n++) {
		struct event event = next_event(stream);
		must(updater_apply(updater, &event, &error), &error, 0);
	}
}

static inline void setup(void)
{
	names_fill(&names);
	/* In memory where that is possible: the tests fsync thousands of times. */
	snprintf(folder, sizeof folder, "%s/exitpoll-snapshot-%d", access("/dev/shm", W_OK) ? "/tmp"
		 : "/dev/shm",
		 (int)getpid());
	snprintf(file_a, sizeof file_a, "%s-a", folder);
	snprintf(file_b, sizeof file_b, "%s-b", folder);
	mkdir(folder, 0700);
}

enum { SEEDS_FILES = 32 };
static char seeds_name[SEEDS_FILES][96];
static unsigned seeds_files;

/* Trained seeds for the first `count` names, gone with the test. */
static inline const char *seeds_of(char (*ids)[16], unsigned count, uint64_t seed)
{
	char *name = seeds_name[seeds_files];

	ck_assert_uint_lt(seeds_files, SEEDS_FILES);
	snprintf(name, sizeof seeds_name[0], "%s-seeds-%u", folder, seeds_files++);
	write_seeds(name, ids, count, small_options().dimensions, &(struct draw){seed});
	return name;
}

static inline void remove_all_seeds(void)
{
	while (seeds_files)
		remove_seeds(seeds_name[--seeds_files]);
}

static inline void teardown(void)
{
	remove_all_seeds();
	clear_folder(folder);
	rmdir(folder);
	unlink(file_a);
	unlink(file_b);
}

/* Equal states give equal bytes. */
static inline void assert_equal_states(const struct updater *a, const struct updater *b)
{
	struct error error = {0};

	must(snapshot_write(a, file_a, NULL, 0, NULL, &error), &error, 0);
	must(snapshot_write(b, file_b, NULL, 0, NULL, &error), &error, 0);
	assert_same_files(file_a, file_b);
}

#endif
