/* engine.h - a loaded bundle that scores: prompts, micro-batches, forward passes.
 *
 * Who batches: the stream's loop (ops/cli/pipeline.c) polls at most source.batch_records records, which is
 * the bounded queue, and hands over at most scorer.batch_requests_max requests, fewer when no more have
 * arrived or a commit is due: nobody waits for a batch to fill. While it scores it does not poll, which is
 * the back-pressure; nothing is dropped. Here a micro-batch closes by tokens (batch_tokens_max), requests
 * stay together where they fit, and one too large is split, its prefix computed again.
 *
 * Survivors of several micro-batches are not merged: a batch that exits have thinned still holds a whole
 * prefix of each survivor, and 544 rows cost as much per token as 1,536 (bench_engine: 366 and 346 tokens
 * per CPU second), so there is nothing to win on a CPU.
 *
 * All memory is taken at creation. One thread calls. */
#ifndef EXITPOLL_SCORER_ENGINE_H
#define EXITPOLL_SCORER_ENGINE_H

#include "scorer/bundle.h"
#include "scorer/forward.h"

struct engine;

enum status engine_create(const struct scorer_options *options, struct engine **out, struct error *error);
void engine_destroy(struct engine *engine);             /* NULL ok */

/* Fills scores[r][c] (p_click, exit layer, margin) and raises statuses[r] for every request; each has at
 * least one candidate. Requests share micro-batches, large ones are split; neither changes a bit. */
enum status engine_score(struct engine *engine, const struct scoring_request *const *requests, size_t count,
			 struct candidate_score *const *scores, enum prediction_status *statuses,
			 struct error *error);

/* Called with each exit decision of the next engine_score(): request, candidate. NULL ends it. */
typedef void engine_trace(void *context, size_t request, size_t candidate, uint32_t layer, float p,
			  const struct exit_decision *decision);
void engine_set_trace(struct engine *engine, engine_trace *trace, void *context);

/* The token ids of a candidate's whole prompt: instruction, user part, suffix. STATUS_LIMIT: above ids_max. */
enum status engine_prompt(struct engine *engine, const struct scoring_request *request, size_t candidate,
			  int32_t *ids, size_t ids_max, size_t *count, struct error *error);

const struct bundle *engine_bundle(const struct engine *engine);
const char *engine_describe(const struct engine *engine);
void engine_add_stats(const struct engine *engine, struct scorer_stats *out);

/* The backend that options ask for, with this model loaded: for the engine and for raw prompts. Rows,
 * slots, positions, instruction and layers are the caller's; threads and precision come from options. */
enum status engine_open_backend(const struct scorer_options *options, const struct model *model,
				struct backend_options *backend_options, const struct backend_table **table,
				struct backend **out, struct error *error);

#endif
