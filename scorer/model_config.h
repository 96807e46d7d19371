/* model_config.h - a checkpoint's description, from config.json or GGUF metadata, checked.
 *
 * Whatever would change the arithmetic and is not implemented is named and refused: a model is computed
 * right or not at all. Pure functions of their input. */
#ifndef EXITPOLL_SCORER_MODEL_CONFIG_H
#define EXITPOLL_SCORER_MODEL_CONFIG_H

#include "scorer/gguf.h"
#include "scorer/model.h"

/* The text of config.json. STATUS_CORRUPT (malformed, missing or impossible), UNSUPPORTED (named). */
enum status model_config_from_json(const struct mapped_file *file, struct model_config *out,
				   struct error *error);
/* `tied` is left false: whether a GGUF file has an output tensor is not in its metadata. */
enum status model_config_from_gguf(const struct gguf *gguf, const struct mapped_file *file,
				   struct model_config *out, struct error *error);
/* Limits and relations that hold whatever the source. */
enum status model_config_check(const struct model_config *config, const char *path, struct error *error);

#endif
