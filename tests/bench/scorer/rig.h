/* rig.h - an engine without prompts for benchmarks: a batch, a backend and a forward pass over any model. */
#ifndef EXITPOLL_TESTS_BENCH_SCORER_RIG_H
#define EXITPOLL_TESTS_BENCH_SCORER_RIG_H

#include "base/clock.h"
#include "scorer/forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct rig {
	const char *name;               /* of the program, for errors */
	uint32_t layers, width, rows_max;
	struct backend *backend;
	struct batch *batch;
	struct forward *forward;
	const float *norm, *vector;     /* [width] each: what every exit reads with */
	struct exit_head heads[EXIT_LAYERS_MAX];
};

static inline void rig_fail(const struct rig *rig, const char *what)
{
	fprintf(stderr, "%s: %s\n", rig->name, what);
	exit(70);
}

static inline void rig_open(struct rig *rig, const struct model_view *model, uint32_t rows_max,
			    uint32_t positions_max, uint32_t threads, const char *precision)
{
	struct error error = {0};
	rig->layers = model->config.layers;
	rig->width = model->config.hidden_size;
	rig->rows_max = rows_max;
	if (batch_create(rows_max, &rig->batch, &error))
		rig_fail(rig, error.text);
	struct backend_options options = {
		.layers = rig->layers, .rows_max = rows_max, .slots_max = rig->batch->slots_max,
		.positions_max = positions_max, .threads = threads, .precision = precision,
	};
	if (backend_cpu.create(model, &options, &rig->backend, &error))
		rig_fail(rig, error.text);
}

/* From here on everybody leaves at this layer. */
static inline void rig_leave_at(struct rig *rig, uint32_t layer)
{
	struct error error = {0};
	struct exit_policy policy = {.layers = {layer}, .layers_count = 1};
	exit_policy_defaults(EXIT_FIXED, &policy);
	policy.threshold = layer;
	rig->heads[0] = (struct exit_head){{rig->norm, rig->vector, 1}, 1, 0};
	struct forward_options options = {
		.table = &backend_cpu, .backend = rig->backend, .policy = policy, .model_layers = rig->layers,
		.heads = rig->heads, .rows_max = rig->rows_max, .segments_max = rig->batch->segments_max,
	};
	forward_destroy(rig->forward);
	rig->forward = NULL;
	if (forward_create(&options, &rig->forward, &error))
		rig_fail(rig, error.text);
	batch_clear(rig->batch, 0);
}

/* p of every suffix goes to out[tag]. */
static inline void rig_take(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	((float *)context)[tag] = outcome->p_click;
}

static inline void rig_run(struct rig *rig, float *out)
{
	struct error error = {0};
	struct forward_sink sink = {.context = out, .leave = rig_take};
	if (forward_run(rig->forward, rig->batch, &sink, &error))
		rig_fail(rig, error.text);
}

static inline void rig_close(struct rig *rig)
{
	forward_destroy(rig->forward);
	backend_cpu.destroy(rig->backend);
	batch_destroy(rig->batch);
}

static inline double wall_seconds(void)
{
	return 1e-9 * (double)clock_steady_ns();
}

static inline double process_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
