/* replay.h - past events to any sink, in the total order, at the speed of their times.
 *
 * Where events come from is the caller's business: it hands over one record after another, already in
 * the total order (a file source gives them so). One thread. */
#ifndef EXITPOLL_PRODUCER_REPLAY_H
#define EXITPOLL_PRODUCER_REPLAY_H

#include "base/status.h"
#include "producer/sink.h"

struct replay_event {
	const struct event *event;      /* NULL: this one cannot be replayed; it is counted and passed over */
	struct text_view traceparent;
};

struct replay_options {
	/* The next event, borrowed until the next call; *end = true: there is none. */
	enum status (*next)(void *context, struct replay_event *out, bool *end, struct error *error);
	void *context;
	struct sink *sink;              /* borrowed; committed now and then, and settled at the end */
	double speed;                   /* event time over wall time; 60: an hour a minute, 0: max */
	int64_t start_ms;               /* events before it are passed over */
	uint64_t skip;                  /* pass over so many events: what a stopped replay has done */
	uint64_t events_max;            /* 0: all */
	int64_t pause_ms_max;           /* no wait is longer (of wall time): for gaps; 0: no limit */
	uint64_t commit_events;         /* commit after this many; 0: 10,000 */
	int64_t commit_ms;              /* or after this long; 0: 1,000 */
	/* May be NULL. Called at least every 100 ms while waiting; false stops, after a commit. */
	bool (*progress)(void *context, uint64_t events, int64_t event_time_ms);
	void *progress_context;
};

struct replay_summary {
	uint64_t events;                /* written and committed */
	uint64_t next;                  /* what `skip` would be to go on from here */
	uint64_t skipped;               /* passed over: before start_ms or skip, or not replayable */
	uint64_t too_large;             /* over the sink's record limit: left out */
	int64_t first_ms;
	int64_t last_ms;
	double seconds;
	int64_t behind_ms;              /* greatest lag behind the wanted pace */
	bool stopped;                   /* by progress */
};

/* "max", or a number with or without x: "60x", "0.5x", "1". STATUS_USAGE. *speed 0: max. */
enum status replay_speed_parse(const char *text, double *speed, struct error *error);

/* On failure the summary tells what was committed before. A sink that aborted (STATUS_RETRY) ends the
 * replay: go on with `skip`. */
enum status replay_run(const struct replay_options *options, struct replay_summary *summary,
		       struct error *error);

#endif
