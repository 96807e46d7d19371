/* export_text.h - a long table whose parts are rendered by several threads and written in their order.
 *
 * A part is a run of nodes. Its text is made in memory by whichever thread draws it, and goes to the file when
 * all before it have gone, so the bytes do not depend on the number of threads. At most PARTS_AT_ONCE texts
 * are in memory. Owner thread; rendering only reads what the table is made of. */
#ifndef EXITPOLL_GRAPH_UPDATER_EXPORT_TEXT_H
#define EXITPOLL_GRAPH_UPDATER_EXPORT_TEXT_H

#include "base/advance.h"
#include "base/pool.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct export_text {
	char *bytes;            /* [size] */
	size_t size, capacity;
	uint64_t rows;
	bool no_memory;         /* nothing more is put */
};

/* Room for `bytes` more, or no_memory: then false. */
bool export_text_room(struct export_text *text, size_t bytes);
/* These assume room: twice the text's size, 20 and 32 bytes. */
void export_put_escaped(struct export_text *text, struct text_view view);
void export_put_number(struct export_text *text, int64_t number);
void export_put_rating(struct export_text *text, double rating);

static inline void export_put_byte(struct export_text *text, char byte)
{
	text->bytes[text->size++] = byte;
}

/* As it stands. */
static inline void export_put(struct export_text *text, struct text_view view)
{
	if (view.size)
		memcpy(text->bytes + text->size, view.bytes, view.size);
	text->size += view.size;
}

struct export_table {
	/* Appends the rows of nodes first .. end - 1. thread < pool_threads(threads). */
	void (*render)(void *context, uint32_t first, uint32_t end, uint32_t thread, struct export_text *text);
	/* The part that begins with this node ends before that one: first < end <= count. */
	uint32_t (*part_end)(void *context, uint32_t first);
	void *context;
	uint32_t count;                 /* nodes */
	struct pool *threads;           /* NULL: the caller's alone */
	const struct advance *advance;  /* "exporting" nodes; NULL: nobody listens */
};

/* Failures to write are the stream's (ferror). STATUS_NO_MEMORY. */
enum status export_table_write(const struct export_table *table, FILE *stream, uint64_t *rows,
			       struct error *error);

#endif
