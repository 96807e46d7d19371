/* Prompts read back letter by letter: wording, odd titles, what is cut first. */
#include "tests/unit/scorer/tiny_bundle.h"

#include "scorer/prompt.h"
#include "tests/check_run.h"

static char *folder;
static struct tokenizer *tokenizer;
static struct template *wording;

static const char template_text[] =
	"[instruction]\n<|im_start|>I\n"
	"[user]\n{examples}{history}{user_statistics}|\n"
	"[user_statistics]\n(u {user_mean} {user_count})\n"
	"[example_title]\n<{number}\n"
	"[example_entry]\n/{title}\n"
	"[history_title]\nH\n"
	"[history_entry]\n- {title}: {action};\n"
	"[no_history]\nnothing\n"
	"[candidate]\nItem: {title}{item_statistics}\n"
	"[item_statistics]\n(i {item_mean}% of {item_count})\n"
	"[unknown_title]\nunnamed\n"
	"[answer]\n<|im_end|>A\n"
	"[yes]\n Yes\n[no]\nNo\n";

static struct history_entry history[4];
static struct example examples[3];
static float user_statistics[2], item_statistics[2];
static struct request_candidate candidates[2];
static struct scoring_request request;

static void open_all(void)
{
	struct error error = {0};
	folder = tiny_folder(1, 2048);
	ck_assert_msg(tokenizer_open(folder, &tokenizer, &error) == STATUS_OK, "%s", error.text);
	ck_assert_msg(template_parse("test", template_text, &wording, &error) == STATUS_OK, "%s", error.text);
	history[0] = (struct history_entry){TEXT_LITERAL("a"), TEXT_LITERAL("one"), KIND_RATE, true, 4, 1};
	history[1] =
	    (struct history_entry){TEXT_LITERAL("b"), TEXT_LITERAL("two"), KIND_PURCHASE, false, 0, 2};
	history[2] = (struct history_entry){TEXT_LITERAL("c"), TEXT_LITERAL(""), KIND_CLICK, false, 0, 3};
	history[3] =
	    (struct history_entry){TEXT_LITERAL("d"), TEXT_LITERAL("four"), KIND_RATE, true, 3.5f, 4};
	examples[0] = (struct example){.9f, history, 2};
	examples[1] = (struct example){.8f, history, 0};
	examples[2] = (struct example){.7f, history + 1, 3};
	user_statistics[0] = .714f, user_statistics[1] = logf(1 + 12);
	item_statistics[0] = 1, item_statistics[1] = logf(1 + 100000);
	candidates[0] =
	    (struct request_candidate){TEXT_LITERAL("x"), TEXT_LITERAL("Soap"), item_statistics, 2};
	candidates[1] =
	    (struct request_candidate){TEXT_LITERAL("y"), TEXT_LITERAL("Brush and comb"), NULL, 0};
	request = (struct scoring_request){
		.history = history, .history_count = 4, .examples = examples, .examples_count = 3,
		.user_statistics = user_statistics, .user_statistics_count = 2,
		.candidates = candidates, .candidates_count = 2,
	};
}

static void close_all(void)
{
	template_destroy(wording);
	tokenizer_close(tokenizer);
	tiny_remove(folder);
}

/* Ids as letters; special tokens as { and }. */
static const char *letters(struct prompt_ids ids)
{
	static char text[1 << 16];
	uint32_t i;
	for (i = 0; i < ids.count && i < sizeof text - 1; i++)
		text[i] = ids.ids[i] == TINY_IM_START ? '{'
			  : ids.ids[i] == TINY_IM_END ? '}'
						      : (char)ids.ids[i];
	text[i] = 0;
	return text;
}

static struct prompt *prompt_with(uint32_t positions)
{
	struct prompt *prompt;
	struct error error = {0};
	ck_assert_msg(prompt_create(tokenizer, wording, NULL, NULL, positions, &prompt, &error) ==
			  STATUS_OK,
		      "%s", error.text);
	return prompt;
}

#define USER(prompt, want, want_cut)                                                                       \
	do {                                                                                               \
		struct prompt_ids ids_;                                                                    \
		struct error error_ = {0};                                                                 \
		bool cut_;                                                                                 \
		ck_assert_msg(prompt_user(prompt, &request, &ids_, &cut_, &error_) == STATUS_OK, "%s",     \
			      error_.text);                                                                \
		ck_assert_str_eq(letters(ids_), want);                                                     \
		ck_assert(cut_ == (want_cut));                                                             \
	} while (0)
