/* bench_enrich.c - what enriching costs, on Amazon Beauty (TEST_SHARED_DIR): the newest fifth of the rows
 * become impressions of 8 candidates before their own interaction is applied, as a backfill does; then
 * impressions of 32 candidates with 100,000 users: each searching alone, with nine events between two of them
 * at full rate, and sharing scans.
 *
 * Verified before timed: two updaters with different internal ids must agree bit by bit, and counts and
 * means must equal a recount of the rows. argv[1]: 1 or 2, that part alone. One thread. */
#include "base/clock.h"
#include "graph-updater/updater.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 1 << 16, ROWS_MAX = 1 << 21, CANDIDATES_MAX = 32, LOOK_AHEAD = 256, VERIFIED = 300, MANY = 10000 };

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, error.text);    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

struct row {
	char user[24], item[16];
	double rating;
	int64_t time_ms;
};

static struct error error;
static struct row *rows;
static size_t rows_count;
static uint64_t state = 20261124;

static uint32_t below(uint32_t bound)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 33) % bound);
}

static int by_time(const void *a, const void *b)
{
	const struct row *left = a, *right = b;
	int order = (left->time_ms > right->time_ms) - (left->time_ms < right->time_ms);
	order = order ? order : strcmp(left->user, right->user);
	return order ? order : strcmp(left->item, right->item);
}

/* copies: each user comes so many times under another name, on the same days. */
static void read_rows(unsigned copies)
{
	char line[LINE];
	FILE *file = popen("xz -dc " TEST_SHARED_DIR "/data/amazon-beauty/beauty2014_5core_interactions.tsv.xz", "r");

	rows_count = 0;
	MUST(file && fgets(line, sizeof line, file));
	while (fgets(line, sizeof line, file)) {
		struct row row;
		long long seconds;
		if (sscanf(line, "%19s %15s %lf %lld", row.user, row.item, &row.rating, &seconds) != 4)
			continue;
		row.time_ms = seconds * 1000;
		for (unsigned copy = 0; copy < copies && rows_count < ROWS_MAX; copy++) {
			rows[rows_count] = row;
			if (copy)
				snprintf(rows[rows_count].user + strlen(row.user), 4, "-%u", copy % 100);
			rows_count++;
		}
	}
	MUST(pclose(file) == 0 && rows_count > 100000);
	qsort(rows, rows_count, sizeof *rows, by_time);
}

static void apply_catalog(struct updater *updater)
{
	char line[LINE];
	FILE *file = popen("xz -dc " TEST_SHARED_DIR "/data/amazon-beauty/beauty2014_5core_items.tsv.xz", "r");

	MUST(file && fgets(line, sizeof line, file));
	while (fgets(line, sizeof line, file)) {
		char *title = strchr(line, '\t'), brand[64] = "";
		struct attribute attribute = {TEXT_LITERAL("brand"), {brand, 0}};
		if (!title)
			continue;
		*title++ = 0;
		title[strcspn(title, "\n")] = 0;
		sscanf(title, "%63s", brand);
		attribute.value.size = strlen(brand);
		struct event event = {.type = RECORD_ITEM, .item = {
			.item_id = text_of(line), .title = text_of(title), .attributes = &attribute,
			.attributes_count = 1, .event_time_ms = 0,
		}};
		MUST(updater_apply(updater, &event, &error) == STATUS_OK);
	}
	MUST(pclose(file) == 0);
}

static void apply_row(struct updater *updater, const struct row *row)
{
	struct event event = {.type = RECORD_INTERACTION, .interaction = {
		.user_id = text_of(row->user), .item_id = text_of(row->item), .kind = KIND_RATE,
		.has_rating = true, .rating = row->rating, .event_time_ms = row->time_ms,
	}};
	MUST(updater_apply(updater, &event, &error) == STATUS_OK);
}

static struct updater *create(uint64_t id_seed)
{
	static const char *const attributes[] = {"brand"};
	struct updater_options options;
	struct updater *updater;

	updater_options_defaults(&options);
	options.id_seed = id_seed;
	options.flush_events = LOOK_AHEAD;
	options.attributes = attributes;
	options.attributes_count = 1;
	MUST(updater_create(&options, &updater, &error) == STATUS_OK);
	return updater;
}

/* The row's item and others sampled by popularity among earlier rows. */
static void impression_of(size_t row, uint32_t count, struct text_view *candidates,
			  struct impression_event *out)
{
	for (uint32_t c = 0; c < count; c++)
		candidates[c] = text_of(c ? rows[below((uint32_t)row)].item : rows[row].item);
	*out = (struct impression_event){
		.impression_id = TEXT_LITERAL("i"), .user_id = text_of(rows[row].user),
		.candidates = candidates, .candidates_count = count, .event_time_ms = rows[row].time_ms,
	};
}

/* ---- verification ---- */

