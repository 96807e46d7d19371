/* thresholds.c - replaying the exit rule over known probabilities, users' losses, the sequence of tests.
 *
 * Invariant: the sequence of thresholds is a function of the grid's impressions alone, from the most careful
 * to the boldest. Caller: fit.c. */
#include "scorer/train/thresholds.h"

#include "base/mem.h"
#include "scorer/train/objective.h"
#include "scorer/train/vector.h"

#include <stdlib.h>
#include <string.h>

/* ---- who leaves where ---- */

uint32_t departures_exit(const struct departures *d, const struct exit_policy *policy, size_t row)
{
	float p[EXIT_LAYERS_MAX];
	for (uint32_t e = 0; e < d->exits; e++) {
		p[e] = exit_probability(d->z[row * d->exits + e]);
		if (exit_decide(policy, p, e + 1, d->layers[e], e + 1 == d->exits).leave)
			return e;
	}
	return d->exits - 1;
}

double departures_calibrated(const struct departures *d, size_t row, uint32_t exit)
{
	return d->platt[2 * exit] * d->z[row * d->exits + exit] + d->platt[2 * exit + 1];
}

void departures_take(const struct departures *d, const struct exit_policy *policy, struct dataset_list list,
		     uint8_t *exit_of, struct departure_totals *out)
{
	*out = (struct departure_totals){0};
	double last_layer = d->layers[d->exits - 1];
	for (size_t k = 0; k < list.count; k++) {
		uint32_t impression = list.impressions[k], deepest = 0;
		double prefix = d->prefix_tokens[impression], tokens = prefix;
		for (size_t r = (size_t)d->data->first[impression]; r < (size_t)d->data->first[impression + 1]; r++) {
			uint32_t exit = departures_exit(d, policy, r);
			double suffix = d->suffix_tokens[r];
			exit_of[r] = (uint8_t)exit;
			deepest = exit > deepest ? exit : deepest;
			out->left_at[exit] += 1;
			out->rows++;
			out->layer_tokens_run += suffix * (d->layers[exit] - 1) + 1;
			out->layer_tokens_last += suffix * (last_layer - 1) + 1;
			tokens += suffix;
		}
		out->layer_tokens_run += prefix * (d->layers[deepest] - 1);
		out->layer_tokens_last += prefix * (last_layer - 1);
		out->layer_tokens_full += tokens * d->model_layers;
	}
}

/* ---- users ---- */

struct by_user {
	uint64_t user, order;
	uint32_t impression;
};

static int compare_users(const void *left, const void *right)
{
	const struct by_user *a = left, *b = right;
	if (a->order != b->order)
		return a->order < b->order ? -1 : 1;
	if (a->user != b->user)
		return a->user < b->user ? -1 : 1;
	return (a->impression > b->impression) - (a->impression < b->impression);
}

/* Impressions grouped by user, users in an order that the seed shuffles. */
static struct by_user *group(const struct dataset *data, struct dataset_list list, uint64_t seed)
{
	struct by_user *grouped = mem_alloc_array(list.count, sizeof *grouped);
	for (size_t k = 0; grouped && k < list.count; k++) {
		uint64_t state = data->user[list.impressions[k]] ^ seed;
		grouped[k] = (struct by_user){data->user[list.impressions[k]], vector_random(&state),
					      list.impressions[k]};
	}
	if (grouped)
		qsort(grouped, list.count, sizeof *grouped, compare_users);
	return grouped;
}

static void add_rows(const struct departures *d, const uint8_t *exit_of, uint32_t impression, double clip,
		     struct risk_user *user)
{
	for (size_t r = (size_t)d->data->first[impression]; r < (size_t)d->data->first[impression + 1]; r++) {
		double label = (double)d->data->labels[r];
		if (isnan(label))
			continue;
		double early = objective_log_loss(departures_calibrated(d, r, exit_of[r]), label);
		double full = objective_log_loss(departures_calibrated(d, r, d->exits - 1), label);
		user->difference += fmax(-clip, fmin(clip, early - full));
		user->early += early;
		user->full += full;
		user->rows += 1;
		user->positives += label;
	}
}

