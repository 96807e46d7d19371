/* half.h - fp16 (IEEE 754 binary16) beside fp32, for what a GPU multiplies and what files store. Compiles as C and
 * as C++. Pure functions; any thread. */
#ifndef EXITPOLL_SCORER_HALF_H
#define EXITPOLL_SCORER_HALF_H

#include <stdint.h>
#include <string.h>

/* The magnitude shifted into place is the value times 2^-112, subnormals included, and that product is
 * exact; infinities and NaNs keep their payload. */
static inline float half_widen(uint16_t half)
{
	uint32_t magnitude = half & 0x7fffu, bits = magnitude << 13;
	float value;
	memcpy(&value, &bits, sizeof value);
	value *= 0x1p112f;
	memcpy(&bits, &value, sizeof bits);
	bits = magnitude >= 0x7c00u ? 0x7f800000u | magnitude << 13 : bits;
	bits |= (uint32_t)(half & 0x8000u) << 16;
	memcpy(&value, &bits, sizeof value);
	return value;
}

/* To the nearest fp16, ties to even; from 65,520 on infinite, NaN as a GPU's conversion gives it. */
static inline uint16_t half_round(float x)
{
	uint32_t bits, sign;
	memcpy(&bits, &x, sizeof bits);
	sign = bits >> 16 & 0x8000u;
	bits &= 0x7fffffffu;
	if (bits > 0x7f800000u)
		return 0x7fff;
	if (bits >= 0x477ff000u)
		return (uint16_t)(sign | 0x7c00u);
	if (bits < 0x38800000u) {
		/* Subnormal: 0.5's own last place is 2^-24, so this addition rounds to it. */
		float value;
		memcpy(&value, &bits, sizeof value);
		value += .5f;
		memcpy(&bits, &value, sizeof bits);
		return (uint16_t)(sign | (bits - 0x3f000000u));
	}
	bits += 0xfffu + (bits >> 13 & 1);
	return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

#endif
