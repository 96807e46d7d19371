/* cmd_score.c - `exitpoll score`: one scoring request as JSON, or one raw prompt, without a stream. */
#include "ops/cli/cli.h"
#include "ops/cli/progress.h"
#include "ops/cli/score_request.h"
#include "scorer/score_prompt.h"
#include "scorer/score_trace.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_BYTES_MAX = 16 << 20, ANSWER_BYTES = 128 };

struct arguments {
	struct scorer_options scorer;
	const char *prompt_file, *answers;
	bool layers, trace, no_special, ids, prompts;	struct progress_parts bar;      /* while weights are loaded */
};

enum option_key { KEY_MODEL = 0x100, KEY_PROMPT, KEY_ANSWERS, KEY_PRECISION, KEY_LAYERS, KEY_TRACE, KEY_NO_SPECIAL,
		  KEY_IDS, KEY_PROMPTS, KEY_BACKEND, KEY_RULE, KEY_THRESHOLD, KEY_WINDOW, KEY_EXITS, KEY_TEMPLATE,
		  KEY_THREADS };

static const struct argp_option options[] = {
	{"model", KEY_MODEL, "PATH", 0, "model bundle, Hugging Face folder or GGUF file", 0},
	{"prompt-file", KEY_PROMPT, "FILE", 0, "a raw prompt instead of an impression (- : standard input)", 0},
	{"answers", KEY_ANSWERS, "YES,NO", 0, "the two answer words of a raw prompt (the model's)", 0},
	{"no-special", KEY_NO_SPECIAL, NULL, 0, "special tokens written in the raw prompt are plain text", 0},
	{"ids", KEY_IDS, NULL, 0, "the prompt file holds token ids: a JSON array a line, one result a line", 0},
	{"prompts", KEY_PROMPTS, NULL, 0, "the token ids of each candidate's prompt (impressions)", 0},
	{"layers", KEY_LAYERS, NULL, 0, "logits of both answers after every layer (raw prompts)", 0},
	{"trace", KEY_TRACE, NULL, 0, "why each candidate left where it did", 0},
	{"precision", KEY_PRECISION, "WHICH", 0, "of weights and activations: auto (the best), fp32, bf16, fp16 (GPU)", 0},
	{"backend", KEY_BACKEND, "NAME", 0, "auto, cuda, cpu, reference or stub", 0},
	{"template", KEY_TEMPLATE, "NAME|FILE", 0, "prompt template", 0},
	{"exit-rule", KEY_RULE, "RULE", 0, "discrepancy, confidence, patience, fixed or none", 0},
	{"exit-threshold", KEY_THRESHOLD, "X", 0, "of the rule", 0},
	{"exit-window", KEY_WINDOW, "N", 0, "of the rule", 0},
	{"exit-layers", KEY_EXITS, "LIST", 0, "5,10,15", 0},
	{"threads", KEY_THREADS, "N", 0, "0: all processors", 0},
	{0},
};

static const char description[] =
	"Scores without a stream. Standard input holds one impression as JSON, as `exitpoll inspect` prints a\n"
	"scoring request; only \"candidates\" is needed:\n"
	"  {\"history\": [{\"text\": \"Rose Balm\", \"rating\": 5}],\n"
	"   \"candidates\": [{\"item_id\": \"B1\", \"text\": \"Lip Balm\"}]}\v"
	"Examples:\n"
	"  exitpoll score --model model.gguf --trace < impression.json\n"
	"  exitpoll score --model model.gguf --prompt-file prompt.txt --answers Yes,No --layers --precision fp32\n";

