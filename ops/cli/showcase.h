/* showcase.h - a few answered impressions, kept to be shown as a table that a person likes to read.
 * Prefers impressions with history and similar users, spread over the run. One thread. */
#ifndef EXITPOLL_OPS_CLI_SHOWCASE_H
#define EXITPOLL_OPS_CLI_SHOWCASE_H

#include "schemas/event.h"

#include <stdio.h>

struct showcase;

enum { SHOWCASE_MAX = 50 };

struct showcase *showcase_create(size_t impressions_max);       /* NULL: no memory */
void showcase_destroy(struct showcase *showcase);               /* NULL ok */
void showcase_observe(struct showcase *showcase, const struct scoring_request *request,
		      const struct prediction *prediction);
void showcase_print(const struct showcase *showcase, FILE *out);

#endif
