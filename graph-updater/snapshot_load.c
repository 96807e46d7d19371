/* snapshot_load.c - reads a state back, believing nothing: every count is bounded by what is really
 * there, every reference checked, every order compared. See snapshot.h.
 *
 * Order: options, state, positions; catalog (its listeners hear of every entry); edges; tombstones;
 * hidden states; sums. A file that passes is a state that some run could have had. */
#include "graph-updater/snapshot.h"
#include "graph-updater/snapshot_layout.h"

#include "base/log.h"
#include "base/pool.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <sys/stat.h>

/* What has been read so far, by place. */
struct loading {
	struct snapshot_reader *reader;
	struct updater *updater;
	struct snapshot_options options;
	struct snapshot_state state;
	uint32_t *items, *users;        /* [state.items], [state.users]: place -> id */
	size_t items_capacity, users_capacity;
	struct arena *arena;            /* one catalog entry */
	const struct advance *advance;  /* NULL: nobody listens */
	struct pool *threads;           /* NULL: few edges, or the system gives none */
	bool same_places;               /* every item's id is its place */
	char *last_id;                  /* to compare the order of ids */
	size_t last_size;
};

enum { ENTRY_BYTES_MAX = 64 << 20, EDGES_AT_ONCE = 1024, ROOM_AT_ONCE = 1 << 16 };
/* A few edges are there sooner than a thread. */
enum { THREADS = 2, THREADS_FROM_EDGES = 1 << 13 };

static enum status corrupt(struct loading *loading, struct error *error, const char *reason)
{
	return snapshot_corrupt(loading->reader, error, reason);
}

/* ---- the beginning ---- */

static enum status read_head(struct snapshot_reader *reader, struct snapshot_options *options,
			     struct snapshot_state *state, char ***names, struct error *error)
{
	enum status status;
	char **texts = NULL;
	size_t options_bytes = snapshot_reader_version(reader) > 1
				       ? sizeof *options : offsetof(struct snapshot_options, item_seeds_epoch);

	*options = (struct snapshot_options){.user_seeds_epoch = 0};
	if ((status = snapshot_expect(reader, SNAPSHOT_OPTIONS, error)) ||
	    (status = snapshot_get(reader, options, options_bytes, error)))
		return status;
	if (options->attributes_count > SNAPSHOT_ATTRIBUTES_MAX)
		return snapshot_corrupt(reader, error, "too many statistics.attributes");
	if (names && !(texts = mem_alloc_zero(options->attributes_count, sizeof *texts)))
		return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	for (uint32_t a = 0; a < options->attributes_count && !status; a++) {
		const char *bytes;
		size_t size;
		status = snapshot_get_text(reader, ID_BYTES_MAX, &bytes, &size, error);
		if (status || !texts)
			continue;
		texts[a] = mem_alloc_zero(size + 1, 1);
		if (!texts[a])
			status = error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
		else if (size)
			memcpy(texts[a], bytes, size);
	}
	if (!status)
		status = snapshot_expect(reader, SNAPSHOT_STATE, error);
	if (!status)
		status = snapshot_get(reader, state, sizeof *state, error);
	if (!status && (state->users > UINT32_MAX || state->items > UINT32_MAX || state->graph_version < 0 ||
			state->events_since_flush > UINT32_MAX || state->positions > SNAPSHOT_POSITIONS_MAX ||
			state->clock_ms > GRAPH_TIME_MAX || (state->clock_ms < 0 &&
							     state->clock_ms != INT64_MIN)))
		status = snapshot_corrupt(reader, error, "the counters are out of range");
	if (status && texts) {
		for (uint32_t a = 0; a < options->attributes_count; a++)
			mem_free(texts[a]);
		mem_free(texts);
	} else if (names) {
		*names = texts;
	}
	return status;
}

enum status snapshot_get_info(const char *path, struct snapshot_info *out, struct error *error)
{
	struct snapshot_reader *reader;
	struct snapshot_options options;
	struct snapshot_state state;
	struct stat about = {0};
	enum status status = snapshot_reader_open(path, NULL, &reader, error);

	if (status)
		return status;
	status = read_head(reader, &options, &state, NULL, error);
	snapshot_reader_close(reader);
	if (status)
		return status;
	stat(path, &about);
	*out = (struct snapshot_info){
		.graph_version = state.graph_version,
		.clock_ms = state.clock_ms,
		.users = state.users,
		.items = state.items,
		.edges = state.edges,
		.tombstones = state.tombstones,
		.positions = state.positions,
		.file_bytes = (uint64_t)about.st_size,
		.same_schemas = options.schema_fingerprint == snapshot_schema_fingerprint(),
		.item_seeds_epoch = options.item_seeds_epoch,
		.user_seeds_epoch = options.user_seeds_epoch,
	};
	return STATUS_OK;
}