/* users [at most impressions]; those without labels are left out. */
static size_t sum_users(const struct departures *d, const struct by_user *grouped, size_t count,
			const uint8_t *exit_of, double clip, struct risk_user *users)
{
	size_t found = 0;
	for (size_t k = 0, next; k < count; k = next) {
		struct risk_user user = {0};
		for (next = k; next < count && grouped[next].user == grouped[k].user; next++)
			add_rows(d, exit_of, grouped[next].impression, clip, &user);
		if (user.rows < 1)
			continue;
		user.difference /= user.rows;
		users[found++] = user;
	}
	return found;
}

/* ---- the sequence ---- */

static int ascending(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return (a > b) - (a < b);
}

/* What a threshold is compared with at the exits that may leave: |D - mean D|, or the larger probability. */
static size_t collect(const struct departures *d, struct dataset_list grid, const struct exit_policy *policy,
		      double *values)
{
	size_t count = 0;
	float p[EXIT_LAYERS_MAX];
	for (size_t k = 0; k < grid.count; k++)
		for (size_t r = (size_t)d->data->first[grid.impressions[k]];
		     r < (size_t)d->data->first[grid.impressions[k] + 1]; r++)
			for (uint32_t e = 0; e + 1 < d->exits; e++) {
				p[e] = exit_probability(d->z[r * d->exits + e]);
				struct exit_decision decision = exit_decide(policy, p, e + 1, d->layers[e], false);
				if (policy->rule == EXIT_CONFIDENCE)
					values[count++] = fmax((double)p[e], 1 - (double)p[e]);
				else if (decision.has_mean)
					values[count++] = fabs((double)decision.discrepancy -
							       (double)decision.mean_discrepancy);
			}
	return count;
}

static size_t sequence_of_quantiles(const struct departures *d, struct dataset_list grid,
				    const struct exit_policy *policy, size_t wanted, double *values,
				    double *sequence)
{
	size_t found = collect(d, grid, policy, values), count = 0;
	bool confidence = policy->rule == EXIT_CONFIDENCE;
	qsort(values, found, sizeof *values, ascending);
	for (size_t i = 1; found && i <= wanted; i++) {
		double share = (double)i / (double)(wanted + 1);
		size_t place = (size_t)(share * (double)(found - 1));
		double value = values[confidence ? found - 1 - place : place];
		value = confidence ? fmax(.5, fmin(1, value)) : fmin(1, value);
		if (!count || value != sequence[count - 1])
			sequence[count++] = value;
	}
	/* The boldest: whoever may leave does. */
	double boldest = confidence ? .5 : 1;
	if (count && count < THRESHOLDS_MAX && sequence[count - 1] != boldest)
		sequence[count++] = boldest;
	return count;
}

static size_t make_sequence(const struct departures *d, struct dataset_list grid,
			    const struct threshold_options *options, const struct exit_policy *policy,
			    double *values, double *sequence)
{
	size_t count = 0, wanted = options->candidates < THRESHOLDS_MAX ? options->candidates : THRESHOLDS_MAX - 1;
	if (options->rule == EXIT_FIXED)
		for (uint32_t e = d->exits - 1; e-- > 0 && count < THRESHOLDS_MAX;)
			sequence[count++] = d->layers[e];
	else if (options->rule == EXIT_PATIENCE)
		for (uint32_t window = d->exits; window-- > 1 && count < THRESHOLDS_MAX;)
			sequence[count++] = window;
	else
		count = sequence_of_quantiles(d, grid, policy, wanted, values, sequence);
	return count;
}

static struct exit_policy policy_at(const struct exit_policy *base, double threshold)
{
	struct exit_policy policy = *base;
	if (policy.rule == EXIT_PATIENCE)
		policy.window = (uint32_t)threshold;
	else
		policy.threshold = threshold;
	return policy;
}

/* ---- the choice ---- */

struct choosing {
	const struct departures *d;
	struct dataset_list test;
	const struct threshold_options *options;
	struct by_user *grouped;
	struct risk_user *users;
	uint8_t *exit_of;
};

