/* exit_policy.c - the exit rules, each as its source defines it.
 *
 * discrepancy  arXiv 2501.02173 section 5.3: D_l = |p_l - p_l'| with l' the exit before l; mean D_l over
 *              the w discrepancies before l (fewer while there are fewer); leave when
 *              |D_l - mean D_l| < threshold. D exists from the second exit, a mean of earlier ones from
 *              the third, so no candidate leaves at the first two.
 * confidence   Kaya, Hong, Dumitras, "Shallow-Deep Networks", ICML 2019: leave when the larger class
 *              probability reaches the threshold.
 * patience     Zhou et al., "BERT Loses Patience", NeurIPS 2020: leave when the predicted class has stayed
 *              the same over t consecutive comparisons (so at exit t + 1 at the earliest).
 * fixed        everybody leaves at the first exit at or past the given layer; none given: the last one.
 * none         all layers and the model's own head.
 *
 * Invariant: p is the uncalibrated head's probability, so that thresholds mean the same at every depth.
 * Caller: forward.c at each exit, the score command for its trace. */
#include "scorer/exit_policy.h"

#include "base/text.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static const char *const rule_names[EXIT_RULES] = {
	[EXIT_DISCREPANCY] = "discrepancy",
	[EXIT_CONFIDENCE] = "confidence",
	[EXIT_PATIENCE] = "patience",
	[EXIT_FIXED] = "fixed",
	[EXIT_NONE] = "none",
};

float exit_probability(double z)
{
	double p = z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
	float narrow = (float)p;
	return narrow < FLT_MIN ? FLT_MIN : narrow > 1 - FLT_EPSILON / 2 ? 1 - FLT_EPSILON / 2 : narrow;
}

/* The fields that every trace shows, whatever the rule: D and its mean before this exit. */
static void measure(const struct exit_policy *policy, const float *p, size_t count,
		    struct exit_decision *out)
{
	if (count < 2)
		return;
	out->has_discrepancy = true;
	out->discrepancy = fabsf(p[count - 1] - p[count - 2]);
	size_t earlier = count - 2;
	if (!earlier)
		return;
	size_t used = earlier < policy->window ? earlier : policy->window;
	double sum = 0;
	for (size_t i = earlier - used; i < earlier; i++)
		sum += fabsf(p[i + 1] - p[i]);
	out->has_mean = true;
	out->mean_discrepancy = (float)(sum / (double)used);
}

static bool settled_by_discrepancy(const struct exit_policy *policy, struct exit_decision *out)
{
	if (!out->has_mean) {
		out->why = "stays: fewer than three exits";
		return false;
	}
	double distance = fabs((double)out->discrepancy - (double)out->mean_discrepancy);
	out->has_margin = true;
	out->margin = (float)(policy->threshold - distance);
	bool settled = distance < policy->threshold;
	out->why = settled ? "leaves: |D - mean D| below the threshold" : "stays: D is off its mean";
	return settled;
}

static bool settled_by_confidence(const struct exit_policy *policy, const float *p, size_t count,
				  struct exit_decision *out)
{
	double yes = p[count - 1];
	bool settled = (yes > .5 ? yes : 1 - yes) >= policy->threshold;
	out->why = settled ? "leaves: confident" : "stays: not confident";
	return settled;
}

static bool settled_by_patience(const struct exit_policy *policy, const float *p, size_t count,
				struct exit_decision *out)
{
	size_t unchanged = 0;
	for (size_t i = count; i-- > 1 && (p[i] > .5f) == (p[i - 1] > .5f);)
		unchanged++;
	bool settled = unchanged >= policy->window;
	out->why =
	    settled ? "leaves: the answer has not changed for long enough" : "stays: patience not used up";
	return settled;
}

static bool settled_by_layer(const struct exit_policy *policy, uint32_t layer, struct exit_decision *out)
{
	bool settled = !isnan(policy->threshold) && layer >= policy->threshold;
	out->why = settled ? "leaves: the fixed layer" : "stays: before the fixed layer";
	return settled;
}

struct exit_decision exit_decide(const struct exit_policy *policy, const float *p, size_t count,
				 uint32_t layer, bool last)
{
	struct exit_decision decision = {.why = "stays: rule none"};
	measure(policy, p, count, &decision);
	switch (policy->rule) {
	case EXIT_DISCREPANCY:
		decision.leave = settled_by_discrepancy(policy, &decision);
		break;
	case EXIT_CONFIDENCE:
		decision.leave = settled_by_confidence(policy, p, count, &decision);
		break;
	case EXIT_PATIENCE:
		decision.leave = settled_by_patience(policy, p, count, &decision);
		break;
	case EXIT_FIXED:
		decision.leave = settled_by_layer(policy, layer, &decision);
		break;
	case EXIT_NONE:
		break;
	}
	if (last && !decision.leave) {
		decision.leave = true;
		decision.why = "leaves: the last exit";
	}
	return decision;
}