enum status snapshot_get_options(const char *path, struct updater_options *out, void **taken,
				 struct error *error)
{
	struct snapshot_reader *reader;
	struct snapshot_options options;
	struct snapshot_state state;
	char **texts, **names;
	size_t bytes = 0;
	enum status status = snapshot_reader_open(path, NULL, &reader, error);

	if (status)
		return status;
	status = read_head(reader, &options, &state, &texts, error);
	snapshot_reader_close(reader);
	if (status)
		return status;
	/* One allocation: pointers, then texts. */
	for (uint32_t a = 0; a < options.attributes_count; a++)
		bytes += sizeof *names + strlen(texts[a]) + 1;
	names = mem_alloc(bytes);
	char *end = (char *)(names + options.attributes_count);
	for (uint32_t a = 0; a < options.attributes_count; a++) {
		if (names) {
			size_t size = strlen(texts[a]) + 1;
			names[a] = memcpy(end, texts[a], size);
			end += size;
		}
		mem_free(texts[a]);
	}
	mem_free(texts);
	if (!names)
		return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	updater_options_defaults(out);
	out->dimensions = options.dimensions;
	out->layers = options.layers;
	memcpy(out->layer_weights, options.layer_weights, sizeof options.layer_weights);
	out->threshold = options.threshold;
	out->both_sides = options.both_sides;
	out->view_edges = options.view_edges;
	out->flush_events = options.flush_events;
	out->edges_max = options.edges_max;
	out->users_max = options.users_max;
	out->items_max = options.items_max;
	out->edge_days = options.edge_days;
	out->tombstone_days = options.tombstone_days;
	out->history_max = options.history_max;
	out->examples_max = options.examples_max;
	out->example_history_max = options.example_history_max;
	out->text_bytes_max = options.text_bytes_max;
	out->request_bytes_max = options.request_bytes_max;
	out->rating_min = options.rating_min;
	out->rating_max = options.rating_max;
	out->positive = options.positive;
	out->item_seeds_epoch = options.item_seeds_epoch;
	out->user_seeds_epoch = options.user_seeds_epoch;
	out->attributes = (const char *const *)names;
	out->attributes_count = options.attributes_count;
	*taken = names;
	return STATUS_OK;
}

/* ---- sections ---- */

static enum status load_positions(struct loading *loading, struct error *error)
{
	struct updater *updater = loading->updater;
	size_t capacity = 0;
	enum status status = snapshot_expect(loading->reader, SNAPSHOT_POSITIONS, error);

	for (uint64_t p = 0; p < loading->state.positions && !status; p++) {
		uint32_t topic, partition;
		uint64_t offset;
		if ((status = snapshot_get_u32(loading->reader, &topic, error)) ||
		    (status = snapshot_get_u32(loading->reader, &partition, error)) ||
		    (status = snapshot_get_u64(loading->reader, &offset, error)))
			return status;
		if (topic >= TOPICS)
			return corrupt(loading, error, "a position of no topic");
		if (!mem_reserve((void **)&updater->positions, &capacity, updater->positions_count,
				 SNAPSHOT_POSITIONS_MAX, sizeof *updater->positions))
			return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
		updater->positions[updater->positions_count++] =
			(struct position){(enum topic)topic, (int32_t)partition, (int64_t)offset};
	}
	return status;
}

/* Of so many nodes as the file claims, how many it has room for: each is a text and a number. */
static uint32_t believable(const struct loading *loading, uint64_t claimed)
{
	uint64_t most = snapshot_reader_left(loading->reader) / (2 * sizeof(uint32_t) + 1);

	return (uint32_t)(claimed < most ? claimed : most);
}

/* The next id; ids ascend strictly, and first is the first of its section. */
static enum status load_id(struct loading *loading, bool first, struct text_view *out, struct error *error)
{
	struct text_view id;
	enum status status = snapshot_get_text(loading->reader, ID_BYTES_MAX, &id.bytes, &id.size, error);

	if (status)
		return status;
	if (id.size == 0)
		return corrupt(loading, error, "an id is empty");
	if (!first && text_compare((struct text_view){loading->last_id, loading->last_size}, id) >= 0)
		return corrupt(loading, error, "ids are not in order");
	memcpy(loading->last_id, id.bytes, id.size);
	loading->last_size = id.size;
	*out = (struct text_view){loading->last_id, id.size};
	return STATUS_OK;
}

