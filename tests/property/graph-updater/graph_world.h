/* graph_world.h - for the property tests of this folder: random events, and ids, tombstones, graph and
 * gcn put together as updater.c does. Everything follows from a seed that the failing test prints. */
#ifndef EXITPOLL_TESTS_PROPERTY_GRAPH_UPDATER_GRAPH_WORLD_H
#define EXITPOLL_TESTS_PROPERTY_GRAPH_UPDATER_GRAPH_WORLD_H

#include "graph-updater/gcn.h"
#include "graph-updater/graph.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct draw { uint64_t state; };

static inline uint32_t draw_below(struct draw *draw, uint32_t n)
{
	uint64_t z = draw->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

static inline void must(enum status status, const struct error *error, uint64_t seed)
{
	/* Not an assertion unless it fails: each one writes to a file, and this is called a million times. */
	if (status)
		ck_abort_msg("seed %llu: %s: %s", (unsigned long long)seed, status_name(status), error->text);
}

/* Ids whose byte order differs from the order of their numbers. */
struct names {
	char user[512][16], item[512][16];
};

static inline void names_fill(struct names *names)
{
	for (unsigned n = 0; n < 512; n++) {
		snprintf(names->user[n], sizeof names->user[n], "u%u", n * 7919 % 100003);
		snprintf(names->item[n], sizeof names->item[n], "%x-item", n * 104729 % 65521);
	}
}

/* NAME.npy and NAME.ids as numpy would write them, of the first `count` names. */
static inline void write_seeds(const char *name, char (*ids)[16], unsigned count, uint32_t dimensions,
			       struct draw *draw)
{
	char path[128], header[118];
	FILE *array, *lines;
	int used = snprintf(header, sizeof header,
			    "{'descr': '<f4', 'fortran_order': False, 'shape': (%u, %u), }", count, dimensions);

	snprintf(path, sizeof path, "%s.npy", name);
	array = fopen(path, "wb");
	snprintf(path, sizeof path, "%s.ids", name);
	lines = fopen(path, "wb");
	ck_assert(array && lines);
	memset(header + used, ' ', sizeof header - (size_t)used);
	header[sizeof header - 1] = '\n';
	fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, array);
	fwrite(header, 1, sizeof header, array);
	for (unsigned n = 0; n < count; n++) {
		fprintf(lines, "%s\n", ids[n]);
		for (uint32_t i = 0; i < dimensions; i++) {
			float value = (float)draw_below(draw, 2000001) / 1e6F - 1;
			/* Some rows at the ends of the range, some nothing at all. */
			value = n % 7 == 3 ? (value > 0 ? 1 : -1) : n % 11 == 5 ? 0 : value * value * value;
			fwrite(&value, sizeof value, 1, array);
		}
	}
	ck_assert(!fclose(array) && !fclose(lines));
}

static inline void remove_seeds(const char *name)
{
	char path[128];

	for (int n = 0; n < 2; n++) {
		snprintf(path, sizeof path, "%s.%s", name, n ? "ids" : "npy");
		remove(path);
	}
}

/* Of three quarters of the names that random_event() draws with up to `count`. */
static inline struct seeds *trained_seeds(char (*ids)[16], unsigned count, uint32_t dimensions, uint64_t seed)
{
	char name[64];
	struct seeds *seeds = NULL;
	struct error error = {0};

	snprintf(name, sizeof name, "/tmp/exitpoll-seeds-%d", (int)getpid());
	write_seeds(name, ids, count - count / 4, dimensions, &(struct draw){seed});
	must(seeds_open(name, dimensions, &seeds, &error), &error, seed);
	remove_seeds(name);
	return seeds;
}

struct world_options {
	struct graph_options graph;
	struct gcn_options gcn;
	int64_t tombstone_ms;
	uint64_t id_seed;
};

