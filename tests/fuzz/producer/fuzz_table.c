/* fuzz_table.c - arbitrary bytes as a table, plain or compressed: no crash, no row above the bound, no
 * endless loop. */
#include "producer/table.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROW_BYTES_MAX = 4096, ROWS_MAX = 100000 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	int fd = memfd_create("table", MFD_CLOEXEC);
	struct byte_stream *stream;
	struct table *table;
	struct error error = {0};

	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
		abort();
	if (byte_stream_open_fd(fd, "table", &stream, &error) != STATUS_OK ||
	    table_open_stream(stream, "table", ROW_BYTES_MAX, &table, &error) != STATUS_OK)
		return 0;
	/* A small input may unpack to very many rows; what matters is that each call ends. */
	for (size_t rows = 0; rows < ROWS_MAX; rows++) {
		const struct text_view *fields;
		bool end = false;
		size_t total = 0;
		enum status status = table_next(table, &fields, &end, &error);
		if (end || (status != STATUS_OK && status != STATUS_BAD_RECORD))
			break;
		for (size_t i = 0; status == STATUS_OK && i < table_columns(table); i++) {
			volatile char last = fields[i].size ? fields[i].bytes[fields[i].size - 1] : 0;
			(void)last;
			total += fields[i].size;
		}
		if (total > ROW_BYTES_MAX)
			abort();
	}
	table_close(table);
	return 0;
}
