/* export.c - see export.h. Streams: nothing is held but the sorted ids and what threads have rendered ahead. */
#include "graph-updater/export.h"

#include "graph-updater/export_text.h"
#include "graph-updater/updater_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, NPY_HEADER_BYTES = 128, MOST_DEFAULT = 10 };
/* What a table's row has beside ids, at most; edges rendered by a thread at once; ids fetched ahead. */
enum { ROW_BYTES_MAX = 128, PART_EDGES = 1 << 13, ITEMS_AHEAD = 8 };

/* ---- a file that appears whole or not at all ---- */

struct output {
	char path[PATH_BYTES], part[PATH_BYTES];
	FILE *stream;
};

static enum status output_open(struct output *output, const char *name, const char *ending,
			       struct error *error)
{
	if (snprintf(output->path, PATH_BYTES, "%s.%s", name, ending) >= PATH_BYTES - 8)
		return error_set(error, STATUS_CANNOT_CREATE, "export %s: the name is too long", name);
	snprintf(output->part, PATH_BYTES, "%.*s.part", PATH_BYTES - 8, output->path);
	output->stream = fopen(output->part, "wb");
	if (!output->stream)
		return error_set(error, STATUS_CANNOT_CREATE, "export %s: %s", output->part, strerror(errno));
	return STATUS_OK;
}

static void output_abort(struct output *output)
{
	if (!output->stream)
		return;
	fclose(output->stream);
	unlink(output->part);
	output->stream = NULL;
}

static enum status output_close(struct output *output, struct error *error)
{
	bool failed = ferror(output->stream) || fflush(output->stream) || fsync(fileno(output->stream));

	failed |= fclose(output->stream) != 0;
	output->stream = NULL;
	if (failed || rename(output->part, output->path)) {
		unlink(output->part);
		return error_set(error, STATUS_IO, "export %s: %s", output->path,
				 strerror(errno ? errno : EIO));
	}
	return STATUS_OK;
}

/* ---- arrays ---- */

/* NumPy's format 1.0: magic, header length, a Python dict padded to a multiple of 64. */
static void put_npy_header(FILE *stream, uint64_t rows, uint32_t dimensions)
{
	char header[NPY_HEADER_BYTES];
	uint16_t length = NPY_HEADER_BYTES - 10;
	int used;

	memcpy(header, "\x93NUMPY\x01\x00", 8);
	memcpy(header + 8, &length, sizeof length);
	used = snprintf(header + 10, sizeof header - 10,
			"{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64 ", %u), }", rows,
				dimensions);
	memset(header + 10 + used, ' ', sizeof header - 10 - (size_t)used);
	header[NPY_HEADER_BYTES - 1] = '\n';
	fwrite(header, 1, sizeof header, stream);
}

/* The row of a node, or NULL where there is none. */
static const int16_t *row_of(const struct updater *updater, const struct export_options *options,
			     uint32_t node)
{
	struct user_id user = {node};
	struct item_id item = {node};

	if (!(options->items ? gcn_item_degree(updater->gcn, item) : gcn_user_degree(updater->gcn, user)))
		return NULL;
	if (options->what == EXPORT_SEEDS)
		return options->items ? gcn_item_hidden(updater->gcn, 0, item)
			: gcn_user_hidden(updater->gcn, 0, user);
	return options->items ? gcn_item_embedding(updater->gcn, item)
		: gcn_user_embedding(updater->gcn, user);
}

static enum status export_rows(const struct updater *updater, const struct export_options *options,
			       const uint32_t *nodes, uint32_t count, uint64_t *rows, struct error *error)
{
	const struct ids *ids = options->items ? updater->items.table : updater->users.table;
	uint32_t dimensions = gcn_dimensions(updater->gcn);
	struct output array = {.stream = NULL}, names = {.stream = NULL};
	struct export_text line = {0};
	float values[GCN_DIMENSIONS_MAX];
	enum status status;

	*rows = 0;
	for (uint32_t n = 0; n < count; n++)
		*rows += row_of(updater, options, nodes[n]) != NULL;
	if ((status = output_open(&array, options->name, "npy", error)) ||
	    (status = output_open(&names, options->name, "ids", error)))
		goto cleanup;
	put_npy_header(array.stream, *rows, dimensions);
	for (uint32_t n = 0; n < count; n++) {
		const int16_t *row = row_of(updater, options, nodes[n]);
		if (n % 4096 == 0)
			advance_tell(options->advance, "exporting", n, count);
		if (!row)
			continue;
		for (uint32_t i = 0; i < dimensions; i++)
			values[i] = (float)row[i] / GCN_ONE;
		fwrite_unlocked(values, sizeof *values, dimensions, array.stream);
		line.size = 0;
		if (!export_text_room(&line, 2 * ids_bytes(ids, nodes[n]).size + 1)) {
			status = error_set(error, STATUS_NO_MEMORY, "export: out of memory");
			goto cleanup;
		}
		export_put_escaped(&line, ids_bytes(ids, nodes[n]));
		export_put_byte(&line, '\n');
		fwrite_unlocked(line.bytes, 1, line.size, names.stream);
	}
	status = output_close(&array, error);
	if (!status)
		status = output_close(&names, error);
cleanup:
	output_abort(&array);
	output_abort(&names);
	mem_free(line.bytes);
	return status;
}

