/* cuda_layer.h - one layer's arithmetic on the GPU, for lists of rows that the host made (cuda_backend.c) and for
 * those that the device made (cuda_pass.c); and the backend's state, which these three files share. One thread. */
#ifndef EXITPOLL_SCORER_CUDA_LAYER_H
#define EXITPOLL_SCORER_CUDA_LAYER_H

#include "scorer/backend.h"
#include "scorer/cuda_weights.h"

struct cuda_pass;

struct backend {
	const struct device_table *device_table;
	struct device *device;
	struct model_config config;
	struct backend_options options;
	struct cuda_weights weights;
	uint32_t multiprocessors;
	char description[192];
	struct error trouble;           /* the first; slots that return nothing leave it here */
	/* on the device; R rows: rows_max up to a whole tile of a product */
	float *hidden[2];               /* [R, C]: one is current, gather() fills the other */
	int current;
	device_half *normed, *delta;    /* [R, C] */
	device_half *qkv;               /* [R, (heads + 2 kv_heads) H] */
	device_half *mixed;             /* [R, heads H] */
	device_half *gate_up, *gated;   /* [R, 2F], [R, F] */
	device_half *kept;              /* [layers, instruction_max, 2 kv_heads H] */
	float *cosines, *sines;         /* [positions_max, H / 2] */
	int32_t *ids;                   /* [R] */
	uint32_t *positions, *rows;     /* [R] */
	struct device_tile *tiles;      /* [tiles_max] */
	struct device_segment *segments;/* [segments_max] */
	float *readout, *z;             /* [2, C], [R] */
	/* on the host, to be uploaded */
	struct device_tile *host_tiles;
	struct device_segment *host_segments;
	float *host_row;                /* [C] */
	uint32_t tiles_max, segments_max;
	struct cuda_pass *pass;         /* NULL: exits are the host's */
	bool stale;                     /* the batch's positions and segments have changed */
};

/* What a step works on. Counts are bounds where a live one lies on the device (cuda/device.h). */
struct cuda_rows {
	const uint32_t *list;           /* rows of the batch; NULL: all of them */
	uint32_t count;
	const uint32_t *live;
	const struct device_tile *tiles;/* of the list */
	uint32_t tiles_count;
	const uint32_t *tiles_live;
	const struct device_segment *segments;
	uint32_t instruction;
};

/* Columns of queries, keys and values together. */
uint64_t cuda_layer_width(const struct model_config *config);
/* Rows of an attention tile. */
uint32_t cuda_layer_tile_rows(const struct model_config *config);

/* Queries, keys and values of rows [0, count) at this layer (0-based). */
void cuda_layer_begin(struct backend *backend, uint32_t layer, const uint32_t *positions, uint32_t count,
		      const uint32_t *live);
/* The rest of it for some rows. */
void cuda_layer_finish(struct backend *backend, uint32_t layer, const struct cuda_rows *rows);

/* Where the instruction's keys and values of a layer lie. */
device_half *cuda_layer_kept(const struct backend *backend, uint32_t layer);

#endif
