/* seeds.c - see seeds.h. Both files are read side by side, a row and its id at a time; nothing is
 * allocated for what a header claims before the size of the file bears it out. */
#include "graph-updater/seeds.h"

#include "graph-updater/chunks.h"
#include "graph-updater/gcn.h"
#include "graph-updater/ids.h"
#include "graph-updater/npy.h"
#include "graph-updater/seeds_file.h"

#include <inttypes.h>
#include <math.h>
#include <xxhash.h>

struct seeds {
	uint64_t epoch;
	bool absent;
	int16_t magnitude;
	struct ids *ids;        /* id -> row, absent: NULL */
	struct chunks rows;     /* int16 [dimensions] */
};

/* One file pair on its way in. */
struct reading {
	struct seeds *seeds;
	struct seeds_file array, names;
	uint32_t dimensions;
	struct npy npy;
	uint64_t squares;       /* of all values: at most 2^29 rows of 2^8 values of 2^26 */
	float values[GCN_DIMENSIONS_MAX];
	char *id;               /* [ID_BYTES_MAX] */
};

/* ---- reading ---- */

static enum status read_header(struct reading *reading, struct error *error)
{
	unsigned char header[NPY_HEADER_BYTES_MAX];
	struct npy_fault fault;
	size_t size;
	enum status status = seeds_file_take(&reading->array, header, NPY_PREFIX_BYTES, error);

	if (status)
		return status;
	size = npy_header_bytes(header, &fault);
	if (!size)
		return seeds_file_corrupt(&reading->array, fault.byte, fault.reason, error);
	status = seeds_file_take(&reading->array, header + NPY_PREFIX_BYTES, size - NPY_PREFIX_BYTES, error);
	if (status)
		return status;
	if (!npy_parse(header, size, &reading->npy, &fault))
		return seeds_file_corrupt(&reading->array, fault.byte, fault.reason, error);
	if (reading->npy.columns != reading->dimensions)
		return error_set(error, STATUS_CONFIG, "seeds %s: rows of %u dimensions, but graph.dimensions is %u",
				 reading->array.path, reading->npy.columns, reading->dimensions);
	if (!reading->npy.rows || reading->npy.rows > SEEDS_ROWS_MAX)
		return seeds_file_corrupt(&reading->array, size, reading->npy.rows ? "more rows than are read"
					  : "no rows", error);
	if (reading->array.file_bytes != size + reading->npy.rows * reading->dimensions * sizeof(float))
		return seeds_file_corrupt(&reading->array, reading->array.file_bytes,
					  "the file is not as long as its shape says", error);
	return STATUS_OK;
}

static enum status read_row(struct reading *reading, int16_t *row, struct error *error)
{
	uint64_t begin = seeds_file_position(&reading->array);
	enum status status = seeds_file_take(&reading->array, reading->values,
					     reading->dimensions * sizeof(float), error);

	for (uint32_t i = 0; i < reading->dimensions && !status; i++) {
		double value = (double)reading->values[i];
		if (!(fabs(value) <= 1))
			return seeds_file_corrupt(&reading->array, begin + i * sizeof(float),
						  "a value outside -1..1: divide all of them by the largest",
						  error);
		row[i] = (int16_t)rint(value * GCN_ONE);
		reading->squares += (uint64_t)(row[i] * row[i]);
	}
	return status;
}

/* A line, without the escapes; at its end the newline is taken as well. */
static enum status read_id(struct reading *reading, struct text_view *out, struct error *error)
{
	static const char letters[] = "\\tnr", meant[] = "\\\t\n\r";
	struct seeds_file *names = &reading->names;
	uint64_t begin = seeds_file_position(names);
	size_t size = 0;
	bool escaped = false;

	for (;;) {
		const char *letter;
		int byte;
		enum status status = seeds_file_byte(names, &byte, error);
		if (status)
			return status;
		if (byte < 0 && !size && !escaped)
			return seeds_file_corrupt(names, begin, "fewer ids than rows", error);
		if (!escaped && (byte == '\n' || byte < 0))
			break;
		if (!escaped && (byte == '\r' || byte == '\t'))
			return seeds_file_corrupt(names, seeds_file_position(names) - 1,
						  "a tab or carriage return in an id is written \\t, \\r", error);
		if (!escaped && byte == '\\') {
			escaped = true;
			continue;
		}
		letter = escaped && byte > 0 ? strchr(letters, byte) : NULL;
		if (escaped && !letter)
			return seeds_file_corrupt(names, seeds_file_position(names) - (byte >= 0),
						  "after a backslash \\, t, n or r is expected", error);
		if (size == ID_BYTES_MAX)
			return seeds_file_corrupt(names, begin, "an id is longer than any can be", error);
		reading->id[size++] = letter ? meant[letter - letters] : (char)byte;
		escaped = false;
	}
	if (!size)
		return seeds_file_corrupt(names, begin, "an id is empty", error);
	*out = (struct text_view){reading->id, size};
	return STATUS_OK;
}

