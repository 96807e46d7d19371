/* export_text.c - see export_text.h. Invariant of a window, under its lock: parts before `next` are in the
 * file; `next` itself is not yet rendered, or `writing` and some thread is at it. */
#include "graph-updater/export_text.h"

#include "base/mem.h"

#include <pthread.h>
#include <string.h>

enum { PARTS_AT_ONCE = 256, TEXT_BYTES_MIN = 1 << 16 };

/* ---- one part ---- */

bool export_text_room(struct export_text *text, size_t bytes)
{
	size_t capacity = text->capacity ? text->capacity : TEXT_BYTES_MIN;
	char *grown;

	if (text->capacity - text->size >= bytes)
		return true;
	while (capacity - text->size < bytes && capacity <= SIZE_MAX / 2)
		capacity *= 2;
	grown = mem_resize_array(text->bytes, capacity, 1);
	if (!grown) {
		text->no_memory = true;
		return false;
	}
	text->bytes = grown;
	text->capacity = capacity;
	return true;
}

void export_put_escaped(struct export_text *text, struct text_view view)
{
	static const char plain[] = "\\\t\n\r", letter[] = "\\tnr";
	char *to = text->bytes + text->size;

	for (size_t byte = 0; byte < view.size; byte++) {
		char c = view.bytes[byte];
		const char *special = (unsigned char)c > '\\' || (c > '\r' && c != '\\') ? NULL : memchr(plain, c, 4);
		if (special) {
			*to++ = '\\';
			c = letter[special - plain];
		}
		*to++ = c;
	}
	text->size = (size_t)(to - text->bytes);
}

void export_put_number(struct export_text *text, int64_t number)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
				    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
				    "8081828384858687888990919293949596979899";
	char digits[24];
	size_t at = sizeof digits;
	uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;

	for (; rest >= 100; rest /= 100)
		memcpy(digits + (at -= 2), pairs + rest % 100 * 2, 2);
	if (rest >= 10)
		memcpy(digits + (at -= 2), pairs + rest * 2, 2);
	else
		digits[--at] = (char)('0' + rest);
	if (number < 0)
		digits[--at] = '-';
	export_put(text, (struct text_view){digits + at, sizeof digits - at});
}

void export_put_rating(struct export_text *text, double rating)
{
	if (rating >= 0 && rating < 1e6 && rating == (double)(int)rating)
		export_put_number(text, (int)rating);   /* what %.7g says, and most ratings are whole */
	else
		text->size += (size_t)snprintf(text->bytes + text->size, 32, "%.7g", rating);
}

/* ---- all of them ---- */

struct window {
	const struct export_table *table;
	FILE *stream;
	pthread_mutex_t lock;
	uint32_t ends[PARTS_AT_ONCE];           /* the first begins at `first` */
	uint32_t first, count;
	struct export_text texts[PARTS_AT_ONCE];
	bool rendered[PARTS_AT_ONCE], writing;
	uint32_t next;
	uint64_t rows;
	bool no_memory;
};

/* Under the lock, which others get while a part is written: what can go out, goes. */
static void write_rendered(struct window *window)
{
	if (window->writing)
		return;                 /* whoever is at it comes to the others' parts as well */
	window->writing = true;
	for (; window->next < window->count && window->rendered[window->next]; window->next++) {
		const struct export_text *text = &window->texts[window->next];
		pthread_mutex_unlock(&window->lock);
		fwrite_unlocked(text->bytes, 1, text->size, window->stream);
		pthread_mutex_lock(&window->lock);
		window->rows += text->rows;
		window->no_memory |= text->no_memory;
	}
	window->writing = false;
}

static void render_part(void *context, uint32_t part, uint32_t thread)
{
	struct window *window = context;
	const struct export_table *table = window->table;
	struct export_text *text = &window->texts[part];
	uint64_t done;

	text->size = 0;
	text->rows = 0;
	table->render(table->context, part ? window->ends[part - 1] : window->first, window->ends[part], thread, text);
	pthread_mutex_lock(&window->lock);
	window->rendered[part] = true;
	write_rendered(window);
	done = window->next ? window->ends[window->next - 1] : window->first;
	pthread_mutex_unlock(&window->lock);
	if (thread == 0)
		advance_tell(table->advance, "exporting", done, table->count);
}

enum status export_table_write(const struct export_table *table, FILE *stream, uint64_t *rows,
			       struct error *error)
{
	struct window *window = mem_alloc_zero(1, sizeof *window);
	bool no_memory = !window;

	for (uint32_t at = 0; at < table->count && !no_memory; no_memory = window->no_memory) {
		window->table = table;
		window->stream = stream;
		window->first = at;
		window->next = 0;
		memset(window->rendered, 0, sizeof window->rendered);
		pthread_mutex_init(&window->lock, NULL);
		for (window->count = 0; window->count < PARTS_AT_ONCE && at < table->count; window->count++)
			at = window->ends[window->count] = table->part_end(table->context, at);
		pool_run(table->threads, window->count, render_part, window);
		pthread_mutex_destroy(&window->lock);
	}
	for (uint32_t part = 0; window && part < PARTS_AT_ONCE; part++)
		mem_free(window->texts[part].bytes);
	if (!no_memory)
		*rows = window->rows;
	mem_free(window);
	return no_memory ? error_set(error, STATUS_NO_MEMORY, "export: out of memory") : STATUS_OK;
}
