/* backend.h - where the arithmetic runs: one small table, chosen at start.
 *
 * A backend holds the weights and the hidden rows of one batch. forward.c says what happens in which
 * order and when a candidate leaves; a backend says how. K and V live for one layer, except those of the
 * instruction, which are kept for all layers. All memory is taken in create() and pass_prepare(); no slot
 * allocates later. All slots block until their result may be read, but for the passes' below; one thread calls,
 * the backend may use more. A row's bits depend on its own tokens alone. */
#ifndef EXITPOLL_SCORER_BACKEND_H
#define EXITPOLL_SCORER_BACKEND_H

#include "base/advance.h"
#include "scorer/batch.h"
#include "scorer/exit_policy.h"
#include "scorer/model.h"

/* Where weights come from: a checkpoint, or a test's own numbers. */
struct model_view {
	struct model_config config;
	enum status (*read)(const void *context, enum model_tensor tensor, uint32_t layer, uint32_t first_row,
			    uint32_t count, float *out, struct error *error);
	const void *context;
};
struct model_view model_view_of(const struct model *model);

struct backend_options {
	uint32_t layers;                /* of the model to load: 1..config.layers; later ones never run */
	uint32_t rows_max;              /* of a batch */
	uint32_t slots_max;
	uint32_t positions_max;         /* longest prompt */
	uint32_t instruction_max;       /* longest instruction kept */
	uint32_t threads;               /* >= 1 */
	/* "auto" | "fp32" | "bf16"; for tests of the cpu backend also "bf16-dot" and "bf16-tile", the products
	 * of AVX512_BF16 and of AMX in plain C. */
	const char *precision;
	const struct advance *loading;  /* hears of weights in bytes, where loading is long; NULL: nobody listens */
};

/* What reads a click probability out of a hidden row: z[v] = rms_norm(x, norm) . vectors[v]. Borrowed. */
struct readout {
	const float *norm;              /* [C] */
	const float *vectors;           /* [count, C] */
	uint32_t count;
};

/* The exits of a backend that decides by itself. */
struct pass_exits {
	const struct exit_policy *policy;
	uint32_t count;                 /* 1 for the rule none */
	uint32_t layers[EXIT_LAYERS_MAX];       /* [count] 1-based, ascending; the last decides */
	struct readout readouts[EXIT_LAYERS_MAX];       /* [count] of one vector each */
};

/* By ordinal: z and p at each exit up to that at which the suffix left; at which, 1-based. */
struct pass_result {
	const float *z, *p;             /* [suffixes, exits] */
	const uint32_t *left;           /* [suffixes] */
};

struct backend;

struct backend_table {
	const char *name;               /* "cpu" */

	/* Reads the weights; on failure nothing is left. STATUS_UNSUPPORTED says what this machine lacks. */
	enum status (*create)(const struct model_view *model, const struct backend_options *options,
			      struct backend **out, struct error *error);
	void (*destroy)(struct backend *backend);       /* NULL ok */
	const char *(*describe)(const struct backend *backend);

	/* Hidden rows := embeddings of the batch's ids. */
	enum status (*embed)(struct backend *backend, const struct batch *batch, struct error *error);

	/* K and V of all rows of the batch at this layer (0-based). */
	void (*keys_values)(struct backend *backend, uint32_t layer, const struct batch *batch);

	/* The rest of the layer for the given rows [count], ascending: attention, MLP, residuals. Each row
	 * is finished at most once per layer. */
	void (*finish)(struct backend *backend, uint32_t layer, const struct batch *batch,
		       const uint32_t *rows, uint32_t count);

	/* z[count, readout->count] of hidden rows. */
	void (*read)(struct backend *backend, const struct readout *readout, const uint32_t *rows,
		     uint32_t count, float *z);

	/* Hidden row i := hidden row kept[i], kept ascending. */
	void (*gather)(struct backend *backend, const uint32_t *kept, uint32_t count);

	/* Keeps this layer's K and V of the first `count` rows of the batch as the instruction's. */
	void (*keep_instruction)(struct backend *backend, uint32_t layer, uint32_t count);

	/* Tests and the logit lens: copies one hidden row [C] out. */
	void (*hidden)(struct backend *backend, uint32_t row, float *out);

	/* NULL, or the first trouble of a slot that returns nothing: a device that was lost. Numbers read since
	 * then are NaN. */
	enum status (*trouble)(const struct backend *backend, struct error *error);

	/* Floating-point operations a second of its own largest product on all threads, measured once at
	 * creation: what utilisation is counted against. NULL: not known. */
	double (*product_flops)(const struct backend *backend);

	/* Whole passes whose exits the backend decides itself, so that it needs to wait for nobody; NULL: it does
	 * not. Two may be in flight: start A, drive A, start B, collect A, drive B, ... */
	/* The readouts are copied; may be called again while no pass is in flight. */
	enum status (*pass_prepare)(struct backend *backend, const struct pass_exits *exits, struct error *error);
	/* Copies the batch (which may be refilled, not cleared of its meaning: results go by ordinal) and queues
	 * what needs no knowledge of who leaves. */
	enum status (*pass_start)(struct backend *backend, const struct batch *batch, struct error *error);
	/* Queues all the rest of the newest pass, waiting where it is worth to know how many are left. */
	void (*pass_drive)(struct backend *backend);
	/* Waits for the oldest pass, which has been driven. *out is good until the next but one start. */
	enum status (*pass_collect)(struct backend *backend, struct pass_result *out, struct error *error);
};

/* Operations of one token in one layer: the matrix products, two a weight. Attention is left out. */
static inline double backend_layer_flops(const struct model_config *config)
{
	double width = config->hidden_size, query = (double)config->heads * config->head_size;
	double kv = (double)config->kv_heads * config->head_size;
	return 2 * width * (2 * query + 2 * kv + 3.0 * config->intermediate_size);
}

extern const struct backend_table backend_reference;
extern const struct backend_table backend_cpu;

/* Which arithmetic the cpu backend takes on this machine, and why: what its describe() says once made. */
void backend_cpu_explain(const char *precision, uint32_t threads, char *out, size_t bytes);

/* Shared by the backends: cos and sin of every position, [positions, head_size / 2] each, in double
 * before rounding, with the checkpoint's scaling. */
void rope_tables(const struct model_config *config, uint32_t positions, float *cosines, float *sines);

/* The readout in double, one sum in ascending order; what every backend's read() gives. */
void readout_row(const struct readout *readout, uint32_t width, float epsilon, const float *x, float *z);

#endif
