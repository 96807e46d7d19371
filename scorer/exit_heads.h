/* exit_heads.h - trained exit heads: what a bundle reads at its exit layers, and how sure that is.
 *
 * Head l turns the hidden row x of a candidate's last token and its dense features f (features.h) into
 *     z = vector . (rms_norm(x) * norm)  +  intercept  +  linear . s  +  output . silu(weight s + bias)
 *     s = clip((f - mean) / scale, -8, 8), 0 where f is NaN;  silu(a) = a / (1 + exp(-a))
 * p = sigmoid(z) is what the exit rule sees, sigmoid(a z + b) (Platt) what is served. A head without hidden
 * state has no first term: it is the statistics' own model. One without statistics has no third and fourth.
 *
 * Two files in one folder:
 *   exit_heads.safetensors  F32: features.mean [F], features.scale [F] (with statistics), and for each layer L
 *       of the list: L.norm [C], L.vector [C] (unless the hidden state was dropped), L.intercept [1],
 *       L.linear [F], L.weight [U, F], L.bias [U], L.output [U] (with statistics)
 *   exit_policy.json  {"version": 1, "model": hash, "wording": hash, "trained_until": ms,
 *       "features": ["user_mean", ..] (none: []), "policy": {"rule", "threshold", "window", "layers"},
 *       "heads": [{"layer": 5, "hidden": true, "a": 1.0, "b": 0.0}, ..], "risk": {..} (not read)}
 * A name too much or too little, a wrong shape, a number that is not finite is refused. Immutable after
 * opening; any thread. */
#ifndef EXITPOLL_SCORER_EXIT_HEADS_H
#define EXITPOLL_SCORER_EXIT_HEADS_H

#include "scorer/exit_policy.h"
#include "scorer/features.h"
#include "scorer/mapped_file.h"

enum { EXIT_HEADS_UNITS_MAX = 256, EXIT_HEADS_VERSION = 1, EXIT_HEADS_CLIP = 8, EXIT_HEADS_HASH_BYTES = 33 };

struct exit_head_weights {
	uint32_t layer;                 /* 1-based */
	bool hidden;                    /* reads the hidden row */
	const float *norm, *vector;     /* [C]; zeros where the hidden row is not read */
	double intercept;
	const float *linear;            /* [F]; this and the next three NULL without statistics */
	const float *weight;            /* [U, F] */
	const float *bias, *output;     /* [U] */
	double platt_a, platt_b;        /* platt_a > 0 */
};

struct exit_heads {
	uint32_t width;                 /* C */
	uint32_t count;                 /* heads, ascending layers */
	uint32_t features_count;        /* F; 0: without statistics */
	uint32_t units;                 /* U */
	const float *mean, *scale;      /* [F] */
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

/* Standardised features: in [F] raw, out [F]. In double, so that training and serving agree. */
void exit_heads_standardise(const struct exit_heads *heads, const float *features, double *out);
/* What a head's z is before the hidden row is read: intercept and statistics. */
double exit_heads_before(const struct exit_heads *heads, const struct exit_head_weights *head,
			 const double *standardised);

#endif
