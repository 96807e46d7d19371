/* neighbours.c - a table of lists that is emptied at every flush.
 *
 * Invariant: lists[i] belongs to keys[] entry i, all of the present epoch. Called by enrich.c, owner
 * thread. */
#include "graph-updater/neighbours.h"

#include "base/clock.h"

enum { SLOTS = NEIGHBOURS_KEPT_MAX * 2, SCAN_USERS = NEAREST_BATCH_MAX };

struct kept {
	struct user_id user;
	uint32_t count;
	int64_t norm;           /* of the user's own row when it was searched for */
};

struct neighbours {
	const struct gcn *gcn;
	struct user_ids users;
	uint32_t most;
	uint64_t epoch;
	uint32_t kept_count;
	uint16_t *slots;                /* [SLOTS], index + 1 into kept; 0: empty */
	struct kept *kept;              /* [NEIGHBOURS_KEPT_MAX] */
	struct neighbour *lists;        /* [NEIGHBOURS_KEPT_MAX * most] */
	struct neighbour *scratch;      /* [SCAN_USERS * most] */
	struct nearest_how how;         /* threads and their scratch are ours */
	struct neighbours_stats stats;
};

_Static_assert(NEIGHBOURS_KEPT_MAX < UINT16_MAX, "a slot holds index + 1");

static enum status create_threads(struct neighbours *neighbours, unsigned threads, struct error *error)
{
	if (threads < 2 || !neighbours->most)
		return STATUS_OK;
	if (threads > NEAREST_THREADS_MAX)
		return error_set(error, STATUS_CONFIG, "%u threads for similar users: at most %d can be", threads,
				 (int)NEAREST_THREADS_MAX);
	neighbours->how.scratch = mem_alloc_array((size_t)(threads - 1) * NEAREST_BATCH_MAX * neighbours->most,
						  sizeof *neighbours->how.scratch);
	if (!neighbours->how.scratch)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the threads of similar users");
	return pool_create(threads, &neighbours->how.threads, error);
}

enum status neighbours_create(const struct gcn *gcn, struct user_ids users, uint32_t most, unsigned threads,
			      struct neighbours **out, struct error *error)
{
	enum status status;
	struct neighbours *neighbours = mem_alloc_zero(1, sizeof *neighbours);

	if (neighbours) {
		*neighbours = (struct neighbours){
			.gcn = gcn,
			.users = users,
			.most = most,
			.slots = mem_alloc_zero(SLOTS, sizeof *neighbours->slots),
			.kept = mem_alloc_array(NEIGHBOURS_KEPT_MAX, sizeof *neighbours->kept),
			.lists = mem_alloc_array((size_t)NEIGHBOURS_KEPT_MAX * most,
						 sizeof *neighbours->lists),
			.scratch = mem_alloc_array((size_t)SCAN_USERS * most,
						   sizeof *neighbours->scratch),
		};
	}
	if (!neighbours || !neighbours->slots || !neighbours->kept || !neighbours->lists ||
	    !neighbours->scratch) {
		neighbours_destroy(neighbours);
		return error_set(error, STATUS_NO_MEMORY, "no memory for the lists of similar users");
	}
	status = create_threads(neighbours, threads, error);
	if (status)
		neighbours_destroy(neighbours);
	else
		*out = neighbours;
	return status;
}

void neighbours_destroy(struct neighbours *neighbours)
{
	if (!neighbours)
		return;
	mem_free(neighbours->slots);
	mem_free(neighbours->kept);
	mem_free(neighbours->lists);
	mem_free(neighbours->scratch);
	pool_destroy(neighbours->how.threads);
	mem_free(neighbours->how.scratch);
	mem_free(neighbours);
}

static void forget_all(struct neighbours *neighbours)
{
	if (neighbours->kept_count)
		memset(neighbours->slots, 0, SLOTS * sizeof *neighbours->slots);
	neighbours->kept_count = 0;
}

void neighbours_epoch(struct neighbours *neighbours, uint64_t epoch)
{
	if (epoch != neighbours->epoch)
		forget_all(neighbours);
	neighbours->epoch = epoch;
}

static uint32_t slot_of(const struct neighbours *neighbours, struct user_id user)
{
	uint32_t slot = (uint32_t)(user.v * UINT32_C(2654435769)) >> 16 & (SLOTS - 1);

	while (neighbours->slots[slot] && neighbours->kept[neighbours->slots[slot] - 1].user.v != user.v)
		slot = (slot + 1) & (SLOTS - 1);
	return slot;
}

