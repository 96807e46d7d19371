/* bench_state.c - the state on disk at size: how long the stream stands still for a snapshot, how long one
 * takes, how long a start from it takes; verified by memcmp, then timed.
 *
 *   bench_state [EDGES [THRESHOLD [FOLDER]]]       17,000,000, 0.03, a temporary one
 *
 * The graph is generated, seeded, by Gowalla's laws: users have Pareto degrees from 8 on with a mean of 27,
 * items such with a mean of 20, joined at random (configuration model; a pair drawn twice is one edge), and
 * all embeddings are flushed. The same EDGES, THRESHOLD and FOLDER find what an earlier run has made. */
#include "base/clock.h"
#include "base/huge.h"
#include "graph-updater/export.h"
#include "graph-updater/snapshot.h"
#include "graph-updater/snapshot_child.h"

#include <math.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEGREE_MIN = 8, ROUNDS = 5, STREAM_BATCH = 256, THREADS = 2, GATHER_PAGES = 4 };
#define USER_EXPONENT 1.42      /* mean 27.1 of 8 a / (a - 1) */
#define ITEM_EXPONENT 1.68      /* mean 19.8 */

static uint64_t random_state = 20261124;

static uint32_t random_below(uint32_t n)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

static void must(enum status status, const struct error *error)
{
	if (status) {
		fprintf(stderr, "%s: %s\n", status_name(status), error->text);
		exit(1);
	}
}

static double ms_since(int64_t start_ns)
{
	return (double)(clock_steady_ns() - start_ns) / 1e6;
}

