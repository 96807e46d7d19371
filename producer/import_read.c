/* import_read.c - the tables of an import, read and checked row by row. A row that cannot be used is
 * logged with file and line; past the limit the reading stops. Called by import.c; one thread. */
#include "producer/import_data.h"

#include "base/log.h"
#include "producer/table.h"
#include "schemas/event_size.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PROGRESS_ROWS = 8192, NUMBER_BYTES_MAX = 63, NO_COLUMN = -1 };
static const int64_t time_ms_max = INT64_C(253402300799999);     /* the year 9999 */

struct derived {
	char *name;             /* owned, as is `column`: one block */
	const char *column;
	bool first_word;
};

struct reader {
	const struct import_options *options;
	struct import_data *data;
	struct import_summary *summary;
	struct derived *derived;        /* [options->attributes_count] */
};

enum status import_progress(const struct import_options *options, const char *phase, double fraction,
			    struct error *error)
{
	if (options->progress && !options->progress(options->context, phase, fraction))
		return error_set(error, STATUS_INTERRUPTED, "import was interrupted; nothing was written");
	return STATUS_OK;
}

void import_data_free(struct import_data *data)
{
	names_destroy(&data->users);
	names_destroy(&data->items);
	arena_destroy(data->texts);
	mem_free(data->catalog);
	mem_free(data->rows);
	*data = (struct import_data){0};
}

/* Logs and counts; STATUS_OK while there may be more of them. */
static enum status bad_row(struct reader *reader, const char *text, struct error *error)
{
	reader->summary->bad_rows++;
	if (reader->summary->bad_rows > reader->options->bad_rows_max) {
		char last[ERROR_TEXT_BYTES];
		snprintf(last, sizeof last, "%s", text);
		return error_set(error, STATUS_CORRUPT,
				 "%zu bad rows, more than the %zu allowed (--bad-rows); nothing was "
				 "written. The last: %s",
				 reader->summary->bad_rows, reader->options->bad_rows_max, last);
	}
	log_warning("import.bad_row", "error=\"%s\"", text);
	return STATUS_OK;
}

static enum status bad_field(struct reader *reader, const struct table *table, const char *what,
			     struct text_view value, struct error *error)
{
	char text[ERROR_TEXT_BYTES];
	struct text_view shown = text_cut(value, 60);

	snprintf(text, sizeof text, "%s:%" PRIu64 ": %s '%.*s'", table_name(table), table_line(table), what,
		 TEXT_ARGS(shown));
	return bad_row(reader, text, error);
}

/* A column by the name that was given, else by its default name. */
static enum status find_column(const struct table *table, const char *given, const char *usual, bool needed,
			       int *column, struct error *error)
{
	const char *name = given ? given : usual;

	*column = name ? table_column(table, name) : NO_COLUMN;
	if (*column == NO_COLUMN && (given || needed)) {
		const char *nearest = table_nearest_column(table, name);
		return error_set(error, STATUS_USAGE, "%s: has no column '%s'%s%s%s", table_name(table), name,
				 nearest ? "; did you mean '" : "", nearest ? nearest : "",
				 nearest ? "'?" : "");
	}
	return STATUS_OK;
}

static const char *bad_id(struct text_view id, size_t bytes_max)
{
	if (id.size == 0)
		return "empty";
	if (id.size > bytes_max)
		return "too long";
	return text_is_utf8(id) ? NULL : "not UTF-8";
}

static bool parse_number(struct text_view field, double *number)
{
	char digits[NUMBER_BYTES_MAX + 1], *end;

	if (field.size == 0 || field.size > NUMBER_BYTES_MAX)
		return false;
	memcpy(digits, field.bytes, field.size);
	digits[field.size] = '\0';
	*number = strtod(digits, &end);
	while (*end == ' ')
		end++;
	return *end == '\0' && end != digits && isfinite(*number);
}

