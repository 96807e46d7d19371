/* exit_heads.h - trained exit heads: what a bundle reads at its exit layers, and how sure that is.
 *
 * Head l turns the hidden row x of a candidate's last token and its dense features f (features.h) into
 *     z = vector . (rms_norm(x) * norm)  +  intercept  +  linear . s  +  sum over members k of output_k . h_k
 *     h_k = silu(weight_k s + bias_k), then, where there is an inner layer, silu(inner_k h_k + inner_bias_k)
 *     silu(a) = a / (1 + exp(-a));  s_i = clip((g_i(f) - mean_i) / scale_i, -8, 8), 0 where f is NaN
 * Input i reads one feature in one of three ways (exit_input_value): as it is, its logarithm with its sign
 * (weights of similarity span orders of magnitude), or whether it is exactly zero (nothing similar is known).
 * p = sigmoid(z) is what the exit rule sees, sigmoid(a z + b) (Platt) what is served. A head without hidden
 * state has no first term: it is the statistics' own model, which all heads share. One without statistics has
 * no third and fourth.
 *
 * Two files in one folder:
 *   exit_heads.safetensors  F32: with statistics features.mean, features.scale, features.bend [I],
 *       statistics.linear [I], .weight [K U, I], .bias [K U], .output [K U] and, with an inner layer,
 *       .inner [K U, U] and .inner_bias [K U]; for each layer L of the list L.intercept [1] and, unless the
 *       hidden state was dropped, L.norm [C], L.vector [C]
 *   exit_policy.json  {"version": 2, "model": hash, "wording": hash, "trained_until": ms,
 *       "features": ["user_mean", ..] (none: []), "inputs": ["user_mean", "log similar_items", "zero
 *       similar_items", ..] (left out: the features as they are), "members": K (left out: 1),
 *       "policy": {"rule", "threshold", "window", "layers"},
 *       "heads": [{"layer": 5, "hidden": true, "a": 1.0, "b": 0.0}, ..], "risk": {..} (not read)}
 * A name too much or too little, a wrong shape, a number that is not finite is refused. Immutable after
 * opening; any thread. */
#ifndef EXITPOLL_SCORER_EXIT_HEADS_H
#define EXITPOLL_SCORER_EXIT_HEADS_H

#include "scorer/exit_policy.h"
#include "scorer/features.h"
#include "scorer/mapped_file.h"

enum {
	EXIT_HEADS_UNITS_MAX = 256, EXIT_HEADS_MEMBERS_MAX = 16, EXIT_HEADS_VERSION = 2, EXIT_HEADS_CLIP = 8,
	EXIT_HEADS_HASH_BYTES = 33,
};

enum exit_input_kind { EXIT_INPUT_PLAIN, EXIT_INPUT_LOG, EXIT_INPUT_ZERO, EXIT_INPUT_KINDS };
enum { EXIT_HEADS_INPUTS_MAX = EXIT_INPUT_KINDS * FEATURES_COUNT_MAX };
struct exit_input {
	uint32_t feature;
	enum exit_input_kind kind;
};

struct exit_head_weights {
	uint32_t layer;                 /* 1-based */
	bool hidden;                    /* reads the hidden row */
	const float *norm, *vector;     /* [C]; zeros where the hidden row is not read */
	double intercept;
	double platt_a, platt_b;        /* platt_a > 0 */
};

struct exit_heads {
	uint32_t width;                 /* C */
	uint32_t count;                 /* heads, ascending layers */
	uint32_t features_count;        /* F; 0: without statistics */
	uint32_t inputs_count;          /* I */
	struct exit_input *inputs;      /* [I] */
	const float *mean, *scale;      /* [I] */
	const float *bend;              /* [I] > 0; read for logarithms only */
	uint32_t members, units;        /* K, U of each */
	const float *linear;            /* [I] */
	const float *weight;            /* [K, U, I] */
	const float *bias, *output;     /* [K, U] */
	const float *inner;             /* [K, U, U]; NULL without an inner layer */
	const float *inner_bias;        /* [K, U] */
	struct exit_head_weights *heads;/* [count] */
	char (*names)[FEATURES_NAME_BYTES];     /* [F] */
	struct exit_policy policy;      /* its list: the heads' layers */
	char model[EXIT_HEADS_HASH_BYTES], wording[EXIT_HEADS_HASH_BYTES];
	int64_t trained_until_ms;       /* no event at or before it may be used to judge the heads */
	char content[EXIT_HEADS_HASH_BYTES];    /* hash of both files, for the bundle's id */
	float *values;                  /* owned: what the pointers above point into */
};

/* Reads both files of `folder`. STATUS_NO_INPUT, CORRUPT (file, byte, reason), CONFIG (key), UNSUPPORTED. */
enum status exit_heads_open(const char *folder, uint32_t width, uint32_t model_layers, struct exit_heads **out,
			    struct error *error);
/* The same from files[0] (tensors) and files[1] (policy), which stay the caller's. */
enum status exit_heads_from_files(const struct mapped_file files[2], uint32_t width, uint32_t model_layers,
				  struct exit_heads **out, struct error *error);
void exit_heads_close(struct exit_heads *heads);        /* NULL ok */

/* The head of a layer, or NULL. */
const struct exit_head_weights *exit_heads_at(const struct exit_heads *heads, uint32_t layer);

/* What an input makes of its feature (finite): itself, sign(f) log(1 + |f| / bend), or 1 for exactly zero. */
double exit_input_value(enum exit_input_kind kind, double bend, double feature);
/* "log similar_items"; names [F] of the features. out is terminated. */
void exit_input_name(const struct exit_input *input, const char (*names)[FEATURES_NAME_BYTES],
		     char out[FEATURES_NAME_BYTES + 8]);
/* Standardised inputs: in [F] raw features, out [I]. In double, so that training and serving agree. */
void exit_heads_standardise(const struct exit_heads *heads, const float *features, double *out);
/* What statistics add to every head's intercept; 0 without statistics. */
double exit_heads_statistics(const struct exit_heads *heads, const double *standardised);

#endif
