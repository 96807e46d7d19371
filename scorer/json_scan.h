/* json_scan.h - a strict JSON reader that walks a text in place, for files too large for a tree.
 *
 * RFC 8259 and UTF-8, nothing more: no trailing commas, comments, raw control characters or lone
 * surrogates. A step returns false at the first trouble, `reason` and `at` say what and where, and every
 * later step fails as well. Nesting is bounded. One thread per scan. */
#ifndef EXITPOLL_SCORER_JSON_SCAN_H
#define EXITPOLL_SCORER_JSON_SCAN_H

#include "base/text.h"

#include <stdint.h>

enum { JSON_SCAN_DEPTH_MAX = 64 };

struct json_scan {
	const char *text;
	size_t size, at;
	const char *reason;             /* NULL: no trouble so far */
	char *buffer;                   /* owned: a decoded string lies here until the next one */
	size_t buffer_size;
};

/* `text` must live as long as the scan; it is checked to be UTF-8 (false: it is not). */
bool json_scan_begin(struct json_scan *scan, struct text_view text);
void json_scan_end(struct json_scan *scan);             /* frees the buffer */

/* A sub-text of the same UTF-8 text, e.g. a value found by json_scan_skip. */
void json_scan_inside(struct json_scan *scan, struct text_view text);

/* The next character that is not white space, 0 at the end. Consumes nothing else. */
char json_scan_peek(struct json_scan *scan);
bool json_scan_expect(struct json_scan *scan, char character);

/* A string; *out is borrowed from the text or the buffer, valid until the next string. */
bool json_scan_string(struct json_scan *scan, struct text_view *out);
/* A non-negative integer written as digits only, below 2^64. */
bool json_scan_unsigned(struct json_scan *scan, uint64_t *out);
/* Any value; *out (may be NULL) gets its text. */
bool json_scan_skip(struct json_scan *scan, struct text_view *out);

/* for (bool more = json_scan_open(scan, '{'); more; more = json_scan_next(scan, '}')) reads one member
 * each; afterwards json_scan_ok() tells the end from trouble. For arrays '[' and ']'. */
bool json_scan_open(struct json_scan *scan, char bracket);
bool json_scan_next(struct json_scan *scan, char bracket);
bool json_scan_key(struct json_scan *scan, struct text_view *out);      /* and the colon */
/* Only white space is left. */
bool json_scan_at_end(struct json_scan *scan);
bool json_scan_fail(struct json_scan *scan, const char *reason);        /* always false */

static inline bool json_scan_ok(const struct json_scan *scan)
{
	return !scan->reason;
}

#endif
