/* nearest_rows.c - see nearest_rows.h. Codes lie in parts of PART_ROWS rows:
 *
 *   part:  [upper blocks: sequence (a line), heads, upper plane][lower planes]
 *
 * so that a scan reads one stream. Invariant: outside nearest_rows_put() every number is even, and the
 * codes are those of the exact row. Written by gcn*.c on the writer's thread, read by nearest.c on any. */
#include "graph-updater/nearest_rows.h"

#include "base/mem.h"

#include <sched.h>
#include <string.h>

enum { PART_SHIFT = CHUNK_SHIFT, PART_ROWS = 1 << PART_SHIFT, LINE_BYTES = 64 };

struct nearest_rows {
	uint32_t dimensions;
	const struct chunks *exact;
	const struct nearest_kernels *kernels;
	size_t plane_bytes;             /* of a block's plane */
	size_t upper_bytes;             /* of a block's sequence, heads and upper plane */
	struct chunks parts;            /* a chunk is a part; the first `count` rows' are there */
	uint32_t count;                 /* atomic */
};

/* Of 1,024 rows: a multiple of their number, as there are 16 blocks of whole lines in a part. */
static size_t part_bytes(const struct nearest_rows *rows)
{
	return PART_ROWS / NEAREST_BLOCK_ROWS * (rows->upper_bytes + rows->plane_bytes);
}

enum status nearest_rows_create(uint32_t dimensions, uint32_t rows_max, const struct chunks *exact,
				struct nearest_rows **out, struct error *error)
{
	struct nearest_rows *rows = mem_alloc_zero(1, sizeof *rows);

	if (rows) {
		rows->dimensions = dimensions;
		rows->exact = exact;
		rows->kernels = nearest_kernels_get(NEAREST_BEST);
		rows->plane_bytes = (size_t)NEAREST_BLOCK_ROWS * dimensions / 2;
		rows->upper_bytes = LINE_BYTES + NEAREST_BLOCK_ROWS * sizeof(uint32_t) + rows->plane_bytes;
		if (!chunks_create(&rows->parts, rows_max, part_bytes(rows) / PART_ROWS)) {
			mem_free(rows);
			rows = NULL;
		}
	}
	if (!rows)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the rows of similar users");
	*out = rows;
	return STATUS_OK;
}

void nearest_rows_destroy(struct nearest_rows *rows)
{
	if (!rows)
		return;
	chunks_destroy(&rows->parts);
	mem_free(rows);
}

/* ---- places ---- */

static unsigned char *upper_block(const struct nearest_rows *rows, uint32_t row)
{
	return rows->parts.chunk[row >> PART_SHIFT] +
	       (row & (PART_ROWS - 1)) / NEAREST_BLOCK_ROWS * rows->upper_bytes;
}

static uint32_t *sequence_of(const struct nearest_rows *rows, uint32_t row)
{
	return (uint32_t *)(void *)upper_block(rows, row);
}

static uint32_t *heads_of(const struct nearest_rows *rows, uint32_t row)
{
	return (uint32_t *)(void *)(upper_block(rows, row) + LINE_BYTES);
}

static uint64_t *upper_of(const struct nearest_rows *rows, uint32_t row)
{
	return (uint64_t *)(void *)(upper_block(rows, row) + LINE_BYTES + NEAREST_BLOCK_ROWS * sizeof(uint32_t));
}

static uint64_t *lower_of(const struct nearest_rows *rows, uint32_t row)
{
	return (uint64_t *)(void *)(rows->parts.chunk[row >> PART_SHIFT] +
				    PART_ROWS / NEAREST_BLOCK_ROWS * rows->upper_bytes +
				    (row & (PART_ROWS - 1)) / NEAREST_BLOCK_ROWS * rows->plane_bytes);
}

/* A row's first word within its block's planes; the next are a group's row apart. */
static size_t word_of(const struct nearest_rows *rows, uint32_t row)
{
	return row % NEAREST_BLOCK_ROWS / NEAREST_GROUP_ROWS * (size_t)(rows->dimensions / 16) *
	       NEAREST_GROUP_ROWS + row % NEAREST_GROUP_ROWS;
}

