/* From requests to a served bundle on a tiny model: samples are tokenised as serving does, heads are fitted,
 * written, loaded, and the scorer's predictions have exactly the figures that were reported. */
#include "tests/unit/scorer/tiny_bundle.h"

#include "scorer/prompt.h"
#include "scorer/scorer.h"
#include "scorer/train/fit.h"
#include "scorer/train/heads_file.h"
#include "scorer/train/vector.h"
#include "tests/check_run.h"

#include <dirent.h>

enum { IMPRESSIONS = 150, EACH = 4, ROWS = IMPRESSIONS * EACH, FEATURES = FEATURES_FIXED, TOKENS = 1 << 20 };

static char *folder, cache[600];
static struct bundle *bundle;
static struct scorer_options scorer;

/* Requests, and the samples made of them. */
static float user_statistics[IMPRESSIONS][FEATURES_USER], statistics[ROWS][FEATURES_CANDIDATE];
static char titles[ROWS][16];
static struct request_candidate candidates[ROWS];
static struct scoring_request requests[IMPRESSIONS];
static int32_t *ids;
static size_t prefix_at[IMPRESSIONS];
static int64_t suffix_at[IMPRESSIONS][EACH + 1];
static uint32_t prefix_tokens[IMPRESSIONS], suffix_tokens[ROWS];
static int64_t first[IMPRESSIONS + 1], times[IMPRESSIONS];
static uint64_t users[IMPRESSIONS];
static uint8_t parts[IMPRESSIONS];
static float labels[ROWS], values[ROWS * FEATURES];
static char names[FEATURES][FEATURES_NAME_BYTES];
static struct fit_input input;

static void get_tokens(const void *context, uint32_t impression, struct impression_tokens *out)
{
	(void)context;
	*out = (struct impression_tokens){ids + prefix_at[impression], prefix_tokens[impression], ids,
					  suffix_at[impression]};
}
static const struct token_source tokens = {NULL, get_tokens};

static double normal(uint64_t *random)
{
	double u = 1 - vector_uniform(random), v = vector_uniform(random);
	return sqrt(-2 * log(u)) * cos(2 * acos(-1) * v);
}

static void tokenize(void)
{
	struct prompt *prompt = NULL;
	struct error error = {0};
	size_t used = 0;
	ck_assert_int_eq(prompt_create(bundle->tokenizer, bundle->wording, NULL, NULL, bundle->context, &prompt,
				       &error), STATUS_OK);
	struct prompt_ids instruction = prompt_instruction(prompt), part;
	bool cut;
	for (int i = 0; i < IMPRESSIONS; i++) {
		prefix_at[i] = used;
		memcpy(ids + used, instruction.ids, instruction.count * sizeof *ids);
		used += instruction.count;
		ck_assert_int_eq(prompt_user(prompt, &requests[i], &part, &cut, &error), STATUS_OK);
		memcpy(ids + used, part.ids, part.count * sizeof *ids);
		used += part.count;
		prefix_tokens[i] = (uint32_t)(used - prefix_at[i]);
		suffix_at[i][0] = (int64_t)used;
		for (int k = 0; k < EACH; k++) {
			ck_assert_int_eq(prompt_candidate(prompt, &requests[i], (size_t)k, &part, &cut, &error),
					 STATUS_OK);
			memcpy(ids + used, part.ids, part.count * sizeof *ids);
			used += part.count;
			ck_assert_uint_lt(used, TOKENS);
			suffix_at[i][k + 1] = (int64_t)used;
			suffix_tokens[i * EACH + k] = part.count;
		}
	}
	prompt_destroy(prompt);
}

