/* fit_report_json.c - the result as JSON. Caller: the fit-heads command. */
#include "scorer/train/fit_report.h"

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *measures_json(const struct measures *m)
{
	json_t *object = json_object(), *bins = json_array();
	json_object_set_new(object, "rows", json_integer((json_int_t)m->rows));
	json_object_set_new(object, "impressions", json_integer((json_int_t)m->impressions));
	json_object_set_new(object, "positives", number(m->positives));
	json_object_set_new(object, "auc", number(m->auc));
	json_object_set_new(object, "impression_auc", number(m->impression_auc));
	json_object_set_new(object, "first", number(m->first));
	json_object_set_new(object, "log_loss", number(m->log_loss));
	json_object_set_new(object, "normalised_entropy", number(m->normalised_entropy));
	json_object_set_new(object, "calibration_error", number(m->calibration_error));
	for (size_t b = 0; b < MEASURES_BINS && m->rows; b++)
		json_array_append_new(bins, json_pack("[f, f, I]", m->bins[b].predicted, m->bins[b].observed,
						      (json_int_t)m->bins[b].rows));
	json_object_set_new(object, "reliability", bins);
	return object;
}

static json_t *judged_json(const struct fit_judged *judged)
{
	json_t *object = json_object();
	json_object_set_new(object, "stopping", measures_json(&judged->stopping));
	json_object_set_new(object, "calibration", measures_json(&judged->calibration));
	json_object_set_new(object, "test", measures_json(&judged->test));
	return object;
}

static json_t *head_json(const struct fit_result *result, uint32_t exit)
{
	const struct fit_head *head = &result->exits[exit];
	const struct exit_head_weights *weights = &result->heads.heads[exit];
	json_t *object = json_object();
	json_object_set_new(object, "layer", json_integer(head->layer));
	json_object_set_new(object, "hidden", json_boolean(head->hidden));
	json_object_set_new(object, "useless", json_boolean(head->useless));
	json_object_set_new(object, "turned", json_boolean(head->turned));
	json_object_set_new(object, "loss_without", number(head->training.without_loss));
	json_object_set_new(object, "loss_own", number(head->training.own_loss));
	json_object_set_new(object, "loss", number(head->training.loss));
	json_object_set_new(object, "l2", number(head->training.decay));
	json_object_set_new(object, "iteration", json_integer((json_int_t)head->training.iteration));
	json_object_set_new(object, "platt", json_pack("[f, f]", weights->platt_a, weights->platt_b));
	json_object_set_new(object, "raw", judged_json(&head->raw));
	json_object_set_new(object, "calibrated", judged_json(&head->calibrated));
	json_object_set_new(object, "test_left", json_real(result->policy_totals.left_at[exit]));
	json_object_set_new(object, "test_left_calibration_error", number(result->exit_error[exit]));
	return object;
}

json_t *fit_report_risk(const struct fit_options *options, const struct fit_result *result)
{
	const struct threshold_choice *choice = &result->choice;
	json_t *object = json_object(), *trials = json_array();
	json_object_set_new(object, "bounded", json_string(options->thresholds.entropy ?
							   "normalised entropy (approximate)" :
							   "log loss, clipped, per user"));
	json_object_set_new(object, "bound", json_real(options->thresholds.bound));
	json_object_set_new(object, "clip", json_real(options->thresholds.clip));
	json_object_set_new(object, "delta", json_real(options->thresholds.delta));
	json_object_set_new(object, "users", json_integer((json_int_t)choice->users));
	json_object_set_new(object, "users_seen_before", json_boolean(options->any_user));
	json_object_set_new(object, "rows", json_integer((json_int_t)choice->rows));
	json_object_set_new(object, "passed", json_boolean(choice->passed));
	for (size_t i = 0; i < choice->trials_count; i++) {
		const struct threshold_trial *trial = &choice->trials[i];
		json_t *item = json_object();
		json_object_set_new(item, "threshold", number(trial->threshold));
		json_object_set_new(item, "p_value", number(trial->p_value));
		json_object_set_new(item, "mean_difference", number(trial->mean_difference));
		json_object_set_new(item, "normalised_entropy_difference", number(trial->entropy_difference));
		json_object_set_new(item, "saved", number(trial->saved));
		json_object_set_new(item, "saved_against_last_exit", number(trial->saved_last));
		json_array_append_new(trials, item);
	}
	json_object_set_new(object, "sequence", trials);
	if (choice->passed) {
		json_object_set_new(object, "p_value", number(choice->trials[choice->chosen].p_value));
		json_object_set_new(object, "normalised_entropy_difference", number(choice->entropy_difference));
		json_object_set_new(object, "normalised_entropy_p_value", number(choice->p_value_entropy));
	}
	return object;
}

