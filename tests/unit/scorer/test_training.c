/* What heads are trained with: gradients against differences, early stopping, Platt, rank measures against
 * counting. All seeds are fixed. */
#include "scorer/train/calibration.h"
#include "scorer/train/hidden_head.h"
#include "scorer/train/measures.h"
#include "scorer/train/statistics_model.h"
#include "scorer/train/vector.h"
#include "tests/check_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMPRESSIONS = 600, EACH = 6, ROWS = IMPRESSIONS * EACH, FEATURES = 5, WIDTH = 19 };

static int64_t first[IMPRESSIONS + 1];
static float labels[ROWS], values[ROWS * FEATURES], hidden[ROWS * WIDTH];
static uint8_t parts[IMPRESSIONS];
static uint64_t users[IMPRESSIONS];
static int64_t times[IMPRESSIONS];
static uint32_t all[IMPRESSIONS];
static double truth[ROWS], readings[ROWS], offsets[ROWS];
static size_t packed[IMPRESSIONS + 1];
static struct dataset data;

static double normal(uint64_t *random)
{
	double u = 1 - vector_uniform(random), v = vector_uniform(random);
	return sqrt(-2 * log(u)) * cos(2 * acos(-1) * v);
}

/* z = s0 - |s1| (which only the hidden layer can bend) + 1.5 h0; one taken in each impression, or each row by
 * itself. */
static void make(bool clicked)
{
	uint64_t random = 11;
	for (int i = 0; i < IMPRESSIONS; i++) {
		double best = -INFINITY;
		int taken = 0;
		all[i] = (uint32_t)i;
		parts[i] = i < 400 ? PART_TRAIN : PART_STOPPING;
		users[i] = (uint64_t)(i / 3);
		times[i] = i;
		for (int k = 0; k < EACH; k++) {
			int r = i * EACH + k;
			for (int f = 0; f < FEATURES; f++)
				values[r * FEATURES + f] = (float)(normal(&random) * (f + 1) + f);
			for (int c = 0; c < WIDTH; c++)
				hidden[r * WIDTH + c] = (float)normal(&random);
			values[r * FEATURES + 4] = r % 7 ? values[r * FEATURES + 4] : NAN;
			truth[r] = (double)values[r * FEATURES] - fabs((double)values[r * FEATURES + 1] - 1) / 2 +
				   1.5 * (double)hidden[r * WIDTH];
			readings[r] = normal(&random) + .3 * truth[r];
			double draw = truth[r] - log(-log(1 - vector_uniform(&random) * .999999));
			if (draw > best) {
				best = draw;
				taken = k;
			}
			labels[r] = clicked ? 0 : vector_uniform(&random) < objective_sigmoid(truth[r]);
			if (!clicked && r % 11 == 0)
				labels[r] = NAN;
		}
		if (clicked)
			labels[i * EACH + taken] = 1;
		first[i] = i * EACH;
		packed[i] = (size_t)(i * EACH);
	}
	first[IMPRESSIONS] = ROWS;
	packed[IMPRESSIONS] = ROWS;
	data = (struct dataset){IMPRESSIONS, ROWS, FEATURES, first, labels, values, parts, users, times, clicked};
}

static struct dataset_list list_of(int begin, int count)
{
	return (struct dataset_list){all + begin, (size_t)count};
}

START_TEST(losses_have_their_slopes)
{
	double z[EACH] = {.3, -2, 1.5, 40, -40, 0}, slope[EACH], curvature[EACH], weight, unused;
	float y[EACH] = {1, 0, NAN, 1, 0, 0};
	for (int round = 0; round < 2; round++) {
		if (round)
			z[3] = 2, z[4] = -1;
		objective_loss((enum objective)_i, z, y, EACH, slope, curvature, &weight);
		ck_assert_double_eq(weight, _i == OBJECTIVE_SOFTMAX ? 1 : 5);
		for (int i = 0; i < EACH; i++) {
			double step = 1e-5, held = z[i], up_slope[EACH];
			z[i] = held + step;
			double up = objective_loss((enum objective)_i, z, y, EACH, up_slope, NULL, &unused);
			z[i] = held - step;
			double down = objective_loss((enum objective)_i, z, y, EACH, NULL, NULL, &unused);
			z[i] = held;
			ck_assert_double_eq_tol((up - down) / (2 * step), slope[i], 1e-6);
			ck_assert_double_eq_tol((up_slope[i] - slope[i]) / step, curvature[i], 1e-4);
		}
	}
	float none[2] = {0, 0};
	ck_assert_double_eq(objective_loss(OBJECTIVE_SOFTMAX, z, none, 2, slope, NULL, &weight), 0);
	ck_assert_double_eq(weight, 0);
	ck_assert_double_eq(slope[0], 0);
}
END_TEST

