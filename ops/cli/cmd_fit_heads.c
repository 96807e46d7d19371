/* cmd_fit_heads.c - `exitpoll fit-heads`: samples and a model become a bundle with trained exit heads. */
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/fit_bundle.h"
#include "ops/cli/progress.h"

#include "base/mem.h"
#include "scorer/train/fit_report.h"
#include "scorer/train/sample_folder.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

struct arguments {
	const char *samples, *cache, *exits, *out, *name;
	uint64_t cache_gb;
	bool json, force, portable, allow_leak;
	struct scorer_options scorer;
	struct fit_options fit;
};

enum option_key {
	KEY_SAMPLES = 0x100, KEY_MODEL, KEY_OUT, KEY_NAME, KEY_FEATURES, KEY_EXITS, KEY_OBJECTIVE,
	KEY_HIDDEN_SAMPLES, KEY_THRESHOLD_SAMPLES, KEY_CHOOSE, KEY_RULE, KEY_WINDOW, KEY_RISK,
	KEY_BOUND, KEY_CLIP, KEY_DELTA, KEY_USERS,
	KEY_ETA, KEY_GAMMA, KEY_ITERATIONS, KEY_EPOCHS, KEY_CACHE, KEY_CACHE_MAX, KEY_TEMPLATE, KEY_PRECISION,
	KEY_THREADS, KEY_SEED, KEY_JSON, KEY_FORCE, KEY_PORTABLE, KEY_ALLOW_LEAK,
};

static const struct argp_option options[] = {
	{"samples", KEY_SAMPLES, "DIR", 0, "samples, as `exitpoll samples` writes them", 0},
	{"model", KEY_MODEL, "PATH", 0, "bundle, model folder or GGUF file whose hidden states are read", 0},
	{"out", KEY_OUT, "DIR", 0, "the new bundle: heads, policy, report; the model is named, not copied", 0},
	{"name", KEY_NAME, "NAME", 0, "of the bundle, the first part of its model id (default: the model's)", 0},
	{"portable", KEY_PORTABLE, NULL, 0, "name the model by its file name alone, to be put beside the heads", 0},
	{"force", KEY_FORCE, NULL, 0, "replace a bundle that is there", 0},
	{"allow-leak", KEY_ALLOW_LEAK, NULL, 0,
	 "go on where the model was trained on data later than the calibration part begins", 0},
	{0, 0, NULL, 0, "Heads:", 1},
	{"features", KEY_FEATURES, "WHICH", 0,
	 "statistics (default): heads start as the statistics' own model; none: the hidden state alone", 1},
	{"exits", KEY_EXITS, "LAYERS", 0, "exit layers, as 5,10,15 (default: every fifth and the last)", 1},
	{"objective", KEY_OBJECTIVE, "WHICH", 0,
	 "logistic, softmax (among an impression's candidates), auto (default: what the early-stopping part likes)", 1},
	{"hidden-samples", KEY_HIDDEN_SAMPLES, "N", 0,
	 "hidden states for N training impressions and N/2 of each other part (default: for all); the statistics' "
	 "own model learns from all", 1},
	{"threshold-samples", KEY_THRESHOLD_SAMPLES, "N", 0,
	 "hidden states for N impressions of the threshold part: a test needs users, at the defaults 130 or more", 1},
	{"choose", KEY_CHOOSE, "HOW", 0, "which N: newest (default) or random, drawn by --seed", 1},
	{"eta", KEY_ETA, "X", 0, "step of layer 0, in units of the safe one, up to 1 (default 1)", 1},
	{"gamma", KEY_GAMMA, "X", 0, "how fast steps fall with the layer: eta exp(-gamma l) (default 0.02)", 1},
	{"iterations", KEY_ITERATIONS, "N", 0, "of a head, at most (default 150)", 1},
	{"epochs", KEY_EPOCHS, "N", 0, "of the statistics' own model (default 20)", 1},
	{0, 0, NULL, 0, "Leaving early:", 2},
	{"rule", KEY_RULE, "RULE", 0, "discrepancy (default), confidence, patience or fixed", 2},
	{"window", KEY_WINDOW, "N", 0, "of the rule discrepancy (default 3)", 2},
	{"risk", KEY_RISK, "WHICH", 0, "what is bounded: loss (default, exact) or ne (bootstrap, approximate)", 2},
	{"bound", KEY_BOUND, "X", 0, "how much more than at full depth is allowed (default 0.002)", 2},
	{"clip", KEY_CLIP, "X", 0, "a candidate's difference in loss counts for at most this much (default 0.1)", 2},
	{"delta", KEY_DELTA, "X", 0, "probability with which the bound may be broken (default 0.1)", 2},
	{"users", KEY_USERS, "WHICH", 0,
	 "unseen (default): test on users that no earlier part has; any: on all of the threshold part", 2},
	{0, 0, NULL, 0, "Running:", 3},
	{"cache", KEY_CACHE, "DIR", 0, "hidden states, kept between runs (default: hidden/ in the samples)", 3},
	{"cache-max", KEY_CACHE_MAX, "GB", 0, "its size at most (default 20)", 3},
	{"template", KEY_TEMPLATE, "NAME", 0, "prompt template (default: the model's)", 3},
	{"precision", KEY_PRECISION, "WHICH", 0, "of the forward pass: auto, fp32, bf16 or fp16", 3},
	{"threads", KEY_THREADS, "N", 0, "default: all processors; changes no byte", 3},
	{"seed", KEY_SEED, "N", 0, "default 1", 3},
	{"json", KEY_JSON, NULL, 0, "print the report as JSON", 3},
	{0},
};

