/* metrics.h - counters, gauges and histograms, as an object that is passed, never global.
 *
 * A series is made once (a lock, at start) and then updated without a lock by any thread: one relaxed
 * atomic operation, two for a histogram. Everything is bounded: series_max series, 24 buckets each. A
 * series that does not fit is NULL; so is every series of a NULL registry; and updates of NULL do
 * nothing, so that stages and tests need no registry. Series live until metrics_destroy().
 *
 * Names follow Prometheus: exitpoll_<what>_<unit>, counters end in _total; units are seconds and
 * bytes. */
#ifndef EXITPOLL_BASE_METRICS_H
#define EXITPOLL_BASE_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct metrics;

enum { METRIC_BUCKETS_MAX = 24 };

struct counter {
	_Alignas(64) atomic_uint_fast64_t value;
};

struct gauge {
	_Alignas(64) _Atomic(double) value;
};

struct histogram {
	_Alignas(64) atomic_uint_fast64_t buckets[METRIC_BUCKETS_MAX + 1];      /* not cumulative */
	_Atomic(double) sum;
	double bounds[METRIC_BUCKETS_MAX];      /* upper, rising */
	size_t bounds_count;
};

/* NULL: no memory. */
struct metrics *metrics_create(size_t series_max);
void metrics_destroy(struct metrics *metrics);          /* NULL ok */

/* The series of this name and label; the same pair again gives the same series. label_name NULL: no
 * label. help is that of the first call. Texts are copied. NULL: metrics is NULL, full, no memory, a
 * malformed name, or a name that has another type; each but the first is counted in
 * exitpoll_metrics_refused_total. */
struct counter *metrics_counter(struct metrics *metrics, const char *name, const char *help,
				const char *label_name, const char *label_value);
struct gauge *metrics_gauge(struct metrics *metrics, const char *name, const char *help,
			    const char *label_name, const char *label_value);
/* bounds[count] rising; NULL: 0.1 ms .. 100 s, three a decade. */
struct histogram *metrics_histogram(struct metrics *metrics, const char *name, const char *help,
				    const char *label_name, const char *label_value,
				    const double *bounds, size_t count);

/* Called before every reading, to set gauges from elsewhere; at most 16. False: full. Not to be called
 * from a collector. */
bool metrics_on_read(struct metrics *metrics, void (*collect)(void *context), void *context);

/* Memory, CPU time, start time and open files of this process, read from /proc at every reading. */
void metrics_add_process(struct metrics *metrics);

/* The Prometheus text format 0.0.4, NUL-terminated, the caller's (mem_free). NULL: no memory. */
char *metrics_render(struct metrics *metrics);

/* One call for each series in order of creation, histograms with count, sum and quantile estimates. */
struct metric_reading {
	const char *name;
	const char *label_name;         /* NULL: none */
	const char *label_value;
	const char *help;
	bool is_histogram;
	double value;                   /* of a histogram: its sum */
	uint64_t count;                 /* of a histogram */
	double median, p99;             /* of a histogram; NAN while empty */
};
void metrics_read(struct metrics *metrics, void (*visit)(void *context, const struct metric_reading *reading),
		  void *context);

/* ---- updates ---- */
static inline void counter_add(struct counter *counter, uint64_t count)
{
	if (counter)
		atomic_fetch_add_explicit(&counter->value, count, memory_order_relaxed);
}

static inline uint64_t counter_value(const struct counter *counter)
{
	return counter ? atomic_load_explicit(&counter->value, memory_order_relaxed) : 0;
}

static inline void gauge_set(struct gauge *gauge, double value)
{
	if (gauge)
		atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

static inline double gauge_value(const struct gauge *gauge)
{
	return gauge ? atomic_load_explicit(&gauge->value, memory_order_relaxed) : 0;
}

void gauge_add(struct gauge *gauge, double difference);
void histogram_observe(struct histogram *histogram, double value);     /* NaN is ignored */
/* Interpolated inside the bucket, as PromQL's histogram_quantile; NAN while empty. */
double histogram_quantile(const struct histogram *histogram, double quantile);

#endif
