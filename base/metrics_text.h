/* metrics_text.h - the families of a metrics object and their text form. Private to base/metrics*.c;
 * the caller holds the lock. */
#ifndef EXITPOLL_BASE_METRICS_TEXT_H
#define EXITPOLL_BASE_METRICS_TEXT_H

#include "base/metrics.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_series {
	union {
		struct counter counter;
		struct gauge gauge;
		struct histogram histogram;
	};
	char *label_name;               /* NULL: no label */
	char *label_value;
	struct metric_series *next;
};

struct metric_family {
	enum metric_type type;
	char *name;
	char *help;
	struct metric_series *series, *series_last;
	struct metric_family *next;
};

/* NUL-terminated, the caller's (mem_free); NULL: no memory. */
char *metrics_text(const struct metric_family *families);

#endif