static void try_threshold(struct choosing *c, const struct exit_policy *policy, double threshold,
			  struct threshold_trial *trial, struct threshold_choice *out)
{
	const struct threshold_options *options = c->options;
	struct exit_policy at = policy_at(policy, threshold);
	struct departure_totals totals;
	departures_take(c->d, &at, c->test, c->exit_of, &totals);
	size_t users = sum_users(c->d, c->grouped, c->test.count, c->exit_of, options->clip, c->users);
	double difference = 0, full = 0, rows = 0;
	for (size_t i = 0; i < users; i++) {
		difference += c->users[i].difference / (double)users;
		full += c->users[i].full;
		rows += c->users[i].rows;
	}
	*trial = (struct threshold_trial){
		.threshold = threshold,
		.p_value = options->entropy ? risk_entropy_p_value(c->users, users, options->bound,
								   options->draws, options->seed) :
					      risk_p_value(c->users, users, options->clip, options->bound,
							   options->delta),
		.mean_difference = difference,
		.entropy_difference = risk_entropy_difference(c->users, users),
		.saved = 1 - totals.layer_tokens_run / totals.layer_tokens_full,
		.saved_last = 1 - totals.layer_tokens_run / totals.layer_tokens_last,
	};
	out->users = users;
	out->rows = (size_t)rows;
	out->full_loss = rows > 0 ? full / rows : NAN;
}

/* Only what the sequence's test needs is computed: it ends at the first that does not pass. */
static void choose(struct choosing *c, const struct exit_policy *policy, const double *sequence, size_t count,
		   struct threshold_choice *out)
{
	double p_values[THRESHOLDS_MAX];
	for (size_t i = 0; i < count; i++) {
		try_threshold(c, policy, sequence[i], &out->trials[i], out);
		p_values[out->trials_count++] = out->trials[i].p_value;
		if (p_values[i] > c->options->delta)
			break;
	}
	size_t passed = risk_fixed_sequence(p_values, out->trials_count, c->options->delta);
	out->policy = *policy;
	if (!passed) {
		exit_policy_defaults(EXIT_FIXED, &out->policy);
		return;
	}
	struct threshold_trial again;
	out->passed = true;
	out->chosen = passed - 1;
	out->policy = policy_at(policy, out->trials[out->chosen].threshold);
	try_threshold(c, policy, out->trials[out->chosen].threshold, &again, out);
	out->entropy_difference = again.entropy_difference;
	out->p_value_entropy = c->options->entropy ? again.p_value :
		risk_entropy_p_value(c->users, out->users, c->options->bound, c->options->draws,
				     c->options->seed);
}

enum status thresholds_choose(const struct departures *d, struct dataset_list grid, struct dataset_list test,
			      const struct threshold_options *options, struct threshold_choice *out,
			      struct error *error)
{
	struct exit_policy policy = {.layers_count = d->exits};
	exit_policy_defaults(options->rule, &policy);
	policy.window = options->window ? options->window : policy.window;
	memcpy(policy.layers, d->layers, d->exits * sizeof *policy.layers);
	size_t grid_rows = 0;
	for (size_t k = 0; k < grid.count; k++)
		grid_rows += (size_t)(d->data->first[grid.impressions[k] + 1] -
				      d->data->first[grid.impressions[k]]);
	double sequence[THRESHOLDS_MAX];
	double *values = mem_alloc_array(grid_rows, d->exits * sizeof *values);
	struct choosing choosing = {.d = d, .test = test, .options = options};
	choosing.grouped = group(d->data, test, options->seed);
	choosing.users = mem_alloc_array(test.count, sizeof *choosing.users);
	choosing.exit_of = mem_alloc_array(d->data->rows, sizeof *choosing.exit_of);
	enum status status = STATUS_OK;
	if (!values || !choosing.grouped || !choosing.users || !choosing.exit_of) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory to choose a threshold");
	} else {
		struct threshold_choice choice = {0};
		size_t count = make_sequence(d, grid, options, &policy, values, sequence);
		choose(&choosing, &policy, sequence, count, &choice);
		*out = choice;
	}
	mem_free(values);
	mem_free(choosing.grouped);
	mem_free(choosing.users);
	mem_free(choosing.exit_of);
	return status;
}
