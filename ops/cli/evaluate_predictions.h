/* evaluate_predictions.h - the predictions of one file, by impression id.
 *
 * Rows are candidates; those of one prediction lie side by side, in the impression's order. About 14 bytes
 * a row and 60 an impression, at most EVALUATE_ROWS_MAX rows. One thread. */
#ifndef EXITPOLL_OPS_CLI_EVALUATE_PREDICTIONS_H
#define EXITPOLL_OPS_CLI_EVALUATE_PREDICTIONS_H

#include "graph-updater/ids.h"
#include "schemas/event.h"

enum { EVALUATE_ROWS_MAX = 100000000 };

struct predicted {
	uint32_t first, count;          /* rows */
	int64_t event_time_ms;
	enum prediction_status status;
};

struct predicted_row {
	uint64_t item;                  /* XXH3 of the item id */
	float p;
	uint16_t layer;
};

struct predictions {
	struct ids *ids;                /* impression id -> index */
	struct predicted *list;         /* [count] */
	size_t count, list_capacity;
	struct predicted_row *rows;     /* [rows_count] */
	size_t rows_count, rows_capacity;
	uint64_t repeated;              /* predictions of an id that was there already: left out */
	char model_id[160];
	unsigned model_layers;          /* 0: the file does not say */
	int64_t trained_until_ms;       /* INT64_MIN: the file does not say */
};

/* A container file of predictions, or a folder that holds predictions.avro (or numbered ones). NaN and
 * infinite probabilities are STATUS_CORRUPT. */
enum status predictions_read(const char *where, struct predictions *out, struct error *error);
void predictions_free(struct predictions *predictions); /* leaves it empty */

uint64_t predictions_item_key(struct text_view item_id);
/* NULL: there is none. */
const struct predicted *predictions_find(const struct predictions *predictions, struct text_view impression_id);

#endif
