/* forward.c - the paper's figure: layers below one another, exits beside some of them.
 *
 *     rows   prefix ........ suffix 1 .. suffix 2 ..
 *     layer  keys and values of all rows
 *            rest of the layer for the last row of each suffix --> head --> decide: leave?
 *            rest of the layer for the rows of who stays
 *     next layer, with fewer rows
 *
 * Invariant: between two layers the backend's hidden row i is row i of the batch.
 * Caller: engine.c, one thread. */
#include "scorer/forward.h"

#include "base/clock.h"
#include "base/mem.h"

#include <math.h>

struct forward {
	struct forward_options options;
	uint32_t exits;                 /* heads in use */
	struct forward_stats stats;
	bool *leaving;                  /* [segments_max] */
	bool *prefix_lives;             /* [segments_max] */
	uint32_t *suffixes;             /* [segments_max] segment of each last row */
	uint32_t *rows;                 /* [rows_max] */
	float *z;                       /* [segments_max] */
	float *history;                 /* [segments_max, exits] p at the exits so far, by ordinal */
};

enum status forward_create(const struct forward_options *options, struct forward **out, struct error *error)
{
	struct forward *f = mem_alloc_zero(1, sizeof *f);
	if (!f)
		goto cleanup;
	f->options = *options;
	f->exits = options->policy.rule == EXIT_NONE ? 1 : options->policy.layers_count;
	f->leaving = mem_alloc_array(options->segments_max, sizeof *f->leaving);
	f->prefix_lives = mem_alloc_array(options->segments_max, sizeof *f->prefix_lives);
	f->suffixes = mem_alloc_array(options->segments_max, sizeof *f->suffixes);
	f->rows = mem_alloc_array(options->rows_max, sizeof *f->rows);
	f->z = mem_alloc_array(options->segments_max, sizeof *f->z);
	f->history = mem_alloc_array(options->segments_max, f->exits * sizeof *f->history);
	if (!f->leaving || !f->prefix_lives || !f->suffixes || !f->rows || !f->z || !f->history)
		goto cleanup;
	*out = f;
	return STATUS_OK;
cleanup:
	forward_destroy(f);
	return error_set(error, STATUS_NO_MEMORY, "no memory for the exits of %u rows", options->rows_max);
}

void forward_destroy(struct forward *f)
{
	if (!f)
		return;
	void *buffers[] = {f->leaving, f->prefix_lives, f->suffixes, f->rows, f->z, f->history, f};
	for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
		mem_free(buffers[i]);
}

void forward_get_stats(const struct forward *f, struct forward_stats *out)
{
	*out = f->stats;
}

/* ---- lists of rows ---- */

static uint32_t all_rows(struct forward *f, const struct batch *batch)
{
	for (uint32_t row = 0; row < batch->rows; row++)
		f->rows[row] = row;
	return batch->rows;
}

static uint32_t last_rows(struct forward *f, const struct batch *batch)
{
	uint32_t count = 0;
	for (uint32_t s = 0; s < batch->segments_count; s++)
		if (batch->segments[s].prefix != BATCH_NO_PREFIX) {
			f->suffixes[count] = s;
			f->rows[count++] = batch_last_row(&batch->segments[s]);
		}
	return count;
}

/* What survivors still need of this layer: their prefixes, and their own rows but the last. */
static uint32_t rows_of_survivors(struct forward *f, const struct batch *batch)
{
	for (uint32_t s = 0; s < batch->segments_count; s++) {
		const struct batch_segment *segment = &batch->segments[s];
		if (segment->prefix == BATCH_NO_PREFIX)
			f->prefix_lives[s] = false;
		else if (!f->leaving[s])
			f->prefix_lives[segment->prefix] = true;
	}
	uint32_t count = 0;
	for (uint32_t s = 0; s < batch->segments_count; s++) {
		const struct batch_segment *segment = &batch->segments[s];
		bool is_prefix = segment->prefix == BATCH_NO_PREFIX;
		if (is_prefix ? !f->prefix_lives[s] : f->leaving[s])
			continue;
		uint32_t rows = is_prefix ? segment->count : segment->count - 1;
		for (uint32_t i = 0; i < rows; i++)
			f->rows[count++] = segment->first_row + i;
	}
	return count;
}

/* ---- exits ---- */

/* The exit at a 1-based layer, or -1. */
static int exit_at(const struct forward *f, uint32_t layer)
{
	const struct exit_policy *policy = &f->options.policy;
	if (policy->rule == EXIT_NONE)
		return layer == f->options.model_layers ? 0 : -1;
	for (uint32_t i = 0; i < policy->layers_count; i++)
		if (policy->layers[i] == layer)
			return (int)i;
	return -1;
}

/* Reads the heads of the `count` suffixes whose last rows are in f->rows, marks who leaves and tells the
 * sink. *left receives how many. */
