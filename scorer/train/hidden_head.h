/* hidden_head.h - what the hidden state of one exit layer adds to what is known without it.
 *
 *     z = offset + scale * r + level + v . u
 *
 * u: the row, RMS-normed with the model's own norm, standardised over the training rows; r: the model's own
 * reading of it (yes against no), so that a head starts as the model's own answer and v learns what that
 * misses; offset: the statistics' own model, or 0. scale and level are fitted first (Newton's method), then v
 * from 0 by full-batch descent with Nesterov's momentum, the step that of the layer:
 *     eta_l = eta_base exp(-gamma l) / L,   L the largest curvature of the loss along any direction,
 * with L2 on v. Of all iterations and all strengths of L2 the one that is best on the stopping part is kept:
 * iteration 0 is the model's own reading. No randomness: the bytes depend on data and options alone. */
#ifndef EXITPOLL_SCORER_TRAIN_HIDDEN_HEAD_H
#define EXITPOLL_SCORER_TRAIN_HIDDEN_HEAD_H

#include "base/status.h"
#include "scorer/train/dataset.h"
#include "scorer/train/objective.h"

enum { HIDDEN_DECAYS_MAX = 16 };

struct hidden_options {
	enum objective objective;
	double eta_base;                /* 1 */
	double gamma;                   /* .02 */
	uint32_t layer;                 /* l */
	size_t iterations;              /* 150 */
	size_t patience;                /* iterations without a better one that end a run; 40 */
	double decays[HIDDEN_DECAYS_MAX];       /* strengths of L2 to try, ascending */
	size_t decays_count;
	bool (*stopping)(void);         /* STATUS_INTERRUPTED; NULL: never */
};

/* Rows of the impressions in hand, packed: row k of impression list[j] stands at first[j] + k. */
struct hidden_rows {
	size_t width;                   /* C */
	struct dataset_list list;
	const size_t *first;            /* [list.count + 1] */
	float *values;                  /* [rows, C] u: normed rows; standardised in place by training */
	const double *reading;          /* [rows] r: the model's own, raw */
	const double *offset;           /* [rows] */
	const float *labels;            /* [rows] */
};

struct hidden_result {
	double without_loss;            /* mean loss on the stopping part: offset and level alone */
	double own_loss;                /* with the model's own reading */
	double loss;                    /* with v: the best */
	double decay;                   /* of the best */
	size_t iteration;               /* of the best; 0: v is 0 */
	double scale, level;
	double step;                    /* eta_l / L */
};

/* vector [C] receives v / deviation, so that the head's z = offset + scale r + level + vector . u_raw with
 * u_raw the normed row before standardising; level takes the means in. Impressions [0, train) of the list
 * train, [train, train + stopping) stop. */
enum status hidden_head_train(struct hidden_rows *rows, size_t train, size_t stopping,
			      const struct hidden_options *options, double *vector,
			      struct hidden_result *out, struct error *error);

/* The loss (mean, with L2) and its gradient [C + 2]: v, scale, level; for the descent and its test. */
double hidden_head_loss(const struct hidden_rows *rows, size_t begin, size_t end, enum objective objective,
			const float *v, double scale, double level, double decay, double *gradient);

#endif