START_TEST(the_level_has_the_labels_mean)
{
	make(false);
	double b = objective_level(truth, labels, ROWS), sum = 0, positives = 0;
	for (int r = 0; r < ROWS; r++)
		if (!isnan(labels[r])) {
			sum += objective_sigmoid(truth[r] + b);
			positives += (double)labels[r];
		}
	ck_assert_double_eq_tol(sum, positives, 1e-6);
	float same[3] = {1, 1, NAN};
	ck_assert_double_eq(objective_level(truth, same, 3), 0);
}
END_TEST

/* A feature of wide spread is read as a logarithm, too, one that is often 0 as an indicator, and nothing is
 * seen of other rows than the training part's. */
START_TEST(inputs_follow_the_shape_of_features)
{
	struct standardised *s = NULL, *same = NULL;
	struct error error = {0};
	make(false);
	uint64_t random = 9;
	for (int r = 0; r < ROWS; r++) {
		values[r * FEATURES + 1] = r % 3 ? (float)exp(3 * normal(&random)) * (r % 2 ? 1 : -1) : 0;
		values[r * FEATURES] = r % 50 ? (float)normal(&random) : NAN;
	}
	ck_assert_int_eq(standardised_create(&data, list_of(0, 400), &s, &error), STATUS_OK);
	ck_assert_uint_eq(s->features, FEATURES);
	ck_assert_uint_eq(s->inputs, FEATURES + 2);
	ck_assert(s->input[FEATURES].feature == 1 && s->input[FEATURES].kind == EXIT_INPUT_LOG);
	ck_assert(s->input[FEATURES + 1].feature == 1 && s->input[FEATURES + 1].kind == EXIT_INPUT_ZERO);
	double logarithms = 0, some = 0, sum = 0, squares = 0;
	for (int r = 0; r < 400 * EACH; r++)
		if (values[r * FEATURES + 1] != 0) {
			logarithms += log(fabs((double)values[r * FEATURES + 1]));
			some += 1;
		}
	ck_assert_double_eq_tol((double)s->bend[FEATURES], exp(logarithms / some), 1e-5);
	for (int r = 0; r < ROWS; r++) {
		const float *row = s->values + (size_t)r * s->inputs;
		double raw = (double)values[r * FEATURES + 1], bend = (double)s->bend[FEATURES];
		double want = raw == 0 ? 0 : (raw < 0 ? -1 : 1) * log(1 + fabs(raw) / bend);
		want = (want - (double)s->mean[FEATURES]) / (double)s->scale[FEATURES];
		ck_assert_double_eq_tol((double)row[FEATURES], want, 1e-4);
		ck_assert(isnan(values[r * FEATURES]) ? row[0] == 0 : true);
		ck_assert((row[FEATURES + 1] > 0) == (raw == 0));
		if (r < 400 * EACH) {
			sum += (double)row[FEATURES];
			squares += (double)row[FEATURES] * (double)row[FEATURES];
		}
	}
	ck_assert_double_eq_tol(sum / (400 * EACH), 0, 1e-4);
	ck_assert_double_eq_tol(squares / (400 * EACH), 1, 1e-3);
	for (int r = 400 * EACH; r < ROWS; r++)
		values[r * FEATURES + 1] = 1e9f;
	ck_assert_int_eq(standardised_create(&data, list_of(0, 400), &same, &error), STATUS_OK);
	ck_assert_uint_eq(same->inputs, s->inputs);
	ck_assert_mem_eq(same->mean, s->mean, s->inputs * sizeof *s->mean);
	ck_assert_mem_eq(same->bend, s->bend, s->inputs * sizeof *s->bend);
	standardised_destroy(s);
	standardised_destroy(same);
}
END_TEST