/* ---- tables ---- */

/* Rows of users; what a thread needs of its own is its place in `found`. */
struct users_table {
	const struct updater *updater;
	const uint32_t *users;          /* [count] */
	uint32_t count, most;
	struct neighbour *found;        /* [threads][NEAREST_BATCH_MAX][most]; neighbours */
	/* Edges: item ids as they are written, [item_ends[i - 1], item_ends[i]) that of item i. Edges go to items in
	 * no order, and where ids are kept each would cost two misses of the cache. */
	struct export_text items;
	uint64_t *item_ends;
};

static bool gather_items(struct users_table *table)
{
	const struct ids *ids = table->updater->items.table;

	table->item_ends = mem_alloc_array(ids_end(ids), sizeof *table->item_ends);
	for (uint32_t item = 0; item < ids_end(ids) && table->item_ends; item++) {
		struct text_view bytes = ids_bytes(ids, item);
		if (!export_text_room(&table->items, 2 * bytes.size))
			return false;
		export_put_escaped(&table->items, bytes);
		table->item_ends[item] = table->items.size;
	}
	return table->item_ends;
}

static struct text_view item_text(const struct users_table *table, uint32_t item)
{
	uint64_t begin = item ? table->item_ends[item - 1] : 0;

	return (struct text_view){table->items.bytes + begin, table->item_ends[item] - begin};
}

static bool row_room(struct export_text *text, size_t more)
{
	return export_text_room(text, more + ROW_BYTES_MAX);
}

static void put_neighbours_of(const struct users_table *table, const struct nearest_query *query,
			      struct export_text *text)
{
	struct text_view user = user_bytes(table->updater->users, query->user);

	for (uint32_t n = 0; n < query->count; n++) {
		struct text_view other = user_bytes(table->updater->users, query->neighbours[n].user);
		if (!row_room(text, 2 * (user.size + other.size)))
			return;
		export_put_escaped(text, user);
		export_put_byte(text, '\t');
		export_put_escaped(text, other);
		text->size += (size_t)snprintf(text->bytes + text->size, ROW_BYTES_MAX, "\t%.9f\n",
					       query->neighbours[n].cosine);
		text->rows++;
	}
}

static void render_neighbours(void *context, uint32_t first, uint32_t end, uint32_t thread,
			      struct export_text *text)
{
	const struct users_table *table = context;
	struct nearest_query queries[NEAREST_BATCH_MAX];
	struct neighbour *found = table->found + (size_t)thread * NEAREST_BATCH_MAX * table->most;

	for (uint32_t u = first; u < end; u++)
		queries[u - first] = (struct nearest_query){{table->users[u]}, table->most,
							    found + (size_t)(u - first) * table->most, 0};
	nearest_search(table->updater->gcn, table->updater->users, queries, end - first);
	for (uint32_t u = first; u < end; u++)
		put_neighbours_of(table, &queries[u - first], text);
}

static uint32_t end_of_batch(void *context, uint32_t first)
{
	const struct users_table *table = context;

	return table->count - first < NEAREST_BATCH_MAX ? table->count : first + NEAREST_BATCH_MAX;
}

