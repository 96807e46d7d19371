/* cuda_pass.c - queues passes, reads counts late, brings results home.
 *
 * The device holds two layouts of the batch, the one that a layer works on and the one that its exit makes; the host
 * holds bounds of their counts. Invariant: every bound is at least the live count, so launches cover all rows that
 * are left and kernels skip those that are not. Caller: forward.c through the backend's table. */
#include "scorer/cuda_pass.h"

#include "base/mem.h"

enum { SLOTS = 2, LAYOUTS = 2, MARK_COUNTS = 0, MARK_RESULTS = 1 };

/* Operations that one multiprocessor does while the host asks for a number and queues a layer (about 25 us; Hopper:
 * some 6e12 a second): a layer that takes longer is worth asking for. */
static const double round_trip_flops = 1.5e8;

/* One of the batches in flight: what came in and what goes out. host_*: pinned. */
struct slot {
	int32_t *ids, *host_ids;                        /* [rows_max] */
	struct device_segment *segments, *host_segments;/* [segments_max] */
	struct device_counts *counts, *host_counts;     /* [1] */
	double *before, *host_before;                   /* [rows_max, exits_max] */
	float *host_z, *host_p;                         /* [rows_max, exits_max] */
	uint32_t *host_left;                            /* [rows_max] */
	uint32_t suffixes;
};

struct cuda_pass {
	struct exit_policy policy;
	uint32_t exits, exits_max, layers[EXIT_LAYERS_MAX];
	float *heads;                   /* [exits_max, 2, C]: norm, vector */
	struct slot slots[SLOTS];
	uint32_t started, collected;    /* passes so far; the difference is in flight */
	struct device_layout layouts[LAYOUTS];
	uint32_t *kept, *rest_rows;     /* [rows_max] */
	struct device_tile *rest_tiles;
	struct device_place *places;    /* [segments_max] */
	uint32_t *leaving, *left;       /* [rows_max] */
	float *readings, *history;      /* [rows_max, exits_max] */
	struct device_counts *known;    /* pinned: what the device told last */
	/* the pass being queued */
	bool queueing, rest;            /* rest: the next step is the rest of an exit's layer */
	bool asked, has_before;         /* asked: *known is on its way */
	uint32_t layer, exit, layout, instruction;
	struct device_counts bound;
};

uint64_t cuda_pass_bytes_of_row(uint32_t exits_max)
{
	uint64_t segment = 2 * sizeof(struct device_segment), tile = sizeof(struct device_tile);
	uint64_t layout = segment + 2 * tile + 3 * sizeof(uint32_t), number = exits_max * sizeof(float);
	uint64_t slot = sizeof(int32_t) + segment + exits_max * sizeof(double);
	return LAYOUTS * layout + SLOTS * slot + 2 * number + tile + 4 * sizeof(uint32_t) +
	       2 * sizeof(struct device_place);
}

/* ---- memory ---- */

struct piece {
	void *at;                       /* of the pointer to be set */
	size_t count, size;
	bool host;
};

static enum status take_pieces(struct backend *b, const struct piece *pieces, size_t count, struct error *error)
{
	for (size_t i = 0; i < count; i++) {
		void *memory;
		size_t bytes = pieces[i].count * pieces[i].size;
		enum status status = pieces[i].host ?
				     b->device_table->allocate_host(b->device, bytes, &memory, error) :
				     b->device_table->allocate(b->device, bytes, &memory, error);
		if (status)
			return status;
		memcpy(pieces[i].at, &memory, sizeof memory);
	}
	return STATUS_OK;
}

static enum status take_slot(struct backend *b, struct slot *s, uint32_t exits_max, struct error *error)
{
	size_t rows = b->options.rows_max, segments = b->segments_max, numbers = rows * exits_max;
	const struct piece pieces[] = {
		{&s->ids, rows, sizeof *s->ids, false}, {&s->host_ids, rows, sizeof *s->ids, true},
		{&s->segments, segments, sizeof *s->segments, false},
		{&s->host_segments, segments, sizeof *s->segments, true},
		{&s->counts, 1, sizeof *s->counts, false}, {&s->host_counts, 1, sizeof *s->counts, true},
		{&s->before, numbers, sizeof *s->before, false}, {&s->host_before, numbers, sizeof *s->before, true},
		{&s->host_z, numbers, sizeof(float), true}, {&s->host_p, numbers, sizeof(float), true},
		{&s->host_left, rows, sizeof *s->host_left, true},
	};
	return take_pieces(b, pieces, sizeof pieces / sizeof pieces[0], error);
}

