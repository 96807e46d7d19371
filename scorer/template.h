/* template.h - the wording of a prompt: a file of named sections with placeholders.
 *
 *     # a comment, before the first section
 *     [instruction]
 *     <|im_start|>system
 *     ...
 *     [history_entry]
 *     - {title}: {action}
 *
 * A section is the text up to the line break before the next header, with {{ and }} for braces. Special
 * tokens written in a template are special tokens; in what fills a placeholder they are text. A space
 * before a placeholder belongs to the value, as tokenizers like it. Immutable after loading. */
#ifndef EXITPOLL_SCORER_TEMPLATE_H
#define EXITPOLL_SCORER_TEMPLATE_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

/* name, required, placeholders it may hold */
#define TEMPLATE_SECTIONS(X)                                                                       \
	X(INSTRUCTION, instruction, true, 0)                                                       \
	X(USER, user, true, P(USER_STATISTICS) | P(EXAMPLES) | P(HISTORY))                         \
	X(USER_STATISTICS, user_statistics, false, P(USER_MEAN) | P(USER_COUNT))                   \
	X(EXAMPLE_TITLE, example_title, false, P(NUMBER))                                          \
	X(EXAMPLE_ENTRY, example_entry, false, P(TITLE) | P(ACTION))                               \
	X(HISTORY_TITLE, history_title, false, 0)                                                  \
	X(HISTORY_ENTRY, history_entry, false, P(TITLE) | P(ACTION))                               \
	X(NO_HISTORY, no_history, false, 0)                                                        \
	X(CANDIDATE, candidate, true, P(TITLE) | P(ITEM_STATISTICS))                               \
	X(ITEM_STATISTICS, item_statistics, false, P(ITEM_MEAN) | P(ITEM_COUNT))                   \
	X(UNKNOWN_TITLE, unknown_title, true, 0)                                                   \
	X(ANSWER, answer, true, 0)                                                                 \
	X(YES, yes, true, 0)                                                                       \
	X(NO, no, true, 0)

enum template_section_kind {
#define X(code, name, required, placeholders) SECTION_##code,
	TEMPLATE_SECTIONS(X)
#undef X
	SECTIONS
};

enum template_placeholder {
	PLACEHOLDER_NONE, PLACEHOLDER_USER_STATISTICS, PLACEHOLDER_EXAMPLES, PLACEHOLDER_HISTORY,
	PLACEHOLDER_USER_MEAN, PLACEHOLDER_USER_COUNT, PLACEHOLDER_NUMBER, PLACEHOLDER_TITLE,
	PLACEHOLDER_ACTION, PLACEHOLDER_ITEM_STATISTICS, PLACEHOLDER_ITEM_MEAN, PLACEHOLDER_ITEM_COUNT,
	PLACEHOLDERS
};

/* Literal text, then (unless NONE) a placeholder. */
struct template_part {
	struct text_view literal;
	enum template_placeholder placeholder;
	bool space;                     /* a space stands before the value */
};

enum { TEMPLATE_PARTS_MAX = 16, TEMPLATE_BYTES_MAX = 65536 };

struct template_section {
	struct template_part parts[TEMPLATE_PARTS_MAX];
	uint32_t count;
};

struct template {
	char name[64];
	char *text;                     /* the whole file, for the hash of the bundle */
	char *unescaped;                /* what the literals point into */
	struct template_section sections[SECTIONS];
};

/* A shipped name (chatml, vicuna, llama3, plain) or a file's path. STATUS_CONFIG: no such template,
 * unknown section or placeholder (with the nearest one), missing section, section given twice. */
enum status template_load(const char *name_or_path, struct template **out, struct error *error);
/* The same from text; `name` for messages. */
enum status template_parse(const char *name, const char *text, struct template **out, struct error *error);
void template_destroy(struct template *template);       /* NULL ok */

/* The text of a shipped template, or NULL; names[index] for lists, NULL past the end. */
const char *template_builtin(const char *name);
const char *template_builtin_name(size_t index);

#endif
