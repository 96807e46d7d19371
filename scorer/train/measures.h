/* measures.h - how good scores are: AUC, AUC within an impression, log loss, normalised entropy, calibration.
 *
 * Scores are logits z; rows without a label count nowhere. Where a figure does not exist (one class only) it
 * is NaN. Pure functions but for scratch memory; any thread. */
#ifndef EXITPOLL_SCORER_TRAIN_MEASURES_H
#define EXITPOLL_SCORER_TRAIN_MEASURES_H

#include "base/status.h"
#include "scorer/train/dataset.h"

enum { MEASURES_BINS = 10 };

/* A bin of equal numbers of rows, by score. */
struct measures_bin {
	double predicted, observed;     /* means */
	size_t rows;
};

struct measures {
	size_t rows, impressions;       /* labelled rows; impressions that have both classes */
	double positives;               /* share */
	double auc;                     /* a tie counts half */
	double impression_auc;          /* mean over impressions with both classes */
	double first;                   /* share of those whose taken candidate scores highest; ties shared */
	double log_loss, normalised_entropy;    /* the latter over the entropy of the share of positives */
	double calibration_error;       /* sum over bins of share * |predicted - observed| */
	struct measures_bin bins[MEASURES_BINS];
};

/* z [data->rows]; only rows of the listed impressions are read. STATUS_NO_MEMORY. */
enum status measures_take(const struct dataset *data, struct dataset_list list, const double *z,
			  struct measures *out, struct error *error);

/* AUC within one impression; NaN where it has one class only. */
double measures_impression_auc(const double *z, const float *labels, size_t count);

#endif