START_TEST(the_statistics_gradient_is_the_difference)
{
	struct standardised *s = NULL;
	struct statistics_model *model = NULL;
	struct error error = {0};
	make(_i);
	ck_assert_int_eq(standardised_create(&data, list_of(0, 400), &s, &error), STATUS_OK);
	ck_assert_int_eq(statistics_model_create(s->inputs, 8, &model, &error), STATUS_OK);
	uint64_t random = 5;
	for (size_t i = 0; i < model->count; i++)
		model->parameters[i] = (float)normal(&random) * .5f;
	float *gradient = calloc(model->count, sizeof *gradient), scratch[32];
	for (int r = 0; r < 20; r++) {
		const float *row = s->values + (size_t)r * s->inputs;
		memset(gradient, 0, model->count * sizeof *gradient);
		statistics_model_z(model, row, scratch);
		statistics_model_gradient(model, row, scratch, 1, gradient);
		for (size_t i = 0; i < model->count; i++) {
			float held = model->parameters[i], up = held + 5e-3f, down = held - 5e-3f;
			model->parameters[i] = up;
			double after = statistics_model_z(model, row, NULL);
			model->parameters[i] = down;
			double before = statistics_model_z(model, row, NULL);
			model->parameters[i] = held;
			ck_assert_double_eq_tol((after - before) / (double)(up - down), (double)gradient[i],
						2e-3 * (1 + fabs((double)gradient[i])));
		}
	}
	free(gradient);
	statistics_model_destroy(model);
	standardised_destroy(s);
}
END_TEST

static double train_statistics(size_t units, uint64_t seed, float **parameters, size_t *count)
{
	struct standardised *s = NULL;
	struct statistics_model *model = NULL;
	struct statistics_result result;
	struct error error = {0};
	struct statistics_options options = {units, data.clicked ? OBJECTIVE_SOFTMAX : OBJECTIVE_LOGISTIC, .02,
					     1e-4, 25, 16, seed, NULL};
	ck_assert_int_eq(standardised_create(&data, list_of(0, 400), &s, &error), STATUS_OK);
	ck_assert_int_eq(statistics_model_create(s->inputs, units, &model, &error), STATUS_OK);
	ck_assert_msg(statistics_model_train(model, &data, s, list_of(0, 400), list_of(400, 100), &options,
					     &result, &error) == STATUS_OK, "%s", error.text);
	ck_assert(result.epoch >= 1 && result.epoch <= 25);
	double *z = calloc(ROWS, sizeof *z), sum = 0, positives = 0;
	statistics_model_apply(model, s, ROWS, z);
	double loss = statistics_model_loss(&data, list_of(400, 100), options.objective, z);
	ck_assert_double_eq_tol(loss, result.stopping_loss, data.clicked ? 1e-6 : .01);
	for (int r = 400 * EACH; r < 500 * EACH; r++)
		if (!isnan(labels[r])) {
			sum += objective_sigmoid(z[r]);
			positives += (double)labels[r];
		}
	ck_assert_double_eq_tol(sum, positives, .01);
	double test = statistics_model_loss(&data, list_of(500, 100), options.objective, z);
	free(z);
	*count = model->count;
	*parameters = malloc(model->count * sizeof **parameters);
	memcpy(*parameters, model->parameters, model->count * sizeof **parameters);
	statistics_model_destroy(model);
	standardised_destroy(s);
	return test;
}

START_TEST(the_hidden_layer_bends)
{
	float *flat, *bent, *again, *other;
	size_t count;
	make(_i);
	double without = train_statistics(0, 3, &flat, &count);
	double with = train_statistics(16, 3, &bent, &count);
	ck_assert_double_lt(with, without - .005);
	ck_assert_double_eq(train_statistics(16, 3, &again, &count), with);
	ck_assert_mem_eq(bent, again, count * sizeof *bent);
	train_statistics(16, 4, &other, &count);
	ck_assert(memcmp(bent, other, count * sizeof *bent) != 0);
	free(flat), free(bent), free(again), free(other);
}
END_TEST

static struct hidden_rows rows_of(void)
{
	for (int r = 0; r < ROWS; r++)
		offsets[r] = truth[r] - 1.5 * (double)hidden[r * WIDTH];
	return (struct hidden_rows){WIDTH, list_of(0, IMPRESSIONS), packed, hidden, readings, offsets, labels};
}

