/* torch_zip.h - a PyTorch checkpoint in its zip form, read without executing anything.
 *
 * Members are stored, not compressed; data.pkl is read by torch_pickle.h, whose machine knows only what a
 * dictionary of tensors needs. Pure function of the mapped file. */
#ifndef EXITPOLL_SCORER_TORCH_ZIP_H
#define EXITPOLL_SCORER_TORCH_ZIP_H

#include "scorer/tensor_table.h"

enum { TORCH_MEMBERS_MAX = 65536 };

/* Adds every tensor of the state dictionary to the table (unsealed). STATUS_CORRUPT with file, byte and
 * reason; UNSUPPORTED for what a checkpoint may hold but we do not read. `file` outlives the table. */
enum status torch_zip_parse(const struct mapped_file *file, struct tensor_table *table,
			    struct error *error);

#endif
