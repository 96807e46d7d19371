/* Our forward pass against numbers that others computed: every small checkpoint in the shared folder in
 * every format, and SmolLM2 with transformers. Skipped where the files are absent. */
#include "scorer/backend.h"
#include "scorer/score_prompt.h"
#include "base/mem.h"
#include "tests/check_run.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TOKENS_MAX = 1024 };

struct loaded {
	struct model *model;
	const struct model_config *config;
	struct backend *backend;
	struct batch *batch;
	float *head;            /* final norm, then V rows */
	uint32_t rows[TOKENS_MAX];
};

static void load(const char *path, const struct backend_table *table, struct loaded *out)
{
	struct error error = {0};
	ck_assert_msg(model_open(path, NULL, &out->model, &error) == STATUS_OK, "%s", error.text);
	out->config = model_get_config(out->model);
	ck_assert_int_eq(batch_create(TOKENS_MAX, &out->batch, &error), STATUS_OK);
	struct backend_options options = {
		.layers = out->config->layers, .rows_max = TOKENS_MAX, .slots_max = out->batch->slots_max,
		.positions_max = TOKENS_MAX, .threads = 2, .precision = "fp32",
	};
	struct model_view view = model_view_of(out->model);
	ck_assert_msg(table->create(&view, &options, &out->backend, &error) == STATUS_OK, "%s", error.text);
	size_t width = out->config->hidden_size;
	out->head = malloc((out->config->vocabulary + 1) * width * sizeof(float));
	ck_assert_int_eq(model_read(out->model, MODEL_FINAL_NORM, 0, 0, (uint32_t)width, out->head, &error),
			 STATUS_OK);
	ck_assert_int_eq(model_read(out->model, MODEL_HEAD, 0, 0, out->config->vocabulary, out->head + width,
				    &error), STATUS_OK);
	for (uint32_t i = 0; i < TOKENS_MAX; i++)
		out->rows[i] = i;
}

static double worst;

/* The relative part: a float of 320 ends at 3e-5. */
static void near(double got, json_t *want, double absolute, const char *what, int layer)
{
	double difference = fabs(got - json_number_value(want));
	worst = difference > worst ? difference : worst;
	absolute += 1e-6 * fabs(json_number_value(want));
	ck_assert_msg(difference <= absolute, "%s after layer %d: %.9g, want %.9g", what, layer, got,
		      json_number_value(want));
}

static void check_case(struct loaded *m, const struct backend_table *table, json_t *example)
{
	struct error error = {0};
	json_t *ids = json_object_get(example, "input_ids"), *layers = json_object_get(example, "layers");
	uint32_t count = (uint32_t)json_array_size(ids), width = m->config->hidden_size;
	int32_t tokens[TOKENS_MAX];
	ck_assert_uint_le(count, TOKENS_MAX);
	for (uint32_t i = 0; i < count; i++)
		tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
	batch_clear(m->batch, 0);
	batch_add_prefix(m->batch, tokens, count - 1);          /* all but the last shared */
	batch_add_suffix(m->batch, tokens + count - 1, 1, 0, INT64_MAX);
	ck_assert_int_eq(table->embed(m->backend, m->batch, &error), STATUS_OK);
	float *hidden = malloc(width * sizeof *hidden), *z = malloc(m->config->vocabulary * sizeof *z);
	uint32_t last = count - 1;
	for (uint32_t layer = 0; layer <= m->config->layers; layer++) {
		if (layer) {
			table->keys_values(m->backend, layer - 1, m->batch);
			table->finish(m->backend, layer - 1, m->batch, m->rows, count);
		}
		json_t *want = json_object_get(json_array_get(layers, layer), "hidden");
		ck_assert_uint_eq(json_array_size(want), width);
		table->hidden(m->backend, last, hidden);
		for (uint32_t i = 0; i < width; i++)
			near(hidden[i], json_array_get(want, i), 1e-4, "hidden", (int)layer);
	}
	struct readout readout = {m->head, m->head + width, m->config->vocabulary};
	table->read(m->backend, &readout, &last, 1, z);
	json_t *logits = json_object_get(example, "final_logits_last_position");
	ck_assert_uint_eq(json_array_size(logits), m->config->vocabulary);
	for (uint32_t i = 0; i < m->config->vocabulary; i++)
		near(z[i], json_array_get(logits, i), 1e-4, "logit", (int)m->config->layers);
	free(hidden);
	free(z);
}