/* Whole numbers exactly, others by way of a double, rounded to the millisecond. */
static bool parse_time(struct text_view field, int64_t unit_ms, int64_t *time_ms)
{
	int64_t whole = 0;
	double number;
	size_t i;

	for (i = 0; i < field.size && i < 18 && field.bytes[i] >= '0' && field.bytes[i] <= '9'; i++)
		whole = whole * 10 + (field.bytes[i] - '0');
	if (i > 0 && i == field.size) {
		if (__builtin_mul_overflow(whole, unit_ms, time_ms))
			return false;
	} else {
		if (!parse_number(field, &number))
			return false;
		number *= (double)unit_ms;
		if (!(number >= 0 && number <= (double)time_ms_max))
			return false;
		*time_ms = (int64_t)llround(number);
	}
	return *time_ms >= 0 && *time_ms <= time_ms_max;
}

/* The catalog entry of an item, with all before it. NULL: no memory. */
static struct import_item *catalog_entry(struct import_data *data, uint32_t item)
{
	while (data->catalog_count <= item) {
		if (!mem_reserve((void **)&data->catalog, &data->catalog_capacity, data->catalog_count,
				 names_count_max, sizeof *data->catalog))
			return NULL;
		data->catalog[data->catalog_count++] = (struct import_item){0};
	}
	return &data->catalog[item];
}

static enum status no_memory(const struct table *table, struct error *error)
{
	return error_set(error, STATUS_NO_MEMORY, "%s:%" PRIu64 ": no memory to hold the table",
			 table_name(table), table_line(table));
}

/* ---- derived attributes ---- */

static enum status parse_derived(const char *text, struct derived *derived, struct error *error)
{
	static const char function[] = "first-word(";
	const char *equals = strchr(text, '=');
	size_t length;

	derived->name = mem_copy_string(text);
	if (!derived->name)
		return error_set(error, STATUS_NO_MEMORY, "attribute '%s': no memory", text);
	if (!equals || equals == text || !equals[1])
		return error_set(error, STATUS_USAGE,
				 "attribute '%s': write it as 'brand=first-word(title)' or 'NAME=COLUMN'", text);
	derived->name[equals - text] = '\0';
	char *column = derived->name + (equals - text) + 1;
	length = strlen(column);
	if (strncmp(column, function, sizeof function - 1) == 0 && column[length - 1] == ')') {
		derived->first_word = true;
		column[length - 1] = '\0';
		column += sizeof function - 1;
	} else if (strchr(column, '(')) {
		return error_set(error, STATUS_USAGE, "attribute '%s': the only function is first-word(COLUMN)",
				 text);
	}
	derived->column = column;
	return STATUS_OK;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

static struct text_view first_word(struct text_view text)
{
	size_t start = 0, stop;

	while (start < text.size && is_space(text.bytes[start]))
		start++;
	stop = start;
	while (stop < text.size && !is_space(text.bytes[stop]))
		stop++;
	return (struct text_view){text.bytes + start, stop - start};
}

/* Copies a text for good; '|' separates values, so that one made by us must not hold it. */
static bool keep_text(struct reader *reader, struct text_view text, bool single, struct text_view *out)
{
	if (!text_copy_repaired(reader->data->texts, text, out))
		return false;
	if (single && memchr(out->bytes, '|', out->size)) {
		char *bytes = (char *)out->bytes;       /* our own copy */
		for (size_t i = 0; i < out->size; i++)
			if (bytes[i] == '|')
				bytes[i] = '/';
	}
	return true;
}

/* ---- items ---- */

struct item_columns {
	int item;
	int title;
	int *derived;           /* [attributes_count] */
};

static enum status find_item_columns(const struct reader *reader, const struct table *table,
				     struct item_columns *columns, struct error *error)
{
	const struct import_options *options = reader->options;
	enum status status = find_column(table, options->item_column, "item_id", true, &columns->item, error);

