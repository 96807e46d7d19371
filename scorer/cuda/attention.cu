/* attention.cu - packed, prefix-sharing attention on tensor cores, one launch for the whole micro-batch.
 *
 * A block answers one tile of one key-value head: up to 64 queries (rows of one segment times the query heads
 * of the group), 16 to a warp. It walks over positions in steps of 64, wherever their keys lie (instruction,
 * prefix, the segment's own rows), and keeps a running maximum and sum in fp32 ("online softmax", Milakov and
 * Gimelshein, arXiv 1805.02867; tiling as in FlashAttention, arXiv 2205.14135). Invariant: steps are cut by
 * position, and a step that a row does not see changes none of its bits; so a shared prefix gives the same bits
 * as a prompt alone.
 * Caller: launch_attention(), one thread. */
#include "scorer/cuda/kernels.cuh"

#include <math.h>

static constexpr uint32_t THREADS = 128, KEYS = 64, PAD = 8, WARP_QUERIES = 16;
static_assert(THREADS / WARP * WARP_QUERIES == (uint32_t)DEVICE_TILE_QUERIES, "four warps of 16 queries");

/* Copies the keys at positions [start, start + KEYS) into shared memory, values transposed; what is not
 * there, or no row of the tile sees, is 0. */
template <uint32_t HEAD>
DEVICE void load_keys(const struct attention_work &work, const struct device_segment &segment, uint32_t kv_head,
		      uint32_t start, uint32_t end, SHARED_POINTER(device_half) keys,
		      SHARED_POINTER(device_half) values)
{
	GLOBAL(const device_half) kept = global(work.kept);
	GLOBAL(const device_half) qkv = global(work.qkv);
	size_t kv = (size_t)work.kv_heads * work.head_size, query = (size_t)work.heads * work.head_size;
	uint32_t shared_end = work.instruction + segment.prefix_count;
	for (uint32_t i = thread_index(); i < KEYS * (HEAD / 8); i += THREADS) {
		/* Neighbouring threads take neighbouring keys: their values land in neighbouring columns. */
		uint32_t key = i % KEYS, dim = i / KEYS * 8, position = start + key;
		size_t at = (size_t)kv_head * work.head_size + dim;
		octet k = {{0}}, v = {{0}};
		if (position < end && dim < work.head_size) {
			if (position < work.instruction) {
				at += position * 2 * kv;
				k = load_octet(kept + at);
				v = load_octet(kept + (at + kv));
			} else {
				uint32_t row = position < shared_end
						   ? segment.prefix_row + position - work.instruction
						   : segment.first_row + position - shared_end;
				at += row * (query + 2 * kv) + query;
				k = load_octet(qkv + at);
				v = load_octet(qkv + (at + kv));
			}
		}
		UNROLL
		for (uint32_t j = 0; j < 8; j++) {
			keys[key * (HEAD + PAD) + dim + j] = k.lane[j];
			values[(dim + j) * (KEYS + PAD) + key] = v.lane[j];
		}
	}
}

/* One warp's 16 queries: fragments of mma.m16n8k16, rows g and g + 8 of the lane. */
template <uint32_t HEAD>
struct queries {
	uint32_t q[HEAD / 16][4];
	float mixed[HEAD / 8][4];
	float largest[2], sum[2];
	uint32_t visible[2];            /* positions that the row sees: its own and all before */
};

template <uint32_t HEAD>
DEVICE void step_over_keys(struct queries<HEAD> &s, SHARED_POINTER(const device_half) keys,
			   SHARED_POINTER(const device_half) values, uint32_t start, float scale)
{
	uint32_t lane = thread_index() % WARP, g = lane / 4, t = lane % 4;
	float score[KEYS / 8][4], largest[2] = {s.largest[0], s.largest[1]};
	UNROLL
	for (uint32_t n = 0; n < KEYS / 8; n++) {
		score[n][0] = score[n][1] = score[n][2] = score[n][3] = 0;
		UNROLL
		for (uint32_t k = 0; k < HEAD / 16; k++) {
			uint32_t at = (n * 8 + g) * (HEAD + PAD) + k * 16 + t * 2;
			uint32_t b[2] = {load_pair(keys + at), load_pair(keys + (at + 8))};
			warp_product(score[n], s.q[k], b);
		}
		UNROLL
		for (uint32_t i = 0; i < 4; i++) {
			uint32_t key = start + n * 8 + t * 2 + i % 2;
			score[n][i] = key < s.visible[i / 2] ? score[n][i] * scale : -INFINITY;
			largest[i / 2] = fmaxf(largest[i / 2], score[n][i]);
		}
	}
	float shrink[2], sum[2] = {0, 0};
	UNROLL
	for (uint32_t r = 0; r < 2; r++) {
		largest[r] = fmaxf(largest[r], warp_xor(largest[r], 1));
		largest[r] = fmaxf(largest[r], warp_xor(largest[r], 2));
		shrink[r] = exp2f(s.largest[r] - largest[r]);
		s.largest[r] = largest[r];
	}
	UNROLL
	for (uint32_t n = 0; n < KEYS / 8; n++)
		UNROLL
		for (uint32_t i = 0; i < 4; i++) {
			score[n][i] = exp2f(score[n][i] - largest[i / 2]);
			sum[i / 2] += score[n][i];
		}
	UNROLL
	for (uint32_t r = 0; r < 2; r++) {
		sum[r] += warp_xor(sum[r], 1);
		sum[r] += warp_xor(sum[r], 2);
		s.sum[r] = s.sum[r] * shrink[r] + sum[r];
	}
	UNROLL
	for (uint32_t n = 0; n < HEAD / 8; n++) {
		UNROLL
		for (uint32_t i = 0; i < 4; i++)
			s.mixed[n][i] *= shrink[i / 2];
		UNROLL
		for (uint32_t k = 0; k < KEYS / 16; k++) {
			const float *low = score[2 * k], *high = score[2 * k + 1];
			uint32_t a[4] = {pack_pair(low[0], low[1]), pack_pair(low[2], low[3]),
					 pack_pair(high[0], high[1]), pack_pair(high[2], high[3])};
			uint32_t at = (n * 8 + g) * (KEYS + PAD) + k * 16 + t * 2;
			uint32_t b[2] = {load_pair(values + at), load_pair(values + (at + 8))};
			warp_product(s.mixed[n], a, b);
		}
	}
}