static void put_edges_of(const struct users_table *table, struct user_id user, struct export_text *text)
{
	const struct updater *updater = table->updater;
	struct text_view user_text = user_bytes(updater->users, user), mine;
	uint32_t count;
	const struct edge *edges = graph_user_edges(updater->graph, user, &count);
	size_t begin = text->size;

	/* The user's id is escaped once, then copied: from where it first stands, for the text may move. */
	if (!row_room(text, 2 * user_text.size))
		return;
	export_put_escaped(text, user_text);
	mine.size = text->size - begin;
	text->size = begin;
	for (uint32_t e = 0; e < count; e++) {
		struct text_view item = item_text(table, edges[e].other);
		if (e + 2 * ITEMS_AHEAD < count)
			__builtin_prefetch(&table->item_ends[edges[e + 2 * ITEMS_AHEAD].other]);
		if (e + ITEMS_AHEAD < count)
			__builtin_prefetch(item_text(table, edges[e + ITEMS_AHEAD].other).bytes);
		if (!row_room(text, mine.size + item.size))
			return;
		mine.bytes = text->bytes + begin;
		if (e)
			export_put(text, mine);
		else
			text->size += mine.size;
		export_put_byte(text, '\t');
		export_put(text, item);
		export_put_byte(text, '\t');
		export_put(text, text_of(interaction_kind_name(edge_kind(&edges[e]))));
		export_put_byte(text, '\t');
		if (edge_has_rating(&edges[e]))
			export_put_rating(text, (double)graph_edge_rating(updater->graph, &edges[e]));
		export_put_byte(text, '\t');
		export_put_number(text, edge_time_ms(&edges[e]));
		export_put_byte(text, '\n');
		text->rows++;
	}
}

static void render_edges(void *context, uint32_t first, uint32_t end, uint32_t thread, struct export_text *text)
{
	const struct users_table *table = context;

	(void)thread;
	for (uint32_t u = first; u < end; u++)
		put_edges_of(table, (struct user_id){table->users[u]}, text);
}

static uint32_t end_of_edges(void *context, uint32_t first)
{
	const struct users_table *table = context;
	uint32_t edges = 0, count;

	for (; first < table->count && edges < PART_EDGES; edges += count, first++)
		graph_user_edges(table->updater->graph, (struct user_id){table->users[first]}, &count);
	return first;
}

static enum status export_table(const struct updater *updater, const struct export_options *options,
				const uint32_t *users, uint32_t count, uint64_t *rows, struct error *error)
{
	bool neighbours = options->what == EXPORT_NEIGHBORS;
	struct users_table of_users = {.updater = updater, .users = users, .count = count,
				       .most = options->most ? options->most : MOST_DEFAULT};
	struct export_table table = {
		.render = neighbours ? render_neighbours : render_edges,
		.part_end = neighbours ? end_of_batch : end_of_edges,
		.context = &of_users,
		.count = count,
		.threads = options->threads,
		.advance = options->advance,
	};
	struct output output = {.stream = NULL};
	enum status status;

	if (of_users.most > NEAREST_MAX)
		return error_set(error, STATUS_USAGE, "export: %u neighbours, at most %d", of_users.most,
				 (int)NEAREST_MAX);
	if (neighbours)
		of_users.found = mem_alloc_array((size_t)pool_threads(options->threads) * NEAREST_BATCH_MAX,
						 of_users.most * sizeof *of_users.found);
	if (neighbours ? !of_users.found : !gather_items(&of_users))
		status = error_set(error, STATUS_NO_MEMORY, "export: out of memory");
	else
		status = output_open(&output, options->name, "tsv", error);
	if (!status) {
		fputs(neighbours ? "user\tneighbour\tcosine\n" : "user\titem\tkind\trating\ttime_ms\n",
		      output.stream);
		status = export_table_write(&table, output.stream, rows, error);
	}
	if (!status)
		status = output_close(&output, error);
	output_abort(&output);
	mem_free(of_users.found);
	mem_free(of_users.items.bytes);
	mem_free(of_users.item_ends);
	return status;
}

enum status export_state(const struct updater *updater, const struct export_options *options, uint64_t *rows,
			 struct error *error)
{
	bool items = options->items && (options->what == EXPORT_EMBEDDINGS || options->what == EXPORT_SEEDS);
	uint32_t *nodes = NULL, count;
	uint64_t written = 0;
	enum status status;

	if (options->what == EXPORT_SEEDS && !items && !updater->options.both_sides)
		return error_set(error, STATUS_NOT_FOUND,
				 "export: users have no seeds (graph.seeds = items); "
				 "export the items'");
	status = ids_sorted(items ? updater->items.table : updater->users.table, &nodes, &count, error);
	if (status)
		return status;
	if (options->what == EXPORT_EMBEDDINGS || options->what == EXPORT_SEEDS)
		status = export_rows(updater, options, nodes, count, &written, error);
	else
		status = export_table(updater, options, nodes, count, &written, error);
	mem_free(nodes);
	if (!status)
		*rows = written;
	return status;
}
