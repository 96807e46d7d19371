/* bench_stream.c - the graph-updater and the stub scorer on a seeded synthetic stream whose degrees
 * follow a power law: events applied, impressions enriched, whole impressions answered. */
#include "ops/cli/bench.h"

#include "base/clock.h"
#include "graph-updater/updater.h"
#include "scorer/scorer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 22363, ITEMS = 12101, EVENTS = 198502, IMPRESSIONS = 4096, CANDIDATES = 8, PREPARE = 64 };

struct stream {
	struct updater *updater;
	struct scorer *scorer;
	struct arena *arena;
	uint64_t random;
	char (*users)[16];              /* [USERS] */
	char (*items)[16];              /* [ITEMS] */
};

/* xorshift64*: a seeded sequence is all that is needed. */
static uint64_t next_random(struct stream *stream)
{
	stream->random ^= stream->random >> 12;
	stream->random ^= stream->random << 25;
	stream->random ^= stream->random >> 27;
	return stream->random * 0x2545F4914F6CDD1DULL;
}

static size_t skewed(struct stream *stream, size_t count)
{
	double uniform = (double)(next_random(stream) >> 11) / 9007199254740992.0;
	return (size_t)(pow(uniform, 2.2) * (double)count);
}

static enum status apply(struct stream *stream, struct error *error)
{
	enum status status = STATUS_OK;
	char title[64];

	for (size_t i = 0; i < ITEMS && status == STATUS_OK; i++) {
		snprintf(title, sizeof title, "brand%zu word%zu thing%zu %zu oz", i % 211, i % 1009, i % 503, i % 16);
		struct event event = {.type = RECORD_ITEM,
				      .item = {.item_id = text_of(stream->items[i]), .title = text_of(title)}};
		status = updater_apply(stream->updater, &event, error);
	}
	for (size_t i = 0; i < EVENTS && status == STATUS_OK; i++) {
		struct event event = {
			.type = RECORD_INTERACTION,
			.interaction = {.user_id = text_of(stream->users[skewed(stream, USERS)]),
					.item_id = text_of(stream->items[skewed(stream, ITEMS)]),
					.kind = KIND_RATE, .has_rating = true,
					.rating = (double)(1 + next_random(stream) % 5),
					.event_time_ms = 1400000000000 + (int64_t)i * 60000},
		};
		status = updater_apply(stream->updater, &event, error);
	}
	return status;
}

static void make_impression(struct stream *stream, struct text_view *candidates,
			    struct impression_event *impression)
{
	for (size_t i = 0; i < CANDIDATES; i++)
		candidates[i] = text_of(stream->items[skewed(stream, ITEMS)]);
	*impression = (struct impression_event){
		.impression_id = TEXT_LITERAL("bench"),
		.user_id = text_of(stream->users[skewed(stream, USERS)]),
		.candidates = candidates,
		.candidates_count = CANDIDATES,
		.event_time_ms = 1400000000000 + (int64_t)EVENTS * 60000,
	};
}

/* Enriches and scores IMPRESSIONS impressions; *first receives the first score, for the comparison of two
 * passes. The seconds of each impression's enrichment alone go to `seconds` if that is not NULL. */
static enum status answer(struct stream *stream, bool prepared, double *seconds, float *first,
			  struct error *error)
{
	struct text_view candidates[PREPARE][CANDIDATES], users[PREPARE];
	struct impression_event impressions[PREPARE];
	struct scoring_request request;
	const struct scoring_request *pointer = &request;
	struct prediction prediction;
	enum status status = STATUS_OK;

