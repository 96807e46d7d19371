/* lanes.h - one lane of each kernel in plain C: the definition that every vector version must match bit
 * for bit, and what they use for the last few elements of a row. Private to scorer/kernels/. */
#ifndef EXITPOLL_SCORER_KERNELS_LANES_H
#define EXITPOLL_SCORER_KERNELS_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 8 };

/* exp(x) = 2^n exp(r), |r| <= ln(2)/2; ln(2) in two parts, so that n ln(2) is exact in the first; minimax
 * polynomial of degree 6 (Cephes). Error below 2 units in the last place. */
#define EXP_LIMIT 87.0f
#define EXP_LOG2E 1.44269504f
#define EXP_LN2_HIGH 0.693359375f
#define EXP_LN2_LOW -2.12194440e-4f
#define EXP_P0 1.9875691500e-4f
#define EXP_P1 1.3981999507e-3f
#define EXP_P2 8.3334519073e-3f
#define EXP_P3 4.1665795894e-2f
#define EXP_P4 1.6666665459e-1f
#define EXP_P5 5.0000001201e-1f

static inline float lane_exp(float x)
{
	x = x < -EXP_LIMIT ? -EXP_LIMIT : x > EXP_LIMIT ? EXP_LIMIT : x;
	float n = rintf(x * EXP_LOG2E);
	float r = fmaf(n, -EXP_LN2_HIGH, x);
	r = fmaf(n, -EXP_LN2_LOW, r);
	float p = fmaf(EXP_P0, r, EXP_P1);
	p = fmaf(p, r, EXP_P2);
	p = fmaf(p, r, EXP_P3);
	p = fmaf(p, r, EXP_P4);
	p = fmaf(p, r, EXP_P5);
	p = fmaf(p, r * r, r) + 1.0f;
	uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
	float power;
	memcpy(&power, &bits, sizeof power);
	return p * power;
}

static inline float lane_swiglu(float gate, float up)
{
	return gate / (1.0f + lane_exp(-gate)) * up;
}

/* The fixed tree that turns eight partial sums into one. */
static inline float lanes_sum(const float lane[LANES])
{
	return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static inline float rms_scale(float squares, size_t count, float epsilon)
{
	return 1.0f / sqrtf(squares / (float)count + epsilon);
}

#endif