static float number(const struct updater *updater, const struct scoring_request *request, size_t candidate,
		    const char *name)
{
	size_t count;
	const char *const *names = candidate == SIZE_MAX ? updater_user_statistics_names(updater, &count) :
				   updater_candidate_statistics_names(updater, &count);

	for (size_t k = 0; k < count; k++)
		if (strcmp(names[k], name) == 0)
			return candidate == SIZE_MAX ? request->user_statistics[k] :
			       request->candidates[candidate].statistics[k];
	MUST(!"a statistic has this name");
	return 0;
}

/* Rows before `row` have been applied, but impressions see only earlier days in their lists. */
static void recount(const struct updater *updater, const struct scoring_request *request, size_t row)
{
	double sum = 0, user_sum = 0, user_n = 0, general;
	size_t history = 0;

	for (size_t r = 0; r < row; r++) {
		double response = (rows[r].rating - 1) / 4;
		sum += response;
		if (strcmp(rows[r].user, rows[row].user) == 0) {
			user_sum += response;
			user_n++;
			history += rows[r].time_ms < rows[row].time_ms;
		}
	}
	general = (sum + 35) / ((double)row + 50);
	MUST(fabs(number(updater, request, SIZE_MAX, "user_mean") - (user_sum + 5 * general) / (user_n + 5)) < 1e-5);
	MUST(request->history_count == (history < 15 ? history : 15));
	for (size_t c = 0; c < request->candidates_count; c++) {
		double item_sum = 0, item_n = 0;
		for (size_t r = 0; r < row; r++)
			if (text_equal(request->candidates[c].item_id, text_of(rows[r].item))) {
				item_sum += (rows[r].rating - 1) / 4;
				item_n++;
			}
		MUST(fabs(number(updater, request, c, "item_mean") -
			  (item_sum + 3 * general) / (item_n + 3)) < 1e-5);
		MUST(fabs(number(updater, request, c, "item_log_count") - log1p(item_n)) < 1e-5);
	}
}

static void verify(size_t first, struct arena *arena, struct arena *other_arena)
{
	struct updater *updater = create(1), *other = create(77);
	size_t from = 0, verified = 0, stride = (rows_count - first) / VERIFIED;

	apply_catalog(updater);
	apply_catalog(other);
	for (size_t row = first; row < rows_count; row += stride) {
		struct text_view candidates[8];
		struct impression_event impression;
		struct scoring_request a, b;

		for (; from < row; from++) {
			apply_row(updater, &rows[from]);
			apply_row(other, &rows[from]);
		}
		impression_of(row, 8, candidates, &impression);
		arena_reset(arena);
		arena_reset(other_arena);
		MUST(updater_enrich(updater, &impression, false, arena, &a, &error) == STATUS_OK);
		MUST(updater_enrich(other, &impression, false, other_arena, &b, &error) == STATUS_OK);
		MUST(a.history_count == b.history_count && a.examples_count == b.examples_count);
		MUST(memcmp(a.user_statistics, b.user_statistics, a.user_statistics_count * sizeof(float)) == 0);
		for (size_t c = 0; c < 8; c++)
			MUST(memcmp(a.candidates[c].statistics, b.candidates[c].statistics,
				    a.candidates[c].statistics_count * sizeof(float)) == 0);
		for (size_t e = 0; e < a.examples_count; e++)
			MUST(memcmp(&a.examples[e].similarity, &b.examples[e].similarity, sizeof(float)) == 0 &&
			     a.examples[e].entries_count == b.examples[e].entries_count);
		recount(updater, &a, row);
		verified++;
	}
	printf("verified: %zu requests equal for other internal ids, counts and means recounted\n", verified);
	updater_destroy(updater);
	updater_destroy(other);
}

/* ---- timing ---- */

/* On a busy machine the wall clock shows the neighbours, too. */
static int64_t thread_cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void time_many(struct updater *updater, struct arena *arena)
{
	static struct text_view candidates[MANY];
	struct impression_event impression;
	struct scoring_request request;
	int64_t begin;

	impression_of(rows_count - 1, MANY, candidates, &impression);
	arena_reset(arena);
	begin = thread_cpu_ns();
	MUST(updater_enrich(updater, &impression, false, arena, &request, &error) == STATUS_OK);
	printf("  one impression of %d candidates: %.1f ms of CPU, %.1f MB of arena\n", MANY,
	       (double)(thread_cpu_ns() - begin) / 1e6, (double)arena_used(arena) / 1e6);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;
	return (*left > *right) - (*left < *right);
}

static void report(const char *what, uint64_t *ns, size_t count)
{
	qsort(ns, count, sizeof *ns, by_value);
	printf("  %-34s p50 %7.1f us  p99 %7.1f us  max %8.1f us\n", what, (double)ns[count / 2] / 1e3,
	       (double)ns[count * 99 / 100] / 1e3, (double)ns[count - 1] / 1e3);
}

/* rows before `first` are state; then at most `most` impressions, each followed by the interactions from its
 * own to the next one's: `events` of them. */