static double number(struct argp_state *state, const char *name, const char *text, double min, double max)
{
	char *end;
	double value = strtod(text, &end);
	if (*end || end == text || !(value >= min && value <= max))
		argp_error(state, "--%s %s: a number from %g to %g is needed", name, text, min, max);
	return value;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_MODEL: arguments->scorer.model = argument; break;
	case KEY_PROMPT: arguments->prompt_file = argument; break;
	case KEY_ANSWERS: arguments->answers = argument; break;
	case KEY_PRECISION: arguments->scorer.precision = argument; break;
	case KEY_LAYERS: arguments->layers = true; break;
	case KEY_TRACE: arguments->trace = true; break;
	case KEY_IDS: arguments->ids = true; break;
	case KEY_PROMPTS: arguments->prompts = true; break;
	case KEY_NO_SPECIAL: arguments->no_special = true; break;
	case KEY_BACKEND: arguments->scorer.backend = argument; break;
	case KEY_TEMPLATE: arguments->scorer.template_name = argument; break;
	case KEY_RULE: arguments->scorer.exit_rule = argument; break;
	case KEY_THRESHOLD: arguments->scorer.exit_threshold = number(state, "exit-threshold", argument, 0, 1e9); break;
	case KEY_WINDOW: arguments->scorer.exit_window = (int)number(state, "exit-window", argument, 1, 128); break;
	case KEY_EXITS: arguments->scorer.exit_layers = argument; break;
	case KEY_THREADS: arguments->scorer.threads = (size_t)number(state, "threads", argument, 0, 1024); break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (!arguments->scorer.model && strcmp(arguments->scorer.backend, "stub") != 0)
			argp_error(state, "--model is needed");
		if (!arguments->prompt_file && (arguments->answers || arguments->layers || arguments->no_special ||
						arguments->ids))
			argp_error(state, "--answers, --layers, --ids and --no-special go with --prompt-file");
		if (arguments->prompt_file && arguments->prompts)
			argp_error(state, "--prompts goes with an impression, not with --prompt-file");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static enum status read_input(const char *path, char **out, size_t *size, struct error *error)
{
	FILE *file = !path || strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *text;

	if (!file)
		return error_set(error, STATUS_NO_INPUT, "cannot open %s: %s", path, strerror(errno));
	text = mem_alloc(INPUT_BYTES_MAX + 1);
	if (!text) {
		if (file != stdin)
			fclose(file);
		return error_set(error, STATUS_NO_MEMORY, "out of memory");
	}
	*size = fread(text, 1, INPUT_BYTES_MAX + 1, file);
	if (file != stdin)
		fclose(file);
	if (*size > INPUT_BYTES_MAX) {
		mem_free(text);
		return error_set(error, STATUS_CORRUPT, "the input is larger than %d bytes", (int)INPUT_BYTES_MAX);
	}
	*out = text;
	return STATUS_OK;
}

/* ---- raw prompts ---- */

static void print_optional(const char *name, bool has, float value)
{
	if (has)
		printf(",\"%s\":%.9g", name, (double)value);
	else
		printf(",\"%s\":null", name);
}

static void print_decision(const struct exit_decision *decision, uint32_t layer, float p)
{
	printf("{\"layer\":%u,\"p\":%.9g", layer, (double)p);
	print_optional("discrepancy", decision->has_discrepancy, decision->discrepancy);
	print_optional("mean_discrepancy", decision->has_mean, decision->mean_discrepancy);
	print_optional("margin", decision->has_margin, decision->margin);
	printf(",\"leaves\":%s,\"why\":", decision->leave ? "true" : "false");
	cli_json_string(stdout, decision->why, strlen(decision->why));
	putchar('}');
}

static void print_prompt_result(const struct arguments *arguments, const struct score_prompt *scoring,
				const struct score_prompt_result *result)
{
	fputs("{\"model_id\":", stdout);
	cli_json_string(stdout, score_prompt_model_id(scoring), strlen(score_prompt_model_id(scoring)));
	fputs(",\"backend\":", stdout);
	cli_json_string(stdout, score_prompt_describe(scoring), strlen(score_prompt_describe(scoring)));
	printf(",\"tokens\":%u,\"answer_ids\":[%d,%d],\"p_click\":%.9g,\"exit_layer\":%u", result->tokens, result->yes_id,
	       result->no_id, (double)result->p_click, result->exit_layer);
	print_optional("margin", result->has_margin, result->margin);
	if (arguments->layers) {
		fputs(",\"layers\":[", stdout);
		for (uint32_t i = 0; i < result->layers_count; i++)
			printf("%s[%.9g,%.9g]", i ? "," : "", (double)result->layers[i].yes, (double)result->layers[i].no);
		putchar(']');
	}
	if (arguments->trace) {
		bool first = true;
		fputs(",\"trace\":[", stdout);
		for (uint32_t i = 0; i < result->layers_count; i++) {
			if (!result->layers[i].is_exit)
				continue;
			fputs(first ? "" : ",", stdout);
			print_decision(&result->layers[i].decision, i + 1, result->layers[i].p);
			first = false;
		}
		putchar(']');
	}
	puts("}");
}

/* Each line a JSON array of token ids. */
static enum status score_lines(const struct arguments *arguments, struct score_prompt *scoring, const char *text,
			       size_t size, struct score_prompt_result *result, struct error *error)
{
	int32_t *ids = mem_alloc_array(SCORE_PROMPT_TOKENS_MAX, sizeof *ids);
	enum status status = ids ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "out of memory");
	unsigned number = 1;

	for (size_t begin = 0, end; status == STATUS_OK && begin < size; begin = end + 1, number++) {
		const char *stop = memchr(text + begin, '\n', size - begin);
		end = stop ? (size_t)(stop - text) : size;
		if (end == begin)
			continue;
		json_t *line = json_loadb(text + begin, end - begin, 0, NULL);
		size_t count = json_array_size(line);
		if (!json_is_array(line) || count > SCORE_PROMPT_TOKENS_MAX)
			status = error_set(error, STATUS_CORRUPT, "line %u: no array of at most %d token ids", number,
					   SCORE_PROMPT_TOKENS_MAX);
		for (size_t i = 0; status == STATUS_OK && i < count; i++) {
			json_int_t id = json_integer_value(json_array_get(line, i));
			if (!json_is_integer(json_array_get(line, i)) || id < 0 || id > INT32_MAX)
				status = error_set(error, STATUS_CORRUPT, "line %u: element %zu is no token id", number,
						   i);
			ids[i] = (int32_t)id;
		}
		json_decref(line);
		if (status == STATUS_OK)
			status = score_prompt_ids(scoring, ids, (uint32_t)count, result, error);
		if (status == STATUS_OK)
			print_prompt_result(arguments, scoring, result);
	}
	mem_free(ids);
	return status;
}