/* What is taken depends on a statistic and on a letter of the title, which only the model reads. */
static void make(bool clicked)
{
	static const char letters[] = "aeiouxyz";
	uint64_t random = 77;
	for (int i = 0; i < IMPRESSIONS; i++) {
		double best = -INFINITY;
		int taken = 0;
		first[i] = i * EACH;
		times[i] = 1000 + i;
		users[i] = (uint64_t)(i / 2);
		parts[i] = (uint8_t)(i < 70 ? PART_TRAIN : i < 90 ? PART_STOPPING : i < 110 ? PART_CALIBRATION :
				     i < 130 ? PART_THRESHOLDS : PART_TEST);
		for (int f = 0; f < FEATURES_USER; f++)
			user_statistics[i][f] = (float)vector_uniform(&random);
		requests[i] = (struct scoring_request){
			.impression_id = TEXT_LITERAL("i"), .user_id = TEXT_LITERAL("u"),
			.user_statistics = user_statistics[i], .user_statistics_count = FEATURES_USER,
			.candidates = &candidates[i * EACH], .candidates_count = EACH, .event_time_ms = times[i],
		};
		for (int k = 0; k < EACH; k++) {
			int r = i * EACH + k;
			int letter = (int)(vector_random(&random) % 8);
			snprintf(titles[r], sizeof titles[r], "%c%c %d", letters[letter], letters[letter], r % 10);
			for (int f = 0; f < FEATURES_CANDIDATE; f++)
				statistics[r][f] = (float)normal(&random);
			candidates[r] = (struct request_candidate){text_of(titles[r]), text_of(titles[r]),
								   statistics[r], FEATURES_CANDIDATE};
			double truth = 2.5 * (double)statistics[r][1] + (letter < 5 ? 2 : -2);
			double draw = truth - log(-log(1 - vector_uniform(&random) * .999999));
			labels[r] = clicked ? 0 : vector_uniform(&random) < objective_sigmoid(truth);
			if (draw > best) {
				best = draw;
				taken = k;
			}
		}
		if (clicked)
			labels[i * EACH + taken] = 1;
		for (int k = 0; k < EACH; k++)
			features_fill(&requests[i], (size_t)k, values + (i * EACH + k) * FEATURES, FEATURES);
	}
	first[IMPRESSIONS] = ROWS;
	for (size_t f = 0; f < FEATURES; f++)
		features_name(f, NULL, names[f]);
	tokenize();
	input = (struct fit_input){
		.data = {IMPRESSIONS, ROWS, FEATURES, first, labels, values, parts, users, times, clicked},
		.names = (const char (*)[FEATURES_NAME_BYTES])names, .tokens = &tokens,
		.prefix_tokens = prefix_tokens, .suffix_tokens = suffix_tokens, .bundle = bundle,
		.scorer = &scorer, .cache = cache, .cache_bytes_max = 1 << 30,
	};
}

static void setup(void)
{
	struct error error = {0};
	folder = tiny_folder(9, 2048);
	snprintf(cache, sizeof cache, "%s/cache", folder);
	scorer_options_defaults(&scorer);
	scorer.model = folder;
	scorer.threads = 1;
	ids = malloc(TOKENS * sizeof *ids);
	ck_assert_msg(bundle_open(&scorer, &bundle, &error) == STATUS_OK, "%s", error.text);
}

static size_t cached_files(bool remove_them)
{
	DIR *open = opendir(cache);
	size_t count = 0;
	char path[1024];
	for (struct dirent *entry; open && (entry = readdir(open));) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		snprintf(path, sizeof path, "%s/%s", cache, entry->d_name);
		if (remove_them)
			remove(path);
	}
	if (open)
		closedir(open);
	if (remove_them)
		rmdir(cache);
	return count;
}

static void teardown(void)
{
	char path[600];
	const char *const files[] = {"exit_heads.safetensors", "exit_policy.json"};
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, files[i]);
		remove(path);
	}
	cached_files(true);
	bundle_close(bundle);
	free(ids);
	tiny_remove(folder);
}

static struct fit_options options_of(void)
{
	struct fit_options options;
	fit_options_defaults(&options);
	options.layers[0] = 1, options.layers[1] = 2, options.layers[2] = 4;
	options.exits = 3;
	options.epochs = 16;
	options.iterations = 40;
	options.thresholds.bound = .05;
	options.thresholds.clip = .5;
	options.thresholds.candidates = 5;
	return options;
}

static struct fit_result *fit(const struct fit_options *options)
{
	struct fit_result *result = NULL;
	struct error error = {0};
	enum status status = fit_run(options, &input, &result, &error);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	return result;
}

static void read_bytes(const char *name, char **out, size_t *size)
{
	char path[600];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "rb");
	ck_assert_ptr_nonnull(file);
	*out = malloc(1 << 20);
	*size = fread(*out, 1, 1 << 20, file);
	fclose(file);
}

static void write_heads(const struct fit_result *result)
{
	struct error error = {0};
	ck_assert_msg(heads_file_write(folder, &result->heads, NULL, &error) == STATUS_OK, "%s", error.text);
	tiny_write(folder, "exitpoll.json", "{\"name\": \"fitted\", \"model\": \".\", \"heads\": \".\"}");
}

