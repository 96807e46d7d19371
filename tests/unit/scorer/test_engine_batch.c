/* The engine as the stream drives it, over a tiny model: impressions too large for a batch, many impressions
 * in many batches, contexts at their limit, and memory that stays flat. */
#include "scorer/scorer.h"
#include "base/mem.h"
#include "tests/unit/scorer/tiny_bundle.h"
#include "tests/check_run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { IMPRESSIONS = 2000 };            /* the same paths, in the time that a sanitizer leaves */
#else
enum { IMPRESSIONS = 100000 };
#endif
enum { CANDIDATES = 300, REQUESTS = 12 };

static char titles[CANDIDATES][32];
static struct request_candidate candidates[CANDIDATES];
static struct history_entry history[4];
static struct scoring_request requests[REQUESTS];
static const struct scoring_request *pointers[REQUESTS];

/* Request i has 1 + 7 i candidates, the last all of them; titles of 1 to 24 letters. */
static void fill(void)
{
	for (int i = 0; i < CANDIDATES; i++) {
		for (int k = 0; k < 1 + i % 24; k++)
			titles[i][k] = (char)('a' + (i * 7 + k * 5) % 26);
		candidates[i] = (struct request_candidate){.item_id = text_of(titles[i]), .text = text_of(titles[i])};
	}
	for (int i = 0; i < 4; i++)
		history[i] = (struct history_entry){.item_id = TEXT_LITERAL("h"), .kind = KIND_RATE,
						    .text = text_of(titles[20 + i]), .has_rating = true,
						    .rating = (float)i + 1};
	for (size_t i = 0; i < REQUESTS; i++) {
		requests[i] = (struct scoring_request){
			.impression_id = TEXT_LITERAL("i"), .user_id = TEXT_LITERAL("u"), .history = history,
			.history_count = i % 5, .candidates = candidates + i,
			.candidates_count = i + 1 == REQUESTS ? CANDIDATES - REQUESTS : 1 + 7 * i,
		};
		pointers[i] = &requests[i];
	}
}

/* A token is a byte here: a wording of few words. */
static char *short_folder(uint32_t positions)
{
	char *folder = tiny_folder(3, positions);
	tiny_write(folder, "prompt.txt",
		   "[instruction]\nSay Yes or No.\n[user]\n{history}\n[history_entry]\n{title}: {action}\n"
		   "[no_history]\nnew\n[candidate]\n{title}?\n[unknown_title]\nnone\n[answer]\n:\n"
		   "[yes]\nYes\n[no]\nNo\n");
	return folder;
}

static const char *short_template(const char *folder)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/prompt.txt", folder);
	return path;
}

static struct scorer *open_scorer(const char *folder, size_t batch_tokens_max, size_t threads,
				  const char *precision)
{
	struct scorer_options options;
	struct error error = {0};
	struct scorer *scorer;
	scorer_options_defaults(&options);
	options.model = folder;
	options.template_name = short_template(folder);
	options.exit_layers = "1,2,3,4";        /* every layer */
	options.exit_threshold = .02;
	options.batch_tokens_max = batch_tokens_max;
	options.threads = threads;
	options.precision = precision;
	ck_assert_msg(scorer_create(&options, &scorer, &error) == STATUS_OK, "%s", error.text);
	return scorer;
}

static void score(struct scorer *scorer, size_t first, size_t count, struct arena *arena, struct prediction *out)
{
	struct error error = {0};
	ck_assert_msg(scorer_score(scorer, pointers + first, count, arena, out, &error) == STATUS_OK, "%s",
		      error.text);
}

/* One batch each, all together, and split over batches of a few rows; by one thread and by three. */
START_TEST(splitting_changes_no_bit)
{
	static const char *const precisions[] = {"fp32", "bf16"};
	static const size_t tokens[] = {64, 700, 2048, 20000};
	struct prediction want[REQUESTS], got[REQUESTS];
	struct arena *arena = arena_create((size_t)1 << 26);
	char *folder = short_folder(512);
	fill();
	struct scorer *scorer = open_scorer(folder, 100000, 1, precisions[_i]);
	for (size_t i = 0; i < REQUESTS; i++)
		score(scorer, i, 1, arena, &want[i]);
	scorer_destroy(scorer);
	int layers[5] = {0};
	for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++) {
		scorer = open_scorer(folder, tokens[t], 1 + t % 3, precisions[_i]);
		score(scorer, 0, REQUESTS, arena, got);
		for (size_t i = 0; i < REQUESTS; i++)
			for (size_t c = 0; c < requests[i].candidates_count; c++) {
				const struct candidate_score *a = &want[i].scores[c], *b = &got[i].scores[c];
				ck_assert_msg(memcmp(&a->p_click, &b->p_click, sizeof(float)) == 0 &&
					      a->exit_layer == b->exit_layer,
					      "batches of %zu tokens: request %zu candidate %zu", tokens[t], i, c);
				layers[a->exit_layer]++;
			}
		struct scorer_stats stats;
		scorer_get_stats(scorer, &stats);
		if (tokens[t] < 20000)
			ck_assert_uint_ge(stats.batches, 5);
		scorer_destroy(scorer);
	}
	ck_assert_msg(layers[2] + layers[3] > 0 && layers[4] > 0, "%d %d %d left", layers[2], layers[3], layers[4]);
	tiny_remove(folder);
	arena_destroy(arena);
}
END_TEST

