/* dataset.h - labelled candidates in memory, grouped by impression: what heads are trained and judged on.
 *
 * Impressions are in time order; row r is a candidate, rows [first[i], first[i + 1]) those of impression i.
 * Everything is borrowed. Immutable; any thread. */
#ifndef EXITPOLL_SCORER_TRAIN_DATASET_H
#define EXITPOLL_SCORER_TRAIN_DATASET_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The five parts, in time order. */
enum dataset_part { PART_TRAIN, PART_STOPPING, PART_CALIBRATION, PART_THRESHOLDS, PART_TEST, PARTS };

struct dataset {
	size_t impressions, rows, features;
	const int64_t *first;           /* [impressions + 1] */
	const float *labels;            /* [rows] 0 or 1; NaN: none */
	const float *values;            /* [rows, features], raw (features.h); NaN: missing */
	const uint8_t *part;            /* [impressions] enum dataset_part */
	const uint64_t *user;           /* [impressions] hash of the user's id */
	const int64_t *time_ms;         /* [impressions] */
	bool clicked;                   /* labels compare candidates of one impression */
};

/* A list of impressions, in ascending order. */
struct dataset_list {
	const uint32_t *impressions;
	size_t count;
};

#endif
