/* kernels.c - which table of inner loops this CPU runs.
 *
 * Idea: a table is used only if the CPU has its instructions and it gives the scalar table's bits on a
 * small product, so the promise of kernels.h is checked on every machine at every start.
 * Caller: cpu.c at creation. */
#include "scorer/kernels/kernels.h"

#include <string.h>

size_t kernels_available(const struct kernels *out[3])
{
	size_t count = 0;
#if defined(__x86_64__)
	__builtin_cpu_init();
	bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	if (avx2 && __builtin_cpu_supports("avx512f"))
		out[count++] = &kernels_avx512;
	if (avx2)
		out[count++] = &kernels_avx2;
#endif
	out[count++] = &kernels_scalar;
	return count;
}

enum { PROBE_DEPTH = 37, PROBE_ROW = 43 };

struct probe {
	float product[TILE_ROWS * TILE_COLUMNS], product_bf16[TILE_ROWS * TILE_COLUMNS];
	float norm[PROBE_ROW], soft[PROBE_ROW], gate[PROBE_ROW], sum;
};

/* Fixed odd numbers of no special form; a 32-bit linear congruence, so the same everywhere. */
static void fill(float *values, size_t count, unsigned seed)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525u + 1013904223u;
		values[i] = (float)(int)(seed >> 8) / 8388608.0f - 1.0f;
	}
}

static void probe(const struct kernels *kernels, struct probe *out)
{
	float a[TILE_ROWS * PROBE_DEPTH], b[PROBE_DEPTH * TILE_COLUMNS], row[PROBE_ROW];
	memset(out, 0, sizeof *out);
	fill(a, sizeof a / sizeof a[0], 1);
	fill(b, sizeof b / sizeof b[0], 2);
	fill(row, PROBE_ROW, 3);
	kernels->tile(TILE_ROWS, PROBE_DEPTH, a, PROBE_DEPTH, b, TILE_COLUMNS, out->product, TILE_COLUMNS,
		      false);
	kernels->tile(7, PROBE_DEPTH, a, PROBE_DEPTH, b, TILE_COLUMNS, out->product, TILE_COLUMNS, true);
	uint32_t words[PROBE_DEPTH * TILE_COLUMNS / 2];
	memcpy(words, b, sizeof words);         /* halves of floats are bf16 numbers too */
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		words[i] &= 0xbfffbfff;         /* none above 2, none that is no number */
	kernels->tile_bf16(TILE_ROWS, PROBE_DEPTH, a, PROBE_DEPTH, words, out->product_bf16, TILE_COLUMNS,
			   false);
	kernels->tile_bf16(5, PROBE_DEPTH, a, PROBE_DEPTH, words, out->product_bf16, TILE_COLUMNS, true);
	kernels->rms_norm(PROBE_ROW, row, a, 1e-5f, out->norm);
	memcpy(out->soft, row, sizeof row);
	out->sum = kernels->softmax(PROBE_ROW, 3.7f, out->soft);
	memcpy(out->gate, row, sizeof row);
	kernels->swiglu(PROBE_ROW, out->gate, a);
}

const struct kernels *kernels_best(const char **reason)
{
	const struct kernels *available[3];
	size_t count = kernels_available(available);
	struct probe truth, got;
	probe(&kernels_scalar, &truth);
	*reason = count == 3 ? "the best there is" : count == 2 ? "no AVX-512" : "no AVX2";
	for (size_t i = 0; i < count; i++) {
		probe(available[i], &got);
		if (memcmp(&truth, &got, sizeof truth) == 0)
			return available[i];
		*reason = "a wider set gave other bits than plain C";
	}
	return &kernels_scalar;
}
