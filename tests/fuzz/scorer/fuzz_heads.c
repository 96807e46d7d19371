/* fuzz_heads.c - any bytes as the two files of trained heads: the length of the first in two bytes, then both. */
#include "scorer/exit_heads.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct exit_heads *heads = NULL;
	struct error error = {0};
	float raw[FEATURES_COUNT_MAX];
	double standardised[EXIT_HEADS_INPUTS_MAX];
	if (size < 2)
		return 0;
	size_t first = (size_t)data[0] | (size_t)data[1] << 8;
	if (first > size - 2)
		first = size - 2;
	char tensors_name[] = "tensors", policy_name[] = "policy";
	const struct mapped_file files[2] = {
		{.path = tensors_name, .bytes = data + 2, .size = first},
		{.path = policy_name, .bytes = data + 2 + first, .size = size - 2 - first},
	};
	if (exit_heads_from_files(files, 4, 30, &heads, &error) != STATUS_OK) {
		if (!error.text[0] || heads)
			abort();
		return 0;
	}
	for (size_t f = 0; f < FEATURES_COUNT_MAX; f++)
		raw[f] = f % 5 ? (float)f * 1e3f : NAN;
	exit_heads_standardise(heads, raw, standardised);
	double statistics = exit_heads_statistics(heads, standardised);
	for (uint32_t i = 0; i < heads->count; i++) {
		const struct exit_head_weights *head = &heads->heads[i];
		double sum = head->intercept + statistics;
		for (uint32_t c = 0; c < heads->width; c++)
			sum += (double)head->norm[c] * (double)head->vector[c];
		if (isnan(sum) || exit_heads_at(heads, head->layer) != head)
			abort();
	}
	exit_heads_close(heads);
	return 0;
}
