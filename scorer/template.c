/* template.c - reading template files. Invariant: every literal points into `unescaped`, which is written
 * once and never longer than the file. Caller: bundle.c at start. */
#include "scorer/template.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

static const char *const section_names[SECTIONS] = {
#define X(code, name, required, placeholders) #name,
	TEMPLATE_SECTIONS(X)
#undef X
};

static const bool section_required[SECTIONS] = {
#define X(code, name, required, placeholders) required,
	TEMPLATE_SECTIONS(X)
#undef X
};

#define P(code) (1u << PLACEHOLDER_##code)
static const uint32_t section_placeholders[SECTIONS] = {
#define X(code, name, required, placeholders) placeholders,
	TEMPLATE_SECTIONS(X)
#undef X
};
#undef P

static const char *const placeholder_names[PLACEHOLDERS] = {
	[PLACEHOLDER_USER_STATISTICS] = "user_statistics", [PLACEHOLDER_EXAMPLES] = "examples",
	[PLACEHOLDER_HISTORY] = "history", [PLACEHOLDER_USER_MEAN] = "user_mean",
	[PLACEHOLDER_USER_COUNT] = "user_count", [PLACEHOLDER_NUMBER] = "number",
	[PLACEHOLDER_TITLE] = "title", [PLACEHOLDER_ACTION] = "action",
	[PLACEHOLDER_ITEM_STATISTICS] = "item_statistics", [PLACEHOLDER_ITEM_MEAN] = "item_mean",
	[PLACEHOLDER_ITEM_COUNT] = "item_count",
};

/* ---- one section ---- */

static enum status find_placeholder(const char *file, int section, struct text_view name,
				    enum template_placeholder *out, struct error *error)
{
	char given[64];
	snprintf(given, sizeof given, "%.*s", TEXT_ARGS(name));
	const char *nearest = NULL;
	for (int p = 1; p < PLACEHOLDERS; p++) {
		if (!(section_placeholders[section] >> p & 1))
			continue;
		if (strcmp(placeholder_names[p], given) == 0) {
			*out = (enum template_placeholder)p;
			return STATUS_OK;
		}
		if (!nearest || text_distance(given, placeholder_names[p]) < text_distance(given, nearest))
			nearest = placeholder_names[p];
	}
	if (!nearest)
		return error_set(error, STATUS_CONFIG,
				 "template %s: section [%s] takes no placeholders, it has "
				 "{%s}; write {{ for a brace",
				 file, section_names[section], given);
	return error_set(error, STATUS_CONFIG, "template %s: section [%s] knows no {%s}; did you mean {%s}?",
			 file, section_names[section], given, nearest);
}

/* Cuts body into parts; literals are written to *write, which moves on. */
static enum status parse_section(const char *file, int kind, struct text_view body, char **write,
				 struct template_section *out, struct error *error)
{
	struct template_part part = {.literal = {*write, 0}};
	for (size_t i = 0; i < body.size; i++) {
		char c = body.bytes[i];
		bool doubled = i + 1 < body.size && body.bytes[i + 1] == c;
		if ((c != '{' && c != '}') || doubled) {
			*(*write)++ = c;
			part.literal.size++;
			i += (c == '{' || c == '}') ? 1 : 0;
			continue;
		}
		const char *end = c == '{' ? memchr(body.bytes + i, '}', body.size - i) : NULL;
		if (!end)
			return error_set(error, STATUS_CONFIG,
					 "template %s: section [%s] has a single %c; write "
					 "%c%c for a brace",
					 file, section_names[kind], c, c, c);
		struct text_view name = {body.bytes + i + 1, (size_t)(end - body.bytes) - i - 1};
		enum status status = find_placeholder(file, kind, name, &part.placeholder, error);
		if (status)
			return status;
		bool is_value = part.placeholder >= PLACEHOLDER_USER_MEAN &&
				part.placeholder != PLACEHOLDER_ITEM_STATISTICS;
		if (is_value && part.literal.size && part.literal.bytes[part.literal.size - 1] == ' ') {
			part.space = true;
			part.literal.size--;
		}
		if (out->count == TEMPLATE_PARTS_MAX - 1)
			return error_set(error, STATUS_CONFIG, "template %s: section [%s] has more than %d "
					 "placeholders", file, section_names[kind], TEMPLATE_PARTS_MAX - 1);
		out->parts[out->count++] = part;
		part = (struct template_part){.literal = {*write, 0}};
		i += name.size + 1;
	}
	if (part.literal.size || !out->count)
		out->parts[out->count++] = part;
	return STATUS_OK;
}

/* ---- the file ---- */

/* "[name]" alone on a line. */
static bool is_header(struct text_view line, struct text_view *name)
{
	if (line.size && line.bytes[line.size - 1] == '\r')
		line.size--;
	if (line.size < 3 || line.bytes[0] != '[' || line.bytes[line.size - 1] != ']')
		return false;
	*name = (struct text_view){line.bytes + 1, line.size - 2};
	for (size_t i = 0; i < name->size; i++)
		if (!(name->bytes[i] == '_' || (name->bytes[i] >= 'a' && name->bytes[i] <= 'z')))
			return false;
	return true;
}

