/* nearest.c - exact top-k by cosine: scan, second look, exact comparison; see nearest.h.
 *
 * Block of rows by block, for every query: the scan's mask of rows that may win (upper half bytes), those
 * looked at again (both halves), the rest computed exactly. Invariant: `best` is sorted, best first, by
 * (cosine, id bytes), and holds the best of all rows seen, so its last cosine is a limit that only rises.
 * The order of rows decides nothing, hence threads may each take a range and their bests be merged. */
#include "graph-updater/nearest.h"

#include "graph-updater/gcn_kernels.h"

#include <math.h>

/* Below so many rows times queries, waking a thread costs more than it saves. */
enum { SHARED_WORK_MIN = 1 << 18, AHEAD_ROWS = 128 };

/* A query and what all threads read of it. */
struct asked {
	struct nearest_query *query;
	struct nearest_code code;
	double length;
	_Alignas(64) int16_t row[GCN_DIMENSIONS_MAX];
};

/* One thread's best of one query. */
struct best {
	struct neighbour *neighbours;   /* [most], count in use */
	uint32_t count, most;
	float limit;                    /* see nearest_code_limit() */
};

struct search {
	const struct nearest_rows *rows;
	struct user_ids users;
	struct nearest_how how;
	const struct nearest_kernels *kernels;
	const struct gcn_kernels *exact;
	uint32_t dimensions;
	uint32_t rows_end;
	unsigned workers;
	uint32_t count;
	uint32_t most;                  /* of all queries */
	struct asked asked[NEAREST_BATCH_MAX];
	struct best best[NEAREST_BATCH_MAX];    /* of worker 0, at last of all */
};

/* ---- comparing ---- */

/* dot |dot| / norm orders as the cosine does; dot and norm are at most 2^34, so the products fit. */
static bool is_before(struct user_ids users, const struct neighbour *a, const struct neighbour *b)
{
	int64_t size_a = a->dot < 0 ? -a->dot : a->dot, size_b = b->dot < 0 ? -b->dot : b->dot;
	__int128 left, right;

	/* Each double is within a few units of its last place of the exact value: far apart, they decide. */
	if (fabs(a->cosine - b->cosine) > 2e-15 * (fabs(a->cosine) + fabs(b->cosine)))
		return a->cosine > b->cosine;
	left = (__int128)a->dot * size_a * b->norm;
	right = (__int128)b->dot * size_b * a->norm;
	if (left != right)
		return left > right;
	return text_compare(user_bytes(users, a->user), user_bytes(users, b->user)) < 0;
}

/* The candidate takes its place, if it has one. */
static void offer(struct user_ids users, struct best *best, const struct nearest_code *code,
		  const struct neighbour *candidate)
{
	uint32_t at;

	if (best->count == best->most) {
		if (!is_before(users, candidate, &best->neighbours[best->count - 1]))
			return;
		best->count--;
	}
	for (at = best->count++; at && is_before(users, candidate, &best->neighbours[at - 1]); at--)
		best->neighbours[at] = best->neighbours[at - 1];
	best->neighbours[at] = *candidate;
	if (best->count == best->most)
		best->limit = nearest_code_limit(best->neighbours[best->most - 1].cosine, code);
}

/* ---- a block ---- */

/* Which of the rows in the mask the second look lets pass, too. */
static uint64_t refine(const struct search *search, const struct asked *asked, float limit,
		       const struct nearest_block *block, uint32_t first, uint64_t mask)
{
	size_t words = (size_t)search->dimensions / 16 * NEAREST_GROUP_ROWS;
	_Alignas(64) uint64_t room[NEAREST_CODE_MAX / 16 * NEAREST_GROUP_ROWS];
	uint64_t passed = 0;

	for (uint32_t g = 0; g < NEAREST_BLOCK_ROWS / NEAREST_GROUP_ROWS; g++) {
		uint64_t group = mask >> g * NEAREST_GROUP_ROWS & 0xff;
		const uint64_t *lower = block->lower ? block->lower + g * words : room;
		if (!group)
			continue;
		/* Rows that have been written since: the exact comparison decides. */
		if (block->lower || nearest_rows_lower_copy(search->rows, first + g * NEAREST_GROUP_ROWS,
							    block->sequence, room))
			group &= search->kernels->refine(&asked->code, block->heads + g * NEAREST_GROUP_ROWS,
							 block->upper + g * words, lower, search->dimensions,
							 limit);
		passed |= group << g * NEAREST_GROUP_ROWS;
	}
	return passed;
}

