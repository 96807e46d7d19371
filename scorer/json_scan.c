/* json_scan.c - the grammar of RFC 8259, one function per production. See json_scan.h. */
#include "scorer/json_scan.h"

bool json_scan_fail(struct json_scan *scan, const char *reason)
{
	if (!scan->reason)
		scan->reason = reason;
	return false;
}

bool json_scan_begin(struct json_scan *scan, struct text_view text)
{
	*scan = (struct json_scan){.text = text.bytes, .size = text.size};
	return text_is_utf8(text) || json_scan_fail(scan, "not UTF-8");
}

void json_scan_inside(struct json_scan *scan, struct text_view text)
{
	*scan = (struct json_scan){.text = text.bytes, .size = text.size};
}

void json_scan_end(struct json_scan *scan)
{
	mem_free(scan->buffer);
	scan->buffer = NULL;
	scan->buffer_size = 0;
}

char json_scan_peek(struct json_scan *scan)
{
	while (scan->at < scan->size) {
		char c = scan->text[scan->at];
		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return c;
		scan->at++;
	}
	return '\0';
}

bool json_scan_expect(struct json_scan *scan, char character)
{
	if (scan->reason)
		return false;
	if (json_scan_peek(scan) != character || scan->at == scan->size)
		return json_scan_fail(scan, character == ':' ? "expected ':'" : character == '{' ?
				      "expected '{'" :
				      character == '[' ? "expected '['" : character == '"' ?
					      "expected a string" :
				      "expected ',' or the closing bracket");
	scan->at++;
	return true;
}

bool json_scan_open(struct json_scan *scan, char bracket)
{
	if (!json_scan_expect(scan, bracket))
		return false;
	/* ASCII: the closing bracket lies two behind the opening one. */
	if (json_scan_peek(scan) == bracket + 2) {
		scan->at++;
		return false;
	}
	return true;
}

bool json_scan_next(struct json_scan *scan, char bracket)
{
	if (scan->reason)
		return false;
	if (json_scan_peek(scan) == bracket && scan->at < scan->size) {
		scan->at++;
		return false;
	}
	return json_scan_expect(scan, ',');
}

bool json_scan_at_end(struct json_scan *scan)
{
	if (scan->reason)
		return false;
	json_scan_peek(scan);
	return scan->at == scan->size || json_scan_fail(scan, "something follows the JSON value");
}

bool json_scan_key(struct json_scan *scan, struct text_view *out)
{
	return json_scan_string(scan, out) && json_scan_expect(scan, ':');
}

