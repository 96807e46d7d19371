/* bf16 on the CPU: rounding, products in the manual's order, the sources of the AVX-512 and AMX kernels over
 * instructions spelled out in C, the check at start, and what a whole model's scores lose. */
#include "tests/unit/scorer/emulated_instructions.h"

/* Both sources under names of their own, in place of the objects of the library. */
#define tile_rows emulated_dot_rows
#define tile emulated_dot
#define nothing emulated_nothing
#define bf16_dot_avx512 emulated_dot_table
#include "scorer/kernels/bf16_avx512.c"
#undef tile
#undef bf16_dot_avx512
#define tile emulated_tile
#define begin emulated_begin
#define end emulated_end
#define bf16_tile_amx emulated_tile_table
#include "scorer/kernels/bf16_amx.c"
#undef tile
#undef begin
#undef end
#undef bf16_tile_amx

#include "scorer/cpu_weights.h"
#include "tests/unit/scorer/random_model.h"

#include <stdio.h>

START_TEST(rounding_is_to_the_nearest_even)
{
	static const struct {
		uint32_t bits;
		uint16_t want;
	} cases[] = {
		{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82},
		{0x3f817fff, 0x3f81}, {0x80000000, 0x8000}, {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80},
		{0x00000001, 0x0000}, {0x00018000, 0x0002},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		float x;
		memcpy(&x, &cases[i].bits, sizeof x);
		ck_assert_msg(bf16_round(x) == cases[i].want, "%08x gives %04x", cases[i].bits, bf16_round(x));
	}
	ck_assert(isnan(bf16_widen(bf16_round(NAN))));
	for (uint32_t half = 0; half < 0x7f80; half++)
		ck_assert_uint_eq(bf16_round(bf16_widen((uint16_t)half)), half);
}
END_TEST

/* Every CPU checks what it has; every CPU checks the sources over emulated instructions. */
START_TEST(kernels_keep_the_rule)
{
	const struct bf16_product *products[] = {&bf16_dot_plain, &bf16_tile_plain, &emulated_dot_table,
						 &emulated_tile_table, NULL, NULL};
	size_t own = bf16_available(products + 4);
	for (size_t i = 0; i < 4 + own; i++) {
		bool same_bits;
		ck_assert_msg(bf16_check(products[i], &same_bits), "%s", products[i]->name);
		if (i < 4)
			ck_assert_msg(same_bits, "%s", products[i]->name);
		else
			printf("%s: %s\n", products[i]->name, same_bits ? "the manual's bits" : "own rounding");
	}
	if (!own)
		printf("AVX512_BF16 and AMX themselves: skipped, this CPU has neither\n");
}
END_TEST

/* Wrong in three ways that the check must see. */
static void wrong_tile(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
		       const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	bf16_dot_plain.tile(rows, panels, depth, a, a_stride, b, c, c_stride, accumulate);
	c[(rows - 1) * c_stride + 3] *= 1.01f;
}
static void height_tile(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
			const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	(rows > 5 ? &bf16_tile_plain : &bf16_dot_plain)
	    ->tile(rows, panels, depth, a, a_stride, b, c, c_stride, accumulate);
}
static void nan_tile(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
		     const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	bf16_dot_plain.tile(rows, panels, depth, a, a_stride, b, c, c_stride, accumulate);
	c[0] = NAN;
}

START_TEST(the_check_refuses_wrong_kernels)
{
	struct bf16_product wrong = bf16_dot_plain;
	bool same_bits;
	ck_assert(bf16_check(&wrong, &same_bits));
	wrong.tile = wrong_tile;
	ck_assert(!bf16_check(&wrong, &same_bits));
	wrong.tile = height_tile;
	ck_assert(!bf16_check(&wrong, &same_bits));
	wrong.tile = nan_tile;
	ck_assert(!bf16_check(&wrong, &same_bits));
	/* Another order of additions alone is within the rule, and is told. */
	wrong.tile = bf16_tile_plain.tile;
	ck_assert(bf16_check(&wrong, &same_bits) && !same_bits);
}
END_TEST

