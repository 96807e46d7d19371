/* metrics.c - families of series in order of creation, and what is read from them.
 *
 * Invariant: a series never moves or changes its name, so that its pointer can be kept by whoever
 * updates it; `lock` is held to add and to read, never to update. Values are read one by one: a reading
 * is no snapshot, but every single number is right. Any thread. */
#include "base/metrics.h"

#include "base/mem.h"
#include "base/metrics_text.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { COLLECTORS_MAX = 16 };

static const double default_bounds[] = {
	.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 50, 100,
};

struct collector {
	void (*collect)(void *context);
	void *context;
};

struct metrics {
	pthread_mutex_t lock;
	size_t series_max, series_count;
	struct metric_family *families, *families_last;
	struct counter *refused;
	struct collector collectors[COLLECTORS_MAX];
	size_t collectors_count;
};

static void family_destroy(struct metric_family *family)
{
	for (struct metric_series *series = family->series, *next; series; series = next) {
		next = series->next;
		mem_free(series->label_name);
		mem_free(series->label_value);
		mem_free(series);
	}
	mem_free(family->name);
	mem_free(family->help);
	mem_free(family);
}

struct metrics *metrics_create(size_t series_max)
{
	struct metrics *metrics = mem_alloc_zero(1, sizeof *metrics);

	if (!metrics)
		return NULL;
	pthread_mutex_init(&metrics->lock, NULL);
	metrics->series_max = series_max + 1;
	metrics->refused = metrics_counter(metrics, "exitpoll_metrics_refused_total",
					   "Series that did not fit or were malformed.", NULL, NULL);
	if (!metrics->refused) {
		metrics_destroy(metrics);
		return NULL;
	}
	return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
	if (!metrics)
		return;
	for (struct metric_family *family = metrics->families, *next; family; family = next) {
		next = family->next;
		family_destroy(family);
	}
	pthread_mutex_destroy(&metrics->lock);
	mem_free(metrics);
}

static bool is_name(const char *name, const char *more)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	size_t run = strspn(name, first);

	if (run == 0)
		return false;
	for (; name[run]; run++)
		if (!strchr(first, name[run]) && !strchr(more, name[run]))
			return false;
	return true;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Appends a family; NULL: no memory. */
static struct metric_family *add_family(struct metrics *metrics, enum metric_type type, const char *name,
					const char *help)
{
	struct metric_family *family = mem_alloc_zero(1, sizeof *family);

	if (!family)
		return NULL;
	family->type = type;
	family->name = mem_copy_string(name);
	family->help = mem_copy_string(help);
	if (!family->name || !family->help) {
		family_destroy(family);
		return NULL;
	}
	if (metrics->families_last)
		metrics->families_last->next = family;
	else
		metrics->families = family;
	metrics->families_last = family;
	return family;
}

static struct metric_series *add_series(struct metrics *metrics, struct metric_family *family,
					const char *label_name, const char *label_value)
{
	struct metric_series *series = mem_alloc_aligned(_Alignof(struct metric_series), sizeof *series);

	if (!series)
		return NULL;
	memset(series, 0, sizeof *series);
	if (label_name) {
		series->label_name = mem_copy_string(label_name);
		series->label_value = mem_copy_string(label_value);
		if (!series->label_name || !series->label_value) {
			mem_free(series->label_name);
			mem_free(series->label_value);
			mem_free(series);
			return NULL;
		}
	}
	if (family->series_last)
		family->series_last->next = series;
	else
		family->series = series;
	family->series_last = series;
	metrics->series_count++;
	return series;
}

/* The series, made if need be; the lock is held. */
static struct metric_series *find_or_add(struct metrics *metrics, enum metric_type type, const char *name,
					 const char *help, const char *label_name, const char *label_value,
					 bool *added)
{
	struct metric_family *family = metrics->families;

	*added = false;
	if (!is_name(name, "0123456789:") || (label_name && (!is_name(label_name, "0123456789") || !label_value)))
		return NULL;
	while (family && strcmp(family->name, name) != 0)
		family = family->next;
	if (family && family->type != type)
		return NULL;
	for (struct metric_series *series = family ? family->series : NULL; series; series = series->next)
		if (same_text(series->label_name, label_name) &&
		    (!label_name || same_text(series->label_value, label_value)))
			return series;
	if (metrics->series_count >= metrics->series_max)
		return NULL;
	if (!family)
		family = add_family(metrics, type, name, help);
	*added = true;
	return family ? add_series(metrics, family, label_name, label_value) : NULL;
}

static struct metric_series *series_of(struct metrics *metrics, enum metric_type type, const char *name,
				       const char *help, const char *label_name, const char *label_value,
				       const double *bounds, size_t bounds_count)
{
	struct metric_series *series;
	bool added;

	if (!metrics)
		return NULL;
	pthread_mutex_lock(&metrics->lock);
	series = find_or_add(metrics, type, name, help, label_name, label_value, &added);
	if (series && added && bounds) {
		memcpy(series->histogram.bounds, bounds, bounds_count * sizeof *bounds);
		series->histogram.bounds_count = bounds_count;
	}
	pthread_mutex_unlock(&metrics->lock);
	if (!series)
		counter_add(metrics->refused, 1);
	return series;
}

struct counter *metrics_counter(struct metrics *metrics, const char *name, const char *help,
				const char *label_name, const char *label_value)
{
	struct metric_series *series = series_of(metrics, METRIC_COUNTER, name, help, label_name, label_value,
						 NULL, 0);
	return series ? &series->counter : NULL;
}

