/* safetensors.h - the safetensors format, as strict as its own library and stricter where the written
 * rule is: a name given twice is refused. Pure function of the mapped file. */
#ifndef EXITPOLL_SCORER_SAFETENSORS_H
#define EXITPOLL_SCORER_SAFETENSORS_H

#include "scorer/tensor_table.h"

enum { SAFETENSORS_HEADER_MAX = 100000000 };

/* Adds every tensor to the table (unsealed). STATUS_CORRUPT with file, byte and reason; UNSUPPORTED for a
 * rank above TENSOR_RANK_MAX. `file` must outlive the table. */
enum status safetensors_parse(const struct mapped_file *file, struct tensor_table *table,
			      struct error *error);

#endif
