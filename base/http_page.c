/* http_page.c - one small HTML page: is it well, the caller's rows, every metric. No script, no
 * resource from elsewhere; every text is escaped. Called by http.c, the server's thread. */
#include "base/http_page.h"

#include "base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PAGE_BYTES_MAX = 4 << 20, ROW_BYTES = 1024 };

struct http_rows {
	char *bytes;
	size_t used, capacity;
	bool failed;
};

static void put(struct http_rows *page, const char *text)
{
	size_t count = strlen(text);

	while (!page->failed && page->used + count + 1 > page->capacity)
		page->failed = !mem_reserve((void **)&page->bytes, &page->capacity, page->capacity,
					    PAGE_BYTES_MAX, 1);
	if (page->failed)
		return;
	memcpy(page->bytes + page->used, text, count + 1);
	page->used += count;
}

static void put_escaped(struct http_rows *page, const char *text)
{
	for (; *text; text++) {
		char one[2] = {*text, '\0'};
		put(page, *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" :
			  *text == '"' ? "&quot;" : one);
	}
}

static void put_row(struct http_rows *page, const char *name, const char *value)
{
	put(page, "<tr><th>");
	put_escaped(page, name);
	put(page, "</th><td>");
	put_escaped(page, value);
	put(page, "</td></tr>\n");
}

void http_row(struct http_rows *rows, const char *name, const char *format, ...)
{
	char value[ROW_BYTES];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(value, sizeof value, format, arguments);
	va_end(arguments);
	put_row(rows, name, value);
}

static void put_state(struct http_rows *page, const char *name,
		      bool (*well)(void *context, char *why, size_t why_bytes), void *context)
{
	char why[512] = "";

	if (!well || well(context, why, sizeof why))
		put_row(page, name, "yes");
	else
		http_row(page, name, "no: %s", why);
}

static void put_uptime(struct http_rows *page, int64_t start_ms)
{
	int64_t seconds = (clock_wall_ms() - start_ms) / 1000;

	http_row(page, "up for", "%lld d %02lld:%02lld:%02lld", (long long)(seconds / 86400),
		 (long long)(seconds / 3600 % 24), (long long)(seconds / 60 % 60), (long long)(seconds % 60));
}

static void on_metric(void *context, const struct metric_reading *reading)
{
	struct http_rows *page = context;
	char name[512];

	if (reading->label_name)
		snprintf(name, sizeof name, "%s{%s=%s}", reading->name, reading->label_name,
			 reading->label_value);
	else
		snprintf(name, sizeof name, "%s", reading->name);
	if (!reading->is_histogram)
		http_row(page, name, "%.10g", reading->value);
	else if (reading->count == 0)
		http_row(page, name, "0 observations");
	else
		http_row(page, name, "%llu observations, mean %.4g, median %.4g, p99 %.4g",
			 (unsigned long long)reading->count, reading->value / (double)reading->count,
			 reading->median, reading->p99);
}

char *http_page(const struct http_options *options, const char *title, int64_t start_ms)
{
	struct http_rows page = {0};

	put(&page, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
	put_escaped(&page, title);
	put(&page, "</title>\n<style>body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
		   "th,td{text-align:left;padding:.2em 1em .2em 0;border-bottom:1px solid #ddd}"
		   "th{font-weight:normal;color:#555}td{font-family:monospace}</style></head><body>\n<h1>");
	put_escaped(&page, title);
	put(&page, "</h1>\n<table>\n");
	put_row(&page, "version", EXITPOLL_VERSION);
	put_uptime(&page, start_ms);
	put_state(&page, "live", options->live, options->context);
	put_state(&page, "ready", options->ready, options->context);
	if (options->rows)
		options->rows(options->context, &page);
	put(&page, "</table>\n");
	if (options->metrics) {
		put(&page, "<h2>Metrics</h2>\n<table>\n");
		metrics_read(options->metrics, on_metric, &page);
		put(&page, "</table>\n");
	}
	put(&page, "<p><a href=\"/metrics\">/metrics</a> <a href=\"/readyz\">/readyz</a> "
		   "<a href=\"/livez\">/livez</a></p>\n</body></html>\n");
	if (page.failed) {
		mem_free(page.bytes);
		return NULL;
	}
	return page.bytes;
}
