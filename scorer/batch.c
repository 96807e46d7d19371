/* batch.c - packing and compaction of a micro-batch. Invariant: segments are in row order and touch, and
 * every prefix with rows has at least one live suffix once the batch is full. Caller: engine.c fills,
 * forward.c compacts. */
#include "scorer/batch.h"

#include "base/mem.h"

static uint32_t slots_of(uint32_t rows)
{
	return (rows + KEY_BLOCK - 1) / KEY_BLOCK * KEY_BLOCK;
}

enum status batch_create(uint32_t rows_max, struct batch **out, struct error *error)
{
	struct batch *batch = mem_alloc_zero(1, sizeof *batch);
	if (!batch)
		goto cleanup;
	batch->rows_max = rows_max;
	/* Suffixes of a few tokens waste the rest of their block: room for twice the rows, and for one
	 * prompt of two segments always. */
	batch->slots_max = 2 * slots_of(rows_max) + 2 * KEY_BLOCK;
	batch->segments_max = 2 * rows_max + 2;
	batch->ids = mem_alloc_array(rows_max, sizeof *batch->ids);
	batch->positions = mem_alloc_array(rows_max, sizeof *batch->positions);
	batch->row_segment = mem_alloc_array(rows_max, sizeof *batch->row_segment);
	batch->segments = mem_alloc_array(batch->segments_max, sizeof *batch->segments);
	if (!batch->ids || !batch->positions || !batch->row_segment || !batch->segments)
		goto cleanup;
	*out = batch;
	return STATUS_OK;
cleanup:
	batch_destroy(batch);
	return error_set(error, STATUS_NO_MEMORY, "no memory for a batch of %u tokens", rows_max);
}

void batch_destroy(struct batch *batch)
{
	if (!batch)
		return;
	mem_free(batch->ids);
	mem_free(batch->positions);
	mem_free(batch->row_segment);
	mem_free(batch->segments);
	mem_free(batch);
}

void batch_clear(struct batch *batch, uint32_t instruction)
{
	batch->instruction = instruction;
	batch->rows = batch->slots = batch->segments_count = batch->suffixes = 0;
}

bool batch_has_room(const struct batch *batch, uint32_t first_rows, uint32_t second_rows)
{
	return (uint64_t)batch->rows + first_rows + second_rows <= batch->rows_max &&
	       (uint64_t)batch->slots + slots_of(first_rows) + slots_of(second_rows) <= batch->slots_max &&
	       batch->segments_count + 2 <= batch->segments_max;
}

static void add(struct batch *batch, const int32_t *ids, struct batch_segment segment)
{
	uint32_t index = batch->segments_count++;
	for (uint32_t i = 0; i < segment.count; i++) {
		uint32_t row = segment.first_row + i;
		batch->ids[row] = ids[i];
		batch->positions[row] = segment.first_position + i;
		batch->row_segment[row] = index;
	}
	batch->rows += segment.count;
	batch->slots += slots_of(segment.count);
	batch->segments[index] = segment;
}

void batch_add_prefix(struct batch *batch, const int32_t *ids, uint32_t count)
{
	add(batch, ids, (struct batch_segment){
		.first_row = batch->rows,
		.count = count,
		.first_position = batch->instruction,
		.first_slot = batch->slots,
		.prefix = BATCH_NO_PREFIX,
	});
}

void batch_add_suffix(struct batch *batch, const int32_t *ids, uint32_t count, uint64_t tag,
		      int64_t deadline_ms)
{
	uint32_t prefix = batch->segments_count - 1;
	if (batch->segments[prefix].prefix != BATCH_NO_PREFIX)
		prefix = batch->segments[prefix].prefix;
	add(batch, ids, (struct batch_segment){
		.first_row = batch->rows,
		.count = count,
		.first_position = batch->instruction + batch->segments[prefix].count,
		.first_slot = batch->slots,
		.prefix = prefix,
		.ordinal = batch->suffixes,
		.tag = tag,
		.deadline_ms = deadline_ms,
	});
	batch->segments[prefix].live_suffixes++;
	batch->suffixes++;
}

void batch_compact(struct batch *batch, const bool *leaving, uint32_t *kept, uint32_t *kept_count)
{
	for (uint32_t s = 0; s < batch->segments_count; s++)
		if (batch->segments[s].prefix != BATCH_NO_PREFIX && leaving[s])
			batch->segments[batch->segments[s].prefix].live_suffixes--;

	uint32_t segments = 0, rows = 0, slots = 0, suffixes = 0, prefix = 0;
	for (uint32_t s = 0; s < batch->segments_count; s++) {
		struct batch_segment segment = batch->segments[s];
		bool is_prefix = segment.prefix == BATCH_NO_PREFIX;
		if (is_prefix ? !segment.live_suffixes : leaving[s])
			continue;
		if (is_prefix)
			prefix = segments;
		else
			segment.prefix = prefix, suffixes++;
		for (uint32_t i = 0; i < segment.count; i++) {
			uint32_t old_row = segment.first_row + i;
			batch->ids[rows + i] = batch->ids[old_row];
			batch->positions[rows + i] = batch->positions[old_row];
			batch->row_segment[rows + i] = segments;
			kept[rows + i] = old_row;
		}
		segment.first_row = rows;
		segment.first_slot = slots;
		rows += segment.count;
		slots += slots_of(segment.count);
		batch->segments[segments++] = segment;
	}
	batch->segments_count = segments;
	batch->rows = rows;
	batch->slots = slots;
	batch->suffixes = suffixes;
	*kept_count = rows;
}
