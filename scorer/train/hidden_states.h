/* hidden_states.h - the rows that exit heads read, from the scorer's own forward pass over token ids.
 *
 * The very batch, backend and pass of serving: the instruction's keys are kept, suffixes share their prefix,
 * exits hand out the last token's row. So a head that is trained on these rows sees the same bits when it
 * serves on the same type of machine. Impressions are computed in blocks that a cache on disk keeps
 * (hidden_cache.h). One thread calls; the backend may use more. */
#ifndef EXITPOLL_SCORER_TRAIN_HIDDEN_STATES_H
#define EXITPOLL_SCORER_TRAIN_HIDDEN_STATES_H

#include "scorer/bundle.h"
#include "scorer/train/dataset.h"
#include "scorer/train/hidden_cache.h"

/* Token ids of one impression: the prefix begins with the instruction. Borrowed until the next call. */
struct impression_tokens {
	const int32_t *prefix;
	uint32_t prefix_count;
	const int32_t *suffixes;        /* those of candidate k: [offsets[k], offsets[k + 1]) */
	const int64_t *offsets;         /* [candidates + 1]; the first need not be 0 */
};

struct token_source {
	const void *context;
	void (*get)(const void *context, uint32_t impression, struct impression_tokens *out);
};

struct hidden_states_options {
	const struct scorer_options *scorer;    /* backend, precision, threads, batch */
	const struct bundle *bundle;
	const uint32_t *layers;         /* [exits], ascending */
	uint32_t exits;
	const char *cache;              /* folder; made if absent */
	uint64_t cache_bytes_max;
	bool (*stopping)(void);         /* NULL: never; STATUS_INTERRUPTED, what was computed is kept */
	void (*progress)(void *context, uint64_t done, uint64_t total);  /* impressions; NULL: no */
	void *progress_context;
};

struct hidden_states_figures {
	uint64_t impressions, computed; /* all, and those that were not cached */
	uint64_t tokens;                /* rows that the pass computed, without the instruction */
	double seconds;                 /* of the computed ones */
};

struct hidden_states;

/* Rows of the listed impressions. STATUS_BAD_RECORD: tokens that do not begin with the bundle's instruction,
 * or an id outside the vocabulary, or a prompt longer than the context. */
enum status hidden_states_create(const struct hidden_states_options *options, const struct dataset *data,
				 struct dataset_list list, const struct token_source *tokens,
				 struct hidden_states **out, struct error *error);
void hidden_states_destroy(struct hidden_states *states);       /* NULL ok */

/* The row [C] of candidate k of the list's impression j at an exit (index). */
const float *hidden_states_row(const struct hidden_states *states, uint32_t exit, size_t j, size_t k);
const struct hidden_states_figures *hidden_states_get_figures(const struct hidden_states *states);
/* The backend's own words. */
const char *hidden_states_describe(const struct hidden_states *states);
/* Tokens of the instruction, which every prefix begins with. */
uint32_t hidden_states_instruction(const struct hidden_states *states);

#endif