static double cpu_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static double resident_mib(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long total = 0, resident = 0;

	if (file && fscanf(file, "%ld %ld", &total, &resident) != 2)
		resident = 0;
	if (file)
		fclose(file);
	return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

/* [count] ends of edges: node numbers, each as often as its degree. */
static uint32_t *draw_ends(size_t count, double exponent, uint32_t *nodes)
{
	uint32_t *ends = malloc(count * sizeof *ends);
	size_t at = 0;

	for (*nodes = 0; at < count; ++*nodes) {
		double u = ((double)random_below(1 << 30) + 1) / (1 << 30);
		double degree = DEGREE_MIN * pow(u, -1 / exponent), most = 2000 + (double)count / 2000;
		for (uint32_t d = (uint32_t)(degree < most ? degree : most); d > 0 && at < count; d--)
			ends[at++] = *nodes;
	}
	for (size_t n = count - 1; n > 0; n--) {
		size_t other = random_below((uint32_t)n + 1);
		uint32_t swap = ends[n];
		ends[n] = ends[other];
		ends[other] = swap;
	}
	return ends;
}

static void apply(struct updater *updater, uint32_t user, uint32_t item, int64_t time_ms)
{
	char user_name[16], item_name[16];
	struct event event = {.type = RECORD_INTERACTION};
	struct error error = {0};

	event.interaction = (struct interaction_event){
		.user_id = {user_name, (size_t)snprintf(user_name, sizeof user_name, "%u", user)},
		.item_id = {item_name, (size_t)snprintf(item_name, sizeof item_name, "i%u", item)},
		.kind = KIND_RATE,
		.has_rating = true,
		.rating = (float)(1 + random_below(5)),
		.event_time_ms = time_ms,
	};
	must(updater_apply(updater, &event, &error), &error);
}

static struct updater_options options_of(size_t edges, double threshold)
{
	struct updater_options options;

	updater_options_defaults(&options);
	options.threshold = threshold;
	options.users_max = options.items_max = (uint32_t)(edges / 8 + 100000);
	return options;
}

/* Everything in one flush, then the flush rule is the usual one. */
static struct updater *generate(size_t edges, double threshold)
{
	struct updater_options options = options_of(edges, threshold);
	struct updater *updater = NULL;
	struct error error = {0};
	uint32_t users, items, *from = draw_ends(edges, USER_EXPONENT, &users),
		*to = draw_ends(edges, ITEM_EXPONENT, &items);
	int64_t start_ns = clock_steady_ns();

	options.flush_events = UINT32_MAX;
	must(updater_create(&options, &updater, &error), &error);
	for (size_t e = 0; e < edges; e++) {
		apply(updater, from[e], to[e], (int64_t)e * 1000);
		if (e % 1000000 == 999999)
			fprintf(stderr, "generating: %zu of %zu edges, %.0f s\n", e + 1, edges,
				ms_since(start_ns) / 1000);
	}
	must(gcn_flush(updater->gcn, &error), &error);
	updater->events_since_flush = 0;
	updater->options.flush_events = STREAM_BATCH;
	free(from);
	free(to);
	return updater;
}

static struct updater *restore(const struct updater_options *options, const char *folder, double *ms)
{
	struct updater *updater = NULL;
	struct error error = {0};
	const struct position *positions;
	size_t count;
	int64_t start_ns = clock_steady_ns();
	double start_cpu_ms = cpu_ms();

	must(updater_create(options, &updater, &error), &error);
	must(updater_restore(updater, folder, INT64_MAX, &positions, &count, &error), &error);
	*ms = ms_since(start_ns);
	printf("  start: %.0f ms, %.0f ms of processor time\n", *ms, cpu_ms() - start_cpu_ms);
	return updater;
}

static void assert_same_files(const char *a, const char *b)
{
	char command[1024];

	snprintf(command, sizeof command, "cmp -- '%s' '%s'", a, b);
	if (system(command)) {
		fprintf(stderr, "the restored state is not the one that was written\n");
		exit(1);
	}
}

static int ascending(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

/* Events as they would come: users and items drawn like the edges are, by a fresh seed. */
static void stream(struct updater *updater, uint32_t events)
{
	uint32_t users = ids_end(updater->users.table), items = ids_end(updater->items.table);

	for (uint32_t e = 0; e < events; e++)
		apply(updater, random_below(users), random_below(items), updater->clock_ms + 10);
}

static void measure_snapshots(struct updater *updater, const char *folder)
{
	double pauses[ROUNDS], writes[ROUNDS], before, beside, start_cpu_ms, gather_cpu_ms;
	struct error error = {0};

	stream(updater, 20 * STREAM_BATCH);
	for (int round = 0; round < ROUNDS; round++) {
		struct snapshot_child_options options = {.folder = folder, .oldest_unanswered_ms = INT64_MAX,
							 .lock_fd = -1};
		struct snapshot_child *child = NULL;
		struct huge_gather *gather;
		enum status status = STATUS_OK;
		uint32_t events = 0, steps;
		int64_t start_ns = clock_steady_ns();
		stream(updater, 20 * STREAM_BATCH);
		before = 20 * STREAM_BATCH / ms_since(start_ns);
		start_ns = clock_steady_ns();
		start_cpu_ms = cpu_ms();
		must(snapshot_child_start(updater, &options, &child, &error), &error);
		start_cpu_ms = cpu_ms() - start_cpu_ms;
		pauses[round] = (double)snapshot_child_pause_ns(child) / 1e6;
		for (; !snapshot_child_over(&child, 0, &status, &error); events += STREAM_BATCH)
			stream(updater, STREAM_BATCH);
		must(status, &error);
		writes[round] = ms_since(start_ns);
		gather = huge_gather_begin();
		gather_cpu_ms = cpu_ms();
		for (steps = 1; huge_gather_some(&gather, GATHER_PAGES); steps++)
			;
		gather_cpu_ms = cpu_ms() - gather_cpu_ms;
		beside = events / writes[round];
		printf("  snapshot %d: stood still %.1f ms (%.1f ms of processor time), written in %.0f ms; %.0f events/ms "
		       "before, %.0f beside; huge pages gathered in %u steps of %.2f ms of processor time\n", round + 1,
		       pauses[round], start_cpu_ms, writes[round], before, beside, steps, gather_cpu_ms / steps);
	}
	qsort(pauses, ROUNDS, sizeof *pauses, ascending);
	qsort(writes, ROUNDS, sizeof *writes, ascending);
	printf("snapshot pause: median %.1f ms, worst %.1f ms; written in %.0f ms (median)\n", pauses[ROUNDS / 2],
	       pauses[ROUNDS - 1], writes[ROUNDS / 2]);
}

static void measure_export(const struct updater *updater, const char *folder, struct pool *threads)
{
	static const struct { enum export_what what; bool items; const char *name; } kinds[] = {
		{EXPORT_EMBEDDINGS, false, "embeddings of users"}, {EXPORT_EMBEDDINGS, true, "embeddings of items"},
		{EXPORT_SEEDS, true, "seeds"}, {EXPORT_GRAPH, false, "graph"}};

	for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
		char name[512], path[600];
		struct export_options options = {.what = kinds[k].what, .items = kinds[k].items, .name = name,
						 .threads = threads};
		struct error error = {0};
		uint64_t rows = 0;
		int64_t start_ns = clock_steady_ns();
		double start_cpu_ms = cpu_ms();
		snprintf(name, sizeof name, "%s/bench-export", folder);
		must(export_state(updater, &options, &rows, &error), &error);
		printf("export %s: %llu rows in %.0f ms, %.0f ms of processor time\n", kinds[k].name,
		       (unsigned long long)rows, ms_since(start_ns), cpu_ms() - start_cpu_ms);
		for (const char *const *ending = (const char *const[]){"npy", "ids", "tsv", NULL}; *ending; ending++) {
			snprintf(path, sizeof path, "%s.%s", name, *ending);
			unlink(path);
		}
	}
}

int main(int argc, char **argv)
{
	size_t edges = argc > 1 ? strtoull(argv[1], NULL, 10) : 17000000;
	double threshold = argc > 2 ? strtod(argv[2], NULL) : 0.03, ms[3];
	char folder[256], first[300], again[300];
	struct updater_options options = options_of(edges, threshold);
	struct updater *updater = NULL;
	struct error error = {0};
	struct graph_counts counts;
	struct pool *threads = NULL;

	if (argc > 3)
		snprintf(folder, sizeof folder, "%s/%zu-%g", argv[3], edges, threshold);
	else
		snprintf(folder, sizeof folder, "/tmp/exitpoll-bench-state-%d", (int)getpid());
	if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
		perror(folder);
		return 73;      /* now, and not after a minute of making edges */
	}
	snprintf(first, sizeof first, "%s/snapshot-%zu.snap", folder, edges);
	snprintf(again, sizeof again, "%s/again", folder);
	if (access(first, R_OK)) {
		updater = generate(edges, threshold);
		must(updater_save(updater, folder, NULL, 0, INT64_MAX, &error), &error);
		updater_destroy(updater);
	}
	options.flush_events = STREAM_BATCH;
	for (int round = 0; round < 3; round++) {
		updater = restore(&options, folder, &ms[round]);
		if (round < 2)
			updater_destroy(updater);
	}
	qsort(ms, 3, sizeof *ms, ascending);
	counts = graph_get_counts(updater->graph);
	printf("%zu edges, %u users, %u items, threshold %g: %.0f MiB resident\n", (size_t)counts.edges,
	       ids_count(updater->users.table), ids_count(updater->items.table), threshold, resident_mib());
	must(snapshot_write(updater, again, NULL, 0, NULL, &error), &error);
	assert_same_files(first, again);
	unlink(again);
	printf("start from the snapshot: %.0f ms (median), equal to what was written by memcmp\n", ms[1]);
	must(pool_create(THREADS, &threads, &error), &error);
	measure_export(updater, folder, threads);
	snprintf(folder + strlen(folder), sizeof folder - strlen(folder), "/beside");
	measure_snapshots(updater, folder);
	updater_destroy(updater);
	pool_destroy(threads);
	return 0;
}
