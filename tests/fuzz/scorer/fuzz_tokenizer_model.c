/* fuzz_tokenizer_model.c - any bytes as a tokenizer.model: SentencePiece's or a list of ranks. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_tokenizer("tokenizer.model", data, size);
	return 0;
}