template <uint32_t HEAD>
KERNEL(attention, THREADS)(struct attention_work work)
{
	SHARED(device_half, keys, KEYS * (HEAD + PAD));
	SHARED(device_half, values, HEAD * (KEYS + PAD));
	GLOBAL(const struct device_tile) tiles = global(work.tiles);
	GLOBAL(const struct device_segment) segments = global(work.segments);
	GLOBAL(const uint32_t) rows = global(work.rows);
	GLOBAL(const device_half) qkv = global(work.qkv);
	GLOBAL(device_half) mixed = global(work.mixed);
	if (block_index() >= live_count(work.live, work.tiles_count))
		return;
	struct device_tile tile = tiles[block_index()];
	struct device_segment segment = segments[tile.segment];
	uint32_t kv_head = block_index_y(), group = work.heads / work.kv_heads;
	uint32_t lane = thread_index() % WARP, g = lane / 4, t = lane % 4;
	uint32_t first_query = thread_index() / WARP * WARP_QUERIES, queries_count = tile.count * group;
	size_t step = (size_t)(work.heads + 2 * work.kv_heads) * work.head_size;
	bool busy = first_query < queries_count;

	struct queries<HEAD> s;
	size_t place[2];                /* of the row's answer */
	uint32_t before = work.instruction + segment.prefix_count, last = tile.first + tile.count - 1;
	uint32_t end = before + (work.rows ? rows[last] : last) - segment.first_row + 1;
	UNROLL
	for (uint32_t r = 0; r < 2; r++) {
		uint32_t query = first_query + g + 8 * r;
		bool there = query < queries_count;
		uint32_t in_tile = there ? query / group : 0;
		uint32_t head = kv_head * group + (there ? query % group : 0), list = tile.first + in_tile;
		uint32_t row = work.rows ? rows[list] : list;
		place[r] = there ? ((size_t)list * work.heads + head) * work.head_size : SIZE_MAX;
		s.visible[r] = before + row - segment.first_row + 1;
		s.largest[r] = -INFINITY;
		s.sum[r] = 0;
		size_t from = row * step + (size_t)head * work.head_size;
		UNROLL
		for (uint32_t k = 0; k < HEAD / 16; k++)
			UNROLL
			for (uint32_t half = 0; half < 2; half++) {
				uint32_t dim = k * 16 + half * 8 + t * 2;
				s.q[k][half * 2 + r] =
				    dim < work.head_size ? load_pair(qkv + (from + dim)) : 0;
			}
	}
	UNROLL
	for (uint32_t n = 0; n < HEAD / 8; n++)
		s.mixed[n][0] = s.mixed[n][1] = s.mixed[n][2] = s.mixed[n][3] = 0;

	/* exp2f: the scale carries log2(e). */
	float scale = 1.44269504f / sqrtf((float)work.head_size);
	for (uint32_t start = 0; start < end; start += KEYS) {
		load_keys<HEAD>(work, segment, kv_head, start, end, keys, values);
		block_barrier();
		if (busy)
			step_over_keys<HEAD>(s, keys, values, start, scale);
		block_barrier();
	}
	UNROLL
	for (uint32_t r = 0; r < 2; r++)
		if (place[r] != SIZE_MAX)
			UNROLL
			for (uint32_t n = 0; n < HEAD / 8; n++)
				UNROLL
				for (uint32_t i = 0; i < 2; i++) {
					uint32_t dim = n * 8 + t * 2 + i;
					if (dim < work.head_size)
						mixed[place[r] + dim] =
						    half_from_float(s.mixed[n][r * 2 + i] / s.sum[r]);
				}
}

void launch_attention(struct device *device, const struct attention_work *work)
{
	if (work->head_size <= 32)
		LAUNCH(attention<32>, work->tiles_count, work->kv_heads, THREADS, device, *work);
	else if (work->head_size <= 64)
		LAUNCH(attention<64>, work->tiles_count, work->kv_heads, THREADS, device, *work);
	else
		LAUNCH(attention<128>, work->tiles_count, work->kv_heads, THREADS, device, *work);
}
