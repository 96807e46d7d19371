/* saver.c - see saver.h. Invariant: `child` is there from the beginning of a snapshot until its outcome has
 * been counted, and `events` counts from the last beginning. */
#include "ops/cli/saver.h"

#include "base/clock.h"
#include "base/huge.h"
#include "base/log.h"
#include "graph-updater/snapshot_child.h"

#include <inttypes.h>

/* Told to stop, the whole process has ten seconds; commits take their part of them. */
enum { LOOK_MS = 20, STOP_WAIT_MS = 5000 };
/* Made one again with every step: each is a copy of 2 MiB. */
enum { GATHER_PAGES = 4 };

static void count(struct saver *saver, int64_t pause_ns, enum status status, const char *why)
{
	int64_t took_ns = clock_steady_ns() - saver->began_ns;

	saver->missing = status != STATUS_OK;
	if (status != STATUS_OK) {
		saver->totals->failed++;
		log_warning("snapshot.failed", "folder=%s graph_version=%" PRId64 " error=\"%s\" "
			    "action=\"those before it stay; the next is due after state.snapshot_events\"",
			    saver->folder, saver->version, why);
		return;
	}
	saver->totals->written++;
	saver->totals->write_ns += (uint64_t)took_ns;
	log_info("snapshot.saved", "folder=%s graph_version=%" PRId64 " ms=%" PRId64 " pause_us=%" PRId64,
		 saver->folder, saver->version, took_ns / 1000000, pause_ns / 1000);
}

/* In a child process, or (`here`) before returning. */
static enum status begin(struct saver *saver, const struct updater *updater, bool here, struct error *error)
{
	struct snapshot_child_options options = {.folder = saver->folder, .lock_fd = saver->lock_fd};
	struct error why = {0};
	enum status status;

	status = saver->source->class->positions(saver->source, &options.positions, &options.positions_count,
						 error);
	if (status != STATUS_OK)
		return error_prefix(error, "snapshot");
	options.oldest_unanswered_ms = saver->source->class->oldest_unanswered_ms(saver->source);
	saver->version = updater_graph_version(updater);
	saver->began_ns = clock_steady_ns();
	saver->events = 0;
	if (here) {
		status = updater_save(updater, saver->folder, options.positions, options.positions_count,
				      options.oldest_unanswered_ms, error);
		count(saver, clock_steady_ns() - saver->began_ns, status, error->text);
		return status;
	}
	status = snapshot_child_start(updater, &options, &saver->child, &why);
	if (status == STATUS_OK)
		saver->totals->pause_ns += (uint64_t)snapshot_child_pause_ns(saver->child);
	else
		count(saver, 0, status, why.text);
	return STATUS_OK;
}

/* True: none is being written (any more). */
static bool is_over(struct saver *saver, long wait_ms, enum status *outcome, struct error *error)
{
	int64_t pause_ns;

	if (!saver->child)
		return true;
	pause_ns = snapshot_child_pause_ns(saver->child);
	if (!snapshot_child_over(&saver->child, wait_ms, outcome, error))
		return false;
	count(saver, pause_ns, *outcome, error->text);
	return true;
}

enum status saver_step(struct saver *saver, const struct updater *updater, bool at_cut, struct error *error)
{
	struct error why = {0};
	enum status outcome;

	if (!saver->folder || !updater)
		return STATUS_OK;
	if (saver->child) {
		if (!is_over(saver, 0, &outcome, &why))
			return STATUS_OK;
		saver->gather = huge_gather_begin();
	}
	/* What the last child has cost, before the next one. */
	if (huge_gather_some(&saver->gather, GATHER_PAGES) || !at_cut || saver->events < saver->every_events)
		return STATUS_OK;
	return begin(saver, updater, false, error);
}

/* *stop_ns: until when it may take, once it is stopping; 0: not yet. */
static enum status wait_for(struct saver *saver, bool (*stopping)(void), int64_t *stop_ns, struct error *error)
{
	enum status outcome = STATUS_OK;

	while (!is_over(saver, LOOK_MS, &outcome, error)) {
		int64_t now_ns = clock_steady_ns();
		if (stopping() && !*stop_ns)
			*stop_ns = now_ns + STOP_WAIT_MS * INT64_C(1000000);
		if (!*stop_ns || now_ns < *stop_ns)
			continue;
		log_warning("snapshot.abandoned", "folder=%s graph_version=%" PRId64 " error=\"not written within "
			    "%d ms of the request to stop\" action=\"the next start goes on from the one before\"",
			    saver->folder, saver->version, (int)STOP_WAIT_MS);
		saver_abandon(saver);
		return STATUS_OK;
	}
	return outcome;
}

enum status saver_finish(struct saver *saver, const struct updater *updater, bool at_cut,
			 bool (*stopping)(void), struct error *error)
{
	int64_t stop_ns = 0;
	enum status status;

	if (!saver->folder || !updater)
		return STATUS_OK;
	status = wait_for(saver, stopping, &stop_ns, error);
	if (!at_cut || (!saver->events && !saver->missing))
		return status;
	status = begin(saver, updater, false, error);
	/* A system that allows no second process still gets its last snapshot. */
	if (status == STATUS_OK && !saver->child)
		return begin(saver, updater, true, error);
	return status == STATUS_OK ? wait_for(saver, stopping, &stop_ns, error) : status;
}

void saver_abandon(struct saver *saver)
{
	huge_gather_destroy(saver->gather);
	saver->gather = NULL;
	if (!saver->child)
		return;
	snapshot_child_abandon(&saver->child);
	saver->totals->failed++;
	saver->missing = true;
}
