/* Template files: sections, placeholders, braces, and every way to get them wrong. */
#include "scorer/template.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>

static const char least[] =
	"# comment\n"
	"\n"
	"[instruction]\nJudge.\n"
	"[user]\n{history}\n"
	"[candidate]\nItem: {title}!\n"
	"[unknown_title]\nunnamed\n"
	"[answer]\nA:\n"
	"[yes]\n Yes\n"
	"[no]\n No\n";

static struct text_view literal(const struct template *t, int section, int part)
{
	return t->sections[section].parts[part].literal;
}

START_TEST(sections_are_what_they_say)
{
	struct template *t;
	struct error error = {0};
	ck_assert_msg(template_parse("dir/least.txt", least, &t, &error) == STATUS_OK, "%s", error.text);
	ck_assert_str_eq(t->name, "least.txt");
	ck_assert(text_equal(literal(t, SECTION_INSTRUCTION, 0), TEXT_LITERAL("Judge.")));
	ck_assert_int_eq(t->sections[SECTION_USER].parts[0].placeholder, PLACEHOLDER_HISTORY);
	ck_assert_uint_eq(t->sections[SECTION_CANDIDATE].count, 2);
	ck_assert(text_equal(literal(t, SECTION_CANDIDATE, 0), TEXT_LITERAL("Item:")));
	ck_assert(t->sections[SECTION_CANDIDATE].parts[0].space);
	ck_assert(text_equal(literal(t, SECTION_CANDIDATE, 1), TEXT_LITERAL("!")));
	ck_assert(text_equal(literal(t, SECTION_YES, 0), TEXT_LITERAL(" Yes")));
	ck_assert(text_equal(literal(t, SECTION_NO, 0), TEXT_LITERAL(" No")));
	template_destroy(t);
	template_destroy(NULL);
}
END_TEST

START_TEST(braces_and_breaks)
{
	char text[1024];
	struct template *t;
	struct error error = {0};
	snprintf(text, sizeof text, "%s[history_entry]\n{{x}} {title}\n\n[not a header]\n{action}\n\n",
		 least);
	ck_assert_msg(template_parse("t", text, &t, &error) == STATUS_OK, "%s", error.text);
	ck_assert(text_equal(literal(t, SECTION_HISTORY_ENTRY, 0), TEXT_LITERAL("{x}")));
	ck_assert(text_equal(literal(t, SECTION_HISTORY_ENTRY, 1), TEXT_LITERAL("\n\n[not a header]\n")));
	ck_assert(!t->sections[SECTION_HISTORY_ENTRY].parts[1].space);
	ck_assert(text_equal(literal(t, SECTION_HISTORY_ENTRY, 2), TEXT_LITERAL("\n")));
	template_destroy(t);
	/* No line break at the end of the file, and an empty last section. */
	snprintf(text, sizeof text, "%s[history_title]\nabc", least);
	ck_assert_int_eq(template_parse("t", text, &t, &error), STATUS_OK);
	ck_assert(text_equal(literal(t, SECTION_HISTORY_TITLE, 0), TEXT_LITERAL("abc")));
	template_destroy(t);
	snprintf(text, sizeof text, "%s[history_title]", least);
	ck_assert_int_eq(template_parse("t", text, &t, &error), STATUS_OK);
	template_destroy(t);
}
END_TEST

START_TEST(wrong_ones_say_what_and_suggest)
{
	static const struct { const char *add, *want;
	} wrong[] = {
	    {"[history_entri]\n", "did you mean [history_entry]"},
	    {"[user]\n", "given twice"},
	    {"[history_entry]\n{titel}\n", "did you mean {title}"},
	    {"[history_entry]\n{user_mean}\n", "knows no {user_mean}"},
	    {"[history_title]\n{title}\n", "takes no placeholders"},
	    {"[history_entry]\n{title\n", "single {"},
	    {"[history_entry]\n}\n", "single }"},
	    {"[history_entry]\n{title}{title}{title}{title}{title}{title}{title}{title}{title}{title}{"
	     "title}"
	     "{title}{title}{title}{title}{title}\n",
	     "more than 15"},
	};
	char text[2048];
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct template *t = NULL;
		struct error error = {0};
		snprintf(text, sizeof text, "%s%s", least, wrong[i].add);
		ck_assert_msg(template_parse("t", text, &t, &error) == STATUS_CONFIG, "%s", wrong[i].add);
		ck_assert_msg(strstr(error.text, wrong[i].want) != NULL, "%s", error.text);
		ck_assert_ptr_null(t);
	}
	struct template *t = NULL;
	struct error error = {0};
	ck_assert_int_eq(template_parse("t", "text\n", &t, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "before the first"));
	ck_assert_int_eq(template_parse("t", "", &t, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "[instruction] is missing"));
	ck_assert_int_eq(template_load("chatlm", &t, &error), STATUS_CONFIG);
	ck_assert_ptr_nonnull(strstr(error.text, "\"chatml\""));
	ck_assert_int_eq(template_load("/", &t, &error), STATUS_IO);
}
END_TEST

START_TEST(shipped_ones_and_files)
{
	struct error error = {0};
	for (size_t i = 0; template_builtin_name(i); i++) {
		struct template *shipped, *read;
		ck_assert_msg(template_load(template_builtin_name(i), &shipped, &error) == STATUS_OK, "%s",
			      error.text);
		char path[] = "/tmp/exitpoll_template_XXXXXX";
		int file = mkstemp(path);
		FILE *stream = fdopen(file, "w");
		fputs(shipped->text, stream);
		fclose(stream);
		ck_assert_msg(template_load(path, &read, &error) == STATUS_OK, "%s", error.text);
		ck_assert_str_eq(read->text, shipped->text);
		remove(path);
		template_destroy(shipped);
		template_destroy(read);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("template");
	TCase *cases = tcase_create("template");
	tcase_add_test(cases, sections_are_what_they_say);
	tcase_add_test(cases, braces_and_breaks);
	tcase_add_test(cases, wrong_ones_say_what_and_suggest);
	tcase_add_test(cases, shipped_ones_and_files);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
