/* outbox.c - see outbox.h. Files have no partial commits: for them every answer is written at once. */
#include "ops/cli/outbox.h"

#include "base/clock.h"
#include "ops/cli/held.h"

#include <string.h>

#define HELD_BYTES_MAX ((size_t)2 << 30)

struct offsets_copy {
	struct position *positions;
	size_t count;
	size_t capacity;
};

struct outbox {
	struct source *source;
	struct sink *sink;
	struct held *held;
	int64_t commit_ms;
	int64_t first_write_ns;         /* of the open transaction; 0: nothing written */
	bool holds;                     /* outputs wait for their partition's prefix */
	bool at_least_once;
	bool aborted;
	/* Offsets of the commit that is under way: known to be committed once the next one has begun. */
	struct offsets_copy under_way;
	struct offsets_copy next;
};

struct outbox *outbox_create(struct source *source, struct sink *sink, int64_t commit_ms,
			     bool at_least_once)
{
	struct outbox *outbox = mem_alloc_zero(1, sizeof *outbox);

	if (!outbox)
		return NULL;
	outbox->source = source;
	outbox->sink = sink;
	outbox->commit_ms = commit_ms;
	outbox->at_least_once = at_least_once && source->class->commit;
	outbox->holds = source->class->commits;
	outbox->held = held_create(HELD_BYTES_MAX);
	if (!outbox->held) {
		mem_free(outbox);
		return NULL;
	}
	return outbox;
}

void outbox_destroy(struct outbox *outbox)
{
	if (!outbox)
		return;
	held_destroy(outbox->held);
	mem_free(outbox->under_way.positions);
	mem_free(outbox->next.positions);
	mem_free(outbox);
}

static enum status from_sink(struct outbox *outbox, enum status status)
{
	if (status != STATUS_OK && status != STATUS_LIMIT)
		outbox->aborted = true;
	return status;
}

static enum status write_now(void *context, const struct event *event, struct text_view traceparent,
			     struct error *error)
{
	struct outbox *outbox = context;
	enum status status = outbox->sink->class->write(outbox->sink, event, traceparent, error);

	if (status == STATUS_OK && !outbox->first_write_ns)
		outbox->first_write_ns = clock_steady_ns();
	return from_sink(outbox, status);
}

static bool is_committed_topic(enum topic topic)
{
	return topic == TOPIC_IMPRESSIONS || topic == TOPIC_SCORING_REQUESTS;
}

enum status outbox_answer(struct outbox *outbox, struct position position, const struct event *event,
			  struct text_view traceparent, struct error *error)
{
	enum status status;

	if (!outbox->holds || !is_committed_topic(position.topic))
		status = write_now(outbox, event, traceparent, error);
	else
		status = held_add(outbox->held, position, event, traceparent, error);
	if (status == STATUS_OK)
		outbox->source->class->answered(outbox->source, position);
	return status;
}

enum status outbox_release(struct outbox *outbox, struct error *error)
{
	struct commit_offsets prefix = {0};
	enum status status;

	if (held_count(outbox->held) == 0)
		return STATUS_OK;
	status = outbox->source->class->offsets(outbox->source, &prefix, error);
	if (status == STATUS_OK)
		status = held_release(outbox->held, &prefix, write_now, outbox, error);
	return status;
}

static enum status copy_offsets(struct offsets_copy *copy, const struct commit_offsets *offsets,
				struct error *error)
{
	if (offsets->count > copy->capacity) {
		void *grown = mem_resize_array(copy->positions, offsets->count, sizeof *copy->positions);
		if (!grown)
			return error_set(error, STATUS_NO_MEMORY, "out of memory");
		copy->positions = grown;
		copy->capacity = offsets->count;
	}
	if (offsets->count)
		memcpy(copy->positions, offsets->positions, offsets->count * sizeof *copy->positions);
	copy->count = offsets->count;
	return STATUS_OK;
}

static void under_way_is_committed(struct outbox *outbox)
{
	struct commit_offsets offsets = {outbox->under_way.positions, outbox->under_way.count, NULL};

	if (offsets.count)
		outbox->source->class->committed(outbox->source, &offsets);
	outbox->under_way.count = 0;
}

static enum status commit(struct outbox *outbox, struct error *error)
{
	struct commit_offsets offsets = {0};
	struct offsets_copy swap;
	enum status status = outbox_release(outbox, error);

	/* Offsets claim every answer of the prefix, so none may be held back any longer. */
	if (status == STATUS_OK)
		status = outbox->source->class->offsets(outbox->source, &offsets, error);
	if (status != STATUS_OK || (!outbox->first_write_ns && offsets.count == 0))
		return status;
	status = copy_offsets(&outbox->next, &offsets, error);
	if (status == STATUS_OK)
		status = from_sink(outbox, outbox->sink->class->commit(outbox->sink, &offsets, error));
	if (status != STATUS_OK)
		return status;
	outbox->first_write_ns = 0;
	if (outbox->at_least_once) {
		status = from_sink(outbox, outbox->sink->class->settle(outbox->sink, error));
		if (status == STATUS_OK)
			status = from_sink(outbox, outbox->source->class->commit(outbox->source, error));
		return status;
	}
	under_way_is_committed(outbox);
	swap = outbox->under_way;
	outbox->under_way = outbox->next;
	outbox->next = swap;
	return STATUS_OK;
}

enum status outbox_commit_if_due(struct outbox *outbox, bool idle, struct error *error)
{
	int64_t age_ms;

	if (!outbox->first_write_ns)
		return STATUS_OK;
	age_ms = (clock_steady_ns() - outbox->first_write_ns) / 1000000;
	return idle || age_ms >= outbox->commit_ms ? commit(outbox, error) : STATUS_OK;
}

enum status outbox_settle(struct outbox *outbox, struct error *error)
{
	enum status status = commit(outbox, error);

	if (status == STATUS_OK)
		status = from_sink(outbox, outbox->sink->class->settle(outbox->sink, error));
	if (status == STATUS_OK)
		under_way_is_committed(outbox);
	return status;
}

void outbox_clear(struct outbox *outbox)
{
	held_clear(outbox->held);
	outbox->first_write_ns = 0;
	outbox->under_way.count = 0;
	outbox->aborted = false;
}

bool outbox_aborted(const struct outbox *outbox)
{
	return outbox->aborted;
}

int64_t outbox_poll_ms(const struct outbox *outbox, int64_t poll_ms)
{
	int64_t left_ms;

	if (!outbox->first_write_ns)
		return poll_ms;
	left_ms = outbox->commit_ms - (clock_steady_ns() - outbox->first_write_ns) / 1000000;
	return left_ms < 0 ? 0 : left_ms < poll_ms ? left_ms : poll_ms;
}
