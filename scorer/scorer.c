/* scorer.c - the face of the stage: options, which backend, requests in, predictions out.
 *
 * Idea: everything that needs a model lives in the engine; this file alone knows that there may be none
 * (stub). It answers requests without candidates itself, so the engine never sees one.
 * Invariant: predictions[i] answers requests[i] and has one score per candidate, in its order.
 * Caller: the run and score commands, one thread. */
#include "scorer/scorer.h"

#include "base/clock.h"
#include "scorer/stub.h"

#include <math.h>

struct scorer {
	struct scorer_stats stats;
};

void scorer_options_defaults(struct scorer_options *options)
{
	*options = (struct scorer_options){
		.backend = "auto",
		.precision = "auto",
		.exit_threshold = NAN,
		.batch_tokens_max = 2048,
		.deadlines = true,
	};
}

static bool is_stub(const struct scorer_options *options)
{
	return options->backend && strcmp(options->backend, "stub") == 0;
}

enum status scorer_create(const struct scorer_options *options, struct scorer **out, struct error *error)
{
	if (!is_stub(options))
		return error_set(error, STATUS_UNSUPPORTED, "scorer.backend %s is not built in yet",
				 options->backend ? options->backend : "auto");
	struct scorer *scorer = mem_alloc_zero(1, sizeof *scorer);
	if (!scorer)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the scorer");
	*out = scorer;
	return STATUS_OK;
}

void scorer_destroy(struct scorer *scorer)
{
	mem_free(scorer);
}

static void answer(const struct scoring_request *request, const struct candidate_score *scores,
		   struct text_view model_id, struct prediction *out)
{
	*out = (struct prediction){
		.impression_id = request->impression_id,
		.user_id = request->user_id,
		.scores = scores,
		.scores_count = request->candidates_count,
		.model_id = model_id,
		.graph_version = request->graph_version,
		.event_time_ms = request->event_time_ms,
		.status = request->candidates_count ? request->status : PREDICTION_NO_CANDIDATES,
	};
}

enum status scorer_score(struct scorer *scorer, const struct scoring_request *const *requests,
			 size_t count, struct arena *arena, struct prediction *predictions,
			 struct error *error)
{
	for (size_t i = 0; i < count; i++) {
		const struct scoring_request *request = requests[i];
		struct candidate_score *scores = arena_array(arena, request->candidates_count,
							     sizeof *scores);
		if (!scores)
			return error_set(error, STATUS_NO_MEMORY, "no room in the arena for %zu scores",
					 request->candidates_count);
		uint64_t hash = stub_hash_request(request);
		for (size_t c = 0; c < request->candidates_count; c++)
			scores[c] = (struct candidate_score){
				.item_id = request->candidates[c].item_id,
				.p_click = stub_score(hash, &request->candidates[c]),
			};
		answer(request, scores, text_of(scorer_model_id(scorer)), &predictions[i]);
		predictions[i].scored_time_ms = clock_wall_ms();
		scorer->stats.requests++;
		scorer->stats.candidates += request->candidates_count;
	}
	return STATUS_OK;
}

const char *scorer_model_id(const struct scorer *scorer)
{
	(void)scorer;
	return "stub";
}

bool scorer_is_trained(const struct scorer *scorer)
{
	(void)scorer;
	return false;
}

const char *scorer_describe(const struct scorer *scorer)
{
	(void)scorer;
	return "stub: hashes, no model";
}

void scorer_get_stats(const struct scorer *scorer, struct scorer_stats *out)
{
	*out = scorer->stats;
}