/* The scorer's own log loss on the test part, and its layer-tokens. */
static double serve(double *run, double *full, double *depth)
{
	struct scorer *serving = NULL;
	struct error error = {0};
	struct arena *arena = arena_create(1 << 22);
	const struct scoring_request *pointers[IMPRESSIONS];
	struct prediction predictions[IMPRESSIONS];
	size_t count = 0;
	double loss = 0;
	*depth = 0;
	for (int i = 0; i < IMPRESSIONS; i++)
		if (parts[i] == PART_TEST)
			pointers[count++] = &requests[i];
	ck_assert_msg(scorer_create(&scorer, &serving, &error) == STATUS_OK, "%s", error.text);
	ck_assert(scorer_is_trained(serving));
	/* One at a time: the reported count is that of an impression which is not cut between batches. */
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(scorer_score(serving, &pointers[i], 1, arena, &predictions[i], &error), STATUS_OK);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < EACH; k++) {
			double p = (double)predictions[i].scores[k].p_click;
			size_t r = (size_t)(pointers[i] - requests) * EACH + k;
			loss -= log(labels[r] > 0 ? p : 1 - p);
			*depth += predictions[i].scores[k].exit_layer;
		}
	struct scorer_stats stats;
	scorer_get_stats(serving, &stats);
	*run = (double)stats.layer_tokens_run;
	*full = (double)stats.layer_tokens_full;
	*depth /= (double)(count * EACH);
	scorer_destroy(serving);
	arena_destroy(arena);
	return loss / (double)(count * EACH);
}

START_TEST(what_is_reported_is_served)
{
	make(_i & 1);
	struct fit_options options = options_of();
	options.statistics = _i < 2;
	struct fit_result *result = fit(&options);
	ck_assert_uint_eq(result->figures.computed, IMPRESSIONS);
	ck_assert_uint_eq(result->heads.count, 3);
	ck_assert_int_eq(result->heads.trained_until_ms, times[129]);
	for (int e = 0; e < 3; e++)
		if (result->exits[e].hidden)
			ck_assert_double_le(result->exits[e].training.loss, result->exits[e].training.without_loss);
	ck_assert(result->heads.features_count == (options.statistics ? FEATURES : 0));
	/* The statistic alone, and the letter with it. */
	ck_assert_double_gt(fit_auc(&input.data, &result->statistics_all.stopping), .6);
	write_heads(result);
	double run, full, depth, loss = serve(&run, &full, &depth);
	ck_assert_double_eq_tol(loss, result->policy_test.log_loss, 1e-6);
	ck_assert_double_eq(run, result->policy_totals.layer_tokens_run);
	ck_assert_double_eq(full, result->policy_totals.layer_tokens_full);
	double mean = 0;
	for (int e = 0; e < 3; e++)
		mean += result->policy_totals.left_at[e] * options.layers[e] / (double)result->policy_totals.rows;
	ck_assert_double_eq_tol(depth, mean, 1e-9);
	fit_result_destroy(result);
}
END_TEST

START_TEST(the_hidden_state_is_worth_reading)
{
	make(true);
	struct fit_options options = options_of();
	struct fit_result *result = fit(&options);
	int kept = 0;
	double gain = 0;
	for (int e = 0; e < 3; e++) {
		kept += result->exits[e].hidden;
		gain = fmax(gain, result->exits[e].training.without_loss - result->exits[e].training.loss);
	}
	ck_assert_int_ge(kept, 1);
	ck_assert_double_gt(gain, .005);
	ck_assert_uint_ge(result->suggested_count, 1);
	ck_assert_double_gt(result->full_test.impression_auc, result->statistics.test.impression_auc);
	fit_result_destroy(result);
}
END_TEST

START_TEST(same_seed_same_bytes)
{
	make(true);
	struct fit_options options = options_of();
	char *bytes[6];
	size_t sizes[6];
	for (int round = 0; round < 3; round++) {
		options.threads = round == 1 ? 3 : 1;
		options.seed = round == 2 ? 2 : 1;
		struct fit_result *result = fit(&options);
		ck_assert_uint_eq(result->figures.computed, round ? 0 : IMPRESSIONS);
		write_heads(result);
		fit_result_destroy(result);
		read_bytes("exit_heads.safetensors", &bytes[2 * round], &sizes[2 * round]);
		read_bytes("exit_policy.json", &bytes[2 * round + 1], &sizes[2 * round + 1]);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_uint_eq(sizes[i], sizes[i + 2]);
		ck_assert_mem_eq(bytes[i], bytes[i + 2], sizes[i]);
	}
	ck_assert(sizes[0] != sizes[4] || memcmp(bytes[0], bytes[4], sizes[0]) != 0);
	for (int i = 0; i < 6; i++)
		free(bytes[i]);
}
END_TEST

