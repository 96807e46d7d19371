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
	bool by_backend;                /* it decides where it may */
	/* in the backend's hands; NULL: nothing is */
	struct batch *flying;
	struct forward_sink sink;       /* its */
};

static enum status prepare_passes(struct forward *f, struct error *error)
{
	const struct exit_policy *policy = &f->options.policy;
	struct pass_exits exits = {.policy = policy, .count = f->exits};
	for (uint32_t i = 0; i < f->exits; i++) {
		exits.layers[i] = policy->rule == EXIT_NONE ? f->options.model_layers : policy->layers[i];
		exits.readouts[i] = f->options.heads[i].readout;
	}
	f->by_backend = true;
	return f->options.table->pass_prepare(f->options.backend, &exits, error);
}

enum status forward_create(const struct forward_options *options, struct forward **out, struct error *error)
{
	struct forward *f = mem_alloc_zero(1, sizeof *f);
	if (!f)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a pass");
	f->options = *options;
	f->exits = options->policy.rule == EXIT_NONE ? 1 : options->policy.layers_count;
	f->leaving = mem_alloc_array(options->segments_max, sizeof *f->leaving);
	f->prefix_lives = mem_alloc_array(options->segments_max, sizeof *f->prefix_lives);
	f->suffixes = mem_alloc_array(options->segments_max, sizeof *f->suffixes);
	f->rows = mem_alloc_array(options->rows_max, sizeof *f->rows);
	f->z = mem_alloc_array(options->segments_max, sizeof *f->z);
	f->history = mem_alloc_array(options->segments_max, f->exits * sizeof *f->history);
	enum status status = STATUS_NO_MEMORY;
	if (!f->leaving || !f->prefix_lives || !f->suffixes || !f->rows || !f->z || !f->history) {
		error_set(error, status, "no memory for the exits of %u rows", options->rows_max);
		goto cleanup;
	}
	if (options->table->pass_prepare && (status = prepare_passes(f, error)))
		goto cleanup;
	*out = f;
	return STATUS_OK;
cleanup:
	forward_destroy(f);
	return status;
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

/* What one suffix does at an exit, whose head read z; `p` by the backend, or NULL. Marks it, tells the sink. */
static enum status judge(struct forward *f, const struct batch *batch, uint32_t segment, uint32_t layer,
			 uint32_t exit, float reading, const float *p, int64_t now_ms,
			 const struct forward_sink *sink, struct error *error)
{
	const struct exit_head *head = &f->options.heads[exit];
	const struct batch_segment *suffix = &batch->segments[segment];
	float *history = f->history + (size_t)suffix->ordinal * f->exits;
	double z = reading;
	if (!isfinite(reading))
		return error_set(error, STATUS_INTERNAL,
				 "the model gave %g at layer %u; its weights or their scale are unusable in this "
				 "precision", z, layer);
	if (batch->before)
		z += batch->before[(size_t)suffix->ordinal * f->exits + exit];
	history[exit] = p ? *p : exit_probability(z);
	struct exit_decision decision =
	    exit_decide(&f->options.policy, history, exit + 1, layer, exit + 1 == f->exits);
	bool late = !decision.leave && now_ms > suffix->deadline_ms;
	if (late) {
		decision.leave = true;
		decision.why = "leaves: its deadline has passed";
		f->stats.deadline_exits++;
	}
	if (sink->trace)
		sink->trace(sink->context, suffix->tag, layer, history[exit], &decision);
	f->leaving[segment] = decision.leave;
	if (!decision.leave)
		return STATUS_OK;
	f->stats.exits_at[layer]++;
	sink->leave(sink->context, suffix->tag, &(struct exit_outcome){
		.p_click = exit_probability(head->platt_a * z + head->platt_b),
		.layer = layer,
		.has_margin = decision.has_margin,
		.margin = decision.margin,
		.deadline = late,
	});
	return STATUS_OK;
}

/* Reads the heads of the `count` suffixes whose last rows are in f->rows, marks who leaves and tells the
 * sink. *left receives how many. */
static enum status decide(struct forward *f, const struct batch *batch, uint32_t layer, uint32_t exit,
			  uint32_t count, const struct forward_sink *sink, uint32_t *left,
			  struct error *error)
{
	const struct backend_table *table = f->options.table;
	table->read(f->options.backend, &f->options.heads[exit].readout, f->rows, count, f->z);
	enum status status = table->trouble ? table->trouble(f->options.backend, error) : STATUS_OK;
	int64_t now_ms = clock_wall_ms();
	*left = 0;
	for (uint32_t i = 0; !status && i < count; i++) {
		uint32_t segment = f->suffixes[i];
		if (sink->tap) {
			table->hidden(f->options.backend, f->rows[i], sink->row);
			sink->tap(sink->context, batch->segments[segment].tag, exit, sink->row);
		}
		status = judge(f, batch, segment, layer, exit, f->z[i], NULL, now_ms, sink, error);
		if (!status)
			*left += f->leaving[segment];
	}
	return status;
}

static void compact(struct forward *f, struct batch *batch)
{
	uint32_t kept;
	batch_compact(batch, f->leaving, f->rows, &kept);
	f->options.table->gather(f->options.backend, f->rows, kept);
}

/* ---- the pass ---- */

static enum status run_here(struct forward *f, struct batch *batch, const struct forward_sink *sink,
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

/* ---- passes that the backend decides ---- */

/* Nobody asks for the time or for rows. */
static bool is_for_backend(const struct forward *f, const struct batch *batch, const struct forward_sink *sink)
{
	if (!f->by_backend || sink->tap || !batch->suffixes)
		return false;
	for (uint32_t s = 0; s < batch->segments_count; s++)
		if (batch->segments[s].prefix != BATCH_NO_PREFIX && batch->segments[s].deadline_ms != INT64_MAX)
			return false;
	return true;
}

/* The exit's decisions once more from the numbers that the backend read: for the sink, and to be sure. */
static enum status judge_again(struct forward *f, const struct batch *batch, uint32_t layer, uint32_t exit,
			       uint32_t count, const struct pass_result *result, uint32_t *left,
			       struct error *error)
{
	*left = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t segment = f->suffixes[i], ordinal = batch->segments[segment].ordinal;
		size_t at = (size_t)ordinal * f->exits + exit;
		enum status status = judge(f, batch, segment, layer, exit, result->z[at], &result->p[at], INT64_MIN,
					   &f->sink, error);
		if (status)
			return status;
		if (f->leaving[segment] != (result->left[ordinal] == exit + 1))
			return error_set(error, STATUS_INTERNAL,
					 "at layer %u the %s backend decided otherwise than the rule: p %g", layer,
					 f->options.table->name, (double)result->p[at]);
		*left += f->leaving[segment];
	}
	return STATUS_OK;
}

/* Goes through the layers as the backend did, without the arithmetic. */
static enum status replay(struct forward *f, struct batch *batch, const struct pass_result *result,
			  struct error *error)
{
	uint32_t depth = exit_policy_depth(&f->options.policy, f->options.model_layers);
	enum status status = STATUS_OK;
	f->stats.layer_tokens_full += (uint64_t)batch->rows * f->options.model_layers;
	for (uint32_t layer = 1; layer <= depth; layer++) {
		int exit = exit_at(f, layer);
		uint32_t left, kept, suffixes = last_rows(f, batch);
		if (exit < 0) {
			f->stats.layer_tokens_run += batch->rows;
			continue;
		}
		f->stats.layer_tokens_run += suffixes;
		status = judge_again(f, batch, layer, (uint32_t)exit, suffixes, result, &left, error);
		if (status || left == suffixes)
			break;
		f->stats.layer_tokens_run += rows_of_survivors(f, batch);
		if (left)
			batch_compact(batch, f->leaving, f->rows, &kept);
	}
	return status;
}

/* Brings the batch in flight home; the newer one, if there is one, goes on. */
static enum status settle(struct forward *f, struct error *error)
{
	struct batch *batch = f->flying;
	struct pass_result result;
	f->flying = NULL;
	enum status status = f->options.table->pass_collect(f->options.backend, &result, error);
	int64_t begin_ns = clock_steady_ns();
	if (!status)
		status = replay(f, batch, &result, error);
	f->stats.control_ns += (uint64_t)(clock_steady_ns() - begin_ns);
	batch_clear(batch, batch->instruction);
	return status;
}

enum status forward_flush(struct forward *f, struct error *error)
{
	if (!f->flying)
		return STATUS_OK;
	f->options.table->pass_drive(f->options.backend);
	return settle(f, error);
}

enum status forward_submit(struct forward *f, struct batch *batch, const struct forward_sink *sink,
			   struct error *error)
{
	const struct backend_table *table = f->options.table;
	enum status status = STATUS_OK;
	if (!is_for_backend(f, batch, sink)) {
		status = forward_flush(f, error);
		if (!status)
			return run_here(f, batch, sink, error);
		batch_clear(batch, batch->instruction);
		return status;
	}
	if (f->options.stopping && f->options.stopping()) {
		forward_flush(f, NULL);
		batch_clear(batch, batch->instruction);
		return error_set(error, STATUS_INTERRUPTED, "scoring was interrupted");
	}
	if (f->flying)
		table->pass_drive(f->options.backend);
	status = table->pass_start(f->options.backend, batch, error);
	bool started = !status;
	if (f->flying) {
		enum status before = settle(f, status ? NULL : error);
		status = status ? status : before;
	}
	f->flying = started ? batch : NULL;
	f->sink = *sink;
	if (status && started)
		forward_flush(f, NULL);
	else if (status)
		batch_clear(batch, batch->instruction);
	return status;
}

enum status forward_run(struct forward *f, struct batch *batch, const struct forward_sink *sink,
			struct error *error)
{
	enum status status = forward_submit(f, batch, sink, error);
	return status ? status : forward_flush(f, error);
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