static bool hex4(struct json_scan *scan, uint32_t *out)
{
	uint32_t value = 0;

	if (scan->size - scan->at < 4)
		return json_scan_fail(scan, "a \\u escape is cut off");
	for (int i = 0; i < 4; i++) {
		char c = scan->text[scan->at + (size_t)i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			    c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
		if (digit < 0)
			return json_scan_fail(scan, "a \\u escape without four hex digits");
		value = value << 4 | (uint32_t)digit;
	}
	scan->at += 4;
	*out = value;
	return true;
}

static size_t put_utf8(char *to, uint32_t c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (char)(0xC0 | c >> 6);
		to[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (char)(0xE0 | c >> 12);
		to[1] = (char)(0x80 | (c >> 6 & 63));
		to[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	to[0] = (char)(0xF0 | c >> 18);
	to[1] = (char)(0x80 | (c >> 12 & 63));
	to[2] = (char)(0x80 | (c >> 6 & 63));
	to[3] = (char)(0x80 | (c & 63));
	return 4;
}

/* What stands behind a backslash, decoded to `to`. An escape is never shorter than what it means. */
static bool escape(struct json_scan *scan, char *to, size_t *used)
{
	static const char plain[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
	const char *found;
	uint32_t c, low;
	char kind;

	if (scan->at == scan->size)
		return json_scan_fail(scan, "a string is not closed");
	kind = scan->text[scan->at++];
	if (kind != 'u') {
		found = kind ? strchr(plain, kind) : NULL;
		if (!found)
			return json_scan_fail(scan, "an escape that JSON does not have");
		to[(*used)++] = meaning[found - plain];
		return true;
	}
	if (!hex4(scan, &c))
		return false;
	if (c >= 0xDC00 && c <= 0xDFFF)
		return json_scan_fail(scan, "a lone surrogate");
	if (c >= 0xD800 && c <= 0xDBFF) {
		if (scan->size - scan->at < 2 || scan->text[scan->at] != '\\' ||
		    scan->text[scan->at + 1] != 'u')
			return json_scan_fail(scan, "a lone surrogate");
		scan->at += 2;
		if (!hex4(scan, &low))
			return false;
		if (low < 0xDC00 || low > 0xDFFF)
			return json_scan_fail(scan, "a lone surrogate");
		c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
	}
	*used += put_utf8(to + *used, c);
	return true;
}

/* Moves to the closing quote; false: not closed, or a raw control character. */
static bool find_quote(struct json_scan *scan, bool *escaped)
{
	*escaped = false;
	for (; scan->at < scan->size; scan->at++) {
		unsigned char c = (unsigned char)scan->text[scan->at];
		if (c == '"')
			return true;
		if (c < 0x20)
			return json_scan_fail(scan, "a raw control character in a string");
		if (c == '\\') {
			*escaped = true;
			scan->at++;
		}
	}
	scan->at = scan->size;
	return json_scan_fail(scan, "a string is not closed");
}

bool json_scan_string(struct json_scan *scan, struct text_view *out)
{
	size_t start, end, used = 0;
	bool escaped;

	if (!json_scan_expect(scan, '"'))
		return false;
	start = scan->at;
	if (!find_quote(scan, &escaped))
		return false;
	end = scan->at;
	if (!escaped) {
		scan->at++;
		*out = (struct text_view){scan->text + start, end - start};
		return true;
	}
	if (scan->buffer_size < end - start) {
		char *buffer = mem_resize_array(scan->buffer, end - start, 1);
		if (!buffer)
			return json_scan_fail(scan, "no memory for a string");
		scan->buffer = buffer;
		scan->buffer_size = end - start;
	}
	for (scan->at = start; scan->at < end;) {
		char c = scan->text[scan->at++];
		if (c != '\\')
			scan->buffer[used++] = c;
		else if (!escape(scan, scan->buffer, &used))
			return false;
	}
	scan->at = end + 1;
	*out = (struct text_view){scan->buffer, used};
	return true;
}

static bool is_digit(const struct json_scan *scan)
{
	return scan->at < scan->size && scan->text[scan->at] >= '0' && scan->text[scan->at] <= '9';
}

bool json_scan_unsigned(struct json_scan *scan, uint64_t *out)
{
	uint64_t value = 0;
	size_t start;

	if (scan->reason)
		return false;
	json_scan_peek(scan);
	if (!is_digit(scan))
		return json_scan_fail(scan, "expected a non-negative integer");
	start = scan->at;
	for (; is_digit(scan); scan->at++)
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(scan->text[scan->at] - '0'), &value))
			return json_scan_fail(scan, "an integer does not fit in 64 bits");
	if (scan->text[start] == '0' && scan->at - start > 1)
		return json_scan_fail(scan, "a number with a leading zero");
	if (scan->at < scan->size && strchr(".eE", scan->text[scan->at]) && scan->text[scan->at])
		return json_scan_fail(scan, "expected an integer, without fraction or exponent");
	*out = value;
	return true;
}

static bool skip_digits(struct json_scan *scan)
{
	if (!is_digit(scan))
		return json_scan_fail(scan, "expected a digit");
	while (is_digit(scan))
		scan->at++;
	return true;
}

static bool skip_number(struct json_scan *scan)
{
	if (scan->text[scan->at] == '-')
		scan->at++;
	if (scan->at < scan->size && scan->text[scan->at] == '0')
		scan->at++;
	else if (!skip_digits(scan))
		return false;
	if (is_digit(scan))
		return json_scan_fail(scan, "a number with a leading zero");
	if (scan->at < scan->size && scan->text[scan->at] == '.') {
		scan->at++;
		if (!skip_digits(scan))
			return false;
	}
	if (scan->at < scan->size && (scan->text[scan->at] == 'e' || scan->text[scan->at] == 'E')) {
		scan->at++;
		if (scan->at < scan->size && (scan->text[scan->at] == '+' || scan->text[scan->at] == '-'))
			scan->at++;
		return skip_digits(scan);
	}
	return true;
}

static bool skip_word(struct json_scan *scan, const char *word)
{
	size_t size = strlen(word);

	if (scan->size - scan->at < size || memcmp(scan->text + scan->at, word, size) != 0)
		return json_scan_fail(scan, "not a JSON value");
	scan->at += size;
	return true;
}

static bool skip_value(struct json_scan *scan, int depth)
{
	struct text_view ignored;
	char c;

	if (scan->reason)
		return false;
	if (depth > JSON_SCAN_DEPTH_MAX)
		return json_scan_fail(scan, "nested too deep");
	c = json_scan_peek(scan);
	switch (c) {
	case '"':
		return json_scan_string(scan, &ignored);
	case '{':
		for (bool more = json_scan_open(scan, '{'); more; more = json_scan_next(scan, '}'))
			if (!json_scan_key(scan, &ignored) || !skip_value(scan, depth + 1))
				return false;
		return json_scan_ok(scan);
	case '[':
		for (bool more = json_scan_open(scan, '['); more; more = json_scan_next(scan, ']'))
			if (!skip_value(scan, depth + 1))
				return false;
		return json_scan_ok(scan);
	case 't':
		return skip_word(scan, "true");
	case 'f':
		return skip_word(scan, "false");
	case 'n':
		return skip_word(scan, "null");
	default:
		if (c != '-' && !is_digit(scan))
			return json_scan_fail(scan, "not a JSON value");
		return skip_number(scan);
	}
}

bool json_scan_skip(struct json_scan *scan, struct text_view *out)
{
	size_t start;

	json_scan_peek(scan);
	start = scan->at;
	if (!skip_value(scan, 0))
		return false;
	if (out)
		*out = (struct text_view){scan->text + start, scan->at - start};
	return true;
}
