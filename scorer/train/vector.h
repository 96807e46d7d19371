/* vector.h - sums of floats in a fixed order, and seeded draws: what training needs to give the same bytes
 * on every run, for any number of threads and any width of the machine's vectors. Pure functions. */
#ifndef EXITPOLL_SCORER_TRAIN_VECTOR_H
#define EXITPOLL_SCORER_TRAIN_VECTOR_H

#include <stddef.h>
#include <stdint.h>

/* a . b in eight lanes, added in a fixed order; compilers vectorise it as it stands. */
static inline float vector_dot(const float *a, const float *b, size_t count)
{
	float lanes[8] = {0};
	size_t i = 0;
	for (; i + 8 <= count; i += 8)
		for (int k = 0; k < 8; k++)
			lanes[k] += a[i + (size_t)k] * b[i + (size_t)k];
	float rest = 0;
	for (; i < count; i++)
		rest += a[i] * b[i];
	return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7])) +
	       rest;
}

/* y += factor * x */
static inline void vector_add(float factor, const float *x, float *y, size_t count)
{
	for (size_t i = 0; i < count; i++)
		y[i] += factor * x[i];
}

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (splitmix64). */
static inline uint64_t vector_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* [0, 1) */
static inline double vector_uniform(uint64_t *state)
{
	return (double)(vector_random(state) >> 11) * 0x1p-53;
}

/* Fisher-Yates; the modulo's bias is below count / 2^64. */
static inline void vector_shuffle(uint32_t *order, size_t count, uint64_t *state)
{
	for (size_t i = count; i > 1; i--) {
		size_t j = (size_t)(vector_random(state) % i);
		uint32_t held = order[i - 1];
		order[i - 1] = order[j];
		order[j] = held;
	}
}

#endif
