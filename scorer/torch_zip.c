/* torch_zip.c - not readable yet: refused by name. */
#include "scorer/torch_zip.h"

enum status torch_zip_parse(const struct mapped_file *file, struct tensor_table *table, struct error *error)
{
	(void)table;
	return error_set(error, STATUS_UNSUPPORTED, "%s: PyTorch checkpoints are not read; convert to safetensors",
			 file->path);
}
