/* Token ids per second of one thread, for item texts. Without arguments: SmolLM2 (EXITPOLL_SMOLLM2 or the
 * cache) and whatever tokenizers lie in the shared folder; with arguments: those tokenizers. A second pass
 * must give the same ids before anything is timed. */
#include "base/clock.h"
#include "scorer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TEXTS = 20000, TEXT_BYTES = 160, ROUNDS = 5 };

/* Titles as shops have them: words of different rarity, sizes, brands, signs. */
static size_t make_text(unsigned number, char out[TEXT_BYTES])
{
	static const char *const words[] = {
		"Hydrating", "Facial", "Cream", "with", "Vitamin", "C", "Oz", "Pack", "of", "for", "Women",
		"Shampoo",
		"Organic", "Natural", "Oil", "Anti-Aging", "Serum", "Men's", "Nail", "Polish", "(2",
		"Bottles)", "-",
		"Ounce,", "Moisturizer", "SPF", "30", "1.7", "fl.", "L'Oreal", "Paris", "Neutrogena", "Eau",
		"de",
		"Toilette", "Spray", "Brush", "Set", "Kit", "&", "Matte", "Lipstick", "Waterproof", "Mascara",
		"Black",
		"Hair", "Straightener", "Ceramic", "Titanium", "Cr\xC3\xA8me", "Th\xC3\xA9", "Keratin",
		"Argan", "Coconut",
	};
	uint64_t state = number * 0x9E3779B97F4A7C15u + 1;
	size_t used = 0, count;

	state ^= state >> 29;
	count = 4 + state % 12;
	for (size_t i = 0; i < count && used + 32 < TEXT_BYTES; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		if (state >> 61 == 0)
			used += (size_t)snprintf(out + used, TEXT_BYTES - used, "%sX%u", i ? " " : "",
						 (unsigned)(state >> 40) % 10000);
		else
			used += (size_t)snprintf(out + used, TEXT_BYTES - used, "%s%s", i ? " " : "",
						 words[(state >> 33) % (sizeof(words) / sizeof(words[0]))]);
	}
	return used;
}

static int run(const char *path)
{
	static char texts[TEXTS][TEXT_BYTES];
	static size_t sizes[TEXTS];
	static int32_t ids[2 * TEXT_BYTES * 3];
	struct tokenizer *tokenizer = NULL;
	struct tokenizer_scratch *scratch;
	struct error error = {0};
	size_t bytes = 0, total = 0;
	int64_t start = clock_steady_ns(), best = INT64_MAX;

	if (tokenizer_open(path, &tokenizer, &error) != STATUS_OK) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	printf("%s: %s, %u ids, opened in %.0f ms\n", path, tokenizer_kind(tokenizer),
	       tokenizer_vocabulary(tokenizer),
	       (double)(clock_steady_ns() - start) / 1e6);
	scratch = tokenizer_scratch_create(tokenizer);
	for (unsigned i = 0; i < TEXTS; i++) {
		size_t first = 0, both;
		sizes[i] = make_text(i, texts[i]);
		bytes += sizes[i];
		if (tokenizer_encode(tokenizer, scratch, (struct text_view){texts[i], sizes[i]}, 0, ids,
				     sizeof(ids) / sizeof(ids[0]), &first, &error) != STATUS_OK)
			return 1;
		both = first;
		if (tokenizer_encode(tokenizer, scratch, (struct text_view){texts[i], sizes[i]}, 0, ids,
				     sizeof(ids) / sizeof(ids[0]), &both, &error) != STATUS_OK ||
		    both != 2 * first || memcmp(ids, ids + first, first * sizeof(*ids)) != 0) {
			fprintf(stderr, "not the same ids twice: %s\n", texts[i]);
			return 1;
		}
	}
	for (int round = 0; round < ROUNDS; round++) {
		/* A fresh scratch: the cache starts empty each round. */
		int64_t took;
		tokenizer_scratch_destroy(scratch);
		scratch = tokenizer_scratch_create(tokenizer);
		total = 0;
		start = clock_steady_ns();
		for (unsigned i = 0; i < TEXTS; i++) {
			size_t count = 0;
			if (tokenizer_encode(tokenizer, scratch, (struct text_view){texts[i], sizes[i]}, 0,
					     ids,
					     sizeof(ids) / sizeof(ids[0]), &count, &error) != STATUS_OK)
				return 1;
			total += count;
		}
		took = clock_steady_ns() - start;
		if (took < best)
			best = took;
	}
	printf("  %.2f M tokens/s, %.1f MB/s (%d texts, %.1f bytes and %.1f tokens each; best of %d)\n",
	       (double)total / (double)best * 1e3, (double)bytes / (double)best * 1e3, TEXTS,
	       (double)bytes / TEXTS, (double)total / TEXTS, ROUNDS);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tokenizer);
	return 0;
}

int main(int count, char **arguments)
{
	static const char *const shared[] = {"smollm2-135m", "llama3-tokenizer", "qwen2-tokenizer",
					     "llama-tokenizer",
					     "llama-tokenizer/tokenizer.model"};
	const char *given = getenv("EXITPOLL_SMOLLM2"), *cache = getenv("EXITPOLL_CACHE"),
	*home = getenv("HOME");
	char path[512];
	int failed = 0;

	for (int i = 1; i < count; i++)
		failed |= run(arguments[i]);
	if (count > 1)
		return failed;
	if (given)
		snprintf(path, sizeof(path), "%s", given);
	else
		snprintf(path, sizeof(path), "%s%s/models/SmolLM2-135M-Instruct.Q4_1.gguf", cache ? cache :
			 home ? home : "",
			 cache ? "" : "/.cache/exitpoll");
	if (access(path, R_OK) == 0)
		failed |= run(path);
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		snprintf(path, sizeof(path), "%s/models/%s", TEST_SHARED_DIR, shared[i]);
		if (access(path, R_OK) == 0)
			failed |= run(path);
	}
	return failed;
}
