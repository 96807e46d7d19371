/* table.h - tables with a header line: TSV (no quoting) or CSV (RFC 4180: quotes, doubled quotes, line
 * ends within quotes), plain or compressed.
 *
 * The separator is a tab, a comma or a semicolon, the first of these that the header holds. A byte
 * order mark is skipped, CR LF ends a line as LF does, empty lines are passed over, a last line needs
 * no line end. Memory: one row. One thread. */
#ifndef EXITPOLL_PRODUCER_TABLE_H
#define EXITPOLL_PRODUCER_TABLE_H

#include "base/status.h"
#include "base/text.h"
#include "producer/byte_stream.h"

enum { TABLE_COLUMNS_MAX = 1024, TABLE_ROW_BYTES_MAX = 1 << 20 };

struct table;

/* row_bytes_max 0: TABLE_ROW_BYTES_MAX. STATUS_NO_INPUT; STATUS_CORRUPT: no header, a column twice or
 * without name, too many columns. */
enum status table_open(const char *path, size_t row_bytes_max, struct table **out, struct error *error);
/* Takes the stream, also on failure. */
enum status table_open_stream(struct byte_stream *stream, const char *name, size_t row_bytes_max,
			      struct table **out, struct error *error);
void table_close(struct table *table);                  /* NULL ok */

size_t table_columns(const struct table *table);
const char *table_column_name(const struct table *table, size_t column);
int table_column(const struct table *table, const char *name);  /* -1: there is none */
/* The column whose name is nearest, for "did you mean"; NULL: none is near. */
const char *table_nearest_column(const struct table *table, const char *name);

/* The next row: *fields is [table_columns()], valid until the next call; *end at the end.
 * STATUS_BAD_RECORD: this row is bad (file and line in the text), the next call goes on behind it;
 * STATUS_CORRUPT, STATUS_IO: cannot go on. */
enum status table_next(struct table *table, const struct text_view **fields, bool *end, struct error *error);

const char *table_name(const struct table *table);
uint64_t table_line(const struct table *table);         /* where the last row began; the header is 1 */
double table_progress(const struct table *table);       /* 0..1 of the file's bytes; 0 when unknown */

#endif