enum { ROWS = 45, INPUTS_MAX = 700, OUTPUTS_MAX = 75 };
static float a[ROWS * INPUTS_MAX], rounded_a[ROWS * INPUTS_MAX];
static float w[OUTPUTS_MAX * INPUTS_MAX], rounded_w[OUTPUTS_MAX * INPUTS_MAX];
static float want[ROWS * 80], got[ROWS * 80];
static uint16_t scratch[48 * 704];

static void round_all(const float *from, size_t count, float *to)
{
	for (size_t i = 0; i < count; i++)
		to[i] = bf16_widen(bf16_round(from[i]));
}

static void multiply(struct product product, uint32_t inputs, uint32_t outputs, const float *weights,
		     uint32_t rows, const float *from, float *to)
{
	struct packed packed;
	struct error error = {0};
	ck_assert_int_eq(packed_create(product.arithmetic, inputs, outputs, &packed, &error), STATUS_OK);
	for (uint32_t first = 0; first < outputs; first += TILE_COLUMNS)
		packed_put(&packed, first, outputs - first < TILE_COLUMNS ? outputs - first : TILE_COLUMNS,
			   weights + (size_t)first * inputs);
	packed_multiply(&packed, &product, rows, from, inputs, to, 80, scratch);
	packed_destroy(&packed);
}

/* Borders of chunks (256), steps (32), panels (16) and rows (6, 12, 16, 32). */
START_TEST(products_of_packed_matrices)
{
	static const uint32_t inputs[] = {1, 2, 31, 32, 33, 255, 256, 257, 544, 700};
	static const uint32_t outputs[] = {1, 15, 16, 17, 32, 33, 75};
	static const uint32_t rows[] = {1, 6, 7, 12, 13, 16, 17, 31, 32, 33, 45};
	const struct kernels *kernels[3];
	size_t tables = kernels_available(kernels);
	for (size_t i = 0; i < 10; i++)
		for (size_t o = 0; o < 7; o++) {
			random_fill((unsigned)(i * 7 + o), ROWS * inputs[i], 1, a);
			random_fill((unsigned)(i + o * 31), outputs[o] * inputs[i], 1, w);
			round_all(a, ROWS * inputs[i], rounded_a);
			round_all(w, outputs[o] * inputs[i], rounded_w);
			for (size_t t = 0; t < tables; t++) {
				/* bf16 weights: the bits of fp32 with weights rounded before. */
				memset(want, 0, sizeof want), memset(got, 0, sizeof got);
				multiply((struct product){ARITHMETIC_FP32, kernels[t], NULL}, inputs[i],
					 outputs[o], rounded_w, rows[(i + o) % 11], a, want);
				multiply((struct product){ARITHMETIC_BF16_WEIGHTS, kernels[t], NULL},
					 inputs[i], outputs[o], w, rows[(i + o) % 11], a, got);
				ck_assert_msg(memcmp(want, got, sizeof want) == 0, "%s %u %u",
					      kernels[t]->name, inputs[i], outputs[o]);
			}
			const struct bf16_product *pairs[] = {&emulated_dot_table, &emulated_tile_table};
			for (size_t p = 0; p < 2; p++) {
				memset(want, 0, sizeof want), memset(got, 0, sizeof got);
				struct product plain = {ARITHMETIC_BF16, &kernels_scalar, pairs[p]->truth};
				struct product kernel = {ARITHMETIC_BF16, &kernels_scalar, pairs[p]};
				multiply(plain, inputs[i], outputs[o], w, rows[(i + o) % 11], a, want);
				multiply(kernel, inputs[i], outputs[o], w, rows[(i + o) % 11], a, got);
				ck_assert_msg(memcmp(want, got, sizeof want) == 0, "%s %u %u", pairs[p]->name,
					      inputs[i], outputs[o]);
				for (uint32_t row = 0; row < rows[(i + o) % 11]; row++)
					for (uint32_t n = 0; n < outputs[o]; n++) {
						double sum = 0, size = 0;
						for (uint32_t k = 0; k < inputs[i]; k++) {
							double term = (double)rounded_a[row * inputs[i] + k] *
								      rounded_w[n * inputs[i] + k];
							sum += term, size += fabs(term);
						}
						ck_assert_double_le(fabs(got[row * 80 + n] - sum),
								    size * 2e-6 + 1e-30);
					}
			}
		}
}
END_TEST