/* ---- the writer ---- */

bool nearest_rows_reserve(struct nearest_rows *rows, uint32_t count)
{
	for (uint32_t part = rows->count >> PART_SHIFT; (uint64_t)part << PART_SHIFT < count; part++) {
		if (!chunks_reserve(&rows->parts, (part << PART_SHIFT) + 1))
			return false;
		for (uint32_t r = 0; r < PART_ROWS; r++)
			heads_of(rows, (part << PART_SHIFT) + r)[r % NEAREST_BLOCK_ROWS] = NEAREST_HEAD_NONE;
		__atomic_store_n(&rows->count, (part + 1) << PART_SHIFT, __ATOMIC_RELEASE);
	}
	return true;
}

static void put_words(uint64_t *to, const uint64_t *from, size_t count, size_t stride)
{
	for (size_t i = 0; i < count; i++)
		__atomic_store_n(&to[i * stride], from[i], __ATOMIC_RELEASE);
}

void nearest_rows_put(struct nearest_rows *rows, uint32_t row, const int16_t *fresh, int64_t norm)
{
	enum { LINES_MAX = NEAREST_CODE_MAX / 16 };
	uint64_t upper[LINES_MAX], lower[LINES_MAX], exact[NEAREST_CODE_MAX / 4];
	uint32_t lines = rows->dimensions / 16, head, *sequence = sequence_of(rows, row);
	uint32_t before = __atomic_load_n(sequence, __ATOMIC_RELAXED);
	size_t word = word_of(rows, row);

	rows->kernels->encode(fresh, rows->dimensions, norm, &head, upper, lower);
	memcpy(exact, fresh, rows->dimensions * sizeof *fresh);
	__atomic_store_n(sequence, before + 1, __ATOMIC_RELAXED);
	put_words(chunks_row(rows->exact, row), exact, rows->dimensions / 4, 1);
	put_words(upper_of(rows, row) + word, upper, lines, NEAREST_GROUP_ROWS);
	put_words(lower_of(rows, row) + word, lower, lines, NEAREST_GROUP_ROWS);
	__atomic_store_n(&heads_of(rows, row)[row % NEAREST_BLOCK_ROWS], head, __ATOMIC_RELEASE);
	__atomic_store_n(sequence, before + 2, __ATOMIC_RELEASE);
}

void nearest_rows_prefetch_put(const struct nearest_rows *rows, uint32_t row)
{
	const uint64_t *upper = upper_of(rows, row) + word_of(rows, row);
	const uint64_t *lower = lower_of(rows, row) + word_of(rows, row);

	__builtin_prefetch(sequence_of(rows, row), 1);
	__builtin_prefetch(&heads_of(rows, row)[row % NEAREST_BLOCK_ROWS], 1);
	for (uint32_t k = 0; k < rows->dimensions / 16; k++) {
		__builtin_prefetch(upper + k * NEAREST_GROUP_ROWS, 1);
		__builtin_prefetch(lower + k * NEAREST_GROUP_ROWS, 1);
	}
}

bool nearest_rows_right(const struct nearest_rows *rows, uint32_t row)
{
	enum { LINES_MAX = NEAREST_CODE_MAX / 16 };
	uint64_t upper[LINES_MAX], lower[LINES_MAX];
	uint32_t lines = rows->dimensions / 16, head;
	const int16_t *exact = chunks_row(rows->exact, row);
	int64_t norm = 0;
	bool right;

	for (uint32_t i = 0; i < rows->dimensions; i++)
		norm += (int64_t)exact[i] * exact[i];
	rows->kernels->encode(exact, rows->dimensions, norm, &head, upper, lower);
	right = *sequence_of(rows, row) % 2 == 0 && heads_of(rows, row)[row % NEAREST_BLOCK_ROWS] == head;
	for (uint32_t k = 0; k < lines && right; k++)
		right = upper_of(rows, row)[word_of(rows, row) + k * NEAREST_GROUP_ROWS] == upper[k] &&
			lower_of(rows, row)[word_of(rows, row) + k * NEAREST_GROUP_ROWS] == lower[k];
	return right;
}

