/* cli.c - failure messages, signals and JSON strings for all commands. The stop flag is the one piece
 * of process-wide state, because signals are. */
#include "ops/cli/cli.h"

#include "base/text.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t stop_requested;

int cli_fail(const struct error *error)
{
	fprintf(stderr, "exitpoll: %s\n", error->text[0] ? error->text : status_text(error->status));
	return status_exit_code(error->status);
}

int cli_usage(const char *command, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "exitpoll %s: ", command);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\nTry `exitpoll %s --help`.\n", command);
	return status_exit_code(STATUS_USAGE);
}

static void on_signal(int number)
{
	if (stop_requested)
		_exit(128 + number);
	stop_requested = 1;
}

void cli_catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

bool cli_stopping(void)
{
	return stop_requested != 0;
}

void cli_json_string(FILE *out, const char *bytes, size_t size)
{
	struct text_view text = {bytes, size};
	bool valid = text_is_utf8(text);

	putc('"', out);
	for (size_t i = 0; i < size; i++) {
		unsigned char byte = (unsigned char)bytes[i];
		if (byte == '"' || byte == '\\')
			fprintf(out, "\\%c", byte);
		else if (byte < 0x20)
			fprintf(out, "\\u%04x", byte);
		else if (byte >= 0x80 && !valid)
			fputs("\\ufffd", out);
		else
			putc(byte, out);
	}
	putc('"', out);
}
