/* metrics_text.c - Prometheus' text format 0.0.4: HELP, TYPE, then the samples of a family; escapes in
 * help and label values; numbers that read back to the same double. Called by metrics.c under its lock. */
#include "base/metrics_text.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 16 << 20 };

struct output {
	char *bytes;
	size_t used, capacity;
	bool failed;
};

static void put(struct output *output, const char *text, size_t count)
{
	while (!output->failed && output->used + count + 1 > output->capacity)
		output->failed = !mem_reserve((void **)&output->bytes, &output->capacity, output->capacity,
					      TEXT_BYTES_MAX, 1);
	if (output->failed)
		return;
	memcpy(output->bytes + output->used, text, count);
	output->used += count;
	output->bytes[output->used] = '\0';
}

static void put_text(struct output *output, const char *text)
{
	put(output, text, strlen(text));
}

/* Backslash and newline always, the quote only inside label values. */
static void put_escaped(struct output *output, const char *text, bool in_quotes)
{
	for (; *text; text++) {
		if (*text == '\\')
			put_text(output, "\\\\");
		else if (*text == '\n')
			put_text(output, "\\n");
		else if (*text == '"' && in_quotes)
			put_text(output, "\\\"");
		else
			put(output, text, 1);
	}
}

static void put_number(struct output *output, double value)
{
	char text[40];

	if (isnan(value)) {
		put_text(output, "NaN");
		return;
	}
	if (isinf(value)) {
		put_text(output, value > 0 ? "+Inf" : "-Inf");
		return;
	}
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	put_text(output, text);
}

static void put_count(struct output *output, uint64_t count)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRIu64, count);
	put_text(output, text);
}

/* name, suffix and labels of one sample, up to the space before its value; bound NULL: no "le". */
static void put_sample(struct output *output, const struct metric_family *family, const char *suffix,
		       const struct metric_series *series, const double *bound)
{
	put_text(output, family->name);
	put_text(output, suffix);
	if (series->label_name || bound)
		put_text(output, "{");
	if (series->label_name) {
		put_text(output, series->label_name);
		put_text(output, "=\"");
		put_escaped(output, series->label_value, true);
		put_text(output, "\"");
	}
	if (bound) {
		put_text(output, series->label_name ? ",le=\"" : "le=\"");
		put_number(output, *bound);
		put_text(output, "\"");
	}
	if (series->label_name || bound)
		put_text(output, "}");
	put_text(output, " ");
}

static void put_histogram(struct output *output, const struct metric_family *family,
			  const struct metric_series *series)
{
	const struct histogram *histogram = &series->histogram;
	uint64_t below = 0;

	for (size_t i = 0; i <= histogram->bounds_count; i++) {
		double bound = i < histogram->bounds_count ? histogram->bounds[i] : INFINITY;
		below += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
		put_sample(output, family, "_bucket", series, &bound);
		put_count(output, below);
		put_text(output, "\n");
	}
	put_sample(output, family, "_sum", series, NULL);
	put_number(output, atomic_load_explicit(&histogram->sum, memory_order_relaxed));
	put_text(output, "\n");
	/* The count is the last bucket as read above, so that the two always agree. */
	put_sample(output, family, "_count", series, NULL);
	put_count(output, below);
	put_text(output, "\n");
}

static void put_family(struct output *output, const struct metric_family *family)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	size_t length = strlen(family->name);
	/* A gauge is also how a counter is kept whose value comes from elsewhere (seconds of CPU time). */
	bool total = length > 6 && strcmp(family->name + length - 6, "_total") == 0;

	put_text(output, "# HELP ");
	put_text(output, family->name);
	put_text(output, " ");
	put_escaped(output, family->help, false);
	put_text(output, "\n# TYPE ");
	put_text(output, family->name);
	put_text(output, " ");
	put_text(output, types[total ? METRIC_COUNTER : family->type]);
	put_text(output, "\n");
	for (const struct metric_series *series = family->series; series; series = series->next) {
		if (family->type == METRIC_HISTOGRAM) {
			put_histogram(output, family, series);
			continue;
		}
		put_sample(output, family, "", series, NULL);
		if (family->type == METRIC_COUNTER)
			put_count(output, counter_value(&series->counter));
		else
			put_number(output, gauge_value(&series->gauge));
		put_text(output, "\n");
	}
}

char *metrics_text(const struct metric_family *families)
{
	struct output output = {0};

	for (const struct metric_family *family = families; family; family = family->next)
		put_family(&output, family);
	if (output.failed) {
		mem_free(output.bytes);
		return NULL;
	}
	return output.bytes;
}