/* Neither the user nor anyone of the list has become zero since. */
static bool still_right(const struct neighbours *neighbours, const struct kept *kept,
			const struct neighbour *list)
{
	if (gcn_user_norm(neighbours->gcn, kept->user) != kept->norm)
		return false;
	for (uint32_t i = 0; i < kept->count; i++)
		if (gcn_user_norm(neighbours->gcn, list[i].user) != list[i].norm)
			return false;
	return true;
}

/* The kept list of the user, or NULL. */
static struct kept *find(const struct neighbours *neighbours, struct user_id user,
			 struct neighbour **list)
{
	uint32_t index = neighbours->slots[slot_of(neighbours, user)];
	struct kept *kept;

	if (!index)
		return NULL;
	kept = &neighbours->kept[index - 1];
	*list = neighbours->lists + (size_t)(index - 1) * neighbours->most;
	return still_right(neighbours, kept, *list) ? kept : NULL;
}

static void keep(struct neighbours *neighbours, const struct nearest_query *query)
{
	uint32_t slot = slot_of(neighbours, query->user), index = neighbours->slots[slot];

	if (!index) {
		if (neighbours->kept_count == NEIGHBOURS_KEPT_MAX)
			return;
		index = ++neighbours->kept_count;
		neighbours->slots[slot] = (uint16_t)index;
	}
	neighbours->kept[index - 1] = (struct kept){
		query->user, query->count, gcn_user_norm(neighbours->gcn, query->user)};
	memcpy(neighbours->lists + (size_t)(index - 1) * neighbours->most, query->neighbours,
	       query->count * sizeof *query->neighbours);
}

static void search(struct neighbours *neighbours, struct nearest_query *queries, size_t count)
{
	int64_t begin = clock_steady_ns();

	nearest_search_rows(gcn_user_rows(neighbours->gcn), neighbours->users, neighbours->how, queries, count);
	neighbours->stats.scans++;
	neighbours->stats.scan_ns += (uint64_t)(clock_steady_ns() - begin);
	for (size_t i = 0; i < count; i++)
		keep(neighbours, &queries[i]);
}

static struct nearest_query query_for(const struct neighbours *neighbours, struct user_id user, size_t place)
{
	return (struct nearest_query){
		.user = user,
		.most = neighbours->most,
		.neighbours = neighbours->scratch + place * neighbours->most,
	};
}

const struct neighbour *neighbours_of(struct neighbours *neighbours, struct user_id user, uint32_t *count)
{
	struct neighbour *list = NULL;
	struct nearest_query query;
	struct kept *kept;

	*count = 0;
	if (!neighbours->most || !gcn_user_norm(neighbours->gcn, user))
		return NULL;
	kept = find(neighbours, user, &list);
	if (kept) {
		*count = kept->count;
		return list;
	}
	query = query_for(neighbours, user, 0);
	search(neighbours, &query, 1);
	*count = query.count;
	return query.neighbours;
}

void neighbours_prepare(struct neighbours *neighbours, const struct user_id *users, size_t count)
{
	struct nearest_query queries[SCAN_USERS];
	struct neighbour *list;
	size_t waiting = 0;

	if (!neighbours->most)
		return;
	for (size_t i = 0; i < count; i++) {
		bool asked = !gcn_user_norm(neighbours->gcn, users[i]) ||
			     find(neighbours, users[i], &list);
		for (size_t j = 0; j < waiting && !asked; j++)
			asked = queries[j].user.v == users[i].v;
		/* What could not be kept would be searched for twice. */
		if (asked || neighbours->kept_count + waiting >= NEIGHBOURS_KEPT_MAX)
			continue;
		queries[waiting] = query_for(neighbours, users[i], waiting);
		if (++waiting == SCAN_USERS) {
			search(neighbours, queries, waiting);
			waiting = 0;
		}
	}
	if (waiting)
		search(neighbours, queries, waiting);
}

struct neighbours_stats neighbours_get_stats(const struct neighbours *neighbours)
{
	struct neighbours_stats stats = neighbours->stats;

	stats.memory_bytes = sizeof *neighbours + SLOTS * sizeof *neighbours->slots +
			     NEIGHBOURS_KEPT_MAX * sizeof *neighbours->kept +
			     ((size_t)NEIGHBOURS_KEPT_MAX +
			      SCAN_USERS * pool_threads(neighbours->how.threads)) *
				     neighbours->most * sizeof *neighbours->lists;
	return stats;
}
