/* table.c - rows are found in a buffer that holds one row at least, and split where they lie.
 * Invariant: buffer[begin, end) is not yet read; a row never exceeds row_bytes_max, whatever the file
 * holds. Called by import; one thread. */
#include "producer/table.h"

#include <inttypes.h>

enum { READ_BYTES = 64 * 1024 };

struct table {
	struct byte_stream *stream;
	char *name;
	char separator;
	bool quoted;            /* quotes mean something */
	size_t row_bytes_max;
	char *buffer;
	size_t capacity;
	size_t begin;
	size_t end;
	bool stream_end;
	uint64_t line;          /* of the row last found */
	uint64_t next_line;
	char **columns;         /* [columns_count] */
	size_t columns_count;
	struct text_view fields[TABLE_COLUMNS_MAX + 1];
};

/* More bytes behind end. *more false: the stream has ended. */
static enum status fill(struct table *table, bool *more, struct error *error)
{
	size_t got;

	*more = false;
	if (table->stream_end)
		return STATUS_OK;
	if (table->begin > 0) {
		memmove(table->buffer, table->buffer + table->begin, table->end - table->begin);
		table->end -= table->begin;
		table->begin = 0;
	}
	if (table->capacity - table->end < READ_BYTES) {
		size_t capacity = table->capacity ? table->capacity * 2 : 2 * READ_BYTES;
		char *grown = mem_resize_array(table->buffer, capacity, 1);
		if (!grown)
			return error_set(error, STATUS_NO_MEMORY, "%s:%" PRIu64 ": no memory for a row",
					 table->name, table->next_line);
		table->buffer = grown;
		table->capacity = capacity;
	}
	enum status status =
		byte_stream_read(table->stream, table->buffer + table->end, READ_BYTES, &got, error);
	if (status != STATUS_OK)
		return status;
	table->end += got;
	table->stream_end = got == 0;
	*more = got > 0;
	return STATUS_OK;
}

/* The line end at or after `from`, outside quotes, or SIZE_MAX; *open: within quotes at `from`, then at
 * the end of the search. */
static size_t find_line_end(const struct table *table, size_t from, bool *open, uint64_t *lines)
{
	if (!table->quoted) {
		const char *found = memchr(table->buffer + from, '\n', table->end - from);
		return found ? (size_t)(found - table->buffer) : SIZE_MAX;
	}
	for (size_t i = from; i < table->end; i++) {
		if (table->buffer[i] == '"')
			*open = !*open;
		else if (table->buffer[i] == '\n' && !*open)
			return i;
		else if (table->buffer[i] == '\n')
			++*lines;
	}
	return SIZE_MAX;
}

/* Passes over a row that is too long, up to its next line end; quotes are not trusted any more. */
static enum status skip_long_row(struct table *table, struct error *error)
{
	struct error why = {0};
	bool more = true;

	while (more) {
		char *found = table->end > table->begin ? memchr(table->buffer + table->begin, '\n',
								 table->end - table->begin)
							: NULL;
		if (found) {
			table->begin = (size_t)(found - table->buffer) + 1;
			break;
		}
		table->begin = table->end;
		enum status status = fill(table, &more, &why);
		if (status != STATUS_OK) {
			if (error)
				*error = why;
			return status;
		}
	}
	table->next_line = table->line + 1;
	return error_set(error, STATUS_BAD_RECORD, "%s:%" PRIu64 ": the row is longer than %zu bytes%s",
			 table->name, table->line, table->row_bytes_max,
			 table->quoted ? " (a quote that is not closed?)" : "");
}

