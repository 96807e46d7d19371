/* arrange.cu - the packed batch after an exit, made on the device: who stays moves together, and every list that the
 * next layers read is written anew.
 *
 * Two launches: one block counts (a scan over segments: where does each go?), then a warp for each segment writes its
 * rows and tiles. Invariant: the result is batch_compact()'s of the host, entry for entry.
 * Caller: scorer/cuda_pass.c through the table. */
#include "scorer/cuda/kernels.cuh"

static constexpr uint32_t THREADS = 128, WARPS = THREADS / WARP;

DEVICE uint32_t rest_of(const struct device_segment &segment)
{
	return segment.count - (segment.prefix != DEVICE_NO_PREFIX);
}

/* What a segment that stays adds to the counts of those after it. */
DEVICE void add_segment(const struct device_segment &segment, uint32_t height, uint32_t counts[DEVICE_COUNTS])
{
	counts[0] += segment.count;
	counts[1] += segment.prefix != DEVICE_NO_PREFIX;
	counts[2]++;
	counts[3] += (segment.count + height - 1) / height;
	counts[4] += rest_of(segment);
	counts[5] += (rest_of(segment) + height - 1) / height;
}

KERNEL(survey, THREADS)(struct arrange_work work)
{
	SHARED(uint32_t, sums, THREADS * DEVICE_COUNTS);
	GLOBAL(const struct device_segment) segments = global(work.segments);
	GLOBAL(const struct device_counts) counts = global(work.counts);
	GLOBAL(const uint32_t) leaving = global(work.leaving);
	GLOBAL_SHARED(struct device_place) places = global(work.places);
	GLOBAL(struct device_segment) moved = global(work.to.segments);
	GLOBAL(uint32_t) totals = global((uint32_t *)work.to.counts);
	uint32_t count = counts[0].segments, share = (count + THREADS - 1) / THREADS, self = thread_index();
	uint32_t begin = self * share < count ? self * share : count;
	uint32_t end = begin + share < count ? begin + share : count;

	for (uint32_t s = begin; s < end; s++)
		places[s].alive = 0;
	block_barrier();
	for (uint32_t s = begin; s < end; s++) {
		uint32_t prefix = segments[s].prefix;
		if (prefix == DEVICE_NO_PREFIX || (work.leaving && leaving[segments[s].place]))
			continue;
		places[s].alive = 1;
		places[prefix].alive = 1;
	}
	block_barrier();
	uint32_t mine[DEVICE_COUNTS] = {0};
	for (uint32_t s = begin; s < end; s++)
		if (places[s].alive)
			add_segment(segments[s], work.height, mine);
	for (uint32_t q = 0; q < DEVICE_COUNTS; q++)
		sums[self * DEVICE_COUNTS + q] = mine[q];
	block_barrier();
	if (self < DEVICE_COUNTS) {
		uint32_t before = 0;
		for (uint32_t t = 0; t < THREADS; t++) {
			uint32_t add = sums[t * DEVICE_COUNTS + self];
			sums[t * DEVICE_COUNTS + self] = before;
			before += add;
		}
		totals[self] = before;
	}
	block_barrier();
	for (uint32_t q = 0; q < DEVICE_COUNTS; q++)
		mine[q] = sums[self * DEVICE_COUNTS + q];
	for (uint32_t s = begin; s < end; s++) {
		if (!places[s].alive)
			continue;
		places[s] = {mine[0], mine[1], mine[2], mine[3], mine[4], mine[5], 1};
		add_segment(segments[s], work.height, mine);
	}
	block_barrier();
	for (uint32_t s = begin; s < end; s++) {
		struct device_segment segment = segments[s];
		if (!places[s].alive)
			continue;
		segment.first_row = places[s].row;
		if (segment.prefix != DEVICE_NO_PREFIX) {
			segment.place = places[s].suffix;
			segment.prefix_row = places[segment.prefix].row;
			segment.prefix = places[segment.prefix].segment;
		}
		moved[places[s].segment] = segment;
	}
}

/* Rows [first, first + count) of a list, all of one segment, as tiles. */
DEVICE void cut_tiles(GLOBAL(struct device_tile) tiles, uint32_t to, uint32_t first, uint32_t count, uint32_t segment,
		      uint32_t height)
{
	for (uint32_t i = thread_index() % WARP; i * height < count; i += WARP) {
		uint32_t left = count - i * height;
		tiles[to + i] = {first + i * height, left < height ? left : height, segment};
	}
}

KERNEL(spread, THREADS)(struct arrange_work work)
{
	GLOBAL(const struct device_segment) segments = global(work.segments);
	GLOBAL(const struct device_counts) counts = global(work.counts);
	GLOBAL(const struct device_place) places = global((const struct device_place *)work.places);
	GLOBAL(uint32_t) positions = global(work.to.positions);
	GLOBAL(uint32_t) kept = global(work.kept);
	GLOBAL(uint32_t) rest_rows = global(work.rest_rows);
	uint32_t s = block_index() * WARPS + thread_index() / WARP, lane = thread_index() % WARP;
	if (s >= counts[0].segments || !places[s].alive)
		return;
	struct device_segment segment = segments[s];
	struct device_place place = places[s];
	for (uint32_t i = lane; i < segment.count; i += WARP) {
		kept[place.row + i] = segment.first_row + i;
		positions[place.row + i] = segment.first_position + i;
		if (i < rest_of(segment))
			rest_rows[place.rest_row + i] = segment.first_row + i;
	}
	cut_tiles(global(work.to.tiles), place.tile, place.row, segment.count, place.segment, work.height);
	cut_tiles(global(work.rest_tiles), place.rest_tile, place.rest_row, rest_of(segment), s, work.height);
	if (segment.prefix == DEVICE_NO_PREFIX || lane)
		return;
	GLOBAL(uint32_t) last_rows = global(work.to.last_rows);
	GLOBAL(uint32_t) ordinals = global(work.to.ordinals);
	GLOBAL(struct device_tile) last_tiles = global(work.to.last_tiles);
	last_rows[place.suffix] = place.row + segment.count - 1;
	ordinals[place.suffix] = segment.ordinal;
	last_tiles[place.suffix] = {place.suffix, 1, place.segment};
}

void launch_arrange(struct device *device, const struct arrange_work *work)
{
	LAUNCH(survey, 1, 1, THREADS, device, *work);
	LAUNCH(spread, (work->segments_max + WARPS - 1) / WARPS, 1, THREADS, device, *work);
}
