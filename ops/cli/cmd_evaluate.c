/* cmd_evaluate.c - `exitpoll evaluate`: predictions and what happened afterwards become figures. */
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/evaluate_events.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DRAWS_DEFAULT = 200 };

struct arguments {
	const char *predictions, *plots;
	const char *others[REPORT_OTHERS_MAX];
	size_t others_count;
	struct evaluate_events_options events;
	uint64_t seed;
	uint32_t draws;
	bool json, brief, allow_leak;
};

enum option_key { KEY_PREDICTIONS = 0x100, KEY_EVENTS, KEY_COMPARE, KEY_TASK, KEY_LABEL, KEY_UNANSWERED, KEY_PLOTS,
		  KEY_JSON, KEY_BRIEF, KEY_SEED, KEY_DRAWS, KEY_ALLOW_LEAK };

static const struct argp_option options[] = {
	{"predictions", KEY_PREDICTIONS, "WHERE", 0, "a container file, or a folder with predictions.avro", 0},
	{"events", KEY_EVENTS, "DIR", 0, "the folder whose impressions were answered; its interactions are the truth", 0},
	{"compare", KEY_COMPARE, "WHERE", 0, "other predictions of these impressions, paired; may be repeated", 0},
	{"task", KEY_TASK, "TASK", 0, "liked or clicked; default: as the events say", 0},
	{"label", KEY_LABEL, "RULE", 0, "what is liked: 'rating>=4'; default: as the events say", 0},
	{"unanswered-negative", KEY_UNANSWERED, NULL, 0,
	 "clicked: what nothing answers was shown in vain (default: left out)", 0},
	{"plots", KEY_PLOTS, "DIR", 0, "write charts (SVG): reliability, roc, layers, tradeoff", 0},
	{"bootstrap", KEY_DRAWS, "N", 0, "draws over users for the intervals (200); 0: none", 0},
	{"seed", KEY_SEED, "N", 0, "of the draws (1)", 0},
	{"allow-leak", KEY_ALLOW_LEAK, NULL, 0, "judge times that the model was trained on, and say so", 0},
	{"brief", KEY_BRIEF, NULL, 0, "the figures of all answers alone: no layers, slices or comparisons", 0},
	{"json", KEY_JSON, NULL, 0, "everything as JSON", 0},
	{0},
};

