/* device.h - what a GPU does for the scorer: the one table that libexitpoll-cuda.so exports.
 *
 * The host side (scorer/cuda_backend.c) says which rows, in which order; this side owns memory, matrix products and
 * kernels. Two libraries fill the table: the one for GPUs and its emulation on the CPU, built from the
 * same kernels (portable.cuh). All calls put work on one queue and return at once, unless they say that they
 * wait; trouble is sticky and told by wait(). Pointers named device_* live on the device.
 *
 * Counts that only the device knows, since exits are decided there: a work's `count` (tiles_count) is what the
 * host is sure is enough, `live` (NULL: the same) where the device holds the true one; what lies between is not
 * touched. One thread. */
#ifndef EXITPOLL_SCORER_CUDA_DEVICE_H
#define EXITPOLL_SCORER_CUDA_DEVICE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rises with any change of this file; the loader refuses another. */
enum { DEVICE_TABLE_VERSION = 3 };
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
	/* for arrange() alone */
	uint32_t prefix;                /* its prefix's segment; DEVICE_NO_PREFIX: is one */
	uint32_t first_position;
	uint32_t ordinal, place;        /* of a suffix: when it came in; which of those still there */
};
#define DEVICE_NO_PREFIX UINT32_MAX

/* What a batch holds at the moment. `rest`: what survivors need of an exit's layer, all but their last rows. */
struct device_counts {
	uint32_t rows, suffixes, segments, tiles, rest_rows, rest_tiles;
};
enum { DEVICE_COUNTS = 6 };

/* A batch as kernels see it: lists by row, by suffix, by tile. */
struct device_layout {
	struct device_counts *counts;           /* [1] */
	struct device_segment *segments;        /* [segments_max] */
	uint32_t *positions;                    /* [rows_max] */
	struct device_tile *tiles;              /* [rows_max] of all rows */
	uint32_t *last_rows, *ordinals;         /* [rows_max] of each suffix */
	struct device_tile *last_tiles;         /* [rows_max] one for each suffix's last row */
};

/* Where a segment goes. */
struct device_place {
	uint32_t row, suffix, segment, tile, rest_row, rest_tile;       /* as device_counts */
	uint32_t alive;
};

enum { DEVICE_TILE_QUERIES = 64 };      /* queries (rows x heads of a group) of a tile */

struct embed_work {
	const int32_t *ids;             /* [count] */
	const device_half *table;       /* [V, width] */
	float *hidden;                  /* [count, width] */
	uint32_t count, width;
};

/* hidden[row] += delta[i] * DEVICE_SHRINK (NULL: nothing); normed[i] = rms_norm(hidden[row]) with row = rows[i]
 * (NULL: i). */
struct norm_work {
	float *hidden;                  /* [.., width] */
	const device_half *delta;       /* [count, width] or NULL */
	const uint32_t *rows;           /* [count] or NULL */
	const float *weight;            /* [width]; NULL: only the sum */
	device_half *normed;            /* [count, width] */
	uint32_t count, width;
	float epsilon;
	const uint32_t *live;
};

/* In place: biases, then queries and keys turned by their positions (rotate-half). */
struct rope_work {
	device_half *qkv;               /* [count, (heads + 2 kv_heads) * head_size] */
	const float *bias;              /* [(heads + 2 kv_heads) * head_size] or NULL */
	const uint32_t *positions;      /* [count] */
	const float *cosines, *sines;   /* [positions, head_size / 2] */
	uint32_t count, heads, kv_heads, head_size;
	const uint32_t *live;
};

struct attention_work {
	const device_half *qkv;         /* [rows, (heads + 2 kv_heads) * head_size] */
	const device_half *kept;        /* [instruction, 2 kv_heads * head_size]: keys, values */
	const struct device_tile *tiles;/* [tiles_count] */
	const struct device_segment *segments;
	const uint32_t *rows;           /* [..] row of the batch of each row of the list; NULL: the same */
	device_half *mixed;             /* [.., heads * head_size] by place in the list */
	uint32_t tiles_count, instruction, heads, kv_heads, head_size;
	const uint32_t *live;
};

struct swiglu_work {
	const device_half *gate_up;     /* [count, 2 width]: gate, then up */
	device_half *out;               /* [count, width] divided by DEVICE_SHRINK */
	uint32_t count, width;
	const uint32_t *live;
};

struct gather_work {
	const float *from;              /* [.., width] */
	const uint32_t *kept;           /* [count] */
	float *to;                      /* [count, width], not `from` */
	uint32_t count, width;
	const uint32_t *live;
};

struct head_work {
	const float *hidden;            /* [.., width] */
	const uint32_t *rows;           /* [count] */
	const float *norm, *vector;     /* [width] */
	float *z;                       /* [count] */
	uint32_t count, width;
	float epsilon;
	const uint32_t *live;
};

/* One exit's decision for each suffix still there (exit_policy.h has the rules). */
struct decide_work {
	const float *z;                 /* [count] of this exit's head */
	const double *before;           /* [.., exits] by ordinal, or NULL */
	const uint32_t *ordinals;       /* [count] */
	float *history;                 /* [.., exits] by ordinal: p */
	float *readings;                /* [.., exits] by ordinal: z; NULL: not wanted */
	uint32_t *left;                 /* [..] by ordinal: which exit, 1-based, it left at; NULL: not wanted */
	uint32_t *leaving;              /* [count] 1: leaves here */
	uint32_t count, exit, exits;    /* exit: which of the list, 0-based */
	uint32_t layer, rule, window;
	double threshold;
	const uint32_t *live;
};

/* Who stays moves together: a prefix goes with its last suffix, order is kept. What batch_compact() is to the
 * host. */
struct arrange_work {
	const struct device_segment *segments;  /* [counts->segments] as they are */
	const struct device_counts *counts;
	const uint32_t *leaving;        /* by suffix's place; NULL: nobody leaves, the lists alone are made */
	struct device_layout to;        /* others than the above */
	uint32_t *kept;                 /* [to.counts->rows] old row of every new row */
	uint32_t *rest_rows;            /* [to.counts->rest_rows] old rows */
	struct device_tile *rest_tiles; /* of rest_rows, by old segments */
	struct device_place *places;    /* [segments_max] for its own use */
	uint32_t segments_max;          /* the host's bound */
	uint32_t height;                /* rows of a tile */
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

enum { DEVICE_MARKS = 8 };

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
	/* Host memory that fetch() and send_ahead() copy without staging; goes with the device. */
	enum status (*allocate_host)(struct device *device, size_t bytes, void **out, struct error *error);
	/* To host memory of allocate_host(); there when a later mark is reached. */
	void (*fetch)(struct device *device, void *to, const void *device_from, size_t bytes);
	/* From host memory of allocate_host(), beside the queue's work, not after it; join_ahead() makes the queue's
	 * later work wait for all that was sent ahead. `from` and device_to rest until the next mark after that. */
	void (*send_ahead)(struct device *device, void *device_to, const void *from, size_t bytes);
	void (*join_ahead)(struct device *device);
	/* A point in the queue, by number; a newer mark of a number takes the older one's place. reached(): has the
	 * queue come by? `wait`: stays until it has. Trouble counts as reached. */
	void (*mark)(struct device *device, uint32_t number);
	bool (*reached)(struct device *device, uint32_t number, bool wait);
	/* Trouble so far, without waiting: as wait(). */
	enum status (*state)(struct device *device, struct error *error);
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
	void (*arrange)(struct device *device, const struct arrange_work *work);
	void (*product)(struct device *device, const struct product_work *work);
};

#endif