static json_t *policy_json(const struct fit_result *result)
{
	const struct exit_policy *policy = &result->choice.policy;
	const struct departure_totals *totals = &result->policy_totals;
	json_t *object = json_object();
	json_object_set_new(object, "rule", json_string(exit_rule_name(policy->rule)));
	json_object_set_new(object, "threshold", number(policy->threshold));
	json_object_set_new(object, "window", json_integer(policy->window));
	json_object_set_new(object, "saved", number(1 - totals->layer_tokens_run / totals->layer_tokens_full));
	json_object_set_new(object, "saved_against_last_exit",
			    number(1 - totals->layer_tokens_run / totals->layer_tokens_last));
	json_object_set_new(object, "test", measures_json(&result->policy_test));
	json_object_set_new(object, "full_depth_test", measures_json(&result->full_test));
	return object;
}

json_t *fit_report_json(const struct fit_options *options, const struct dataset *data,
			const struct fit_result *result)
{
	static const char *const parts[PARTS] = {"train", "stopping", "calibration", "thresholds", "test"};
	json_t *root = json_object(), *counts = json_object(), *heads = json_array(), *suggested = json_array();
	json_t *baselines = json_object();
	for (int part = 0; part < PARTS; part++)
		json_object_set_new(counts, parts[part],
				    json_pack("{s:I, s:I}", "impressions", (json_int_t)result->impressions[part],
					      "with_hidden", (json_int_t)result->with_hidden[part]));
	for (uint32_t e = 0; e < result->heads.count; e++)
		json_array_append_new(heads, head_json(result, e));
	for (uint32_t i = 0; i < result->suggested_count; i++)
		json_array_append_new(suggested, json_integer(result->suggested[i]));
	if (result->has_statistics) {
		json_object_set_new(baselines, "popularity", judged_json(&result->popularity));
		json_object_set_new(baselines, "logistic_regression", judged_json(&result->regression));
		json_object_set_new(baselines, "statistics", judged_json(&result->statistics));
		json_object_set_new(baselines, "popularity_all", judged_json(&result->popularity_all));
		json_object_set_new(baselines, "logistic_regression_all", judged_json(&result->regression_all));
		json_object_set_new(baselines, "statistics_all", judged_json(&result->statistics_all));
	}
	json_object_set_new(root, "task", json_string(data->clicked ? "clicked" : "liked"));
	json_object_set_new(root, "features", json_string(options->statistics ? "statistics" : "none"));
	json_object_set_new(root, "objective", json_string(objective_name(result->objective)));
	json_object_set_new(root, "seed", json_integer((json_int_t)options->seed));
	json_object_set_new(root, "model", json_string(result->heads.model));
	json_object_set_new(root, "trained_until", json_integer(result->heads.trained_until_ms));
	json_object_set_new(root, "parts", counts);
	json_object_set_new(root, "statistics_hidden_units", json_integer((json_int_t)result->statistics_units));
	json_object_set_new(root, "baselines", baselines);
	json_object_set_new(root, "heads", heads);
	json_object_set_new(root, "suggested_exits", suggested);
	json_object_set_new(root, "risk", fit_report_risk(options, result));
	json_object_set_new(root, "policy", policy_json(result));
	return root;
}
