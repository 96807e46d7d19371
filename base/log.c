/* log.c - formats one line into a stack buffer and writes it with a single write(2), so that lines of
 * several threads never mix. The level and form are set once by main before threads start. */
#include "base/log.h"

#include "base/clock.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum log_level level_min = LOG_INFO;
static bool as_json;

static const char *const level_names[] = {"debug", "info", "warning", "error"};

void log_configure(enum log_level level, bool json)
{
	level_min = level;
	as_json = json;
}

bool log_enabled(enum log_level level)
{
	return level >= level_min;
}

struct line {
	char bytes[4096];
	size_t used;
};

static void put(struct line *line, char byte)
{
	if (line->used < sizeof line->bytes - 2)
		line->bytes[line->used++] = byte;
}

static void put_text(struct line *line, const char *text)
{
	while (*text)
		put(line, *text++);
}

static void put_json_string(struct line *line, const char *text, size_t size)
{
	put(line, '"');
	for (size_t i = 0; i < size; i++) {
		unsigned char byte = (unsigned char)text[i];
		char escape[8];
		if (byte == '"' || byte == '\\') {
			put(line, '\\');
			put(line, (char)byte);
		} else if (byte < 0x20) {
			snprintf(escape, sizeof escape, "\\u%04x", byte);
			put_text(line, escape);
		} else {
			put(line, (char)byte);
		}
	}
	put(line, '"');
}

static bool is_number(const char *text, size_t size)
{
	size_t digits = 0, dots = 0;
	for (size_t i = 0; i < size; i++) {
		if (isdigit((unsigned char)text[i]))
			digits++;
		else if (text[i] == '.' && i > 0 && i + 1 < size)
			dots++;
		else if (!(text[i] == '-' && i == 0))
			return false;
	}
	bool leading_zero = size > 1 && text[0] == '0' && text[1] != '.';
	return digits > 0 && dots <= 1 && text[0] != '.' && !leading_zero;
}

/* key=value key="value with spaces" -> ,"key":value */
static void put_json_fields(struct line *line, const char *fields)
{
	const char *at = fields;
	while (*at) {
		while (*at == ' ')
			at++;
		const char *equals = strchr(at, '=');
		if (!equals)
			break;
		put(line, ',');
		put_json_string(line, at, (size_t)(equals - at));
		put(line, ':');
		at = equals + 1;
		if (*at == '"') {
			const char *end = strchr(at + 1, '"');
			size_t size = end ? (size_t)(end - at - 1) : strlen(at + 1);
			put_json_string(line, at + 1, size);
			at += 1 + size + (end != NULL);
		} else {
			size_t size = strcspn(at, " ");
			if (is_number(at, size))
				for (size_t i = 0; i < size; i++)
					put(line, at[i]);
			else
				put_json_string(line, at, size);
			at += size;
		}
	}
}

void log_event(enum log_level level, const char *event, const char *fields, ...)
{
	struct line line = {.used = 0};
	char formatted[3072], stamp[64];
	va_list arguments;
	int64_t now = clock_wall_ms();
	time_t seconds = now / 1000;
	struct tm utc;

	if (!log_enabled(level))
		return;
	va_start(arguments, fields);
	vsnprintf(formatted, sizeof formatted, fields, arguments);
	va_end(arguments);
	for (char *byte = formatted; *byte; byte++)
		if (*byte == '\n' || *byte == '\r')
			*byte = ' ';
	gmtime_r(&seconds, &utc);
	strftime(stamp, sizeof stamp, as_json ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &utc);
	snprintf(stamp + strlen(stamp), sizeof stamp - strlen(stamp), ".%03d%s", (int)(now % 1000),
		 as_json ? "Z" : "");
	if (as_json) {
		put_text(&line, "{\"time\":\"");
		put_text(&line, stamp);
		put_text(&line, "\",\"level\":\"");
		put_text(&line, level_names[level]);
		put_text(&line, "\",\"event\":");
		put_json_string(&line, event, strlen(event));
		put_json_fields(&line, formatted);
		put(&line, '}');
	} else {
		char head[160];
		snprintf(head, sizeof head, "%s %-7s %s ", stamp, level_names[level], event);
		put_text(&line, head);
		put_text(&line, formatted);
	}
	line.bytes[line.used++] = '\n';
	ssize_t written = write(STDERR_FILENO, line.bytes, line.used);
	(void)written;
}
