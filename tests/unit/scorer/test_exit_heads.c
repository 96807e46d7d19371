/* Trained heads: what is written is read back, what is malformed is refused by name, and a bundle serves
 * exactly the formula of exit_heads.h. */
#include "tests/unit/scorer/tiny_bundle.h"

#include "scorer/bundle.h"
#include "scorer/score_trace.h"
#include "scorer/scorer.h"
#include "scorer/train/heads_file.h"
#include "tests/check_run.h"

enum { HEADS = 3, MEMBERS = 2, UNITS = 11, WIDTH = 32 };
enum { FEATURES = FEATURES_FIXED + FEATURES_PER_ATTRIBUTE, INPUTS = FEATURES + 2 };
static char *folder;
static struct exit_heads heads;
static struct exit_head_weights list[HEADS];
static float values[4096];
static char names[FEATURES][FEATURES_NAME_BYTES];
static struct exit_input inputs[INPUTS];

/* Heads at layers 1, 2 and 4, the second without hidden state, random but for the first, which reads the
 * model's own answer words when asked to. Statistics: 0 none, 1 one hidden layer, 2 with an inner one. */
static void make_heads(int statistics)
{
	const char *const attributes[] = {"brand"};
	struct scorer_options options;
	struct bundle *bundle = NULL;
	struct error error = {0};
	scorer_options_defaults(&options);
	options.model = folder;
	ck_assert_msg(bundle_open(&options, &bundle, &error) == STATUS_OK, "%s", error.text);
	random_fill(7, sizeof values / sizeof values[0], 1, values);
	float *at = values;
	heads = (struct exit_heads){.width = WIDTH, .count = HEADS, .heads = list, .names = names,
				    .trained_until_ms = 1234567890123,
				    .policy = {EXIT_DISCREPANCY, .25, 3, {1, 2, 4}, HEADS}};
	bundle_wording_hash(bundle, heads.wording);
	snprintf(heads.model, sizeof heads.model, "%s", bundle->content);
	if (statistics) {
		heads.features_count = FEATURES;
		heads.inputs_count = INPUTS;
		heads.inputs = inputs;
		heads.members = MEMBERS;
		heads.units = UNITS;
		for (int f = 0; f < FEATURES; f++) {
			features_name((size_t)f, attributes, names[f]);
			inputs[f] = (struct exit_input){(uint32_t)f, EXIT_INPUT_PLAIN};
		}
		inputs[FEATURES] = (struct exit_input){FEATURES_USER + 4, EXIT_INPUT_LOG};
		inputs[FEATURES + 1] = (struct exit_input){FEATURES_USER + 4, EXIT_INPUT_ZERO};
		heads.mean = at, at += INPUTS;
		for (int i = 0; i < 2 * INPUTS; i++)
			at[i] = .5f + fabsf(at[i]);
		heads.scale = at, at += INPUTS;
		heads.bend = at, at += INPUTS;
		heads.linear = at, at += INPUTS;
		heads.weight = at, at += MEMBERS * UNITS * INPUTS;
		heads.bias = at, at += MEMBERS * UNITS;
		heads.output = at, at += MEMBERS * UNITS;
		heads.inner = statistics > 1 ? at : NULL, at += MEMBERS * UNITS * UNITS;
		heads.inner_bias = statistics > 1 ? at : NULL, at += MEMBERS * UNITS;
	}
	for (int i = 0; i < HEADS; i++) {
		struct exit_head_weights *head = &list[i];
		*head = (struct exit_head_weights){.layer = i == 2 ? 4 : (uint32_t)i + 1,
						   .hidden = i != 1 || !statistics, .platt_a = 1 + .5 * i,
						   .platt_b = -.1 * i, .intercept = (double)(.25f * (float)i)};
		head->norm = at, at += WIDTH;
		head->vector = at, at += WIDTH;
	}
	bundle_close(bundle);
}

static void setup(void)
{
	folder = tiny_folder(5, 2048);
	tiny_write(folder, "exitpoll.json", "{\"name\": \"tiny\", \"model\": \".\"}");
}

static void teardown(void)
{
	char path[512];
	const char *const files[] = {"exit_heads.safetensors", "exit_policy.json"};
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, files[i]);
		remove(path);
	}
	tiny_remove(folder);
}

static void write_heads(void)
{
	struct error error = {0};
	json_t *risk = json_pack("{s:f}", "bound", .001);
	ck_assert_msg(heads_file_write(folder, &heads, risk, &error) == STATUS_OK, "%s", error.text);
	json_decref(risk);
	tiny_write(folder, "exitpoll.json", "{\"name\": \"tiny\", \"model\": \".\", \"heads\": \".\"}");
}

