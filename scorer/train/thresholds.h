/* thresholds.h - which candidates would leave where under a policy, what that saves and costs, and the
 * choice of a threshold whose cost is tested.
 *
 * The rule is exit_decide() itself on the heads' uncalibrated p; losses are those of the calibrated ones.
 * Layer-tokens are counted as forward.c runs them: a suffix of S tokens that leaves at layer l costs
 * S (l - 1) + 1, a prefix of P tokens P (m - 1) with m the deepest exit of its candidates; full depth is
 * every token in every layer of the model. */
#ifndef EXITPOLL_SCORER_TRAIN_THRESHOLDS_H
#define EXITPOLL_SCORER_TRAIN_THRESHOLDS_H

#include "scorer/exit_policy.h"
#include "scorer/train/dataset.h"
#include "scorer/train/risk.h"

enum { THRESHOLDS_MAX = 64 };

/* Borrowed. Rows are those of the dataset; z of rows without hidden states is never read. */
struct departures {
	const struct dataset *data;
	uint32_t exits;
	const uint32_t *layers;         /* [exits] */
	uint32_t model_layers;
	const double *z;                /* [rows, exits] uncalibrated */
	const double *platt;            /* [exits, 2] a, b */
	const uint32_t *prefix_tokens;  /* [impressions], without the instruction */
	const uint32_t *suffix_tokens;  /* [rows] */
};

struct departure_totals {
	double layer_tokens_run, layer_tokens_last, layer_tokens_full;  /* last: everybody at the last exit */
	double left_at[EXIT_LAYERS_MAX];        /* [exits] candidates */
	size_t rows;
};

/* The exit (index) at which a row leaves. */
uint32_t departures_exit(const struct departures *d, const struct exit_policy *policy, size_t row);
/* exit_of [rows] of the listed impressions, and the totals. */
void departures_take(const struct departures *d, const struct exit_policy *policy, struct dataset_list list,
		     uint8_t *exit_of, struct departure_totals *out);
/* Calibrated logit of a row at an exit. */
double departures_calibrated(const struct departures *d, size_t row, uint32_t exit);

struct threshold_options {
	enum exit_rule rule;            /* discrepancy, confidence, patience, fixed */
	uint32_t window;
	bool entropy;                   /* bound normalised entropy (approximate) instead of the clipped loss */
	double bound, clip, delta;
	size_t candidates;              /* of the grid; at most THRESHOLDS_MAX */
	size_t draws;                   /* of the bootstrap */
	uint64_t seed;
};

struct threshold_trial {
	double threshold;               /* of the policy; a window for patience */
	double p_value, mean_difference, entropy_difference;
	double saved, saved_last;       /* share of layer-tokens against the whole model, and the last exit */
};

struct threshold_choice {
	bool passed;                    /* false: full depth */
	struct exit_policy policy;      /* fixed without a threshold where none passed */
	struct threshold_trial trials[THRESHOLDS_MAX];
	size_t trials_count, chosen;    /* index; meaningful only where passed */
	size_t users, rows;
	double full_loss;               /* mean log loss at full depth */
	double p_value_entropy, entropy_difference;     /* of the chosen one, whatever was bounded */
};

/* The grid comes from `grid` (impressions that calibrated), the test from `test`. STATUS_NO_MEMORY. */
enum status thresholds_choose(const struct departures *d, struct dataset_list grid, struct dataset_list test,
			      const struct threshold_options *options, struct threshold_choice *out,
			      struct error *error);

#endif
