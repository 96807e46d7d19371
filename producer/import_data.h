/* import_data.h - the tables of an import in memory: ids as numbers, 32 bytes a row. Internal to import.
 * One thread. */
#ifndef EXITPOLL_PRODUCER_IMPORT_DATA_H
#define EXITPOLL_PRODUCER_IMPORT_DATA_H

#include "producer/import.h"
#include "producer/names.h"

static const size_t import_rows_max = (size_t)1 << 31;
static const size_t import_text_bytes_max = (size_t)16 << 30;

struct import_row {
	int64_t time_ms;        /* while !timed: the sequence, or the number of the row */
	double rating;
	uint32_t user;
	uint32_t item;
	uint32_t user_count;    /* which row of its user this is, from 1; set when ordered */
	bool timed;
	bool rated;
	bool marked;            /* the split column says: an impression */
	bool impression;
};

struct import_item {
	bool present;           /* has a catalog record */
	struct text_view title;
	struct attribute *attributes;   /* [attributes_count] */
	size_t attributes_count;
};

struct import_data {
	struct names users;
	struct names items;
	struct import_item *catalog;    /* [items.count] once read */
	size_t catalog_capacity;
	size_t catalog_count;           /* initialised entries */
	struct arena *texts;            /* titles and attributes */
	struct import_row *rows;        /* [rows_count], in the order of the tables */
	size_t rows_count;
	size_t rows_capacity;
	char first_untimed[256];        /* file:line of the first row without a time */
	bool has_sequence;
};

/* *data must be zero-initialised. Reads both tables; counts of bad, untimed and duplicate rows go into
 * the summary. mark_column NULL: no row is marked. */
enum status import_read(const struct import_options *options, const char *mark_column,
			const char *mark_value, struct import_data *data, struct import_summary *summary,
			struct error *error);
void import_data_free(struct import_data *data);

/* Calls options->progress; STATUS_INTERRUPTED when it says so. */
enum status import_progress(const struct import_options *options, const char *phase, double fraction,
			    struct error *error);

#endif
