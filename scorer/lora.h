/* lora.h - a PEFT LoRA adapter: W + scale * B A, added to rows as they are read.
 *
 * A and B are kept as float32. Rows are in Hugging Face's order, whatever the base model's format.
 * Immutable after open, any thread. */
#ifndef EXITPOLL_SCORER_LORA_H
#define EXITPOLL_SCORER_LORA_H

#include "scorer/model.h"
#include "scorer/tensor_table.h"

struct lora;

/* `folder` holds adapter_config.json and adapter_model.safetensors. Every tensor must fit the model;
 * STATUS_CORRUPT, NO_INPUT or UNSUPPORTED (named) otherwise. */
enum status lora_open(const char *folder, const struct model_config *config, struct lora **out,
		      struct error *error);
/* The same from files[0] (configuration) and files[1] (tensors), which it takes over, failing or not. */
enum status lora_from_files(struct mapped_file files[2], const struct model_config *config, struct lora **out,
			    struct error *error);
void lora_close(struct lora *lora);                     /* NULL ok */

/* Adds the update of rows [first, first + count) to out [count, columns]; nothing for tensors that the
 * adapter leaves alone. Each element is summed over the rank in double, in order. */
void lora_add(const struct lora *lora, enum model_tensor tensor, uint32_t layer, uint32_t first,
	      uint32_t count, float *out);
/* The files' bytes, for the content hash. */
const struct mapped_file *lora_files(const struct lora *lora, size_t *count);

#endif
