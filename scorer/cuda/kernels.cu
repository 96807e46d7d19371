/* kernels.cu - everything between two matrix products: norms, rotation, activation, residuals, heads.
 *
 * Idea: one warp answers one row, lanes take its elements in turn, so a row's bits depend on its own numbers
 * alone and no launch depends on how rows are packed. Rows past the count do nothing.
 * Caller: the table's launches below, one thread. */
#include "scorer/cuda/kernels.cuh"

#include <float.h>
#include <math.h>

static constexpr uint32_t THREADS = 128, WARPS = THREADS / WARP;

DEVICE uint32_t row_of_warp(void)
{
	return block_index() * WARPS + thread_index() / WARP;
}

static uint32_t blocks_for(uint32_t rows)
{
	return (rows + WARPS - 1) / WARPS;
}

KERNEL(embed, THREADS)(struct embed_work work)
{
	GLOBAL(const int32_t) ids = global(work.ids);
	GLOBAL(const device_half) table = global(work.table);
	GLOBAL(float) hidden = global(work.hidden);
	uint32_t row = row_of_warp();
	if (row >= work.count)
		return;
	size_t from = (size_t)ids[row] * work.width, to = (size_t)row * work.width;
	for (uint32_t i = thread_index() % WARP; i < work.width; i += WARP)
		hidden[to + i] = half_to_float(table[from + i]);
}

KERNEL(norm, THREADS)(struct norm_work work)
{
	GLOBAL(float) hidden = global(work.hidden);
	GLOBAL(const device_half) delta = global(work.delta);
	GLOBAL(const uint32_t) rows = global(work.rows);
	GLOBAL(const float) weight = global(work.weight);
	GLOBAL(device_half) normed = global(work.normed);
	uint32_t place = row_of_warp(), lane = thread_index() % WARP;
	if (place >= live_count(work.live, work.count))
		return;
	size_t row = (work.rows ? rows[place] : place) * (size_t)work.width;
	size_t dense = place * (size_t)work.width;
	float squares = 0;
	for (uint32_t i = lane; i < work.width; i += WARP) {
		float x = hidden[row + i];
		if (work.delta) {
			x += half_to_float(delta[dense + i]) * DEVICE_SHRINK;
			hidden[row + i] = x;
		}
		squares += x * x;
	}
	if (!work.weight)
		return;
	float scale = 1 / sqrtf(warp_sum(squares) / (float)work.width + work.epsilon);
	for (uint32_t i = lane; i < work.width; i += WARP)
		normed[dense + i] = half_from_float(hidden[row + i] * scale * weight[i]);
}

/* Each lane owns pairs (i, i + half) of all heads: nobody else reads what it writes. */
KERNEL(rope, THREADS)(struct rope_work work)
{
	GLOBAL(device_half) qkv = global(work.qkv);
	GLOBAL(const float) bias = global(work.bias);
	GLOBAL(const uint32_t) positions = global(work.positions);
	GLOBAL(const float) cosines = global(work.cosines);
	GLOBAL(const float) sines = global(work.sines);
	uint32_t row = row_of_warp(), half = work.head_size / 2;
	if (row >= live_count(work.live, work.count))
		return;
	uint32_t heads = work.heads + 2 * work.kv_heads, turned = work.heads + work.kv_heads;
	size_t base = (size_t)row * heads * work.head_size, angle = (size_t)positions[row] * half;
	uint32_t pairs = (work.bias ? heads : turned) * half;
	for (uint32_t pair = thread_index() % WARP; pair < pairs; pair += WARP) {
		uint32_t head = pair / half, i = pair % half;
		uint32_t low = head * work.head_size + i, high = low + half;
		float first = half_to_float(qkv[base + low]), second = half_to_float(qkv[base + high]);
		if (work.bias) {
			first += bias[low];
			second += bias[high];
		}
		float cosine = head < turned ? cosines[angle + i] : 1, sine = head < turned ? sines[angle + i] : 0;
		qkv[base + low] = half_from_float(first * cosine - second * sine);
		qkv[base + high] = half_from_float(second * cosine + first * sine);
	}
}

KERNEL(swiglu, THREADS)(struct swiglu_work work)
{
	GLOBAL(const device_half) gate_up = global(work.gate_up);
	GLOBAL(device_half) out = global(work.out);
	uint32_t row = row_of_warp();
	if (row >= live_count(work.live, work.count))
		return;
	size_t from = (size_t)row * 2 * work.width, to = (size_t)row * work.width;
	for (uint32_t i = thread_index() % WARP; i < work.width; i += WARP) {
		float gate = half_to_float(gate_up[from + i]);
		float up = half_to_float(gate_up[from + work.width + i]);
		out[to + i] = half_from_float(gate / (1 + expf(-gate)) * up / DEVICE_SHRINK);
	}
}

KERNEL(gather, THREADS)(struct gather_work work)
{
	GLOBAL(const float) from = global(work.from);
	GLOBAL(const uint32_t) kept = global(work.kept);
	GLOBAL(float) to = global(work.to);
	uint32_t row = row_of_warp();
	if (row >= live_count(work.live, work.count))
		return;
	size_t source = (size_t)kept[row] * work.width, target = (size_t)row * work.width;
	for (uint32_t i = thread_index() % WARP; i < work.width; i += WARP)
		to[target + i] = from[source + i];
}