struct world {
	struct user_ids users;
	struct item_ids items;
	struct tombstones *tombstones;
	struct graph *graph;
	struct gcn *gcn;
	struct gcn_options gcn_options;
	int64_t clock_ms;
};

static inline struct world_options world_defaults(void)
{
	return (struct world_options){
		.graph = {.users_max = 100000, .items_max = 100000, .edges_max = 1000000, .rating_min = 1,
			  .rating_max = 5},
		.gcn = {.dimensions = 64, .layers = 3, .users_max = 100000, .items_max = 100000},
		.tombstone_ms = INT64_C(1) << 50,
	};
}

static inline struct world world_create(struct world_options options, uint64_t seed)
{
	struct world world = {.clock_ms = INT64_MIN};
	struct error error = {0};

	must(ids_create("users", options.graph.users_max, options.id_seed, &world.users.table, &error),
	     &error, seed);
	must(ids_create("items", options.graph.items_max, options.id_seed, &world.items.table, &error),
	     &error, seed);
	must(tombstones_create(options.tombstone_ms, 1000000, &world.tombstones, &error), &error, seed);
	options.graph.users = world.users;
	options.graph.items = world.items;
	options.graph.tombstones = world.tombstones;
	must(graph_create(&options.graph, &world.graph, &error), &error, seed);
	options.gcn.users = world.users;
	options.gcn.items = world.items;
	options.gcn.graph = world.graph;
	must(gcn_create(&options.gcn, &world.gcn, &error), &error, seed);
	must(graph_listen(world.graph, gcn_listener(world.gcn), &error), &error, seed);
	world.gcn_options = options.gcn;
	return world;
}

static inline void world_destroy(struct world *world)
{
	gcn_destroy(world->gcn);
	graph_destroy(world->graph);
	tombstones_destroy(world->tombstones);
	ids_destroy(world->items.table);
	ids_destroy(world->users.table);
}

static inline enum graph_effect world_apply(struct world *world, const struct interaction_event *event,
					    uint64_t seed)
{
	struct error error = {0};
	enum graph_effect effect;

	if (event->event_time_ms > world->clock_ms)
		world->clock_ms = event->event_time_ms;
	must(graph_apply(world->graph, event, world->clock_ms, &effect, &error), &error, seed);
	return effect;
}

/* One random event: mostly in order, some late, some at one time, all kinds. */
struct mix { unsigned users, items, views, removals, erasures; int64_t *now_ms; };     /* parts of 1000 */

static inline struct interaction_event random_event(struct draw *draw, const struct names *names,
						    struct mix mix)
{
	struct interaction_event event = {0};
	uint32_t user = draw_below(draw, mix.users), item = draw_below(draw, mix.items),
		kind = draw_below(draw, 1000);

	/* A few hubs. */
	if (draw_below(draw, 4) == 0)
		item = draw_below(draw, mix.items / 10 + 1);
	if (draw_below(draw, 3))
		*mix.now_ms += draw_below(draw, 1000);
	event.event_time_ms = draw_below(draw, 5) ? *mix.now_ms : draw_below(draw, (uint32_t)*mix.now_ms + 1);
	event.user_id = text_of(names->user[user]);
	event.item_id = text_of(names->item[item]);
	if (kind < mix.erasures) {
		event.kind = KIND_REMOVE;
		event.item_id = (struct text_view){NULL, 0};
	} else if (kind < mix.erasures + mix.removals) {
		event.kind = KIND_REMOVE;
	} else if (kind < mix.erasures + mix.removals + mix.views) {
		event.kind = KIND_VIEW;
	} else {
		event.kind = draw_below(draw, 4) ? KIND_RATE : draw_below(draw, 2) ? KIND_CLICK
			: KIND_PURCHASE;
		event.has_rating = event.kind == KIND_RATE || draw_below(draw, 8) == 0;
		event.rating = event.has_rating ? 0.5 * (double)draw_below(draw, 12)
			: 0;  /* some off the scale */
	}
	return event;
}

#endif
