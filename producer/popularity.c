/* popularity.c - a Fenwick tree of weights (counts to a power), and a set of (user, item) pairs.
 *
 * A draw takes what it hits out of the tree, wanted or not, so that no draw is wasted on the same item
 * twice; at its end all is put back. Invariant outside of a draw: the tree holds the weights. Called by
 * import; one thread. */
#include "producer/popularity.h"

#include <math.h>
#include <string.h>

enum { UNRANKED = UINT32_MAX };
static const uint64_t no_pair = UINT64_MAX;

struct popularity {
	uint32_t items_max;
	double power;
	uint32_t ranked;                /* items counted at least once */
	uint32_t *rank_of;              /* [items_max] */
	uint32_t *item_of;              /* [items_max] by rank */
	uint32_t *counts;               /* [items_max] by rank */
	uint64_t *tree;                 /* [items_max + 1], from 1 */
	uint64_t total;
	uint32_t *taken_out;            /* [items_max] ranks, during a draw */
	size_t taken_out_count;
	uint64_t *pairs;                /* [pairs_count] slots, a power of two */
	size_t pairs_count;
};

struct random {
	uint64_t state;
};

/* splitmix64 */
static uint64_t random_next(struct random *random)
{
	uint64_t z = random->state += 0x9E3779B97F4A7C15u;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/* Uniform in [0, bound), without bias. */
static uint64_t random_below(struct random *random, uint64_t bound)
{
	uint64_t threshold = -bound % bound;

	for (;;) {
		unsigned __int128 product = (unsigned __int128)random_next(random) * bound;
		if ((uint64_t)product >= threshold)
			return (uint64_t)(product >> 64);
	}
}

struct popularity *popularity_create(uint32_t items_max, size_t rows_max, double power)
{
	struct popularity *popularity = mem_alloc_zero(1, sizeof *popularity);
	size_t slots = 16, size = items_max;

	if (!popularity)
		return NULL;
	while (slots < 2 * rows_max)
		slots *= 2;
	popularity->items_max = items_max;
	popularity->power = power;
	popularity->rank_of = mem_alloc_array(size, sizeof *popularity->rank_of);
	popularity->item_of = mem_alloc_array(size, sizeof *popularity->item_of);
	popularity->counts = mem_alloc_zero(size, sizeof *popularity->counts);
	popularity->tree = mem_alloc_zero(size + 1, sizeof *popularity->tree);
	popularity->taken_out = mem_alloc_array(size, sizeof *popularity->taken_out);
	popularity->pairs = mem_alloc_array(slots, sizeof *popularity->pairs);
	popularity->pairs_count = slots;
	if (!popularity->rank_of || !popularity->item_of || !popularity->counts || !popularity->tree ||
	    !popularity->taken_out || !popularity->pairs) {
		popularity_destroy(popularity);
		return NULL;
	}
	memset(popularity->rank_of, 0xFF, size * sizeof *popularity->rank_of);
	memset(popularity->pairs, 0xFF, slots * sizeof *popularity->pairs);
	return popularity;
}

void popularity_destroy(struct popularity *popularity)
{
	if (!popularity)
		return;
	mem_free(popularity->rank_of);
	mem_free(popularity->item_of);
	mem_free(popularity->counts);
	mem_free(popularity->tree);
	mem_free(popularity->taken_out);
	mem_free(popularity->pairs);
	mem_free(popularity);
}

static size_t pair_slot(const struct popularity *popularity, uint32_t user, uint32_t item)
{
	uint64_t pair = (uint64_t)user << 32 | item, mix = pair;
	size_t mask = popularity->pairs_count - 1, slot;

	mix = (mix ^ (mix >> 32)) * 0x9E3779B97F4A7C15u;
	slot = (size_t)(mix >> 20) & mask;
	while (popularity->pairs[slot] != no_pair && popularity->pairs[slot] != pair)
		slot = (slot + 1) & mask;
	return slot;
}

/* Adds to the count of a rank within the tree (wraps for "minus"). */
static void tree_add(struct popularity *popularity, uint32_t rank, uint64_t amount)
{
	for (size_t i = (size_t)rank + 1; i <= popularity->items_max; i += i & -i)
		popularity->tree[i] += amount;
	popularity->total += amount;
}

/* What an item weighs in a draw that was counted so often; below 2^48. */
static uint64_t weight_of(const struct popularity *popularity, uint32_t count)
{
	if (popularity->power == 1 || !count)
		return count;
	return (uint64_t)llround(pow(count, popularity->power) * 65536);
}

/* The rank whose part of [0, total) holds the target. */
static uint32_t tree_find(const struct popularity *popularity, uint64_t target)
{
	size_t at = 0, step = 1;

	while (step * 2 <= popularity->items_max)
		step *= 2;
	for (; step > 0; step /= 2)
		if (at + step <= popularity->items_max && popularity->tree[at + step] <= target) {
			at += step;
			target -= popularity->tree[at];
		}
	return (uint32_t)at;
}

void popularity_count(struct popularity *popularity, uint32_t user, uint32_t item)
{
	uint32_t rank = popularity->rank_of[item];

	if (rank == UNRANKED) {
		rank = popularity->rank_of[item] = popularity->ranked++;
		popularity->item_of[rank] = item;
	}
	uint32_t count = popularity->counts[rank]++;
	tree_add(popularity, rank, weight_of(popularity, count + 1) - weight_of(popularity, count));
	popularity->pairs[pair_slot(popularity, user, item)] = (uint64_t)user << 32 | item;
}

uint32_t popularity_of(const struct popularity *popularity, uint32_t item)
{
	uint32_t rank = popularity->rank_of[item];
	return rank == UNRANKED ? 0 : popularity->counts[rank];
}

static void take_out(struct popularity *popularity, uint32_t rank)
{
	tree_add(popularity, rank, -weight_of(popularity, popularity->counts[rank]));
	popularity->taken_out[popularity->taken_out_count++] = rank;
}

size_t popularity_draw(struct popularity *popularity, uint64_t seed, uint32_t user, uint32_t taken,
		       uint32_t *items, size_t count)
{
	struct random random = {seed};
	size_t drawn = 0;

	if (popularity->rank_of[taken] != UNRANKED)
		take_out(popularity, popularity->rank_of[taken]);
	while (drawn < count && popularity->total > 0) {
		uint32_t rank = tree_find(popularity, random_below(&random, popularity->total));
		uint32_t item = popularity->item_of[rank];
		take_out(popularity, rank);
		if (popularity->pairs[pair_slot(popularity, user, item)] == no_pair)
			items[drawn++] = item;
	}
	while (popularity->taken_out_count > 0) {
		uint32_t rank = popularity->taken_out[--popularity->taken_out_count];
		tree_add(popularity, rank, weight_of(popularity, popularity->counts[rank]));
	}
	return drawn;
}

void popularity_shuffle(uint64_t seed, uint32_t *items, size_t count)
{
	struct random random = {~seed};

	for (size_t i = count; i > 1; i--) {
		size_t other = (size_t)random_below(&random, i);
		uint32_t kept = items[i - 1];
		items[i - 1] = items[other];
		items[other] = kept;
	}
}
