/* tensor_table.h - the tensors that a checkpoint stores, whatever its format, found by name.
 *
 * Parsers add, then tensor_table_seal() sorts and refuses a name given twice. Data point into mapped
 * files that the table's owner keeps open. Built by one thread; sealed, any thread may look up. */
#ifndef EXITPOLL_SCORER_TENSOR_TABLE_H
#define EXITPOLL_SCORER_TENSOR_TABLE_H

#include "scorer/mapped_file.h"
#include "scorer/tensor_type.h"

enum { TENSOR_RANK_MAX = 4, TENSORS_MAX = 65536, TENSOR_FILES_MAX = 1024, TENSOR_NAME_MAX = 4096 };

struct stored_tensor {
	const char *name;               /* copied into the table, terminated; may hold inner NULs */
	size_t name_size;
	enum tensor_type type;
	uint32_t rank;
	uint64_t shape[TENSOR_RANK_MAX];        /* outermost first */
	const uint8_t *data;
	uint64_t bytes;
	const struct mapped_file *file;
	uint64_t offset;                /* of data in its file */
};

struct tensor_table {
	struct stored_tensor *tensors;
	size_t count, capacity;
	struct arena *names;
};

enum status tensor_table_init(struct tensor_table *table, struct error *error);
void tensor_table_destroy(struct tensor_table *table);  /* zeroed ok */

/* Copies *tensor, its name too. STATUS_CORRUPT past TENSORS_MAX or TENSOR_NAME_MAX. */
enum status tensor_table_add(struct tensor_table *table, const struct stored_tensor *tensor,
			     struct error *error);
enum status tensor_table_seal(struct tensor_table *table, struct error *error);
const struct stored_tensor *tensor_table_find(const struct tensor_table *table, struct text_view name);

#endif
