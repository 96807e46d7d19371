/* exit_policy.h - when a candidate has been thought about for long enough.
 *
 * A policy is a list of exit layers and a rule over the click probabilities read at them so far. Pure
 * functions of their arguments; any thread. */
#ifndef EXITPOLL_SCORER_EXIT_POLICY_H
#define EXITPOLL_SCORER_EXIT_POLICY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exit_rule { EXIT_DISCREPANCY, EXIT_CONFIDENCE, EXIT_PATIENCE, EXIT_FIXED, EXIT_NONE };
enum { EXIT_RULES = 5, EXIT_LAYERS_MAX = 128 };

struct exit_policy {
	enum exit_rule rule;
	double threshold;       /* discrepancy: tau; confidence: q in [.5, 1]; fixed: layer, NaN the last */
	uint32_t window;        /* discrepancy: w; patience: t; >= 1 */
	uint32_t layers[EXIT_LAYERS_MAX];       /* [layers_count], 1-based, ascending; rule none: ignored */
	uint32_t layers_count;
};

struct exit_decision {
	bool leave;
	bool has_discrepancy, has_mean;         /* from the second and the third exit on */
	float discrepancy, mean_discrepancy;
	bool has_margin;                        /* discrepancy rule, from the third exit on */
	float margin;                           /* threshold - |D - mean D| */
	const char *why;                        /* a sentence, static */
};

/* sigmoid(z), kept inside (0, 1): a logit of 20 is certain, not infinite. */
float exit_probability(double z);

/* The decision at the newest of `count` >= 1 exits, whose probabilities, oldest first, are p[0..count).
 * `layer` is that exit's layer; `last`: it is the last of the list, which always decides. */
struct exit_decision exit_decide(const struct exit_policy *policy, const float *p, size_t count,
				 uint32_t layer, bool last);

/* Fills rule, threshold and window with a rule's defaults; the list is left alone. */
void exit_policy_defaults(enum exit_rule rule, struct exit_policy *policy);

/* "discrepancy"; STATUS_CONFIG names the nearest rule. */
enum status exit_rule_parse(const char *name, enum exit_rule *out, struct error *error);
const char *exit_rule_name(enum exit_rule rule);

/* "5,10,15": ascending, 1..model_layers; NULL or "": every fifth layer, and the model's last. */
enum status exit_layers_parse(const char *text, uint32_t model_layers, struct exit_policy *policy,
			      struct error *error);

/* Window and threshold make sense for the rule, the list for the model: STATUS_CONFIG says what not. */
enum status exit_policy_check(const struct exit_policy *policy, uint32_t model_layers, struct error *error);

/* How many layers run at most: the last exit of the list, or all of them for the rule none. */
uint32_t exit_policy_depth(const struct exit_policy *policy, uint32_t model_layers);

#endif
