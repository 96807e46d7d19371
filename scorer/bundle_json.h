/* bundle_json.h - what the JSON files of a bundle have in common: keys that are checked, texts, a policy.
 *
 * Every complaint names the file and the key. Used by bundle.c and exit_heads.c while they open, and by
 * whoever writes such files; any thread. */
#ifndef EXITPOLL_SCORER_BUNDLE_JSON_H
#define EXITPOLL_SCORER_BUNDLE_JSON_H

#include "scorer/exit_policy.h"

#include <jansson.h>

enum { BUNDLE_JSON_BYTES_MAX = 1 << 20, BUNDLE_JSON_DIGITS = 9 };       /* digits: enough for float32 */

/* The object in a file's bytes; *out is the caller's (json_decref). STATUS_CORRUPT with byte and reason. */
enum status bundle_json_parse(const char *file, const void *bytes, size_t size, json_t **out,
			      struct error *error);

/* STATUS_CONFIG names a key that is not in `known` [.. NULL], and the nearest that is. */
enum status bundle_json_keys(const char *file, json_t *object, const char *const *known,
			     struct error *error);

/* NULL where the key is absent or null; STATUS_CONFIG where it is no text. Borrowed from the object. */
enum status bundle_json_text(const char *file, json_t *object, const char *key, const char **out,
			     struct error *error);

/* {"rule": .., "threshold": .., "window": .., "layers": [..]} into *policy; absent or null: unchanged.
 * Layers out of range become 0, which exit_policy_check() refuses. */
enum status bundle_json_policy(const char *file, json_t *object, struct exit_policy *policy,
			       struct error *error);

/* The object as folder/name, indented, numbers with so many digits. STATUS_CANNOT_CREATE, IO, NO_MEMORY. */
enum status bundle_json_put(const char *folder, const char *name, const json_t *root, unsigned digits,
			    struct error *error);

#endif
