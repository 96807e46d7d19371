/* text.c - UTF-8 checks (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). Pure. */
#include "base/text.h"

/* Length of the valid character at `at`, or 0. */
static size_t utf8_length(const unsigned char *at, size_t left)
{
	unsigned char lead = at[0];
	size_t length;

	if (lead < 0x80)
		return 1;
	if (lead >= 0xC2 && lead <= 0xDF)
		length = 2;
	else if (lead >= 0xE0 && lead <= 0xEF)
		length = 3;
	else if (lead >= 0xF0 && lead <= 0xF4)
		length = 4;
	else
		return 0;
	if (left < length)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xC0) != 0x80)
			return 0;
	if ((lead == 0xE0 && at[1] < 0xA0) || (lead == 0xED && at[1] > 0x9F) ||
	    (lead == 0xF0 && at[1] < 0x90) || (lead == 0xF4 && at[1] > 0x8F))
		return 0;
	return length;
}

bool text_is_utf8(struct text_view text)
{
	const unsigned char *bytes = (const unsigned char *)text.bytes;
	for (size_t i = 0; i < text.size;) {
		size_t length = utf8_length(bytes + i, text.size - i);
		if (!length)
			return false;
		i += length;
	}
	return true;
}

struct text_view text_cut(struct text_view text, size_t bytes_max)
{
	size_t end = bytes_max;
	if (text.size <= bytes_max)
		return text;
	while (end > 0 && end + 3 > bytes_max && ((unsigned char)text.bytes[end] & 0xC0) == 0x80)
		end--;
	return (struct text_view){text.bytes, end};
}

bool text_copy(struct arena *arena, struct text_view text, struct text_view *out)
{
	char *copy = arena_alloc(arena, text.size);
	if (!copy)
		return false;
	if (text.size)
		memcpy(copy, text.bytes, text.size);
	*out = (struct text_view){copy, text.size};
	return true;
}

bool text_copy_repaired(struct arena *arena, struct text_view text, struct text_view *out)
{
	const unsigned char *bytes = (const unsigned char *)text.bytes;
	size_t bad = 0, used = 0;
	char *copy;

	if (text_is_utf8(text))
		return text_copy(arena, text, out);
	for (size_t i = 0; i < text.size;) {
		size_t length = utf8_length(bytes + i, text.size - i);
		bad += !length;
		i += length ? length : 1;
	}
	copy = arena_alloc(arena, text.size + 2 * bad);
	if (!copy)
		return false;
	for (size_t i = 0; i < text.size;) {
		size_t length = utf8_length(bytes + i, text.size - i);
		memcpy(copy + used, length ? (const char *)bytes + i : "\xEF\xBF\xBD", length ? length : 3);
		used += length ? length : 3;
		i += length ? length : 1;
	}
	*out = (struct text_view){copy, used};
	return true;
}

size_t text_distance(const char *a, const char *b)
{
	enum { LONGEST = 64 };
	size_t rows = strnlen(a, LONGEST), columns = strnlen(b, LONGEST);
	size_t row[LONGEST + 1];

	for (size_t j = 0; j <= columns; j++)
		row[j] = j;
	for (size_t i = 1; i <= rows; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= columns; j++) {
			size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
			size_t shorter = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			diagonal = row[j];
			row[j] = substitute < shorter ? substitute : shorter;
		}
	}
	return row[columns];
}