static void time_stream(size_t first, size_t most, uint32_t width, size_t events, bool prepared,
			struct arena *arena)
{
	struct updater *updater = create(1);
	struct updater_stats before, after;
	uint64_t *enrich_ns = malloc(most * sizeof *enrich_ns), *whole_ns = malloc(most * sizeof *whole_ns);
	uint64_t *cpu_ns = malloc(most * sizeof *cpu_ns);
	size_t there = (rows_count - first) / events, count = most < there ? most : there;
	size_t last = first + count * events;
	int64_t begin, end, event_ns = 0;

	MUST(enrich_ns && whole_ns && cpu_ns);
	apply_catalog(updater);
	for (size_t row = 0; row < first; row++)
		apply_row(updater, &rows[row]);
	updater_get_stats(updater, &before);
	begin = clock_steady_ns();
	for (size_t i = 0; i < count; i++) {
		size_t row = first + i * events;
		struct text_view candidates[CANDIDATES_MAX], users[LOOK_AHEAD];
		struct impression_event impression;
		struct scoring_request request;
		int64_t start, cpu_start;

		/* The stream's batch is known: everybody until the next flush shares the scans. */
		if (prepared && (updater_events_to_flush(updater) == LOOK_AHEAD || row == first)) {
			size_t ahead = updater_events_to_flush(updater);
			ahead = ahead < last - row ? ahead : last - row;
			for (size_t u = 0; u < ahead; u++)
				users[u] = text_of(rows[row + u].user);
			updater_prepare(updater, users, ahead);
		}
		impression_of(row, width, candidates, &impression);
		arena_reset(arena);
		updater_get_stats(updater, &after);
		uint64_t enriched = after.enrich_ns;
		cpu_start = thread_cpu_ns();
		start = clock_steady_ns();
		MUST(updater_enrich(updater, &impression, false, arena, &request, &error) == STATUS_OK);
		whole_ns[i] = (uint64_t)(clock_steady_ns() - start);
		cpu_ns[i] = (uint64_t)(thread_cpu_ns() - cpu_start);
		updater_get_stats(updater, &after);
		enrich_ns[i] = after.enrich_ns - enriched;
		start = clock_steady_ns();
		for (size_t event = 0; event < events; event++)
			apply_row(updater, &rows[row + event]);
		event_ns += clock_steady_ns() - start;
	}
	end = clock_steady_ns();
	updater_get_stats(updater, &after);
	printf("%llu users, %zu impressions of %u candidates%s: %.0f impressions/s with their events\n",
	       (unsigned long long)after.users, count, width, prepared ? ", scans shared" : "",
	       (double)count * 1e9 / (double)(end - begin));
	report("enrich without the scan", enrich_ns, count);
	report("enrich with the scan", whole_ns, count);
	report("CPU of the same", cpu_ns, count);
	printf("  %llu scans, %.1f us each; %.1f us an impression in all\n",
	       (unsigned long long)(after.scans - before.scans),
	       (double)(after.scan_ns - before.scan_ns) / 1e3 / (double)(after.scans - before.scans + !after.scans),
	       (double)(end - begin) / 1e3 / (double)count);
	if (events > 1)
		printf("  %zu events between impressions, at %.0f a second with their flushes\n", events,
		       (double)(count * events) * 1e9 / (double)event_ns);
	time_many(updater, arena);
	printf("  memory of the whole state: %.1f MB\n", (double)after.memory_bytes / 1e6);
	free(cpu_ns);
	free(enrich_ns);
	free(whole_ns);
	updater_destroy(updater);
}

int main(int argc, char **argv)
{
	struct arena *arena = arena_create(64 << 20), *other_arena = arena_create(64 << 20);
	FILE *there = fopen(TEST_SHARED_DIR "/data/amazon-beauty/beauty2014_5core_interactions.tsv.xz", "r");

	if (!there) {
		printf("skipped: no data at %s\n", TEST_SHARED_DIR);
		return 0;
	}
	fclose(there);
	rows = malloc(ROWS_MAX * sizeof *rows);
	MUST(rows && arena && other_arena);
	read_rows(1);
	verify(rows_count / 5 * 4, arena, other_arena);
	if (argc < 2 || strcmp(argv[1], "2") != 0) {
		time_stream(rows_count / 5 * 4, 20000, 8, 1, false, arena);
		time_stream(rows_count / 5 * 4, rows_count, 8, 1, true, arena);
		time_stream(rows_count / 5 * 4, 20000, 32, 1, true, arena);
	}
	if (argc < 2 || strcmp(argv[1], "1") != 0) {
		read_rows(5);
		time_stream(rows_count / 5 * 4, 20000, 32, 9, false, arena);
		time_stream(rows_count / 5 * 4, 20000, 32, 1, true, arena);
	}
	free(rows);
	arena_destroy(arena);
	arena_destroy(other_arena);
	return 0;
}