#define CANDIDATE(prompt, index, want, want_cut)                                                           \
	do {                                                                                               \
		struct prompt_ids ids_;                                                                    \
		struct error error_ = {0};                                                                 \
		bool cut_;                                                                                 \
		ck_assert_int_eq(prompt_candidate(prompt, &request, index, &ids_, &cut_, &error_),         \
				 STATUS_OK);                                                               \
		ck_assert_str_eq(letters(ids_), want);                                                     \
		ck_assert(cut_ == (want_cut));                                                             \
	} while (0)

START_TEST(wording_of_a_whole_request)
{
	struct prompt *p = prompt_with(2048);
	int32_t yes, no;
	ck_assert_str_eq(letters(prompt_instruction(p)), "{I");
	prompt_answers(p, &yes, &no);
	ck_assert_int_eq(yes, ' ');
	ck_assert_int_eq(no, 'N');
	USER(p,
	     "<1/one/two<3/two/unnamed/fourH- one: rated 4;- two: bought;- unnamed: clicked;- four: rated "
	     "3.5;"
	     "(u 71 12)|",
	     false);
	CANDIDATE(p, 0, "Item: Soap(i 100% of 100000)}A", false);
	CANDIDATE(p, 1, "Item: Brush and comb}A", false);
	/* Nothing known: said so; no count, no statistics. */
	request.history_count = request.examples_count = 0;
	user_statistics[1] = 0;
	USER(p, "nothing|", false);
	item_statistics[1] = NAN;
	CANDIDATE(p, 0, "Item: Soap}A", false);
	prompt_destroy(p);
	prompt_destroy(NULL);
}
END_TEST

START_TEST(odd_titles_are_text)
{
	struct prompt *p = prompt_with(2048);
	request.history_count = request.examples_count = 0;
	candidates[0].statistics_count = 0;
	USER(p, "nothing(u 71 12)|", false);
	candidates[0].text = TEXT_LITERAL("<|im_end|>");
	CANDIDATE(p, 0, "Item: <|im_end|>}A", false);
	candidates[0].text = TEXT_LITERAL(" \n\t ");
	CANDIDATE(p, 0, "Item: unnamed}A", false);
	candidates[0].text = (struct text_view){NULL, 0};
	CANDIDATE(p, 0, "Item: unnamed}A", false);
	candidates[0].text = TEXT_LITERAL("\r\na\nb\0c {title} ");
	CANDIDATE(p, 0, "Item: a b c {title}}A", false);
	/* One megabyte: cut to 512 bytes, and said. */
	size_t size = 1 << 20;
	char *big = malloc(size);
	memset(big, 'x', size);
	candidates[0].text = (struct text_view){big, size};
	USER(p, "nothing(u 71 12)|", false);
	char want[600] = "Item: ";
	memset(want + 6, 'x', 512);
	strcpy(want + 518, "}A");
	CANDIDATE(p, 0, want, true);
	free(big);
	/* Invalid UTF-8 becomes something valid and finite. */
	candidates[0].text = TEXT_LITERAL("\xff\xfe\xc3");
	struct prompt_ids ids;
	struct error error = {0};
	bool cut;
	ck_assert_int_eq(prompt_candidate(p, &request, 0, &ids, &cut, &error), STATUS_OK);
	ck_assert_uint_gt(ids.count, 9);
	prompt_destroy(p);
}
END_TEST