static void compare_exactly(const struct search *search, const struct asked *asked, struct best *best,
			    uint32_t first, uint64_t mask)
{
	_Alignas(64) int16_t room[GCN_DIMENSIONS_MAX];

	for (uint64_t rest = mask; rest; rest &= rest - 1) {
		const char *row = (const char *)nearest_rows_exact(search->rows,
								   first + (uint32_t)__builtin_ctzll(rest));
		for (size_t byte = 0; byte < search->dimensions * sizeof(int16_t); byte += 64)
			__builtin_prefetch(row + byte);
	}
	for (; mask; mask &= mask - 1) {
		uint32_t at = first + (uint32_t)__builtin_ctzll(mask);
		const int16_t *row = room;
		struct neighbour candidate = {.user = {at}};
		if (at == asked->query->user.v)
			continue;
		if (search->how.beside)
			nearest_rows_copy(search->rows, at, room);
		else
			row = nearest_rows_exact(search->rows, at);
		candidate.norm = search->exact->dot(row, row, search->dimensions);
		if (!candidate.norm)
			continue;
		candidate.dot = search->exact->dot(asked->row, row, search->dimensions);
		candidate.cosine = (double)candidate.dot / (asked->length * sqrt((double)candidate.norm));
		offer(search->users, best, &asked->code, &candidate);
	}
}

static void scan_block(const struct search *search, struct best *best, uint32_t first,
		       const struct nearest_block *block)
{
	const struct nearest_code *codes[NEAREST_BATCH_MAX];
	float limits[NEAREST_BATCH_MAX];
	uint64_t masks[NEAREST_BATCH_MAX];

	for (uint32_t q = 0; q < search->count; q++) {
		codes[q] = &search->asked[q].code;
		limits[q] = best[q].limit;
	}
	search->kernels->scan(codes, search->count, block->heads, block->upper, search->dimensions, limits,
			      masks);
	for (uint32_t q = 0; q < search->count; q++) {
		const struct asked *asked = &search->asked[q];
		if (masks[q])
			masks[q] = refine(search, asked, best[q].limit, block, first, masks[q]);
		if (masks[q])
			compare_exactly(search, asked, &best[q], first, masks[q]);
	}
}

/* ---- a scan, by one thread or several ---- */

static void scan_range(const struct search *search, struct best *best, uint32_t first, uint32_t end)
{
	_Alignas(64) unsigned char room[NEAREST_BLOCK_BYTES_MAX];

	for (; first < end; first += NEAREST_BLOCK_ROWS) {
		if (end - first > AHEAD_ROWS)
			nearest_rows_prefetch(search->rows, first + AHEAD_ROWS);
		struct nearest_block block = search->how.beside
			? nearest_rows_block_copy(search->rows, first, room)
			: nearest_rows_block(search->rows, first);
		scan_block(search, best, first, &block);
	}
}

/* Helpers keep their own bests in the scratch and merge at the end, under no lock: worker 0 does it. */
static struct best *helper_bests(const struct search *search, unsigned worker, struct best *bests)
{
	for (uint32_t q = 0; q < search->count; q++)
		bests[q] = (struct best){
			.neighbours = search->how.scratch +
				      ((size_t)(worker - 1) * NEAREST_BATCH_MAX + q) * search->most,
			.most = search->asked[q].query->most,
			.limit = nearest_code_limit(-2, &search->asked[q].code),
		};
	return bests;
}

struct shared_scan {
	struct search *search;
	uint32_t counts[NEAREST_THREADS_MAX][NEAREST_BATCH_MAX];
};

static void work(void *context, uint32_t worker, uint32_t thread)
{
	struct shared_scan *shared = context;
	struct search *search = shared->search;
	uint32_t blocks = search->rows_end / NEAREST_BLOCK_ROWS;
	uint32_t first = (uint32_t)((uint64_t)blocks * worker / search->workers);
	uint32_t end = (uint32_t)((uint64_t)blocks * (worker + 1) / search->workers);
	struct best own[NEAREST_BATCH_MAX], *bests = worker ? helper_bests(search, worker, own) : search->best;

	(void)thread;
	scan_range(search, bests, first * NEAREST_BLOCK_ROWS, end * NEAREST_BLOCK_ROWS);
	for (uint32_t q = 0; q < search->count; q++)
		shared->counts[worker][q] = bests[q].count;
}