/* ---- readers ---- */

uint32_t nearest_rows_count(const struct nearest_rows *rows)
{
	return __atomic_load_n(&rows->count, __ATOMIC_ACQUIRE);
}

uint32_t nearest_rows_dimensions(const struct nearest_rows *rows)
{
	return rows->dimensions;
}

const struct nearest_kernels *nearest_rows_kernels(const struct nearest_rows *rows)
{
	return rows->kernels;
}

size_t nearest_rows_bytes(const struct nearest_rows *rows)
{
	return sizeof *rows + chunks_bytes(&rows->parts);
}

/* The number before reading; waits out a write (some dozens of stores) where one is going on. */
static uint32_t begin_read(const uint32_t *sequence)
{
	uint32_t number, tries = 0;

	while ((number = __atomic_load_n(sequence, __ATOMIC_ACQUIRE)) & 1)
		/* The writer may have been taken off the processor in between. */
		if (++tries % 1024 == 0)
			sched_yield();
	return number;
}

static bool unchanged(const uint32_t *sequence, uint32_t number)
{
	return __atomic_load_n(sequence, __ATOMIC_RELAXED) == number;
}

static void get_words(uint64_t *to, const uint64_t *from, size_t count)
{
	/* All counts are multiples of eight but that of 16 dimensions. */
#pragma GCC unroll 8
	for (size_t i = 0; i < count; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
}

void nearest_rows_copy(const struct nearest_rows *rows, uint32_t row, int16_t *out)
{
	const uint32_t *sequence = sequence_of(rows, row);
	uint64_t words[NEAREST_CODE_MAX / 4];
	uint32_t number;

	do {
		number = begin_read(sequence);
		get_words(words, chunks_row(rows->exact, row), rows->dimensions / 4);
	} while (!unchanged(sequence, number));
	memcpy(out, words, rows->dimensions * sizeof *out);
}

const int16_t *nearest_rows_exact(const struct nearest_rows *rows, uint32_t row)
{
	return chunks_row(rows->exact, row);
}

struct nearest_block nearest_rows_block(const struct nearest_rows *rows, uint32_t row)
{
	return (struct nearest_block){heads_of(rows, row), upper_of(rows, row), lower_of(rows, row), 0};
}

void nearest_rows_prefetch(const struct nearest_rows *rows, uint32_t row)
{
	const unsigned char *block = upper_block(rows, row);

	for (size_t byte = 0; byte < rows->upper_bytes; byte += LINE_BYTES)
		__builtin_prefetch(block + byte);
}

struct nearest_block nearest_rows_block_copy(const struct nearest_rows *rows, uint32_t row, void *room)
{
	const uint32_t *sequence = sequence_of(rows, row), *heads = heads_of(rows, row);
	uint32_t *heads_room = room;
	uint64_t *upper_room = (uint64_t *)room + NEAREST_BLOCK_ROWS / 2;
	uint32_t number;

	do {
		number = begin_read(sequence);
#pragma GCC unroll 8
		for (uint32_t r = 0; r < NEAREST_BLOCK_ROWS; r++)
			heads_room[r] = __atomic_load_n(&heads[r], __ATOMIC_ACQUIRE);
		get_words(upper_room, upper_of(rows, row), rows->plane_bytes / sizeof *upper_room);
	} while (!unchanged(sequence, number));
	return (struct nearest_block){heads_room, upper_room, NULL, number};
}

bool nearest_rows_lower_copy(const struct nearest_rows *rows, uint32_t row, uint32_t sequence, uint64_t *room)
{
	size_t words = (size_t)rows->dimensions / 16 * NEAREST_GROUP_ROWS;

	get_words(room, lower_of(rows, row) + row % NEAREST_BLOCK_ROWS / NEAREST_GROUP_ROWS * words, words);
	return unchanged(sequence_of(rows, row), sequence);
}
