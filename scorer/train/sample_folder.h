/* sample_folder.h - a folder of samples, opened for training: shards mapped, everything checked, one dataset.
 *
 * Reads samples.json (task, names of features, hash of the model whose tokenizer wrote it) and the shards
 * samples-NNNNN.safetensors in the order of their names. Token ids stay in the mappings, the rest is gathered
 * into arrays over all shards. Immutable after opening; any thread. */
#ifndef EXITPOLL_SCORER_TRAIN_SAMPLE_FOLDER_H
#define EXITPOLL_SCORER_TRAIN_SAMPLE_FOLDER_H

#include "scorer/features.h"
#include "scorer/train/dataset.h"
#include "scorer/train/hidden_states.h"

#include <jansson.h>

enum { SAMPLE_SHARDS_MAX = 65536 };

struct sample_shard;

struct sample_folder {
	struct dataset data;            /* what it points to is below */
	struct token_source tokens;     /* context: this */
	uint32_t *prefix_tokens;        /* [impressions], instruction included */
	uint32_t *suffix_tokens;        /* [rows] */
	char (*names)[FEATURES_NAME_BYTES];     /* [data.features] */
	char task[16];                  /* "liked" or "clicked" */
	char model[64], wording[64];    /* hashes (bundle.h), empty if not said */
	json_t *description;            /* samples.json */
	struct sample_shard *shards;
	size_t shards_count;
	uint32_t *shard_of;             /* [impressions] */
	int64_t *first, *time_ms;
	float *labels, *values;
	uint8_t *part;
	uint64_t *user;
};

/* STATUS_NO_INPUT, CORRUPT (file, byte or index, reason), CONFIG (samples.json). */
enum status sample_folder_open(const char *folder, struct sample_folder **out, struct error *error);
void sample_folder_close(struct sample_folder *samples);        /* NULL ok */

#endif
