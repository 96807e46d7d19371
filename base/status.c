/* status.c - names, classes and exit codes from the one table in status.h. Any thread. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	const char *text;
	enum status_class class;
	int exit_code;
} table[] = {
#define X(code, class, exit, text) [STATUS_##code] = {#code, text, STATUS_CLASS_##class, exit},
	STATUS_MAP(X)
#undef X
};

const char *status_name(enum status status)
{
	return table[status].name;
}

const char *status_text(enum status status)
{
	return table[status].text;
}

enum status_class status_class(enum status status)
{
	return table[status].class;
}

int status_exit_code(enum status status)
{
	return table[status].exit_code;
}

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
	if (error) {
		va_list arguments;
		va_start(arguments, format);
		error->status = status;
		vsnprintf(error->text, sizeof error->text, format, arguments);
		va_end(arguments);
	}
	return status;
}

enum status error_prefix(struct error *error, const char *format, ...)
{
	char rest[ERROR_TEXT_BYTES];
	va_list arguments;
	size_t used, room;

	if (!error)
		return STATUS_INTERNAL;
	memcpy(rest, error->text, sizeof rest);
	va_start(arguments, format);
	vsnprintf(error->text, sizeof error->text, format, arguments);
	va_end(arguments);
	used = strlen(error->text);
	if (used + 2 < sizeof error->text) {
		memcpy(error->text + used, ": ", 2);
		used += 2;
		room = sizeof error->text - 1 - used;
		room = strnlen(rest, room);
		memcpy(error->text + used, rest, room);
		error->text[used + room] = '\0';
	}
	return error->status;
}
