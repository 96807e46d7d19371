/* torch_pickle.h - the state dictionary inside a PyTorch checkpoint's data.pkl, read by a machine that can
 * build dictionaries, tuples and tensors and nothing else.
 *
 * Nothing is imported or called: a global other than the storages, OrderedDict and the two functions that
 * rebuild tensors is refused by name, and so is every opcode that such a file does not need. Stack, memo,
 * values and steps are bounded by the length of the file. One thread per call. */
#ifndef EXITPOLL_SCORER_TORCH_PICKLE_H
#define EXITPOLL_SCORER_TORCH_PICKLE_H

#include "scorer/tensor_table.h"

enum { TORCH_PICKLE_BYTES_MAX = 16 << 20 };

/* A tensor of the dictionary: a window of a storage, by rows. Texts point into the pickle. */
struct torch_tensor {
	struct text_view name, storage_key;
	enum tensor_type type;
	uint64_t storage_elements, offset;      /* in elements */
	uint32_t rank;
	uint64_t shape[TENSOR_RANK_MAX];
};

typedef enum status (*torch_pickle_take)(void *context, const struct torch_tensor *tensor,
					 struct error *error);

/* Reads file->bytes[start, start + size) and calls take for every tensor in the dictionary's order. */
enum status torch_pickle_read(const struct mapped_file *file, size_t start, size_t size,
			      torch_pickle_take take, void *context, struct error *error);

#endif
