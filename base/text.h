/* text.h - borrowed bytes: a pointer and a length, never a terminator. A view is dead as soon as the
 * memory it points into is (its owner says when). Pure functions, any thread. */
#ifndef EXITPOLL_BASE_TEXT_H
#define EXITPOLL_BASE_TEXT_H

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct text_view {
	const char *bytes;      /* may be NULL when size is 0 */
	size_t size;
};

/* For printf("%.*s"): TEXT_ARGS(view); views of more than 2^31 bytes do not occur (record limits). */
#define TEXT_ARGS(view) (int)(view).size, (view).bytes ? (view).bytes : ""
#define TEXT_LITERAL(literal) ((struct text_view){(literal), sizeof(literal) - 1})

static inline struct text_view text_of(const char *string)
{
	return (struct text_view){string, string ? strlen(string) : 0};
}

/* Byte order, shorter first where one is a prefix of the other: the order of every tie. */
static inline int text_compare(struct text_view a, struct text_view b)
{
	size_t shorter = a.size < b.size ? a.size : b.size;
	int order = shorter ? memcmp(a.bytes, b.bytes, shorter) : 0;
	return order ? order : (a.size > b.size) - (a.size < b.size);
}

static inline bool text_equal(struct text_view a, struct text_view b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

bool text_is_utf8(struct text_view text);

/* The longest prefix of at most bytes_max bytes that does not cut a UTF-8 character. */
struct text_view text_cut(struct text_view text, size_t bytes_max);

/* Copies into the arena, replacing each invalid UTF-8 sequence by U+FFFD; false: arena full. */
bool text_copy_repaired(struct arena *arena, struct text_view text, struct text_view *out);
bool text_copy(struct arena *arena, struct text_view text, struct text_view *out);

/* Levenshtein distance, cut at 64 bytes: for "did you mean". */
size_t text_distance(const char *a, const char *b);

#endif
