/* heads_file.h - writes trained heads in the form that exit_heads.h reads.
 *
 * Numbers are written so that reading gives them back bit for bit, and the same heads give the same bytes.
 * Used by fit-heads and tests; one thread. */
#ifndef EXITPOLL_SCORER_TRAIN_HEADS_FILE_H
#define EXITPOLL_SCORER_TRAIN_HEADS_FILE_H

#include "scorer/exit_heads.h"

#include <jansson.h>

/* Writes exit_heads.safetensors and exit_policy.json into `folder`, each by rename. `risk` (may be NULL, not
 * consumed) goes into the policy as it is. STATUS_CANNOT_CREATE, IO. */
enum status heads_file_write(const char *folder, const struct exit_heads *heads, json_t *risk,
			     struct error *error);

#endif
