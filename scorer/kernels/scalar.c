/* scalar.c - the kernels in plain C: for CPUs without AVX2, and the bits that all others must give.
 * Caller: cpu.c through the table. */
#include "scorer/kernels/kernels.h"
#include "scorer/kernels/bf16.h"
#include "scorer/kernels/lanes.h"

static void tile(size_t rows, size_t depth, const float *a, size_t a_stride, const float *b,
		 size_t b_stride, float *c, size_t c_stride, bool accumulate)
{
	for (size_t row = 0; row < rows; row++) {
		float sum[TILE_COLUMNS];
		for (size_t column = 0; column < TILE_COLUMNS; column++)
			sum[column] = accumulate ? c[row * c_stride + column] : 0;
		for (size_t k = 0; k < depth; k++)
			for (size_t column = 0; column < TILE_COLUMNS; column++)
				sum[column] = fmaf(a[row * a_stride + k], b[k * b_stride + column],
						   sum[column]);
		memcpy(c + row * c_stride, sum, sizeof sum);
	}
}

static void tile_bf16(size_t rows, size_t depth, const float *a, size_t a_stride, const uint32_t *b, float *c,
		      size_t c_stride, bool accumulate)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t column = 0; column < TILE_COLUMNS; column++) {
			float sum = accumulate ? c[row * c_stride + column] : 0;
			for (size_t k = 0; k < depth; k++) {
				uint32_t word = b[k * (TILE_COLUMNS / 2) + column % 8];
				sum = fmaf(a[row * a_stride + k],
					   bf16_widen((uint16_t)(column < 8 ? word : word >> 16)), sum);
			}
			c[row * c_stride + column] = sum;
		}
}

static void rms_norm(size_t count, const float *x, const float *weight, float epsilon, float *out)
{
	float lane[LANES] = {0};
	for (size_t i = 0; i < count; i++)
		lane[i % LANES] = fmaf(x[i], x[i], lane[i % LANES]);
	float scale = rms_scale(lanes_sum(lane), count, epsilon);
	for (size_t i = 0; i < count; i++)
		out[i] = x[i] * scale * weight[i];
}

static float softmax(size_t count, float scale, float *s)
{
	float max = s[0];
	for (size_t i = 1; i < count; i++)
		max = s[i] > max ? s[i] : max;
	float shift = -(max * scale), lane[LANES] = {0};
	for (size_t i = 0; i < count; i++) {
		s[i] = lane_exp(fmaf(s[i], scale, shift));
		lane[i % LANES] += s[i];
	}
	return lanes_sum(lane);
}

static void swiglu(size_t count, float *gate, const float *up)
{
	for (size_t i = 0; i < count; i++)
		gate[i] = lane_swiglu(gate[i], up[i]);
}

const struct kernels kernels_scalar = {
	.name = "plain C",
	.need = "nothing",
	.tile = tile,
	.tile_bf16 = tile_bf16,
	.rms_norm = rms_norm,
	.softmax = softmax,
	.swiglu = swiglu,
};
