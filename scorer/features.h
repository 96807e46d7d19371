/* features.h - a request's fresh statistics as the vector that exit heads and baselines read.
 *
 * The fixed features come first: the user's four statistics, then the candidate's ten, in the order of the
 * request. Three follow for each configured attribute, in the order of the configuration: its mean, its
 * affinity, its log match. Means are given as logits clipped to [.02, .98]; all else as it is. What the
 * request does not carry (or carries as NaN or infinity) is NaN here, which readers take for "as usual".
 * Functions of one request and one candidate alone, the same in samples and in serving; any thread. */
#ifndef EXITPOLL_SCORER_FEATURES_H
#define EXITPOLL_SCORER_FEATURES_H

#include "schemas/event.h"

enum {
	FEATURES_USER = 4,
	FEATURES_CANDIDATE = 10,
	FEATURES_FIXED = FEATURES_USER + FEATURES_CANDIDATE,
	FEATURES_PER_ATTRIBUTE = 3,
	FEATURES_ATTRIBUTES_MAX = 16,
	FEATURES_COUNT_MAX = FEATURES_FIXED + FEATURES_ATTRIBUTES_MAX * FEATURES_PER_ATTRIBUTE,
	FEATURES_NAME_BYTES = 128,
};

/* Names of the fixed features: those of the statistics. */
extern const char *const features_names[FEATURES_FIXED];

/* How many features there are with so many configured attributes (at most FEATURES_ATTRIBUTES_MAX). */
static inline size_t features_count(size_t attributes_count)
{
	return FEATURES_FIXED + attributes_count * FEATURES_PER_ATTRIBUTE;
}

/* How many attributes the candidates of a request have statistics of. */
size_t features_attributes_of(const struct scoring_request *request);

/* "brand_mean"; attributes[]: the configured names. Fixed features need none. out is terminated. */
void features_name(size_t feature, const char *const *attributes, char out[FEATURES_NAME_BYTES]);

/* The vector of candidate `index`: out [count], count of features_count(); statistics past it are left out,
 * those the request lacks are NaN. */
void features_fill(const struct scoring_request *request, size_t index, float *out, size_t count);

/* The transformation of a mean in [0, 1]. */
float features_logit(float mean);

#endif