static enum status decide(struct forward *f, const struct batch *batch, uint32_t layer, uint32_t exit,
			  uint32_t count, const struct forward_sink *sink, uint32_t *left,
			  struct error *error)
{
	const struct exit_head *head = &f->options.heads[exit];
	f->options.table->read(f->options.backend, &head->readout, f->rows, count, f->z);
	enum status status =
	    f->options.table->trouble ? f->options.table->trouble(f->options.backend, error) : STATUS_OK;
	if (status)
		return status;
	int64_t now_ms = clock_wall_ms();
	*left = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct batch_segment *suffix = &batch->segments[f->suffixes[i]];
		if (sink->tap) {
			f->options.table->hidden(f->options.backend, f->rows[i], sink->row);
			sink->tap(sink->context, suffix->tag, exit, sink->row);
		}
		float *history = f->history + (size_t)suffix->ordinal * f->exits;
		if (!isfinite(f->z[i]))
			return error_set(error, STATUS_INTERNAL,
					 "the model gave %g at layer %u; its weights or "
					 "their scale are unusable in this precision",
					 (double)f->z[i], layer);
		double z = f->z[i];
		if (f->options.before)
			z += f->options.before[(size_t)suffix->ordinal * f->exits + exit];
		history[exit] = exit_probability(z);
		struct exit_decision decision = exit_decide(&f->options.policy, history, exit + 1, layer,
							    exit + 1 == f->exits);
		bool late = !decision.leave && now_ms > suffix->deadline_ms;
		if (late) {
			decision.leave = true;
			decision.why = "leaves: its deadline has passed";
			f->stats.deadline_exits++;
		}
		if (sink->trace)
			sink->trace(sink->context, suffix->tag, layer, history[exit], &decision);
		f->leaving[f->suffixes[i]] = decision.leave;
		if (!decision.leave)
			continue;
		(*left)++;
		f->stats.exits_at[layer]++;
		sink->leave(sink->context, suffix->tag, &(struct exit_outcome){
			.p_click = exit_probability(head->platt_a * z + head->platt_b),
			.layer = layer,
			.has_margin = decision.has_margin,
			.margin = decision.margin,
			.deadline = late,
		});
	}
	return STATUS_OK;
}

static void compact(struct forward *f, struct batch *batch)
{
	uint32_t kept;
	batch_compact(batch, f->leaving, f->rows, &kept);
	f->options.table->gather(f->options.backend, f->rows, kept);
}

/* ---- the pass ---- */

enum status forward_run(struct forward *f, struct batch *batch, const struct forward_sink *sink,
			struct error *error)
{
	const struct backend_table *table = f->options.table;
	struct backend *backend = f->options.backend;
	uint32_t depth = exit_policy_depth(&f->options.policy, f->options.model_layers);
	f->stats.layer_tokens_full += (uint64_t)batch->rows * f->options.model_layers;

	enum status status = table->embed(backend, batch, error);
	for (uint32_t layer = 1; !status && layer <= depth; layer++) {
		int exit = exit_at(f, layer);
		if (f->options.stopping && f->options.stopping()) {
			status = error_set(error, STATUS_INTERRUPTED, "scoring was interrupted");
			break;
		}
		table->keys_values(backend, layer - 1, batch);
		if (exit < 0) {
			table->finish(backend, layer - 1, batch, f->rows, all_rows(f, batch));
			f->stats.layer_tokens_run += batch->rows;
			continue;
		}

		uint32_t left, suffixes = last_rows(f, batch);
		table->finish(backend, layer - 1, batch, f->rows, suffixes);
		f->stats.layer_tokens_run += suffixes;
		int64_t begin_ns = clock_steady_ns();
		status = decide(f, batch, layer, (uint32_t)exit, suffixes, sink, &left, error);
		f->stats.control_ns += (uint64_t)(clock_steady_ns() - begin_ns);
		if (status || left == suffixes)
			break;          /* everyone has left */

		uint32_t rest = rows_of_survivors(f, batch);
		table->finish(backend, layer - 1, batch, f->rows, rest);
		f->stats.layer_tokens_run += rest;
		if (left) {
			begin_ns = clock_steady_ns();
			compact(f, batch);
			f->stats.control_ns += (uint64_t)(clock_steady_ns() - begin_ns);
		}
	}
	batch_clear(batch, batch->instruction);
	return status;
}

enum status forward_keep_instruction(struct forward *f, struct batch *batch, const int32_t *ids,
				     uint32_t count, struct error *error)
{
	const struct backend_table *table = f->options.table;
	uint32_t depth = exit_policy_depth(&f->options.policy, f->options.model_layers);
	batch_clear(batch, 0);
	if (!count)
		return STATUS_OK;
	batch_add_prefix(batch, ids, count);
	enum status status = table->embed(f->options.backend, batch, error);
	for (uint32_t layer = 1; !status && layer <= depth; layer++) {
		table->keys_values(f->options.backend, layer - 1, batch);
		table->keep_instruction(f->options.backend, layer - 1, count);
		if (layer < depth)
			table->finish(f->options.backend, layer - 1, batch, f->rows, all_rows(f, batch));
	}
	batch_clear(batch, count);
	return status;
}