static int calls_left;
static bool stop_soon(void)
{
	return calls_left-- <= 0;
}

START_TEST(an_interrupted_run_goes_on)
{
	make(true);
	struct fit_options options = options_of();
	struct fit_result *result = NULL;
	struct error error = {0};
	options.stopping = stop_soon;
	calls_left = 180;       /* epochs of the statistics' models, then some blocks */
	size_t interruptions = 0;
	while (fit_run(&options, &input, &result, &error) == STATUS_INTERRUPTED) {
		interruptions++;
		calls_left = 800 + (int)interruptions * 60;
	}
	ck_assert_msg(result != NULL, "%s", error.text);
	ck_assert_uint_ge(interruptions, 1);
	fit_result_destroy(result);

	/* A torn block is computed again, the others are not. */
	size_t blocks = cached_files(false), torn = 0;
	DIR *open = opendir(cache);
	char path[1024];
	for (struct dirent *entry; (entry = readdir(open));)
		if (strstr(entry->d_name, ".hidden") && torn++ == 0) {
			snprintf(path, sizeof path, "%s/%s", cache, entry->d_name);
			FILE *file = fopen(path, "r+b");
			ck_assert_int_eq(fseek(file, 4000, SEEK_SET), 0);
			fputc('x', file);
			fputc('y', file);
			fclose(file);
		}
	closedir(open);
	ck_assert_uint_eq(torn, blocks);
	options.stopping = NULL;
	result = fit(&options);
	ck_assert_uint_gt(result->figures.computed, 0);
	ck_assert_uint_le(result->figures.computed, 32);
	fit_result_destroy(result);

	/* A part of the samples finds its blocks; a cache that is too small says so. */
	options.hidden_samples = 32;
	result = fit(&options);
	ck_assert_uint_eq(result->with_hidden[PART_TRAIN], 32);
	ck_assert_uint_eq(result->with_hidden[PART_TEST], 16);
	fit_result_destroy(result);
	input.cache_bytes_max = 1000;
	ck_assert_int_eq(fit_run(&options, &input, &result, &error), STATUS_LIMIT);
	ck_assert(strstr(error.text, "--cache-max") != NULL);
}
END_TEST

START_TEST(samples_of_something_else_are_refused)
{
	struct fit_options options = options_of();
	struct fit_result *result = NULL;
	struct error error = {0};
	make(true);
	ids[prefix_at[3] + 2] ^= 1;
	ck_assert_int_eq(fit_run(&options, &input, &result, &error), STATUS_BAD_RECORD);
	ck_assert_msg(strstr(error.text, "instruction") != NULL, "%s", error.text);
	make(true);
	ids[suffix_at[5][1]] = TINY_VOCABULARY;
	ck_assert_int_eq(fit_run(&options, &input, &result, &error), STATUS_BAD_RECORD);
	ck_assert_msg(strstr(error.text, "vocabulary") != NULL, "%s", error.text);
	make(true);
	for (int i = 0; i < IMPRESSIONS; i++)
		parts[i] = parts[i] == PART_CALIBRATION ? PART_TRAIN : parts[i];
	ck_assert_int_eq(fit_run(&options, &input, &result, &error), STATUS_BAD_RECORD);
	ck_assert_msg(strstr(error.text, "calibration part has no labelled") != NULL, "%s", error.text);
	make(false);
	options.objective = FIT_SOFTMAX;
	ck_assert_int_eq(fit_run(&options, &input, &result, &error), STATUS_CONFIG);
	options.objective = FIT_AUTO;
	options.layers[2] = 5;
	ck_assert_int_eq(fit_run(&options, &input, &result, &error), STATUS_CONFIG);
	ck_assert_ptr_null(result);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fit");
	TCase *tests = tcase_create("fit");
	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_loop_test(tests, what_is_reported_is_served, 0, 4);
	tcase_add_test(tests, the_hidden_state_is_worth_reading);
	tcase_add_test(tests, same_seed_same_bytes);
	tcase_add_test(tests, an_interrupted_run_goes_on);
	tcase_add_test(tests, samples_of_something_else_are_refused);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