void exit_policy_defaults(enum exit_rule rule, struct exit_policy *policy)
{
	policy->rule = rule;
	policy->window = rule == EXIT_PATIENCE ? 2 : 3;
	policy->threshold = rule == EXIT_DISCREPANCY ? .01 : rule == EXIT_CONFIDENCE ? .9 : NAN;
}

enum status exit_rule_parse(const char *name, enum exit_rule *out, struct error *error)
{
	int nearest = 0;
	for (int rule = 0; rule < EXIT_RULES; rule++) {
		if (strcmp(name, rule_names[rule]) == 0) {
			*out = (enum exit_rule)rule;
			return STATUS_OK;
		}
		if (text_distance(name, rule_names[rule]) < text_distance(name, rule_names[nearest]))
			nearest = rule;
	}
	return error_set(error, STATUS_CONFIG, "exit.rule \"%.64s\" is not known; did you mean \"%s\"?", name,
			 rule_names[nearest]);
}

const char *exit_rule_name(enum exit_rule rule)
{
	return rule_names[rule];
}

static enum status default_layers(uint32_t model_layers, struct exit_policy *policy, struct error *error)
{
	uint32_t count = 0;
	for (uint32_t layer = 5; layer < model_layers; layer += 5) {
		if (count == EXIT_LAYERS_MAX - 1)
			return error_set(error, STATUS_UNSUPPORTED, "a model of %u layers has too many exits",
					 model_layers);
		policy->layers[count++] = layer;
	}
	policy->layers[count++] = model_layers;
	policy->layers_count = count;
	return STATUS_OK;
}

enum status exit_layers_parse(const char *text, uint32_t model_layers, struct exit_policy *policy,
			      struct error *error)
{
	if (!text || !*text)
		return default_layers(model_layers, policy, error);
	uint32_t layers[EXIT_LAYERS_MAX], count = 0;
	for (const char *rest = text;; rest++) {
		char *end;
		unsigned long layer = *rest >= '0' && *rest <= '9' ? strtoul(rest, &end, 10) : 0;
		if (!layer || layer > model_layers || (count && layer <= layers[count - 1]) ||
		    count == EXIT_LAYERS_MAX)
			return error_set(error, STATUS_CONFIG,
					 "exit.layers \"%.64s\": want ascending layers from 1 to %u, "
					 "separated by commas, at most %d",
					 text, model_layers, EXIT_LAYERS_MAX);
		layers[count++] = (uint32_t)layer;
		if (!*end)
			break;
		rest = end;
		if (*rest != ',')
			return error_set(error, STATUS_CONFIG,
					 "exit.layers \"%.64s\": \"%.8s\" is not a comma", text, rest);
	}
	memcpy(policy->layers, layers, count * sizeof layers[0]);
	policy->layers_count = count;
	return STATUS_OK;
}

enum status exit_policy_check(const struct exit_policy *policy, uint32_t model_layers, struct error *error)
{
	double threshold = policy->threshold;
	if (policy->rule == EXIT_DISCREPANCY && !(threshold >= 0 && threshold <= 1))
		return error_set(error, STATUS_CONFIG,
				 "exit.threshold %g: a difference of probabilities, want 0 to 1", threshold);
	if (policy->rule == EXIT_CONFIDENCE && !(threshold >= .5 && threshold <= 1))
		return error_set(error, STATUS_CONFIG,
				 "exit.threshold %g: the larger of two probabilities, want .5 to 1",
				 threshold);
	if (policy->rule == EXIT_FIXED && !isnan(threshold) &&
	    !(threshold >= 1 && threshold <= model_layers && threshold == floor(threshold)))
		return error_set(error, STATUS_CONFIG,
				 "exit.threshold %g: for exit.rule fixed a layer, 1 to %u", threshold,
				 model_layers);
	if (policy->window < 1 || policy->window > EXIT_LAYERS_MAX)
		return error_set(error, STATUS_CONFIG, "exit.window %u: want 1 to %d", policy->window,
				 EXIT_LAYERS_MAX);
	if (policy->rule == EXIT_NONE)
		return STATUS_OK;
	if (!policy->layers_count)
		return error_set(error, STATUS_CONFIG, "exit.layers is empty");
	for (uint32_t i = 0; i < policy->layers_count; i++)
		if (policy->layers[i] < 1 || policy->layers[i] > model_layers ||
		    (i && policy->layers[i] <= policy->layers[i - 1]))
			return error_set(error, STATUS_CONFIG,
					 "exit layer %u: want ascending layers from 1 to %u",
					 policy->layers[i], model_layers);
	return STATUS_OK;
}

uint32_t exit_policy_depth(const struct exit_policy *policy, uint32_t model_layers)
{
	return policy->rule == EXIT_NONE ? model_layers : policy->layers[policy->layers_count - 1];
}