static const char description[] =
	"Trains exit heads on the scorer's own hidden states, calibrates them, and chooses a threshold whose cost "
	"is tested.\v"
	"The five parts of the samples are used in time order: heads learn on the first, stop early by the "
	"second, are calibrated on the third, leave by thresholds that are tested on the fourth (where users who "
	"were seen before are left out), and the fifth is looked at once, for the report. A head that does not "
	"know more than statistics is called useless. Where no threshold passes its test, everybody is served at "
	"the last exit.\n\n"
	"Computing hidden states takes most of the time; it can be stopped and goes on where it was.\n\n"
	"Examples:\n"
	"  exitpoll fit-heads --samples samples --model SmolLM2-135M-Instruct.Q4_1.gguf --out bundle\n"
	"  exitpoll fit-heads --samples samples --model tuned --out bundle --exits 5,10,15 --hidden-samples 2000\n"
	"  exitpoll run --from events --to out --model bundle\n";

static double number(struct argp_state *state, const char *name, const char *text, double min, double max)
{
	char *end;
	double value = strtod(text, &end);
	if (end == text || *end || !(value >= min && value <= max))
		argp_error(state, "--%s %s: a number from %g to %g is needed", name, text, min, max);
	return value;
}

/* The index of the word among `words` [.. NULL]. */
static int word(struct argp_state *state, const char *name, const char *text, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	argp_error(state, "--%s %s: want %s or %s%s%s", name, text, words[0], words[1], words[2] ? " or " : "",
		   words[2] ? words[2] : "");
	return 0;
}

static enum exit_rule rule_of(struct argp_state *state, const char *text)
{
	struct error error = {0};
	enum exit_rule rule = EXIT_DISCREPANCY;
	if (exit_rule_parse(text, &rule, &error))
		argp_error(state, "--rule: %s", error.text);
	if (rule == EXIT_NONE)
		argp_error(state, "--rule none reads the model's own head; there is nothing to fit");
	return rule;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	static const char *const features[] = {"none", "statistics", NULL}, *const risks[] = {"loss", "ne", NULL};
	static const char *const objectives[] = {"auto", "logistic", "softmax", NULL};
	static const char *const choices[] = {"random", "newest", NULL}, *const users[] = {"unseen", "any", NULL};
	struct arguments *a = state->input;
	struct fit_options *fit = &a->fit;

