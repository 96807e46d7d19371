/* replay.c - paces events by their times and hands them to a sink in transactions.
 *
 * The pace is kept against the first event, not from one to the next, so that small delays do not add
 * up. Waits longer than pause_ms_max shift the start instead. Called by the replay command, from one
 * thread. */
#include "producer/replay.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMMIT_EVENTS = 10000, COMMIT_MS = 1000, SLICE_MS = 100 };
static const int64_t ns_per_ms = 1000000;

struct replay {
	const struct replay_options *options;
	struct replay_summary *summary;
	uint64_t done;                  /* records written or passed over */
	uint64_t uncommitted;
	uint64_t written;
	int64_t committed_ns;           /* when the last commit began */
	bool started;
	int64_t begin_ns;               /* wall time of begin_ms at this pace */
	int64_t begin_ms;
	int64_t reported_ns;
};

enum status replay_speed_parse(const char *text, double *speed, struct error *error)
{
	char *end;
	double value;

	if (!strcmp(text, "max")) {
		*speed = 0;
		return STATUS_OK;
	}
	value = strtod(text, &end);
	if (end == text || (*end && strcmp(end, "x")) || !isfinite(value) || value <= 0)
		return error_set(error, STATUS_USAGE, "speed '%s': give max, or a factor such as 60x", text);
	*speed = value;
	return STATUS_OK;
}

static bool report(struct replay *replay, int64_t event_time_ms)
{
	const struct replay_options *options = replay->options;

	replay->reported_ns = clock_steady_ns();
	return !options->progress ||
	       options->progress(options->progress_context, replay->written, event_time_ms);
}

static enum status commit(struct replay *replay, struct error *error)
{
	const struct commit_offsets none = {0};
	enum status status;

	replay->committed_ns = clock_steady_ns();
	if (replay->uncommitted == 0) {
		replay->summary->next = replay->done;
		return STATUS_OK;
	}
	/* Settled at once: what the summary says is committed must be so. */
	status = replay->options->sink->class->commit(replay->options->sink, &none, error);
	if (status == STATUS_OK)
		status = replay->options->sink->class->settle(replay->options->sink, error);
	if (status != STATUS_OK)
		return status;
	replay->summary->events = replay->written;
	replay->summary->next = replay->done;
	replay->uncommitted = 0;
	return STATUS_OK;
}

static void sleep_until(int64_t steady_ns)
{
	struct timespec at = {.tv_sec = steady_ns / 1000000000, .tv_nsec = steady_ns % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static bool commit_is_due(const struct replay *replay)
{
	int64_t every_ms = replay->options->commit_ms ? replay->options->commit_ms : COMMIT_MS;
	return clock_steady_ns() - replay->committed_ns >= every_ms * ns_per_ms;
}

/* Waits for the time of an event. *go false: stopped. */
static enum status pace(struct replay *replay, int64_t event_time_ms, bool *go, struct error *error)
{
	const struct replay_options *options = replay->options;
	int64_t now = clock_steady_ns(), due;
	double ahead_ns;

	*go = true;
	if (options->speed <= 0)
		return STATUS_OK;
	if (!replay->started) {
		replay->started = true;
		replay->begin_ns = now;
		replay->begin_ms = event_time_ms;
	}
	ahead_ns = ((double)event_time_ms - (double)replay->begin_ms) / options->speed * (double)ns_per_ms;
	/* About a century: beyond any replay, and within the clock. */
	if (ahead_ns > 3e18)
		ahead_ns = 3e18;
	due = replay->begin_ns + (int64_t)ahead_ns;
	if (options->pause_ms_max > 0 && due - now > options->pause_ms_max * ns_per_ms) {
		replay->begin_ns -= due - now - options->pause_ms_max * ns_per_ms;
		due = now + options->pause_ms_max * ns_per_ms;
	}
	if (now > due && (now - due) / ns_per_ms > replay->summary->behind_ms)
		replay->summary->behind_ms = (now - due) / ns_per_ms;
	while ((now = clock_steady_ns()) < due) {
		int64_t slice = due - now < SLICE_MS * ns_per_ms ? due - now : SLICE_MS * ns_per_ms;
		if (commit_is_due(replay)) {
			enum status status = commit(replay, error);
			if (status != STATUS_OK)
				return status;
		}
		if (!report(replay, event_time_ms)) {
			*go = false;
			return STATUS_OK;
		}
		sleep_until(now + slice);
	}
	return STATUS_OK;
}

static enum status write_one(struct replay *replay, const struct replay_event *next, struct error *error)
{
	struct replay_summary *summary = replay->summary;
	struct sink *sink = replay->options->sink;
	struct error why = {0};
	enum status status = sink->class->write(sink, next->event, next->traceparent, &why);

	if (status == STATUS_LIMIT) {
		summary->too_large++;
		return STATUS_OK;
	}
	if (status != STATUS_OK) {
		if (error)
			*error = why;
		return status;
	}
	int64_t time_ms = event_time_ms(next->event);
	if (replay->written++ == 0)
		summary->first_ms = time_ms;
	summary->last_ms = time_ms;
	replay->uncommitted++;
	return STATUS_OK;
}

/* Takes in one record. *go false: stopped before it was written. */
static enum status take_one(struct replay *replay, const struct replay_event *next, bool *go,
			    struct error *error)
{
	const struct replay_options *options = replay->options;
	enum status status;

	if (replay->done < options->skip || !next->event || event_time_ms(next->event) < options->start_ms) {
		replay->summary->skipped++;
		replay->done++;
		return STATUS_OK;
	}
	status = pace(replay, event_time_ms(next->event), go, error);
	if (status != STATUS_OK || !*go)
		return status;
	status = write_one(replay, next, error);
	replay->done += status == STATUS_OK;
	return status;
}

enum status replay_run(const struct replay_options *options, struct replay_summary *summary,
		       struct error *error)
{
	struct replay replay = {.options = options, .summary = summary};
	uint64_t commit_events = options->commit_events ? options->commit_events : COMMIT_EVENTS;
	int64_t begun_ns = clock_steady_ns();
	enum status status = STATUS_OK, input = STATUS_OK;
	bool go = true;

	*summary = (struct replay_summary){0};
	replay.committed_ns = replay.reported_ns = begun_ns;
	while (go && status == STATUS_OK &&
	       (options->events_max == 0 || replay.written < options->events_max)) {
		struct replay_event next = {0};
		bool end = false;
		input = options->next(options->context, &next, &end, error);
		if (input != STATUS_OK || end)
			break;
		status = take_one(&replay, &next, &go, error);
		if (status == STATUS_OK && (replay.uncommitted >= commit_events || commit_is_due(&replay)))
			status = commit(&replay, error);
		if (go && clock_steady_ns() - replay.reported_ns > SLICE_MS * ns_per_ms)
			go = report(&replay, summary->last_ms);
	}
	/* What came before a damaged input is kept. */
	if (status == STATUS_OK)
		status = commit(&replay, input == STATUS_OK ? error : NULL);
	summary->stopped = !go;
	summary->seconds = (double)(clock_steady_ns() - begun_ns) / 1e9;
	return input != STATUS_OK ? input : status;
}
