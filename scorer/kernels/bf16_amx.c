/* bf16_amx.c - bf16 products with AMX: 32 x 32 results in four tile registers, 32 inputs a step.
 *
 * Tiles: 0..3 results (row block major), 4..5 rows, 6..7 weights, all full size; a call with fewer rows
 * computes whole tiles and keeps the rows it was asked for. Four loads feed four products of 16 cycles
 * each, so the loads hide. bf16.c checks it before it is used, and tests run this very source with the
 * instructions spelled out in C.
 * Caller: cpu.c through the table, on CPUs that have it and systems that permit it. */
#include "scorer/kernels/bf16.h"

#if defined(__x86_64__)
#ifndef EMULATED_INSTRUCTIONS           /* a test's own header comes first */
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TARGET __attribute__((target("amx-tile,amx-bf16")))
#endif

enum { TILE_SIDE = 16, TILE_BYTES = 64 };

/* Palette 1: eight tiles of at most 16 rows of 64 bytes (Intel SDM, LDTILECFG). */
struct tile_settings {
	uint8_t palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
};

TARGET static void begin(void)
{
	struct tile_settings settings = {.palette = 1};
	for (int i = 0; i < 8; i++) {
		settings.row_bytes[i] = TILE_BYTES;
		settings.rows[i] = TILE_SIDE;
	}
	_tile_loadconfig(&settings);
}

TARGET static void end(void)
{
	_tile_release();
}

/* A result tile of which `rows` rows exist: whole ones straight, others by way of a copy. */
#define LOAD_RESULT(t, at, count)                                                                          \
	do {                                                                                               \
		if (!accumulate) {                                                                         \
			_tile_zero(t);                                                                     \
		} else if ((count) >= TILE_SIDE) {                                                         \
			_tile_loadd(t, at, c_stride * sizeof(float));                                      \
		} else {                                                                                   \
			copy_rows(copy, TILE_SIDE, at, c_stride, count);                                   \
			_tile_loadd(t, copy, TILE_BYTES);                                                  \
		}                                                                                          \
	} while (0)
#define STORE_RESULT(t, at, count)                                                                         \
	do {                                                                                               \
		if ((count) >= TILE_SIDE) {                                                                \
			_tile_stored(t, at, c_stride * sizeof(float));                                     \
		} else {                                                                                   \
			_tile_stored(t, copy, TILE_BYTES);                                                 \
			copy_rows(at, c_stride, copy, TILE_SIDE, count);                                   \
		}                                                                                          \
	} while (0)

static void copy_rows(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows)
{
	for (size_t row = 0; row < rows; row++)
		memcpy(to + row * to_stride, from + row * from_stride, TILE_BYTES);
}

TARGET static void tile(size_t rows, size_t panels, size_t depth, const uint16_t *a, size_t a_stride,
			const uint16_t *b, float *c, size_t c_stride, bool accumulate)
{
	_Alignas(64) float copy[TILE_SIDE * TILE_SIDE] = {0};
	size_t below = rows > TILE_SIDE ? rows - TILE_SIDE : 0;
	size_t a_bytes = a_stride * sizeof *a;
	const uint16_t *a_below = a + TILE_SIDE * a_stride, *b_right = b + BF16_COLUMNS * depth;
	float *c_below = c + TILE_SIDE * c_stride;
	bool right = panels > 1;

	LOAD_RESULT(0, c, rows);
	if (right)
		LOAD_RESULT(1, c + TILE_SIDE, rows);
	if (below)
		LOAD_RESULT(2, c_below, below);
	if (below && right)
		LOAD_RESULT(3, c_below + TILE_SIDE, below);
	for (size_t k = 0; k < depth; k += BF16_STEP) {
		_tile_loadd(4, a + k, a_bytes);
		_tile_loadd(6, b + k * BF16_COLUMNS, TILE_BYTES);
		_tile_dpbf16ps(0, 4, 6);
		if (right) {
			_tile_loadd(7, b_right + k * BF16_COLUMNS, TILE_BYTES);
			_tile_dpbf16ps(1, 4, 7);
		}
		if (below) {
			_tile_loadd(5, a_below + k, a_bytes);
			_tile_dpbf16ps(2, 5, 6);
		}
		if (below && right)
			_tile_dpbf16ps(3, 5, 7);
	}
	STORE_RESULT(0, c, rows);
	if (right)
		STORE_RESULT(1, c + TILE_SIDE, rows);
	if (below)
		STORE_RESULT(2, c_below, below);
	if (below && right)
		STORE_RESULT(3, c_below + TILE_SIDE, below);
}

const struct bf16_product bf16_tile_amx = {
	"AMX", 2 * TILE_SIDE, 2, begin, end, tile, &bf16_tile_plain,
};

#ifndef EMULATED_INSTRUCTIONS
bool bf16_amx_permitted(void)
{
	enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };   /* Linux, arch_prctl(2): from 5.16 on */
	unsigned a, b, c, d;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return false;
	bool has_tiles = d >> 24 & 1, has_bf16 = d >> 22 & 1;   /* Intel SDM, CPUID leaf 7 */
	return has_tiles && has_bf16 && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif
#endif