static enum status take_layout(struct backend *b, struct device_layout *l, struct error *error)
{
	size_t rows = b->options.rows_max;
	const struct piece pieces[] = {
		{&l->counts, 1, sizeof *l->counts, false}, {&l->segments, b->segments_max, sizeof *l->segments, false},
		{&l->positions, rows, sizeof *l->positions, false}, {&l->tiles, rows, sizeof *l->tiles, false},
		{&l->last_rows, rows, sizeof *l->last_rows, false}, {&l->ordinals, rows, sizeof *l->ordinals, false},
		{&l->last_tiles, rows, sizeof *l->last_tiles, false},
	};
	return take_pieces(b, pieces, sizeof pieces / sizeof pieces[0], error);
}

static enum status take_memory(struct backend *b, struct cuda_pass *p, struct error *error)
{
	size_t rows = b->options.rows_max, numbers = rows * p->exits_max;
	const struct piece pieces[] = {
		{&p->heads, (size_t)p->exits_max * 2 * b->config.hidden_size, sizeof(float), false},
		{&p->kept, rows, sizeof *p->kept, false}, {&p->rest_rows, rows, sizeof *p->rest_rows, false},
		{&p->rest_tiles, rows, sizeof *p->rest_tiles, false},
		{&p->places, b->segments_max, sizeof *p->places, false},
		{&p->leaving, rows, sizeof *p->leaving, false}, {&p->left, rows, sizeof *p->left, false},
		{&p->readings, numbers, sizeof(float), false}, {&p->history, numbers, sizeof(float), false},
		{&p->known, 1, sizeof *p->known, true},
	};
	enum status status = take_pieces(b, pieces, sizeof pieces / sizeof pieces[0], error);
	for (int i = 0; !status && i < SLOTS; i++)
		status = take_slot(b, &p->slots[i], p->exits_max, error);
	for (int i = 0; !status && i < LAYOUTS; i++)
		status = take_layout(b, &p->layouts[i], error);
	return status;
}

enum status cuda_pass_prepare(struct backend *b, const struct pass_exits *exits, struct error *error)
{
	size_t width = b->config.hidden_size;
	enum status status = STATUS_OK;
	if (!b->pass) {
		struct cuda_pass *pass = mem_alloc_zero(1, sizeof *pass);
		if (!pass)
			return error_set(error, STATUS_NO_MEMORY, "no memory for passes on the GPU");
		b->pass = pass;
		pass->exits_max = b->options.layers;
		if ((status = take_memory(b, pass, error))) {
			/* Pieces that were taken stay the device's. */
			b->pass = NULL;
			mem_free(pass);
			return status;
		}
	}
	struct cuda_pass *p = b->pass;
	if (exits->count > p->exits_max)
		return error_set(error, STATUS_LIMIT, "%u exits in %u layers", exits->count, p->exits_max);
	p->policy = *exits->policy;
	p->exits = exits->count;
	for (uint32_t i = 0; !status && i < exits->count; i++) {
		const struct readout *readout = &exits->readouts[i];
		float *head = p->heads + 2 * i * width;
		p->layers[i] = exits->layers[i];
		status = b->device_table->upload(b->device, head, readout->norm, width * sizeof *head, error);
		if (!status)
			status = b->device_table->upload(b->device, head + width, readout->vectors,
							 width * sizeof *head, error);
	}
	return status;
}

void cuda_pass_destroy(struct cuda_pass *pass)
{
	mem_free(pass);
}

/* ---- queueing ---- */

static void decide(struct backend *b, struct cuda_pass *p)
{
	const struct device_layout *at = &p->layouts[p->layout];
	const struct slot *slot = &p->slots[(p->started - 1) % SLOTS];
	const float *head = p->heads + 2 * (size_t)p->exit * b->config.hidden_size;
	b->device_table->head(b->device, &(struct head_work){
		.hidden = b->hidden[b->current], .rows = at->last_rows, .norm = head,
		.vector = head + b->config.hidden_size, .z = b->z, .count = p->bound.suffixes,
		.width = b->config.hidden_size, .epsilon = b->config.rms_norm_eps, .live = &at->counts->suffixes,
	});
	b->device_table->decide(b->device, &(struct decide_work){
		.z = b->z, .before = p->has_before ? slot->before : NULL, .ordinals = at->ordinals,
		.history = p->history, .readings = p->readings, .left = p->left, .leaving = p->leaving,
		.count = p->bound.suffixes, .exit = p->exit, .exits = p->exits, .layer = p->layer + 1,
		.rule = p->policy.rule, .window = p->policy.window, .threshold = p->policy.threshold,
		.live = &at->counts->suffixes,
	});
}

