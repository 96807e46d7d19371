/* fuzz_config.c - any bytes as a config.json: refused, or a configuration within every limit. */
#include "scorer/model_config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mapped_file file = {.path = (char *)(uintptr_t)"fuzz", .bytes = data, .size = size};
	struct model_config config = {0};
	struct error error = {0};

	if (model_config_from_json(&file, &config, &error) != STATUS_OK) {
		if (!error.text[0])
			abort();
		return 0;
	}
	if (model_config_check(&config, "fuzz", &error) != STATUS_OK || config.heads % config.kv_heads)
		abort();
	return 0;
}
