/* status.h - the result of every call that can fail, and the text that explains it.
 *
 * A status belongs to one of three classes, and callers branch on the class, not on the code:
 *   BAD     the record is at fault: dead letter, count, continue;
 *   RETRY   the world is at fault: try again, a bounded number of times;
 *   FATAL   we cannot go on: return it up; only main() exits, with the sysexits code of the table.
 * The text lives in a struct error that the caller owns; it is written only when a call fails, and
 * says what was wrong, where (topic/partition/offset, file/byte) and what to do. Any thread. */
#ifndef EXITPOLL_BASE_STATUS_H
#define EXITPOLL_BASE_STATUS_H

#include <stdarg.h>

enum status_class { STATUS_CLASS_OK, STATUS_CLASS_BAD, STATUS_CLASS_RETRY, STATUS_CLASS_FATAL };

/*      code               class   exit  text */
#define STATUS_MAP(X)                                                                              \
	X(OK,                OK,     0,    "ok")                                                   \
	X(BAD_RECORD,        BAD,    65,   "bad record")                                           \
	X(UNKNOWN_SCHEMA,    BAD,    65,   "unknown schema id")                                    \
	X(LIMIT,             BAD,    65,   "over a limit")                                         \
	X(NOT_FOUND,         BAD,    66,   "not found")                                            \
	X(RETRY,             RETRY,  75,   "temporarily unavailable")                              \
	X(INTERRUPTED,       RETRY,  75,   "interrupted")                                          \
	X(USAGE,             FATAL,  64,   "usage")                                                \
	X(CORRUPT,           FATAL,  65,   "malformed input")                                      \
	X(NO_INPUT,          FATAL,  66,   "cannot open input")                                    \
	X(UNAVAILABLE,       FATAL,  69,   "service unavailable")                                  \
	X(INTERNAL,          FATAL,  70,   "internal error")                                       \
	X(NO_MEMORY,         FATAL,  71,   "out of memory")                                        \
	X(CANNOT_CREATE,     FATAL,  73,   "cannot create output")                                 \
	X(IO,                FATAL,  74,   "input/output error")                                   \
	X(INCOMPATIBLE,      FATAL,  76,   "incompatible schema")                                  \
	X(NO_PERMISSION,     FATAL,  77,   "permission denied")                                    \
	X(CONFIG,            FATAL,  78,   "configuration error")                                  \
	X(UNSUPPORTED,       FATAL,  78,   "not supported")                                        \
	X(FENCED,            FATAL,  80,   "fenced by another instance")

enum status {
#define X(code, class, exit, text) STATUS_##code,
	STATUS_MAP(X)
#undef X
};

enum { ERROR_TEXT_BYTES = 640 };

/* Owned by the caller; zero-initialise it. One per thread of calls. */
struct error {
	enum status status;
	char text[ERROR_TEXT_BYTES];
};

const char *status_name(enum status status);       /* "BAD_RECORD" */
const char *status_text(enum status status);       /* "bad record" */
enum status_class status_class(enum status status);
int status_exit_code(enum status status);          /* sysexits */

/* Writes status and formatted text (cut to fit) and returns status, so that a failing function can
 * end with `return error_set(error, STATUS_IO, ...)`. error may be NULL. */
enum status error_set(struct error *error, enum status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "context: " before the text that is already there; returns error->status. */
enum status error_prefix(struct error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
