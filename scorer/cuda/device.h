/* device.h - what a GPU does for the scorer: the one table that libexitpoll-cuda.so exports.
 *
 * The host side (scorer/cuda_backend.c) says which rows, in which order; this side owns memory, matrix products and
 * kernels. Two libraries fill the table: the one for GPUs and its emulation on the CPU, built from the
 * same kernels (portable.cuh). All calls put work on one queue and return at once, unless they say that they
 * wait; trouble is sticky and told by wait(). Pointers named device_* live on the device. One thread. */
#ifndef EXITPOLL_SCORER_CUDA_DEVICE_H
#define EXITPOLL_SCORER_CUDA_DEVICE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rises with any change of this file; the loader refuses another. */
enum { DEVICE_TABLE_VERSION = 2 };
#define DEVICE_TABLE_SYMBOL "exitpoll_device_table"

/* fp16: an eighth of bf16's rounding error at the same speed, and bf16 weights are exact in it. Its
 * range ends at 65,504, so what may grow large (SwiGLU's products, the sums a layer adds to its rows) is stored
 * divided by DEVICE_SHRINK, a power of two; what grows beyond even so becomes infinite and is noticed. */
typedef uint16_t device_half;
#define DEVICE_SHRINK 16.0f

struct device;

struct device_facts {
	char name[96];
	uint32_t major, minor;          /* compute capability: 9, 0 */
	uint32_t driver, runtime;       /* CUDA versions, 13000 for 13.0; 0: none */
	uint32_t multiprocessors;
	uint64_t memory_bytes, free_bytes;
	bool emulated;
};

/* Places [first, first + count) of an ascending list of rows, all of one segment: what one attention block
 * answers. */
struct device_tile {
	uint32_t first, count, segment;
};

/* Keys that a row of a segment sees: the instruction's, its prefix's, its own up to itself. */
struct device_segment {
	uint32_t first_row, count;
	uint32_t prefix_row, prefix_count;      /* count 0: is a prefix, or has an empty one */
};

enum { DEVICE_TILE_QUERIES = 64 };      /* queries (rows x heads of a group) of a tile */

struct embed_work {
	const int32_t *ids;             /* [count] */
	const device_half *table;       /* [V, width] */
	float *hidden;                  /* [count, width] */
	uint32_t count, width;
};

/* hidden[row] += delta[i] * DEVICE_SHRINK (NULL: nothing); normed[i] = rms_norm(hidden[row]) with row = rows[i] (NULL: i). */
struct norm_work {
	float *hidden;                  /* [.., width] */
	const device_half *delta;       /* [count, width] or NULL */
	const uint32_t *rows;           /* [count] or NULL */
	const float *weight;            /* [width]; NULL: only the sum */
	device_half *normed;            /* [count, width] */
	uint32_t count, width;
	float epsilon;
};

/* In place: biases, then queries and keys turned by their positions (rotate-half). */
struct rope_work {
	device_half *qkv;               /* [count, (heads + 2 kv_heads) * head_size] */
	const float *bias;              /* [(heads + 2 kv_heads) * head_size] or NULL */
	const uint32_t *positions;      /* [count] */
	const float *cosines, *sines;   /* [positions, head_size / 2] */
	uint32_t count, heads, kv_heads, head_size;
};

struct attention_work {
	const device_half *qkv;         /* [rows, (heads + 2 kv_heads) * head_size] */
	const device_half *kept;        /* [instruction, 2 kv_heads * head_size]: keys, values */
	const struct device_tile *tiles;/* [tiles_count] */
	const struct device_segment *segments;
	const uint32_t *rows;           /* [..] row of the batch of each row of the list; NULL: the same */
	device_half *mixed;             /* [.., heads * head_size] by place in the list */
	uint32_t tiles_count, instruction, heads, kv_heads, head_size;
};

struct swiglu_work {
	const device_half *gate_up;     /* [count, 2 width]: gate, then up */
	device_half *out;               /* [count, width] divided by DEVICE_SHRINK */
	uint32_t count, width;
};

struct gather_work {
	const float *from;              /* [.., width] */
	const uint32_t *kept;           /* [count] */
	float *to;                      /* [count, width], not `from` */
	uint32_t count, width;
};

struct head_work {
	const float *hidden;            /* [.., width] */
	const uint32_t *rows;           /* [count] */
	const float *norm, *vector;     /* [width] */
	float *z;                       /* [count] */
	uint32_t count, width;
	float epsilon;
};

/* One exit's decision for each suffix still there (exit_policy.h has the rules). */
struct decide_work {
	const float *z;                 /* [count] of this exit's head */
	const double *before;           /* [.., exits] by ordinal, or NULL */
	const uint32_t *ordinals;       /* [count] */
	float *history;                 /* [.., exits] by ordinal */
	uint32_t *leaving;              /* [count] 1: leaves here */
	uint32_t count, exit, exits;    /* exit: which of the list, 0-based */
	uint32_t layer, rule, window;
	double threshold;
};

/* out[rows, columns] = scale x[rows, depth] weights[columns, depth]^T, fp32 sums, fp16 out. Buffers hold rows
 * up to the next multiple of DEVICE_PRODUCT_ROWS; those rows of out are written with anything. */
struct product_work {
	const device_half *x, *weights;
	device_half *out;
	uint32_t rows, columns, depth;
	float scale;
};
enum { DEVICE_PRODUCT_ROWS = 128 };

struct device_table {
	uint32_t version;

	/* What is there, without taking it. UNAVAILABLE: no driver or no device; UNSUPPORTED: driver or card
	 * too old; the text says which. Facts known until then are filled in either way. */
	enum status (*find)(struct device_facts *out, struct error *error);

	/* Takes the device. rows_max: of a product. */
	enum status (*open)(uint32_t rows_max, struct device **out, struct error *error);
	void (*close)(struct device *device);           /* NULL ok; frees all memory taken from it */

	/* NO_MEMORY says how much was asked for and how much is free. */
	enum status (*allocate)(struct device *device, size_t bytes, void **device_out, struct error *error);
	/* Chooses the algorithm of products of this shape, before the first of them. */
	enum status (*prepare_product)(struct device *device, uint32_t columns, uint32_t depth,
				       struct error *error);

	/* Through pinned memory; `from` may be reused on return. */
	enum status (*upload)(struct device *device, void *device_to, const void *from, size_t bytes,
			      struct error *error);
	/* Waits. */
	enum status (*download)(struct device *device, void *to, const void *device_from, size_t bytes,
				struct error *error);
	void (*copy)(struct device *device, void *device_to, const void *device_from, size_t bytes);
	void (*copy_rows)(struct device *device, void *device_to, size_t to_pitch, const void *device_from,
			  size_t from_pitch, size_t bytes, size_t rows);
	/* Waits for everything; UNAVAILABLE: the device was lost or a kernel failed. */
	enum status (*wait)(struct device *device, struct error *error);

	void (*embed)(struct device *device, const struct embed_work *work);
	void (*norm)(struct device *device, const struct norm_work *work);
	void (*rope)(struct device *device, const struct rope_work *work);
	void (*attention)(struct device *device, const struct attention_work *work);
	void (*swiglu)(struct device *device, const struct swiglu_work *work);
	void (*gather)(struct device *device, const struct gather_work *work);
	void (*head)(struct device *device, const struct head_work *work);
	void (*decide)(struct device *device, const struct decide_work *work);
	void (*product)(struct device *device, const struct product_work *work);
};

#endif