	if (status == STATUS_OK)
		status = find_column(table, options->title_column, "title", false, &columns->title, error);
	for (size_t i = 0; i < options->attributes_count && status == STATUS_OK; i++) {
		const struct derived *derived = &reader->derived[i];
		status = find_column(table, derived->column, NULL, true, &columns->derived[i], error);
		if (status == STATUS_OK && table_column(table, derived->name) != NO_COLUMN)
			status = error_set(error, STATUS_USAGE,
					   "attribute '%s': %s has a column of this name; take another name",
					   derived->name, table_name(table));
	}
	if (status == STATUS_OK &&
	    table_columns(table) + options->attributes_count > options->limits.attributes_max)
		status = error_set(error, STATUS_LIMIT, "%s: more than %zu attributes", table_name(table),
				   options->limits.attributes_max);
	return status;
}

/* The attributes of a row; those without a value are left out. */
static bool keep_attributes(struct reader *reader, const struct table *table,
			    const struct item_columns *columns, const struct text_view *fields,
			    struct import_item *item)
{
	size_t all = table_columns(table) + reader->options->attributes_count;

	item->attributes = arena_array(reader->data->texts, all, sizeof *item->attributes);
	item->attributes_count = 0;
	if (!item->attributes)
		return false;
	for (size_t i = 0; i < all; i++) {
		bool made = i >= table_columns(table);
		const struct derived *derived = made ? &reader->derived[i - table_columns(table)] : NULL;
		size_t column = made ? (size_t)columns->derived[i - table_columns(table)] : i;
		struct attribute *attribute = &item->attributes[item->attributes_count];
		struct text_view value = fields[column];
		if (!made && ((int)column == columns->item || (int)column == columns->title))
			continue;
		if (made && derived->first_word)
			value = first_word(value);
		if (value.size == 0)
			continue;
		const char *name = made ? derived->name : table_column_name(table, column);
		if (!keep_text(reader, text_of(name), false, &attribute->name) ||
		    !keep_text(reader, value, made && derived->first_word, &attribute->value))
			return false;
		item->attributes_count++;
	}
	return true;
}

static enum status keep_item(struct reader *reader, const struct table *table,
			     const struct item_columns *columns, const struct text_view *fields,
			     struct error *error)
{
	struct text_view id = fields[columns->item];
	const char *why = bad_id(id, reader->options->limits.id_bytes_max);
	struct import_item item = {.present = true};
	uint32_t number;
	struct import_item *entry;

	if (why) {
		char what[64];
		snprintf(what, sizeof what, "the item's id is %s:", why);
		return bad_field(reader, table, what, id, error);
	}
	if ((columns->title != NO_COLUMN && !keep_text(reader, fields[columns->title], false, &item.title)) ||
	    !keep_attributes(reader, table, columns, fields, &item))
		return no_memory(table, error);
	struct event event = {.type = RECORD_ITEM,
			      .item = {.item_id = id,
				       .title = item.title,
				       .attributes = item.attributes,
				       .attributes_count = item.attributes_count}};
	if (event_encoded_bytes(&event) > reader->options->limits.record_bytes_max)
		return bad_field(reader, table, "the item's record is over the limit:", id, error);
	number = names_add(&reader->data->items, id);
	entry = number == NAMES_NONE ? NULL : catalog_entry(reader->data, number);
	if (!entry)
		return no_memory(table, error);
	reader->summary->duplicate_items += entry->present;
	reader->summary->catalog += !entry->present;
	*entry = item;
	return STATUS_OK;
}

/* Calls row() for each good row of the table. */
static enum status each_row(struct reader *reader, struct table *table, const char *phase,
			    enum status (*row)(struct reader *reader, const struct table *table,
					       const void *columns, const struct text_view *fields,
					       struct error *error),
			    const void *columns, struct error *error)
{
	const struct text_view *fields;
	struct error why = {0};
	bool end = false;

	for (size_t count = 0;; count++) {
		enum status status = table_next(table, &fields, &end, &why);
		if (status == STATUS_OK && end)
			return import_progress(reader->options, phase, 1, error);
		if (status == STATUS_OK)
			status = row(reader, table, columns, fields, error);
		else if (status == STATUS_BAD_RECORD)
			status = bad_row(reader, why.text, error);
		else if (error)
			*error = why;
		if (status == STATUS_OK && count % PROGRESS_ROWS == 0)
			status = import_progress(reader->options, phase, table_progress(table), error);
		if (status != STATUS_OK)
			return status;
	}
}

static enum status item_row(struct reader *reader, const struct table *table, const void *columns,
			    const struct text_view *fields, struct error *error)
{
	return keep_item(reader, table, columns, fields, error);
}

static enum status read_items(struct reader *reader, struct error *error)
{
	struct table *table = NULL;
	struct item_columns columns = {0};
	enum status status = table_open(reader->options->items, 0, &table, error);

