/* cmd_tokenize.c - `exitpoll tokenize`: text from standard input (or the arguments) to token ids. */
#include "ops/cli/cli.h"

#include "base/mem.h"
#include "scorer/tokenizer.h"

#include <argp.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 64 << 20 };

struct arguments {
	const char *model;
	bool json, no_special, pieces;
};

enum option_key { KEY_MODEL = 0x100, KEY_JSON, KEY_NO_SPECIAL, KEY_PIECES };

static const struct argp_option options[] = {
	{"model", KEY_MODEL, "PATH", 0, "folder (only a tokenizer is enough) or GGUF file", 0},
	{"json", KEY_JSON, NULL, 0, "one JSON string a line in, one JSON array a line out", 0},
	{"no-special", KEY_NO_SPECIAL, NULL, 0, "special tokens written in the text are plain text", 0},
	{"pieces", KEY_PIECES, NULL, 0, "print each id with its piece", 0},
	{0},
};

static const char description[] =
	"Text from standard input to token ids, as the original tokenizer does. None is added (no BOS).\v"
	"Examples:\n"
	"  echo -n 'Hello world' | exitpoll tokenize --model SmolLM2-135M-Instruct.Q4_1.gguf\n"
	"  printf '\"one\"\\n\"two\\\\nlines\"\\n' | exitpoll tokenize --model folder --json\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_MODEL: arguments->model = argument; break;
	case KEY_JSON: arguments->json = true; break;
	case KEY_NO_SPECIAL: arguments->no_special = true; break;
	case KEY_PIECES: arguments->pieces = true; break;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument '%s': the text comes from standard input", argument);
		break;
	case ARGP_KEY_END:
		if (!arguments->model)
			argp_error(state, "--model is needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

struct encoder {
	struct tokenizer *tokenizer;
	struct tokenizer_scratch *scratch;
	int32_t *ids;
	size_t ids_max;
	const struct arguments *arguments;
};

static void print_ids(const struct encoder *encoder, size_t count)
{
	if (encoder->arguments->json)
		putchar('[');
	for (size_t i = 0; i < count; i++) {
		if (encoder->arguments->pieces && !encoder->arguments->json) {
			struct text_view piece = tokenizer_piece(encoder->tokenizer, encoder->ids[i]);
			printf("%d\t%.*s\n", encoder->ids[i], TEXT_ARGS(piece));
		} else {
			printf("%s%d", i == 0 ? "" : encoder->arguments->json ? "," : " ", encoder->ids[i]);
		}
	}
	if (!encoder->arguments->pieces || encoder->arguments->json)
		puts(encoder->arguments->json ? "]" : "");
}

static enum status encode(struct encoder *encoder, struct text_view text, struct error *error)
{
	size_t needed = tokenizer_ids_max(encoder->tokenizer, text.size), count = 0;
	int flags = encoder->arguments->no_special ? TOKENIZER_PLAIN : TOKENIZER_PARSE_SPECIAL;
	enum status status;

	if (needed > encoder->ids_max) {
		int32_t *grown = mem_resize_array(encoder->ids, needed, sizeof *grown);
		if (!grown)
			return error_set(error, STATUS_NO_MEMORY, "a text of %zu bytes does not fit into memory",
					 text.size);
		encoder->ids = grown;
		encoder->ids_max = needed;
	}
	status = tokenizer_encode(encoder->tokenizer, encoder->scratch, text, flags, encoder->ids,
				  encoder->ids_max, &count, error);
	if (status == STATUS_OK)
		print_ids(encoder, count);
	return status;
}

static enum status encode_json_lines(struct encoder *encoder, struct error *error)
{
	char *line = NULL;
	size_t capacity = 0, number = 0;
	ssize_t size;
	enum status status = STATUS_OK;

	while (status == STATUS_OK && (size = getline(&line, &capacity, stdin)) >= 0) {
		json_error_t json_error;
		json_t *value = json_loadb(line, (size_t)size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &json_error);
		number++;
		if (!value || !json_is_string(value))
			status = error_set(error, STATUS_CORRUPT, "line %zu: a JSON string is needed%s%s", number,
					   value ? "" : ": ", value ? "" : json_error.text);
		else
			status = encode(encoder, (struct text_view){json_string_value(value),
								     json_string_length(value)}, error);
		json_decref(value);
	}
	/* getline's buffer is the C library's. */
	(free)(line);
	return status;
}

static enum status encode_all(struct encoder *encoder, struct error *error)
{
	char *text = mem_alloc(TEXT_BYTES_MAX);
	size_t size = text ? fread(text, 1, TEXT_BYTES_MAX, stdin) : 0;
	enum status status;

	if (!text)
		return error_set(error, STATUS_NO_MEMORY, "out of memory");
	if (size == TEXT_BYTES_MAX)
		status = error_set(error, STATUS_LIMIT, "the text is larger than %d bytes", (int)TEXT_BYTES_MAX);
	else
		status = encode(encoder, (struct text_view){text, size}, error);
	mem_free(text);
	return status;
}

int cmd_tokenize(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {0};
	struct encoder encoder = {.arguments = &arguments};
	struct error error = {0};
	enum status status;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	status = tokenizer_open(arguments.model, &encoder.tokenizer, &error);
	if (status == STATUS_OK) {
		encoder.scratch = tokenizer_scratch_create(encoder.tokenizer);
		if (!encoder.scratch)
			status = error_set(&error, STATUS_NO_MEMORY, "out of memory");
	}
	if (status == STATUS_OK)
		status = arguments.json ? encode_json_lines(&encoder, &error) : encode_all(&encoder, &error);
	mem_free(encoder.ids);
	tokenizer_scratch_destroy(encoder.scratch);
	tokenizer_close(encoder.tokenizer);
	return status == STATUS_OK ? 0 : cli_fail(&error);
}