static enum status score_raw(struct arguments *arguments, struct error *error)
{
	struct score_prompt *scoring = NULL;
	struct score_prompt_result *result = mem_alloc_zero(1, sizeof *result);
	char answers[2 * ANSWER_BYTES], *comma = NULL, *text = NULL;
	size_t size = 0;
	enum status status = result ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "out of memory");

	if (status == STATUS_OK && arguments->answers) {
		snprintf(answers, sizeof answers, "%s", arguments->answers);
		comma = strchr(answers, ',');
		if (!comma || comma == answers || !comma[1])
			status = error_set(error, STATUS_USAGE, "--answers '%s': two words are needed, as in Yes,No",
					   arguments->answers);
		else
			*comma++ = '\0';
	}
	if (status == STATUS_OK)
		status = read_input(arguments->prompt_file, &text, &size, error);
	if (status == STATUS_OK)
		status = score_prompt_open(&arguments->scorer, comma ? answers : NULL, comma, &scoring, error);
	progress_end(&arguments->bar.progress);
	if (status == STATUS_OK && arguments->ids)
		status = score_lines(arguments, scoring, text, size, result, error);
	else if (status == STATUS_OK)
		status = score_prompt_text(scoring, (struct text_view){text, size}, !arguments->no_special, result, error);
	if (status == STATUS_OK && !arguments->ids)
		print_prompt_result(arguments, scoring, result);
	score_prompt_close(scoring);
	mem_free(text);
	mem_free(result);
	return status;
}

/* ---- impressions ---- */

enum { TRACES_MAX = 65536 };

struct trace_line {
	size_t candidate;
	uint32_t layer;
	float p;
	struct exit_decision decision;
};

struct traces {
	struct trace_line *lines;
	size_t count, capacity;
};

static void on_trace(void *context, size_t request, size_t candidate, uint32_t layer, float p,
		     const struct exit_decision *decision)
{
	struct traces *traces = context;
	void *array = traces->lines;

	(void)request;
	if (!mem_reserve(&array, &traces->capacity, traces->count, TRACES_MAX, sizeof *traces->lines))
		return;
	traces->lines = array;
	traces->lines[traces->count++] = (struct trace_line){candidate, layer, p, *decision};
}

