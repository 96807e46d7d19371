/* held.c - see held.h. The copies live in one arena that is rewound whenever nothing is held. */
#include "ops/cli/held.h"

#include "consumer/event_copy.h"

enum { HELD_OUTPUTS_MAX = 1 << 20 };

struct output {
	struct position position;
	struct event event;
	struct text_view traceparent;
};

struct held {
	struct arena *arena;
	struct output *outputs;
	size_t count;
	size_t capacity;
};

struct held *held_create(size_t bytes_max)
{
	struct held *held = mem_alloc_zero(1, sizeof *held);
	if (held)
		held->arena = arena_create(bytes_max);
	if (held && !held->arena) {
		mem_free(held);
		return NULL;
	}
	return held;
}

void held_destroy(struct held *held)
{
	if (!held)
		return;
	arena_destroy(held->arena);
	mem_free(held->outputs);
	mem_free(held);
}

enum status held_add(struct held *held, struct position position, const struct event *event,
		     struct text_view traceparent, struct error *error)
{
	struct output output = {.position = position};
	void *array = held->outputs;

	if (!mem_reserve(&array, &held->capacity, held->count, HELD_OUTPUTS_MAX, sizeof output))
		return error_set(error, STATUS_NO_MEMORY, "more than %d outputs of one event time wait for their "
				 "partition; lower source.group_records_max", (int)HELD_OUTPUTS_MAX);
	held->outputs = array;
	if (!event_copy(held->arena, event, &output.event) ||
	    !text_copy(held->arena, traceparent, &output.traceparent))
		return error_set(error, STATUS_NO_MEMORY, "outputs of one event time do not fit into memory; lower "
				 "source.group_records_max");
	held->outputs[held->count++] = output;
	return STATUS_OK;
}

size_t held_count(const struct held *held)
{
	return held->count;
}

void held_clear(struct held *held)
{
	held->count = 0;
	arena_reset(held->arena);
}

static bool reached(const struct commit_offsets *prefix, struct position position)
{
	for (size_t i = 0; i < prefix->count; i++)
		if (prefix->positions[i].topic == position.topic &&
		    prefix->positions[i].partition == position.partition)
			return position.offset < prefix->positions[i].offset;
	return false;
}

enum status held_release(struct held *held, const struct commit_offsets *prefix,
			 enum status (*write)(void *context, const struct event *event,
					      struct text_view traceparent, struct error *error),
			 void *context, struct error *error)
{
	size_t kept = 0;

	for (size_t i = 0; i < held->count; i++) {
		struct output *output = &held->outputs[i];
		if (!reached(prefix, output->position)) {
			held->outputs[kept++] = *output;
			continue;
		}
		enum status status = write(context, &output->event, output->traceparent, error);
		if (status != STATUS_OK)
			return status;
	}
	held->count = kept;
	if (kept == 0)
		arena_reset(held->arena);
	return STATUS_OK;
}
