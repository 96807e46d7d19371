/* config.h - settings: one table of known keys, several origins, typed and checked when set.
 *
 * A later origin overrides an earlier one: default < file < environment < command line. A key that is
 * not in the table is refused with the nearest right one; a value is checked against type and range
 * when it is set, so that reading never fails. Keys under the pass-through prefix (kafka.*) are kept
 * as they are. Secrets may be given as file:PATH or env:NAME, are refused in plain on the command
 * line, and are never printed. Immutable after start; then any thread may read. */
#ifndef EXITPOLL_BASE_CONFIG_H
#define EXITPOLL_BASE_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type { CONFIG_TEXT, CONFIG_INTEGER, CONFIG_NUMBER, CONFIG_BOOLEAN, CONFIG_CHOICE };

struct config_key {
	const char *name;               /* "graph.threshold" */
	enum config_type type;
	const char *default_value;      /* NULL: unset */
	double min, max;                /* numbers */
	const char *choices;            /* "a|b|c" */
	bool secret;
	const char *help;               /* one line */
};

enum config_origin { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_COMMAND_LINE };

struct config;
/* keys[count] must outlive the object. pass_through: "kafka." or NULL; passed_is_secret says which names
 * behind that prefix hold secrets. NULL: no memory. */
struct config *config_create(const struct config_key *keys, size_t count, const char *pass_through,
			     bool (*passed_is_secret)(const char *name));
void config_destroy(struct config *config);             /* NULL ok */

/* STATUS_CONFIG with the nearest right key, the type or the range. */
enum status config_set(struct config *config, const char *key, const char *value,
		       enum config_origin origin, struct error *error);
/* "key=value" as on the command line. */
enum status config_set_pair(struct config *config, const char *pair, struct error *error);
/* A properties file: key=value lines, # comments, trailing backslash continues. Names file and line. */
enum status config_load_file(struct config *config, const char *path, struct error *error);
/* EXITPOLL_GRAPH_THRESHOLD sets graph.threshold; EXITPOLL_KAFKA_SASL_PASSWORD kafka.sasl.password. */
enum status config_load_environment(struct config *config, const char *prefix, struct error *error);

/* Unknown keys are a programming error (assert). Text may be NULL when unset. Borrowed until destroy. */
const char *config_text(const struct config *config, const char *key);
int64_t config_integer(const struct config *config, const char *key);
double config_number(const struct config *config, const char *key);
bool config_boolean(const struct config *config, const char *key);
bool config_is_set(const struct config *config, const char *key);       /* not the default */

/* Every setting in order, then the passed-through ones; value is "********" for secrets that are set. */
struct config_entry {
	const char *key;
	const char *value;              /* NULL: unset */
	const char *origin;             /* "default", "file x.properties:3", "environment EXITPOLL_X", "command line" */
	const char *help;               /* NULL for passed-through keys */
	bool secret;
};
size_t config_entries(const struct config *config);
void config_entry_at(const struct config *config, size_t index, struct config_entry *out);
/* The real value of a passed-through key, name without prefix; index in [0, config_passed_count). */
size_t config_passed_count(const struct config *config);
void config_passed_at(const struct config *config, size_t index, const char **name, const char **value);

#endif