static void arrange(struct backend *b, struct cuda_pass *p, const struct device_segment *segments,
		    const struct device_counts *counts, const uint32_t *leaving, uint32_t to)
{
	b->device_table->arrange(b->device, &(struct arrange_work){
		.segments = segments, .counts = counts, .leaving = leaving, .to = p->layouts[to], .kept = p->kept,
		.rest_rows = p->rest_rows, .rest_tiles = p->rest_tiles, .places = p->places,
		.segments_max = p->bound.segments, .height = cuda_layer_tile_rows(&b->config),
	});
}

static void finish_pass(struct backend *b, struct cuda_pass *p)
{
	uint32_t number = (p->started - 1) % SLOTS;
	const struct slot *slot = &p->slots[number];
	size_t bytes = (size_t)slot->suffixes * p->exits * sizeof(float);
	b->device_table->fetch(b->device, slot->host_z, p->readings, bytes);
	b->device_table->fetch(b->device, slot->host_p, p->history, bytes);
	b->device_table->fetch(b->device, slot->host_left, p->left, slot->suffixes * sizeof *p->left);
	b->device_table->mark(b->device, MARK_RESULTS + number);
	p->queueing = false;
}

/* A layer, or at an exit the part of it up to the decision. */
static void queue_layer(struct backend *b, struct cuda_pass *p)
{
	const struct device_layout *at = &p->layouts[p->layout];
	const struct device_counts *bound = &p->bound;
	cuda_layer_begin(b, p->layer, at->positions, bound->rows, &at->counts->rows);
	if (p->layers[p->exit] != p->layer + 1) {
		cuda_layer_finish(b, p->layer, &(struct cuda_rows){
			.count = bound->rows, .live = &at->counts->rows, .tiles = at->tiles,
			.tiles_count = bound->tiles, .tiles_live = &at->counts->tiles, .segments = at->segments,
			.instruction = p->instruction,
		});
		p->layer++;
		return;
	}
	cuda_layer_finish(b, p->layer, &(struct cuda_rows){
		.list = at->last_rows, .count = bound->suffixes, .live = &at->counts->suffixes,
		.tiles = at->last_tiles, .tiles_count = bound->suffixes, .tiles_live = &at->counts->suffixes,
		.segments = at->segments, .instruction = p->instruction,
	});
	decide(b, p);
	if (p->exit + 1 == p->exits) {
		finish_pass(b, p);
		return;
	}
	arrange(b, p, at->segments, at->counts, p->leaving, !p->layout);
	b->device_table->fetch(b->device, p->known, p->layouts[!p->layout].counts, sizeof *p->known);
	b->device_table->mark(b->device, MARK_COUNTS);
	p->bound.rest_rows = bound->rows;
	p->bound.rest_tiles = bound->tiles;
	p->asked = p->rest = true;
}

