/* metrics_process.c - this process as the system sees it, from /proc/self, under Prometheus' usual
 * names. Called through metrics_on_read() by whoever reads, one reader at a time or several: it only
 * sets gauges. */
#include "base/metrics.h"

#include "base/clock.h"
#include "base/mem.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* The registry that holds the gauges is the context, so nothing needs to be freed: series are found
 * again by name. */
static void collect_process(void *context)
{
	struct metrics *metrics = context;
	unsigned long pages = 0, resident = 0;
	struct rusage usage;
	FILE *file = fopen("/proc/self/statm", "re");
	DIR *open_files;

	if (file) {
		if (fscanf(file, "%lu %lu", &pages, &resident) == 2) {
			double page_bytes = (double)sysconf(_SC_PAGESIZE);
			gauge_set(metrics_gauge(metrics, "process_resident_memory_bytes",
						"Resident memory.", NULL, NULL), (double)resident * page_bytes);
			gauge_set(metrics_gauge(metrics, "process_virtual_memory_bytes",
						"Virtual memory.", NULL, NULL), (double)pages * page_bytes);
		}
		fclose(file);
	}
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		gauge_set(metrics_gauge(metrics, "process_cpu_seconds_total", "CPU time, user and system.",
					NULL, NULL),
			  (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			  (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	open_files = opendir("/proc/self/fd");
	if (open_files) {
		long count = -3;        /* ".", ".." and the listing itself */
		while (readdir(open_files))
			count++;
		closedir(open_files);
		gauge_set(metrics_gauge(metrics, "process_open_fds", "Open files.", NULL, NULL), (double)count);
	}
}

void metrics_add_process(struct metrics *metrics)
{
	if (!metrics)
		return;
	gauge_set(metrics_gauge(metrics, "process_start_time_seconds", "Start of the process, Unix time.",
				NULL, NULL), (double)clock_wall_ms() / 1000);
	metrics_on_read(metrics, collect_process, metrics);
}
