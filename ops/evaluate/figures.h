/* figures.h - how good answers are.
 *
 * Every figure is a function of per-user weights, so that one pass gives the figure itself (all weights 1)
 * and each bootstrap draw over users. A figure that does not exist (one class only) is NaN, never .5 or 0.
 *   auc             a positive scores above a negative, over all pairs; a tie counts half
 *   user_auc        the same within a user's rows, averaged over users with both classes, weighted by the
 *                   user's rows (GAUC: Zhou et al., Deep Interest Network, KDD 2018, eq. 7)
 *   impression_auc  within an impression, plain mean over impressions with both classes
 *   first           how often a taken candidate scores highest in such an impression; ties share
 *   log_loss        mean of -log p of what happened
 *   entropy         normalised entropy: log_loss over the entropy of the share of positives (He et al.,
 *                   Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014)
 *   calibration     expected calibration error: FIGURES_BINS bins of equal numbers of rows by score; share
 *                   of the rows times |mean p - share of positives|, summed
 *   depth           mean layer at which candidates left
 * Pure but for scratch memory; one thread an object. */
#ifndef EXITPOLL_OPS_EVALUATE_FIGURES_H
#define EXITPOLL_OPS_EVALUATE_FIGURES_H

#include "ops/evaluate/answers.h"

enum { FIGURES_BINS = 20 };

enum figure { FIGURE_AUC, FIGURE_USER_AUC, FIGURE_IMPRESSION_AUC, FIGURE_FIRST, FIGURE_LOG_LOSS,
	      FIGURE_ENTROPY, FIGURE_CALIBRATION, FIGURE_DEPTH };
enum { FIGURES = 8 };
const char *figure_name(enum figure figure);    /* "impression_auc" */
const char *figure_title(enum figure figure);   /* "AUC within impressions" */

/* What is scored: the prediction, or how popular the item was. */
enum scored_by { SCORED_BY_MODEL, SCORED_BY_POPULARITY };

struct figures_bin {
	double predicted, observed, rows;       /* means; sum of weights */
};

struct figures {
	double value[FIGURES];
	double rows, positives;         /* sums of weights */
	double pairs_impressions;       /* impressions that have both classes, likewise */
};

struct judge;
/* Sorts once. `chosen` [rows_count] says which rows count; NULL: all. Borrows answers until destroyed.
 * Popularity has no probability: its log loss, entropy, calibration and depth are NaN. STATUS_NO_MEMORY. */
enum status judge_create(const struct answers *answers, enum scored_by by, const bool *chosen,
			 struct judge **out, struct error *error);
void judge_destroy(struct judge *judge);        /* NULL ok */

/* weights [answers->users]; NULL: all 1. bins [FIGURES_BINS] or NULL. */
void judge_take(struct judge *judge, const uint8_t *weights, struct figures *out, struct figures_bin *bins);

/* The receiver operating characteristic at `points` + 1 places: false[i], true[i] in [0, 1], ascending. */
void judge_roc(const struct judge *judge, size_t points, double *false_rate, double *true_rate);

#endif
