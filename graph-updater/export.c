/* export.c - see export.h. Streams: nothing is held but the sorted ids and one batch of neighbours. */
#include "graph-updater/export.h"

#include "graph-updater/updater_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, NPY_HEADER_BYTES = 128, MOST_DEFAULT = 10 };

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

/* Nobody else writes to these streams: no lock for each byte. */
static void put_escaped(FILE *stream, struct text_view text)
{
	static const char plain[] = "\\\t\n\r", letter[] = "\\tnr";
	size_t begin = 0;

	for (size_t byte = 0; byte < text.size; byte++) {
		const char *special = (unsigned char)text.bytes[byte] > '\\' ? NULL
				      : memchr(plain, text.bytes[byte], 4);
		if (!special)
			continue;
		fwrite_unlocked(text.bytes + begin, 1, byte - begin, stream);
		putc_unlocked('\\', stream);
		putc_unlocked(letter[special - plain], stream);
		begin = byte + 1;
	}
	if (begin < text.size)
		fwrite_unlocked(text.bytes + begin, 1, text.size - begin, stream);
}

static void put_number(FILE *stream, int64_t number)
{
	char digits[24];
	size_t at = sizeof digits;
	uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;

	do
		digits[--at] = (char)('0' + rest % 10);
	while (rest /= 10);
	if (number < 0)
		digits[--at] = '-';
	fwrite_unlocked(digits + at, 1, sizeof digits - at, stream);
}

static void put_rating(FILE *stream, double rating)
{
	if (rating >= 0 && rating < 1e6 && rating == (double)(int)rating)
		put_number(stream, (int)rating);        /* what %.7g says, and most ratings are whole */
	else
		fprintf(stream, "%.7g", rating);
}

static void report(const struct export_options *options, uint64_t done, uint64_t total)
{
	if (options->progress && (done % 1024 == 0 || done == total))
		options->progress(options->context, done, total);
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
		report(options, n + 1, count);
		if (!row)
			continue;
		for (uint32_t i = 0; i < dimensions; i++)
			values[i] = (float)row[i] / GCN_ONE;
		fwrite(values, sizeof *values, dimensions, array.stream);
		put_escaped(names.stream, ids_bytes(ids, nodes[n]));
		fputc('\n', names.stream);
	}
	status = output_close(&array, error);
	if (!status)
		status = output_close(&names, error);
cleanup:
	output_abort(&array);
	output_abort(&names);
	return status;
}

/* ---- tables ---- */

static enum status put_neighbours(const struct updater *updater, const struct export_options *options,
				  const uint32_t *users, uint32_t count, FILE *stream, uint64_t *rows,
				  struct error *error)
{
	uint32_t most = options->most ? options->most : MOST_DEFAULT;
	struct nearest_query queries[NEAREST_BATCH_MAX];
	struct neighbour *found;

	if (most > NEAREST_MAX)
		return error_set(error, STATUS_USAGE, "export: %u neighbours, at most %d", most,
				 (int)NEAREST_MAX);
	found = mem_alloc_array((size_t)most * NEAREST_BATCH_MAX, sizeof *found);
	if (!found)
		return error_set(error, STATUS_NO_MEMORY, "export: out of memory");
	fputs("user\tneighbour\tcosine\n", stream);
	for (uint32_t first = 0; first < count; first += NEAREST_BATCH_MAX) {
		uint32_t batch = count - first < NEAREST_BATCH_MAX ? count - first : NEAREST_BATCH_MAX;
		for (uint32_t q = 0; q < batch; q++)
			queries[q] = (struct nearest_query){{users[first + q]}, most,
							    found + (size_t)q * most, 0};
		nearest_search(updater->gcn, updater->users, queries, batch);
		for (uint32_t q = 0; q < batch; q++) {
			report(options, first + q + 1, count);
			for (uint32_t n = 0; n < queries[q].count; n++, ++*rows) {
				put_escaped(stream, user_bytes(updater->users, queries[q].user));
				fputc('\t', stream);
				put_escaped(stream, user_bytes(updater->users,
							       queries[q].neighbours[n].user));
				fprintf(stream, "\t%.9f\n", queries[q].neighbours[n].cosine);
			}
		}
	}
	mem_free(found);
	return STATUS_OK;
}

static void put_graph(const struct updater *updater, const struct export_options *options,
		      const uint32_t *users,
		      uint32_t count, FILE *stream, uint64_t *rows)
{
	fputs("user\titem\tkind\trating\ttime_ms\n", stream);
	for (uint32_t u = 0; u < count; u++) {
		struct user_id user = {users[u]};
		uint32_t edges_count;
		const struct edge *edges = graph_user_edges(updater->graph, user, &edges_count);
		report(options, u + 1, count);
		for (uint32_t e = 0; e < edges_count; e++, ++*rows) {
			put_escaped(stream, user_bytes(updater->users, user));
			putc_unlocked('\t', stream);
			put_escaped(stream, item_bytes(updater->items, (struct item_id){edges[e].other}));
			putc_unlocked('\t', stream);
			fputs_unlocked(interaction_kind_name(edge_kind(&edges[e])), stream);
			putc_unlocked('\t', stream);
			if (edge_has_rating(&edges[e]))
				put_rating(stream, (double)graph_edge_rating(updater->graph, &edges[e]));
			putc_unlocked('\t', stream);
			put_number(stream, edge_time_ms(&edges[e]));
			putc_unlocked('\n', stream);
		}
	}
}

enum status export_state(const struct updater *updater, const struct export_options *options, uint64_t *rows,
			 struct error *error)
{
	bool items = options->items && (options->what == EXPORT_EMBEDDINGS || options->what == EXPORT_SEEDS);
	struct output table = {.stream = NULL};
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
	if (options->what == EXPORT_EMBEDDINGS || options->what == EXPORT_SEEDS) {
		status = export_rows(updater, options, nodes, count, &written, error);
	} else {
		status = output_open(&table, options->name, "tsv", error);
		if (!status && options->what == EXPORT_NEIGHBORS)
			status = put_neighbours(updater, options, nodes, count, table.stream, &written,
						error);
		else if (!status)
			put_graph(updater, options, nodes, count, table.stream, &written);
		if (!status)
			status = output_close(&table, error);
	}
	output_abort(&table);
	mem_free(nodes);
	if (!status)
		*rows = written;
	return status;
}