static const char *const folders[] = {
	"stories260k-hf", "stories260k-hf-f16-sharded", "stories260k-hf-f16-torch", "tinystories-656k",
	"tinystories-656k-bf16",
};

START_TEST(small_checkpoints)
{
	const char *folder = folders[_i / 2];
	const struct backend_table *table = _i % 2 ? &backend_cpu : &backend_reference;
	char path[512];
	snprintf(path, sizeof path, TEST_SHARED_DIR "/models/%s/expected.json", folder);
	json_t *expected = json_load_file(path, 0, NULL);
	if (!expected) {
		printf("skipped: no %s\n", path);
		return;
	}
	struct loaded m;
	snprintf(path, sizeof path, TEST_SHARED_DIR "/models/%s", folder);
	load(path, table, &m);
	json_t *cases = json_object_get(expected, "cases");
	ck_assert_uint_gt(json_array_size(cases), 0);
	worst = 0;
	for (size_t i = 0; i < json_array_size(cases); i++)
		check_case(&m, table, json_array_get(cases, i));
	printf("%s, %s: %zu prompts, largest difference %.2g\n", folder, table->name, json_array_size(cases),
	       worst);
	table->destroy(m.backend);
	batch_destroy(m.batch);
	model_close(m.model);
	free(m.head);
	json_decref(expected);
}
END_TEST

static const char *smollm2(char path[512])
{
	const char *given = getenv("EXITPOLL_SMOLLM2"), *cache = getenv("EXITPOLL_CACHE"),
		   *home = getenv("HOME");
	if (given)
		return given;
	snprintf(path, 512, "%s%s/models/SmolLM2-135M-Instruct.Q4_1.gguf", cache ? cache : home ? home : "",
		 cache ? "" : "/.cache/exitpoll");
	return path;
}

START_TEST(smollm2_as_transformers)
{
	char buffer[512];
	const char *path = smollm2(buffer);
	json_t *expected = json_load_file(TEST_SHARED_DIR "/models/smollm2-135m/expected.json", 0, NULL);
	if (!expected || access(path, R_OK)) {
		printf("skipped: no %s or no expected.json\n", path);
		json_decref(expected);
		return;
	}
	struct scorer_options options;
	struct error error = {0};
	struct score_prompt *scoring;
	scorer_options_defaults(&options);
	options.model = path;
	options.precision = "fp32";
	options.exit_rule = "none";
	ck_assert_msg(score_prompt_open(&options, "Yes", "No", &scoring, &error) == STATUS_OK, "%s",
		      error.text);
	json_t *cases = json_object_get(expected, "cases");
	struct score_prompt_result *result = malloc(sizeof *result);
	double largest = 0;
	ck_assert_uint_gt(json_array_size(cases), 0);
	for (size_t i = 0; i < json_array_size(cases); i++) {
		json_t *example = json_array_get(cases, i), *layers = json_object_get(example, "layers");
		ck_assert_msg(score_prompt_text(
				  scoring, text_of(json_string_value(json_object_get(example, "prompt"))),
				  true, result, &error) == STATUS_OK,
			      "%s", error.text);
		ck_assert_uint_eq(result->tokens, json_array_size(json_object_get(example, "input_ids")));
		ck_assert_int_eq(result->yes_id, json_integer_value(json_object_get(expected, "yes_id")));
		ck_assert_int_eq(result->no_id, json_integer_value(json_object_get(expected, "no_id")));
		ck_assert_uint_eq(result->exit_layer, 30);
		for (uint32_t layer = 1; layer <= result->layers_count; layer++) {
			json_t *want = json_array_get(layers, layer);
			double yes = json_number_value(json_object_get(want, "z_yes"));
			double no = json_number_value(json_object_get(want, "z_no"));
			const struct score_prompt_layer *got = &result->layers[layer - 1];
			double scale = fmax(fmax(fabs(yes), fabs(no)), 1);
			double difference = fmax(fabs(got->yes - yes), fabs(got->no - no)) / scale;
			largest = fmax(largest, difference);
			ck_assert_msg(difference <= 1e-4, "case %zu layer %u: %.7g %.7g, want %.7g %.7g", i,
				      layer, (double)got->yes, (double)got->no, yes, no);
		}
	}
	printf("SmolLM2: %zu prompts, 30 layers, largest relative difference of a logit %.2g\n",
	       json_array_size(cases), largest);
	free(result);
	score_prompt_close(scoring);
	json_decref(expected);
}
END_TEST

