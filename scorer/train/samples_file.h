/* samples_file.h - one shard of training samples: gathered impression by impression, written as safetensors.
 *
 * The format that sample_folder.h and ops/tuning read. For n impressions with m candidates in all:
 *     prefix_tokens I32 [P], prefix_offsets I64 [n + 1]     instruction and user part of each impression
 *     suffix_tokens I32 [S], suffix_offsets I64 [m + 1]     the candidate part of each candidate
 *     candidate_offsets I64 [n + 1]                         which candidates are the impression's
 *     labels F32 [m]          1, 0, or NaN where nothing is known
 *     features F32 [m, F]     raw (features.h); NaN: missing
 *     time_ms I64 [n], split U8 [n] (enum dataset_part), user U64 [n] (XXH3-64 of the id)
 *     impression_ids, user_ids U8 with _offsets I64 [n + 1]; item_ids U8 with item_id_offsets I64 [m + 1]
 * Equal calls give equal bytes. The eight-byte tensors come first, so all are aligned. One thread. */
#ifndef EXITPOLL_SCORER_TRAIN_SAMPLES_FILE_H
#define EXITPOLL_SCORER_TRAIN_SAMPLES_FILE_H

#include "base/status.h"
#include "base/text.h"

#include <stdint.h>

enum {
	SAMPLES_VERSION = 1,
	SAMPLES_SHARD_IMPRESSIONS = 4096,
	SAMPLES_NAME_BYTES = 32,
	SAMPLES_SHARD_BYTES = 256 << 20,        /* a shard that has grown to this is full */
};

struct samples_file;

struct samples_candidate {
	struct text_view item_id;
	const int32_t *tokens;
	uint32_t tokens_count;
	float label;                    /* 0, 1, NaN */
	const float *features;          /* [features] */
};

enum status samples_file_create(size_t features, struct samples_file **out, struct error *error);
void samples_file_destroy(struct samples_file *file);   /* NULL ok */

/* Begins an impression; its prefix follows in one or more parts, then its candidates. Everything is copied.
 * STATUS_NO_MEMORY leaves the impression incomplete: destroy the shard then. STATUS_LIMIT: a shard can hold no
 * more (samples_file_is_full() was not heeded, or one impression alone is too large). */
enum status samples_file_begin(struct samples_file *file, struct text_view impression_id,
			       struct text_view user_id, int64_t time_ms, uint8_t part, struct error *error);
enum status samples_file_prefix(struct samples_file *file, const int32_t *tokens, uint32_t count,
				struct error *error);
enum status samples_file_candidate(struct samples_file *file, const struct samples_candidate *candidate,
				   struct error *error);

size_t samples_file_impressions(const struct samples_file *file);
bool samples_file_is_full(const struct samples_file *file);

/* "samples-00001.safetensors", numbers from 1. */
void samples_file_name(size_t number, char out[SAMPLES_NAME_BYTES]);

/* Writes folder/samples-NNNNN.safetensors by rename and empties the shard. STATUS_CANNOT_CREATE, IO. */
enum status samples_file_write(struct samples_file *file, const char *folder, size_t number,
			       struct error *error);

#endif
