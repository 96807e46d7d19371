/* nearest_codes.c - the plain version of the codes, and the choice among the three; see nearest_codes.h.
 * Called by nearest_rows.c and nearest.c; any thread. */
#include "graph-updater/nearest_codes.h"

#include <math.h>
#include <string.h>

/* ---- queries ---- */

void nearest_code_query(const int16_t *query, uint32_t dimensions, int64_t norm, struct nearest_code *out)
{
	double length = sqrt((double)norm), scale, error = 0;
	int32_t most = 0, sum = 0;

	memset(out->values, 0, sizeof out->values);
	for (uint32_t i = 0; i < dimensions; i++) {
		int32_t size = query[i] < 0 ? -query[i] : query[i];
		most = size > most ? size : most;
	}
	scale = (double)most / 127;
	for (uint32_t i = 0; i < dimensions; i++) {
		double code = rint(query[i] / scale), rest = query[i] - scale * code;
		out->values[i] = (int8_t)code;
		sum += (int32_t)code;
		error += rest * rest;
	}
	out->sum = sum;
	out->scale = (float)(scale / length);
	out->error = (float)(sqrt(error) / length * 1.0001 + 1e-7);
	out->root = (float)(1.001 * sqrt(dimensions));
}

float nearest_code_limit(double worst_cosine, const struct nearest_code *query)
{
	return worst_cosine < -1.5 ? -2 : (float)(worst_cosine - NEAREST_MARGIN - query->error);
}

/* ---- rows, plain ---- */

static float float_of(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof value);
	return value;
}

/* The least bfloat16 that is not below the (positive) value, in the upper half. */
static uint32_t round_up(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof bits);
	return (bits + 0xffff) & 0xffff0000;
}

/* Eight partial sums, as the vector ones have them: the same roundings. */
static float add_lanes(const float *lane)
{
	float four[4] = {lane[0] + lane[4], lane[1] + lane[5], lane[2] + lane[6], lane[3] + lane[7]};

	return (four[0] + four[2]) + (four[1] + four[3]);
}

static void scalar_encode(const int16_t *row, uint32_t dimensions, int64_t norm, uint32_t *head,
			  uint64_t *upper, uint64_t *lower)
{
	float length = (float)sqrt((double)norm), lane[8] = {0}, gain, inverse;
	int32_t most = 0;
	uint32_t gain_bits;

	memset(upper, 0, dimensions / 16 * sizeof *upper);
	memset(lower, 0, dimensions / 16 * sizeof *lower);
	*head = NEAREST_HEAD_NONE;
	if (!norm)
		return;
	for (uint32_t i = 0; i < dimensions; i++) {
		int32_t size = row[i] < 0 ? -row[i] : row[i];
		most = size > most ? size : most;
	}
	gain_bits = round_up((float)most / (255 * length) * 1.000001f);
	gain = float_of(gain_bits);
	inverse = 1 / (gain * length);
	for (uint32_t i = 0; i < dimensions; i++) {
		float steps = (float)row[i] * inverse, rest;
		int32_t value = (int32_t)rintf(steps * .5f + 127.5f);
		uint32_t half = i % 16 / 8 * 4, byte = i % 8 * 8;
		value = value < 0 ? 0 : value > 255 ? 255 : value;
		upper[i / 16] |= (uint64_t)(value >> 4) << (byte + half);
		lower[i / 16] |= (uint64_t)(value & 15) << (byte + half);
		rest = steps - (float)(32 * (value >> 4) - 240);
		lane[i % 8] += rest * rest;
	}
	*head = gain_bits | round_up(gain * sqrtf(add_lanes(lane)) * 1.0001f + 1e-6f) >> 16;
}

/* sum of query values times half bytes, of one row. */
static int32_t plain_dot(const int8_t *values, const uint64_t *plane, uint32_t row, uint32_t dimensions)
{
	int32_t dot = 0;

	for (uint32_t i = 0; i < dimensions; i++)
		dot += values[i] * (int32_t)(plane[i / 16 * NEAREST_GROUP_ROWS + row] >>
					     (i % 8 * 8 + i % 16 / 8 * 4) & 15);
	return dot;
}

static void scalar_scan(const struct nearest_code *const *queries, uint32_t count, const uint32_t *heads,
			const uint64_t *upper, uint32_t dimensions, const float *limits, uint64_t *masks)
{
	size_t group_words = dimensions / 16 * NEAREST_GROUP_ROWS;

	for (uint32_t q = 0; q < count; q++) {
		const struct nearest_code *query = queries[q];
		masks[q] = 0;
		for (uint32_t r = 0; r < NEAREST_BLOCK_ROWS; r++) {
			int32_t dot = plain_dot(query->values, upper + r / 8 * group_words, r % 8, dimensions);
			float bound = (float)(2 * dot - 15 * query->sum) * (16 * query->scale);
			bound = bound * float_of(heads[r] & 0xffff0000);
			bound = bound + float_of(heads[r] << 16) * (1 + query->error);
			masks[q] |= (uint64_t)(bound >= limits[q]) << r;
		}
	}
}

