/* label.c - parses and applies a label rule. Called by import and evaluate; pure. */
#include "producer/label.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_spaces(const char *at)
{
	while (isspace((unsigned char)*at))
		at++;
	return at;
}

/* Longest first, so that ">=" is not read as ">". */
static const struct {
	const char *text;
	enum label_operator operator;
} operators[] = {
	{">=", LABEL_AT_LEAST}, {"<=", LABEL_AT_MOST}, {"==", LABEL_EQUALS},
	{">", LABEL_ABOVE},     {"<", LABEL_BELOW},    {"=", LABEL_EQUALS},
};

enum status label_rule_parse(const char *text, struct label_rule *rule, struct error *error)
{
	static const char field[] = "rating";
	const char *at = skip_spaces(text);
	char *end;

	if (strncmp(at, field, sizeof field - 1) != 0)
		return error_set(error, STATUS_USAGE, "label '%s': write it as 'rating>=4'", text);
	at = skip_spaces(at + sizeof field - 1);
	for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
		size_t length = strlen(operators[i].text);
		if (strncmp(at, operators[i].text, length) != 0)
			continue;
		at = skip_spaces(at + length);
		double value = strtod(at, &end);
		if (end == at || *skip_spaces(end) || !isfinite(value))
			return error_set(error, STATUS_USAGE, "label '%s': '%s' is not a number", text, at);
		*rule = (struct label_rule){operators[i].operator, value};
		return STATUS_OK;
	}
	return error_set(error, STATUS_USAGE, "label '%s': compare with one of >= > <= < =", text);
}

bool label_rule_holds(const struct label_rule *rule, double rating)
{
	switch (rule->operator) {
	case LABEL_AT_LEAST: return rating >= rule->value;
	case LABEL_ABOVE: return rating > rule->value;
	case LABEL_AT_MOST: return rating <= rule->value;
	case LABEL_BELOW: return rating < rule->value;
	case LABEL_EQUALS: return rating == rule->value;
	}
	return false;
}
