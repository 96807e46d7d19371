/* bench_scorer.c - the scorer on requests shaped like those of the demo: a history, similar users, and
 * candidates with titles. Verified: a request scored alone and in a batch gives the same bits. */
#include "ops/cli/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "scorer/scorer.h"

#include <stdio.h>
#include <string.h>

enum { REQUESTS = 4, CANDIDATES_MAX = 32, HISTORY = 15 };

struct requests {
	struct history_entry history[HISTORY];
	struct request_candidate candidates[REQUESTS][CANDIDATES_MAX];
	struct scoring_request requests[REQUESTS];
	const struct scoring_request *pointers[REQUESTS];
	char titles[64][64];
};

static void make_requests(struct requests *made, size_t candidates)
{
	for (size_t i = 0; i < 64; i++)
		snprintf(made->titles[i], sizeof made->titles[i], "Gentle Rose Face Cream No. %zu, 1.7 Ounce", i);
	for (size_t i = 0; i < HISTORY; i++)
		made->history[i] = (struct history_entry){.item_id = TEXT_LITERAL("h"), .kind = KIND_RATE,
							  .text = text_of(made->titles[i]), .has_rating = true,
							  .rating = (float)(1 + i % 5)};
	for (size_t i = 0; i < REQUESTS; i++) {
		for (size_t j = 0; j < candidates; j++)
			made->candidates[i][j] = (struct request_candidate){
				.item_id = TEXT_LITERAL("c"), .text = text_of(made->titles[(i * 17 + j * 5 + 3) % 64])};
		made->requests[i] = (struct scoring_request){
			.impression_id = TEXT_LITERAL("bench"), .user_id = TEXT_LITERAL("user"),
			.history = made->history, .history_count = HISTORY - i,
			.candidates = made->candidates[i], .candidates_count = candidates};
		made->pointers[i] = &made->requests[i];
	}
}

static enum status measure(struct bench_report *report, struct scorer *scorer, struct requests *made,
			   struct arena *arena, size_t candidates, struct error *error)
{
	struct prediction together[REQUESTS], alone;
	struct scorer_stats before, after;
	char what[96];
	enum status status;

	make_requests(made, candidates);
	status = scorer_score(scorer, made->pointers, REQUESTS, arena, together, error);
	if (status == STATUS_OK)
		status = scorer_score(scorer, made->pointers + 1, 1, arena, &alone, error);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < candidates; i++)
		if (memcmp(&alone.scores[i].p_click, &together[1].scores[i].p_click, sizeof(float)) != 0)
			return error_set(error, STATUS_INTERNAL, "the batch changed the score of candidate %zu", i);
	scorer_get_stats(scorer, &before);
	int64_t began_ns = clock_steady_ns();
	for (int run = 0; run < 3 && status == STATUS_OK; run++)
		status = scorer_score(scorer, made->pointers, REQUESTS, arena, together, error);
	double seconds = (double)(clock_steady_ns() - began_ns) / 1e9;
	scorer_get_stats(scorer, &after);
	snprintf(what, sizeof what, "impressions of %zu candidates, one at a time behind a shared prefix", candidates);
	bench_row(report, "scorer", what, 3 * REQUESTS / seconds, "impressions/s", 0);
	snprintf(what, sizeof what, "tokens computed, %zu candidates", candidates);
	bench_row(report, "scorer", what, (double)(after.prompt_tokens - before.prompt_tokens) / seconds, "tokens/s", 0);
	snprintf(what, sizeof what, "template and tokens beside the forward pass, %zu candidates", candidates);
	bench_row(report, "scorer", what, (double)(after.prompt_ns - before.prompt_ns) /
		  (double)(after.forward_ns - before.forward_ns), "of its time", 0.02);
	return status;
}

enum status bench_scorer(struct bench_report *report, const char *model, struct error *error)
{
	static const size_t sizes[] = {1, 8, 32};
	struct scorer_options options;
	struct scorer *scorer = NULL;
	struct requests *made;
	struct arena *arena;
	enum status status;

	if (!model)
		return STATUS_OK;
	scorer_options_defaults(&options);
	options.model = model;
	made = mem_alloc_zero(1, sizeof *made);
	arena = arena_create((size_t)1 << 28);
	int64_t began_ns = clock_steady_ns();
	status = made && arena ? scorer_create(&options, &scorer, error)
			       : error_set(error, STATUS_NO_MEMORY, "out of memory");
	if (status == STATUS_OK)
		bench_row(report, "scorer", "start: load, dequantise and pack the model",
			  (double)(clock_steady_ns() - began_ns) / 1e9, "s", 2);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && status == STATUS_OK; i++) {
		arena_reset(arena);
		status = measure(report, scorer, made, arena, sizes[i], error);
	}
	scorer_destroy(scorer);
	arena_destroy(arena);
	mem_free(made);
	return status;
}