	switch (key) {
	case KEY_SAMPLES: a->samples = argument; break;
	case KEY_MODEL: a->scorer.model = argument; break;
	case KEY_OUT: a->out = argument; break;
	case KEY_NAME: a->name = argument; break;
	case KEY_PORTABLE: a->portable = true; break;
	case KEY_FORCE: a->force = true; break;
	case KEY_ALLOW_LEAK: a->allow_leak = true; break;
	case KEY_FEATURES: fit->statistics = word(state, "features", argument, features); break;
	case KEY_EXITS: a->exits = argument; break;
	case KEY_OBJECTIVE:
		fit->objective = (enum fit_objective)word(state, "objective", argument, objectives);
		break;
	case KEY_HIDDEN_SAMPLES:
		fit->hidden_samples = arguments_whole(state, "hidden-samples", argument, 1, UINT32_MAX);
		break;
	case KEY_THRESHOLD_SAMPLES:
		fit->threshold_samples = arguments_whole(state, "threshold-samples", argument, 1, UINT32_MAX);
		break;
	case KEY_CHOOSE: fit->newest = word(state, "choose", argument, choices); break;
	case KEY_ETA: fit->eta_base = number(state, "eta", argument, 1e-6, 1); break;
	case KEY_GAMMA: fit->gamma = number(state, "gamma", argument, 0, 1); break;
	case KEY_ITERATIONS: fit->iterations = arguments_whole(state, "iterations", argument, 1, 1000000); break;
	case KEY_EPOCHS: fit->epochs = arguments_whole(state, "epochs", argument, 1, 100000); break;
	case KEY_RULE: fit->thresholds.rule = rule_of(state, argument); break;
	case KEY_WINDOW:
		fit->thresholds.window = (uint32_t)arguments_whole(state, "window", argument, 1, EXIT_LAYERS_MAX);
		break;
	case KEY_RISK: fit->thresholds.entropy = word(state, "risk", argument, risks); break;
	case KEY_BOUND: fit->thresholds.bound = number(state, "bound", argument, 0, 10); break;
	case KEY_CLIP: fit->thresholds.clip = number(state, "clip", argument, 1e-6, 100); break;
	case KEY_DELTA: fit->thresholds.delta = number(state, "delta", argument, 1e-9, .5); break;
	case KEY_USERS: fit->any_user = word(state, "users", argument, users); break;
	case KEY_CACHE: a->cache = argument; break;
	case KEY_CACHE_MAX: a->cache_gb = arguments_whole(state, "cache-max", argument, 1, 1 << 20); break;
	case KEY_TEMPLATE: a->scorer.template_name = argument; break;
	case KEY_PRECISION: a->scorer.precision = argument; break;
	case KEY_THREADS: a->scorer.threads = arguments_whole(state, "threads", argument, 1, 256); break;
	case KEY_SEED: fit->seed = arguments_whole(state, "seed", argument, 0, INT64_MAX); break;
	case KEY_JSON: a->json = true; break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (!a->samples || !a->scorer.model || !a->out)
			argp_error(state, "--samples, --model and --out are needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* ---- progress ---- */

struct telling {
	struct progress progress;
	const char *what;
};

static void tell(void *context, const char *what, uint64_t done, uint64_t total)
{
	struct telling *telling = context;
	if (!telling->what || strcmp(telling->what, what)) {
		progress_end(&telling->progress);
		telling->progress = progress_start(what, "impressions", total, total > 0);
		if (!total && isatty(STDERR_FILENO))
			fprintf(stderr, "%s\n", what);
		telling->what = what;
	}
	progress_update(&telling->progress, done);
}

/* ---- the command ---- */

static enum status check_wording(const struct bundle *bundle, const struct sample_folder *samples,
				 struct error *error)
{
	char wording[BUNDLE_HASH_BYTES];
	bundle_wording_hash(bundle, wording);
	if (!samples->wording[0] || strcmp(samples->wording, wording) == 0)
		return STATUS_OK;
	return error_set(error, STATUS_CONFIG,
			 "the samples were written with another template or other answer words (%s) than this "
			 "bundle has (%s)", samples->wording, wording);
}

/* What an adapter has learned from must lie before what heads are calibrated and judged on. */
static enum status check_leak(const struct arguments *arguments, const struct bundle *bundle,
			      const struct dataset *data, struct error *error)
{
	size_t leaking = 0, later = 0;
	for (size_t i = 0; i < data->impressions; i++)
		if (data->part[i] >= PART_CALIBRATION) {
			later++;
			leaking += data->time_ms[i] <= bundle->trained_until_ms;
		}
	if (!leaking)
		return STATUS_OK;
	if (!arguments->allow_leak)
		return error_set(error, STATUS_CONFIG,
				 "%s was trained on data up to %lld ms; %zu of %zu impressions of calibration, "
				 "thresholds and test are not later. Take later samples, or say --allow-leak and "
				 "trust no figure", arguments->scorer.model, (long long)bundle->trained_until_ms,
				 leaking, later);
	fprintf(stderr, "exitpoll: %zu of %zu later impressions are not later than what the model was trained on: "
			"the report's figures are too good to be true\n", leaking, later);
	return STATUS_OK;
}

static void print_figures(const struct fit_result *result, size_t rows, FILE *out)
{
	const struct hidden_states_figures *figures = &result->figures;
	fprintf(out, "\nHidden states of %llu impressions, %llu of them computed",
		(unsigned long long)figures->impressions, (unsigned long long)figures->computed);
	if (figures->seconds > 0)
		fprintf(out, " in %.1f s (%.0f tokens/s; %s)", figures->seconds,
			(double)figures->tokens / figures->seconds, result->description);
	fprintf(out, "; statistics fitted in %.1f s, heads in %.1f s (%.0f samples/min)\n",
		result->seconds_statistics, result->seconds_heads,
		result->seconds_heads > 0 ? (double)rows / result->seconds_heads * 60 : 0.0);
}

static enum status report(const struct arguments *arguments, const struct sample_folder *samples,
			  const struct bundle *bundle, const struct fit_result *result, size_t rows,
			  struct error *error)
{
	const struct dataset *data = &samples->data;
	json_t *root = fit_report_json(&arguments->fit, data, result);
	json_t *risk = fit_report_risk(&arguments->fit, result);
	enum status status = root && risk ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory to report");
	if (!status) {
		/* Where they lay is nobody's business elsewhere. */
		if (arguments->portable) {
			json_object_del(samples->description, "model");
			json_object_del(samples->description, "events");
		}
		json_object_set(root, "samples", samples->description);
		struct fit_bundle parts = {.out = arguments->out, .name = arguments->name,
					   .model = arguments->scorer.model, .portable = arguments->portable,
					   .bundle = bundle, .options = &arguments->fit, .data = data,
					   .result = result, .report = root, .risk = risk,
					   .samples = samples->description};
		status = fit_bundle_write(&parts, error);
	}
	if (!status && arguments->json) {
		json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
		putchar('\n');
	} else if (!status) {
		fit_report_print(&arguments->fit, data, result, false, stdout);
		print_figures(result, rows, stdout);
		printf("Bundle: %s (try `exitpoll run --model %s ...`)\n", arguments->out, arguments->out);
	}
	json_decref(root);
	json_decref(risk);
	return status;
}

static enum status fit_heads_command(struct arguments *arguments, struct error *error)
{
	char cache[PATH_BYTES];
	struct sample_folder *samples = NULL;
	struct bundle *bundle = NULL;
	struct fit_result *result = NULL;
	struct telling telling = {0};
	struct exit_policy layers = {0};
	size_t rows = 0;
	enum status status = fit_bundle_check(arguments->out, arguments->force, error);
	arguments->scorer.exit_rule = "none";   /* heads that are there already are read over */
	if (status || (status = bundle_open(&arguments->scorer, &bundle, error)) ||
	    (status = exit_layers_parse(arguments->exits, model_get_config(bundle->model)->layers, &layers, error)) ||
	    (status = sample_folder_open(arguments->samples, &samples, error)) ||
	    (status = check_wording(bundle, samples, error)) ||
	    (status = check_leak(arguments, bundle, &samples->data, error)))
		goto cleanup;
	snprintf(cache, sizeof cache, "%s/hidden", arguments->samples);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct fit_options *fit = &arguments->fit;
	fit->threads = arguments->scorer.threads ? (uint32_t)arguments->scorer.threads : cores > 0 ? (uint32_t)cores : 1;
	fit->exits = layers.layers_count;
	memcpy(fit->layers, layers.layers, sizeof fit->layers);
	fit->stopping = cli_stopping;
	fit->progress = tell;
	fit->progress_context = &telling;
	const struct fit_input input = {
		.data = samples->data, .names = (const char (*)[FEATURES_NAME_BYTES])samples->names,
		.tokens = &samples->tokens, .prefix_tokens = samples->prefix_tokens,
		.suffix_tokens = samples->suffix_tokens, .bundle = bundle, .scorer = &arguments->scorer,
		.cache = arguments->cache ? arguments->cache : cache,
		.cache_bytes_max = arguments->cache_gb * 1000000000,
	};
	status = fit_run(fit, &input, &result, error);
	progress_end(&telling.progress);
	if (status)
		goto cleanup;
	for (int part = 0; part < PARTS; part++)
		rows += result->with_hidden[part];
	rows = (size_t)((double)rows * (double)samples->data.rows / (double)samples->data.impressions);
	status = report(arguments, samples, bundle, result, rows, error);
cleanup:
	fit_result_destroy(result);
	sample_folder_close(samples);
	bundle_close(bundle);
	return status;
}

int cmd_fit_heads(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {.cache_gb = 20};
	struct error error = {0};
	scorer_options_defaults(&arguments.scorer);
	fit_options_defaults(&arguments.fit);
	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	cli_catch_signals();
	return fit_heads_command(&arguments, &error) == STATUS_OK ? 0 : cli_fail(&error);
}
