/* fuzz_safetensors.c - any bytes as a safetensors file: refused with a reason, or every
 * tensor lies inside. */
#include "scorer/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mapped_file file = {.path = (char *)(uintptr_t)"fuzz", .bytes = data, .size = size};
	struct tensor_table table;
	struct error error = {0};

	if (tensor_table_init(&table, &error))
		return 0;
	if (safetensors_parse(&file, &table, &error) != STATUS_OK) {
		if (!error.text[0])
			abort();
	} else {
		for (size_t i = 0; i < table.count; i++)
			if (table.tensors[i].offset > size ||
			    table.tensors[i].bytes > size - table.tensors[i].offset)
				abort();
		tensor_table_seal(&table, &error);
	}
	tensor_table_destroy(&table);
	return 0;
}