static enum status read_rows(struct reading *reading, struct error *error)
{
	struct seeds *seeds = reading->seeds;
	_Alignas(64) int16_t row[GCN_DIMENSIONS_MAX];
	enum status status;
	int byte;

	for (uint64_t n = 0; n < reading->npy.rows; n++) {
		uint64_t begin = seeds_file_position(&reading->names);
		struct text_view id;
		uint32_t place;
		if ((status = read_row(reading, row, error)) || (status = read_id(reading, &id, error)))
			return status;
		if (ids_find(seeds->ids, id, &place))
			return seeds_file_corrupt(&reading->names, begin, "an id stands twice", error);
		if ((status = ids_hold(seeds->ids, id, IDS_CATALOG, &place, error)))
			return status;
		if (!chunks_reserve(&seeds->rows, place + 1))
			return error_set(error, STATUS_NO_MEMORY, "seeds: out of memory");
		memcpy(chunks_row(&seeds->rows, place), row, reading->dimensions * sizeof *row);
	}
	status = seeds_file_byte(&reading->names, &byte, error);
	return status || byte < 0 ? status
			: seeds_file_corrupt(&reading->names, seeds_file_position(&reading->names) - 1,
					     "more ids than rows", error);
}

static enum status read_all(struct reading *reading, struct error *error)
{
	struct seeds *seeds = reading->seeds;
	enum status status;
	double mean;

	if ((status = read_header(reading, error)) ||
	    (status = ids_create("seeds", (uint32_t)reading->npy.rows, 0, &seeds->ids, error)))
		return status;
	if (!chunks_create(&seeds->rows, (uint32_t)reading->npy.rows, reading->dimensions * sizeof(int16_t)))
		return error_set(error, STATUS_NO_MEMORY, "seeds: out of memory");
	status = read_rows(reading, error);
	if (status)
		return status;
	mean = (double)reading->squares / ((double)reading->npy.rows * reading->dimensions);
	seeds->magnitude = (int16_t)rint(sqrt(mean));
	if (!seeds->magnitude)
		seeds->magnitude = 1;
	seeds->epoch = XXH3_64bits_withSeed(&reading->array.fingerprint, sizeof reading->array.fingerprint,
					    reading->names.fingerprint);
	if (!seeds->epoch)
		seeds->epoch = 1;
	return STATUS_OK;
}

enum status seeds_open(const char *name, uint32_t dimensions, struct seeds **out, struct error *error)
{
	struct reading reading = {
		.seeds = mem_alloc_zero(1, sizeof *reading.seeds),
		.dimensions = dimensions,
		.array = {.file = -1},
		.names = {.file = -1},
		.id = mem_alloc(ID_BYTES_MAX),
	};
	enum status status = STATUS_OK;

	if (!reading.seeds || !reading.id)
		status = error_set(error, STATUS_NO_MEMORY, "seeds: out of memory");
	if (!status)
		status = seeds_file_open(&reading.array, name, ".npy", error);
	if (!status)
		status = seeds_file_open(&reading.names, name, ".ids", error);
	if (!status)
		status = read_all(&reading, error);
	seeds_file_close(&reading.array);
	seeds_file_close(&reading.names);
	mem_free(reading.id);
	if (status)
		seeds_destroy(reading.seeds);
	else
		*out = reading.seeds;
	return status;
}

enum status seeds_create_absent(uint64_t epoch, struct seeds **out, struct error *error)
{
	struct seeds *seeds = mem_alloc_zero(1, sizeof *seeds);

	if (!seeds)
		return error_set(error, STATUS_NO_MEMORY, "seeds: out of memory");
	*seeds = (struct seeds){.epoch = epoch, .absent = true, .magnitude = 1};
	*out = seeds;
	return STATUS_OK;
}

void seeds_destroy(struct seeds *seeds)
{
	if (!seeds)
		return;
	ids_destroy(seeds->ids);
	chunks_destroy(&seeds->rows);
	mem_free(seeds);
}

/* ---- readers ---- */

bool seeds_are_absent(const struct seeds *seeds)
{
	return seeds && seeds->absent;
}

uint64_t seeds_epoch(const struct seeds *seeds)
{
	return seeds ? seeds->epoch : 0;
}

uint32_t seeds_count(const struct seeds *seeds)
{
	return seeds->ids ? ids_count(seeds->ids) : 0;
}

const int16_t *seeds_find(const struct seeds *seeds, struct text_view id)
{
	uint32_t place;

	return seeds->ids && ids_find(seeds->ids, id, &place) ? chunks_row(&seeds->rows, place) : NULL;
}

int16_t seeds_magnitude(const struct seeds *seeds)
{
	return seeds->magnitude;
}

size_t seeds_memory(const struct seeds *seeds)
{
	return seeds->ids ? sizeof *seeds + ids_memory(seeds->ids) + chunks_bytes(&seeds->rows) : sizeof *seeds;
}