/* The arena has refused: for what the file claims, or because there is no memory? */
static enum status refused(struct loading *loading, size_t bytes, struct error *error)
{
	return bytes > ENTRY_BYTES_MAX / 2 || arena_used(loading->arena) + bytes > ENTRY_BYTES_MAX / 2
		       ? corrupt(loading, error, "a catalog entry is larger than any can be")
		       : error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
}

static enum status load_text(struct loading *loading, struct text_view *out, struct error *error)
{
	struct text_view text;
	enum status status = snapshot_get_text(loading->reader, ENTRY_BYTES_MAX / 4, &text.bytes, &text.size,
					       error);

	if (!status && !text_copy(loading->arena, text, out))
		status = refused(loading, text.size, error);
	return status;
}

static enum status load_entry(struct loading *loading, struct text_view id, uint32_t attributes_count,
			      struct error *error)
{
	struct item_event event = {.item_id = id, .attributes_count = attributes_count};
	struct attribute *attributes;
	enum catalog_effect effect;
	enum status status;
	uint64_t time;

	arena_reset(loading->arena);
	if ((status = snapshot_get_u64(loading->reader, &time, error)) ||
	    (status = load_text(loading, &event.title, error)))
		return status;
	attributes = arena_array(loading->arena, attributes_count, sizeof *attributes);
	if (!attributes)
		return refused(loading, attributes_count * sizeof *attributes, error);
	for (uint32_t a = 0; a < attributes_count; a++)
		if ((status = load_text(loading, &attributes[a].name, error)) ||
		    (status = load_text(loading, &attributes[a].value, error)))
			return status;
	event.attributes = attributes;
	event.event_time_ms = (int64_t)time;
	if (event.event_time_ms < 0 || event.event_time_ms > GRAPH_TIME_MAX)
		return corrupt(loading, error, "a catalog entry's time is out of range");
	return catalog_apply(loading->updater->catalog, &event, loading->updater->clock_ms, &effect, error);
}

static enum status load_items(struct loading *loading, struct error *error)
{
	struct updater *updater = loading->updater;
	enum status status = snapshot_expect(loading->reader, SNAPSHOT_ITEMS, error);

	ids_expect(updater->items.table, believable(loading, loading->state.items));
	loading->same_places = true;
	for (uint64_t i = 0; i < loading->state.items && !status; i++) {
		struct text_view id;
		uint32_t attributes;
		if (!mem_reserve((void **)&loading->items, &loading->items_capacity, i,
				 updater->options.items_max,
				 sizeof *loading->items))
			return error_set(error, STATUS_NO_MEMORY,
					 "snapshot: %" PRIu64 " items, graph.items_max is %u",
					 loading->state.items, updater->options.items_max);
		if ((status = load_id(loading, i == 0, &id, error)) ||
		    (status = snapshot_get_u32(loading->reader, &attributes, error)))
			return status;
		if (attributes)
			status = load_entry(loading, id, attributes - 1, error);
		/* Held for its edges; whoever turns out to have none lets go below. */
		if (!status)
			status = (attributes ? ids_hold : ids_load)(updater->items.table, id, IDS_GRAPH,
								   &loading->items[i], error);
		loading->same_places &= !status && loading->items[i] == i;
	}
	ids_load_end(updater->items.table);
	return status;
}

static enum status load_edges(struct loading *loading, uint32_t user, uint32_t count, uint32_t left,
			      struct error *error)
{
	struct edge edges[EDGES_AT_ONCE];
	enum status status = snapshot_get(loading->reader, edges, count * sizeof *edges, error);

	for (uint32_t e = 0; e < count && !status; e++) {
		if (edges[e].other >= loading->state.items)
			return corrupt(loading, error, "an edge to no item");
		if (!loading->same_places)
			edges[e].other = loading->items[edges[e].other];
	}
	/* Room for what is announced, but not for what a damaged file cannot hold. */
	return status ? status : graph_load_edges(loading->updater->graph, (struct user_id){user}, edges, count,
						  left <= ROOM_AT_ONCE ? left : count, error);
}

static enum status load_users(struct loading *loading, struct error *error)
{
	struct updater *updater = loading->updater;
	uint64_t edges = 0;
	enum status status = snapshot_expect(loading->reader, SNAPSHOT_USERS, error);