/* The rest of an exit's layer for who stays, who then moves together. */
static void queue_rest(struct backend *b, struct cuda_pass *p)
{
	const struct device_counts *counts = p->layouts[!p->layout].counts;
	cuda_layer_finish(b, p->layer, &(struct cuda_rows){
		.list = p->rest_rows, .count = p->bound.rest_rows, .live = &counts->rest_rows,
		.tiles = p->rest_tiles, .tiles_count = p->bound.rest_tiles, .tiles_live = &counts->rest_tiles,
		.segments = p->layouts[p->layout].segments, .instruction = p->instruction,
	});
	b->device_table->gather(b->device, &(struct gather_work){
		.from = b->hidden[b->current], .kept = p->kept, .to = b->hidden[!b->current],
		.count = p->bound.rows, .width = b->config.hidden_size, .live = &counts->rows,
	});
	b->current = !b->current;
	p->layout = !p->layout;
	p->rest = false;
	p->exit++;
	p->layer++;
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* False: the counts are on their way, and worth waiting for. */
static bool know_counts(struct backend *b, struct cuda_pass *p, bool wait)
{
	if (!p->asked)
		return true;
	bool large = p->bound.rows * backend_layer_flops(&b->config) > b->multiprocessors * round_trip_flops;
	if (!b->device_table->reached(b->device, MARK_COUNTS, large && wait))
		return !large;
	const struct device_counts *known = p->known;
	struct device_counts *bound = &p->bound;
	p->asked = false;
	/* A device that was lost tells anything: never more than before. */
	*bound = (struct device_counts){
		.rows = lesser(bound->rows, known->rows), .suffixes = lesser(bound->suffixes, known->suffixes),
		.segments = lesser(bound->segments, known->segments), .tiles = lesser(bound->tiles, known->tiles),
		.rest_rows = lesser(bound->rest_rows, known->rest_rows),
		.rest_tiles = lesser(bound->rest_tiles, known->rest_tiles),
	};
	return true;
}

static void queue_on(struct backend *b, struct cuda_pass *p, bool wait)
{
	while (p->queueing && know_counts(b, p, wait)) {
		if (!p->bound.suffixes)
			finish_pass(b, p);
		else if (p->rest)
			queue_rest(b, p);
		else
			queue_layer(b, p);
	}
}

/* ---- the slots ---- */

/* Copies the batch to pinned memory and counts it. */
static void fill_slot(struct backend *b, struct cuda_pass *p, const struct batch *batch, struct slot *slot)
{
	uint32_t height = cuda_layer_tile_rows(&b->config), place = 0;
	p->bound = (struct device_counts){
		.rows = batch->rows, .suffixes = batch->suffixes, .segments = batch->segments_count,
	};
	for (uint32_t s = 0; s < batch->segments_count; s++) {
		const struct batch_segment *from = &batch->segments[s];
		struct device_segment *to = &slot->host_segments[s];
		*to = (struct device_segment){
			.first_row = from->first_row, .count = from->count, .prefix = DEVICE_NO_PREFIX,
			.first_position = from->first_position, .ordinal = from->ordinal,
		};
		if (from->prefix != BATCH_NO_PREFIX) {
			to->prefix = from->prefix;
			to->prefix_row = batch->segments[from->prefix].first_row;
			to->prefix_count = batch->segments[from->prefix].count;
			to->place = place++;
		}
		p->bound.tiles += (from->count + height - 1) / height;
	}
	memcpy(slot->host_ids, batch->ids, batch->rows * sizeof *batch->ids);
	*slot->host_counts = p->bound;
	slot->suffixes = batch->suffixes;
	if (batch->before)
		memcpy(slot->host_before, batch->before,
		       (size_t)batch->suffixes * p->exits * sizeof *batch->before);
}

enum status cuda_pass_start(struct backend *b, const struct batch *batch, struct error *error)
{
	const struct device_table *table = b->device_table;
	struct cuda_pass *p = b->pass;
	if (b->trouble.status)
		return error_set(error, b->trouble.status, "%s", b->trouble.text);
	struct slot *slot = &p->slots[p->started++ % SLOTS];
	fill_slot(b, p, batch, slot);
	table->send_ahead(b->device, slot->ids, slot->host_ids, batch->rows * sizeof *slot->ids);
	table->send_ahead(b->device, slot->segments, slot->host_segments,
			  batch->segments_count * sizeof *slot->segments);
	table->send_ahead(b->device, slot->counts, slot->host_counts, sizeof *slot->counts);
	p->has_before = batch->before != NULL;
	if (p->has_before)
		table->send_ahead(b->device, slot->before, slot->host_before,
				  (size_t)batch->suffixes * p->exits * sizeof *slot->before);
	table->join_ahead(b->device);
	table->embed(b->device, &(struct embed_work){
		.ids = slot->ids, .table = b->weights.embedding, .hidden = b->hidden[b->current],
		.count = batch->rows, .width = b->config.hidden_size,
	});
	p->layer = p->exit = p->layout = 0;
	p->instruction = batch->instruction;
	p->rest = p->asked = false;
	p->queueing = true;
	arrange(b, p, slot->segments, slot->counts, NULL, p->layout);
	queue_on(b, p, false);
	return STATUS_OK;
}

void cuda_pass_drive(struct backend *b)
{
	queue_on(b, b->pass, true);
}

enum status cuda_pass_collect(struct backend *b, struct pass_result *out, struct error *error)
{
	struct cuda_pass *p = b->pass;
	uint32_t number = p->collected++ % SLOTS;
	const struct slot *slot = &p->slots[number];
	b->device_table->reached(b->device, MARK_RESULTS + number, true);
	enum status status = b->device_table->state(b->device, error);
	if (status) {
		if (!b->trouble.status)
			error_set(&b->trouble, status, "%s", error ? error->text : "the GPU was lost");
		return status;
	}
	*out = (struct pass_result){slot->host_z, slot->host_p, slot->host_left};
	return STATUS_OK;
}
