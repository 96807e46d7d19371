/* progress.c - see progress.h. Redraws one line with a carriage return. */
#include "ops/cli/progress.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_COLUMNS = 30, REDRAW_MS = 100 };

struct progress progress_start(const char *what, const char *unit, uint64_t total, bool wanted)
{
	return (struct progress){
		.what = what, .unit = unit, .total = total, .started_ns = clock_steady_ns(),
		.visible = wanted && isatty(STDERR_FILENO),
	};
}

static void draw(const struct progress *progress, uint64_t done, double seconds)
{
	char bar[BAR_COLUMNS + 1];
	double rate = seconds > 0 ? (double)done / seconds : 0;

	if (progress->total == 0) {
		fprintf(stderr, "\r\033[K%s: %" PRIu64 " %s, %.0f/s", progress->what, done, progress->unit, rate);
		return;
	}
	if (done > progress->total)
		done = progress->total;
	size_t filled = (size_t)((double)done / (double)progress->total * BAR_COLUMNS);
	memset(bar, '#', filled);
	memset(bar + filled, '.', BAR_COLUMNS - filled);
	bar[BAR_COLUMNS] = '\0';
	fprintf(stderr, "\r\033[K%s [%s] %3.0f %%  %" PRIu64 "/%" PRIu64 " %s, %.1f/s", progress->what, bar,
		100.0 * (double)done / (double)progress->total, done, progress->total, progress->unit, rate);
	if (rate > 0 && done < progress->total)
		fprintf(stderr, ", %.0f s left", (double)(progress->total - done) / rate);
}

void progress_update(struct progress *progress, uint64_t done)
{
	int64_t now = clock_steady_ns();

	if (!progress->visible || (now - progress->shown_ns) / 1000000 < REDRAW_MS)
		return;
	progress->shown_ns = now;
	draw(progress, done, (double)(now - progress->started_ns) / 1e9);
	fflush(stderr);
}

void progress_part(void *context, const char *what, uint64_t done, uint64_t total)
{
	struct progress_parts *parts = context;

	if (!parts->what || strcmp(parts->what, what) != 0) {
		progress_end(&parts->progress);
		parts->progress = progress_start(what, "%", 100, parts->wanted);
		parts->what = what;
	}
	progress_update(&parts->progress, total ? done * 100 / total : 0);
}

void progress_end(struct progress *progress)
{
	if (progress->visible && progress->shown_ns)
		fputs("\r\033[K", stderr);
	progress->visible = false;
}