	ids_expect(updater->users.table, believable(loading, loading->state.users));
	for (uint64_t u = 0; u < loading->state.users && !status; u++) {
		struct text_view id;
		uint32_t count;
		if (!mem_reserve((void **)&loading->users, &loading->users_capacity, u,
				 updater->options.users_max,
				 sizeof *loading->users))
			return error_set(error, STATUS_NO_MEMORY,
					 "snapshot: %" PRIu64 " users, graph.users_max is %u",
					 loading->state.users, updater->options.users_max);
		if ((status = load_id(loading, u == 0, &id, error)) ||
		    (status = ids_load(updater->users.table, id, IDS_GRAPH, &loading->users[u], error)) ||
		    (status = snapshot_get_u32(loading->reader, &count, error)))
			return status;
		if (!count)
			return corrupt(loading, error, "a user without edges");
		edges += count;
		for (uint32_t left = count, part; left && !status; left -= part) {
			part = left < EDGES_AT_ONCE ? left : EDGES_AT_ONCE;
			status = load_edges(loading, loading->users[u], part, left, error);
		}
	}
	ids_load_end(updater->users.table);
	if (!status && edges != loading->state.edges)
		status = corrupt(loading, error, "the number of edges is not what was announced");
	return status;
}

/* Items that have no edge are held by the catalog alone, or should not be there. */
static enum status release_edgeless(struct loading *loading, struct error *error)
{
	for (uint64_t i = 0; i < loading->state.items; i++) {
		struct item_id item = {loading->items[i]};
		if (!graph_item_raters(loading->updater->graph, item).count &&
		    ids_release(loading->updater->items.table, item.v, IDS_GRAPH))
			return corrupt(loading, error, "an item with neither entry nor edges");
	}
	return STATUS_OK;
}

static enum status load_tombstones(struct loading *loading, struct error *error)
{
	enum status status = snapshot_expect(loading->reader, SNAPSHOT_TOMBSTONES, error);

	for (uint64_t t = 0; t < loading->state.tombstones && !status; t++) {
		struct tombstone tombstone;
		bool later;
		status = snapshot_get(loading->reader, &tombstone, sizeof tombstone, error);
		if (status)
			return status;
		if (tombstone.time_ms < 0 || tombstone.time_ms > GRAPH_TIME_MAX)
			return corrupt(loading, error, "a tombstone's time is out of range");
		/* Not kept when graph.tombstone_days has become less: then it has run out. */
		status = tombstones_put(loading->updater->tombstones, &tombstone, loading->updater->clock_ms,
					&later,
					error);
	}
	return status;
}

/* Reads past them when `use` is false. */
static enum status load_embeddings(struct loading *loading, bool use, size_t user_state_bytes,
				   size_t item_state_bytes, struct error *error)
{
	struct gcn *gcn = loading->updater->gcn;
	size_t most = user_state_bytes > item_state_bytes ? user_state_bytes : item_state_bytes;
	unsigned char *state = mem_alloc(most);
	enum status status = snapshot_expect(loading->reader, SNAPSHOT_EMBEDDINGS, error);

	if (!status && !state)
		status = error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	for (uint64_t n = 0; n < loading->state.users + loading->state.items && !status; n++) {
		bool is_user = n < loading->state.users;
		uint32_t pending;
		if ((status = snapshot_get_u32(loading->reader, &pending, error)) ||
		    (status = snapshot_get(loading->reader, state, is_user ? user_state_bytes
					   : item_state_bytes,
					   error)))
			break;
		if (pending > 1)
			status = corrupt(loading, error, "a mark that is neither 0 nor 1");
		else if (use && is_user)
			status = gcn_load_user(gcn, (struct user_id){loading->users[n]}, state, pending,
					       error);
		else if (use)
			status = gcn_load_item(gcn,
					       (struct item_id){loading->items[n - loading->state.users]},
						       state,
					       pending, error);
		if (status == STATUS_CORRUPT)
			break;
	}
	mem_free(state);
	return status;
}

/* ---- all of it ---- */

static bool same_embeddings(const struct snapshot_options *stored, const struct updater_options *options)
{
	return stored->dimensions == options->dimensions && stored->layers == options->layers &&
	       !memcmp(stored->layer_weights, options->layer_weights, sizeof stored->layer_weights) &&
	       stored->both_sides == options->both_sides && stored->view_edges == options->view_edges &&
	       stored->item_seeds_epoch == options->item_seeds_epoch &&
	       stored->user_seeds_epoch == options->user_seeds_epoch;
}