/* The next row that is not empty, without its line end, in the buffer. */
static enum status next_row(struct table *table, char **row, size_t *size, bool *end, struct error *error)
{
	for (;;) {
		size_t scanned = 0, found;
		uint64_t lines = 0;
		bool open = false, more = true;
		table->line = table->next_line;
		while ((found = find_line_end(table, table->begin + scanned, &open, &lines)) == SIZE_MAX) {
			scanned = table->end - table->begin;
			if (scanned > table->row_bytes_max + 1)
				return skip_long_row(table, error);
			enum status status = fill(table, &more, error);
			if (status != STATUS_OK)
				return status;
			if (!more)
				break;
		}
		*row = table->buffer + table->begin;
		*size = (more ? found : table->end) - table->begin;
		*end = !more && *size == 0;
		if (*end)
			return STATUS_OK;
		if (*size > 0 && (*row)[*size - 1] == '\r')
			--*size;
		if (*size > table->row_bytes_max)
			return skip_long_row(table, error);
		table->begin = more ? found + 1 : table->end;
		table->next_line = table->line + lines + 1;
		if (open)
			return error_set(error, STATUS_BAD_RECORD, "%s:%" PRIu64 ": a quote is not closed",
					 table->name, table->line);
		if (*size > 0)
			return STATUS_OK;
	}
}

/* Unquotes the field at *at in place, up to a separator or the end. */
static const char *quoted_field(const struct table *table, char **at, char *end, struct text_view *field)
{
	char *from = *at + 1, *to = *at;

	*field = (struct text_view){to, 0};
	while (from < end) {
		if (*from == '"' && from + 1 < end && from[1] == '"') {
			from++;
		} else if (*from == '"') {
			from++;
			break;
		}
		*to++ = *from++;
	}
	field->size = (size_t)(to - field->bytes);
	if (from < end && *from != table->separator)
		return "text after a closing quote";
	*at = from;
	return NULL;
}

/* Splits into fields; *count may exceed what the table has by one. */
static const char *split(struct table *table, char *row, size_t size, size_t *count)
{
	char *at = row, *end = row + size;

	*count = 0;
	for (;;) {
		struct text_view *field = &table->fields[*count];
		if (*count >= TABLE_COLUMNS_MAX)
			return "too many columns";
		++*count;
		if (table->quoted && at < end && *at == '"') {
			const char *why = quoted_field(table, &at, end, field);
			if (why)
				return why;
		} else {
			char *stop = memchr(at, table->separator, (size_t)(end - at));
			*field = (struct text_view){at, (size_t)((stop ? stop : end) - at)};
			at = stop ? stop : end;
		}
		if (at == end)
			return NULL;
		at++;
	}
}

static enum status read_header(struct table *table, struct error *error)
{
	static const char separators[] = {'\t', ',', ';'};
	char *row;
	size_t size, count;
	bool end, more;
	enum status status;

	/* The separator decides whether quotes count, and the header's first line tells it. */
	do
		status = fill(table, &more, error);
	while (status == STATUS_OK && more && table->end < table->row_bytes_max &&
	       !memchr(table->buffer, '\n', table->end));
	if (status != STATUS_OK)
		return status;
	if (table->end >= 3 && !memcmp(table->buffer, "\xEF\xBB\xBF", 3))
		table->begin = 3;
	const char *start = table->buffer + table->begin;
	const char *stop = table->end > table->begin ? memchr(start, '\n', table->end - table->begin) : NULL;
	size_t length = stop ? (size_t)(stop - start) : table->end - table->begin;
	table->separator = '\t';
	for (size_t i = 0; i < sizeof separators; i++)
		if (length > 0 && memchr(start, separators[i], length)) {
			table->separator = separators[i];
			break;
		}
	table->quoted = table->separator != '\t';
	status = next_row(table, &row, &size, &end, error);
	if (status == STATUS_BAD_RECORD) {
		error->status = STATUS_CORRUPT;
		return STATUS_CORRUPT;
	}
	if (status != STATUS_OK)
		return status;
	if (end)
		return error_set(error, STATUS_CORRUPT, "%s: is empty; a header line with column names is "
				 "needed", table->name);
	const char *why = split(table, row, size, &count);
	if (why)
		return error_set(error, STATUS_CORRUPT, "%s:%" PRIu64 ": the header has %s", table->name,
				 table->line, why);
	table->columns = mem_alloc_zero(count, sizeof *table->columns);
	for (size_t i = 0; table->columns && i < count; i++) {
		struct text_view field = table->fields[i];
		char *name = mem_alloc(field.size + 1);
		if (!name)
			break;
		memcpy(name, field.bytes, field.size);
		name[field.size] = '\0';
		table->columns[table->columns_count++] = name;
		if (field.size == 0 || strlen(name) != field.size || !text_is_utf8(field))
			return error_set(error, STATUS_CORRUPT, "%s:%" PRIu64 ": column %zu has no usable "
					 "name", table->name, table->line, i + 1);
		if (table_column(table, name) != (int)i)
			return error_set(error, STATUS_CORRUPT, "%s:%" PRIu64 ": two columns are named %s",
					 table->name, table->line, name);
	}
	if (table->columns_count < count)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the header", table->name);
	return STATUS_OK;
}