KERNEL(head, THREADS)(struct head_work work)
{
	GLOBAL(const float) hidden = global(work.hidden);
	GLOBAL(const uint32_t) rows = global(work.rows);
	GLOBAL(const float) weight = global(work.norm);
	GLOBAL(const float) vector = global(work.vector);
	GLOBAL(float) z = global(work.z);
	uint32_t place = row_of_warp(), lane = thread_index() % WARP;
	if (place >= live_count(work.live, work.count))
		return;
	size_t row = (size_t)rows[place] * work.width;
	float squares = 0, sum = 0;
	for (uint32_t i = lane; i < work.width; i += WARP) {
		float x = hidden[row + i];
		squares += x * x;
		sum += x * weight[i] * vector[i];
	}
	float scale = 1 / sqrtf(warp_sum(squares) / (float)work.width + work.epsilon);
	sum = warp_sum(sum);
	if (lane == 0)
		z[place] = sum * scale;
}

/* ---- the exit decision: exit_policy.c says what the rules mean ---- */

DEVICE float probability(double z)
{
	double p = z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
	float narrow = (float)p;
	return narrow < FLT_MIN ? FLT_MIN : narrow > 1 - FLT_EPSILON / 2 ? 1 - FLT_EPSILON / 2 : narrow;
}

DEVICE bool by_discrepancy(const struct decide_work &work, GLOBAL(const float) p, size_t base)
{
	if (work.exit < 2)
		return false;
	uint32_t earlier = work.exit - 1, used = earlier < work.window ? earlier : work.window;
	double sum = 0;
	for (uint32_t i = earlier - used; i < earlier; i++)
		sum += fabsf(p[base + i + 1] - p[base + i]);
	float mean = (float)(sum / (double)used);
	float newest = fabsf(p[base + work.exit] - p[base + work.exit - 1]);
	return fabs((double)newest - (double)mean) < work.threshold;
}

DEVICE bool by_patience(const struct decide_work &work, GLOBAL(const float) p, size_t base)
{
	uint32_t unchanged = 0;
	for (uint32_t i = work.exit; i > 0; i--, unchanged++)
		if ((p[base + i] > .5f) != (p[base + i - 1] > .5f))
			break;
	return unchanged >= work.window;
}

/* A lane for each suffix. The numbers of the rules are enum exit_rule's; kernels_check() in
 * scorer/cuda_backend.c holds them together. */
KERNEL(decide, THREADS)(struct decide_work work)
{
	GLOBAL(const float) z = global(work.z);
	GLOBAL(const double) before = global(work.before);
	GLOBAL(const uint32_t) ordinals = global(work.ordinals);
	GLOBAL(float) history = global(work.history);
	GLOBAL(uint32_t) leaving = global(work.leaving);
	GLOBAL(float) readings = global(work.readings);
	GLOBAL(uint32_t) left = global(work.left);
	uint32_t i = block_index() * THREADS + thread_index();
	if (i >= live_count(work.live, work.count))
		return;
	size_t base = (size_t)ordinals[i] * work.exits;
	double known = work.before ? before[base + work.exit] : 0;
	float p = probability((double)z[i] + known);
	history[base + work.exit] = p;
	bool leave = work.exit + 1 == work.exits;
	if (work.rule == 0)
		leave |= by_discrepancy(work, history, base);
	else if (work.rule == 1)
		leave |= (p > .5 ? (double)p : 1 - (double)p) >= work.threshold;
	else if (work.rule == 2)
		leave |= by_patience(work, history, base);
	else if (work.rule == 3)
		leave |= !isnan(work.threshold) && work.layer >= work.threshold;
	leaving[i] = leave;
	if (work.readings)
		readings[base + work.exit] = z[i];
	if (work.left && leave)
		left[ordinals[i]] = work.exit + 1;
}

/* ---- launches ---- */

void launch_embed(struct device *device, const struct embed_work *work)
{
	LAUNCH(embed, blocks_for(work->count), 1, THREADS, device, *work);
}

void launch_norm(struct device *device, const struct norm_work *work)
{
	LAUNCH(norm, blocks_for(work->count), 1, THREADS, device, *work);
}

void launch_rope(struct device *device, const struct rope_work *work)
{
	LAUNCH(rope, blocks_for(work->count), 1, THREADS, device, *work);
}

void launch_swiglu(struct device *device, const struct swiglu_work *work)
{
	LAUNCH(swiglu, blocks_for(work->count), 1, THREADS, device, *work);
}

void launch_gather(struct device *device, const struct gather_work *work)
{
	LAUNCH(gather, blocks_for(work->count), 1, THREADS, device, *work);
}

void launch_head(struct device *device, const struct head_work *work)
{
	LAUNCH(head, blocks_for(work->count), 1, THREADS, device, *work);
}

void launch_decide(struct device *device, const struct decide_work *work)
{
	LAUNCH(decide, (work->count + THREADS - 1) / THREADS, 1, THREADS, device, *work);
}
