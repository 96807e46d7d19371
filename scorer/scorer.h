/* scorer.h - the scorer stage: scoring requests in, predictions out.
 *
 * Scores are a function of the request, the bundle and the type of CPU alone: the same bits in any
 * batch, at any position, for any number of threads. One thread calls; the backend may use more. */
#ifndef EXITPOLL_SCORER_SCORER_H
#define EXITPOLL_SCORER_SCORER_H

#include "base/advance.h"
#include "base/status.h"
#include "schemas/event.h"

struct scorer;

struct scorer_options {
	const char *model;              /* bundle folder, model folder or GGUF file; NULL only for the stub */
	const char *backend;            /* scorer.backend = auto | cuda | cpu | reference | stub */
	const char *precision;          /* scorer.precision = auto | fp32 | bf16 */
	const char *template_name;      /* scorer.template: NULL from the model; a name or a file */
	const char *exit_rule;          /* exit.rule: NULL from the bundle; discrepancy|confidence|patience|fixed|none */
	double exit_threshold;          /* exit.threshold; NaN: from the bundle or the default */
	int exit_window;                /* exit.window; 0: from the bundle or the default */
	const char *exit_layers;        /* exit.layers "5,10,15"; NULL: from the bundle or every 5th */
	size_t batch_tokens_max;        /* scorer.batch_tokens_max, 2,048; 0: default */
	size_t threads;                 /* scorer.threads; 0: all */
	bool deadlines;                 /* false in a backfill unless deadline.replay */
	bool (*stopping)(void);         /* asked between layers; NULL: never */
	const struct advance *loading;  /* hears how far weights are on their way to a GPU; NULL: nobody listens */
};
void scorer_options_defaults(struct scorer_options *options);

/* Loads and checks the bundle: STATUS_CORRUPT (file, byte, reason), UNSUPPORTED, CONFIG. */
enum status scorer_create(const struct scorer_options *options, struct scorer **out, struct error *error);
void scorer_destroy(struct scorer *scorer);             /* NULL ok */

/* Scores all candidates of all requests in micro-batches. predictions[i] answers requests[i]; scores lie
 * in `arena`, other texts are borrowed from the request and the scorer. scored_time_ms is set. Only
 * trouble of the machine is an error: every request has an answer (section "Edge cases" of README).
 * STATUS_INTERRUPTED: stopping() said so; nothing is answered. */
enum status scorer_score(struct scorer *scorer, const struct scoring_request *const *requests,
			 size_t count, struct arena *arena, struct prediction *predictions,
			 struct error *error);

const char *scorer_model_id(const struct scorer *scorer);       /* "stub", or name@hash of the content */
unsigned scorer_layers(const struct scorer *scorer);            /* of the model; 0: stub */
bool scorer_is_trained(const struct scorer *scorer);            /* false: exits read the answer words untrained */
/* The latest event that taught the model or its heads anything (Unix ms); false: nothing is known. */
bool scorer_trained_until(const struct scorer *scorer, int64_t *ms);
/* The statistics that trained heads read, by their place (features.h); NULL past the last. */
const char *scorer_feature_name(const struct scorer *scorer, size_t place);
/* "cpu: oneDNN fp32, AVX2, 2 threads (no AVX512_BF16)": what was chosen and why. */
const char *scorer_describe(const struct scorer *scorer);

enum { SCORER_LAYERS_MAX = 128 };
struct scorer_stats {
	uint64_t requests, candidates, batches, prompt_tokens, truncated, deadline_exits;
	uint64_t layer_tokens_run, layer_tokens_full;           /* full: what no exit would have run */
	uint64_t exits_at[SCORER_LAYERS_MAX + 1];
	uint64_t token_cache_hits, token_cache_misses;
	uint64_t prompt_ns, forward_ns;
	double layer_token_flops;       /* operations of one layer for one token, attention left out */
	double product_flops;           /* a second, of the backend's own product; 0: not known */
};
void scorer_get_stats(const struct scorer *scorer, struct scorer_stats *out);

#endif