static uint8_t scalar_refine(const struct nearest_code *query, const uint32_t *heads, const uint64_t *upper,
			     const uint64_t *lower, uint32_t dimensions, float limit)
{
	unsigned mask = 0;

	for (uint32_t r = 0; r < NEAREST_GROUP_ROWS; r++) {
		int32_t dot = 16 * plain_dot(query->values, upper, r, dimensions) +
			      plain_dot(query->values, lower, r, dimensions);
		float gain = float_of(heads[r] & 0xffff0000);
		float bound = (float)(2 * dot - 255 * query->sum) * query->scale;
		bound = bound * gain + gain * (query->root * (1 + query->error));
		mask |= (unsigned)(bound >= limit) << r;
	}
	return (uint8_t)mask;
}

static const struct nearest_kernels scalar_kernels = {"scalar", scalar_encode, scalar_scan, scalar_refine};

/* ---- the choice ---- */

/* A vector version is used only after it has agreed with the plain one, on this very machine: 64 made rows
 * of a few dimensions, limits that about half of them pass. */
static bool agrees(const struct nearest_kernels *kernels)
{
	static const uint32_t tried[] = {16, 64, 80, 256};
	uint64_t state = 88172645463325252;

	for (size_t t = 0; t < sizeof tried / sizeof *tried; t++) {
		enum { QUERIES = 5, WORDS = NEAREST_CODE_MAX / 16 };
		uint32_t dimensions = tried[t], lines = dimensions / 16;
		_Alignas(64) uint32_t heads[2][NEAREST_BLOCK_ROWS];
		_Alignas(64) uint64_t upper[NEAREST_BLOCK_ROWS * WORDS], lower[NEAREST_BLOCK_ROWS * WORDS];
		_Alignas(64) int16_t row[NEAREST_CODE_MAX];
		struct nearest_code codes[QUERIES];
		const struct nearest_code *queries[QUERIES];
		float limits[QUERIES];
		uint64_t masks[2][QUERIES];
		for (uint32_t r = 0; r < NEAREST_BLOCK_ROWS; r++) {
			uint64_t words[2][2][WORDS];
			int64_t norm = 0;
			for (uint32_t i = 0; i < dimensions; i++) {
				state ^= state << 13;
				state ^= state >> 7;
				state ^= state << 17;
				row[i] = r == 9 ? 0 : (int16_t)((int)(state % 16385) - 8192);
				row[i] = r % 3 ? row[i] : (int16_t)(row[i] / 512);
				norm += (int64_t)row[i] * row[i];
			}
			scalar_encode(row, dimensions, norm, &heads[0][r], words[0][0], words[0][1]);
			kernels->encode(row, dimensions, norm, &heads[1][r], words[1][0], words[1][1]);
			for (uint32_t k = 0; k < lines; k++) {
				size_t at = (r / 8 * lines + k) * 8 + r % 8;
				upper[at] = words[0][0][k];
				lower[at] = words[0][1][k];
				if (words[0][0][k] != words[1][0][k] || words[0][1][k] != words[1][1][k])
					return false;
			}
			if (r < QUERIES)
				nearest_code_query(row, dimensions, norm, &codes[r]);
			if (r < QUERIES) {
				queries[r] = &codes[r];
				limits[r] = (float)r / 16;
			}
		}
		if (memcmp(heads[0], heads[1], sizeof heads[0]))
			return false;
		scalar_scan(queries, QUERIES, heads[0], upper, dimensions, limits, masks[0]);
		kernels->scan(queries, QUERIES, heads[0], upper, dimensions, limits, masks[1]);
		if (memcmp(masks[0], masks[1], sizeof masks[0]))
			return false;
		for (uint32_t g = 0; g < 8; g++)
			if (scalar_refine(queries[1], heads[0] + g * 8, upper + g * lines * 8,
					  lower + g * lines * 8, dimensions, 0) !=
			    kernels->refine(queries[1], heads[0] + g * 8, upper + g * lines * 8,
					    lower + g * lines * 8, dimensions, 0))
				return false;
	}
	return true;
}

enum verdict { NOT_ASKED, AGREES, DIFFERS };

/* Once a thread: it takes longer than reading a small state. */
static bool agrees_here(const struct nearest_kernels *kernels, enum verdict *verdict)
{
	if (*verdict == NOT_ASKED)
		*verdict = agrees(kernels) ? AGREES : DIFFERS;
	return *verdict == AGREES;
}

const struct nearest_kernels *nearest_kernels_get(enum nearest_path path)
{
	static _Thread_local enum verdict of_avx512, of_avx2;
	bool any = path == NEAREST_BEST;

	if ((any || path == NEAREST_AVX512) && nearest_kernels_avx512 && nearest_have_avx512() &&
	    agrees_here(nearest_kernels_avx512, &of_avx512))
		return nearest_kernels_avx512;
	if ((any || path == NEAREST_AVX2) && nearest_kernels_avx2 && nearest_have_avx2() &&
	    agrees_here(nearest_kernels_avx2, &of_avx2))
		return nearest_kernels_avx2;
	return any || path == NEAREST_SCALAR ? &scalar_kernels : NULL;
}