static enum status find_section(const char *file, struct text_view name, int *out, struct error *error)
{
	char given[64];
	int nearest = 0;
	snprintf(given, sizeof given, "%.*s", TEXT_ARGS(name));
	for (int s = 0; s < SECTIONS; s++) {
		if (strcmp(given, section_names[s]) == 0) {
			*out = s;
			return STATUS_OK;
		}
		if (text_distance(given, section_names[s]) < text_distance(given, section_names[nearest]))
			nearest = s;
	}
	return error_set(error, STATUS_CONFIG, "template %s: no section is called [%s]; did you mean [%s]?",
			 file, given, section_names[nearest]);
}

static enum status parse(struct template *t, struct error *error)
{
	const char *at = t->text;
	char *write = t->unescaped;
	bool given[SECTIONS] = {false};
	int current = -1;
	const char *body = NULL;
	for (bool more = true; more;) {
		const char *end = strchr(at, '\n');
		struct text_view line = {at, end ? (size_t)(end - at) : strlen(at)}, name;
		bool header = is_header(line, &name);
		more = end != NULL;
		if ((header || !more) && current >= 0) {
			/* The break before the next header, or at the end of the file, is not the
			 * section's. */
			size_t size = (size_t)((header ? at : line.bytes + line.size) - body);
			if (size && body[size - 1] == '\n')
				size--;
			enum status status = parse_section(t->name, current, (struct text_view){body, size},
							   &write, &t->sections[current], error);
			if (status)
				return status;
		}
		if (header) {
			enum status status = find_section(t->name, name, &current, error);
			if (status)
				return status;
			if (given[current])
				return error_set(error, STATUS_CONFIG,
						 "template %s: section [%s] is given twice", t->name,
						 section_names[current]);
			given[current] = true;
			body = more ? end + 1 : line.bytes + line.size;
			if (!more)
				break;
		} else if (current < 0 && line.size && line.bytes[0] != '#') {
			return error_set(error, STATUS_CONFIG,
					 "template %s: \"%.40s\" stands before the first "
					 "[section]",
					 t->name, line.bytes);
		}
		if (more)
			at = end + 1;
	}
	for (int s = 0; s < SECTIONS; s++)
		if (!given[s] && section_required[s])
			return error_set(error, STATUS_CONFIG, "template %s: section [%s] is missing",
					 t->name, section_names[s]);
	for (int s = SECTION_YES; s <= SECTION_NO; s++)
		if (t->sections[s].parts[0].literal.size == 0)
			return error_set(error, STATUS_CONFIG, "template %s: the answer word [%s] is empty",
					 t->name, section_names[s]);
	return STATUS_OK;
}

enum status template_parse(const char *name, const char *text, struct template **out, struct error *error)
{
	size_t size = strlen(text);
	if (size > TEMPLATE_BYTES_MAX)
		return error_set(error, STATUS_CONFIG, "template %s has %zu bytes; at most %d", name, size,
				 TEMPLATE_BYTES_MAX);
	enum status status;
	struct template *t = mem_alloc_zero(1, sizeof *t);
	if (!t)
		return error_set(error, STATUS_NO_MEMORY, "no memory for template %s", name);
	const char *slash = strrchr(name, '/');
	snprintf(t->name, sizeof t->name, "%s", slash ? slash + 1 : name);
	t->text = mem_copy_string(text);
	t->unescaped = mem_alloc(size + 1);
	if (!t->text || !t->unescaped) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for template %s", name);
		goto cleanup;
	}
	if ((status = parse(t, error)))
		goto cleanup;
	*out = t;
	return STATUS_OK;
cleanup:
	template_destroy(t);
	return status;
}

static enum status no_such(const char *name, struct error *error)
{
	const char *nearest = template_builtin_name(0), *slash = strrchr(name, '/');
	const char *given = slash ? slash + 1 : name;
	for (size_t i = 1; template_builtin_name(i); i++)
		if (text_distance(given, template_builtin_name(i)) < text_distance(given, nearest))
			nearest = template_builtin_name(i);
	return error_set(error, STATUS_CONFIG,
			 "template \"%.200s\" is neither shipped nor a file (%s); did you "
			 "mean \"%s\"?",
			 name, strerror(errno), nearest);
}

enum status template_load(const char *name_or_path, struct template **out, struct error *error)
{
	const char *shipped = template_builtin(name_or_path);
	if (shipped)
		return template_parse(name_or_path, shipped, out, error);
	FILE *file = fopen(name_or_path, "rb");
	if (!file)
		return no_such(name_or_path, error);
	enum status status = STATUS_OK;
	char *text = mem_alloc(TEMPLATE_BYTES_MAX + 2);
	size_t size = text ? fread(text, 1, TEMPLATE_BYTES_MAX + 1, file) : 0;
	if (!text)
		status = error_set(error, STATUS_NO_MEMORY, "no memory for template %s", name_or_path);
	else if (ferror(file))
		status = error_set(error, STATUS_IO, "template %s: %s", name_or_path, strerror(errno));
	else if (memchr(text, 0, size) || !text_is_utf8((struct text_view){text, size}))
		status = error_set(error, STATUS_CONFIG, "template %s is not a text in UTF-8", name_or_path);
	else {
		text[size] = 0;
		status = template_parse(name_or_path, text, out, error);
	}
	fclose(file);
	mem_free(text);
	return status;
}

void template_destroy(struct template *t)
{
	if (!t)
		return;
	mem_free(t->text);
	mem_free(t->unescaped);
	mem_free(t);
}
