/* fuzz_gguf.c - any bytes as a GGUF file: container, configuration, tokenizer. What is
 * accepted is read whole. */
#include "scorer/model_config.h"
#include "scorer/tokenizer_parts.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct tensor_table *table, const struct mapped_file *file)
{
	float row[32];

	for (size_t i = 0; i < table->count; i++) {
		const struct stored_tensor *tensor = &table->tensors[i];
		uint32_t block = tensor_type_block(tensor->type);
		if (tensor->offset > file->size || tensor->bytes > file->size - tensor->offset)
			abort();
		if (tensor->bytes)
			tensor_type_to_float(tensor->type, tensor->data, block, row);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mapped_file file = {.path = (char *)(uintptr_t)"fuzz", .bytes = data, .size = size};
	struct tensor_table table;
	struct gguf *gguf = NULL;
	struct tokenizer *tokenizer = NULL;
	struct model_config config;
	struct error error = {0};

	if (tensor_table_init(&table, &error))
		return 0;
	if (gguf_parse(&file, &table, &gguf, &error) == STATUS_OK) {
		read_all(&table, &file);
		model_config_from_gguf(gguf, &file, &config, &error);
		tokenizer_from_file(&file, &tokenizer, &error);
		tokenizer_close(tokenizer);
	} else if (!error.text[0]) {
		abort();
	}
	gguf_destroy(gguf);
	tensor_table_destroy(&table);
	return 0;
}