static void same(const float *a, const float *b, size_t count)
{
	if (a || b)
		ck_assert_mem_eq(a, b, count * sizeof *a);
}

START_TEST(what_is_written_is_read)
{
	make_heads(_i);
	write_heads();
	struct exit_heads *read = NULL, *again = NULL;
	struct error error = {0};
	ck_assert_msg(exit_heads_open(folder, WIDTH, 4, &read, &error) == STATUS_OK, "%s", error.text);
	ck_assert_uint_eq(read->count, HEADS);
	ck_assert_uint_eq(read->features_count, _i ? FEATURES : 0);
	ck_assert_str_eq(read->model, heads.model);
	ck_assert_str_eq(read->wording, heads.wording);
	ck_assert_int_eq(read->trained_until_ms, heads.trained_until_ms);
	ck_assert_int_eq(read->policy.rule, EXIT_DISCREPANCY);
	ck_assert_double_eq(read->policy.threshold, .25);
	ck_assert_uint_eq(read->policy.layers[2], 4);
	for (int i = 0; i < HEADS; i++) {
		const struct exit_head_weights *got = &read->heads[i], *want = &list[i];
		ck_assert_uint_eq(got->layer, want->layer);
		ck_assert_int_eq(got->hidden, want->hidden);
		ck_assert_double_eq(got->intercept, want->intercept);
		ck_assert_double_eq(got->platt_a, want->platt_a);
		ck_assert_double_eq(got->platt_b, want->platt_b);
		if (want->hidden) {
			same(got->norm, want->norm, WIDTH);
			same(got->vector, want->vector, WIDTH);
		}
	}
	ck_assert_uint_eq(read->inputs_count, _i ? INPUTS : 0);
	ck_assert_uint_eq(read->members, _i ? MEMBERS : 0);
	if (_i) {
		ck_assert_str_eq(read->names[FEATURES_FIXED], "brand_mean");
		ck_assert_mem_eq(read->inputs, inputs, sizeof inputs);
		same(read->mean, heads.mean, INPUTS);
		same(read->scale, heads.scale, INPUTS);
		same(read->bend, heads.bend, INPUTS);
		same(read->linear, heads.linear, INPUTS);
		same(read->weight, heads.weight, MEMBERS * UNITS * INPUTS);
		same(read->bias, heads.bias, MEMBERS * UNITS);
		same(read->output, heads.output, MEMBERS * UNITS);
		ck_assert((read->inner != NULL) == (_i > 1) && (read->inner_bias != NULL) == (_i > 1));
	}
	if (_i > 1) {
		same(read->inner, heads.inner, MEMBERS * UNITS * UNITS);
		same(read->inner_bias, heads.inner_bias, MEMBERS * UNITS);
	}
	ck_assert_msg(heads_file_write(folder, read, NULL, &error) == STATUS_OK, "%s", error.text);
	ck_assert_msg(exit_heads_open(folder, WIDTH, 4, &again, &error) == STATUS_OK, "%s", error.text);
	ck_assert_str_ne(read->content, again->content);        /* the risk is gone */
	exit_heads_close(again);
	exit_heads_close(read);
}
END_TEST

/* ---- serving ---- */

static float user_statistics[FEATURES_USER] = {.6f, 2, .1f, .7f};
static float statistics_of[2][13] = {{.3f, 1, .2f, .1f, 2, .3f, 4, .1f, .5f, .6f, .4f, .2f, 1}, {.8f, 3}};
static struct request_candidate candidates[3];
static struct scoring_request request;

struct seen {
	double p[3][5];
};

static void see(void *context, size_t r, size_t candidate, uint32_t layer, float p,
		const struct exit_decision *decision)
{
	(void)r;
	(void)decision;
	((struct seen *)context)->p[candidate][layer] = (double)p;
}

static const char *backend = "cpu";