	if (status != STATUS_OK)
		return status;
	columns.derived = mem_alloc_array(reader->options->attributes_count, sizeof *columns.derived);
	if (!columns.derived)
		status = no_memory(table, error);
	if (status == STATUS_OK)
		status = find_item_columns(reader, table, &columns, error);
	if (status == STATUS_OK)
		status = each_row(reader, table, "items", item_row, &columns, error);
	mem_free(columns.derived);
	table_close(table);
	return status;
}

/* ---- interactions ---- */

struct interaction_columns {
	int user;
	int item;
	int rating;
	int time;
	int sequence;
	int title;
	int mark;
	const char *mark_value;
};

/* Titles that come with the interactions: an item's first that is not empty. */
static enum status keep_title(struct reader *reader, const struct table *table, uint32_t number,
			      struct text_view title, struct error *error)
{
	struct import_item *entry = catalog_entry(reader->data, number);
	const struct import_options *options = reader->options;

	if (!entry)
		return no_memory(table, error);
	if (entry->present || title.size == 0)
		return STATUS_OK;
	if (title.size > options->limits.record_bytes_max / 2)
		return bad_field(reader, table, "the title is too long:", title, error);
	if (!keep_text(reader, title, false, &entry->title))
		return no_memory(table, error);
	entry->attributes = arena_array(reader->data->texts, options->attributes_count,
					sizeof *entry->attributes);
	if (!entry->attributes)
		return no_memory(table, error);
	for (size_t i = 0; i < options->attributes_count; i++) {
		const struct derived *derived = &reader->derived[i];
		struct attribute *attribute = &entry->attributes[entry->attributes_count];
		struct text_view value = derived->first_word ? first_word(title) : title;
		if (value.size == 0)
			continue;
		if (!keep_text(reader, text_of(derived->name), false, &attribute->name) ||
		    !keep_text(reader, value, derived->first_word, &attribute->value))
			return no_memory(table, error);
		entry->attributes_count++;
	}
	entry->present = true;
	reader->summary->catalog++;
	return STATUS_OK;
}

static enum status interaction_row(struct reader *reader, const struct table *table, const void *context,
				   const struct text_view *fields, struct error *error)
{
	const struct interaction_columns *columns = context;
	struct import_data *data = reader->data;
	struct text_view user = fields[columns->user], item = fields[columns->item];
	struct import_row row = {0};
	const char *why;

	if ((why = bad_id(user, IMPORT_USER_BYTES_MAX)) != NULL ||
	    (why = bad_id(item, reader->options->limits.id_bytes_max)) != NULL) {
		char what[64];
		bool of_user = bad_id(user, IMPORT_USER_BYTES_MAX) != NULL;
		snprintf(what, sizeof what, "the %s's id is %s:", of_user ? "user" : "item", why);
		return bad_field(reader, table, what, of_user ? user : item, error);
	}
	if (columns->rating != NO_COLUMN && fields[columns->rating].size > 0) {
		if (!parse_number(fields[columns->rating], &row.rating))
			return bad_field(reader, table, "not a rating:", fields[columns->rating], error);
		row.rated = true;
	}
	if (columns->time != NO_COLUMN && fields[columns->time].size > 0) {
		if (!parse_time(fields[columns->time], reader->options->time_unit_ms, &row.time_ms))
			return bad_field(reader, table, "not a time:", fields[columns->time], error);
		row.timed = true;
	} else if (columns->sequence != NO_COLUMN) {
		if (!parse_time(fields[columns->sequence], 1, &row.time_ms))
			return bad_field(reader, table, "not a sequence number:", fields[columns->sequence],
					 error);
	} else {
		row.time_ms = (int64_t)data->rows_count;
	}
	row.marked = columns->mark != NO_COLUMN &&
		     text_equal(fields[columns->mark], text_of(columns->mark_value));
	row.user = names_add(&data->users, user);
	row.item = names_add(&data->items, item);
	if (row.user == NAMES_NONE || row.item == NAMES_NONE ||
	    !mem_reserve((void **)&data->rows, &data->rows_capacity, data->rows_count, import_rows_max,
			 sizeof *data->rows))
		return no_memory(table, error);
	if (!row.timed && reader->summary->untimed++ == 0)
		snprintf(data->first_untimed, sizeof data->first_untimed, "%s:%" PRIu64, table_name(table),
			 table_line(table));
	data->rows[data->rows_count++] = row;
	reader->summary->ratings += row.rated;
	if (columns->title == NO_COLUMN)
		return STATUS_OK;
	return keep_title(reader, table, row.item, fields[columns->title], error);
}

static enum status read_interactions(struct reader *reader, const char *path, const char *mark_column,
				     const char *mark_value, struct error *error)
{
	const struct import_options *options = reader->options;
	struct table *table = NULL;
	struct interaction_columns columns = {.title = NO_COLUMN, .mark_value = mark_value};
	enum status status = table_open(path, 0, &table, error);

	if (status != STATUS_OK)
		return status;
	status = find_column(table, options->user_column, "user_id", true, &columns.user, error);
	if (status == STATUS_OK)
		status = find_column(table, options->item_column, "item_id", true, &columns.item, error);
	if (status == STATUS_OK)
		status = find_column(table, options->rating_column, "rating", false, &columns.rating, error);
	if (status == STATUS_OK)
		status = find_column(table, options->time_column, "unix_time", false, &columns.time, error);
	if (status == STATUS_OK)
		status = find_column(table, options->sequence_column, NULL, false, &columns.sequence, error);
	if (status == STATUS_OK)
		status = find_column(table, mark_column, NULL, false, &columns.mark, error);
	if (status == STATUS_OK && !options->items)
		status = find_column(table, options->title_column, "title", false, &columns.title, error);
	for (size_t i = 0; i < options->attributes_count && status == STATUS_OK && !options->items; i++)
		if (columns.title == NO_COLUMN ||
		    table_column(table, reader->derived[i].column) != columns.title)
			status = error_set(error, STATUS_USAGE,
					   "attribute '%s': without an items table it can only come from the "
					   "title column", reader->derived[i].name);
	if (status == STATUS_OK)
		status = each_row(reader, table, "interactions", interaction_row, &columns, error);
	table_close(table);
	return status;
}

enum status import_read(const struct import_options *options, const char *mark_column,
			const char *mark_value, struct import_data *data, struct import_summary *summary,
			struct error *error)
{
	struct reader reader = {.options = options, .data = data, .summary = summary};
	enum status status = STATUS_OK;

