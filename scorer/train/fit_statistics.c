/* fit_statistics.c - which impressions are used for what, and the statistics' own model.
 *
 * Several models are trained at once, one a thread: with and without hidden layers, under both objectives
 * where labels compare, at a few strengths of L2. The stopping part chooses. If it takes hidden layers, more of
 * the same kind are trained from other seeds and z is the mean of them all: one network's draw of first weights
 * is worth several tenths of a point of AUC, the mean's hardly any. Caller: fit.c. */
#include "scorer/train/fit.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "scorer/train/vector.h"

#include <math.h>
#include <stdlib.h>

enum { JOBS_MAX = 32 };

static const double decays[] = {1e-5, 1e-4, 1e-3};

/* ---- lists ---- */

static bool has_label(const struct dataset *data, uint32_t impression)
{
	for (int64_t r = data->first[impression]; r < data->first[impression + 1]; r++)
		if (!isnan(data->labels[r]))
			return true;
	return false;
}

static int ascending(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return (a > b) - (a < b);
}

static int by_hash(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return (a > b) - (a < b);
}

/* Impressions of the threshold part whose users are in no earlier part, into out. */
static enum status keep_unseen(const struct dataset *data, struct dataset_list part, uint32_t *out,
			       size_t *count, struct error *error)
{
	size_t seen = 0;
	uint64_t *users = mem_alloc_array(data->impressions, sizeof *users);
	if (!users)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %zu users", data->impressions);
	for (size_t i = 0; i < data->impressions; i++)
		if (data->part[i] < PART_THRESHOLDS)
			users[seen++] = data->user[i];
	qsort(users, seen, sizeof *users, by_hash);
	*count = 0;
	for (size_t k = 0; k < part.count; k++)
		if (!bsearch(&data->user[part.impressions[k]], users, seen, sizeof *users, by_hash))
			out[(*count)++] = part.impressions[k];
	mem_free(users);
	return STATUS_OK;
}

/* The part's newest `wanted`, or as many drawn by seed, into out. */
static size_t choose_hidden(const struct fit_options *options, struct dataset_list part, size_t wanted,
			    uint64_t seed, uint32_t *out)
{
	size_t count = !wanted || wanted > part.count ? part.count : wanted;
	if (options->newest || count == part.count) {
		for (size_t k = 0; k < count; k++)
			out[k] = part.impressions[part.count - count + k];
		return count;
	}
	/* Selection sampling: each of those left is taken with the chance that fills the rest. */
	size_t taken = 0;
	for (size_t k = 0; k < part.count && taken < count; k++)
		if (vector_random(&seed) % (part.count - k) < count - taken)
			out[taken++] = part.impressions[k];
	return taken;
}

enum status fit_choose(struct fit *fit, struct error *error)
{
	static const char *const names[PARTS] = {"training", "early-stopping", "calibration", "threshold", "test"};
	const struct dataset *data = &fit->input->data;
	const struct fit_options *options = fit->options;
	fit->order = mem_alloc_array(data->impressions, 4 * sizeof *fit->order);
	fit->hidden_place = mem_alloc_array(data->impressions, sizeof *fit->hidden_place);
	if (!fit->order || !fit->hidden_place)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %zu impressions", data->impressions);
	uint32_t *at = fit->order, *hidden = fit->order + data->impressions;
	uint32_t *together = hidden + data->impressions, *unseen = together + data->impressions;
	size_t all = 0;
	for (int part = 0; part < PARTS; part++) {
		fit->part[part].impressions = at;
		for (size_t i = 0; i < data->impressions; i++)
			if (data->part[i] == part && has_label(data, (uint32_t)i))
				*at++ = (uint32_t)i;
		fit->part[part].count = (size_t)(at - fit->part[part].impressions);
		if (!fit->part[part].count && part != PART_THRESHOLDS && part != PART_TEST)
			return error_set(error, STATUS_BAD_RECORD,
					 "the %s part has no labelled impressions; heads need all five parts "
					 "(see `exitpoll samples --help`, split)", names[part]);
		size_t wanted = options->hidden_samples;
		if (wanted && part != PART_TRAIN)
			wanted = (wanted + 1) / 2;
		if (part == PART_THRESHOLDS && options->threshold_samples)
			wanted = options->threshold_samples;
		struct dataset_list from = fit->part[part];
		if (part == PART_THRESHOLDS) {
			enum status status = keep_unseen(data, from, unseen, &fit->result->unseen, error);
			if (status)
				return status;
			if (!options->any_user)
				from = (struct dataset_list){unseen, fit->result->unseen};
		}
		fit->hidden[part].impressions = hidden;
		fit->hidden[part].count = choose_hidden(options, from, wanted,
							options->seed + (uint64_t)part, hidden);
		for (size_t k = 0; k < fit->hidden[part].count; k++)
			together[all++] = hidden[k];
		hidden += fit->hidden[part].count;
		fit->result->impressions[part] = fit->part[part].count;
		fit->result->with_hidden[part] = fit->hidden[part].count;
	}
	qsort(together, all, sizeof *together, ascending);
	fit->hidden_all = (struct dataset_list){together, all};
	for (size_t i = 0; i < data->impressions; i++)
		fit->hidden_place[i] = UINT32_MAX;
	for (size_t k = 0; k < all; k++)
		fit->hidden_place[together[k]] = (uint32_t)k;
	return STATUS_OK;
}

