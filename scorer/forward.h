/* forward.h - one packed batch through the layers, until every candidate has left.
 *
 * Prefill only; exits read the last token's row. Whoever has left costs nothing from then on: at an exit
 * layer the last rows are finished first, the rest of the layer is done for survivors only, and layers
 * after the last exit do not exist. No allocation after forward_create(). One thread.
 *
 * Who leaves is decided here, or by the backend where it can (a GPU need not wait for the host then) and nobody looks
 * over its shoulder: a batch with deadlines or with a tap is always decided here. Either way the same p's give the
 * same decisions, which are checked. */
#ifndef EXITPOLL_SCORER_FORWARD_H
#define EXITPOLL_SCORER_FORWARD_H

#include "scorer/backend.h"
#include "scorer/exit_policy.h"

/* What stands at an exit: z = readout(row) + what the caller knew before (the batch's `before`),
 * p = sigmoid(z) for the rule, p_click = sigmoid(a z + b). */
struct exit_head {
	struct readout readout;         /* one vector: w_yes - w_no */
	double platt_a, platt_b;        /* 1, 0: uncalibrated */
};

struct forward_options {
	const struct backend_table *table;
	struct backend *backend;        /* both borrowed */
	struct exit_policy policy;
	uint32_t model_layers;
	const struct exit_head *heads;  /* [exits], borrowed: one per layer of the list, one for rule none */
	uint32_t rows_max, segments_max;/* of the batches to come */
	bool (*stopping)(void);         /* asked before each layer; NULL: never */
};

struct exit_outcome {
	float p_click;                  /* in (0, 1) */
	uint32_t layer;                 /* 1-based */
	bool has_margin;
	float margin;
	bool deadline;                  /* left because its time was up */
};

/* Called once per suffix, with the tag it came in with; trace (may be NULL) at each of its exits. */
struct forward_sink {
	void *context;
	void (*leave)(void *context, uint64_t tag, const struct exit_outcome *outcome);
	void (*trace)(void *context, uint64_t tag, uint32_t layer, float p,
		      const struct exit_decision *decision);
	/* Training: the hidden row [C] of the last token at each exit, copied into row; NULL: not wanted. */
	float *row;
	void (*tap)(void *context, uint64_t tag, uint32_t exit, const float *row);
};

struct forward_stats {
	uint64_t layer_tokens_run, layer_tokens_full;
	uint64_t exits_at[EXIT_LAYERS_MAX + 1];
	uint64_t deadline_exits;
	uint64_t control_ns;            /* reading, deciding, compacting */
};

struct forward;
enum status forward_create(const struct forward_options *options, struct forward **out,
			   struct error *error);
void forward_destroy(struct forward *forward);          /* NULL ok */

/* The instruction's keys and values of all layers, once; afterwards batches may be cleared with it. */
enum status forward_keep_instruction(struct forward *forward, struct batch *batch, const int32_t *ids,
				     uint32_t count, struct error *error);

/* Takes a batch in hand. It is the pass's until the next forward_submit() or forward_flush() has returned, which tell
 * its sink and empty it: fill another one meanwhile. An error may be the batch's before; both are lost then. */
enum status forward_submit(struct forward *forward, struct batch *batch, const struct forward_sink *sink,
			   struct error *error);
enum status forward_flush(struct forward *forward, struct error *error);

/* Both at once. Empties the batch. STATUS_INTERNAL: the model gave a number that is not finite; INTERRUPTED:
 * stopping(). */
enum status forward_run(struct forward *forward, struct batch *batch, const struct forward_sink *sink,
			struct error *error);

void forward_get_stats(const struct forward *forward, struct forward_stats *out);

#endif
