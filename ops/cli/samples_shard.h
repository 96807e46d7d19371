/* samples_shard.h - whose the impressions of a written shard are, to go on where a run stopped. One thread. */
#ifndef EXITPOLL_OPS_CLI_SAMPLES_SHARD_H
#define EXITPOLL_OPS_CLI_SAMPLES_SHARD_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct samples_shard {
	size_t impressions;
	int64_t *time_ms;               /* [impressions] */
	uint64_t *user;                 /* [impressions] */
};

/* How many shards there are from number 1 on without a hole. */
enum status samples_shard_count(const char *folder, size_t *out, struct error *error);
/* STATUS_CORRUPT: no shard of samples (file, byte, reason), or an empty one. */
enum status samples_shard_open(const char *folder, size_t number, struct samples_shard *out,
			       struct error *error);
void samples_shard_close(struct samples_shard *shard);  /* zeroed ok */

#endif
