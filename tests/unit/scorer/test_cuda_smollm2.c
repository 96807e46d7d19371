/* The quick start's whole model through the cuda backend's emulation, in fp16, against fp32 on the CPU. Skipped
 * where the model is not. */
#include "scorer/score_prompt.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct score_prompt *open_smollm2(const char *path, const char *backend)
{
	struct scorer_options options;
	struct score_prompt *scoring;
	struct error error = {0};
	scorer_options_defaults(&options);
	options.model = path;
	options.backend = backend;
	options.precision = strcmp(backend, "cpu") == 0 ? "fp32" : "auto";
	options.exit_rule = "none";
	ck_assert_msg(score_prompt_open(&options, "Yes", "No", &scoring, &error) == STATUS_OK, "%s", error.text);
	return scoring;
}

static struct score_prompt_result *read_layers(struct score_prompt *scoring, const char *text)
{
	struct score_prompt_result *out = malloc(sizeof *out);
	struct error error = {0};
	ck_assert_msg(score_prompt_text(scoring, text_of(text), true, out, &error) == STATUS_OK, "%s", error.text);
	ck_assert_uint_eq(out->layers_count, 30);
	return out;
}

/* All 30 layers' answers: p within 2e-3 (seen: 1.7e-3), logits within 2 % of the layer's scale: where
 * two answers of a large row nearly cancel (layers 20 to 27), .7 % of what is left was seen. */
START_TEST(smollm2_against_fp32)
{
	static const char *const texts[] = {
		"The user liked shampoo, soap and cream. Will hair spray be clicked? Yes or No?",
		"<|im_start|>user\nRated 5: a vampire film. Next: a comedy. Clicked?<|im_end|>\n<|im_start|>assistant\n",
		"Yes", "It rains in Lisbon, it snows in Oslo, and nobody asked: will the umbrella be bought today?",
	};
	char path[512];
	const char *cache = getenv("EXITPOLL_CACHE"), *home = getenv("HOME");
	snprintf(path, sizeof path, "%s%s/models/SmolLM2-135M-Instruct.Q4_1.gguf",
		 cache ? cache : home ? home : "", cache ? "" : "/.cache/exitpoll");
	if (access(path, R_OK)) {
		printf("skipped: no %s\n", path);
		return;
	}
	struct score_prompt *gpu = open_smollm2(path, "cuda"), *cpu = open_smollm2(path, "cpu");
	double largest = 0, difference = 0;
	for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
		struct score_prompt_result *a = read_layers(gpu, texts[t]), *b = read_layers(cpu, texts[t]);
		for (uint32_t l = 0; l < 30; l++) {
			double yes = (double)b->layers[l].yes, no = (double)b->layers[l].no;
			double scale = fmax(fmax(fabs(yes), fabs(no)), 1);
			largest = fmax(largest, fabs((double)a->layers[l].yes - yes) / scale);
			largest = fmax(largest, fabs((double)a->layers[l].no - no) / scale);
			difference = fmax(difference, fabs((double)a->layers[l].p - (double)b->layers[l].p));
		}
		free(a);
		free(b);
	}
	printf("SmolLM2 in fp16: logits at most %.2g of their scale off fp32, p %.2g\n", largest, difference);
	ck_assert_msg(largest <= 2e-2, "logits are off by %g of their scale", largest);
	ck_assert_double_le(difference, 2e-3);
	score_prompt_close(gpu);
	score_prompt_close(cpu);
}
END_TEST

int main(void)
{
	const char *given = getenv("EXITPOLL_TEST_CUDA_LIBRARY");
	setenv("EXITPOLL_CUDA_LIBRARY", given ? given : TEST_CUDA_LIBRARY, 1);
	Suite *suite = suite_create("cuda_smollm2");
	TCase *cases = tcase_create("cuda_smollm2");
	tcase_set_timeout(cases, 300);
	tcase_add_test(cases, smollm2_against_fp32);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
