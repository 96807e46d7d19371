/* statistics_model.h - the statistics' own model: logistic regression with two hidden layers beside it.
 *
 *     z = intercept + linear . s + output . silu(inner silu(weight s + bias) + inner_bias)
 *
 * s: the inputs that exit_heads.h describes, standardised over the training part, 0 where the feature is
 * missing. Every feature is read as it is; one whose magnitudes are spread widely is read as a logarithm, too,
 * and one that is often exactly zero as an indicator of that. With no hidden units it is logistic regression
 * on the same inputs. Trained by Adam in small batches of impressions with L2 on all but
 * the intercept; the epoch that is best on the stopping part is kept. One thread trains one model; the bytes
 * depend on data, options and seed alone. */
#ifndef EXITPOLL_SCORER_TRAIN_STATISTICS_MODEL_H
#define EXITPOLL_SCORER_TRAIN_STATISTICS_MODEL_H

#include "base/status.h"
#include "scorer/exit_heads.h"
#include "scorer/train/dataset.h"
#include "scorer/train/objective.h"

enum { STATISTICS_MEMBERS = 4, STATISTICS_UNITS = 64, STATISTICS_UNITS_MAX = 64 };

/* Standardised inputs of all rows, shared by the models that are tried. The first `features` of them are the
 * features as they are. */
struct standardised {
	size_t features, inputs;
	struct exit_input *input;       /* [inputs] */
	float *mean, *scale, *bend;     /* [inputs] */
	float *values;                  /* [rows, inputs] */
};
/* Means and deviations are those of the training impressions' rows; an input that never varies gets the
 * scale 1. A logarithm's bend is the geometric mean of the feature's magnitudes that are not 0. */
enum status standardised_create(const struct dataset *data, struct dataset_list train,
				struct standardised **out, struct error *error);
void standardised_destroy(struct standardised *standardised);   /* NULL ok */

struct statistics_model {
	size_t inputs, units;
	size_t count;                   /* of parameters */
	float *parameters;              /* intercept, linear [I], bias [U], output [U], inner_bias [U],
					   weight [I, U], inner [U (from), U (to)] */
};

struct statistics_options {
	size_t units;                   /* 0: logistic regression */
	enum objective objective;
	double rate;                    /* Adam's, falling to 0 along a cosine; .005 */
	double decay;                   /* L2: decay / 2 * |parameters|^2 added to the mean loss */
	size_t epochs;                  /* 20 */
	size_t batch;                   /* impressions; 64 */
	uint64_t seed;
	bool (*stopping)(void);         /* asked after each epoch: STATUS_INTERRUPTED; NULL: never */
};

struct statistics_result {
	double train_loss, stopping_loss;       /* means, of the epoch kept */
	size_t epoch;                   /* 1-based */
};

enum status statistics_model_create(size_t inputs, size_t units, struct statistics_model **out,
				    struct error *error);
void statistics_model_destroy(struct statistics_model *model);  /* NULL ok */

/* Trains a model of zeros (hidden weights from the seed). Afterwards sigmoid(z) has the mean of the labels
 * on the stopping part. */
enum status statistics_model_train(struct statistics_model *model, const struct dataset *data,
				   const struct standardised *standardised, struct dataset_list train,
				   struct dataset_list stopping, const struct statistics_options *options,
				   struct statistics_result *out, struct error *error);

/* z of one row of standardised inputs; hidden [units, 4] (may be NULL) receives pre-activations and sigmoids
 * of both layers for the gradient. */
double statistics_model_z(const struct statistics_model *model, const float *standardised, float *hidden);
/* gradient [count] += slope * dz / dparameters, hidden as statistics_model_z() left it. */
void statistics_model_gradient(const struct statistics_model *model, const float *standardised,
			       const float *hidden, double slope, float *gradient);

/* z [rows] of all rows. */
void statistics_model_apply(const struct statistics_model *model, const struct standardised *standardised,
			    size_t rows, double *z);
/* Mean loss over the listed impressions for given z [rows]. */
double statistics_model_loss(const struct dataset *data, struct dataset_list list, enum objective objective,
			     const double *z);

#endif
