/* fuzz_lora.c - any bytes as the two files of an adapter: the length of the first in two bytes, then both. */
#include "scorer/lora.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct model_config config = {.hidden_size = 8, .intermediate_size = 12, .layers = 2,
						   .heads = 1,
						   .kv_heads = 1, .head_size = 8, .vocabulary = 6};
	struct mapped_file files[2] = {{0}};
	struct lora *lora = NULL;
	struct error error = {0};
	float rows[12 * 12] = {0};
	size_t first;

	if (size < 2)
		return 0;
	first = (size_t)data[0] | (size_t)data[1] << 8;
	if (first > size - 2)
		first = size - 2;
	files[0] = (struct mapped_file){.path = mem_copy_string("c"), .bytes = data + 2, .size = first};
	files[1] = (struct mapped_file){.path = mem_copy_string("t"), .bytes = data + 2 + first,
					.size = size - 2 - first};
	if (lora_from_files(files, &config, &lora, &error) != STATUS_OK) {
		if (!error.text[0])
			abort();
		return 0;
	}
	lora_add(lora, MODEL_DOWN, 1, 0, 8, rows);
	lora_add(lora, MODEL_Q, 0, 7, 1, rows);
	lora_add(lora, MODEL_HEAD, 0, 0, 6, rows);
	lora_close(lora);
	return 0;
}