	for (size_t at = 0; at < IMPRESSIONS && status == STATUS_OK; at += PREPARE) {
		for (size_t i = 0; i < PREPARE; i++) {
			make_impression(stream, candidates[i], &impressions[i]);
			users[i] = impressions[i].user_id;
		}
		if (prepared)
			updater_prepare(stream->updater, users, PREPARE);
		for (size_t i = 0; i < PREPARE && status == STATUS_OK; i++) {
			int64_t began_ns = clock_steady_ns();
			arena_reset(stream->arena);
			status = updater_enrich(stream->updater, &impressions[i], false, stream->arena, &request, error);
			if (seconds)
				seconds[at + i] = (double)(clock_steady_ns() - began_ns) / 1e9;
			if (status == STATUS_OK)
				status = scorer_score(stream->scorer, &pointer, 1, stream->arena, &prediction, error);
			if (status == STATUS_OK && at + i == IMPRESSIONS / 2)
				*first = prediction.scores[0].p_click;
		}
	}
	return status;
}

static int by_value(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

static enum status measure(struct bench_report *report, struct stream *stream, double *seconds,
			   struct error *error)
{
	float alone = 0, shared = 1;
	uint64_t seed;
	int64_t began_ns = clock_steady_ns();
	enum status status = apply(stream, error);
	double apply_seconds = (double)(clock_steady_ns() - began_ns) / 1e9;

	if (status != STATUS_OK)
		return status;
	seed = stream->random;
	status = answer(stream, false, seconds, &alone, error);
	stream->random = seed;
	began_ns = clock_steady_ns();
	if (status == STATUS_OK)
		status = answer(stream, true, NULL, &shared, error);
	if (status != STATUS_OK)
		return status;
	double answer_seconds = (double)(clock_steady_ns() - began_ns) / 1e9;
	if (alone != shared)
		return error_set(error, STATUS_INTERNAL, "sharing the scan changed a score");
	qsort(seconds, IMPRESSIONS, sizeof *seconds, by_value);
	bench_row(report, "graph", "events applied (22,363 users, 12,101 items), one thread",
		  (ITEMS + EVENTS) / apply_seconds, "events/s", 50000);
	bench_row(report, "graph", "enrichment with its own scan, 8 candidates, p50", seconds[IMPRESSIONS / 2] * 1e3,
		  "ms", 0);
	bench_row(report, "graph", "enrichment with its own scan, 8 candidates, p99",
		  seconds[IMPRESSIONS * 99 / 100] * 1e3, "ms", 5);
	bench_row(report, "stream", "impressions of 8 enriched and answered by the stub, shared scans",
		  IMPRESSIONS / answer_seconds, "impressions/s", 1500);
	return STATUS_OK;
}

enum status bench_stream(struct bench_report *report, struct error *error)
{
	struct updater_options updater_options;
	struct scorer_options scorer_options;
	struct stream stream = {.random = 88172645463325252ULL};
	double *seconds = mem_alloc_array(IMPRESSIONS, sizeof *seconds);
	enum status status;

	updater_options_defaults(&updater_options);
	scorer_options_defaults(&scorer_options);
	scorer_options.backend = "stub";
	stream.arena = arena_create((size_t)1 << 26);
	stream.users = mem_alloc_array(USERS, sizeof *stream.users);
	stream.items = mem_alloc_array(ITEMS, sizeof *stream.items);
	if (!stream.arena || !stream.users || !stream.items || !seconds)
		status = error_set(error, STATUS_NO_MEMORY, "out of memory");
	else
		status = updater_create(&updater_options, &stream.updater, error);
	if (status == STATUS_OK)
		status = scorer_create(&scorer_options, &stream.scorer, error);
	if (status == STATUS_OK) {
		for (size_t i = 0; i < USERS; i++)
			snprintf(stream.users[i], sizeof stream.users[i], "A%zu", i * 7919);
		for (size_t i = 0; i < ITEMS; i++)
			snprintf(stream.items[i], sizeof stream.items[i], "B%zu", i * 104729);
		status = measure(report, &stream, seconds, error);
	}
	scorer_destroy(stream.scorer);
	updater_destroy(stream.updater);
	arena_destroy(stream.arena);
	mem_free(stream.users);
	mem_free(stream.items);
	mem_free(seconds);
	return status;
}