static const char description[] =
	"Judges predictions by what happened afterwards: AUC (over all, within users and impressions), how often the "
	"taken item came first, log loss, normalised entropy, calibration, by exit layer and by how much was known "
	"before; beside popularity, with intervals over users.\v"
	"Examples:\n"
	"  exitpoll evaluate --predictions out --events events\n"
	"  exitpoll evaluate --predictions out --events events --plots charts --json > figures.json\n"
	"  exitpoll evaluate --predictions exits --compare full-depth --events events\n"
	"  exitpoll evaluate --predictions out --events events --task liked --label 'rating>=4'\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_PREDICTIONS: arguments->predictions = argument; break;
	case KEY_EVENTS: arguments->events.folder = argument; break;
	case KEY_COMPARE:
		if (arguments->others_count == REPORT_OTHERS_MAX)
			argp_error(state, "--compare: at most %d times", REPORT_OTHERS_MAX);
		arguments->others[arguments->others_count++] = argument;
		break;
	case KEY_TASK: arguments->events.task = argument; break;
	case KEY_LABEL: arguments->events.label = argument; break;
	case KEY_UNANSWERED: arguments->events.unanswered_negative = true; break;
	case KEY_PLOTS: arguments->plots = argument; break;
	case KEY_JSON: arguments->json = true; break;
	case KEY_BRIEF: arguments->brief = true; break;
	case KEY_ALLOW_LEAK: arguments->allow_leak = true; break;
	case KEY_SEED: arguments->seed = arguments_whole(state, "seed", argument, 0, INT64_MAX); break;
	case KEY_DRAWS:
		arguments->draws = (uint32_t)arguments_whole(state, "bootstrap", argument, 0, BOOTSTRAP_DRAWS_MAX);
		break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (!arguments->predictions || !arguments->events.folder)
			argp_error(state, "--predictions and --events are needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* The impression of each row, so that others can be looked up. */
static enum status align(const struct predictions *own, const struct evaluated *evaluated,
			 const struct predictions *other, float **p, uint16_t **layer, struct error *error)
{
	size_t rows = evaluated->answers.rows_count;
	uint32_t *owner = mem_alloc_array(own->rows_count ? own->rows_count : 1, sizeof *owner);

	*p = mem_alloc_array(rows ? rows : 1, sizeof **p);
	*layer = mem_alloc_zero(rows ? rows : 1, sizeof **layer);
	if (!owner || !*p || !*layer) {
		mem_free(owner);
		return error_set(error, STATUS_NO_MEMORY, "no memory to compare %zu answers", rows);
	}
	for (uint32_t i = 0; i < own->count; i++)
		for (uint32_t row = own->list[i].first; row < own->list[i].first + own->list[i].count; row++)
			owner[row] = i;
	for (size_t i = 0; i < rows; i++) {
		uint32_t row = evaluated->prediction_row[i], at = row - own->list[owner[row]].first;
		const struct predicted *theirs = predictions_find(other, ids_bytes(own->ids, owner[row]));
		const struct predicted_row *one = theirs && at < theirs->count ? &other->rows[theirs->first + at] : NULL;
		bool same = one && theirs->status != PREDICTION_LATE && one->item == own->rows[row].item;

		(*p)[i] = same ? one->p : NAN;
		(*layer)[i] = same ? one->layer : 0;
	}
	mem_free(owner);
	return STATUS_OK;
}

static enum status check_leak(const struct arguments *arguments, const struct predictions *predictions,
			      const struct evaluated *evaluated, struct error *error)
{
	if (!evaluated->counts.leaked || arguments->allow_leak)
		return STATUS_OK;
	return error_set(error, STATUS_CONFIG, "%s: %" PRIu64 " predictions are of times up to %" PRId64 ", which the "
			 "model was trained on: to judge them would say too much (--allow-leak does it and says so)",
			 arguments->predictions, evaluated->counts.leaked, predictions->trained_until_ms);
}

static enum status show(const struct arguments *arguments, const struct report *report, struct error *error)
{
	enum status status = STATUS_OK;

	if (arguments->json)
		report_print_json(report, stdout);
	else
		report_print(report, arguments->brief, stdout);
	if (!arguments->plots)
		return STATUS_OK;
	mkdir(arguments->plots, 0777);
	status = report_plot(report, arguments->plots, error);
	if (status == STATUS_OK && !arguments->json)
		printf("\nCharts: %s/{reliability,roc,layers,tradeoff}.svg\n", arguments->plots);
	return status;
}

static enum status evaluate(const struct arguments *arguments, struct error *error)
{
	struct predictions predictions = {0}, other = {0};
	struct evaluated evaluated = {0};
	struct report_other others[REPORT_OTHERS_MAX];
	float *p[REPORT_OTHERS_MAX] = {NULL};
	uint16_t *layer[REPORT_OTHERS_MAX] = {NULL};
	struct report *report = NULL;
	enum status status = predictions_read(arguments->predictions, &predictions, error);

	if (status == STATUS_OK)
		status = evaluate_events(&arguments->events, &predictions, &evaluated, error);
	if (status == STATUS_OK)
		status = check_leak(arguments, &predictions, &evaluated, error);
	for (size_t i = 0; i < arguments->others_count && status == STATUS_OK; i++) {
		status = predictions_read(arguments->others[i], &other, error);
		if (status == STATUS_OK)
			status = align(&predictions, &evaluated, &other, &p[i], &layer[i], error);
		predictions_free(&other);
		others[i] = (struct report_other){arguments->others[i], p[i], layer[i]};
	}
	struct report_input input = {
		.name = arguments->predictions,
		.answers = &evaluated.answers,
		.user_keys = evaluated.user_keys,
		.counts = evaluated.counts,
		.task = evaluated.task,
		.model_id = predictions.model_id,
		.model_layers = predictions.model_layers,
		.others = others,
		.others_count = arguments->others_count,
		.seed = arguments->seed,
		.draws = arguments->draws,
	};
	if (status == STATUS_OK)
		status = report_make(&input, &report, error);
	if (status == STATUS_OK)
		status = show(arguments, report, error);
	report_destroy(report);
	for (size_t i = 0; i < arguments->others_count; i++) {
		mem_free(p[i]);
		mem_free(layer[i]);
	}
	evaluated_free(&evaluated);
	predictions_free(&predictions);
	return status;
}

int cmd_evaluate(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {.draws = DRAWS_DEFAULT, .seed = 1};
	struct error error = {0};

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	cli_catch_signals();
	arguments.events.stopping = cli_stopping;
	return evaluate(&arguments, &error) == STATUS_OK ? 0 : cli_fail(&error);
}
