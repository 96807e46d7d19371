/* fit.h - from labelled samples to trained heads: what `exitpoll fit-heads` does between reading and writing.
 *
 *   1. the statistics' own model on all training impressions (and logistic regression, to compare with);
 *      from here on every head computes it as the program that serves will;
 *   2. hidden states at the exits for the impressions that get them;
 *   3. a head per exit: what the hidden state adds, kept only where the stopping part is not worse for it;
 *   4. Platt's scaling per head on the calibration part;
 *   5. a threshold whose risk is tested on users that parts 1 to 3 have not seen;
 *   6. one look at the test part.
 *
 * The same input, options and seed give the same heads, byte for byte, for any number of threads. Where a part
 * lacks what a step needs, the message says which. */
#ifndef EXITPOLL_SCORER_TRAIN_FIT_H
#define EXITPOLL_SCORER_TRAIN_FIT_H

#include "scorer/exit_heads.h"
#include "scorer/train/hidden_head.h"
#include "scorer/train/hidden_states.h"
#include "scorer/train/measures.h"
#include "scorer/train/statistics_model.h"
#include "scorer/train/thresholds.h"

enum fit_objective { FIT_AUTO, FIT_LOGISTIC, FIT_SOFTMAX };

struct fit_options {
	bool statistics;                /* heads read statistics too; else the paper's heads */
	uint32_t layers[EXIT_LAYERS_MAX], exits;
	enum fit_objective objective;   /* auto: softmax too where labels compare, the better one wins */
	size_t hidden_samples;          /* impressions of the training part with hidden states; half as many
					   of each other part; 0: all */
	size_t threshold_samples;       /* of the threshold part instead; 0: as the others */
	bool newest;                    /* of each part, else drawn by seed */
	bool any_user;                  /* thresholds are tested on users seen before, too */
	uint64_t seed;
	uint32_t threads;
	double eta_base, gamma;
	size_t iterations, epochs;
	struct threshold_options thresholds;
	bool (*stopping)(void);
	void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);       /* NULL: no */
	void *progress_context;
};
void fit_options_defaults(struct fit_options *options);

struct fit_input {
	struct dataset data;            /* borrowed, with what it points to */
	const char (*names)[FEATURES_NAME_BYTES];       /* [data.features] */
	const struct token_source *tokens;
	const uint32_t *prefix_tokens;  /* [impressions], instruction included */
	const uint32_t *suffix_tokens;  /* [rows] */
	const struct bundle *bundle;
	const struct scorer_options *scorer;
	const char *cache;
	uint64_t cache_bytes_max;
};

/* One way to score the rows, judged on three parts. */
struct fit_judged {
	struct measures stopping, calibration, test;
};

struct fit_head {
	uint32_t layer;
	bool hidden;                    /* kept */
	bool useless;                   /* its AUC on the calibration part is not above the statistics' */
	bool turned;                    /* calibration found the order upside down */
	struct hidden_result training;
	struct fit_judged raw, calibrated;
};

struct fit_result {
	struct exit_heads heads;        /* its arrays belong to the result */
	enum objective objective;
	size_t impressions[PARTS], with_hidden[PARTS];
	size_t unseen;                  /* impressions of the threshold part whose users no earlier part has */
	bool has_statistics;            /* the samples have features */
	size_t statistics_units;        /* of each layer of the best: 0 where logistic regression won */
	struct statistics_result statistics_training;
	/* On the impressions with hidden states: */
	struct fit_judged popularity, regression, statistics;
	/* On all impressions of the part: */
	struct fit_judged popularity_all, regression_all, statistics_all;
	struct fit_head *exits;         /* [heads.count] */
	struct threshold_choice choice;
	struct measures policy_test, full_test;         /* calibrated: as served, and at the last exit */
	struct departure_totals policy_totals;          /* on the test part */
	double exit_error[EXIT_LAYERS_MAX];             /* calibration error of those that left at each head */
	size_t exit_rows[EXIT_LAYERS_MAX];
	uint32_t suggested[EXIT_LAYERS_MAX], suggested_count;
	struct hidden_states_figures figures;
	double seconds_statistics, seconds_heads;
	char description[160];
};

enum status fit_run(const struct fit_options *options, const struct fit_input *input, struct fit_result **out,
		    struct error *error);
void fit_result_destroy(struct fit_result *result);     /* NULL ok */

/* The figure that a task is judged by: AUC within the impression where labels compare, else AUC. */
static inline double fit_auc(const struct dataset *data, const struct measures *measures)
{
	return data->clicked ? measures->impression_auc : measures->auc;
}

/* ---- between the parts of fit_*.c ---- */

struct fit {
	const struct fit_options *options;
	const struct fit_input *input;
	struct fit_result *result;
	uint32_t *order;                /* lists point into it */
	struct dataset_list part[PARTS];        /* labelled impressions */
	struct dataset_list hidden[PARTS];      /* those with hidden states */
	struct dataset_list hidden_all; /* of all parts, ascending */
	uint32_t *hidden_place;         /* [impressions] place in hidden_all; UINT32_MAX: none */
	struct standardised *standardised;
	struct statistics_model *models[STATISTICS_MEMBERS];
	uint32_t members;               /* 0 without features */
	double level;                   /* added to the members' mean */
	double *statistics_z;           /* [rows] what statistics add to a head's intercept, as served; NULL: 0 */
	double *model_z, *regression_z, *popularity_z;  /* [rows] */
	struct hidden_states *states;
	double *z;                      /* [rows, exits] as served, uncalibrated; NaN where a head needs a hidden
					   state that the row has not */
	float *own;                     /* [2, C] the model's norm; yes - no */
	float *weights;                 /* what result->heads points into */
};

/* Chooses the lists; STATUS_BAD_RECORD names a part that is empty. */
enum status fit_choose(struct fit *fit, struct error *error);
/* The statistics' own model and its baselines, z of all rows. */
enum status fit_statistics(struct fit *fit, struct error *error);
/* Hidden states, a head per exit, z of the rows that have them. */
enum status fit_heads(struct fit *fit, struct error *error);

void fit_say(const struct fit *fit, const char *what, uint64_t done, uint64_t total);

#endif