static void score(const char *rule, const char *layers, struct seen *seen, struct candidate_score *scores,
		  bool trained, char model_id[160])
{
	struct scorer_options options;
	struct scorer *scorer = NULL;
	struct error error = {0};
	struct arena *arena = arena_create(1 << 20);
	const struct scoring_request *pointer = &request;
	struct prediction prediction;
	candidates[0] = (struct request_candidate){TEXT_LITERAL("a"), TEXT_LITERAL("soap"), statistics_of[0], 13};
	candidates[1] = (struct request_candidate){TEXT_LITERAL("b"), TEXT_LITERAL("comb"), statistics_of[1], 2};
	candidates[2] = (struct request_candidate){TEXT_LITERAL("c"), TEXT_LITERAL("brush"), NULL, 0};
	request = (struct scoring_request){.impression_id = TEXT_LITERAL("i"), .user_id = TEXT_LITERAL("u"),
					   .user_statistics = user_statistics, .user_statistics_count = 4,
					   .candidates = candidates, .candidates_count = 3};
	scorer_options_defaults(&options);
	options.model = folder;
	options.exit_rule = rule;
	options.exit_layers = layers;
	options.threads = 1;
	options.backend = backend;
	/* The GPU has two batches in flight: every candidate is one. */
	options.batch_tokens_max = strcmp(backend, "cuda") == 0 ? 1 : 0;
	ck_assert_msg(scorer_create(&options, &scorer, &error) == STATUS_OK, "%s", error.text);
	ck_assert_int_eq(scorer_is_trained(scorer), trained);
	scorer_set_trace(scorer, see, seen);
	ck_assert_msg(scorer_score(scorer, &pointer, 1, arena, &prediction, &error) == STATUS_OK, "%s",
		      error.text);
	memcpy(scores, prediction.scores, 3 * sizeof *scores);
	if (model_id)
		snprintf(model_id, 160, "%s", scorer_model_id(scorer));
	scorer_destroy(scorer);
	arena_destroy(arena);
}

static void silu(double *a, int count)
{
	for (int u = 0; u < count; u++)
		a[u] = a[u] / (1 + exp(-a[u]));
}

/* The formula once more, from the heads in memory and the request's raw features. */
static double statistics_by_hand(const float *raw)
{
	double s[INPUTS], z = 0;
	for (int i = 0; i < INPUTS; i++) {
		double f = (double)raw[inputs[i].feature], g = f;
		if (i == FEATURES)
			g = (f < 0 ? -1 : 1) * log(1 + fabs(f) / (double)heads.bend[i]);
		if (i == FEATURES + 1)
			g = f == 0 ? 1 : 0;
		s[i] = isnan(f) ? 0 : (g - (double)heads.mean[i]) / (double)heads.scale[i];
		s[i] = s[i] < -8 ? -8 : s[i] > 8 ? 8 : s[i];
		z += (double)heads.linear[i] * s[i];
	}
	for (int k = 0; k < MEMBERS; k++) {
		double first[UNITS], second[UNITS], *last = first;
		for (int u = 0; u < UNITS; u++) {
			int row = k * UNITS + u;
			first[u] = (double)heads.bias[row];
			for (int i = 0; i < INPUTS; i++)
				first[u] += (double)heads.weight[row * INPUTS + i] * s[i];
		}
		silu(first, UNITS);
		for (int u = 0; heads.inner && u < UNITS; u++) {
			int row = k * UNITS + u;
			second[u] = (double)heads.inner_bias[row];
			for (int v = 0; v < UNITS; v++)
				second[u] += (double)heads.inner[row * UNITS + v] * first[v];
		}
		if (heads.inner) {
			silu(second, UNITS);
			last = second;
		}
		for (int u = 0; u < UNITS; u++)
			z += (double)heads.output[k * UNITS + u] * last[u];
	}
	return z;
}

static double logit(double p)
{
	return log(p / (1 - p));
}