/* ---- models ---- */

struct job {
	struct statistics_options options;
	struct statistics_model *model;
	struct statistics_result result;
	double auc;                     /* on the stopping part */
	enum status status;
	struct error error;
};

struct jobs {
	const struct fit *fit;
	struct job list[JOBS_MAX];
	uint32_t begin, count;          /* those before begin are done */
};

static void run_job(void *context, uint32_t index, uint32_t thread)
{
	struct jobs *jobs = context;
	struct job *job = &jobs->list[jobs->begin + index];
	const struct fit *fit = jobs->fit;
	const struct dataset *data = &fit->input->data;
	struct measures measures;
	(void)thread;
	job->status = statistics_model_create(fit->standardised->inputs, job->options.units, &job->model, &job->error);
	if (!job->status)
		job->status = statistics_model_train(job->model, data, fit->standardised, fit->part[PART_TRAIN],
						     fit->part[PART_STOPPING], &job->options, &job->result,
						     &job->error);
	if (job->status)
		return;
	double *z = mem_alloc_array(data->rows, sizeof *z);
	if (!z) {
		job->status = error_set(&job->error, STATUS_NO_MEMORY, "no memory for %zu scores", data->rows);
		return;
	}
	statistics_model_apply(job->model, fit->standardised, data->rows, z);
	job->status = measures_take(data, fit->part[PART_STOPPING], z, &measures, &job->error);
	job->auc = fit_auc(data, &measures);
	mem_free(z);
}

static void list_jobs(struct jobs *jobs)
{
	const struct fit_options *options = jobs->fit->options;
	bool clicked = jobs->fit->input->data.clicked;
	for (int objective = 0; objective < OBJECTIVES; objective++) {
		bool wanted = options->objective == FIT_AUTO ? clicked || objective == OBJECTIVE_LOGISTIC :
			      (options->objective == FIT_SOFTMAX) == (objective == OBJECTIVE_SOFTMAX);
		for (int hidden = 0; wanted && hidden < 2; hidden++)
			/* Networks cost the most and stop early anyway: the weakest and the strongest are tried. */
			for (size_t d = 0; d < sizeof decays / sizeof decays[0]; d += hidden ? 2 : 1)
				jobs->list[jobs->count++].options = (struct statistics_options){
					.units = hidden ? STATISTICS_UNITS : 0,
					.objective = (enum objective)objective,
					.rate = .005,
					.decay = decays[d],
					.epochs = options->epochs,
					.batch = 64,
					.seed = options->seed,
					.stopping = options->stopping,
				};
	}
}

/* Same objective: the lower loss. Different ones: the greater AUC, which both can be judged by. */
static bool better(const struct job *a, const struct job *b)
{
	if (a->options.objective == b->options.objective)
		return a->result.stopping_loss < b->result.stopping_loss;
	return a->auc > b->auc;
}

static struct job *best_of(struct jobs *jobs, bool regression)
{
	struct job *by_objective[OBJECTIVES] = {0}, *best = NULL;
	for (uint32_t i = 0; i < jobs->count; i++) {
		struct job *job = &jobs->list[i], **place = &by_objective[job->options.objective];
		if (regression && job->options.units)
			continue;
		if (!*place || better(job, *place))
			*place = job;
	}
	for (int i = 0; i < OBJECTIVES; i++)
		if (by_objective[i] && (!best || better(by_objective[i], best)))
			best = by_objective[i];
	return best;
}

/* The item's log count, missing: none. */
static void read_popularity(const struct dataset *data, double *z)
{
	for (size_t r = 0; r < data->rows; r++) {
		float count = data->values[r * data->features + FEATURES_USER + 1];
		z[r] = isnan(count) ? 0 : (double)count;
	}
}

