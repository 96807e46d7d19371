/* fuzz_torch.c - any bytes as a PyTorch zip, and as a pickle alone, which finds more behind no checksum. */
#include "scorer/torch_pickle.h"
#include "scorer/torch_zip.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status take(void *context, const struct torch_tensor *tensor, struct error *error)
{
	(void)context, (void)error;
	if (tensor->rank > TENSOR_RANK_MAX || (tensor->name.size && !tensor->name.bytes))
		abort();
	return STATUS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mapped_file file = {.path = (char *)(uintptr_t)"fuzz", .bytes = data, .size = size};
	struct tensor_table table;
	struct error error = {0};

	if (tensor_table_init(&table, &error))
		return 0;
	if (torch_zip_parse(&file, &table, &error) == STATUS_OK) {
		for (size_t i = 0; i < table.count; i++)
			if (table.tensors[i].offset > size ||
			    table.tensors[i].bytes > size - table.tensors[i].offset)
				abort();
	} else if (!error.text[0]) {
		abort();
	}
	tensor_table_destroy(&table);
	error = (struct error){0};
	if (torch_pickle_read(&file, 0, size, take, NULL, &error) != STATUS_OK && !error.text[0])
		abort();
	return 0;
}