struct gauge *metrics_gauge(struct metrics *metrics, const char *name, const char *help,
			    const char *label_name, const char *label_value)
{
	struct metric_series *series = series_of(metrics, METRIC_GAUGE, name, help, label_name, label_value,
						 NULL, 0);
	return series ? &series->gauge : NULL;
}

struct histogram *metrics_histogram(struct metrics *metrics, const char *name, const char *help,
				    const char *label_name, const char *label_value,
				    const double *bounds, size_t count)
{
	struct metric_series *series;
	bool usable = true;

	if (!bounds) {
		bounds = default_bounds;
		count = sizeof default_bounds / sizeof *default_bounds;
	}
	usable = count > 0 && count <= METRIC_BUCKETS_MAX && isfinite(bounds[0]);
	for (size_t i = 1; usable && i < count; i++)
		usable = isfinite(bounds[i]) && bounds[i] > bounds[i - 1];
	if (!usable) {
		if (metrics)
			counter_add(metrics->refused, 1);
		return NULL;
	}
	series = series_of(metrics, METRIC_HISTOGRAM, name, help, label_name, label_value, bounds, count);
	return series ? &series->histogram : NULL;
}

/* ---- updates ---- */

static void add_to(_Atomic(double) *value, double difference)
{
	double old = atomic_load_explicit(value, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(value, &old, old + difference, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

void gauge_add(struct gauge *gauge, double difference)
{
	if (gauge)
		add_to(&gauge->value, difference);
}

void histogram_observe(struct histogram *histogram, double value)
{
	size_t at = 0;

	if (!histogram || isnan(value))
		return;
	while (at < histogram->bounds_count && value > histogram->bounds[at])
		at++;
	atomic_fetch_add_explicit(&histogram->buckets[at], 1, memory_order_relaxed);
	add_to(&histogram->sum, value);
}

double histogram_quantile(const struct histogram *histogram, double quantile)
{
	uint64_t counts[METRIC_BUCKETS_MAX + 1], total = 0, below = 0;
	size_t at = 0, last;
	double rank, low;

	if (!histogram)
		return NAN;
	last = histogram->bounds_count;
	for (size_t i = 0; i <= last; i++) {
		counts[i] = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
		total += counts[i];
	}
	if (total == 0)
		return NAN;
	rank = quantile * (double)total;
	while (at < last && (counts[at] == 0 || (double)(below + counts[at]) < rank))
		below += counts[at++];
	/* Beyond the last bound nothing is known but that. */
	if (at == last)
		return histogram->bounds[last - 1];
	low = at > 0 ? histogram->bounds[at - 1] : fmin(0, histogram->bounds[0]);
	return low + (histogram->bounds[at] - low) * fmax(0, rank - (double)below) / (double)counts[at];
}

/* ---- reading ---- */

bool metrics_on_read(struct metrics *metrics, void (*collect)(void *context), void *context)
{
	bool fits;

	if (!metrics)
		return false;
	pthread_mutex_lock(&metrics->lock);
	fits = metrics->collectors_count < COLLECTORS_MAX;
	if (fits)
		metrics->collectors[metrics->collectors_count++] = (struct collector){collect, context};
	pthread_mutex_unlock(&metrics->lock);
	return fits;
}

/* Collectors run without the lock: they may make series. */
static void collect_all(struct metrics *metrics)
{
	struct collector collectors[COLLECTORS_MAX];
	size_t count;

	pthread_mutex_lock(&metrics->lock);
	count = metrics->collectors_count;
	memcpy(collectors, metrics->collectors, sizeof collectors);
	pthread_mutex_unlock(&metrics->lock);
	for (size_t i = 0; i < count; i++)
		collectors[i].collect(collectors[i].context);
}

char *metrics_render(struct metrics *metrics)
{
	char *text;

	collect_all(metrics);
	pthread_mutex_lock(&metrics->lock);
	text = metrics_text(metrics->families);
	pthread_mutex_unlock(&metrics->lock);
	return text;
}

static struct metric_reading reading_of(const struct metric_family *family,
					const struct metric_series *series)
{
	struct metric_reading reading = {
		.name = family->name, .help = family->help,
		.label_name = series->label_name, .label_value = series->label_value,
		.is_histogram = family->type == METRIC_HISTOGRAM,
	};

	if (family->type == METRIC_COUNTER) {
		reading.value = (double)counter_value(&series->counter);
	} else if (family->type == METRIC_GAUGE) {
		reading.value = gauge_value(&series->gauge);
	} else {
		const struct histogram *histogram = &series->histogram;
		reading.value = atomic_load_explicit(&histogram->sum, memory_order_relaxed);
		for (size_t i = 0; i <= histogram->bounds_count; i++)
			reading.count += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
		reading.median = histogram_quantile(histogram, .5);
		reading.p99 = histogram_quantile(histogram, .99);
	}
	return reading;
}

void metrics_read(struct metrics *metrics, void (*visit)(void *context, const struct metric_reading *reading),
		  void *context)
{
	collect_all(metrics);
	pthread_mutex_lock(&metrics->lock);
	for (const struct metric_family *family = metrics->families; family; family = family->next) {
		for (const struct metric_series *series = family->series; series; series = series->next) {
			struct metric_reading reading = reading_of(family, series);
			visit(context, &reading);
		}
	}
	pthread_mutex_unlock(&metrics->lock);
}
