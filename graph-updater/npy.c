/* npy.c - see npy.h. The header is a Python dict of three entries in any order, padded with spaces:
 * {'descr': '<f4', 'fortran_order': False, 'shape': (3, 64), } */
#include "graph-updater/npy.h"

#include <string.h>

enum { COLUMNS_MAX = 1 << 16 };
static const uint64_t rows_most = UINT64_C(1) << 40;

struct scan {
	const unsigned char *bytes;
	size_t size, at;
	const char *reason;     /* NULL: all well so far */
};

static bool fail(struct scan *scan, const char *reason)
{
	if (!scan->reason)
		scan->reason = reason;
	return false;
}

static void skip_spaces(struct scan *scan)
{
	while (scan->at < scan->size && scan->bytes[scan->at] == ' ')
		scan->at++;
}

static bool take(struct scan *scan, const char *text)
{
	size_t size = strlen(text);

	skip_spaces(scan);
	if (size > scan->size - scan->at || memcmp(scan->bytes + scan->at, text, size) != 0)
		return false;
	scan->at += size;
	return true;
}

static bool take_text(struct scan *scan, const char **out, size_t *size)
{
	const unsigned char *end;
	unsigned char quote;

	skip_spaces(scan);
	quote = scan->at < scan->size ? scan->bytes[scan->at] : 0;
	if (quote != '\'' && quote != '"')
		return fail(scan, "a text in quotes is expected");
	end = memchr(scan->bytes + scan->at + 1, quote, scan->size - scan->at - 1);
	if (!end)
		return fail(scan, "a text has no end");
	*out = (const char *)scan->bytes + scan->at + 1;
	*size = (size_t)(end - scan->bytes) - scan->at - 1;
	scan->at += *size + 2;
	return true;
}

static bool take_number(struct scan *scan, uint64_t most, uint64_t *out)
{
	uint64_t number = 0;
	bool any = false;

	skip_spaces(scan);
	for (; scan->at < scan->size && scan->bytes[scan->at] >= '0' && scan->bytes[scan->at] <= '9'; scan->at++) {
		number = number * 10 + (uint64_t)(scan->bytes[scan->at] - '0');
		if (number > most)
			return fail(scan, "the shape is larger than any that is read here");
		any = true;
	}
	*out = number;
	return any || fail(scan, "a number is expected: the shape is (rows, dimensions)");
}

static bool take_entry(struct scan *scan, struct npy *out, unsigned *seen)
{
	static const char *const keys[] = {"descr", "fortran_order", "shape"};
	const char *key, *type;
	size_t key_size, type_size;
	uint64_t columns;
	unsigned which = 0;

	if (!take_text(scan, &key, &key_size))
		return false;
	while (which < 3 && !(strlen(keys[which]) == key_size && memcmp(keys[which], key, key_size) == 0))
		which++;
	if (which == 3)
		return fail(scan, "an entry that numpy's format does not have");
	if (*seen >> which & 1)
		return fail(scan, "an entry stands twice");
	*seen |= 1u << which;
	if (!take(scan, ":"))
		return fail(scan, "a colon is expected");
	if (which == 0)
		return take_text(scan, &type, &type_size) &&
		       ((type_size == 3 && memcmp(type, "<f4", 3) == 0) ||
			fail(scan, "not float32: numpy.save(name, rows.astype('<f4'))"));
	if (which == 1)
		return take(scan, "False") ||
		       fail(scan, "not a row after the other: numpy.save(name, numpy.ascontiguousarray(rows))");
	if (!take(scan, "(") || !take_number(scan, rows_most, &out->rows) || !take(scan, ",") ||
	    !take_number(scan, COLUMNS_MAX, &columns))
		return fail(scan, "the shape is not (rows, dimensions)");
	out->columns = (uint32_t)columns;
	take(scan, ",");
	return take(scan, ")") || fail(scan, "the shape is not (rows, dimensions)");
}

size_t npy_header_bytes(const unsigned char *prefix, struct npy_fault *fault)
{
	size_t size;

	if (memcmp(prefix, "\x93NUMPY", 6) != 0) {
		*fault = (struct npy_fault){0, "not a numpy array"};
		return 0;
	}
	if (prefix[6] < 1 || prefix[6] > 3 || prefix[7] != 0) {
		*fault = (struct npy_fault){6, "a version of numpy's format that is not known here"};
		return 0;
	}
	size = (size_t)prefix[8] | (size_t)prefix[9] << 8;
	if (prefix[6] > 1)
		size |= (size_t)prefix[10] << 16 | (size_t)prefix[11] << 24;
	size += prefix[6] > 1 ? 12 : 10;
	if (size < NPY_PREFIX_BYTES || size > NPY_HEADER_BYTES_MAX) {
		*fault = (struct npy_fault){8, "a header of no sensible length"};
		return 0;
	}
	return size;
}

bool npy_parse(const unsigned char *header, size_t size, struct npy *out, struct npy_fault *fault)
{
	struct scan scan = {header, size, header[6] > 1 ? 12 : 10, NULL};
	struct npy npy = {0, 0};
	unsigned seen = 0;
	bool good = take(&scan, "{") || fail(&scan, "the header is no dict");

	while (good && !take(&scan, "}")) {
		good = take_entry(&scan, &npy, &seen);
		if (good && !take(&scan, ",")) {
			good = take(&scan, "}") || fail(&scan, "the dict has no end");
			break;
		}
	}
	if (good && seen != 7)
		good = fail(&scan, "descr, fortran_order or shape is missing");
	if (good && (!take(&scan, "\n") || scan.at != size))
		good = fail(&scan, "something stands after the dict");
	if (good)
		*out = npy;
	else
		*fault = (struct npy_fault){scan.at, scan.reason};
	return good;
}
