/* seeds_until.h - up to when the trained seeds of the graph were taught: NAME.json beside NAME.npy and NAME.ids, as
 * ops/tuning/fit_seeds.py writes it. Callers: samples and run, so that nothing judges what it has seen. */
#ifndef EXITPOLL_OPS_CLI_SEEDS_UNTIL_H
#define EXITPOLL_OPS_CLI_SEEDS_UNTIL_H

#include "base/status.h"
#include "graph-updater/updater.h"

#include <stdint.h>

/* Raises *until_ms (Unix ms) to what the configured seeds were trained on; without seeds it stays. *unsaid: the name of
 * seeds without a time (no NAME.json, or "trained_until": null), borrowed from the options; NULL: all have one.
 * STATUS_CORRUPT: NAME.json is no such description. */
enum status seeds_until(const struct updater_options *options, int64_t *until_ms, const char **unsaid,
			struct error *error);

#endif