START_TEST(the_hidden_gradient_is_the_difference)
{
	make(_i);
	enum objective objective = _i ? OBJECTIVE_SOFTMAX : OBJECTIVE_LOGISTIC;
	struct hidden_rows rows = rows_of();
	float v[WIDTH];
	double gradient[WIDTH + 2], scale = .7, level = -.2;
	uint64_t random = 9;
	for (int c = 0; c < WIDTH; c++)
		v[c] = (float)normal(&random) * .3f;
	hidden_head_loss(&rows, 3, 90, objective, v, scale, level, .1, gradient);
	for (int c = 0; c < WIDTH + 2; c++) {
		double loss[2];
		float held = c < WIDTH ? v[c] : 0;
		double width = 2e-3;
		for (int side = 0; side < 2; side++) {
			double step = side ? 1e-3 : -1e-3;
			if (c < WIDTH)
				v[c] = (float)((double)held + step);
			loss[side] = hidden_head_loss(&rows, 3, 90, objective, v, c == WIDTH ? scale + step : scale,
						      c == WIDTH + 1 ? level + step : level, .1, NULL);
		}
		if (c < WIDTH) {
			width = (double)((float)((double)held + 1e-3) - (float)((double)held - 1e-3));
			v[c] = held;
		}
		ck_assert_double_eq_tol((loss[1] - loss[0]) / width, gradient[c], 2e-4);
	}
}
END_TEST

START_TEST(the_hidden_state_adds_what_it_knows)
{
	make(_i);
	struct hidden_rows rows = rows_of();
	struct hidden_options options = {_i ? OBJECTIVE_SOFTMAX : OBJECTIVE_LOGISTIC, 1, .02, 5, 150, 40,
					 {0, .01, .1}, 3, NULL};
	struct hidden_result result;
	struct error error = {0};
	double vector[WIDTH];
	static float before[ROWS * WIDTH];
	memcpy(before, hidden, sizeof before);
	ck_assert_msg(hidden_head_train(&rows, 400, 100, &options, vector, &result, &error) == STATUS_OK, "%s",
		      error.text);
	ck_assert_double_lt(result.own_loss, result.without_loss);
	ck_assert_double_lt(result.loss, result.own_loss - .02);
	ck_assert_uint_ge(result.iteration, 1);
	ck_assert_double_gt(vector[0], 1);
	for (int c = 1; c < WIDTH; c++)
		ck_assert_double_lt(fabs(vector[c]), .3);
	/* Folded into raw rows it gives the loss that was reported. */
	double loss = 0, weights = 0;
	for (int i = 400; i < 500; i++) {
		double z[EACH], weight;
		for (int k = 0; k < EACH; k++) {
			int r = i * EACH + k;
			z[k] = offsets[r] + result.scale * readings[r] + result.level;
			for (int c = 0; c < WIDTH; c++)
				z[k] += vector[c] * (double)before[r * WIDTH + c];
		}
		loss += objective_loss(options.objective, z, labels + i * EACH, EACH, NULL, NULL, &weight);
		weights += weight;
	}
	ck_assert_double_eq_tol(loss / weights, result.loss, _i ? 1e-5 : 5e-3);
}
END_TEST

START_TEST(noise_adds_nothing)
{
	make(true);
	for (int r = 0; r < ROWS; r++)
		readings[r] = (double)hidden[r * WIDTH + 5];
	struct hidden_rows rows = rows_of();
	for (int r = 0; r < ROWS; r++)
		offsets[r] = truth[r];
	struct hidden_options options = {OBJECTIVE_SOFTMAX, 1, .02, 5, 150, 40, {0, .1}, 2, NULL};
	struct hidden_result result;
	struct error error = {0};
	double vector[WIDTH];
	ck_assert_int_eq(hidden_head_train(&rows, 400, 100, &options, vector, &result, &error), STATUS_OK);
	ck_assert_double_gt(result.loss, result.without_loss - .02);
	rows = rows_of();
	ck_assert_int_eq(hidden_head_train(&rows, 0, 100, &options, vector, &result, &error), STATUS_BAD_RECORD);
}
END_TEST

START_TEST(platt_finds_the_scale)
{
	enum { MANY = 20000 };
	static double z[MANY];
	static float y[MANY];
	uint64_t random = 21;
	double a, b;
	bool turned;
	for (int i = 0; i < MANY; i++) {
		z[i] = 3 * normal(&random) + 1;
		y[i] = vector_uniform(&random) < objective_sigmoid(.6 * z[i] - .8);
	}
	y[7] = NAN;
	calibration_fit(z, y, MANY, &a, &b, &turned);
	ck_assert_double_eq_tol(a, .6, .03);
	ck_assert_double_eq_tol(b, -.8, .06);
	ck_assert(!turned);
	for (int i = 0; i < MANY; i++)
		z[i] = -z[i];
	calibration_fit(z, y, MANY, &a, &b, &turned);
	ck_assert(turned);
	ck_assert_double_eq(a, CALIBRATION_SLOPE_MIN);
	double positives = 0, sum = 0;
	for (int i = 0; i < MANY; i++)
		if (!isnan(y[i])) {
			positives += (double)y[i];
			sum += objective_sigmoid(a * z[i] + b);
		}
	ck_assert_double_eq_tol(sum, positives, 2);
	float one[2] = {1, 1};
	calibration_fit(z, one, 2, &a, &b, &turned);
	ck_assert_double_eq(a, 1);
	ck_assert_double_eq(b, 0);
	double far[4] = {-500, -400, 400, 500};
	float separable[4] = {0, 0, 1, 1};
	calibration_fit(far, separable, 4, &a, &b, &turned);
	ck_assert(isfinite(a) && isfinite(b) && a > 0);
}
END_TEST