/* By the CPU, and by the GPU's kernels, emulated. */
START_TEST(a_bundle_serves_the_formula)
{
	backend = _i ? "cuda" : "cpu";
	setenv("EXITPOLL_CUDA_LIBRARY", TEST_CUDA_LIBRARY, 1);
	struct seen without = {0}, with = {0}, other = {0};
	struct candidate_score scores[3];
	char plain_id[160], heads_id[160], none_id[160];
	tiny_write(folder, "exitpoll.json", "{\"name\": \"tiny\", \"model\": \".\"}");
	make_heads(1 + _i);
	score("fixed", "1,2,4", &without, scores, false, plain_id);

	/* The model's own reading, with statistics beside it. */
	struct model *model = NULL;
	struct error error = {0};
	float norm[WIDTH], difference[WIDTH], no[WIDTH];
	ck_assert_int_eq(model_open(folder, NULL, &model, &error), STATUS_OK);
	ck_assert_int_eq(model_read(model, MODEL_FINAL_NORM, 0, 0, WIDTH, norm, &error), STATUS_OK);
	ck_assert_int_eq(model_read(model, MODEL_HEAD, 0, 'Y', 1, difference, &error), STATUS_OK);
	ck_assert_int_eq(model_read(model, MODEL_HEAD, 0, 'N', 1, no, &error), STATUS_OK);
	for (int i = 0; i < WIDTH; i++)
		difference[i] -= no[i];
	for (int i = 0; i < HEADS; i++) {
		list[i].norm = norm;
		list[i].vector = difference;
	}
	for (int i = 0; i < INPUTS; i++)
		((float *)heads.linear)[i] *= .1f;
	for (int i = 0; i < MEMBERS * UNITS; i++)
		((float *)heads.output)[i] *= .2f;      /* logits of few units: p keeps its digits */
	write_heads();
	score("fixed", NULL, &with, scores, true, heads_id);
	ck_assert_str_ne(plain_id, heads_id);
	struct exit_heads *read = NULL;
	ck_assert_int_eq(exit_heads_open(folder, WIDTH, 4, &read, &error), STATUS_OK);
	for (size_t c = 0; c < 3; c++) {
		float raw[FEATURES];
		double standardised[INPUTS];
		features_fill(&request, c, raw, FEATURES);
		exit_heads_standardise(read, raw, standardised);
		double by_hand = statistics_by_hand(raw);
		ck_assert_double_eq_tol(exit_heads_statistics(read, standardised), by_hand, 1e-10);
		for (int i = 0; i < HEADS; i++) {
			const struct exit_head_weights *head = &list[i];
			double want = head->intercept + by_hand;
			if (head->hidden)
				want += logit(without.p[c][head->layer]);
			ck_assert_double_eq_tol(logit(with.p[c][head->layer]), want, 2e-4);
		}
		ck_assert_int_eq(scores[c].exit_layer, 4);
		double z = logit(with.p[c][4]);
		ck_assert_double_eq_tol(logit((double)scores[c].p_click), list[2].platt_a * z + list[2].platt_b,
					2e-4);
	}
	exit_heads_close(read);
	struct scorer *scorer = NULL;
	struct scorer_options options;
	int64_t until_ms = 0;
	scorer_options_defaults(&options);
	options.model = folder;
	ck_assert_int_eq(scorer_create(&options, &scorer, &error), STATUS_OK);
	ck_assert(scorer_trained_until(scorer, &until_ms));
	ck_assert_int_eq(until_ms, heads.trained_until_ms);
	ck_assert_str_eq(scorer_feature_name(scorer, FEATURES_FIXED), "brand_mean");
	ck_assert_ptr_null(scorer_feature_name(scorer, FEATURES));
	scorer_destroy(scorer);

	/* A part of the list reads the same heads; the rule none reads the model's own. */
	score("fixed", "2", &other, scores, true, NULL);
	for (size_t c = 0; c < 3; c++) {
		ck_assert_double_eq(other.p[c][2], with.p[c][2]);
		ck_assert_int_eq(scores[c].exit_layer, 2);
	}
	score("none", NULL, &other, scores, false, none_id);
	for (size_t c = 0; c < 3; c++)
		ck_assert_double_eq((double)scores[c].p_click, without.p[c][4]);
	model_close(model);
}
END_TEST

static void refused(const struct scorer_options *options, enum status want, const char *text)
{
	struct bundle *bundle = NULL;
	struct error error = {0};
	enum status status = bundle_open(options, &bundle, &error);
	ck_assert_msg(status == want && strstr(error.text, text), "%s: %s", text, error.text);
	ck_assert_ptr_null(bundle);
}

START_TEST(heads_of_something_else_are_refused)
{
	struct scorer_options options;
	scorer_options_defaults(&options);
	options.model = folder;
	make_heads(2);
	write_heads();
	options.exit_layers = "1,3";
	refused(&options, STATUS_CONFIG, "no trained head at layer 3");
	options.exit_layers = NULL;
	options.template_name = "plain";
	refused(&options, STATUS_CONFIG, "another template");
	options.template_name = NULL;
	heads.model[0] = heads.model[0] == '0' ? '1' : '0';
	write_heads();
	refused(&options, STATUS_CONFIG, "trained on model");
	heads.width = WIDTH - 1;
	write_heads();
	refused(&options, STATUS_CORRUPT, "1.norm has a wrong shape, expected [32]");
	heads.width = WIDTH;
	values[0] = NAN;
	write_heads();
	refused(&options, STATUS_CORRUPT, "no weight");
	values[0] = 0;
	values[INPUTS] = 0;
	write_heads();
	refused(&options, STATUS_CORRUPT, "input 0: a scale must be positive");
}
END_TEST

