/* log.h - structured log lines: one per state change, rates instead of a line per record.
 *
 * Text: "12:00:00.123 info  snapshot.saved edges=123 ms=4"; JSON: {"time":…,"level":…,"event":…,…}.
 * Fields are given as one printf format of space-separated key=value pairs; a value with spaces is put
 * in double quotes by the caller's format. Any thread; one write(2) per line to standard error. */
#ifndef EXITPOLL_BASE_LOG_H
#define EXITPOLL_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* Before threads start. Defaults: info, text. */
void log_configure(enum log_level level, bool json);
bool log_enabled(enum log_level level);
void log_event(enum log_level level, const char *event, const char *fields, ...)
	__attribute__((format(printf, 3, 4)));

#define log_debug(...) log_event(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_event(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_event(LOG_ERROR, __VA_ARGS__)

#endif
