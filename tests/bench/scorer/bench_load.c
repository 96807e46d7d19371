/* bench_load - what the engine does over the number of candidates, the prefix, the depth of exits, and load.
 *
 *     bench_load [threads] > load.tsv && ops/experiments/plot_scorer.py load.tsv FOLDER
 *
 * A random model of SmolLM2-135M's shape, so it needs no file. Lines are: figure, x, y, unit. Latency comes from
 * an open-loop generator: arrivals have exponential gaps and do not wait for answers, and a request's latency
 * runs from when it was to arrive, so that a stall counts for all who came meanwhile. What has arrived is scored
 * together, as in the stream. Verified first: a request has the same bits alone and with its neighbours. */
#include "tests/bench/scorer/rig.h"
#include "tests/unit/scorer/random_model.h"

#include <math.h>

static const struct random_shape smollm2 = {576, 1536, 30, 9, 3, 64, 49152, false, ROPE_SCALING_NONE};
enum { SUFFIX = 32, CANDIDATES_MAX = 128, PREFIX_MAX = 2048, ROWS = PREFIX_MAX + CANDIDATES_MAX * SUFFIX };
enum { LAYERS = 30, REQUESTS = 60, TOGETHER = 8, LOAD_PREFIX = 128, LOAD_SUFFIX = 16, LOAD_CANDIDATES = 8 };

static int32_t prefix_ids[PREFIX_MAX], suffix_ids[CANDIDATES_MAX][SUFFIX];
static float scores[TOGETHER * CANDIDATES_MAX];

static void add_request(struct rig *rig, uint32_t prefix, uint32_t candidates, uint32_t suffix, uint32_t number)
{
	batch_add_prefix(rig->batch, prefix_ids + number % 7, prefix);
	for (uint32_t c = 0; c < candidates; c++)
		batch_add_suffix(rig->batch, suffix_ids[c], suffix, number * candidates + c, INT64_MAX);
}

static double request_seconds(struct rig *rig, uint32_t prefix, uint32_t candidates)
{
	double begin = wall_seconds();
	add_request(rig, prefix, candidates, SUFFIX, 0);
	rig_run(rig, scores);
	return wall_seconds() - begin;
}

static void line(const char *figure, double x, double y, const char *unit)
{
	printf("%s\t%g\t%.6g\t%s\n", figure, x, y, unit);
	fflush(stdout);
}

static void verify(struct rig *rig)
{
	float alone[LOAD_CANDIDATES];
	add_request(rig, LOAD_PREFIX, LOAD_CANDIDATES, LOAD_SUFFIX, 0);
	rig_run(rig, scores);
	memcpy(alone, scores, sizeof alone);
	for (uint32_t i = 0; i < TOGETHER; i++)
		add_request(rig, LOAD_PREFIX, LOAD_CANDIDATES, LOAD_SUFFIX, i);
	rig_run(rig, scores);
	if (memcmp(alone, scores, sizeof alone))
		rig_fail(rig, "neighbours changed the bits of a request");
}

/* The k-th arrival is at times[k] seconds. */
static void draw_arrivals(double per_second, double times[REQUESTS])
{
	uint64_t state = 88172645463325252u;
	double now = 0;
	for (int i = 0; i < REQUESTS; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		now -= log(((double)(state >> 11) + 1) * 0x1p-53) / per_second;
		times[i] = now;
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void latencies(struct rig *rig, double capacity, double load)
{
	double arrivals[REQUESTS], latency[REQUESTS];
	char figure[48];
	draw_arrivals(load * capacity, arrivals);
	double begin = wall_seconds();
	for (int done = 0; done < REQUESTS;) {
		double wait = arrivals[done] - (wall_seconds() - begin);
		if (wait > 0) {
			struct timespec pause = {(time_t)wait, (long)(fmod(wait, 1) * 1e9)};
			nanosleep(&pause, NULL);
			continue;
		}
		int count = 0;
		double now = wall_seconds() - begin;
		for (; count < TOGETHER && done + count < REQUESTS && arrivals[done + count] <= now; count++)
			add_request(rig, LOAD_PREFIX, LOAD_CANDIDATES, LOAD_SUFFIX, (uint32_t)count);
		rig_run(rig, scores);
		now = wall_seconds() - begin;
		for (int i = 0; i < count; i++)
			latency[done + i] = now - arrivals[done + i];
		done += count;
	}
	qsort(latency, REQUESTS, sizeof latency[0], by_size);
	snprintf(figure, sizeof figure, "latency_p50");
	line(figure, 100 * load, 1e3 * latency[REQUESTS / 2], "ms");
	line("latency_p99", 100 * load, 1e3 * latency[REQUESTS - 1], "ms");
}

int main(int argc, char **argv)
{
	static const uint32_t candidates[] = {1, 2, 4, 8, 16, 32, 64, 128};
	static const uint32_t prefixes[] = {1, 64, 128, 256, 512, 1024, 2048};
	static const double loads[] = {.5, .8, .95};
	float head[2 * 576];
	struct rig rig = {.name = "bench_load", .norm = head, .vector = head + 576};
	uint32_t threads = argc > 1 ? (uint32_t)atoi(argv[1]) : 2;

	random_fill(5, 2 * 576, .2f, head);
	for (int i = 0; i < PREFIX_MAX; i++)
		prefix_ids[i] = (i * 7919 + 13) % 49152;
	for (int c = 0; c < CANDIDATES_MAX; c++)
		for (int i = 0; i < SUFFIX; i++)
			suffix_ids[c][i] = (c * 104729 + i * 1299709) % 49152;
	struct random_model *model = random_model_create(&smollm2, 1);
	rig_open(&rig, &model->view, ROWS, PREFIX_MAX + SUFFIX, threads, "auto");
	rig_leave_at(&rig, 10);
	verify(&rig);
	fprintf(stderr, "%s\n", backend_cpu.describe(rig.backend));

	rig_leave_at(&rig, LAYERS);
	for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
		line("candidates", candidates[i], candidates[i] / request_seconds(&rig, 512, candidates[i]),
		     "candidates/s");
	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
		line("prefix", prefixes[i], 8 / request_seconds(&rig, prefixes[i], 8), "candidates/s");
	for (uint32_t layer = 5; layer <= LAYERS; layer += 5) {
		rig_leave_at(&rig, layer);
		line("depth", layer, 16 / request_seconds(&rig, 512, 16), "candidates/s");
	}

	rig_leave_at(&rig, 10);
	double begin = wall_seconds();
	for (uint32_t i = 0; i < TOGETHER; i++)
		add_request(&rig, LOAD_PREFIX, LOAD_CANDIDATES, LOAD_SUFFIX, i);
	rig_run(&rig, scores);
	double capacity = TOGETHER / (wall_seconds() - begin);
	line("capacity", TOGETHER, capacity, "requests/s");
	for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++)
		latencies(&rig, capacity, loads[i]);
	rig_close(&rig);
	random_model_destroy(model);
	return 0;
}
