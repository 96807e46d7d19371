/* scorer.c - the face of the stage: options, which backend, requests in, predictions out.
 *
 * Idea: everything that needs a model lives in the engine; this file alone knows that there may be none
 * (stub). It answers requests without candidates itself, so the engine never sees one.
 * Invariant: predictions[i] answers requests[i] and has one score per candidate, in its order.
 * Caller: the run and score commands, one thread. */
#include "scorer/scorer.h"

#include "base/clock.h"
#include "scorer/engine.h"
#include "scorer/score_trace.h"
#include "scorer/stub.h"

#include <math.h>

struct scorer {
	struct engine *engine;          /* NULL: stub */
	struct scorer_stats stats;      /* requests and candidates; the rest is the engine's */
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

enum status scorer_create(const struct scorer_options *options, struct scorer **out, struct error *error)
{
	struct scorer *scorer = mem_alloc_zero(1, sizeof *scorer);
	if (!scorer)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the scorer");
	if (!options->backend || strcmp(options->backend, "stub") != 0) {
		enum status status = engine_create(options, &scorer->engine, error);
		if (status) {
			mem_free(scorer);
			return status;
		}
	}
	*out = scorer;
	return STATUS_OK;
}

void scorer_destroy(struct scorer *scorer)
{
	if (!scorer)
		return;
	engine_destroy(scorer->engine);
	mem_free(scorer);
}

static void answer(const struct scorer *scorer, const struct scoring_request *request,
		   const struct candidate_score *scores, enum prediction_status status,
		   struct prediction *out)
{
	*out = (struct prediction){
		.impression_id = request->impression_id,
		.user_id = request->user_id,
		.scores = scores,
		.scores_count = request->candidates_count,
		.model_id = text_of(scorer_model_id(scorer)),
		.graph_version = request->graph_version,
		.event_time_ms = request->event_time_ms,
		.scored_time_ms = clock_wall_ms(),
		.status = request->candidates_count ? status : PREDICTION_NO_CANDIDATES,
	};
}

static void score_by_hash(const struct scoring_request *request, struct candidate_score *scores)
{
	uint64_t hash = stub_hash_request(request);
	for (size_t c = 0; c < request->candidates_count; c++)
		scores[c].p_click = stub_score(hash, &request->candidates[c]);
}

enum status scorer_score(struct scorer *scorer, const struct scoring_request *const *requests,
			 size_t count, struct arena *arena, struct prediction *predictions,
			 struct error *error)
{
	struct candidate_score **scores = arena_array(arena, count, sizeof *scores);
	enum prediction_status *statuses = arena_array(arena, count, sizeof *statuses);
	if (!scores || !statuses)
		return error_set(error, STATUS_NO_MEMORY, "no room in the arena for %zu predictions", count);
	for (size_t i = 0; i < count; i++) {
		const struct scoring_request *request = requests[i];
		statuses[i] = request->status;
		scores[i] = arena_array(arena, request->candidates_count, sizeof *scores[i]);
		if (!scores[i])
			return error_set(error, STATUS_NO_MEMORY, "no room in the arena for %zu scores",
					 request->candidates_count);
		for (size_t c = 0; c < request->candidates_count; c++)
			scores[i][c] = (struct candidate_score){.item_id = request->candidates[c].item_id};
		if (!scorer->engine)
			score_by_hash(request, scores[i]);
		scorer->stats.requests++;
		scorer->stats.candidates += request->candidates_count;
	}
	if (scorer->engine) {
		enum status status = engine_score(scorer->engine, requests, count, scores, statuses, error);
		if (status)
			return status;
	}
	for (size_t i = 0; i < count; i++)
		answer(scorer, requests[i], scores[i], statuses[i], &predictions[i]);
	return STATUS_OK;
}

void scorer_set_trace(struct scorer *scorer, scorer_trace *trace, void *context)
{
	if (scorer->engine)
		engine_set_trace(scorer->engine, trace, context);
}

enum status scorer_prompt(struct scorer *scorer, const struct scoring_request *request, size_t candidate,
			  int32_t *ids, size_t ids_max, size_t *count, struct error *error)
{
	if (!scorer->engine)
		return error_set(error, STATUS_UNSUPPORTED, "the stub has no prompts");
	return engine_prompt(scorer->engine, request, candidate, ids, ids_max, count, error);
}

const char *scorer_model_id(const struct scorer *scorer)
{
	return scorer->engine ? engine_bundle(scorer->engine)->model_id : "stub";
}

unsigned scorer_layers(const struct scorer *scorer)
{
	return scorer->engine ? model_get_config(engine_bundle(scorer->engine)->model)->layers : 0;
}

bool scorer_is_trained(const struct scorer *scorer)
{
	return scorer->engine && bundle_is_trained(engine_bundle(scorer->engine));
}

bool scorer_trained_until(const struct scorer *scorer, int64_t *ms)
{
	const struct bundle *bundle = scorer->engine ? engine_bundle(scorer->engine) : NULL;
	if (!bundle || bundle->trained_until_ms == INT64_MIN)
		return false;
	*ms = bundle->trained_until_ms;
	return true;
}

const char *scorer_feature_name(const struct scorer *scorer, size_t place)
{
	const struct bundle *bundle = scorer->engine ? engine_bundle(scorer->engine) : NULL;
	if (!bundle || !bundle_is_trained(bundle) || place >= bundle->heads->features_count)
		return NULL;
	return bundle->heads->names[place];
}

const char *scorer_describe(const struct scorer *scorer)
{
	return scorer->engine ? engine_describe(scorer->engine) : "stub: hashes, no model";
}

void scorer_get_stats(const struct scorer *scorer, struct scorer_stats *out)
{
	*out = scorer->stats;
	if (scorer->engine)
		engine_add_stats(scorer->engine, out);
}