/* A context of exactly the longest prompt, of one token less, and of little more than the template. */
START_TEST(contexts_at_their_limit)
{
	struct prediction want, got;
	struct arena *arena = arena_create((size_t)1 << 24);
	fill();
	requests[0].history_count = 4;
	char *wide = short_folder(2048);
	struct scorer *scorer = open_scorer(wide, 4096, 2, "fp32");
	score(scorer, 0, 1, arena, &want);
	ck_assert_int_eq(want.status, PREDICTION_OK);
	scorer_destroy(scorer);
	tiny_remove(wide);
	uint32_t exact = 0;
	/* The smallest context that cuts nothing, found by trying. */
	for (uint32_t low = 1, high = 2048; low < high;) {
		uint32_t middle = (low + high) / 2;
		char *folder = short_folder(middle);
		struct scorer_options options;
		struct error error = {0};
		scorer_options_defaults(&options);
		options.model = folder;
		options.template_name = short_template(folder);
		bool fits = false;
		if (scorer_create(&options, &scorer, &error) == STATUS_OK) {
			score(scorer, 0, 1, arena, &got);
			fits = got.status == PREDICTION_OK;
			scorer_destroy(scorer);
		} else {
			ck_assert_int_eq(error.status, STATUS_CONFIG);
		}
		tiny_remove(folder);
		if (fits)
			high = middle;
		else
			low = middle + 1;
		exact = high;
	}
	ck_assert_uint_gt(exact, 50);
	for (uint32_t less = 0; less < 3; less++) {
		char *folder = short_folder(exact - less);
		scorer = open_scorer(folder, 64, 2, "fp32");
		score(scorer, 0, 1, arena, &got);
		ck_assert_int_eq(got.status, less ? PREDICTION_TRUNCATED : PREDICTION_OK);
		ck_assert(less || memcmp(&want.scores[0].p_click, &got.scores[0].p_click, sizeof(float)) == 0);
		ck_assert(got.scores[0].p_click > 0 && got.scores[0].p_click < 1);
		scorer_destroy(scorer);
		tiny_remove(folder);
	}
	arena_destroy(arena);
}
END_TEST

static long resident_pages(void)
{
	long pages = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	if (!file || fscanf(file, "%ld %ld", &pages, &resident) != 2)
		abort();
	fclose(file);
	return resident;
}

START_TEST(memory_stays_flat)
{
	struct prediction out[8];
	struct arena *arena = arena_create((size_t)1 << 20);
	char *folder = short_folder(512);
	fill();
	for (size_t i = 0; i < 8; i++) {
		requests[i].candidates_count = 1 + i % 2;
		requests[i].history_count = 0;
	}
	struct scorer *scorer = open_scorer(folder, 2048, 1, "fp32");
	long before = 0;
	for (int done = 0; done < IMPRESSIONS; done += 8) {
		/* Other titles each time, so that the cache of tokens fills and turns over. */
		for (size_t i = 0; i < 8; i++)
			snprintf(titles[i + 1], sizeof titles[0], "%c%d", 'a' + (int)i, done);
		for (size_t i = 0; i < 9; i++)
			candidates[i].text = text_of(titles[i]);
		score(scorer, 0, 8, arena, out);
		arena_reset(arena);
		if (done >= IMPRESSIONS / 4 * 3 && !before)
			before = resident_pages();
	}
	long grown = resident_pages() - before;
	printf("%d impressions: %ld pages more than at three quarters\n", IMPRESSIONS, grown);
	/* By then the cache of tokens is full. A sanitizer keeps what is freed, and stops long before. */
	if (IMPRESSIONS == 100000)
		ck_assert_int_le(grown, 64);      /* 256 KiB: 11 bytes an impression would show */
	struct scorer_stats stats;
	scorer_get_stats(scorer, &stats);
	ck_assert_uint_eq(stats.requests, IMPRESSIONS);
	scorer_destroy(scorer);
	tiny_remove(folder);
	arena_destroy(arena);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine batches");
	TCase *cases = tcase_create("engine batches");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, splitting_changes_no_bit, 0, 2);
	tcase_add_test(cases, contexts_at_their_limit);
	tcase_add_test(cases, memory_stays_flat);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