	data->has_sequence = options->sequence_column != NULL;
	data->texts = arena_create(import_text_bytes_max);
	reader.derived = mem_alloc_zero(options->attributes_count, sizeof *reader.derived);
	if (!data->texts || !reader.derived || !names_create(&data->users, import_text_bytes_max) ||
	    !names_create(&data->items, import_text_bytes_max))
		status = error_set(error, STATUS_NO_MEMORY, "import: no memory");
	for (size_t i = 0; i < options->attributes_count && status == STATUS_OK; i++) {
		status = parse_derived(options->attributes[i], &reader.derived[i], error);
		for (size_t j = 0; j < i && status == STATUS_OK; j++)
			if (!strcmp(reader.derived[i].name, reader.derived[j].name))
				status = error_set(error, STATUS_USAGE, "attribute '%s': given twice",
						   reader.derived[i].name);
	}
	if (status == STATUS_OK && options->items)
		status = read_items(&reader, error);
	for (size_t i = 0; i < options->interactions_count && status == STATUS_OK; i++)
		status = read_interactions(&reader, options->interactions[i], mark_column, mark_value, error);
	if (status == STATUS_OK && data->items.count > 0 &&
	    !catalog_entry(data, (uint32_t)data->items.count - 1))
		status = error_set(error, STATUS_NO_MEMORY, "import: no memory for the catalog");
	for (size_t i = 0; reader.derived && i < options->attributes_count; i++)
		mem_free(reader.derived[i].name);
	mem_free(reader.derived);
	return status;
}