enum status table_open_stream(struct byte_stream *stream, const char *name, size_t row_bytes_max,
			      struct table **out, struct error *error)
{
	struct table *table = mem_alloc_zero(1, sizeof *table);
	struct error why = {0};
	enum status status = STATUS_NO_MEMORY;

	if (!table) {
		byte_stream_close(stream);
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory to read it", name);
	}
	table->stream = stream;
	table->next_line = 1;
	table->row_bytes_max = row_bytes_max ? row_bytes_max : TABLE_ROW_BYTES_MAX;
	table->name = mem_copy_string(name);
	if (table->name)
		status = read_header(table, &why);
	else
		error_set(&why, STATUS_NO_MEMORY, "%s: no memory to read it", name);
	if (status != STATUS_OK) {
		if (error)
			*error = why;
		table_close(table);
		return status;
	}
	*out = table;
	return STATUS_OK;
}

enum status table_open(const char *path, size_t row_bytes_max, struct table **out, struct error *error)
{
	struct byte_stream *stream;
	enum status status = byte_stream_open(path, &stream, error);

	return status == STATUS_OK ? table_open_stream(stream, path, row_bytes_max, out, error) : status;
}

void table_close(struct table *table)
{
	if (!table)
		return;
	byte_stream_close(table->stream);
	for (size_t i = 0; i < table->columns_count; i++)
		mem_free(table->columns[i]);
	mem_free(table->columns);
	mem_free(table->buffer);
	mem_free(table->name);
	mem_free(table);
}

size_t table_columns(const struct table *table)
{
	return table->columns_count;
}

const char *table_column_name(const struct table *table, size_t column)
{
	return table->columns[column];
}

int table_column(const struct table *table, const char *name)
{
	for (size_t i = 0; i < table->columns_count; i++)
		if (!strcmp(table->columns[i], name))
			return (int)i;
	return -1;
}

const char *table_nearest_column(const struct table *table, const char *name)
{
	size_t least = SIZE_MAX;
	const char *nearest = NULL;

	for (size_t i = 0; i < table->columns_count; i++) {
		const char *column = table->columns[i];
		size_t longer = strlen(column) > strlen(name) ? strlen(column) : strlen(name);
		size_t distance = text_distance(column, name);
		if (distance < least && distance <= longer / 2) {
			least = distance;
			nearest = column;
		}
	}
	return nearest;
}

enum status table_next(struct table *table, const struct text_view **fields, bool *end, struct error *error)
{
	char *row;
	size_t size, count;
	enum status status = next_row(table, &row, &size, end, error);

	if (status != STATUS_OK || *end)
		return status;
	const char *why = split(table, row, size, &count);
	if (why)
		return error_set(error, STATUS_BAD_RECORD, "%s:%" PRIu64 ": %s", table->name, table->line, why);
	if (count != table->columns_count)
		return error_set(error, STATUS_BAD_RECORD, "%s:%" PRIu64 ": %zu fields where the header has %zu",
				 table->name, table->line, count, table->columns_count);
	*fields = table->fields;
	return STATUS_OK;
}

const char *table_name(const struct table *table)
{
	return table->name;
}

uint64_t table_line(const struct table *table)
{
	return table->line;
}

double table_progress(const struct table *table)
{
	uint64_t size = byte_stream_size(table->stream);
	return size ? (double)byte_stream_consumed(table->stream) / (double)size : 0;
}
