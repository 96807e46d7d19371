/* pacing.c - see pacing.h. */
#include "ops/cli/pacing.h"

enum { CHUNK_MS = 2000 };

void pacing_measured(struct pacing *pacing, size_t requests, size_t candidates, int64_t elapsed_ns)
{
	pacing->request_ns = elapsed_ns / (int64_t)(requests ? requests : 1) + 1;
	pacing->candidate_ns = elapsed_ns / (int64_t)(candidates ? candidates : 1) + 1;
}

size_t pacing_requests(const struct pacing *pacing, size_t most)
{
	int64_t fits = pacing->request_ns ? (int64_t)CHUNK_MS * 1000000 / pacing->request_ns : 1;

	return fits < 1 ? 1 : (uint64_t)fits < most ? (size_t)fits : most;
}

int64_t pacing_expected_ms(const struct pacing *pacing, size_t candidates)
{
	int64_t expected_ns;

	if (__builtin_mul_overflow(pacing->candidate_ns, (int64_t)candidates, &expected_ns))
		return INT64_MAX / 1000000;
	return expected_ns / 1000000;
}