START_TEST(policies_are_checked)
{
#define HASHES "\"model\": \"m\", \"wording\": \"w\", \"trained_until\": 1, "
#define HEAD "\"heads\": [{\"layer\": 2, \"hidden\": true, \"a\": 1, \"b\": 0}]"
#define POLICY "\"policy\": {\"rule\": \"fixed\", \"layers\": [2]}, "
	static const struct { const char *json, *want; enum status status; } wrong[] = {
		{"{", "byte", STATUS_CORRUPT},
		{"{}", "\"version\" must be 2", STATUS_UNSUPPORTED},
		{"{\"version\": 3}", "\"version\" must be 2", STATUS_UNSUPPORTED},
		{"{\"version\": 2, " HASHES POLICY HEAD ", \"features\": [], \"members\": 0}",
		 "\"members\" must be", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES POLICY HEAD ", \"features\": [], \"inputs\": [\"log x\"]}",
		 "\"inputs\" must list", STATUS_CONFIG},
		{"{\"version\": 2}", "trained_until", STATUS_CONFIG},
		{"{\"version\": 2, \"trained_until\": 1}", "\"model\" must be a hash", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES POLICY HEAD "}", "\"features\" must name", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES POLICY HEAD ", \"features\": [\"x\"]}", "must name none or 14",
		 STATUS_CONFIG},
		{"{\"version\": 2, " HASHES POLICY HEAD ", \"features\": [], \"extra\": 1}", "unknown key",
		 STATUS_CONFIG},
		{"{\"version\": 2, " HASHES HEAD ", \"features\": [], \"policy\": {\"rule\": \"none\"}}",
		 "rule none", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES HEAD ", \"features\": []}", "exit.layers is empty", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES HEAD ", \"features\": [], \"policy\": {\"rule\": \"fixed\", "
		 "\"layers\": [3]}}", "head 0 is of layer 2", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES HEAD ", \"features\": [], \"policy\": {\"rule\": \"fixed\", "
		 "\"layers\": [2, 3]}}", "one for each of the 2 layers", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES POLICY "\"features\": [], \"heads\": [{\"layer\": 2}]}",
		 "a head needs", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES POLICY "\"features\": [], \"heads\": [{\"layer\": 2, \"hidden\": "
		 "false, \"a\": 1, \"b\": 0}]}", "neither the hidden state nor", STATUS_CONFIG},
		{"{\"version\": 2, " HASHES POLICY "\"features\": [], \"heads\": [{\"layer\": 2, \"hidden\": "
		 "true, \"a\": -1, \"b\": 0}]}", "a must be positive", STATUS_CONFIG},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct exit_heads *read = NULL;
		struct error error = {0};
		tiny_write(folder, "exit_policy.json", wrong[i].json);
		tiny_write(folder, "exit_heads.safetensors", "");
		enum status status = exit_heads_open(folder, WIDTH, 4, &read, &error);
		ck_assert_msg(status == wrong[i].status && strstr(error.text, wrong[i].want), "%s: %s",
			      wrong[i].json, error.text);
	}
}
END_TEST

START_TEST(tensors_must_belong_to_a_head)
{
	struct exit_heads *read = NULL;
	struct error error = {0};
	make_heads(2);
	heads.count = heads.policy.layers_count = 2;
	write_heads();
	char path[512], saved[512];
	snprintf(path, sizeof path, "%s/exit_policy.json", folder);
	snprintf(saved, sizeof saved, "%s/prompt.txt", folder);
	ck_assert_int_eq(rename(path, saved), 0);
	heads.count = heads.policy.layers_count = 3;
	write_heads();
	ck_assert_int_eq(rename(saved, path), 0);
	ck_assert_int_eq(exit_heads_open(folder, WIDTH, 4, &read, &error), STATUS_CORRUPT);
	ck_assert_msg(strstr(error.text, "belong to no head") != NULL, "%s", error.text);
	ck_assert_ptr_null(read);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exit heads");
	TCase *tests = tcase_create("exit heads");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_loop_test(tests, what_is_written_is_read, 0, 3);
	tcase_add_loop_test(tests, a_bundle_serves_the_formula, 0, 2);
	tcase_add_test(tests, heads_of_something_else_are_refused);
	tcase_add_test(tests, policies_are_checked);
	tcase_add_test(tests, tensors_must_belong_to_a_head);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
