/* The forward pass against numbers from an independent implementation (tests/golden/scorer), so that it is
 * checked where no checkpoint is at hand. */
#include "tests/unit/scorer/random_model.h"

#include "tests/golden/scorer/random_llama.h"
#include "tests/check_run.h"

#include <stdio.h>

START_TEST(hidden_rows_after_every_layer)
{
	const struct backend_table *table = _i % 2 ? &backend_cpu : &backend_reference;
	int number = _i / 2;
	const double *want = golden_states[number];
	struct random_model *model = random_model_create(&golden_shapes[number], (unsigned)number + 11);
	const struct model_config *c = &model->view.config;
	struct error error = {0};
	struct batch *batch;
	struct backend *backend;
	ck_assert_int_eq(batch_create(64, &batch, &error), STATUS_OK);
	struct backend_options options = {
		.layers = c->layers, .rows_max = 64, .slots_max = batch->slots_max, .positions_max = 64,
		.threads = 1, .precision = "fp32",
	};
	ck_assert_msg(table->create(&model->view, &options, &backend, &error) == STATUS_OK, "%s", error.text);
	/* The first ten tokens as a prefix. */
	batch_clear(batch, 0);
	batch_add_prefix(batch, golden_ids, 10);
	batch_add_suffix(batch, golden_ids + 10, GOLDEN_TOKENS - 10, 0, INT64_MAX);
	ck_assert_int_eq(table->embed(backend, batch, &error), STATUS_OK);
	uint32_t rows[GOLDEN_TOKENS];
	for (uint32_t i = 0; i < GOLDEN_TOKENS; i++)
		rows[i] = i;
	float hidden[64];
	double worst = 0;
	for (uint32_t layer = 0; layer <= c->layers; layer++) {
		if (layer) {
			table->keys_values(backend, layer - 1, batch);
			table->finish(backend, layer - 1, batch, rows, GOLDEN_TOKENS);
		}
		table->hidden(backend, GOLDEN_TOKENS - 1, hidden);
		for (uint32_t i = 0; i < c->hidden_size; i++, want++) {
			double difference = fabs(hidden[i] - *want);
			worst = difference > worst ? difference : worst;
			ck_assert_msg(difference <= 2e-5 + 1e-6 * fabs(*want),
				      "model %d layer %u [%u]: %.9g, want %.9g", number, layer, i,
				      (double)hidden[i], *want);
		}
	}
	printf("model %d, %s: largest difference %.2g\n", number, table->name, worst);
	table->destroy(backend);
	batch_destroy(batch);
	random_model_destroy(model);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("golden");
	TCase *cases = tcase_create("golden");
	tcase_add_loop_test(cases, hidden_rows_after_every_layer, 0, 2 * GOLDEN_MODELS);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