/* Bytes of a node's state under the stored options, which may not be ours. */
static enum status stored_state_bytes(const struct loading *loading, size_t *user_bytes_each,
				      size_t *item_bytes_each, struct error *error)
{
	const struct snapshot_options *stored = &loading->options;
	struct gcn_options options = {
		.dimensions = stored->dimensions,
		.layers = stored->layers,
		.both_sides = stored->both_sides,
		.threshold = stored->threshold,
		.users = loading->updater->users,
		.items = loading->updater->items,
		.graph = loading->updater->graph,
	};
	struct gcn *gcn;
	struct seeds *items = NULL, *users = NULL;
	enum status status = STATUS_OK;

	memcpy(options.layer_weights, stored->layer_weights, sizeof options.layer_weights);
	if (stored->item_seeds_epoch)
		status = seeds_create_absent(stored->item_seeds_epoch, &items, error);
	if (!status && stored->user_seeds_epoch)
		status = seeds_create_absent(stored->user_seeds_epoch, &users, error);
	options.item_seeds = items;
	options.user_seeds = users;
	if (!status)
		status = gcn_create(&options, &gcn, error);
	if (!status) {
		*user_bytes_each = gcn_user_state_bytes(gcn);
		*item_bytes_each = gcn_item_state_bytes(gcn);
		gcn_destroy(gcn);
	}
	seeds_destroy(items);
	seeds_destroy(users);
	return status == STATUS_CONFIG ? snapshot_corrupt(loading->reader, error, "its options are not valid")
				       : status;
}

static enum status load_all(struct loading *loading, struct error *error)
{
	struct updater *updater = loading->updater;
	size_t user_bytes_each = 0, item_bytes_each = 0;
	enum status status;
	bool same;

	status = read_head(loading->reader, &loading->options, &loading->state, NULL, error);
	if (status)
		return status;
	if (loading->options.rating_min != updater->options.rating_min ||
	    loading->options.rating_max != updater->options.rating_max)
		return error_set(error, STATUS_INCOMPATIBLE,
				 "the snapshot was written with statistics.rating_scale = "
				 "%g..%g, not %g..%g: set it back, or start with an empty state folder",
				 loading->options.rating_min, loading->options.rating_max,
					 updater->options.rating_min,
				 updater->options.rating_max);
	if ((status = stored_state_bytes(loading, &user_bytes_each, &item_bytes_each, error)))
		return status;
	same = same_embeddings(&loading->options, &updater->options);
	if (loading->state.edges >= THREADS_FROM_EDGES &&
	    pool_create(THREADS, &loading->threads, NULL))
		loading->threads = NULL;
	updater->clock_ms = loading->state.clock_ms;
	updater->graph_version = loading->state.graph_version;
	updater->graph_events = loading->state.graph_events;
	updater->late_events = loading->state.late_events;
	updater->duplicate_events = loading->state.duplicate_events;
	updater->void_events = loading->state.void_events;
	updater->events_since_flush = (uint32_t)loading->state.events_since_flush;
	gcn_load_begin(updater->gcn);
	if ((status = load_positions(loading, error)) || (status = load_items(loading, error)) ||
	    (status = load_users(loading, error)) ||
	    (status = graph_load_finish(updater->graph, loading->state.evicted, loading->threads, loading->advance,
					error)) ||
	    (status = release_edgeless(loading, error)) ||
	    (status = gcn_load_nodes(updater->gcn, loading->threads, error)) ||
	    (status = load_tombstones(loading, error)) ||
	    (status = load_embeddings(loading, same, user_bytes_each, item_bytes_each, error)) ||
	    (status = snapshot_reader_finish(loading->reader, error)))
		return status;
	enrichment_loaded(updater->enrichment);
	if (same)
		return gcn_load_finish(updater->gcn, loading->threads, loading->advance, error);
	log_info("snapshot.embeddings", "reason=\"%s\" edges=%" PRIu64,
		 loading->options.item_seeds_epoch != updater->options.item_seeds_epoch ||
		 loading->options.user_seeds_epoch != updater->options.user_seeds_epoch
			 ? "other trained seeds: one full pass" : "other graph options, computed anew",
		 loading->state.edges);
	return gcn_load_anew(updater->gcn, loading->threads, loading->advance, error);
}

enum status snapshot_read(struct updater *updater, const char *path, const struct advance *advance,
			  struct error *error)
{
	struct loading loading = {
		.updater = updater,
		.advance = advance,
		.arena = arena_create(ENTRY_BYTES_MAX),
		.last_id = mem_alloc(ID_BYTES_MAX),
	};
	enum status status = STATUS_OK;

	if (!loading.arena || !loading.last_id)
		status = error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	if (!status)
		status = snapshot_reader_open(path, advance, &loading.reader, error);
	if (!status) {
		status = load_all(&loading, error);
		if (status == STATUS_CORRUPT && error && !strstr(error->text, path))
			error_prefix(error, "snapshot %s", path);
	}
	pool_destroy(loading.threads);
	snapshot_reader_close(loading.reader);
	arena_destroy(loading.arena);
	mem_free(loading.last_id);
	mem_free(loading.items);
	mem_free(loading.users);
	return status;
}
