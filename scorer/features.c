/* features.c - statistics of a request in one fixed order, means as logits.
 *
 * Idea: the order of a request's arrays is the order of the vector, so filling is copying; only means are
 * bent, because a mean of .98 and one of .99 differ less in what they say than .50 and .51 do to a logistic
 * model. Caller: the samples command when it writes, the engine when it scores. */
#include "scorer/features.h"

#include <math.h>
#include <stdio.h>

const char *const features_names[FEATURES_FIXED] = {
	"user_mean", "user_log_count", "user_residual", "user_recent",
	"item_mean", "item_log_count", "item_residual",
	"similar_items", "similar_items_weight", "similar_raters", "similar_raters_weight",
	"similar_texts", "similar_texts_weight", "similar_texts_max",
};

static bool is_mean(size_t feature)
{
	if (feature >= FEATURES_FIXED)
		return (feature - FEATURES_FIXED) % FEATURES_PER_ATTRIBUTE == 0;
	return feature == 0 || feature == 3 || feature == FEATURES_USER;
}

float features_logit(float mean)
{
	if (isnan(mean))
		return mean;
	double clipped = (double)mean < .02 ? .02 : (double)mean > .98 ? .98 : (double)mean;
	return (float)log(clipped / (1 - clipped));
}

size_t features_attributes_of(const struct scoring_request *request)
{
	size_t most = 0;
	for (size_t i = 0; i < request->candidates_count; i++)
		if (request->candidates[i].statistics_count > most)
			most = request->candidates[i].statistics_count;
	size_t attributes = most > FEATURES_CANDIDATE ? (most - FEATURES_CANDIDATE) / FEATURES_PER_ATTRIBUTE : 0;
	return attributes < FEATURES_ATTRIBUTES_MAX ? attributes : FEATURES_ATTRIBUTES_MAX;
}

void features_name(size_t feature, const char *const *attributes, char out[FEATURES_NAME_BYTES])
{
	static const char *const endings[FEATURES_PER_ATTRIBUTE] = {"mean", "affinity", "log_match"};
	if (feature < FEATURES_FIXED) {
		snprintf(out, FEATURES_NAME_BYTES, "%s", features_names[feature]);
		return;
	}
	size_t place = feature - FEATURES_FIXED;
	snprintf(out, FEATURES_NAME_BYTES, "%.100s_%s", attributes[place / FEATURES_PER_ATTRIBUTE],
		 endings[place % FEATURES_PER_ATTRIBUTE]);
}

void features_fill(const struct scoring_request *request, size_t index, float *out, size_t count)
{
	const struct request_candidate *candidate = &request->candidates[index];
	for (size_t f = 0; f < count; f++) {
		size_t place = f < FEATURES_USER ? f : f - FEATURES_USER;
		const float *values = f < FEATURES_USER ? request->user_statistics : candidate->statistics;
		size_t there = f < FEATURES_USER ? request->user_statistics_count : candidate->statistics_count;
		float value = place < there && isfinite(values[place]) ? values[place] : NAN;
		out[f] = is_mean(f) ? features_logit(value) : value;
	}
}