/* Prompts of our own enrichment with transformers' numbers, in the tree; bf16 within what it rounds:
 * 5 % of the larger of a logit and 1 (3.2 % at most here; p under 0.1 %). */
START_TEST(smollm2_on_enriched_prompts)
{
	static const struct {
		const char *precision;
		double bound;
	} runs[] = {{"fp32", 1e-4}, {"bf16", 5e-2}};
	char buffer[512];
	const char *path = smollm2(buffer);
	json_t *golden = json_load_file(TEST_SOURCE_DIR "/tests/golden/scorer/smollm2_prompts.json", 0, NULL);
	ck_assert_ptr_nonnull(golden);
	if (access(path, R_OK)) {
		printf("skipped: no %s\n", path);
		json_decref(golden);
		return;
	}
	struct scorer_options options;
	struct error error = {0};
	struct score_prompt *scoring;
	struct score_prompt_result *result = malloc(sizeof *result);
	scorer_options_defaults(&options);
	options.model = path;
	options.precision = runs[_i].precision;
	options.exit_rule = "none";
	ck_assert_msg(score_prompt_open(&options, "Yes", "No", &scoring, &error) == STATUS_OK, "%s",
		      error.text);
	double largest = 0;
	json_t *cases = json_object_get(golden, "cases");
	ck_assert_uint_eq(json_array_size(cases), 3);
	for (size_t i = 0; i < 3; i++) {
		json_t *ids = json_object_get(json_array_get(cases, i), "input_ids");
		json_t *layers = json_object_get(json_array_get(cases, i), "layers");
		int32_t tokens[TOKENS_MAX];
		uint32_t count = (uint32_t)json_array_size(ids);
		ck_assert_uint_le(count, TOKENS_MAX);
		for (uint32_t k = 0; k < count; k++)
			tokens[k] = (int32_t)json_integer_value(json_array_get(ids, k));
		ck_assert_int_eq(score_prompt_ids(scoring, tokens, count, result, &error), STATUS_OK);
		ck_assert_int_eq(result->yes_id, json_integer_value(json_object_get(golden, "yes_id")));
		ck_assert_int_eq(result->no_id, json_integer_value(json_object_get(golden, "no_id")));
		ck_assert_uint_eq(result->layers_count, json_array_size(layers));
		for (uint32_t layer = 0; layer < result->layers_count; layer++) {
			double yes = json_number_value(json_array_get(json_array_get(layers, layer), 0));
			double no = json_number_value(json_array_get(json_array_get(layers, layer), 1));
			double scale = fmax(fmax(fabs(yes), fabs(no)), 1);
			double difference = fmax(fabs(result->layers[layer].yes - yes),
						 fabs(result->layers[layer].no - no)) / scale;
			largest = fmax(largest, difference);
			ck_assert_msg(difference <= runs[_i].bound, "%s case %zu layer %u: %.7g %.7g, want %.7g %.7g",
				      runs[_i].precision, i, layer + 1, (double)result->layers[layer].yes,
				      (double)result->layers[layer].no, yes, no);
		}
	}
	printf("SmolLM2, %s, enriched prompts: largest relative difference of a logit %.2g\n",
	       runs[_i].precision, largest);
	free(result);
	score_prompt_close(scoring);
	json_decref(golden);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("agreement");
	TCase *cases = tcase_create("agreement");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, small_checkpoints, 0, 10);
	tcase_add_test(cases, smollm2_as_transformers);
	tcase_add_loop_test(cases, smollm2_on_enriched_prompts, 0, 2);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