static void scan(struct search *search)
{
	struct shared_scan shared;      /* kilobytes: not cleared for every scan */

	if (search->workers == 1) {
		scan_range(search, search->best, 0, search->rows_end);
		return;
	}
	shared.search = search;
	pool_run(search->how.threads, search->workers, work, &shared);
	for (unsigned worker = 1; worker < search->workers; worker++) {
		struct best bests[NEAREST_BATCH_MAX];
		helper_bests(search, worker, bests);
		for (uint32_t q = 0; q < search->count; q++)
			for (uint32_t n = 0; n < shared.counts[worker][q]; n++)
				offer(search->users, &search->best[q], &search->asked[q].code,
				      &bests[q].neighbours[n]);
	}
}

/* ---- queries ---- */

/* False: nobody is to be found for it. */
static bool ask(const struct search *search, struct nearest_query *query, struct asked *asked)
{
	int64_t norm;

	if (!query->most || query->user.v >= search->rows_end)
		return false;
	asked->query = query;
	nearest_rows_copy(search->rows, query->user.v, asked->row);
	norm = search->exact->dot(asked->row, asked->row, search->dimensions);
	if (!norm)
		return false;
	asked->length = sqrt((double)norm);
	nearest_code_query(asked->row, search->dimensions, norm, &asked->code);
	return true;
}

static void run_batch(struct search *search)
{
	bool shared = search->how.scratch && (uint64_t)search->rows_end * search->count >= SHARED_WORK_MIN;

	search->workers = shared ? pool_threads(search->how.threads) : 1;
	search->most = 0;
	for (uint32_t q = 0; q < search->count; q++) {
		struct nearest_query *query = search->asked[q].query;
		search->most = query->most > search->most ? query->most : search->most;
		search->best[q] = (struct best){query->neighbours, 0, query->most,
						nearest_code_limit(-2, &search->asked[q].code)};
	}
	scan(search);
	for (uint32_t q = 0; q < search->count; q++) {
		struct nearest_query *query = search->asked[q].query;
		query->count = search->best[q].count;
		for (uint32_t n = 0; n < query->count; n++) {
			double cosine = query->neighbours[n].cosine;
			query->neighbours[n].cosine = cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
		}
	}
	search->count = 0;
}

void nearest_search_rows(const struct nearest_rows *rows, struct user_ids users, struct nearest_how how,
			 struct nearest_query *queries, size_t count)
{
	struct search search;

	search.rows = rows;
	search.users = users;
	search.how = how;
	search.kernels = how.path == NEAREST_BEST ? nearest_rows_kernels(rows) : nearest_kernels_get(how.path);
	search.exact = how.path == NEAREST_SCALAR ? &gcn_kernels_scalar : gcn_kernels_best();
	search.dimensions = nearest_rows_dimensions(rows);
	search.rows_end = nearest_rows_count(rows);
	search.count = 0;
	for (size_t q = 0; q < count; q++) {
		queries[q].count = 0;
		if (queries[q].most > NEAREST_MAX)
			queries[q].most = NEAREST_MAX;
		if (ask(&search, &queries[q], &search.asked[search.count]))
			search.count++;
		if (search.count == NEAREST_BATCH_MAX || (search.count && q + 1 == count))
			run_batch(&search);
	}
}

bool nearest_search_path(enum nearest_path path, const struct gcn *gcn, struct user_ids users,
			 struct nearest_query *queries, size_t count)
{
	if (!nearest_kernels_get(path))
		return false;
	nearest_search_rows(gcn_user_rows(gcn), users, (struct nearest_how){.path = path}, queries, count);
	return true;
}

void nearest_search(const struct gcn *gcn, struct user_ids users, struct nearest_query *queries,
		    size_t count)
{
	nearest_search_rows(gcn_user_rows(gcn), users, (struct nearest_how){0}, queries, count);
}