START_TEST(measures_count)
{
	struct measures m;
	struct error error = {0};
	make(_i);
	double *z = calloc(ROWS, sizeof *z);
	for (int r = 0; r < ROWS; r++)
		z[r] = rint(truth[r] * 2) / 2;  /* ties */
	ck_assert_int_eq(measures_take(&data, list_of(100, 150), z, &m, &error), STATUS_OK);
	double won = 0, pairs = 0, loss = 0, inside = 0, both = 0, highest = 0;
	size_t count = 0;
	for (int i = 100; i < 250; i++) {
		double w = 0, n = 0, top = -INFINITY, tops = 0, taken = 0;
		for (int k = 0; k < EACH; k++) {
			int r = i * EACH + k;
			if (isnan(labels[r]))
				continue;
			count++;
			loss -= log(labels[r] > 0 ? objective_sigmoid(z[r]) : objective_sigmoid(-z[r]));
			top = fmax(top, z[r]);
			for (int q = 100 * EACH; q < 250 * EACH; q++) {
				if (isnan(labels[q]) || labels[r] < .5f || labels[q] > .5f)
					continue;
				double win = z[r] > z[q] ? 1 : z[r] == z[q] ? .5 : 0;
				won += win;
				pairs += 1;
				if (q / EACH == i)
					w += win, n += 1;
			}
		}
		if (n == 0)
			continue;
		for (int k = 0; k < EACH; k++)
			if (!isnan(labels[i * EACH + k]) && z[i * EACH + k] == top)
				tops += 1, taken += labels[i * EACH + k] > 0;
		inside += w / n;
		both += 1;
		highest += taken / tops;
	}
	ck_assert_uint_eq(m.rows, count);
	ck_assert_uint_eq(m.impressions, (size_t)both);
	ck_assert_double_eq_tol(m.auc, won / pairs, 1e-12);
	ck_assert_double_eq_tol(m.impression_auc, inside / both, 1e-12);
	ck_assert_double_eq_tol(m.first, highest / both, 1e-12);
	ck_assert_double_eq_tol(m.log_loss, loss / (double)count, 1e-9);
	double q = m.positives;
	ck_assert_double_eq_tol(m.normalised_entropy,
				m.log_loss / (-q * log(q) - (1 - q) * log(1 - q)), 1e-12);
	size_t binned = 0;
	for (int b = 0; b < MEASURES_BINS; b++)
		binned += m.bins[b].rows;
	ck_assert_uint_eq(binned, count);
	if (!_i)
		ck_assert_double_lt(m.calibration_error, .08);  /* truth is calibrated up to rounding and luck */
	ck_assert_int_eq(measures_take(&data, list_of(0, 0), z, &m, &error), STATUS_OK);
	ck_assert(isnan(m.auc) && isnan(m.impression_auc) && isnan(m.log_loss) && m.rows == 0);
	free(z);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("training");
	TCase *tests = tcase_create("training");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, losses_have_their_slopes, 0, 2);
	tcase_add_test(tests, the_level_has_the_labels_mean);
	tcase_add_test(tests, inputs_follow_the_shape_of_features);
	tcase_add_loop_test(tests, the_statistics_gradient_is_the_difference, 0, 2);
	tcase_add_loop_test(tests, the_hidden_layer_bends, 0, 2);
	tcase_add_loop_test(tests, the_hidden_gradient_is_the_difference, 0, 2);
	tcase_add_loop_test(tests, the_hidden_state_adds_what_it_knows, 0, 2);
	tcase_add_test(tests, noise_adds_nothing);
	tcase_add_test(tests, platt_finds_the_scale);
	tcase_add_loop_test(tests, measures_count, 0, 2);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
