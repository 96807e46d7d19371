/* gcn_signs.c - see gcn_signs.h. Counts stand upright: bit i of planes[p] is bit p of how many rows are
 * negative in component i. Seven rows at a time are added up to three bits by full adders, and those to the planes. */
#include "graph-updater/gcn_signs.h"

#include "base/mem.h"
#include "graph-updater/gcn.h"

enum { WORD_BITS = 64, PLANES = 33, AT_ONCE = 7, ROWS_AHEAD = 21 };

struct gcn_signs {
	const struct chunks *rows;
	uint32_t dimensions, words;     /* of a row */
	uint64_t *bits;                 /* [rows][words]: 1 is negative */
};

static void take_chunk(void *context, uint32_t chunk, uint32_t thread)
{
	struct gcn_signs *signs = context;

	(void)thread;
	for (uint32_t row = chunk << CHUNK_SHIFT; row >> CHUNK_SHIFT == chunk; row++) {
		const int16_t *values = chunks_row(signs->rows, row);
		uint64_t *words = signs->bits + (size_t)row * signs->words;
		for (uint32_t i = 0; i < signs->dimensions; i++)
			words[i / WORD_BITS] |= (uint64_t)(values[i] < 0) << i % WORD_BITS;
	}
}

struct gcn_signs *gcn_signs_create(const struct chunks *rows, uint32_t dimensions, struct pool *threads)
{
	struct gcn_signs *signs = mem_alloc_zero(1, sizeof *signs);

	if (!signs)
		return NULL;
	signs->rows = rows;
	signs->dimensions = dimensions;
	signs->words = (dimensions + WORD_BITS - 1) / WORD_BITS;
	signs->bits = mem_alloc_zero(chunks_rows(rows), signs->words * sizeof *signs->bits);
	if (!signs->bits) {
		gcn_signs_destroy(signs);
		return NULL;
	}
	pool_run(threads, rows->chunk_count, take_chunk, signs);
	return signs;
}

void gcn_signs_destroy(struct gcn_signs *signs)
{
	if (!signs)
		return;
	mem_free(signs->bits);
	mem_free(signs);
}

/* Byte k of the result is bit k. */
static uint64_t spread(uint64_t byte)
{
	uint64_t own = byte * 0x0101010101010101 & 0x8040201008040201;

	return (own + 0x7f7f7f7f7f7f7f7f) >> 7 & 0x0101010101010101;
}

/* counts [64] from the first `used` planes: eight of them make a byte of each count. */
static void lay_down(const uint64_t *planes, int used, uint32_t *counts)
{
	memset(counts, 0, WORD_BITS * sizeof *counts);
	for (int first = 0; first < used; first += 8)
		for (int group = 0; group < 8; group++) {
			uint64_t bytes = 0;
			for (int p = first; p < first + 8 && p < used; p++)
				bytes |= spread(planes[p] >> 8 * group & 0xff) << (p - first);
			for (int k = 0; k < 8; k++)
				counts[8 * group + k] |= (uint32_t)(bytes >> 8 * k & 0xff) << first;
		}
}

/* a + b + c = *sum + 2 * carry */
static uint64_t add_three(uint64_t a, uint64_t b, uint64_t c, uint64_t *sum)
{
	*sum = a ^ b ^ c;
	return (a & b) | ((a ^ b) & c);
}

/* More planes are used afterwards when it returns more. */
static int add_seven(uint64_t *planes, int used, const uint64_t *seven)
{
	uint64_t ones, twos, fours, twos_of[3], carry = 0;
	int p = 3;

	twos_of[0] = add_three(seven[0], seven[1], seven[2], &ones);
	twos_of[1] = add_three(ones, seven[3], seven[4], &ones);
	twos_of[2] = add_three(ones, seven[5], seven[6], &ones);
	fours = add_three(twos_of[0], twos_of[1], twos_of[2], &twos);
	carry = add_three(planes[0], ones, 0, &planes[0]);
	carry = add_three(planes[1], twos, carry, &planes[1]);
	carry = add_three(planes[2], fours, carry, &planes[2]);
	for (; carry; p++)
		carry = add_three(planes[p], carry, 0, &planes[p]);
	return p > used ? p : used;
}

/* Word w of the neighbours' signs, counted; how many neighbours there are. */
static uint32_t count_word(const struct gcn_signs *signs, const struct graph_neighbours *list, uint32_t w,
			   uint32_t *counts)
{
	uint64_t planes[PLANES] = {0};
	uint32_t rows = 0;
	int used = 0;

	for (uint32_t first = 0; first < list->count; first += AT_ONCE) {
		uint64_t seven[AT_ONCE] = {0};
		for (uint32_t n = 0; n < AT_ONCE && first + n < list->count; n++) {
			uint32_t e = first + n;
			if (e + ROWS_AHEAD < list->count)
				__builtin_prefetch(signs->bits +
						   (size_t)graph_neighbour(list, e + ROWS_AHEAD) * signs->words + w);
			if (!graph_neighbour_in_gcn(list, e))
				continue;
			seven[n] = signs->bits[(size_t)graph_neighbour(list, e) * signs->words + w];
			rows++;
		}
		used = add_seven(planes, used, seven);
	}
	lay_down(planes, used, counts);
	return rows;
}

void gcn_signs_sum(const struct gcn_signs *signs, const struct graph_neighbours *list, int64_t *sums)
{
	uint32_t counts[WORD_BITS];

	for (uint32_t w = 0; w < signs->words; w++) {
		int64_t rows = count_word(signs, list, w, counts);
		for (uint32_t i = w * WORD_BITS; i < signs->dimensions && i < (w + 1) * WORD_BITS; i++)
			sums[i] = (rows - 2 * (int64_t)counts[i % WORD_BITS]) * GCN_ONE;
	}
}
