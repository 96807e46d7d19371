/* fuzz_tokenizer.h - what an accepted tokenizer must do: ids inside its vocabulary, never more
 * than promised. */
#ifndef EXITPOLL_TESTS_FUZZ_TOKENIZER_H
#define EXITPOLL_TESTS_FUZZ_TOKENIZER_H

#include "scorer/tokenizer_parts.h"

#include <stdlib.h>

static inline void try_tokenizer(const char *path, const uint8_t *data, size_t size)
{
	static const char *const texts[] = {
		"", "a", "ab abab  111 \n\n don't <s> <end>", "\xFF\xE2\x82 e\xCC\x81 \xE2\x96\x81x",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	struct mapped_file file = {.path = (char *)(uintptr_t)path, .bytes = data, .size = size};
	struct tokenizer *tokenizer = NULL;
	struct tokenizer_scratch *scratch;
	struct error error = {0};
	int32_t ids[1024];

	if (tokenizer_from_file(&file, &tokenizer, &error) != STATUS_OK) {
		if (!error.text[0])
			abort();
		return;
	}
	scratch = tokenizer_scratch_create(tokenizer);
	for (size_t i = 0; scratch && i < sizeof(texts) / sizeof(texts[0]); i++) {
		for (int flags = 0; flags < 4; flags++) {
			struct text_view text = text_of(texts[i]);
			size_t count = 0;
			enum status status = tokenizer_encode(tokenizer, scratch, text, flags, ids, 1024,
							      &count, &error);
			if (status != STATUS_OK && tokenizer->face != FACE_SENTENCEPIECE)
				abort();
			if (count > tokenizer_ids_max(tokenizer, text.size))
				abort();
			for (size_t k = 0; k < count; k++)
				if (ids[k] < 0 || (uint32_t)ids[k] >= tokenizer_vocabulary(tokenizer))
					abort();
		}
	}
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tokenizer);
}

#endif