/* z of the mean of the members, at the level of the stopping part's labels. */
static enum status set_mean(struct fit *fit, struct error *error)
{
	const struct dataset *data = &fit->input->data;
	const struct dataset_list stopping = fit->part[PART_STOPPING];
	double *z = mem_alloc_array(data->rows, sizeof *z);
	float *labels = mem_alloc_array(data->rows, sizeof *labels);
	if (!z || !labels) {
		mem_free(z);
		mem_free(labels);
		return error_set(error, STATUS_NO_MEMORY, "no memory for %zu scores", data->rows);
	}
	memset(fit->model_z, 0, data->rows * sizeof *fit->model_z);
	for (uint32_t k = 0; k < fit->members; k++) {
		statistics_model_apply(fit->models[k], fit->standardised, data->rows, z);
		for (size_t r = 0; r < data->rows; r++)
			fit->model_z[r] += z[r] / fit->members;
	}
	size_t count = 0;
	for (size_t k = 0; k < stopping.count; k++)
		for (int64_t r = data->first[stopping.impressions[k]]; r < data->first[stopping.impressions[k] + 1];
		     r++) {
			z[count] = fit->model_z[r];
			labels[count++] = data->labels[r];
		}
	fit->level = objective_level(z, labels, count);
	for (size_t r = 0; r < data->rows; r++)
		fit->model_z[r] += fit->level;
	mem_free(z);
	mem_free(labels);
	return STATUS_OK;
}

/* Runs the jobs from `begin` on. */
static enum status run_jobs(struct jobs *jobs, struct pool *pool, struct error *error)
{
	pool_run(pool, jobs->count - jobs->begin, run_job, jobs);
	for (uint32_t i = jobs->begin; i < jobs->count; i++)
		if (jobs->list[i].status) {
			*error = jobs->list[i].error;
			return jobs->list[i].status;
		}
	return STATUS_OK;
}

/* The chosen one's fellows, from the next seeds; logistic regression has but one optimum. */
static void list_fellows(struct jobs *jobs, const struct job *chosen)
{
	jobs->begin = jobs->count;
	for (uint64_t k = 1; chosen->options.units && k < STATISTICS_MEMBERS; k++) {
		struct job *job = &jobs->list[jobs->count++];
		job->options = chosen->options;
		job->options.seed += k;
	}
}

static enum status keep_best(struct fit *fit, struct jobs *jobs, uint32_t chosen, struct error *error)
{
	const struct dataset *data = &fit->input->data;
	const struct job *best = &jobs->list[chosen];
	struct job *regression = best_of(jobs, true);
	fit->model_z = mem_alloc_array(data->rows, sizeof *fit->model_z);
	fit->regression_z = mem_alloc_array(data->rows, sizeof *fit->regression_z);
	fit->popularity_z = mem_alloc_array(data->rows, sizeof *fit->popularity_z);
	if (!fit->model_z || !fit->regression_z || !fit->popularity_z)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %zu scores", data->rows);
	statistics_model_apply(regression->model, fit->standardised, data->rows, fit->regression_z);
	read_popularity(data, fit->popularity_z);
	fit->result->objective = best->options.objective;
	fit->result->statistics_units = best->options.units;
	fit->result->statistics_training = best->result;
	for (uint32_t i = 0; i < jobs->count; i++)
		if (i == chosen || i >= jobs->begin) {
			fit->models[fit->members++] = jobs->list[i].model;
			jobs->list[i].model = NULL;
		}
	return set_mean(fit, error);
}

enum status fit_statistics(struct fit *fit, struct error *error)
{
	const struct dataset *data = &fit->input->data;
	struct pool *pool = NULL;
	struct jobs *jobs = mem_alloc_zero(1, sizeof *jobs);
	if (!jobs)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the statistics' own model");
	int64_t begin_ns = clock_steady_ns();
	jobs->fit = fit;
	enum status status = standardised_create(data, fit->part[PART_TRAIN], &fit->standardised, error);
	if (!status)
		status = pool_create(fit->options->threads, &pool, error);
	if (!status) {
		list_jobs(jobs);
		fit_say(fit, "training on statistics", 0, 0);
		status = run_jobs(jobs, pool, error);
	}
	if (!status) {
		uint32_t chosen = (uint32_t)(best_of(jobs, false) - jobs->list);
		list_fellows(jobs, &jobs->list[chosen]);
		status = run_jobs(jobs, pool, error);
		if (!status)
			status = keep_best(fit, jobs, chosen, error);
	}
	for (uint32_t i = 0; i < jobs->count; i++)
		statistics_model_destroy(jobs->list[i].model);
	pool_destroy(pool);
	mem_free(jobs);
	fit->result->seconds_statistics = (double)(clock_steady_ns() - begin_ns) / 1e9;
	return status;
}
