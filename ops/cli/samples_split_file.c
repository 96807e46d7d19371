/* samples_split_file.c - hashes of ids with their part, sorted. Invariant: no hash twice. Caller:
 * samples_split.c. */
#include "ops/cli/samples_split_file.h"

#include "base/mem.h"
#include "ops/cli/samples_split.h"
#include "producer/table.h"

#include <stdlib.h>
#include <xxhash.h>

struct row {
	uint64_t high, low;
	uint8_t part;
};

struct split_file {
	struct row *rows;               /* [count], sorted */
	size_t count, capacity;
	bool pairs;
};

/* Two ids as one hash: that of the second seeds that of the first. */
static struct row key_of(struct text_view first, struct text_view second)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(first.bytes, first.size,
						   second.size ? XXH3_64bits(second.bytes, second.size) : 0);
	return (struct row){hash.high64, hash.low64, SAMPLES_NO_PART};
}

static int compare(const void *left, const void *right)
{
	const struct row *a = left, *b = right;
	if (a->high != b->high)
		return a->high < b->high ? -1 : 1;
	return (a->low > b->low) - (a->low < b->low);
}

static uint8_t parse_part(struct text_view text)
{
	if (text.size == 1 && text.bytes[0] >= '0' && text.bytes[0] < '0' + PARTS)
		return (uint8_t)(text.bytes[0] - '0');
	if (text_equal(text, TEXT_LITERAL("valid")))
		return PART_STOPPING;
	for (int part = 0; part < PARTS; part++)
		if (text_equal(text, text_of(samples_part_name(part))))
			return (uint8_t)part;
	return SAMPLES_NO_PART;
}

static enum status add(struct split_file *file, const struct table *table, struct row row,
		       struct text_view part, struct error *error)
{
	void *array = file->rows;
	row.part = parse_part(part);
	if (row.part == SAMPLES_NO_PART)
		return error_set(error, STATUS_CORRUPT,
				 "%s: line %llu: split '%.*s': train, stopping (or valid), calibration, thresholds, "
				 "test or 0 to 4 is needed", table_name(table),
				 (unsigned long long)table_line(table), TEXT_ARGS(text_cut(part, 40)));
	if (!mem_reserve(&array, &file->capacity, file->count, SPLIT_FILE_ROWS_MAX, sizeof *file->rows))
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory for row %zu", table_name(table),
				 file->count);
	file->rows = array;
	file->rows[file->count++] = row;
	return STATUS_OK;
}

static enum status read_rows(struct split_file *file, struct table *table, struct error *error)
{
	int split = table_column(table, "split"), impression = table_column(table, "impression_id");
	int user = table_column(table, "user_id"), item = table_column(table, "item_id");
	const struct text_view *fields;
	bool end = false;
	enum status status;
	file->pairs = impression < 0;
	if (split < 0 || (impression < 0 && (user < 0 || item < 0)))
		return error_set(error, STATUS_CORRUPT,
				 "%s: the columns split and impression_id, or split, user_id and item_id, are needed",
				 table_name(table));
	while (!(status = table_next(table, &fields, &end, error)) && !end) {
		struct row row = file->pairs ? key_of(fields[user], fields[item]) :
					       key_of(fields[impression], TEXT_LITERAL(""));
		if ((status = add(file, table, row, fields[split], error)))
			break;
	}
	return status;
}

/* The same row twice is one; the same thing in two parts is a mistake. */
static enum status sort_rows(struct split_file *file, const char *path, struct error *error)
{
	size_t kept = 0;
	if (file->count)
		qsort(file->rows, file->count, sizeof *file->rows, compare);
	for (size_t i = 0; i < file->count; i++) {
		if (kept && compare(&file->rows[kept - 1], &file->rows[i]) == 0) {
			if (file->rows[kept - 1].part != file->rows[i].part)
				return error_set(error, STATUS_CORRUPT, "%s: one %s is in two parts", path,
						 file->pairs ? "pair of user and item" : "impression");
			continue;
		}
		file->rows[kept++] = file->rows[i];
	}
	file->count = kept;
	return STATUS_OK;
}

enum status split_file_read(const char *path, struct split_file **out, struct error *error)
{
	struct split_file *file = mem_alloc_zero(1, sizeof *file);
	struct table *table = NULL;
	enum status status = file ? table_open(path, 0, &table, error) :
				    error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
	if (!status)
		status = read_rows(file, table, error);
	if (!status)
		status = sort_rows(file, path, error);
	table_close(table);
	if (status) {
		split_file_destroy(file);
		return status;
	}
	*out = file;
	return STATUS_OK;
}

void split_file_destroy(struct split_file *file)
{
	if (!file)
		return;
	mem_free(file->rows);
	mem_free(file);
}

bool split_file_has_pairs(const struct split_file *file)
{
	return file->pairs;
}

uint8_t split_file_of(const struct split_file *file, struct text_view first, struct text_view second)
{
	struct row key = key_of(first, second);
	const struct row *found =
		file->count ? bsearch(&key, file->rows, file->count, sizeof *file->rows, compare) : NULL;
	return found ? found->part : SAMPLES_NO_PART;
}