static void print_candidate_trace(const struct traces *traces, size_t candidate)
{
	bool first = true;

	fputs(",\"trace\":[", stdout);
	for (size_t i = 0; i < traces->count; i++) {
		if (traces->lines[i].candidate != candidate)
			continue;
		fputs(first ? "" : ",", stdout);
		print_decision(&traces->lines[i].decision, traces->lines[i].layer, traces->lines[i].p);
		first = false;
	}
	putchar(']');
}

static void print_prompt(struct scorer *scorer, const struct scoring_request *request, size_t candidate)
{
	struct error error = {0};
	int32_t *ids = mem_alloc_array(SCORE_PROMPT_TOKENS_MAX, sizeof *ids);
	size_t count = 0;

	fputs(",\"prompt_ids\":", stdout);
	if (ids && scorer_prompt(scorer, request, candidate, ids, SCORE_PROMPT_TOKENS_MAX, &count, &error) == STATUS_OK) {
		for (size_t i = 0; i < count; i++)
			printf(i ? ",%d" : "[%d", ids[i]);
		putchar(']');
	} else {
		fputs("null", stdout);
	}
	mem_free(ids);
}

static void print_prediction(const struct arguments *arguments, struct scorer *scorer,
			     const struct scoring_request *request, const struct prediction *prediction,
			     const struct traces *traces)
{
	fputs("{\"model_id\":", stdout);
	cli_json_string(stdout, scorer_model_id(scorer), strlen(scorer_model_id(scorer)));
	fputs(",\"backend\":", stdout);
	cli_json_string(stdout, scorer_describe(scorer), strlen(scorer_describe(scorer)));
	printf(",\"trained\":%s,\"status\":\"%s\",\"scores\":[", scorer_is_trained(scorer) ? "true" : "false",
	       prediction_status_name(prediction->status));
	for (size_t i = 0; i < prediction->scores_count; i++) {
		const struct candidate_score *score = &prediction->scores[i];
		fputs(i ? ",{\"item_id\":" : "{\"item_id\":", stdout);
		cli_json_string(stdout, score->item_id.bytes, score->item_id.size);
		printf(",\"p_click\":%.9g,\"exit_layer\":%d,\"margin\":", (double)score->p_click, score->exit_layer);
		if (score->has_margin)
			printf("%.9g", (double)score->margin);
		else
			fputs("null", stdout);
		if (arguments->trace)
			print_candidate_trace(traces, i);
		if (arguments->prompts)
			print_prompt(scorer, request, i);
		putchar('}');
	}
	puts("]}");
}

static enum status score_impression(struct arguments *arguments, struct error *error)
{
	struct scorer *scorer = NULL;
	struct arena *arena = arena_create((size_t)1 << 28);
	struct scoring_request request;
	const struct scoring_request *pointer = &request;
	struct prediction prediction;
	struct traces traces = {0};
	char *text = NULL;
	size_t size = 0;
	enum status status = arena ? read_input(NULL, &text, &size, error)
				   : error_set(error, STATUS_NO_MEMORY, "out of memory");

	if (status == STATUS_OK)
		status = score_request_parse((struct text_view){text, size}, arena, &request, error);
	if (status == STATUS_OK)
		status = scorer_create(&arguments->scorer, &scorer, error);
	progress_end(&arguments->bar.progress);
	if (status == STATUS_OK && arguments->trace)
		scorer_set_trace(scorer, on_trace, &traces);
	if (status == STATUS_OK)
		status = scorer_score(scorer, &pointer, 1, arena, &prediction, error);
	if (status == STATUS_OK)
		print_prediction(arguments, scorer, &request, &prediction, &traces);
	scorer_destroy(scorer);
	mem_free(traces.lines);
	mem_free(text);
	arena_destroy(arena);
	return status;
}

int cmd_score(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {0};
	struct error error = {0};
	enum status status;

	scorer_options_defaults(&arguments.scorer);
	arguments.bar.wanted = true;
	struct advance loading = {progress_part, &arguments.bar};
	arguments.scorer.loading = &loading;
	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	status = arguments.prompt_file ? score_raw(&arguments, &error) : score_impression(&arguments, &error);
	if (status == STATUS_OK)
		return 0;
	return status == STATUS_USAGE ? cli_usage("score", "%s", error.text) : cli_fail(&error);
}
