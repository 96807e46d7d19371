/* checkpoint.h - the files of a model: found, mapped, parsed into one table of tensors.
 *
 * A GGUF file, or a Hugging Face folder with config.json and model.safetensors or pytorch_model.bin, one
 * file or shards named by an index. Immutable after open, any thread. */
#ifndef EXITPOLL_SCORER_CHECKPOINT_H
#define EXITPOLL_SCORER_CHECKPOINT_H

#include "scorer/gguf.h"
#include "scorer/model.h"

struct checkpoint {
	struct model_config config;
	struct tensor_table table;      /* sealed */
	struct gguf *gguf;              /* NULL: a Hugging Face folder */
	struct mapped_file *files;      /* files[0]: config.json or the GGUF file; then the weights */
	size_t file_count;
};

enum status checkpoint_open(const char *path, struct checkpoint *out, struct error *error);
void checkpoint_close(struct checkpoint *checkpoint);   /* zeroed ok; leaves it zeroed */

#endif