/* The last hidden row of a random model, by precision. */
static void hidden_of(const struct random_model *model, const char *precision, uint32_t threads, float *out)
{
	enum { TOKENS = 37 };
	struct error error = {0};
	struct batch *batch;
	struct backend *backend;
	int32_t ids[TOKENS];
	uint32_t rows[TOKENS];
	for (uint32_t i = 0; i < TOKENS; i++)
		ids[i] = (int32_t)(i * 7 % 50), rows[i] = i;
	ck_assert_int_eq(batch_create(TOKENS, &batch, &error), STATUS_OK);
	batch_clear(batch, 0);
	batch_add_prefix(batch, ids, 20);
	batch_add_suffix(batch, ids + 20, TOKENS - 20, 0, INT64_MAX);
	struct backend_options options = {
		.layers = model->view.config.layers, .rows_max = TOKENS, .slots_max = batch->slots_max,
		.positions_max = TOKENS, .threads = threads, .precision = precision,
	};
	ck_assert_msg(backend_cpu.create(&model->view, &options, &backend, &error) == STATUS_OK, "%s",
		      error.text);
	ck_assert_int_eq(backend_cpu.embed(backend, batch, &error), STATUS_OK);
	for (uint32_t layer = 0; layer < model->view.config.layers; layer++) {
		backend_cpu.keys_values(backend, layer, batch);
		backend_cpu.finish(backend, layer, batch, rows, TOKENS);
	}
	backend_cpu.hidden(backend, TOKENS - 1, out);
	printf("%s\n", backend_cpu.describe(backend));
	backend_cpu.destroy(backend);
	batch_destroy(batch);
}

/* Relative to the hidden row's length, six random layers lose at most 2 % to bf16. */
START_TEST(a_model_in_bf16_is_near_fp32)
{
	enum { WIDTH = 70 };
	static const struct random_shape shape = {WIDTH, 150, 6, 6, 2, 10, 50, true, ROPE_SCALING_NONE};
	static const char *const precisions[] = {"bf16", "bf16-dot", "bf16-tile"};
	struct random_model *model = random_model_create(&shape, 5);
	float truth[WIDTH], one[WIDTH], two[WIDTH];
	hidden_of(model, "fp32", 1, truth);
	for (size_t p = 0; p < 3; p++) {
		hidden_of(model, precisions[p], 1, one);
		hidden_of(model, precisions[p], 2, two);
		ck_assert(memcmp(one, two, sizeof one) == 0);
		double squares = 0, length = 0;
		for (int i = 0; i < WIDTH; i++) {
			squares += ((double)one[i] - truth[i]) * ((double)one[i] - truth[i]);
			length += (double)truth[i] * truth[i];
		}
		printf("%s: relative distance %.4f\n", precisions[p], sqrt(squares / length));
		ck_assert_double_le(sqrt(squares / length), .02);
		ck_assert_double_ge(sqrt(squares / length), 1e-5);      /* it did round */
	}
	random_model_destroy(model);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bf16");
	TCase *cases = tcase_create("bf16");
	tcase_set_timeout(cases, 120);
	tcase_add_test(cases, rounding_is_to_the_nearest_even);
	tcase_add_test(cases, kernels_keep_the_rule);
	tcase_add_test(cases, the_check_refuses_wrong_kernels);
	tcase_add_test(cases, products_of_packed_matrices);
	tcase_add_test(cases, a_model_in_bf16_is_near_fp32);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