START_TEST(examples_go_first_then_history_then_the_title)
{
	/* Every context from the least on: the prompt fits, and each cut prompt is the longer one's with the
	 * right part left out. */
	struct error error = {0};
	struct prompt *p = NULL;
	uint32_t least = 1;
	while (prompt_create(tokenizer, wording, NULL, NULL, least, &p, &error)) {
		ck_assert_int_eq(error.status, STATUS_CONFIG);
		least++;
	}
	prompt_destroy(p);
	ck_assert_uint_gt(least, 100);
	ck_assert_uint_lt(least, 200);
	char title[257];
	memset(title, 'y', 256);
	title[256] = 0;
	uint32_t whole_at = 0, last_user = 0;
	for (uint32_t positions = least; positions < 520; positions += 3) {
		p = prompt_with(positions);
		candidates[1].text = text_of(title);
		struct prompt_ids user, suffix;
		bool cut, title_cut;
		ck_assert_int_eq(prompt_user(p, &request, &user, &cut, &error), STATUS_OK);
		const char *text = letters(user);
		bool examples_left = strchr(text, '<') != NULL,
		     history_whole = strstr(text, "- one: rated 4;") != NULL;
		bool history_left = strchr(text, 'H') != NULL;
		ck_assert(!examples_left || history_whole);
		ck_assert_ptr_nonnull(strstr(text, "(u 71 12)|"));
		if (!cut && !whole_at)
			whole_at = positions;
		ck_assert_uint_ge(user.count, last_user);
		last_user = user.count;
		uint32_t user_count = user.count;
		for (size_t c = 0; c < 2; c++) {
			ck_assert_int_eq(prompt_candidate(p, &request, c, &suffix, &title_cut, &error),
					 STATUS_OK);
			ck_assert_uint_le(prompt_instruction(p).count + user_count + suffix.count, positions);
			ck_assert(!title_cut || !history_left);
			const char *candidate = letters(suffix);
			ck_assert(strncmp(candidate, c ? "Item: yyyyyyyyyyyyyyyy" : "Item: Soap(", 11) == 0);
			ck_assert_str_eq(candidate + strlen(candidate) - 2, "}A");
		}
		prompt_destroy(p);
	}
	ck_assert_uint_gt(whole_at, 300);
	/* One step: the oldest entry of the least similar example goes before all else. */
	candidates[1].text = TEXT_LITERAL("b");
	p = prompt_with(2048);
	struct prompt_ids user;
	bool cut;
	ck_assert_int_eq(prompt_user(p, &request, &user, &cut, &error), STATUS_OK);
	uint32_t suffix = (uint32_t)strlen("Item: Soap(i 100% of 100000)}A"),
		 needed = user.count + suffix + 2;
	prompt_destroy(p);
	p = prompt_with(needed);
	USER(p,
	     "<1/one/two<3/two/unnamed/fourH- one: rated 4;- two: bought;- unnamed: clicked;- four: rated "
	     "3.5;"
	     "(u 71 12)|",
	     false);
	prompt_destroy(p);
	p = prompt_with(needed - 1);
	USER(p, "<1/one/two<3/unnamed/fourH- one: rated 4;- two: bought;- unnamed: clicked;- four: rated 3.5;"
		"(u 71 12)|", true);
	prompt_destroy(p);
	p = prompt_with(needed - 23);
	USER(p, "<1/twoH- one: rated 4;- two: bought;- unnamed: clicked;- four: rated 3.5;(u 71 12)|", true);
	prompt_destroy(p);
}
END_TEST

START_TEST(answers_and_contexts_that_cannot_be)
{
	struct prompt *p = NULL;
	struct error error = {0};
	ck_assert_int_eq(prompt_create(tokenizer, wording, "Yes", "Yolo", 2048, &p, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "same token"));
	ck_assert_int_eq(prompt_create(tokenizer, wording, NULL, NULL, 50, &p, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "context"));
	ck_assert_ptr_null(p);
}
END_TEST

START_TEST(the_cache_forgets_but_never_lies)
{
	struct prompt *p = prompt_with(2048);
	struct error error = {0};
	uint64_t hits, misses;
	candidates[0].statistics_count = 0;
	request.candidates_count = 1;
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 70000; i += round ? 997 : 1) {
			char title[32], want[64];
			snprintf(title, sizeof title, "item %d", i);
			snprintf(want, sizeof want, "Item: %s}A", title);
			candidates[0].text = text_of(title);
			struct prompt_ids ids;
			bool cut;
			ck_assert_int_eq(prompt_candidate(p, &request, 0, &ids, &cut, &error), STATUS_OK);
			ck_assert_str_eq(letters(ids), want);
		}
	prompt_counts(p, &hits, &misses);
	ck_assert_uint_gt(misses, 70000);
	ck_assert_uint_gt(hits, 70000);
	prompt_destroy(p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("prompt");
	TCase *cases = tcase_create("prompt");
	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, open_all, close_all);
	tcase_add_test(cases, wording_of_a_whole_request);
	tcase_add_test(cases, odd_titles_are_text);
	tcase_add_test(cases, examples_go_first_then_history_then_the_title);
	tcase_add_test(cases, answers_and_contexts_that_cannot_be);
	tcase_add_test(cases, the_cache_forgets_but_never_lies);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
